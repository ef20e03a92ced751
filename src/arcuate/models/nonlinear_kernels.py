"""Kernels of fits to signals, not their logarithms: a tensor under Rician noise, and a tensor beside free water.

Both are Levenberg and Marquardt's method from the linear fit, voxel by voxel, in the coordinates of an orthonormal
basis of the design (see :func:`arcuate.models.log_linear.make_tables`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from arcuate.numerics.compiled import inner, kernel
from arcuate.numerics.rice import negative_log_likelihood, write_score

MAX_STEPS = 100  # tried, accepted or not
STIFFNESS = 1e3  # of the bounds: an attenuation beyond them by 0.01 costs as much as a likelihood ratio of exp(0.05)
CONVERGED = 1e-10  # gain that a further step promises, in units of the log-likelihood or of the sum of squares


class Descent(NamedTuple):
    """Work space of one voxel with n unknowns."""

    matrix: np.ndarray  # (n, n) float64, expected curvature
    factor: np.ndarray  # (n, n) float64
    slope: np.ndarray  # (n,) float64, uphill
    step: np.ndarray  # (n,) float64
    trial: np.ndarray  # (n,) float64


@inner()
def make_descent(n):
    """Work space for ``n`` unknowns."""
    return Descent(np.empty((n, n)), np.empty((n, n)), np.empty(n), np.empty(n), np.empty(n))


@inner(error_model="numpy")
def damped_step(descent, damping):
    """Promised gain of ``step`` = (matrix + damping diag)⁻¹ slope, which is filled; negative where it is singular."""
    matrix, factor, slope, step, _ = descent
    n = slope.size
    for j in range(n):
        for k in range(j + 1):
            total = matrix[j, k]
            if j == k:
                total += damping * matrix[j, j]
            for m in range(k):
                total -= factor[j, m] * factor[k, m]
            if j > k:
                factor[j, k] = total / factor[k, k]
            elif total > 1e-14 * matrix[j, j]:
                factor[j, j] = math.sqrt(total)
            else:
                return -1.0
    for j in range(n):
        total = slope[j]
        for m in range(j):
            total -= factor[j, m] * step[m]
        step[j] = total / factor[j, j]
    for j in range(n - 1, -1, -1):
        total = step[j]
        for m in range(j + 1, n):
            total -= factor[m, j] * step[m]
        step[j] = total / factor[j, j]
    gain = 0.0
    for j in range(n):
        gain += slope[j] * step[j]
    return 0.5 * gain


class Attenuated(NamedTuple):
    """What all voxels share of a tensor under Rician noise."""

    basis: np.ndarray  # (n_meas, n) float64, orthonormal columns that span the tensor's design
    at_b0: np.ndarray  # (n,) float64, log S0 in coordinates of the basis
    reach: np.ndarray  # (n_meas,) float64, b d of the highest diffusivity that is possible


@kernel(error_model="numpy")
def fit_rician(magnitudes, sigma, shared, points, is_solved):
    """Maximise the Rician likelihood of every row (n_vox, n_meas), log signals ``basis @ points[v]``.

    ``sigma`` (n_vox,) above 0, in the unit of the magnitudes; ``points`` (n_vox, n) are the start and the result.
    """
    n_meas, n = shared.basis.shape
    descent = make_descent(n)
    signals, score, information, factors = np.empty(n_meas), np.empty(n_meas), np.empty(n_meas), np.empty(n_meas)
    for v in range(magnitudes.shape[0]):
        point, variance, damping = points[v], sigma[v] * sigma[v], 1e-3
        loss = _write_signals(shared.basis, point, signals) + _excess(shared, point)
        loss += negative_log_likelihood(magnitudes[v], signals, variance, factors)
        needs_slope = True
        for _ in range(MAX_STEPS):
            if needs_slope:
                write_score(magnitudes[v], signals, variance, score, information)
                _rician_equations(shared, point, signals, (score, information), descent)
                needs_slope = False
            gain = damped_step(descent, damping)
            if 0.0 <= gain < CONVERGED:
                is_solved[v] = 1
                break
            trial_loss = np.inf
            if gain > 0.0:
                for j in range(n):
                    descent.trial[j] = point[j] + descent.step[j]
                trial_loss = _write_signals(shared.basis, descent.trial, signals) + _excess(shared, descent.trial)
                trial_loss += negative_log_likelihood(magnitudes[v], signals, variance, factors)
            if trial_loss <= loss:
                for j in range(n):
                    point[j] = descent.trial[j]
                loss, damping, needs_slope = trial_loss, max(0.1 * damping, 1e-9), True
            else:
                damping = max(10.0 * damping, 1e-6)
                _write_signals(shared.basis, point, signals)
                if damping > 1e12:
                    is_solved[v] = 1  # at an optimum to rounding: no step goes further
                    break


@inner(error_model="numpy")
def _excess(shared, point):
    """Cost of attenuations below 0 or beyond the reach: ½ STIFFNESS times the sum of their squares."""
    basis, at_b0, reach = shared
    total = 0.0
    for i in range(reach.size):
        attenuation = 0.0
        for j in range(point.size):
            attenuation += (at_b0[j] - basis[i, j]) * point[j]
        over = attenuation - reach[i] if attenuation > reach[i] else min(attenuation, 0.0)
        total += over * over
    return 0.5 * STIFFNESS * total


@inner(error_model="numpy")
def _write_signals(basis, point, signals):
    """``signals`` = exp(basis point), within what a float holds; 0."""
    for i in range(signals.size):
        total = 0.0
        for j in range(point.size):
            total += basis[i, j] * point[j]
        signals[i] = math.exp(min(max(total, -300.0), 300.0))
    return 0.0


@inner(error_model="numpy")
def _rician_equations(shared, point, signals, derivatives, descent):
    """``slope`` and ``matrix`` of the log-likelihood less the excess: Jᵀ score, Jᵀ I J with J = s u of every volume."""
    basis, at_b0, reach = shared
    score, information = derivatives
    n = basis.shape[1]
    row = descent.trial  # free until the next step
    descent.slope[:] = 0.0
    descent.matrix[:] = 0.0
    for i in range(signals.size):
        first, second = score[i] * signals[i], information[i] * signals[i] * signals[i]
        attenuation = 0.0
        for j in range(n):
            row[j] = at_b0[j] - basis[i, j]
            attenuation += row[j] * point[j]
            descent.slope[j] += first * basis[i, j]
            for k in range(j + 1):
                descent.matrix[j, k] += second * basis[i, j] * basis[i, k]
        over = attenuation - reach[i] if attenuation > reach[i] else min(attenuation, 0.0)
        if over != 0.0:
            for j in range(n):
                descent.slope[j] -= STIFFNESS * over * row[j]
                for k in range(j + 1):
                    descent.matrix[j, k] += STIFFNESS * row[j] * row[k]
    for j in range(n):
        descent.matrix[j, j] += 1e-300


class Compartments(NamedTuple):
    """What all voxels share of tissue beside free water."""

    basis: np.ndarray  # (n_meas, 7) float64, orthonormal columns that span the tensor's design
    at_b0: np.ndarray  # (7,) float64, log S0 in coordinates of the basis
    decay: np.ndarray  # (n_meas,) float64, exp(-b d) of the water


@kernel(error_model="numpy")
def fit_beside_water(signals, shared, points, shares, is_solved):
    """Least squares of rows (n_vox, n_meas) by tissue exp(basis point) and a share of water; start and result in place.

    ``points`` (n_vox, 7), ``shares`` (n_vox,) within 0 and 1; the unknown is the angle a, share = (1 - cos a) / 2.
    """
    n_meas, n = shared.basis.shape
    descent = make_descent(n + 1)
    unknowns, tissue, rest = np.empty(n + 1), np.empty(n_meas), np.empty(n_meas)
    for v in range(signals.shape[0]):
        unknowns[:n] = points[v]
        unknowns[n] = math.acos(1.0 - 2.0 * shares[v])
        loss, damping = _write_rest(signals[v], shared, unknowns, tissue, rest), 1e-3
        needs_slope = True
        for _ in range(MAX_STEPS):
            if needs_slope:
                _water_equations(shared, unknowns, tissue, rest, descent)
                needs_slope = False
            gain = damped_step(descent, damping)
            if 0.0 <= gain <= CONVERGED * loss or loss == 0.0:
                is_solved[v] = 1
                break
            trial_loss = np.inf
            if gain > 0.0:
                for j in range(n + 1):
                    descent.trial[j] = unknowns[j] + descent.step[j]
                trial_loss = _write_rest(signals[v], shared, descent.trial, tissue, rest)
            if trial_loss <= loss:
                for j in range(n + 1):
                    unknowns[j] = descent.trial[j]
                loss, damping, needs_slope = trial_loss, max(0.1 * damping, 1e-9), True
            else:
                damping = max(10.0 * damping, 1e-6)
                if damping > 1e12:
                    is_solved[v] = 1  # at a minimum to rounding: no step goes lower
                    break
        points[v] = unknowns[:n]
        shares[v] = 0.5 * (1.0 - math.cos(unknowns[n]))


@inner(error_model="numpy")
def _write_rest(signal, shared, unknowns, tissue, rest):
    """Half the sum of squares of ``rest`` = signal - model; ``tissue`` is that compartment's signal, if it were all."""
    n = unknowns.size - 1
    _write_signals(shared.basis, unknowns[:n], tissue)
    level, share = 0.0, 0.5 * (1.0 - math.cos(unknowns[n]))
    for j in range(n):
        level += shared.at_b0[j] * unknowns[j]
    s0, total = math.exp(min(max(level, -300.0), 300.0)), 0.0
    for i in range(signal.size):
        rest[i] = signal[i] - (1.0 - share) * tissue[i] - share * s0 * shared.decay[i]
        total += rest[i] * rest[i]
    return 0.5 * total if total < np.inf else np.inf


@inner(error_model="numpy")
def _water_equations(shared, unknowns, tissue, rest, descent):
    """``slope`` = Jᵀ rest and ``matrix`` = JᵀJ of the model's signals."""
    basis, at_b0, decay = shared
    n = unknowns.size - 1
    share, turn = 0.5 * (1.0 - math.cos(unknowns[n])), 0.5 * math.sin(unknowns[n])
    level = 0.0
    for j in range(n):
        level += at_b0[j] * unknowns[j]
    s0 = math.exp(min(max(level, -300.0), 300.0))
    row = descent.trial  # free until the next step
    descent.slope[:] = 0.0
    descent.matrix[:] = 0.0
    for i in range(tissue.size):
        for j in range(n):
            row[j] = (1.0 - share) * tissue[i] * basis[i, j] + share * s0 * decay[i] * at_b0[j]
        row[n] = (s0 * decay[i] - tissue[i]) * turn
        for j in range(n + 1):
            descent.slope[j] += row[j] * rest[i]
            for k in range(j + 1):
                descent.matrix[j, k] += row[j] * row[k]
    for j in range(n + 1):
        descent.matrix[j, j] += 1e-300
