"""Response of the voxels that look most like a single fibre, found in rounds (Tournier 2013)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from arcuate.errors import NotApplicable
from arcuate.models.csd import make_csd_system
from arcuate.models.peaks import find_peaks
from arcuate.models.response_voxels import fibre_zonal

FIRST_ZONAL = np.array([1.0, -1.0, 1.0])  # a sharp response of degree 4
FIRST_LMAX = 4


@dataclass(frozen=True)
class SingleFibres:
    """Voxels chosen, and the response they make."""

    zonal: np.ndarray  # (lmax/2 + 1,) float
    chosen: np.ndarray  # (n,) int, rows, best first
    directions: np.ndarray  # (n, 3) float, of their fibres
    n_rounds: int
    is_settled: bool  # the choice of the last round was that of the one before


def choose_single_fibres(
    signals: np.ndarray,
    directions: np.ndarray,
    widen: Callable[[np.ndarray], np.ndarray],
    *,
    lmax: int = 8,
    n_voxels: int = 300,
    n_candidates: int = 3000,
    max_rounds: int = 10,
) -> SingleFibres:
    """Voxels that look most like a single fibre, and their response.

    Parameters
    ----------
    signals : (n_vox, n_dir) float, one shell
    directions : (n_dir, 3) float, unit vectors
    widen : takes rows that look good (n_vox,) bool, returns those to look at in the next round
    n_voxels : voxels the response is made of
    n_candidates : best voxels, whose surroundings are looked at in the next round

    Notes
    -----
    Each round makes FODs with the response of the last one and ranks voxels by √p₁ (1 - p₂/p₁)², p₁ and p₂ the
    amplitudes of the two highest peaks.

    References
    ----------
    Tournier, Calamante, Connelly 2013, NMR Biomed. 26:1775.
    """
    usable = np.isfinite(signals).all(axis=1) & (signals > 0).any(axis=1)
    if not usable.any():
        raise NotApplicable("no voxel has a signal; expected a mask of the brain.")
    zonal, rows, before = FIRST_ZONAL, np.flatnonzero(usable), np.zeros(0, np.int64)
    for n_round in range(1, max_rounds + 1):
        degree = min(2 * (len(zonal) - 1), 8)
        system = make_csd_system(directions, zonal, degree, tau=0.0)
        peaks = find_peaks(
            system.fit(signals[rows]).coefs, n_peaks=2, relative_peak_threshold=0.0, min_separation_angle=0.0
        )
        first, second = peaks.values[:, 0], peaks.values[:, 1]
        rank = np.where(first > 0, np.sqrt(np.maximum(first, 0)), 0.0)
        rank *= (1 - np.divide(second, first, out=np.zeros_like(first), where=first > 0)) ** 2
        order = np.argsort(-rank, kind="stable")
        best = order[:n_voxels]
        chosen = rows[best]
        cosines = peaks.directions[best, 0] @ directions.T
        zonal = fibre_zonal(signals[chosen], cosines, FIRST_LMAX if n_round == 1 else lmax)
        is_settled = n_round > 1 and np.array_equal(np.sort(chosen), np.sort(before))
        if is_settled:
            break
        before = chosen
        good = np.zeros(len(signals), bool)
        good[rows[order[:n_candidates]]] = True
        rows = np.flatnonzero(widen(good) & usable)
    return SingleFibres(zonal, chosen, peaks.directions[best, 0], n_round, bool(is_settled))
