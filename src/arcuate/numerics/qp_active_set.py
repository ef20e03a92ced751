"""Lawson and Hanson's active set method of :mod:`arcuate.numerics.qp` for one problem, rows of compile-time length.

A row is a scaled constraint; the active ones have a multiplier each. Their pseudo-inverse is kept with its rows as
columns, and follows every row that enters or leaves.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from arcuate.numerics.lanes import LANES

FAST = {"reassoc", "contract", "nsz", "arcp"}  # keeps NaN and infinity
DEPENDENT = 1e-13  # squared distance from the span of the active rows below which a row can only replace one of them
SPANNED = 1e-15  # squared distance that is rounding: the row gets no multiplier
NEARLY_DEPENDENT = 1e-10  # the same for the start, where a lost row is found again
NO_CANCELLATION = 1e-3  # squared distance above which one projection is accurate
MAX_CHANGES = 60  # constraints that enter before the pseudo-inverse is built anew
MAX_REFINEMENTS = 6

COMMON_SIZE = 48  # of degree 8 with up to three tissues
SIZE: int = globals().get("SIZE", COMMON_SIZE)  # unknowns, padding included: a constant, see qp.load_kernel
IS_KEPT = SIZE == COMMON_SIZE  # on disk, where numba tells functions apart by file and name, not by this constant
WIDE = SIZE + LANES  # one active row more than unknowns, padded


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def add_combination(matrix: Any, index: Any, weights: Any, count: int, out: Any) -> None:
    # out += Σ weights[k] matrix[index[k]], four rows at a time
    k = 0
    while k + 4 <= count:
        a, b, c, d = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        ka, kb, kc, kd = index[k], index[k + 1], index[k + 2], index[k + 3]
        for j in range(SIZE):
            out[j] += a * matrix[ka, j] + b * matrix[kb, j] + c * matrix[kc, j] + d * matrix[kd, j]
        k += 4
    while k < count:
        a, ka = weights[k], index[k]
        for j in range(SIZE):
            out[j] += a * matrix[ka, j]
        k += 1


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def add_combination_from(matrix: Any, first: int, weights: Any, count: int, out: Any) -> None:
    # out += Σ weights[k] matrix[k] for first <= k < count
    k = first
    while k + 4 <= count:
        a, b, c, d = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        for j in range(SIZE):
            out[j] += (a * matrix[k, j] + b * matrix[k + 1, j]) + (c * matrix[k + 2, j] + d * matrix[k + 3, j])
        k += 4
    while k < count:
        a = weights[k]
        for j in range(SIZE):
            out[j] += a * matrix[k, j]
        k += 1


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def dot(a: Any, b: Any) -> float:
    total = 0.0
    for j in range(SIZE):
        total += a[j] * b[j]
    return total


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def dot_row(matrix: Any, row: int, b: Any) -> float:
    total = 0.0
    for j in range(SIZE):
        total += matrix[row, j] * b[j]
    return total


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def constraint_values(columns: Any, y: Any, out: Any) -> None:
    m = out.shape[0]
    for i in range(m):
        out[i] = 0.0
    for k in range(0, SIZE, 8):
        a, b, c, d = y[k], y[k + 1], y[k + 2], y[k + 3]
        e, f, g, h = y[k + 4], y[k + 5], y[k + 6], y[k + 7]
        for i in range(m):
            out[i] += (
                (a * columns[k, i] + b * columns[k + 1, i]) + (c * columns[k + 2, i] + d * columns[k + 3, i])
            ) + ((e * columns[k + 4, i] + f * columns[k + 5, i]) + (g * columns[k + 6, i] + h * columns[k + 7, i]))


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def project(inverse: Any, z: Any, out: Any) -> None:
    # out = N z, N the pseudo-inverse, which is kept with its rows as columns
    for q in range(WIDE):
        out[q] = 0.0
    for j in range(0, SIZE, 4):
        a, b, c, d = z[j], z[j + 1], z[j + 2], z[j + 3]
        for q in range(WIDE):
            out[q] += (a * inverse[j, q] + b * inverse[j + 1, q]) + (c * inverse[j + 2, q] + d * inverse[j + 3, q])


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def add_rank_one(inverse: Any, z: Any, factors: Any) -> None:
    for j in range(SIZE):
        a = z[j]
        for q in range(WIDE):
            inverse[j, q] += a * factors[q]


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def enter(row: int, active: Any, count: int, rows: Any, inverse: Any, work: Any, z: Any) -> bool:
    # one more active row: the pseudo-inverse gains a row; False if the row lies in the span of the others.
    # work[0] holds how much of the new multiplier each old one takes over
    total, part = work[0], work[1]
    for j in range(SIZE):
        z[j] = rows[row, j]
    for q in range(WIDE):
        total[q] = 0.0
    for _ in range(2):
        project(inverse, z, part)
        for q in range(WIDE):
            part[q] = -part[q]
            total[q] += part[q]
        add_combination(rows, active, part, count, z)
        square = dot(z, z)
        if square > NO_CANCELLATION:
            break
    if square < DEPENDENT:
        return False
    scale = 1.0 / square
    for j in range(SIZE):
        z[j] *= scale
    total[count] = 1.0
    add_rank_one(inverse, z, total)
    active[count] = row
    return True


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def leave(position: int, active: Any, count: int, inverse: Any, lam: Any, target: Any, work: Any, gone: Any) -> None:
    # the active row at a position leaves; the last takes its place
    part, last = work[1], count - 1
    for j in range(SIZE):
        gone[j] = inverse[j, position]
    scale = -1.0 / dot(gone, gone)
    project(inverse, gone, part)
    for q in range(WIDE):
        part[q] *= scale
    part[position] = 0.0
    for k in range(count):
        target[k] += part[k] * target[position]
    add_rank_one(inverse, gone, part)
    for j in range(SIZE):
        inverse[j, position] = inverse[j, last]
        inverse[j, last] = 0.0
    active[position], lam[position], target[position] = active[last], lam[last], target[last]


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def restore_signs(active: Any, count: int, inverse: Any, lam: Any, target: Any, work: Any, z: Any) -> int:
    # moves the multipliers from lam towards target, rows leaving where one reaches zero; the new count
    while True:
        step, where = 1.0, -1
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
        leave(where, active, count, inverse, lam, target, work, z)
        count -= 1
    for k in range(count):
        lam[k] = target[k]
    return count


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def factorise(gram: Any, chosen: Any, count: int, factor: Any, weights: Any, least: float) -> None:
    # Cholesky factor UᵀU of the chosen rows and columns; a row in the span of those before becomes zero
    for i in range(count):
        block = (i >> 3) << 3  # the upper triangle, from the diagonal's block of eight onwards
        for j in range(block, count):
            factor[i, j] = gram[chosen[i], chosen[j]]
        for k in range(i):
            weights[k] = -factor[k, i]
        k = 0
        while k + 4 <= i:
            a, b, c, d = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
            for j in range(block, SIZE):
                factor[i, j] += (a * factor[k, j] + b * factor[k + 1, j]) + (
                    c * factor[k + 2, j] + d * factor[k + 3, j]
                )
            k += 4
        while k < i:
            a = weights[k]
            for j in range(block, SIZE):
                factor[i, j] += a * factor[k, j]
            k += 1
        scale = 1.0 / math.sqrt(factor[i, i]) if factor[i, i] > least else 0.0
        for j in range(block, SIZE):
            factor[i, j] *= scale


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def accurate(g: Any, rows: Any, gram: Any, active: Any, count: int, lam: Any, y: Any, factor: Any) -> None:
    # multipliers of the sorted active rows, by Cholesky and refinements; y = g + Σ lam row
    right, step = np.empty(SIZE), np.zeros(SIZE)
    factorise(gram, active, count, factor, right, SPANNED)
    for j in range(SIZE):
        y[j] = g[j]
    for k in range(count):
        lam[k] = 0.0
    before = 0.0
    for _ in range(MAX_REFINEMENTS):
        largest, change = 0.0, 0.0
        for i in range(count):
            right[i] = -dot_row(rows, active[i], y)
        for i in range(count):
            a = right[i] / factor[i, i] if factor[i, i] > 0.0 else 0.0
            step[i] = a
            for j in range((i >> 3) << 3, SIZE):
                right[j] -= a * factor[i, j]
        for i in range(count - 1, -1, -1):
            total = step[i]
            for j in range(i + 1, count):
                total -= factor[i, j] * step[j]
            step[i] = total / factor[i, i] if factor[i, i] > 0.0 else 0.0
        for k in range(count):
            lam[k] += step[k]
            largest, change = max(largest, abs(lam[k])), max(change, abs(step[k]))
        add_combination(rows, active, step, count, y)
        if change <= 1e-12 * largest or change * change <= 1e-14 * largest * before:  # what the next would change
            break
        before = change


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def replace(
    row: int, active: Any, count: int, rows: Any, inverse: Any, lam: Any, target: Any, work: Any, z: Any
) -> int:
    # a row in the span of the active ones takes the place of the one whose multiplier reaches zero first as its
    # own grows; work[0] is what enter() left. The new count, or -1 and nothing changed if none does
    where, least = -1, 0.0
    for k in range(count):
        if work[0, k] < 0.0:
            ratio = -lam[k] / work[0, k]
            if where < 0 or ratio < least:
                where, least = k, ratio
    if where < 0:
        return -1
    for k in range(count):
        lam[k] = max(lam[k] + least * work[0, k], 0.0)
        target[k] = lam[k]
    lam[where] = target[where] = 0.0
    leave(where, active, count, inverse, lam, target, work, z)
    if not enter(row, active, count - 1, rows, inverse, work, z):
        return count - 1
    lam[count - 1] = least
    return count


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def worst(w: Any, norms: Any, is_active: Any, tolerance: float) -> int:
    # the constraint most violated, -1 if none is by more than the tolerance times the largest value
    n_con = norms.shape[0]
    largest = 0.0
    for i in range(n_con):
        largest = max(largest, w[i] * norms[i])
    limit, where, lowest = -tolerance * largest, -1, 0.0
    for i in range(n_con):
        if w[i] < lowest and not is_active[i] and w[i] * norms[i] < limit:
            where, lowest = i, w[i]
    return where


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def active_set(g: Any, rows: Any, columns: Any, norms: Any, state: Any, count: int, tolerance: float) -> int:
    # Lawson-Hanson from the given active rows; the count of active rows, negative if it has not ended
    active, inverse, lam, y, w, work, z = state
    n_con = rows.shape[0]
    target = np.empty(WIDE)
    is_active = np.zeros(n_con, np.bool_)
    project(inverse, g, target)
    for q in range(WIDE):
        target[q] = -target[q]
    count = restore_signs(active, count, inverse, lam, target, work, z)
    for _ in range(MAX_CHANGES):
        for j in range(SIZE):
            y[j] = g[j]
        add_combination(rows, active, lam, count, y)
        constraint_values(columns, y, w)
        is_active[:] = False
        for k in range(count):
            is_active[active[k]] = True
        while True:
            row = worst(w, norms, is_active, tolerance)
            if row < 0 or count >= SIZE:
                return count
            if enter(row, active, count, rows, inverse, work, z):
                new = -dot(z, g)  # its multiplier, and what that does to the others
                lam[count] = 0.0
                count += 1
                for k in range(count):
                    target[k] = lam[k] + work[0, k] * new
                break
            left = replace(row, active, count, rows, inverse, lam, target, work, z)
            if left >= 0:
                count = left
                project(inverse, g, target)
                for q in range(WIDE):
                    target[q] = -target[q]
                break
            is_active[row] = True
        count = restore_signs(active, count, inverse, lam, target, work, z)
    return -count


@njit(cache=IS_KEPT, fastmath=FAST, error_model="numpy")
def restart(rows: Any, gram: Any, weights: Any, order: Any, state: Any, work_matrices: Any) -> int:
    # active rows with their multipliers, the largest first, and their pseudo-inverse; their count
    active, inverse, lam, _, _, _, z = state
    places = np.empty(SIZE, np.int64)
    n_positive = 0
    for i in range(weights.shape[0]):
        if weights[i] > 0.0:
            k = n_positive
            while k > 0 and weights[order[k - 1]] < weights[i]:
                order[k] = order[k - 1]
                k -= 1
            order[k] = i
            n_positive += 1
    n_positive = min(n_positive, SIZE)
    factor, lines = work_matrices[0], work_matrices[1]
    column = np.empty(SIZE)
    factorise(gram, order, n_positive, factor, column, NEARLY_DEPENDENT)
    count = 0
    for i in range(n_positive):  # G N = B by substitution, forward, without the rows left out
        if factor[i, i] == 0.0:
            continue
        for j in range(SIZE):
            z[j] = rows[order[i], j]
        for k in range(count):
            column[k] = -factor[places[k], i]
        add_combination_from(lines, 0, column, count, z)
        scale = 1.0 / factor[i, i]
        for j in range(SIZE):
            lines[count, j] = z[j] * scale
        places[count] = i
        active[count], lam[count] = order[i], weights[order[i]]
        count += 1
    inverse[:] = 0.0
    for i in range(count - 1, -1, -1):  # and back
        for j in range(SIZE):
            z[j] = lines[i, j]
        for k in range(i + 1, count):
            column[k] = -factor[places[i], places[k]]
        add_combination_from(lines, i + 1, column, count, z)
        scale = 1.0 / factor[places[i], places[i]]
        for j in range(SIZE):
            z[j] *= scale
            lines[i, j] = z[j]
            inverse[j, i] = z[j]
    return count
