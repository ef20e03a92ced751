"""``arcuate dki``: kurtosis, and a tensor freed of its bias."""

from __future__ import annotations

from pathlib import Path

import click

from arcuate.commands.options import (
    ScanFiles,
    check_images,
    command,
    default_of,
    least_squares_options,
    mask_option,
    read_mask,
    scan_options,
    step_option,
    tensor_order_option,
    write_maps,
)
from arcuate.commands.paths import out_folder_option
from arcuate.commands.shell import tell
from arcuate.commands.written import until_voxels
from arcuate.kurtosis import Dki


@command()
@scan_options
@mask_option
@out_folder_option("Folder for mk ak rk kfa msk fa md ad rd diffusivity kurtosis (.nii.gz, a .json beside each).")
@least_squares_options(Dki.estimate_dki, "s/mm²; shells up to this and 100 more are used.")
@step_option(
    Dki.estimate_dki,
    "--constrained/--no-constrained",
    "Hold kurtosis positive and the signal decreasing up to the highest b.",
)
@click.option(
    "--wmti",
    is_flag=True,
    default=default_of(Dki.estimate_dki, "wmti"),
    help="White-matter tract integrity too, where axons are aligned. Writes awf da dead derd tort aligned.",
)
@tensor_order_option
def dki(
    scan: ScanFiles,
    mask: Path | None,
    out: Path,
    b_max: float,
    n_reweight: int,
    nonnegative: bool,
    constrained: bool,
    wmti: bool,
    tensor_order: str,
) -> None:
    """Diffusion kurtosis of DWI: mean, axial and radial kurtosis; FA and diffusivities freed of kurtosis.

    Needs two shells or more and 15 directions. Tensors are in the scanner's frame (x to the right, y to the front, z
    up).
    """
    from arcuate.study.maps import INTEGRITY_MAPS, KURTOSIS_MAPS, kurtosis_maps

    images = [out / f"{name}.nii.gz" for name in (*KURTOSIS_MAPS, *(INTEGRITY_MAPS if wmti else ()))]
    check_images(images, scan.inputs_with(mask=mask))
    dwi = scan.read()
    inside = read_mask(mask, dwi.volume)
    with until_voxels(images) as unread:
        result = Dki.estimate_dki(
            unread(dwi),
            inside,
            b_max=b_max,
            n_reweight=n_reweight,
            nonnegative=nonnegative,
            constrained=constrained,
            wmti=wmti,
        )
    facts = {**result.parameters, **scan.facts(mask=mask)}
    counts = write_maps(out, kurtosis_maps(result, tensor_order), facts)
    if wmti:
        counts += f"; tract integrity in {facts['VoxelsByTractIntegrity'].get('valid', 0)} of aligned axons"
    tell(f"{out}: kurtosis from {len(facts['VolumesUsed'])} volumes; voxels: {counts}")
