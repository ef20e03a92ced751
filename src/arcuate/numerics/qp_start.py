"""Start of :mod:`arcuate.numerics.qp`: the multipliers of eight problems side by side, one per lane, nearly right.

Follows the minimisers of ½|y - g|² + ½ρ|min(By, 0)|² as ρ grows, one Newton step with a line search for each weight.
How much it grows is settled by how much of the last step was taken: where that was little, the point is off the path,
and a larger weight would lose it for good. The first weight goes by the scale of BᵀB: what suits one problem is thirty
times too much for the same with a smooth term. A problem leaves the path after the first whole step that changes no
side, and the next one takes its lane; what a lane computes depends on its own problem alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from arcuate.numerics.compiled import inner, kernel, part
from arcuate.numerics.lanes import (
    LINE,
    add_outer_tile,
    hinge_slopes,
    mark_negative,
    multiply_panel,
    padded,
    transpose_8,
)
from arcuate.numerics.linalg import cholesky_solve_lanes, triangle_lines
from arcuate.numerics.qp_rows import zero_lines

FIRST_WEIGHT = 170.0  # over the geometric mean of the eigenvalues of BᵀB
FAST_GROWTH, SLOW_GROWTH = 2.5, 1.4  # of the weight, after a step of full length, and of half the length at least
FULL_LENGTH, HALF_LENGTH = 0.95, 0.5  # of the Newton step; after a shorter one the weight stays
FEWEST_STEPS, MOST_STEPS = 16, 30  # of one problem; at the end the rounding of the factor begins to matter
SEARCHES = 20  # trial steps of one line search
SLOPE_LEFT = 0.05  # of the slope at the start: the line search is content


class StartTables(NamedTuple):
    """Matrices that all problems share, as lanes read them: in panels of eight rows, see panel_product.as_panels."""

    projection: np.ndarray  # flat, panels of Qᵀ (n_pad, n_meas)
    damped: np.ndarray  # flat, panels of (I + cBᵀB)⁻¹Qᵀ (n_pad, n_meas): where the path starts
    constraints: np.ndarray  # flat, panels of B (n_con, n)
    rows: np.ndarray  # flat, rows of B, then their negatives, (2 n_con, width)
    gram: np.ndarray  # (width²,) float, BᵀB
    n: int  # unknowns
    first_weight: float  # of the path


class Lanes(NamedTuple):
    """Scratch of eight problems side by side; lines of eight numbers, made once: fresh memory costs page faults."""

    chosen: np.ndarray  # (8,) int, the problem in each lane, -1 in one without
    weights: np.ndarray  # (8,) float, of the last step
    lengths: np.ndarray  # (8,) float, of the last step, over that of the Newton step
    n_steps: np.ndarray  # (8,) int, taken
    z: np.ndarray  # (8 width,) float, g; width: n, padded to whole lines
    y: np.ndarray  # (8 width,) float, the point on the path
    new: np.ndarray  # (8 width,) float, the Newton point
    w: np.ndarray  # (8 m_pad,) float, By
    dw: np.ndarray  # (8 m_pad,) float, B new
    normal: np.ndarray  # (8 width²,) float, BᵀB of the violated rows: one matrix after the other
    matrix: np.ndarray  # (8 triangle_lines(n),) float, lines
    inside: np.ndarray  # (n_con,) uint8, bit of a lane: the constraint is in its normal matrix
    marks: np.ndarray  # (m_pad,) uint8, bit of a lane: the constraint is violated
    enters: np.ndarray  # (8, n_con) int, rows of the table to add to the normal matrix, times ...
    leaves: np.ndarray  # (8, n_con) int, ... these
    n_changes: np.ndarray  # (8,) int


class Start(NamedTuple):
    """Problems that are started together, and where they start."""

    g: np.ndarray  # (count, n_pad) float, Qᵀs
    y: np.ndarray  # (count, n_pad) float, the point where the path starts
    multipliers: np.ndarray  # (count, n_con) float, approximate; 0 where a constraint is not active. At first By


def make_lanes(n: int, n_con: int) -> Lanes:
    """Scratch for eight problems of ``n`` unknowns and ``n_con`` constraints."""
    m, width = padded(n_con), padded(n)
    return Lanes(
        np.full(LINE, -1, np.int64),
        np.ones(LINE),
        np.ones(LINE),
        np.zeros(LINE, np.int64),
        zero_lines(LINE * width),
        zero_lines(LINE * width),
        zero_lines(LINE * width),
        zero_lines(LINE * m),
        zero_lines(LINE * m),
        zero_lines(LINE * width * width),
        zero_lines(LINE * triangle_lines(n)),
        np.zeros(n_con, np.uint8),
        np.zeros(m, np.uint8),
        np.empty((LINE, n_con), np.int64),
        np.empty((LINE, n_con), np.int64),
        np.zeros(LINE, np.int64),
    )


def make_start(count: int, n_pad: int, n_con: int) -> Start:
    """Room for ``count`` problems."""
    g, y = zero_lines(count, n_pad), zero_lines(count, n_pad)
    return Start(g, y, np.zeros((count, n_con)))


@kernel()
def start_problems(signals, tables, start, lanes):
    """Approximate multipliers of some problems; ``lanes`` is fresh scratch of :func:`make_lanes`.

    ``signals`` (count, n_meas) float64.
    """
    for first in range(0, len(signals), LINE):
        end = min(first + LINE, len(signals))
        _project_lanes(signals, first, end, tables.projection, start.g)
        _project_lanes(signals, first, end, tables.damped, start.y)
        _evaluate_lanes(start, first, end, lanes, tables)
    lanes.w[:] = 0.0
    following, n_open = np.int64(0), LINE
    while n_open > 0:
        n_open = 0
        _list_changes(lanes)
        for lane in range(LINE):
            v = lanes.chosen[lane]
            if v < 0 or _is_at_end(lanes, lane, tables.n):
                if v >= 0:
                    _publish(start, lanes, lane)
                _load(start, lanes, lane, following if following < len(signals) else -1, tables)
                following += 1
            n_open += lanes.chosen[lane] >= 0
        if n_open > 0:
            _step(lanes, tables)


@part()
def _evaluate_lanes(start, begin, end, lanes, tables):
    """By of up to eight problems in the place of their multipliers."""
    n, (_, n_con) = tables.n, start.multipliers.shape
    for lane in range(end - begin):
        for k in range(n):
            lanes.y[LINE * k + lane] = start.y[begin + lane, k]
    for panel in range(len(lanes.marks) // LINE):
        multiply_panel(tables.constraints, panel * n * LINE, lanes.y, n, lanes.w, panel * LINE)
    for lane in range(end - begin):
        for i in range(n_con):
            start.multipliers[begin + lane, i] = lanes.w[LINE * i + lane]


@inner()
def _project_lanes(signals, begin, end, panels, out):
    """The matrix in the panels times the rows ``begin`` to ``end`` (eight at most), into the same rows of ``out``."""
    n_meas, width = signals.shape[1], out.shape[1]
    lines, z = np.zeros(LINE * n_meas), np.zeros(LINE * width)
    for lane in range(end - begin):
        for i in range(n_meas):
            lines[LINE * i + lane] = signals[begin + lane, i]
    for panel in range(width // LINE):
        multiply_panel(panels, panel * n_meas * LINE, lines, n_meas, z, panel * LINE)
    for lane in range(end - begin):
        for k in range(width):
            out[begin + lane, k] = z[LINE * k + lane]


@part()
def _is_at_end(lanes, lane, n):
    """Whether the last step, a whole one, changed no side and no more are violated than unknowns, or was the last."""
    if lanes.n_steps[lane] >= MOST_STEPS:
        return True
    if lanes.n_steps[lane] < FEWEST_STEPS or lanes.n_changes[lane] > 0 or lanes.lengths[lane] < 1.0:
        return False
    n_violated = 0
    for i in range(len(lanes.inside)):
        n_violated += (lanes.inside[i] >> lane) & 1
    return n_violated <= n


@part()
def _publish(start, lanes, lane):
    """Multipliers of a lane in the row of its problem."""
    v, weight = lanes.chosen[lane], lanes.weights[lane]
    for i in range(start.multipliers.shape[1]):
        start.multipliers[v, i] = max(-weight * lanes.w[LINE * i + lane], 0.0)


@part()
def _load(start, lanes, lane, v, tables):
    """Problem ``v`` in a lane; -1 for the problem of zero."""
    is_there, n_con, count, width = v >= 0, len(lanes.inside), 0, len(lanes.z) // LINE
    lanes.chosen[lane], lanes.n_steps[lane], lanes.weights[lane] = v, 0, tables.first_weight
    for k in range(tables.n):
        lanes.z[LINE * k + lane] = start.g[v, k] if is_there else 0.0
        lanes.y[LINE * k + lane] = start.y[v, k] if is_there else 0.0
    n_negative = 0
    for i in range(n_con):
        value = start.multipliers[v, i] if is_there else 0.0
        lanes.w[LINE * i + lane] = value
        n_negative += value < 0.0
    are_most, bit = 2 * n_negative > n_con, np.uint8(1 << lane)
    for k in range(width * width):
        lanes.normal[lane * width * width + k] = tables.gram[k] if are_most else 0.0
    for i in range(n_con):
        is_violated = lanes.w[LINE * i + lane] < 0.0
        lanes.inside[i] = lanes.inside[i] | bit if is_violated else lanes.inside[i] & ~bit
        if is_violated != are_most:
            lanes.enters[lane, count] = i + n_con if are_most else i
            lanes.leaves[lane, count] = i
            count += 1
    lanes.n_changes[lane] = count


@part()
def _step(lanes, tables):
    """One Newton step of each lane at its weight, once the constraints that changed sides are listed."""
    n, new, width = tables.n, lanes.new, len(lanes.z) // LINE
    for lane in range(LINE):
        if lanes.n_steps[lane] > 0 and lanes.lengths[lane] >= HALF_LENGTH:
            lanes.weights[lane] *= FAST_GROWTH if lanes.lengths[lane] >= FULL_LENGTH else SLOW_GROWTH
        lanes.n_steps[lane] += 1
        if lanes.n_changes[lane] == 0:
            continue
        at, n_changes = lane * width * width, lanes.n_changes[lane]
        for i in range(0, width, LINE):
            for j in range(0, i + 1, LINE):
                add_outer_tile(
                    tables.rows, width, lanes.enters[lane], lanes.leaves[lane], n_changes, lanes.normal, at, i, j
                )
    _fill(lanes, n, width)
    cholesky_solve_lanes(lanes.matrix, n, new)
    for panel in range(len(lanes.marks) // LINE):
        multiply_panel(tables.constraints, panel * n * LINE, new, n, lanes.dw, panel * LINE)
    _search(lanes, n)


@part()
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
        for lane in range(LINE):
            k = counts[lane]
            enters[lane, k] = i if (marks[i] >> lane) & 1 else i + n_con
            leaves[lane, k] = i
            counts[lane] = k + ((changed >> lane) & 1)
        inside[i] = marks[i]


@part()
def _fill(lanes, n, width):
    """normal + I / weight and z / weight as lines, in the order the solver takes."""
    normal, matrix, z, shift = lanes.normal, lanes.matrix, lanes.z, 1.0 / lanes.weights
    for i in range(n):
        for j in range(0, i + 1, LINE):
            transpose_8(normal, i * width + j, width * width, matrix, i * (i + 1) // 2 + j)
        diagonal = LINE * (i * (i + 1) // 2 + i)
        for lane in range(LINE):
            matrix[diagonal + lane] += shift[lane]
    last = LINE * (n * (n + 1) // 2)
    for k in range(n):
        for lane in range(LINE):
            matrix[last + LINE * k + lane] = shift[lane] * z[LINE * k + lane]


@part()
def _search(lanes, n):
    """Move y and w towards the Newton point, each lane as far as its penalised objective falls; dw holds B new."""
    y, new, z, w, dw, weight = lanes.y, lanes.new, lanes.z, lanes.w, lanes.dw, lanes.weights
    linear, square = np.zeros(LINE), np.zeros(LINE)
    for k in range(n):
        for lane in range(LINE):
            t = LINE * k + lane
            d = new[t] - y[t]
            linear[lane] += d * (y[t] - z[t])
            square[lane] += d * d
    for t in range(len(w)):
        dw[t] -= w[t]
    low, high, a = np.zeros(LINE), np.ones(LINE), lanes.lengths
    a[:] = 0.0
    slope, curvature = np.empty(LINE), np.empty(LINE)
    _slopes(w, dw, a, weight, linear, square, slope, curvature)
    enough, is_done = np.empty(LINE), np.empty(LINE, np.bool_)
    for lane in range(LINE):
        enough[lane], is_done[lane], a[lane] = SLOPE_LEFT * abs(slope[lane]), slope[lane] >= 0.0, 1.0
    for _ in range(SEARCHES):  # the slope is piecewise linear and grows: Newton's method, kept between two ends
        n_done = 0
        for lane in range(LINE):
            n_done += is_done[lane]
        if n_done == LINE:
            break
        _slopes(w, dw, a, weight, linear, square, slope, curvature)
        for lane in range(LINE):
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
        for lane in range(LINE):
            t = LINE * k + lane
            y[t] += a[lane] * (new[t] - y[t])
    for i in range(0, len(w), LINE):
        for lane in range(LINE):
            w[i + lane] += a[lane] * dw[i + lane]


@inner()
def _slopes(w, dw, a, weight, linear, square, slope, curvature):
    """First and second derivative of the penalised objective at step a in each lane."""
    sums = np.empty(2 * LINE)
    hinge_slopes(w, dw, a, len(w) // LINE, sums)
    for lane in range(LINE):
        slope[lane] = linear[lane] + a[lane] * square[lane] + weight[lane] * sums[lane]
        curvature[lane] = square[lane] + weight[lane] * sums[LINE + lane]
