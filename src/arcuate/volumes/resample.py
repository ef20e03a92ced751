"""Values of an image between its voxels: linear, cubic, nearest neighbour, and by vote for labels."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import ndimage

from arcuate.errors import InputError

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

    Whoever samples block by block prepares once: the coefficients take longer than the values.
    """
    if interpolation != "cubic":
        return array
    if array.ndim == 4:
        return np.stack([prepared(array[..., n], interpolation) for n in range(array.shape[3])], axis=-1)
    return ndimage.spline_filter(np.asarray(array, dtype=np.float64), order=3, mode="mirror")


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
    size = np.array(array.shape[:3])
    inside = np.all((voxels >= -0.5) & (voxels < size - 0.5), axis=1)
    at = np.clip(voxels[inside], 0, size - 1)
    if interpolation == "nearest":
        i, j, k = np.clip(np.floor(voxels[inside] + 0.5).astype(np.int64), 0, size - 1).T
        values = array[i, j, k]
    elif interpolation == "label":
        values = _vote(array, at)
    elif interpolation == "cubic":
        values = _cubic(array if is_prepared else prepared(array, "cubic"), voxels[inside])
    elif array.ndim == 4:
        values = np.stack([_linear(array[..., n], at) for n in range(array.shape[3])], axis=-1)
    else:
        values = _linear(array, at)
    out = np.full((len(voxels), *array.shape[3:]), outside, dtype=values.dtype)
    out[inside] = values
    return out


def _linear(array: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values (n,) float64 at places (n, 3) within the image (x, y, z)."""
    return ndimage.map_coordinates(np.asarray(array, dtype=np.float64), at.T, order=1, mode="nearest", prefilter=False)


def _cubic(array: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values (n[, m]) float64 of splines at places (n, 3), half a voxel beyond the outer centres included."""
    if array.ndim == 4:
        return np.stack([_cubic(array[..., n], at) for n in range(array.shape[3])], axis=-1)
    return ndimage.map_coordinates(array, at.T, order=3, mode="mirror", prefilter=False)


def _vote(array: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Labels (n[, m]) with the largest sum of linear weights at places (n, 3); of equal ones the lowest."""
    if array.ndim == 4:
        return np.stack([_vote(array[..., n], at) for n in range(array.shape[3])], axis=-1)
    low = np.minimum(np.floor(at).astype(np.int64), np.maximum(np.array(array.shape) - 2, 0))
    part = at - low
    labels, weights = np.empty((8, len(at)), array.dtype), np.empty((8, len(at)))
    for n, corner in enumerate(itertools.product((0, 1), repeat=3)):
        i, j, k = np.minimum(low + corner, np.array(array.shape) - 1).T
        labels[n] = array[i, j, k]
        weights[n] = np.prod(np.where(corner, part, 1 - part), axis=1)
    order = np.argsort(labels, axis=0, kind="stable")  # equal sums: the first, which is the lowest
    labels, weights = np.take_along_axis(labels, order, 0), np.take_along_axis(weights, order, 0)
    sums = np.stack([np.sum(np.where(labels == labels[n], weights, 0.0), axis=0) for n in range(8)])
    best = np.argmax(np.round(sums, 12), axis=0)
    return np.take_along_axis(labels, best[None], 0)[0]
