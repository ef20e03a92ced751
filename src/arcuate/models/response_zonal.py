"""Zonal harmonics: what is symmetric about the fibre, and a tensor's signal in them."""

from __future__ import annotations

import math

import numpy as np


def zonal_harmonics(cosines: np.ndarray, lmax: int) -> np.ndarray:
    """Values (n_degrees, n) of Y_l0, l = 0, 2 ... lmax, at angles with the cosines (n,)."""
    x = np.asarray(cosines, dtype=np.float64)
    rows = [math.sqrt((2 * deg + 1) / (4 * math.pi)) * _legendre(deg, x) for deg in range(0, lmax + 1, 2)]
    return np.stack(rows)


def tensor_zonal(evals: np.ndarray, s0: float, b: float, lmax: int) -> np.ndarray:
    """Zonal coefficients of a prolate tensor's signal on one shell, by exact integration.

    Parameters
    ----------
    evals : (3,) float, mm²/s
        Axial diffusivity first; the radial one is the mean of the other two.
    s0 : float, signal at b = 0
    b : float, s/mm²

    Returns
    -------
    (lmax/2 + 1,) float
        r_l = 2π ∫ S(t) Y_l0(t) dt over t in [-1, 1], S(t) = s0 exp(-b (λ⊥ + (λ∥ - λ⊥) t²)).
    """
    axial, radial = float(evals[0]), float(np.mean(evals[1:]))
    nodes, weights = np.polynomial.legendre.leggauss(96)
    signal = s0 * np.exp(-b * (radial + (axial - radial) * nodes**2))
    return 2 * math.pi * zonal_harmonics(nodes, lmax) @ (weights * signal)


def _legendre(degree: int, x: np.ndarray) -> np.ndarray:
    before, value = np.zeros_like(x), np.ones_like(x)
    for n in range(degree):
        before, value = value, ((2 * n + 1) * x * value - n * before) / (n + 1)
    return value
