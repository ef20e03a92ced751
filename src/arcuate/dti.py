"""The tensor step: a scan in, tensors out, and the maps that follow from them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from arcuate.cache import cacheable, storable
from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.io import save_volume
from arcuate.models.log_linear import residual_rms
from arcuate.models.lost_slices import SliceEvidence
from arcuate.models.rician_tensor import RicianTensorModel, prepare_rician_tensor
from arcuate.models.robust_tensor import RobustTensorModel, prepare_robust_tensor
from arcuate.models.status import Status, count_status
from arcuate.models.tensor import B_MAX, TensorFit, fractional_anisotropy, prepare_tensor
from arcuate.numerics.eigen import eigh_3x3
from arcuate.volumes.display import figures, html_of_fit
from arcuate.volumes.noise_map import check_noise, check_noise_level
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource
from arcuate.volumes.scan import Scan
from arcuate.volumes.signals import read_signals
from arcuate.volumes.voxels import (
    check_mask,
    fit_masked,
    masked_blocks,
    scatter,
    scatter_fields,
    stored_like,
)

TENSOR_ORDERS = {  # of the six elements in a file, from the order that arcuate works in, which is FSL's
    "fsl": ("xx xy xz yy yz zz", (0, 1, 2, 3, 4, 5)),
    "mrtrix": ("xx yy zz xy xz yz", (0, 3, 5, 1, 2, 4)),
}
METHODS = ("OLS", "WLS", "IWLS")  # 0, 1 and more rounds of reweighting
_ROUNDING = 4 * float(np.finfo(np.float32).eps)  # of the largest eigenvalue: what float32 tensors leave of a zero


def fit_facts(
    gradients: GradientTable, volumes: np.ndarray, *, b_max: float, n_reweight: int, nonnegative: bool
) -> dict[str, Any]:
    """How a model linear in the log signal was fitted, and to which ``volumes`` (n,), for sidecars."""
    used = facts_of_volumes(gradients, volumes, b_max=b_max, nonnegative=nonnegative)
    return {"FitMethod": METHODS[min(n_reweight, 2)], "NReweight": n_reweight, **used}


def facts_of_volumes(
    gradients: GradientTable, volumes: np.ndarray, *, b_max: float, nonnegative: bool
) -> dict[str, Any]:
    """To which ``volumes`` (n,) a model with a tensor was fitted, and within which bounds, for sidecars."""
    return {
        "NonNegative": nonnegative,
        "BMax": b_max,
        "B0Threshold": gradients.b0_threshold,
        "BValuesUsed": sorted({float(round(b)) for b in gradients.bvals[volumes]}),
        "VolumesUsed": [int(i) for i in volumes],
    }


@storable
@dataclass(frozen=True, eq=False)
class Dti:
    """Tensors of a scan.

    Parameters
    ----------
    volume : (x, y, z, 6) float32, mm²/s
        xx xy xz yy yz zz in the scanner frame; 0 where nothing was fitted.
    status : (x, y, z) uint8
        What became of each voxel, see :class:`arcuate.models.status.Status`; None for tensors read from a file.
    s0 : (x, y, z) float32, unit of the signal
        Fitted signal without diffusion weighting; None for tensors read from a file.
    parameters
        How the tensors were fitted, and how many voxels ended how; empty for tensors read from a file.
    outliers : (x, y, z) uint8
        Volumes that were left out of each voxel, 255 at most; None unless the fit was robust.
    rmse : (x, y, z) float32
        Root mean square of what the tensor leaves of the signals that it was fitted to, in parts of the fitted signal
        without weighting; None for tensors read from a file.

    Examples
    --------
    >>> dti = dwi.estimate_dti(mask=mask)
    >>> fa, md = dti.get_fa_md()  # or dti.fa, dti.md, dti.ad, dti.rd
    >>> Dti(NiftiVolumeResource("tensors.nii.gz")).get_fa_md()
    """

    volume: VolumeResource
    status: VolumeResource | None = None
    s0: VolumeResource | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    outliers: VolumeResource | None = None
    rmse: VolumeResource | None = None

    @staticmethod
    @cacheable(version=5, outputs={"volume": "estimate_dti"})
    def estimate_dti(
        dwi: Scan,
        mask: VolumeResource | None = None,
        *,
        b_max: float = B_MAX,
        n_reweight: int = 1,
        nonnegative: bool = True,
        robust: bool = False,
        rician: bool = False,
        noise: VolumeResource | None = None,
    ) -> Dti:
        """Tensors of the voxels in the mask by weighted linear least squares.

        Parameters
        ----------
        dwi : Scan
        mask : (x, y, z), on the grid of the scan; every voxel without it
        b_max : float, s/mm²
            Shells up to ``b_max`` + 100 are used; the lowest that suffice if those do not, with a warning.
        n_reweight : int
            0 is ordinary least squares, 1 weighted (WLS), more iteratively reweighted (IWLS).
        nonnegative : bool
            Raise eigenvalues to 1e-6 / b (b the highest used): diffusivities are never negative, FA never above 1.
        robust : bool
            Leave out, voxel by voxel, the volumes that do not fit, and in whole slices those that do not fit there: see
            :class:`arcuate.models.robust_tensor.RobustTensorModel` and
            :class:`arcuate.models.lost_slices.SliceEvidence`.
        rician : bool
            Maximise the likelihood of Rician noise, for magnitudes that were not denoised; needs ``noise``. See
            :class:`arcuate.models.rician_tensor.RicianTensorModel`.
        noise : (x, y, z), unit of the signal
            Standard deviation of the noise, as denoising finds it; for the robust and the Rician fit.

        Raises
        ------
        InputError
            The scan does not determine a tensor, the mask or the noise does not fit the scan, there is noise without
            ``robust`` or ``rician``, or ``rician`` without noise or together with ``robust``.
        """
        check_noise(dwi.volume, noise, robust=robust, rician=rician)
        gradients = dwi.gradients
        check_noise_level(dwi, noise, rician=rician)
        options: dict[str, Any] = {"b_max": b_max, "n_reweight": n_reweight, "nonnegative": nonnegative}
        inside = check_mask(dwi.volume, mask)
        facts: dict[str, Any] = {}
        sigma = None if noise is None else _noise_rows(stored_like(dwi.volume, noise), inside)
        if robust:
            volumes, robust_model = prepare_robust_tensor(gradients, **options)
            fields, facts = _fit_robust(read_signals(dwi, inside, volumes), inside, volumes, robust_model, sigma)
        elif sigma is not None:
            volumes, rician_model = prepare_rician_tensor(gradients, **options)
            fields, facts = _fit_rician(read_signals(dwi, inside, volumes), inside, volumes, rician_model, sigma)
        else:
            volumes, model = prepare_tensor(gradients, **options)

            def fit(rows: np.ndarray, _: slice) -> dict[str, np.ndarray]:
                return _fields_of(model.fit(rows), rows, model.design)

            fields = fit_masked(read_signals(dwi, inside, volumes), inside, fit, volumes=volumes)
        parameters = {
            "Model": "diffusion tensor",
            **fit_facts(gradients, volumes, **options),
            **facts,
            "VoxelsByStatus": count_status(fields["status"]),
        }
        maps = scatter_fields(fields, inside, dwi.volume)
        return Dti(maps["tensors"], maps["status"], maps["s0"], parameters, maps.get("outliers"), maps["rmse"])

    def get_fa_md(self) -> tuple[InMemoryVolumeResource, InMemoryVolumeResource]:
        """Fractional anisotropy and mean diffusivity (mm²/s), (x, y, z) float32 each."""
        return self.fa, self.md

    @property
    def fa(self) -> InMemoryVolumeResource:
        """Fractional anisotropy, (x, y, z) float32, 0 to 1."""
        return self._map(fractional_anisotropy(self._eig[0]))

    @property
    def md(self) -> InMemoryVolumeResource:
        """Mean diffusivity, (x, y, z) float32, mm²/s."""
        return self._map(self._eig[0].mean(axis=-1))

    @property
    def ad(self) -> InMemoryVolumeResource:
        """Axial diffusivity, (x, y, z) float32, mm²/s."""
        return self._map(self._eig[0][..., 0])

    @property
    def rd(self) -> InMemoryVolumeResource:
        """Radial diffusivity, (x, y, z) float32, mm²/s."""
        return self._map(self._eig[0][..., 1:].mean(axis=-1))

    def get_ad_rd(self) -> tuple[InMemoryVolumeResource, InMemoryVolumeResource]:
        """Axial and radial diffusivity, (x, y, z) float32 each, mm²/s: along and across the first eigenvector."""
        return self.ad, self.rd

    def get_eig(self) -> tuple[InMemoryVolumeResource, InMemoryVolumeResource]:
        """Eigenvalues and eigenvectors.

        Returns
        -------
        evals : (x, y, z, 3) float32, mm²/s, largest first
        evecs : (x, y, z, 9) float32, unit vectors in the scanner frame
            v1x v1y v1z v2x v2y v2z v3x v3y v3z; the component of largest magnitude is positive.
        """
        evals, evecs = self._eig
        return self._map(evals), self._map(evecs)

    def get_color_fa(self) -> InMemoryVolumeResource:
        """FA times the magnitudes of the first eigenvector, (x, y, z, 3) float32: red x, green y, blue z (scanner)."""
        evals, evecs = self._eig
        fa = np.minimum(fractional_anisotropy(evals), 1)
        return self._map(fa[..., None] * np.abs(evecs[..., :3]))

    def get_maps(self) -> dict[str, VolumeResource]:
        """All maps by their names in files: fa md ad rd evals evecs diffusivity, rmse, and outliers of a robust fit."""
        fa, md = self.get_fa_md()
        ad, rd = self.get_ad_rd()
        evals, evecs = self.get_eig()
        maps: dict[str, VolumeResource] = {
            "fa": fa, "md": md, "ad": ad, "rd": rd, "evals": evals, "evecs": evecs, "diffusivity": self.volume,
        }  # fmt: skip
        more = {"rmse": self.rmse, "outliers": self.outliers}
        return maps | {name: volume for name, volume in more.items() if volume is not None}

    def save(self, path: str | os.PathLike[str]) -> Dti:
        """Write the tensors to ``path``; the same object, backed by that file."""
        return Dti(save_volume(self.volume, path), self.status, self.s0, self.parameters, self.outliers, self.rmse)

    def plot(self, **options: Any) -> Any:
        """Colour FA, FA and MD as a matplotlib Figure; ``options`` of :func:`arcuate.figures.plotting.plot_maps`."""
        fa, md = self.get_fa_md()
        panels = [
            figures().Panel(self.get_color_fa().array, "colour FA"),
            figures().Panel(fa.array, "FA", "gray", (0.0, 1.0)),
            figures().Panel(1e3 * md.array, "MD (1e-3 mm²/s)", "gray", (0.0, 1.5)),
        ]
        return figures().plot_maps(panels, self.volume.get_affine(), **options)

    def _repr_html_(self) -> str:
        """For notebooks."""
        return html_of_fit("tensors", self, "slices of colour FA, FA and MD")

    @cached_property
    def _eig(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (x, y, z, 3) float32 and eigenvectors (x, y, z, 9) float32."""
        tensors = self.volume.get_array()
        inside = np.any(tensors != 0, axis=-1) & np.all(np.isfinite(tensors), axis=-1)
        n_vox = int(inside.sum())
        evals, evecs = np.empty((n_vox, 3), np.float32), np.empty((n_vox, 9), np.float32)
        for place, rows in masked_blocks(tensors, inside):
            values, vectors = eigh_3x3(rows)
            is_zero = (values < 0) & (values > -_ROUNDING * values[:, :1])
            evals[place] = np.where(is_zero, 0.0, values)
            evecs[place] = vectors.reshape(-1, 9)
        return scatter(evals, inside), scatter(evecs, inside)

    def _map(self, array: np.ndarray) -> InMemoryVolumeResource:
        return self.volume.with_array(np.asarray(array, dtype=np.float32))


