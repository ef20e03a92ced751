"""A second fit of multi-tissue FODs by their shape: with slack where fibres cross, smooth where they are dispersed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import numpy as np
from threadpoolctl import threadpool_limits

from arcuate.models.multitissue import MultiTissueFit, MultiTissueModel
from arcuate.models.peaks import find_peaks
from arcuate.models.status import Status
from arcuate.models.three_tissue import GREY, ThreeTissueModel
from arcuate.models.tied_fit import contrast_of, laplace_beltrami, make_tied_problem, solve_tied
from arcuate.numerics.eigen import eigh_3x3
from arcuate.numerics.panel_product import evaluate_rows
from arcuate.numerics.qp import ConeFit, ConeProblem
from arcuate.numerics.qp_kernel import SOLVED
from arcuate.numerics.sh import degrees_and_orders, lmax_of, n_coefs, sh_matrix
from arcuate.numerics.sphere import get_even_directions

LOW = 0.1  # of the mean amplitude: a direction below counts as empty
LEAST_PEAK, APART = 0.2, 15.0  # of the strongest, and degrees: peaks that may account for the spread of a FOD
MOST_UNEXPLAINED = 0.05  # of the spread that peaks may leave, however much the signals ask for them
MISFIT_DEGREE = 2  # up to which a voxel's signals may differ from the response's on each shell
RANK = 1e-8  # of the largest singular value, below which one counts as none
SAME_MEAN = 9  # digits to which the mean signal of a shell is that of all its volumes
BLOCK = 4096  # voxels whose amplitudes are held at a time


@dataclass(frozen=True)
class Sharpening:
    """Settings of the two passes; the defaults were chosen on simulated voxels, see the page of the method.

    Parameters
    ----------
    smoothness : weight of the Laplace-Beltrami term of the first pass on several shells; none on one shell
    slack : amplitudes of the second pass may be down to minus this share of the mean amplitude
    planarity : least difference of the second and the third eigenvalue of the FOD's second moment, of trace one
    emptiness : least share of directions where the FOD is below a tenth of its mean
    unexplained : how much of that difference the two strongest peaks of the second pass may leave, on several shells;
        on one shell it is known too roughly to part fans from crossings, unless evidence is asked for. 0.005 leaves
        fans whole, at the price of close crossings in noise
    evidence : what the signals must say for the second pass where its peaks leave ``unexplained`` of the spread: twice
        the log of the likelihood ratio, see :func:`evidence_for`; 0 asks for none
    per_evidence : how much more of the spread may be left for each unit of evidence beyond that, up to 0.05 in all, and
        how much less for each unit that it falls short
    least_evidence : what the signals must say in any case
    of_all_degrees : how much of the evidence of all degrees is added to that of those above 2
    dispersed : on one shell, weight of a Laplace-Beltrami term where FODs are neither planar nor mostly empty, over
        what the signals tell of degree 4, see :func:`contrast_of`; 0 leaves those voxels as the first pass found them
    """

    smoothness: float = 1e-3
    slack: float = 0.2
    planarity: float = 0.06
    emptiness: float = 0.5
    unexplained: float = MOST_UNEXPLAINED
    evidence: float = 0.0
    per_evidence: float = 0.0
    least_evidence: float = 0.0
    of_all_degrees: float = 0.0
    dispersed: float = 0.05


SURE_ON_ONE_SHELL = Sharpening(
    smoothness=0.0, unexplained=0.005, evidence=20.0, per_evidence=2e-3, least_evidence=16.0, of_all_degrees=0.5
)
SURE_ON_SHELLS = Sharpening(
    smoothness=0.0, unexplained=0.005, evidence=11.0, per_evidence=4e-3, least_evidence=8.0, dispersed=0.0
)
"""One pass as it is, and a sharper second only where the signals ask for it; on one shell and on several."""


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
    3. The second pass stands only where its peaks account for the spread of the first (on several shells, or with
       evidence asked for): two fibres at a given angle spread so much in their plane and no more, while a fan that
       noise splits spreads further than its two peaks are apart, see :func:`unexplained_spread`; and where the signals
       ask for it, if evidence is: see :func:`evidence_for`. The more they do, the more of the spread may be left.
    4. On one shell: where the FOD is neither planar nor mostly empty, |Xu - s'|² with a Laplace-Beltrami
       term and u₀ tied. Fibres are dispersed there, or there are three, and the constraint alone splits them into peaks
       of noise. Where less than a share of 0.3 is white matter FODs are smooth already.
    """

    first: TissueModel
    white_design: np.ndarray  # (n_row, n_wm) float
    other_design: np.ndarray  # (n_row, n_other) float, of the isotropic tissues in the order of the response
    averaging: np.ndarray | None  # (n_row, n_meas) float, as ThreeTissueModel has it; None: rows are the signals
    problem: ConeProblem
    settings: Sharpening
    tells_fans: bool  # whether a second pass whose peaks leave spread unexplained is refused
    misfit: np.ndarray | None = None  # (n_row, n) float orthonormal, what is no evidence, see misfit_of
    smooth: ConeProblem | None = None  # of dispersed fibres

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
        is_fitted = fit.status == Status.FITTED
        crossing = np.flatnonzero(is_fitted & is_crossing(white, self.settings))
        rows = self._rows_of_white(signals, others, crossing)
        sharp = solve_tied(self.problem, rows, white[crossing, 0])
        found = [(crossing, sharp, self._stands(rows, white[crossing], sharp))]
        if self.smooth is not None:
            is_white = white[:, 0] >= GREY * (white[:, 0] + others.sum(axis=1))
            dispersed = np.flatnonzero(is_fitted & is_white & is_dispersed(white, self.settings))
            rows = self._rows_of_white(signals, others, dispersed)
            smooth = solve_tied(self.smooth, rows, white[dispersed, 0])
            found.append((dispersed, smooth, smooth.outcome == SOLVED))
        fods, residual, n_active = white.copy(), fit.kkt_residual.copy(), fit.n_active.copy()
        for voxels, again, stands in found:
            kept = voxels[stands]
            fods[kept], residual[kept] = again.solution[stands], again.kkt_residual[stands]
            n_active[kept] = again.n_active[stands]
        coefs = tuple(fods if i == place else part for i, part in enumerate(fit.coefs))
        return replace(fit, coefs=coefs, kkt_residual=residual, n_active=n_active)

    def _rows_of_white(self, signals: np.ndarray, others: np.ndarray, voxels: np.ndarray) -> np.ndarray:
        """(n, n_row) what white matter has to explain in voxels (n,) int."""
        picked = signals[voxels].astype(np.float64)
        rows = picked if self.averaging is None else evaluate_rows(picked, self.averaging)
        return rows - evaluate_rows(others[voxels], self.other_design) if others.shape[1] > 0 else rows

    def _stands(self, rows: np.ndarray, fods: np.ndarray, sharp: ConeFit) -> np.ndarray:
        """(n,) bool, where a second pass of the FODs stands."""
        settings, stands = self.settings, sharp.outcome == SOLVED
        most = np.full(len(fods), settings.unexplained)
        if settings.evidence > 0:
            evidence = evidence_for(self.white_design, rows, fods, sharp.solution, self.misfit)
            if settings.of_all_degrees > 0:
                evidence += settings.of_all_degrees * evidence_for(self.white_design, rows, fods, sharp.solution)
            stands &= evidence > settings.least_evidence
            most += settings.per_evidence * (evidence - settings.evidence)
            most = np.minimum(most, max(MOST_UNEXPLAINED, settings.unexplained))
        if self.tells_fans:
            stands &= unexplained_spread(fods, sharp.solution) < most
        return stands


