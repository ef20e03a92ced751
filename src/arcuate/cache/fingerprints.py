"""Fingerprints: what a value is, the same wherever it lies and however it came there.

The fingerprint of a value names its parts, ``{".volume.affine": "array 3f0c..."}``: plain values by their text,
arrays by their digest. So two fingerprints show which part of an argument changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from arcuate._version import __version__
from arcuate.cache.digests import array_digest
from arcuate.cache.files import FileChangedError, FileMemory
from arcuate.errors import InputError
from arcuate.io import geometry, mif
from arcuate.volumes.resource import InMemoryVolumeResource, VectorResource, VolumeResource

_LONGEST = 200  # characters of a plain value's text; of a longer one the digest is taken
_IMAGES = (".nii", ".nii.gz", ".mif", ".mif.gz")
_PLAIN = (type(None), type(...), bool, int, float, complex, str, bytes, bytearray, range, slice)


class UnknownValueError(TypeError):
    """A value has no fingerprint; the message names it and says why."""


def fingerprint(value: Any) -> str:
    """SHA-256 that tells what ``value`` is, the same for a volume in memory and on disk, under any path."""
    return digest_of(Fingerprinter().fingerprint(value))


def digest_of(parts: Any) -> str:
    """SHA-256 of a fingerprint, or of anything else that JSON holds."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Fingerprinter:
    """Makes the fingerprints of one call's arguments.

    Files are read at most once: what had to be decoded is kept in memory, and :meth:`loaded` puts it in the place of
    the lazy resource, so that the step computes on exactly what was fingerprinted.
    """

    def __init__(self, memory: FileMemory | None = None) -> None:
        self._memory = memory or FileMemory()
        self._decoded: dict[int, tuple[VolumeResource, InMemoryVolumeResource]] = {}  # by id, kept alive with it

    def fingerprint(self, value: Any, name: str = "value") -> dict[str, str]:
        """{part: what it is} of ``value``, called ``name`` in messages; the part ``""`` is its kind.

        Raises
        ------
        UnknownValueError
            The value, or a part of it, is of a kind whose content cannot be told.
        """
        found: dict[str, str] = {}
        try:
            self._visit(value, name, found)
        except RecursionError:
            raise UnknownValueError(f"{name} is nested too deeply") from None
        return {part.removeprefix(name): text for part, text in found.items()}

    def loaded(self, value: Any) -> Any:
        """``value`` with the volumes that were fingerprinted on disk replaced by ones in memory."""
        if isinstance(value, VolumeResource):
            return value if value.known_digests() is not None else self._decode(value)
        if isinstance(value, VectorResource):
            return value  # one in the header of an image needs that image as it is
        if _is_dataclass(value):
            old = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
            new = {name: self.loaded(item) for name, item in old.items()}
            changed = {name: item for name, item in new.items() if item is not old[name]}
            return dataclasses.replace(value, **changed) if changed else value
        if type(value) in (list, tuple):
            return type(value)(self.loaded(item) for item in value)
        if type(value) is dict:
            return {key: self.loaded(item) for key, item in value.items()}
        return value

    def _visit(self, value: Any, path: str, found: dict[str, str]) -> None:
        """Note in ``found`` what ``value`` is, which lies at ``path``, and what its parts are."""
        plain = _plain(value)
        if plain is not None:
            found[path] = plain if len(plain) <= _LONGEST else f"long {digest_of(plain)}"
        elif isinstance(value, VolumeResource):
            found[path] = "volume"
            found |= {f"{path}.{part}": text for part, text in self._volume(value, path).items()}
        elif isinstance(value, VectorResource):
            found[path] = f"vector {_array_text(np.asarray(value.get()), path)}"
        elif isinstance(value, np.ma.MaskedArray):
            found[path] = f"masked {_array_text(np.asarray(value.data), path)}"
            self._visit(np.array(np.broadcast_to(np.asarray(value.mask), value.shape)), f"{path}.mask", found)
        elif isinstance(value, np.ndarray):
            found[path] = _array_text(value, path)
        elif isinstance(value, Path):
            found[path] = self._file(value, path)
        elif isinstance(value, list | tuple):
            found[path] = f"{len(value)} in a {_class_name(value)}"
            for i, item in enumerate(value):
                self._visit(item, f"{path}[{i}]", found)
        elif isinstance(value, Mapping) and type(value).__module__ in ("builtins", "collections", "types"):
            self._mapping(value, path, found)
        elif type(value) in (set, frozenset):
            members = sorted(digest_of(self.fingerprint(item, f"{path} (a member)")) for item in value)
            found[path] = f"{type(value).__name__} {digest_of(members)}"
        elif _is_dataclass(value):
            found[path] = _class_name(value)
            for field in dataclasses.fields(value):
                if field.compare:
                    self._visit(getattr(value, field.name), f"{path}.{field.name}", found)
        else:
            raise UnknownValueError(f"{path} is a {_class_name(value)}, whose content cannot be told")

    def _mapping(self, value: Mapping[Any, Any], path: str, found: dict[str, str]) -> None:
        keys = {digest_of(self.fingerprint(key, f"{path} (a key)")): key for key in value}
        found[path] = f"{len(value)} in a dict {digest_of(sorted(keys))}"
        for digest in sorted(keys):
            part = f"{path}[{keys[digest]!r}]"
            self._visit(value[keys[digest]], f"{part} {digest}" if part in found else part, found)

    def _volume(self, volume: VolumeResource, path: str) -> dict[str, str]:
        known = volume.known_digests()  # of a kept volume that was not read yet
        if known is not None:
            return known

        def read(_: Path) -> dict[str, str]:
            decoded = self._decode(volume)
            array = _checked(decoded.get_array(), path)
            return volume_digests(array, np.asarray(decoded.get_affine()), decoded.get_metadata())

        file = getattr(volume, "path", None)
        if not isinstance(file, Path) or not file.name.lower().endswith(_IMAGES):
            return read(Path())
        with _reading(file, path):
            return self._memory.facts(file, f"{_class_name(volume)} {__version__}", read)

    def _decode(self, volume: VolumeResource) -> InMemoryVolumeResource:
        if id(volume) not in self._decoded:
            self._decoded[id(volume)] = volume, volume.load()
        return self._decoded[id(volume)][1]

    def _file(self, file: Path, path: str) -> str:
        if not file.is_file():
            what = "is a folder" if file.is_dir() else "does not exist"
            raise UnknownValueError(f"{path} is the path {file}, which {what}; only the content of a file can be told")
        with _reading(file, path):
            return f"file {self._memory.sha256(file)}"


