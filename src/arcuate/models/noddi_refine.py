"""Continuous fit of NODDI in one voxel: no grid of atoms, no tabulated direction, Rician noise of unknown level.

The parameters are NDI ν, ODI o, FWF f, dot fraction d (or 0), the signal at b = 0 and the fibre direction μ. At b, with
t the cosine between gradient and μ, w_l(o) the mean of P_l over Watson's distribution and c_l(b) the Legendre
coefficients of exp(-b dpar t²),

    s = s0 [f exp(-b diso) + d + (1 - f - d) (ν Σ_l c_l w_l P_l(t) + (1 - ν) exp(-b dpar h))],
    h = 1 - 2ν/3 + ν w_2 (t² - 1/3).

References
----------
Zhang et al. 2012, NeuroImage 61:1000, for the model; Rician likelihood as in :mod:`arcuate.numerics.rice`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from arcuate.models.noddi_dictionary import DOT, FWF, NDI, ODI, RMSE, SIGNAL
from arcuate.models.status import Status
from arcuate.numerics.compiled import inner, kernel
from arcuate.numerics.legendre import (
    even_degrees,
    even_step,
    gaussian_zonal,
    watson_moments,
    write_even_legendre_slopes,
    zonal_degree,
)
from arcuate.numerics.nnls import SUM_IN_ANY_ORDER
from arcuate.numerics.rice import estimate_variance, negative_log_likelihood, write_score

N_PAR = 7
S0, TILT_1, TILT_2 = 4, 5, 6  # parameters after NDI, ODI, FWF and DOT
N_NODES = 1025  # ODI of the interpolation table of Watson's moments
MAX_ROUNDS = 400  # steps of one voxel, accepted or not; one in a hundred takes more than 60
LEAST_DAMPED, MOST_DAMPED = 1e-3, 1e9
CONVERGED = 1e-7  # gain in log-likelihood that a further step would bring


class NoddiSeries(NamedTuple):
    """What the continuous model needs besides the gradients: coefficients per shell, moments over ODI."""

    bvals: np.ndarray  # (n_shell,) float, s/mm²
    sticks: np.ndarray  # (n_shell, n_deg) float, Legendre coefficients of exp(-b dpar t²)
    moments: np.ndarray  # (N_NODES, 2, n_deg) float, Watson's moments and their derivatives, ODI from 0 to 1
    diffusivities: np.ndarray  # (2,) float, mm²/s, along the neurites and of free water


def make_series(bvals: np.ndarray, dpar: float, diso: float) -> NoddiSeries:
    """Series whose degree keeps the signal of a stick within 1e-5 at the largest b-value."""
    lmax = max(4, zonal_degree(float(np.max(bvals)) * dpar, 1e-5))
    return NoddiSeries(
        bvals=np.asarray(bvals, dtype=np.float64),
        sticks=gaussian_zonal(np.asarray(bvals) * dpar, lmax),
        moments=watson_table(lmax),
        diffusivities=np.array([dpar, diso]),
    )


def watson_table(lmax: int) -> np.ndarray:
    """Watson's moments and their derivatives with respect to ODI at N_NODES values of it, (N_NODES, 2, n_deg).

    Notes
    -----
    With κ = 1 / tan(π o / 2): dw_l/dκ = E[t² P_l] - E[t²] w_l, dκ/do = -(π/2) (1 + κ²), and at o = 0, where κ is
    infinite, w_l = 1 and dw_l/do = -π l (l+1) / 8.
    """
    odi = np.linspace(0, 1, N_NODES)
    kappa = np.concatenate([[0.0], 1 / np.tan(odi[1:] * np.pi / 2)])
    kappa[-1] = 0.0
    moments = watson_moments(kappa, lmax + 2)
    degree = even_degrees(lmax)
    alpha, beta, gamma = even_step(degree.astype(np.float64))
    below = np.column_stack([np.zeros(N_NODES), moments[:, : len(degree) - 1]])
    square = (moments[:, 1:] + beta * moments[:, :-1] + gamma * below) / alpha
    moments = moments[:, :-1]
    slopes = (square - square[:, :1] * moments) * (-np.pi / 2 * (1 + kappa[:, None] ** 2))
    moments[0] = 1.0
    slopes[0] = -np.pi / 8 * degree * (degree + 1)
    return np.ascontiguousarray(np.stack([moments, slopes], axis=1))


class _Scratch(NamedTuple):
    """Work space of one voxel."""

    derivatives: np.ndarray  # (2, N_PAR, n_meas) float64, of two candidates
    predictions: np.ndarray  # (2, n_meas) float64, their signals over the mean b = 0
    legendre: np.ndarray  # (2, n_deg, n_meas) float64, functions and slopes
    watson: np.ndarray  # (2, n_deg) float64, moments and slopes
    rows: np.ndarray  # (9, n_meas) float64


@kernel()
def refine_voxels(rows, tables, series, has_dot, maps, directions, status):
    """Improves the maps (n_vox, N_MAP) and the directions (n_vox, 3) where they stand.

    Parameters
    ----------
    rows : (n_vox, n_meas) float64, divided by their mean b = 0, in the dictionary's order
    tables : NoddiTables, of which the volumes are read: ``starts`` and ``directions``
    series : NoddiSeries
    has_dot : bool
    """
    n_vox, n_meas = rows.shape
    n_deg = series.sticks.shape[1]
    scratch = _Scratch(
        np.empty((2, N_PAR, n_meas)),
        np.empty((2, n_meas)),
        np.empty((2, n_deg, n_meas)),
        np.empty((2, n_deg)),
        np.empty((9, n_meas)),
    )
    for v in range(n_vox):
        if status[v] == Status.NO_SIGNAL.value or status[v] == Status.NOT_FINITE.value:
            continue
        is_converged = _refine_one(rows[v], tables, series, has_dot, scratch, maps[v], directions[v])
        if not is_converged:
            status[v] = Status.NOT_CONVERGED.value
        elif status[v] == Status.NOT_CONVERGED.value:
            status[v] = Status.FITTED.value


@inner()
def _refine_one(signal, tables, series, has_dot, scratch, maps, direction):
    """Levenberg-Marquardt steps on the Rician likelihood, the noise level renewed on the way; True if converged."""
    derivatives, predictions, rows = scratch.derivatives, scratch.predictions, scratch.rows
    n_meas = signal.shape[0]
    parameters, trial = np.empty(5), np.empty(5)
    mu, trial_mu = direction.copy(), np.empty(3)
    step, score = np.empty(N_PAR), np.empty(N_PAR)
    hessian, system = np.empty((N_PAR, N_PAR)), np.empty((N_PAR, N_PAR))
    parameters[NDI] = min(max(maps[NDI], 0.02), 0.98)  # inside the bounds, where every parameter has an effect
    parameters[ODI] = min(max(maps[ODI], 0.01), 0.98)
    parameters[DOT] = min(maps[DOT], 0.9)
    parameters[FWF] = min(maps[FWF], 0.95 - parameters[DOT])
    parameters[S0] = 1.0
    lowest = 1e-8
    variance = max(maps[RMSE] ** 2, lowest)
    now, damping, growth, is_converged, renewals = 0, LEAST_DAMPED, 2.0, False, 0
    _predict(parameters, mu, tables, series, scratch, derivatives[0], predictions[0])
    cost = negative_log_likelihood(signal, predictions[0], variance, rows[0])
    _write_normal_equations(signal, predictions[0], derivatives[0], variance, rows, hessian, score)
    for _ in range(MAX_ROUNDS):
        gain = _solve_step(hessian, score, parameters, has_dot, damping, system, step)
        is_at_end = gain < (CONVERGED if renewals >= 2 else 1e-2) and damping < 10.0
        if is_at_end or damping > MOST_DAMPED:  # nothing to gain, or no way down within rounding
            if renewals >= 2:
                is_converged = True
                break
            renewals += 1
            damping, growth = min(damping, LEAST_DAMPED), 2.0
            variance = estimate_variance(signal, predictions[now], variance, lowest, 6)
            cost = negative_log_likelihood(signal, predictions[now], variance, rows[0])
            _write_normal_equations(signal, predictions[now], derivatives[now], variance, rows, hessian, score)
            continue
        _take_step(parameters, mu, step, has_dot, trial, trial_mu)
        other = 1 - now
        _predict(trial, trial_mu, tables, series, scratch, derivatives[other], predictions[other])
        trial_cost = negative_log_likelihood(signal, predictions[other], variance, rows[0])
        if trial_cost <= cost:
            kept_promise = (cost - trial_cost) / max(gain, 1e-300)
            now, cost = other, trial_cost
            parameters[:], mu[:] = trial, trial_mu
            damping = max(damping * max(0.2, 1 - (2 * kept_promise - 1) ** 3), 1e-7)
            growth = 2.0
            _write_normal_equations(signal, predictions[now], derivatives[now], variance, rows, hessian, score)
        else:
            damping *= growth
            growth *= 2.0
    maps[:4] = parameters[:4]
    maps[SIGNAL] = parameters[S0]
    total = 0.0
    for i in range(n_meas):
        total += (signal[i] - predictions[now, i]) ** 2
    maps[RMSE] = np.sqrt(total / n_meas)
    direction[:] = mu
    return is_converged


@inner()
def _write_moments(odi, table, watson):
    """Watson's moments and their slopes at ``odi`` by cubic interpolation of values and derivatives."""
    width = 1.0 / (N_NODES - 1)
    k = min(int(odi / width), N_NODES - 2)
    x = odi / width - k
    y = 1 - x
    for j in range(table.shape[2]):
        v0, v1, d0, d1 = table[k, 0, j], table[k + 1, 0, j], table[k, 1, j] * width, table[k + 1, 1, j] * width
        watson[0, j] = y * y * ((1 + 2 * x) * v0 + x * d0) + x * x * ((3 - 2 * x) * v1 - y * d1)
        watson[1, j] = (6 * x * y * (v1 - v0) + y * (1 - 3 * x) * d0 + x * (3 * x - 2) * d1) / width


