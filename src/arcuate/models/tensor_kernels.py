"""Kernels of the tensor fit: groups of voxels in the lanes of registers.

Element j (or volume i) of lane l lies at ``[j * LANES + l]``; the inner loop of everything runs over lanes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from arcuate.models.status import Status
from arcuate.numerics.compiled import inner, kernel
from arcuate.numerics.eigen import LANES, eigh_lanes
from arcuate.numerics.elementary import exp_in_place, log_in_place

N = 7  # unknowns
PAIRS = np.tril_indices(N)  # order of the 28 products: (0,0) (1,0) (1,1) (2,0) ...
N_PAIRS = N * (N + 1) // 2
NOTHING = 1e-8  # of the voxel's largest signal; below it a signal is zero to rounding, or negative
FLOOR = 0.01  # of the voxel's largest signal: what such a signal is raised to (see LOG.md)
CHUNK = 16 * LANES  # voxels that share one scratch, and one thread
SINGULAR = 1e-13  # a pivot below this part of its diagonal: the weights leave too few volumes

_FITTED = int(Status.FITTED)
_FLOORED = int(Status.FLOORED)
_NOT_CONVERGED = int(Status.NOT_CONVERGED)
_NO_SIGNAL = int(Status.NO_SIGNAL)
_NOT_FINITE = int(Status.NOT_FINITE)


class Design(NamedTuple):
    """What all voxels share."""

    basis: np.ndarray  # (n_rows, N) float64, orthonormal columns; rows of zeros fill it to whole fours
    products: np.ndarray  # (n_rows, N_PAIRS) float64, products of two of them
    to_coefs: np.ndarray  # (N, N) float64, coordinates in the basis -> coefficients, mm²/s and log of the signal's unit


class Limits(NamedTuple):
    """Values below these are raised."""

    diffusivity: float  # mm²/s, of an eigenvalue; -inf: none
    signal: float  # unit of the signal; 0: relative to the voxel's largest, see :func:`load_logs`


class Results(NamedTuple):
    """What is filled in, row by row."""

    coefs: np.ndarray  # (n_vox, N) float64, mm²/s: xx xy xz yy yz zz; s0, unit of the signal
    evals: np.ndarray  # (n_vox, 3) float64, mm²/s
    evecs: np.ndarray  # (n_vox, 9) float64, unit vectors
    status: np.ndarray  # (n_vox,) uint8, see Status


@kernel()
def fit_voxels(signals, design, n_reweight, limits, results):
    """Fit every row of ``signals`` (n_vox, n_meas) float64; ``results`` is filled."""
    scratch = np.empty((4, design.basis.shape[0] * LANES))
    for group in range((signals.shape[0] + LANES - 1) // LANES):
        _fit_group(signals, group * LANES, design, n_reweight, limits, scratch, results)


@inner(error_model="numpy")
def _fit_group(signals, first, design, n_reweight, limits, scratch, results):
    """One group of at most LANES voxels."""
    basis, n_rows = design.basis, design.basis.shape[0]
    logs, weights, predicted, powers = scratch[0], scratch[1], scratch[2], scratch[3]
    scale, status = np.empty(LANES), np.empty(LANES, np.uint8)
    load_logs(signals, first, n_rows, limits.signal, logs, powers, scale, status)

    point = np.zeros(N * LANES)  # coordinates in the basis
    _project(basis, logs, point)
    normal, step = np.empty(N_PAIRS * LANES), np.empty(N * LANES)
    for _ in range(n_reweight):
        _predict(basis, point, predicted)
        weigh(logs, predicted, weights, powers)
        _normal_equations(design.products, basis, weights, predicted, normal, step)
        _solve(normal, step, point, status)
    _write(point, design.to_coefs, scale, status, limits.diffusivity, first, signals.shape[0], results)


@inner(error_model="numpy")
def load_logs(signals, first, n_rows, absolute, logs, powers, scale, status):
    """Logarithms of floored signals divided by ``scale``; lanes that cannot be fitted get log 1.

    Signals below ``absolute`` are raised to it. If that is 0, those at or below NOTHING of the voxel's largest are
    raised to FLOOR of it, and the largest is the scale.
    """
    n_meas = signals.shape[1]
    _transpose(signals, first, logs)
    largest, flaw = np.zeros(LANES), np.zeros(LANES)
    _look_through(logs, n_meas, largest, flaw)
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
    _raise_to_floor(logs, n_meas, scale, least, floor, n_floored)
    for lane in range(LANES):
        if status[lane] == _FITTED and n_floored[lane] > 0.0:
            status[lane] = _FLOORED
        if status[lane] > _FLOORED:
            for i in range(n_meas):
                logs[i * LANES + lane] = 1.0
    for i in range(n_meas * LANES, n_rows * LANES):
        logs[i] = 1.0
    log_in_place(logs, powers)


@inner(error_model="numpy")
def _transpose(signals, first, logs):
    """Rows of voxels into lanes, a cache line of each at a time; spare lanes repeat the last voxel."""
    n_vox, n_meas = signals.shape
    for tile in range(n_meas // 16):
        for lane in range(LANES):
            v = min(first + lane, n_vox - 1)
            for k in range(16):
                logs[(16 * tile + k) * LANES + lane] = signals[v, 16 * tile + k]
    for i in range(n_meas // 16 * 16, n_meas):
        for lane in range(LANES):
            logs[i * LANES + lane] = signals[min(first + lane, n_vox - 1), i]


@inner(error_model="numpy")
def _look_through(values, n_meas, largest, flaw):
    """Largest value of each lane; ``flaw`` is 0 unless one of its values is NaN or infinite."""
    for i in range(n_meas):
        for lane in range(LANES):
            value = values[i * LANES + lane]
            largest[lane] = value if value > largest[lane] else largest[lane]
            flaw[lane] = flaw[lane] + value * 0.0


@inner(error_model="numpy")
def _raise_to_floor(values, n_meas, scale, least, floor, n_floored):
    """Values divided by ``scale``; those below ``least`` become ``floor`` and are counted."""
    for i in range(n_meas):
        for lane in range(LANES):
            value = values[i * LANES + lane] / scale[lane]
            n_floored[lane] = n_floored[lane] + (0.0 if value >= least[lane] else 1.0)
            values[i * LANES + lane] = value if value >= least[lane] else floor[lane]


@inner(error_model="numpy", fastmath={"contract"})
def weigh(logs, predicted, weights, powers):
    """``weights`` = squared fitted signals; ``predicted`` becomes the weighted residual."""
    for i in range(weights.size):
        weights[i] = 2.0 * predicted[i]
    exp_in_place(weights, powers)
    for i in range(weights.size):
        predicted[i] = weights[i] * (logs[i] - predicted[i])


@inner(error_model="numpy", fastmath={"contract"})
def _project(basis, logs, point):
    """``point = basisᵀ logs``: the ordinary least-squares fit, since the basis is orthonormal."""
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


@inner(error_model="numpy", fastmath={"contract"})
def _normal_equations(products, basis, weights, weighted, normal, step):
    """``normal = basisᵀ W basis`` (lower triangle), ``step = basisᵀ weighted``; four volumes at a time."""
    normal[:] = 0.0
    step[:] = 0.0
    for quad in range(basis.shape[0] // 4):  # a loop with a step would not be vectorised
        i, a = 4 * quad, 4 * quad * LANES
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


@inner(error_model="numpy", fastmath={"contract"})
def _solve(normal, step, point, status):
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


@inner(error_model="numpy")
def _write(point, to_coefs, scale, status, min_diffusivity, first, n_vox, results):
    """Coefficients, eigenvalues and eigenvectors of the lanes into the rows of ``results``."""
    coefs, evals, evecs = results.coefs, results.evals, results.evecs
    lanes, values, vectors = np.zeros(N * LANES), np.empty(3 * LANES), np.empty(9 * LANES)
    for j in range(N):
        for m in range(N):
            u = to_coefs[j, m]
            for lane in range(LANES):
                lanes[j * LANES + lane] += u * point[m * LANES + lane]
    eigh_lanes(lanes, values, vectors)
    for lane in range(min(LANES, n_vox - first)):
        v = first + lane
        results.status[v] = status[lane]
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


@inner()
def _rebuild(evals, evecs, coefs):
    """The tensor of eigenvalues that were raised: Σ λₖ vₖ vₖᵀ."""
    j = 0
    for a in range(3):
        for b in range(a, 3):
            coefs[j] = 0.0
            for k in range(3):
                coefs[j] += evals[k] * evecs[3 * k + a] * evecs[3 * k + b]
            j += 1
