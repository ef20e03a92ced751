"""Results of steps as JSON and files, and back, without pickle.

Nothing in an entry is executed or imported: a class comes back only if it was registered here by :func:`storable`.
"""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from arcuate.cache.fingerprints import UnknownValueError, fingerprint, volume_digests
from arcuate.cache.volumes import EntryFiles, StoredVolume
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


class UnknownResultError(TypeError):
    """A result, or a part of it, is of a kind that cannot be kept."""


def storable(cls: C) -> C:
    """Let results of steps hold objects of a dataclass; written above the class, or called with it."""
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"@storable expects a dataclass, not {cls!r}")
    _CLASSES[_address(cls)] = cls
    return cls


def _address(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


for _known in (InMemoryVolumeResource, InMemoryBvalResource, InMemoryBvecResource, GradientTable):
    storable(_known)


@dataclass
class ResultWriter:
    """Writes one result into ``folder``; afterwards knows which volume is which file.

    Parameters
    ----------
    folder : where the files go
    metadata : {argument: header entries} of the volumes that came in; entries that were only carried over are taken
        from the argument again
    """

    folder: Path
    metadata: Mapping[str, dict[str, Any]]
    volumes: dict[str, str] = field(default_factory=dict)  # part of the result -> file for the flat name

    def write(self, value: Any, part: str = "") -> Any:
        """JSON for ``value``, which is the part ``part`` of the result."""
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, VolumeResource):
            return self._volume(value.load(), part)
        if isinstance(value, VectorResource):
            return self._dataclass(value.load(), part)
        if type(value) is np.ndarray and value.nbytes > _INLINE:
            file = f"{self._stem(part)}.npy"
            np.save(self.folder / file, _checked(value), allow_pickle=False)
            return {"array_file": file}
        if isinstance(value, np.ndarray):
            return {"array": _to_text(value)}
        if isinstance(value, np.generic):
            return {"scalar": _to_text(np.asarray(value))}
        if type(value) in (list, tuple):
            return {type(value).__name__: [self.write(item, _join(part, str(i))) for i, item in enumerate(value)]}
        if type(value) is dict:
            return {"dict": [[self.write(k, part), self.write(v, _join(part, str(k)))] for k, v in value.items()]}
        return self._dataclass(value, part)

    def _dataclass(self, value: Any, part: str) -> Any:
        cls = type(value)
        if _CLASSES.get(_address(cls)) is not cls:
            hint = "; write @storable above its class" if dataclasses.is_dataclass(cls) else ""
            raise UnknownResultError(f"a {cls.__qualname__} cannot be kept{hint}")
        names = [f.name for f in dataclasses.fields(value) if f.init]
        fields = [[name, self.write(getattr(value, name), _join(part, name))] for name in names]
        return {"dataclass": _address(cls), "fields": fields}

    def _volume(self, volume: InMemoryVolumeResource, part: str) -> Any:
        metadata, stem = volume.get_metadata(), self._stem(part)
        digests = volume_digests(_checked(volume.array), volume.affine, metadata)
        stored = StoredVolume.write(volume, self.folder, stem, digests)
        if (self.folder / f"{stem}.nii.gz").exists():
            self.volumes[part] = f"{stem}.nii.gz"
        node = {"volume": dataclasses.asdict(stored), "affine": _to_text(volume.affine)}
        carried = next((name for name, other in self.metadata.items() if _same(other, metadata)), None)
        return node | ({"metadata_of": carried} if carried else {"metadata": self.write(metadata, part)})

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
        kind, content = next(iter(node.items()))
        match kind:
            case "volume":
                carried = node.get("metadata_of")
                metadata = self.read(node["metadata"]) if carried is None else dict(self.metadata[carried])
                return StoredVolume(**content).resource(self.files, _from_text(node["affine"]), metadata)
            case "array":
                return _from_text(content)
            case "array_file":
                return np.load(self.files.folder / content, allow_pickle=False)
            case "scalar":
                return _from_text(content)[()]
            case "list":
                return [self.read(item) for item in content]
            case "tuple":
                return tuple(self.read(item) for item in content)
            case "dict":
                return {self.read(key): self.read(value) for key, value in content}
        if content not in _CLASSES:
            raise UnknownResultError(f"no class {content} is registered here")
        return _CLASSES[content](**{name: self.read(value) for name, value in node["fields"]})


def _checked(array: np.ndarray) -> np.ndarray:
    if type(array) is not np.ndarray or array.dtype.hasobject:
        raise UnknownResultError(f"a {type(array).__qualname__} of {array.dtype} cannot be kept")
    return array


def _to_text(array: np.ndarray) -> str:
    file = io.BytesIO()
    np.save(file, _checked(array), allow_pickle=False)
    return base64.b64encode(file.getvalue()).decode()


def _from_text(text: str) -> np.ndarray:
    array: np.ndarray = np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False)
    return array


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    try:
        return fingerprint(dict(one)) == fingerprint(dict(other))
    except UnknownValueError:
        return False


def _join(part: str, name: str) -> str:
    return f"{part}.{name}" if part else name
