"""What a step knows of a diffusion scan."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, TypeVar, cast

import numpy as np

from arcuate.errors import warn
from arcuate.gradients import NO_B0, GradientTable
from arcuate.volumes.resource import InMemoryVolumeResource, VectorResource, VolumeResource


class Scan(Protocol):
    """A diffusion scan, such as :class:`arcuate.dwi.Dwi`; a dataclass.

    Attributes
    ----------
    volume : (x, y, z, n_meas)
    bval, bvec : (n_meas,) s/mm², (n_meas, 3), as their files hold them
    b0_threshold : s/mm²
    gradients : b-values and directions in the scanner frame
    """

    @property
    def volume(self) -> VolumeResource: ...
    @property
    def bval(self) -> VectorResource: ...
    @property
    def bvec(self) -> VectorResource: ...
    @property
    def b0_threshold(self) -> float: ...
    @property
    def gradients(self) -> GradientTable: ...


S = TypeVar("S", bound=Scan)


def with_volume(scan: S, volume: VolumeResource) -> S:
    """The scan with another volume of the same measurements; its b-values and b-vectors in memory."""
    changed = dataclasses.replace(cast(Any, scan), volume=volume, bval=scan.bval.load(), bvec=scan.bvec.load())
    return cast(S, changed)


def compute_mean_b0(scan: Scan) -> InMemoryVolumeResource:
    """Mean of the b = 0 volumes, (x, y, z) float32; values that are not finite do not count.

    Raises
    ------
    InputError
        There is no b = 0 volume.
    """
    return _mean_of(scan, scan.gradients.require_b0("the mean b=0 image"))


def compute_mean_least_weighted(scan: Scan) -> InMemoryVolumeResource:
    """Mean of the b = 0 volumes, or of those of the lowest shell where there are none, (x, y, z) float32.

    What shows the head best: for masks, which need no b = 0.

    Warns
    -----
    InputWarning
        There is no b = 0 volume.
    """
    gradients = scan.gradients
    if not gradients.is_b0.any():
        warn(f"{NO_B0}: its head is looked for in the lowest shell (b = {gradients.levels[0].b:.0f} s/mm²).")
    return _mean_of(scan, gradients.least_weighted)


def mean_of_volumes(scan: Scan, index: np.ndarray) -> np.ndarray:
    """(x, y, z) float64, mean of the volumes ``index`` over their finite values; NaN where there are none."""
    array = scan.volume.get_array()
    total, n = np.zeros(array.shape[:3]), np.zeros(array.shape[:3])
    for i in index:
        is_finite = np.isfinite(array[..., i])
        total += np.where(is_finite, array[..., i], 0)
        n += is_finite
    return np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0)


def _mean_of(scan: Scan, index: np.ndarray) -> InMemoryVolumeResource:
    return scan.volume.with_array(mean_of_volumes(scan, index).astype(np.float32))
