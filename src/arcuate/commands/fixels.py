"""``arcuate fixels``: lobes of fibre orientation distributions."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from arcuate.commands.options import PATH, command, mask_option, read_image, read_mask, step_option, threads_option
from arcuate.commands.paths import out_folder_option
from arcuate.commands.shell import tell
from arcuate.commands.written import check_outputs, own_facts, until_voxels
from arcuate.csd import segment_fods


@command()
@click.argument("fod", type=PATH)
@mask_option
@out_folder_option("Folder of fixels in MRtrix3's form: index, directions, afd, peak and disp.")
@step_option(
    segment_fods,
    "--min-amplitude",
    "Lobes whose peak is below are left out; unit of the FOD.",
    type=click.FloatRange(0),
)
@step_option(
    segment_fods, "--min-integral", "Lobes whose fibre density is below are left out.", type=click.FloatRange(0)
)
@click.option("--max-fixels", type=click.IntRange(1, 16), default=16, help="At most so many per voxel, the densest.")
@click.option("--peak-directions", is_flag=True, help="A fixel points along the peak, not along the mean of its lobe.")
@threads_option
def fixels(
    fod: Path,
    mask: Path | None,
    out: Path,
    min_amplitude: float,
    min_integral: float,
    max_fixels: int,
    peak_directions: bool,
) -> None:
    """Fixels of FOD, an image in MRtrix3's basis: each lobe with its fibre density, peak and dispersion.

    The folder is read by mrview and by MRtrix3's fixel commands.
    """
    from arcuate.io import written_together
    from arcuate.io.fixels import write_fixels
    from arcuate.study.bids import input_facts, write_json

    files = {"fod": fod} | ({"mask": mask} if mask else {})
    outputs = [out / f"{name}.nii" for name in ("index", "directions", "afd", "peak", "disp")]
    check_outputs(outputs, files, belonging=dict.fromkeys(outputs, out / "fixels.json"))
    image = read_image(fod)
    inside = read_mask(mask, image)
    with until_voxels(outputs) as unread:
        found = segment_fods(
            unread(image),
            inside,
            min_amplitude=min_amplitude,
            min_integral=min_integral,
            max_fixels=max_fixels,
        )
    index = np.asarray(found.index.get_array())
    directions = found.peak_directions if peak_directions else found.directions
    facts = {
        "Description": "lobes of fibre orientation distributions: afd (integral), peak (amplitude), disp (their ratio)",
        "Directions": "of the peak" if peak_directions else "mean of the lobe",
        "MinAmplitude": min_amplitude,
        "MinIntegral": min_integral,
        **own_facts(),
        "Inputs": input_facts(files),
    }
    with written_together():
        write_fixels(out, index, directions, found.values, found.index.get_affine())
        write_json(out / "fixels.json", facts)
    tell(f"{out}: {len(directions)} fixels in {int(np.count_nonzero(index[..., 0]))} voxels")
