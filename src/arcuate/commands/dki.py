"""``arcuate dki``: kurtosis, and a tensor freed of its bias."""

from __future__ import annotations

from pathlib import Path

from arcuate.commands.options import (
    ScanFiles,
    check_images,
    command,
    least_squares_options,
    mask_option,
    read_mask,
    scan_options,
    tensor_order_option,
    write_maps,
)
from arcuate.commands.paths import out_folder_option
from arcuate.commands.shell import tell
from arcuate.commands.written import end_dry_run
from arcuate.kurtosis import Dki


@command()
@scan_options
@mask_option
@out_folder_option("Folder for mk ak rk kfa msk fa md ad rd diffusivity kurtosis (.nii.gz, a .json beside each).")
@least_squares_options(Dki.estimate_dki, "s/mm²; shells up to this and 100 more are used.")
@tensor_order_option
def dki(
    scan: ScanFiles, mask: Path | None, out: Path, b_max: float, n_reweight: int, nonnegative: bool, tensor_order: str
) -> None:
    """Diffusion kurtosis of DWI: mean, axial and radial kurtosis; FA and diffusivities freed of kurtosis.

    Needs two shells or more and 15 directions. Tensors are in the scanner's frame (x to the right, y to the front, z
    up).
    """
    from arcuate.study.maps import KURTOSIS_MAPS, kurtosis_maps

    images = [out / f"{name}.nii.gz" for name in KURTOSIS_MAPS]
    check_images(images, scan.inputs_with(mask=mask))
    dwi = scan.read()
    inside = read_mask(mask, dwi.volume)
    end_dry_run(images)
    result = Dki.estimate_dki(dwi, inside, b_max=b_max, n_reweight=n_reweight, nonnegative=nonnegative)
    facts = {**result.parameters, **scan.facts(mask=mask)}
    counts = write_maps(out, kurtosis_maps(result, tensor_order), facts)
    tell(f"{out}: kurtosis from {len(facts['VolumesUsed'])} volumes; voxels: {counts}")
