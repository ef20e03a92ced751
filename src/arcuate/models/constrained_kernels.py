"""Kernels of fits to log signals whose coefficients obey linear inequalities, such as that kurtosis is positive.

Voxels that obey without being told keep their least-squares fit; for each of the others one quadratic programme is
solved, with the weights of that fit. It is a kernel of its own, so that the fit itself is compiled once for tensors and
kurtosis, with constraints and without. Lanes as in :mod:`arcuate.models.log_linear_kernels`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from arcuate.models.status import Status
from arcuate.numerics.compiled import inner, kernel, part
from arcuate.numerics.eigen import LANES
from arcuate.numerics.nnls import Scratch as SolverScratch
from arcuate.numerics.nnls import lanes_of, solve_active_set, solver_scratch

OBEYED = 1e-10  # in units of the log signal: a constraint broken by less holds

_FLOORED = int(Status.FLOORED)
_NOT_CONVERGED = int(Status.NOT_CONVERGED)


class Inequalities(NamedTuple):
    """A c >= 0 in the coordinates of ``Tables.basis``, each row of A divided by its length there."""

    columns: np.ndarray  # (width, n_con) float64, Aᵀ; rows of zeros fill it to whole eights


class ConstraintRoom(NamedTuple):
    """Work space of one voxel."""

    solver: SolverScratch
    values: np.ndarray  # (n_con,) float64, of the inequalities
    normal: np.ndarray  # (n, n) float64
    gram: np.ndarray  # (width, width) float64, the inverse of that; what is beyond n stays 0
    target: np.ndarray  # (width,) float64, minus the free minimiser


def make_constraint_room(inequalities: Inequalities, n: int) -> ConstraintRoom:
    """Work space for ``n`` coefficients."""
    width, n_con = inequalities.columns.shape
    solver = solver_scratch(lanes_of(width), n_con, n + 1)
    return ConstraintRoom(solver, np.empty(n_con), np.empty((n, n)), np.zeros((width, width)), np.zeros(width))


@kernel(error_model="numpy")
def constrain_voxels(kept, tables, inequalities, room, coefs, status, is_bound):
    """Move fits that break an inequality to the best that obeys; ``is_bound`` (n_vox,) says which.

    Parameters
    ----------
    kept : of :func:`~arcuate.models.log_linear_kernels.fit_voxels`
    coefs, status : (n_vox, n) float64 and (n_vox,) uint8, changed where a fit is moved
    """
    n = tables.has_column.size
    for v in range(status.size):
        group, lane = v // LANES, v % LANES
        if status[v] > _FLOORED or not _is_broken(kept.points[group], lane, inequalities, room.values):
            continue
        is_bound[v] = 1
        if not _constrain(kept.points[group], kept.weights[group], lane, tables, inequalities, room):
            status[v] = _NOT_CONVERGED
        for j in range(n):
            total = 0.0
            for m in range(n):
                total += tables.to_coefs[j, m] * kept.points[group, m * LANES + lane]
            coefs[v, j] = total
        coefs[v, n - 1] = math.exp(coefs[v, n - 1]) * kept.scales[group, lane]


@part()
def _is_broken(point, lane, inequalities, values):
    """Whether any inequality does not hold at the point of the lane."""
    columns = inequalities.columns
    for c in range(values.size):
        values[c] = 0.0
    for j in range(point.size // LANES):
        coordinate = point[j * LANES + lane]
        for c in range(values.size):
            values[c] += coordinate * columns[j, c]
    lowest = 0.0
    for c in range(values.size):
        lowest = min(lowest, values[c])
    return lowest < -OBEYED


@part()
def _constrain(point, weights, lane, tables, inequalities, room):
    """Move the point of the lane to the best one that obeys; whether it was found.

    With H = basisᵀ W basis and the free minimiser p, it is p + H⁻¹ Aᵀ λ, λ >= 0 the minimiser of
    ½ λᵀ A H⁻¹ Aᵀ λ + (A p)ᵀ λ.
    """
    n, solver = tables.has_column.size, room.solver
    is_solved = _invert_normal(tables, weights, lane, room.normal, room.gram)
    if is_solved:
        for j in range(n):
            room.target[j] = -point[j * LANES + lane]
        n_active, is_solved = solve_active_set(
            inequalities.columns, room.gram, room.target, 0.0, 0.0, inequalities.columns.shape[1], solver
        )
        for a in range(n_active):
            for j in range(n):
                point[j * LANES + lane] += solver.weights[a] * solver.images[a, j]
    return is_solved


@inner(error_model="numpy")
def _invert_normal(tables, weights, lane, normal, inverse):
    """``inverse`` (width, width) = (basisᵀ W basis)⁻¹; whether it is positive definite. What is beyond n stays 0."""
    basis, n = tables.basis, tables.has_column.size
    for j in range(n):
        for k in range(n):
            normal[j, k] = 0.0
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
        normal[j, j] = math.sqrt(pivot)
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
