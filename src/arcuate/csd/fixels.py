"""Fixels of an image of fibre orientation distributions: one for each lobe, with its fibre density."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arcuate.errors import InputError
from arcuate.models.fixels import segment_lobes
from arcuate.volumes.resource import VolumeResource
from arcuate.volumes.voxels import check_mask, masked_blocks, scatter


@dataclass(frozen=True, eq=False)
class Fixels:
    """Fixels of a scan: those of a voxel one after the other, largest integral first, voxels in NIfTI's order.

    Parameters
    ----------
    index : (x, y, z, 2) uint32
        Number of fixels of a voxel, and the place of its first one; MRtrix3's index image.
    directions : (n, 3) float32, unit vectors in the scanner frame, mean over the lobe
    peak_directions : (n, 3) float32, unit vectors in the scanner frame, of the highest amplitude
    values : ``afd`` (integral of the lobe), ``peak`` (highest amplitude) and ``disp`` (their ratio), (n,) float32 each
    """

    index: VolumeResource
    directions: np.ndarray
    peak_directions: np.ndarray
    values: dict[str, np.ndarray]

    def as_volume(self, name: str, n_fixels: int = 3) -> VolumeResource:
        """Values (x, y, z, n_fixels) float32 of the largest fixels of each voxel, 0 where there are fewer."""
        return self.index.with_array(self._spread(self._get(name)[:, None], n_fixels)[..., 0])

    def _get(self, name: str) -> np.ndarray:
        if name not in self.values:
            raise InputError(f"found {name!r}; fixels have the values {', '.join(self.values)}.")
        return self.values[name]

    def _spread(self, rows: np.ndarray, n_fixels: int) -> np.ndarray:
        index = np.asarray(self.index.get_array())
        counts, first = index[..., 0], index[..., 1].astype(np.int64)
        out = np.zeros((*counts.shape, n_fixels, rows.shape[1]), np.float32)
        for k in range(n_fixels):
            has = counts > k
            out[has, k] = rows[first[has] + k]
        return out


def segment_fods(
    fods: VolumeResource,
    mask: VolumeResource | None = None,
    *,
    min_amplitude: float = 0.1,
    min_integral: float = 0.0,
    max_fixels: int = 16,
) -> Fixels:
    """Fixels of white-matter FODs, one for each lobe.

    Parameters
    ----------
    fods : (x, y, z, n_coef), MRtrix3's basis, such as :func:`compute_csd_fods` returns
    mask : (x, y, z), where to look; every voxel without it
    min_amplitude, min_integral, max_fixels
        See ``arcuate.models.fixels.segment_lobes``; the defaults are those of MRtrix3's ``fod2fixel``.
    """
    inside = check_mask(fods, mask)
    blocks = [
        segment_lobes(rows, min_amplitude=min_amplitude, min_integral=min_integral, max_lobes=max_fixels)
        for _, rows in masked_blocks(fods.get_array(), inside)
    ]
    counts = np.concatenate([b.counts for b in blocks])
    pairs = np.column_stack([counts, np.where(counts > 0, np.cumsum(counts) - counts, 0)])

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(b, name) for b in blocks]).astype(np.float32)

    return Fixels(
        fods.with_array(scatter(pairs, inside, np.uint32)),
        joined("directions"),
        joined("peak_directions"),
        {"afd": joined("afd"), "peak": joined("peak"), "disp": joined("dispersion")},
    )
