"""What the report says of the scan itself, noted while the scan is at hand: the derivatives do not hold it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arcuate.errors import MissingExtraError
from arcuate.study.bids import write_json
from arcuate.study.outputs import REPORT
from arcuate.study.quality import inspect_scan

if TYPE_CHECKING:
    from arcuate.dwi import Dwi
    from arcuate.study.bids import Derivatives
    from arcuate.study.pipeline import SubjectResult
    from arcuate.volumes.resource import VolumeResource


def keep_scan_facts(run: SubjectResult) -> None:
    """Write ``<prefix>_desc-scan_facts.json``, and a picture of what denoising did if it was done."""
    path = run.names.path("desc-scan_facts.json")
    write_json(path, scan_facts(run.scan, run.mask))
    run.outputs.add(path, role="scan facts", step=REPORT, made_from=("dwi",))
    if run.denoised is not None:
        picture = keep_residuals(run.names, run.scan, run.denoised)
        if picture is not None:
            run.outputs.add(picture, role="residuals", step=REPORT, made_from=("dwi", "denoise"))


def scan_facts(scan: Dwi, mask: VolumeResource | None) -> dict[str, Any]:
    """The sanity checks of a scan, and its directions (scanner frame) by shell."""
    gradients = scan.gradients
    facts = inspect_scan(scan, mask).to_dict()
    facts["directions"] = {
        f"{shell.b:.0f}": np.round(gradients.directions[shell.indices], 5).tolist()
        for shell in gradients.levels
        if shell.b > gradients.b0_threshold
    }
    return facts


def keep_residuals(names: Derivatives, scan: Dwi, denoised: Dwi) -> Path | None:
    """Write ``<prefix>_desc-denoising_residuals.png``: a volume of each shell before and after; its path."""
    from arcuate.figures.plotting import plot_residuals, png_of
    from arcuate.io import atomic_path

    gradients = scan.gradients
    shells = {f"b = {shell.b:.0f}": int(shell.indices[len(shell.indices) // 2]) for shell in gradients.levels}
    if gradients.is_b0.any():
        shells = {"b = 0": int(np.flatnonzero(gradients.is_b0)[0]), **shells}
    try:
        figure = plot_residuals(
            {name: scan.volume.get_volume(v) for name, v in shells.items()},
            {name: denoised.volume.get_volume(v) for name, v in shells.items()},
            scan.volume.get_affine(),
        )
    except MissingExtraError:
        return None
    path = names.path("desc-denoising_residuals.png")
    with atomic_path(path) as temporary:
        temporary.write_bytes(png_of(figure))
    return path
