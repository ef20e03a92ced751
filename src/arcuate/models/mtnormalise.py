"""Intensities of tissues made comparable between scans by a smooth field in the log domain (Raffelt 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from arcuate.errors import InputError, NotApplicable
from arcuate.models.multitissue import SUM_OF_TISSUES

N_ROUNDS, N_BALANCES = 15, 7
FIRST_RANGE, RANGE = 3.0, 1.5  # interquartile ranges beyond the quartiles at which a voxel is an outlier


@dataclass(frozen=True)
class Normalisation:
    """Field by which tissues are divided."""

    field: np.ndarray  # (n_vox,) float
    balance: np.ndarray  # (n_tissue,) float, geometric mean 1: what makes the sum of the tissues flat
    is_used: np.ndarray  # (n_vox,) bool: voxels that the field was fitted to, outliers left out
    scale: float  # geometric mean of the field over the voxels used


def normalise_tissues(
    amounts: np.ndarray,
    positions: np.ndarray,
    *,
    order: int = 3,
    reference: float = SUM_OF_TISSUES,
    n_rounds: int = N_ROUNDS,
) -> Normalisation:
    """Smooth field that brings the balanced sum of the tissues to ``reference``.

    Parameters
    ----------
    amounts : (n_vox, n_tissue) float, first SH coefficient of each tissue, of the voxels of a brain mask
    positions : (n_vox, 3) float, mm
    order : 0 to 3, degree of the polynomial of the field's logarithm
    reference : sum of the tissues after it
    n_rounds : how often the three steps are repeated at most

    Raises
    ------
    InputError
        A tissue that cannot be balanced, an order out of range, or no voxel with a positive sum.

    Notes
    -----
    Alternates three steps: balance factors by least squares such that Σ_t β_t a_t / field = 1; outliers left out by the
    quartiles of the log sum; the log field by least squares on log(Σ_t β_t a_t / reference).

    References
    ----------
    Raffelt et al. 2017, Proc. ISMRM 26:3541. Dhollander et al. 2021, Proc. ISMRM 29:2472.
    """
    if not 0 <= order <= 3:
        raise InputError(f"found the order {order} of the normalisation field; expected 0, 1, 2 or 3.")
    amounts = np.asarray(amounts, dtype=np.float64)
    is_finite = np.isfinite(amounts).all(axis=1)
    amounts = np.maximum(np.where(is_finite[:, None], amounts, 0.0), 0.0)
    is_usable = is_finite & (amounts.sum(axis=1) > 0)
    if not is_usable.any():
        raise NotApplicable("no voxel of the mask has a positive sum of tissues; check the mask and the tissue images.")
    basis = _polynomials(positions, order)
    balance = np.ones(amounts.shape[1])
    field = np.ones(len(amounts))
    is_used = _without_outliers(amounts @ balance / field, is_usable, FIRST_RANGE)
    with threadpool_limits(1, user_api="blas"):  # the bits must not depend on threads
        fitted_to, rows = None, basis
        for _ in range(n_rounds):
            shares = amounts / field[:, None]
            for _ in range(N_BALANCES):
                if amounts.shape[1] > 1:
                    balance = _balance(shares[is_used])
                before, is_used = is_used, _without_outliers(amounts @ balance / field, is_usable, RANGE)
                if np.array_equal(before, is_used):
                    break
            if fitted_to is None or not np.array_equal(fitted_to, is_used):
                fitted_to, rows = is_used, basis[is_used]
                square = rows.T @ rows  # what takes longest
            logs = np.log(amounts[is_used] @ balance) - np.log(reference)
            field = np.exp(basis @ _solved(square, rows.T @ logs))
    return Normalisation(field, balance, is_used, float(np.exp(np.log(field[is_used]).mean())))


def _balance(shares: np.ndarray) -> np.ndarray:
    """Factors, geometric mean 1, that bring the sum of the tissues (n_vox, n_tissue) nearest to a constant."""
    factors = _solved(shares.T @ shares, shares.T @ np.ones(len(shares)))
    if not np.all(factors > 0):
        raise NotApplicable(
            f"the tissues cannot be balanced: factors {np.array2string(factors, precision=3)}, expected positive ones. "
            "Give the tissues of one multi-tissue fit, and a mask of the brain."
        )
    return np.asarray(factors / np.exp(np.log(factors).mean()))


def _solved(square: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(n,) of least norm by the normal equations, AᵀA and Aᵀb.

    Columns of A are few and far from parallel: what squaring their condition costs is below the digits of the images.
    The singular values of the tall matrix took most of the time.
    """
    return np.asarray(np.linalg.lstsq(square, right, rcond=None)[0])


def _without_outliers(sums: np.ndarray, is_usable: np.ndarray, reach: float) -> np.ndarray:
    """Usable voxels whose log sum lies within ``reach`` interquartile ranges of the quartiles."""
    with np.errstate(divide="ignore"):
        logs = np.log(sums)  # no sum is below 0
    low, high = np.percentile(logs[is_usable & (sums > 0)], [25, 75])
    spread = reach * (high - low)
    return is_usable & (logs >= low - spread) & (logs <= high + spread)


def _polynomials(positions: np.ndarray, order: int) -> np.ndarray:
    """(n_vox, n) monomials of x, y, z up to ``order``, about the centre and in units of the extent."""
    centre, extent = positions.mean(axis=0), np.ptp(positions, axis=0).max() or 1.0
    x, y, z = ((positions - centre) / (0.5 * extent)).T
    powers = [(a, b, c) for a in range(order + 1) for b in range(order + 1 - a) for c in range(order + 1 - a - b)]
    return np.stack([x**a * y**b * z**c for a, b, c in powers], axis=1)
