"""Signals of dispersed fibres by quadrature over the sphere, kept as Chebyshev series.

A fibre population with axis μ whose directions n scatter with an axially symmetric density f gives, for sticks along n,

    E(b, t) = ∫ f(n·μ) exp(-b d (g·n)²) dn,     t = (g·μ)².

The integral is done on a product grid (Gauss-Legendre in n·μ, trapezoid around μ, both of spectral accuracy) at
Chebyshev nodes of t and of the orientation dispersion index; between them the interpolant is as good as the integral.
No spherical harmonics and no series of the Watson density: nothing here is shared with a fitting model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from arcuate.numerics.compiled import inner, kernel, run_in_chunks

WATSON, POWER = 0, 1
N_POLAR, N_AZIMUTH, N_ODI = 64, 64, 72
DENSITY_RANGE = 42.0  # directions whose density is below exp(-42) of the largest are left out


@dataclass(frozen=True)
class DispersedSticks:
    """E(b, t) of sticks for every b-value of a table, as Chebyshev series in ODI and t.

    ``series[i, j, k]`` belongs to b-value i, T_j(2 t - 1) and T_k(2 odi - 1); ``moment[k]`` is the series in ODI
    of the mean squared cosine ⟨(n·μ)²⟩.
    """

    bvals: np.ndarray  # (n_b,) distinct b-values, s/mm²
    series: np.ndarray  # (n_b, n_t, n_odi)
    moment: np.ndarray  # (n_odi,)


def disperse_sticks(bvals: np.ndarray, d_par: float, density: int = WATSON) -> DispersedSticks:
    """Table of dispersed sticks of diffusivity ``d_par`` (mm²/s) for the distinct ``bvals`` (s/mm²).

    ``density`` is WATSON, f ∝ exp(κ (n·μ)²) with κ = cot(π odi / 2), or POWER, f ∝ |n·μ|^(2m) with m such that the
    mean squared cosine is that of the Watson density of the same ODI.
    """
    return _disperse_sticks(tuple(float(b) for b in np.unique(bvals)), float(d_par), density)


@lru_cache(maxsize=8)
def _disperse_sticks(bvals: tuple[float, ...], d_par: float, density: int) -> DispersedSticks:
    weights = np.array(bvals) * d_par
    n_t = int(13 + 0.9 * weights.max(initial=0.0))
    t_nodes, t_series = _chebyshev(n_t)
    odi_nodes, odi_series = _chebyshev(N_ODI)
    polar, polar_weights = np.polynomial.legendre.leggauss(N_POLAR)
    quadrature = (0.5 * (polar + 1), 0.5 * polar_weights)
    values, moments = np.empty((weights.size, n_t, N_ODI)), np.empty(N_ODI)

    def integrate(begin: int, end: int) -> None:
        _integrate_sticks(begin, end, weights, t_nodes, odi_nodes, quadrature, density, (values, moments))

    run_in_chunks(integrate, N_ODI, 1)
    series = np.ascontiguousarray(np.einsum("jt,ito,ko->ijk", t_series, values, odi_series))
    moment = odi_series @ moments
    series.setflags(write=False)
    moment.setflags(write=False)
    return DispersedSticks(np.array(bvals), series, moment)


def _chebyshev(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes on (0, 1), and the matrix from values there to coefficients of T_k(2x - 1)."""
    angles = np.pi * (np.arange(n) + 0.5) / n
    to_series = 2 / n * np.cos(np.outer(np.arange(n), angles))
    to_series[0] *= 0.5
    return 0.5 * (1 + np.cos(angles)), to_series


@inner(error_model="numpy")
def watson_kappa(odi: float) -> float:
    """Concentration of the Watson density, κ = cot(π odi / 2)."""
    return 1.0 / np.tan(0.5 * np.pi * max(odi, 1e-12))


