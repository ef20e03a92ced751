"""``arcuate peaks``: peaks of fibre orientation distributions."""

from __future__ import annotations

from pathlib import Path

import click

from arcuate.commands.options import (
    PATH,
    check_images,
    default_of,
    mask_option,
    out_image_option,
    read_mask,
    threads_option,
)
from arcuate.csd import find_fod_peaks


@click.command()
@click.argument("fod", type=PATH)
@mask_option
@out_image_option("Image to write, (x, y, z, 3 n): x y z of each peak, its length the amplitude, 0 where absent.")
@click.option("--n-peaks", type=click.IntRange(1), default=3, show_default=True, help="At most so many per voxel.")
@click.option(
    "--relative-peak-threshold",
    type=click.FloatRange(0, 1),
    default=default_of(find_fod_peaks, "relative_peak_threshold"),
    show_default=True,
    help="Peaks below this fraction of the strongest are left out.",
)
@click.option(
    "--min-separation-angle",
    type=click.FloatRange(0, 90),
    default=default_of(find_fod_peaks, "min_separation_angle"),
    show_default=True,
    help="Degrees; of two peaks closer than this the stronger stays.",
)
@threads_option
def peaks(
    fod: Path, mask: Path | None, out: Path, n_peaks: int, relative_peak_threshold: float, min_separation_angle: float
) -> None:
    """Peaks of FOD, an image in MRtrix3's basis, in the form that MRtrix3 and TractSeg read."""
    from arcuate.csd import locate_fod_peaks
    from arcuate.io import NiftiVolumeResource
    from arcuate.study.bids import input_facts, write_map
    from arcuate.study.maps import peak_facts

    files = {"fod": fod} | ({"mask": mask} if mask else {})
    check_images([out], files)
    image = NiftiVolumeResource(fod)
    peaks = locate_fod_peaks(
        image,
        read_mask(mask, image),
        n_peaks=n_peaks,
        relative_peak_threshold=relative_peak_threshold,
        min_separation_angle=min_separation_angle,
    )
    write_map(peaks.vectors, out, {**peak_facts(), **peaks.parameters, "Inputs": input_facts(files)})
    values = peaks.values.get_array()
    click.echo(f"{out}: {int((values > 0).sum())} peaks in {int((values[..., 0] > 0).sum())} voxels")
