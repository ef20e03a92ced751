"""Storage order of an image: its axes turned to named anatomical directions, and back."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

_AXES = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True, eq=False)
class Orientation:
    """How the axes of an image have to be exchanged and flipped to run in wanted directions.

    Parameters
    ----------
    order : axis of the image that becomes each axis of the turned one
    flips : whether each axis of the turned image runs against that of the image
    affine : (4, 4), of the turned image
    """

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    affine: np.ndarray

    @classmethod
    def towards(cls, codes: str, shape: tuple[int, ...], affine: np.ndarray) -> Orientation:
        """Orientation that brings an image closest to ``codes``, as "LAS": where each axis of the array runs to."""
        affine = np.asarray(affine, dtype=np.float64)
        unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        wanted = [_AXES[code] for code in codes]
        best = max(
            itertools.permutations(range(3)),
            key=lambda order: sum(abs(unit[row, axis]) for (row, _), axis in zip(wanted, order, strict=True)),
        )
        order = (best[0], best[1], best[2])
        against = [bool(unit[row, axis] * sign < 0) for (row, sign), axis in zip(wanted, order, strict=True)]
        turn = np.zeros((4, 4))
        turn[3, 3] = 1
        for new, (old, is_flipped) in enumerate(zip(order, against, strict=True)):
            turn[old, new] = -1 if is_flipped else 1
            turn[old, 3] = shape[old] - 1 if is_flipped else 0
        return cls(order, (against[0], against[1], against[2]), affine @ turn)

    def turn(self, array: np.ndarray) -> np.ndarray:
        """View of an image (x, y, z, ...) with its axes in the wanted directions."""
        turned = np.transpose(array, (*self.order, *range(3, array.ndim)))
        return np.flip(turned, self._flipped)

    def turn_back(self, array: np.ndarray) -> np.ndarray:
        """View of a turned image (..., ) as the image is stored; undoes :meth:`turn`."""
        stored = np.flip(array, self._flipped)
        back = np.argsort(self.order)
        return np.transpose(stored, (*(int(i) for i in back), *range(3, array.ndim)))

    @property
    def _flipped(self) -> tuple[int, ...]:
        return tuple(axis for axis, is_flipped in enumerate(self.flips) if is_flipped)


def tilt(affine: np.ndarray, codes: str) -> np.ndarray:
    """Rotation (3, 3) that takes scanner directions to those of an image stored along ``codes`` without a tilt.

    The identity for an image that is not oblique; ``affine`` is that of an image already turned to ``codes``.
    """
    left, _, right = np.linalg.svd(np.asarray(affine, dtype=np.float64)[:3, :3])
    straight = np.zeros((3, 3))
    for axis, code in enumerate(codes):
        row, sign = _AXES[code]
        straight[row, axis] = sign
    rotation: np.ndarray = straight @ (left @ right).T
    return np.eye(3) if np.abs(rotation - np.eye(3)).max() < 1e-4 else rotation
