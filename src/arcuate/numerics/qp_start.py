# mypy: disable-error-code=no-untyped-def
"""Start of :mod:`arcuate.numerics.qp`: the multipliers of eight problems side by side, one per lane, nearly right."""

from __future__ import annotations

import numpy as np
from numba import njit

from arcuate.numerics.lanes import LANES, add_outer_tile, hinge_slopes, multiply_panel, transpose_8
from arcuate.numerics.linalg import cholesky_solve_lanes, triangle_lines

FIRST_WEIGHT, WEIGHT_GROWTH, N_STEPS = 1000.0, 1.7, 25  # the last weight is near 1e9: beyond, rounding shows
SEARCHES = 12  # trial steps of one line search
SLOPE_LEFT = 0.05  # of the slope at the start: the line search is content


@njit(cache=True)
def start_lanes(signals, begin, end, panels, n, table, width, g, multipliers):
    """g = Qᵀs of up to eight problems, and approximate multipliers of their constraints.

    Minimises ½|y - g|² + ½ρ|min(By, 0)|², one Newton step with a line search for each of a growing sequence of ρ:
    a weight that grows faster leaves more to the active set method than it saves here.

    Parameters
    ----------
    signals : (n_vox, n_meas), rows ``begin`` to ``end`` are taken
    panels : Qᵀ and B in panels of eight rows
    table : rows of B, then their negatives, padded to ``width``; flat
    g : (8, width) float, out
    multipliers : (8 n_panel_rows,) float, out; line i holds constraint i, 0 where it is not active
    """
    q_panels, b_panels = panels
    n_meas, n_con = signals.shape[1], len(table) // (2 * width)
    lines, z = np.zeros(LANES * n_meas), np.zeros(LANES * width)
    for lane in range(end - begin):
        for i in range(n_meas):
            lines[LANES * i + lane] = signals[begin + lane, i]
    for panel in range(width // LANES):
        multiply_panel(q_panels, panel * n_meas * LANES, lines, n_meas, z, panel * LANES)
    for lane in range(LANES):
        for k in range(width):
            g[lane, k] = z[LANES * k + lane]
    y, new = z.copy(), np.zeros(LANES * width)
    w, dw = np.zeros_like(multipliers), np.empty_like(multipliers)
    n_panels = len(w) // (LANES * LANES)
    for panel in range(n_panels):
        multiply_panel(b_panels, panel * n * LANES, y, n, w, panel * LANES)
    normal = np.zeros(LANES * width * width)
    matrix = np.zeros(LANES * triangle_lines(n))
    inside = np.zeros((LANES, n_con), np.bool_)
    enters, leaves = np.empty(n_con, np.int64), np.empty(n_con, np.int64)
    weight = FIRST_WEIGHT
    for step in range(N_STEPS):
        if step > 0:
            weight *= WEIGHT_GROWTH
        for lane in range(end - begin):
            count = _changes(w, lane, inside[lane], enters, leaves)
            for i in range(0, width, LANES):
                for j in range(0, i + 1, LANES):
                    add_outer_tile(table, width, enters, leaves, count, normal, lane * width * width, i, j)
        _fill(normal, z, n, width, 1.0 / weight, matrix)
        cholesky_solve_lanes(matrix, n, new)
        for panel in range(n_panels):
            multiply_panel(b_panels, panel * n * LANES, new, n, dw, panel * LANES)
        _search(y, new, z, n, w, dw, weight)
    for t in range(len(w)):
        multipliers[t] = max(-weight * w[t], 0.0)


@njit(cache=True)
def _changes(w, lane, inside, left, right):
    """Constraints of a lane that entered the violated set (+ row) or left it (- row); how many."""
    n_con, count = len(inside), 0
    for i in range(n_con):
        is_violated = w[LANES * i + lane] < 0.0
        left[count] = i if is_violated else i + n_con
        right[count] = i
        count += is_violated != inside[i]
        inside[i] = is_violated
    return count


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
    low, high = np.zeros(LANES), np.ones(LANES)
    at_low, at_high, at = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    _slopes(w, dw, low, weight, linear, square, at_low)
    _slopes(w, dw, high, weight, linear, square, at_high)
    a = np.ones(LANES)
    side, first = np.zeros(LANES, np.int64), at_low.copy()
    is_done = np.zeros(LANES, np.bool_)
    for lane in range(LANES):
        is_done[lane] = at_high[lane] <= 0.0 or at_low[lane] >= 0.0
    for _ in range(SEARCHES):
        if np.all(is_done):
            break
        for lane in range(LANES):
            if not is_done[lane]:
                a[lane] = low[lane] - at_low[lane] * (high[lane] - low[lane]) / (at_high[lane] - at_low[lane])
        _slopes(w, dw, a, weight, linear, square, at)
        for lane in range(LANES):
            if is_done[lane]:
                continue
            if abs(at[lane]) < -SLOPE_LEFT * first[lane]:
                is_done[lane] = True
            elif at[lane] > 0.0:  # the end that stays is given less weight: both ends move (Anderson & Björck 1973)
                ratio = 1.0 - at[lane] / at_high[lane]
                high[lane], at_high[lane] = a[lane], at[lane]
                at_low[lane] *= ratio if side[lane] > 0 and ratio > 0.0 else (0.5 if side[lane] > 0 else 1.0)
                side[lane] = 1
            else:
                ratio = 1.0 - at[lane] / at_low[lane]
                low[lane], at_low[lane] = a[lane], at[lane]
                at_high[lane] *= ratio if side[lane] < 0 and ratio > 0.0 else (0.5 if side[lane] < 0 else 1.0)
                side[lane] = -1
    for k in range(n):
        for lane in range(LANES):
            t = LANES * k + lane
            y[t] += a[lane] * (new[t] - y[t])
    for i in range(0, len(w), LANES):
        for lane in range(LANES):
            w[i + lane] += a[lane] * dw[i + lane]


@njit(cache=True)
def _slopes(w, dw, a, weight, linear, square, out):
    """Derivative of the penalised objective at step a in each lane."""
    hinge_slopes(w, dw, a, len(w) // LANES, out)
    for lane in range(LANES):
        out[lane] = linear[lane] + a[lane] * square[lane] + weight * out[lane]