@inner(fastmath=SUM_IN_ANY_ORDER)
def _predict(parameters, mu, tables, series, scratch, derivatives, prediction):
    """Signals and their derivatives with respect to the N_PAR parameters."""
    bvals, sticks, table, diffusivities = series
    starts, legendre, watson, lines = tables.starts, scratch.legendre, scratch.watson, scratch.rows
    ndi, odi, fwf, dot, s0 = parameters
    dpar, diso = diffusivities
    squares, slant_1, slant_2 = lines[0], lines[1], lines[2]
    first, second = _tangents(mu)
    x, y, z = tables.directions
    for i in range(squares.shape[0]):
        cosine = x[i] * mu[0] + y[i] * mu[1] + z[i] * mu[2]
        squares[i] = cosine * cosine
        slant_1[i] = 2 * cosine * (x[i] * first[0] + y[i] * first[1] + z[i] * first[2])
        slant_2[i] = 2 * cosine * (x[i] * second[0] + y[i] * second[1] + z[i] * second[2])
    write_even_legendre_slopes(squares, legendre[0], legendre[1])
    _write_moments(odi, table, watson)
    n_b0 = starts[1]
    prediction[:n_b0] = s0
    derivatives[:, :n_b0] = 0.0
    derivatives[S0, :n_b0] = 1.0
    scalars = np.array([ndi, fwf, dot, s0, dpar, diso])
    for s in range(bvals.shape[0]):
        begin, end = starts[s + 1], starts[s + 2]
        _blur_sticks(sticks[s], watson, legendre, begin, end, lines)
        _predict_shell(bvals[s], scalars, watson[:, 1], begin, end, lines, derivatives, prediction[begin:end])


