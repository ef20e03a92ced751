"""Volumes kept in an entry: written so that they come back bit for bit, read when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib

from arcuate.cache.fingerprints import frame_digests
from arcuate.errors import InputError
from arcuate.io import NiftiVolumeResource, locks
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource

_EAGER = 16 << 20  # bytes; smaller volumes are read when the entry is found


@dataclass(frozen=True)
class StoredVolume:
    """How one volume lies in an entry."""

    file: str
    dtype: str
    shape: Sequence[int]
    order: str  # of the array in memory, "C" or "F": sums over it may depend on that
    digests: dict[str, str]

    def read(self, folder: Path) -> np.ndarray:
        """The array, as it was: dtype, layout and bits."""
        path = folder / self.file
        array = np.load(path) if self.file.endswith(".npy") else NiftiVolumeResource(path).get_array()
        array = array.reshape(self.shape, order="F").astype(np.dtype(self.dtype), copy=False)
        return np.asfortranarray(array) if self.order == "F" else np.ascontiguousarray(array).reshape(self.shape)


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
    if dtype.kind in "iu":  # those beyond float32 come back as integers
        return bool(array.size)
    if dtype.kind != "f":
        return False
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        back = array.astype(np.float32).astype(dtype)
    return back.tobytes() == array.tobytes()


def read_volume(
    stored: StoredVolume, files: EntryFiles, affine: np.ndarray, metadata: dict[str, Any]
) -> InMemoryVolumeResource | StoredVolumeResource:
    """The volume of an entry; a small one in memory, a large one to be read when it is asked for."""
    n_bytes = int(np.prod(stored.shape, dtype=np.int64)) * np.dtype(stored.dtype).itemsize
    if n_bytes <= _EAGER:
        return InMemoryVolumeResource(stored.read(files.folder), affine, metadata)
    return StoredVolumeResource(stored, files, affine, metadata)


class StoredVolumeResource(VolumeResource):
    """A volume of an entry, decoded once, at the first use.

    Parameters
    ----------
    stored : how it lies there
    files : the files of the entry
    affine : (4, 4) float64, voxel indices to scanner mm
    metadata : header entries
    """

    def __init__(
        self, stored: StoredVolume, files: EntryFiles, affine: np.ndarray, metadata: Mapping[str, Any]
    ) -> None:
        self._stored, self._files = stored, files
        self._affine, self._metadata = affine, dict(metadata)

    @cached_property
    def _decoded(self) -> InMemoryVolumeResource:
        self._files.check(self._stored.file)
        return InMemoryVolumeResource(self._stored.read(self._files.folder), self._affine, self._metadata)

    def load(self) -> InMemoryVolumeResource:
        return self._decoded

    def get_array(self) -> np.ndarray:
        return self._decoded.array

    def get_volume(self, index: int) -> np.ndarray:
        if self._is_decoded or not self._stored.file.endswith(".nii.gz") or len(self.shape) != 4:
            return self.get_array()[..., index]
        self._files.check(self._stored.file)
        return NiftiVolumeResource(self._path).get_volume(index).astype(np.dtype(self._stored.dtype), copy=False)

    def get_affine(self) -> np.ndarray:
        return self._affine.copy()

    def get_metadata(self) -> dict[str, Any]:
        return dict(self._metadata)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._stored.shape)

    def encoded_file(self) -> Path | None:
        """The ``.nii.gz`` of the entry; None once the voxels are in memory, where somebody may have changed them."""
        is_whole = self._path.name.endswith(".nii.gz") and self._path.exists()
        return self._path if is_whole and self.known_digests() == self._stored.digests else None

    def known_digests(self) -> dict[str, str] | None:
        if self._is_decoded:
            return None
        return {"array": self._stored.digests["array"], **frame_digests(self.shape, self._affine, self._metadata)}

    @property
    def _is_decoded(self) -> bool:
        return "_decoded" in self.__dict__

    @property
    def _path(self) -> Path:
        return self._files.folder / self._stored.file

    def __reduce__(self) -> tuple[Any, ...]:
        return InMemoryVolumeResource, (self.get_array(), self._affine, self._metadata)

    def __repr__(self) -> str:
        return f"StoredVolumeResource(shape={self.shape})"


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
