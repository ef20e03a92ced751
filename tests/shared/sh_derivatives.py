"""Derivatives of one harmonic series on the sphere, by the kernels that follow peaks."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from arcuate.numerics.sh import lmax_of
from arcuate.numerics.sh_polynomial import evaluate, polynomial_table, tangent_hessian, tangents, to_polynomial


def sh_derivatives(coefs: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, gradient and Hessian on the sphere of one harmonic series.

    Parameters
    ----------
    coefs : (n_coef,) float
    directions : (n, 3) float, unit vectors

    Returns
    -------
    values : (n,)
    gradients : (n, 3), tangent to the sphere, per rad
    hessians : (n, 2), its two eigenvalues, per rad², smaller first
    """
    lmax = lmax_of(len(coefs))
    directions = np.ascontiguousarray(directions, dtype=np.float64)
    values, gradients, hessians = (
        np.zeros(s) for s in ((len(directions),), (len(directions), 3), (len(directions), 2))
    )
    _evaluate_all(
        np.ascontiguousarray(coefs, dtype=np.float64), polynomial_table(lmax), directions, values, gradients, hessians
    )
    return values, gradients, hessians


@njit(cache=True, error_model="numpy")
def _evaluate_all(coefs, table, directions, values, gradients, hessians):
    series = np.zeros((table.shape[0], 2, table.shape[1]))
    to_polynomial(coefs, table, series)
    space = np.zeros(10)
    for i in range(len(directions)):
        n = directions[i]
        evaluate(series, n[0], n[1], n[2], space)
        inward = n[0] * space[1] + n[1] * space[2] + n[2] * space[3]
        values[i] = space[0]
        for axis in range(3):
            gradients[i, axis] = space[1 + axis] - inward * n[axis]
        e, f = tangents(n[0], n[1], n[2])
        a, b, c = tangent_hessian(space, e, f, inward)
        middle, spread = 0.5 * (a + c), math.sqrt(0.25 * (a - c) ** 2 + b * b)
        hessians[i, 0], hessians[i, 1] = middle - spread, middle + spread
