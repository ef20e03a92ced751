"""Prints the rational fits of arcuate.numerics.rice: run it to see where its coefficients come from.

Both functions are fitted on u = z / (1 + z), 0 <= u < 1, by the iteration of Sanathanan & Koerner (1963): linear least
squares on numerator and denominator, reweighted by the previous denominator; the best of 60 rounds in the maximum norm.
"""

from __future__ import annotations

import numpy as np
from scipy.special import i0e, i1e

DEGREE = 8
N_NODES = 2000


def fit_rational(nodes: np.ndarray, values: np.ndarray, degree: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Largest error, numerator and denominator (lowest power first, denominator begins with 1)."""
    powers = np.vander(nodes, degree + 1, increasing=True)
    weights = np.ones(len(nodes))
    best = (np.inf, np.zeros(degree + 1), np.ones(degree + 1))
    for _ in range(60):
        system = np.column_stack([powers, -values[:, None] * powers[:, 1:]]) * weights[:, None]
        scale = np.linalg.norm(system, axis=0)
        coefs = np.linalg.lstsq(system / scale, values * weights, rcond=1e-15)[0] / scale
        numerator, denominator = coefs[: degree + 1], np.concatenate([[1.0], coefs[degree + 1 :]])
        below = powers @ denominator
        error = float(np.max(np.abs(powers @ numerator / below - values)))
        if error < best[0] and below.min() > 0:
            best = (error, numerator, denominator)
        weights = 1 / np.abs(below)
    return best


def main() -> None:
    u = (1 - np.cos(np.pi * (np.arange(N_NODES) + 0.5) / N_NODES)) / 2
    z = u / (1 - u)
    for name, values in {"RATIO": i1e(z) / i0e(z), "SQUARE": 1 / (i0e(z) ** 2 * (1 + 2 * np.pi * z))}.items():
        error, numerator, denominator = fit_rational(u, values, DEGREE)
        print(f"# largest error {error:.1e}")
        print(f"{name}_ABOVE = {tuple(float(c) for c in numerator)}")
        print(f"{name}_BELOW = {tuple(float(c) for c in denominator)}")


if __name__ == "__main__":
    main()