def in_tensor_order(tensors: VolumeResource, order: str) -> VolumeResource:
    """Tensors (x, y, z, 6), as :class:`Dti` holds them, with their elements in the ``order`` of "fsl" or "mrtrix".

    Raises
    ------
    InputError
        The order is none of these.
    """
    if order not in TENSOR_ORDERS:
        raise InputError(f"found the tensor order {order!r}; expected one of {', '.join(TENSOR_ORDERS)}.")
    index = TENSOR_ORDERS[order][1]
    if index == tuple(range(6)):
        return tensors
    return tensors.with_array(np.asarray(tensors.get_array())[..., list(index)])


def _fields_of(
    found: TensorFit, rows: np.ndarray, design: np.ndarray, kept: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Fields of voxels (n_vox, ...), ``rmse`` (n_vox,) of the signals ``kept`` (n_vox, n_meas) among them."""
    is_fitted = found.s0 > 0
    log_s0 = np.log(np.where(is_fitted, found.s0, 1.0))
    coefs = np.where(is_fitted[:, None], np.column_stack([found.tensors, log_s0]), 0.0)
    rmse = residual_rms(rows, design, coefs, kept).astype(np.float32)
    return {"tensors": found.tensors, "s0": found.s0, "status": found.status, "rmse": rmse}


def _fit_rician(
    array: np.ndarray, inside: np.ndarray, volumes: np.ndarray, model: RicianTensorModel, sigma: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Fields of the fit under Rician noise, and how it was made, for sidecars."""
    if len(sigma) and not np.any(sigma > 0):
        model.fit_with_noise(np.zeros((1, len(volumes))), np.zeros(1))  # says what is missing

    def fit(rows: np.ndarray, place: slice) -> dict[str, np.ndarray]:
        known = sigma[place]
        if not np.any(known > 0):  # of a block alone: the linear fit, marked as any voxel without noise
            linear = _fields_of(model.fit(rows), rows, model.design)
            has_fit = (linear["status"] == Status.FITTED) | (linear["status"] == Status.FLOORED)
            return linear | {"status": np.where(has_fit, Status.NOT_CONVERGED, linear["status"]).astype(np.uint8)}
        return _fields_of(model.fit_with_noise(rows, known), rows, model.design)

    fields = fit_masked(array, inside, fit, volumes=volumes)
    return fields, {
        "FitMethod": "maximum likelihood, Rician noise",
        "NoiseMedian": float(np.median(sigma[sigma > 0])) if len(sigma) else 0.0,
        "VoxelsWithoutNoise": int(np.count_nonzero(~(sigma > 0))),
    }


def _fit_robust(
    array: np.ndarray, inside: np.ndarray, volumes: np.ndarray, model: RobustTensorModel, sigma: np.ndarray | None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Fields of the robust fit, ``outliers`` (n_vox,) among them, and what it found, for sidecars."""
    evidence = SliceEvidence(np.stack(np.nonzero(inside.transpose(2, 1, 0))[::-1]), model.design)
    n_vox = int(np.count_nonzero(inside))

    def fit_some(chosen: np.ndarray) -> dict[str, np.ndarray]:
        index = np.flatnonzero(chosen)

        def fit(rows: np.ndarray, place: slice) -> dict[str, np.ndarray]:
            voxels = index[place]
            found = model.fit(rows, None if sigma is None else sigma[voxels], evidence.lost_of(voxels))
            evidence.count(voxels, found.outliers)
            fields = _fields_of(found, rows, model.design, ~found.outliers)
            return {**fields, "outliers": np.minimum(found.n_outliers, 255).astype(np.uint8)}

        return fit_masked(array, scatter(chosen, inside, np.bool_), fit, volumes=volumes)

    fields = fit_some(np.ones(n_vox, dtype=bool))
    while (again := evidence.find_lost()).any():
        for name, values in fit_some(again).items():
            fields[name][again] = values
    return fields, {
        "Robust": "Geman-McClure weights, then outliers by studentised residuals left out, and lost slices",
        "Cutoff": model.cutoff,
        "NoiseGiven": sigma is not None,
        "VoxelsWithOutliers": int(np.count_nonzero(fields["outliers"])),
        "OutlyingShare": round(float(evidence.n_outliers.sum() / (n_vox * len(volumes))), 6),
        "OutlyingShareByVolume": [round(float(share), 4) for share in evidence.n_outliers / n_vox],
        "SliceAxis": "ijk"[evidence.axis],
        "SlicesOutlying": [{"Volume": int(volumes[v]), "Slice": int(k)} for k, v in np.argwhere(evidence.lost)],
    }


def _noise_rows(noise: VolumeResource, inside: np.ndarray) -> np.ndarray:
    """(n_vox,) of a noise map (x, y, z)."""
    array = np.asarray(noise.get_array()).reshape(inside.shape)
    return np.asarray(array.ravel(order="F")[np.flatnonzero(inside.ravel(order="F"))], dtype=np.float64)