@inner(error_model="numpy")
def _polar_density(kappa, nodes, weights, sines2, masses):
    """Watson density at polar nodes: sin² of the angle to the axis, and masses that sum to one."""
    reach = min(1.0, DENSITY_RANGE / max(kappa, 1e-300))
    total = 0.0
    for i in range(nodes.size):
        s = reach * nodes[i]  # 1 - n·μ
        sines2[i] = s * (2.0 - s)
        masses[i] = weights[i] * np.exp(-kappa * sines2[i])
        total += masses[i]
    second = 0.0
    for i in range(nodes.size):
        masses[i] /= total
        second += masses[i] * sines2[i]
    return second  # ⟨1 - (n·μ)²⟩, exact also where it is tiny


@inner(error_model="numpy")
def _power_density(power, nodes, weights, sines2, masses):
    """The same for the density |n·μ|^(2 power), whose kink at the equator is smoothed by n·μ = v³."""
    reach = min(1.0, DENSITY_RANGE / max(2.0 * power, 1e-300))
    total = 0.0
    for i in range(nodes.size):
        if reach < 1.0:
            s = reach * nodes[i]
            masses[i] = weights[i] * np.exp(2.0 * power * np.log1p(-s))
        else:
            s = 1.0 - nodes[i] ** 3
            masses[i] = weights[i] * 3.0 * nodes[i] ** (6.0 * power + 2.0)
        sines2[i] = s * (2.0 - s)
        total += masses[i]
    for i in range(nodes.size):
        masses[i] /= total


@kernel(error_model="numpy")
def _integrate_sticks(begin, end, weights, t_nodes, odi_nodes, polar, density, out):
    """Integrals at the nodes of ODI ``begin`` to ``end`` by ``polar`` nodes and their weights."""
    nodes, node_weights = polar
    values, moments = out
    for o in range(begin, end):
        sines2, masses = np.empty(nodes.size), np.empty(nodes.size)
        scatter = _polar_density(watson_kappa(odi_nodes[o]), nodes, node_weights, sines2, masses)
        moments[o] = 1.0 - scatter
        if density == POWER:
            # ⟨cos²⟩ = (2m + 1) / (2m + 3)
            _power_density((2.0 - 3.0 * scatter) / (2.0 * scatter), nodes, node_weights, sines2, masses)
        for j in range(t_nodes.size):
            along, across = np.sqrt(t_nodes[j]), np.sqrt(1.0 - t_nodes[j])
            for i in range(weights.size):
                values[i, j, o] = 0.0
            for p in range(nodes.size):
                a, c = along * np.sqrt(1.0 - sines2[p]), across * np.sqrt(sines2[p])
                for q in range(N_AZIMUTH):
                    cosine = a + c * np.cos(np.pi * (q + 0.5) / N_AZIMUTH)
                    for i in range(weights.size):
                        values[i, j, o] += masses[p] / N_AZIMUTH * np.exp(-weights[i] * cosine * cosine)


@inner(error_model="numpy")
def series_at_odi(series, odi, out):
    """Contract the last axis of ``series`` (n_b, n_t, n_odi) at one ODI into ``out`` (n_b, n_t)."""
    n_odi = series.shape[2]
    terms = np.empty(n_odi)
    chebyshev_terms(2.0 * odi - 1.0, terms)
    for i in range(series.shape[0]):
        for j in range(series.shape[1]):
            total = 0.0
            for k in range(n_odi):
                total += series[i, j, k] * terms[k]
            out[i, j] = total


@inner(error_model="numpy")
def chebyshev_terms(x, terms):
    """T_0(x) ... T_{n-1}(x) into ``terms``."""
    terms[0] = 1.0
    terms[1] = x
    for k in range(2, terms.size):
        terms[k] = 2.0 * x * terms[k - 1] - terms[k - 2]


@inner(error_model="numpy")
def chebyshev_sum(coefs, x):
    """Σ_k coefs[k] T_k(x) by Clenshaw's recurrence."""
    ahead, behind = 0.0, 0.0
    for k in range(coefs.size - 1, 0, -1):
        ahead, behind = coefs[k] + 2.0 * x * ahead - behind, ahead
    return coefs[0] + x * ahead - behind
