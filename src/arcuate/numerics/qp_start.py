"""Start of :mod:`arcuate.numerics.qp`: the multipliers of eight problems side by side, one per lane, nearly right.

Follows the minimisers of ½|y - g|² + ½ρ|min(By, 0)|² as ρ grows, one Newton step with a line search for each weight:
one that grows faster leaves more to the active set method than it saves here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from arcuate.numerics.compiled import inner, kernel
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


class StartTables(NamedTuple):
    """Matrices that all problems share, as the lanes read them: in panels of eight rows, see sampling.as_panels."""

    projection: np.ndarray  # flat, panels of Qᵀ (n_pad, n_meas)
    damped: np.ndarray  # flat, panels of (I + cBᵀB)⁻¹Qᵀ (n_pad, n_meas): where the path starts
    constraints: np.ndarray  # flat, panels of B (n_con, n)
    transposed: np.ndarray  # flat, panels of Bᵀ (n, m_pad)
    rows: np.ndarray  # flat, rows of B, then their negatives, (2 n_con, n_pad)
    n: int  # unknowns


class Lanes(NamedTuple):
    """Scratch of eight problems side by side; lines of eight numbers, made once: fresh memory costs page faults."""

    chosen: np.ndarray  # (8,) int, the problem in each lane
    z: np.ndarray  # (8 n_pad,) float, g
    y: np.ndarray  # (8 n_pad,) float, the point on the path
    new: np.ndarray  # (8 n_pad,) float, the Newton point
    w: np.ndarray  # (8 m_pad,) float, By
    dw: np.ndarray  # (8 m_pad,) float, B new
    normal: np.ndarray  # (8 n_pad²,) float, BᵀB of the violated rows: one matrix after the other
    matrix: np.ndarray  # (8 triangle_lines(n),) float, lines
    inside: np.ndarray  # (n_con,) uint8, bit of a lane: the constraint is in its normal matrix
    marks: np.ndarray  # (m_pad,) uint8, bit of a lane: the constraint is violated
    enters: np.ndarray  # (8, n_con) int, rows of the table to add to the normal matrix, times ...
    leaves: np.ndarray  # (8, n_con) int, ... these
    n_changes: np.ndarray  # (8,) int
    residual: np.ndarray  # (8 n_pad,) float
    change: np.ndarray  # (8 n_pad,) float
    violated: np.ndarray  # (8 m_pad,) float


class Start(NamedTuple):
    """Problems that are started together, and where they start."""

    g: np.ndarray  # (count, n_pad) float, Qᵀs
    y: np.ndarray  # (count, n_pad) float, the point that the path has reached
    multipliers: np.ndarray  # (count, n_con) float, approximate; 0 where a constraint is not active
    is_settled: np.ndarray  # (count,) bool: the last step changed no side, and no more are violated than unknowns


@inner()
def make_lanes(n, n_pad, n_con):
    """Scratch for eight problems of ``n`` unknowns, padded to ``n_pad``."""
    m = LANES * ((n_con + LANES - 1) // LANES)
    return Lanes(
        np.zeros(LANES, np.int64),
        np.zeros(LANES * n_pad),
        np.zeros(LANES * n_pad),
        np.zeros(LANES * n_pad),
        np.zeros(LANES * m),
        np.empty(LANES * m),
        np.zeros(LANES * n_pad * n_pad),
        np.zeros(LANES * triangle_lines(n)),
        np.zeros(n_con, np.uint8),
        np.zeros(m, np.uint8),
        np.empty((LANES, n_con), np.int64),
        np.empty((LANES, n_con), np.int64),
        np.empty(LANES, np.int64),
        np.empty(LANES * n_pad),
        np.zeros(LANES * n_pad),
        np.empty(LANES * m),
    )


def make_start(count: int, n_pad: int, n_con: int) -> Start:
    """Room for ``count`` problems."""
    g, y = np.zeros((count, n_pad)), np.zeros((count, n_pad))
    return Start(g, y, np.zeros((count, n_con)), np.zeros(count, np.bool_))


@kernel()
def start_problems(signals, tables, start):
    """Approximate multipliers of some problems: all of them on the path, then those that it has not settled.

    ``signals`` (count, n_meas) float64.
    """
    lanes = make_lanes(tables.n, start.g.shape[1], start.multipliers.shape[1])
    n_vox, chosen = len(signals), lanes.chosen
    for first in range(0, n_vox, LANES):
        count = min(LANES, n_vox - first)
        _project_lanes(signals, first, first + count, tables.projection, start.g)
        _project_lanes(signals, first, first + count, tables.damped, start.y)
        for lane in range(count):
            chosen[lane] = first + lane
        follow_path(start, lanes, count, FIRST_PATH, tables)
    count = np.int64(0)
    for v in range(n_vox):
        if not start.is_settled[v]:
            chosen[count] = v
            count += 1
        if count == LANES or (count > 0 and v == n_vox - 1):
            follow_path(start, lanes, count, SECOND_PATH, tables)
            count = 0


@inner()
def _project_lanes(signals, begin, end, panels, out):
    """The matrix in the panels times the rows ``begin`` to ``end`` (eight at most), into the same rows of ``out``."""
    n_meas, width = signals.shape[1], out.shape[1]
    lines, z = np.zeros(LANES * n_meas), np.zeros(LANES * width)
    for lane in range(end - begin):
        for i in range(n_meas):
            lines[LANES * i + lane] = signals[begin + lane, i]
    for panel in range(width // LANES):
        multiply_panel(panels, panel * n_meas * LANES, lines, n_meas, z, panel * LANES)
    for lane in range(end - begin):
        for k in range(width):
            out[begin + lane, k] = z[LANES * k + lane]


@inner()
def follow_path(start, lanes, count, path, tables):
    """Move ``start.y`` of up to eight problems, ``count`` in ``lanes.chosen``, along the path; their multipliers.

    ``path`` is FIRST_PATH or SECOND_PATH.
    """
    (weight, growth, n_steps), n, width = path, tables.n, start.g.shape[1]
    z, y, new, w, dw, normal = lanes.z, lanes.y, lanes.new, lanes.w, lanes.dw, lanes.normal
    n_panels = len(lanes.marks) // LANES
    z[:] = 0.0  # lanes without a problem solve that of zero
    y[:] = 0.0
    normal[:] = 0.0
    lanes.inside[:] = 0
    for lane in range(count):
        for k in range(n):
            z[LANES * k + lane], y[LANES * k + lane] = start.g[lanes.chosen[lane], k], start.y[lanes.chosen[lane], k]
    for panel in range(n_panels):
        multiply_panel(tables.constraints, panel * n * LANES, y, n, w, panel * LANES)
    for step in range(n_steps):
        if step > 0:
            weight *= growth
        _list_changes(lanes)
        for lane in range(count):
            at, n_changes = lane * width * width, lanes.n_changes[lane]
            for i in range(0, width, LANES):
                for j in range(0, i + 1, LANES):
                    add_outer_tile(
                        tables.rows, width, lanes.enters[lane], lanes.leaves[lane], n_changes, normal, at, i, j
                    )
        _fill(normal, z, n, width, 1.0 / weight, lanes.matrix)
        cholesky_solve_lanes(lanes.matrix, n, new)
        for panel in range(n_panels):
            multiply_panel(tables.constraints, panel * n * LANES, new, n, dw, panel * LANES)
        if weight > UNREFINED:
            _refine(lanes, n, 1.0 / weight, tables.transposed)
            for panel in range(n_panels):
                multiply_panel(tables.constraints, panel * n * LANES, new, n, dw, panel * LANES)
        _search(lanes, n, weight)
    _list_changes(lanes)
    _publish(start, lanes, count, n, weight)


@inner()
def _publish(start, lanes, count, n, weight):
    """Points and multipliers of the lanes in the rows of their problems."""
    n_con = start.multipliers.shape[1]
    for lane in range(count):
        v, n_violated = lanes.chosen[lane], 0
        for k in range(n):
            start.y[v, k] = lanes.y[LANES * k + lane]
        for i in range(n_con):
            multiplier = max(-weight * lanes.w[LANES * i + lane], 0.0)
            start.multipliers[v, i] = multiplier
            n_violated += multiplier > 0.0
        start.is_settled[v] = lanes.n_changes[lane] == 0 and n_violated <= n


@inner()
def _list_changes(lanes):
    """Constraints of each lane that entered the violated set (+ row) or left it (- row), and how many."""
    marks, inside, enters, leaves, counts = lanes.marks, lanes.inside, lanes.enters, lanes.leaves, lanes.n_changes
    n_con = len(inside)
    mark_negative(lanes.w, n_con, marks)
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


@inner()
def _refine(lanes, n, shift, transposed):
    """One step of iterative refinement of (BᵀB + shift I) new = shift z, B the rows with w < 0; dw holds B new.

    The matrix that was factorised carries the rounding of all rows that entered and left; this residual does not.
    """
    residual, change, violated, w, dw, new = lanes.residual, lanes.change, lanes.violated, lanes.w, lanes.dw, lanes.new
    for t in range(len(w)):
        violated[t] = dw[t] if w[t] < 0.0 else 0.0
    n_con_lines = len(w) // LANES
    for panel in range((n + LANES - 1) // LANES):
        multiply_panel(transposed, panel * n_con_lines * LANES, violated, n_con_lines, residual, panel * LANES)
    for t in range(LANES * n):
        residual[t] = shift * (lanes.z[t] - new[t]) - residual[t]
    solve_factored_lanes(lanes.matrix, n, residual, change)
    for t in range(LANES * n):
        new[t] += change[t]


@inner()
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


@inner()
def _search(lanes, n, weight):
    """Move y and w towards the Newton point, each lane as far as its penalised objective falls; dw holds B new."""
    y, new, z, w, dw = lanes.y, lanes.new, lanes.z, lanes.w, lanes.dw
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


@inner()
def _slopes(w, dw, a, weight, linear, square, slope, curvature):
    """First and second derivative of the penalised objective at step a in each lane."""
    sums = np.empty(2 * LANES)
    hinge_slopes(w, dw, a, len(w) // LANES, sums)
    for lane in range(LANES):
        slope[lane] = linear[lane] + a[lane] * square[lane] + weight * sums[lane]
        curvature[lane] = square[lane] + weight * sums[LANES + lane]
