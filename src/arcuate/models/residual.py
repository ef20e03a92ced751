"""What a denoiser took away: noise has no structure, so structure in the residual is signal that was lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from arcuate.errors import NotApplicable
from arcuate.numerics.compiled import kernel, run_in_chunks

_CHUNK = 4  # slices of one thread at a time


@dataclass(frozen=True)
class ResidualStructure:
    """How much of what was removed from some volumes looks like a brain.

    All three correlations are near 0 where noise alone was removed, and near 1 where the residual repeats the anatomy.
    The first two are signed: negative where bright tissue got brighter.
    """

    anatomy: float  # correlation over voxels of the mean residual with the mean denoised signal, see Notes there
    magnitude: float  # the same of the residual's root mean square: is more taken away where there is more signal?
    neighbours: float  # correlation of the residual in one voxel and the next along x and y, mean over volumes
    rms: float  # root mean square of the residual, unit of the signal


def residual_structure(
    before: np.ndarray, after: np.ndarray, volumes: np.ndarray, inside: np.ndarray
) -> ResidualStructure:
    """Structure of ``before - after`` in some volumes.

    Parameters
    ----------
    before, after : (x, y, z, n_meas) float
    volumes : (n,) int, the volumes to look at: those of one shell
    inside : (x, y, z) bool, voxels to look at; voxels that are not finite are left out

    Raises
    ------
    NotApplicable
        Fewer than three voxels are inside.

    Notes
    -----
    ``anatomy`` is cov(r̄, s) / (sd(s) max(sd(r̄), rms sd(rᵢ) / √n)), r̄ the mean of the n residuals rᵢ and s the mean
    denoised signal. The second term is the spread that r̄ has where the residuals are independent. Residuals that
    cancel each other, as those of two volumes predicted from each other, leave a mean that is nothing but anatomy,
    however small it is; against the spread of the residuals themselves it is seen to be small.
    """
    sums = _Sums(*(np.zeros(inside.shape) for _ in range(3)))
    mean_residual, square, signal = sums
    products = np.zeros((len(volumes), inside.shape[2], 2))

    def work(begin: int, end: int) -> None:
        for k, volume in enumerate(volumes):
            _add_volume(before[..., volume], after[..., volume], inside, sums, products[k], begin, end)

    run_in_chunks(work, inside.shape[2], _CHUNK)
    use = inside & np.isfinite(square)
    if use.sum() < 3:
        raise NotApplicable(f"the structure of a residual needs some voxels; found {int(use.sum())} usable ones.")
    lagged = products.sum(axis=1)
    is_known = lagged[:, 1] > 0
    neighbours = float((lagged[is_known, 0] / lagged[is_known, 1]).mean()) if is_known.any() else 0.0
    rms = np.sqrt(square[use] / len(volumes))
    independent = np.sqrt(float(square[use].mean())) if len(volumes) > 1 else 0.0  # of the sum, n times the mean's
    return ResidualStructure(
        anatomy=_correlation(mean_residual[use], signal[use], independent),
        magnitude=_correlation(rms, signal[use]),
        neighbours=neighbours,
        rms=float(np.sqrt((rms**2).mean())),
    )


def _correlation(a: np.ndarray, b: np.ndarray, least_spread: float = 0.0) -> float:
    """Correlation of two rows, the spread of the first taken as at least ``least_spread``."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt(max(a @ a, least_spread**2 * len(a)) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0


class _Sums(NamedTuple):
    """Sums over volumes."""

    residual: np.ndarray  # (x, y, z) float64, unit of the signal
    square: np.ndarray  # (x, y, z) float64, of the residuals, its square
    signal: np.ndarray  # (x, y, z) float64, denoised


@kernel()
def _add_volume(before, after, inside, sums, products, begin, end):
    """Add slices ``begin`` to ``end`` of a volume to the sums; products of residuals with neighbours and themselves."""
    nx, ny, _ = inside.shape
    for z in range(begin, end):
        lagged = 0.0
        own = 0.0
        for y in range(ny):
            for x in range(nx):
                if not inside[x, y, z]:
                    continue
                r = float(before[x, y, z]) - float(after[x, y, z])
                sums.residual[x, y, z] += r
                sums.square[x, y, z] += r * r
                sums.signal[x, y, z] += after[x, y, z]
                if not np.isfinite(r):
                    continue
                if x + 1 < nx and inside[x + 1, y, z]:
                    other = float(before[x + 1, y, z]) - float(after[x + 1, y, z])
                    if np.isfinite(other):
                        lagged += r * other
                        own += 0.5 * (r * r + other * other)
                if y + 1 < ny and inside[x, y + 1, z]:
                    other = float(before[x, y + 1, z]) - float(after[x, y + 1, z])
                    if np.isfinite(other):
                        lagged += r * other
                        own += 0.5 * (r * r + other * other)
        products[z, 0] = lagged
        products[z, 1] = own
