"""Harmonic series as polynomials in x, y, z: value, gradient and Hessian at any direction in about 0.1 µs.

On the unit sphere Σ c_lm Y_lm = Σ_m [A_m(z) Re(x+iy)^m + B_m(z) Im(x+iy)^m], A_m and B_m polynomials that are even
or odd with m. Derivatives of this extension into space give those on the sphere: with the normal n, the gradient g
and the Hessian H in space, the gradient on the sphere is (1 - nnᵀ) g and the Hessian is that of H in the tangent
plane minus n·g.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from arcuate.numerics.compiled import inner


@lru_cache(maxsize=16)
def polynomial_table(lmax: int) -> np.ndarray:
    """Powers of z in each harmonic without its factor Re or Im (x+iy)^m.

    Returns
    -------
    (lmax + 1, lmax/2 + 1, lmax/2 + 1) float
        ``[m, l/2, p]`` is the coefficient of z^(2p + m%2) in the harmonic of degree l and order ±m.
    """
    half = lmax // 2 + 1
    table = np.zeros((lmax + 1, half, half))
    for degree in range(0, lmax + 1, 2):
        powers = np.polynomial.legendre.leg2poly(np.eye(degree + 1)[degree])
        for m in range(degree + 1):
            norm = math.sqrt((2 * degree + 1) / (4 * math.pi) * math.factorial(degree - m) / math.factorial(degree + m))
            scale = norm * (-1) ** m * (math.sqrt(2) if m else 1.0)
            derived = scale * np.polynomial.polynomial.polyder(powers, m)
            picked = derived[m % 2 :: 2]
            table[m, degree // 2, : len(picked)] = picked
    return table


@inner(error_model="numpy")
def to_polynomial(coefs, table, series):
    """``series[m, 0]`` and ``[m, 1]`` receive the powers of z in A_m and B_m."""
    n_m, half = table.shape[0], table.shape[1]
    for m in range(n_m):
        for p in range(half):
            series[m, 0, p] = 0.0
            series[m, 1, p] = 0.0
        for i in range((m + 1) // 2, half):
            centre = i * (2 * i + 1)  # index of order 0 in degree 2 i
            even = coefs[centre + m]
            odd = coefs[centre - m] if m > 0 else 0.0
            for p in range((2 * i - m) // 2 + 1):
                series[m, 0, p] += even * table[m, i, p]
                series[m, 1, p] += odd * table[m, i, p]


@inner(error_model="numpy")
def evaluate(series, x, y, z, out):
    """``out`` receives value, gradient (x y z) and Hessian (xx xy xz yy yz zz) in space."""
    n_m, t = series.shape[0], z * z
    for i in range(10):
        out[i] = 0.0
    c0, s0, c1, s1, c2, s2 = 1.0, 0.0, 0.0, 0.0, 0.0, 0.0  # (x+iy)^m and the two powers before
    for m in range(n_m):
        top = (n_m - 1 - m) // 2
        a0, a1, a2, b0, b1, b2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0  # A, dA/dt, d²A/dt² / 2 in t = z², and B
        for p in range(top, -1, -1):
            a2 = a2 * t + a1
            a1 = a1 * t + a0
            a0 = a0 * t + series[m, 0, p]
            b2 = b2 * t + b1
            b1 = b1 * t + b0
            b0 = b0 * t + series[m, 1, p]
        a2, b2 = 2.0 * a2, 2.0 * b2
        if m % 2:  # z times a polynomial in t
            a2, a1, a0 = 6.0 * z * a1 + 4.0 * z * t * a2, a0 + 2.0 * t * a1, z * a0
            b2, b1, b0 = 6.0 * z * b1 + 4.0 * z * t * b2, b0 + 2.0 * t * b1, z * b0
        else:
            a2, a1 = 2.0 * a1 + 4.0 * t * a2, 2.0 * z * a1
            b2, b1 = 2.0 * b1 + 4.0 * t * b2, 2.0 * z * b1
        u, v = m * c1, m * s1
        q, r = m * (m - 1) * c2, m * (m - 1) * s2
        out[0] += a0 * c0 + b0 * s0
        out[1] += a0 * u + b0 * v
        out[2] += b0 * u - a0 * v
        out[3] += a1 * c0 + b1 * s0
        out[4] += a0 * q + b0 * r
        out[5] += b0 * q - a0 * r
        out[6] += a1 * u + b1 * v
        out[7] -= a0 * q + b0 * r
        out[8] += b1 * u - a1 * v
        out[9] += a2 * c0 + b2 * s0
        c2, s2, c1, s1 = c1, s1, c0, s0
        c0, s0 = x * c1 - y * s1, x * s1 + y * c1


@inner(error_model="numpy")
def tangents(x, y, z):
    """Two unit vectors that span the tangent plane at (x, y, z), without a place where they jump to zero."""
    sign = 1.0 if z >= 0 else -1.0
    a = -1.0 / (sign + z)
    b = x * y * a
    return (1.0 + sign * x * x * a, sign * b, -sign * x), (b, sign + y * y * a, -y)


@inner(error_model="numpy")
def tangent_hessian(space, e, f, inward):
    """Entries ee, ef, ff of the Hessian on the sphere."""
    xx, xy, xz, yy, yz, zz = space[4], space[5], space[6], space[7], space[8], space[9]
    ex = xx * e[0] + xy * e[1] + xz * e[2]
    ey = xy * e[0] + yy * e[1] + yz * e[2]
    ez = xz * e[0] + yz * e[1] + zz * e[2]
    fx = xx * f[0] + xy * f[1] + xz * f[2]
    fy = xy * f[0] + yy * f[1] + yz * f[2]
    fz = xz * f[0] + yz * f[1] + zz * f[2]
    ee = e[0] * ex + e[1] * ey + e[2] * ez - inward
    ef = f[0] * ex + f[1] * ey + f[2] * ez
    ff = f[0] * fx + f[1] * fy + f[2] * fz - inward
    return ee, ef, ff


@inner(error_model="numpy")
def add_to_moments(weight, x, y, z, moments):
    """Add ``weight`` times the products of powers of z and (x+iy)^m that :func:`evaluate` is made of.

    ``moments`` (n_m, 2, half) has the layout of a series; :func:`from_moments` makes of it the harmonic series of a sum
    of directions: the adjoint of evaluation.
    """
    n_m, t = moments.shape[0], z * z
    c, s = weight, 0.0
    for m in range(n_m):
        power = z if m % 2 else 1.0
        for p in range((n_m - 1 - m) // 2 + 1):
            moments[m, 0, p] += power * c
            moments[m, 1, p] += power * s
            power *= t
        c, s = x * c - y * s, x * s + y * c


@inner(error_model="numpy")
def from_moments(moments, table, coefs):
    """``coefs`` (n_coef,) receives the harmonic series of what was added to the moments."""
    n_m, half = table.shape[0], table.shape[1]
    for m in range(n_m):
        for i in range((m + 1) // 2, half):
            centre = i * (2 * i + 1)
            even, odd = 0.0, 0.0
            for p in range((2 * i - m) // 2 + 1):
                even += table[m, i, p] * moments[m, 0, p]
                odd += table[m, i, p] * moments[m, 1, p]
            coefs[centre + m] = even
            if m > 0:
                coefs[centre - m] = odd
