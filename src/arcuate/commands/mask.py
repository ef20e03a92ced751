"""``arcuate mask``: a brain mask from the b = 0 volumes."""

from __future__ import annotations

from pathlib import Path

import click

from arcuate.commands.options import ScanFiles, default_of, out_option, scan_options
from arcuate.masks import extract_brain


@click.command()
@scan_options
@out_option("Mask to write, .nii.gz or .nii.")
@click.option("--method", default="auto", show_default=True, help="auto, hdbet (extra [hdbet]) or otsu.")
@click.option(
    "--folds",
    type=click.IntRange(1, 5),
    default=default_of(extract_brain, "folds"),
    show_default=True,
    help="Networks of HD-BET 1 that are averaged: 1 is fast, 5 what it calls accurate.",
)
@click.option("--augmentation", is_flag=True, help="HD-BET on the eight mirror images as well: eight times slower.")
@click.option("--device", default=default_of(extract_brain, "device"), show_default=True, help="auto, cpu or cuda.")
def mask(scan: ScanFiles, out: Path, method: str, folds: int, augmentation: bool, device: str) -> None:
    """Brain mask of DWI from the mean of its b=0 volumes.

    HD-BET was trained on structural images; b=0 images are off its label: look at the mask.
    """
    from arcuate.masks import mask_facts
    from arcuate.study.bids import write_map

    dwi = scan.read()
    inside = extract_brain(dwi, method=method, folds=folds, augmentation=augmentation, device=device)
    facts = mask_facts(inside, dwi, method, folds=folds, augmentation=augmentation)
    write_map(inside, out, {**facts, **scan.facts()})
    network = f" ({facts['Network']})" if "Network" in facts else ""
    click.echo(f"{out}: {facts['VolumeMl']:.0f} ml, method {facts['Method']}{network}")
