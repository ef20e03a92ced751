"""Lawson and Hanson's active set method of :mod:`arcuate.numerics.qp` for one problem, rows of compile-time length.

A row is a scaled constraint; the active ones have a multiplier each. Their pseudo-inverse is kept with its rows as
columns, and follows every row that enters or leaves.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from arcuate.numerics.compiled import inner, part
from arcuate.numerics.lanes import LINE
from arcuate.numerics.qp_rows import (
    FAST,
    add_combination,
    add_combination_from,
    add_rank_one,
    constraint_values,
    dot,
    dot_row,
    factorise,
    project,
    project_negative,
    solve_factored,
    zero_lines,
)

DEPENDENT = 1e-13  # squared distance from the span of the active rows below which a row can only replace one of them
SPANNED = 1e-15  # squared distance that is rounding: the row gets no multiplier
NEARLY_DEPENDENT = 1e-10  # the same for the start, where a lost row is found again
NO_CANCELLATION = 1e-3  # squared distance above which one projection is accurate
MAX_CHANGES = 60  # constraints that enter before the pseudo-inverse is built anew
MAX_REFINEMENTS = 6


class Cone(NamedTuple):
    """What all problems share: ``n`` unknowns, padded to ``n_pad``; ``n_con`` constraints, padded to ``m_pad``.

    No units: the rows are scaled to length one, and y = Ru has the unit of the signal.
    """

    rows: np.ndarray  # (n_con, n_pad) float, scaled constraints B
    columns: np.ndarray  # (n_pad, m_pad) float, their transpose
    gram: np.ndarray  # (n_con, n_con) float, BBᵀ
    norms: np.ndarray  # (n_con,) float, lengths of the rows before they were scaled
    r: np.ndarray  # (n_pad, n_pad) float, R of X = QR
    r_inverse: np.ndarray  # (n_pad, n_pad) float, R⁻¹ transposed
    inner: np.ndarray  # (n_pad,) float, y along which every constraint's value grows by one or more


class ActiveSet(NamedTuple):
    """Scratch of one problem, and its result."""

    active: np.ndarray  # (n_pad + 1,) int, active constraints
    multipliers: np.ndarray  # (n_pad + 8,) float, theirs: lambda of the scaled rows
    target: np.ndarray  # (n_pad + 8,) float, what the multipliers move to
    inverse: np.ndarray  # (n_pad, n_pad + 8) float, pseudo-inverse of the active rows, its rows as columns
    y: np.ndarray  # (n_pad,) float, g + Σ multiplier row
    values: np.ndarray  # (m_pad,) float, By
    shares: np.ndarray  # (n_pad + 8,) float, how much of a new row's multiplier each old one takes over
    part: np.ndarray  # (n_pad + 8,) float
    z: np.ndarray  # (n_pad,) float
    right: np.ndarray  # (n_pad,) float
    step: np.ndarray  # (n_pad,) float
    factor: np.ndarray  # (n_pad, n_pad) float, Cholesky factor of the active part of the Gram matrix
    lines: np.ndarray  # (n_pad, n_pad) float
    order: np.ndarray  # (n_con,) int, constraints sorted by multiplier
    is_active: np.ndarray  # (n_con,) bool
    solution: np.ndarray  # (n_pad,) float, u = R⁻¹y
    size: tuple[int, ...]  # see panels_of


def panels_of(n_pad: int) -> tuple[int, ...]:
    """A tuple of length ``n_pad / 8``: its length is part of its type, so loops over rows have a size that LLVM knows.

    One function then serves every size, and numba keeps the machine code of each on disk.
    """
    return (0,) * (n_pad // LINE)


def make_active_set(cone: Cone, size: tuple[int, ...]) -> ActiveSet:
    """Scratch for one problem at a time; made here, since every kind of array takes a kernel time to compile."""
    n = LINE * len(size)
    n_con, m = cone.rows.shape[0], cone.columns.shape[1]
    return ActiveSet(
        np.zeros(n + 1, np.int64),
        zero_lines(n + LINE),
        zero_lines(n + LINE),
        zero_lines(n, n + LINE),
        zero_lines(n),
        zero_lines(m),
        zero_lines(n + LINE),
        zero_lines(n + LINE),
        zero_lines(n),
        zero_lines(n),
        zero_lines(n),
        zero_lines(n, n),
        zero_lines(n, n),
        np.zeros(n_con, np.int64),
        np.zeros(n_con, np.bool_),
        zero_lines(n),
        size,
    )


@inner(fastmath=FAST, error_model="numpy")
def enter(row, count, cone, state):
    """Make one more row active: the pseudo-inverse gains a row; False if the row lies in the span of the others.

    ``state.shares`` then holds how much of the new multiplier each old one takes over.
    """
    size, z, total, part = state.size, state.z, state.shares, state.part
    for j in range(LINE * len(size)):
        z[j] = cone.rows[row, j]
    for q in range(LINE * len(size) + LINE):
        total[q] = 0.0
    square = 0.0
    for _ in range(2):
        project(state.inverse, z, part, size)
        for q in range(LINE * len(size) + LINE):
            part[q] = -part[q]
            total[q] += part[q]
        add_combination(cone.rows, state.active, part, count, z, size)
        square = dot(z, z, size)
        if square > NO_CANCELLATION:
            break
    if square < DEPENDENT:
        return False
    scale = 1.0 / square
    for j in range(LINE * len(size)):
        z[j] *= scale
    total[count] = 1.0
    add_rank_one(state.inverse, z, total, size)
    state.active[count] = row
    return True


@inner(fastmath=FAST, error_model="numpy")
def leave(position, count, state, size):
    """Take the active row at a position out; the last takes its place."""
    inverse, gone, part, target, last = state.inverse, state.z, state.part, state.target, count - 1
    for j in range(LINE * len(size)):
        gone[j] = inverse[j, position]
    scale = -1.0 / dot(gone, gone, size)
    project(inverse, gone, part, size)
    for q in range(LINE * len(size) + LINE):
        part[q] *= scale
    part[position] = 0.0
    for k in range(count):
        target[k] += part[k] * target[position]
    add_rank_one(inverse, gone, part, size)
    for j in range(LINE * len(size)):
        inverse[j, position] = inverse[j, last]
        inverse[j, last] = 0.0
    state.active[position] = state.active[last]
    state.multipliers[position], target[position] = state.multipliers[last], target[last]


@inner(fastmath=FAST, error_model="numpy")
def restore_signs(count, state, size):
    """Move the multipliers to their target, rows leaving where one reaches zero; the new count."""
    lam, target = state.multipliers, state.target
    while True:
        step, where = 1.0, np.int64(-1)
        for k in range(count):
            if target[k] <= 0.0:
                ratio = lam[k] / (lam[k] - target[k])
                if ratio < step or where < 0:
                    step, where = ratio, k
        if where < 0:
            break
        for k in range(count):
            lam[k] = max(lam[k] + step * (target[k] - lam[k]), 0.0)
        lam[where] = 0.0
        leave(where, count, state, size)
        count -= 1
    for k in range(count):
        lam[k] = target[k]
    return count


@part()
def solve_multipliers(g, count, cone, state):
    """Multipliers of the sorted active rows, by Cholesky and refinements; y = g + Σ multiplier row."""
    right, step, size, lam, y = state.right, state.step, state.size, state.multipliers, state.y
    factorise(cone.gram, state.active, count, state, SPANNED, size)
    for j in range(LINE * len(size)):
        y[j] = g[j]
    for k in range(count):
        lam[k] = 0.0
    before = 0.0
    for _ in range(MAX_REFINEMENTS):
        largest, change = 0.0, 0.0
        for i in range(count):
            right[i] = -dot_row(cone.rows, state.active[i], y, size)
        solve_factored(count, state, size)
        for k in range(count):
            lam[k] += step[k]
            largest, change = max(largest, abs(lam[k])), max(change, abs(step[k]))
        add_combination(cone.rows, state.active, step, count, y, size)
        if change <= 1e-12 * largest or change * change <= 1e-14 * largest * before:  # what the next would change
            break
        before = change


@part()
def replace(row, count, cone, state):
    """Let a row in the span of the active ones take the place of the one whose multiplier reaches zero first.

    The others change as its own grows, by what :func:`enter` left in ``state.shares``. The new count, or -1 and
    nothing changed if none reaches zero.
    """
    lam, target, shares = state.multipliers, state.target, state.shares
    where, least = np.int64(-1), 0.0
    for k in range(count):
        if shares[k] < 0.0:
            ratio = -lam[k] / shares[k]
            if where < 0 or ratio < least:
                where, least = k, ratio
    if where < 0:
        return -1
    for k in range(count):
        lam[k] = max(lam[k] + least * shares[k], 0.0)
        target[k] = lam[k]
    lam[where] = target[where] = 0.0
    leave(where, count, state, state.size)
    if not enter(row, count - 1, cone, state):
        return count - 1
    lam[count - 1] = least
    return count


@part()
def find_worst(values, norms, is_active, tolerance):
    """The constraint most violated, -1 if none is by more than the tolerance times the largest value."""
    n_con = norms.shape[0]
    largest = 0.0
    for i in range(n_con):
        largest = max(largest, values[i] * norms[i])
    limit, where, lowest = -tolerance * largest, np.int64(-1), 0.0
    for i in range(n_con):
        if values[i] < lowest and not is_active[i] and values[i] * norms[i] < limit:
            where, lowest = i, values[i]
    return where


@part()
def change_active_set(g, count, cone, state, tolerance):
    """Lawson and Hanson's method from the given active rows; their new count, and whether it has ended."""
    lam, target, size = state.multipliers, state.target, state.size
    project_negative(state.inverse, g, target, size)
    count = restore_signs(count, state, size)
    for _ in range(MAX_CHANGES):
        for j in range(LINE * len(size)):
            state.y[j] = g[j]
        add_combination(cone.rows, state.active, lam, count, state.y, size)
        constraint_values(cone.columns, state.y, state.values, size)
        state.is_active[:] = False
        for k in range(count):
            state.is_active[state.active[k]] = True
        while True:
            row = find_worst(state.values, cone.norms, state.is_active, tolerance)
            if row < 0 or count >= LINE * len(size):
                return count, True
            if enter(row, count, cone, state):
                new = -dot(state.z, g, size)  # its multiplier, and what that does to the others
                lam[count] = 0.0
                count += 1
                for k in range(count):
                    target[k] = lam[k] + state.shares[k] * new
                break
            left = replace(row, count, cone, state)
            if left >= 0:
                count = left
                project_negative(state.inverse, g, target, size)
                break
            state.is_active[row] = True
        count = restore_signs(count, state, size)
    return count, False