@inner(fastmath=SUM_IN_ANY_ORDER)
def _blur_sticks(sticks, watson, legendre, begin, end, lines):
    """Signal of dispersed sticks on one shell, and its derivatives with respect to ODI and t²."""
    inside, inside_odi, inside_square = lines[3, begin:end], lines[4, begin:end], lines[5, begin:end]
    n = inside.shape[0]
    for i in range(n):
        inside[i], inside_odi[i], inside_square[i] = 0.0, 0.0, 0.0
    for j in range(sticks.shape[0]):
        level, change = sticks[j] * watson[0, j], sticks[j] * watson[1, j]
        value, slope = legendre[0, j, begin:end], legendre[1, j, begin:end]
        for i in range(n):
            inside[i] += level * value[i]
            inside_odi[i] += change * value[i]
            inside_square[i] += level * slope[i]


@inner(fastmath=SUM_IN_ANY_ORDER)
def _predict_shell(b, scalars, moment, begin, end, lines, derivatives, prediction):
    """Signals of one shell and their derivatives; ``moment`` is Watson's second moment and its slope."""
    ndi, fwf, dot, s0, dpar, diso = scalars
    squares, slant_1, slant_2 = lines[0, begin:end], lines[1, begin:end], lines[2, begin:end]
    inside, inside_odi, inside_square = lines[3, begin:end], lines[4, begin:end], lines[5, begin:end]
    by_ndi, by_odi, by_fwf = derivatives[NDI, begin:end], derivatives[ODI, begin:end], derivatives[FWF, begin:end]
    by_dot, by_s0 = derivatives[DOT, begin:end], derivatives[S0, begin:end]
    by_tilt_1, by_tilt_2 = derivatives[TILT_1, begin:end], derivatives[TILT_2, begin:end]
    tissue = 1.0 - fwf - dot
    decay = b * dpar
    water = np.exp(-b * diso)
    base = np.exp(-decay * (1 - ndi * (2 + moment[0]) / 3))
    spread = decay * ndi * moment[0]
    scale = spread / 64
    for i in range(prediction.shape[0]):
        away = squares[i] - 1.0 / 3
        x = scale * squares[i]  # exp(-spread t²) is the 64th power of a short series: no call in the loop
        power = 1 - x * (1 - x / 2 * (1 - x / 3 * (1 - x / 4 * (1 - x / 5 * (1 - x / 6 * (1 - x / 7))))))
        power *= power
        power *= power
        power *= power
        power *= power
        power *= power
        power *= power
        outside = base * power
        mixed = ndi * inside[i] + (1 - ndi) * outside
        outside_ndi = decay * (2.0 / 3 - moment[0] * away) * outside
        outside_odi = -decay * ndi * moment[1] * away * outside
        by_square = s0 * tissue * (ndi * inside_square[i] - (1 - ndi) * spread * outside)
        level = fwf * water + dot + tissue * mixed
        prediction[i] = s0 * level
        by_ndi[i] = s0 * tissue * (inside[i] - outside + (1 - ndi) * outside_ndi)
        by_odi[i] = s0 * tissue * (ndi * inside_odi[i] + (1 - ndi) * outside_odi)
        by_fwf[i] = s0 * (water - mixed)
        by_dot[i] = s0 * (1 - mixed)
        by_s0[i] = level
        by_tilt_1[i] = by_square * slant_1[i]
        by_tilt_2[i] = by_square * slant_2[i]


