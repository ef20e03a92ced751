"""Volumes kept in an entry: written so that they come back bit for bit, read when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib

from arcuate.cache.digests import note_digest
from arcuate.errors import InputError
from arcuate.io import NiftiVolumeResource, locks
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource

_EAGER = 16 << 20  # bytes; smaller volumes are read when the entry is found
_EXACT_INTEGERS = 1 << 24  # float32, in which NIfTI integers are read, holds them up to here


@dataclass(frozen=True)
class StoredVolume:
    """How one volume lies in an entry."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    order: str  # of the array in memory, "C" or "F": sums over it may depend on that
    digests: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        return {
            "file": self.file, "dtype": self.dtype, "shape": list(self.shape),
            "order": self.order, "digests": self.digests,
        }  # fmt: skip

    @classmethod
    def from_json(cls, node: Mapping[str, Any]) -> StoredVolume:
        return cls(node["file"], node["dtype"], tuple(node["shape"]), node["order"], dict(node["digests"]))

    def read(self, folder: Path) -> np.ndarray:
        """The array, as it was: dtype, layout and bits."""
        path = folder / self.file
        array = np.load(path) if self.file.endswith(".npy") else NiftiVolumeResource(path).get_array()
        array = array.reshape(self.shape, order="F") if array.shape != self.shape else array
        array = array.astype(np.dtype(self.dtype), copy=False)
        array = np.asfortranarray(array) if self.order == "F" else np.ascontiguousarray(array).reshape(self.shape)
        note_digest(array, self.digests["array"])
        return array


def write_volume(volume: InMemoryVolumeResource, folder: Path, stem: str, digests: dict[str, str]) -> StoredVolume:
    """Write ``stem.nii.gz`` into ``folder``, and ``stem.npy`` beside it where NIfTI would lose something."""
    array = volume.get_array()
    order = "C" if array.flags.c_contiguous and not array.flags.f_contiguous else "F"
    file = f"{stem}.nii.gz"
    try:
        NiftiVolumeResource.save(volume, folder / file)
        is_exact = survives_nifti(array)
    except InputError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        is_exact = False  # NIfTI has no place for such an array
    if not is_exact:
        file = f"{stem}.npy"
        np.save(folder / file, array, allow_pickle=False)
    return StoredVolume(file, array.dtype.str, array.shape, order, digests)


def survives_nifti(array: np.ndarray) -> bool:
    """Whether every value comes back from a file made by :meth:`NiftiVolumeResource.save`, given the dtype."""
    dtype = array.dtype
    if dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize == 1) or (dtype.kind == "f" and dtype.itemsize <= 4):
        return True
    if dtype.kind in "iu":
        return bool(array.size) and int(array.min()) >= -_EXACT_INTEGERS and int(array.max()) <= _EXACT_INTEGERS
    if dtype.kind != "f":
        return False
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        back = array.astype(np.float32).astype(dtype)
    return back.tobytes() == array.tobytes()


class CachedVolume(InMemoryVolumeResource):
    """A volume of an entry: like one in memory, but read from the entry at the first use."""

    def __init__(self, array: np.ndarray, affine: np.ndarray | None = None, metadata: dict | None = None) -> None:
        object.__setattr__(self, "_array", array)
        object.__setattr__(self, "_source", None)
        object.__setattr__(self, "affine", np.eye(4) if affine is None else affine)
        object.__setattr__(self, "metadata", {} if metadata is None else metadata)

    @classmethod
    def from_entry(
        cls, stored: StoredVolume, source: EntryFiles, affine: np.ndarray, metadata: dict[str, Any]
    ) -> InMemoryVolumeResource:
        """The stored volume; small ones plainly in memory."""
        n_bytes = int(np.prod(stored.shape, dtype=np.int64)) * np.dtype(stored.dtype).itemsize
        if n_bytes <= _EAGER:
            return InMemoryVolumeResource(stored.read(source.folder), affine, metadata)
        volume = cls.__new__(cls)
        object.__setattr__(volume, "_array", None)
        object.__setattr__(volume, "_source", (stored, source))
        object.__setattr__(volume, "affine", affine)
        object.__setattr__(volume, "metadata", metadata)
        return volume

    @property
    def array(self) -> np.ndarray:
        array, source = self._array, self._source  # type: ignore[attr-defined]
        if array is None:
            stored, files = source
            files.check(stored.file)
            array = stored.read(files.folder)
            object.__setattr__(self, "_array", array)
        return array

    @property
    def shape(self) -> tuple[int, ...]:
        source = self._source  # type: ignore[attr-defined]
        return self.array.shape if source is None or self._array is not None else source[0].shape  # type: ignore[attr-defined]

    @property
    def stored_file(self) -> Path | None:
        """The ``.nii.gz`` of the entry, as long as the volume was not read and has its frame; else None.

        It holds the bytes that saving the volume would give.
        """
        known = self.known_fingerprint()
        if known is None:
            return None
        stored, files = self._source  # type: ignore[attr-defined]
        path: Path = files.folder / stored.file
        is_whole = stored.file.endswith(".nii.gz") and known == stored.digests and path.exists()
        return path if is_whole else None

    def known_fingerprint(self) -> dict[str, str] | None:
        """Digests of the voxels, as long as nobody could have changed them, and of the frame as it is now."""
        from arcuate.cache.fingerprints import frame_digests

        if self._source is None or self._array is not None:  # type: ignore[attr-defined]
            return None
        stored: StoredVolume = self._source[0]  # type: ignore[attr-defined]
        return {"array": stored.digests["array"], **frame_digests(stored.shape, self.affine, self.metadata)}

    def __reduce__(self) -> tuple[Any, ...]:
        return InMemoryVolumeResource, (self.array, self.affine, self.metadata)

    def __repr__(self) -> str:
        return f"CachedVolume(shape={self.shape})"


class EntryFiles:
    """The files of one entry, protected from ``arcuate cache gc`` as long as a volume refers to them."""

    def __init__(self, folder: Path, checksums: Mapping[str, Mapping[str, int]]) -> None:
        self.folder = folder
        self._checksums = checksums
        self._states = {name: _state(folder / name) for name in checksums}
        self._lease = locks.hold(folder / "entry.json")

    def check(self, name: str) -> None:
        """Make sure that a file is still the one that was verified when the entry was found."""
        path = self.folder / name
        try:
            if _state(path) == self._states[name] or checksum(path) == self._checksums[name]:
                return
            what = "was changed"
        except OSError as error:
            what = f"cannot be read any more ({error.strerror})"
        raise InputError(f"{path} of the cache {what} while it was in use. Start again: it will be computed anew.")

    def __del__(self) -> None:
        lease = getattr(self, "_lease", None)
        if lease is not None:
            os.close(lease)


def checksum(path: Path) -> dict[str, int]:
    """Size and CRC-32 of a file: what tells a damaged one."""
    crc, size = 0, 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            crc = isal_zlib.crc32(piece, crc)
            size += len(piece)
    return {"size": size, "crc32": crc}


def in_memory(volume: VolumeResource) -> InMemoryVolumeResource:
    """The volume in memory, its array made plain (no memory map)."""
    loaded = volume.load()
    array = loaded.get_array()
    if type(array) is np.memmap:
        loaded = InMemoryVolumeResource(np.array(array), loaded.get_affine(), loaded.get_metadata())
    return loaded


def _state(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino
