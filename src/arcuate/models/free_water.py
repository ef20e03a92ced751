"""Free water: the tensor of the tissue beside water that diffuses freely, and the share of that water."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from arcuate.errors import InputError, NotApplicable
from arcuate.gradients import GradientTable
from arcuate.models.free_water_kernels import Water, fit_free_water
from arcuate.models.log_linear import NEGLIGIBLE, check_rows, fit_in_chunks, make_tables, take_volumes
from arcuate.models.log_linear_kernels import Limits, Results, Tables
from arcuate.models.status import Status
from arcuate.models.tensor import (
    TensorFit,
    floored_tensors,
    select_volumes,
    shells_or_levels,
    shells_up_to,
    tensor_design,
)
from arcuate.numerics.compiled import run_in_chunks

B_MAX = 2500.0  # s/mm²; above it tissue is no single exponential, and what is left is taken for water
DISO = 3.0e-3  # mm²/s, water at body temperature
MAX_MD = 0.9  # of the diffusivity of water: a voxel whose plain tensor has more is all water
_MOST_WATER = 0.99  # from there on the search stands: too little is left for a tensor
_CHUNK = 512  # voxels of one task
_N_ROUNDS = 3  # of the search: shares in steps of 0.001


@dataclass(frozen=True)
class FreeWaterFit(TensorFit):
    """Tissue tensors and water of ``n_vox`` voxels; a voxel of water alone has no tensor."""

    fwf: np.ndarray  # (n_vox,) float64, share of free water in the signal at b = 0, 0 to 1


@dataclass(frozen=True)
class FreeWaterModel:
    """Fit of a tensor and a share of free water, prepared once for a list of volumes.

    Parameters
    ----------
    bvals : (n_meas,) float, s/mm²
    directions : (n_meas, 3) float, unit vectors
    is_b0 : (n_meas,) bool
    diso : float, mm²/s
        Diffusivity of the water.
    max_md : float, mm²/s
        A voxel whose plain tensor has this mean diffusivity or more is all water; 0.9 ``diso`` by default.
    min_diffusivity, min_signal
        See :class:`arcuate.models.log_linear.LogLinearModel`.
    is_nonlinear : bool
        Go on from the search by non-linear least squares.

    Raises
    ------
    InputError
        There is no b = 0 volume, or the diffusivity is not above zero.

    Notes
    -----
    sᵢ = s0 [(1 - f) exp(-bᵢ gᵢᵀ D gᵢ) + f exp(-bᵢ d)], d the diffusivity of water. For a share f, with s̄ the mean b = 0
    signal, the tensor is the weighted fit to log[(sᵢ - f s̄ exp(-bᵢ d)) / (1 - f)], weights sᵢ²; f is the one of least
    sum of squared differences between the sᵢ and the model, in steps of 0.1, then 0.01, then 0.001 around the best. The
    non-linear fit minimises that sum over D, s0 and f = (1 - cos a) / 2, by Levenberg and Marquardt's method from
    there; shares of 0.99 or more stay as the search found them.

    References
    ----------
    Hoy et al. 2014, NeuroImage 103:323. Neto Henriques et al. 2017, ReScience 3(1) (the search).
    """

    bvals: np.ndarray
    directions: np.ndarray
    is_b0: np.ndarray
    diso: float = DISO
    max_md: float | None = None
    min_diffusivity: float = 0.0
    min_signal: float = 0.0
    is_nonlinear: bool = False
    _tables: Tables = field(init=False, repr=False)
    _water: Water = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.is_b0.any():
            raise NotApplicable(
                "free water is measured against the signal at b=0; the scan has no b=0 volume. Add those that were "
                "acquired with it, or raise b0_threshold (--b0-threshold) above the lowest b-value."
            )
        if not self.diso > 0:
            raise InputError(f"found the diffusivity of water {self.diso:g}; expected mm²/s above 0, such as {DISO:g}.")
        tables = make_tables(tensor_design(self.bvals, self.directions), np.ones(7))
        decay, b0_mean = np.zeros(len(tables.basis)), np.zeros(len(tables.basis))
        decay[: len(self.bvals)] = np.exp(-self.diso * self.bvals)
        b0_mean[: len(self.bvals)] = self.is_b0 / self.is_b0.sum()
        max_md = MAX_MD * self.diso if self.max_md is None else self.max_md
        object.__setattr__(self, "_tables", tables)
        object.__setattr__(self, "_water", Water(decay, b0_mean, float(max_md), _N_ROUNDS))

    def fit(self, signals: np.ndarray) -> FreeWaterFit:
        """Tensor and share of water of each row.

        Parameters
        ----------
        signals : (n_vox, n_meas) float32 or float64
            The volumes of the model, in their order.
        """
        fwf = np.zeros(len(signals))
        limits = Limits(float(self.min_diffusivity), float(self.min_signal))

        def fit(rows: np.ndarray, results: Results, place: slice) -> None:
            fit_free_water(rows, self._tables, self._water, limits, results, fwf[place])

        results = fit_in_chunks(signals, 7, fit)
        if self.is_nonlinear:
            self._refine(signals, results, fwf)
        return FreeWaterFit.of_results(results, fwf=fwf)

    def _refine(self, signals: np.ndarray, results: Results, fwf: np.ndarray) -> None:
        """Non-linear least squares from ``results`` and ``fwf``, in place."""
        from arcuate.models.nonlinear_kernels import Compartments, fit_beside_water

        design = tensor_design(self.bvals, self.directions)
        basis = np.ascontiguousarray(self._tables.basis[: len(design), :7])
        decay = np.ascontiguousarray(self._water.decay[: len(design)])
        shared = Compartments(basis, np.ascontiguousarray(self._tables.to_coefs[6]), decay)
        rows = np.flatnonzero((results.status <= Status.FLOORED) & (fwf < _MOST_WATER))
        s0 = np.asarray(signals, dtype=np.float64)[rows][:, self.is_b0].mean(axis=1)
        rows, s0 = rows[s0 > 0], s0[s0 > 0]
        coefs = np.column_stack([results.coefs[rows, :6], np.zeros(len(rows))])
        points, shares = coefs @ (design.T @ basis), fwf[rows].copy()
        is_solved = np.zeros(len(rows), np.uint8)

        def work(begin: int, end: int) -> None:
            scaled = np.asarray(signals[rows[begin:end]], dtype=np.float64) / s0[begin:end, None]
            fit_beside_water(scaled, shared, points[begin:end], shares[begin:end], is_solved[begin:end])

        run_in_chunks(work, len(rows), _CHUNK)
        coefs = points @ self._tables.to_coefs.T
        tensors, evals, evecs = floored_tensors(coefs[:, :6], self.min_diffusivity)
        results.coefs[rows, :6], results.evals[rows], results.evecs[rows] = tensors, evals, evecs.reshape(-1, 9)
        results.coefs[rows, 6], fwf[rows] = np.exp(coefs[:, 6]) * s0, shares
        results.status[rows[is_solved == 0]] = Status.NOT_CONVERGED


def fit_free_water_tensor(
    signals: np.ndarray,
    gradients: GradientTable,
    *,
    b_max: float = B_MAX,
    diso: float = DISO,
    nonnegative: bool = True,
) -> FreeWaterFit:
    """Tissue tensor and share of free water of each voxel.

    Parameters
    ----------
    signals : (n_vox, n_meas) float
        One row per voxel, all volumes of the table, any unit.
    gradients : GradientTable
    b_max, diso, nonnegative
        See :func:`prepare_free_water`.

    Raises
    ------
    InputError
        The volumes do not determine free water, or their number is not that of the gradient table.
    """
    signals = check_rows(signals, gradients)
    volumes, model = prepare_free_water(gradients, b_max=b_max, diso=diso, nonnegative=nonnegative)
    return model.fit(take_volumes(signals, volumes))


def prepare_free_water(
    gradients: GradientTable, *, b_max: float = B_MAX, diso: float = DISO, nonnegative: bool = True
) -> tuple[np.ndarray, FreeWaterModel]:
    """The volumes free water is fitted to, and the model prepared for them.

    Parameters
    ----------
    gradients : GradientTable
    b_max : float, s/mm²
        Shells up to ``b_max`` + 100 are used.
    diso : float, mm²/s
        Diffusivity of the water.
    nonnegative : bool
        Raise eigenvalues to 1e-6 / b, b the highest used.

    Returns
    -------
    volumes : (n,) int
    model : FreeWaterModel
        Fits rows of those volumes.

    Raises
    ------
    NotApplicable
        There are fewer than two shells, no b = 0, or too few directions.
    """
    shells = shells_or_levels(gradients)
    used = shells_up_to(shells, b_max)
    if len(used) < 2:
        found = ", ".join(f"{shell.b:.0f}" for shell in shells[:8]) or "none"
        raise NotApplicable(
            f"free water needs two shells with b <= {b_max:g} s/mm²; found {len(used)} (shells of the scan: {found}). "
            "On one shell the problem is ill-posed: every share of water fits the signal as well, with another tensor. "
            + ("Raise b_max (--b-max) to take the others." if len(shells) > 1 else "Fit the tensor alone.")
        )
    volumes = np.sort(np.concatenate([np.flatnonzero(gradients.is_b0), *[shell.indices for shell in used]]))
    table = gradients.subset(volumes)
    floor = NEGLIGIBLE / table.bvals.max() if nonnegative else -np.inf
    model = FreeWaterModel(table.bvals, table.directions, table.is_b0, diso, min_diffusivity=floor)
    select_volumes(table, b_max=b_max)  # refuses directions that do not determine a tensor
    return volumes, model
