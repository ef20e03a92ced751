"""How a slice of an image is looked at: which way is up, which side is left, and what directions become there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arcuate.errors import InputError
from arcuate.volumes.geometry import Canonical

__all__ = ["PLANES", "Canonical", "Region", "View", "flat_plane"]

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
_ACROSS = {"sagittal": 1, "coronal": 0, "axial": 0}  # canonical axis that runs across the picture
_UP = {"sagittal": 2, "coronal": 2, "axial": 1}
Region = tuple[tuple[int, int], tuple[int, int]]
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

    def part(self, shape: Sequence[int], region: Region | None) -> list[slice]:
        """Part of a canonical grid (x, y, z) that a picture of ``region`` shows: all of it if None.

        ``region`` is ((from, to), (from, to)) in voxels across and up the picture, counted from the patient's left,
        back or bottom, ``to`` left out.
        """
        box = [slice(0, n) for n in shape[:3]]
        for axis, (low, high) in zip((self.across, self.up), region or (), strict=False):
            if not 0 <= low < high <= shape[axis]:
                raise InputError(
                    f"found the region {region}; expected ((from, to), (from, to)), voxels across and up of the "
                    f"{self.plane} slice, within 0 to {shape[self.across]} and 0 to {shape[self.up]}."
                )
            box[axis] = slice(low, high)
        return box

    def take(self, canonical: np.ndarray) -> np.ndarray:
        """The slice of a canonical array as a picture: (rows from the top, columns from the left, ...)."""
        # np.take would copy the whole of a reordered image first
        picture = np.moveaxis(canonical, self.axis, 0)[self.slice_of(canonical.shape[self.axis])]
        picture = np.swapaxes(picture, 0, 1)[::-1]  # the axis across comes before the axis up in all three planes
        return picture[:, ::-1] if self.is_mirrored else picture


def flat_plane(shape: tuple[int, ...]) -> str:
    """Plane of an image that is one slice thick; axial for a block."""
    thin = [name for name, axis in PLANES.items() if shape[axis] == 1]
    return thin[-1] if len(thin) == 1 else "axial"
