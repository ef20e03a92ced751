"""Where voxels lie: sizes, storage orders, and axes turned to named anatomical directions and back."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

ROUNDING = 0.05  # of a voxel; images whose corners are less apart lie at one place
MOST_APART = 0.5  # of a voxel; images whose corners are further apart lie elsewhere, between the two is a warning
_AXES = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def voxel_size(affine: np.ndarray) -> tuple[float, float, float]:
    """Edge lengths (3,) of a voxel along the axes of the array, mm, from an affine (4, 4)."""
    x, y, z = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    return float(x), float(y), float(z)


def corners_apart(shape: tuple[int, ...], ours: np.ndarray, theirs: np.ndarray) -> float:
    """mm by which two affines (4, 4) place the corners of an image of this shape apart, at most."""
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij"), -1).reshape(-1, 3)
    difference = ours - theirs
    return float(np.linalg.norm(corners @ difference[:3, :3].T + difference[:3, 3], axis=1).max())


def parse_codes(codes: str) -> tuple[tuple[int, int], ...]:
    """Scanner axis and sign of each letter of ``codes`` (LAS, RAS ...); ValueError where they name no three axes."""
    named = [_AXES[code] for code in codes.upper() if code in _AXES]
    if len(codes) != 3 or len({axis for axis, _ in named}) != 3:
        raise ValueError(f"{codes!r} does not name three axes")
    return tuple(named)


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
    def of(
        cls, order: tuple[int, ...], flips: tuple[bool, ...], shape: tuple[int, ...], affine: np.ndarray
    ) -> Orientation:
        """Orientation that takes the axes of an image of this shape and affine in ``order`` and with ``flips``."""
        turn = np.zeros((4, 4))
        turn[3, 3] = 1
        for new, (old, is_flipped) in enumerate(zip(order, flips, strict=True)):
            turn[old, new] = -1 if is_flipped else 1
            turn[old, 3] = shape[old] - 1 if is_flipped else 0
        a, b, c = order
        return cls((a, b, c), (bool(flips[0]), bool(flips[1]), bool(flips[2])), np.asarray(affine, np.float64) @ turn)

    @classmethod
    def towards(cls, codes: str, shape: tuple[int, ...], affine: np.ndarray) -> Orientation:
        """Orientation that brings an image closest to ``codes``, as "LAS": where each axis of the array runs to."""
        affine = np.asarray(affine, dtype=np.float64)
        unit = affine[:3, :3] / voxel_size(affine)
        wanted = parse_codes(codes)
        order = max(
            itertools.permutations(range(3)),
            key=lambda order: sum(abs(unit[row, axis]) for (row, _), axis in zip(wanted, order, strict=True)),
        )
        against = tuple(bool(unit[row, axis] * sign < 0) for (row, sign), axis in zip(wanted, order, strict=True))
        return cls.of(order, against, shape, affine)

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


@dataclass(frozen=True, eq=False)
class Canonical:
    """Arrays reordered so that their axes run to the patient's right, front and top, as nearly as they can.

    Parameters
    ----------
    affine : (4, 4) float, of the image as it is stored; None for arrays without a place in the scanner
    """

    affine: np.ndarray | None = None

    @cached_property
    def _orientation(self) -> Orientation:
        return Orientation.towards("RAS", (1, 1, 1), np.eye(4) if self.affine is None else self.affine)

    def reorder(self, array: np.ndarray) -> np.ndarray:
        """The array (x, y, z, ...) in canonical order; a view of it."""
        return self._orientation.turn(np.asarray(array))

    def stored_axis(self, axis: int) -> int:
        """Axis of the array as it is stored that becomes this canonical one."""
        return self._orientation.order[axis]

    @property
    def voxel_size(self) -> np.ndarray:
        """(3,) float, mm along the canonical axes."""
        return np.array(voxel_size(self._orientation.affine))

    @property
    def rotation(self) -> np.ndarray:
        """(3, 3) orthonormal: a scanner direction d (row) is ``d @ rotation`` on the canonical axes."""
        return nearest_rotation(self._orientation.affine[:3, :3] / self.voxel_size)


def nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    """(3, 3) orthonormal matrix nearest to ``matrix`` (its polar factor), a reflection kept."""
    left, _, right = np.linalg.svd(matrix)
    return np.asarray(left @ right)


def axis_codes(affine: np.ndarray) -> str:
    """Where the three axes of the array run to, such as LAS."""
    back = Orientation.towards("RAS", (1, 1, 1), affine)
    codes = [""] * 3
    for row, (axis, is_flipped) in enumerate(zip(back.order, back.flips, strict=True)):
        codes[axis] = ("LPI" if is_flipped else "RAS")[row]
    return "".join(codes)


def tilt(affine: np.ndarray, codes: str) -> np.ndarray:
    """Rotation (3, 3) that takes scanner directions to those of an image stored along ``codes`` without a tilt.

    The identity for an image that is not oblique; ``affine`` is that of an image already turned to ``codes``.
    """
    straight = np.zeros((3, 3))
    for axis, (row, sign) in enumerate(parse_codes(codes)):
        straight[row, axis] = sign
    rotation: np.ndarray = straight @ nearest_rotation(np.asarray(affine, dtype=np.float64)[:3, :3]).T
    return np.eye(3) if np.abs(rotation - np.eye(3)).max() < 1e-4 else rotation
