"""Kernels of the robust tensor: volumes that do not fit lose weight, are marked, and are left out of the last fit.

Lanes as in :mod:`arcuate.models.log_linear_kernels`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from arcuate.models.log_linear_kernels import (
    SINGULAR,
    load_logs,
    make_scratch,
    predict,
    project,
    step,
    weigh,
    write,
)
from arcuate.numerics.compiled import inner, kernel
from arcuate.numerics.eigen import LANES
from arcuate.numerics.elementary import exp_in_place
from arcuate.numerics.filters import middle_of

MOST_LEVERAGE = 0.999  # of a volume without which the others do not determine the tensor: it has no residual
LEAST_SPREAD = 1e-4  # of the voxel's largest signal: residuals below are taken as rounding, not as noise
_NORMAL = 1.4826  # standard deviation of a normal distribution over the median of its absolute values


class Rule(NamedTuple):
    """How outliers are found."""

    n_rounds: int  # of Geman-McClure weights
    n_looks: int  # at every volume, given the fit to those kept
    first_cutoff: float  # of the residuals of the Geman-McClure fit, in units of their spread
    cutoffs: np.ndarray  # (n_meas + n_prior + 1,) float64, of studentised residuals, by their degrees of freedom
    n_prior: int  # degrees of freedom that noise counts for where it is known
    n_reweight: int  # rounds of WLS on what is left


class Judgement(NamedTuple):
    """Work space of one look."""

    fitted: np.ndarray  # (n_rows LANES,) signals
    kept: np.ndarray  # (n_rows LANES,) 1 where a volume takes part, else 0
    leverage: np.ndarray  # (n_rows LANES,) weight of a volume in its own fit; for those left out, if it took part
    factor: np.ndarray  # (n(n+1)/2 LANES,) Cholesky factor of the normal equations, its diagonal inverted
    inverse: np.ndarray  # (n(n+1)/2 LANES,) its inverse
    spread: np.ndarray  # (LANES,) of the residuals
    known: np.ndarray  # (LANES,) noise over the scale of the voxel, 0 where it is not known


@kernel()
def fit_robustly(signals, noise, tables, rule, limits, results, outliers):
    """Fit every row of ``signals`` (n_vox, n_meas) float64; ``results`` and ``outliers`` (n_vox, n_meas) are filled.

    ``noise`` (n_vox,) is the standard deviation of the noise, unit of the signal; 0 where nothing is known. The design
    has 8 columns at most.
    """
    scratch = make_scratch(tables)
    n_vox, n_meas = signals.shape
    size, n = scratch.logs.size, tables.has_column.size
    lines = n * (n + 1) // 2 * LANES
    work = Judgement(
        np.empty(size), np.empty(size), np.empty(size), np.empty(lines), np.empty(lines), np.empty(LANES),
        np.empty(LANES),
    )  # fmt: skip
    loaded = np.empty(LANES, np.uint8)
    for group in range((n_vox + LANES - 1) // LANES):
        first = group * LANES
        load_logs(signals, first, limits.signal, scratch)
        for lane in range(LANES):
            loaded[lane] = scratch.status[lane]
            known = noise[min(first + lane, n_vox - 1)] / scratch.scale[lane]
            work.known[lane] = known if known > 0.0 else 0.0
        project(tables, scratch)
        predict(tables, scratch)
        _weigh_by_signal(scratch)
        step(tables, scratch)
        for _ in range(rule.n_rounds):
            _residuals(tables, scratch, work.fitted)
            _find_spread(scratch, n_meas, n, work)
            _weigh_down(scratch, work.fitted, work.spread)
            step(tables, scratch)
        _residuals(tables, scratch, work.fitted)
        _find_spread(scratch, n_meas, n, work)
        _mark(scratch, work, rule.first_cutoff)
        for _ in range(rule.n_looks):
            _fit_kept(tables, scratch, work.kept, 1)
            _residuals(tables, scratch, work.fitted)
            _invert_factor(scratch.normal, n, work)
            _find_leverages(tables, work)
            _judge(scratch, n_meas, n, rule, work)
        for lane in range(LANES):
            scratch.status[lane] = loaded[lane]  # sets of volumes that were only looked at say nothing of the last one
        _fit_kept(tables, scratch, work.kept, rule.n_reweight)
        write(tables, limits.diffusivity, first, scratch, results)
        for lane in range(min(LANES, n_vox - first)):
            for i in range(n_meas):
                outliers[first + lane, i] = 0 if work.kept[i * LANES + lane] > 0.0 else 1


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
def _find_spread(scratch, n_meas, n_coef, work):
    """Standard deviation of the residuals of each lane from the median of their sizes, not below the noise."""
    sizes = np.empty(n_meas)
    factor = _NORMAL * np.sqrt(n_meas / max(n_meas - n_coef, 1))
    for lane in range(LANES):
        for i in range(n_meas):
            sizes[i] = abs(scratch.weighted[i * LANES + lane])
        work.spread[lane] = max(factor * middle_of(sizes, sizes.size), work.known[lane], LEAST_SPREAD)


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
def _mark(scratch, work, cutoff):
    """``kept`` becomes 1 where the residual is within the cutoff times the spread, else 0."""
    _measure(scratch, work.fitted)
    for i in range(work.kept.size // LANES):
        for lane in range(LANES):
            at = i * LANES + lane
            work.kept[at] = 1.0 if abs(scratch.weights[at]) <= cutoff * work.spread[lane] else 0.0


@inner(error_model="numpy")
def _measure(scratch, fitted):
    """``weights`` = the residual by which a signal is judged, in the unit of the signal.

    A signal too high is judged by its own residual, one too low by that of its logarithm, which is the larger one.
    """
    logs, weighted, sizes = scratch.logs, scratch.weighted, scratch.weights
    for i in range(sizes.size):
        sizes[i] = logs[i]
    exp_in_place(sizes, scratch.powers)
    for i in range(sizes.size):
        over = sizes[i] - fitted[i]
        sizes[i] = over if over > 0.0 else weighted[i]


@inner(error_model="numpy")
def _invert_factor(normal, n, work):
    """``inverse`` = L⁻¹ of normal = L Lᵀ in every lane, both lower triangles row by row."""
    factor, inverse, total = work.factor, work.inverse, np.empty(LANES)
    for j in range(n):
        for k in range(j + 1):
            p = (j * (j + 1) // 2 + k) * LANES
            for lane in range(LANES):
                total[lane] = normal[p + lane]
            for m in range(k):
                a, b = (j * (j + 1) // 2 + m) * LANES, (k * (k + 1) // 2 + m) * LANES
                for lane in range(LANES):
                    total[lane] -= factor[a + lane] * factor[b + lane]
            for lane in range(LANES):
                if k == j:  # a direction that no volume is left for: its pivot is held above zero, its leverage huge
                    least = SINGULAR * normal[p + lane] + 1e-300
                    factor[p + lane] = 1.0 / np.sqrt(max(total[lane], least))
                else:
                    factor[p + lane] = total[lane] * factor[(k * (k + 1) // 2 + k) * LANES + lane]
    for j in range(n):
        for i in range(j, n):
            p = (i * (i + 1) // 2 + j) * LANES
            diagonal = (i * (i + 1) // 2 + i) * LANES
            for lane in range(LANES):
                total[lane] = 1.0 if i == j else 0.0
            for m in range(j, i):
                a, b = (i * (i + 1) // 2 + m) * LANES, (m * (m + 1) // 2 + j) * LANES
                for lane in range(LANES):
                    total[lane] -= factor[a + lane] * inverse[b + lane]
            for lane in range(LANES):
                inverse[p + lane] = total[lane] * factor[diagonal + lane]


@inner(error_model="numpy", fastmath={"contract"})
def _find_leverages(tables, work):
    """``leverage`` = ŝ² uᵀ (basisᵀ W basis)⁻¹ u of every volume, u its row of the basis."""
    n, inverse, leverage = tables.has_column.size, work.inverse, work.leverage
    along = np.empty(LANES)
    for i in range(leverage.size // LANES):
        at = i * LANES
        for lane in range(LANES):
            leverage[at + lane] = 0.0
        for j in range(n):
            for lane in range(LANES):
                along[lane] = 0.0
            for k in range(j + 1):
                p, u = (j * (j + 1) // 2 + k) * LANES, tables.basis[i, k]
                for lane in range(LANES):
                    along[lane] += inverse[p + lane] * u
            for lane in range(LANES):
                leverage[at + lane] += along[lane] * along[lane]
        for lane in range(LANES):
            leverage[at + lane] *= work.fitted[at + lane] * work.fitted[at + lane]


@inner(error_model="numpy")
def _judge(scratch, n_meas, n_coef, rule, work):
    """``kept`` becomes 1 where the studentised residual is within the cutoff for its degrees of freedom, else 0.

    The variance is that of the residuals of the kept volumes, without the one that is judged, together with the noise
    where that is known, and not below it. A residual within the fit is smaller than its error by the leverage, one
    outside it larger.
    """
    _measure(scratch, work.fitted)
    for lane in range(LANES):
        total, count = 0.0, 0
        for i in range(n_meas):
            at = i * LANES + lane
            if work.kept[at] > 0.0:
                total += scratch.weighted[at] * scratch.weighted[at]
                count += 1
        n_prior = rule.n_prior if work.known[lane] > 0.0 else 0
        noise = work.known[lane] * work.known[lane]
        least = max(noise, LEAST_SPREAD * LEAST_SPREAD)
        for i in range(n_meas):
            at = i * LANES + lane
            size, leverage = scratch.weights[at], work.leverage[at]
            if work.kept[at] > 0.0:
                rest = 1.0 - min(leverage, MOST_LEVERAGE)
                freedom = count - n_coef - 1 + n_prior
                power = max(total - scratch.weighted[at] * scratch.weighted[at] / rest, 0.0)
            else:
                rest = 1.0 + leverage
                freedom = count - n_coef + n_prior
                power = total
            if freedom < 1:
                work.kept[at] = 2.0  # nothing tells it from the others
            else:
                variance = max((power + n_prior * noise) / freedom, least)
                limit = rule.cutoffs[freedom]
                is_within = size * size <= limit * limit * variance * rest
                work.kept[at] = 2.0 if is_within else -2.0
        for i in range(n_meas):
            work.kept[i * LANES + lane] = 1.0 if work.kept[i * LANES + lane] > 0.0 else 0.0


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
