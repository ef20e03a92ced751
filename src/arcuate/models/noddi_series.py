"""What the continuous model of NODDI needs besides the gradients: Legendre series of sticks, and Watson's moments."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from arcuate.numerics.compiled import part
from arcuate.numerics.legendre import (
    even_degrees,
    even_factors,
    even_legendre_powers,
    gaussian_zonal,
    watson_moments,
    zonal_degree,
)

N_NODES = 1025  # ODI of the interpolation table of Watson's moments
POWERS_AT_ONCE = 4  # of a polynomial that all volumes of a shell take


class NoddiSeries(NamedTuple):
    """What the continuous model needs besides the gradients: coefficients per shell, moments over ODI."""

    bvals: np.ndarray  # (n_shell,) float, s/mm²
    sticks: np.ndarray  # (n_shell, n_deg, n_pow) float, each term of exp(-b dpar t²) as a polynomial in 2 t² - 1
    moments: np.ndarray  # (N_NODES, 2, n_deg) float, Watson's moments and their derivatives, ODI from 0 to 1
    diffusivities: np.ndarray  # (2,) float, mm²/s, along the neurites and of free water


def make_series(bvals: np.ndarray, dpar: float, diso: float) -> NoddiSeries:
    """Series whose degree keeps the signal of a stick within 1e-5 at the largest b-value.

    Sums of Legendre functions are taken as polynomials in 2 t² - 1, between -1 and 1: their coefficients are made once
    per voxel and shell, and each volume takes a multiplication and an addition per degree.
    """
    lmax = max(4, zonal_degree(float(np.max(bvals)) * dpar, 1e-5))
    sticks = gaussian_zonal(np.asarray(bvals) * dpar, lmax)
    return NoddiSeries(
        bvals=np.asarray(bvals, dtype=np.float64),
        sticks=np.ascontiguousarray(sticks[:, :, None] * even_legendre_powers(lmax, POWERS_AT_ONCE)),
        moments=watson_table(lmax),
        diffusivities=np.array([dpar, diso]),
    )


def watson_table(lmax: int) -> np.ndarray:
    """Watson's moments and their derivatives with respect to ODI at N_NODES values of it, (N_NODES, 2, n_deg).

    Notes
    -----
    With κ = 1 / tan(π o / 2): dw_l/dκ = E[t² P_l] - E[t²] w_l, dκ/do = -(π/2) (1 + κ²), and at o = 0, where κ is
    infinite, w_l = 1 and dw_l/do = -π l (l+1) / 8.
    """
    odi = np.linspace(0, 1, N_NODES)
    kappa = np.concatenate([[0.0], 1 / np.tan(odi[1:] * np.pi / 2)])
    kappa[-1] = 0.0
    moments = watson_moments(kappa, lmax + 2)
    degree = even_degrees(lmax)
    alpha, beta, gamma = even_factors(degree.astype(np.float64))
    below = np.column_stack([np.zeros(N_NODES), moments[:, : len(degree) - 1]])
    square = (moments[:, 1:] + beta * moments[:, :-1] + gamma * below) / alpha
    moments = moments[:, :-1]
    slopes = (square - square[:, :1] * moments) * (-np.pi / 2 * (1 + kappa[:, None] ** 2))
    moments[0] = 1.0
    slopes[0] = -np.pi / 8 * degree * (degree + 1)
    return np.ascontiguousarray(np.stack([moments, slopes], axis=1))


@part()
def write_moments(odi, table, watson):
    """Watson's moments and their slopes at ``odi`` by cubic interpolation of values and derivatives."""
    width = 1.0 / (N_NODES - 1)
    k = min(int(odi / width), N_NODES - 2)
    x = odi / width - k
    y = 1 - x
    for j in range(table.shape[2]):
        v0, v1, d0, d1 = table[k, 0, j], table[k + 1, 0, j], table[k, 1, j] * width, table[k + 1, 1, j] * width
        watson[0, j] = y * y * ((1 + 2 * x) * v0 + x * d0) + x * x * ((3 - 2 * x) * v1 - y * d1)
        watson[1, j] = (6 * x * y * (v1 - v0) + y * (1 - 3 * x) * d0 + x * (3 * x - 2) * d1) / width
