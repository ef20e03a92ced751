"""Between images and rows: the voxels of a mask as rows for a model, and its answers back as volumes.

Rows follow the order in which NIfTI stores voxels (x fastest), whatever the memory layout of the arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from arcuate.errors import InputError, warn
from arcuate.numerics.compiled import kernel, run_in_chunks
from arcuate.volumes.geometry import MOST_APART, ROUNDING, Orientation, corners_apart, voxel_size
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource
from arcuate.volumes.series import TurnedVolume

R = TypeVar("R")

BLOCK = 50_000  # voxels per block: 40 MB of float32 for 200 volumes
_TILE = 256  # voxels gathered together: long reads from each volume, and rows that stay in the first cache
_CHUNK = 16 * _TILE  # of one thread at a time


def check_mask(volume: VolumeResource, mask: VolumeResource | None) -> np.ndarray:
    """(x, y, z) bool, the voxels to work on; all of them without a mask.

    A voxel is inside where the mask is at least 0.5; NaN is outside. A mask of shape (x, y, z, 1) is accepted.

    Parameters
    ----------
    volume : the scan, (x, y, z, n_meas)
    mask : the mask, (x, y, z), on the same grid, in any storage order of it

    Raises
    ------
    InputError
        The scan is not 4-D; the mask has another shape, lies elsewhere in the scanner, is empty, or holds no real
        numbers.
    """
    if len(volume.shape) != 4:
        raise InputError(
            f"found an image of shape {volume.shape}; expected 4 dimensions (x, y, z, volumes). "
            "Give the whole diffusion series, not a single volume of it."
        )
    grid = tuple(volume.shape[:3])
    if 0 in grid:
        raise InputError(
            f"found an image of shape {tuple(volume.shape)}, without a voxel; expected some along each axis."
        )
    if mask is None:
        return np.ones(grid, dtype=bool)
    mask = stored_like(volume, mask)
    shape = tuple(mask.shape)
    if shape[:3] != grid or shape[3:] not in {(), (1,)}:
        raise InputError(
            f"found a mask of shape {shape} for a scan of shape {tuple(volume.shape)}; expected {grid}. "
            "Resample the mask onto the grid of the scan, or make one with `arcuate mask`."
        )
    check_same_place(volume, mask, "the mask")
    array = np.asarray(mask.get_array()).reshape(grid)
    if array.dtype.kind not in "biuf":
        raise InputError(f"found a mask of the type {array.dtype}; expected 0 and 1, or shares from 0 to 1.")
    inside = array if array.dtype == bool else array >= 0.5  # NaN compares false
    if not inside.any():
        raise InputError("the mask is empty: no voxel is at or above 0.5. Check that it belongs to this scan.")
    return inside


def stored_like(volume: VolumeResource, other: VolumeResource) -> VolumeResource:
    """An image with its axes exchanged and flipped to those of another whose grid it has; itself where that is no use.

    Headers say where voxels lie, so that a mask drawn on a copy of the scan in another storage order (RAS and LAS, say)
    is the same mask. No voxel is read before it is asked for.

    Parameters
    ----------
    volume : the scan, (x, y, z, ...)
    other : an image (x', y', z', ...) of any grid
    """
    ours, theirs = (np.asarray(image.get_affine(), dtype=np.float64) for image in (volume, other))
    if len(other.shape) < 3 or min(*voxel_size(ours), *voxel_size(theirs)) <= 0:
        return other
    along = (ours[:3, :3] / voxel_size(ours)).T @ (theirs[:3, :3] / voxel_size(theirs))  # of our axes along theirs
    order = np.argmax(np.abs(along), axis=1)
    flips = along[np.arange(3), order] < 0
    if (not flips.any() and np.array_equal(order, (0, 1, 2))) or len(set(order.tolist())) < 3:
        return other
    turn = Orientation.of(tuple(order.tolist()), tuple(flips.tolist()), tuple(other.shape), theirs)
    shape = tuple(other.shape[axis] for axis in turn.order)
    far = MOST_APART * min(voxel_size(ours))
    if shape != tuple(volume.shape[:3]) or corners_apart(shape, ours, turn.affine) >= far:
        return other
    return TurnedVolume(other, turn)


def check_same_place(
    volume: VolumeResource,
    other: VolumeResource,
    what: str = "the mask",
    *,
    remedy: str = "resample it onto the scan, or, if only its header is wrong, copy the affine of the scan into it",
) -> None:
    """Refuse an image whose corners are half a voxel or more from those of the scan; warn above a twentieth.

    Parameters
    ----------
    volume, other : images (x, y, z, ...) of one shape
    what : what the other is, for the message
    remedy : what to do about one that lies elsewhere

    Raises
    ------
    InputError
        The other image lies elsewhere in the scanner.
    """
    ours, theirs = np.asarray(volume.get_affine(), float), np.asarray(other.get_affine(), float)
    apart = corners_apart(tuple(volume.shape[:3]), ours, theirs)
    smallest = min(voxel_size(ours))
    if apart < ROUNDING * smallest:
        return
    header = other.get_metadata()
    if np.array_equal(theirs, np.eye(4)):
        found = f"{what} has no geometry of its own (its affine is the identity)"
    elif header.get("sform_code") == 0 and header.get("qform_code") == 0:
        found = f"{what} has no geometry of its own (its sform and qform codes are 0)"
    elif apart < MOST_APART * smallest:
        found = f"the affine of {what} differs from that of the scan: its corners are up to {apart:.2g} mm off"
    else:
        raise InputError(
            f"{what} lies elsewhere: its corners are up to {apart:.3g} mm from those of the scan (voxels of "
            f"{smallest:.3g} mm), although both have {tuple(volume.shape[:3])} voxels. Expected the same grid: "
            f"{remedy}."
        )
    warn(f"{found}; taken as drawn voxel by voxel on the scan.")


def masked_blocks(
    array: np.ndarray, mask: np.ndarray, *, block: int = BLOCK, volumes: np.ndarray | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of at most ``block`` rows of the masked voxels, each with its place among all rows.

    Parameters
    ----------
    array : (x, y, z, n_meas)
        Read block by block, never copied as a whole.
    mask : (x, y, z) bool
    volumes : (n,) int or (n_meas,) bool
        Volumes to take, in this order; all by default.

    Yields
    ------
    place : slice into the rows of all masked voxels
    rows : (n_vox_in_block, n) float32, or float64 where the image is; a new array each time
    """
    picked = np.arange(array.shape[3]) if volumes is None else np.arange(array.shape[3])[volumes]
    picked = np.ascontiguousarray(picked, dtype=np.int64)
    dtype = np.float64 if array.dtype.itemsize > 4 and array.dtype.kind in "fiu" else np.float32
    index = np.flatnonzero(mask.ravel(order="F"))
    for start in range(0, len(index), block):
        place = slice(start, min(start + block, len(index)))
        yield place, _gather(array, index[place], picked, dtype)


def map_volumes(
    array: np.ndarray,
    inside: np.ndarray,
    function: Callable[[np.ndarray], R],
    volumes: Sequence[int] | np.ndarray | None = None,
) -> list[R]:
    """What ``function`` says of the values inside (n_inside,), x fastest, of each volume; on threads.

    So images lie in memory: no volume is copied for it.

    Parameters
    ----------
    array : (x, y, z, n_meas)
    inside : (x, y, z) bool
    function : given a new array
    volumes : (n,) int, which; all by default
    """
    index = np.flatnonzero(inside.ravel(order="F"))
    volumes = range(array.shape[3]) if volumes is None else volumes
    found: dict[int, R] = {}

    def work(begin: int, end: int) -> None:
        for place in range(begin, end):
            found[place] = function(array[..., volumes[place]].ravel(order="F")[index])

    run_in_chunks(work, len(volumes), 1)
    return [found[place] for place in range(len(volumes))]


def sums_of_slices(array: np.ndarray, inside: np.ndarray, volumes: Sequence[int] | np.ndarray) -> np.ndarray:
    """(n, z) float64: the sum of finite values inside, of each slice of these volumes of an image (x, y, z, n_meas)."""
    sizes = np.count_nonzero(inside, axis=(0, 1))
    filled = np.flatnonzero(sizes)
    begins = np.cumsum(sizes[filled]) - sizes[filled]
    sums = np.zeros((len(volumes), array.shape[2]))
    if len(filled) and len(volumes):
        sums[:, filled] = map_volumes(array, inside, lambda v: np.add.reduceat(_finite_or_0(v), begins), volumes)
    return sums


def _finite_or_0(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    is_finite = np.isfinite(values)
    return values if is_finite.all() else np.where(is_finite, values, 0.0)


def masked_rows(array: np.ndarray, mask: np.ndarray, *, volumes: np.ndarray | None = None) -> np.ndarray:
    """(n_vox, n) all rows that :func:`masked_blocks` gives; filled block by block, so that they are there once."""
    found: np.ndarray | None = None
    for place, rows in masked_blocks(array, mask, volumes=volumes):
        if found is None:
            found = np.empty((int(np.count_nonzero(mask)), rows.shape[1]), rows.dtype)
        found[place] = rows
    if found is None:
        return np.empty((0, np.arange(array.shape[3])[slice(None) if volumes is None else volumes].size), np.float32)
    return found


def fit_masked(
    array: np.ndarray,
    mask: np.ndarray,
    fit: Callable[[np.ndarray, slice], Mapping[str, np.ndarray]],
    *,
    volumes: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """What ``fit`` says of all masked voxels, by name: (n_vox, ...) float32, or uint8 where it gives that.

    Parameters
    ----------
    array, mask, volumes
        See :func:`masked_blocks`.
    fit
        Given rows (n, n_meas) and their place among all rows, arrays (n, ...) by name, the same names every time.
    """
    n_vox = int(np.count_nonzero(mask))
    fields: dict[str, np.ndarray] = {}
    for place, rows in masked_blocks(array, mask, volumes=volumes):
        for name, values in fit(rows, place).items():
            if name not in fields:
                dtype = np.uint8 if values.dtype == np.uint8 else np.float32
                fields[name] = np.empty((n_vox, *values.shape[1:]), dtype)
            fields[name][place] = values
    return fields


def scatter_fields(
    fields: Mapping[str, np.ndarray], mask: np.ndarray, like: VolumeResource
) -> dict[str, VolumeResource]:
    """Volumes (x, y, z, ...) of fields (n_vox, ...) on the grid of ``like``, 0 outside the mask."""
    return {name: like.with_array(scatter(values, mask, values.dtype)) for name, values in fields.items()}


def scatter(values: np.ndarray, mask: np.ndarray, dtype: np.typing.DTypeLike = np.float32) -> np.ndarray:
    """Volume (x, y, z, ...) that holds row ``v`` of ``values`` (n_vox, ...) in masked voxel ``v``, and 0 elsewhere."""
    index = np.flatnonzero(mask.ravel(order="F"))
    if len(values) != len(index):
        raise ValueError(f"{len(values)} rows for {len(index)} masked voxels")
    tail = values.shape[1:]
    volume = np.zeros((*mask.shape, *tail), dtype=dtype, order="F")
    n_columns = math.prod(tail)
    columns, rows = volume.reshape(mask.size, n_columns, order="F"), values.reshape(len(values), n_columns, order="F")

    def work(begin: int, end: int) -> None:
        for column in range(begin, end):
            columns[index, column] = rows[:, column]

    run_in_chunks(work, n_columns if len(rows) else 0, 1)
    return volume


def _gather(array: np.ndarray, index: np.ndarray, volumes: np.ndarray, dtype: type) -> np.ndarray:
    """Rows (n, n_volumes) of the voxels at the x-fastest positions ``index``."""
    rows: np.ndarray = np.empty((len(index), len(volumes)), dtype)
    # an image of one volume lies in C order as well, and the kernel would be compiled once more for that
    if array.flags.f_contiguous and array.dtype in (np.float32, np.float64) and array.shape[3] > 1:
        flat = array.reshape(-1, array.shape[3], order="F")

        def work(begin: int, end: int) -> None:
            _gather_voxels(flat, index[begin:end], volumes, rows[begin:end])

        run_in_chunks(work, len(index), _CHUNK)
        return rows
    i, j, k = np.unravel_index(index, array.shape[:3], order="F")
    if array.flags.c_contiguous:
        rows[:] = array[i, j, k][:, volumes]
    else:
        for column, volume in enumerate(volumes):
            rows[:, column] = array[..., volume][i, j, k]
    return rows


@kernel()
def _gather_voxels(flat, index, volumes, rows):  # type: ignore[no-untyped-def]
    """``rows[v, c] = flat[index[v], volumes[c]]``, in tiles whose rows stay in the first cache."""
    for tile in range((len(index) + _TILE - 1) // _TILE):
        first, last = tile * _TILE, min((tile + 1) * _TILE, len(index))
        for column in range(len(volumes)):
            for v in range(first, last):
                rows[v, column] = flat[index[v], volumes[column]]


def every_nth_voxel(volume: VolumeResource, factor: int) -> InMemoryVolumeResource:
    """Every ``factor``-th voxel of an image (x, y, z, ...), in memory; the centres of voxels stay where they were."""
    if int(factor) != factor or factor < 1:
        raise InputError(f"found the subsampling factor {factor}; expected a whole number, 1 or above.")
    step = int(factor)
    array = np.asarray(volume.get_array())[::step, ::step, ::step].copy(order="K")
    affine = volume.get_affine()
    affine[:3, :3] *= step
    return InMemoryVolumeResource(array, affine, volume.get_metadata())
