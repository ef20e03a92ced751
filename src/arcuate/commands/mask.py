"""``arcuate mask``: a brain mask from the b = 0 volumes."""

from __future__ import annotations

from pathlib import Path

import click

from arcuate.commands.options import ScanFiles, out_option, scan_options


@click.command()
@scan_options
@out_option("Mask to write, .nii.gz or .nii.")
@click.option("--method", default="auto", show_default=True, help="auto, hdbet (extra [hdbet]) or otsu.")
def mask(scan: ScanFiles, out: Path, method: str) -> None:
    """Brain mask of DWI from the mean of its b=0 volumes."""
    from arcuate.masks import extract_brain, mask_quality, resolve_method, voxel_size
    from arcuate.study.bids import input_facts, write_map

    inside = extract_brain(scan.read(), method=method)
    quality = mask_quality(inside.get_array() > 0, voxel_size(inside.get_affine()))
    facts = {
        "Type": "Brain",
        "Method": resolve_method(method),
        "B0Threshold": scan.b0_threshold,
        "VolumeMl": round(quality.volume_ml, 1),
        "Inputs": input_facts(scan.inputs),
    }
    write_map(inside, out, facts)
    click.echo(f"{out}: {quality.volume_ml:.0f} ml, method {facts['Method']}")
