"""Volumes lost in a whole slice: many voxels together tell what one of them cannot tell for sure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arcuate.models.tensor import determines_tensor

SHARE = 0.3  # of a slice's voxels in which a volume is an outlier: it is lost in all of them
NEAR = 0.75  # of the share of the slice's worst volume: those below it may have been drawn along by that one
CHANCE = 2  # voxels of a slice that do not count: in a slice of few voxels two outliers by chance are a large share
MOST_ROUNDS = 6  # of fits without what was lost; so many volumes lost in one slice have been seen in none


class SliceEvidence:
    """Which volumes are lost in which slices of an image, from the outliers of its voxels.

    Along which axis the image was acquired is found from the outliers: a slice that dropped out makes its volume an
    outlier in one slice of that axis, and in a few voxels of every slice of the others.

    Parameters
    ----------
    slices : (3, n_vox) int
        Slice of each voxel along each axis of the image.
    design : (n_meas, 7) float
        Of the tensor, see :func:`arcuate.models.tensor.tensor_design`. What it leaves undetermined is never lost.

    Notes
    -----
    With s the share of the slice's voxels in which a volume is an outlier (two voxels do not count), the volume is lost
    where s >= 0.3 and s >= 0.75 times the largest s of that slice. The voxels of the slice are fitted again without it,
    and judged again: what was an outlier because of it no longer is one, and what hid behind it becomes one.
    """

    def __init__(self, slices: np.ndarray, design: np.ndarray) -> None:
        self._slices, self._design = slices, design
        extents = [int(along.max(initial=-1)) + 1 for along in slices]
        self._counts = [np.zeros((n, len(design))) for n in extents]
        self._sizes = [np.bincount(along, minlength=n) for along, n in zip(slices, extents, strict=True)]
        self._left: Sequence[int] = (2, 1, 0)  # axes that may be those of the acquisition, the likeliest first
        self._n_rounds = 0
        self.lost = np.zeros((extents[2], len(design)), dtype=bool)

    @property
    def n_outliers(self) -> np.ndarray:
        """(n_meas,) voxels in which each volume is an outlier, lost or not."""
        return np.asarray(self._counts[self.axis].sum(axis=0))

    @property
    def axis(self) -> int:
        """Axis of the slices, 0 to 2; the last where nothing tells."""
        return self._left[0]

    def lost_of(self, voxels: np.ndarray) -> np.ndarray | None:
        """(n, n_meas) bool, volumes known to be lost in ``voxels`` (n,) int; None before anything is known."""
        return self.lost[self._slices[self.axis][voxels]] if self._n_rounds else None

    def count(self, voxels: np.ndarray, outliers: np.ndarray) -> None:
        """Take notice of the outliers (n, n_meas) bool of ``voxels`` (n,) int."""
        v, i = np.nonzero(outliers)
        for axis in self._left:
            counts = self._counts[axis]
            places = self._slices[axis][voxels[v]] * counts.shape[1] + i
            counts += np.bincount(places, minlength=counts.size).reshape(counts.shape)

    def find_lost(self) -> np.ndarray:
        """(n_vox,) bool: voxels of slices in which more volumes turn out to be lost, to be fitted and counted again."""
        if not self._n_rounds:
            self._left = (max(self._left, key=self._excess),)  # of equals the first
            self.lost = np.zeros_like(self._counts[self.axis], dtype=bool)
        self._n_rounds += 1
        found = self._blamed(self.axis) & ~self.lost
        for k in np.flatnonzero(found.any(axis=1)):
            if not determines_tensor(self._design[~(self.lost[k] | found[k])]):
                found[k] = False
        if self._n_rounds > MOST_ROUNDS:
            found[:] = False
        changed = np.asarray(found.any(axis=1), dtype=bool)
        self.lost |= found
        self._counts[self.axis][changed] = 0
        return np.asarray(changed[self._slices[self.axis]], dtype=bool)

    def _shares(self, axis: int) -> np.ndarray:
        """(n_slices, n_meas) share of the voxels of each slice in which each volume is an outlier."""
        counts = np.where(self.lost, 0, self._counts[axis]) if self._n_rounds else self._counts[axis]
        return np.asarray(np.maximum(counts - CHANCE, 0) / np.maximum(self._sizes[axis], 1)[:, None])

    def _blamed(self, axis: int) -> np.ndarray:
        """(n_slices, n_meas) bool: volumes that do not fit the slice."""
        shares = self._shares(axis)
        return np.asarray(shares >= np.maximum(SHARE, NEAR * shares.max(axis=1, keepdims=True)))

    def _excess(self, axis: int) -> float:
        """Outliers in what would be lost along an axis, above the least that would do."""
        shares = self._shares(axis)
        return float(((shares - SHARE) * self._sizes[axis][:, None])[self._blamed(axis)].sum())
