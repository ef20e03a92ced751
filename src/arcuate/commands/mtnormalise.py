"""``arcuate mtnormalise``: intensities of tissues made comparable between scans."""

from __future__ import annotations

from pathlib import Path

import click

from arcuate.commands.options import PATH, check_images, command, read_mask, step_option, threads_option
from arcuate.commands.paths import out_folder_option
from arcuate.commands.shell import tell
from arcuate.commands.written import own_facts, until_voxels
from arcuate.errors import InputError
from arcuate.mtnormalise import mtnormalise as normalise


@command()
@click.argument("fods", type=PATH, nargs=-1, required=True, metavar="FOD ...")
@click.option("--mask", type=PATH, required=True, help="Of the brain, on the grid of the images.")
@out_folder_option("Folder for the normalised images, under their own names, and field.nii.gz.")
@step_option(normalise, "--order", "Degree of the polynomial of the field's logarithm.", type=click.IntRange(0, 3))
@threads_option
def mtnormalise(fods: tuple[Path, ...], mask: Path, out: Path, order: int) -> None:
    """Divide the tissues of one multi-tissue fit by a smooth field, so that their sum is the same everywhere."""
    from arcuate.io import image_stem, open_volume
    from arcuate.study.bids import input_facts, write_map

    names = [image_stem(path) for path in fods]
    if len(set(names)) != len(names):
        raise InputError(f"found images of the same name: {', '.join(names)}; expected names all different.")
    if any(path.resolve().parent == out.resolve() for path in fods):
        raise InputError(f"the images lie in {out}, where their normalised versions would go; give another --out.")
    images = [out / f"{name}.nii.gz" for name in (*names, "field")]
    check_images(images, {**dict(zip(names, fods, strict=True)), "mask": mask})
    volume = read_mask(mask)
    assert volume is not None
    tissues = {name: open_volume(path) for name, path in zip(names, fods, strict=True)}
    with until_voxels(images) as unread:
        result = normalise({name: unread(tissue) for name, tissue in tissues.items()}, volume, order=order)
    facts = {
        **result.parameters,
        **own_facts(),
        "Inputs": input_facts(dict(zip(names, fods, strict=True)) | {"mask": mask}),
    }
    for name, image in {**result.volumes, "field": result.field}.items():
        write_map(image, out / f"{name}.nii.gz", facts)
    used = f"{result.parameters['VoxelsUsed']} of {result.parameters['VoxelsInMask']} voxels"
    tell(f"{out}: {', '.join(names)} divided by a field fitted to {used}")
