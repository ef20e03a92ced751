"""The compiled part of :mod:`arcuate.numerics.qp`: a start in lanes, then one problem after the other."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from arcuate.numerics.compiled import inner, kernel, part
from arcuate.numerics.lanes import LINE
from arcuate.numerics.qp_active_set import SPANNED, ActiveSet, Cone, change_active_set, restart, solve_multipliers
from arcuate.numerics.qp_rows import FAST, add_combination, constraint_values, dot, dot_row, factorise, solve_factored
from arcuate.numerics.qp_start import Start

MAX_ROUNDS = 8  # times the active set method is started, each time with a pseudo-inverse built anew
ROUNDING = 1e-12  # of |g|: a multiplier this far below zero is rounding
APEX = 1e-26  # of |g|²: a solution this short is zero
RESCUE_ROUND = 2  # from here on a solution that is infeasible by rounding is moved inside the cone ...
ACCEPTED = 1e-7  # ... and taken with this KKT residual
PROVEN = 1e-9  # KKT residual of a corner with the multipliers of the start
HELD = 1e-14  # of |g|: how far a corner may lie from a constraint, by rounding
BALANCED = 1e-24  # of |g|²: the square of a gap that is rounding
MAX_BALANCES = 60
CHUNK = 256  # problems started together: one takes the lane of another that has left the path

SOLVED, NOT_CONVERGED, ZERO = 0, 1, 2
CORNER = 3  # on the way: more constraints are active than there are unknowns


class Solutions(NamedTuple):
    """Results of ``n_vox`` problems, see :class:`arcuate.numerics.qp.ConeFit`."""

    solution: np.ndarray  # (n_vox, n) float
    kkt_residual: np.ndarray  # (n_vox,) float
    n_active: np.ndarray  # (n_vox,) int
    outcome: np.ndarray  # (n_vox,) uint8


@inner(fastmath=FAST, error_model="numpy")
def residual_of(g, index, lam, count, cone, state):
    """Largest of stationarity, infeasibility and complementarity, each relative; ``lam`` belongs to the scaled rows."""
    gap, size, up, down = state.z, state.size, state.part, state.shares
    for j in range(LINE * len(size)):
        gap[j] = g[j] - state.y[j]
    add_combination(cone.rows, index, lam, count, gap, size)
    stationarity, scale, size_x = 0.0, 0.0, 0.0
    up[:] = 0.0
    down[:] = 0.0
    for i in range(LINE * len(size)):
        a, b = gap[i], g[i]
        for j in range(LINE * len(size)):
            up[j] += cone.r[i, j] * a
            down[j] += cone.r[i, j] * b
    for j in range(LINE * len(size)):
        stationarity, scale = max(stationarity, abs(up[j])), max(scale, abs(down[j]))
        size_x = max(size_x, abs(state.solution[j]))
    low, high, product = 0.0, 0.0, 0.0
    for i in range(cone.norms.shape[0]):
        low, high = min(low, state.values[i] * cone.norms[i]), max(high, state.values[i] * cone.norms[i])
    for k in range(count):
        product = max(product, abs(lam[k] * state.values[index[k]]))
    return max(stationarity / scale, -low / high, product / (scale * size_x))


@inner(fastmath=FAST, error_model="numpy")
def judge(g, count, cone, state, tolerance):
    """Whether y = g + Σ multiplier row is the solution: SOLVED, ZERO or NOT_CONVERGED."""
    square = dot(g, g, state.size)
    for k in range(count):
        if not state.multipliers[k] >= -ROUNDING * math.sqrt(square):
            return NOT_CONVERGED
    if dot(state.y, state.y, state.size) < APEX * square:
        return ZERO
    largest, lowest = 0.0, 0.0
    for i in range(cone.norms.shape[0]):
        value = state.values[i] * cone.norms[i]
        largest, lowest = max(largest, value), min(lowest, value)
    return SOLVED if largest > 0.0 and lowest >= -tolerance * largest else NOT_CONVERGED


@part()
def sort(numbers, count):
    """The first ``count`` numbers in order, in place."""
    for i in range(1, count):
        number, k = numbers[i], i
        while k > 0 and numbers[k - 1] > number:
            numbers[k] = numbers[k - 1]
            k -= 1
        numbers[k] = number


@part()
def remember(count, state, multipliers):
    """The multipliers of the active rows in the place of those of all constraints."""
    multipliers[:] = 0.0
    for k in range(count):
        multipliers[state.active[k]] = max(state.multipliers[k], 0.0)


@inner(fastmath=FAST, error_model="numpy")
def move_inside(cone, state):
    """y moved along a direction in which every constraint's value grows by at least one, until none is negative."""
    lowest = 0.0
    for i in range(cone.norms.shape[0]):
        lowest = min(lowest, state.values[i] * cone.norms[i])
    for j in range(LINE * len(state.size)):
        state.y[j] -= lowest * cone.inner[j]
    constraint_values(cone.columns, state.y, state.values, state.size)