def make_two_pass_model(
    model: MultiTissueModel | ThreeTissueModel,
    *,
    constraint_directions: np.ndarray | None = None,
    settings: Sharpening | None = None,
) -> TwoPassModel:
    """The two passes of a model, see :class:`TwoPassModel`; directions as for the model."""
    settings = settings or Sharpening()
    is_one_shell = isinstance(model, ThreeTissueModel)
    if not is_one_shell:
        settings = replace(settings, dispersed=0.0)
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
    problem = make_tied_problem(white, constraint_directions, slack=settings.slack)
    tells_fans = settings.evidence > 0 or not is_one_shell
    weight = settings.dispersed * contrast_of(white)
    smooth = make_tied_problem(white, constraint_directions, smoothness=weight) if weight > 0 else None
    misfit = misfit_of(white) if settings.evidence > 0 else None
    return TwoPassModel(first, white, others, averaging, problem, settings, tells_fans, smooth=smooth, misfit=misfit)


def sure_settings(model: MultiTissueModel | ThreeTissueModel) -> Sharpening:
    """Settings of a second pass only where the signals ask for it: the default."""
    return SURE_ON_ONE_SHELL if isinstance(model, ThreeTissueModel) else SURE_ON_SHELLS


def is_crossing(fods: np.ndarray, settings: Sharpening | None = None) -> np.ndarray:
    """(n_vox,) bool, FODs (n_vox, n_coef) that are planar and mostly empty, see :class:`Sharpening`."""
    settings = settings or Sharpening()
    out = np.zeros(len(fods), bool)
    planar = np.flatnonzero((_planarity(fods) > settings.planarity) & (fods[:, 0] > 0))
    out[planar] = _emptiness(fods[planar]) > settings.emptiness
    return out


