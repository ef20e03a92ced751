"""Functions on the sphere that are symmetric about an axis, as even Legendre series: exact integrals, no quadrature.

An axially symmetric even function is Σ_l c[l] P_l(t), l = 0, 2 ... lmax, with t the cosine of the angle to its axis.
Everything here comes from one family of integrals,

    I_l(k) = ∫_{-1}^{1} P_l(t) exp(k t²) dt,

whose ratios I_l / I_{l-2} obey a three-term recursion. They are its minimal solution, so the recursion runs downwards
from a high degree (Gautschi 1967, SIAM Review 9:24); no difference of large numbers appears for either sign of k.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy

from arcuate.numerics.compiled import njit


def n_even(lmax: int) -> int:
    """Number of even degrees up to ``lmax``."""
    return lmax // 2 + 1


def even_degrees(lmax: int) -> np.ndarray:
    """(lmax / 2 + 1,) int: 0, 2 ... lmax."""
    return np.arange(0, lmax + 1, 2)


def even_legendre(cosines: np.ndarray, lmax: int) -> np.ndarray:
    """P_0, P_2 ... P_lmax at each cosine, on a new last axis; (..., lmax / 2 + 1) float64."""
    x = np.asarray(cosines, dtype=np.float64)
    values = np.empty((*x.shape, n_even(lmax)))
    before, now = np.ones_like(x), x.copy()
    values[..., 0] = 1.0
    for deg in range(2, lmax + 1):
        before, now = now, ((2 * deg - 1) * x * now - (deg - 1) * before) / deg
        if deg % 2 == 0:
            values[..., deg // 2] = now
    return values


def even_legendre_powers(lmax: int, multiple: int = 1) -> np.ndarray:
    """P_0, P_2 ... P_lmax as polynomials: P_l(t) = Σ_k powers[l / 2, k] (2 t² - 1)^k; (lmax / 2 + 1, n_pow) float64.

    ``n_pow`` is the least multiple of ``multiple`` that holds them; higher powers are 0.

    Notes
    -----
    In 2 t² - 1, which goes from -1 to 1, the coefficients stay small (at most 3 for l = 8, 14 for 12, 310 for 20).
    """
    n_deg = n_even(lmax)
    powers = np.zeros((n_deg, -(-n_deg // multiple) * multiple))
    powers[0, 0] = 1.0
    for j in range(1, n_deg):
        alpha, beta, gamma = even_factors(2.0 * j - 2.0)
        powers[j] = (0.5 * alpha - beta) * powers[j - 1]
        powers[j, 1:] += 0.5 * alpha * powers[j - 1, :-1]
        if j > 1:
            powers[j] -= gamma * powers[j - 2]
    return powers


def integral_ratios(k: np.ndarray, lmax: int) -> np.ndarray:
    """∫ P_l exp(k t²) dt / ∫ exp(k t²) dt over -1..1 for l = 0, 2 ... lmax; (..., lmax / 2 + 1) float64.

    Parameters
    ----------
    k : (...) float
        Any finite number; positive concentrates on the axis, negative on the equator.

    Notes
    -----
    With P'_{l+1} - P'_{l-1} = (2l+1) P_l, integration by parts gives

        (2l+1)/(2k) I_l = (l-1)/(2l-1) I_{l-2} + [l/(2l-1) - (l+1)/(2l+3)] I_l - (l+2)/(2l+3) I_{l+2}.
    """
    k = np.asarray(k, dtype=np.float64)
    top = lmax + 2 * math.ceil(float(np.max(np.abs(k), initial=0.0))) + 40
    top += top % 2
    step = np.zeros_like(k)
    steps = np.zeros((*k.shape, n_even(lmax)))
    for deg in range(top, 0, -2):
        inner = (deg + 2) / (2 * deg + 3) * step - (2 * deg + 1) / ((2 * deg + 3) * (2 * deg - 1))
        step = 2 * k * (deg - 1) / (2 * deg - 1) / (2 * deg + 1 + 2 * k * inner)
        if deg <= lmax:
            steps[..., deg // 2] = step
    steps[..., 0] = 1.0
    return np.cumprod(steps, axis=-1)


def watson_moments(kappa: np.ndarray, lmax: int) -> np.ndarray:
    """Mean of P_l over Watson's distribution exp(κ t²), l = 0, 2 ... lmax; (..., lmax / 2 + 1) float64.

    A function with zonal coefficients c, blurred by the distribution, has the coefficients c times these.
    """
    return integral_ratios(kappa, lmax)


def gaussian_zonal(a: np.ndarray, lmax: int) -> np.ndarray:
    """Legendre coefficients of exp(-a t²): exp(-a t²) = Σ_l c[l] P_l(t); (..., lmax / 2 + 1) float64.

    The signal of an axially symmetric Gaussian diffusion process with diffusivities d1 along and d2 across, at b,
    is exp(-b d2) times this with a = b (d1 - d2); a stick has d2 = 0. ``a`` may be negative (oblate).
    """
    a = np.asarray(a, dtype=np.float64)
    root = np.sqrt(np.abs(a))
    safe = np.where(root > 1e-6, root, 1.0)
    decaying = math.sqrt(math.pi) * scipy.special.erf(safe) / safe
    growing = 2 * np.exp(np.minimum(safe * safe, 700.0)) * scipy.special.dawsn(safe) / safe
    total = np.where(root > 1e-6, np.where(a >= 0, decaying, growing), 2 - 2 * a / 3)
    return integral_ratios(-a, lmax) * (even_degrees(lmax) + 0.5) * total[..., None]


def zonal_degree(a: float, tolerance: float, highest: int = 40) -> int:
    """Smallest even degree at which the Legendre series of exp(-a t²) is within ``tolerance`` everywhere."""
    coefs = np.abs(gaussian_zonal(np.array(a), highest + 20))
    tail = np.cumsum(coefs[::-1])[::-1]  # |P_l| <= 1, so the sum of what is left out bounds the error
    enough = np.flatnonzero(tail[1:] <= tolerance)
    return min(highest, 2 * int(enough[0])) if len(enough) else highest


def even_factors(deg: Any) -> tuple[Any, Any, Any]:
    """α, β, γ of P_{l+2} = (α t² - β) P_l - γ P_{l-2}."""
    below = (deg + 2) * (deg + 1)
    alpha = (2 * deg + 3) * (2 * deg + 1) / below
    beta = (2 * deg + 3) * deg * deg / (below * (2 * deg - 1)) + (deg + 1) / (deg + 2)
    gamma = (2 * deg + 3) * deg * (deg - 1) / (below * (2 * deg - 1))
    return alpha, beta, gamma


even_step = njit(cache=True)(even_factors)  # for kernels


@njit(cache=True)
def write_even_legendre(squares, values):
    """P_0, P_2 ... into ``values`` (n_deg, n) at cosines whose squares are given, (n,).

    Degree first, so that the inner loop is contiguous. Two degrees at a time: P_{l+2} = (α t² - β) P_l - γ P_{l-2}.
    """
    n_deg, n = values.shape
    for i in range(n):
        values[0, i] = 1.0
    if n_deg > 1:
        for i in range(n):
            values[1, i] = 1.5 * squares[i] - 0.5
    for j in range(2, n_deg):
        alpha, beta, gamma = even_step(2.0 * j - 2.0)
        for i in range(n):
            values[j, i] = (alpha * squares[i] - beta) * values[j - 1, i] - gamma * values[j - 2, i]
