"""Where the voxels of a stored image lie: axis order, flips and obliquity around one and the same head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arcuate.errors import InputError
from arcuate.volumes.geometry import Orientation, parse_codes

_OBLIQUE_AXIS = np.array([1.0, 0.6, 0.3]) / np.linalg.norm([1.0, 0.6, 0.3])


@dataclass(frozen=True)
class Grid:
    """A canonical grid (axes near right, front, up), and how its voxels are stored.

    Attributes
    ----------
    shape : (3,) int, canonical
    canonical : (4, 4) float, canonical voxel indices to scanner mm
    storage : from the canonical axes to those of the stored image
    """

    shape: tuple[int, int, int]
    canonical: np.ndarray
    storage: Orientation

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) float, stored voxel indices to scanner mm."""
        return self.storage.affine

    def stored(self, flat: np.ndarray) -> np.ndarray:
        """Values (n_vox, ...) in canonical C order as an image in stored order (x, y, z, ...)."""
        return np.ascontiguousarray(self.storage.turn(flat.reshape(*self.shape, *flat.shape[1:])))


def make_grid(
    shape: tuple[int, int, int],
    voxel_size: float | tuple[float, float, float],
    orientation: str,
    oblique_degrees: float,
) -> Grid:
    """Grid centred on the scanner's origin; ``orientation`` names where the three stored axes point to."""
    try:
        axes = parse_codes(orientation)
    except ValueError:
        raise InputError(
            f"found the orientation {orientation!r}; expected three letters, one each of R or L, A or P, S or I, "
            "such as LAS: where the three axes of the image point to."
        ) from None
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"found the shape {tuple(shape)}; expected three numbers of voxels.")
    size = np.broadcast_to(np.asarray(voxel_size, dtype=np.float64), (3,))
    if not np.all(size > 0):
        raise InputError(f"found the voxel size {voxel_size}; expected positive mm.")
    linear = _rotation(oblique_degrees) * size
    canonical = np.eye(4)
    canonical[:3, :3] = linear
    canonical[:3, 3] = -linear @ ((np.array(shape) - 1) / 2)
    storage = Orientation.of(tuple(a for a, _ in axes), tuple(sign < 0 for _, sign in axes), tuple(shape), canonical)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), canonical, storage)


def _rotation(degrees: float) -> np.ndarray:
    """Rotation about an axis that lies in no plane of the scanner."""
    angle = np.deg2rad(degrees)
    x, y, z = _OBLIQUE_AXIS
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)