def is_dispersed(fods: np.ndarray, settings: Sharpening | None = None) -> np.ndarray:
    """(n_vox,) bool, FODs (n_vox, n_coef) that are neither planar nor mostly empty, see :class:`Sharpening`."""
    settings = settings or Sharpening()
    out = np.zeros(len(fods), bool)
    others = np.flatnonzero((_planarity(fods) <= settings.planarity) & (fods[:, 0] > 0))
    out[others] = _emptiness(fods[others]) <= settings.emptiness
    return out


def _planarity(fods: np.ndarray) -> np.ndarray:
    """(n_vox,) difference of the second and third eigenvalue of FODs; 0 below degree 2."""
    if fods.shape[1] < n_coefs(2):
        return np.zeros(len(fods))
    evals, _ = eigh_3x3(second_moments(fods))
    return np.asarray(evals[:, 1] - evals[:, 2])


def _emptiness(fods: np.ndarray) -> np.ndarray:
    """(n_vox,) share of directions in which FODs are below a tenth of their mean."""
    out, directions = np.zeros(len(fods)), sh_matrix(get_even_directions(), lmax_of(fods.shape[1]))
    for begin in range(0, len(fods), BLOCK):
        part = fods[begin : begin + BLOCK]
        is_low = evaluate_rows(part, directions) < LOW * part[:, :1] / math.sqrt(4 * math.pi)
        out[begin : begin + BLOCK] = is_low.mean(axis=1)
    return out


def evidence_for(
    design: np.ndarray, rows: np.ndarray, fods: np.ndarray, sharp: np.ndarray, misfit: np.ndarray | None = None
) -> np.ndarray:
    """(n_vox,) n log(|X f - s|² / |X f' - s|²): twice the log of the likelihood ratio of two FODs of the same signals.

    Parameters
    ----------
    design : (n_row, n_coef) float, X
    rows : (n_vox, n_row) float, s: signals less those of the other tissues
    fods, sharp : (n_vox, n_coef) float, f and f'
    misfit : (n_row, n_left) float, orthonormal columns: what is left out of the residuals, and n is n_row - n_left

    Notes
    -----
    The noise is normal with an unknown variance. It falls with noise: where the signals cannot tell, there is none.
    Where the response is not that of the voxel, residuals are misfit more than noise and hide what the signals say; on
    several shells it is a different one on each, in the lowest degrees, and what slack gains there fans gain as well
    as crossings. :func:`misfit_of` leaves those out, and crossings show in the degrees above.
    """
    n = rows.shape[1]
    residuals = [evaluate_rows(each, design) - rows for each in (fods, sharp)]
    if misfit is not None:
        n -= misfit.shape[1]
        across = np.ascontiguousarray(misfit.T)
        residuals = [each - evaluate_rows(evaluate_rows(each, across), misfit) for each in residuals]
    left = [np.sum(each**2, axis=1) for each in residuals]
    ratio = np.divide(left[0], left[1], out=np.ones(len(rows)), where=(left[0] > 0) & (left[1] > 0))
    return np.asarray(n * np.log(ratio))


