"""``arcuate register``: one image brought to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from arcuate.commands.options import PATH, TEMPLATE, threads_option
from arcuate.commands.paths import OutImage, out_folder_option
from arcuate.commands.shell import ArcuateCommand, tell
from arcuate.commands.written import begin_work, check_outputs, until_voxels
from arcuate.errors import InputError


@click.command(cls=ArcuateCommand)
@click.option("--fixed", type=TEMPLATE, required=True, help="Image that stays, 3-D: the T1, a template.")
@click.option("--moving", type=TEMPLATE, required=True, help="Image that is brought to it: a map, or a diffusion scan.")
@click.option(
    "--transform",
    "kind",
    help="ANTs' name: Rigid, Affine, SyN ... Default: SyN; Rigid for a diffusion scan.",
)
@click.option("--mask", type=PATH, help="Where to look in the fixed image, on its grid.")
@click.option("--moving-mask", type=PATH, help="Where to look in the moving image, on its grid.")
@click.option(
    "--phase-encoding",
    help="For a diffusion scan without topup: i, j or k; its mean b=0 is then warped to the T1 along this axis alone.",
)
@out_folder_option("Folder for the transform, in files that ANTs reads.")
@click.option("--warped", type=OutImage(), help="Write the moving image on the grid of the fixed one here.")
@threads_option
def register(
    fixed: Path,
    moving: Path,
    kind: str | None,
    mask: Path | None,
    moving_mask: Path | None,
    phase_encoding: str | None,
    out: Path,
    warped: Path | None,
) -> None:
    """Bring one image to another with ANTs (extra ants), and keep the transform.

    Of a 4-D image, which is taken for a diffusion scan with its gradients beside it, the mean b=0 is registered.
    OUT/registration.html shows both images before and after, with edges and numbers.
    """
    from arcuate.dwi import Dwi
    from arcuate.io.images import open_volume, save_volume
    from arcuate.io.labels import read_image
    from arcuate.io.names import image_stem
    from arcuate.registration import register_dwi_to_structural, register_volumes
    from arcuate.report.alignment import REGISTRATION_PAGE, Named, write_registration_page
    from arcuate.volumes.ants_images import require_ants

    listed, page = out / "transform.json", out / REGISTRATION_PAGE
    outputs = [listed, page, *([warped] if warped else [])]
    belonging = {path: listed for path in (page, warped) if path is not None}
    check_outputs(outputs, {"fixed": fixed, "moving": moving}, belonging=belonging)
    require_ants("registration")
    still, moved = read_image(fixed), read_image(moving)
    inside: list[Any] = [None if path is None else open_volume(path) for path in (mask, moving_mask)]
    if len(moved.shape) == 4 and moved.shape[3] > 1:
        scan = Dwi.from_files(moving).checked()
        with until_voxels(outputs) as unread:
            transform = register_dwi_to_structural(
                unread(scan), still, kind or "Rigid", inside[1], inside[0], phase_encoding=phase_encoding
            )
        moved = scan.compute_mean_b0()
        image = transform.apply(moved, still)
    elif phase_encoding is not None:
        raise InputError("found --phase-encoding for an image that is no diffusion scan; leave it out.")
    else:
        begin_work(outputs)
        image, transform = register_volumes(still, moved, kind or "SyN", *inside)
    transform.save(out)
    if warped is not None:
        save_volume(image, warped)
    names = [image_stem(path) for path in (fixed, moving)]
    write_registration_page(page, Named(names[0], still), Named(names[1], moved), transform, image)
    links = ["affine" if np.isfinite(matrix).all() else "warp" for matrix in transform.matrices]
    tell(f"{out}: {', '.join(links)}, from {moving.name} to {fixed.name}; look at {page}")
