"""Values that no magnitude image has: signals below zero, and weighted signals above those of b = 0."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from arcuate.models.flat_image import FlatImage
from arcuate.numerics.compiled import kernel, run_in_chunks

_CHUNK = 4096  # voxels per job


class OddVoxels(NamedTuple):
    """Numbers of voxels with values that magnitudes do not have."""

    negative: int  # with a signal below 0
    above_b0: int  # with a weighted signal above the mean of the b = 0 signals, after clipping if that was asked for


def count_odd_voxels(image: FlatImage, is_b0: np.ndarray, inside: np.ndarray, *, clip: bool) -> OddVoxels:
    """Voxels with odd values among those inside; with ``clip`` signals below 0 become 0, in place and everywhere.

    Parameters
    ----------
    image : changed in place where ``clip``
    is_b0 : (n_meas,) bool
    inside : (n_vox,) bool, in the order of the image's voxels: those that count
    """
    counts = np.zeros((len(inside) // _CHUNK + 1, 2), dtype=np.int64)
    is_b0 = np.asarray(is_b0)

    def work(begin: int, end: int) -> None:
        _count_chunk(image, is_b0, inside[begin:end], clip, begin, counts[begin // _CHUNK])

    run_in_chunks(work, len(inside), _CHUNK)
    negative, above = counts.sum(axis=0)
    return OddVoxels(int(negative), int(above))


@kernel()
def _count_chunk(image, is_b0, inside, clip, first, count):
    """One piece of the image, volume after volume as it is most often stored."""
    values, n_b0 = image.values, is_b0.sum()
    mean_b0 = np.zeros(len(inside))
    highest = np.zeros(len(inside))
    has_negative = np.zeros(len(inside), dtype=np.bool_)
    for m in range(len(is_b0)):
        for v in range(len(inside)):
            at = (first + v) * image.voxel_stride + m * image.volume_stride
            value = values[at]
            if value < 0:
                has_negative[v] = True
                if clip:
                    values[at] = 0
                    value = 0
            if is_b0[m]:
                mean_b0[v] += value / n_b0
            else:
                highest[v] = max(highest[v], value)
    for v in range(len(inside)):
        if inside[v]:
            count[0] += has_negative[v]
            count[1] += n_b0 > 0 and highest[v] > mean_b0[v]