@inner(fastmath=FAST, error_model="numpy")
def unscale(n, cone, state):
    """u = R⁻¹y in ``state.solution``, of ``n`` unknowns."""
    solution, y = state.solution, state.y
    for i in range(LINE * len(state.size)):
        solution[i] = 0.0
    for k in range(n):
        a = y[k]
        for i in range(LINE * len(state.size)):
            solution[i] += a * cone.r_inverse[k, i]


@part()
def list_active(multipliers, most, state):
    """How many constraints have a positive multiplier, in ``state.active``; -1 if more than ``most``."""
    count = np.int64(0)
    for i in range(multipliers.shape[0]):
        if multipliers[i] > 0.0:
            if count == most:
                return -1
            state.active[count] = i
            count += 1
    return count


@part()
def solve_corner(g, multipliers, n, cone, state):
    """The nearest point where every constraint with a multiplier is zero; its KKT residual with these multipliers.

    For more constraints than unknowns, as where a tissue is absent; ``multipliers`` themselves stay.
    """
    size, y, z, basis = state.size, state.y, state.z, state.factor
    positive, count, rank = np.empty(cone.norms.shape[0]), np.int64(0), np.int64(0)
    for i in range(cone.norms.shape[0]):
        if multipliers[i] > 0.0:
            state.order[count], positive[count] = i, multipliers[i]
            count += 1
    for j in range(LINE * len(size)):
        y[j] = g[j]
    limit = HELD * math.sqrt(dot(g, g, size))
    while True:  # most rows lie in the span of few: always the one that y is furthest from
        constraint_values(cone.columns, y, state.values, size)
        where, furthest = np.int64(-1), limit
        for k in range(count):
            if abs(state.values[state.order[k]]) > furthest:
                where, furthest = state.order[k], abs(state.values[state.order[k]])
        if where < 0 or rank == n:
            break
        for j in range(LINE * len(size)):
            z[j] = cone.rows[where, j]
        for _ in range(2):  # Gram-Schmidt; once more against rounding
            for k in range(rank):
                part = -dot_row(basis, k, z, size)
                for j in range(LINE * len(size)):
                    z[j] += part * basis[k, j]
        square = dot(z, z, size)
        if not square > SPANNED:
            break
        scale = 1.0 / math.sqrt(square)
        for j in range(LINE * len(size)):
            basis[rank, j] = scale * z[j]
        part = -dot_row(basis, rank, y, size)
        for j in range(LINE * len(size)):
            y[j] += part * basis[rank, j]
        rank += 1
    move_inside(cone, state)
    unscale(n, cone, state)
    balance(g, positive, count, n, cone, state)
    return residual_of(g, state.order, positive, count, cone, state)


@part()
def balance(g, lam, count, n, cone, state):
    """Change the multipliers of the rows in ``state.order`` by the least that makes y = g + Σ multiplier row.

    By the normal matrix of these rows, ``n`` unknowns. Those of the start carry the rounding of By, divided by the
    violation it allows.
    """
    size, normal, gap, step, weights = state.size, state.lines, state.z, state.step, np.empty(cone.norms.shape[0])
    normal[:] = 0.0
    for i in range(n):
        for k in range(count):
            weights[k] = cone.columns[i, state.order[k]]
        for j in range(LINE * len(size)):
            gap[j] = 0.0
        add_combination(cone.rows, state.order, weights, count, gap, size)
        for j in range(LINE * len(size)):
            normal[i, j] = gap[j]
        state.active[i] = i
    factorise(normal, state.active, n, state, SPANNED, size)
    limit = BALANCED * dot(g, g, size)
    for _ in range(MAX_BALANCES):  # more than one where a multiplier is held at zero
        for j in range(LINE * len(size)):
            gap[j] = g[j] - state.y[j]
        add_combination(cone.rows, state.order, lam, count, gap, size)
        if dot(gap, gap, size) < limit:
            break
        state.right[:] = 0.0
        for j in range(n):
            state.right[j] = -gap[j]
        solve_factored(n, state, size)
        for j in range(n, LINE * len(size)):
            step[j] = 0.0
        for k in range(count):
            lam[k] = max(lam[k] + dot_row(cone.rows, state.order[k], step, size), 0.0)


