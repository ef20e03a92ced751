"""``arcuate dti``: tensors, and the maps that follow from them."""

from __future__ import annotations

from pathlib import Path

import click

from arcuate.commands.options import (
    ScanFiles,
    check_images,
    default_of,
    mask_option,
    out_folder_option,
    read_mask,
    scan_options,
    tensor_order_option,
)
from arcuate.dti import Dti


@click.command()
@scan_options
@mask_option
@out_folder_option("Folder for fa md ad rd evals evecs diffusivity (.nii.gz each, with a .json beside it).")
@click.option(
    "--b-max",
    type=float,
    default=default_of(Dti.estimate_dti, "b_max"),
    show_default=True,
    help="s/mm²; shells up to this and 100 more are used.",
)
@click.option(
    "--n-reweight",
    type=click.IntRange(0),
    default=default_of(Dti.estimate_dti, "n_reweight"),
    show_default=True,
    help="0 is OLS, 1 WLS, more IWLS.",
)
@click.option(
    "--nonnegative/--no-nonnegative",
    default=default_of(Dti.estimate_dti, "nonnegative"),
    show_default=True,
    help="Raise negative eigenvalues to (nearly) zero.",
)
@tensor_order_option
def dti(
    scan: ScanFiles, mask: Path | None, out: Path, b_max: float, n_reweight: int, nonnegative: bool, tensor_order: str
) -> None:
    """Diffusion tensor of DWI: FA, diffusivities, eigenvalues and eigenvectors.

    Directions are in the scanner's frame (x to the right, y to the front, z up).
    """
    from arcuate.study.bids import write_map
    from arcuate.study.maps import TENSOR_MAPS, tensor_maps

    check_images([out / f"{name}.nii.gz" for name in TENSOR_MAPS], scan.inputs_with(mask=mask))
    dwi = scan.read()
    inside = read_mask(mask, dwi.volume)
    tensors = Dti.estimate_dti(dwi, inside, b_max=b_max, n_reweight=n_reweight, nonnegative=nonnegative)
    facts = {**tensors.parameters, **scan.facts(mask=mask)}
    for image in tensor_maps(tensors, tensor_order):
        write_map(image.volume, out / f"{image.param}.nii.gz", {**image.facts, **facts})
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in facts["VoxelsByStatus"].items())
    click.echo(f"{out}: tensors from {len(facts['VolumesUsed'])} volumes; voxels: {counts}")