def misfit_of(white: np.ndarray) -> np.ndarray:
    """(n_row, n) orthonormal columns: all that degrees 0 and 2 may be on each shell, and b = 0.

    Parameters
    ----------
    white : (n_row, n_coef) float, X: rows of a shell share the column of l = 0, which tells shells apart
    """
    degree, _ = degrees_and_orders(lmax_of(white.shape[1]))
    low = white[:, degree <= MISFIT_DEGREE]
    _, shell_of = np.unique(np.round(low[:, 0] / low[:, 0].max(), SAME_MEAN), return_inverse=True)
    bases = []
    for shell in range(shell_of.max() + 1):
        inside = shell_of == shell
        with threadpool_limits(1, user_api="blas"):  # the bits must not depend on threads
            left, singular, _ = np.linalg.svd(low[inside], full_matrices=False)
        basis = np.zeros((len(low), int(np.count_nonzero(singular > RANK * singular[0]))))
        basis[inside] = left[:, : basis.shape[1]]
        bases.append(basis)
    return np.hstack(bases)


def unexplained_spread(fods: np.ndarray, sharp: np.ndarray) -> np.ndarray:
    """(n_vox,) how much more FODs spread in their plane than the two strongest peaks of sharper ones account for.

    Parameters
    ----------
    fods, sharp : (n_vox, n_coef) float, of the same voxels

    Notes
    -----
    Two lobes of the shares p and 1 - p at the angle a, dispersed alike around their axes, have a second moment whose
    second and third eigenvalues differ by (1 - 3 λ₃) (1 - √(1 - 4 p (1 - p) sin² a)) / 2. What is returned is the
    difference that ``fods`` have, less that of the peaks of ``sharp``, p by their amplitudes; all of it where there is
    one peak or none.
    """
    peaks = find_peaks(sharp, n_peaks=2, relative_peak_threshold=LEAST_PEAK, min_separation_angle=APART)
    _, middle, lowest = eigh_3x3(second_moments(fods))[0].T
    total = peaks.values.sum(axis=1)
    share = np.divide(peaks.values[:, 0], total, out=np.ones(len(fods)), where=total > 0)
    cosine = np.sum(peaks.directions[:, 0] * peaks.directions[:, 1], axis=1)
    apart = 4 * share * (1 - share) * np.clip(1 - cosine**2, 0, 1)
    return np.asarray(middle - lowest - (1 - 3 * lowest) * (1 - np.sqrt(np.clip(1 - apart, 0, 1))) / 2)


def second_moments(fods: np.ndarray) -> np.ndarray:
    """(n_vox, 6) xx xy xz yy yz zz of ∫ f n nᵀ dn / ∫ f dn of FODs (n_vox, 6 or more); 0 where the FOD has no mass."""
    row = evaluate_rows(np.ascontiguousarray(fods[:, : n_coefs(2)]), _moment_matrix())
    mass = fods[:, 0] * math.sqrt(4 * math.pi)
    return np.divide(row, mass[:, None], out=np.zeros_like(row), where=mass[:, None] > 0)


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
    own = laplace_beltrami(max(model.lmax), smoothness, float(np.linalg.norm(design[:, np.flatnonzero(is_white)[0]])))
    rows = np.zeros((len(own), design.shape[1]))
    rows[:, is_white] = own
    before = model.problem.penalty
    penalty = rows if before is None else np.vstack([before, rows])
    return replace(model, problem=replace(model.problem, penalty=penalty))


def _without(parts: tuple[np.ndarray, ...], place: int) -> list[np.ndarray]:
    return [part for i, part in enumerate(parts) if i != place]
