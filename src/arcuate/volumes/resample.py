"""Values of an image between its voxels: linear, cubic, nearest neighbour, and by vote for labels."""

from __future__ import annotations

import numpy as np
import scipy

from arcuate.errors import InputError
from arcuate.numerics.interpolation import interpolate_linearly, vote_of_neighbours

INTERPOLATIONS = {  # our names and those of ANTs
    "linear": "linear", "nearest": "nearest", "nearestneighbor": "nearest", "nearestneighbour": "nearest",
    "label": "label", "genericlabel": "label", "multilabel": "label", "cubic": "cubic", "bspline": "cubic",
}  # fmt: skip


def interpolation_of(name: str) -> str:
    """Our name of an interpolation: linear, nearest, label or cubic.

    Raises
    ------
    InputError
        There is no such interpolation.
    """
    found = INTERPOLATIONS.get(name.replace("_", "").lower())
    if found is None:
        raise InputError(
            f"found the interpolation {name!r}; expected linear, nearest, label or cubic (ANTs' nearestNeighbor, "
            "genericLabel and bSpline are understood)."
        )
    return found


def prepared(array: np.ndarray, interpolation: str) -> np.ndarray:
    """The image (x, y, z[, n]) as :func:`sample` needs it: for cubic the coefficients of its splines, float64.

    Whoever samples block by block prepares once: it takes longer than the values of a block.
    """
    if interpolation in {"linear", "label"}:
        kind = array.dtype.newbyteorder("=")
        if interpolation == "linear" and kind not in {np.dtype(np.float32), np.dtype(np.float64)}:
            kind = np.dtype(np.float64)
        return np.ascontiguousarray(array, dtype=kind)
    if interpolation != "cubic":
        return array
    if array.ndim == 4:
        return np.stack([prepared(array[..., n], interpolation) for n in range(array.shape[3])], axis=-1)
    return scipy.ndimage.spline_filter(np.asarray(array, dtype=np.float64), order=3, mode="mirror")


def sample(
    array: np.ndarray,
    voxels: np.ndarray,
    interpolation: str = "linear",
    outside: float = 0.0,
    *,
    is_prepared: bool = False,
) -> np.ndarray:
    """Values at places between voxels.

    Parameters
    ----------
    array : (x, y, z) or (x, y, z, n)
    voxels : (n_points, 3) float, voxel indices; an image ends half a voxel beyond the centres of its outer voxels
    interpolation : linear, nearest, label (the label with the largest linear weight; of equal ones the lowest) or
        cubic (B-splines)
    outside : value beyond the image
    is_prepared : whether the array is what :func:`prepared` made of an image

    Returns
    -------
    (n_points,) or (n_points, n); float64, or the type of the array for nearest and label
    """
    if interpolation in {"linear", "label"}:
        ready = array if is_prepared else prepared(array, interpolation)
        of_points = vote_of_neighbours if interpolation == "label" else interpolate_linearly
        return of_points(ready.reshape(*ready.shape[:3], -1), voxels, outside).reshape(-1, *array.shape[3:])
    size = np.array(array.shape[:3])
    inside = np.all((voxels >= -0.5) & (voxels < size - 0.5), axis=1)
    if interpolation == "nearest":
        i, j, k = np.clip(np.floor(voxels[inside] + 0.5).astype(np.int64), 0, size - 1).T
        values = array[i, j, k]
    else:
        values = _cubic(array if is_prepared else prepared(array, "cubic"), voxels[inside])
    out = np.full((len(voxels), *array.shape[3:]), outside, dtype=values.dtype)
    out[inside] = values
    return out


def _cubic(array: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values (n[, m]) float64 of splines at places (n, 3), half a voxel beyond the outer centres included."""
    if array.ndim == 4:
        return np.stack([_cubic(array[..., n], at) for n in range(array.shape[3])], axis=-1)
    return scipy.ndimage.map_coordinates(array, at.T, order=3, mode="mirror", prefilter=False)
