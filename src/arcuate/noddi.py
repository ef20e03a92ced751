"""The NODDI step: a scan in; neurite density, orientation dispersion, free water and fibre directions out."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.cache import cacheable, storable
from arcuate.errors import InputError, NotApplicable
from arcuate.io import open_volume, save_volume
from arcuate.io.names import companion
from arcuate.models.noddi import DISO, DPAR, prepare_noddi
from arcuate.models.status import Status, count_status
from arcuate.volumes.display import figures, html_of_fit
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource
from arcuate.volumes.scan import Scan
from arcuate.volumes.signals import read_signals
from arcuate.volumes.voxels import check_mask, fit_masked, masked_rows, scatter_fields

ENOUGH_TO_JUDGE = 10  # voxels; fewer may well be all water


@storable
@dataclass(frozen=True, eq=False)
class Noddi:
    """NODDI of a scan.

    Parameters
    ----------
    volume : (x, y, z, 3) float32
        NDI, ODI, FWF, each 0..1; 0 where nothing was fitted.
    directions : (x, y, z, 3) float32
        Unit vectors along the fibres, scanner frame, sign without meaning; 0 where nothing was fitted.
    rmse : (x, y, z) float32
        Root mean square of what the fit leaves, over the mean b = 0; None for maps read from a file.
    s0 : (x, y, z) float32, unit of the signal
        Fitted signal without diffusion weighting; None for maps read from a file.
    dot : (x, y, z) float32
        Fraction of water that does not move; None unless ``ex_vivo``.
    status : (x, y, z) uint8
        What became of each voxel, see :class:`arcuate.models.status.Status`; None for maps read from a file.
    parameters
        How the maps were fitted, and how many voxels ended how; empty for maps read from a file.

    Examples
    --------
    >>> noddi = dwi.estimate_noddi(mask=mask)
    >>> noddi.ndi.get_array()
    >>> noddi.save("noddi.nii.gz")  # and noddi_directions.nii.gz
    """

    volume: VolumeResource
    directions: VolumeResource
    rmse: VolumeResource | None = None
    s0: VolumeResource | None = None
    dot: VolumeResource | None = None
    status: VolumeResource | None = None
    parameters: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    @cacheable(version=5, outputs={"volume": "estimate_noddi", "directions": "estimate_noddi_directions"})
    def estimate_noddi(
        dwi: Scan,
        mask: VolumeResource | None = None,
        *,
        dpar: float = DPAR,
        diso: float = DISO,
        refine: bool | None = None,
        ex_vivo: bool = False,
        directions: VolumeResource | None = None,
        as_amico: bool = False,
    ) -> Noddi:
        """NODDI of the voxels in the mask.

        Parameters
        ----------
        dwi : Scan
            Two shells or more, and a b = 0.
        mask : (x, y, z), on the grid of the scan; every voxel without it
        dpar, diso : float, mm²/s
            Diffusivity along the neurites (1.3e-3 suits grey matter) and of free water.
        refine : bool
            Continuous fit under Rician noise from the dictionary's answer: the most accurate, twice as slow, and
            the default unless ``as_amico`` or ``directions`` are given, which it would turn. False gives the
            dictionary's answer, as AMICO.
        ex_vivo : bool
            Add a compartment of water that does not move.
        directions : (x, y, z, 3), scanner frame
            Fibre directions to use instead of the signal's own; zeros or NaN: none there.
        as_amico : bool
            AMICO's rules where they differ, see :func:`arcuate.models.noddi.fit_noddi`.

        Raises
        ------
        InputError
            One shell only, no b = 0, a mask or directions that do not fit the scan, or a scan in which every voxel
            comes out as free water.
        """
        gradients = dwi.gradients
        refine = not as_amico and directions is None if refine is None else refine
        model = prepare_noddi(
            gradients, dpar=dpar, diso=diso, refine=refine, ex_vivo=ex_vivo, has_directions=directions is not None,
            as_amico=as_amico,
        )  # fmt: skip
        inside = check_mask(dwi.volume, mask)
        given = None if directions is None else _rows_of(directions, inside)
        names = ("directions", "rmse", "s0", "status", *(["dot"] if ex_vivo else []))

        def fit(rows: np.ndarray, place: slice) -> dict[str, np.ndarray]:
            found = model.fit(rows, None if given is None else given[place])
            three = np.column_stack([found.ndi, found.odi, found.fwf])
            return {"volume": three, **{name: getattr(found, name) for name in names}}

        fields = fit_masked(read_signals(dwi, inside), inside, fit)
        _refuse_water_everywhere(fields["volume"][:, 2], fields["status"])
        parameters = {
            "Model": "NODDI (Watson)",
            "Fit": "maximum likelihood, Rician noise" if refine else "convex, dictionary of 144 atoms",
            "ParallelDiffusivity": dpar,
            "IsotropicDiffusivity": diso,
            "Refined": refine,
            "ExVivo": ex_vivo,
            "DirectionsGiven": directions is not None,
            "AmicoRules": as_amico,
            "B0Threshold": gradients.b0_threshold,
            "Shells": [round(shell.b, 1) for shell in gradients.shells],
            "VoxelsByStatus": count_status(fields["status"]),
        }
        return Noddi(**scatter_fields(fields, inside, dwi.volume), parameters=parameters)

    @property
    def ndi(self) -> InMemoryVolumeResource:
        """Neurite density index, (x, y, z) float32: share of the tissue that is inside neurites."""
        return self.volume.component(0)

    @property
    def odi(self) -> InMemoryVolumeResource:
        """Orientation dispersion index, (x, y, z) float32: 0 parallel, 1 in all directions alike."""
        return self.volume.component(1)

    @property
    def fwf(self) -> InMemoryVolumeResource:
        """Free water fraction, (x, y, z) float32."""
        return self.volume.component(2)

    def get_modulated_ndi_odi(self) -> tuple[InMemoryVolumeResource, InMemoryVolumeResource]:
        """NDI and ODI times the tissue fraction 1 - FWF, (x, y, z) float32 each.

        The mean of a modulated map over a region, divided by the region's mean tissue fraction, is the mean over
        the region's tissue: voxels that are mostly water no longer count as much as the others (Parker 2021).
        """
        ndi, odi, fwf = np.moveaxis(self.volume.get_array(), -1, 0)
        return self.volume.with_array(ndi * (1 - fwf)), self.volume.with_array(odi * (1 - fwf))

    def get_maps(self) -> dict[str, VolumeResource]:
        """The maps by their names in files: icvf (NDI), odi, isovf (FWF), direction, and those of the fit."""
        more = {"rmse": self.rmse, "s0": self.s0, "dot": self.dot}
        maps: dict[str, VolumeResource] = {"icvf": self.ndi, "odi": self.odi, "isovf": self.fwf}
        maps["direction"] = self.directions
        return maps | {name: volume for name, volume in more.items() if volume is not None}

    def plot(self, **options: Any) -> Any:
        """NDI, ODI and FWF as a matplotlib Figure; ``options`` of :func:`arcuate.figures.plotting.plot_maps`."""
        names = ("NDI", "ODI", "FWF")
        maps = np.moveaxis(np.asarray(self.volume.get_array()), -1, 0)
        panels = [figures().Panel(m, name, "magma", (0.0, 1.0)) for m, name in zip(maps, names, strict=True)]
        return figures().plot_maps(panels, self.volume.get_affine(), **options)

    def _repr_html_(self) -> str:
        """For notebooks."""
        return html_of_fit("NODDI", self, "slices of NDI, ODI and FWF")

    def save(self, path: str | os.PathLike[str]) -> Noddi:
        """Write NDI, ODI, FWF to ``path`` and the directions beside it; the same object, backed by those files.

        ``noddi.nii.gz`` has its directions in ``noddi_directions.nii.gz``.
        """
        return Noddi(
            save_volume(self.volume, path),
            save_volume(self.directions, companion(path, "directions")),
            self.rmse, self.s0, self.dot, self.status, self.parameters,
        )  # fmt: skip

    @staticmethod
    def open(path: str | os.PathLike[str]) -> Noddi:
        """What :meth:`save` wrote to ``path``."""
        return Noddi(open_volume(Path(path)), open_volume(companion(path, "directions")))


def _rows_of(directions: VolumeResource, inside: np.ndarray) -> np.ndarray:
    """Directions (n_vox, 3) of the voxels inside."""
    shape = tuple(directions.shape)
    if shape != (*inside.shape, 3):
        raise InputError(
            f"found directions of shape {shape}; expected {(*inside.shape, 3)}: x y z of one direction per voxel of "
            "the scan, in the scanner frame."
        )
    array = np.asarray(directions.get_array())
    return masked_rows(array, inside).astype(np.float64)


def _refuse_water_everywhere(fwf: np.ndarray, status: np.ndarray) -> None:
    """A scan of nothing but water is one whose b-values or volumes are wrong."""
    fitted = fwf[~np.isin(status, (Status.NO_SIGNAL, Status.NOT_FINITE))]
    if len(fitted) >= ENOUGH_TO_JUDGE and np.all(fitted > 0.9999):
        raise NotApplicable(
            f"every one of the {len(fitted)} voxels comes out as free water (FWF = 1): the signal falls off with b at "
            "least as fast as in water. Check the unit of the b-values (s/mm²), that volumes and b-values are in the "
            "same order, and that the mask is not on a ventricle."
        )
