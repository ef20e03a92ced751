"""Voxels as files hold them: read in their order, turned into that order to be written; whatever the format."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arcuate.errors import InputError
from arcuate.io.gzip_blocks import CorruptFileError, Sink, is_gzip, read_gzip, read_plain, write_gzip
from arcuate.numerics.threads import in_order

_GROUP_BYTES = 1 << 26  # volumes brought into file order at once
_TILE_VALUES = 1 << 16  # of them, what is turned at once
_MAX_DEFLATE = 1032  # bytes that one byte of a deflate stream can stand for at most
_EXACT = 1 << 24  # float32 holds every integer up to here


@dataclass(frozen=True)
class StoredVoxels:
    """What a header says of the voxels of an image."""

    voxels: Path  # the file that holds them
    shape: tuple[int, ...]
    dtype: np.dtype  # in the file, byte order included
    offset: int  # bytes before the voxels
    slope: float
    intercept: float

    @property
    def is_scaled(self) -> bool:
        """Whether a value is not the number in the file."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    @property
    def dtype_in_memory(self) -> np.dtype:
        """float32, or the type of 8-bit integers."""
        if self.dtype in (np.uint8, np.int8) and not self.is_scaled:
            return self.dtype
        return np.dtype(np.float32)


def read_values(stored: StoredVoxels, first: int, n: int) -> np.ndarray:
    """(n,) values from number ``first`` on, in the order of the file, scaled as the header says.

    They come as float32; integers without scaling keep their type where they have 8 bits, and where one of them is
    beyond 2**24, which float32 would change.

    Raises
    ------
    InputError
        The file cannot be read, or is shorter than its header promises.
    """
    check_length(stored, math.prod(stored.shape) * stored.dtype.itemsize)
    out = np.empty(n, dtype=stored.dtype_in_memory)
    converter = Converter(stored, out)
    item = stored.dtype.itemsize
    read_bytes(stored, first * item, n * item, converter)
    if converter.is_inexact:  # labels beyond float32
        out = np.empty(n, dtype=stored.dtype.newbyteorder("="))
        read_bytes(stored, first * item, n * item, Converter(stored, out))
    return out


def read_values_into(stored: StoredVoxels, out: np.ndarray) -> bool:
    """As :func:`read_values`, all of them into ``out`` (n,); False where its type does not hold one of them."""
    n_bytes = out.size * stored.dtype.itemsize
    check_length(stored, n_bytes)
    converter = Converter(stored, out)
    read_bytes(stored, 0, n_bytes, converter)
    return not converter.is_inexact


def check_length(stored: StoredVoxels, n_bytes: int) -> None:
    """Refuse a file that cannot hold the voxels its header promises, before memory is asked for."""
    size = stored.voxels.stat().st_size
    promised = stored.offset + n_bytes
    if promised > size * (_MAX_DEFLATE if is_gzip(stored.voxels) else 1):
        raise InputError(
            f"{stored.voxels} is damaged or was cut short: its header promises {promised} bytes, the file has "
            f"{size}. Copy or download it again."
        )


def check_whole(stored: StoredVoxels, n_bytes: int) -> None:
    """Refuse a file that does not hold the ``n_bytes`` of voxels its header promises.

    Gzip keeps the length of its content in its last four bytes. Only a file of which these say something else, one of
    several members or one cut short, is read.
    """
    check_length(stored, n_bytes)
    if not is_gzip(stored.voxels):
        return
    with stored.voxels.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
    if length != (stored.offset + n_bytes) & 0xFFFFFFFF:
        read_bytes(stored, 0, n_bytes, lambda position, data: None)


def read_bytes(stored: StoredVoxels, start: int, n_bytes: int, sink: Sink) -> None:
    """Give ``n_bytes`` from byte ``start`` of the voxels on to ``sink``, in parts, in any order."""
    read = read_gzip if is_gzip(stored.voxels) else read_plain
    try:
        read(stored.voxels, stored.offset + start, n_bytes, sink)
    except CorruptFileError as error:
        raise InputError(
            f"{stored.voxels} is damaged or was cut short ({error}); expected {n_bytes} bytes of voxels. "
            "Copy or download it again."
        ) from error
    except OSError as error:
        raise InputError(f"cannot read {stored.voxels}: {error.strerror or error}.") from error


