# mypy: disable-error-code=no-untyped-def
"""Start of :mod:`arcuate.numerics.qp`: the multipliers of eight problems side by side, one per lane, nearly right.

Follows the minimisers of ½|y - g|² + ½ρ|min(By, 0)|² as ρ grows, one Newton step with a line search for each weight:
one that grows faster leaves more to the active set method than it saves here.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from arcuate.numerics.lanes import (
    LANES,
    add_outer_tile,
    hinge_slopes,
    mark_negative,
    multiply_panel,
    transpose_8,
)
from arcuate.numerics.linalg import cholesky_solve_lanes, solve_factored_lanes, triangle_lines

# weight of the first step, its growth from step to step, number of steps
FIRST_PATH = (1000.0, 1.7, 24)  # for every problem
SECOND_PATH = (1e8, 1.7, 14)  # for those whose violated constraints still change; it ends near 1e11
UNREFINED = 1e9  # weight up to which the rounding of the factor does not matter
SEARCHES = 20  # trial steps of one line search
SLOPE_LEFT = 0.05  # of the slope at the start: the line search is content


@njit(cache=True)
def project_lanes(signals, begin, end, q_panels, width, g):
    """g = Qᵀs of the rows ``begin`` to ``end`` (eight at most) into the same rows of ``g`` (n_vox, width)."""
    n_meas = signals.shape[1]
    lines, z = np.zeros(LANES * n_meas), np.zeros(LANES * width)
    for lane in range(end - begin):
        for i in range(n_meas):
            lines[LANES * i + lane] = signals[begin + lane, i]
    for panel in range(width // LANES):
        multiply_panel(q_panels, panel * n_meas * LANES, lines, n_meas, z, panel * LANES)
    for lane in range(end - begin):
        for k in range(width):
            g[begin + lane, k] = z[LANES * k + lane]


@njit(cache=True)
def make_scratch(n, width, n_con):
    """What :func:`follow_path` works in, made once for many calls: fresh memory of this size costs page faults."""
    m = LANES * ((n_con + LANES - 1) // LANES)
    lines = (np.zeros(LANES * width), np.zeros(LANES * width), np.zeros(LANES * width))
    values = (np.zeros(LANES * m), np.empty(LANES * m))
    matrices = (np.zeros(LANES * width * width), np.zeros(LANES * triangle_lines(n)))
    marks = (np.zeros(n_con, np.uint8), np.zeros(m, np.uint8))
    changes = (np.empty((LANES, n_con), np.int64), np.empty((LANES, n_con), np.int64), np.empty(LANES, np.int64))
    refinement = (np.empty(LANES * width), np.zeros(LANES * width), np.empty(LANES * m))
    return lines, values, matrices, marks, changes, refinement


@njit(cache=True)
def follow_path(g, y_rows, chosen, count, path, panels, n, table, scratch, multipliers, is_settled):
    """Moves ``y_rows`` of up to eight problems along the path; approximate multipliers of their constraints.

    Parameters
    ----------
    g, y_rows : (n_vox, width) float; ``y_rows`` holds the starts, and then the ends
    chosen : (8,) int, the rows of the problems; ``count`` of them
    path : FIRST_PATH or SECOND_PATH
    panels : B and Bᵀ in panels of eight rows
    table : rows of B, then their negatives, padded to ``width``; flat
    scratch : as :func:`make_scratch` makes it
    multipliers : (n_vox, n_con) float, out; 0 where a constraint is not active
    is_settled : (n_vox,) bool, out: the last step changed no constraint's side, and no more are violated than unknowns
    """
    (weight, growth, n_steps), (width, n_con) = path, (g.shape[1], multipliers.shape[1])
    (z, y, new), (w, dw), (normal, matrix), (inside, marks), (enters, leaves, n_changes), refinement = scratch
    n_panels = len(marks) // LANES
    z[:] = 0.0  # lanes without a problem solve that of zero
    y[:] = 0.0
    normal[:] = 0.0
    inside[:] = 0
    for lane in range(count):
        for k in range(n):
            z[LANES * k + lane], y[LANES * k + lane] = g[chosen[lane], k], y_rows[chosen[lane], k]
    for panel in range(n_panels):
        multiply_panel(panels[0], panel * n * LANES, y, n, w, panel * LANES)
    for step in range(n_steps):
        if step > 0:
            weight *= growth
        _list_changes(w, marks, inside, enters, leaves, n_changes)
        for lane in range(count):
            for i in range(0, width, LANES):
                for j in range(0, i + 1, LANES):
                    add_outer_tile(
                        table, width, enters[lane], leaves[lane], n_changes[lane], normal, lane * width * width, i, j
                    )
        _fill(normal, z, n, width, 1.0 / weight, matrix)
        cholesky_solve_lanes(matrix, n, new)
        for panel in range(n_panels):
            multiply_panel(panels[0], panel * n * LANES, new, n, dw, panel * LANES)
        if weight > UNREFINED:
            _refine(new, z, n, w, dw, 1.0 / weight, panels[1], matrix, refinement)
            for panel in range(n_panels):
                multiply_panel(panels[0], panel * n * LANES, new, n, dw, panel * LANES)
        _search(y, new, z, n, w, dw, weight)
    _list_changes(w, marks, inside, enters, leaves, n_changes)
    for lane in range(count):
        v, n_violated = chosen[lane], 0
        for k in range(n):
            y_rows[v, k] = y[LANES * k + lane]
        for i in range(n_con):
            multipliers[v, i] = max(-weight * w[LANES * i + lane], 0.0)
            n_violated += multipliers[v, i] > 0.0
        is_settled[v] = n_changes[lane] == 0 and n_violated <= n


@njit(cache=True)
def _list_changes(w, marks, inside, enters, leaves, counts):
    """Constraints of each lane that entered the violated set (+ row) or left it (- row), and how many."""
    n_con = len(inside)
    mark_negative(w, n_con, marks)
    counts[:] = 0
    for i in range(n_con):
        changed = inside[i] ^ marks[i]
        if changed == 0:
            continue
        for lane in range(LANES):
            k = counts[lane]
            enters[lane, k] = i if (marks[i] >> lane) & 1 else i + n_con
            leaves[lane, k] = i
            counts[lane] = k + ((changed >> lane) & 1)
        inside[i] = marks[i]


@njit(cache=True)
def _refine(new, z, n, w, dw, shift, bt_panels, factor, work):
    """One step of iterative refinement of (BᵀB + shift I) new = shift z, B the rows with w < 0; dw holds B new.

    The matrix that was factorised carries the rounding of all rows that entered and left; this residual does not.
    """
    residual, change, violated = work
    for t in range(len(w)):
        violated[t] = dw[t] if w[t] < 0.0 else 0.0
    n_con_lines = len(w) // LANES
    for panel in range((n + LANES - 1) // LANES):
        multiply_panel(bt_panels, panel * n_con_lines * LANES, violated, n_con_lines, residual, panel * LANES)
    for t in range(LANES * n):
        residual[t] = shift * (z[t] - new[t]) - residual[t]
    solve_factored_lanes(factor, n, residual, change)
    for t in range(LANES * n):
        new[t] += change[t]


@njit(cache=True)
def _fill(normal, z, n, width, shift, matrix):
    """normal + shift I and shift z as lines, in the order the solver takes."""
    for i in range(n):
        for j in range(0, i + 1, LANES):
            transpose_8(normal, i * width + j, width * width, matrix, i * (i + 1) // 2 + j)
        diagonal = LANES * (i * (i + 1) // 2 + i)
        for lane in range(LANES):
            matrix[diagonal + lane] += shift
    last = LANES * (n * (n + 1) // 2)
    for t in range(LANES * n):
        matrix[last + t] = shift * z[t]


@njit(cache=True)
def _search(y, new, z, n, w, dw, weight):
    """Move y and w towards the Newton point, each lane as far as its penalised objective falls; dw holds B new."""
    linear, square = np.zeros(LANES), np.zeros(LANES)
    for k in range(n):
        for lane in range(LANES):
            t = LANES * k + lane
            d = new[t] - y[t]
            linear[lane] += d * (y[t] - z[t])
            square[lane] += d * d
    for t in range(len(w)):
        dw[t] -= w[t]
    low, high, a = np.zeros(LANES), np.ones(LANES), np.zeros(LANES)
    slope, curvature = np.empty(LANES), np.empty(LANES)
    _slopes(w, dw, a, weight, linear, square, slope, curvature)
    enough = SLOPE_LEFT * np.abs(slope)
    is_done = slope >= 0.0
    a[:] = 1.0
    for _ in range(SEARCHES):  # the slope is piecewise linear and grows: Newton's method, kept between two ends
        if np.all(is_done):
            break
        _slopes(w, dw, a, weight, linear, square, slope, curvature)
        for lane in range(LANES):
            if is_done[lane]:
                continue
            if abs(slope[lane]) <= enough[lane] or (slope[lane] < 0.0 and a[lane] == 1.0):
                is_done[lane] = True
                continue
            if slope[lane] > 0.0:
                high[lane] = a[lane]
            else:
                low[lane] = a[lane]
            a[lane] -= slope[lane] / curvature[lane]
            if not low[lane] < a[lane] < high[lane]:
                a[lane] = 0.5 * (low[lane] + high[lane])
    for k in range(n):
        for lane in range(LANES):
            t = LANES * k + lane
            y[t] += a[lane] * (new[t] - y[t])
    for i in range(0, len(w), LANES):
        for lane in range(LANES):
            w[i + lane] += a[lane] * dw[i + lane]


@njit(cache=True)
def _slopes(w, dw, a, weight, linear, square, slope, curvature):
    """First and second derivative of the penalised objective at step a in each lane."""
    sums = np.empty(2 * LANES)
    hinge_slopes(w, dw, a, len(w) // LANES, sums)
    for lane in range(LANES):
        slope[lane] = linear[lane] + a[lane] * square[lane] + weight * sums[lane]
        curvature[lane] = square[lane] + weight * sums[LANES + lane]
