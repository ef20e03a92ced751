"""Recursive calibration of a response on voxels that show one peak (Tax 2014)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from arcuate.models.peaks import find_peaks_on_grid
from arcuate.models.response_zonal import zonal_harmonics

_BLOCK = 5_000  # voxels whose amplitudes are held together


def calibrate(
    signals: np.ndarray,
    where_dwi: np.ndarray,
    directions: np.ndarray,
    deconvolve: Callable[[np.ndarray, np.ndarray | None], np.ndarray],
    vertices: np.ndarray,
    edges: np.ndarray,
    *,
    lmax: int = 8,
    peak_thr: float = 0.01,
    n_rounds: int = 8,
    convergence: float = 0.001,
) -> tuple[np.ndarray, np.ndarray]:
    """Zonal response and the voxels it comes from.

    Parameters
    ----------
    signals : (n_vox, n_meas) float
    where_dwi : (n_dir,) int, weighted volumes
    directions : (n_dir, 3) float, their unit directions
    deconvolve : ``(signals, zonal or None) -> (n, n_vertices)``
        Amplitudes of the FODs on the vertices; None asks for the first, fat response.
    vertices, edges : the sphere on which peaks are looked for
    lmax : degree of the response
    peak_thr : a voxel counts as single-fibre when its second peak is below this fraction of the first
    n_rounds : most rounds
    convergence : stops when no coefficient changes by more than this fraction

    Returns
    -------
    zonal : (lmax/2 + 1,) float
    is_single : (n_vox,) bool

    Notes
    -----
    Each round deconvolves the voxels left over by the one before, drops those with more than one peak (and those
    without any), and averages the zonal least squares fits of the rest about their peaks. A fit is linear and
    depends on the voxel through its peak vertex only: signals are summed per vertex first.

    References
    ----------
    Tax, Jeurissen, Vos, Viergever, Leemans 2014, NeuroImage 86:67.
    """
    kept = np.arange(len(signals))
    fits = _zonal_fits(directions, vertices, lmax)
    before, zonal = np.ones(lmax // 2 + 1), None
    for _ in range(n_rounds):
        first = np.concatenate(
            [
                _single_peaks(deconvolve(signals[kept[start : start + _BLOCK]], zonal), vertices, edges, peak_thr)
                for start in range(0, len(kept), _BLOCK)
            ]
            or [np.zeros(0, dtype=np.int64)]
        )
        kept, first = kept[first >= 0], first[first >= 0]
        if len(kept) == 0:
            break
        sums = _sum_per_vertex(signals[kept][:, where_dwi], first, len(vertices))
        zonal = np.einsum("vld,vd->l", fits, sums) / len(kept)
        change = np.abs((before - zonal) / before)
        if np.all(change < convergence):
            break
        before = zonal
    is_single = np.zeros(len(signals), dtype=bool)
    is_single[kept] = True
    return (np.zeros(lmax // 2 + 1) if zonal is None else zonal), is_single


def _single_peaks(amplitudes: np.ndarray, vertices: np.ndarray, edges: np.ndarray, peak_thr: float) -> np.ndarray:
    """Vertex of the only peak, or -1."""
    peaks = find_peaks_on_grid(
        amplitudes, vertices, edges, n_peaks=2, relative_peak_threshold=peak_thr, min_separation_angle=25
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        is_single = peaks.values[:, 1] / peaks.values[:, 0] < peak_thr  # NaN without a peak: not single
    return np.where(is_single, peaks.indices[:, 0], -1).astype(np.int64)


def _zonal_fits(directions: np.ndarray, vertices: np.ndarray, lmax: int) -> np.ndarray:
    """(n_vertices, lmax/2 + 1, n_dir) zonal least squares fits about each vertex."""
    cosines = vertices @ directions.T
    basis = zonal_harmonics(cosines.ravel(), lmax).reshape(-1, *cosines.shape)
    return np.linalg.pinv(np.moveaxis(basis, 0, -1))


def _sum_per_vertex(signals: np.ndarray, first: np.ndarray, n_vertices: int) -> np.ndarray:
    """(n_vertices, n_dir) sums of the signals (n, n_dir) whose peak is that vertex."""
    order = np.argsort(first, kind="stable")
    found, starts = np.unique(first[order], return_index=True)
    sums = np.zeros((n_vertices, signals.shape[1]))
    sums[found] = np.add.reduceat(signals[order].astype(np.float64, copy=False), starts, axis=0)
    return sums
