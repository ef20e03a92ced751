"""A second fit of multi-tissue FODs where fibres cross: slack on the constraint tells close fibres apart."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import numpy as np

from arcuate.models.multitissue import MultiTissueFit, MultiTissueModel, constraint_matrix
from arcuate.models.status import Status
from arcuate.models.three_tissue import DETERMINED, RIDGE, ThreeTissueModel
from arcuate.numerics.panel_product import evaluate_rows
from arcuate.numerics.qp import ConeProblem
from arcuate.numerics.qp_kernel import SOLVED
from arcuate.numerics.sh import degrees_and_orders, lmax_of, n_coefs, sh_matrix
from arcuate.numerics.sphere import get_even_directions

TIE = 30.0  # weight of the tied coefficient over the length of its column: it moves by a thousandth of what it would
LOW = 0.1  # of the mean amplitude: a direction below counts as empty
HIGHEST = 72.0  # l(l+1) of degree 8, in units of which the Laplace-Beltrami term is written


@dataclass(frozen=True)
class Sharpening:
    """Settings of the two passes; the defaults were chosen on simulated voxels, see the page of the method.

    Parameters
    ----------
    smoothness : weight of the Laplace-Beltrami term of the first pass on several shells; none on one shell
    slack : amplitudes of the second pass may be down to minus this share of the mean amplitude
    planarity : least difference of the second and the third eigenvalue of the FOD's second moment, of trace one
    emptiness : least share of directions where the FOD is below a tenth of its mean
    """

    smoothness: float = 1e-3
    slack: float = 0.15
    planarity: float = 0.06
    emptiness: float = 0.5


class TissueModel(Protocol):
    """Tissues of rows of signals, see :class:`MultiTissueModel` and :class:`ThreeTissueModel`."""

    @property
    def volumes(self) -> np.ndarray: ...

    @property
    def lmax(self) -> tuple[int, ...]: ...

    def fit(self, signals: np.ndarray) -> MultiTissueFit: ...


@dataclass(frozen=True)
class TwoPassModel:
    """Two fits of the same signals, the second in some voxels only.

    1. The model as it is; on several shells with a Laplace-Beltrami term,
       |Xu - s|² + m |x₀|² Σ (l(l+1)/72)² u_lm², which keeps dispersed fibres in one lobe (x₀ the column of l = 0).
    2. Where the FOD is planar and mostly empty, as where fibres cross and not where one is dispersed or grey matter is
       mixed in: |Xu - s'|² without that term, s' the signal less that of the isotropic tissues, amplitudes down to
       minus a share of the mean allowed, and u₀ tied to the first pass, so that apparent fibre density stays.
    """

    first: TissueModel
    white_design: np.ndarray  # (n_row, n_wm) float
    other_design: np.ndarray  # (n_row, n_other) float, of the isotropic tissues in the order of the response
    averaging: np.ndarray | None  # (n_row, n_meas) float, as ThreeTissueModel has it; None: rows are the signals
    problem: ConeProblem
    settings: Sharpening

    @property
    def volumes(self) -> np.ndarray:
        """(n_meas,) int, volumes of the scan that the model sees."""
        return self.first.volumes

    @property
    def lmax(self) -> tuple[int, ...]:
        """Degree of each tissue."""
        return self.first.lmax

    def fit(self, signals: np.ndarray) -> MultiTissueFit:
        """Tissues of signals (n_vox, n_meas); voxels whose second pass finds no solution keep the first."""
        signals = np.asarray(signals)
        fit = self.first.fit(signals)
        place = self.lmax.index(max(self.lmax))
        white, others = fit.coefs[place], np.hstack([np.zeros((len(signals), 0)), *_without(fit.coefs, place)])
        chosen = np.flatnonzero((fit.status == Status.FITTED) & is_crossing(white, self.settings))
        if len(chosen) == 0:
            return fit
        picked = signals[chosen].astype(np.float64)
        rows = picked if self.averaging is None else evaluate_rows(picked, self.averaging)
        rows = rows - evaluate_rows(others[chosen], self.other_design)
        weight = TIE * float(np.linalg.norm(self.white_design[:, 0]))
        tied = np.hstack([rows, weight * white[chosen, :1]])
        second = self.problem.solve(tied)
        is_solved = second.outcome == SOLVED
        kept = chosen[is_solved]
        sharp, residual, n_active = white.copy(), fit.kkt_residual.copy(), fit.n_active.copy()
        sharp[kept], residual[kept] = second.solution[is_solved], second.kkt_residual[is_solved]
        n_active[kept] = second.n_active[is_solved]
        coefs = tuple(sharp if i == place else part for i, part in enumerate(fit.coefs))
        return replace(fit, coefs=coefs, kkt_residual=residual, n_active=n_active)


def make_two_pass_model(
    model: MultiTissueModel | ThreeTissueModel,
    *,
    constraint_directions: np.ndarray | None = None,
    settings: Sharpening | None = None,
) -> TwoPassModel:
    """The two passes of a model, see :class:`TwoPassModel`; directions as for the model."""
    settings = settings or Sharpening()
    if isinstance(model, ThreeTissueModel):
        grey, fluid = model.isotropic
        white, others = model.design[:, :-2], model.design[:, [-2, -1] if grey < fluid else [-1, -2]]
        first: TissueModel = model
        averaging: np.ndarray | None = model.averaging
    else:
        place = model.lmax.index(max(model.lmax))
        ends = np.cumsum([n_coefs(lmax) for lmax in model.lmax])
        is_white = np.zeros(int(ends[-1]), bool)
        is_white[ends[place] - n_coefs(model.lmax[place]) : ends[place]] = True
        design = model.problem.design
        white, others, averaging = design[:, is_white], design[:, ~is_white], None
        first = _smoothed(model, is_white, settings.smoothness) if settings.smoothness else model
    return TwoPassModel(
        first, white, others, averaging, _slack_problem(white, constraint_directions, settings.slack), settings
    )


def is_crossing(fods: np.ndarray, settings: Sharpening | None = None) -> np.ndarray:
    """(n_vox,) bool, FODs (n_vox, n_coef) that are planar and mostly empty, see :class:`Sharpening`."""
    settings = settings or Sharpening()
    out = np.zeros(len(fods), bool)
    if fods.shape[1] < n_coefs(2):
        return out
    moments = second_moments(fods[:, : n_coefs(2)])
    evals = np.linalg.eigvalsh(moments)
    planar = np.flatnonzero((evals[:, 1] - evals[:, 0] > settings.planarity) & (fods[:, 0] > 0))
    amplitude = evaluate_rows(fods[planar], sh_matrix(get_even_directions(), lmax_of(fods.shape[1])))
    is_low = amplitude < LOW * fods[planar, :1] / math.sqrt(4 * math.pi)
    out[planar] = is_low.mean(axis=1) > settings.emptiness
    return out


def second_moments(fods: np.ndarray) -> np.ndarray:
    """(n_vox, 3, 3) ∫ f n nᵀ dn / ∫ f dn of FODs (n_vox, 6 or more); 0 where the FOD has no mass."""
    row = evaluate_rows(np.ascontiguousarray(fods[:, : n_coefs(2)]), _moment_matrix())
    mass = fods[:, 0] * math.sqrt(4 * math.pi)
    row = np.divide(row, mass[:, None], out=np.zeros_like(row), where=mass[:, None] > 0)
    xx, xy, xz, yy, yz, zz = row.T
    return np.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], axis=1).reshape(-1, 3, 3)


@lru_cache(maxsize=1)
def _moment_matrix() -> np.ndarray:
    """(6, 6) integrals of x², xy, xz, y², yz, z² times each harmonic up to degree 2, by an exact rule."""
    nodes, weights = np.polynomial.legendre.leggauss(4)
    azimuth = 2 * np.pi * np.arange(8) / 8
    z = np.repeat(nodes, 8)
    rho, turn = np.sqrt(1 - z * z), np.tile(azimuth, 4)
    points = np.column_stack([rho * np.cos(turn), rho * np.sin(turn), z])
    x, y, z = points.T
    products = np.stack([x * x, x * y, x * z, y * y, y * z, z * z])
    return np.asarray((products * np.repeat(weights, 8) * 2 * np.pi / 8) @ sh_matrix(points, 2))


def _smoothed(model: MultiTissueModel, is_white: np.ndarray, smoothness: float) -> MultiTissueModel:
    """The model with the Laplace-Beltrami term on white matter."""
    design = model.problem.design
    degree, _ = degrees_and_orders(max(model.lmax))
    rows = np.zeros((len(degree), design.shape[1]))
    length = float(np.linalg.norm(design[:, np.flatnonzero(is_white)[0]]))
    rows[:, is_white] = np.diag(math.sqrt(smoothness) * length * degree * (degree + 1) / HIGHEST)
    before = model.problem.penalty
    penalty = rows[degree > 0] if before is None else np.vstack([before, rows[degree > 0]])
    return replace(model, problem=replace(model.problem, penalty=penalty))


def _slack_problem(white: np.ndarray, directions: np.ndarray | None, slack: float) -> ConeProblem:
    """White matter alone, amplitude >= -slack x mean, the coefficient of l = 0 tied by one heavy row."""
    n = white.shape[1]
    length = float(np.linalg.norm(white[:, 0]))
    tie = TIE * length * np.eye(n)[:1]
    design = np.vstack([white, tie])
    singular = np.linalg.svd(design / np.linalg.norm(design, axis=0), compute_uv=False)
    is_determined = len(white) >= n and singular[-1] > DETERMINED * singular[0]
    penalty = None if is_determined else math.sqrt(RIDGE) * length * np.eye(n)
    constraints = constraint_matrix((lmax_of(n),), directions)
    constraints[:, 0] *= 1 + slack
    return ConeProblem(design, constraints, penalty)


def _without(parts: tuple[np.ndarray, ...], place: int) -> list[np.ndarray]:
    return [part for i, part in enumerate(parts) if i != place]