@contextlib.contextmanager
def _reading(file: Path, path: str) -> Iterator[None]:
    """Say which argument it is whose file cannot be read."""
    try:
        yield
    except FileChangedError as error:
        raise UnknownValueError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"{file} does not exist. Check the path.") from error
    except OSError as error:
        raise UnknownValueError(f"{path}: {file} cannot be read ({error.strerror})") from error


def volume_digests(array: np.ndarray, affine: np.ndarray, metadata: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the voxels, of the affine, and of what a NIfTI header would keep of the metadata."""
    exact = np.asarray(affine, dtype=np.float64) + 0.0  # -0 and 0 place voxels alike
    try:
        header = geometry.make_header(array.shape, np.dtype(np.float32), exact, dict(metadata))
        kept = repr(sorted(geometry.header_fields(header).items()))
    except Exception:  # an array or metadata that NIfTI has no place for: taken literally
        kept = repr(sorted((str(key), repr(item)) for key, item in metadata.items()))
    others = metadata.get(mif.ENTRIES)  # lines of a header of MRtrix3, which go on into images of that format
    if isinstance(others, Mapping):
        kept += repr(sorted((str(k), str(v)) for k, v in others.items() if k != "command_history"))
    return {"voxels": array_digest(array), "affine": array_digest(exact), "header entries": digest_of(kept)}


def _array_text(array: np.ndarray, path: str) -> str:
    return f"array {array_digest(_checked(array, path))}"


def _checked(array: Any, path: str) -> np.ndarray:
    if type(array) not in (np.ndarray, np.memmap):
        raise UnknownValueError(f"{path} holds a {_class_name(array)}, whose content cannot be told")
    if array.dtype.hasobject:
        raise UnknownValueError(f"{path} holds Python objects (dtype {array.dtype}), whose content cannot be told")
    return array


def _plain(value: Any) -> str | None:
    """One text per number, string or other plain value and its type; None for everything else."""
    if isinstance(value, np.bool_ | np.int64 | np.float64 | np.str_):
        value = value.item()  # the same to a step as Python's own
    if isinstance(value, enum.Enum):
        return f"enum {_class_name(value)} {value.name}"
    if type(value) in _PLAIN:
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, np.generic) and not value.dtype.hasobject:
        return f"{value.dtype.str} {value.tobytes().hex()}"
    if isinstance(value, np.dtype) and not value.hasobject:
        return f"dtype {value.descr if value.fields else value.str}"
    if isinstance(value, type) and value.__module__ in ("builtins", "numpy"):
        return f"type {value.__module__}.{value.__qualname__}"
    return None


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _class_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
