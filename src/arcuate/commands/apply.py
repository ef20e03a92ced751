"""``arcuate apply``: what lies in one image brought to another by a transform that is known."""

from __future__ import annotations

from pathlib import Path

import click

from arcuate.commands.options import PATH, TEMPLATE, check_images, threads_option
from arcuate.commands.paths import out_image_option
from arcuate.commands.shell import ArcuateCommand, Choice, tell
from arcuate.commands.written import own_facts, until_voxels
from arcuate.registration import KINDS


@click.command(cls=ArcuateCommand)
@click.argument("image", type=TEMPLATE, metavar="IMAGE")
@click.option("--reference", type=TEMPLATE, required=True, help="Image whose grid IMAGE is brought to.")
@click.option(
    "--transform",
    "transforms",
    type=PATH,
    multiple=True,
    required=True,
    help="Folder of `arcuate register`, or ANTs' .h5, .mat, warp .nii.gz; several in the order of antsApplyTransforms.",
)
@click.option("--inverse", is_flag=True, help="The way back: IMAGE lies in the fixed image of the registration.")
@click.option(
    "--interpolation",
    default="linear",
    show_default=True,
    help="linear, cubic, nearest, or label for labels (the largest linear weight).",
)
@click.option(
    "--kind",
    type=Choice(KINDS),
    default="scalar",
    show_default=True,
    help="Tensors, FODs and peaks are turned with the tissue.",
)
@click.option("--modulate", is_flag=True, help="FODs: densities follow shrinking and growing tissue.")
@out_image_option("Image to write.")
@threads_option
def apply(
    image: Path,
    reference: Path,
    transforms: tuple[Path, ...],
    inverse: bool,
    interpolation: str,
    kind: str,
    modulate: bool,
    out: Path,
) -> None:
    """Bring IMAGE to the grid of another image by a transform of `arcuate register`, ANTs, fMRIPrep or QSIPrep."""
    from arcuate.io.labels import read_image
    from arcuate.registration import TransformResource
    from arcuate.study.bids import input_facts, write_map
    from arcuate.volumes.resample import interpolation_of

    interpolation = interpolation_of(interpolation)
    inputs = {"image": image, "reference": reference}
    check_images([out], inputs | {f"transform {i}": path for i, path in enumerate(transforms)})
    transform = TransformResource.load(transforms[0] if len(transforms) == 1 else list(transforms))
    moved, grid = read_image(image), read_image(reference)
    with until_voxels([out]) as unread:
        volume = transform.apply(unread(moved), grid, interpolation, kind=kind, modulate=modulate, invert=inverse)
    facts = {
        "Kind": kind,
        "Interpolation": interpolation,
        "Transforms": [path.name for path in transforms],
        "Inverse": inverse,
        **({"Modulated": modulate} if kind == "fod" else {}),
        **own_facts(),
        "Inputs": input_facts(inputs),
    }
    write_map(volume, out, facts)
    tell(f"{out}: {' x '.join(map(str, volume.shape))}, {kind}")
