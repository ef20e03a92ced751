"""Acquisition schemes: directions spread evenly on each shell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from arcuate.errors import InputError
from arcuate.gradients import GradientTable


def spread_directions(n: int, seed: int = 0) -> np.ndarray:
    """(n, 3) unit vectors spread over the sphere like charges, each standing for itself and its opposite.

    Notes
    -----
    Minimises Σ_{j<k} 1/|u_j - u_k| + 1/|u_j + u_k| from a random start made from ``seed``.

    References
    ----------
    Jones, Horsfield, Simmons (1999), Magnetic Resonance in Medicine 42:515.
    """
    if n < 1:
        raise InputError(f"found a shell of {n} directions; expected at least 1.")
    start = np.random.default_rng(seed).standard_normal((n, 3))
    if n > 1:
        with threadpool_limits(1):  # the problem is small, and the bits must not depend on threads
            found = minimize(_energy, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 500})
        start = found.x.reshape(n, 3)
    return np.asarray(start / np.linalg.norm(start, axis=1, keepdims=True))


def three_shell_gradients(
    n_b0: int = 1,
    bvals: Sequence[float] = (1000, 2000, 3500),
    n_directions: int | Sequence[int] = 64,
    seed: int = 0,
) -> GradientTable:
    """Gradient table in the scanner frame: ``n_b0`` volumes without weighting, then one shell after the other.

    Parameters
    ----------
    n_b0 : int
    bvals : (n_shells,) float, s/mm²
        As many shells as b-values, three by default.
    n_directions : int, or one per shell
    seed : int
        Every shell gets a spread of its own.
    """
    counts = [n_directions] * len(bvals) if isinstance(n_directions, int) else list(n_directions)
    if len(counts) != len(bvals):
        raise InputError(
            f"found {len(counts)} numbers of directions for {len(bvals)} b-values; give one per shell, or one for all."
        )
    seeds = np.random.default_rng(seed).integers(0, 2**31, size=len(bvals))
    shells = [spread_directions(n, int(s)) for n, s in zip(counts, seeds, strict=True)]
    weights = np.concatenate([np.zeros(n_b0), *(np.full(n, float(b)) for n, b in zip(counts, bvals, strict=True))])
    return GradientTable(weights, np.vstack([np.zeros((n_b0, 3)), *shells]))


def _energy(flat: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy of the directions and its gradient; lengths do not matter."""
    vectors = flat.reshape(-1, 3)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / lengths
    gradient = np.zeros_like(unit)
    energy = 0.0
    for sign in (-1.0, 1.0):
        apart = unit[:, None, :] + sign * unit[None, :, :]
        distance = np.sqrt((apart**2).sum(axis=2))
        np.fill_diagonal(distance, np.inf)
        energy += 0.5 * float((1 / distance).sum())
        gradient -= (apart / distance[:, :, None] ** 3).sum(axis=1)
    tangential = gradient - unit * (gradient * unit).sum(axis=1, keepdims=True)
    return energy, (tangential / lengths).ravel()
