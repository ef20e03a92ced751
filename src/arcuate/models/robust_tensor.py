"""The tensor of voxels in which some volumes do not fit: slices that dropped out, spikes, motion within a volume."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy

from arcuate.errors import InputError, NotApplicable
from arcuate.gradients import GradientTable
from arcuate.models.log_linear import column_lengths, fit_in_chunks, make_tables
from arcuate.models.log_linear_kernels import Results, Tables
from arcuate.models.robust_kernels import Rule, fit_robustly
from arcuate.models.tensor import TensorFit, TensorModel, bvals_of, prepare_model, rows_and_model

CUTOFF = 3.6  # residuals beyond it, in standard deviations, are outliers (see LOG.md)
_FIRST_CUTOFF = 3.0  # of the Geman-McClure fit; later looks decide
_N_ROUNDS = 6  # of Geman-McClure weights
_N_LOOKS = 4  # at every volume, given the fit to those kept
_N_PRIOR = 10  # degrees of freedom that a noise map counts for
_SPARE = 5  # volumes above the number of unknowns: fewer residuals have no spread to speak of
_SPARE_LEFT = 3  # where others are known to be lost
_LEAST_BEND = 0.02  # of b² that a straight line in b leaves over: less is the scatter of the b-values of a shell


@dataclass(frozen=True)
class RobustTensorFit(TensorFit):
    """Tensors of ``n_vox`` voxels, and the volumes that had no part in them."""

    outliers: np.ndarray  # (n_vox, n_meas) bool, over the volumes of the model

    @property
    def n_outliers(self) -> np.ndarray:
        """(n_vox,) int, volumes left out of each voxel."""
        return np.count_nonzero(self.outliers, axis=1)


@dataclass(frozen=True)
class RobustTensorModel(TensorModel):
    """Fit of a tensor that leaves out the volumes which do not belong to it, prepared once for a list of volumes.

    Parameters
    ----------
    design, n_reweight, min_diffusivity, min_signal
        See :class:`arcuate.models.tensor.TensorModel`.
    cutoff : float
        A volume is an outlier where its residual is beyond as many standard deviations, or, since these are estimated
        from the residuals themselves, where Student's t is as improbable.

    Raises
    ------
    InputError
        ``cutoff`` is not above zero.
    NotApplicable
        The design has too few volumes more than unknowns for any to be told from the others.

    Notes
    -----
    Outliers are looked for with one unknown more, b², where the b-values tell it (b = 0 and two shells): the mean of
    the signal bends away from a tensor's, which is no fault of the volumes. With n unknowns (7, or 8) it starts at the
    minimum of Σᵢ ρ(zᵢ), zᵢ = ŝᵢ (log sᵢ - log ŝᵢ), ρ(z) = z² / (1 + z² / C²) of Geman and McClure, by reweighting: wᵢ =
    ŝᵢ² (1 + zᵢ² / C²)⁻² from the round before, first from the squares of the signals or of their OLS fit, whichever are
    less. C is 1.4826 √(N / (N - n)) times the median of the |zᵢ| of N volumes, and not below the noise where it is
    given. Volumes whose residual rᵢ is within 3 C are kept, rᵢ = sᵢ - ŝᵢ above the fit and zᵢ below it.

    Then every volume is judged anew, four times, given the WLS fit to the K that are kept. With hᵢ = ŝᵢ² uᵢᵀ (Σ wⱼ uⱼ
    uⱼᵀ)⁻¹ uᵢ its leverage and R = Σ zⱼ² over those kept, it is kept where |rᵢ| <= t √(v (1 ± hᵢ)): for one of the kept,
    v = (R - zᵢ² / (1 - hᵢ)) / (K - n - 1), the variance without it, and 1 - hᵢ; for one left out v = R / (K - n) and
    1 + hᵢ. t is the quantile of Student's t for the degrees of freedom of v that a standard normal has at the cutoff. A
    noise σ that is given counts for ten degrees of freedom of v, which is not below σ². The tensor is the WLS fit, with
    its 7 unknowns, to what is kept; in a voxel without outliers it is that of WLS itself. Where what is kept does not
    determine a tensor nothing is left out, and the status is NOT_CONVERGED.

    References
    ----------
    Chang, Jones & Pierpaoli 2005, Magn. Reson. Med. 53:1088. Collier et al. 2015, Magn. Reson. Med. 73:2174.
    """

    cutoff: float = CUTOFF
    search: Tables = field(init=False, repr=False)
    n_unknowns: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.cutoff > 0:
            raise InputError(f"found the cutoff {self.cutoff:g}; expected a number above 0, such as {CUTOFF:g}.")
        n_meas, n = self.design.shape
        if n_meas < n + _SPARE:
            raise NotApplicable(
                f"a robust tensor needs {n + _SPARE} volumes, {_SPARE} more than it has unknowns; found {n_meas}. Fit "
                "it without robust (--robust)."
            )
        wider = _with_curvature(self.design)
        object.__setattr__(self, "search", make_tables(wider, column_lengths(wider)))
        object.__setattr__(self, "n_unknowns", n + int(wider[:, n].any()))

    def fit(
        self, signals: np.ndarray, noise: np.ndarray | None = None, lost: np.ndarray | None = None
    ) -> RobustTensorFit:
        """Tensor of each row.

        Parameters
        ----------
        signals : (n_vox, n_meas) float32 or float64
            The volumes of the design, in its order.
        noise : (n_vox,) float, unit of the signal
            Standard deviation of the noise; unknown where it is not above zero, and without it.
        lost : (n_vox, n_meas) bool
            Volumes that are known to be of no use; they are outliers whatever they hold. Where they leave fewer than
            12 volumes, no others are looked for.
        """
        known = np.zeros(len(signals)) if noise is None else np.nan_to_num(np.asarray(noise, dtype=np.float64))
        outliers = np.zeros(np.shape(signals), np.uint8)
        if lost is not None:
            outliers[lost] = 1
        n_meas, n = self.design.shape
        cutoffs = student_cutoffs(self.cutoff, n_meas + _N_PRIOR)
        rule = Rule(
            _N_ROUNDS, _N_LOOKS, _FIRST_CUTOFF, cutoffs, _N_PRIOR, self.n_reweight, self.n_unknowns + _SPARE_LEFT,
            self.n_unknowns,
        )  # fmt: skip

        def fit(rows: np.ndarray, results: Results, place: slice) -> None:
            fit_robustly(rows, known[place], self.search, self.tables, rule, self.limits, results, outliers[place])

        results = fit_in_chunks(signals, n, fit)
        return RobustTensorFit.of_results(results, outliers=outliers.astype(bool))


def _with_curvature(design: np.ndarray) -> np.ndarray:
    """(n_meas, 8): the design and b², by which the mean of the signal departs from a tensor's; 0 where nothing tells.

    So it is with b = 0 and one shell, and where there are too few volumes for one more unknown.
    """
    n_meas, n = design.shape
    b = bvals_of(design)
    b = b / max(b.max(), 1e-300)
    line = np.column_stack([np.ones(n_meas), b])
    bend = b * b - line @ np.linalg.lstsq(line, b * b, rcond=None)[0]
    is_told = np.linalg.norm(bend) > _LEAST_BEND * np.linalg.norm(b * b) and n_meas >= n + 1 + _SPARE
    return np.column_stack([design, bend if is_told else np.zeros(n_meas)])


def student_cutoffs(cutoff: float, most: int) -> np.ndarray:
    """(n,) where Student's t is as improbable as a normal at the cutoff, for 0 ... ``most`` degrees of freedom.

    Infinite for 0.
    """
    freedom = np.arange(1, most + 1)
    return np.r_[np.inf, -scipy.special.stdtrit(freedom, scipy.special.ndtr(-cutoff))]


def fit_robust_tensor(
    signals: np.ndarray, gradients: GradientTable, *, noise: np.ndarray | None = None, **options: Any
) -> RobustTensorFit:
    """Tensor of each voxel without the volumes that do not fit.

    Parameters
    ----------
    signals : (n_vox, n_meas) float
        One row per voxel, all volumes of the table, any unit.
    gradients : GradientTable
    noise : (n_vox,) float, unit of the signal
        See :meth:`RobustTensorModel.fit`.
    options
        Those of :func:`arcuate.models.tensor.prepare_model`: ``b_max``, ``n_reweight``, ``nonnegative``.

    Raises
    ------
    InputError
        The volumes do not determine a tensor or its outliers, or their number is not that of the gradient table.
    """
    rows, model = rows_and_model(RobustTensorModel, signals, gradients, **options)
    return model.fit(rows, noise)


def prepare_robust_tensor(gradients: GradientTable, **options: Any) -> tuple[np.ndarray, RobustTensorModel]:
    """The volumes (n,) and the model prepared for them; ``options`` of :func:`arcuate.models.tensor.prepare_model`."""
    return prepare_model(RobustTensorModel, gradients, **options)
