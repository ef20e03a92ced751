"""Denoising step: a scan in, a scan with less noise out, and what is known about the noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple

import numpy as np

from arcuate.cache import cacheable, storable
from arcuate.errors import InputError, NotApplicable, warn
from arcuate.gradients import GradientTable
from arcuate.models.clipping import count_odd_voxels
from arcuate.models.flat_image import flat_image, memory_order
from arcuate.models.mppca import Estimator, check_mppca, fit_mppca
from arcuate.models.patch2self import Regression, check_patch2self, fit_patch2self
from arcuate.models.residual import ResidualStructure, residual_structure
from arcuate.models.rician import remove_rician_bias
from arcuate.models.status import Status, count_status
from arcuate.numerics.compiled import run_in_chunks
from arcuate.numerics.filters import otsu_threshold
from arcuate.volumes.resource import VolumeResource
from arcuate.volumes.scan import S, Scan, with_volume
from arcuate.volumes.signals import read_signals
from arcuate.volumes.voxels import check_mask, map_volumes

Method = Literal["patch2self", "mppca"]
METHODS = ("patch2self", "mppca")
_DENOISERS = ("denoise", "patch2self", "mppca", "nlmeans")  # commands of MRtrix3, ANTs, DIPY and our own
ENOUGH_VOLUMES = 100  # weighted volumes; up to 90 Patch2Self raised the error of FA, on two shells as well
STRUCTURED = 0.25  # correlation of a residual with the anatomy, or between neighbours, that is no longer noise
MANY_SHELLS = 4  # a scheme of more is told by its number of directions alone
_SLICES = 4  # summed together
N_LOOKED_AT = 8  # volumes that tell whether a voxel holds anything

storable(ResidualStructure)


@storable
@dataclass(frozen=True, eq=False)
class Denoising(Generic[S]):
    """A denoised scan, and what was found on the way."""

    dwi: S
    noise: VolumeResource  # (x, y, z) float32, standard deviation of the noise, unit of the signal
    status: VolumeResource  # (x, y, z) uint8, see arcuate.models.status.Status
    parameters: dict[str, Any]  # every option, and counts of voxels, as a sidecar says them


class DenoisingChoice(NamedTuple):
    """How a scan is to be denoised, and why."""

    method: str  # "patch2self", "mppca" or "none"
    reason: str  # one sentence for the log, the sidecar and the report


def choose_denoising(
    gradients: GradientTable,
    sidecars: Sequence[Mapping[str, Any]] = (),
    *,
    asked: str = "auto",
    is_step_named: bool = False,
) -> DenoisingChoice:
    """What `arcuate run` does about noise, and one sentence why.

    Parameters
    ----------
    gradients : of the scan
    sidecars : what the JSON files beside the scan's images say, see ``arcuate.io.sidecars.sidecars_of``
    asked : the option ``--denoise``: "auto", "patch2self", "mppca" or "none". What is asked for by name is done.
    is_step_named : whether the user named the step denoise: then "auto" takes Patch2Self rather than nothing

    Raises
    ------
    InputError
        ``asked`` is none of these.

    Notes
    -----
    "auto" is no denoising. In no cell of the table in ``docs/methods/patch2self.md`` did a method leave mean FA, V1, MD
    and NDI of white matter all as near to the truth as they are without: Patch2Self lowers FA everywhere, MP-PCA lowers
    FA of one shell and MD everywhere, and needs a scan that was not interpolated, which no file tells for certain:
    scanners zero-fill, and tools copy sidecars. Who knows it asks for "mppca".
    """
    if asked not in ("auto", *METHODS, "none"):
        raise InputError(f"found the denoising method {asked!r}; expected one of auto, {', '.join(METHODS)}, none.")
    scheme = _scheme_in_words(gradients)
    if asked != "auto":
        return DenoisingChoice(asked, f"denoising: {asked} was asked for ({scheme}).")
    before = next(filter(None, (denoised_before(facts) for facts in sidecars)), None)
    if before:
        return DenoisingChoice("none", f"the sidecar says that the scan was denoised before ({before}; {scheme}).")
    if is_step_named:
        return DenoisingChoice(
            "patch2self", f"denoising: patch2self, because the step was named; with {scheme} it may lower FA."
        )
    return DenoisingChoice(
        "none",
        f"with {scheme} denoising by Patch2Self would lower FA, and nothing tells that the scan was not interpolated, "
        "which MP-PCA needs.",
    )


def denoised_before(sidecar: Mapping[str, Any]) -> str | None:
    """What in a sidecar says that the image was denoised, such as ``"Method: mppca"``; None where nothing does.

    Read are arcuate's own keys, every key with "denois" in its name (QSIPrep's and others'), and the history of
    commands that MRtrix3 writes.
    """
    if sidecar.get("Method") in METHODS and "RicianBiasRemoved" in sidecar:
        return f"Method: {sidecar['Method']}"
    for key, value in sidecar.items():
        if "denois" in key.lower() and _is_said(value):
            return f"{key}: {value}"
        if "history" in key.lower():
            commands = value if isinstance(value, list) else str(value).splitlines()
            for command in commands:
                words = str(command).split()
                if any(name in Path(words[0]).name.lower() for name in _DENOISERS if words):
                    return f"{key}: {words[0]}"
    return None


def _is_said(value: Any) -> bool:
    """Whether a value of a sidecar means yes."""
    if isinstance(value, str):
        return value.strip().lower() not in {"", "none", "no", "false", "off", "0", "n/a", "skipped", "not done"}
    return bool(value)


def patch2self_doubt(gradients: GradientTable) -> str | None:
    """Why Patch2Self harms a scan of such gradients; None where it did no harm to the error of FA in the table."""
    n_shells = sum(level.b > gradients.b0_threshold for level in gradients.levels)
    n_weighted = int((~gradients.is_b0).sum())
    if n_shells > 1 and n_weighted >= ENOUGH_VOLUMES:
        return None
    return (
        "Patch2Self takes anisotropy away from scans of one shell or few volumes (found "
        f"{_scheme_in_words(gradients)}; expected two shells and {ENOUGH_VOLUMES} volumes): FA is too low. "
        "Take mppca if the scan was not interpolated, or do not denoise."
    )


def _scheme_in_words(gradients: GradientTable) -> str:
    """``"30 directions of b=1000 and 60 of b=2000"``."""
    weighted = [level for level in gradients.levels if level.b > gradients.b0_threshold]
    if not weighted:
        return "b=0 alone"
    if len(weighted) > MANY_SHELLS:
        return f"{int((~gradients.is_b0).sum())} directions"
    first, *more = (f"{len(level.indices)}{{}} of b={level.b:.0f}" for level in weighted)
    noun = " direction" if len(weighted[0].indices) == 1 else " directions"
    return " and ".join([first.format(noun), *(words.format("") for words in more)])


@cacheable(version=2)
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
        denoises every voxel, whatever the mask. The counts are of these voxels, and so is ``MedianNoise``; without a
        mask that is the noise of what stands out from the background (Otsu). Voxels that are 0 throughout, as in a
        scan whose skull was taken away, tell no noise.
    model, alpha, b0_denoising : of Patch2Self, see :func:`arcuate.models.patch2self.fit_patch2self`
    extent, estimator : of MP-PCA, see :func:`arcuate.models.mppca.fit_mppca`

    Returns
    -------
    Denoising. Voxels with a NaN or an infinity are 0 in it. Its counts: ``VoxelsClipped``, voxels in which clipping
    changed a value; ``VoxelsAboveB0``, voxels with a weighted signal above the mean b = 0 signal.

    Raises
    ------
    NotApplicable
        Volumes without one finite value.
    InputError
        The scan has too few volumes, or an option is unknown.
    """
    if method not in METHODS:
        raise InputError(f"found the denoising method {method!r}; expected one of {', '.join(METHODS)}.")
    gradients = dwi.gradients
    if method == "patch2self":
        check_patch2self(gradients.is_b0, model=model, alpha=alpha, b0_denoising=b0_denoising)
    else:
        extent = check_mppca(dwi.volume.shape, extent=extent, estimator=estimator)
    inside = check_mask(dwi.volume, mask)
    _check_volumes(dwi.volume.get_array(), inside)
    image = read_signals(dwi, inside)
    if method == "patch2self":
        denoised, noise, status, used = _by_patch2self(image, gradients.is_b0, model, alpha, b0_denoising)
        if doubt := patch2self_doubt(gradients):
            warn(doubt)
    else:
        denoised, noise, status, used = _by_mppca(image, inside if mask is not None else None, extent, estimator)
    flat = flat_image(denoised)
    if rician:
        remove_rician_bias(flat, flat.rows_of(noise))
    odd = count_odd_voxels(flat, gradients.is_b0, flat.rows_of(inside), clip=clip)
    measured = (inside if mask is not None else _head_of(image)) & (noise > 0) & ~_is_blank(image)
    status[~inside] = Status.OUTSIDE
    parameters = {
        "Method": method,
        **used,
        "Clip": clip,
        "RicianBiasRemoved": rician,
        "B0Threshold": gradients.b0_threshold,
        "MaskGiven": mask is not None,
        "VoxelsByStatus": count_status(status),
        "VoxelsClipped": odd.negative if clip else 0,
        "VoxelsAboveB0": odd.above_b0,
        "MedianNoise": float(np.median(noise[measured])) if measured.any() else 0.0,
    }
    return Denoising(
        with_volume(dwi, dwi.volume.with_array(denoised)),
        dwi.volume.with_array(noise),
        dwi.volume.with_array(status),
        parameters,
    )


