"""Kernels of the robust tensor: volumes that do not fit lose weight, are marked, and are left out of the last fit.

Lanes as in :mod:`arcuate.models.log_linear_kernels`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from arcuate.models.log_linear_kernels import load_logs, make_scratch, predict, project, step, weigh, write
from arcuate.numerics.compiled import inner, kernel
from arcuate.numerics.eigen import LANES
from arcuate.numerics.elementary import exp_in_place
from arcuate.numerics.filters import middle_of

LEAST_SPREAD = 1e-4  # of the voxel's largest signal: residuals below are taken as rounding, not as noise
_NORMAL = 1.4826  # standard deviation of a normal distribution over the median of its absolute values


class Rule(NamedTuple):
    """How outliers are found."""

    n_rounds: int  # of Geman-McClure weights
    n_looks: int  # at the volumes left out, given the fit to the others
    cutoff: float  # residuals beyond it, in units of their spread, are outliers
    n_reweight: int  # rounds of WLS on what is left


@kernel()
def fit_robustly(signals, noise, tables, rule, limits, results, outliers):
    """Fit every row of ``signals`` (n_vox, n_meas) float64; ``results`` and ``outliers`` (n_vox, n_meas) are filled.

    ``noise`` (n_vox,) is the least spread of residuals that is believed, unit of the signal; 0 where nothing is known.
    """
    scratch = make_scratch(tables)
    n_vox, n_meas = signals.shape
    fitted, kept, spread = np.empty(scratch.logs.size), np.empty(scratch.logs.size), np.empty(LANES)
    for group in range((n_vox + LANES - 1) // LANES):
        first = group * LANES
        load_logs(signals, first, limits.signal, scratch)
        project(tables, scratch)
        predict(tables, scratch)
        _weigh_by_signal(scratch)
        step(tables, scratch)
        for _ in range(rule.n_rounds):
            _residuals(tables, scratch, fitted)
            _find_spread(scratch, noise, first, n_meas, len(tables.columns), spread)
            _weigh_down(scratch, fitted, spread)
            step(tables, scratch)
        _residuals(tables, scratch, fitted)
        _find_spread(scratch, noise, first, n_meas, len(tables.columns), spread)
        kept[:] = 1.0
        _mark(scratch, fitted, spread, rule.cutoff, kept, 1.0, 1.0)
        share = (
            len(tables.columns) / n_meas
        )  # mean leverage: what it takes from residuals within, adds to those without
        for _ in range(rule.n_looks):
            _fit_kept(tables, scratch, kept, 1)
            _residuals(tables, scratch, fitted)
            _spread_of_kept(scratch, kept, noise, first, n_meas, len(tables.columns), spread)
            _mark(scratch, fitted, spread, rule.cutoff, kept, np.sqrt(1.0 - share), np.sqrt(1.0 + share))
        _fit_kept(tables, scratch, kept, rule.n_reweight)
        write(tables, limits.diffusivity, first, scratch, results)
        for lane in range(min(LANES, n_vox - first)):
            for i in range(n_meas):
                outliers[first + lane, i] = 0 if kept[i * LANES + lane] > 0.0 else 1


@inner(error_model="numpy", fastmath={"contract"})
def _weigh_by_signal(scratch):
    """Weights from the signal or its OLS fit, whichever is less: neither what dropped out nor a spike has much."""
    logs, weights, weighted = scratch.logs, scratch.weights, scratch.weighted
    for i in range(weights.size):
        weights[i] = 2.0 * min(logs[i], weighted[i])
    exp_in_place(weights, scratch.powers)
    for i in range(weights.size):
        weighted[i] = weights[i] * (logs[i] - weighted[i])


@inner(error_model="numpy", fastmath={"contract"})
def _residuals(tables, scratch, fitted):
    """``fitted`` signals, and ``weighted`` = residuals of the logs times them: residuals in the unit of the signal."""
    predict(tables, scratch)
    logs, weighted = scratch.logs, scratch.weighted
    for i in range(fitted.size):
        fitted[i] = weighted[i]
    exp_in_place(fitted, scratch.powers)
    for i in range(fitted.size):
        weighted[i] = fitted[i] * (logs[i] - weighted[i])


@inner(error_model="numpy")
def _find_spread(scratch, noise, first, n_meas, n_coef, spread):
    """Standard deviation of the residuals of each lane from the median of their sizes, not below the noise."""
    sizes = np.empty(n_meas)
    factor = _NORMAL * np.sqrt(n_meas / max(n_meas - n_coef, 1))
    for lane in range(LANES):
        for i in range(n_meas):
            sizes[i] = abs(scratch.weighted[i * LANES + lane])
        known = noise[min(first + lane, noise.size - 1)] / scratch.scale[lane]
        spread[lane] = max(factor * middle_of(sizes, sizes.size), known, LEAST_SPREAD)


@inner(error_model="numpy")
def _spread_of_kept(scratch, kept, noise, first, n_meas, n_coef, spread):
    """Standard deviation of the residuals of what is kept, not below the noise; as it was where too little is kept."""
    for lane in range(LANES):
        total, count = 0.0, 0.0
        for i in range(n_meas):
            at = i * LANES + lane
            total += kept[at] * scratch.weighted[at] * scratch.weighted[at]
            count += kept[at]
        if count > n_coef:
            known = noise[min(first + lane, noise.size - 1)] / scratch.scale[lane]
            spread[lane] = max(np.sqrt(total / (count - n_coef)), known, LEAST_SPREAD)


@inner(error_model="numpy", fastmath={"contract"})
def _weigh_down(scratch, fitted, spread):
    """Weights ŝ² (C² / (C² + z²))², and ``weighted`` residuals of the logs."""
    weights, weighted = scratch.weights, scratch.weighted
    for i in range(weights.size // LANES):
        for lane in range(LANES):
            at = i * LANES + lane
            square = spread[lane] * spread[lane]
            share = square / (square + weighted[at] * weighted[at])
            weights[at] = fitted[at] * fitted[at] * share * share
            weighted[at] = fitted[at] * weighted[at] * share * share


@inner(error_model="numpy")
def _mark(scratch, fitted, spread, cutoff, kept, inside, outside):
    """``kept`` becomes 1 where the signal lies within the cutoff, else 0.

    The cutoff is multiplied by ``inside`` for those that were kept before, by ``outside`` for the others. A signal too
    high is judged by its own residual, one too low by that of its logarithm, which is the larger one.
    """
    logs, weighted, high = scratch.logs, scratch.weighted, scratch.weights
    for i in range(high.size):
        high[i] = logs[i]
    exp_in_place(high, scratch.powers)
    for i in range(kept.size // LANES):
        for lane in range(LANES):
            at = i * LANES + lane
            limit = cutoff * spread[lane] * (inside if kept[at] > 0.0 else outside)
            kept[at] = 0.0 if high[at] - fitted[at] > limit or weighted[at] < -limit else 1.0


@inner(error_model="numpy", fastmath={"contract"})
def _fit_kept(tables, scratch, kept, n_reweight):
    """OLS, then WLS, on the volumes that are kept."""
    logs, weights, weighted = scratch.logs, scratch.weights, scratch.weighted
    project(tables, scratch)
    predict(tables, scratch)
    for i in range(weights.size):
        weights[i] = kept[i]
        weighted[i] = kept[i] * (logs[i] - weighted[i])
    step(tables, scratch)
    for _ in range(n_reweight):
        predict(tables, scratch)
        weigh(scratch)
        for i in range(weights.size):
            weights[i] *= kept[i]
            weighted[i] *= kept[i]
        step(tables, scratch)
