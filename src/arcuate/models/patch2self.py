"""Self-supervised denoising: each volume predicted from all the others."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from arcuate.errors import InputError, warn
from arcuate.models.status import Status
from arcuate.numerics.threads import n_threads

Regression = Literal["ols", "ridge"]

BLOCK = 2048  # voxels converted to float64 at a time
BLOCKS_PER_SUM = 16  # blocks added up by one thread, in order; then the sums are added, in order
_N_SAMPLE = 4096  # voxels behind the first guess of the means


@dataclass(frozen=True)
class Patch2SelfFit:
    """Denoised signals, and how each volume was predicted."""

    denoised: np.ndarray  # (n_vox, n_meas) float32, in the memory order of the input
    sigma: np.ndarray  # (n_vox,) float32, noise level that the residuals leave, unit of the signal
    status: np.ndarray  # (n_vox,) uint8, see Status
    coefs: np.ndarray  # (n_meas, n_meas): column j predicts volume j; 0 on the diagonal, 1 where j is passed through
    means: np.ndarray  # (n_meas,) of the voxels that were used, unit of the signal
    is_predicted: np.ndarray  # (n_meas,) bool, False where a volume is passed through


def fit_patch2self(
    signals: np.ndarray,
    is_b0: np.ndarray,
    *,
    model: Regression = "ols",
    alpha: float = 1.0,
    b0_denoising: bool = True,
    out: np.ndarray | None = None,
) -> Patch2SelfFit:
    """Signals with each volume replaced by what all the other volumes say about it.

    Parameters
    ----------
    signals : (n_vox, n_meas) real, all voxels of the image; either memory order, never copied as a whole
    is_b0 : (n_meas,) bool, b = 0 volumes; they and the weighted volumes are denoised apart from each other
    model : "ols" or "ridge"
    alpha : weight of the ridge penalty, unit of the signal squared
    b0_denoising : False passes the b = 0 volumes through
    out : (n_vox, n_meas) real, where to write; a new float32 array if None

    Raises
    ------
    InputError
        There are not two volumes of a kind, no voxel is finite, or an option is unknown.

    Warns
    -----
    InputWarning
        Volumes are identical, constant or otherwise combinations of each other; or the only weighted volume is
        passed through.

    Notes
    -----
    Volume j is regressed, with intercept, on the other volumes of its kind over all voxels:

        min_c ||y_j - Σ_{i≠j} c_i y_i||² (+ α ||c||²)    with centred columns y

    With Y the centred volumes and Ω = (YᵀY)⁻¹, or (YᵀY + αI)⁻¹ for ridge, the solution is c_i = -Ω_ij / Ω_jj: one Gram
    matrix and one product serve all volumes. Where YᵀY is singular Ω is its pseudo-inverse, and a volume that the
    others determine (an identical one, a constant one) is its own prediction. A volume that is alone of its kind is
    passed through. Nothing is clipped or shifted. A voxel with a NaN or an infinity is left out and set to 0.

    If the noise of volume j has the level σ, its residual has the variance σ² (1 + ||c||²): the noise level of a voxel
    is the root mean square of its residuals, each divided by the root of that factor.

    Sums run over blocks of fixed size in fixed order, so the result has the same bits for any number of threads.

    References
    ----------
    S. Fadnavis, J. Batson, E. Garyfallidis, Patch2Self: denoising diffusion MRI with self-supervised learning,
    NeurIPS 2020.
    """
    if signals.ndim != 2 or len(is_b0) != signals.shape[1]:
        raise InputError(f"found signals of shape {signals.shape} and {len(is_b0)} volume kinds; they do not fit.")
    check_patch2self(is_b0, model=model, alpha=alpha, b0_denoising=b0_denoising)
    groups = _groups_to_predict(np.asarray(is_b0, dtype=bool), b0_denoising)
    if np.count_nonzero(~np.asarray(is_b0, dtype=bool)) == 1:
        warn("the only weighted volume has no others to be predicted from; it is passed through.")
    with _threads() as pool:
        n_used, means, gram = _moments(signals, pool)
        if n_used == 0:
            raise InputError("found no voxel whose signals are all finite; nothing can be denoised.")
        coefs = np.eye(signals.shape[1])
        is_predicted = np.zeros(signals.shape[1], dtype=bool)
        for volumes in groups:
            block = np.ix_(volumes, volumes)
            coefs[block] = _predictors(gram[block], n_used, alpha if model == "ridge" else 0.0)
            is_predicted[volumes] = True
        denoised = np.empty_like(signals, dtype=np.float32) if out is None else out
        sigma, status = _predict(signals, means, coefs, is_predicted, denoised, pool)
    return Patch2SelfFit(denoised, sigma, status, coefs, means, is_predicted)


def check_patch2self(
    is_b0: np.ndarray, *, model: Regression = "ols", alpha: float = 1.0, b0_denoising: bool = True
) -> None:
    """Refuse what :func:`fit_patch2self` refuses of the volumes' kinds (n_meas,) bool and the options.

    Nothing of the image is needed: what cannot work is said before it is read.
    """
    if model not in ("ols", "ridge"):
        raise InputError(f'found the regression {model!r}; expected "ols" or "ridge".')
    if model == "ridge" and not 0 <= alpha < np.inf:
        raise InputError(f"the weight of the ridge penalty is a number of 0 or above; found {alpha}.")
    is_b0 = np.asarray(is_b0, dtype=bool)
    if not _groups_to_predict(is_b0, b0_denoising):
        raise InputError(
            f"Patch2Self predicts a volume from others of its kind; found {np.sum(~is_b0)} weighted and {is_b0.sum()} "
            "b=0 volumes, expected at least 2 weighted ones. Leave this scan as it is, or check the b-values."
        )


def _groups_to_predict(is_b0: np.ndarray, b0_denoising: bool) -> list[np.ndarray]:
    """Volumes of each kind that has two or more."""
    weighted = np.flatnonzero(~is_b0)
    b0 = np.flatnonzero(is_b0)
    return [group for group in (weighted, b0 if b0_denoising else b0[:0]) if len(group) >= 2]


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """As many threads as kernels use, each with a BLAS of one thread."""
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(n_threads()) as pool:
        yield pool


def _read_block(signals: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
    """One block as float64 in the memory order of the image, unusable voxels set to 0; and which ones are usable."""
    block = np.array(signals[start : start + BLOCK], dtype=np.float64, order="K")
    with np.errstate(invalid="ignore", over="ignore"):
        is_finite = np.isfinite(block.sum(axis=1))
    if not is_finite.all():
        is_finite = np.isfinite(block).all(axis=1)
        block[~is_finite] = 0.0
    return block, is_finite


def _moments(signals: np.ndarray, pool: ThreadPoolExecutor) -> tuple[int, np.ndarray, np.ndarray]:
    """Number of usable voxels, their means (n_meas,), and the Gram matrix of the centred volumes.

    The volumes are centred on a guess first, which is then corrected: the correction is small, so nothing cancels.
    """
    n_vox, n_meas = signals.shape
    sample = np.array(signals[:: max(1, n_vox // _N_SAMPLE)], dtype=np.float64)
    sample = sample[np.isfinite(sample).all(axis=1)]
    guess = sample.mean(axis=0) if len(sample) else np.zeros(n_meas)

    def add_up(first: int) -> tuple[int, np.ndarray, np.ndarray]:
        count, total, gram = 0, np.zeros(n_meas), np.zeros((n_meas, n_meas))
        for start in range(first, min(first + BLOCK * BLOCKS_PER_SUM, n_vox), BLOCK):
            block, is_finite = _read_block(signals, start)
            block -= guess
            if not is_finite.all():
                block[~is_finite] = 0.0
            count += int(is_finite.sum())
            total += block.sum(axis=0)
            gram += block.T @ block
        return count, total, gram

    count, total, gram = 0, np.zeros(n_meas), np.zeros((n_meas, n_meas))
    for part in pool.map(add_up, range(0, n_vox, BLOCK * BLOCKS_PER_SUM)):
        count, total, gram = count + part[0], total + part[1], gram + part[2]
    if count == 0:
        return 0, guess, gram
    offset = total / count
    return count, guess + offset, gram - count * np.outer(offset, offset)


def _predictors(gram: np.ndarray, n_vox: int, alpha: float) -> np.ndarray:
    """Matrix whose column j predicts volume j from the other columns (all centred)."""
    from scipy import linalg  # 40 ms, of every command that looks whether denoising suits a scan

    n = len(gram)
    if alpha > 0:
        inverse = linalg.inv(gram + alpha * np.eye(n))
        return _leave_one_out(inverse, np.zeros(n, dtype=bool))
    scale = np.sqrt(np.diag(gram))
    # a centred constant leaves rounding behind, far below what the smallest real variation would
    is_constant = scale <= 1e-7 * scale.max()
    scale = np.where(is_constant, 1.0, scale)
    values, vectors = linalg.eigh(np.where(np.outer(~is_constant, ~is_constant), gram / np.outer(scale, scale), 0.0))
    is_null = values <= 4.4e-16 * n * max(values[-1], 1e-300)
    is_determined = is_constant | ((vectors[:, is_null] ** 2).sum(axis=1) > 1e-8)
    if is_determined.any():
        warn(
            f"{int(is_determined.sum())} of {n} volumes are constant, identical to others or combinations of them "
            f"({n_vox} voxels); they are returned as they are, and a pseudo-inverse serves the others. Check the scan "
            "for repeated or empty volumes."
        )
    weights = np.where(is_null, 0.0, 1.0 / np.where(is_null, 1.0, values))
    inverse = (vectors * weights) @ vectors.T / np.outer(scale, scale)
    return _leave_one_out(inverse, is_determined)


def _leave_one_out(inverse: np.ndarray, is_determined: np.ndarray) -> np.ndarray:
    diagonal = np.where(is_determined, 1.0, np.diag(inverse))
    coefs = -inverse / diagonal
    np.fill_diagonal(coefs, 0.0)
    coefs[:, is_determined] = np.eye(len(inverse))[:, is_determined]
    return coefs


def _as_dtype(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Whole numbers that the type can hold, where it is an integer."""
    if dtype.kind not in "iu":
        return values
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max)