@cacheable(version=2)
def shell_residuals(before: Scan, after: Scan, mask: VolumeResource | None = None) -> dict[float, ResidualStructure]:
    """Structure of what was removed, by shell (b in s/mm²; 0 for the b = 0 volumes); none of too few voxels.

    Without a mask (x, y, z) the voxels that stand out in the mean of the denoised volumes (Otsu) are looked at.
    """
    inside = check_mask(before.volume, mask)
    original, denoised = before.volume.get_array(), after.volume.get_array()
    if mask is None:
        inside = _head_of(denoised)
    structures: dict[float, ResidualStructure] = {}
    for b, volumes in _shells(before).items():
        with suppress(NotApplicable):  # too few voxels to tell
            structures[b] = residual_structure(original, denoised, volumes, inside)
    return structures


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


def residual_doubts(facts: Sequence[Mapping[str, float]]) -> list[str]:
    """What in :func:`residual_facts` says that signal was removed with the noise, a sentence per shell; else empty."""
    found = []
    for shell in facts:
        anatomy, neighbours = abs(shell["anatomy"]), shell["neighbours"]
        if max(anatomy, neighbours) > STRUCTURED:
            found.append(
                f"what denoising took from b={shell['B']:.0f} follows the anatomy (correlation with it {anatomy:.2f}, "
                f"of neighbouring voxels {neighbours:.2f}; noise has about 0): signal may be lost, or the scan was "
                "interpolated before"
            )
    return found


