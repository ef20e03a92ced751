"""NIfTI images: NIfTI-1 and NIfTI-2, read from one file or from a pair of header and voxels, written as one."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.errors import InputError
from arcuate.io import geometry
from arcuate.io.atomic import atomic_path
from arcuate.io.gzip_blocks import (
    CorruptFileError,
    is_gzip,
    read_gzip,
    read_plain,
    write_gzip,
)
from arcuate.io.nifti_header import Header, read_header
from arcuate.numerics.threads import n_threads
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource

_PIECE = 1 << 20  # bytes compared at a time
_GROUP_BYTES = 1 << 26  # volumes brought into file order at once
_TILE_VALUES = 1 << 16  # of them, what is turned at once
_MAX_DEFLATE = 1032  # bytes that one byte of a deflate stream can stand for at most
_EXACT = 1 << 24  # float32 holds every integer up to here


@dataclass(frozen=True)
class NiftiVolumeResource(VolumeResource):
    """A volume in a NIfTI file, read when asked for.

    Voxels come as float32 in file order (x fastest), scaled as the header says, without a float64 copy. Integers
    without scaling keep their type where they have 8 bits (masks, bundles), and where one of them is beyond 2**24,
    which float32 would change (labels). The affine, the shape and the metadata come from the header alone. Axes of
    length 1 in an image of more than four axes are left out: ``(x, y, z, 1, n)`` is ``(x, y, z, n)``.

    Parameters
    ----------
    path : the file, ``.nii`` or ``.nii.gz``, or either file of a pair (``.hdr``, ``.img``), gzipped or not; what it
        is, is told by its content
    """

    path: Path

    def __init__(self, path: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "path", Path(path))

    def load(self) -> InMemoryVolumeResource:
        return InMemoryVolumeResource(self.get_array(), self.get_affine(), self.get_metadata())

    def get_array(self) -> np.ndarray:
        return self._values(0, self.shape)

    def get_volume(self, index: int) -> np.ndarray:
        """One volume (x, y, z) of a 4-D image; quick for ``.nii`` and for files that arcuate wrote."""
        if len(self.shape) != 4 or not -self.shape[3] <= index < self.shape[3]:
            raise InputError(f"{self.path} has the shape {self.shape}; it has no volume {index}.")
        shape = self.shape[:3]
        return self._values(index % self.shape[3] * math.prod(shape), shape)

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
        give equal bytes; a volume kept by the cache leaves a file with its bytes as it is.

        Raises
        ------
        InputError
            The name does not end in ``.nii`` or ``.nii.gz``, the folder cannot be written, or NIfTI has no place for
            such an array.
        """
        path = Path(path)
        if not path.name.lower().endswith((".nii", ".nii.gz")):
            raise InputError(f"cannot save an image as {path.name!r}; expected a name that ends in .nii.gz or .nii.")
        encoded = volume.encoded_file() if path.name.lower().endswith(".nii.gz") else None
        if encoded is not None:
            if not (path.is_file() and _same_bytes(encoded, path)):
                with atomic_path(path) as temporary:
                    shutil.copyfile(encoded, temporary)
            return NiftiVolumeResource(path)
        array = np.asarray(volume.get_array())
        dtype = _dtype_on_disk(array, path)
        header = geometry.make_header(array.shape, dtype, np.asarray(volume.get_affine()), volume.get_metadata())
        head = header.binaryblock + b"\0\0\0\0"  # four zeros: no extension follows
        n_bytes = int(array.size) * dtype.itemsize
        with atomic_path(path) as temporary:
            if path.name.lower().endswith(".gz"):
                write_gzip(temporary, head, _file_order(array, dtype), n_bytes)
            else:
                with temporary.open("wb") as file:
                    file.write(head)
                    for piece in _file_order(array, dtype):
                        file.write(piece)
        return NiftiVolumeResource(path)

    @cached_property
    def _header(self) -> Header:
        return read_header(self.path)

    @cached_property
    def _affine(self) -> np.ndarray:
        return geometry.affine_of(self._header.nifti, self.path)

    def _values(self, first: int, shape: tuple[int, ...]) -> np.ndarray:
        """Voxels from number ``first`` on, in the given shape."""
        self._check_length()
        header = self._header
        out = np.empty(math.prod(shape), dtype=header.dtype_in_memory)
        converter = Converter(header, out)
        self._read(first, converter)
        if converter.is_inexact:  # labels beyond float32
            out = np.empty(math.prod(shape), dtype=header.dtype.newbyteorder("="))
            self._read(first, Converter(header, out))
        return out.reshape(shape, order="F")

    def _check_length(self) -> None:
        """Refuse a file that cannot hold what its header promises, before memory is asked for."""
        header = self._header
        size = header.voxels.stat().st_size
        promised = header.offset + math.prod(header.shape) * header.dtype.itemsize
        if promised > size * (_MAX_DEFLATE if is_gzip(header.voxels) else 1):
            raise InputError(
                f"{header.voxels} is damaged or was cut short: its header promises {promised} bytes, the file has "
                f"{size}. Copy or download it again."
            )

    def _read(self, first: int, converter: Converter) -> None:
        """Give the voxels from number ``first`` on to ``converter``, as many as it has room for."""
        header = self._header
        item = header.dtype.itemsize
        n_bytes = len(converter.out) * item
        read = read_gzip if is_gzip(header.voxels) else read_plain
        try:
            read(header.voxels, header.offset + first * item, n_bytes, converter)
        except CorruptFileError as error:
            raise InputError(
                f"{header.voxels} is damaged or was cut short ({error}); expected {n_bytes} bytes of voxels. "
                "Copy or download it again."
            ) from error
        except OSError as error:
            raise InputError(f"cannot read {header.voxels}: {error.strerror or error}.") from error


