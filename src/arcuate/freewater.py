"""The free-water step: a scan of two shells or more in; the share of free water, and the tensor of the tissue, out."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.cache import cacheable, storable
from arcuate.dti import Dti, facts_of_volumes
from arcuate.io import open_volume, save_volume
from arcuate.io.names import companion
from arcuate.models.free_water import B_MAX, DISO, prepare_free_water
from arcuate.models.status import count_status
from arcuate.volumes.display import figures, html_of_fit
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource
from arcuate.volumes.scan import Scan
from arcuate.volumes.signals import read_signals
from arcuate.volumes.voxels import check_mask, fit_masked, scatter_fields


@storable
@dataclass(frozen=True, eq=False)
class FreeWater:
    """Free water of a scan, and the tensor of the tissue beside it.

    Parameters
    ----------
    volume : (x, y, z) float32
        Share of free water in the signal at b = 0, 0 to 1; 0 where nothing was fitted.
    tensors : (x, y, z, 6) float32, mm²/s
        Tissue tensor, xx xy xz yy yz zz in the scanner frame; 0 where all is water.
    s0 : (x, y, z) float32, unit of the signal
        Fitted signal without diffusion weighting; None for maps read from a file.
    status : (x, y, z) uint8
        What became of each voxel, see :class:`arcuate.models.status.Status`; None for maps read from a file.
    parameters
        How the maps were fitted, and how many voxels ended how; empty for maps read from a file.

    Examples
    --------
    >>> water = dwi.estimate_free_water(mask=mask)
    >>> water.fwf.get_array()
    >>> fa, md = water.get_fa_md()
    >>> water.save("water.nii.gz")  # and water_tensors.nii.gz
    """

    volume: VolumeResource
    tensors: VolumeResource
    s0: VolumeResource | None = None
    status: VolumeResource | None = None
    parameters: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    @cacheable(version=1, outputs={"volume": "estimate_free_water", "tensors": "estimate_free_water_tensors"})
    def estimate_free_water(
        dwi: Scan,
        mask: VolumeResource | None = None,
        *,
        b_max: float = B_MAX,
        diso: float = DISO,
        nonnegative: bool = True,
    ) -> FreeWater:
        """Free water and tissue tensors of voxels in the mask; see :class:`arcuate.models.free_water.FreeWaterModel`.

        Parameters
        ----------
        dwi : Scan
            Two shells or more, and a b = 0.
        mask : (x, y, z), on the grid of the scan; every voxel without it
        b_max : float, s/mm²
            Shells up to ``b_max`` + 100 are used.
        diso : float, mm²/s
            Diffusivity of the water; 3e-3 at body temperature.
        nonnegative : bool
            Raise eigenvalues to 1e-6 / b (b the highest used).

        Raises
        ------
        InputError
            The scan does not determine free water (one shell is ill-posed), or the mask does not fit the scan.
        """
        gradients = dwi.gradients
        volumes, model = prepare_free_water(gradients, b_max=b_max, diso=diso, nonnegative=nonnegative)
        inside = check_mask(dwi.volume, mask)

        def fit(rows: np.ndarray, _: slice) -> dict[str, np.ndarray]:
            found = model.fit(rows)
            return {"volume": found.fwf, "tensors": found.tensors, "s0": found.s0, "status": found.status}

        fields = fit_masked(read_signals(dwi, inside, volumes), inside, fit, volumes=volumes)
        parameters = {
            "Model": "free water and tensor",
            "FitMethod": "WLS, search over the share of water",
            "WaterDiffusivity": diso,
            **facts_of_volumes(gradients, volumes, b_max=b_max, nonnegative=nonnegative),
            "VoxelsAllWater": int(np.count_nonzero(fields["volume"] == 1)),
            "VoxelsByStatus": count_status(fields["status"]),
        }
        return FreeWater(**scatter_fields(fields, inside, dwi.volume), parameters=parameters)

    @property
    def fwf(self) -> VolumeResource:
        """Share of free water, (x, y, z) float32, 0 to 1."""
        return self.volume

    @cached_property
    def dti(self) -> Dti:
        """The tissue tensor as a :class:`arcuate.dti.Dti`, with its maps."""
        return Dti(self.tensors, self.status, self.s0, self.parameters)

    def get_fa_md(self) -> tuple[InMemoryVolumeResource, InMemoryVolumeResource]:
        """Fractional anisotropy and mean diffusivity (mm²/s) of the tissue, (x, y, z) float32 each."""
        return self.dti.get_fa_md()

    def get_maps(self) -> dict[str, VolumeResource]:
        """All maps by their names in files: fwf fa md ad rd diffusivity."""
        fa, md = self.get_fa_md()
        ad, rd = self.dti.get_ad_rd()
        return {"fwf": self.volume, "fa": fa, "md": md, "ad": ad, "rd": rd, "diffusivity": self.tensors}

    def save(self, path: str | os.PathLike[str]) -> FreeWater:
        """Write the share of water to ``path`` and the tensors beside it; the same object, backed by those files.

        ``water.nii.gz`` has its tensors in ``water_tensors.nii.gz``.
        """
        return FreeWater(
            save_volume(self.volume, path),
            save_volume(self.tensors, companion(path, "tensors")),
            self.s0,
            self.status,
            self.parameters,
        )

    @staticmethod
    def open(path: str | os.PathLike[str]) -> FreeWater:
        """What :meth:`save` wrote to ``path``."""
        return FreeWater(open_volume(Path(path)), open_volume(companion(path, "tensors")))

    def plot(self, **options: Any) -> Any:
        """FWF and corrected FA as a matplotlib Figure; ``options`` of :func:`arcuate.figures.plotting.plot_maps`."""
        panels = [
            figures().Panel(np.asarray(self.volume.get_array()), "FWF", "gray", (0.0, 1.0)),
            figures().Panel(self.get_fa_md()[0].array, "FA of the tissue", "gray", (0.0, 1.0)),
        ]
        return figures().plot_maps(panels, self.volume.get_affine(), **options)

    def _repr_html_(self) -> str:
        """For notebooks."""
        return html_of_fit("free water", self, "slices of FWF and of the FA of the tissue")


def estimate_free_water(dwi: Scan, mask: VolumeResource | None = None, **options: Any) -> FreeWater:
    """Free water of a scan in a mask (x, y, z); ``options`` of :meth:`FreeWater.estimate_free_water`, see there."""
    return FreeWater.estimate_free_water(dwi, mask, **options)