def _head_of(image: np.ndarray) -> np.ndarray:
    """(x, y, z) bool: voxels of (x, y, z, n_meas) that stand out in the mean of the volumes; all where none do."""
    total = np.zeros(image.shape[:3], order="F")

    def work(begin: int, end: int) -> None:  # a slab at a time, whose sum stays in the cache
        for volume in range(image.shape[3]):
            total[..., begin:end] += image[..., begin:end, volume]

    run_in_chunks(work, image.shape[2], _SLICES)
    total[~np.isfinite(total)] = 0
    return total > otsu_threshold(total) if total.max() > total.min() else np.ones(total.shape, dtype=bool)


def _check_volumes(image: np.ndarray, inside: np.ndarray) -> None:
    """Refuse volumes that hold no number: no voxel would be denoised, and all would be 0."""
    has_numbers = map_volumes(image, inside, lambda values: bool(np.isfinite(values).any()))
    bad = [i for i, has_number in enumerate(has_numbers) if not has_number]
    if bad:
        listed = ",".join(map(str, bad[:8])) + (" ..." if len(bad) > 8 else "")
        raise NotApplicable(
            f"no voxel can be denoised: the volumes {listed} (counted from 0) hold no number in any. Leave them out "
            f"(--exclude {listed})."
        )


def _is_blank(image: np.ndarray) -> np.ndarray:
    """(x, y, z) bool: voxels that are exactly 0 throughout, as those around a brain whose skull was taken away."""
    blank = np.ones(image.shape[:3], dtype=bool)
    for volume in np.unique(np.linspace(0, image.shape[3] - 1, N_LOOKED_AT).astype(int)):
        blank &= image[..., volume] == 0
    return blank


def _by_patch2self(
    image: np.ndarray, is_b0: np.ndarray, model: Regression, alpha: float, b0_denoising: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    order = memory_order(image)
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
