"""Signals of scattered sticks and cylinders, for voxels that owe nothing to the phantom."""

from __future__ import annotations

import numpy as np
from numpy.polynomial.legendre import leggauss, legvander

from arcuate.gradients import GradientTable

STICK = 2.2e-3  # mm²/s, along axons
ALONG, ACROSS = 1.8e-3, 0.55e-3  # mm²/s, of what is around them
FLUID, S0_FLUID = 3.0e-3, 2.5  # mm²/s; over that of white matter
S0_GREY, STICKS_OF_GREY = 1.15, 0.3
DEGREE, N_NODES = 24, 400  # of the expansion in Legendre polynomials: 1e-8 of the signal at b = 4000


def simulate_sticks(
    gradients: GradientTable, axes: np.ndarray, shares: np.ndarray, intra: np.ndarray, odi: np.ndarray
) -> np.ndarray:
    """Signals (n, n_meas) of populations along unit axes (n, n_fibres, 3), over that without weighting.

    Parameters
    ----------
    shares : (n, n_fibres) of the populations
    intra, odi : (n,) share of sticks, and orientation dispersion index of every population

    Notes
    -----
    S = Σ_j w_j ∫ f(n·μ_j) [ν exp(-b d (g·n)²) + (1-ν) exp(-b (d₂ + (d₁-d₂)(g·n)²))] dn with f Watson's density: both
    kinds of tissue are scattered alike. Integrals of zonal functions are products of their Legendre coefficients.
    """
    nodes, weights = leggauss(N_NODES)
    table = legvander(nodes, DEGREE)[:, ::2]
    kappa = 1 / np.tan(np.pi / 2 * odi)
    density = np.exp(kappa[:, None] * (nodes**2 - 1)) * weights
    spread = (density / density.sum(axis=1, keepdims=True)) @ table  # (n, n_degree), 1 at degree 0
    rise = np.arange(0, DEGREE + 1, 2) + 0.5
    cosine = np.einsum("nfc,mc->nfm", axes, gradients.directions)
    out = np.empty((len(axes), len(gradients)))
    for b in np.unique(gradients.bvals):
        inside = np.flatnonzero(gradients.bvals == b)
        stick = (np.exp(-b * STICK * nodes**2) * weights) @ table
        around = (np.exp(-b * (ACROSS + (ALONG - ACROSS) * nodes**2)) * weights) @ table
        mixed = intra[:, None] * stick + (1 - intra[:, None]) * around
        values = legvander(cosine[:, :, inside], DEGREE)[..., ::2]
        out[:, inside] = np.einsum("nfml,nl,nf->nm", values, mixed * spread * rise, shares, optimize=True)
    return out


def simulate_grey(gradients: GradientTable, ball: np.ndarray) -> np.ndarray:
    """Signals (n, n_meas) of sticks in all directions and a ball (n,), mm²/s, over that of white matter."""
    nodes, weights = leggauss(N_NODES)
    sticks = np.exp(-gradients.bvals[:, None] * STICK * nodes**2) @ (weights / 2)
    balls = np.exp(-np.outer(ball, gradients.bvals))
    return np.asarray(S0_GREY * (STICKS_OF_GREY * sticks + (1 - STICKS_OF_GREY) * balls))


def simulate_fluid(gradients: GradientTable) -> np.ndarray:
    """Signal (n_meas,) of fluid, over that of white matter."""
    return np.asarray(S0_FLUID * np.exp(-FLUID * gradients.bvals))
