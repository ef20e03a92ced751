"""The voxels of a run's images while its page is made: each file is read once."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np

from arcuate.figures.mosaic import Box, box_of
from arcuate.figures.views import Canonical, View
from arcuate.report.subject import MapFile, SubjectFiles


class Arrays:
    """Arrays of a run's maps, and what all pictures share: the brain, its box, the planes worth showing."""

    def __init__(self, subject: SubjectFiles) -> None:
        self.subject = subject
        self._kept: dict[str, np.ndarray] = {}
        self._lock = Lock()  # pictures and viewer are made side by side

    def of(self, found: MapFile) -> np.ndarray:
        """(x, y, z, ...) float32 of a map, as it is stored."""
        key = str(found.path)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = np.asarray(found.volume.get_array(), dtype=np.float32)
            return self._kept[key]

    def plain(self, found: MapFile) -> np.ndarray:
        """(x, y, z) float32: a map, or the first of its volumes."""
        array = self.of(found)
        return array if array.ndim == 3 else array[..., 0]

    @cached_property
    def inside(self) -> np.ndarray | None:
        """The mask; where it was given to the run and not written, the voxels with a tensor."""
        if self.subject.mask is not None:
            return np.asarray(self.subject.mask.get_array()) > 0
        tensors = self.subject.get_map("tensor", "md")
        return None if tensors is None else self.of(tensors) != 0

    @cached_property
    def affine(self) -> np.ndarray | None:
        """(4, 4) of the maps."""
        return self.subject.affine

    @cached_property
    def box(self) -> Box | None:
        """Where the brain is on the canonical grid."""
        return None if self.affine is None else box_of(self.inside, self.affine)

    @cached_property
    def planes(self) -> list[str]:
        """Planes in which the image is more than a stripe."""
        if self.inside is None or self.affine is None:
            return []
        return thick_planes(self.inside.shape, self.affine)

    @property
    def anatomy_name(self) -> str:
        """What :attr:`anatomy` is."""
        if self._reference("reference") is not None:
            return "Mean b = 0"
        if self._reference("reference without b0") is not None:
            return "Mean of the lowest b"
        return "FA" if self.subject.denoised is None else "Mean b = 0"

    @cached_property
    def anatomy(self) -> np.ndarray | None:
        """(x, y, z) what overlays are drawn on: the mean b = 0 image, else that of the lowest shell, else FA."""
        for role in ("reference", "reference without b0"):
            if (path := self._reference(role)) is not None:
                from arcuate.io import NiftiVolumeResource

                return np.asarray(NiftiVolumeResource(path).get_array(), dtype=np.float32)
        if self.subject.denoised is not None:
            return np.asarray(self.subject.denoised.compute_mean_b0().get_array(), dtype=np.float32)
        fa = self.subject.get_map("tensor", "fa")
        return None if fa is None else self.of(fa)

    def _reference(self, role: str) -> Path | None:
        return next((self.subject.path_of(file) for file in self.subject.files(role)), None)


def thick_planes(shape: tuple[int, ...], affine: np.ndarray) -> list[str]:
    """Planes in which an image is more than a stripe."""
    frame = Canonical(affine)
    extent = np.array([shape[frame.stored_axis(axis)] for axis in range(3)]) * frame.voxel_size
    views = [View(plane) for plane in ("axial", "coronal", "sagittal")]
    return [v.plane for v in views if min(extent[v.across], extent[v.up]) > 0.15 * max(extent[v.across], extent[v.up])]
