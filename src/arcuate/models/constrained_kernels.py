"""Kernels of fits to log signals whose coefficients obey linear inequalities, such as that kurtosis is positive.

Voxels that obey without being told keep their least-squares fit; for each of the others one quadratic programme is
solved, with the weights of that fit. Lanes as in :mod:`arcuate.models.log_linear_kernels`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from arcuate.models.log_linear_kernels import load_logs, make_scratch, predict, project, step, weigh, write
from arcuate.models.status import Status
from arcuate.numerics.compiled import inner, kernel
from arcuate.numerics.eigen import LANES
from arcuate.numerics.nnls import solve_active_set

OBEYED = 1e-10  # in units of the log signal: a constraint broken by less holds

_FLOORED = int(Status.FLOORED)
_NOT_CONVERGED = int(Status.NOT_CONVERGED)


class Inequalities(NamedTuple):
    """A c >= 0 in the coordinates of ``Tables.basis``, each row of A divided by its length there."""

    columns: np.ndarray  # (width, n_con) float64, Aᵀ
    width: tuple[int, ...]  # as many zeros as A has columns, in whole eights: see ``numerics.nnls.lanes_of``


@kernel()
def fit_constrained(signals, tables, n_reweight, limits, inequalities, solver, results, is_bound):
    """Fit every row of ``signals`` (n_vox, n_meas) float64; ``results`` and ``is_bound`` (n_vox,) are filled.

    ``solver`` is scratch of :func:`~arcuate.numerics.nnls.solver_scratch`.
    """
    scratch = make_scratch(tables)
    width = len(inequalities.width)
    gram, target = np.zeros((width, width)), np.zeros(width)
    n_vox = signals.shape[0]
    for group in range((n_vox + LANES - 1) // LANES):
        first = group * LANES
        load_logs(signals, first, limits.signal, scratch)
        project(tables, scratch)
        scratch.weights[:] = 1.0
        for _ in range(n_reweight):
            predict(tables, scratch)
            weigh(scratch)
            step(tables, scratch)
        for lane in range(min(LANES, n_vox - first)):
            if scratch.status[lane] <= _FLOORED and _is_broken(scratch.point, lane, inequalities):
                is_bound[first + lane] = 1
                if not _constrain(tables, scratch, lane, inequalities, solver, gram, target):
                    scratch.status[lane] = _NOT_CONVERGED
        write(tables, limits.diffusivity, first, scratch, results)


@inner(error_model="numpy")
def _is_broken(point, lane, inequalities):
    """Whether any inequality does not hold at the point of the lane."""
    columns = inequalities.columns
    values = np.zeros(columns.shape[1])
    for j in range(point.size // LANES):
        coordinate = point[j * LANES + lane]
        for c in range(values.size):
            values[c] += coordinate * columns[j, c]
    lowest = 0.0
    for c in range(values.size):
        lowest = min(lowest, values[c])
    return lowest < -OBEYED


@inner(error_model="numpy")
def _constrain(tables, scratch, lane, inequalities, solver, gram, target):
    """Move the point of the lane to the best one that obeys; whether it was found.

    With H = basisᵀ W basis and the free minimiser p, it is p + H⁻¹ Aᵀ λ, λ >= 0 the minimiser of
    ½ λᵀ A H⁻¹ Aᵀ λ + (A p)ᵀ λ.
    """
    n, point = len(tables.columns), scratch.point
    if not _invert_normal(tables, scratch.weights, lane, gram):
        return False
    for j in range(n):
        target[j] = -point[j * LANES + lane]
    n_active, is_solved = solve_active_set(
        inequalities.columns, gram, target, 0.0, 0.0, inequalities.columns.shape[1], solver
    )
    for a in range(n_active):
        for j in range(n):
            point[j * LANES + lane] += solver.weights[a] * solver.images[a, j]
    return is_solved


@inner(error_model="numpy")
def _invert_normal(tables, weights, lane, inverse):
    """``inverse`` (width, width) = (basisᵀ W basis)⁻¹; whether it is positive definite. What is beyond n stays 0."""
    basis, n = tables.basis, len(tables.columns)
    normal = np.zeros((n, n))
    for i in range(basis.shape[0]):
        weight = weights[i * LANES + lane]
        for j in range(n):
            scaled = weight * basis[i, j]
            for k in range(j + 1):
                normal[j, k] += scaled * basis[i, k]
    for j in range(n):
        if not tables.has_column[j]:
            normal[j, j] = 1.0
    # L of normal = L Lᵀ in its lower triangle, then L⁻¹, then L⁻ᵀ L⁻¹
    for j in range(n):
        for k in range(j):
            total = normal[j, k]
            for m in range(k):
                total -= normal[j, m] * normal[k, m]
            normal[j, k] = total / normal[k, k]
        pivot = normal[j, j]
        for m in range(j):
            pivot -= normal[j, m] * normal[j, m]
        if not pivot > 1e-14 * normal[j, j]:
            return False
        normal[j, j] = np.sqrt(pivot)
    for j in range(n):
        normal[j, j] = 1.0 / normal[j, j]
        for i in range(j + 1, n):
            total = 0.0
            for m in range(j, i):
                total -= normal[i, m] * normal[m, j]
            normal[i, j] = total / normal[i, i]
    for j in range(n):
        for k in range(j + 1):
            total = 0.0
            for m in range(j, n):
                total += normal[m, j] * normal[m, k]
            inverse[j, k] = total
            inverse[k, j] = total
    return True
