"""Sums and products of rows whose length LLVM knows, for the cone solver of :mod:`arcuate.numerics.qp`.

``size`` is a tuple as long as a row is in lines, see :func:`arcuate.numerics.qp_active_set.panels_of`; ``n_pad`` is the
length of a row in numbers.
"""

from __future__ import annotations

import math

import numpy as np

from arcuate.numerics.compiled import inner
from arcuate.numerics.lanes import LINE

FAST = {"reassoc", "contract", "nsz", "arcp"}  # keeps NaN and infinity


def zero_lines(*shape: int) -> np.ndarray:
    """Zeros that start at a line of cache, so that a line of eight numbers never lies in two of them."""
    count = math.prod(shape)
    buffer = np.zeros(count + LINE)
    skip = -(buffer.ctypes.data // buffer.itemsize) % LINE
    return buffer[skip : skip + count].reshape(shape)


@inner(fastmath=FAST, error_model="numpy")
def add_combination(matrix, index, weights, count, out, size):
    """out += Σ weights[k] matrix[index[k]], four rows at a time."""
    k = 0
    while k + 4 <= count:
        a, b, c, d = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        ka, kb, kc, kd = index[k], index[k + 1], index[k + 2], index[k + 3]
        for j in range(LINE * len(size)):
            out[j] += a * matrix[ka, j] + b * matrix[kb, j] + c * matrix[kc, j] + d * matrix[kd, j]
        k += 4
    while k < count:
        a, ka = weights[k], index[k]
        for j in range(LINE * len(size)):
            out[j] += a * matrix[ka, j]
        k += 1


@inner(fastmath=FAST, error_model="numpy")
def add_combination_from(matrix, first, weights, count, out, size):
    """out += Σ weights[k] matrix[k] for first <= k < count."""
    k = first
    while k + 4 <= count:
        a, b, c, d = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        for j in range(LINE * len(size)):
            out[j] += (a * matrix[k, j] + b * matrix[k + 1, j]) + (c * matrix[k + 2, j] + d * matrix[k + 3, j])
        k += 4
    while k < count:
        a = weights[k]
        for j in range(LINE * len(size)):
            out[j] += a * matrix[k, j]
        k += 1


@inner(fastmath=FAST, error_model="numpy")
def dot(a, b, size):
    """aᵀb of two vectors (n_pad,)."""
    total = 0.0
    for j in range(LINE * len(size)):
        total += a[j] * b[j]
    return total


@inner(fastmath=FAST, error_model="numpy")
def dot_row(matrix, row, b, size):
    """Row of a matrix (any, n_pad) times b (n_pad,)."""
    total = 0.0
    for j in range(LINE * len(size)):
        total += matrix[row, j] * b[j]
    return total


@inner(fastmath=FAST, error_model="numpy")
def constraint_values(columns, y, out, size):
    """out = By, (m_pad,)."""
    m = out.shape[0]
    for i in range(m):
        out[i] = 0.0
    for panel in range(len(size)):
        k = LINE * panel
        a, b, c, d = y[k], y[k + 1], y[k + 2], y[k + 3]
        e, f, g, h = y[k + 4], y[k + 5], y[k + 6], y[k + 7]
        for i in range(m):
            out[i] += (
                (a * columns[k, i] + b * columns[k + 1, i]) + (c * columns[k + 2, i] + d * columns[k + 3, i])
            ) + ((e * columns[k + 4, i] + f * columns[k + 5, i]) + (g * columns[k + 6, i] + h * columns[k + 7, i]))


@inner(fastmath=FAST, error_model="numpy")
def project(inverse, z, out, size):
    """out = N z, N the pseudo-inverse, which is kept with its rows as columns."""
    for q in range(LINE * len(size) + LINE):
        out[q] = 0.0
    for j in range(0, LINE * len(size), 4):
        a, b, c, d = z[j], z[j + 1], z[j + 2], z[j + 3]
        for q in range(LINE * len(size) + LINE):
            out[q] += (a * inverse[j, q] + b * inverse[j + 1, q]) + (c * inverse[j + 2, q] + d * inverse[j + 3, q])


@inner(fastmath=FAST, error_model="numpy")
def project_negative(inverse, z, out, size):
    """out = -N z."""
    project(inverse, z, out, size)
    for q in range(LINE * len(size) + LINE):
        out[q] = -out[q]


@inner(fastmath=FAST, error_model="numpy")
def add_rank_one(inverse, z, factors, size):
    """inverse += z factorsᵀ."""
    for j in range(LINE * len(size)):
        a = z[j]
        for q in range(LINE * len(size) + LINE):
            inverse[j, q] += a * factors[q]


@inner(fastmath=FAST, error_model="numpy")
def factorise(gram, chosen, count, state, least, size):
    """Cholesky factor UᵀU of the chosen rows and columns; a row in the span of those before becomes zero."""
    factor, weights = state.factor, state.right
    for i in range(count):
        for j in range(i):  # whole rows, whose length LLVM knows: what is left of the diagonal is never read
            factor[i, j] = 0.0
        for j in range(i, count):
            factor[i, j] = gram[chosen[i], chosen[j]]
        for j in range(count, LINE * len(size)):
            factor[i, j] = 0.0
        for k in range(i):
            weights[k] = -factor[k, i]
        k = 0
        while k + 4 <= i:
            a, b, c, d = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
            for j in range(LINE * len(size)):
                factor[i, j] += (a * factor[k, j] + b * factor[k + 1, j]) + (
                    c * factor[k + 2, j] + d * factor[k + 3, j]
                )
            k += 4
        while k < i:
            a = weights[k]
            for j in range(LINE * len(size)):
                factor[i, j] += a * factor[k, j]
            k += 1
        scale = 1.0 / math.sqrt(factor[i, i]) if factor[i, i] > least else 0.0
        for j in range(LINE * len(size)):
            factor[i, j] *= scale


@inner(fastmath=FAST, error_model="numpy")
def solve_factored(count, state, size):
    """``state.step`` = solution for ``state.right``, which is overwritten, by the factor; 0 where that has a zero."""
    right, step, factor = state.right, state.step, state.factor
    for i in range(count):
        a = right[i] / factor[i, i] if factor[i, i] > 0.0 else 0.0
        step[i] = a
        for j in range(LINE * len(size)):
            right[j] -= a * factor[i, j]
    for j in range(LINE * len(size)):
        right[j] = 0.0
    for i in range(count - 1, -1, -1):  # ``right`` holds what is known of the solution, 0 before
        total = step[i] - dot_row(factor, i, right, size)
        right[i] = total / factor[i, i] if factor[i, i] > 0.0 else 0.0
        step[i] = right[i]
