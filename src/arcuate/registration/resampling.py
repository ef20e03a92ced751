"""A volume on another grid, through a transform; tensors, FODs and peaks turned along."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arcuate.errors import InputError
from arcuate.models.reorient import reorient_fods, reorient_tensors, reorient_vectors
from arcuate.numerics.interpolation import grid_points, map_points
from arcuate.volumes.geometry import voxel_size
from arcuate.volumes.resample import prepared, sample
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource
from arcuate.volumes.transforms import Transform, jacobians

KINDS = ("scalar", "tensor", "fod", "peaks")
_BLOCK = 1 << 16  # voxels resampled at once


@dataclass(frozen=True)
class Options:
    interpolation: str
    kind: str
    modulate: bool


def resampled(
    transform: Transform, volume: VolumeResource, reference: VolumeResource, options: Options
) -> InMemoryVolumeResource:
    """The volume on the grid of the reference; block by block."""
    interpolation = _check_kind(volume.shape, options)
    array = np.asarray(volume.get_array())
    vectors = prepared(array.reshape(*array.shape[:3], -1) if array.ndim == 5 else array, interpolation)
    grid, affine = tuple(reference.shape[:3]), reference.get_affine()
    to_voxels = np.linalg.inv(volume.get_affine())
    n_vox = int(np.prod(grid))
    dtype = array.dtype if interpolation in {"nearest", "label"} and options.kind == "scalar" else np.dtype(np.float32)
    out = np.zeros((n_vox, *vectors.shape[3:]), dtype=dtype)
    step = 0.5 * min(voxel_size(affine))
    for start in range(0, n_vox, _BLOCK):
        rows = slice(start, min(start + _BLOCK, n_vox))
        points = grid_points(rows.start, rows.stop, (grid[0], grid[1], grid[2]), affine)
        voxels = map_points(transform.map(points), to_voxels)
        values = sample(vectors, voxels, interpolation, is_prepared=True)
        if options.kind != "scalar":
            values = np.nan_to_num(values)
            inside = np.any(values != 0, axis=1)
            forward = np.linalg.inv(jacobians(transform, points[inside], step))
            values[inside] = _turned(values[inside], forward, options)
        out[rows] = values
    return InMemoryVolumeResource(out.reshape(*grid, *array.shape[3:]), affine, reference.get_metadata())


def _turned(values: np.ndarray, forward: np.ndarray, options: Options) -> np.ndarray:
    if options.kind == "tensor":
        return reorient_tensors(values, forward)
    if options.kind == "fod":
        return reorient_fods(values, forward, modulate=options.modulate)
    return reorient_vectors(values.reshape(len(values), -1, 3).astype(np.float64), forward).reshape(len(values), -1)


def _check_kind(shape: tuple[int, ...], options: Options) -> str:
    """The interpolation to use for this kind of volume, or a refusal."""
    kind, last = options.kind, shape[3] if len(shape) == 4 else 0
    if kind not in KINDS:
        raise InputError(f"found the kind {kind!r}; expected one of {', '.join(KINDS)}.")
    if options.modulate and kind != "fod":
        raise InputError(f"found modulation for the kind {kind!r}; it is for FODs (kind fod). Leave it out.")
    fits = {
        "scalar": len(shape) in {3, 4},
        "tensor": last == 6,
        "fod": last in {1, 6, 15, 28, 45, 66, 91, 120},
        "peaks": (len(shape) == 5 and shape[4] == 3) or (last > 0 and last % 3 == 0),
    }
    if not fits[kind]:
        expected = {"scalar": "(x, y, z[, n])", "tensor": "(x, y, z, 6)", "fod": "(x, y, z, n_coef) of an even degree",
                    "peaks": "(x, y, z, 3 n)"}[kind]  # fmt: skip
        raise InputError(f"found a volume of shape {tuple(shape)} for the kind {kind!r}; expected {expected}.")
    return "nearest" if kind == "peaks" else options.interpolation
