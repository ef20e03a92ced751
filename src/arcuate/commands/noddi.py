"""``arcuate noddi``: neurite density, orientation dispersion, free water and fibre directions."""

from __future__ import annotations

from pathlib import Path

import click

from arcuate.commands.options import (
    PATH,
    ScanFiles,
    check_images,
    command,
    default_of,
    mask_option,
    read_mask,
    scan_options,
    step_option,
    write_maps,
)
from arcuate.commands.paths import out_folder_option
from arcuate.commands.shell import tell
from arcuate.commands.written import until_voxels
from arcuate.noddi import Noddi


@command()
@scan_options
@mask_option
@out_folder_option(
    "Folder for icvf (NDI), odi, isovf (FWF), direction, rmse, s0 (.nii.gz each, with a .json beside it)."
)
@step_option(Noddi.estimate_noddi, "--dpar", "mm²/s, diffusivity along neurites; 1.3e-3 suits grey matter.", type=float)
@step_option(Noddi.estimate_noddi, "--diso", "mm²/s, diffusivity of free water.", type=float)
@click.option(
    "--refine/--no-refine",
    default=default_of(Noddi.estimate_noddi, "refine"),
    help="Go on to maximum likelihood under Rician noise. Default: yes, but for --as-amico or --directions.",
)
@step_option(Noddi.estimate_noddi, "--ex-vivo/--in-vivo", "Add a compartment of water that does not move.")
@click.option("--directions", type=PATH, help="Fibre directions to use, x y z per voxel in the scanner frame.")
@click.option(
    "--as-amico",
    is_flag=True,
    default=default_of(Noddi.estimate_noddi, "as_amico"),
    help="AMICO's rules for the norm of the atoms and for ODI.",
)
def noddi(
    scan: ScanFiles,
    mask: Path | None,
    out: Path,
    dpar: float,
    diso: float,
    refine: bool | None,
    ex_vivo: bool,
    directions: Path | None,
    as_amico: bool,
) -> None:
    """NODDI of DWI: neurite density, orientation dispersion and free water.

    Needs two shells or more. Directions are in the scanner's frame (x to the right, y to the front, z up).
    """
    from arcuate.io import open_volume
    from arcuate.study.maps import NODDI_MAPS, noddi_maps

    files = scan.inputs_with(mask=mask, directions=directions)
    images = [out / f"{name}.nii.gz" for name in NODDI_MAPS if name != "dot" or ex_vivo]
    check_images(images, files)
    dwi = scan.read()
    inside = read_mask(mask, dwi.volume)
    with until_voxels(images) as unread:
        result = Noddi.estimate_noddi(
            unread(dwi),
            inside,
            dpar=dpar,
            diso=diso,
            refine=refine,
            ex_vivo=ex_vivo,
            directions=open_volume(directions) if directions else None,
            as_amico=as_amico,
        )
    facts = {**result.parameters, **scan.facts(mask=mask, directions=directions)}
    counts = write_maps(out, noddi_maps(result), facts)
    shells = ", ".join(f"{b:.0f}" for b in facts["Shells"])
    tell(f"{out}: NODDI from the shells {shells}; voxels: {counts}")
