"""``arcuate peaks``: peaks of fibre orientation distributions."""

from __future__ import annotations

from pathlib import Path

import click

from arcuate.commands.options import PATH, check_images, command, mask_option, read_image, read_mask, threads_option
from arcuate.commands.paths import out_image_option
from arcuate.commands.shell import tell
from arcuate.commands.written import own_facts, until_voxels
from arcuate.csd.peaks import N_WRITTEN


@command()
@click.argument("fod", type=PATH)
@mask_option
@out_image_option("Image to write, (x, y, z, 3 n): x y z of each peak, its length the amplitude, 0 where absent.")
@click.option("--n-peaks", type=click.IntRange(1), default=N_WRITTEN, show_default=True, help="Most peaks per voxel.")
@click.option(
    "--relative-peak-threshold",
    type=click.FloatRange(0, 1),
    help="Peaks below this fraction of the strongest are left out.  [default: the rule of the response]",
)
@click.option(
    "--min-separation-angle",
    type=click.FloatRange(0, 90),
    help="Degrees; of two peaks closer than this the stronger stays.  [default: the rule of the response]",
)
@click.option(
    "--min-amplitude",
    type=click.FloatRange(0),
    help="Peaks at or below it are left out; unit of the FOD.  [default: the rule of the response]",
)
@click.option("--all-maxima", is_flag=True, help="Every maximum, as MRtrix3's sh2peaks -num; the same as 0, 0 and 0.")
@click.option("--response", "responses", type=PATH, multiple=True, help="Of the FODs, where no sidecar of FOD says it.")
@threads_option
def peaks(
    fod: Path,
    mask: Path | None,
    out: Path,
    n_peaks: int,
    relative_peak_threshold: float | None,
    min_separation_angle: float | None,
    min_amplitude: float | None,
    all_maxima: bool,
    responses: tuple[Path, ...],
) -> None:
    """Peaks of FOD, an image in MRtrix3's basis, in the form that MRtrix3 and TractSeg read.

    Which maxima count follows the response: for multi-tissue FODs 0.2 of the strongest, above 0.1, 15 degrees apart;
    for soft single-shell FODs, and where no response is known, 0.5 of the strongest, 25 degrees apart.
    """
    from arcuate.csd import locate_fod_peaks
    from arcuate.io.responses import read_response, response_beside
    from arcuate.models.peak_rule import ALL_MAXIMA, peak_rule_of
    from arcuate.study.bids import input_facts, write_map
    from arcuate.study.maps import peak_facts

    files = {"fod": fod} | ({"mask": mask} if mask else {})
    check_images([out], files)
    image = read_image(fod)
    response = read_response(responses) if responses else response_beside(fod)
    base = ALL_MAXIMA if all_maxima else peak_rule_of(response)
    rule = base.changed(relative_peak_threshold, min_separation_angle, min_amplitude)
    inside = read_mask(mask, image)
    with until_voxels([out]) as unread:
        peaks = locate_fod_peaks(unread(image), inside, n_peaks=n_peaks, **rule._asdict())
    write_map(peaks.vectors, out, {**peak_facts(), **peaks.parameters, **own_facts(), "Inputs": input_facts(files)})
    values = peaks.values.get_array()
    tell(f"{out}: {int((values > 0).sum())} peaks in {int((values[..., 0] > 0).sum())} voxels")