@part()
def restart(weights, cone, state):
    """Active rows from approximate multipliers, the largest first, and their pseudo-inverse; their count."""
    order, size, column, z, lines = state.order, state.size, state.step, state.z, state.lines
    n_positive = np.int64(0)
    for i in range(weights.shape[0]):
        if weights[i] > 0.0:
            k = n_positive
            while k > 0 and weights[order[k - 1]] < weights[i]:
                order[k] = order[k - 1]
                k -= 1
            order[k] = i
            n_positive += 1
    n_positive = min(n_positive, LINE * len(size))
    factorise(cone.gram, order, n_positive, state, NEARLY_DEPENDENT, size)
    return invert_rows(weights, n_positive, cone, state, column, z, lines)


@part()
def invert_rows(weights, n_positive, cone, state, column, z, lines):
    """Pseudo-inverse of the rows in ``state.order`` that the factor has not left out; their count."""
    factor, order, size = state.factor, state.order, state.size
    places = np.empty(LINE * len(size), np.int64)
    count = np.int64(0)  # a plain 0 would have every function that takes it compiled for the constant as well
    for i in range(n_positive):  # G N = B by substitution, forward, without the rows left out
        if factor[i, i] == 0.0:
            continue
        for j in range(LINE * len(size)):
            z[j] = cone.rows[order[i], j]
        for k in range(count):
            column[k] = -factor[places[k], i]
        add_combination_from(lines, np.int64(0), column, count, z, size)
        scale = 1.0 / factor[i, i]
        for j in range(LINE * len(size)):
            lines[count, j] = z[j] * scale
        places[count] = i
        state.active[count], state.multipliers[count] = order[i], weights[order[i]]
        count += 1
    state.inverse[:] = 0.0
    for i in range(count - 1, -1, -1):  # and back
        for j in range(LINE * len(size)):
            z[j] = lines[i, j]
        for k in range(i + 1, count):
            column[k] = -factor[places[i], places[k]]
        add_combination_from(lines, i + 1, column, count, z, size)
        scale = 1.0 / factor[places[i], places[i]]
        for j in range(LINE * len(size)):
            z[j] *= scale
            lines[i, j] = z[j]
            state.inverse[j, i] = z[j]
    return count
