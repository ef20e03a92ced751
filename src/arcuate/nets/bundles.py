"""Tracts from peaks: TractSeg's networks over the slices of a head in the three directions.

Slices of the cube are nearest-neighbour copies of slices of the image, so that about half of the 144 in each direction
repeat their neighbour and all outside the head are empty: each distinct slice goes through the network once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy

from arcuate.nets.cube import SIZE, AxisMap, make_axis_maps
from arcuate.nets.inference import infers
from arcuate.numerics.eigen import eigh_3x3
from arcuate.numerics.progress import tell_progress

if TYPE_CHECKING:
    import torch

    from arcuate.nets.unet import UNet

EPSILON = 1e-7
BATCH = 2
Progress = Callable[[int, int], None]  # slices done, slices in all

# Thin tracts that the network may cut in two: the size of a part that counts, and the lower threshold then used.
INCOMPLETE = {"CA": (200, 0.3), "FX_left": (100, 0.4), "FX_right": (100, 0.4)}
CLOSING = 6  # voxels of the cube


@dataclass(frozen=True, eq=False)
class CroppedHead:
    """Peaks of a head, cut to the box that holds any.

    Parameters
    ----------
    peaks : (x, y, z, 9) float32, one empty plane at the end of each axis, where padding is read from
    box : where the image lies in the array that was cropped
    axes : correspondence with the cube, by axis
    """

    peaks: np.ndarray
    box: tuple[slice, slice, slice]
    axes: tuple[AxisMap, AxisMap, AxisMap]

    @classmethod
    def of(cls, peaks: np.ndarray, voxel_size: tuple[float, ...]) -> CroppedHead | None:
        """The head in an array of peaks (x, y, z, 9); None if there is no peak in it."""
        found = np.any(peaks != 0, axis=3)
        if not found.any():
            return None
        extents = []
        for axis in range(3):
            along = np.flatnonzero(found.any(axis=tuple(a for a in range(3) if a != axis)))
            extents.append(slice(int(along[0]), int(along[-1]) + 1))
        box = (extents[0], extents[1], extents[2])
        shape = tuple(s.stop - s.start for s in box)
        padded = np.zeros((*(n + 1 for n in shape), peaks.shape[3]), np.float32)
        padded[:-1, :-1, :-1] = peaks[box]
        return cls(padded, box, make_axis_maps(shape, voxel_size))

    @property
    def shape(self) -> tuple[int, int, int]:
        x, y, z = (n - 1 for n in self.peaks.shape[:3])
        return x, y, z

    def slice_of_cube(self, axis: int, position: int) -> np.ndarray:
        """One slice across ``axis`` as the network sees it: (9, 144, 144) float32, mean 0 and deviation 1."""
        first, second = (self.axes[a].source for a in range(3) if a != axis)
        plane = np.moveaxis(self.peaks, axis, 0)[position]
        image = np.ascontiguousarray(plane[first][:, second].transpose(2, 0, 1))
        mean, deviation = image.mean(dtype=np.float64), image.std(dtype=np.float64)
        image -= np.float32(mean)
        image /= np.float32(deviation + EPSILON)
        return image


@infers
def run_network(
    head: CroppedHead,
    unet: UNet,
    *,
    directions: Sequence[int] = (0, 1, 2),
    whole: Sequence[int] = (),
    tensors: bool = False,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Output of a network, the mean over slicing directions.

    Parameters
    ----------
    directions : axes that the slices are cut across
    whole : classes wanted on the whole cube as well
    tensors : mean over directions of v vᵀ for each triple of channels v, six components in place of three
    batch : slices that go through the network together

    Returns
    -------
    here : (n_channels, x, y, z) float32, on the cropped image
    cube : (len(whole), 144, 144, 144) float32
    """
    n_channels = 2 * unet.n_classes if tensors else unet.n_classes
    here = np.zeros((n_channels, *head.shape), np.float32)
    cube = np.zeros((len(whole), SIZE, SIZE, SIZE), np.float32)
    todo = {axis: head.axes[axis].distinct(only_needed=not whole) for axis in directions}
    n_done, n_slices = 0, sum(len(p) for p in todo.values())
    tell_progress(0, n_slices)
    for axis in directions:
        first, second = (head.axes[a].back for a in range(3) if a != axis)
        ours, whole_cube = np.moveaxis(here, 1 + axis, 1), np.moveaxis(cube, 1 + axis, 1)
        for positions, out in _outputs(head, unet, axis, todo[axis], batch):
            looked_up = out[:, :, first][..., second].cpu().numpy()
            if tensors:
                looked_up = _outer_products(looked_up)
            wanted = out[:, list(whole)].cpu().numpy() if whole else None
            for i, position in enumerate(positions):
                ours[:, head.axes[axis].looked_up_at(position)] += looked_up[i][:, None]
                if wanted is not None:
                    whole_cube[:, head.axes[axis].shown_at(position)] += wanted[i][:, None]
            n_done += len(positions)
            tell_progress(n_done, n_slices)
            if progress is not None:
                progress(n_done, n_slices)
    here /= len(directions)
    cube /= len(directions)
    return here, cube


