"""Diffusion signals of known truth: rows of voxels, tensors, and Rician noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.numerics.compiled import inner, kernel, run_in_chunks
from arcuate.phantom.dispersion import (
    POWER,
    WATSON,
    chebyshev_sum,
    chebyshev_terms,
    disperse_sticks,
    series_at_odi,
)

TRUTHS = ("noddi", "tensors", "single-tensor")
D_PAR, D_ISO = 1.7e-3, 3.0e-3  # mm²/s, along a neurite and in free water, as NODDI fixes them
# The second truth, in mm²/s: faster axons, slow spheres, and extra-axonal tensors whose radial diffusivity is
# gamma-distributed, so that its signal is not exponential.
D_AXON, D_SOMA, D_EXTRA_PAR, D_EXTRA_RADIAL, GAMMA_SHAPE = 2.1e-3, 0.15e-3, 1.4e-3, 0.55e-3, 2.5
_CHUNK = 64  # voxels of one thread at a time
D_SCALP = 0.9e-3  # mm²/s; a tenth of the scalp is fat, which does not diffuse


class _Scheme(NamedTuple):
    """Measurements as a kernel needs them."""

    bvals: np.ndarray  # (n_b,) distinct b-values
    which: np.ndarray  # (n_meas,) int, index in ``bvals``
    directions: np.ndarray  # (n_meas, 3)
    series: np.ndarray  # (n_b, n_t, n_odi) dispersed sticks
    moment: np.ndarray  # (n_odi,)


class Microstructure(NamedTuple):
    """Truth of ``n_vox`` voxels; fractions are of the signal at b = 0."""

    directions: np.ndarray  # (n_vox, n_fibres, 3), scanner frame
    fractions: np.ndarray  # (n_vox, n_fibres), of the neurites' populations, sum 1
    ndi: np.ndarray  # (n_vox,)
    odi: np.ndarray  # (n_vox,)
    fwf: np.ndarray  # (n_vox,)
    soma: np.ndarray  # (n_vox,) share of the tissue in slow spheres; second truth only
    scalp: np.ndarray  # (n_vox,) share of scalp and skull
    s0: np.ndarray  # (n_vox,)


def simulate_rows(
    gradients: GradientTable,
    directions: np.ndarray,
    fractions: np.ndarray | float = 1.0,
    ndi: np.ndarray | float = 0.6,
    odi: np.ndarray | float = 0.1,
    fwf: np.ndarray | float = 0.0,
    s0: np.ndarray | float = 1.0,
    *,
    truth: str = "noddi",
) -> np.ndarray:
    """Noise-free signals (n_vox, n_meas) float64 of voxels with dispersed fibre populations and free water.

    Parameters
    ----------
    directions : (n_vox, 3) or (n_vox, n_fibres, 3) float
        Axes of the populations in the scanner frame; normalised here.
    fractions : (n_vox, n_fibres) float, or one number
        Shares of the populations; they sum to one.
    ndi, odi, fwf, s0 : (n_vox,) float, or one number
    truth : "noddi", "tensors" or "single-tensor"
        What the signals are made of, see Notes.

    Notes
    -----
    "noddi", with f the Watson density of the ODI around each axis (Zhang 2012):
    S/S0 = fwf exp(-b 3e-3) + (1 - fwf) Σ_j w_j [ndi ∫ f exp(-b d (g·n)²) dn + (1 - ndi) exp(-b gᵀ D_j g)],
    d = 1.7e-3 and D_j = ∫ f (d (1 - ndi) I + d ndi n nᵀ) dn.
    "tensors": sticks of 2.1e-3 scattered by |n·μ|^(2m), and extra-axonal tensors whose radial diffusivity is
    gamma-distributed.
    "single-tensor": exp(-b gᵀ D g), D the mean diffusivity tensor of "noddi" as b goes to 0.

    References
    ----------
    Zhang, Schneider, Wheeler-Kingshott, Alexander (2012), NeuroImage 61:1000.
    """
    axes = np.asarray(directions, dtype=np.float64)
    axes = np.ascontiguousarray(axes[:, None, :] if axes.ndim == 2 else axes)
    lengths = np.linalg.norm(axes, axis=-1, keepdims=True)
    axes = axes / np.where(lengths > 0, lengths, 1.0)
    n_vox, n_fibres = axes.shape[:2]

    def column(value: np.ndarray | float) -> np.ndarray:
        return np.ascontiguousarray(np.broadcast_to(np.asarray(value, dtype=np.float64), (n_vox,)))

    shares = np.asarray(fractions, dtype=np.float64)
    shares = shares[:, None] if shares.ndim == 1 else shares
    shares = np.ascontiguousarray(np.broadcast_to(shares, (n_vox, n_fibres)))
    none = np.zeros(n_vox)
    state = Microstructure(axes, shares, column(ndi), column(odi), column(fwf), none, none, column(s0))
    out = np.empty((n_vox, len(gradients)))
    write_signals(gradients, truth, state, out, np.arange(n_vox))
    return out


def tensor_signals(gradients: GradientTable, tensors: np.ndarray, s0: np.ndarray | float = 1.0) -> np.ndarray:
    """Signals (n_vox, n_meas) float64 of tensors (n_vox, 6), mm²/s: xx xy xz yy yz zz in the scanner frame."""
    tensors = np.atleast_2d(np.asarray(tensors, dtype=np.float64))
    x, y, z = gradients.directions.T
    design = gradients.bvals[:, None] * np.column_stack([x * x, 2 * x * y, 2 * x * z, y * y, 2 * y * z, z * z])
    amplitude = np.broadcast_to(np.asarray(s0, dtype=np.float64), (len(tensors),))
    return np.asarray(amplitude[:, None] * np.exp(-(tensors @ design.T)))


def add_rician_noise(signals: np.ndarray, sigma: np.ndarray | float, rng: np.random.Generator) -> np.ndarray:
    """Magnitudes |signal + σ (n₁ + i n₂)| with standard normal n₁ and n₂, (...) float64 as ``signals`` (...)."""
    signals = np.asarray(signals, dtype=np.float64)
    real = signals + sigma * rng.standard_normal(signals.shape)
    return np.hypot(real, sigma * rng.standard_normal(signals.shape))


def write_signals(
    gradients: GradientTable,
    truth: str,
    state: Microstructure,
    out: np.ndarray,
    noise_index: np.ndarray,
    sigma: float = 0.0,
    key: int = 0,
) -> None:
    """Signals of every voxel of ``state`` into ``out`` (n_vox, n_meas); with ``sigma``, Rician.

    The noise of a voxel depends on ``key`` and on its entry in ``noise_index`` (n_vox,) alone.
    """
    if truth not in TRUTHS:
        raise InputError(f"found the truth {truth!r}; expected one of {', '.join(TRUTHS)}.")
    bvals = np.where(np.any(gradients.directions != 0, axis=1), gradients.bvals, 0.0)
    distinct, which = np.unique(bvals, return_inverse=True)
    is_second = truth == "tensors"
    table = disperse_sticks(distinct, D_AXON if is_second else D_PAR, POWER if is_second else WATSON)
    scheme = _Scheme(distinct, which, np.asarray(gradients.directions), table.series, table.moment)
    noise, code = (float(sigma), np.uint64(key)), TRUTHS.index(truth)

    def write(begin: int, end: int) -> None:
        _write_voxels(begin, end, scheme, code, state, out, noise_index, noise)

    run_in_chunks(write, len(out), _CHUNK)


@inner(error_model="numpy")
def _noddi_signal(b, cos2, ndi, spread, stick):
    """Dispersed stick and averaged zeppelin of one population; ``spread`` = ⟨(n·μ)²⟩."""
    along = D_PAR * (1.0 - ndi * (1.0 - spread))
    across = D_PAR * (1.0 - 0.5 * ndi * (1.0 + spread))
    return ndi * stick + (1.0 - ndi) * np.exp(-b * (across + (along - across) * cos2))


@inner(error_model="numpy")
def _second_signal(b, cos2, ndi, soma, spread, stick):
    """The truth off NODDI's form: a gamma distribution of radial diffusivities, and slow spheres."""
    seen = 0.5 * (1.0 - spread) + (1.5 * spread - 0.5) * cos2  # mean squared cosine after dispersion
    radial = (1.0 + b * D_EXTRA_RADIAL / GAMMA_SHAPE * (1.0 - seen)) ** -GAMMA_SHAPE
    extra = np.exp(-b * D_EXTRA_PAR * seen) * radial
    return (1.0 - soma) * (ndi * stick + (1.0 - ndi) * extra) + soma * np.exp(-b * D_SOMA)


