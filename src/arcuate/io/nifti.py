"""NIfTI images, one file each (.nii, .nii.gz; NIfTI-1 and NIfTI-2)."""

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
    Sink,
    is_gzip,
    n_threads,
    read_gzip,
    read_head,
    read_plain,
    write_gzip,
)
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource

_HEADER_SIZE = {348: 352, 540: 544}  # sizeof_hdr: bytes up to the voxels, without extensions
_GROUP_BYTES = 1 << 26  # volumes brought into file order at once
_TILE_VALUES = 1 << 16  # of them, what is turned at once
_MAX_DEFLATE = 1032  # bytes that one byte of a deflate stream can stand for at most


@dataclass(frozen=True)
class NiftiVolumeResource(VolumeResource):
    """A volume in a NIfTI file, read when asked for.

    Voxels come as float32 in file order (x fastest), scaled as the header says, without a float64 copy; images of
    8-bit integers without scaling (masks, labels, bundles) keep their type. The affine, the shape and the metadata
    come from the header alone.

    Parameters
    ----------
    path : the file, ``.nii`` or ``.nii.gz``; what it is, is told by its content
    """

    path: Path

    def __init__(self, path: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "path", Path(path))

    def load(self) -> InMemoryVolumeResource:
        return InMemoryVolumeResource(self.get_array(), self.get_affine(), self.get_metadata())

    def get_array(self) -> np.ndarray:
        self._check_length()
        out = np.empty(math.prod(self.shape), dtype=self._header.dtype_in_memory)
        self._read(0, out)
        return out.reshape(self.shape, order="F")

    def get_volume(self, index: int) -> np.ndarray:
        """One volume (x, y, z) of a 4-D image; quick for ``.nii`` and for files that arcuate wrote."""
        if len(self.shape) != 4 or not -self.shape[3] <= index < self.shape[3]:
            raise InputError(f"{self.path} has the shape {self.shape}; it has no volume {index}.")
        self._check_length()
        out = np.empty(math.prod(self.shape[:3]), dtype=self._header.dtype_in_memory)
        self._read(index % self.shape[3] * len(out), out)
        return out.reshape(self.shape[:3], order="F")

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
        give equal bytes.

        Raises
        ------
        InputError
            The name does not end in ``.nii`` or ``.nii.gz``, the folder cannot be written, or NIfTI has no place for
            such an array.
        """
        path = Path(path)
        if not path.name.lower().endswith((".nii", ".nii.gz")):
            raise InputError(f"cannot save an image as {path.name!r}; expected a name that ends in .nii.gz or .nii.")
        stored: Path | None = getattr(volume, "stored_file", None)  # of a cached volume: the same bytes, made before
        if stored is not None and path.name.lower().endswith(".nii.gz"):
            with atomic_path(path) as temporary:
                shutil.copyfile(stored, temporary)
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
    def _header(self) -> _Header:
        return _read_header(self.path)

    @cached_property
    def _affine(self) -> np.ndarray:
        return geometry.affine_of(self._header.nifti, self.path)

    def _check_length(self) -> None:
        """Refuse a file that cannot hold what its header promises, before memory is asked for."""
        header, size = self._header, self.path.stat().st_size
        promised = header.offset + math.prod(header.shape) * header.dtype.itemsize
        if promised > size * (_MAX_DEFLATE if is_gzip(self.path) else 1):
            raise InputError(
                f"{self.path} is damaged or was cut short: its header promises {promised} bytes, the file has {size}. "
                "Copy or download it again."
            )

    def _read(self, first: int, out: np.ndarray) -> None:
        """Fill ``out`` (flat) with the voxels from number ``first`` on."""
        header = self._header
        item = header.dtype.itemsize
        read = read_gzip if is_gzip(self.path) else read_plain
        try:
            read(self.path, header.offset + first * item, len(out) * item, _converter(header, out))
        except CorruptFileError as error:
            raise InputError(
                f"{self.path} is damaged or was cut short ({error}); expected {len(out) * item} bytes of voxels. "
                "Copy or download it again."
            ) from error
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror or error}.") from error


@dataclass(frozen=True)
class _Header:
    nifti: Any  # nibabel's Nifti1Header or Nifti2Header
    shape: tuple[int, ...]
    dtype: np.dtype  # in the file, byte order included
    offset: int  # bytes before the voxels
    slope: float
    intercept: float

    @property
    def is_scaled(self) -> bool:
        return (self.slope, self.intercept) != (1.0, 0.0)

    @property
    def dtype_in_memory(self) -> np.dtype:
        if self.dtype in (np.uint8, np.int8) and not self.is_scaled:
            return self.dtype
        return np.dtype(np.float32)


def _read_header(path: Path) -> _Header:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    def refuse(why: str) -> InputError:
        return InputError(f"{path} cannot be read as NIfTI: {why}. Expected one .nii or .nii.gz file.")

    if not path.exists():
        raise InputError(f"{path} does not exist. Check the path.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected a .nii or .nii.gz file.")
    try:
        head = read_head(path, 540)
    except CorruptFileError as error:
        raise refuse(f"its gzip stream is damaged ({error})") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}.") from error
    for endianness in "<>":
        size = int(np.frombuffer(head[:4].ljust(4, b"\0"), f"{endianness}i4")[0])
        if size in _HEADER_SIZE:
            break
    else:
        raise refuse("it does not start with a NIfTI header" if len(head) >= 348 else f"it has {len(head)} bytes only")
    if len(head) < size:
        raise refuse("it ends within its header")
    header = (Nifti1Header if size == 348 else Nifti2Header)(head[:size], endianness, check=False)
    magic = bytes(header["magic"])[:3]
    if magic in (b"ni1", b"ni2"):
        raise refuse("its voxels lie in a second file (.hdr and .img)")
    if magic not in (b"n+1", b"n+2"):
        raise refuse("its header is not marked as NIfTI (Analyze?)")
    n_dim = int(header["dim"][0])
    shape = tuple(int(d) for d in header["dim"][1 : n_dim + 1])
    if not 1 <= n_dim <= 7 or any(d < 1 for d in shape):
        raise refuse(f"its header gives the dimensions {[int(d) for d in header['dim']]}")
    try:
        dtype = header.get_data_dtype()
    except Exception as error:  # nibabel raises several kinds for codes it does not know
        raise refuse(f"its data type has the unknown code {int(header['datatype'])}") from error
    if dtype.kind not in "iuf":
        raise refuse(f"its voxels are of the type {dtype}; arcuate reads integers and real numbers")
    offset = float(header["vox_offset"])
    if not np.isfinite(offset) or (offset != 0 and offset < _HEADER_SIZE[size] - 4) or offset != int(offset):
        raise refuse(f"its header places the voxels at byte {offset:g}")
    return _Header(header, shape, dtype, int(offset) or _HEADER_SIZE[size], *_scaling(header))


def _scaling(header: Any) -> tuple[float, float]:
    """Slope and intercept, (1, 0) where the header asks for none."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0:
        return 1.0, 0.0
    return slope, intercept if np.isfinite(intercept) else 0.0


def _converter(header: _Header, out: np.ndarray) -> Sink:
    item = header.dtype.itemsize

    def convert(position: int, data: bytes | memoryview) -> None:
        values = np.frombuffer(data, dtype=header.dtype)
        target = out[position // item : position // item + len(values)]
        with np.errstate(over="ignore", invalid="ignore"):  # float64 beyond float32 becomes infinite, as in a cast
            if header.is_scaled:
                target[:] = values * np.float64(header.slope) + np.float64(header.intercept)
            else:
                target[:] = values

    return convert


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

            list(pool.map(turn, range(n_z)))
            yield _bytes_of(block)


def _bytes_of(array: np.ndarray) -> memoryview:
    """The memory of an array that lies in file order."""
    return array.T.reshape(-1).view(np.uint8).data
