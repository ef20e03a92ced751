"""Chosen slices of FODs as the viewer takes them: coefficients as float16, a few hundred kilobytes each."""

from __future__ import annotations

from typing import Any

import numpy as np

from arcuate.figures.panels import robust_limits
from arcuate.figures.views import PLANES, View
from arcuate.numerics.sh import lmax_of, sh_matrix
from arcuate.numerics.sphere import get_hemisphere
from arcuate.report.arrays import Arrays
from arcuate.report.layers import pack
from arcuate.report.subject import SubjectFiles
from arcuate.report.viewer_grid import ViewerGrid

BUDGET = 1_600_000  # bytes of coefficients, before they are packed
_SHARES = {"axial": 0.5, "coronal": 0.25, "sagittal": 0.25}
_MOST = 11  # slices of one plane
_FAINT = 0.04  # of a strong FOD: less cannot be seen


def viewer_glyphs(
    subject: SubjectFiles, grid: ViewerGrid, planes: list[str], arrays: Arrays | None = None
) -> dict[str, Any] | None:
    """What ``js/src/glyphs.js`` reads; None if the run made no FODs.

    Directions of FODs are in the scanner frame: ``frame`` turns them onto the axes of the grid.
    """
    found = subject.get_map(subject.csd_model, "fod") if subject.csd_model else None
    if found is None:
        return None
    arrays = arrays or Arrays(subject)
    coefs = grid.take(arrays.of(found))
    tops = _tops(coefs, grid.mask)
    if not np.any(tops > 0):
        return None
    unit = _strong(tops, planes[0], grid)
    picture = _anatomy(arrays, grid)
    shown = tops > _FAINT * unit
    slices = []
    for plane in planes:
        chosen = _chosen(shown, plane, coefs.shape[-1], sum(_SHARES[p] for p in planes))
        slices += [_slice(coefs, shown, picture, View(plane, index), unit) for index in chosen]
    size = grid.frame.voxel_size
    return {
        "nCoef": coefs.shape[-1],
        "spacing": [float(s) for s in size / size.min()],
        "frame": grid.frame.rotation.T.tolist(),
        "start": grid.start,
        "first": _first(slices, planes[0], grid),
        "slices": slices,
    }


def _tops(coefs: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(nx, ny, nz) float32: largest amplitude of each FOD in the mask, 0 elsewhere."""
    basis = sh_matrix(np.asarray(get_hemisphere("repulsion100").vertices), lmax_of(coefs.shape[-1])).astype(np.float32)
    tops = np.zeros(mask.shape, np.float32)
    for z in range(mask.shape[2]):
        inside = mask[:, :, z]
        rows = np.asarray(coefs[:, :, z][inside], dtype=np.float32)
        tops[:, :, z][inside] = np.nan_to_num((rows @ basis.T).max(axis=1, initial=0.0), posinf=0.0)
    return tops


def _strong(tops: np.ndarray, plane: str, grid: ViewerGrid) -> float:
    """Largest amplitude from which FODs are drawn alike, as in the still pictures."""
    middle = np.take(tops, grid.middle[PLANES[plane]], axis=PLANES[plane])
    known = middle[middle > 0] if np.any(middle > 0) else tops[tops > 0]
    return float(np.percentile(known, 60))


def _anatomy(arrays: Arrays, grid: ViewerGrid) -> np.ndarray:
    """(nx, ny, nz) uint8 behind the glyphs: FA, or white where there is none."""
    fa = arrays.subject.get_map("tensor", "fa")
    if fa is None:
        return (255 * grid.mask).astype(np.uint8)
    values = np.nan_to_num(grid.take(arrays.of(fa)))
    low, high = robust_limits(values)
    return np.asarray(np.clip(255 * (values - low) / (high - low), 0, 255)).astype(np.uint8)


def _chosen(shown: np.ndarray, plane: str, n_coef: int, shares: float) -> list[int]:
    """Slices of a plane, spread over what is to be seen, as many as the budget allows."""
    counts = shown.sum(axis=tuple(a for a in range(3) if a != PLANES[plane]))
    worth = np.flatnonzero(counts >= 0.2 * counts.max())
    one = 2 * n_coef * float(counts[worth].mean())
    n = int(np.clip(_SHARES[plane] / shares * BUDGET // one, 1, min(_MOST, len(worth))))
    places = np.linspace(0, len(worth) - 1, n + 2)[1:-1] if n < len(worth) else np.arange(n)
    return sorted({int(worth[round(at)]) for at in places})


def _slice(coefs: np.ndarray, shown: np.ndarray, picture: np.ndarray, view: View, unit: float) -> dict[str, Any]:
    index = view.slice_of(shown.shape[view.axis])
    # np.take would copy the whole of a reordered image first
    flat, thin, grey = (np.moveaxis(array, view.axis, 0)[index] for array in (shown, coefs, picture))  # (across, up)
    voxels = np.argwhere(flat)
    halves = (thin[flat] / unit).astype("<f2")
    content = voxels.astype("<u2").tobytes() + halves.tobytes() + np.ascontiguousarray(grey.T).tobytes()
    return {
        "plane": view.plane,
        "index": index,
        "n": len(voxels),
        "unit": unit,
        "box": [0, 0, *grey.shape],
        "bytes": pack(content),
    }


def _first(slices: list[dict[str, Any]], plane: str, grid: ViewerGrid) -> int:
    """Number of the slice to begin with: the one nearest to the middle."""
    middle = grid.middle[PLANES[plane]]
    return min((k for k, s in enumerate(slices) if s["plane"] == plane), key=lambda k: abs(slices[k]["index"] - middle))
