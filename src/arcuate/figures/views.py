"""How a slice of an image is looked at: which way is up, which side is left, and what directions become there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from arcuate.errors import InputError

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
_ACROSS = {"sagittal": 1, "coronal": 0, "axial": 0}  # canonical axis that runs across the picture
_UP = {"sagittal": 2, "coronal": 2, "axial": 1}
_ENDS = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True)
class View:
    """A slice and the side from which it is seen.

    Parameters
    ----------
    plane : axial, coronal or sagittal, of the patient, whatever the storage order; for oblique images the nearest
    index : slice, counted from the patient's left, back or bottom; the middle one if None
    radiological : the patient's right is on the left of the picture; else (neurological) on the right
    """

    plane: str = "axial"
    index: int | None = None
    radiological: bool = False

    def __post_init__(self) -> None:
        if self.plane not in PLANES:
            raise InputError(f"found the plane {self.plane!r}; expected one of {', '.join(PLANES)}.")

    @property
    def axis(self) -> int:
        """Canonical axis (0 left-right, 1 back-front, 2 bottom-top) that the slice is perpendicular to."""
        return PLANES[self.plane]

    @property
    def across(self) -> int:
        """Canonical axis that runs across the picture."""
        return _ACROSS[self.plane]

    @property
    def up(self) -> int:
        """Canonical axis that runs up the picture, always towards its positive end."""
        return _UP[self.plane]

    @property
    def is_mirrored(self) -> bool:
        """Whether the axis across runs from right to left in the picture."""
        return self.radiological and self.across == 0

    @property
    def labels(self) -> tuple[str, str, str, str]:
        """What lies at the left, right, bottom and top of the picture, such as ``("L", "R", "P", "A")``."""
        ends = _ENDS[self.across]
        return (*(ends[::-1] if self.is_mirrored else ends), *_ENDS[self.up])

    @property
    def camera(self) -> np.ndarray:
        """(3,) unit vector, canonical axes, from the slice to the eye."""
        right, up = np.eye(3)[self.across] * (-1 if self.is_mirrored else 1), np.eye(3)[self.up]
        return np.cross(right, up)

    def slice_of(self, n_slices: int) -> int:
        """The slice's index in an image that has ``n_slices`` of them."""
        at = n_slices // 2 if self.index is None else self.index
        if not -n_slices <= at < n_slices:
            raise InputError(f"found slice {at}; expected one of 0 to {n_slices - 1} ({self.plane}).")
        return at % n_slices

    def take(self, canonical: np.ndarray) -> np.ndarray:
        """The slice of a canonical array as a picture: (rows from the top, columns from the left, ...)."""
        picture = np.take(canonical, self.slice_of(canonical.shape[self.axis]), axis=self.axis)
        picture = np.swapaxes(picture, 0, 1)[::-1]  # the axis across comes before the axis up in all three planes
        return picture[:, ::-1] if self.is_mirrored else picture


@dataclass(frozen=True, eq=False)
class Canonical:
    """Arrays reordered so that their axes run to the patient's right, front and top, as nearly as they can.

    Parameters
    ----------
    affine : (4, 4) float, of the image as it is stored; None for arrays without a place in the scanner
    """

    affine: np.ndarray | None = None

    @property
    def _orientation(self) -> Any:
        from nibabel.orientations import io_orientation

        return io_orientation(np.eye(4) if self.affine is None else np.asarray(self.affine, dtype=np.float64))

    def reorder(self, array: np.ndarray) -> np.ndarray:
        """The array (x, y, z, ...) in canonical order; a view of it."""
        from nibabel.orientations import apply_orientation

        return np.asarray(apply_orientation(array, self._orientation))

    def stored_axis(self, axis: int) -> int:
        """Axis of the array as it is stored that becomes this canonical one."""
        return int(np.flatnonzero(self._orientation[:, 0].astype(int) == axis)[0])

    @property
    def voxel_size(self) -> np.ndarray:
        """(3,) float, mm along the canonical axes."""
        return np.asarray(np.linalg.norm(self._axes, axis=0))

    @property
    def rotation(self) -> np.ndarray:
        """(3, 3) orthonormal: a scanner direction d (row) is ``d @ rotation`` on the canonical axes."""
        u, _, vt = np.linalg.svd(self._axes / self.voxel_size)
        return np.asarray(u @ vt)

    @property
    def _axes(self) -> np.ndarray:
        if self.affine is None:
            return np.eye(3)
        order, signs = self._orientation[:, 0].astype(int), self._orientation[:, 1]
        stored = np.asarray(self.affine, dtype=np.float64)[:3, :3] * signs
        axes = np.empty((3, 3))
        axes[:, order] = stored
        return axes


def flat_plane(shape: tuple[int, ...]) -> str:
    """Plane of an image that is one slice thick; axial for a block."""
    thin = [name for name, axis in PLANES.items() if shape[axis] == 1]
    return thin[-1] if len(thin) == 1 else "axial"