@inner(error_model="numpy")
def _mean_exponent(v, g, state, spread):
    """gᵀDg of the mean diffusivity tensor of a voxel as b goes to 0."""
    ndi, total = state.ndi[v], 0.0
    for f in range(state.fractions.shape[1]):
        mu = state.directions[v, f]
        cos2 = (g[0] * mu[0] + g[1] * mu[1] + g[2] * mu[2]) ** 2
        stick = D_PAR * (0.5 * (1.0 - spread) + (1.5 * spread - 0.5) * cos2)
        along = D_PAR * (1.0 - ndi * (1.0 - spread))
        across = D_PAR * (1.0 - 0.5 * ndi * (1.0 + spread))
        total += state.fractions[v, f] * (ndi * stick + (1.0 - ndi) * (across + (along - across) * cos2))
    return state.fwf[v] * D_ISO + (1.0 - state.fwf[v]) * total


@inner(error_model="numpy")
def _voxel_signal(v, scheme, truth, state, sticks, spread, row):
    """One noise-free voxel into ``row``."""
    for i in range(row.size):
        which = scheme.which[i]
        b, g = scheme.bvals[which], scheme.directions[i]
        tissue = 0.0
        if truth == 2:
            tissue = np.exp(-b * _mean_exponent(v, g, state, spread))
        else:
            for f in range(state.fractions.shape[1]):
                share = state.fractions[v, f]
                if share <= 0.0 or state.fwf[v] >= 1.0:
                    continue
                mu = state.directions[v, f]
                cos2 = min((g[0] * mu[0] + g[1] * mu[1] + g[2] * mu[2]) ** 2, 1.0)
                stick = chebyshev_sum(sticks[which], 2.0 * cos2 - 1.0)
                if truth == 0:
                    tissue += share * _noddi_signal(b, cos2, state.ndi[v], spread, stick)
                else:
                    tissue += share * _second_signal(b, cos2, state.ndi[v], state.soma[v], spread, stick)
            tissue = state.fwf[v] * np.exp(-b * D_ISO) + (1.0 - state.fwf[v]) * tissue
        scalp = state.scalp[v]
        if scalp > 0.0:
            tissue = (1.0 - scalp) * tissue + scalp * (0.1 + 0.9 * np.exp(-b * D_SCALP))
        row[i] = state.s0[v] * tissue