@inner()
def _tangents(mu):
    """Two unit vectors orthogonal to ``mu`` and to each other."""
    first, second = np.zeros(3), np.empty(3)
    least = np.argmin(np.abs(mu))
    first[least] = 1.0
    first -= mu[least] * mu
    first /= np.sqrt(first[0] ** 2 + first[1] ** 2 + first[2] ** 2)
    second[0] = mu[1] * first[2] - mu[2] * first[1]
    second[1] = mu[2] * first[0] - mu[0] * first[2]
    second[2] = mu[0] * first[1] - mu[1] * first[0]
    return first, second


@inner(fastmath=SUM_IN_ANY_ORDER)
def _write_normal_equations(signal, prediction, derivatives, variance, rows, hessian, score):
    """Expected information (N_PAR, N_PAR) and score (N_PAR,) of the parameters."""
    residual, information, weighted = rows[6], rows[7], rows[8]
    write_score(signal, prediction, variance, residual, information)
    n = signal.shape[0]
    for a in range(N_PAR):
        total = 0.0
        for i in range(n):
            total += derivatives[a, i] * residual[i]
            weighted[i] = derivatives[a, i] * information[i]
        score[a] = total
        for b in range(a + 1):
            total = 0.0
            for i in range(n):
                total += weighted[i] * derivatives[b, i]
            hessian[a, b] = total
            hessian[b, a] = total


