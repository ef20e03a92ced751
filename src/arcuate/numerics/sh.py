"""Real, even, orthonormal spherical harmonics in MRtrix3's order, and DIPY's legacy basis at the border."""

from __future__ import annotations

import math

import numpy as np


def n_coefs(lmax: int) -> int:
    """Number of even-degree coefficients up to degree ``lmax``."""
    if lmax < 0 or lmax % 2:
        raise ValueError(f"found degree {lmax}; expected an even number, zero or above.")
    return (lmax + 1) * (lmax + 2) // 2


def lmax_of(n_coef: int) -> int:
    """Degree whose even basis has ``n_coef`` functions; raises ValueError if there is none."""
    lmax = round((math.sqrt(8 * n_coef + 1) - 3) / 2)
    if lmax < 0 or lmax % 2 or n_coefs(lmax) != n_coef:
        raise ValueError(f"found {n_coef} coefficients; expected 1, 6, 15, 28, 45, 66, 91 ...")
    return lmax


def degrees_and_orders(lmax: int) -> tuple[np.ndarray, np.ndarray]:
    """Degree l and order m of each coefficient, index l(l+1)/2 + m; two (n_coef,) int arrays."""
    pairs = [(deg, m) for deg in range(0, lmax + 1, 2) for m in range(-deg, deg + 1)]
    return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])


def normalised_legendre(cos_polar: np.ndarray, lmax: int) -> np.ndarray:
    """Associated Legendre functions that make the harmonics orthonormal, with the sign (-1)^m.

    Parameters
    ----------
    cos_polar : (n,) float
        Cosine of the polar angle.

    Returns
    -------
    (lmax + 1, lmax + 1, n) float
        ``[l, m]`` holds sqrt((2l+1)/4π (l-m)!/(l+m)!) P_l^m with the Condon-Shortley sign, zero where m > l.

    References
    ----------
    Holmes & Featherstone 2002, J. Geodesy 76:279, for the recursion.
    """
    x = np.asarray(cos_polar, dtype=np.float64)
    sin_polar = np.sqrt(np.maximum(0.0, (1 - x) * (1 + x)))
    table = np.zeros((lmax + 1, lmax + 1, len(x)))
    table[0, 0] = math.sqrt(1 / (4 * math.pi))
    for m in range(1, lmax + 1):
        table[m, m] = -math.sqrt((2 * m + 1) / (2 * m)) * sin_polar * table[m - 1, m - 1]
    for m in range(lmax):
        table[m + 1, m] = math.sqrt(2 * m + 3) * x * table[m, m]
        for deg in range(m + 2, lmax + 1):
            a = math.sqrt((4 * deg * deg - 1) / (deg * deg - m * m))
            b = math.sqrt(((deg - 1) ** 2 - m * m) / (4 * (deg - 1) ** 2 - 1))
            table[deg, m] = a * (x * table[deg - 1, m] - b * table[deg - 2, m])
    return table


def sh_matrix(directions: np.ndarray, lmax: int) -> np.ndarray:
    """Values of the basis functions on directions.

    Parameters
    ----------
    directions : (n_dir, 3) float
        Need not be of unit length; a zero vector counts as +z.
    lmax : int
        Even degree.

    Returns
    -------
    (n_dir, n_coef) float
        Column l(l+1)/2 + m is N_l^m(θ) √2 cos(mφ) for m > 0, N_l^0(θ) for m = 0, and
        N_l^|m|(θ) √2 sin(|m|φ) for m < 0: MRtrix3's basis, DIPY's ``tournier07`` with ``legacy=False``.
    """
    directions = np.atleast_2d(np.asarray(directions, dtype=np.float64))
    norms = np.linalg.norm(directions, axis=1)
    cos_polar = np.where(norms > 0, directions[:, 2] / np.where(norms > 0, norms, 1.0), 1.0)
    azimuth = np.arctan2(directions[:, 1], directions[:, 0])
    legendre = normalised_legendre(cos_polar, lmax)
    degree, order = degrees_and_orders(lmax)
    columns = []
    for deg, m in zip(degree, order, strict=True):
        value = legendre[deg, abs(m)]
        if m > 0:
            value = math.sqrt(2) * value * np.cos(m * azimuth)
        elif m < 0:
            value = math.sqrt(2) * value * np.sin(-m * azimuth)
        columns.append(value)
    return np.stack(columns, axis=1)


def legacy_descoteaux_index(lmax: int) -> np.ndarray:
    """Index into our basis of each function of DIPY's legacy Descoteaux basis; (n_coef,) int.

    Their function (l, m) is ours at (l, -m), so ``ours[index] == theirs``; the permutation is its own inverse.
    """
    degree, order = degrees_and_orders(lmax)
    return degree * (degree + 1) // 2 - order
