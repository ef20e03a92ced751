"""What a step knows of a diffusion scan."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, TypeVar, cast

import numpy as np

from arcuate.errors import InputError
from arcuate.gradients import GradientTable
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
    """Mean of the b = 0 volumes, (x, y, z) float32.

    Raises
    ------
    InputError
        There is no b = 0 volume.
    """
    index = np.flatnonzero(scan.gradients.is_b0)
    if len(index) == 0:
        raise InputError(
            f"found no b=0 volume (lowest b-value {scan.gradients.bvals.min():g} s/mm²); expected at least one. "
            "Raise b0_threshold (--b0-threshold) if the lowest b-value is meant as b=0."
        )
    array = scan.volume.get_array()
    mean = np.zeros(array.shape[:3], dtype=np.float64)
    for i in index:
        mean += array[..., i]
    mean /= len(index)
    return scan.volume.with_array(mean.astype(np.float32))
