"""The compiled part of :mod:`arcuate.numerics.qp`: one problem after the other, rows of compile-time length."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange

from arcuate.numerics.lanes import LANES
from arcuate.numerics.qp_start import penalised_lanes

FAST = {"reassoc", "contract", "nsz", "arcp"}  # keeps NaN and infinity
DEPENDENT = 1e-18
NEARLY_DEPENDENT = 1e-10  # the same for the start, where a lost row is found again
NO_CANCELLATION = 1e-3  # squared distance above which one projection is accurate
MAX_ROUNDS = 8  # times the active set method is started, each time with a pseudo-inverse built anew
MAX_CHANGES = 60  # constraints that enter before that is done
MAX_REFINEMENTS = 6
NEGLIGIBLE = 1e-12  # of |g|: a multiplier this far below zero is rounding
APEX = 1e-26  # of |g|²: a solution this short is zero

SOLVED, NOT_CONVERGED, ZERO = 0, 1, 2


def make_kernel(size: int) -> Any:
    """Kernel for problems of ``size`` unknowns, padding included; the size is a constant to the compiler."""
    wide = size + LANES  # one active row more than unknowns, padded

    @njit(cache=True, fastmath=FAST, error_model="numpy")
    def add_combination(matrix: Any, index: Any, weights: Any, count: int, out: Any) -> None:
        # out += Σ weights[k] matrix[index[k]], four rows at a time
        k = 0
        while k + 4 <= count:
            a, b, c, d = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
            ka, kb, kc, kd = index[k], index[k + 1], index[k + 2], index[k + 3]
            for j in range(size):
                out[j] += a * matrix[ka, j] + b * matrix[kb, j] + c * matrix[kc, j] + d * matrix[kd, j]
            k += 4
        while k < count:
            a, ka = weights[k], index[k]
            for j in range(size):
                out[j] += a * matrix[ka, j]
            k += 1

    @njit(cache=True, fastmath=FAST, error_model="numpy")
    def dot(a: Any, b: Any) -> float:
        total = 0.0
        for j in range(size):
            total += a[j] * b[j]
        return total

    @njit(cache=True, fastmath=FAST, error_model="numpy")
    def dot_row(matrix: Any, row: int, b: Any) -> float:
        total = 0.0
        for j in range(size):
            total += matrix[row, j] * b[j]
        return total

    @njit(cache=True, fastmath=FAST, error_model="numpy")
    def constraint_values(columns: Any, y: Any, out: Any) -> None:
        m = out.shape[0]
        for i in range(m):
            out[i] = 0.0
        for k in range(0, size, 8):
            a, b, c, d = y[k], y[k + 1], y[k + 2], y[k + 3]
            e, f, g, h = y[k + 4], y[k + 5], y[k + 6], y[k + 7]
            for i in range(m):
                out[i] += (
                    (a * columns[k, i] + b * columns[k + 1, i]) + (c * columns[k + 2, i] + d * columns[k + 3, i])
                ) + ((e * columns[k + 4, i] + f * columns[k + 5, i]) + (g * columns[k + 6, i] + h * columns[k + 7, i]))

    @njit(cache=True, fastmath=FAST, error_model="numpy")
    def project(inverse: Any, z: Any, out: Any) -> None:
        # out = N z, N the pseudo-inverse, which is kept with its rows as columns
        for q in range(wide):
            out[q] = 0.0
        for j in range(0, size, 4):
            a, b, c, d = z[j], z[j + 1], z[j + 2], z[j + 3]
            for q in range(wide):
                out[q] += (a * inverse[j, q] + b * inverse[j + 1, q]) + (c * inverse[j + 2, q] + d * inverse[j + 3, q])

    @njit(cache=True, fastmath=FAST, error_model="numpy")
    def add_rank_one(inverse: Any, z: Any, factors: Any) -> None:
        for j in range(size):
            a = z[j]
            for q in range(wide):
                inverse[j, q] += a * factors[q]

    @njit(cache=True, fastmath=FAST, error_model="numpy")
    def enter(row: int, active: Any, count: int, rows: Any, inverse: Any, work: Any, z: Any) -> bool:
        # one more active row: the pseudo-inverse gains a row; False if the row lies in the span of the others.
        # work[0] holds how much of the new multiplier each old one takes over
        total, part = work[0], work[1]
        for j in range(size):
            z[j] = rows[row, j]
        for q in range(wide):
            total[q] = 0.0
        for _ in range(2):
            project(inverse, z, part)
            for q in range(wide):
                part[q] = -part[q]
                total[q] += part[q]
            add_combination(rows, active, part, count, z)
            square = dot(z, z)
            if square > NO_CANCELLATION:
                break
        if square < DEPENDENT:
            return False
        scale = 1.0 / square
        for j in range(size):
            z[j] *= scale
        total[count] = 1.0
        add_rank_one(inverse, z, total)
        active[count] = row
        return True

    @njit(cache=True, fastmath=FAST, error_model="numpy")
    def leave(
        position: int, active: Any, count: int, inverse: Any, lam: Any, target: Any, work: Any, gone: Any
    ) -> None:
        # the active row at a position leaves; the last takes its place
        part, last = work[1], count - 1
        for j in range(size):
            gone[j] = inverse[j, position]
        scale = -1.0 / dot(gone, gone)
        project(inverse, gone, part)
        for q in range(wide):
            part[q] *= scale
        part[position] = 0.0
        for k in range(count):
            target[k] += part[k] * target[position]
        add_rank_one(inverse, gone, part)
        for j in range(size):
            inverse[j, position] = inverse[j, last]
            inverse[j, last] = 0.0
        active[position], lam[position], target[position] = active[last], lam[last], target[last]

    @njit(cache=True, fastmath=FAST, error_model="numpy")
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

    @njit(cache=True, fastmath=FAST, error_model="numpy")
    def accurate(g: Any, rows: Any, gram: Any, active: Any, count: int, lam: Any, y: Any) -> None:
        # multipliers of the sorted active rows, by Cholesky and refinements; y = g + Σ lam row
        factor = np.empty((count, count))
        for i in range(count):
            for j in range(i + 1):
                total = gram[active[i], active[j]]
                for k in range(j):
                    total -= factor[i, k] * factor[j, k]
                factor[i, j] = math.sqrt(max(total, 1e-300)) if i == j else total / factor[j, j]
        step = np.empty(count)
        for j in range(size):
            y[j] = g[j]
        for k in range(count):
            lam[k] = 0.0
        for _ in range(MAX_REFINEMENTS):
            largest, change = 0.0, 0.0
            for i in range(count):
                total = -dot_row(rows, active[i], y)
                for k in range(i):
                    total -= factor[i, k] * step[k]
                step[i] = total / factor[i, i]
            for i in range(count - 1, -1, -1):
                step[i] /= factor[i, i]
                r = step[i]
                for k in range(i):
                    step[k] -= r * factor[i, k]
            for k in range(count):
                lam[k] += step[k]
                largest, change = max(largest, abs(lam[k])), max(change, abs(step[k]))
            add_combination(rows, active, step, count, y)
            if change <= 1e-12 * largest:
                break

    @njit(cache=True, fastmath=FAST, error_model="numpy")
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

    @njit(cache=True, fastmath=FAST, error_model="numpy")
    def active_set(g: Any, rows: Any, columns: Any, norms: Any, state: Any, count: int, tolerance: float) -> int:
        # Lawson-Hanson from the given active rows; the count of active rows, negative if it has not ended
        active, inverse, lam, y, w, work, z = state
        n_con = rows.shape[0]
        target = np.empty(wide)
        is_active = np.zeros(n_con, np.bool_)
        project(inverse, g, target)
        for q in range(wide):
            target[q] = -target[q]
        count = restore_signs(active, count, inverse, lam, target, work, z)
        for _ in range(MAX_CHANGES):
            for j in range(size):
                y[j] = g[j]
            add_combination(rows, active, lam, count, y)
            constraint_values(columns, y, w)
            is_active[:] = False
            for k in range(count):
                is_active[active[k]] = True
            while True:
                row = worst(w, norms, is_active, tolerance)
                if row < 0 or count >= size:
                    return count
                if enter(row, active, count, rows, inverse, work, z):
                    break
                is_active[row] = True
            # the new multiplier, and what it does to the others
            new = -dot(z, g)
            lam[count] = 0.0
            for k in range(count + 1):
                target[k] = lam[k] + work[0, k] * new
            count = restore_signs(active, count + 1, inverse, lam, target, work, z)
        return -count

    @njit(cache=True, fastmath=FAST, error_model="numpy")
    def residual_of(g: Any, rows: Any, norms: Any, r: Any, x: Any, state: Any, count: int) -> float:
        # largest of stationarity, infeasibility and complementarity, each relative; n.b. lam belongs to scaled rows
        active, _, lam, y, w, _, _ = state
        gap = np.empty(size)
        for j in range(size):
            gap[j] = g[j] - y[j]
        add_combination(rows, active, lam, count, gap)
        stationarity, scale, size_x = 0.0, 0.0, 0.0
        for j in range(size):
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

    @njit(cache=True, fastmath=FAST, error_model="numpy")
    def restart(rows: Any, gram: Any, weights: Any, order: Any, state: Any) -> int:
        # active rows with their multipliers, the largest first, and their pseudo-inverse; their count
        active, inverse, lam, _, _, _, z = state
        n_positive = 0
        for i in range(weights.shape[0]):
            if weights[i] > 0.0:
                k = n_positive
                while k > 0 and weights[order[k - 1]] < weights[i]:
                    order[k] = order[k - 1]
                    k -= 1
                order[k] = i
                n_positive += 1
        n_positive = min(n_positive, size)
        factor, lines = np.zeros((size, size)), np.zeros((size, size))
        for i in range(n_positive):
            for j in range(n_positive):
                factor[i, j] = gram[order[i], order[j]]
        count = 0
        for i in range(n_positive):  # rows of the Cholesky factor; a row in the span of those before is left out
            pivot = factor[i, i]
            if pivot < NEARLY_DEPENDENT:
                order[i] = -1
                continue
            scale = 1.0 / math.sqrt(pivot)
            for j in range(size):
                factor[i, j] *= scale
            for k in range(i + 1, n_positive):
                a = factor[i, k]
                for j in range(size):
                    factor[k, j] -= a * factor[i, j]
        identity = np.arange(size)
        column = np.empty(size)
        for i in range(n_positive):  # G N = B by substitution, forward then back
            if order[i] < 0:
                continue
            for j in range(size):
                z[j] = rows[order[i], j]
            for k in range(i):
                column[k] = -factor[k, i] if order[k] >= 0 else 0.0
            add_combination(lines, identity, column, i, z)
            for j in range(size):
                lines[i, j] = z[j] / factor[i, i]
        for i in range(n_positive - 1, -1, -1):
            if order[i] < 0:
                continue
            for j in range(size):
                z[j] = lines[i, j]
            for k in range(i + 1, n_positive):
                column[k - i - 1] = -factor[i, k] if order[k] >= 0 else 0.0
            add_combination(lines, identity[i + 1 :], column, n_positive - i - 1, z)
            for j in range(size):
                lines[i, j] = z[j] / factor[i, i]
        inverse[:] = 0.0
        for i in range(n_positive):
            if order[i] >= 0:
                active[count], lam[count] = order[i], weights[order[i]]
                for j in range(size):
                    inverse[j, count] = lines[i, j]
                count += 1
        return count

    @njit(cache=True, fastmath=FAST, error_model="numpy")
    def solve_one(g: Any, multipliers: Any, shared: Any, tolerance: float, solution: Any, report: Any) -> int:
        # from approximate multipliers of all constraints (zero where inactive), which are overwritten
        rows, columns, gram, norms, r, r_inverse = shared
        n, m = solution.shape[0], columns.shape[1]
        y, x, w = np.empty(size), np.zeros(size), np.empty(m)
        solution[:] = 0.0
        report[0], report[1] = 0.0, 0.0
        length = math.sqrt(dot(g, g))
        if length == 0.0:
            return ZERO
        active, order = np.empty(size + 1, np.int64), np.empty(norms.shape[0], np.int64)
        inverse, lam = np.empty((size, wide)), np.empty(wide)
        state = (active, inverse, lam, y, w, np.empty((2, wide)), np.empty(size))
        for attempt in range(MAX_ROUNDS):
            count = restart(rows, gram, multipliers, order, state)
            count = active_set(g, rows, columns, norms, state, count, 0.5 * tolerance)
            is_ended = count >= 0
            count = abs(count)
            active[:count] = np.sort(active[:count])
            accurate(g, rows, gram, active, count, lam, y)
            if dot(y, y) < APEX * length * length:
                return ZERO
            constraint_values(columns, y, w)
            largest, lowest, is_dual = 0.0, 0.0, True
            for i in range(norms.shape[0]):
                largest, lowest = max(largest, w[i] * norms[i]), min(lowest, w[i] * norms[i])
            for k in range(count):
                is_dual = is_dual and lam[k] >= -NEGLIGIBLE * length
            is_solved = is_ended and is_dual and lowest >= -tolerance * largest
            if is_solved or attempt == MAX_ROUNDS - 1:
                for k in range(n):
                    solution[k] = dot_row(r_inverse, k, y)
                    x[k] = solution[k]
                report[0] = residual_of(g, rows, norms, r, x, state, count)
                report[1] = count
                return SOLVED if is_solved else NOT_CONVERGED
            multipliers[:] = 0.0  # the pseudo-inverse has drifted: once more from here
            for k in range(count):
                multipliers[active[k]] = max(lam[k], 0.0)
        return NOT_CONVERGED

    @njit(cache=True, parallel=True)
    def solve_all(signals: Any, start: Any, shared: Any, tolerance: float, out: Any) -> None:
        solution, residual, n_active, outcome = out
        n, n_con, m = solution.shape[1], shared[0].shape[0], shared[1].shape[1]
        n_vox = signals.shape[0]
        panels, table = (start[0], start[1]), start[2]
        for block in prange((n_vox + LANES - 1) // LANES):
            begin, end = block * LANES, min((block + 1) * LANES, n_vox)
            g, w = np.zeros((LANES, size)), np.zeros(LANES * m)
            weight = penalised_lanes(signals, begin, end, panels, n, table, size, g, w)
            multipliers, report = np.empty(n_con), np.empty(2)
            for v in range(begin, end):
                for i in range(n_con):
                    multipliers[i] = max(-weight * w[LANES * i + v - begin], 0.0)
                outcome[v] = solve_one(g[v - begin], multipliers, shared, tolerance, solution[v], report)
                residual[v], n_active[v] = report[0], int(report[1])

    return solve_all