@inner(fastmath=FAST, error_model="numpy")
def accept_start(g, count, cone, state, tolerance):
    """Outcome with the constraints that the start violates as the active ones: they are as a rule."""
    solve_multipliers(g, count, cone, state)
    constraint_values(cone.columns, state.y, state.values, state.size)
    return judge(g, count, cone, state, tolerance)


@part()
def solve_active_set(g, multipliers, n, cone, state, tolerance):
    """Outcome, KKT residual and count of the active set method from approximate multipliers, which are overwritten."""
    residual, count = 0.0, np.int64(0)
    for attempt in range(MAX_ROUNDS):
        count = restart(multipliers, cone, state)
        count, is_ended = change_active_set(g, count, cone, state, 0.5 * tolerance)
        sort(state.active, count)
        outcome = accept_start(g, count, cone, state, tolerance)
        if outcome == ZERO:
            return ZERO, 0.0, 0
        if outcome == SOLVED and (is_ended or attempt == MAX_ROUNDS - 1):
            unscale(n, cone, state)
            return SOLVED, residual_of(g, state.active, state.multipliers, count, cone, state), count
        remember(count, state, multipliers)  # the pseudo-inverse has drifted: once more from here
        if outcome == NOT_CONVERGED and attempt >= RESCUE_ROUND:
            move_inside(cone, state)
            for k in range(count):
                state.multipliers[k] = max(state.multipliers[k], 0.0)
            unscale(n, cone, state)
            residual = residual_of(g, state.active, state.multipliers, count, cone, state)
            if residual <= ACCEPTED:
                return SOLVED, residual, count
    return NOT_CONVERGED, residual, count


@part()
def take_start(g, multipliers, n, cone, state, tolerance):
    """Outcome, KKT residual and count where the start tells the active constraints; else CORNER or NOT_CONVERGED.

    ``multipliers`` (n_con,) of all constraints are approximate, zero where inactive.
    """
    for j in range(LINE * len(state.size)):
        state.solution[j] = 0.0
    if dot(g, g, state.size) == 0.0:
        return ZERO, 0.0, 0
    count = list_active(multipliers, n, state)
    if count < 0:
        return CORNER, 0.0, 0
    outcome = accept_start(g, count, cone, state, tolerance)
    if outcome == SOLVED:
        unscale(n, cone, state)
        return SOLVED, residual_of(g, state.active, state.multipliers, count, cone, state), count
    return outcome, 0.0, 0


@inner()
def put(result, v, n, state, out):
    """Result of one problem, and the solution in ``state.solution``, among those of the chunk."""
    out.outcome[v], out.kkt_residual[v], out.n_active[v] = result
    for k in range(n):
        out.solution[v, k] = 0.0 if result[0] == ZERO else state.solution[k]


@kernel(fastmath=FAST, error_model="numpy")
def take_starts(start, n, cone, state, tolerance, out):
    """Solutions of the problems of a chunk from their start; CORNER or NOT_CONVERGED for the kernels below."""
    for v in range(len(out.outcome)):
        put(take_start(start.g[v], start.multipliers[v], n, cone, state, tolerance), v, n, state, out)


@kernel(fastmath=FAST, error_model="numpy")
def solve_corners(start, n, cone, state, out):
    """Problems of which more constraints are active than there are unknowns; those not proven stay NOT_CONVERGED."""
    for v in range(len(out.outcome)):
        if out.outcome[v] == CORNER:
            residual = solve_corner(start.g[v], start.multipliers[v], n, cone, state)
            put((SOLVED if residual <= PROVEN else NOT_CONVERGED, residual, n), v, n, state, out)


@kernel(fastmath=FAST, error_model="numpy")
def solve_open(start, n, cone, state, tolerance, out):
    """Problems that are NOT_CONVERGED, by the active set method; ``start.multipliers`` of these are overwritten."""
    for v in range(len(out.outcome)):
        if out.outcome[v] == NOT_CONVERGED:
            put(solve_active_set(start.g[v], start.multipliers[v], n, cone, state, tolerance), v, n, state, out)


def solve_problems(start: Start, n: int, cone: Cone, state: ActiveSet, tolerance: float, out: Solutions) -> None:
    """Solutions of the problems of a chunk of ``n`` unknowns, once their start is known; ``state`` is scratch.

    Three kernels, since most problems need the first alone: what is in one kernel is optimised together, again at
    every level of calls, and takes that much longer to compile.
    """
    take_starts(start, n, cone, state, tolerance, out)
    if np.any(out.outcome == CORNER):
        solve_corners(start, n, cone, state, out)
    if np.any(out.outcome == NOT_CONVERGED):
        solve_open(start, n, cone, state, tolerance, out)
