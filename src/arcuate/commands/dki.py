"""``arcuate dki``: kurtosis, and a tensor freed of its bias."""

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
from arcuate.kurtosis import Dki


@click.command()
@scan_options
@mask_option
@out_folder_option("Folder for mk ak rk kfa msk fa md ad rd diffusivity kurtosis (.nii.gz, a .json beside each).")
@click.option(
    "--b-max",
    type=float,
    default=default_of(Dki.estimate_dki, "b_max"),
    show_default=True,
    help="s/mm²; shells up to this and 100 more are used.",
)
@click.option(
    "--n-reweight",
    type=click.IntRange(0),
    default=default_of(Dki.estimate_dki, "n_reweight"),
    show_default=True,
    help="0 is OLS, 1 WLS, more IWLS.",
)
@click.option(
    "--nonnegative/--no-nonnegative",
    default=default_of(Dki.estimate_dki, "nonnegative"),
    show_default=True,
    help="Raise negative eigenvalues of the diffusion tensor to (nearly) zero.",
)
@tensor_order_option
def dki(
    scan: ScanFiles, mask: Path | None, out: Path, b_max: float, n_reweight: int, nonnegative: bool, tensor_order: str
) -> None:
    """Diffusion kurtosis of DWI: mean, axial and radial kurtosis; FA and diffusivities freed of kurtosis.

    Needs two shells or more and 15 directions. Tensors are in the scanner's frame (x to the right, y to the front, z
    up).
    """
    from arcuate.study.bids import write_map
    from arcuate.study.maps import KURTOSIS_MAPS, kurtosis_maps

    check_images([out / f"{name}.nii.gz" for name in KURTOSIS_MAPS], scan.inputs_with(mask=mask))
    dwi = scan.read()
    inside = read_mask(mask, dwi.volume)
    result = Dki.estimate_dki(dwi, inside, b_max=b_max, n_reweight=n_reweight, nonnegative=nonnegative)
    facts = {**result.parameters, **scan.facts(mask=mask)}
    for image in kurtosis_maps(result, tensor_order):
        write_map(image.volume, out / f"{image.param}.nii.gz", {**image.facts, **facts})
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in facts["VoxelsByStatus"].items())
    click.echo(f"{out}: kurtosis from {len(facts['VolumesUsed'])} volumes; voxels: {counts}")
