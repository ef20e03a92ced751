"""The kurtosis step: a scan of two shells or more in; kurtosis, and a tensor freed of its bias, out."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.cache import cacheable, storable
from arcuate.dti import Dti, fit_facts
from arcuate.io import open_volume, save_volume
from arcuate.io.names import companion
from arcuate.models.kurtosis import B_MAX, MAX_KURTOSIS, MIN_KURTOSIS, KurtosisFit, prepare_kurtosis
from arcuate.models.mean_signal import prepare_mean_signal
from arcuate.models.status import count_status
from arcuate.models.tract_integrity import TractStatus, tract_integrity
from arcuate.volumes.display import figures, html_of_fit
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource
from arcuate.volumes.scan import Scan
from arcuate.volumes.signals import read_signals
from arcuate.volumes.voxels import check_mask, fit_masked, scatter_fields

INTEGRITY = ("awf", "da", "dead", "derd", "tort")  # maps of tract integrity, by their names in files


@storable
@dataclass(frozen=True, eq=False)
class Dki:
    """Kurtosis of a scan.

    Parameters
    ----------
    volume : (x, y, z, 4) float32
        MK, AK, RK, each within -3/7 and 10, and KFA; 0 where nothing was fitted.
    tensors : (x, y, z, 6) float32, mm²/s
        Diffusion tensor, xx xy xz yy yz zz in the scanner frame, without the bias that kurtosis gives a plain tensor.
    elements : (x, y, z, 15) float32
        Kurtosis tensor W in the scanner frame: xxxx yyyy zzzz xxxy xxxz xyyy yyyz xzzz yzzz xxyy xxzz yyzz xxyz xyyz
        xyzz.
    mean_signal : (x, y, z, 2) float32
        Diffusivity (mm²/s) and kurtosis (-3/7 to 10) of the signal averaged over directions; None where too few shells
        have six directions, and for maps read from a file.
    s0 : (x, y, z) float32, unit of the signal
        Fitted signal without diffusion weighting; None for maps read from a file.
    status : (x, y, z) uint8
        What became of each voxel, see :class:`arcuate.models.status.Status`; None for maps read from a file.
    integrity : (x, y, z, 5) float32
        White-matter tract integrity: axonal water fraction, diffusivity within axons (mm²/s), outside along and across
        them (mm²/s), tortuosity; 0 where it does not hold. None unless asked for.
    integrity_status : (x, y, z) uint8
        Where it holds, see :class:`arcuate.models.tract_integrity.TractStatus`. None unless asked for.
    parameters
        How the maps were fitted, and how many voxels ended how; empty for maps read from a file.

    Examples
    --------
    >>> dki = dwi.estimate_dki(mask=mask)
    >>> dki.mk.get_array()
    >>> fa, md = dki.get_fa_md()
    >>> dki.save("dki.nii.gz")  # and dki_tensors.nii.gz, dki_elements.nii.gz
    """

    volume: VolumeResource
    tensors: VolumeResource
    elements: VolumeResource
    mean_signal: VolumeResource | None = None
    s0: VolumeResource | None = None
    status: VolumeResource | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    integrity: VolumeResource | None = None
    integrity_status: VolumeResource | None = None

    @staticmethod
    @cacheable(
        version=2,
        outputs={"volume": "estimate_dki", "tensors": "estimate_dki_tensors", "elements": "estimate_dki_elements"},
    )
    def estimate_dki(
        dwi: Scan,
        mask: VolumeResource | None = None,
        *,
        b_max: float = B_MAX,
        n_reweight: int = 1,
        nonnegative: bool = True,
        constrained: bool = True,
        wmti: bool = False,
    ) -> Dki:
        """Kurtosis of the voxels in the mask by weighted linear least squares.

        Parameters
        ----------
        dwi : Scan
            Two shells or more with 15 distinct directions, and a b = 0 (or three shells).
        mask : (x, y, z), on the grid of the scan; every voxel without it
        b_max : float, s/mm²
            Shells up to ``b_max`` + 100 are used.
        n_reweight : int
            0 is ordinary least squares, 1 weighted (WLS), more iteratively reweighted (IWLS).
        nonnegative : bool
            Raise eigenvalues of the diffusion tensor to 1e-6 / b (b the highest used).
        constrained : bool
            Hold kurtosis positive and the signal decreasing up to the highest b used, along every direction of the
            scan; voxels whose plain fit does so are as without it. See
            :func:`arcuate.models.kurtosis.kurtosis_constraints`.
        wmti : bool
            White-matter tract integrity as well, in voxels of aligned axons; see
            :func:`arcuate.models.tract_integrity.tract_integrity`.

        Raises
        ------
        InputError
            The scan does not determine kurtosis, or the mask does not fit the scan.
        """
        gradients = dwi.gradients
        volumes, model = prepare_kurtosis(
            gradients, b_max=b_max, n_reweight=n_reweight, nonnegative=nonnegative, constrained=constrained
        )
        mean_model = prepare_mean_signal(gradients, volumes)
        inside = check_mask(dwi.volume, mask)

        def fit(rows: np.ndarray, _: slice) -> dict[str, np.ndarray]:
            found = model.fit(rows)
            measures = np.stack([found.mk, found.ak, found.rk], axis=1)
            limited = np.clip(measures, MIN_KURTOSIS, MAX_KURTOSIS)
            fields = {
                "volume": np.column_stack([limited, found.kfa]),
                "tensors": found.tensors,
                "elements": found.kurtosis,
                "s0": found.s0,
                "status": found.status,
                "is_limited": np.any(limited != measures, axis=1).astype(np.uint8),
                "is_bound": found.is_bound.astype(np.uint8),
            }
            if mean_model is not None:
                diffusivity, kurtosis = mean_model.fit(rows)
                fields["mean_signal"] = np.column_stack([diffusivity, np.clip(kurtosis, MIN_KURTOSIS, MAX_KURTOSIS)])
            return {**fields, **_integrity_of(found)} if wmti else fields

        fields = fit_masked(read_signals(dwi, inside, volumes), inside, fit, volumes=volumes)
        parameters = {
            "Model": "diffusion kurtosis",
            **fit_facts(gradients, volumes, b_max=b_max, n_reweight=n_reweight, nonnegative=nonnegative),
            "Constrained": constrained,
            "VoxelsAtConstraints": int(fields.pop("is_bound").sum()),
            "KurtosisLimits": [round(MIN_KURTOSIS, 4), MAX_KURTOSIS],
            "VoxelsLimited": int(fields.pop("is_limited").sum()),
            "VoxelsByStatus": count_status(fields["status"]),
        }
        if wmti:
            parameters["VoxelsByTractIntegrity"] = _count_integrity(fields["integrity_status"])
        return Dki(**scatter_fields(fields, inside, dwi.volume), parameters=parameters)

    @property
    def mk(self) -> InMemoryVolumeResource:
        """Mean kurtosis, (x, y, z) float32: over all directions."""
        return self.volume.component(0)

    @property
    def ak(self) -> InMemoryVolumeResource:
        """Axial kurtosis, (x, y, z) float32: along the first eigenvector of the diffusion tensor."""
        return self.volume.component(1)

    @property
    def rk(self) -> InMemoryVolumeResource:
        """Radial kurtosis, (x, y, z) float32: over the directions across the first eigenvector."""
        return self.volume.component(2)

    @property
    def kfa(self) -> InMemoryVolumeResource:
        """Anisotropy of the kurtosis tensor, (x, y, z) float32, 0 to 1."""
        return self.volume.component(3)

    @property
    def msk(self) -> InMemoryVolumeResource | None:
        """Kurtosis of the mean signal, (x, y, z) float32; None where it could not be fitted."""
        if self.mean_signal is None:
            return None
        return self.mean_signal.component(1)

    @cached_property
    def dti(self) -> Dti:
        """The diffusion tensor as a :class:`arcuate.dti.Dti`, with its maps."""
        return Dti(self.tensors, self.status, self.s0, self.parameters)

    def get_fa_md(self) -> tuple[InMemoryVolumeResource, InMemoryVolumeResource]:
        """Fractional anisotropy and mean diffusivity (mm²/s) freed of kurtosis, (x, y, z) float32 each."""
        return self.dti.get_fa_md()

    def get_ad_rd(self) -> tuple[InMemoryVolumeResource, InMemoryVolumeResource]:
        """Axial and radial diffusivity freed of kurtosis, (x, y, z) float32 each, mm²/s."""
        return self.dti.get_ad_rd()

    def get_maps(self) -> dict[str, VolumeResource]:
        """All maps by their names in files: mk ak rk kfa msk fa md ad rd diffusivity kurtosis, and of tract integrity.

        Those are awf da dead derd tort and aligned, which is 1 where they hold.
        """
        fa, md = self.get_fa_md()
        ad, rd = self.get_ad_rd()
        maps: dict[str, VolumeResource] = {"mk": self.mk, "ak": self.ak, "rk": self.rk, "kfa": self.kfa}
        if self.msk is not None:
            maps["msk"] = self.msk
        maps |= {
            "fa": fa, "md": md, "ad": ad, "rd": rd, "diffusivity": self.tensors, "kurtosis": self.elements,
        }  # fmt: skip
        return maps if self.integrity is None else maps | self._integrity_maps(self.integrity)

    def _integrity_maps(self, integrity: VolumeResource) -> dict[str, VolumeResource]:
        maps: dict[str, VolumeResource] = {name: integrity.component(k) for k, name in enumerate(INTEGRITY)}
        if self.integrity_status is None:
            return maps
        is_valid = np.asarray(self.integrity_status.get_array()) == TractStatus.VALID
        return maps | {"aligned": integrity.with_array(is_valid.astype(np.uint8))}

    def save(self, path: str | os.PathLike[str]) -> Dki:
        """Write MK, AK, RK, KFA to ``path`` and both tensors beside it; the same object, backed by those files.

        ``dki.nii.gz`` has its tensors in ``dki_tensors.nii.gz`` and ``dki_elements.nii.gz``.
        """
        return Dki(
            save_volume(self.volume, path),
            save_volume(self.tensors, companion(path, "tensors")),
            save_volume(self.elements, companion(path, "elements")),
            self.mean_signal, self.s0, self.status, self.parameters, self.integrity, self.integrity_status,
        )  # fmt: skip

    @staticmethod
    def open(path: str | os.PathLike[str]) -> Dki:
        """What :meth:`save` wrote to ``path``."""
        return Dki(
            open_volume(Path(path)),
            open_volume(companion(path, "tensors")),
            open_volume(companion(path, "elements")),
        )

    def plot(self, **options: Any) -> Any:
        """MK, AK and RK as a matplotlib Figure; ``options`` of :func:`arcuate.figures.plotting.plot_maps`."""
        maps = np.moveaxis(np.asarray(self.volume.get_array()), -1, 0)[:3]
        panels = [figures().Panel(m, n, "gray", (0.0, 2.0)) for m, n in zip(maps, ("MK", "AK", "RK"), strict=True)]
        return figures().plot_maps(panels, self.volume.get_affine(), **options)

    def _repr_html_(self) -> str:
        """For notebooks."""
        return html_of_fit("kurtosis", self, "slices of MK, AK and RK")


def estimate_dki(dwi: Scan, mask: VolumeResource | None = None, **options: Any) -> Dki:
    """Kurtosis of a scan in a mask (x, y, z); ``options`` of :meth:`Dki.estimate_dki`, see there."""
    return Dki.estimate_dki(dwi, mask, **options)


def _integrity_of(found: KurtosisFit) -> dict[str, np.ndarray]:
    """Tract integrity (n_vox, 5) of a fit, in the order of INTEGRITY, and its status."""
    found_in = tract_integrity(found)
    columns = (found_in.awf, found_in.da, found_in.de_ad, found_in.de_rd, found_in.tortuosity)
    return {"integrity": np.column_stack(columns), "integrity_status": found_in.status}


def _count_integrity(status: np.ndarray) -> dict[str, int]:
    """Voxels by what became of tract integrity, those where nothing was fitted left out."""
    counts = np.bincount(status.ravel(), minlength=len(TractStatus))
    return {s.name.lower(): int(counts[s]) for s in TractStatus if s is not TractStatus.OUTSIDE and counts[s]}
