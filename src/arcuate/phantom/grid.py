"""Where the voxels of a stored image lie: axis order, flips and obliquity around one and the same head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arcuate.errors import InputError

_AXIS = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
_OBLIQUE_AXIS = np.array([1.0, 0.6, 0.3]) / np.linalg.norm([1.0, 0.6, 0.3])


@dataclass(frozen=True)
class Grid:
    """A canonical grid (axes near right, front, up), and how its voxels are stored.

    Attributes
    ----------
    shape : (3,) int, canonical
    canonical : (4, 4) float, canonical voxel indices to scanner mm
    axes : (3,) int, canonical axis of each stored axis
    flips : (3,) bool, whether the stored axis runs backwards
    """

    shape: tuple[int, int, int]
    canonical: np.ndarray
    axes: tuple[int, ...]
    flips: tuple[bool, ...]

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) float, stored voxel indices to scanner mm."""
        to_canonical = np.zeros((4, 4))
        to_canonical[3, 3] = 1.0
        for stored, (axis, is_flipped) in enumerate(zip(self.axes, self.flips, strict=True)):
            to_canonical[axis, stored] = -1.0 if is_flipped else 1.0
            to_canonical[axis, 3] = self.shape[axis] - 1.0 if is_flipped else 0.0
        return np.asarray(self.canonical @ to_canonical)

    def stored(self, flat: np.ndarray) -> np.ndarray:
        """Values (n_vox, ...) in canonical C order as an image in stored order (x, y, z, ...)."""
        array = flat.reshape(*self.shape, *flat.shape[1:])
        array = array.transpose(*self.axes, *range(3, array.ndim))
        backwards = tuple(slice(None, None, -1 if f else None) for f in self.flips)
        return np.ascontiguousarray(array[backwards])


def make_grid(
    shape: tuple[int, int, int],
    voxel_size: float | tuple[float, float, float],
    orientation: str,
    oblique_degrees: float,
) -> Grid:
    """Grid centred on the scanner's origin; ``orientation`` names where the three stored axes point to."""
    codes = orientation.upper()
    if len(codes) != 3 or any(c not in _AXIS for c in codes) or len({_AXIS[c] for c in codes}) != 3:
        raise InputError(
            f"found the orientation {orientation!r}; expected three letters, one each of R or L, A or P, S or I, "
            "such as LAS: where the three axes of the image point to."
        )
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"found the shape {tuple(shape)}; expected three numbers of voxels.")
    size = np.broadcast_to(np.asarray(voxel_size, dtype=np.float64), (3,))
    if not np.all(size > 0):
        raise InputError(f"found the voxel size {voxel_size}; expected positive mm.")
    linear = _rotation(oblique_degrees) * size
    canonical = np.eye(4)
    canonical[:3, :3] = linear
    canonical[:3, 3] = -linear @ ((np.array(shape) - 1) / 2)
    axes, flips = tuple(_AXIS[c] for c in codes), tuple(c in "LPI" for c in codes)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), canonical, axes, flips)


def _rotation(degrees: float) -> np.ndarray:
    """Rotation about an axis that lies in no plane of the scanner."""
    angle = np.deg2rad(degrees)
    x, y, z = _OBLIQUE_AXIS
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)
