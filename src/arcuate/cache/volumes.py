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

from arcuate.cache.digests import array_digest
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

    @classmethod
    def write(cls, volume: InMemoryVolumeResource, folder: Path, stem: str, digests: dict[str, str]) -> StoredVolume:
        """Write ``stem.nii.gz`` into ``folder``, and ``stem.npy`` beside it where NIfTI would lose something."""
        array = volume.get_array()
        order = "C" if array.flags.c_contiguous and not array.flags.f_contiguous else "F"
        file = f"{stem}.nii.gz"
        kind, size = array.dtype.kind, array.dtype.itemsize
        is_exact = kind in "biu" or (kind == "f" and size <= 4)  # floats are written as float32, integers as they are
        try:
            NiftiVolumeResource.save(volume, folder / file)
        except InputError as error:
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            is_exact = False  # NIfTI has no place for such an array
        if not is_exact:
            file = f"{stem}.npy"
            np.save(folder / file, array, allow_pickle=False)
        return cls(file, array.dtype.str, array.shape, order, digests)

    def read(self, folder: Path) -> np.ndarray:
        """The array, as it was: dtype, layout and bits."""
        path = folder / self.file
        array = np.load(path) if self.file.endswith(".npy") else NiftiVolumeResource(path).get_array()
        array = array.reshape(self.shape, order="F").astype(np.dtype(self.dtype), copy=False)
        return np.asfortranarray(array) if self.order == "F" else np.ascontiguousarray(array).reshape(self.shape)

    def resource(self, files: EntryFiles, affine: np.ndarray, metadata: dict[str, Any]) -> VolumeResource:
        """The volume; a small one in memory, a large one to be read when it is asked for."""
        if int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize <= _EAGER:
            return InMemoryVolumeResource(self.read(files.folder), affine, metadata)
        return StoredVolumeResource(self, files, affine, metadata)


class StoredVolumeResource(VolumeResource):
    """A volume of an entry, decoded once, at the first use.

    Parameters
    ----------
    stored : how it lies there
    files : the files of the entry
    affine : (4, 4) float64, voxel indices to scanner mm
    metadata : header entries
    """

    def __init__(self, stored: StoredVolume, files: EntryFiles, affine: np.ndarray, metadata: dict[str, Any]) -> None:
        self._stored, self._files = stored, files
        self._affine, self._metadata = affine, metadata

    @cached_property
    def _decoded(self) -> InMemoryVolumeResource:
        self._files.check(self._stored.file)
        return InMemoryVolumeResource(self._stored.read(self._files.folder), self._affine, self._metadata)

    @property
    def _is_decoded(self) -> bool:
        return "_decoded" in self.__dict__

    @property
    def _image(self) -> Path | None:
        """The ``.nii.gz`` that holds all of it."""
        return self._files.folder / self._stored.file if self._stored.file.endswith(".nii.gz") else None

    def load(self) -> InMemoryVolumeResource:
        return self._decoded

    def get_array(self) -> np.ndarray:
        return self._decoded.array

    def get_volume(self, index: int) -> np.ndarray:
        if self._image is None or self._is_decoded or len(self.shape) != 4:
            return self.get_array()[..., index]
        self._files.check(self._stored.file)
        return NiftiVolumeResource(self._image).get_volume(index).astype(np.dtype(self._stored.dtype), copy=False)

    def get_affine(self) -> np.ndarray:
        return self._affine.copy()

    def get_metadata(self) -> dict[str, Any]:
        return dict(self._metadata)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._stored.shape)

    def encoded_file(self) -> Path | None:
        """The image of the entry, as long as it holds the voxels in memory; to look takes a tenth of writing them.

        Raises
        ------
        InputError
            The voxels were not read yet, and the image is no longer what was kept.
        """
        if self._image is None:
            return None
        if not self._is_decoded:
            self._files.check(self._stored.file)
            return self._image
        is_as_kept = array_digest(self._decoded.array) == self._stored.digests["voxels"]
        return self._image if is_as_kept and self._files.is_intact(self._stored.file) else None

    def known_digests(self) -> dict[str, str] | None:
        return None if self._is_decoded else self._stored.digests

    def __reduce__(self) -> tuple[Any, ...]:
        return InMemoryVolumeResource, (self.get_array(), self._affine, self._metadata)

    def __repr__(self) -> str:
        return f"StoredVolumeResource(shape={self.shape})"


class EntryFiles:
    """The files of one entry, protected from ``arcuate cache gc`` as long as a volume refers to them."""

    def __init__(self, folder: Path, checksums: Mapping[str, Mapping[str, int]]) -> None:
        self.folder = folder
        self._checksums = checksums
        self._lease = locks.hold(folder / "entry.json")

    def is_intact(self, name: str) -> bool:
        """Whether a file is still the one that was verified when the entry was found."""
        try:
            return checksum(self.folder / name) == self._checksums[name]
        except OSError:
            return False

    def check(self, name: str) -> None:
        """Refuse a file that is not :meth:`is_intact`."""
        if not self.is_intact(name):
            what = "was changed" if (self.folder / name).exists() else "is gone"
            raise InputError(
                f"{self.folder / name} of the cache {what} while it was in use. Start again: it will be computed anew."
            )

    def __del__(self) -> None:
        if self._lease is not None:
            os.close(self._lease)


def checksum(path: Path) -> dict[str, int]:
    """Size and CRC-32 of a file: what tells a damaged one."""
    crc, size = 0, 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            crc = isal_zlib.crc32(piece, crc)
            size += len(piece)
    return {"size": size, "crc32": crc}