def _predict(
    signals: np.ndarray,
    means: np.ndarray,
    coefs: np.ndarray,
    is_predicted: np.ndarray,
    denoised: np.ndarray,
    pool: ThreadPoolExecutor,
) -> tuple[np.ndarray, np.ndarray]:
    """Write the predictions block by block; the noise level and the status of each voxel."""
    has_residual = is_predicted & (np.diag(coefs) == 0)
    shares = has_residual / (1 + (coefs**2).sum(axis=0)) / max(1, has_residual.sum())
    sigma = np.zeros(len(signals), dtype=np.float32)
    status = np.full(len(signals), Status.FITTED, dtype=np.uint8)
    passed = np.flatnonzero(~is_predicted)

    def predict(start: int) -> None:
        block, is_finite = _read_block(signals, start)
        block -= means
        # the product is laid out as the block is: volumes or voxels fastest
        predicted = (coefs.T @ block.T).T if block.flags.f_contiguous else block @ coefs
        block -= predicted
        block *= block
        predicted += means
        rows = slice(start, start + BLOCK)
        sigma[rows] = np.sqrt(block @ shares)
        denoised[rows] = _as_dtype(predicted, denoised.dtype)
        denoised[rows, passed] = signals[rows, passed]
        if not is_finite.all():
            denoised[np.flatnonzero(~is_finite) + start] = 0
            sigma[rows][~is_finite] = 0
            status[rows][~is_finite] = Status.NOT_FINITE

    for _ in pool.map(predict, range(0, len(signals), BLOCK)):
        pass
    return sigma, status
