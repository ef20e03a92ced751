"""``arcuate dti``: tensors, and the maps that follow from them."""

from __future__ import annotations

from pathlib import Path

import click

from arcuate.commands.options import (
    PATH,
    ScanFiles,
    check_images,
    command,
    default_of,
    least_squares_options,
    mask_option,
    read_mask,
    scan_options,
    tensor_order_option,
    write_maps,
)
from arcuate.commands.paths import out_folder_option
from arcuate.commands.shell import tell
from arcuate.commands.written import until_voxels
from arcuate.dti import Dti


@command()
@scan_options
@mask_option
@out_folder_option("Folder for fa md ad rd evals evecs diffusivity rmse (.nii.gz each, with a .json beside it).")
@least_squares_options(Dti.estimate_dti, "s/mm²; shells up to this and 100 more are used.")
@click.option(
    "--robust",
    is_flag=True,
    default=default_of(Dti.estimate_dti, "robust"),
    help="Leave out volumes that do not fit, voxel by voxel: slices that dropped out, spikes. Writes outliers too.",
)
@click.option(
    "--rician",
    is_flag=True,
    default=default_of(Dti.estimate_dti, "rician"),
    help="Maximise the likelihood of Rician noise: high b, little signal, not denoised. Needs --noise.",
)
@click.option(
    "--noise", type=PATH, help="Noise map, as `arcuate denoise --noise` writes it; with --robust or --rician."
)
@tensor_order_option
def dti(
    scan: ScanFiles,
    mask: Path | None,
    out: Path,
    b_max: float,
    n_reweight: int,
    nonnegative: bool,
    robust: bool,
    rician: bool,
    noise: Path | None,
    tensor_order: str,
) -> None:
    """Diffusion tensor of DWI: FA, diffusivities, eigenvalues and eigenvectors.

    Directions are in the scanner's frame (x to the right, y to the front, z up).
    """
    from arcuate.io import open_volume
    from arcuate.study.maps import TENSOR_MAPS, tensor_maps

    images = [out / f"{name}.nii.gz" for name in TENSOR_MAPS if name != "outliers" or robust]
    check_images(images, scan.inputs_with(mask=mask, noise=noise))
    dwi = scan.read()
    inside = read_mask(mask, dwi.volume)
    with until_voxels(images) as unread:
        tensors = Dti.estimate_dti(
            unread(dwi),
            inside,
            b_max=b_max,
            n_reweight=n_reweight,
            nonnegative=nonnegative,
            robust=robust,
            rician=rician,
            noise=open_volume(noise) if noise else None,
        )
    facts = {**tensors.parameters, **scan.facts(mask=mask, noise=noise)}
    counts = write_maps(out, tensor_maps(tensors, tensor_order), facts)
    if robust:
        counts += f"; {facts['VoxelsWithOutliers']} with outliers, {100 * facts['OutlyingShare']:.2g} % of all signals"
    tell(f"{out}: tensors from {len(facts['VolumesUsed'])} volumes; voxels: {counts}")
