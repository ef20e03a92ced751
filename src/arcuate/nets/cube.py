"""The cube of 144 voxels that TractSeg's networks see, and how it corresponds to an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

SIZE = 144
PADDING = -1


@dataclass(frozen=True, eq=False)
class AxisMap:
    """Nearest-neighbour correspondence along one axis.

    Parameters
    ----------
    source : (144,) int, position in the image that each position of the cube shows; -1 outside the image
    back : (n,) int, position in the cube where each position of the image finds its result
    """

    source: np.ndarray
    back: np.ndarray

    def distinct(self, *, only_needed: bool) -> np.ndarray:
        """Image positions (or -1) whose slices differ: all that the cube shows, or only those looked up again."""
        return np.unique(self.source[self.back] if only_needed else self.source)

    def shown_at(self, position: int) -> np.ndarray:
        """Positions of the cube that show an image position."""
        return np.flatnonzero(self.source == position)

    def looked_up_at(self, position: int) -> np.ndarray:
        """Positions of the image whose result comes from a slice that shows ``position``."""
        return np.flatnonzero(self.source[self.back] == position)


def make_axis_maps(shape: tuple[int, ...], voxel_size: tuple[float, ...]) -> tuple[AxisMap, AxisMap, AxisMap]:
    """Correspondence of a cropped image and the cube, as TractSeg makes it: padded to a cube, zoomed to 144.

    Parameters
    ----------
    shape : voxels along each axis
    voxel_size : mm; voxels that are not cubes are first resampled to cubes of the shortest edge, because the networks
        know heads in isotropic voxels only
    """
    smallest = min(voxel_size)
    is_cubic = max(voxel_size) < 1.02 * smallest
    lengths = [n if is_cubic else max(1, round(n * s / smallest)) for n, s in zip(shape, voxel_size, strict=True)]
    edge = max(lengths)
    maps = [_axis_map(n, m, edge) for n, m in zip(shape, lengths, strict=True)]
    return maps[0], maps[1], maps[2]


def _axis_map(n: int, n_cubic: int, edge: int) -> AxisMap:
    resampled = np.floor((np.arange(n_cubic) + 0.5) * n / n_cubic).astype(np.intp)
    pad = (edge - n_cubic) / 2.0
    padded = np.full(edge, PADDING)
    padded[int(pad) : int(pad) + n_cubic] = resampled
    zoom = SIZE / edge
    source = padded[_nearest(edge, zoom)]
    again = _nearest(SIZE, 1.0 / zoom)
    odd = int(pad - int(pad) == 0.5)
    again = again[int(pad) : len(again) - int(pad) - odd]
    back = again[np.floor((np.arange(n) + 0.5) * n_cubic / n).astype(np.intp)]
    return AxisMap(source, back)


def _nearest(n: int, zoom: float) -> np.ndarray:
    """Index that scipy's nearest-neighbour zoom takes for each position; asked of scipy itself, rounding included."""
    indices: np.ndarray = np.rint(scipy.ndimage.zoom(np.arange(n, dtype=np.float64), zoom, order=0)).astype(np.intp)
    return indices
