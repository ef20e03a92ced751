"""Diffusion kurtosis: the tensor and the kurtosis tensor of each voxel by (weighted) linear least squares."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from arcuate.errors import NotApplicable
from arcuate.gradients import GradientTable
from arcuate.models.kurtosis_measures import (
    kurtosis_fractional_anisotropy,
    kurtosis_measures,
    mean_kurtosis_tensor,
    monomials,
)
from arcuate.models.log_linear import (
    LogLinearModel,
    check_rows,
    column_lengths,
    fit_in_chunks,
    take_volumes,
    warn_without_b0,
)
from arcuate.models.log_linear_kernels import Results, fit_voxels, kept_of
from arcuate.models.tensor import TensorFit, floored_tensors, shells_or_levels, shells_up_to, tensor_design
from arcuate.numerics.sphere import count_directions, distinct_directions

B_MAX = 3000.0  # s/mm²; above it the cumulant expansion of tissue's signal no longer converges
MIN_KURTOSIS, MAX_KURTOSIS = -3 / 7, 10.0  # of maps: water in spherical pores, and far above any tissue
N = 22  # unknowns: 6 of the diffusion tensor, 15 of MD² W, log S0
N_DIRECTIONS = 15  # a kurtosis tensor has as many elements
_LEAST_SUPPORT = 5e-3  # smallest singular value of the design, columns of unit length, that still determines it


@dataclass(frozen=True)
class KurtosisFit(TensorFit):
    """Diffusion and kurtosis tensors of ``n_vox`` voxels; zero where nothing could be fitted (see ``status``).

    ``fa md ad rd`` are those of the diffusion tensor, free of the bias that kurtosis gives a tensor fitted alone.
    """

    kurtosis: np.ndarray  # (n_vox, 15) float64: elements of W, order of models.kurtosis_measures.ELEMENTS
    is_bound: np.ndarray  # (n_vox,) bool, voxels in which the constraints changed the fit

    @cached_property
    def _measures(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return kurtosis_measures(self.evals, self.evecs, self.kurtosis)

    @property
    def mk(self) -> np.ndarray:
        """(n_vox,) mean kurtosis: over all directions, see :func:`.kurtosis_measures.kurtosis_measures`."""
        return self._measures[0]

    @property
    def ak(self) -> np.ndarray:
        """(n_vox,) axial kurtosis: along the first eigenvector."""
        return self._measures[1]

    @property
    def rk(self) -> np.ndarray:
        """(n_vox,) radial kurtosis: mean over directions across the first eigenvector."""
        return self._measures[2]

    @property
    def mkt(self) -> np.ndarray:
        """(n_vox,) mean of the kurtosis tensor W."""
        return mean_kurtosis_tensor(self.kurtosis)

    @cached_property
    def kfa(self) -> np.ndarray:
        """(n_vox,) anisotropy of the kurtosis tensor, 0 to 1."""
        return kurtosis_fractional_anisotropy(self.kurtosis)


@dataclass(frozen=True)
class KurtosisModel(LogLinearModel):
    """Least-squares fit of a tensor and its kurtosis to log signals, prepared once for a list of volumes.

    Parameters
    ----------
    design : (n_meas, 22) float
        Rows that give log S from the coefficients, see :func:`kurtosis_design`.
    n_reweight, min_diffusivity, min_signal
        See :class:`arcuate.models.log_linear.LogLinearModel`.
    constraints : (n_con, 22) float
        Rows A of inequalities A c >= 0 that the coefficients c obey, see :func:`kurtosis_constraints`; none by default.

    Notes
    -----
    Minimises Σᵢ wᵢ (log sᵢ - log s0 + bᵢ D(gᵢ) - bᵢ² MD² W(gᵢ) / 6)², D(g) = gᵀ D g, W(g) = Σ W_ijkl g_i g_j g_k g_l,
    with wᵢ = 1, then wᵢ = ŝᵢ², the signal fitted in the round before. Linear in D, in MD² W and in log s0; W follows by
    division by the square of the mean of the eigenvalues. With constraints, the last round is a quadratic programme in
    those voxels whose least-squares fit does not obey them, with the same weights; the others keep theirs.

    References
    ----------
    Jensen et al. 2005, Magn. Reson. Med. 53:1432. Veraart et al. 2013, NeuroImage 81:335 (weights).
    Tabesh et al. 2011, Magn. Reson. Med. 65:823 (constraints).
    """

    constraints: np.ndarray = field(default_factory=lambda: np.zeros((0, N)))

    scales_columns: ClassVar[bool] = True  # they span 1 (log S0) to 1e6 (b²)

    @staticmethod
    def design_of(bvals: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """See :func:`kurtosis_design`."""
        return kurtosis_design(bvals, directions)

    def fit(self, signals: np.ndarray) -> KurtosisFit:
        """Tensor and kurtosis of each row.

        Parameters
        ----------
        signals : (n_vox, n_meas) float32 or float64
            The volumes of the design, in its order.
        """
        is_bound = np.zeros(len(signals), np.uint8)
        if len(self.constraints):
            coefs, evals, evecs, status = self._fit_bound(signals, is_bound)
        else:
            coefs, evals, evecs, status = self.fit_rows(signals)
        square = evals.mean(axis=1, keepdims=True) ** 2
        kurtosis = np.divide(coefs[:, 6:21], square, out=np.zeros((len(coefs), 15)), where=square > 0)
        return KurtosisFit(
            coefs[:, :6].copy(), coefs[:, 21].copy(), evals, evecs.reshape(-1, 3, 3), status, kurtosis,
            is_bound.astype(bool),
        )  # fmt: skip

    def _fit_bound(self, signals: np.ndarray, is_bound: np.ndarray) -> Results:
        """What :meth:`fit_rows` gives, under the constraints; ``is_bound`` (n_vox,) is filled."""
        from arcuate.models.constrained_kernels import Inequalities, constrain_voxels, make_constraint_room

        rows = self.constraints @ self.tables.to_coefs
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        inequalities = Inequalities(np.ascontiguousarray(np.pad(rows, ((0, 0), (0, -N % 8))).T))

        def fit(rows: np.ndarray, results: Results, place: slice) -> None:
            kept, bound = kept_of(len(rows), self.tables), is_bound[place]
            fit_voxels(rows, self.tables, self.n_reweight, self.limits, results, kept)
            room = make_constraint_room(inequalities, N)
            constrain_voxels(kept, self.tables, inequalities, room, results.coefs, results.status, bound)

        results, moved = fit_in_chunks(signals, N, fit), np.flatnonzero(is_bound)
        tensors, evals, evecs = floored_tensors(results.coefs[moved, :6], self.min_diffusivity)
        results.coefs[moved, :6], results.evals[moved] = tensors, evals
        results.evecs[moved] = evecs.reshape(-1, 9)
        return results


def fit_kurtosis(
    signals: np.ndarray,
    gradients: GradientTable,
    *,
    b_max: float = B_MAX,
    n_reweight: int = 1,
    nonnegative: bool = True,
    constrained: bool = False,
) -> KurtosisFit:
    """Tensor and kurtosis tensor of each voxel by weighted linear least squares.

    Parameters
    ----------
    signals : (n_vox, n_meas) float
        One row per voxel, all volumes of the table, any unit.
    gradients : GradientTable
    b_max, n_reweight, nonnegative, constrained
        See :func:`prepare_kurtosis`.

    Raises
    ------
    InputError
        The volumes do not determine a kurtosis tensor, or their number is not that of the gradient table.
    """
    signals = check_rows(signals, gradients)
    volumes, model = prepare_kurtosis(
        gradients, b_max=b_max, n_reweight=n_reweight, nonnegative=nonnegative, constrained=constrained
    )
    return model.fit(take_volumes(signals, volumes))


def prepare_kurtosis(
    gradients: GradientTable,
    *,
    b_max: float = B_MAX,
    n_reweight: int = 1,
    nonnegative: bool = True,
    constrained: bool = False,
) -> tuple[np.ndarray, KurtosisModel]:
    """The volumes a kurtosis tensor is fitted to, and the model prepared for them.

    Parameters
    ----------
    gradients : GradientTable
    b_max : float, s/mm²
        Shells up to ``b_max`` + 100 are used.
    n_reweight : int
        0 is OLS, 1 is WLS, more is IWLS.
    nonnegative : bool
        Raise eigenvalues of the diffusion tensor to 1e-6 / b, b the highest used.
    constrained : bool
        Hold kurtosis positive and the signal decreasing along every direction, see :func:`kurtosis_constraints`.

    Returns
    -------
    volumes : (n,) int
    model : KurtosisModel
        Fits rows of those volumes.
    """
    volumes = select_kurtosis_volumes(gradients, b_max=b_max)
    model = KurtosisModel.of_volumes(gradients, volumes, n_reweight=n_reweight, nonnegative=nonnegative)
    if constrained:
        bvals, directions = gradients.bvals[volumes], gradients.directions[volumes]
        rows = kurtosis_constraints(directions[~gradients.is_b0[volumes]], float(bvals.max()))
        model = replace(model, constraints=rows)
    return volumes, model


def kurtosis_constraints(directions: np.ndarray, b_max: float) -> np.ndarray:
    """(2 n, 22) rows A: where A c >= 0, kurtosis is positive and the signal decreases along the directions.

    Parameters
    ----------
    directions : (m, 3) float, unit vectors; n of them are distinct
    b_max : float, s/mm²
        Up to here the signal decreases.

    Notes
    -----
    With c the coefficients of :func:`kurtosis_design`: W(n) >= 0, and -d log s/db = D(n) - b MD² W(n) / 3 >= 0 at
    ``b_max``, hence below it. Together they hold D(n) at or above zero.

    References
    ----------
    Tabesh et al. 2011, Magn. Reson. Med. 65:823.
    """
    distinct = directions[distinct_directions(directions)]
    tensor, kurtosis = -tensor_design(np.ones(len(distinct)), distinct)[:, :6], monomials(distinct)
    blank, last = np.zeros_like(tensor), np.zeros((len(distinct), 1))
    positive = np.column_stack([blank, kurtosis, last])
    decreasing = np.column_stack([3 / b_max * tensor, -kurtosis, last])
    return np.concatenate([positive, decreasing])


def kurtosis_design(bvals: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """(n, 22): rows that give log S from D (6, as the tensor's), MD² W (15) and log S0; b in s/mm²."""
    bvals = np.asarray(bvals, dtype=np.float64)
    tensor = tensor_design(bvals, directions)
    return np.column_stack([tensor[:, :6], (bvals**2 / 6)[:, None] * monomials(directions), tensor[:, 6]])


def select_kurtosis_volumes(gradients: GradientTable, *, b_max: float = B_MAX) -> np.ndarray:
    """Volumes (n,) for kurtosis, as acquired: b = 0 and the shells up to ``b_max`` + 100.

    Warns
    -----
    InputWarning
        There is no b = 0 volume and S0 is extrapolated from the shells.

    Raises
    ------
    InputError
        Those volumes have fewer than two shells or 15 distinct directions, or do not determine the 22 unknowns.
    """
    shells = shells_or_levels(gradients)
    used = shells_up_to(shells, b_max)
    b0s = np.flatnonzero(gradients.is_b0)
    found = ", ".join(f"{shell.b:.0f}" for shell in shells[:8]) + (" ..." if len(shells) > 8 else "") or "none"
    n_needed, beside = (2, "beside b=0 it needs two") if len(b0s) else (3, "without b=0 it needs three")
    if len(used) < n_needed:
        raise NotApplicable(
            f"kurtosis is the curvature of the log signal over b: {beside} shells with b <= {b_max:g} s/mm²; found "
            f"{len(used)} (shells of the scan: {found}). "
            + ("Raise b_max (--b-max) to take the others." if len(shells) >= n_needed else "Fit the tensor alone.")
        )
    volumes = np.sort(np.concatenate([b0s, *[shell.indices for shell in used]]))
    weighted = np.concatenate([shell.indices for shell in used])
    n_distinct = count_directions(gradients.directions[weighted])
    if n_distinct < N_DIRECTIONS:
        raise NotApplicable(
            f"a kurtosis tensor needs {N_DIRECTIONS} distinct directions; found {n_distinct} with b from "
            f"{used[0].b:.0f} to {used[-1].b:.0f} s/mm². Fit the tensor alone, or check the b-vector file."
        )
    design = kurtosis_design(gradients.bvals[volumes], gradients.directions[volumes])
    support = np.linalg.svd(design / column_lengths(design), compute_uv=False)
    if len(support) < N or support[-1] < _LEAST_SUPPORT:
        raise NotApplicable(
            f"diffusion and kurtosis tensors have {N} unknowns; the {len(volumes)} volumes up to b = {used[-1].b:.0f} "
            f"s/mm² determine {int(np.sum(support >= _LEAST_SUPPORT))} of them (too few volumes, shells too close, or "
            "directions on a cone or in a plane). Fit the tensor alone, or check the b-vector file."
        )
    warn_without_b0(gradients)
    return volumes
