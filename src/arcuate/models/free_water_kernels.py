"""Kernels of the free-water fit: the tensor of what a share of water leaves, for the share that fits best.

Lanes as in :mod:`arcuate.models.log_linear_kernels`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from arcuate.models.log_linear_kernels import load_logs, make_scratch, predict, step, write
from arcuate.models.status import Status
from arcuate.numerics.compiled import inner, kernel
from arcuate.numerics.eigen import LANES
from arcuate.numerics.elementary import exp_in_place, log_in_place

LEAST_TISSUE = 1e-6  # what is left of a signal smaller than that of the water in it, over the scale of the voxel

_FLOORED = int(Status.FLOORED)


class Water(NamedTuple):
    """The second compartment, and how its share is looked for."""

    decay: np.ndarray  # (n_rows,) float64, exp(-b d) of the water; 0 in rows that fill the tables
    b0_mean: np.ndarray  # (n_rows,) float64, weights that average the b = 0 volumes
    max_md: float  # mm²/s; a voxel whose plain tensor has more is all water
    n_rounds: int  # of the search, each ten times as fine as the one before


class Shares(NamedTuple):
    """Work space of the search, one number per lane or per volume and lane."""

    signal: np.ndarray  # (n_rows LANES,) over the scale
    weights: np.ndarray  # (n_rows LANES,) squares of the signal
    tissue: np.ndarray  # (n_rows LANES,) log of what the water leaves
    point: np.ndarray  # (7 LANES,) coordinates of the best tensor so far
    s0: np.ndarray  # (LANES,) mean b = 0 signal
    share: np.ndarray  # (LANES,) best so far
    error: np.ndarray  # (LANES,) sum of squares there
    trial: np.ndarray  # (LANES,) share that is tried


@kernel()
def fit_free_water(signals, tables, water, limits, results, shares):
    """Fit every row of ``signals`` (n_vox, n_meas) float64; ``results`` and ``shares`` (n_vox,) are filled."""
    scratch = make_scratch(tables)
    size, n = scratch.logs.size, tables.has_column.size
    work = Shares(
        np.empty(size), np.empty(size), np.empty(size), np.empty(n * LANES), np.empty(LANES), np.empty(LANES),
        np.empty(LANES), np.empty(LANES),
    )  # fmt: skip
    n_vox, n_meas = signals.shape
    for group in range((n_vox + LANES - 1) // LANES):
        first = group * LANES
        load_logs(signals, first, limits.signal, scratch)
        _prepare(scratch, water, n_meas, work)
        _fit_tissue(tables, scratch, work, scratch.logs)
        md = _mean_diffusivity(tables, scratch)
        _search(tables, scratch, water, n_meas, work)
        for t in range(n * LANES):
            scratch.point[t] = work.point[t]
        write(tables, limits.diffusivity, first, scratch, results)
        for lane in range(min(LANES, n_vox - first)):
            if scratch.status[lane] <= _FLOORED:
                shares[first + lane] = work.share[lane]
                if md[lane] >= water.max_md:
                    _set_water(results, first + lane)
                    shares[first + lane] = 1.0


@inner()
def _set_water(results, v):
    """No tissue, hence no tensor."""
    results.coefs[v, :6] = 0.0
    results.evals[v] = 0.0
    results.evecs[v] = 0.0


@inner(error_model="numpy")
def _prepare(scratch, water, n_meas, work):
    """Signals, their squares, and the mean of those at b = 0."""
    for i in range(work.signal.size):
        work.signal[i] = scratch.logs[i]
    exp_in_place(work.signal, scratch.powers)
    for i in range(work.signal.size):
        work.weights[i] = work.signal[i] * work.signal[i]
    work.s0[:] = 0.0
    for i in range(n_meas):
        for lane in range(LANES):
            work.s0[lane] += water.b0_mean[i] * work.signal[i * LANES + lane]


@inner(error_model="numpy", fastmath={"contract"})
def _fit_tissue(tables, scratch, work, logs):
    """``scratch.point`` of the weighted fit to ``logs``, weights the squares of the signals."""
    scratch.point[:] = 0.0
    for i in range(logs.size):
        scratch.weights[i] = work.weights[i]
        scratch.weighted[i] = work.weights[i] * logs[i]
    step(tables, scratch)


@inner(error_model="numpy")
def _mean_diffusivity(tables, scratch):
    """(LANES,) mm²/s, a third of the trace."""
    md = np.zeros(LANES)
    for m in range(tables.has_column.size):
        third = (tables.to_coefs[0, m] + tables.to_coefs[3, m] + tables.to_coefs[5, m]) / 3.0
        for lane in range(LANES):
            md[lane] += third * scratch.point[m * LANES + lane]
    return md


@inner(error_model="numpy")
def _search(tables, scratch, water, n_meas, work):
    """Best of the shares 0.1 ... 0.9, then of those around it in steps of 0.01, then 0.001, and so on."""
    low, high, centre = np.zeros(LANES), np.ones(LANES), np.empty(LANES)
    fineness, n_shares = 1.0, 9
    for _ in range(water.n_rounds):
        fineness *= 0.1
        work.error[:] = np.inf
        for k in range(n_shares):
            for lane in range(LANES):
                begin, end = low[lane] + fineness, high[lane] - fineness
                work.trial[lane] = begin + k * (end - begin) / (n_shares - 1)
            _try(tables, scratch, water, n_meas, work)
        for lane in range(LANES):
            centre[lane] = work.share[lane]
            low[lane], high[lane] = centre[lane] - fineness, centre[lane] + fineness
        n_shares = 19


@inner(error_model="numpy", fastmath={"contract"})
def _try(tables, scratch, water, n_meas, work):
    """Fit the tensor of what the trial share of water leaves; keep it where the sum of squares is the least so far."""
    n, tissue = tables.has_column.size, work.tissue
    for i in range(tissue.size // LANES):
        for lane in range(LANES):
            left = work.signal[i * LANES + lane] - work.trial[lane] * work.s0[lane] * water.decay[i]
            tissue[i * LANES + lane] = (left if left > 0.0 else LEAST_TISSUE) / (1.0 - work.trial[lane])
    log_in_place(tissue, scratch.powers)
    _fit_tissue(tables, scratch, work, tissue)
    predict(tables, scratch)
    fitted = scratch.weighted
    exp_in_place(fitted, scratch.powers)
    error = np.zeros(LANES)
    for i in range(n_meas):
        for lane in range(LANES):
            share = work.trial[lane]
            gap = (
                work.signal[i * LANES + lane]
                - (1.0 - share) * fitted[i * LANES + lane]
                - share * work.s0[lane] * water.decay[i]
            )
            error[lane] += gap * gap
    for lane in range(LANES):
        is_better = error[lane] < work.error[lane]
        work.share[lane] = work.trial[lane] if is_better else work.share[lane]
        for j in range(n):
            at = j * LANES + lane
            work.point[at] = scratch.point[at] if is_better else work.point[at]
        work.error[lane] = error[lane] if is_better else work.error[lane]
