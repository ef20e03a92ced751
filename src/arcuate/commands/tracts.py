"""``arcuate tracts``: white-matter tracts from peaks, by TractSeg's networks."""

from __future__ import annotations

from pathlib import Path

import click

from arcuate.commands.options import (
    PATH,
    check_images,
    command,
    default_of,
    mask_option,
    read_mask,
    step_option,
    threads_option,
)
from arcuate.commands.paths import out_folder_option
from arcuate.commands.shell import Choice, tell
from arcuate.commands.written import own_facts, until_voxels
from arcuate.tractseg import OUTPUT_TYPES, find_tracts


@command()
@click.argument("peaks", type=PATH)
@mask_option
@out_folder_option("Folder for one image per tract, and all of them in one 4-D image.")
@step_option(
    find_tracts,
    "--output-type",
    "72 tracts, the two endings of each, or their orientation maps.",
    type=Choice(OUTPUT_TYPES),
)
@click.option("--probabilities", is_flag=True, help="Probabilities in place of masks.")
@click.option(
    "--single-orientation/--three-orientations",
    default=default_of(find_tracts, "single_orientation"),
    help="Slices in one direction, or in three and their mean. Default: three, one for TOM.",
)
@click.option("--tracts", type=PATH, help="For TOM: 4-D image of the 72 tracts; unit vectors inside, 0 outside.")
@click.option("--weights", type=PATH, help="Folder of the weights; default: ARCUATE_WEIGHTS, then TractSeg's own.")
@step_option(find_tracts, "--device", "auto, cpu, cuda, cuda:1 ...")
@step_option(
    find_tracts,
    "--precision",
    "bfloat16 is faster and moves about 0.3 % of the voxels.",
    type=Choice(["float32", "bfloat16"]),
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
    from arcuate.io import open_volume
    from arcuate.study.bids import input_facts, write_map
    from arcuate.study.maps import tract_maps
    from arcuate.tractseg import locate_tracts, mask_orientation_maps, tract_names

    if tracts is not None and output_type != "TOM":
        raise InputError("--tracts belongs to --output-type TOM; leave it out.")
    files = {"peaks": peaks} | ({"mask": mask} if mask else {}) | ({"tracts": tracts} if tracts else {})
    names = tract_names(output_type)
    stems = [output_type, *(f"{name}_tom" if output_type == "TOM" else name for name in names)]
    images = [out / f"{stem}.nii.gz" for stem in stems]
    check_images(images, files)
    vectors = open_volume(peaks)
    inside = read_mask(mask, vectors) if len(vectors.shape) == 4 else read_mask(mask)
    drawn = None if tracts is None else open_volume(tracts)
    if drawn is not None and tuple(drawn.shape) != (*vectors.shape[:3], len(names)):
        raise InputError(
            f"found --tracts of shape {tuple(drawn.shape)}; expected {(*vectors.shape[:3], len(names))}: the tracts of "
            "the same scan, as `arcuate tracts` writes them."
        )
    with until_voxels(images) as unread:
        segmented = locate_tracts(
            unread(vectors),
            output_type,
            mask=inside,
            probabilities=probabilities,
            single_orientation=single_orientation,
            weights=weights,
            device=device,
            precision=precision,
        )
    found = segmented.volume if drawn is None else mask_orientation_maps(segmented.volume, drawn)
    facts = {**segmented.parameters, **own_facts(), "Inputs": input_facts(files)}
    made = tract_maps(found, output_type)
    for image in made:
        write_map(image.volume, out / f"{image.param}.nii.gz", {**image.facts, **facts})
    tell(f"{out}: {len(made) - 1} images of {output_type}, and {made[0].param}.nii.gz with all of them")
