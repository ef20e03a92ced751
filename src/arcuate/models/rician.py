"""The bias that magnitude images carry: their noise is Rician, and its mean lies above the signal."""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy

from arcuate.models.flat_image import FlatImage
from arcuate.numerics.compiled import kernel, run_in_chunks

MEAN_OF_NOISE = float(np.sqrt(np.pi / 2))  # mean of the noise alone, in units of sigma
_CEILING = 20.0  # above it the bias is sigma² / 2A to six digits
_N_TABLE = 8192
_CHUNK = 4096  # voxels of one thread at a time


def rician_mean(signal: np.ndarray, sigma: np.ndarray | float) -> np.ndarray:
    """Mean of magnitude data, same unit: ``σ √(π/2) L(-A²/2σ²)``, L the Laguerre function of order 1/2.

    Parameters
    ----------
    signal : (...) float, true signal A
    sigma : standard deviation of the noise in each channel, above 0
    """
    x = np.square(np.asarray(signal, dtype=np.float64) / sigma) / 4
    return np.asarray(sigma * MEAN_OF_NOISE * ((1 + 2 * x) * scipy.special.i0e(x) + 2 * x * scipy.special.i1e(x)))


def remove_rician_bias(image: FlatImage, sigma: np.ndarray) -> None:
    """Replace means of magnitude data by the signal that has them, in place; below the floor of the noise, by 0.

    Parameters
    ----------
    image : denoised: each value stands for a mean; changed in place
    sigma : (n_vox,) standard deviation of the noise, in the order of the image's voxels; voxels where it is 0 stay as
        they are

    References
    ----------
    C. G. Koay, P. J. Basser, Analytically exact correction scheme for signal extraction from noisy magnitude MR
    signals, J. Magn. Reson. 179 (2006) 317-322.
    """
    table = _squares_by_mean()

    def work(begin: int, end: int) -> None:
        _invert(image, sigma, table, begin, end)

    run_in_chunks(work, len(sigma), _CHUNK)


@cache
def _squares_by_mean() -> np.ndarray:
    """(A/σ)² at means evenly spaced from that of noise to _CEILING: near it the square is smooth and A is not."""
    signal = np.concatenate([np.linspace(0, 1, 2000) ** 2, np.linspace(1, _CEILING + 1, 40000)[1:]])
    return np.interp(np.linspace(MEAN_OF_NOISE, _CEILING, _N_TABLE), rician_mean(signal, 1.0), signal**2)


@kernel()
def _invert(image, sigma, table, begin, end):
    """Signals of the means in voxels ``begin`` to ``end``, in place."""
    flat = image.values
    step = (_CEILING - MEAN_OF_NOISE) / (len(table) - 1)
    for m in range(image.n_meas):
        for v in range(begin, end):
            if not sigma[v] > 0:
                continue
            at = v * image.voxel_stride + m * image.volume_stride
            mean = flat[at] / sigma[v]
            if mean <= MEAN_OF_NOISE:
                flat[at] = 0
            elif mean >= _CEILING:
                flat[at] = sigma[v] * np.sqrt(mean * mean - 1)
            else:
                place = (mean - MEAN_OF_NOISE) / step
                k = min(int(place), len(table) - 2)
                flat[at] = sigma[v] * np.sqrt(table[k] + (place - k) * (table[k + 1] - table[k]))
