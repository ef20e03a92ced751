"""The compiled part of :mod:`arcuate.numerics.qp`: a start in lanes, then one problem after the other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange

from arcuate.numerics import qp_active_set
from arcuate.numerics.lanes import LANES
from arcuate.numerics.qp_active_set import FAST, SPANNED
from arcuate.numerics.qp_start import FIRST_PATH, SECOND_PATH, follow_path, make_scratch, project_lanes

MAX_ROUNDS = 9  # times the active set method is started, each time with a pseudo-inverse built anew
NEGLIGIBLE = 1e-12  # of |g|: a multiplier this far below zero is rounding
APEX = 1e-26  # of |g|²: a solution this short is zero
RESCUE_ROUND = 3  # from here on a solution that is infeasible by rounding is moved inside the cone ...
ACCEPTED = 1e-7  # ... and taken with this KKT residual
PROVEN = 1e-9  # KKT residual of a corner with the multipliers of the start
CHUNK = 128  # problems started together, so that those which need more of it fill their lanes

SOLVED, NOT_CONVERGED, ZERO = 0, 1, 2

ACTIVE_SET: Any = globals().get("ACTIVE_SET", qp_active_set)  # that of this number of unknowns, see qp.load_kernel
SIZE, WIDE, IS_KEPT = ACTIVE_SET.SIZE, ACTIVE_SET.WIDE, ACTIVE_SET.IS_KEPT
accurate, active_set, add_combination = ACTIVE_SET.accurate, ACTIVE_SET.active_set, ACTIVE_SET.add_combination
constraint_values, dot, dot_row, restart = (
    ACTIVE_SET.constraint_values, ACTIVE_SET.dot, ACTIVE_SET.dot_row, ACTIVE_SET.restart,
)  # fmt: skip


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def residual_of(g: Any, rows: Any, norms: Any, r: Any, x: Any, state: Any, count: int) -> float:
    # largest of stationarity, infeasibility and complementarity, each relative; n.b. lam belongs to scaled rows
    active, _, lam, y, w, _, _ = state
    gap = np.empty(SIZE)
    for j in range(SIZE):
        gap[j] = g[j] - y[j]
    add_combination(rows, active, lam, count, gap)
    stationarity, scale, size_x = 0.0, 0.0, 0.0
    for j in range(SIZE):
        up, down = 0.0, 0.0
        for i in range(j + 1):
            up += r[i, j] * gap[i]
            down += r[i, j] * g[i]
        stationarity, scale = max(stationarity, abs(up)), max(scale, abs(down))
        size_x = max(size_x, abs(x[j]))
    low, high, product = 0.0, 0.0, 0.0
    for i in range(norms.shape[0]):
        low, high = min(low, w[i] * norms[i]), max(high, w[i] * norms[i])
    for k in range(count):
        product = max(product, abs(lam[k] * w[active[k]]))
    return max(stationarity / scale, -low / high, product / (scale * size_x))


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def check(norms: Any, y: Any, w: Any, lam: Any, count: int, tolerance: float, length: float) -> int:
    # whether y = g + Σ lam row is the solution: SOLVED, ZERO or NOT_CONVERGED
    for k in range(count):
        if not lam[k] >= -NEGLIGIBLE * length:
            return NOT_CONVERGED
    if dot(y, y) < APEX * length * length:
        return ZERO
    largest, lowest = 0.0, 0.0
    for i in range(norms.shape[0]):
        value = w[i] * norms[i]
        largest, lowest = max(largest, value), min(lowest, value)
    return SOLVED if largest > 0.0 and lowest >= -tolerance * largest else NOT_CONVERGED


@njit(cache=IS_KEPT, error_model="numpy")
def sort(numbers: Any, count: int) -> None:
    for i in range(1, count):
        number, k = numbers[i], i
        while k > 0 and numbers[k - 1] > number:
            numbers[k] = numbers[k - 1]
            k -= 1
        numbers[k] = number


@njit(cache=IS_KEPT, error_model="numpy")
def remember(active: Any, lam: Any, count: int, multipliers: Any) -> None:
    multipliers[:] = 0.0
    for k in range(count):
        multipliers[active[k]] = max(lam[k], 0.0)


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def move_inside(columns: Any, norms: Any, inner: Any, y: Any, w: Any, lam: Any, count: int) -> None:
    # y moved along a direction in which every constraint's value grows by at least one, until none is negative
    lowest = 0.0
    for i in range(norms.shape[0]):
        lowest = min(lowest, w[i] * norms[i])
    for j in range(SIZE):
        y[j] -= lowest * inner[j]
    for k in range(count):
        lam[k] = max(lam[k], 0.0)
    constraint_values(columns, y, w)


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def active_of(multipliers: Any, active: Any, most: int) -> int:
    # the constraints with positive multipliers, and how many; -1 if more than most
    count = 0
    for i in range(multipliers.shape[0]):
        if multipliers[i] > 0.0:
            if count == most:
                return -1
            active[count] = i
            count += 1
    return count


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def find_corner(g: Any, multipliers: Any, shared: Any, state: Any, order: Any, basis: Any, x: Any) -> float:
    # the nearest point where every constraint with a multiplier is zero, more than unknowns, as where a tissue is
    # absent; its KKT residual with these multipliers
    rows, columns, _, norms, r, r_inverse, inner = shared
    _, inverse, _, y, w, work, z = state
    positive, count, rank = np.empty(norms.shape[0]), 0, 0
    y[:] = g
    for i in range(norms.shape[0]):
        if not multipliers[i] > 0.0:
            continue
        order[count], positive[count] = i, multipliers[i]
        count += 1
        if rank == x.shape[0]:
            continue
        z[:] = rows[i]
        for _ in range(2):  # Gram-Schmidt; once more against rounding
            for k in range(rank):
                part = -dot_row(basis, k, z)
                for j in range(SIZE):
                    z[j] += part * basis[k, j]
        square = dot(z, z)
        if square > SPANNED:
            scale = 1.0 / math.sqrt(square)
            for j in range(SIZE):
                basis[rank, j] = scale * z[j]
            part = -dot_row(basis, rank, y)
            for j in range(SIZE):
                y[j] += part * basis[rank, j]
            rank += 1
    constraint_values(columns, y, w)
    move_inside(columns, norms, inner, y, w, positive, count)
    for k in range(x.shape[0]):
        x[k] = dot_row(r_inverse, k, y)
    return residual_of(g, rows, norms, r, x, (order, inverse, positive, y, w, work, z), count)


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def solve_one(g: Any, multipliers: Any, shared: Any, tolerance: float, solution: Any, report: Any) -> int:
    # from approximate multipliers of all constraints (zero where inactive), which are overwritten
    rows, columns, gram, norms, r, r_inverse, inner = shared
    n, m = solution.shape[0], columns.shape[1]
    y, x, w = np.empty(SIZE), np.zeros(SIZE), np.empty(m)
    active, order = np.empty(SIZE + 1, np.int64), np.empty(norms.shape[0], np.int64)
    inverse, lam = np.empty((SIZE, WIDE)), np.empty(WIDE)
    state = (active, inverse, lam, y, w, np.empty((2, WIDE)), np.empty(SIZE))
    matrices = np.zeros((2, SIZE, SIZE))
    solution[:] = 0.0
    report[0], report[1] = 0.0, 0.0
    length = math.sqrt(dot(g, g))
    if length == 0.0:
        return ZERO
    outcome = NOT_CONVERGED
    for attempt in range(MAX_ROUNDS):
        is_ended = True
        if attempt == 0:  # the constraints that the start violates are as a rule the active ones
            count = active_of(multipliers, active, n)
            if count < 0:
                report[0] = find_corner(g, multipliers, shared, state, order, matrices[0], x)
                if report[0] <= PROVEN:
                    report[1], solution[:] = n, x[:n]
                    return SOLVED
                continue
        else:
            count = restart(rows, gram, multipliers, order, state, matrices)
            count = active_set(g, rows, columns, norms, state, count, 0.5 * tolerance)
            is_ended = count >= 0
            count = abs(count)
            sort(active, count)
        accurate(g, rows, gram, active, count, lam, y, matrices[0])
        constraint_values(columns, y, w)
        outcome = check(norms, y, w, lam, count, tolerance, length)
        if outcome == ZERO:
            return ZERO
        is_last = attempt == MAX_ROUNDS - 1
        is_moved = (is_last or attempt >= RESCUE_ROUND) and outcome == NOT_CONVERGED
        if not (is_moved or is_last or (outcome == SOLVED and is_ended)):
            if attempt > 0:  # the pseudo-inverse has drifted: once more from here
                remember(active, lam, count, multipliers)
            continue
        if is_moved:
            remember(active, lam, count, multipliers)
            move_inside(columns, norms, inner, y, w, lam, count)
        for k in range(n):
            solution[k] = dot_row(r_inverse, k, y)
            x[k] = solution[k]
        report[0] = residual_of(g, rows, norms, r, x, state, count)
        report[1] = count
        if not is_moved:
            return outcome
        if report[0] <= ACCEPTED:
            return SOLVED
    return outcome


@njit(cache=IS_KEPT)
def start_chunk(signals: Any, begin: int, end: int, start: Any, n: int, g: Any, multipliers: Any) -> None:
    # g and approximate multipliers of some problems: all of them on the path, then those that it has not settled
    q_panels, constraint_panels, transposed_panels, table, damped_panels = start
    panels = (constraint_panels, transposed_panels)
    y, is_settled = np.zeros_like(g), np.zeros(len(g), np.bool_)
    chosen, scratch = np.empty(LANES, np.int64), make_scratch(n, SIZE, multipliers.shape[1])
    for first in range(0, end - begin, LANES):
        count = min(LANES, end - begin - first)
        project_lanes(signals[begin:end], first, first + count, q_panels, SIZE, g)
        project_lanes(signals[begin:end], first, first + count, damped_panels, SIZE, y)
        for lane in range(count):
            chosen[lane] = first + lane
        follow_path(g, y, chosen, count, FIRST_PATH, panels, n, table, scratch, multipliers, is_settled)
    count = 0
    for v in range(end - begin):
        if not is_settled[v]:
            chosen[count] = v
            count += 1
        if count == LANES or (count > 0 and v == end - begin - 1):
            follow_path(g, y, chosen, count, SECOND_PATH, panels, n, table, scratch, multipliers, is_settled)
            count = 0


@njit(cache=IS_KEPT, parallel=True)
def solve_all(signals: Any, start: Any, shared: Any, tolerance: float, out: Any) -> None:
    solution, residual, n_active, outcome = out
    n, n_con, n_vox = solution.shape[1], shared[0].shape[0], signals.shape[0]
    for chunk in prange((n_vox + CHUNK - 1) // CHUNK):
        begin, end = chunk * CHUNK, min((chunk + 1) * CHUNK, n_vox)
        g, multipliers, report = np.zeros((CHUNK, SIZE)), np.empty((CHUNK, n_con)), np.empty(2)
        start_chunk(signals, begin, end, start, n, g, multipliers)
        for v in range(begin, end):
            outcome[v] = solve_one(g[v - begin], multipliers[v - begin], shared, tolerance, solution[v], report)
            residual[v], n_active[v] = report[0], int(report[1])
