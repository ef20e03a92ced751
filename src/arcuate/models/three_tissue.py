"""Single-shell three-tissue CSD (Dhollander 2016): fits of two tissues in turns, on one shell and b=0."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from threadpoolctl import threadpool_limits

from arcuate.errors import InputError, NotApplicable, warn
from arcuate.gradients import GradientTable
from arcuate.models.csd import MAX_LMAX
from arcuate.models.multitissue import MultiTissueFit, constraint_matrix, forward_matrix, is_determined, match_shells
from arcuate.models.response import Response
from arcuate.models.response_checks import check_response
from arcuate.models.status import Status
from arcuate.models.tied_fit import MOST_APART, RIDGE, make_tied_problem, solve_tied
from arcuate.numerics.panel_product import evaluate_rows
from arcuate.numerics.qp import ConeProblem
from arcuate.numerics.qp_kernel import NOT_CONVERGED, SOLVED
from arcuate.numerics.sh import n_coefs
from arcuate.numerics.sphere import unique_directions

N_ITERATIONS = 2
B0_SHARE = 0.1  # what the b=0 volumes weigh together, of what the weighted ones do
LEAST_DIRECTIONS = 18  # fewer carry neither three tissues nor degree 4 with something to spare
LOW_B = 1500.0  # s/mm²; below it grey matter and white matter decay too much alike
NO_SIGNAL = 1e-6  # of the signal at b=0
LEAST_CONTRAST = 0.1  # of the decay of fluid: how much slower grey matter must decay
DEFAULT_LMAX = 8
GREY = 0.3  # share of white matter below which a voxel counts as grey matter
SMOOTHNESS = 1e-2  # weight of the Laplace-Beltrami term there


@dataclass(frozen=True)
class ThreeTissueModel:
    """Single-shell three-tissue CSD, prepared for a scan.

    Two b-values cannot tell three tissues apart in one fit. From white matter zero, grey matter and fluid are fitted;
    then in turns white and grey matter with fluid held, and grey matter and fluid with white matter held: two rounds.
    Each fit minimises |Xu - s|² over two tissues that cannot be negative, white matter on a set of directions; the
    b = 0 volumes stand as their mean, with the weight of a tenth of the weighted volumes. What the first fit gives to
    grey matter white matter has to win back, so the signal is explained with the least white matter.

    Where white matter is less than a share of ``GREY`` of the tissues, its FOD is noise more than fibres: it is fitted
    once more with a Laplace-Beltrami term, its amount and the other tissues held, which takes most of the false peaks
    from grey matter and leaves single fibres of a fifth where they were.

    References
    ----------
    Dhollander, Connelly 2016, Proc. ISMRM 24:3010.
    """

    design: np.ndarray  # (n_row, n_wm + 2) float: white matter's harmonics, then grey matter and fluid
    constraints: np.ndarray  # (n_con, n_wm + 1) float, of white and grey matter
    averaging: np.ndarray  # (n_row, n_meas) float: the rows of ``design`` are these sums of the signals
    volumes: np.ndarray  # (n_meas,) int, volumes of the scan that the model sees
    lmax: tuple[int, ...]  # of each tissue, in the order of the response
    isotropic: tuple[int, int]  # place in the response of grey matter and of fluid
    n_iterations: int = N_ITERATIONS
    b0_share: float = B0_SHARE
    smoothness: float = SMOOTHNESS  # of FODs in grey matter; 0 leaves them as the fits in turns found them

    @cached_property
    def _factors(self) -> tuple[np.ndarray, ConeProblem]:
        """Qᵀ (n_wm + 1, n_row) and R of white and grey matter, R as the design of signals times Q."""
        two = self.design[:, :-1]
        n_row, n = two.shape
        if not is_determined(two, most_apart=MOST_APART):
            ridge = math.sqrt(RIDGE) * float(np.linalg.norm(two[:, 0])) * np.eye(n)[: n - 1]
            two = np.vstack([two, ridge])
        with threadpool_limits(1, user_api="blas"):  # the bits must not depend on threads
            q, r = np.linalg.qr(two)
        return np.ascontiguousarray(q[:n_row].T), ConeProblem(r, self.constraints)

    @cached_property
    def _smooth_problem(self) -> ConeProblem:
        """White matter of grey matter's voxels, on the directions of ``constraints``."""
        white = self.design[:, :-2]
        problem = make_tied_problem(white, smoothness=self.smoothness)
        return replace(problem, constraints=self.constraints[:-1, : white.shape[1]])

    def fit(self, signals: np.ndarray) -> MultiTissueFit:
        """Tissues of signals (n_vox, n_meas), the volumes of ``self.volumes`` in that order."""
        signals = np.asarray(signals)
        if signals.shape[1] != len(self.volumes):
            raise InputError(f"found {signals.shape[1]} signals per voxel; the model takes {len(self.volumes)}.")
        is_finite = np.isfinite(signals).all(axis=1)
        is_empty = ~is_finite | ~(signals > 0).any(axis=1)
        rows = evaluate_rows(np.where(is_empty[:, None], 0.0, signals), self.averaging)
        n_vox, n_wm = len(rows), self.design.shape[1] - 2
        turned, problem = self._factors
        projected, fluid_projected = evaluate_rows(rows, turned), turned @ self.design[:, -1]
        white, outcome = np.zeros((n_vox, n_wm)), np.zeros(n_vox, np.uint8)
        residual, n_active = np.zeros(n_vox), np.zeros(n_vox, np.int64)
        grey, fluid = self._fit_isotropic(rows, white)
        held = np.full(n_vox, np.nan)  # the fluid that white matter was last fitted with
        for _ in range(self.n_iterations):
            todo = np.flatnonzero(fluid != held)
            fit = problem.solve(projected[todo] - fluid[todo, None] * fluid_projected)
            white[todo], outcome[todo] = fit.solution[:, :n_wm], fit.outcome
            residual[todo], n_active[todo] = fit.kkt_residual, fit.n_active
            held[todo] = fluid[todo]
            grey[todo], fluid[todo] = self._fit_isotropic(rows[todo], white[todo])
        is_grey = white[:, 0] < GREY * (white[:, 0] + grey + fluid)
        todo = np.flatnonzero(is_grey & (white[:, 0] > 0)) if self.smoothness > 0 else np.empty(0, np.intp)
        if len(todo) > 0:
            isotropic = evaluate_rows(np.column_stack([grey, fluid])[todo], self.design[:, -2:])
            fit = solve_tied(self._smooth_problem, rows[todo] - isotropic, white[todo, 0])
            kept = todo[fit.outcome == SOLVED]
            white[kept], residual[kept] = (part[fit.outcome == SOLVED] for part in (fit.solution, fit.kkt_residual))
            n_active[kept] = fit.n_active[fit.outcome == SOLVED]
        parts = [white] * 3
        parts[self.isotropic[0]], parts[self.isotropic[1]] = grey[:, None], fluid[:, None]
        status = np.full(n_vox, int(Status.FITTED), np.uint8)
        status[outcome == NOT_CONVERGED] = Status.NOT_CONVERGED
        status[is_empty | (white[:, 0] + grey + fluid <= 0)] = Status.NO_SIGNAL
        status[~is_finite] = Status.NOT_FINITE
        return MultiTissueFit(tuple(parts), status, residual, n_active)

    def _fit_isotropic(self, rows: np.ndarray, white: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Grey matter and fluid (n_vox,) with white matter held: non-negative least squares of two unknowns."""
        two = np.ascontiguousarray(self.design[:, -2:].T)
        (a, b), (_, d) = two @ two.T
        p, q = (evaluate_rows(rows, two) - evaluate_rows(white, two @ self.design[:, :-2])).T
        determinant = a * d - b * b
        grey, fluid = (d * p - b * q) / determinant, (a * q - b * p) / determinant
        only_grey, only_fluid = np.maximum(p / a, 0.0), np.maximum(q / d, 0.0)
        is_grey = a * only_grey**2 >= d * only_fluid**2  # which of the two alone leaves less
        is_inside = (grey >= 0) & (fluid >= 0)
        return (
            np.where(is_inside, grey, np.where(is_grey, only_grey, 0.0)),
            np.where(is_inside, fluid, np.where(is_grey, 0.0, only_fluid)),
        )


def is_three_tissue(response: Response) -> bool:
    """Whether the response decides for single-shell three-tissue CSD: three tissues on b = 0 and one shell."""
    return len(response.tissues) == 3 and len(response.bvals) == 2 and len(response.weighted) == 1


def can_have_three_tissues(gradients: GradientTable) -> bool:
    """Whether one shell and b = 0 carry three tissues: at least 18 distinct directions."""
    has_one_shell = len(gradients.shells) == 1 and bool(gradients.is_b0.any())
    return has_one_shell and _count_directions(gradients) >= LEAST_DIRECTIONS


def make_three_tissue_model(
    gradients: GradientTable,
    response: Response,
    *,
    lmax: int | None = None,
    constraint_directions: np.ndarray | None = None,
    n_iterations: int = N_ITERATIONS,
    b0_share: float = B0_SHARE,
) -> ThreeTissueModel:
    """Model of a scan of one shell and b = 0 for a response of three tissues.

    Parameters
    ----------
    response : white matter first and two isotropic tissues, on b = 0 and one shell, which must be that of the scan
    lmax : even degree of the FODs, at most 12; by default that of the response, at most 8, whatever the directions:
        where they are fewer than the coefficients the solution rests on the constraint
    constraint_directions : (n_dir, 3) float, where FODs are held non-negative, frame of ``gradients``
    n_iterations : rounds of fits; more of them give grey matter's signal to white matter
    b0_share : weight of all b = 0 volumes over that of all weighted ones

    Raises
    ------
    InputError
        Not such a response or scan; fewer than 18 distinct directions; a degree that the response does not have.
    """
    check_response(response)
    if not is_three_tissue(response) or any(response.lmax_of_tissues[1:]):
        raise InputError(
            f"found a response of the tissues {', '.join(response.tissues)} on {len(response.bvals)} b-values; "
            "single-shell three-tissue CSD takes white matter and two isotropic tissues, on b=0 and one shell."
        )
    volumes, which = match_shells(gradients, response)
    table = gradients.subset(volumes)
    if not table.is_b0.any():
        raise NotApplicable(
            "the scan has no b=0 volume; single-shell three-tissue CSD needs one at least. Check --b0-threshold, or "
            "estimate a response of one tissue (algorithm 'tournier')."
        )
    degrees = (_choose_degree(response, response.lmax if lmax is None else lmax), 0, 0)
    _check_directions(table, degrees[0])
    grey, fluid = grey_and_fluid(response)
    averaging = _averaging(table.is_b0, b0_share)
    n_wm = n_coefs(degrees[0])
    blocks = forward_matrix(table, response.coefs, which, degrees)
    design = averaging @ blocks[:, [*range(n_wm), n_wm + grey - 1, n_wm + fluid - 1]]
    constraints = constraint_matrix((degrees[0], 0), constraint_directions)
    return ThreeTissueModel(
        design, constraints, averaging, volumes, degrees, (grey, fluid), n_iterations=n_iterations, b0_share=b0_share
    )


def grey_and_fluid(response: Response) -> tuple[int, int]:
    """Which tissues of a response on b=0 and one shell are grey matter and fluid, whose signal decays faster.

    Raises
    ------
    NotApplicable
        They decay alike.
    """
    decays = [_decay_of(response.coefs[k]) for k in (1, 2)]
    if abs(decays[0] - decays[1]) < LEAST_CONTRAST * max(decays):
        raise NotApplicable(
            f"the responses of {response.tissues[1]} and {response.tissues[2]} decay alike from b=0 to the shell; "
            "expected grey matter and fluid. Leave out a tissue."
        )
    return (1, 2) if decays[0] <= decays[1] else (2, 1)


def _decay_of(table: np.ndarray) -> float:
    """Log of the mean signal at b=0 over that of the shell, which noise may bring to 0 or below in fluid."""
    at_b0, at_shell = table[:2, 0]
    return float(np.log(at_b0 / max(at_shell, NO_SIGNAL * at_b0)))


def _averaging(is_b0: np.ndarray, b0_share: float) -> np.ndarray:
    """(n_weighted + 1, n_meas): the weighted volumes as they are, and the mean of those at b = 0 with its weight."""
    weighted = np.flatnonzero(~is_b0)
    out = np.zeros((len(weighted) + 1, len(is_b0)))
    out[np.arange(len(weighted)), weighted] = 1.0
    out[-1, is_b0] = math.sqrt(b0_share * len(weighted)) / np.count_nonzero(is_b0)
    return out


def _choose_degree(response: Response, lmax: int | None) -> int:
    if lmax is not None and (lmax % 2 or not 2 <= lmax <= MAX_LMAX):
        raise InputError(f"found lmax = {lmax}; expected an even degree from 2 to {MAX_LMAX}.")
    carried = 2 * int(np.flatnonzero(np.any(response.coefs[0] != 0, axis=0)).max(initial=0))
    if lmax is not None and lmax > carried:
        raise InputError(
            f"the response has degree {carried}, the model asks for lmax = {lmax}; lower lmax, or estimate the "
            "response with that degree."
        )
    return min(carried, DEFAULT_LMAX if lmax is None else lmax)


def _count_directions(gradients: GradientTable) -> int:
    return len(unique_directions(gradients.directions[~gradients.is_b0], 0.5)[0])


def _check_directions(gradients: GradientTable, lmax: int) -> None:
    """Refuse too few directions, and say what a low b-value or few directions mean for the result."""
    count, b = _count_directions(gradients), gradients.shells[0].b
    if count < LEAST_DIRECTIONS:
        raise NotApplicable(
            f"single-shell three-tissue CSD needs {LEAST_DIRECTIONS} distinct directions; the shell b={b:.0f} s/mm² "
            f"has {count}. Estimate a response of one tissue (algorithm 'tournier'), or use the tensor."
        )
    if b < LOW_B:
        warn(
            f"at b={b:.0f} s/mm² grey and white matter decay too much alike to be told apart well: three-tissue CSD "
            "leaves false peaks in grey matter, and fractions near the cortex say little. Expected b = 2000 or more."
        )
    if count < n_coefs(lmax):
        warn(
            f"the shell b={b:.0f} s/mm² has {count} distinct directions, lmax = {lmax} has {n_coefs(lmax)} "
            "coefficients: the solution rests on the constraint (super-resolved)."
        )
