"""Fits of white matter alone, its amount and the other tissues held: sharper or smoother than that of all tissues."""

from __future__ import annotations

import math

import numpy as np

from arcuate.models.multitissue import constraint_matrix, is_determined
from arcuate.numerics.qp import ConeFit, ConeProblem
from arcuate.numerics.sh import degrees_and_orders, lmax_of

TIE = 30.0  # weight of the tied coefficient over the length of its column: it moves by a thousandth of what it would
HIGHEST = 72.0  # l(l+1) of degree 8, in units of which the Laplace-Beltrami term is written
RIDGE = 1e-7  # of the square of white matter's mean signal, where the directions do not determine the degree
MOST_APART = 1e6  # ratio of singular values up to which they do, see is_determined


def make_tied_problem(
    white: np.ndarray, directions: np.ndarray | None = None, *, slack: float = 0.0, smoothness: float = 0.0
) -> ConeProblem:
    """|Xu - s|² over white matter alone, the coefficient of l = 0 tied by one heavy row.

    Parameters
    ----------
    white : (n_row, n_wm) float, X
    directions : (n_dir, 3) float, where amplitudes are constrained; by default those of multi-tissue CSD
    slack : amplitudes may be down to minus this share of the mean amplitude
    smoothness : weight of the Laplace-Beltrami term, see :func:`laplace_beltrami`
    """
    n, length = white.shape[1], float(np.linalg.norm(white[:, 0]))
    design = np.vstack([white, TIE * length * np.eye(n)[:1]])
    is_carried = is_determined(design, len(white), most_apart=MOST_APART)
    penalty = None if is_carried else math.sqrt(RIDGE) * length * np.eye(n)
    if smoothness > 0:
        rows = laplace_beltrami(lmax_of(n), smoothness, length)
        penalty = rows if penalty is None else np.vstack([penalty, rows])
    constraints = constraint_matrix((lmax_of(n),), directions)
    constraints[:, 0] *= 1 + slack
    return ConeProblem(design, constraints, penalty)


def solve_tied(problem: ConeProblem, rows: np.ndarray, amount: np.ndarray) -> ConeFit:
    """Solutions for rows (n_vox, n_row) less the other tissues, with l = 0 tied to ``amount`` (n_vox,)."""
    weight = float(problem.design[-1, 0])
    return problem.solve(np.hstack([rows, weight * amount[:, None]]))


def laplace_beltrami(lmax: int, smoothness: float, length: float) -> np.ndarray:
    """(n_coef - 1, n_coef) rows whose squares sum to m |x₀|² Σ (l(l+1)/72)² u_lm².

    ``length`` is |x₀|, that of the column of l = 0, and ``smoothness`` m.
    """
    degree, _ = degrees_and_orders(lmax)
    return np.diag(math.sqrt(smoothness) * length * degree * (degree + 1) / HIGHEST)[degree > 0]


def contrast_of(white: np.ndarray) -> float:
    """What signals tell of degree 4: the length of its columns, root mean square, over that of l = 0.

    Parameters
    ----------
    white : (n_row, n_wm) float, X

    Notes
    -----
    Degree 4 tells a crossing from one dispersed fibre. 0.02 at b = 1000 s/mm², 0.05 at 2000, 0.08 at 3000; 0 where the
    FOD has degree 2.
    """
    degree, _ = degrees_and_orders(lmax_of(white.shape[1]))
    lengths = np.linalg.norm(white, axis=0)
    return float(np.sqrt(np.mean(lengths[degree == 4] ** 2)) / lengths[0]) if degree[-1] >= 4 else 0.0
