"""Cholesky factors of eight symmetric matrices at once, one per lane."""

from __future__ import annotations

from arcuate.numerics.compiled import inner, njit
from arcuate.numerics.lanes import LINE, eliminate_4x2, eliminate_8x2, eliminate_pivots, subtract_row


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
    for j in range(0, n, 2):  # where n is odd the right-hand side is taken for the last pivot's neighbour
        eliminate_pivots(matrix, j)
        i = j + 2
        while i <= n:
            if n - i >= 4:
                eliminate_8x2(matrix, i, j)
                i += 8
            else:
                eliminate_4x2(matrix, i, j)
                i += 4
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
