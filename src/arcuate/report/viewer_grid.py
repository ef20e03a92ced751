"""The grid that the viewer shows: the brain's part of the image, on axes that run to the right, front and top."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from arcuate.figures.views import Canonical


@dataclass(frozen=True, eq=False)
class ViewerGrid:
    """A box of the image in canonical order.

    Parameters
    ----------
    affine : (4, 4), of the image as it is stored
    inside : (x, y, z) bool as it is stored, what the box holds
    """

    affine: np.ndarray
    inside: np.ndarray

    @cached_property
    def frame(self) -> Canonical:
        return Canonical(self.affine)

    @cached_property
    def box(self) -> tuple[slice, ...]:
        """Where the brain is on the canonical grid, with a voxel around it."""
        canonical = self.frame.reorder(self.inside)
        box = []
        for axis in range(3):
            others = tuple(a for a in range(3) if a != axis)
            filled = np.flatnonzero(canonical.any(axis=others))
            low, high = (int(filled[0]), int(filled[-1])) if len(filled) else (0, canonical.shape[axis] - 1)
            box.append(slice(max(low - 1, 0), min(high + 2, canonical.shape[axis])))
        return tuple(box)

    @cached_property
    def mask(self) -> np.ndarray:
        """(nx, ny, nz) bool: the brain in the box."""
        return self.take(self.inside)

    @property
    def start(self) -> list[int]:
        """First voxel of the box on the canonical grid."""
        return [part.start for part in self.box]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mask.shape

    @cached_property
    def box_affine(self) -> np.ndarray:
        """(4, 4), voxel of the box to scanner mm."""
        from nibabel.orientations import inv_ornt_aff, io_orientation

        affine = np.asarray(self.affine, dtype=np.float64)
        canonical = affine @ inv_ornt_aff(io_orientation(affine), self.inside.shape)
        shift = np.eye(4)
        shift[:3, 3] = self.start
        return np.asarray(canonical @ shift)

    def take(self, array: np.ndarray) -> np.ndarray:
        """The box's part of an array (x, y, z, ...) as it is stored."""
        return np.asarray(self.frame.reorder(array)[self.box])

    @cached_property
    def middle(self) -> list[int]:
        """Voxel of the box through which half of the brain lies on either side, along each axis."""
        found = []
        for axis in range(3):
            counts = self.mask.sum(axis=tuple(a for a in range(3) if a != axis))
            total = np.cumsum(counts)
            found.append(int(np.searchsorted(total, total[-1] / 2)) if total[-1] else self.shape[axis] // 2)
        return found
