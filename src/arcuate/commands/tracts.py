"""``arcuate tracts``: white-matter tracts from peaks, by TractSeg's networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from arcuate.commands.options import PATH, default_of, mask_option, out_option, read_mask, threads_option
from arcuate.tractseg import OUTPUT_TYPES, find_tracts


@click.command()
@click.argument("peaks", type=PATH)
@mask_option
@out_option("Folder for one image per tract, and all of them in one 4-D image.")
@click.option(
    "--output-type",
    type=click.Choice(OUTPUT_TYPES),
    default=default_of(find_tracts, "output_type"),
    show_default=True,
    help="72 tracts, the two endings of each, or their orientation maps.",
)
@click.option("--probabilities", is_flag=True, help="Probabilities in place of masks.")
@click.option(
    "--single-orientation/--three-orientations",
    default=default_of(find_tracts, "single_orientation"),
    help="Slices in one direction, or in three and their mean. Default: three, one for TOM.",
)
@click.option("--tracts", type=PATH, help="For TOM: 4-D image of the 72 tracts; unit vectors inside, 0 outside.")
@click.option("--weights", type=PATH, help="Folder of the weights; default: ARCUATE_WEIGHTS, then TractSeg's own.")
@click.option(
    "--device", default=default_of(find_tracts, "device"), show_default=True, help="auto, cpu, cuda, cuda:1 ..."
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default=default_of(find_tracts, "precision"),
    show_default=True,
    help="bfloat16 is faster and moves about 0.3 % of the voxels.",
)
@threads_option
def tracts(
    peaks: Path,
    mask: Path | None,
    out: Path,
    output_type: str,
    probabilities: bool,
    single_orientation: bool | None,
    tracts: Path | None,
    weights: Path | None,
    device: str,
    precision: str,
) -> None:
    """White-matter tracts from PEAKS, an image (x, y, z, 9) as `arcuate peaks` and sh2peaks write it.

    Needs the extra [tractseg] and the weights: arcuate fetch tractseg-tract-segmentation.
    """
    from arcuate.errors import InputError
    from arcuate.io import NiftiVolumeResource
    from arcuate.study.bids import input_facts, write_map
    from arcuate.study.maps import tract_maps
    from arcuate.tractseg import mask_orientation_maps, tract_facts

    if tracts is not None and output_type != "TOM":
        raise InputError("--tracts belongs to --output-type TOM; leave it out.")
    with _progress() as tell:
        found = find_tracts(
            NiftiVolumeResource(peaks),
            output_type,
            mask=read_mask(mask),
            probabilities=probabilities,
            single_orientation=single_orientation,
            weights=weights,
            device=device,
            precision=precision,
            progress=tell,
        )
    if tracts is not None:
        found = mask_orientation_maps(found, NiftiVolumeResource(tracts))
    files = {"peaks": peaks} | ({"mask": mask} if mask else {}) | ({"tracts": tracts} if tracts else {})
    facts = tract_facts(output_type, weights=weights, precision=precision, single_orientation=single_orientation)
    facts["Inputs"] = input_facts(files)
    images = tract_maps(found, output_type)
    for image in images:
        write_map(image.volume, out / f"{image.param}.nii.gz", {**image.facts, **facts})
    click.echo(f"{out}: {len(images) - 1} images of {output_type}, and {images[0].param}.nii.gz with all of them")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar over slices where a person is watching."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("slices", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
