"""Least squares under linear inequalities that all problems share: minimise ½|Xu - s|² subject to Au >= 0.

X and A belong to the acquisition, s to one voxel, so everything that can be factorised is factorised once:

1.  X = QR. With y = Ru and g = Qᵀs the problem is the projection of g on the cone By >= 0, B = AR⁻¹, rows scaled to
    one. Its solution is y = g + Bᵀλ with λ >= 0, By >= 0 and λᵀBy = 0.
2.  A good start: from (I + cBᵀB)⁻¹g, Newton steps with a line search on ½|y - g|² + ½ρ|min(By, 0)|², ρ growing as
    fast as whole steps are taken, until one changes no side. A step costs one Cholesky factor, and little for a
    constraint that changes sides. As a rule the constraints that the last iterate violates are those that are active
    at the solution. Where more are violated than there are unknowns, the solution is the corner in which all of them
    are zero.
3.  Else Lawson and Hanson's active set method from there, on the pseudo-inverse of the active rows, which one
    constraint that enters or leaves changes by a matrix of rank one. A violated row in the span of the active ones
    takes the place of one of them, as in Goldfarb and Idnani's method.
4.  The multipliers of the final set are solved anew, rows in their natural order, so that the result does not depend
    on the path. It is accepted only if it satisfies the conditions of Karush, Kuhn and Tucker.
5.  What is left goes to scipy's NNLS on the dual, and the point is found anew from the rows that are active there.

References
----------
Lawson & Hanson 1974, Solving Least Squares Problems, ch. 23. Goldfarb & Idnani 1983, Math. Prog. 27:1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from threadpoolctl import threadpool_limits

from arcuate.numerics.compiled import run_in_chunks
from arcuate.numerics.lanes import padded
from arcuate.numerics.panel_product import as_panels
from arcuate.numerics.qp_active_set import Cone, make_active_set, panels_of
from arcuate.numerics.qp_kernel import (
    ACCEPTED,
    CHUNK,
    NOT_CONVERGED,
    SOLVED,
    Solutions,
    solve_corners,
    solve_open,
    solve_problems,
    take_starts,
)
from arcuate.numerics.qp_rows import zero_lines
from arcuate.numerics.qp_start import FIRST_WEIGHT, StartTables, make_lanes, make_start, start_problems

DAMPING = 10.0  # of the constraints' values where the path starts: at g itself half of them are violated by noise
LEAST_SIZE = 48  # unknowns, padding included, of degree 8 with up to three tissues: smaller problems take its kernel
FEASIBILITY = 5e-11  # of the largest constraint value; half of what is promised, the rest is for rounding


@dataclass(frozen=True)
class ConeFit:
    """Solutions of ``n_vox`` problems."""

    solution: np.ndarray  # (n_vox, n) float
    kkt_residual: np.ndarray  # (n_vox,) float, see :meth:`ConeProblem.solve`
    n_active: np.ndarray  # (n_vox,) int, constraints with a positive multiplier; at most as many as unknowns
    outcome: np.ndarray  # (n_vox,) uint8: SOLVED, NOT_CONVERGED or ZERO


@dataclass(frozen=True)
class ConeProblem:
    """What all problems share: minimise ½|Xu - s|² + ½|Lu|² subject to Au >= 0, for many s.

    Parameters
    ----------
    design : (n_meas, n) float
        X; with L below it of full column rank.
    constraints : (n_con, n) float
        A, no row zero.
    penalty : (n_reg, n) float
        L; none by default.

    Notes
    -----
    Any quadratic goes in by rows of X and L, and any cone by rows of A. Coefficients tied to values of their own per
    voxel are rows of X with a large weight, and weight times value as their signals; amplitudes allowed to fall to -t
    times the mean are rows A + t·(row of the mean). Make one problem for all voxels that share X, L and A: it is
    factorised once.
    """

    design: np.ndarray
    constraints: np.ndarray
    penalty: np.ndarray | None = None

    @cached_property
    def _triangle(self) -> tuple[np.ndarray, np.ndarray]:
        """Q (n_meas, n) and R (n, n) of the design with the penalty below it; the penalty's signals are zero."""
        stacked = self.design if self.penalty is None else np.vstack([self.design, self.penalty])
        with threadpool_limits(1, user_api="blas"):  # the bits must not depend on threads
            q, r = np.linalg.qr(stacked)
        return q[: len(self.design)], r

    @cached_property
    def _factors(self) -> tuple[StartTables, Cone]:
        with threadpool_limits(1, user_api="blas"):  # the bits must not depend on threads
            return self._factorise()

    def _factorise(self) -> tuple[StartTables, Cone]:
        n = self.design.shape[1]
        n_con = len(self.constraints)
        q, r = self._triangle
        inverse = np.linalg.solve(r, np.eye(n))
        rows = self.constraints @ inverse
        norms = np.linalg.norm(rows, axis=1)
        rows = rows / norms[:, None]
        n_pad, m_pad = max(padded(n), LEAST_SIZE), padded(n_con)
        tables = StartTables(
            projection=as_panels(_embed(q.T, n_pad, len(q))),
            damped=as_panels(_embed(np.linalg.solve(np.eye(n) + DAMPING * rows.T @ rows, q.T), n_pad, len(q))),
            constraints=as_panels(rows),
            rows=_embed(np.vstack([rows, -rows]), 2 * n_con, padded(n)).ravel(),
            gram=_embed(rows.T @ rows, padded(n), padded(n)).ravel(),
            n=n,
            first_weight=FIRST_WEIGHT / math.exp(np.linalg.slogdet(rows.T @ rows)[1] / n),
        )
        cone = Cone(
            rows=_embed(rows, n_con, n_pad),
            columns=_embed(rows.T, n_pad, m_pad),
            gram=rows @ rows.T,
            norms=norms,
            r=_embed(r, n_pad, n_pad),
            r_inverse=_embed(inverse.T, n_pad, n_pad),
            inner=np.pad(r @ inner_direction(self.constraints), (0, n_pad - n)),
        )
        return tables, cone

    def solve(self, signals: np.ndarray) -> ConeFit:
        """Solution of each row of ``signals``, all of which must be finite.

        Parameters
        ----------
        signals : (n_vox, n_meas) float

        Notes
        -----
        The KKT residual is the largest of: stationarity |(XᵀX + LᵀL)u - Xᵀs - Aᵀλ|∞ / |Xᵀs|∞, infeasibility
        max(-Au) / max(Au), and complementarity max(λ Au) / (|Xᵀs|∞ |u|∞). It is 0 in a ZERO problem, whose solution is
        the apex of the cone; in a SOLVED one 1e-9 at most as a rule, and 1e-7 in the few where constraints depend on
        each other so nearly that rounding decides which are active: there the solution is moved inside the cone.
        """
        n = self.design.shape[1]
        n_vox, n_con = len(signals), len(self.constraints)
        tables, cone = self._factors
        size = panels_of(cone.columns.shape[0])
        out = Solutions(np.empty((n_vox, n)), np.empty(n_vox), np.empty(n_vox, np.int64), np.empty(n_vox, np.uint8))

        def work(begin: int, end: int) -> None:
            # a copy in double precision: else the kernels would be compiled for every type and layout of the signals
            rows = np.array(signals[begin:end], dtype=np.float64, order="C")
            start = make_start(end - begin, *reversed(cone.rows.shape))
            start_problems(rows, tables, start, make_lanes(n, n_con))
            part = Solutions(*(array[begin:end] for array in out))
            solve_problems(start, n, cone, make_active_set(cone, size), FEASIBILITY, part)

        run_in_chunks(work, n_vox, CHUNK)
        fit = ConeFit(*out)
        for v in np.flatnonzero(fit.outcome == NOT_CONVERGED):
            self._solve_by_nnls(np.asarray(signals[v], dtype=np.float64), fit, int(v))
        return fit

    def _solve_by_nnls(self, signal: np.ndarray, fit: ConeFit, v: int) -> None:
        """Problem ``v`` of a fit again, by scipy's NNLS on its dual: a hundred times slower, and sure.

        For the few in ten thousand whose active constraints depend on each other so nearly (condition 1e5 to 1e7)
        that the fast method wanders from one set to another.
        """
        from scipy.optimize import nnls  # takes as long to import as all that a finished run does here

        q, r = self._triangle
        rows = np.linalg.solve(r.T, self.constraints.T).T
        norms = np.linalg.norm(rows, axis=1)
        g = q.T @ signal
        try:
            multipliers = nnls(-rows.T / norms, g, maxiter=30 * len(rows))[0]
        except RuntimeError:  # too many iterations: the outcome stays
            return
        # the sum of rows that nearly depend on each other has lost digits: the point anew, from a basis of their span
        active = multipliers > 0
        basis, triangle = np.linalg.qr(rows[active].T / norms[active])
        inside = basis.T @ g
        y = g - basis @ inside
        u = np.linalg.solve(r, y - basis @ (basis.T @ y))
        multipliers[active] = np.maximum(np.linalg.lstsq(triangle, -inside, rcond=None)[0], 0)
        multipliers /= norms
        u -= min(0.0, float((self.constraints @ u).min())) * inner_direction(self.constraints)
        values, linear = self.constraints @ u, self.design.T @ signal
        gap = r.T @ (r @ u) - linear - self.constraints.T @ multipliers
        scale = np.abs(linear).max()
        residual = max(
            np.abs(gap).max() / scale,
            max(0.0, -values.min()) / values.max(),
            np.abs(multipliers * values).max() / (scale * np.abs(u).max()),
        )
        if residual <= ACCEPTED:
            fit.solution[v], fit.kkt_residual[v] = u, residual
            fit.n_active[v], fit.outcome[v] = np.count_nonzero(multipliers), SOLVED