class ByteSink:
    """Keeps the bytes as they are, (n,) uint8 in ``out``."""

    def __init__(self, n_bytes: int) -> None:
        self.out = np.zeros(n_bytes, np.uint8)

    def __call__(self, position: int, data: bytes | memoryview) -> None:
        """Take ``data``, which starts at byte ``position`` of the range that is read."""
        self.out[position : position + len(data)] = np.frombuffer(data, np.uint8)


class Converter:
    """Turns bytes of a file into voxels in memory, as the header says.

    Parameters
    ----------
    stored : what the header says
    out : (n,) the voxels, of any type that the header allows
    """

    def __init__(self, stored: StoredVoxels, out: np.ndarray) -> None:
        self.out = out
        self.is_inexact = False  # whether an integer came by that ``out`` does not hold
        self._stored = stored
        is_wide = stored.dtype.kind in "iu" and stored.dtype.itemsize >= 4
        self._may_be_inexact = is_wide and out.dtype.kind == "f" and not stored.is_scaled

    def __call__(self, position: int, data: bytes | memoryview) -> None:
        """Convert ``data``, which starts at byte ``position`` of the range that is read."""
        stored = self._stored
        values = np.frombuffer(data, dtype=stored.dtype)
        first = position // stored.dtype.itemsize
        target = self.out[first : first + len(values)]
        if self._may_be_inexact and (int(values.max()) > _EXACT or int(values.min()) < -_EXACT):
            self.is_inexact = True
        with np.errstate(over="ignore", invalid="ignore"):  # float64 beyond float32 becomes infinite, as in a cast
            if stored.is_scaled:
                target[:] = values * np.float64(stored.slope) + np.float64(stored.intercept)
            else:
                target[:] = values


def write_voxels(temporary: Path, head: bytes, array: np.ndarray, dtype: np.dtype, *, is_gzipped: bool) -> None:
    """Write ``head`` and then the voxels, x fastest."""
    if is_gzipped:
        write_gzip(temporary, head, file_order(array, dtype), int(array.size) * dtype.itemsize)
        return
    with temporary.open("wb") as file:
        file.write(head)
        for piece in file_order(array, dtype):
            file.write(piece)


def dtype_on_disk(array: np.ndarray, path: Path) -> np.dtype:
    """Type in which values are written: float32, uint8 for truth, the smallest that holds the integers.

    Raises
    ------
    InputError
        There are no voxels, too many axes, or values that are no real numbers.
    """
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
    raise InputError(f"cannot save integers up to {high} as {path.name}; image formats end at {np.iinfo('i8').max}.")


def file_order(array: np.ndarray, dtype: np.dtype) -> Iterator[memoryview]:
    """The bytes of the array as the file holds them, x fastest, without a second copy of the whole."""
    if array.dtype == dtype and array.flags.f_contiguous:
        yield _bytes_of(array)
        return
    if array.ndim < 4:
        yield _bytes_of(np.asfortranarray(array, dtype=dtype))
        return
    if array.ndim > 4:
        for last in range(array.shape[-1]):
            yield from file_order(array[..., last], dtype)
        return
    n_x, n_y, n_z, n = array.shape
    group = max(1, min(n, _GROUP_BYTES // (n_x * n_y * n_z * dtype.itemsize)))
    group -= group % 16 if group > 16 else 0  # whole cache lines of a volume-fastest array
    n_rows = max(1, _TILE_VALUES // (n_x * group))
    for first in range(0, n, group):
        source = array[..., first : first + group]
        block = np.empty(source.shape, dtype=dtype, order="F")

        # through small tiles in the source's own order, which stay in the cache while they are turned
        def turn(z: int, block: np.ndarray = block, source: np.ndarray = source) -> None:
            for y in range(0, n_y, n_rows):
                block[:, y : y + n_rows, z] = source[:, y : y + n_rows, z].astype(dtype, order="K")

        for _ in in_order(turn, range(n_z)):
            pass
        yield _bytes_of(block)


def _bytes_of(array: np.ndarray) -> memoryview:
    """The memory of an array that lies in file order."""
    return array.T.reshape(-1).view(np.uint8).data
