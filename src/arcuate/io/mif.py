"""MRtrix3's images: read where they lie, gradients in the header included, and written."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.io.atomic import atomic_path
from arcuate.io.mif_header import MifHeader, gradient_rows, mif_head, read_mif_header
from arcuate.io.stored_voxels import (
    ByteSink,
    check_length,
    check_whole,
    dtype_on_disk,
    read_bytes,
    read_values,
    write_voxels,
)
from arcuate.numerics.user_folders import as_path
from arcuate.volumes.resource import (
    InMemoryVolumeResource,
    VolumeResource,
)

ENTRIES = "mrtrix_entries"  # of the metadata: lines of the header that are kept when the image is saved as .mif
_LEFT_OUT = {"dim", "vox", "layout", "datatype", "file", "transform", "scaling", "offset", "dw_scheme",
             "mrtrix_version"}  # fmt: skip


@dataclass(frozen=True)
class MifVolumeResource(VolumeResource):
    """A volume in a file of MRtrix3, read when asked for.

    Axes of space come in the order and direction in which they are stored, and the affine says where they point: the
    same array that ``mrconvert`` writes to NIfTI. Voxels come as float32, scaled as the header says; integers as in
    :class:`arcuate.io.NiftiVolumeResource`, bits as uint8. Axes of length 1 beyond the fourth are left out.

    Parameters
    ----------
    path : the file, ``.mif``, ``.mif.gz``, or the ``.mih`` of a pair
    """

    path: Path

    def __init__(self, path: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "path", as_path(path))

    def load(self) -> InMemoryVolumeResource:
        return InMemoryVolumeResource(self.get_array(), self.get_affine(), self.get_metadata())

    def get_array(self) -> np.ndarray:
        header = self._header
        n = math.prod(header.shape)
        values = _read_bits(header, n) if header.is_bits else read_values(header, 0, n)
        return header.arrange(values)

    def get_volume(self, index: int) -> np.ndarray:
        """One volume (x, y, z) of a 4-D image; quick where each lies in one piece."""
        header = self._header
        if len(header.shape) != 4 or not -header.shape[3] <= index < header.shape[3]:
            raise InputError(f"{self.path} has the shape {self.shape}; it has no volume {index}.")
        if not header.is_volume_by_volume or header.is_bits:
            return self.get_array()[..., index]
        n = math.prod(header.shape[:3])
        values = read_values(header, index % header.shape[3] * n, n)
        return values.reshape(header.shape[:3], order="F")

    def check_whole(self) -> None:
        """Refuse a file that was cut short, with its own sentence; few files are read for it."""
        header, n = self._header, math.prod(self._header.shape)
        check_whole(header, -(-n // 8) if header.is_bits else n * header.dtype.itemsize)

    def get_affine(self) -> np.ndarray:
        return self._header.affine.copy()

    def get_metadata(self) -> dict[str, Any]:
        kept = {key: value for key, value in self._header.entries.items() if key.lower() not in _LEFT_OUT}
        return {ENTRIES: kept} if kept else {}

    @property
    def shape(self) -> tuple[int, ...]:
        return self._header.shape

    @property
    def gradient_rows(self) -> np.ndarray | None:
        """Rows x y z b (n_meas, 4) of the header's ``dw_scheme``, scanner frame; None where there is none."""
        return gradient_rows(self.path, self._header.entries)

    @staticmethod
    def save(
        volume: VolumeResource, path: str | os.PathLike[str], gradients: GradientTable | None = None
    ) -> MifVolumeResource:
        """Write a volume, with its gradients in the header if given, and return it as a resource on disk.

        Types are those of :meth:`arcuate.io.NiftiVolumeResource.save`. Lines of a header that was read from MRtrix3's
        formats are kept, but for those that hold for its volumes alone. The file is whole or not there.

        Raises
        ------
        InputError
            The name does not end in ``.mif`` or ``.mif.gz``, the folder cannot be written, the gradients are not as
            many as the volumes, or the array holds no real numbers.
        """
        path = as_path(path)
        if not path.name.lower().endswith((".mif", ".mif.gz")):
            raise InputError(f"cannot save an image as {path.name!r}; expected a name that ends in .mif or .mif.gz.")
        array = np.asarray(volume.get_array())
        dtype = dtype_on_disk(array, path)
        if gradients is not None:
            gradients.check_count(array.shape[3] if array.ndim == 4 else 1)
        table = None if gradients is None else gradients.to_mrtrix()
        entries = volume.get_metadata().get(ENTRIES, {})
        head = mif_head(array.shape, dtype, np.asarray(volume.get_affine()), entries, table)
        with atomic_path(path) as temporary:
            write_voxels(temporary, head, array, dtype, is_gzipped=path.name.lower().endswith(".gz"))
        return MifVolumeResource(path)

    @cached_property
    def _header(self) -> MifHeader:
        return read_mif_header(self.path)


def _read_bits(header: MifHeader, n: int) -> np.ndarray:
    """(n,) values of single bits, the highest of each byte first."""
    n_bytes = -(-n // 8)
    check_length(header, n_bytes)
    sink = ByteSink(n_bytes)
    read_bytes(header, 0, n_bytes, sink)
    bits = np.unpackbits(sink.out, count=n)
    return (bits * np.float32(header.slope) + np.float32(header.intercept)) if header.is_scaled else bits
