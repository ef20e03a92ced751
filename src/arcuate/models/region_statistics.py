"""What a region's voxels say together: weighted means, spreads and percentiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SCALED_MAD = 1.4826  # standard deviations of a normal distribution per median absolute deviation
ROBUST_LIMIT = 3.0  # of them, from the median: what is farther is left out of the robust mean


@dataclass(frozen=True)
class RegionStatistics:
    """Statistics of one region in one map, in the unit of the map; NaN where no voxel counts."""

    n_voxels: int
    weight: float  # sum of the weights: voxels, for weights of 1
    mean: float
    sd: float
    median: float
    robust_mean: float
    p05: float
    p95: float


def region_statistics(values: np.ndarray, weights: np.ndarray | None = None) -> RegionStatistics:
    """Statistics of the values (n_voxels,), each counted by its weight (n_voxels,), 1 without weights.

    Parameters
    ----------
    values : (n_voxels,) float; those that are not finite do not count
    weights : (n_voxels,) float, 0 or more; voxels of weight 0 do not count

    Notes
    -----
    Mean Σwx / Σw; variance Σw(x - mean)² / (Σw - Σw²/Σw), which for weights of 1 divides by n - 1. Percentile q lies
    between the values whose centres of weight, from the first to the last, enclose the part q: for equal weights the
    common definition (linear). The robust mean is that of the voxels within 3 x 1.4826 median absolute deviations of
    the median; where that deviation is 0, as of maps that are mostly 0, it is the mean.
    """
    values = np.asarray(values, dtype=np.float64)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    counts = np.isfinite(values) & (weights > 0)
    x, w = values[counts], weights[counts]
    if not len(x):
        return RegionStatistics(0, 0.0, *(float("nan"),) * 6)
    total = float(w.sum())
    mean = float(w @ x / total)
    freedom = total - float(w @ w) / total
    sd = float(np.sqrt(max(w @ (x - mean) ** 2, 0.0) / freedom)) if freedom > 1e-12 * total else float("nan")
    p05, median, p95 = weighted_percentiles(x, w, (0.05, 0.5, 0.95))
    spread = SCALED_MAD * weighted_percentiles(np.abs(x - median), w, (0.5,))[0]
    near = np.abs(x - median) <= ROBUST_LIMIT * spread if spread > 0 else np.ones(len(x), dtype=bool)
    robust = float(w[near] @ x[near] / w[near].sum())
    return RegionStatistics(len(x), total, mean, sd, float(median), robust, float(p05), float(p95))


def weighted_percentiles(values: np.ndarray, weights: np.ndarray, parts: tuple[float, ...]) -> np.ndarray:
    """Percentiles (n_parts,) of values (n,) at the parts 0..1, each value counted by its weight (n,) above 0."""
    order = np.argsort(values, kind="stable")
    x, w = values[order], weights[order]
    if len(x) == 1:
        return np.full(len(parts), x[0])
    centres = np.cumsum(w) - w / 2
    return np.interp(parts, (centres - centres[0]) / (centres[-1] - centres[0]), x)