@inner()
def _solve_step(hessian, score, parameters, has_dot, damping, system, step):
    """Damped step, parameters held at a bound that the score pushes against; returns the gain it predicts."""
    free = np.ones(N_PAR, np.bool_)
    free[DOT] = has_dot
    for a in (NDI, ODI, FWF, DOT):
        if (parameters[a] <= 0.0 and score[a] <= 0.0) or (parameters[a] >= 1.0 and score[a] >= 0.0):
            free[a] = False
    for a in range(N_PAR):
        for b in range(N_PAR):
            system[a, b] = hessian[a, b] if free[a] and free[b] else 0.0
        ridge = hessian[a, a] * damping
        system[a, a] = hessian[a, a] + max(ridge, 1e-12) if free[a] else 1.0
        step[a] = score[a] if free[a] else 0.0
    for a in range(N_PAR):  # Cholesky in place, then both triangles
        for b in range(a + 1):
            total = system[a, b]
            for c in range(b):
                total -= system[a, c] * system[b, c]
            if a == b:
                system[a, a] = np.sqrt(max(total, 1e-30))
            else:
                system[a, b] = total / system[b, b]
    for a in range(N_PAR):
        for b in range(a):
            step[a] -= system[a, b] * step[b]
        step[a] /= system[a, a]
    for a in range(N_PAR - 1, -1, -1):
        for b in range(a + 1, N_PAR):
            step[a] -= system[b, a] * step[b]
        step[a] /= system[a, a]
    gain = 0.0
    for a in range(N_PAR):
        gain += 0.5 * score[a] * step[a]
    return gain


@inner()
def _take_step(parameters, mu, step, has_dot, trial, trial_mu):
    """The step, cut at the bounds: fractions in 0..1, no more than the whole, the tilt at most half a radian."""
    for a in range(5):
        trial[a] = parameters[a] + step[a]
    for a in (NDI, ODI, FWF, DOT):
        trial[a] = min(max(trial[a], 0.0), 1.0)
    if not has_dot:
        trial[DOT] = 0.0
    whole = trial[FWF] + trial[DOT]
    if whole > 1.0:
        trial[FWF] /= whole
        trial[DOT] /= whole
    trial[S0] = max(trial[S0], 0.1 * parameters[S0])
    tilt = np.sqrt(step[TILT_1] ** 2 + step[TILT_2] ** 2)
    shrink = min(1.0, 0.5 / tilt) if tilt > 0 else 1.0
    first, second = _tangents(mu)
    total = 0.0
    for c in range(3):
        trial_mu[c] = mu[c] + shrink * (step[TILT_1] * first[c] + step[TILT_2] * second[c])
        total += trial_mu[c] ** 2
    trial_mu /= np.sqrt(total)
