"""Diffusion tensor by ordinary, weighted and iteratively reweighted linear least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, TypeVar

import numpy as np

from arcuate.errors import InputError, NotApplicable, warn
from arcuate.gradients import SHELL_GAP, GradientTable, Shell
from arcuate.models.log_linear import LogLinearModel, check_rows, take_volumes, warn_without_b0
from arcuate.models.log_linear_kernels import Results
from arcuate.numerics.eigen import eigh_3x3
from arcuate.numerics.sphere import count_directions

B_MAX = 1500.0  # s/mm²; above it the signal of tissue leaves the tensor's exponential
_LEAST_SUPPORT = (
    0.05  # smallest singular value of the design (b in units of the highest) that still determines a tensor
)


@dataclass(frozen=True)
class TensorFit:
    """Tensors of ``n_vox`` voxels; zero where nothing could be fitted (see ``status``)."""

    tensors: np.ndarray  # (n_vox, 6) float64, mm²/s: xx xy xz yy yz zz, scanner frame
    s0: np.ndarray  # (n_vox,) float64, unit of the signal
    evals: np.ndarray  # (n_vox, 3) float64, mm²/s, largest first
    evecs: np.ndarray  # (n_vox, 3, 3) float64, evecs[v, k] is the unit vector of evals[v, k], scanner frame
    status: np.ndarray  # (n_vox,) uint8, see Status

    @classmethod
    def of_results(cls, results: Results, **fields: np.ndarray) -> Self:
        """From what kernels filled in for seven coefficients; ``fields`` are those that a subclass has more."""
        coefs, evals, evecs, status = results
        return cls(coefs[:, :6], coefs[:, 6], evals, evecs.reshape(-1, 3, 3), status, **fields)

    @cached_property
    def fa(self) -> np.ndarray:
        """(n_vox,) fractional anisotropy, 0 to 1."""
        return fractional_anisotropy(self.evals)

    @property
    def md(self) -> np.ndarray:
        """(n_vox,) mean diffusivity, mm²/s."""
        return self.evals.mean(axis=-1)

    @property
    def ad(self) -> np.ndarray:
        """(n_vox,) axial diffusivity, mm²/s: along the first eigenvector."""
        return self.evals[:, 0]

    @property
    def rd(self) -> np.ndarray:
        """(n_vox,) radial diffusivity, mm²/s: mean across the first eigenvector."""
        return self.evals[:, 1:].mean(axis=-1)


@dataclass(frozen=True)
class TensorModel(LogLinearModel):
    """Least-squares fit of a tensor to log signals, prepared once for a list of volumes.

    Parameters
    ----------
    design : (n_meas, 7) float
        Rows that give log S from the coefficients (xx, xy, xz, yy, yz, zz, log S0), see :func:`tensor_design`.
    n_reweight, min_diffusivity, min_signal
        See :class:`arcuate.models.log_linear.LogLinearModel`.

    Notes
    -----
    Minimises Σᵢ wᵢ (log sᵢ - log s0 + bᵢ gᵢᵀ D gᵢ)² with wᵢ = 1, then wᵢ = ŝᵢ², the signal fitted in the round before.
    A design of rank under 7 gives the solution of least norm.

    References
    ----------
    Basser, Mattiello & Le Bihan 1994, J. Magn. Reson. B 103:247.
    Veraart et al. 2013, NeuroImage 81:335 (weights from the fitted signal).
    """

    @staticmethod
    def design_of(bvals: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """See :func:`tensor_design`."""
        return tensor_design(bvals, directions)

    def fit(self, signals: np.ndarray) -> TensorFit:
        """Tensor of each row.

        Parameters
        ----------
        signals : (n_vox, n_meas) float32 or float64
            The volumes of the design, in its order.
        """
        return TensorFit.of_results(self.fit_rows(signals))


M = TypeVar("M", bound=TensorModel)


def fit_tensor(signals: np.ndarray, gradients: GradientTable, **options: Any) -> TensorFit:
    """Tensor of each voxel by weighted linear least squares.

    Parameters
    ----------
    signals : (n_vox, n_meas) float
        One row per voxel, all volumes of the table, any unit.
    gradients : GradientTable
    options
        Those of :func:`prepare_model`: ``b_max``, ``n_reweight``, ``nonnegative``.

    Raises
    ------
    InputError
        The volumes do not determine a tensor, or their number is not that of the gradient table.
    """
    rows, model = rows_and_model(TensorModel, signals, gradients, **options)
    return model.fit(rows)


def prepare_tensor(gradients: GradientTable, **options: Any) -> tuple[np.ndarray, TensorModel]:
    """The volumes (n,) a tensor is fitted to, and the model prepared for them; ``options`` of :func:`prepare_model`."""
    return prepare_model(TensorModel, gradients, **options)


def prepare_model(
    kind: type[M], gradients: GradientTable, *, b_max: float = B_MAX, n_reweight: int = 1, nonnegative: bool = True
) -> tuple[np.ndarray, M]:
    """The volumes a tensor is fitted to, and the model prepared for them.

    Parameters
    ----------
    kind : class
        :class:`TensorModel`, or one of its subclasses.
    gradients : GradientTable
    b_max : float, s/mm²
        Shells up to ``b_max`` + 100 are used; more if they do not suffice, with a warning.
    n_reweight : int
        0 is OLS, 1 is WLS, more is IWLS.
    nonnegative : bool
        Raise eigenvalues to 1e-6 / b, b the highest used, which is the tensor nearest to the fitted one among those.

    Returns
    -------
    volumes : (n,) int
    model
        Of the class ``kind``; fits rows of those volumes.
    """
    volumes = select_volumes(gradients, b_max=b_max)
    return volumes, kind.of_volumes(gradients, volumes, n_reweight=n_reweight, nonnegative=nonnegative)


def rows_and_model(
    kind: type[M], signals: np.ndarray, gradients: GradientTable, **options: Any
) -> tuple[np.ndarray, M]:
    """The volumes of signals (n_vox, n_meas) that a tensor is fitted to, as rows, and the model prepared for them.

    For ``kind`` and ``options`` see :func:`prepare_model`; refuses signals that do not belong to the table.
    """
    signals = check_rows(signals, gradients)
    volumes, model = prepare_model(kind, gradients, **options)
    return take_volumes(signals, volumes), model


def solve_weighted(
    design: np.ndarray, logs: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (n_vox, n_coef) of log signals (n_vox, n_meas) for given weights, and the leverages (n_vox, n_meas).

    For weights of one's own and for diagnostics; :class:`TensorModel` is a hundred times as fast. Minimises
    Σᵢ wᵢ (logᵢ - xᵢᵀ c)², wᵢ = 1 without ``weights``; the leverage of i is the weight that log i has in its own fit.
    """
    roots = np.ones((1, len(design))) if weights is None else np.sqrt(weights)
    inverse = np.linalg.pinv(design * roots[:, :, None]) * roots[:, None, :]
    leverages = np.einsum("ij,vji->vi", design, inverse)
    return np.einsum("vji,vi->vj", np.broadcast_to(inverse, (len(logs), *inverse.shape[1:])), logs), np.broadcast_to(
        leverages, logs.shape
    )


