"""Models that are linear in the logarithm of the signal: their tables, the check of their rows, and the fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np

from arcuate.errors import InputError, warn
from arcuate.gradients import NO_B0, GradientTable
from arcuate.models.log_linear_kernels import CHUNK, Limits, Results, Tables, fit_voxels, kept_of
from arcuate.numerics.compiled import run_in_chunks

NEGLIGIBLE = 1e-6  # eigenvalues are raised to NEGLIGIBLE / b: less attenuation than that cannot be told from none


@dataclass(frozen=True)
class LogLinearModel:
    """Least-squares fit of coefficients to log signals, prepared once for a list of volumes.

    The first six coefficients are the diffusion tensor (xx, xy, xz, yy, yz, zz), the last is log S0; what lies between
    is the model's own.

    Parameters
    ----------
    design : (n_meas, n) float
        Rows that give log S from the coefficients.
    n_reweight : int
        Rounds of reweighting after the ordinary least-squares fit: 0 is OLS, 1 is WLS, more is IWLS.
    min_diffusivity : float, mm²/s
        Eigenvalues below it are raised to it, and the tensor with them; ``-inf`` leaves them as they are.
    min_signal : float
        Signals below it are raised to it. With 0, those at or below zero are raised to 0.01 of the largest of their
        voxel instead, which does not depend on the unit of the signal.

    Raises
    ------
    InputError
        ``n_reweight`` is negative.

    Notes
    -----
    Minimises Σᵢ wᵢ (log sᵢ - xᵢᵀ c)² with wᵢ = 1, then wᵢ = ŝᵢ², the signal fitted in the round before. A design whose
    columns depend on each other gives the solution of least norm.
    """

    design: np.ndarray
    n_reweight: int = 1
    min_diffusivity: float = -np.inf
    min_signal: float = 0.0
    tables: Tables = field(init=False, repr=False)

    scales_columns: ClassVar[bool] = False  # whether columns of the design are brought to one length first

    def __post_init__(self) -> None:
        if self.n_reweight < 0:
            raise InputError(f"n_reweight is {self.n_reweight}; expected 0 (OLS), 1 (WLS) or more (IWLS).")
        lengths = column_lengths(self.design) if self.scales_columns else np.ones(self.design.shape[1])
        object.__setattr__(self, "tables", make_tables(self.design, lengths))

    @staticmethod
    def design_of(bvals: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """The design (n_meas, n) of b-values (n_meas,), s/mm², and unit directions (n_meas, 3)."""
        raise NotImplementedError

    @classmethod
    def of_volumes(cls, gradients: GradientTable, volumes: np.ndarray, *, n_reweight: int, nonnegative: bool) -> Self:
        """The model for rows of ``volumes`` (n,); ``nonnegative`` raises eigenvalues to 1e-6 / b, b the highest."""
        bvals = gradients.bvals[volumes]
        floor = NEGLIGIBLE / bvals.max() if nonnegative else -np.inf
        design = cls.design_of(bvals, gradients.directions[volumes])
        return cls(design, n_reweight=n_reweight, min_diffusivity=floor)

    @property
    def limits(self) -> Limits:
        """The floors, as kernels take them."""
        return Limits(float(self.min_diffusivity), float(self.min_signal))

    def fit_rows(self, signals: np.ndarray) -> Results:
        """Coefficients, eigenvalues and vectors, and status of rows (n_vox, n_meas); zeros where nothing was fitted."""

        def fit(rows: np.ndarray, results: Results, _: slice) -> None:
            fit_voxels(rows, self.tables, self.n_reweight, self.limits, results, kept_of(0, self.tables))

        return fit_in_chunks(signals, self.design.shape[1], fit)


def fit_in_chunks(signals: np.ndarray, n: int, fit: Callable[[np.ndarray, Results, slice], None]) -> Results:
    """Results of ``n`` coefficients for rows (n_vox, n_meas), by a kernel on chunks of them, on threads.

    Parameters
    ----------
    fit : given rows float64 in C order, their part of the results, zeros to be filled, and their place among all rows
    """
    signals = np.asarray(signals)
    n_vox = len(signals)
    results = Results(np.zeros((n_vox, n)), np.zeros((n_vox, 3)), np.zeros((n_vox, 9)), np.zeros(n_vox, np.uint8))

    def work(begin: int, end: int) -> None:
        # in double precision: else the kernels would be compiled for every type and layout of the signals
        rows = np.ascontiguousarray(signals[begin:end], dtype=np.float64)
        fit(rows, Results(*(array[begin:end] for array in results)), slice(begin, end))

    run_in_chunks(work, n_vox, CHUNK)
    return results


def residual_rms(
    signals: np.ndarray, design: np.ndarray, coefs: np.ndarray, kept: np.ndarray | None = None
) -> np.ndarray:
    """(n_vox,) root mean square of the signals less those that a fit gives, over its S0; 0 where nothing was fitted.

    Parameters
    ----------
    signals : (n_vox, n_meas) float
    design : (n_meas, n) float
    coefs : (n_vox, n) float, the last of them log S0
    kept : (n_vox, n_meas) bool, the signals that count; all without it
    """
    rms = np.zeros(len(signals))

    def work(begin: int, end: int) -> None:  # in place: pages for new arrays cost as much as the exponentials
        part, unit = coefs[begin:end], np.exp(-coefs[begin:end, -1:])
        squares = part @ design.T
        squares -= part[:, -1:]
        np.exp(np.minimum(squares, 50.0, out=squares), out=squares)
        with np.errstate(invalid="ignore", over="ignore"):
            squares -= signals[begin:end] * unit
            np.square(squares, out=squares)
        count = np.full(end - begin, squares.shape[1])
        if kept is not None:
            squares[~kept[begin:end]] = 0.0
            count = kept[begin:end].sum(axis=1)
        found = np.sqrt(squares.sum(axis=1) / np.maximum(count, 1))
        rms[begin:end] = np.where(np.any(part != 0, axis=1) & np.isfinite(found), found, 0.0)

    run_in_chunks(work, len(signals), CHUNK)
    return rms


def make_tables(design: np.ndarray, lengths: np.ndarray) -> Tables:
    """Tables of a design (n_meas, n) whose columns are divided by ``lengths`` (n,) before they are decomposed."""
    n_meas, n = design.shape
    u, s, vt = np.linalg.svd(design / lengths, full_matrices=False)
    rank = int(np.sum(s > 1e-12 * s[0]))
    basis = np.zeros((-(-n_meas // 4) * 4, -(-n // 4) * 4))  # rows and columns in fours, as the kernels take them
    basis[:n_meas, :rank] = u[:, :rank]
    to_coefs = np.zeros((n, n))
    to_coefs[:, :rank] = vt[:rank].T / s[:rank] / lengths[:, None]
    rows, columns = np.tril_indices(n)
    products = np.ascontiguousarray(basis[:, rows] * basis[:, columns])
    return Tables(basis, products, to_coefs, np.arange(n) < rank)


def column_lengths(design: np.ndarray) -> np.ndarray:
    """(n,) norms of the columns of a design, 1 for a column of zeros."""
    lengths = np.linalg.norm(design, axis=0)
    return np.where(lengths > 0, lengths, 1.0)


def check_rows(signals: np.ndarray, gradients: GradientTable) -> np.ndarray:
    """``signals`` (n_vox, n_meas) as an array, one column for each volume of the table.

    Raises
    ------
    InputError
        They have another shape.
    """
    signals = np.asarray(signals)
    if signals.ndim != 2 or signals.shape[1] != len(gradients):
        raise InputError(
            f"found signals of shape {signals.shape} for {len(gradients)} b-values; expected one row per voxel "
            f"with {len(gradients)} columns. Check that the image and the b-values belong to the same scan."
        )
    return signals


def take_volumes(signals: np.ndarray, volumes: np.ndarray) -> np.ndarray:
    """Columns ``volumes`` (n,) of signals (n_vox, n_meas); no copy where these are all."""
    return signals if len(volumes) == signals.shape[1] else signals[:, volumes]


def warn_without_b0(gradients: GradientTable) -> None:
    """Warn that S0 is extrapolated where the table has no b = 0 volume."""
    if not gradients.is_b0.any():
        warn(f"{NO_B0}: the signal without diffusion weighting is extrapolated from the shells.")
