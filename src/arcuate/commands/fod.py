"""``arcuate fod``: fibre orientation distributions."""

from __future__ import annotations

from pathlib import Path

import click

from arcuate.commands.options import (
    PATH,
    ScanFiles,
    check_images,
    command,
    mask_option,
    read_mask,
    scan_options,
    second_pass_option,
    step_option,
)
from arcuate.commands.paths import out_folder_option
from arcuate.commands.shell import Choice, tell
from arcuate.commands.written import until_voxels
from arcuate.csd import estimate_fods
from arcuate.models.status import counts_in_words


@command()
@scan_options
@mask_option
@out_folder_option("Folder for one image per response, named by its stem (and its folder where stems are alike).")
@click.option(
    "--response",
    "responses",
    type=PATH,
    multiple=True,
    required=True,
    help="Of `arcuate response` or MRtrix3, one file per tissue; several times.",
)
@click.option("--shell", type=float, help="s/mm²; the shell of a response that does not say it.")
@click.option("--lmax", type=int, help="Even degree up to 12. Default: 8, or what directions and response carry.")
@click.option("--directions", type=PATH, help="Text file of directions where the FOD is held non-negative.")
@second_pass_option
@step_option(
    estimate_fods,
    "--method",
    "csd: the soft single-shell method, with white matter's response alone.",
    type=Choice(["auto", "csd"]),
)
def fod(
    scan: ScanFiles,
    mask: Path | None,
    out: Path,
    responses: tuple[Path, ...],
    shell: float | None,
    lmax: int | None,
    directions: Path | None,
    second_pass: bool | None,
    method: str,
) -> None:
    """Fibre orientation distributions of DWI by (multi-tissue) constrained spherical deconvolution.

    Images hold spherical harmonics in MRtrix3's basis, in the scanner's frame: mrview shows them as they are.
    """
    from arcuate.io.responses import distinct_names, read_directions, read_response
    from arcuate.study.bids import write_map
    from arcuate.study.maps import fod_facts

    named = dict(zip(distinct_names(responses), responses, strict=True))
    files = {"mask": mask, "directions": directions, **{f"response_{name}": path for name, path in named.items()}}
    images = [out / f"{name}.nii.gz" for name in named]
    check_images(images, scan.inputs_with(**files))
    dwi = scan.read()
    inside, response = read_mask(mask, dwi.volume), read_response(responses)
    with until_voxels(images) as unread:
        fods = estimate_fods(
            unread(dwi),
            inside,
            response,
            shell=shell,
            lmax=lmax,
            constraint_directions=None if directions is None else read_directions(directions),
            second_pass=second_pass,
            method=method,
        )
    facts = {**fod_facts(), **fods.parameters, **scan.facts(**files)}
    for tissue, volume in fods.volumes.items():
        write_map(volume, out / f"{tissue}.nii.gz", facts)
    counts = counts_in_words(fods.parameters["VoxelsByStatus"])
    tell(f"{out}: FODs of {', '.join(fods.volumes)}; voxels: {counts}")