def tensor_design(bvals: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """(n, 7): rows that give log S from (xx, xy, xz, yy, yz, zz, log S0); b in s/mm², unit directions (n, 3)."""
    x, y, z = np.asarray(directions).T
    return np.column_stack(
        [-bvals * x * x, -2 * bvals * x * y, -2 * bvals * x * z, -bvals * y * y, -2 * bvals * y * z, -bvals * z * z,
         np.ones(len(bvals))]
    )  # fmt: skip


def select_volumes(gradients: GradientTable, *, b_max: float = B_MAX) -> np.ndarray:
    """Volumes (n,) for a tensor, as acquired: b = 0 and the shells up to ``b_max`` + 100, or the lowest that suffice.

    Warns
    -----
    InputWarning
        Shells above ``b_max`` are needed; or there is no b = 0 volume and S0 is extrapolated from the shells.

    Raises
    ------
    InputError
        No choice of shells has 6 distinct directions and two different b-values.
    """
    shells = shells_or_levels(gradients)
    b0s = np.flatnonzero(gradients.is_b0)
    n_wanted = len(shells_up_to(shells, b_max))
    n_used = next((n for n in range(n_wanted, len(shells) + 1) if not _what_is_missing(gradients, shells[:n])), None)
    if n_used is None:
        raise NotApplicable(_what_is_missing(gradients, shells))
    if n_used > n_wanted:
        used = ", ".join(f"{shell.b:.0f}" for shell in shells[:n_used])
        warn(
            f"the volumes with b <= {b_max:g} s/mm² do not determine a tensor; fitted to the shells at b = {used}. "
            f"Its diffusivities are lower than those of scans with b <= {b_max:g}: compare with like scans only."
        )
    warn_without_b0(gradients)
    return np.sort(np.concatenate([b0s, *[shell.indices for shell in shells[:n_used]]]))


def determines_tensor(design: np.ndarray) -> bool:
    """Whether the rows of a design (n_meas, 7), see :func:`tensor_design`, determine a tensor and S0."""
    return len(design) >= 7 and bvals_of(design).max() > 0 and _n_determined(design) == 7


def bvals_of(design: np.ndarray) -> np.ndarray:
    """(n_meas,) b-values, s/mm², of a design (n_meas, 7), see :func:`tensor_design`."""
    return np.asarray(-design[:, [0, 3, 5]].sum(axis=1))


def _n_determined(design: np.ndarray) -> int:
    """How many of its 7 unknowns a design determines, b in units of the highest."""
    scaled = np.column_stack([design[:, :6] / bvals_of(design).max(), design[:, 6]])
    return int(np.sum(np.linalg.svd(scaled, compute_uv=False) >= _LEAST_SUPPORT))


def shells_or_levels(gradients: GradientTable) -> tuple[Shell, ...]:
    """The shells; where the b-values form none (a tensor needs none), one group per distinct b-value."""
    try:
        return gradients.shells
    except InputError:
        weighted = np.flatnonzero(~gradients.is_b0)
        levels = np.unique(gradients.bvals[weighted])
        return tuple(Shell(float(b), weighted[gradients.bvals[weighted] == b]) for b in levels)


def shells_up_to(shells: Sequence[Shell], b_max: float) -> list[Shell]:
    """The shells with b <= ``b_max`` + 100 s/mm²; a ``b_max`` that no b-value can be is refused."""
    if not b_max > 0:  # NaN as well
        raise InputError(f"found b_max = {b_max:g}; expected a b-value above 0, in s/mm².")
    return [shell for shell in shells if shell.b <= b_max + SHELL_GAP]


def _what_is_missing(gradients: GradientTable, shells: tuple[Shell, ...]) -> str:
    """Why b = 0 and these shells do not determine a tensor; empty if they do."""
    if not shells:
        return (
            f"a tensor needs volumes with b above {gradients.b0_threshold:g} s/mm²; all {len(gradients)} b-values are "
            "at or below it. Check the b-value file."
        )
    indices = np.concatenate([shell.indices for shell in shells])
    directions = gradients.directions[indices]
    n_distinct = count_directions(directions)
    if n_distinct < 6:
        return (
            f"a tensor needs 6 distinct directions; found {n_distinct} with b from {shells[0].b:.0f} to "
            f"{shells[-1].b:.0f} s/mm². Raise b_max if there are shells above, or check the b-vector file."
        )
    n_b0 = int(gradients.is_b0.sum())
    if n_b0 == 0 and len(shells) == 1:
        return (
            f"a tensor needs two different b-values; all {len(indices)} volumes have b = {shells[0].b:.0f} s/mm² and "
            "none is b=0. Add the b=0 volumes that were acquired with them, or raise b0_threshold (--b0-threshold) "
            f"above the lowest b-value ({gradients.bvals.min():g}) if those are meant as b=0."
        )
    bvals = np.concatenate([np.full(len(shell), shell.b) for shell in shells])
    design = np.vstack([tensor_design(bvals, directions), np.tile([0.0] * 6 + [1.0], (n_b0, 1))])
    if (n_determined := _n_determined(design)) < 7:
        return (
            f"a tensor has 7 unknowns; the {len(design)} volumes up to b = {shells[-1].b:.0f} s/mm² determine "
            f"{n_determined} of them (their directions lie on a cone or in a plane). "
            "Check the b-vector file, or acquire directions spread over the sphere."
        )
    return ""


def floored_tensors(tensors: np.ndarray, min_diffusivity: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tensors (n_vox, 6) whose eigenvalues are raised to ``min_diffusivity``, those (n_vox, 3), and their vectors."""
    evals, evecs = eigh_3x3(tensors)
    low = evals[:, 2] < min_diffusivity
    evals, tensors = np.maximum(evals, min_diffusivity), tensors.copy()
    rebuilt = np.einsum("vki,vk,vkj->vij", evecs[low], evals[low], evecs[low])
    tensors[low] = rebuilt[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]
    return tensors, evals, evecs


def fractional_anisotropy(evals: np.ndarray) -> np.ndarray:
    """(...,) from eigenvalues (..., 3): sqrt(1/2 Σ (λᵢ - λⱼ)² / Σ λᵢ²), 0 where all are 0."""
    a, b, c = np.moveaxis(np.asarray(evals, dtype=np.float64), -1, 0)
    power = a * a + b * b + c * c
    spread = 0.5 * ((a - b) ** 2 + (b - c) ** 2 + (c - a) ** 2)
    return np.sqrt(np.divide(spread, power, out=np.zeros_like(power), where=power > 0))
