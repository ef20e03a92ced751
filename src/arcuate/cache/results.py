"""Results of steps as JSON and files, and back, without pickle.

Nothing in an entry is executed or imported: a class comes back only if it was registered here by :func:`storable`.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from arcuate.cache.fingerprints import Fingerprinter, UnknownValueError, volume_digests
from arcuate.cache.volumes import EntryFiles, StoredVolume, in_memory, read_volume, write_volume
from arcuate.gradients import GradientTable
from arcuate.volumes.resource import (
    InMemoryBvalResource,
    InMemoryBvecResource,
    InMemoryVolumeResource,
    VectorResource,
    VolumeResource,
)

_INLINE = 4096  # bytes; larger arrays have a file of their own
_CLASSES: dict[str, type] = {}  # by module and name: the dataclasses that entries may hold
C = TypeVar("C", bound=type)


def _address(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def storable(cls: C) -> C:
    """Let results of steps hold objects of a dataclass; written above the class, or called with it."""
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"@storable expects a dataclass, not {cls!r}")
    _CLASSES[_address(cls)] = cls
    return cls


for _known in (InMemoryVolumeResource, InMemoryBvalResource, InMemoryBvecResource, GradientTable):
    storable(_known)


class UnknownResultError(TypeError):
    """A result, or a part of it, is of a kind that cannot be kept."""


@dataclass
class ResultWriter:
    """Writes one result into ``folder``; afterwards knows which volume is which file.

    Parameters
    ----------
    folder : where the files go
    metadata_digests : {argument: digest} of the header entries of the volumes that came in, so that entries that were
        only carried over are taken from the argument again
    """

    folder: Path
    metadata_digests: Mapping[str, str]
    volumes: dict[str, str] = field(default_factory=dict)  # part of the result -> file for the flat name

    def write(self, value: Any, part: str = "") -> Any:
        """JSON for ``value``, which is the part ``part`` of the result."""
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, VolumeResource):
            return self._volume(value, part)
        if isinstance(value, VectorResource):
            return self._dataclass(value.load(), part)
        if isinstance(value, np.ndarray):
            return self._array(value, part)
        if isinstance(value, np.generic) and not value.dtype.hasobject:
            return {"scalar": value.dtype.str, "bytes": base64.b64encode(value.tobytes()).decode()}
        if type(value) in (list, tuple):
            return {type(value).__name__: [self.write(item, _join(part, str(i))) for i, item in enumerate(value)]}
        if type(value) is dict:
            pairs = [[self.write(k, part), self.write(v, _join(part, str(k)))] for k, v in value.items()]
            return {"dict": pairs}
        return self._dataclass(value, part)

    def _dataclass(self, value: Any, part: str) -> Any:
        cls = type(value)
        if _CLASSES.get(_address(cls)) is not cls:
            hint = "; write @storable above its class" if dataclasses.is_dataclass(cls) else ""
            raise UnknownResultError(f"a {cls.__qualname__} cannot be kept{hint}")
        names = [f.name for f in dataclasses.fields(value) if f.init]
        fields = [[name, self.write(getattr(value, name), _join(part, name))] for name in names]
        return {"dataclass": _address(type(value)), "fields": fields}

    def _volume(self, volume: VolumeResource, part: str) -> Any:
        loaded = in_memory(volume)
        array, metadata = loaded.get_array(), loaded.get_metadata()
        if type(array) is not np.ndarray or array.dtype.hasobject:
            raise UnknownResultError(f"a volume of a {type(array).__qualname__} of {array.dtype} cannot be kept")
        affine = np.asarray(loaded.get_affine())
        stored = write_volume(loaded, self.folder, self._stem(part), volume_digests(array, affine, metadata))
        image = Path(stored.file).with_suffix(".nii.gz").name if stored.file.endswith(".npy") else stored.file
        if (self.folder / image).exists():
            self.volumes[part] = image
        carried = self._carried_from(metadata)
        node = {"volume": dataclasses.asdict(stored), "affine": self._array(affine, _join(part, "affine"))}
        return node | ({"metadata_of": carried} if carried else {"metadata": self.write(dict(metadata), part)})

    def _carried_from(self, metadata: Mapping[str, Any]) -> str | None:
        digest = metadata_digest(metadata)
        return next((name for name, other in self.metadata_digests.items() if other == digest), None)

    def _array(self, array: np.ndarray, part: str) -> Any:
        if type(array) is not np.ndarray or array.dtype.hasobject:
            raise UnknownResultError(f"a {type(array).__qualname__} of {array.dtype} cannot be kept")
        if array.nbytes > _INLINE or array.dtype.fields:
            file = f"{self._stem(part)}.npy"
            np.save(self.folder / file, array, allow_pickle=False)
            return {"array_file": file}
        order = "C" if array.flags.c_contiguous else "F"
        data = base64.b64encode(array.tobytes(order=order)).decode()  # type: ignore[arg-type]
        return {"array": array.dtype.str, "shape": list(array.shape), "order": order, "bytes": data}

    def _stem(self, part: str) -> str:
        stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in part)[:60] or "result"
        is_taken = any(self.folder.glob(f"{stem}.*"))
        return f"{stem}.{len(list(self.folder.iterdir()))}" if is_taken else stem


@dataclass
class ResultReader:
    """Makes a result from the JSON that :class:`ResultWriter` wrote.

    Parameters
    ----------
    files : of the entry
    metadata : {argument: header entries} of the volumes of this call
    """

    files: EntryFiles
    metadata: Mapping[str, dict[str, Any]]

    def read(self, node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        kind = next(iter(node))
        return getattr(self, f"_read_{kind}")(node)

    def _read_volume(self, node: Any) -> Any:
        affine = self.read(node["affine"])
        metadata = dict(self.metadata[node["metadata_of"]]) if "metadata_of" in node else self.read(node["metadata"])
        return read_volume(StoredVolume(**node["volume"]), self.files, affine, metadata)

    def _read_array(self, node: Any) -> np.ndarray:
        flat = np.frombuffer(base64.b64decode(node["bytes"]), dtype=np.dtype(node["array"]))
        return flat.copy().reshape(node["shape"], order=node["order"])

    def _read_array_file(self, node: Any) -> np.ndarray:
        array: np.ndarray = np.load(self.files.folder / node["array_file"], allow_pickle=False)
        return array

    def _read_scalar(self, node: Any) -> Any:
        return np.frombuffer(base64.b64decode(node["bytes"]), dtype=np.dtype(node["scalar"]))[0]

    def _read_list(self, node: Any) -> list[Any]:
        return [self.read(item) for item in node["list"]]

    def _read_tuple(self, node: Any) -> tuple[Any, ...]:
        return tuple(self.read(item) for item in node["tuple"])

    def _read_dict(self, node: Any) -> dict[Any, Any]:
        return {self.read(key): self.read(value) for key, value in node["dict"]}

    def _read_dataclass(self, node: Any) -> Any:
        cls = _CLASSES.get(node["dataclass"])
        if cls is None:
            raise UnknownResultError(f"no class {node['dataclass']} is registered here")
        return cls(**{name: self.read(value) for name, value in node["fields"]})


def metadata_digest(metadata: Mapping[str, Any]) -> str | None:
    """Digest of all header entries, None where they cannot be told."""
    try:
        return Fingerprinter().fingerprint(dict(metadata)).digest
    except UnknownValueError:
        return None


def _join(part: str, name: str) -> str:
    return f"{part}.{name}" if part else name
