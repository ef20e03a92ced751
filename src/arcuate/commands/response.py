"""``arcuate response``: the response function of a scan."""

from __future__ import annotations

from pathlib import Path

import click

from arcuate.commands.options import ScanFiles, command, mask_option, read_mask, scan_options, step_option
from arcuate.commands.paths import out_folder_option
from arcuate.commands.shell import Choice, tell
from arcuate.commands.written import check_outputs, until_voxels
from arcuate.csd import ALGORITHMS, estimate_response_function


@command()
@scan_options
@mask_option
@out_folder_option("Folder for <tissue>.txt (MRtrix3's form) and <tissue>.json.")
@step_option(
    estimate_response_function,
    "--algorithm",
    "auto is dhollander (three tissues, two where three cannot be had); on one shell without b=0 or with few "
    "directions, and with --shell, tournier.",
    type=Choice(ALGORITHMS),
)
@click.option("--shell", type=float, help="s/mm²; for algorithms of one shell. Default: the highest that suffices.")
@click.option("--lmax", type=int, help="Even degree up to 12. Default: 8, or what the directions carry.")
@click.option("--fa-threshold", type=float, help="For ssst (default 0.7) and dhollander (default 0.2).")
def response(
    scan: ScanFiles,
    mask: Path | None,
    out: Path,
    algorithm: str,
    shell: float | None,
    lmax: int | None,
    fa_threshold: float | None,
) -> None:
    """Response function of DWI, which decides how FODs are made from it."""
    from arcuate.io.responses import write_response

    files = scan.inputs_with(mask=mask)
    outputs = [out / f"{tissue}{end}" for tissue in ("wm", "gm", "csf") for end in (".txt", ".json")]
    check_outputs(outputs, files)
    dwi = scan.read()
    inside = read_mask(mask, dwi.volume)
    with until_voxels([out]) as unread:
        found = estimate_response_function(
            unread(dwi), inside, algorithm, shell=shell, lmax=lmax, fa_threshold=fa_threshold
        )
    facts = scan.facts(mask=mask)
    found = found.with_origin(inputs=facts.pop("Inputs"), **facts)
    write_response(found, out)
    shells = ", ".join(f"{b:.0f}" for b in found.shells)
    tell(f"{out}: {found.algorithm} response of {', '.join(found.tissues)} at b={shells}, lmax {found.degree}")