class Converter:
    """Turns bytes of a file into voxels in memory, as the header says.

    Parameters
    ----------
    header : of the file
    out : (n,) the voxels, of any type that the header allows
    """

    def __init__(self, header: Header, out: np.ndarray) -> None:
        self.out = out
        self.is_inexact = False  # whether an integer came by that ``out`` does not hold
        self._header = header
        is_wide = header.dtype.kind in "iu" and header.dtype.itemsize >= 4
        self._may_be_inexact = is_wide and out.dtype.kind == "f" and not header.is_scaled

    def __call__(self, position: int, data: bytes | memoryview) -> None:
        """Convert ``data``, which starts at byte ``position`` of the range that is read."""
        header = self._header
        values = np.frombuffer(data, dtype=header.dtype)
        first = position // header.dtype.itemsize
        target = self.out[first : first + len(values)]
        if self._may_be_inexact and (int(values.max()) > _EXACT or int(values.min()) < -_EXACT):
            self.is_inexact = True
        with np.errstate(over="ignore", invalid="ignore"):  # float64 beyond float32 becomes infinite, as in a cast
            if header.is_scaled:
                target[:] = values * np.float64(header.slope) + np.float64(header.intercept)
            else:
                target[:] = values


def _dtype_on_disk(array: np.ndarray, path: Path) -> np.dtype:
    if array.ndim < 1 or array.ndim > 7 or array.size == 0:
        raise InputError(f"cannot save an array of shape {array.shape} as {path.name}; expected (x, y, z[, n]).")
    if array.dtype.kind == "f":
        return np.dtype("<f4")
    if array.dtype.kind == "b":
        return np.dtype("u1")
    if array.dtype.kind not in "iu":
        raise InputError(f"cannot save values of type {array.dtype} as {path.name}; expected real numbers.")
    low, high = int(array.min()), int(array.max())
    for name in ("<u1", "<i2", "<i4", "<i8"):
        limits = np.iinfo(name)
        if limits.min <= low and high <= limits.max:
            return np.dtype(name)
    raise InputError(f"cannot save integers up to {high} as {path.name}; NIfTI ends at {np.iinfo('i8').max}.")


def _file_order(array: np.ndarray, dtype: np.dtype) -> Iterator[memoryview]:
    """The bytes of the array as the file holds them, x fastest, without a second copy of the whole."""
    if array.dtype == dtype and array.flags.f_contiguous:
        yield _bytes_of(array)
        return
    if array.ndim < 4:
        yield _bytes_of(np.asfortranarray(array, dtype=dtype))
        return
    if array.ndim > 4:
        for last in range(array.shape[-1]):
            yield from _file_order(array[..., last], dtype)
        return
    n_x, n_y, n_z, n = array.shape
    group = max(1, min(n, _GROUP_BYTES // (n_x * n_y * n_z * dtype.itemsize)))
    group -= group % 16 if group > 16 else 0  # whole cache lines of a volume-fastest array
    n_rows = max(1, _TILE_VALUES // (n_x * group))
    with ThreadPoolExecutor(n_threads()) as pool:
        for first in range(0, n, group):
            source = array[..., first : first + group]
            block = np.empty(source.shape, dtype=dtype, order="F")

            # through small tiles in the source's own order, which stay in the cache while they are turned
            def turn(z: int, block: np.ndarray = block, source: np.ndarray = source) -> None:
                for y in range(0, n_y, n_rows):
                    block[:, y : y + n_rows, z] = source[:, y : y + n_rows, z].astype(dtype, order="K")

            list(map(turn, range(n_z)) if n_threads() == 1 else pool.map(turn, range(n_z)))
            yield _bytes_of(block)


def _bytes_of(array: np.ndarray) -> memoryview:
    """The memory of an array that lies in file order."""
    return array.T.reshape(-1).view(np.uint8).data


def _same_bytes(first: Path, second: Path) -> bool:
    """Whether two files hold the same; pieces of 1 MiB take half the time of filecmp's 8 KiB."""
    if first.stat().st_size != second.stat().st_size:
        return False
    with first.open("rb", buffering=0) as one, second.open("rb", buffering=0) as other:
        while piece := one.read(_PIECE):
            if piece != other.read(_PIECE):
                return False
    return True