@inner(error_model="numpy")
def _scramble(z):
    """SplitMix64's output function."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@inner(error_model="numpy")
def _add_noise(row, sigma, key, index):
    """Make ``row`` Rician. The stream belongs to (key, index): it is the same in any order and on any thread."""
    step = np.uint64(0x9E3779B97F4A7C15)
    state = _scramble(key + step * np.uint64(index + 1))
    for i in range(row.size):
        state += step
        first = _scramble(state)
        state += step
        second = _scramble(state)
        radius = sigma * np.sqrt(-2.0 * np.log((np.float64(first >> np.uint64(11)) + 0.5) * 2.0**-53))
        angle = 2.0 * np.pi * np.float64(second >> np.uint64(11)) * 2.0**-53
        row[i] = np.sqrt(max(row[i] * row[i] + 2.0 * row[i] * radius * np.cos(angle) + radius * radius, 0.0))


@kernel(error_model="numpy")
def _write_voxels(begin, end, scheme, truth, state, out, noise_index, noise):
    """Signals of the voxels ``begin`` to ``end``; ``noise`` has its standard deviation and its key."""
    sigma, key = noise
    n_meas = out.shape[1]
    row = np.empty(n_meas)
    sticks = np.empty((scheme.series.shape[0], scheme.series.shape[1]))
    terms = np.empty(scheme.moment.size)
    for v in range(begin, end):
        row[:] = 0.0
        if state.s0[v] > 0.0:
            odi = float(state.odi[v])
            spread = 1.0
            if state.fwf[v] < 1.0 and np.any(state.fractions[v] > 0.0):
                series_at_odi(scheme.series, odi, sticks)
                chebyshev_terms(2.0 * odi - 1.0, terms)
                spread = 0.0
                for k in range(terms.size):
                    spread += scheme.moment[k] * terms[k]
            _voxel_signal(v, scheme, truth, state, sticks, spread, row)
        if sigma > 0.0:
            _add_noise(row, sigma, key, noise_index[v])
        for i in range(n_meas):
            out[v, i] = row[i]
