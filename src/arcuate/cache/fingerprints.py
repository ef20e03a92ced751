"""Fingerprints: a digest of what a value is, the same wherever it lies and however it came there."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from arcuate._version import __version__
from arcuate.cache.digests import array_digest, file_digest
from arcuate.cache.files import FileChangedError, FileMemory, Signature
from arcuate.errors import InputError
from arcuate.io import geometry, mif
from arcuate.volumes.resource import InMemoryVolumeResource, VectorResource, VolumeResource

_DEPTH = 50
_PLAIN = (type(None), type(...), bool, int, float, complex, str, bytes, bytearray, range, slice)


class UnknownValueError(TypeError):
    """A value has no fingerprint; the message names it and says why."""


@dataclass(frozen=True)
class Fingerprint:
    """Digest of a value and, for the ones made of others, those of its parts."""

    digest: str
    parts: dict[str, Fingerprint] = field(default_factory=dict)

    def to_json(self) -> Any:
        if not self.parts:
            return self.digest
        return {"digest": self.digest, "parts": {name: part.to_json() for name, part in self.parts.items()}}


class Fingerprinter:
    """Makes the fingerprints of one call's arguments.

    Files are read at most once: what had to be decoded is kept in memory, and :meth:`loaded` puts it in the place of
    the lazy resource, so that the step computes on exactly what was fingerprinted.
    """

    def __init__(self, memory: FileMemory | None = None) -> None:
        self._memory = memory or FileMemory()
        self._decoded: dict[int, tuple[VolumeResource, InMemoryVolumeResource]] = {}  # by id, kept alive with it
        self._recognised: dict[int, Signature] = {}  # volumes whose file was not read again

    def fingerprint(self, value: Any, name: str = "value") -> Fingerprint:
        """Fingerprint of ``value``, called ``name`` in messages.

        Raises
        ------
        UnknownValueError
            The value, or a part of it, is of a kind whose content cannot be told.
        """
        return self._visit(value, name, 0)

    def loaded(self, value: Any) -> Any:
        """``value`` with the volumes that were fingerprinted on disk replaced by ones in memory.

        Raises
        ------
        UnknownValueError
            A file changed since it was fingerprinted.
        """
        if isinstance(value, VolumeResource):
            return self._load(value)
        if _is_plain_dataclass(value):
            fields = [f for f in dataclasses.fields(value) if f.init]
            return _replace(value, {f.name: getattr(value, f.name) for f in fields}, self.loaded)
        if type(value) in (list, tuple):
            items = [self.loaded(item) for item in value]
            return value if all(a is b for a, b in zip(items, value, strict=True)) else type(value)(items)
        if type(value) is dict:
            entries = {key: self.loaded(item) for key, item in value.items()}
            return value if all(entries[key] is value[key] for key in value) else entries
        return value

    def _visit(self, value: Any, name: str, depth: int) -> Fingerprint:
        if depth > _DEPTH:
            raise UnknownValueError(f"{name} is nested too deeply")
        plain = _plain(value)
        if plain is not None:
            return _combine(plain)
        if isinstance(value, VolumeResource):
            return self._volume(value, name)
        if isinstance(value, VectorResource):
            return _combine("vector", {"numbers": _array(np.asarray(value.get()), name)})
        if isinstance(value, np.ndarray):
            return _array(value, name)
        if isinstance(value, Path):
            return self._path(value, name)

        def inner(item: Any, label: str) -> Fingerprint:
            return self._visit(item, f"{name}{label}", depth + 1)

        if isinstance(value, list | tuple):
            return _combine(_class_name(value), {str(i): inner(item, f"[{i}]") for i, item in enumerate(value)})
        if isinstance(value, Mapping) and type(value).__module__ in ("builtins", "collections", "types"):
            entries = [(inner(k, " (a key)").digest, inner(v, f"[{k!r}]"), str(k)) for k, v in value.items()]
            entries.sort(key=lambda entry: entry[0])
            kind = "dict\0" + "\0".join(key for key, _, _ in entries)
            return _combine(kind, {f"{i} {label}": v for i, (_, v, label) in enumerate(entries)})
        if type(value) in (set, frozenset):
            digests = sorted(inner(item, " (a member)").digest for item in value)
            return _combine(type(value).__name__ + "\0" + "\0".join(digests))
        if _is_plain_dataclass(value):
            fields = [f.name for f in dataclasses.fields(value) if f.compare]
            return _combine(_class_name(value), {f: inner(getattr(value, f), f".{f}") for f in fields})
        raise UnknownValueError(f"{name} is a {_class_name(value)}, whose content cannot be told")

    def _volume(self, volume: VolumeResource, name: str) -> Fingerprint:
        digests = volume.known_digests()  # of a kept volume that was not read yet
        if digests is None and isinstance(volume, InMemoryVolumeResource):
            digests = _digests_of(volume, name)
        if digests is None:
            digests = self._volume_on_disk(volume, name)
        return _combine("volume", {key: Fingerprint(digests[key]) for key in ("array", "affine", "header")})

    def _volume_on_disk(self, volume: VolumeResource, name: str) -> dict[str, str]:
        def read(_: Path) -> dict[str, str]:
            decoded = volume.load()
            self._decoded[id(volume)] = (volume, decoded)
            return _digests_of(decoded, name)

        path = getattr(volume, "path", None)
        if not isinstance(path, Path) or not path.name.lower().endswith((".nii", ".nii.gz", ".mif", ".mif.gz")):
            return read(Path())
        digests, signature = self._facts(path, f"{_class_name(volume)} {__version__}", read, name)
        self._recognised[id(volume)] = signature
        return digests

    def _load(self, volume: VolumeResource) -> VolumeResource:
        if id(volume) not in self._decoded and id(volume) in self._recognised:
            decoded, path = volume.load(), volume.path  # type: ignore[attr-defined]
            if Signature.of(path) != self._recognised[id(volume)]:
                raise UnknownValueError(f"{path} changed while it was read")
            self._decoded[id(volume)] = (volume, decoded)
        return self._decoded[id(volume)][1] if id(volume) in self._decoded else volume

    def _path(self, path: Path, name: str) -> Fingerprint:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise UnknownValueError(f"{name} is the path {path}, which {what}; only the content of a file can be told")
        facts, _ = self._facts(path, "bytes", lambda p: {"digest": file_digest(p)}, name)
        return _combine("file", {"content": Fingerprint(facts["digest"])})

    def _facts(
        self, path: Path, kind: str, read: Callable[[Path], dict[str, str]], name: str
    ) -> tuple[dict[str, str], Signature]:
        try:
            return self._memory.facts(path, kind, read)
        except FileChangedError as error:
            raise UnknownValueError(f"{name}: {error}") from error
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist. Check the path.") from error
        except OSError as error:
            raise UnknownValueError(f"{name}: {path} cannot be read ({error.strerror})") from error


def fingerprint(value: Any) -> str:
    """SHA-256 that tells what ``value`` is, the same for a volume in memory and on disk, under any path."""
    return Fingerprinter().fingerprint(value).digest


def volume_digests(array: np.ndarray, affine: np.ndarray, metadata: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the voxels, of the affine, and of what a NIfTI header would keep of the metadata."""
    return {"array": array_digest(array), **frame_digests(array.shape, affine, metadata)}


