"""Transforms of space: affine maps, displacement fields and chains of them, from points of one image to another's.

All coordinates are the scanner's (RAS+), mm. A transform takes points of the *reference* image to those of the *moving*
image: that is what resampling needs, and what ANTs calls the forward transform.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from arcuate.errors import InputError
from arcuate.numerics.interpolation import map_points
from arcuate.volumes.resample import sample

_ROUNDS = 50  # at most, of the fixed-point iteration that inverts a displacement
_CLOSE = 1e-4  # mm, at which it ends


class Transform(Protocol):
    """A map of points."""

    def map(self, points: np.ndarray) -> np.ndarray:
        """Images (n, 3) of the points (n, 3), mm."""

    def inverted(self) -> Transform:
        """The map back."""


@dataclass(frozen=True, eq=False)
class Affine:
    """A linear map and a shift.

    Parameters
    ----------
    matrix : (4, 4) float, mm, scanner frame
    """

    matrix: np.ndarray

    def map(self, points: np.ndarray) -> np.ndarray:
        """Images (n, 3) of the points (n, 3), mm."""
        return map_points(points, self.matrix)

    def inverted(self) -> Affine:
        """The map back."""
        if not abs(np.linalg.det(self.matrix[:3, :3])) > 1e-12:
            raise InputError("the affine transform has no inverse (its determinant is 0). Register again.")
        return Affine(np.linalg.inv(self.matrix))


@dataclass(frozen=True, eq=False)
class Displacement:
    """A shift for each voxel of a grid, linear between voxels; points outside of the grid stay where they are.

    Parameters
    ----------
    vectors : (x, y, z, 3) float, mm, scanner frame
    affine : (4, 4) float, of the grid
    back : the field of the inverse map, where it is known
    """

    vectors: np.ndarray
    affine: np.ndarray
    back: Displacement | None = None

    def map(self, points: np.ndarray) -> np.ndarray:
        """Images (n, 3) of the points (n, 3), mm."""
        return points + self.shift(points)

    def shift(self, points: np.ndarray) -> np.ndarray:
        """Displacements (n, 3) at the points (n, 3), mm."""
        inverse = np.linalg.inv(self.affine)
        return sample(self.vectors, map_points(points, inverse), "linear")

    def inverted(self) -> Transform:
        """The map back: the field that is known, or by iteration at every point."""
        if self.back is not None:
            return Displacement(self.back.vectors, self.back.affine, Displacement(self.vectors, self.affine))
        return _Undone(self)


@dataclass(frozen=True, eq=False)
class _Undone:
    """Inverse of a displacement without a field of its own: x = y - u(x), by iteration."""

    field: Displacement

    def map(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 3) whose images under the field are ``points``."""
        found = points - self.field.shift(points)
        for _ in range(_ROUNDS):
            nearer = points - self.field.shift(found)
            change = np.abs(nearer - found).max(initial=0.0)
            found = nearer
            if change < _CLOSE:
                break
        return found

    def inverted(self) -> Displacement:
        """The field itself."""
        return self.field


@dataclass(frozen=True, eq=False)
class Chain:
    """Transforms one after the other.

    Parameters
    ----------
    links : in the order in which points go through them
    """

    links: tuple[Transform, ...]

    def map(self, points: np.ndarray) -> np.ndarray:
        """Images (n, 3) of the points (n, 3), mm."""
        for link in self.links:
            points = link.map(points)
        return points

    def inverted(self) -> Chain:
        """The map back."""
        return Chain(tuple(link.inverted() for link in reversed(self.links)))


def jacobians(transform: Transform, points: np.ndarray, step: float) -> np.ndarray:
    """Derivatives (n, 3, 3) of a transform at points (n, 3): ``[v, i, j]`` is that of coordinate i by coordinate j.

    Parameters
    ----------
    step : mm, over which differences are taken to both sides
    """
    out = np.empty((len(points), 3, 3))
    for j in range(3):
        aside = np.zeros(3)
        aside[j] = step
        out[:, :, j] = (transform.map(points + aside) - transform.map(points - aside)) / (2 * step)
    return out


def as_chain(transforms: Sequence[Transform]) -> Chain:
    """A chain of transforms, chains among them laid out flat."""
    links: list[Transform] = []
    for transform in transforms:
        links += transform.links if isinstance(transform, Chain) else (transform,)
    return Chain(tuple(links))
