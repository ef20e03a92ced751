"""Denoising step: a scan in, a scan with less noise out, and what is known about the noise."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Generic, Literal

import numpy as np
from numba import njit, prange

from arcuate.cache import cacheable
from arcuate.errors import InputError
from arcuate.models.mppca import Estimator, fit_mppca, flat_view
from arcuate.models.patch2self import Regression, fit_patch2self
from arcuate.models.residual import ResidualStructure, residual_structure
from arcuate.models.rician import remove_rician_bias
from arcuate.models.status import Status, count_status
from arcuate.numerics.filters import otsu_threshold
from arcuate.volumes.resource import VolumeResource
from arcuate.volumes.scan import S, Scan, with_volume
from arcuate.volumes.voxels import check_mask

Method = Literal["patch2self", "mppca"]
METHODS = ("patch2self", "mppca")


@dataclass(frozen=True, eq=False)
class Denoising(Generic[S]):
    """A denoised scan, and what was found on the way."""

    dwi: S
    noise: VolumeResource  # (x, y, z) float32, standard deviation of the noise, unit of the signal
    status: VolumeResource  # (x, y, z) uint8, see arcuate.models.status.Status
    parameters: dict[str, Any]  # every option, and counts of voxels, as a sidecar says them


@dataclass(frozen=True)
class ResidualSlice:
    """One slice of one volume before and after denoising, for a picture."""

    b: float  # s/mm², of the shell
    volume: int  # which volume of the scan
    axis: int
    index: int  # which slice along ``axis``
    original: np.ndarray  # (n, m) float32
    denoised: np.ndarray
    difference: np.ndarray  # original - denoised


def denoise_dwi(dwi: S, **options: Any) -> S:
    """Denoised scan; the options are those of :func:`run_denoising`, which also returns the noise map."""
    return run_denoising(dwi, **options).dwi


@cacheable(version=1)
def run_denoising(
    dwi: S,
    *,
    method: Method = "patch2self",
    clip: bool = True,
    rician: bool = False,
    mask: VolumeResource | None = None,
    model: Regression = "ols",
    alpha: float = 1.0,
    b0_denoising: bool = True,
    extent: int | tuple[int, int, int] | None = None,
    estimator: Estimator = "exp2",
) -> Denoising[S]:
    """Denoised scan, its noise map, and counts.

    Parameters
    ----------
    dwi : scan that no step has interpolated or smoothed; b = 0 and weighted volumes are told apart by its threshold
    method : "patch2self" (each volume predicted from the others) or "mppca" (Marchenko-Pastur PCA of local patches)
    clip : raise negative signals to 0
    rician : replace the mean of magnitude data by the signal behind it, given the noise map
    mask : (x, y, z). MP-PCA denoises these voxels and sets the rest to 0; Patch2Self learns from every voxel and
        denoises every voxel, whatever the mask. The counts are of these voxels.
    model, alpha, b0_denoising : of Patch2Self, see :func:`arcuate.models.patch2self.fit_patch2self`
    extent, estimator : of MP-PCA, see :func:`arcuate.models.mppca.fit_mppca`

    Returns
    -------
    Denoising. Voxels with a NaN or an infinity are 0 in it. Its counts: ``VoxelsClipped``, voxels in which clipping
    changed a value; ``VoxelsAboveB0``, voxels with a weighted signal above the mean b = 0 signal.

    Raises
    ------
    InputError
        The scan has too few volumes, or an option is unknown.
    """
    if method not in METHODS:
        raise InputError(f"found the denoising method {method!r}; expected one of {', '.join(METHODS)}.")
    gradients = dwi.gradients
    inside = check_mask(dwi.volume, mask)
    image = dwi.volume.get_array()
    if method == "patch2self":
        denoised, noise, status, used = _by_patch2self(image, gradients.is_b0, model, alpha, b0_denoising)
    else:
        denoised, noise, status, used = _by_mppca(image, inside if mask is not None else None, extent, estimator)
    flat, strides = flat_view(denoised)
    if rician:
        remove_rician_bias(flat, noise.ravel(order=_order(denoised)), *_row_strides(strides), image.shape[3])
    clipped, above = _clip_and_count(flat, strides, gradients.is_b0, inside, clip)
    status[~inside] = Status.OUTSIDE
    parameters = {
        "Method": method,
        **used,
        "Clip": clip,
        "RicianBiasRemoved": rician,
        "B0Threshold": gradients.b0_threshold,
        "MaskGiven": mask is not None,
        "VoxelsByStatus": count_status(status),
        "VoxelsClipped": clipped,
        "VoxelsAboveB0": above,
        "MedianNoise": float(np.median(noise[inside & (noise > 0)])) if (noise[inside] > 0).any() else 0.0,
    }
    return Denoising(
        with_volume(dwi, dwi.volume.with_array(denoised)),
        dwi.volume.with_array(noise),
        dwi.volume.with_array(status),
        parameters,
    )


@cacheable(version=1)
def shell_residuals(before: Scan, after: Scan, mask: VolumeResource | None = None) -> dict[float, ResidualStructure]:
    """Structure of what was removed, by shell (b in s/mm²; 0 for the b = 0 volumes).

    Without a mask (x, y, z) the voxels that stand out in the mean of the denoised volumes (Otsu) are looked at.
    """
    inside = check_mask(before.volume, mask)
    original, denoised = before.volume.get_array(), after.volume.get_array()
    if mask is None:
        total = np.zeros(inside.shape)
        for volume in range(denoised.shape[3]):
            total += denoised[..., volume]
        total[~np.isfinite(total)] = 0
        if total.max() > total.min():
            inside = total > otsu_threshold(total)
    return {b: residual_structure(original, denoised, volumes, inside) for b, volumes in _shells(before).items()}


def residual_slices(before: Scan, after: Scan, *, axis: int = 2, index: int | None = None) -> list[ResidualSlice]:
    """One slice per shell before, after, and their difference, from the middle volume of each shell.

    Parameters
    ----------
    axis : axis of the image that the slice is perpendicular to
    index : slice along ``axis``; the middle one if None
    """
    original, denoised = before.volume.get_array(), after.volume.get_array()
    at = original.shape[axis] // 2 if index is None else index
    slices = []
    for b, volumes in _shells(before).items():
        volume = int(volumes[len(volumes) // 2])
        first = np.take(original[..., volume], at, axis=axis).astype(np.float32)
        second = np.take(denoised[..., volume], at, axis=axis).astype(np.float32)
        slices.append(ResidualSlice(b, volume, axis, at, first, second, first - second))
    return slices


def residual_facts(structures: dict[float, ResidualStructure]) -> list[dict[str, float]]:
    """The numbers of :func:`shell_residuals` as a sidecar says them."""
    return [
        {"B": round(b), **{name: round(value, 4) for name, value in dataclasses.asdict(structure).items()}}
        for b, structure in structures.items()
    ]


def _shells(dwi: Scan) -> dict[float, np.ndarray]:
    gradients = dwi.gradients
    shells = {0.0: np.flatnonzero(gradients.is_b0)} if gradients.is_b0.any() else {}
    return shells | {float(shell.b): np.asarray(shell.indices) for shell in gradients.levels if shell.b > 0}


def _by_patch2self(
    image: np.ndarray, is_b0: np.ndarray, model: Regression, alpha: float, b0_denoising: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    order: Literal["C", "F"] = _order(image)
    rows = image.reshape(-1, image.shape[3], order=order)
    fit = fit_patch2self(rows, is_b0, model=model, alpha=alpha, b0_denoising=b0_denoising)
    used = {
        "Model": model,
        **({"Alpha": alpha} if model == "ridge" else {}),
        "B0Denoising": b0_denoising,
        "VolumesPassedThrough": [int(i) for i in np.flatnonzero(~fit.is_predicted)],
    }
    grid = image.shape[:3]
    sigma, status = fit.sigma.reshape(grid, order=order), fit.status.reshape(grid, order=order)
    return fit.denoised.reshape(image.shape, order=order), sigma, status, used


def _by_mppca(
    image: np.ndarray,
    mask: np.ndarray | None,
    extent: int | tuple[int, int, int] | None,
    estimator: Estimator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    fit = fit_mppca(image, mask, extent=extent, estimator=estimator)
    kept = fit.n_signal[fit.status == Status.FITTED]
    used = {
        "Extent": list(fit.extent),
        "Estimator": str(estimator).lower(),
        "MedianComponentsKept": float(np.median(kept)) if len(kept) else 0.0,
    }
    return fit.denoised, fit.sigma, fit.status, used


def _order(image: np.ndarray) -> Literal["C", "F"]:
    """Memory order in which the voxels can be listed without moving them; "C" for an image that is in neither."""
    return "F" if image.flags.f_contiguous and not image.flags.c_contiguous else "C"


def _row_strides(strides: np.ndarray) -> tuple[int, int]:
    """Steps from voxel to voxel and from volume to volume."""
    return int(min(strides[:3])), int(strides[3])


def _clip_and_count(
    flat: np.ndarray, strides: np.ndarray, is_b0: np.ndarray, inside: np.ndarray, clip: bool
) -> tuple[int, int]:
    """Clip in place if asked; voxels with a negative value, and voxels with a weighted signal above the mean b = 0."""
    order: Literal["C", "F"] = "C" if strides[3] == 1 else "F"
    counts = np.zeros((len(inside.ravel()) // _CHUNK + 1, 2), dtype=np.int64)
    _clip_rows(flat, *_row_strides(strides), np.asarray(is_b0), inside.ravel(order=order), clip, counts)
    clipped, above = counts.sum(axis=0)
    return int(clipped) if clip else 0, int(above)


_CHUNK = 4096


@njit(cache=True, parallel=True)
def _clip_rows(flat, voxel_stride, volume_stride, is_b0, inside, clip, counts):  # type: ignore[no-untyped-def]
    n_vox, n_meas = len(inside), len(is_b0)
    n_b0 = is_b0.sum()
    for chunk in prange(len(counts)):
        first, last = chunk * _CHUNK, min(n_vox, (chunk + 1) * _CHUNK)
        if last <= first:
            continue
        mean_b0 = np.zeros(last - first)
        highest = np.zeros(last - first)
        has_negative = np.zeros(last - first, dtype=np.bool_)
        for m in range(n_meas):
            for v in range(first, last):
                at = v * voxel_stride + m * volume_stride
                value = flat[at]
                if value < 0:
                    has_negative[v - first] = True
                    if clip:
                        flat[at] = 0
                        value = 0
                if is_b0[m]:
                    mean_b0[v - first] += value / n_b0
                else:
                    highest[v - first] = max(highest[v - first], value)
        for v in range(first, last):
            if inside[v]:
                counts[chunk, 0] += has_negative[v - first]
                counts[chunk, 1] += n_b0 > 0 and highest[v - first] > mean_b0[v - first]
