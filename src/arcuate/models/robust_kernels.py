"""Kernels of the robust tensor: volumes that do not fit lose weight, are marked, and are left out of the last fit.

Lanes as in :mod:`arcuate.models.log_linear_kernels`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from arcuate.models.log_linear_kernels import (
    SINGULAR,
    Scratch,
    load_logs,
    make_scratch,
    predict,
    project,
    step,
    weigh,
    write,
)
from arcuate.models.status import Status
from arcuate.numerics.compiled import inner, kernel
from arcuate.numerics.eigen import LANES
from arcuate.numerics.elementary import exp_in_place
from arcuate.numerics.filters import middle_of

MOST_LEVERAGE = 0.999  # of a volume without which the others do not determine the tensor: it has no residual
LEAST_SPREAD = 1e-4  # of the voxel's largest signal: residuals below are taken as rounding, not as noise
_NOT_CONVERGED = int(Status.NOT_CONVERGED)
_NORMAL = 1.4826  # standard deviation of a normal distribution over the median of its absolute values


class Rule(NamedTuple):
    """How outliers are found."""

    n_rounds: int  # of Geman-McClure weights
    n_looks: int  # at every volume, given the fit to those kept
    first_cutoff: float  # of the residuals of the Geman-McClure fit, in units of their spread
    cutoffs: np.ndarray  # (n_meas + n_prior + 1,) float64, of studentised residuals, by their degrees of freedom
    n_prior: int  # degrees of freedom that noise counts for where it is known
    n_reweight: int  # rounds of WLS on what is left
    n_least: int  # volumes; where fewer are not known to be lost, none of them is judged
    n_unknowns: int  # of the design in which outliers are looked for


class Judgement(NamedTuple):
    """Work space of one look."""

    fitted: np.ndarray  # (n_rows LANES,) signals
    there: np.ndarray  # (n_rows LANES,) 0 where a volume is known to be lost, else 1
    kept: np.ndarray  # (n_rows LANES,) 1 where a volume takes part, else 0
    leverage: np.ndarray  # (n_rows LANES,) weight of a volume in its own fit; for those left out, if it took part
    factor: np.ndarray  # (n(n+1)/2 LANES,) Cholesky factor of the normal equations, its diagonal inverted
    inverse: np.ndarray  # (n(n+1)/2 LANES,) its inverse
    spread: np.ndarray  # (LANES,) of the residuals
    known: np.ndarray  # (LANES,) noise over the scale of the voxel, 0 where it is not known


@kernel()
def fit_robustly(signals, noise, search, tables, rule, limits, results, outliers):
    """Fit every row of ``signals`` (n_vox, n_meas) float64; ``results`` and ``outliers`` (n_vox, n_meas) are filled.

    What ``outliers`` has marked before is known to be lost, and has no part in anything. ``noise`` (n_vox,) is the
    standard deviation of the noise, unit of the signal; 0 where nothing is known. Outliers are looked for in the
    design of ``search``, the fit is to that of ``tables``; both have 8 columns at most.
    """
    scratch, last = make_scratch(search), make_scratch(tables)
    last = Scratch(
        scratch.logs, last.weights, last.weighted, last.powers, last.point, last.normal, last.matrix, last.solution,
        scratch.scale, scratch.status,
    )  # fmt: skip
    n_vox, n_meas = signals.shape
    size, n = scratch.logs.size, search.has_column.size
    lines = n * (n + 1) // 2 * LANES
    work = Judgement(
        np.empty(size), np.ones(size), np.empty(size), np.empty(size), np.empty(lines), np.empty(lines),
        np.empty(LANES), np.empty(LANES),
    )  # fmt: skip
    loaded = np.empty(LANES, np.uint8)
    for group in range((n_vox + LANES - 1) // LANES):
        first = group * LANES
        load_logs(signals, first, limits.signal, scratch)
        for lane in range(LANES):
            loaded[lane] = scratch.status[lane]
            known = noise[min(first + lane, n_vox - 1)] / scratch.scale[lane]
            work.known[lane] = known if known > 0.0 else 0.0
        for i in range(n_meas):
            for lane in range(LANES):
                work.there[i * LANES + lane] = 1.0 - outliers[min(first + lane, n_vox - 1), i]
        _fit_kept(search, scratch, work.there, 0)
        predict(search, scratch)
        _weigh_by_signal(scratch, work.there)
        step(search, scratch)
        for _ in range(rule.n_rounds):
            _residuals(search, scratch, work.fitted)
            _find_spread(scratch, n_meas, rule.n_unknowns, work)
            _weigh_down(scratch, work)
            step(search, scratch)
        _residuals(search, scratch, work.fitted)
        _find_spread(scratch, n_meas, rule.n_unknowns, work)
        _mark(scratch, work, n_meas, rule)
        for _ in range(rule.n_looks):
            _fit_kept(search, scratch, work.kept, 1)
            _residuals(search, scratch, work.fitted)
            _invert_factor(scratch.normal, n, work)
            _find_leverages(search, work)
            _judge(scratch, n_meas, rule, work)
        for lane in range(LANES):
            scratch.status[lane] = loaded[lane]  # sets of volumes that were only looked at say nothing of the last one
        _fit_kept(tables, last, work.kept, rule.n_reweight)
        if _take_back(work, scratch.status):
            _fit_kept(tables, last, work.kept, rule.n_reweight)
        write(tables, limits.diffusivity, first, last, results)
        for lane in range(min(LANES, n_vox - first)):
            for i in range(n_meas):
                outliers[first + lane, i] = 0 if work.kept[i * LANES + lane] > 0.0 else 1


@inner()
def _take_back(work, status):
    """Where the kept volumes do not determine a tensor, all that are there are kept; whether that was anywhere."""
    is_anywhere = False
    for lane in range(LANES):
        if status[lane] == _NOT_CONVERGED:
            is_anywhere = True
            for i in range(work.kept.size // LANES):
                work.kept[i * LANES + lane] = work.there[i * LANES + lane]
    return is_anywhere


@inner(error_model="numpy", fastmath={"contract"})
def _weigh_by_signal(scratch, there):
    """Weights from the signal or its OLS fit, whichever is less: neither what dropped out nor a spike has much."""
    logs, weights, weighted = scratch.logs, scratch.weights, scratch.weighted
    for i in range(weights.size):
        weights[i] = 2.0 * min(logs[i], weighted[i])
    exp_in_place(weights, scratch.powers)
    for i in range(weights.size):
        weights[i] *= there[i]
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
    for lane in range(LANES):
        count = 0
        for i in range(n_meas):
            if work.there[i * LANES + lane] > 0.0:
                sizes[count] = abs(scratch.weighted[i * LANES + lane])
                count += 1
        factor = _NORMAL * np.sqrt(count / max(count - n_coef, 1))
        middle = middle_of(sizes, count) if count > 0 else 0.0
        work.spread[lane] = max(factor * middle, work.known[lane], LEAST_SPREAD)


@inner(error_model="numpy", fastmath={"contract"})
def _weigh_down(scratch, work):
    """Weights ŝ² (C² / (C² + z²))², and ``weighted`` residuals of the logs."""
    weights, weighted, fitted, spread = scratch.weights, scratch.weighted, work.fitted, work.spread
    for i in range(weights.size // LANES):
        for lane in range(LANES):
            at = i * LANES + lane
            square = spread[lane] * spread[lane]
            share = square / (square + weighted[at] * weighted[at]) * work.there[at]
            weights[at] = fitted[at] * fitted[at] * share * share
            weighted[at] = fitted[at] * weighted[at] * share * share


@inner(error_model="numpy")
def _mark(scratch, work, n_meas, rule):
    """``kept`` becomes 1 where the residual is within the cutoff times the spread, else 0."""
    _measure(scratch, work.fitted)
    for lane in range(LANES):
        count = 0
        for i in range(n_meas):
            count += 1 if work.there[i * LANES + lane] > 0.0 else 0
        limit = rule.first_cutoff * work.spread[lane] if count >= rule.n_least else np.inf
        for i in range(work.kept.size // LANES):
            at = i * LANES + lane
            work.kept[at] = work.there[at] if abs(scratch.weights[at]) <= limit else 0.0


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
def _judge(scratch, n_meas, rule, work):
    """``kept`` becomes 1 where the studentised residual is within the cutoff for its degrees of freedom, else 0.

    The variance is that of the residuals of the kept volumes, without the one that is judged, together with the noise
    where that is known, and not below it. A residual within the fit is smaller than its error by the leverage, one
    outside it larger.
    """
    n_coef = rule.n_unknowns
    _measure(scratch, work.fitted)
    for lane in range(LANES):
        total, count, n_there = 0.0, 0, 0
        for i in range(n_meas):
            at = i * LANES + lane
            n_there += 1 if work.there[at] > 0.0 else 0
            if work.kept[at] > 0.0:
                total += scratch.weighted[at] * scratch.weighted[at]
                count += 1
        if n_there < rule.n_least:
            continue  # all of them stay
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
            if work.there[at] == 0.0:
                work.kept[at] = -2.0
            elif freedom < 1:
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