def frame_digests(shape: tuple[int, ...], affine: np.ndarray, metadata: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the affine, and of what a NIfTI header would keep of the metadata."""
    exact = np.asarray(affine, dtype=np.float64) + 0.0  # -0 and 0 place voxels alike
    try:
        header = geometry.make_header(shape, np.dtype(np.float32), exact, dict(metadata))
        kept = repr(sorted(geometry.header_fields(header).items()))
    except Exception:  # an array or metadata that NIfTI has no place for: taken literally
        kept = repr(sorted((str(key), repr(item)) for key, item in metadata.items()))
    others = metadata.get(mif.ENTRIES)  # lines of a header of MRtrix3, which go on into images of that format
    if isinstance(others, Mapping):
        kept += repr(sorted((str(k), str(v)) for k, v in others.items() if k != "command_history"))
    return {"affine": array_digest(exact), "header": hashlib.sha256(kept.encode()).hexdigest()}


def _digests_of(volume: InMemoryVolumeResource, name: str) -> dict[str, str]:
    array = _checked(volume.get_array(), name)
    return volume_digests(array, np.asarray(volume.get_affine()), volume.get_metadata())


def _array(array: np.ndarray, name: str) -> Fingerprint:
    if isinstance(array, np.ma.MaskedArray):
        mask = np.array(np.broadcast_to(np.asarray(array.mask), array.shape))  # numpy's own word for it is untyped
        parts = {"data": _array(np.asarray(array.data), name), "mask": _array(mask, name)}
        return _combine("masked", parts)
    return _combine("array", {"values": Fingerprint(array_digest(_checked(array, name)))})


def _checked(array: Any, name: str) -> np.ndarray:
    if type(array) not in (np.ndarray, np.memmap):
        raise UnknownValueError(f"{name} holds a {_class_name(array)}, whose content cannot be told")
    if array.dtype.hasobject:
        raise UnknownValueError(f"{name} holds Python objects (dtype {array.dtype}), whose content cannot be told")
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


def is_scalar(value: Any) -> bool:
    """Whether the sidecar shows the value itself: numbers, strings, None, and short lists of them."""
    if isinstance(value, list | tuple):
        return len(value) <= 64 and all(is_scalar(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str | enum.Enum | np.bool_ | np.number)


def _combine(kind: str, parts: dict[str, Fingerprint] | None = None) -> Fingerprint:
    digest = hashlib.sha256(f"{len(kind)} {kind}\0".encode("utf-8", "surrogatepass"))
    for name, part in (parts or {}).items():
        digest.update(f"{len(name)} {name} {part.digest}\0".encode("utf-8", "surrogatepass"))
    return Fingerprint(digest.hexdigest(), dict(parts or {}))


def _is_plain_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type) and not inspect.isroutine(value)


def _replace(value: Any, fields: dict[str, Any], change: Callable[[Any], Any]) -> Any:
    changed = {name: new for name, old in fields.items() if (new := change(old)) is not old}
    return dataclasses.replace(value, **changed) if changed else value


def _class_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
