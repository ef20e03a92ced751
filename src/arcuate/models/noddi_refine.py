"""Continuous fit of NODDI in one voxel: no grid of atoms, no tabulated direction, Rician noise of unknown level.

The parameters are NDI ν, ODI o, FWF f, dot fraction d (or 0), the signal at b = 0 and the fibre direction μ. At b, with
t the cosine between gradient and μ, w_l(o) the mean of P_l over Watson's distribution and c_l(b) the Legendre
coefficients of exp(-b dpar t²),

    s = s0 [f exp(-b diso) + d + (1 - f - d) (ν Σ_l c_l w_l P_l(t) + (1 - ν) exp(-b dpar h))],
    h = 1 - 2ν/3 + ν w_2 (t² - 1/3).

References
----------
Zhang et al. 2012, NeuroImage 61:1000, for the model; Rician likelihood as in :mod:`arcuate.numerics.rice`; damped steps
by Marquardt 1963, J. SIAM 11:431, and Moré 1978, Lect. Notes Math. 630:105.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from arcuate.models.noddi_dictionary import DOT, FWF, NDI, ODI, RMSE, SIGNAL
from arcuate.models.noddi_series import POWERS_AT_ONCE, NoddiSeries, write_moments
from arcuate.models.status import Status
from arcuate.numerics.compiled import inner, kernel, part
from arcuate.numerics.nnls import SUM_IN_ANY_ORDER
from arcuate.numerics.rice import estimate_variance, negative_log_likelihood, write_score

N_PAR = 7
S0, TILT_1, TILT_2 = 4, 5, 6  # parameters after NDI, ODI, FWF and DOT
MAX_ROUNDS = 400  # steps of one voxel, accepted or not; one in a hundred takes more than 60
LEAST_DAMPED, MOST_DAMPED = 1e-3, 1e9
LEAST_SCALE = 0.01  # of the most information on a parameter so far: what its damping is in proportion to at least
STEADY = 10.0  # damping below which the gain that a step promises tells how far the end is
CONVERGED = 1e-7  # gain in log-likelihood that a further step would bring
NEAR = 1e-2  # the same, for which it is time to estimate the noise anew, as long as that brings more than this
MOST_RENEWALS = 8  # of the noise
_HALF, _THIRD, _FOURTH, _FIFTH, _SIXTH, _SEVENTH = (1 / k for k in range(2, 8))  # divisions take longer


class RefineRoom(NamedTuple):
    """Work space of one voxel: two candidates, of which one is where the fit stands."""

    parameters: np.ndarray  # (2, 5) float64
    axes: np.ndarray  # (2, 3) float64, unit vectors
    tangents: np.ndarray  # (2, 6) float64, two unit vectors orthogonal to each axis and to each other
    derivatives: np.ndarray  # (2, N_PAR, n_meas) float64
    predictions: np.ndarray  # (2, n_meas) float64, signals over the mean b = 0
    powers: np.ndarray  # (3, n_pow) float64, polynomials of dispersed sticks and their derivatives
    watson: np.ndarray  # (2, n_deg) float64, moments and slopes
    rows: np.ndarray  # (9, n_meas) float64
    hessian: np.ndarray  # (N_PAR, N_PAR) float64
    system: np.ndarray  # (N_PAR, N_PAR) float64
    score: np.ndarray  # (N_PAR,) float64
    scale: np.ndarray  # (N_PAR,) float64, the most information on each parameter so far, times the variance
    step: np.ndarray  # (N_PAR,) float64


def make_refine_room(series: NoddiSeries, n_meas: int) -> RefineRoom:
    """Work space for one voxel of ``n_meas`` volumes after the other."""
    _, n_deg, n_pow = series.sticks.shape
    shapes = (
        (2, 5), (2, 3), (2, 6), (2, N_PAR, n_meas), (2, n_meas), (3, n_pow), (2, n_deg), (9, n_meas),
        (N_PAR, N_PAR), (N_PAR, N_PAR), (N_PAR,), (N_PAR,), (N_PAR,),
    )  # fmt: skip
    return RefineRoom(*(np.empty(shape) for shape in shapes))


@kernel(error_model="numpy")
def refine_voxels(rows, tables, series, has_dot, room, maps, directions, status):
    """Improves the maps (n_vox, N_MAP) and the directions (n_vox, 3) where they stand.

    Parameters
    ----------
    rows : (n_vox, n_meas) float64, divided by their mean b = 0, in the dictionary's order
    tables : NoddiTables, of which the volumes are read: ``starts`` and ``directions``
    series : NoddiSeries
    has_dot : bool
    room : of :func:`make_refine_room`
    """
    parameters, axes, predictions, scratch = room.parameters, room.axes, room.predictions, room.rows[0]
    lowest = 1e-8
    for v in range(rows.shape[0]):
        if status[v] == Status.NO_SIGNAL.value or status[v] == Status.NOT_FINITE.value:
            continue
        signal = rows[v]
        _start(maps[v], directions[v], parameters, axes)
        variance, cost, gain = max(maps[v, RMSE] * maps[v, RMSE], lowest), np.inf, 0.0
        now, other = np.int64(1), np.int64(0)  # literals would be constants for a while, and _predict compiled for each
        damping, growth, is_converged, renewals, is_renewed, brought = LEAST_DAMPED, 2.0, False, 0, False, np.inf
        for a in range(N_PAR):
            room.scale[a] = 0.0
        for turn in range(MAX_ROUNDS + 1):
            if is_renewed:
                variance = estimate_variance(signal, predictions[now], variance, lowest, 6)
            else:
                _write_tangents(axes, room.tangents, other)
                write_moments(parameters[other, ODI], series.moments, room.watson)
                _predict(other, tables, series, room, room.derivatives[other], predictions[other])
            new_cost = negative_log_likelihood(signal, predictions[other], variance, scratch)
            brought = cost - new_cost if is_renewed else brought
            if is_renewed or new_cost <= cost:
                if not is_renewed and turn > 0:
                    kept_promise = (cost - new_cost) / max(gain, 1e-300)
                    damping = max(damping * max(0.2, 1 - (2 * kept_promise - 1) ** 3), 1e-7)
                    growth = 2.0
                now, cost = other, new_cost
                _write_normal_equations(signal, predictions[now], room.derivatives[now], variance, has_dot, room)
            else:
                damping *= growth
                growth *= 2.0
            if turn == MAX_ROUNDS:
                break
            gain = _solve_step(room, parameters, now, has_dot, damping, variance)
            is_last = renewals > 0 and (brought < NEAR or renewals == MOST_RENEWALS)
            is_at_end = gain < (CONVERGED if is_last else NEAR) and damping < STEADY
            is_renewed = is_at_end or damping > MOST_DAMPED  # nothing to gain, or no way down within rounding
            if is_renewed and is_last:
                is_converged = True
                break
            if is_renewed:
                renewals += 1
                damping, growth, other = damping if damping < STEADY else LEAST_DAMPED, 2.0, now
            else:
                other = 1 - now
                _take_step(room, now, has_dot)
        _write_result(signal, room, now, maps[v], directions[v])
        if not is_converged:
            status[v] = Status.NOT_CONVERGED.value
        elif status[v] == Status.NOT_CONVERGED.value:
            status[v] = Status.FITTED.value


@part()
def _write_result(signal, room, now, maps, direction):
    """What was reached."""
    parameters, axes, predictions = room.parameters, room.axes, room.predictions
    for a in range(4):
        maps[a] = parameters[now, a]
    maps[SIGNAL] = parameters[now, S0]
    total = 0.0
    for i in range(signal.shape[0]):
        total += (signal[i] - predictions[now, i]) ** 2
    maps[RMSE] = math.sqrt(total / signal.shape[0])
    for c in range(3):
        direction[c] = axes[now, c]


@part()
def _start(maps, direction, parameters, axes):
    """The first candidate: the dictionary's answer, inside the bounds, where every parameter has an effect."""
    parameters[0, NDI] = min(max(maps[NDI], 0.02), 0.98)
    parameters[0, ODI] = min(max(maps[ODI], 0.01), 0.98)
    parameters[0, DOT] = min(maps[DOT], 0.9)
    parameters[0, FWF] = min(maps[FWF], 0.95 - parameters[0, DOT])
    parameters[0, S0] = 1.0
    for c in range(3):
        axes[0, c] = direction[c]


@inner(error_model="numpy", fastmath=SUM_IN_ANY_ORDER)
def _predict(candidate, tables, series, room, derivatives, prediction):
    """Signals and their derivatives with respect to the N_PAR parameters, from Watson's moments at the ODI."""
    starts, lines = tables.starts, room.rows
    parameters, mu, tangents = room.parameters[candidate], room.axes[candidate], room.tangents[candidate]
    squares, slant_1, slant_2 = lines[0], lines[1], lines[2]
    x, y, z = tables.directions[0], tables.directions[1], tables.directions[2]
    for i in range(squares.shape[0]):
        cosine = x[i] * mu[0] + y[i] * mu[1] + z[i] * mu[2]
        squares[i] = cosine * cosine
        slant_1[i] = 2 * cosine * (x[i] * tangents[0] + y[i] * tangents[1] + z[i] * tangents[2])
        slant_2[i] = 2 * cosine * (x[i] * tangents[3] + y[i] * tangents[4] + z[i] * tangents[5])
    for i in range(starts[1]):
        prediction[i] = parameters[S0]
        for a in range(N_PAR):
            derivatives[a, i] = 0.0
        derivatives[S0, i] = 1.0
    for s in range(starts.shape[0] - 2):
        begin, end = starts[s + 1], starts[s + 2]
        _blur_sticks(series.sticks[s], room, begin, end)
        _predict_shell(series, s, parameters, room, begin, end, derivatives, prediction[begin:end])


@part()
def _blur_sticks(sticks, room, begin, end):
    """Signal of dispersed sticks on one shell, and its derivatives with respect to ODI and t²."""
    watson, powers, lines = room.watson, room.powers, room.rows
    squares, inside, inside_odi = lines[0, begin:end], lines[3, begin:end], lines[4, begin:end]
    inside_square = lines[5, begin:end]
    n_pow = sticks.shape[1]
    for k in range(n_pow):
        level, change = 0.0, 0.0
        for j in range(sticks.shape[0]):
            level += sticks[j, k] * watson[0, j]
            change += sticks[j, k] * watson[1, j]
        powers[0, k], powers[1, k], powers[2, k] = level, change, 0.0
        if k > 0:
            powers[2, k - 1] = 2 * k * level  # of 2 t² - 1, twice that by t²
    for i in range(inside.shape[0]):
        inside[i], inside_odi[i], inside_square[i] = 0.0, 0.0, 0.0
    for turn in range(n_pow // POWERS_AT_ONCE):
        k = n_pow - POWERS_AT_ONCE * (turn + 1)
        a0, a1, a2, a3 = powers[0, k], powers[0, k + 1], powers[0, k + 2], powers[0, k + 3]
        c0, c1, c2, c3 = powers[1, k], powers[1, k + 1], powers[1, k + 2], powers[1, k + 3]
        e0, e1, e2, e3 = powers[2, k], powers[2, k + 1], powers[2, k + 2], powers[2, k + 3]
        for i in range(inside.shape[0]):
            y = 2 * squares[i] - 1
            inside[i] = (((inside[i] * y + a3) * y + a2) * y + a1) * y + a0
            inside_odi[i] = (((inside_odi[i] * y + c3) * y + c2) * y + c1) * y + c0
            inside_square[i] = (((inside_square[i] * y + e3) * y + e2) * y + e1) * y + e0


@part()
def _predict_shell(series, s, parameters, room, begin, end, derivatives, prediction):
    """Signals of one shell and their derivatives; of Watson's moments it takes the second and its slope."""
    watson, lines = room.watson, room.rows
    b, dpar, diso = series.bvals[s], series.diffusivities[0], series.diffusivities[1]
    ndi, fwf, dot, s0 = parameters[NDI], parameters[FWF], parameters[DOT], parameters[S0]
    moment, moment_odi = watson[0, 1], watson[1, 1]
    squares, slant_1, slant_2 = lines[0, begin:end], lines[1, begin:end], lines[2, begin:end]
    inside, inside_odi, inside_square = lines[3, begin:end], lines[4, begin:end], lines[5, begin:end]
    by_ndi, by_odi, by_fwf = derivatives[NDI, begin:end], derivatives[ODI, begin:end], derivatives[FWF, begin:end]
    by_dot, by_s0 = derivatives[DOT, begin:end], derivatives[S0, begin:end]
    by_tilt_1, by_tilt_2 = derivatives[TILT_1, begin:end], derivatives[TILT_2, begin:end]
    tissue = 1.0 - fwf - dot
    decay = b * dpar
    water = math.exp(-b * diso)
    base = math.exp(-decay * (1 - ndi * (2 + moment) / 3))
    spread = decay * ndi * moment
    scale = spread / 64
    for i in range(prediction.shape[0]):
        away = squares[i] - 1.0 / 3
        x = scale * squares[i]  # exp(-spread t²) is the 64th power of a short series: no call in the loop
        power = 1 - _FOURTH * x * (1 - _FIFTH * x * (1 - _SIXTH * x * (1 - _SEVENTH * x)))
        power = 1 - x * (1 - _HALF * x * (1 - _THIRD * x * power))
        power *= power
        power *= power
        power *= power
        power *= power
        power *= power
        power *= power
        outside = base * power
        mixed = ndi * inside[i] + (1 - ndi) * outside
        outside_ndi = decay * (2.0 / 3 - moment * away) * outside
        outside_odi = -decay * ndi * moment_odi * away * outside
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


@part()
def _write_tangents(axes, tangents, candidate):
    """Two unit vectors orthogonal to the axis and to each other; the first near the axis of the frame farthest off."""
    x, y, z = axes[candidate, 0], axes[candidate, 1], axes[candidate, 2]
    first, second, third = 0.0, 0.0, 0.0
    if abs(x) <= abs(y) and abs(x) <= abs(z):
        first, second, third = 1.0 - x * x, 0.0 - x * y, 0.0 - x * z
    elif abs(y) <= abs(z):
        first, second, third = 0.0 - y * x, 1.0 - y * y, 0.0 - y * z
    else:
        first, second, third = 0.0 - z * x, 0.0 - z * y, 1.0 - z * z
    length = math.sqrt(first**2 + second**2 + third**2)
    first, second, third = first / length, second / length, third / length
    tangents[candidate, 0], tangents[candidate, 1], tangents[candidate, 2] = first, second, third
    tangents[candidate, 3] = y * third - z * second
    tangents[candidate, 4] = z * first - x * third
    tangents[candidate, 5] = x * second - y * first


@inner(error_model="numpy", fastmath=SUM_IN_ANY_ORDER)
def _write_normal_equations(signal, prediction, derivatives, variance, has_dot, room):
    """Expected information (N_PAR, N_PAR) and score (N_PAR,) of the parameters; 0 of the dot where there is none."""
    residual, information, weighted = room.rows[6], room.rows[7], room.rows[8]
    hessian, score = room.hessian, room.score
    write_score(signal, prediction, variance, residual, information)
    n = signal.shape[0]
    for a in range(N_PAR):
        score[a], is_held = 0.0, a == DOT and not has_dot
        if not is_held:
            total = 0.0
            for i in range(n):
                total += derivatives[a, i] * residual[i]
                weighted[i] = derivatives[a, i] * information[i]
            score[a] = total
        for b in range(a + 1):
            total = 0.0
            if not is_held and (b != DOT or has_dot):
                for i in range(n):
                    total += weighted[i] * derivatives[b, i]
            hessian[a, b] = total
            hessian[b, a] = total


@part()
def _solve_step(room, parameters, now, has_dot, damping, variance):
    """Damped step, parameters held at a bound that the score pushes against; returns the gain it predicts.

    Damping in proportion to the information alone (Marquardt 1963) fails where a parameter has no effect to first
    order, as NDI 1 on sticks that do not disperse: the slightest score sends it across its range, and every step is
    refused. So it remembers the information that there was (Moré 1978).
    """
    hessian, system, score, scale, step = room.hessian, room.system, room.score, room.scale, room.step
    for a in range(N_PAR):  # what is held has a row and a column of the identity
        scale[a] = max(scale[a], hessian[a, a] * variance)
        value = parameters[now, a] if a <= DOT else 0.5
        at_bound = (value <= 0.0 and score[a] <= 0.0) or (value >= 1.0 and score[a] >= 0.0)
        step[a] = 0.0 if at_bound or (a == DOT and not has_dot) else 1.0
    for a in range(N_PAR):
        for b in range(N_PAR):
            system[a, b] = hessian[a, b] if step[a] > 0.0 and step[b] > 0.0 else 0.0
    for a in range(N_PAR):
        ridge = max(hessian[a, a], LEAST_SCALE * scale[a] / variance) * damping
        system[a, a] = hessian[a, a] + max(ridge, 1e-12) if step[a] > 0.0 else 1.0
        step[a] = score[a] if step[a] > 0.0 else 0.0
    for a in range(N_PAR):  # Cholesky in place, then both triangles
        for b in range(a + 1):
            total = system[a, b]
            for c in range(b):
                total -= system[a, c] * system[b, c]
            if a == b:
                system[a, a] = math.sqrt(max(total, 1e-30))
            else:
                system[a, b] = total / system[b, b]
    for a in range(N_PAR):
        for b in range(a):
            step[a] -= system[a, b] * step[b]
        step[a] /= system[a, a]
    gain = 0.0
    for turn in range(N_PAR):
        a = N_PAR - 1 - turn
        for b in range(a + 1, N_PAR):
            step[a] -= system[b, a] * step[b]
        step[a] /= system[a, a]
    for a in range(N_PAR):
        gain += 0.5 * score[a] * step[a]
    return gain


@part()
def _take_step(room, now, has_dot):
    """The other candidate, cut at the bounds: fractions in 0..1, no more than the whole, half a radian of tilt."""
    parameters, axes, tangents, step, other = room.parameters, room.axes, room.tangents, room.step, 1 - now
    for a in range(4):
        parameters[other, a] = min(max(parameters[now, a] + step[a], 0.0), 1.0)
    if not has_dot:
        parameters[other, DOT] = 0.0
    whole = parameters[other, FWF] + parameters[other, DOT]
    if whole > 1.0:
        parameters[other, FWF] /= whole
        parameters[other, DOT] /= whole
    parameters[other, S0] = max(parameters[now, S0] + step[S0], 0.1 * parameters[now, S0])
    tilt = math.sqrt(step[TILT_1] ** 2 + step[TILT_2] ** 2)
    shrink = min(1.0, 0.5 / tilt) if tilt > 0 else 1.0
    total = 0.0
    for c in range(3):
        change = step[TILT_1] * tangents[now, c] + step[TILT_2] * tangents[now, 3 + c]
        axes[other, c] = axes[now, c] + shrink * change
        total += axes[other, c] ** 2
    length = math.sqrt(total)
    for c in range(3):
        axes[other, c] /= length
