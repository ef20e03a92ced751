"""Kernels of the tensor fit: groups of voxels in the lanes of registers.

Element j (or volume i) of lane l lies at ``[j * LANES + l]``; the inner loop of everything runs over lanes.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from arcuate.models.status import Status
from arcuate.numerics.eigen import LANES, eigh_lanes
from arcuate.numerics.elementary import exp_in_place, log_in_place

N = 7  # unknowns
PAIRS = np.tril_indices(N)  # order of the 28 products: (0,0) (1,0) (1,1) (2,0) ...
N_PAIRS = N * (N + 1) // 2
NOTHING = 1e-8  # of the voxel's largest signal; below it a signal is zero to rounding, or negative
FLOOR = 0.01  # of the voxel's largest signal: what such a signal is raised to (see LOG.md)
SINGULAR = 1e-13  # a pivot below this part of its diagonal: the weights leave too few volumes

_FITTED = int(Status.FITTED)
_FLOORED = int(Status.FLOORED)
_NOT_CONVERGED = int(Status.NOT_CONVERGED)
_NO_SIGNAL = int(Status.NO_SIGNAL)
_NOT_FINITE = int(Status.NOT_FINITE)


@njit(cache=True, parallel=True)
def fit_voxels(signals, matrices, n_reweight, settings, results):  # type: ignore[no-untyped-def]
    """Fit every row of ``signals``; ``matrices`` and ``settings`` as prepared by TensorModel, ``results`` is filled."""
    for group in prange((signals.shape[0] + LANES - 1) // LANES):
        _fit_group(signals, group * LANES, matrices, n_reweight, settings, results)


@njit(cache=True, error_model="numpy")
def _fit_group(signals, first, matrices, n_reweight, settings, results):  # type: ignore[no-untyped-def]
    """One group of at most LANES voxels."""
    basis, products, to_coefs = matrices
    n_meas, n_rows = signals.shape[1], basis.shape[0]
    logs, scratch = np.empty(n_rows * LANES), np.empty(n_rows * LANES)
    scale, status = np.empty(LANES), np.empty(LANES, np.uint8)
    _load_logs(signals, first, n_rows, settings, logs, scratch, scale, status)

    point = np.zeros(N * LANES)  # coordinates in the basis
    _project(basis, logs, point)
    weights, predicted = np.empty(n_rows * LANES), np.empty(n_rows * LANES)
    normal, step = np.empty(N_PAIRS * LANES), np.empty(N * LANES)
    for _ in range(n_reweight):
        _predict(basis, point, predicted)
        for i in range(n_rows * LANES):
            weights[i] = 2.0 * predicted[i]
        exp_in_place(weights, scratch)
        for i in range(n_rows * LANES):
            predicted[i] = weights[i] * (logs[i] - predicted[i])
        _normal_equations(products, basis, n_meas, weights, predicted, normal, step)
        _solve(normal, step, point, status)
    _write(point, to_coefs, scale, status, settings[0], first, signals.shape[0], results)


@njit(cache=True, error_model="numpy")
def _load_logs(signals, first, n_rows, settings, logs, scratch, scale, status):  # type: ignore[no-untyped-def]
    """Logarithms of floored signals divided by ``scale``; lanes that cannot be fitted get log 1.

    Signals below ``absolute`` are raised to it. If that is 0, those at or below NOTHING of the voxel's largest are
    raised to FLOOR of it, and the largest is the scale.
    """
    n_vox, n_meas = signals.shape
    absolute = settings[1]
    for lane in range(LANES):
        v = min(first + lane, n_vox - 1)  # spare lanes repeat the last voxel
        for i in range(n_meas):
            logs[i * LANES + lane] = signals[v, i]
    for i in range(n_meas * LANES, n_rows * LANES):
        logs[i] = 1.0
        scratch[i] = 0.0
    largest, flaw = np.zeros(LANES), np.zeros(LANES)
    for i in range(n_meas):
        for lane in range(LANES):
            value = logs[i * LANES + lane]
            largest[lane] = value if value > largest[lane] else largest[lane]
            flaw[lane] += value * 0.0  # stays 0 unless a value is NaN or infinite
    least, floor, n_floored = np.empty(LANES), np.empty(LANES), np.zeros(LANES)
    for lane in range(LANES):
        scale[lane] = largest[lane] if absolute == 0.0 else 1.0
        status[lane] = _FITTED
        if flaw[lane] != 0.0:
            status[lane] = _NOT_FINITE
        elif scale[lane] <= 0.0:
            status[lane] = _NO_SIGNAL
        if status[lane] != _FITTED:
            scale[lane] = 1.0
        least[lane] = absolute if absolute > 0.0 else NOTHING
        floor[lane] = absolute if absolute > 0.0 else FLOOR
    for i in range(n_meas):
        for lane in range(LANES):
            value = logs[i * LANES + lane] / scale[lane]
            n_floored[lane] += 0.0 if value >= least[lane] else 1.0
            logs[i * LANES + lane] = value if value >= least[lane] else floor[lane]
    for lane in range(LANES):
        if status[lane] == _FITTED and n_floored[lane] > 0.0:
            status[lane] = _FLOORED
        if status[lane] > _FLOORED:
            for i in range(n_meas):
                logs[i * LANES + lane] = 1.0
    log_in_place(logs, scratch)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _project(basis, logs, point):  # type: ignore[no-untyped-def]
    """``point = basisᵀ logs``: the ordinary least-squares fit, since the basis is orthonormal."""
    for i in range(0, basis.shape[0], 4):
        a = i * LANES
        for j in range(N):
            u0, u1, u2, u3 = basis[i, j], basis[i + 1, j], basis[i + 2, j], basis[i + 3, j]
            for lane in range(LANES):
                point[j * LANES + lane] += (
                    u0 * logs[a + lane] + u1 * logs[a + LANES + lane]
                    + u2 * logs[a + 2 * LANES + lane] + u3 * logs[a + 3 * LANES + lane]
                )  # fmt: skip


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _predict(basis, point, predicted):  # type: ignore[no-untyped-def]
    """``predicted = basis point``, log signals."""
    for i in range(basis.shape[0]):
        u0, u1, u2, u3 = basis[i, 0], basis[i, 1], basis[i, 2], basis[i, 3]
        u4, u5, u6 = basis[i, 4], basis[i, 5], basis[i, 6]
        for lane in range(LANES):
            predicted[i * LANES + lane] = (
                u0 * point[lane] + u1 * point[LANES + lane] + u2 * point[2 * LANES + lane]
                + u3 * point[3 * LANES + lane] + u4 * point[4 * LANES + lane] + u5 * point[5 * LANES + lane]
                + u6 * point[6 * LANES + lane]
            )  # fmt: skip


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _normal_equations(products, basis, n_meas, weights, weighted, normal, step):  # type: ignore[no-untyped-def]
    """``normal = basisᵀ W basis`` (lower triangle), ``step = basisᵀ weighted``; four volumes at a time."""
    normal[:] = 0.0
    step[:] = 0.0
    for i in range(0, basis.shape[0], 4):
        a = i * LANES
        for p in range(N_PAIRS):
            u0, u1, u2, u3 = products[i, p], products[i + 1, p], products[i + 2, p], products[i + 3, p]
            for lane in range(LANES):
                normal[p * LANES + lane] += (
                    u0 * weights[a + lane] + u1 * weights[a + LANES + lane]
                    + u2 * weights[a + 2 * LANES + lane] + u3 * weights[a + 3 * LANES + lane]
                )  # fmt: skip
        for j in range(N):
            u0, u1, u2, u3 = basis[i, j], basis[i + 1, j], basis[i + 2, j], basis[i + 3, j]
            for lane in range(LANES):
                step[j * LANES + lane] += (
                    u0 * weighted[a + lane] + u1 * weighted[a + LANES + lane]
                    + u2 * weighted[a + 2 * LANES + lane] + u3 * weighted[a + 3 * LANES + lane]
                )  # fmt: skip


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _solve(normal, step, point, status):  # type: ignore[no-untyped-def]
    """``point += normal⁻¹ step`` by Cholesky; a lane whose matrix is singular keeps its point and says so.

    A diagonal of exactly zero is a basis vector the design does not have: its coordinate stays zero.
    """
    row, good = np.empty(LANES), np.ones(LANES)
    for j in range(N):
        for k in range(j + 1):
            p = (j * (j + 1) // 2 + k) * LANES
            for lane in range(LANES):
                row[lane] = normal[p + lane]
            for m in range(k):
                q, r = (j * (j + 1) // 2 + m) * LANES, (k * (k + 1) // 2 + m) * LANES
                for lane in range(LANES):
                    row[lane] -= normal[q + lane] * normal[r + lane]
            if k < j:
                q = (k * (k + 1) // 2 + k) * LANES
                for lane in range(LANES):
                    normal[p + lane] = row[lane] * normal[q + lane]
                continue
            for lane in range(LANES):  # the inverse of the pivot stands on the diagonal
                whole, rest = normal[p + lane], row[lane]
                sound = rest > SINGULAR * whole
                good[lane] = good[lane] if sound or whole == 0.0 else 0.0
                normal[p + lane] = 1.0 / math.sqrt(rest if sound else 1.0)
    for j in range(N):
        for lane in range(LANES):
            row[lane] = step[j * LANES + lane]
        for m in range(j):
            q = (j * (j + 1) // 2 + m) * LANES
            for lane in range(LANES):
                row[lane] -= normal[q + lane] * step[m * LANES + lane]
        p = (j * (j + 1) // 2 + j) * LANES
        for lane in range(LANES):
            step[j * LANES + lane] = row[lane] * normal[p + lane]
    for j in range(N - 1, -1, -1):
        for lane in range(LANES):
            row[lane] = step[j * LANES + lane]
        for m in range(j + 1, N):
            q = (m * (m + 1) // 2 + j) * LANES
            for lane in range(LANES):
                row[lane] -= normal[q + lane] * step[m * LANES + lane]
        p = (j * (j + 1) // 2 + j) * LANES
        for lane in range(LANES):
            step[j * LANES + lane] = row[lane] * normal[p + lane]
    for lane in range(LANES):
        if good[lane] == 0.0 and status[lane] <= _FLOORED:
            status[lane] = _NOT_CONVERGED
    for j in range(N):
        for lane in range(LANES):
            change = step[j * LANES + lane]
            point[j * LANES + lane] += change if good[lane] > 0.0 else 0.0


@njit(cache=True, error_model="numpy")
def _write(point, to_coefs, scale, status, min_diffusivity, first, n_vox, results):  # type: ignore[no-untyped-def]
    """Coefficients, eigenvalues and eigenvectors of the lanes into the rows of ``results``."""
    coefs, evals, evecs, statuses = results
    lanes, values, vectors = np.zeros(N * LANES), np.empty(3 * LANES), np.empty(9 * LANES)
    for j in range(N):
        for m in range(N):
            u = to_coefs[j, m]
            for lane in range(LANES):
                lanes[j * LANES + lane] += u * point[m * LANES + lane]
    eigh_lanes(lanes, values, vectors)
    for lane in range(min(LANES, n_vox - first)):
        v = first + lane
        statuses[v] = status[lane]
        if status[lane] == _NO_SIGNAL or status[lane] == _NOT_FINITE:
            continue
        coefs[v, 6] = math.exp(lanes[6 * LANES + lane]) * scale[lane]
        for j in range(6):
            coefs[v, j] = lanes[j * LANES + lane]
        for k in range(3):
            evals[v, k] = max(values[k * LANES + lane], min_diffusivity)
        for k in range(9):
            evecs[v, k] = vectors[k * LANES + lane]
        if values[2 * LANES + lane] < min_diffusivity:
            _rebuild(evals[v], evecs[v], coefs[v])


@njit(cache=True)
def _rebuild(evals, evecs, coefs):  # type: ignore[no-untyped-def]
    """The tensor of eigenvalues that were raised: Σ λₖ vₖ vₖᵀ."""
    j = 0
    for a in range(3):
        for b in range(a, 3):
            coefs[j] = 0.0
            for k in range(3):
                coefs[j] += evals[k] * evecs[3 * k + a] * evecs[3 * k + b]
            j += 1
