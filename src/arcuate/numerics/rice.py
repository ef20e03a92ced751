"""The Rician distribution of magnitudes: its score, its log-likelihood and its noise level, in loops without branches.

A magnitude y of a signal s with Gaussian noise σ in both channels has the density
y/σ² exp(-(y² + s²) / 2σ²) I₀(ys/σ²). Everything follows from two functions of z = ys/σ², fitted as ratios of
polynomials in u = z / (1 + z) (``scripts/fit_bessel.py``), so that they run in vector lanes:

    A(z) = I₁(z) / I₀(z)                      within 2e-8,
    q(z) = exp(2z) / (I₀(z)² (1 + 2πz))       within 1e-7, hence -log(exp(-z) I₀(z)) = ½ log(q(z) (1 + 2πz)).

References
----------
Gudbjartsson & Patz 1995, Magn Reson Med 34:910; Sijbers et al. 1998, IEEE TMI 17:357.
"""

from __future__ import annotations

import numpy as np

from arcuate.numerics.compiled import njit
from arcuate.numerics.nnls import SUM_IN_ANY_ORDER

RATIO_ABOVE = (
    5.715773806654737e-09,
    0.49999939732949844,
    -3.2635370081274355,
    9.188475531268748,
    -14.456655835788846,
    13.720223781646116,
    -7.850747108304251,
    2.506431128326283,
    -0.3441383914618834,
)
RATIO_BELOW = (
    1.0,
    -7.527099385976455,
    25.029279323580027,
    -47.98248283234518,
    57.959010405505396,
    -45.139822093280166,
    22.121893889159416,
    -6.233767100337586,
    0.7730392942987916,
)
SQUARE_ABOVE = (
    0.9999999752944592,
    -5.693837896204215,
    14.25271834052481,
    -20.495393503318855,
    18.543819527860578,
    -10.848531410655905,
    4.062709327625131,
    -0.9341371288898414,
    0.11445749205263492,
)
SQUARE_BELOW = (
    1.0,
    -1.4106591409398603,
    -15.917959783489767,
    71.00084853556304,
    -136.23187186852454,
    146.81459849255864,
    -92.61978402817068,
    32.10557102456476,
    -4.738938507385352,
)


@njit(cache=True, inline="always")
def _polynomial(c, u):
    value = c[8]
    value = value * u + c[7]
    value = value * u + c[6]
    value = value * u + c[5]
    value = value * u + c[4]
    value = value * u + c[3]
    value = value * u + c[2]
    value = value * u + c[1]
    return value * u + c[0]


@njit(cache=True, inline="always")
def bessel_ratio(z):
    """I₁(z) / I₀(z) for z >= 0."""
    u = z / (1.0 + z)
    return _polynomial(RATIO_ABOVE, u) / _polynomial(RATIO_BELOW, u)


@njit(cache=True, inline="always")
def _inverse_square(z):
    """exp(2z) / I₀(z)² for z >= 0."""
    u = z / (1.0 + z)
    return (1.0 + 2 * np.pi * z) * _polynomial(SQUARE_ABOVE, u) / _polynomial(SQUARE_BELOW, u)


@njit(cache=True, fastmath=SUM_IN_ANY_ORDER)
def negative_log_likelihood(magnitudes, signals, variance, factors):
    """-Σ log of the Rician density, up to terms that depend on the magnitudes alone; ``factors`` (n,) is scratch.

    A signal below zero counts as its absolute value: the density depends on |s| only.
    """
    n = magnitudes.shape[0]
    total, inverse = 0.0, 1.0 / variance
    for i in range(n):
        size = abs(signals[i])
        total += (magnitudes[i] - size) ** 2
        factors[i] = _inverse_square(magnitudes[i] * size * inverse)
    logs, product = 0.0, 1.0
    for i in range(n):
        product *= factors[i]
        if product > 1e200:
            logs += np.log(product)
            product = 1.0
    return 0.5 * (total / variance + logs + np.log(product)) + n * np.log(variance)


@njit(cache=True, fastmath=SUM_IN_ANY_ORDER)
def write_score(magnitudes, signals, variance, score, information):
    """Derivative of the log-likelihood with respect to each signal, and its expected information (approximate).

    With ρ = s/σ the information is near (ρ² + ρ⁴) / (1 + 3/2 ρ² + ρ⁴) / σ², exact to first order at both ends.
    """
    inverse = 1.0 / variance  # a division takes as long as ten of the other operations
    for i in range(magnitudes.shape[0]):
        z = magnitudes[i] * abs(signals[i]) * inverse
        square = signals[i] * signals[i] * inverse
        below = 1 + 1.5 * square + square * square
        both = 1.0 / ((1.0 + z) * below)  # the two denominators by one division
        u = z * below * both
        ratio = _polynomial(RATIO_ABOVE, u) / _polynomial(RATIO_BELOW, u)
        sign = 1.0 if signals[i] >= 0 else -1.0
        score[i] = (magnitudes[i] * ratio * sign - signals[i]) * inverse
        information[i] = (square + square * square) * (1.0 + z) * both * inverse


@njit(cache=True, fastmath=SUM_IN_ANY_ORDER)
def estimate_variance(magnitudes, signals, variance, lowest, n_rounds):
    """σ² that maximises the likelihood of given signals, by over-relaxed rounds of expectation-maximisation."""
    n = magnitudes.shape[0]
    for _ in range(n_rounds):
        total, inverse = 0.0, 1.0 / variance
        for i in range(n):
            size = abs(signals[i])
            ratio = bessel_ratio(magnitudes[i] * size * inverse)
            total += (magnitudes[i] - size) ** 2 + 2 * magnitudes[i] * size * (1 - ratio)
        proposal = 0.5 * total / n
        variance = max(lowest, 0.25 * variance, variance + 1.7 * (proposal - variance))
    return variance