def compile_solver() -> None:
    """Compile all that :meth:`ConeProblem.solve` may call, for problems of the usual size, on none."""
    n, n_meas = 2, 3
    problem = ConeProblem(np.eye(n_meas, n), np.eye(n))
    tables, cone = problem._factors
    size, start = panels_of(cone.columns.shape[0]), make_start(0, *reversed(cone.rows.shape))
    out = Solutions(np.empty((0, n)), np.empty(0), np.empty(0, np.int64), np.empty(0, np.uint8))
    start_problems(np.empty((0, n_meas)), tables, start, make_lanes(n, n))
    state = make_active_set(cone, size)
    take_starts(start, n, cone, state, FEASIBILITY, out)
    solve_corners(start, n, cone, state, out)
    solve_open(start, n, cone, state, FEASIBILITY, out)


def inner_direction(constraints: np.ndarray) -> np.ndarray:
    """(n,) direction along which every constraint's value grows by one or more; 0 if least squares finds none."""
    direction = np.linalg.lstsq(constraints, np.ones(len(constraints)), rcond=None)[0]
    least = float((constraints @ direction).min())
    return np.asarray(direction / least if least > 0.1 else np.zeros_like(direction))


def _embed(matrix: np.ndarray, n_rows: int, n_columns: int) -> np.ndarray:
    out = zero_lines(n_rows, n_columns)
    out[: matrix.shape[0], : matrix.shape[1]] = matrix
    return out
