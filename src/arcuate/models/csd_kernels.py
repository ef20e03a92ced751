"""Kernels of single-shell CSD: eight voxels at a time, one per lane.

The normal matrix of a voxel is never rebuilt between rounds: the rows of the directions that entered or left its
set are added or taken out. Eight matrices are then laid side by side and solved together. A lane whose voxel is
done takes the next one at once, so that no lane waits for the slowest; what a lane computes does not depend on
its neighbours.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from arcuate.models.status import Status
from arcuate.numerics.compiled import inner, kernel
from arcuate.numerics.lanes import LINE, add_outer_tile, multiply_panel, transpose_8
from arcuate.numerics.linalg import cholesky_solve_lanes, triangle_lines

CHUNK = 256  # voxels that one thread works through with its eight lanes
_AFRESH = 8  # rounds after which a normal matrix is made anew: rounding of many updates would add up
_NOT_FINITE, _FITTED = int(Status.NOT_FINITE), int(Status.FITTED)
_NOT_CONVERGED, _NO_SIGNAL = int(Status.NOT_CONVERGED), int(Status.NO_SIGNAL)


class CsdTables(NamedTuple):
    """What all voxels share; ``width`` is the number of coefficients, rounded up to whole lanes."""

    forward: np.ndarray  # flat float64, panels of Xᵀ, see panel_product.as_panels
    penalty: np.ndarray  # flat float64, panels of B
    table: np.ndarray  # (2 n_reg width,) float64, rows of B, then rows of -B
    bare: np.ndarray  # (width width,) float64, XᵀX
    full: np.ndarray  # (width width,) float64, XᵀX + BᵀB
    factor: np.ndarray  # (n_coef, n_coef) float64, lower Cholesky factor of XᵀX
    scale: float  # threshold over the first coefficient of the unconstrained FOD


class CsdResults(NamedTuple):
    """What is filled in."""

    coefs: np.ndarray  # (n_vox, n_coef) float64
    status: np.ndarray  # (n_vox,) uint8, see Status; 0 before
    rounds: np.ndarray  # (n_vox,) uint8, constrained solutions made


class _Start(NamedTuple):
    """Problems of a chunk before the first round."""

    right: np.ndarray  # (n_vox, width) float64, Xᵀs
    threshold: np.ndarray  # (n_vox,) float64, unit of the penalty's amplitudes
    members: np.ndarray  # (n_vox, n_reg) uint8, 1 where the direction is penalised


@kernel(error_model="numpy")
def fit_voxels(signals, tables, max_iterations, results):
    """FODs of one chunk of signals (n_vox, n_dir) float64."""
    n_vox, n_coef = signals.shape[0], tables.factor.shape[0]
    width = (n_coef + LINE - 1) // LINE * LINE
    n_reg = tables.table.shape[0] // (2 * width)
    start = _Start(np.zeros((n_vox, width)), np.zeros(n_vox), np.zeros((n_vox, n_reg), np.uint8))
    for first in range(0, n_vox, LINE):
        _start_lanes(signals, first, tables, start, results)
    _iterate(tables, max_iterations, start, results)


@inner(error_model="numpy")
def _start_lanes(signals, first, tables, start, results):
    """Right-hand sides, thresholds and first sets of up to eight voxels; finishes those that need no constraint."""
    penalty, scale, coefs, status = tables.penalty, tables.scale, results.coefs, results.status
    right, threshold, members = start.right, start.threshold, start.members
    n_dir, n_coef, n_reg = signals.shape[1], tables.factor.shape[0], members.shape[1]
    count = min(LINE, signals.shape[0] - first)
    lines = np.zeros(LINE * n_dir)
    for lane in range(count):
        status[first + lane] = _transfer(signals[first + lane], lane, lines)
    z = np.empty(LINE * right.shape[1])
    for panel in range(right.shape[1] // LINE):
        multiply_panel(tables.forward, panel * n_dir * LINE, lines, n_dir, z, panel * LINE)
    f = z[: LINE * n_coef].copy()
    _solve_shared(tables.factor, f)
    n_panels = (n_reg + LINE - 1) // LINE
    amplitude = np.empty(LINE * LINE * n_panels)
    for panel in range(n_panels):
        multiply_panel(penalty, panel * n_coef * LINE, f, min(15, n_coef), amplitude, panel * LINE)
    n_low = _mark(amplitude, f, scale, n_reg, count, first, members)
    if np.any(n_low[:count] == 0):
        for panel in range(n_panels):
            multiply_panel(penalty, panel * n_coef * LINE, f, n_coef, amplitude, panel * LINE)
    for lane in range(count):
        v = first + lane
        for k in range(right.shape[1]):
            right[v, k] = z[LINE * k + lane]
        threshold[v] = scale * f[lane]
        if status[v] == 0 and n_low[lane] == 0:
            is_done = True
            for d in range(n_reg):
                if amplitude[LINE * d + lane] < threshold[v]:
                    members[v, d] = 1
                    is_done = False
            if is_done:
                status[v] = _FITTED
                for k in range(n_coef):
                    coefs[v, k] = f[LINE * k + lane]


@inner(error_model="numpy")
def _transfer(row, lane, lines):
    """Copy one voxel into its lane; status if it cannot be fitted, else 0."""
    is_zero = True
    for i in range(len(row)):
        value = np.float64(row[i])
        if not np.isfinite(value):
            for j in range(i):
                lines[LINE * j + lane] = 0.0
            return _NOT_FINITE
        if value != 0.0:
            is_zero = False
        lines[LINE * i + lane] = value
    return _NO_SIGNAL if is_zero else 0


@inner(error_model="numpy")
def _solve_shared(factor, lines):
    """Solve L Lᵀ x = z in every lane, in place; all lanes have the same L."""
    n = factor.shape[0]
    for k in range(n):
        for i in range(k):
            for lane in range(LINE):
                lines[LINE * k + lane] -= factor[k, i] * lines[LINE * i + lane]
        for lane in range(LINE):
            lines[LINE * k + lane] /= factor[k, k]
    for k in range(n - 1, -1, -1):
        for lane in range(LINE):
            lines[LINE * k + lane] /= factor[k, k]
        for i in range(k):
            for lane in range(LINE):
                lines[LINE * i + lane] -= factor[k, i] * lines[LINE * k + lane]


@inner(error_model="numpy")
def _mark(amplitude, f, scale, n_reg, count, row, members):
    """Mark the directions below the threshold; how many per lane."""
    n_low = np.zeros(LINE, np.int64)
    for d in range(n_reg):
        for lane in range(count):
            if amplitude[LINE * d + lane] < scale * f[lane]:
                members[row + lane, d] = 1
                n_low[lane] += 1
    return n_low


@inner(error_model="numpy")
def _iterate(tables, max_iterations, start, results):
    """Solve and update the sets of a chunk; a lane takes the next voxel as soon as its own is done."""
    penalty, table = tables.penalty, tables.table
    right, threshold, members = start.right, start.threshold, start.members
    coefs, status, rounds = results.coefs, results.status, results.rounds
    n_coef, width, n_reg = coefs.shape[1], right.shape[1], members.shape[1]
    n_panels = (n_reg + LINE - 1) // LINE
    normal = np.zeros(LINE * width * width)  # one matrix per lane, lower triangle
    matrix = np.zeros(LINE * triangle_lines(n_coef))
    z = np.zeros((LINE, width))
    x, amplitude = np.zeros(LINE * n_coef), np.zeros(LINE * LINE * n_panels)
    added, other = np.zeros((LINE, n_reg), np.int64), np.zeros((LINE, n_reg), np.int64)
    n_changed, n_rounds = np.zeros(LINE, np.int64), np.zeros(LINE, np.int64)
    voxel, limit = np.full(LINE, -1), np.zeros(LINE)
    following, end = np.int64(0), right.shape[0]
    while True:
        n_busy = 0
        for lane in range(LINE):
            while voxel[lane] < 0 and following < end:
                if status[following] == 0:
                    voxel[lane], limit[lane], n_rounds[lane] = following, threshold[following], 0
                    z[lane] = right[following]
                    n_changed[lane] = _enter(members[following], tables, normal, lane, added, other)
                following += 1
            if voxel[lane] < 0:
                continue
            n_busy += 1
            for i in range(0, width, LINE):
                for j in range(0, i + 1, LINE):
                    add_outer_tile(
                        table, width, added[lane], other[lane], n_changed[lane], normal, lane * width * width, i, j
                    )
        if n_busy == 0:
            return
        _fill_lanes(normal, z, n_coef, width, matrix)
        cholesky_solve_lanes(matrix, n_coef, x)
        for panel in range(n_panels):
            multiply_panel(penalty, panel * n_coef * LINE, x, n_coef, amplitude, panel * LINE)
        _compare(amplitude, limit, voxel, members, added, other, n_changed)
        for lane in range(LINE):
            v = voxel[lane]
            if v < 0:
                continue
            n_rounds[lane] += 1
            if n_changed[lane] == 0 or n_rounds[lane] >= max_iterations or np.isnan(x[lane]):
                is_sound = not np.isnan(x[lane])
                status[v] = _FITTED if is_sound and n_changed[lane] == 0 else _NOT_CONVERGED
                rounds[v] = min(n_rounds[lane], 255)
                if is_sound:
                    for k in range(n_coef):
                        coefs[v, k] = x[LINE * k + lane]
                voxel[lane] = -1
            elif n_rounds[lane] % _AFRESH == 0:
                n_changed[lane] = _enter(members[v], tables, normal, lane, added, other)


@inner(error_model="numpy")
def _enter(member, tables, normal, lane, added, other):
    """Start a lane's normal matrix; rows still to add (few penalised) or to take out again (most are)."""
    n_reg, size = len(member), len(tables.bare)
    inside = np.sum(member)
    is_few = 2 * inside <= n_reg
    base = tables.bare if is_few else tables.full
    for t in range(size):
        normal[lane * size + t] = base[t]
    count = 0
    for d in range(n_reg):
        if (member[d] == 1) == is_few:
            added[lane, count] = d if is_few else d + n_reg
            other[lane, count] = d
            count += 1
    return count


@inner(error_model="numpy")
def _fill_lanes(normal, z, n_coef, width, matrix):
    """Lower triangles and right-hand sides of the lanes as lines, in the order the solver takes."""
    for i in range(n_coef):
        for j in range(0, i + 1, LINE):
            transpose_8(normal, i * width + j, width * width, matrix, i * (i + 1) // 2 + j)
    flat = z.reshape(-1)
    for k in range(0, width, LINE):
        transpose_8(flat, k, width, matrix, n_coef * (n_coef + 1) // 2 + k)


@inner(error_model="numpy")
def _compare(amplitude, limit, voxel, members, added, other, n_changed):
    """Update the sets; list what entered (+ row) and what left (- row) in each lane."""
    n_reg = members.shape[1]
    for lane in range(LINE):
        n_changed[lane] = 0
        if voxel[lane] < 0:
            continue
        member = members[voxel[lane]]
        count = 0
        for d in range(n_reg):
            is_low = amplitude[LINE * d + lane] < limit[lane]
            if is_low != (member[d] == 1):
                member[d] = is_low
                added[lane, count] = d if is_low else d + n_reg
                other[lane, count] = d
                count += 1
        n_changed[lane] = count
