"""An image as one vector in its own memory order, so that kernels read it as it is stored."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np


class FlatImage(NamedTuple):
    """The values of an image (x, y, z, n_meas) as they lie in memory; goes into kernels as it is."""

    values: np.ndarray  # (n_vox n_meas,) float32
    strides: np.ndarray  # (4,) int64, steps in ``values`` along x, y, z and from volume to volume
    voxel_stride: int  # step from a voxel to the next one in memory order
    volume_stride: int  # step from a volume to the next
    n_meas: int

    @property
    def order(self) -> Literal["C", "F"]:
        """Memory order of the image: "F" where its volumes lie one after the other."""
        return "C" if self.volume_stride == 1 and self.voxel_stride == self.n_meas else "F"

    def rows_of(self, volume: np.ndarray) -> np.ndarray:
        """(n_vox,) values of a volume (x, y, z) in the order of this image's voxels."""
        return volume.ravel(order=self.order)

    def shaped(self, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """``values``, in the order of this image, as an image of ``shape``; not copied."""
        return values.reshape(shape, order=self.order)


def memory_order(image: np.ndarray) -> Literal["C", "F"]:
    """Order in which the voxels of an image (x, y, z, ...) can be listed without moving them; "C" if in neither."""
    return "F" if image.flags.f_contiguous and not image.flags.c_contiguous else "C"


def flat_image(image: np.ndarray) -> FlatImage:
    """An image (x, y, z, n_meas) as one float32 vector; a view of it where it is float32 and contiguous."""
    image = np.asarray(image, dtype=np.float32)
    if not (image.flags.c_contiguous or image.flags.f_contiguous):
        image = np.ascontiguousarray(image)
    nx, ny, nz, n_meas = image.shape
    if image.flags.c_contiguous:
        strides = (ny * nz * n_meas, nz * n_meas, n_meas, 1)
        return FlatImage(image.ravel(order="C"), np.array(strides), n_meas, 1, n_meas)
    strides = (1, nx, nx * ny, nx * ny * nz)
    return FlatImage(image.ravel(order="F"), np.array(strides), 1, nx * ny * nz, n_meas)
