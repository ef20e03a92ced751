"""What the report says of the scan itself, noted while the scan is at hand: the derivatives do not hold it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from arcuate.cache import cacheable, storable
from arcuate.errors import silenced_warnings
from arcuate.study.bids import as_plain, write_json
from arcuate.study.outputs import REPORT
from arcuate.study.quality import inspect_scan
from arcuate.volumes.resource import VolumeResource
from arcuate.volumes.scan import Scan, compute_mean_least_weighted
from arcuate.volumes.voxels import sums_of_slices

if TYPE_CHECKING:
    from arcuate.dwi import Dwi
    from arcuate.study.bids import Derivatives
    from arcuate.study.result import SubjectResult


@storable
@dataclass(frozen=True, eq=False)
class Examination:
    """What a report says of a scan, and the image that overlays are drawn on."""

    facts: dict[str, Any]  # see scan_facts
    reference: VolumeResource  # (x, y, z) float32, mean of the b = 0 volumes, or of the lowest shell; 0 without a value


@cacheable(version=3)
def examine_scan(scan: Scan, mask: VolumeResource | None) -> Examination:
    """The checks of a scan whose voxels are in memory, and the mean of its least weighted volumes."""
    with silenced_warnings():  # the mask's step has said that there is no b = 0
        mean = compute_mean_least_weighted(scan)
    reference = mean.with_array(np.nan_to_num(mean.get_array(), nan=0.0, posinf=0.0, neginf=0.0))
    return Examination(as_plain(scan_facts(cast("Dwi", scan), mask)), reference)


def keep_scan_facts(run: SubjectResult) -> None:
    """Write ``<prefix>_desc-scan_facts.json``, the mean b=0 image, and pictures of what denoising did."""
    path = run.names.path("desc-scan_facts.json")
    scan = run.scan if run.examined is not None else run.scan.load()  # once: what follows would read it again and again
    examined = run.examined or examine_scan(scan, run.mask)
    facts = {**examined.facts, "doubts": list(dict.fromkeys([*run.doubts, *examined.facts["doubts"]]))}
    write_json(path, facts)
    run.outputs.add(path, role="scan facts", step=REPORT, made_from=("dwi",))
    _keep_reference(run, examined.reference)
    if run.denoised is not None:
        for which, picture in keep_residuals(run.names, scan, run.denoised, run.mask).items():
            run.outputs.add(picture, role="residuals", step=REPORT, made_from=("dwi", "denoise"), label=which)


def _keep_reference(run: SubjectResult, mean: VolumeResource) -> None:
    """Write what overlays are drawn on: the mean b=0 image, or that of the lowest shell."""
    gradients = run.scan.gradients
    name, role, what = "desc-b0_dwiref.nii.gz", "reference", "b=0 volumes"
    if not gradients.is_b0.any():
        name, role, what = (
            "desc-lowestb_dwiref.nii.gz",
            "reference without b0",
            f"volumes of b={gradients.levels[0].b:.0f}",
        )
    about = {"Description": f"mean of the {what} as they were given"}
    run.outputs.image(name, mean, about, role=role, step=REPORT, made_from=("dwi",))


def scan_facts(scan: Dwi, mask: VolumeResource | None) -> dict[str, Any]:
    """The sanity checks of a scan, and its directions (scanner frame) by shell."""
    gradients = scan.gradients
    facts = inspect_scan(scan, mask).to_dict()
    facts["directions"] = {
        f"{shell.b:.0f}": np.round(gradients.directions[shell.indices], 5).tolist()
        for shell in gradients.levels
        if shell.b > gradients.b0_threshold
    }
    facts["carpet"] = signal_carpet(scan, mask)
    return facts


def signal_carpet(scan: Dwi, mask: VolumeResource | None) -> dict[str, Any] | None:
    """Mean signal of every slice and volume relative to the median of its shell; None without a mask.

    Returns
    -------
    dict of ``groups``, (b, number of volumes) by shell, and ``change``, (slices, volumes) in the order of the groups,
    slices from the patient's bottom; None where a slice holds less than 20 voxels of the mask
    """
    from arcuate.figures.views import Canonical

    if mask is None:
        return None
    frame, gradients = Canonical(scan.volume.get_affine()), scan.gradients
    inside = frame.reorder(np.asarray(mask.get_array()) > 0)
    array = frame.reorder(scan.volume.get_array())
    sizes = inside.sum(axis=(0, 1))
    groups = [(0.0, np.flatnonzero(gradients.is_b0))] if gradients.is_b0.any() else []
    groups += [(float(shell.b), np.asarray(shell.indices)) for shell in gradients.levels]
    columns = []
    of_volume = sums_of_slices(array, inside, range(array.shape[3]))
    for _, index in groups:
        sums = of_volume[index].T
        middle = np.median(sums, axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            columns.append(np.where((sizes[:, None] >= 20) & (middle > 0), sums / middle - 1, np.nan))
    change = np.concatenate(columns, axis=1)
    return {
        "groups": [[b, len(index)] for b, index in groups],
        "change": [[round(float(v), 3) if np.isfinite(v) else None for v in row] for row in change],
    }


def keep_residuals(names: Derivatives, scan: Dwi, denoised: Dwi, mask: VolumeResource | None) -> dict[str, Path]:
    """Write ``<prefix>_desc-denoising_{before,after,residuals}.png``, a volume of each shell; their paths."""
    from arcuate.figures.mosaic import stack_tiles
    from arcuate.io import atomic_path

    gradients = scan.gradients
    shells = {f"b = {shell.b:.0f}": int(shell.indices[len(shell.indices) // 2]) for shell in gradients.levels}
    if gradients.is_b0.any():
        shells = {"b = 0": int(np.flatnonzero(gradients.is_b0)[0]), **shells}
    first = {name: np.asarray(scan.volume.get_volume(v), np.float32) for name, v in shells.items()}
    second = {name: np.asarray(denoised.volume.get_volume(v), np.float32) for name, v in shells.items()}
    inside = None if mask is None else np.asarray(mask.get_array())
    pictures = stack_tiles(first, second, scan.volume.get_affine(), inside)
    kept = {which: names.path(f"desc-denoising_{which}.png") for which in ("before", "after", "residuals")}
    for path, picture in zip(kept.values(), pictures, strict=True):
        with atomic_path(path) as temporary:
            temporary.write_bytes(picture.png())
    return kept
