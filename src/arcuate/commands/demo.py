"""``arcuate demo``: the whole pipeline on a phantom, with the errors against its truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from arcuate.commands.options import command, threads_option
from arcuate.commands.paths import OutFolder
from arcuate.commands.report import end_with_report, examination
from arcuate.commands.shell import Choice, tell
from arcuate.commands.stage_lines import StageLines

if TYPE_CHECKING:
    from arcuate.dwi import Dwi
    from arcuate.phantom import Phantom
    from arcuate.study.accuracy import Error
    from arcuate.study.result import SubjectResult

SHAPES = {"full": (96, 96, 60), "small": (48, 48, 30)}  # of 2 mm and 4 mm voxels
N_DIRECTIONS = {"full": 32, "small": 21}


@command()
@click.option("--out", type=OutFolder(), default=Path("demo"), show_default=True, help="Folder for everything.")
@click.option(
    "--size", type=Choice(list(SHAPES)), default="full", show_default=True, help="2 mm voxels, or 4 mm: quick."
)
@click.option("--snr", type=float, default=30.0, show_default=True, help="Signal of white matter at b=0 over σ.")
@click.option("--seed", type=int, default=0, show_default=True, help="Draws the head and the noise.")
@threads_option
def demo(out: Path, size: str, snr: float, seed: int) -> None:
    """Make a phantom whose truth is known, run the whole pipeline on it, and show seconds and errors."""
    from arcuate.cache import Cache
    from arcuate.study.bids import Derivatives
    from arcuate.study.pipeline import run_subject
    from arcuate.study.plan import Settings

    console = Console(stderr=True)
    phantom, scan = make_scan(out / "phantom", size, snr, seed)
    path = out / "phantom" / "sub-phantom_dwi.nii.gz"
    console.print(f"phantom: {scan.volume.shape}, {scan.gradients!r}", highlight=False, markup=False)
    inputs = {
        "dwi": path,
        "bval": path.with_name("sub-phantom_dwi.bval"),
        "bvec": path.with_name("sub-phantom_dwi.bvec"),
    }
    with Cache(out / ".arcuate-cache"):
        # HD-BET knows real heads, not phantoms
        settings = Settings(mask_method="otsu")
        names = Derivatives.of_scan(out, path)
        run = run_subject(
            scan, names, inputs=inputs, settings=settings, listener=StageLines(console), examine=examination(True)
        )
        page = end_with_report(run)
    from arcuate.study.accuracy import errors_against_truth

    Console().print(summary(run, errors_against_truth(run, phantom)))
    tell(f"maps: {run.names.folder}")
    if page is not None:
        tell(f"report: {page}")


def make_scan(folder: Path, size: str, snr: float, seed: int) -> tuple[Phantom, Dwi]:
    """The phantom and its scan on disk, truth maps beside it in ``truth/``."""
    from arcuate.dwi import Dwi
    from arcuate.io import NiftiVolumeResource
    from arcuate.phantom import make_phantom, three_shell_gradients
    from arcuate.volumes.resource import InMemoryVolumeResource

    gradients = three_shell_gradients(n_b0=4, n_directions=N_DIRECTIONS[size], seed=seed)
    voxel = 192.0 / SHAPES[size][0]
    phantom = make_phantom(gradients, shape=SHAPES[size], voxel_size=voxel, snr=snr, seed=seed)
    scan = Dwi.from_arrays(phantom.signal, phantom.affine, gradients).save(folder, basename="sub-phantom_dwi")
    maps = {
        "fa": phantom.fa,
        "md": phantom.md,
        "ndi": phantom.ndi,
        "odi": phantom.odi,
        "fwf": phantom.fwf,
        "tissue": phantom.tissue,
        "mask": phantom.brain_mask.astype(np.uint8),
        "labels": phantom.label_image,
        "directions": phantom.directions.reshape(*phantom.directions.shape[:3], -1),
        "fractions": phantom.fractions,
    }
    for name, array in maps.items():
        NiftiVolumeResource.save(InMemoryVolumeResource(array, phantom.affine), folder / "truth" / f"{name}.nii.gz")
    return phantom, scan


def summary(run: SubjectResult, errors: list[Error]) -> Table:
    """Stages, seconds, and errors against the truth."""
    table = Table(title="arcuate demo: mean absolute errors against the truth of the phantom")
    for heading in ("stage", "seconds", "error", ""):
        table.add_column(heading, justify="right" if heading == "seconds" else "left")
    for stage in run.log.stages:
        if stage.skipped is not None:
            table.add_row(stage.name, "-", "left out", Text(stage.skipped))  # plain: [extra] is no markup
            continue
        own: list[Error | None] = [e for e in errors if e.stage == stage.name] or [None]
        for i, error in enumerate(own):
            seconds = f"{stage.seconds:.2f}" if i == 0 else ""
            what = (error.what, str(error)) if error is not None else ("", "")
            table.add_row(stage.name if i == 0 else "", seconds, *what)
    table.add_row("all", f"{sum(stage.seconds for stage in run.log.stages):.2f}", "", "")
    return table
