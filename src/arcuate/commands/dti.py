"""``arcuate dti``: tensors, and the maps that follow from them."""

from __future__ import annotations

from pathlib import Path

import click

from arcuate.commands.options import ScanFiles, default_of, mask_option, out_option, read_mask, scan_options
from arcuate.dti import Dti

_UNITS = {"fa": "1", "md": "mm^2/s", "ad": "mm^2/s", "rd": "mm^2/s", "evals": "mm^2/s", "diffusivity": "mm^2/s"}
_ORDER = {
    "evals": "largest first",
    "evecs": "v1x v1y v1z v2x v2y v2z v3x v3y v3z",
    "diffusivity": "xx xy xz yy yz zz",
}


@click.command()
@scan_options
@mask_option
@out_option("Folder for fa md ad rd evals evecs diffusivity (.nii.gz each, with a .json beside it).")
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
def dti(scan: ScanFiles, mask: Path | None, out: Path, b_max: float, n_reweight: int, nonnegative: bool) -> None:
    """Diffusion tensor of DWI: FA, diffusivities, eigenvalues and eigenvectors.

    Directions are in the scanner's frame (x to the right, y to the front, z up).
    """
    from arcuate.study.bids import SCANNER_FRAME, input_facts, write_map

    tensors = Dti.estimate_dti(
        scan.read(), read_mask(mask), b_max=b_max, n_reweight=n_reweight, nonnegative=nonnegative
    )
    inputs = scan.inputs | ({"mask": mask} if mask else {})
    facts = {**tensors.parameters, "Inputs": input_facts(inputs)}
    for name, volume in tensors.get_maps().items():
        own = {"Units": _UNITS[name]} if name in _UNITS else {}
        if name in _ORDER:
            own |= {"Order": _ORDER[name]} | ({} if name == "evals" else {"ReferenceFrame": SCANNER_FRAME})
        write_map(volume, out / f"{name}.nii.gz", {**own, **facts})
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in facts["VoxelsByStatus"].items())
    click.echo(f"{out}: tensors from {len(facts['VolumesUsed'])} volumes; voxels: {counts}")
