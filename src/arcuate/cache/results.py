"""Results of steps as JSON and files, and back, without pickle: nothing in an entry is ever executed."""

from __future__ import annotations

import base64
import dataclasses
import enum
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.cache.fingerprints import Fingerprinter, UnknownValueError, volume_digests
from arcuate.cache.volumes import CachedVolume, EntryFiles, StoredVolume, in_memory, write_volume
from arcuate.volumes.resource import VectorResource, VolumeResource

_INLINE = 4096  # bytes; larger arrays have a file of their own


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
        if isinstance(value, enum.Enum):
            return {"enum": _address(value), "name": value.name}
        if isinstance(value, np.ndarray):
            return self._array(value, part)
        if isinstance(value, np.generic) and not value.dtype.hasobject:
            return {"scalar": value.dtype.str, "bytes": base64.b64encode(value.tobytes()).decode()}
        if type(value) in (bytes, complex):
            return {"bytes": base64.b64encode(value).decode()} if type(value) is bytes else self._complex(value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            items = [self.write(item, _join(part, name)) for name, item in zip(value._fields, value, strict=True)]
            return {"named": _address(value), "items": items}
        if type(value) in (list, tuple):
            return {type(value).__name__: [self.write(item, _join(part, str(i))) for i, item in enumerate(value)]}
        if type(value) is dict:
            pairs = [[self.write(k, part), self.write(v, _join(part, str(k)))] for k, v in value.items()]
            return {"dict": pairs}
        if hasattr(value, "to_cache") and hasattr(type(value), "from_cache"):
            address = _address(value)
            volumes, facts = value.to_cache()
            parts = [[name, self.write(volume, _join(part, name))] for name, volume in volumes.items()]
            return {"object": address, "volumes": parts, "facts": self.write(dict(facts), _join(part, "facts"))}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._dataclass(value, part)
        raise UnknownResultError(f"a {type(value).__qualname__} cannot be kept")

    def _dataclass(self, value: Any, part: str) -> Any:
        if not dataclasses.is_dataclass(value):
            raise UnknownResultError(f"a {type(value).__qualname__} cannot be kept")
        names = [f.name for f in dataclasses.fields(value) if f.init]
        fields = [[name, self.write(getattr(value, name), _join(part, name))] for name in names]
        return {"dataclass": _address(value), "fields": fields}

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
        node = {"volume": stored.to_json(), "affine": self._array(affine, _join(part, "affine"))}
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

    def _complex(self, value: complex) -> Any:
        return {"complex": [value.real, value.imag]}

    def _stem(self, part: str) -> str:
        stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in part)[:60] or "result"
        taken = {path.name.split(".")[0] for path in self.folder.iterdir()}
        number = 2
        unique = stem
        while unique in taken:
            unique, number = f"{stem}-{number}", number + 1
        return unique


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
        return CachedVolume.from_entry(StoredVolume.from_json(node["volume"]), self.files, affine, metadata)

    def _read_array(self, node: Any) -> np.ndarray:
        flat = np.frombuffer(base64.b64decode(node["bytes"]), dtype=np.dtype(node["array"]))
        return flat.copy().reshape(node["shape"], order=node["order"])

    def _read_array_file(self, node: Any) -> np.ndarray:
        array: np.ndarray = np.load(self.files.folder / node["array_file"], allow_pickle=False)
        return array

    def _read_scalar(self, node: Any) -> Any:
        return np.frombuffer(base64.b64decode(node["bytes"]), dtype=np.dtype(node["scalar"]))[0]

    def _read_bytes(self, node: Any) -> bytes:
        return base64.b64decode(node["bytes"])

    def _read_complex(self, node: Any) -> complex:
        return complex(*node["complex"])

    def _read_list(self, node: Any) -> list[Any]:
        return [self.read(item) for item in node["list"]]

    def _read_tuple(self, node: Any) -> tuple[Any, ...]:
        return tuple(self.read(item) for item in node["tuple"])

    def _read_dict(self, node: Any) -> dict[Any, Any]:
        return {self.read(key): self.read(value) for key, value in node["dict"]}

    def _read_named(self, node: Any) -> Any:
        cls = _find(node["named"])
        if not (issubclass(cls, tuple) and hasattr(cls, "_fields")):
            raise UnknownResultError(f"{node['named']} is no named tuple any more")
        return cls(*(self.read(item) for item in node["items"]))

    def _read_enum(self, node: Any) -> Any:
        cls = _find(node["enum"])
        if not issubclass(cls, enum.Enum):
            raise UnknownResultError(f"{node['enum']} is no enum any more")
        return cls[node["name"]]

    def _read_dataclass(self, node: Any) -> Any:
        cls = _find(node["dataclass"])
        if not dataclasses.is_dataclass(cls):
            raise UnknownResultError(f"{node['dataclass']} is no dataclass any more")
        return cls(**{name: self.read(value) for name, value in node["fields"]})

    def _read_object(self, node: Any) -> Any:
        cls: Any = _find(node["object"])
        if not hasattr(cls, "from_cache"):
            raise UnknownResultError(f"{node['object']} has no from_cache any more")
        return cls.from_cache({name: self.read(part) for name, part in node["volumes"]}, self.read(node["facts"]))


def metadata_digest(metadata: Mapping[str, Any]) -> str | None:
    """Digest of all header entries, None where they cannot be told."""
    try:
        return Fingerprinter().fingerprint(dict(metadata)).digest
    except UnknownValueError:
        return None


def _join(part: str, name: str) -> str:
    return f"{part}.{name}" if part else name


def _address(value: Any) -> str:
    cls = type(value)
    address = f"{cls.__module__}:{cls.__qualname__}"
    try:
        is_found = _find(address) is cls
    except (ImportError, AttributeError):
        is_found = False
    if not is_found:
        raise UnknownResultError(f"a {cls.__qualname__} cannot be kept: its class is not found under {address}")
    return address


def _find(address: str) -> type:
    module, _, name = address.partition(":")
    found: Any = importlib.import_module(module)
    for attribute in name.split("."):
        found = getattr(found, attribute)
    if not isinstance(found, type):
        raise UnknownResultError(f"{address} is no class")
    return found
