"""Direction sets with DIPY's names."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from arcuate.numerics.sphere import HemiSphere, Sphere
from arcuate.numerics.sphere import get_sphere as get_named

__all__ = ["HemiSphere", "Sphere", "get_default_sphere", "get_small_sphere", "get_sphere"]


def get_sphere(name: str = "symmetric362") -> Sphere:
    """A new sphere: symmetric362, symmetric642, symmetric724, repulsion724, repulsion100 or repulsion200."""
    named = get_named(name)
    return Sphere(xyz=named.vertices.copy(), faces=named.faces.copy())


@lru_cache(maxsize=1)
def get_default_sphere() -> HemiSphere:
    """``default_sphere``: the 362 directions of half of repulsion724."""
    return HemiSphere.from_sphere(get_named("repulsion724"))


@lru_cache(maxsize=1)
def get_small_sphere() -> HemiSphere:
    """``small_sphere``: the 181 directions of half of symmetric362."""
    return HemiSphere.from_sphere(get_named("symmetric362"))


def vertices_of(sphere: Any) -> np.ndarray:
    """(n, 3) float64 vertices of a sphere, arcuate's or DIPY's."""
    return np.ascontiguousarray(sphere.vertices, dtype=np.float64)
