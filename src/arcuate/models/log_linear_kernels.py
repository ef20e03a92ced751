"""Kernels of fits that are linear in the logarithm of the signal: the tensor, and the tensor with kurtosis.

Voxels lie in the lanes of registers: element j (or volume i) of lane l is at ``[j * LANES + l]``, and the inner loop of
everything runs over lanes. Normal equations are made and solved for LINE of them at a time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from arcuate.models.status import Status
from arcuate.numerics.compiled import inner, kernel, part
from arcuate.numerics.eigen import LANES, eigh_lanes
from arcuate.numerics.elementary import exp_in_place, log_in_place
from arcuate.numerics.lanes import LINE
from arcuate.numerics.linalg import cholesky_solve_lanes, triangle_lines

NOTHING = 1e-8  # of the voxel's largest signal; below it a signal is zero to rounding, or negative
FLOOR = 0.01  # of the voxel's largest signal: what such a signal is raised to (see LOG.md)
CHUNK = 16 * LANES  # voxels that share one scratch, and one thread
SINGULAR = 1e-13  # a pivot below this part of its diagonal: the weights leave too few volumes

_ALL_LANES, _ONE_LINE = (0,) * LANES, (0,) * LINE

_FITTED = int(Status.FITTED)
_FLOORED = int(Status.FLOORED)
_NOT_CONVERGED = int(Status.NOT_CONVERGED)
_NO_SIGNAL = int(Status.NO_SIGNAL)
_NOT_FINITE = int(Status.NOT_FINITE)


class Tables(NamedTuple):
    """What all voxels share, of a design with n columns; rows and columns of zeros fill it to whole fours."""

    basis: np.ndarray  # (n_rows, width) float64, orthonormal columns that span the design
    products: np.ndarray  # (n_rows, n(n+1)/2) float64, products of two of them: (0,0) (1,0) (1,1) (2,0) ...
    to_coefs: np.ndarray  # (n, n) float64, coordinates in the basis -> coefficients
    has_column: np.ndarray  # (n,) bool, false for basis vectors that the design does not have


class Limits(NamedTuple):
    """Values below these are raised."""

    diffusivity: float  # mm²/s, of an eigenvalue; -inf: none
    signal: float  # unit of the signal; 0: relative to the voxel's largest, see :func:`take_logs`


class Results(NamedTuple):
    """What is filled in, row by row."""

    coefs: np.ndarray  # (n_vox, n) float64: xx xy xz yy yz zz in mm²/s first, s0 in the unit of the signal last
    evals: np.ndarray  # (n_vox, 3) float64, mm²/s, of the tensor
    evecs: np.ndarray  # (n_vox, 9) float64, unit vectors
    status: np.ndarray  # (n_vox,) uint8, see Status


class Kept(NamedTuple):
    """Of each group of LANES voxels, what a fit under constraints goes on from; nothing is kept in arrays of size 0."""

    points: np.ndarray  # (n_groups, width LANES) float64
    weights: np.ndarray  # (n_groups, n_rows LANES) float64, those of the last fit
    scales: np.ndarray  # (n_groups, LANES) float64


def kept_of(n_vox: int, tables: Tables) -> Kept:
    """Room for what is kept of ``n_vox`` voxels; nothing of none."""
    n_rows, width = tables.basis.shape
    n_groups = -(-n_vox // LANES)
    return Kept(*(np.empty((n_groups, lines * LANES)) for lines in (width, n_rows, 1)))


class Scratch(NamedTuple):
    """Work space for one group of LANES voxels."""

    logs: np.ndarray  # (n_rows LANES,) log of signals over ``scale``
    weights: np.ndarray  # (n_rows LANES,)
    weighted: np.ndarray  # (n_rows LANES,) fitted logs, then weights times residuals
    powers: np.ndarray  # (n_rows LANES,) for the elementary functions
    point: np.ndarray  # (width LANES,) coordinates in the basis
    normal: np.ndarray  # normal equations of the voxels taken together, see :func:`take_step`
    matrix: np.ndarray  # those of LINE voxels, see :func:`cholesky_solve_lanes`
    solution: np.ndarray  # (n LINE,)
    scale: np.ndarray  # (LANES,) unit of the signal
    status: np.ndarray  # (LANES,) uint8


@inner()
def make_scratch(tables):
    """Work space that fits the tables."""
    size, n = tables.basis.shape[0] * LANES, tables.has_column.size
    lines = n * (n + 1) // 2 + n
    together = LANES if n <= LINE else LINE
    return Scratch(
        np.empty(size), np.empty(size), np.empty(size), np.empty(size), np.zeros(tables.basis.shape[1] * LANES),
        np.empty(lines * together), np.zeros(triangle_lines(n) * LINE), np.empty(n * LINE), np.empty(LANES),
        np.empty(LANES, np.uint8),
    )  # fmt: skip


@kernel(error_model="numpy")
def fit_voxels(signals, tables, n_reweight, limits, results, kept):
    """Fit every row of ``signals`` (n_vox, n_meas) float64; ``results`` is filled, and ``kept`` where it has room."""
    scratch = make_scratch(tables)
    for group in range((signals.shape[0] + LANES - 1) // LANES):
        take_logs(signals, group * LANES, limits.signal, scratch)
        project(tables, scratch)
        for _ in range(n_reweight):
            predict(tables, scratch)
            weigh(scratch)
            take_step(tables, scratch)
        if kept.points.size > 0:
            for i in range(scratch.point.size):
                kept.points[group, i] = scratch.point[i]
            for i in range(scratch.weights.size):
                kept.weights[group, i] = scratch.weights[i] if n_reweight > 0 else 1.0
            for lane in range(LANES):
                kept.scales[group, lane] = scratch.scale[lane]
        write(tables, limits.diffusivity, group * LANES, scratch, results)


@inner(error_model="numpy")
def load_logs(signals, first, absolute, scratch):
    """:func:`take_logs` as a function of its own, for kernels that are large without it."""
    take_logs(signals, first, absolute, scratch)


@part()
def take_logs(signals, first, absolute, scratch):
    """Logarithms of floored signals divided by ``scale``; lanes that cannot be fitted get log 1.

    Signals below ``absolute`` are raised to it. If that is 0, those at or below NOTHING of the voxel's largest are
    raised to FLOOR of it, and the largest is the scale.
    """
    logs, scale, status = scratch.logs, scratch.scale, scratch.status
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
    for i in range(n_meas * LANES, logs.size):
        logs[i] = 1.0
    log_in_place(logs, scratch.powers)


@part()
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


@part()
def _look_through(values, n_meas, largest, flaw):
    """Largest value of each lane; ``flaw`` is 0 unless one of its values is NaN or infinite."""
    for i in range(n_meas):
        for lane in range(LANES):
            value = values[i * LANES + lane]
            largest[lane] = value if value > largest[lane] else largest[lane]
            flaw[lane] = flaw[lane] + value * 0.0


@part()
def _raise_to_floor(values, n_meas, scale, least, floor, n_floored):
    """Values divided by ``scale``; those below ``least`` become ``floor`` and are counted."""
    for i in range(n_meas):
        for lane in range(LANES):
            value = values[i * LANES + lane] / scale[lane]
            n_floored[lane] = n_floored[lane] + (0.0 if value >= least[lane] else 1.0)
            values[i * LANES + lane] = value if value >= least[lane] else floor[lane]


@inner(error_model="numpy", fastmath={"contract"})
def weigh(scratch):
    """``weights`` = squared fitted signals; ``weighted``, the fitted logs before, becomes the weighted residual."""
    logs, weights, weighted = scratch.logs, scratch.weights, scratch.weighted
    for i in range(weights.size):
        weights[i] = 2.0 * weighted[i]
    exp_in_place(weights, scratch.powers)
    for i in range(weights.size):
        weighted[i] = weights[i] * (logs[i] - weighted[i])


@inner(error_model="numpy", fastmath={"contract"})
def project(tables, scratch):
    """``point = basisᵀ logs``: the ordinary least-squares fit, since the basis is orthonormal."""
    basis, logs, point = tables.basis, scratch.logs, scratch.point
    point[:] = 0.0
    for quad in range(basis.shape[0] // 4):  # a loop with a step would not be vectorised
        i, a = 4 * quad, 4 * quad * LANES
        for j in range(tables.has_column.size):
            u0, u1, u2, u3 = basis[i, j], basis[i + 1, j], basis[i + 2, j], basis[i + 3, j]
            for lane in range(LANES):
                point[j * LANES + lane] += (
                    u0 * logs[a + lane] + u1 * logs[a + LANES + lane]
                    + u2 * logs[a + 2 * LANES + lane] + u3 * logs[a + 3 * LANES + lane]
                )  # fmt: skip


@inner(error_model="numpy", fastmath={"contract"})
def predict(tables, scratch):
    """``weighted = basis point``, log signals; four coordinates at a time."""
    basis, point, predicted = tables.basis, scratch.point, scratch.weighted
    predicted[:] = 0.0
    for quad in range((tables.has_column.size + 3) // 4):
        j, a = 4 * quad, 4 * quad * LANES
        for i in range(basis.shape[0]):
            u0, u1, u2, u3 = basis[i, j], basis[i, j + 1], basis[i, j + 2], basis[i, j + 3]
            for lane in range(LANES):
                predicted[i * LANES + lane] += (
                    u0 * point[a + lane] + u1 * point[a + LANES + lane]
                    + u2 * point[a + 2 * LANES + lane] + u3 * point[a + 3 * LANES + lane]
                )  # fmt: skip


@inner(error_model="numpy")
def step(tables, scratch):
    """:func:`take_step` as a function of its own, for kernels that take several."""
    take_step(tables, scratch)


@part()
def take_step(tables, scratch):
    """``point += (basisᵀ W basis)⁻¹ basisᵀ weighted``; a lane whose matrix is singular keeps its point and says so."""
    n = tables.has_column.size
    width = LANES if n <= LINE else LINE  # voxels whose normal equations are made together
    for block in range(LANES // width):  # a loop with a step would not be vectorised
        lane0 = block * width
        if width == LINE:
            _normal_equations(tables, scratch, lane0, _ONE_LINE)
        else:
            _normal_equations(tables, scratch, lane0, _ALL_LANES)
        for j in range(n):
            if not tables.has_column[j]:
                for lane in range(width):
                    scratch.normal[(j * (j + 1) // 2 + j) * width + lane] = 1.0
        for eight in range(width // LINE):
            for p in range(n * (n + 1) // 2 + n):
                for lane in range(LINE):
                    scratch.matrix[p * LINE + lane] = scratch.normal[p * width + eight * LINE + lane]
            cholesky_solve_lanes(scratch.matrix, n, scratch.solution)
            _move(tables, scratch, lane0, eight * LINE)


@inner(error_model="numpy", fastmath={"contract"})
def _normal_equations(tables, scratch, lane0, together):
    """Lower triangle of ``basisᵀ W basis`` and below it ``basisᵀ weighted``, of the lanes from ``lane0``.

    As many lanes as ``together`` has zeros: loops over them have a size that the compiler knows.
    """
    basis, products, n, width = tables.basis, tables.products, tables.has_column.size, len(together)
    weights, weighted = scratch.weights[lane0:], scratch.weighted[lane0:]  # so that places start at zero: vectorised
    normal, n_pairs = scratch.normal, n * (n + 1) // 2
    normal[:] = 0.0
    for quad in range(basis.shape[0] // 4):
        i, a = 4 * quad, 4 * quad * LANES
        for p in range(n_pairs):
            u0, u1, u2, u3 = products[i, p], products[i + 1, p], products[i + 2, p], products[i + 3, p]
            for lane in range(width):
                normal[p * width + lane] += (
                    u0 * weights[a + lane] + u1 * weights[a + LANES + lane]
                    + u2 * weights[a + 2 * LANES + lane] + u3 * weights[a + 3 * LANES + lane]
                )  # fmt: skip
        for j in range(n):
            u0, u1, u2, u3 = basis[i, j], basis[i + 1, j], basis[i + 2, j], basis[i + 3, j]
            for lane in range(width):
                normal[(n_pairs + j) * width + lane] += (
                    u0 * weighted[a + lane] + u1 * weighted[a + LANES + lane]
                    + u2 * weighted[a + 2 * LANES + lane] + u3 * weighted[a + 3 * LANES + lane]
                )  # fmt: skip


@part()
def _move(tables, scratch, lane0, part):
    """``point += solution`` in the lanes whose matrix was not singular; its diagonal now holds 1 / √pivot."""
    solution, matrix, point, status = scratch.solution, scratch.matrix, scratch.point, scratch.status
    n = tables.has_column.size
    width = LANES if n <= LINE else LINE
    for lane in range(LINE):
        is_good, place = True, lane0 + part + lane
        for j in range(n):
            diagonal = j * (j + 1) // 2 + j
            inverse, whole = matrix[diagonal * LINE + lane], scratch.normal[diagonal * width + part + lane]
            if not (inverse * inverse * whole * SINGULAR < 1.0):  # NaN is not good
                is_good = False
        if is_good:
            for j in range(n):
                point[j * LANES + place] += solution[j * LINE + lane]
        elif status[place] <= _FLOORED:
            status[place] = _NOT_CONVERGED


@part()
def write(tables, min_diffusivity, first, scratch, results):
    """Coefficients, eigenvalues and eigenvectors of the lanes into the rows of ``results``."""
    n = tables.has_column.size
    coefs, evals, evecs, status = results.coefs, results.evals, results.evecs, scratch.status
    lanes, values, vectors = np.zeros(n * LANES), np.empty(3 * LANES), np.empty(9 * LANES)
    for j in range(n):
        for m in range(n):
            u = tables.to_coefs[j, m]
            for lane in range(LANES):
                lanes[j * LANES + lane] += u * scratch.point[m * LANES + lane]
    eigh_lanes(lanes, values, vectors)
    for lane in range(min(LANES, len(results.status) - first)):
        v = first + lane
        results.status[v] = status[lane]
        if status[lane] == _NO_SIGNAL or status[lane] == _NOT_FINITE:
            continue
        coefs[v, n - 1] = math.exp(lanes[(n - 1) * LANES + lane]) * scratch.scale[lane]
        for j in range(n - 1):
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
