"""``arcuate freewater``: the share of free water, and the tensor of the tissue beside it."""

from __future__ import annotations

from pathlib import Path

from arcuate.commands.options import (
    ScanFiles,
    check_images,
    command,
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
from arcuate.freewater import FreeWater


@command()
@scan_options
@mask_option
@out_folder_option("Folder for fwf fa md ad rd diffusivity (.nii.gz each, with a .json beside it).")
@step_option(FreeWater.estimate_free_water, "--b-max", "s/mm²; shells up to this and 100 more are used.", type=float)
@step_option(FreeWater.estimate_free_water, "--diso", "mm²/s, diffusivity of the water.", type=float)
@step_option(
    FreeWater.estimate_free_water, "--nonnegative/--no-nonnegative", "Raise negative eigenvalues to (nearly) zero."
)
@tensor_order_option
def freewater(
    scan: ScanFiles, mask: Path | None, out: Path, b_max: float, diso: float, nonnegative: bool, tensor_order: str
) -> None:
    """Free water of DWI: its share, and FA and diffusivities of the tissue without it.

    Needs b=0 and two shells: on one shell the problem is ill-posed. Tensors are in the scanner's frame (x to the right,
    y to the front, z up).
    """
    from arcuate.study.maps import FREE_WATER_MAPS, free_water_maps

    images = [out / f"{name}.nii.gz" for name in FREE_WATER_MAPS]
    check_images(images, scan.inputs_with(mask=mask))
    dwi = scan.read()
    inside = read_mask(mask, dwi.volume)
    with until_voxels(images) as unread:
        result = FreeWater.estimate_free_water(unread(dwi), inside, b_max=b_max, diso=diso, nonnegative=nonnegative)
    facts = {**result.parameters, **scan.facts(mask=mask)}
    counts = write_maps(out, free_water_maps(result, tensor_order), facts)
    tell(f"{out}: free water from {len(facts['VolumesUsed'])} volumes; voxels: {counts}")
