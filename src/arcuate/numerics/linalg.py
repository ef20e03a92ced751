"""Cholesky factors of eight symmetric matrices at once, one per lane."""

from __future__ import annotations

import numpy as np
from numba import njit

from arcuate.numerics.compiled import inner
from arcuate.numerics.lanes import (
    LINE,
    eliminate_4x1,
    eliminate_4x2,
    eliminate_8x2,
    eliminate_top_4x2,
    eliminate_top_8x2,
    subtract_row,
)


@njit(cache=True, error_model="numpy")
def triangle_lines(n):
    """Lines that :func:`cholesky_solve_lanes` needs for matrices of size ``n``: spare rows for whole tiles."""
    rows = n + 1 + LINE
    return rows * (rows + 1) // 2


@njit(cache=True, error_model="numpy")
def cholesky_solve_lanes(matrix, n, x):
    """Solve eight systems A x = z; a matrix that is not positive definite gives NaN in its own lane.

    Parameters
    ----------
    matrix : (8 triangle_lines(n),) float, overwritten
        Line i(i+1)/2 + j holds A[i, j] of the eight matrices, j <= i < n; line n(n+1)/2 + k holds z[k]. The rows
        after it are scratch and must be finite.
    x : (8 n,) float
        Receives the solutions, line k holds x[k].

    Notes
    -----
    The right-hand side rides along as row n, so that forward substitution is part of the factorisation. Rows are
    taken eight or four at a time: one chain of additions would be bound by its latency.
    """
    inverse = np.empty(LINE)
    for j in range(0, n - 1, 2):
        if n - j >= 4:
            eliminate_top_8x2(matrix, j, j)
            i = j + 8
        else:
            eliminate_top_4x2(matrix, j, j)
            i = j + 4
        top = min(i, n + 1)
        _finish_column(matrix, top, j, inverse)
        _take_out_column(matrix, top, j)
        _finish_column(matrix, top, j + 1, inverse)
        while i <= n:
            if n - i >= 4:
                eliminate_8x2(matrix, i, j)
                i += 8
            else:
                eliminate_4x2(matrix, i, j)
                i += 4
    if n % 2:
        eliminate_4x1(matrix, n - 1, n - 1)
        _finish_column(matrix, n + 1, n - 1, inverse)
    _substitute_back(matrix, n, x)


@inner(error_model="numpy")
def _substitute_back(matrix, n, x):
    """x of the factor and of the right-hand side in row n, taken forward already."""
    last = LINE * (n * (n + 1) // 2)
    for t in range(LINE * n):
        x[t] = matrix[last + t]
    for k in range(n - 1, -1, -1):
        diagonal = LINE * (k * (k + 1) // 2 + k)
        for lane in range(LINE):
            x[LINE * k + lane] *= matrix[diagonal + lane]
        subtract_row(matrix, k, x)


@inner(error_model="numpy")
def _finish_column(matrix, end, j, inverse):
    """Divide column ``j`` down to row ``end`` by the root of its pivot, whose inverse takes the place of the pivot."""
    pivot = LINE * (j * (j + 1) // 2 + j)
    for lane in range(LINE):
        inverse[lane] = 1.0 / np.sqrt(matrix[pivot + lane])
        matrix[pivot + lane] = inverse[lane]
    for row in range(j + 1, end):
        place = LINE * (row * (row + 1) // 2 + j)
        for lane in range(LINE):
            matrix[place + lane] *= inverse[lane]


@inner(error_model="numpy")
def _take_out_column(matrix, end, j):
    """A[i, j+1] -= A[i, j] A[j+1, j] for the rows j < i < end."""
    pivot = LINE * ((j + 1) * (j + 2) // 2 + j)
    for row in range(j + 1, end):
        place = LINE * (row * (row + 1) // 2 + j)
        for lane in range(LINE):
            matrix[place + LINE + lane] -= matrix[place + lane] * matrix[pivot + lane]
