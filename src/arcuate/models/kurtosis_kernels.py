"""Kernels of the kurtosis fit: 32 voxels in lanes as in the tensor's, eight at a time in their normal equations.

Element j (or volume i) of lane l lies at ``[j * LANES + l]``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from arcuate.models.status import Status
from arcuate.models.tensor_kernels import load_logs, weigh
from arcuate.numerics.compiled import inner, kernel
from arcuate.numerics.eigen import LANES
from arcuate.numerics.lanes import LANES as LINE
from arcuate.numerics.linalg import cholesky_solve_lanes, triangle_lines

N = 22  # unknowns: 6 of the diffusion tensor, 15 of MD² W, log S0
WIDTH = 24  # columns of the basis: N in fours, the rest zero
PAIRS = np.tril_indices(N)  # order of the 253 products: (0,0) (1,0) (1,1) (2,0) ...
N_PAIRS = N * (N + 1) // 2
CHUNK = 16  # groups of LANES voxels of one task

_FLOORED = int(Status.FLOORED)
_NOT_CONVERGED = int(Status.NOT_CONVERGED)
_NO_SIGNAL = int(Status.NO_SIGNAL)
_NOT_FINITE = int(Status.NOT_FINITE)


class Tables(NamedTuple):
    """What all voxels share."""

    basis: np.ndarray  # (n_rows, WIDTH) float, orthonormal columns that span the design; n_rows a multiple of four
    products: np.ndarray  # (n_rows, N_PAIRS) float, products of two of them, in the order of PAIRS
    to_coefs: np.ndarray  # (N, N) float, coordinates in the basis -> coefficients
    has_column: np.ndarray  # (N,) bool, false for columns that the design does not have
    floors: np.ndarray  # (2,) float: least diffusivity (mm²/s, not used here) and least signal, see KurtosisModel


class Results(NamedTuple):
    """Rows to be filled."""

    coefs: np.ndarray  # (n_vox, N) float: D (mm²/s), MD² W (mm⁴/s²), S0 (unit of the signal)
    status: np.ndarray  # (n_vox,) uint8, see Status


@kernel(error_model="numpy")
def fit_chunk(signals, begin, end, tables, n_reweight, results):
    """Fit the groups of LANES rows from ``begin`` to ``end``."""
    basis = tables.basis
    n_rows = basis.shape[0]
    scratch = np.empty((4, n_rows * LANES))
    logs, weights, predicted, powers = scratch[0], scratch[1], scratch[2], scratch[3]
    scale, status = np.empty(LANES), np.empty(LANES, np.uint8)
    point = np.empty(WIDTH * LANES)  # coordinates in the basis
    matrix, solution = np.zeros(triangle_lines(N) * LINE), np.empty(N * LINE)
    for group in range(begin, end):
        first = group * LANES
        load_logs(signals, first, n_rows, tables.floors[1], logs, powers, scale, status)
        _project(basis, logs, point)
        for _ in range(n_reweight):
            _predict(basis, point, predicted)
            weigh(logs, predicted, weights, powers)
            for part in range(LANES // LINE):
                _normal_equations(tables, weights, predicted, part * LINE, matrix)
                cholesky_solve_lanes(matrix, N, solution)
                _move(solution, part * LINE, point, status)
        _write(point, tables.to_coefs, scale, status, first, results)


@inner(error_model="numpy", fastmath={"contract"})
def _project(basis, logs, point):
    """``point = basisᵀ logs``: the ordinary least-squares fit, since the basis is orthonormal."""
    point[:] = 0.0
    for quad in range(basis.shape[0] // 4):  # a loop with a step would not be vectorised
        i, a = 4 * quad, 4 * quad * LANES
        for j in range(N):
            u0, u1, u2, u3 = basis[i, j], basis[i + 1, j], basis[i + 2, j], basis[i + 3, j]
            for lane in range(LANES):
                point[j * LANES + lane] += (
                    u0 * logs[a + lane] + u1 * logs[a + LANES + lane]
                    + u2 * logs[a + 2 * LANES + lane] + u3 * logs[a + 3 * LANES + lane]
                )  # fmt: skip


@inner(error_model="numpy", fastmath={"contract"})
def _predict(basis, point, predicted):
    """``predicted = basis point``, log signals; four coordinates at a time."""
    predicted[:] = 0.0
    for quad in range(WIDTH // 4):
        j, a = 4 * quad, 4 * quad * LANES
        for i in range(basis.shape[0]):
            u0, u1, u2, u3 = basis[i, j], basis[i, j + 1], basis[i, j + 2], basis[i, j + 3]
            for lane in range(LANES):
                predicted[i * LANES + lane] += (
                    u0 * point[a + lane] + u1 * point[a + LANES + lane]
                    + u2 * point[a + 2 * LANES + lane] + u3 * point[a + 3 * LANES + lane]
                )  # fmt: skip


@inner(error_model="numpy", fastmath={"contract"})
def _normal_equations(tables, weights, weighted, lane0, matrix):
    """Lower triangle of ``basisᵀ W basis`` and below it ``basisᵀ weighted``, of the eight lanes from ``lane0``.

    One on the diagonal of each column that the design does not have: its coordinate stays zero.
    """
    basis, products = tables.basis, tables.products
    matrix[:] = 0.0
    for quad in range(basis.shape[0] // 4):
        i, a = 4 * quad, 4 * quad * LANES + lane0
        for p in range(N_PAIRS):
            u0, u1, u2, u3 = products[i, p], products[i + 1, p], products[i + 2, p], products[i + 3, p]
            for lane in range(LINE):
                matrix[p * LINE + lane] += (
                    u0 * weights[a + lane] + u1 * weights[a + LANES + lane]
                    + u2 * weights[a + 2 * LANES + lane] + u3 * weights[a + 3 * LANES + lane]
                )  # fmt: skip
        for j in range(N):
            u0, u1, u2, u3 = basis[i, j], basis[i + 1, j], basis[i + 2, j], basis[i + 3, j]
            for lane in range(LINE):
                matrix[(N_PAIRS + j) * LINE + lane] += (
                    u0 * weighted[a + lane] + u1 * weighted[a + LANES + lane]
                    + u2 * weighted[a + 2 * LANES + lane] + u3 * weighted[a + 3 * LANES + lane]
                )  # fmt: skip
    for j in range(N):
        if not tables.has_column[j]:
            for lane in range(LINE):
                matrix[(j * (j + 1) // 2 + j) * LINE + lane] = 1.0


@inner(error_model="numpy")
def _move(solution, lane0, point, status):
    """``point += solution``; a lane whose matrix was singular keeps its point and says so."""
    for lane in range(LINE):
        total = 0.0
        for j in range(N):
            total += solution[j * LINE + lane]
        if np.isfinite(total):
            for j in range(N):
                point[j * LANES + lane0 + lane] += solution[j * LINE + lane]
        elif status[lane0 + lane] <= _FLOORED:
            status[lane0 + lane] = _NOT_CONVERGED


@inner(error_model="numpy")
def _write(point, to_coefs, scale, status, first, results):
    """Coefficients of the lanes into the rows of ``results``; the last is S0 itself."""
    lanes = np.zeros(N * LANES)
    for j in range(N):
        for m in range(N):
            u = to_coefs[j, m]
            for lane in range(LANES):
                lanes[j * LANES + lane] += u * point[m * LANES + lane]
    for lane in range(min(LANES, len(results.status) - first)):
        results.status[first + lane] = status[lane]
        if status[lane] == _NO_SIGNAL or status[lane] == _NOT_FINITE:
            continue
        for j in range(N - 1):
            results.coefs[first + lane, j] = lanes[j * LANES + lane]
        results.coefs[first + lane, N - 1] = math.exp(lanes[(N - 1) * LANES + lane]) * scale[lane]
