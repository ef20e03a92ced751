"""NIfTI images: NIfTI-1 and NIfTI-2, read from one file or from a pair of header and voxels, written as one."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from arcuate.errors import InputError
from arcuate.io import geometry
from arcuate.io.atomic import atomic_path
from arcuate.io.nifti_header import Header, read_header
from arcuate.io.stored_voxels import check_whole, dtype_on_disk, read_values, read_values_into, write_voxels
from arcuate.numerics.user_folders import as_path
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource

_PIECE = 1 << 20  # bytes compared at a time


@dataclass(frozen=True)
class NiftiVolumeResource(VolumeResource):
    """A volume in a NIfTI file, read when asked for.

    Voxels come as float32 in file order (x fastest), scaled as the header says, without a float64 copy. Integers
    without scaling keep their type where they have 8 bits (masks, bundles), and where one of them is beyond 2**24,
    which float32 would change (labels). The affine, the shape and the metadata come from the header alone. Axes of
    length 1 in an image of more than four axes are left out: ``(x, y, z, 1, n)`` is ``(x, y, z, n)``.

    Parameters
    ----------
    path : the file, ``.nii`` or ``.nii.gz``, or either file of a pair (``.hdr``, ``.img``; ANALYZE as well), or
        FreeSurfer's ``.mgh`` or ``.mgz``; gzipped or not; what it is, is told by its content
    """

    is_read_anew: ClassVar[bool] = True

    path: Path

    def __init__(self, path: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "path", as_path(path))

    def load(self) -> InMemoryVolumeResource:
        return InMemoryVolumeResource(self.get_array(), self.get_affine(), self.get_metadata())

    def get_array(self) -> np.ndarray:
        return self._values(0, self.shape)

    def read_into(self, out: np.ndarray) -> bool:
        if out.dtype != self._header.dtype_in_memory or not out.flags.f_contiguous:
            return False
        return read_values_into(self._header, out.reshape(-1, order="F"))

    def get_volume(self, index: int) -> np.ndarray:
        """One volume (x, y, z) of a 4-D image; quick for ``.nii`` and for files that arcuate wrote."""
        if len(self.shape) != 4 or not -self.shape[3] <= index < self.shape[3]:
            raise InputError(f"{self.path} has the shape {self.shape}; it has no volume {index}.")
        shape = self.shape[:3]
        return self._values(index % self.shape[3] * math.prod(shape), shape)

    def check_whole(self) -> None:
        """Refuse a file that was cut short, with its own sentence; few files are read for it."""
        check_whole(self._header, math.prod(self.shape) * self._header.dtype.itemsize)

    def get_affine(self) -> np.ndarray:
        return self._affine.copy()

    def get_metadata(self) -> dict[str, Any]:
        return geometry.header_fields(self._header.nifti)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._header.shape

    @staticmethod
    def save(volume: VolumeResource, path: str | os.PathLike[str]) -> NiftiVolumeResource:
        """Write a volume and return it as a resource on disk.

        Floats are stored as float32, truth values as uint8, integers in the smallest of uint8, int16, int32 (int64)
        that holds them. The scanner geometry in the volume's metadata (sform, qform, both codes, units, time step)
        is kept as long as it says the same as the volume's affine; otherwise the affine is written to both forms.
        The file is written beside ``path`` and renamed, so that ``path`` never holds half an image. Equal volumes
        give equal files; a volume kept by the cache leaves a file with its bytes as it is.

        Raises
        ------
        InputError
            The name does not end in ``.nii`` or ``.nii.gz``, the folder cannot be written, or NIfTI has no place for
            such an array.
        """
        path = as_path(path)
        if not path.name.lower().endswith((".nii", ".nii.gz")):
            raise InputError(f"cannot save an image as {path.name!r}; expected a name that ends in .nii.gz or .nii.")
        encoded = volume.encoded_file() if path.name.lower().endswith(".nii.gz") else None
        if encoded is not None:
            if not (path.is_file() and _same_bytes(encoded, path)):
                with atomic_path(path) as temporary:
                    shutil.copyfile(encoded, temporary)
            return NiftiVolumeResource(path)
        array = np.asarray(volume.get_array())
        dtype = dtype_on_disk(array, path)
        header = geometry.make_header(array.shape, dtype, np.asarray(volume.get_affine()), volume.get_metadata())
        head = header.binaryblock + b"\0\0\0\0"  # four zeros: no extension follows
        with atomic_path(path) as temporary:
            write_voxels(temporary, head, array, dtype, is_gzipped=path.name.lower().endswith(".gz"))
        return NiftiVolumeResource(path)

    @cached_property
    def _header(self) -> Header:
        return read_header(self.path)

    @cached_property
    def _affine(self) -> np.ndarray:
        return geometry.affine_of(self._header.nifti, self.path)

    def _values(self, first: int, shape: tuple[int, ...]) -> np.ndarray:
        """Voxels from number ``first`` on, in the given shape."""
        return read_values(self._header, first, math.prod(shape)).reshape(shape, order="F")


def _same_bytes(first: Path, second: Path) -> bool:
    """Whether two files hold the same; pieces of 1 MiB take half the time of filecmp's 8 KiB."""
    if first.stat().st_size != second.stat().st_size:
        return False
    with first.open("rb", buffering=0) as one, second.open("rb", buffering=0) as other:
        while piece := one.read(_PIECE):
            if piece != other.read(_PIECE):
                return False
    return True