def _outputs(
    head: CroppedHead, unet: UNet, axis: int, positions: np.ndarray, batch: int
) -> Iterator[tuple[list[int], torch.Tensor]]:
    for start in range(0, len(positions), batch):
        some = [int(p) for p in positions[start : start + batch]]
        yield some, unet(np.stack([head.slice_of_cube(axis, p) for p in some]))


def _outer_products(maps: np.ndarray) -> np.ndarray:
    """xx xy xz yy yz zz of each triple of channels: (n, 3 k, ...) to (n, 6 k, ...)."""
    x, y, z = maps[:, 0::3], maps[:, 1::3], maps[:, 2::3]
    products = np.stack([x * x, x * y, x * z, y * y, y * z, z * z], axis=2)
    return products.reshape(maps.shape[0], -1, *maps.shape[2:])


def main_axes(tensors: np.ndarray) -> np.ndarray:
    """Largest eigenvalue times its eigenvector: (6 k, ...) to (3 k, ...) float32, 0 where it is under 0.001.

    How TractSeg fuses orientation maps of several directions, whose signs do not matter; the length is that of the
    mean square.
    """
    k = len(tensors) // 6
    grid = tensors.shape[1:]
    fused = np.zeros((k, 3, int(np.prod(grid))), np.float32)
    for i, rows in enumerate(tensors.reshape(k, 6, -1)):
        evals, evecs = eigh_3x3(rows.T)
        axis = evecs[:, 0] * evals[:, :1]
        fused[i] = np.where(np.linalg.norm(axis, axis=1, keepdims=True) < 1e-3, 0, axis).T
    return fused.reshape(3 * k, *grid)


def close_gaps(probability: np.ndarray, n_voxels: int, lower: float) -> np.ndarray:
    """Mask of a thin tract on the cube: a lower threshold where it falls into large parts, then a closing.

    Parameters
    ----------
    probability : (144, 144, 144) float32
    n_voxels : parts larger than this count; with two or more the tract is incomplete
    lower : the threshold for an incomplete tract
    """
    labels, _ = scipy.ndimage.label(probability > 0.5)
    is_incomplete = int((np.bincount(labels.ravel())[1:] > n_voxels).sum()) >= 2
    closed: np.ndarray = probability > (lower if is_incomplete else 0.5)
    whole, closed = closed, closed[_box_around(closed, 2 * CLOSING)]
    # a box is the product of three segments: 3 x 6 comparisons a voxel in place of 216
    segments = [np.ones([CLOSING if a == axis else 1 for a in range(3)], bool) for axis in range(3)]
    for operation in (scipy.ndimage.binary_dilation, scipy.ndimage.binary_erosion):
        for segment in segments:
            closed = operation(closed, structure=segment)
    out = np.zeros_like(whole)
    out[_box_around(whole, 2 * CLOSING)] = closed
    return out


def _box_around(mask: np.ndarray, margin: int) -> tuple[slice, ...]:
    """The box that holds a mask, and some voxels more; empty for an empty mask."""
    box = []
    for axis in range(mask.ndim):
        along = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(max(0, along[0] - margin), along[-1] + 1 + margin) if len(along) else slice(0, 0))
    return tuple(box)


def look_up(cube: np.ndarray, axes: tuple[AxisMap, AxisMap, AxisMap]) -> np.ndarray:
    """The cube's values (144, 144, 144) at the voxels of the cropped image."""
    return cube[np.ix_(*(axis.back for axis in axes))]
