"""Gradient tables of random directions, the same at every call."""

from __future__ import annotations

import numpy as np

from arcuate.gradients import GradientTable


def random_table(*shells: tuple[float, int]) -> GradientTable:
    """Shells of b (s/mm²) and a number of volumes, in this order; every volume has a direction of its own."""
    bvals = np.concatenate([np.full(n, float(b)) for b, n in shells])
    vectors = np.random.default_rng(0).normal(size=(len(bvals), 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return GradientTable(bvals, np.where(bvals[:, None] > 0, vectors, 0))
