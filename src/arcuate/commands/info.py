"""``arcuate info``: what a scan is, and what looks wrong with it."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from arcuate.commands.options import PATH, ScanFiles, command, mask_option, read_mask, scan_options
from arcuate.commands.working import working
from arcuate.errors import InputError, InputWarning, of_one_cause

if TYPE_CHECKING:
    from arcuate.dwi import Dwi
    from arcuate.study.quality import ScanReport


@command()
@scan_options
@partial(mask_option, default="Otsu's, of the b=0 volumes")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
@click.option("--write-bvecs", type=PATH, metavar="FILE", help="Write b-vectors that fit the fibres.")
@click.option("--quick", is_flag=True, help="Header and gradients only; no voxel is read.")
def info(scan: ScanFiles, mask: Path | None, as_json: bool, quick: bool, write_bvecs: Path | None) -> None:
    """What DWI is and what looks wrong with it: shells, directions, frame, SNR, outliers, b-vectors against fibres."""
    from arcuate.study.quality import inspect_scan

    if write_bvecs is not None and quick:
        raise InputError("--write-bvecs needs the check of the b-vectors, which --quick leaves out. Leave --quick out.")
    if write_bvecs is not None and write_bvecs.exists():
        raise InputError(f"{write_bvecs} exists; give --write-bvecs a name that is not there yet.")
    with working("info"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", InputWarning)
            dwi = scan.read() if quick else scan.scan
            if not quick:
                dwi = dwi.with_volume(dwi.volume.load())
        report = inspect_scan(dwi, read_mask(mask, dwi.volume), header_only=quick)
        doubts = [str(w.message) for w in caught if w.category is InputWarning]
    report = replace(report, doubts=tuple(of_one_cause([*doubts, *report.doubts])))
    if write_bvecs is not None:
        click.echo(_write_mended(dwi, report, write_bvecs), err=True)
    click.echo(json.dumps(report.to_dict(), indent=2) if as_json else "\n".join(report_lines(report)))


def report_lines(report: ScanReport) -> list[str]:
    """The report for reading."""
    sizes = " x ".join(f"{size:g}" for size in report.voxel_size)
    tilt = "along the scanner's axes" if report.obliquity < 0.5 else f"tilted by {report.obliquity:.0f} degrees"
    lines = [
        f"image        {' x '.join(map(str, report.shape))}, voxels of {sizes} mm",
        f"orientation  {report.orientation}, {tilt}, "
        f"{'neurological' if report.determinant_sign > 0 else 'radiological'} storage",
        f"b=0          {_volumes(report.n_b0)}",
    ]
    lines += [
        f"b={shell.b:<10.0f} {_volumes(shell.n_volumes)}, {shell.n_directions} directions, "
        f"largest hole {shell.largest_hole:.0f} degrees, balance {shell.balance:.2f}"
        for shell in report.shells
    ]
    if report.n_masked is not None:
        lines.append(f"brain        {report.n_masked} voxels")
        snr = "unknown" if report.snr_b0 is None else f"{report.snr_b0:.1f} (from {report.snr_from})"
        lines.append(f"SNR on b=0   {snr}")
    if report.neighbour_correlation is not None:
        lines.append(
            f"neighbours   volumes of neighbouring directions correlate with {report.neighbour_correlation:.3f}"
        )
    if report.coherence is not None:
        lines.append(f"b-vectors    {_coherence(report)}")
    for outlier in report.outliers:
        where = "" if outlier.slice is None else f", slice {outlier.slice}"
        lines.append(f"outlier      volume {outlier.volume}{where}: {100 * outlier.change:+.0f} %")
    return [*lines, *(f"check        {doubt}" for doubt in report.doubts)]


def _write_mended(dwi: Dwi, report: ScanReport, path: Path) -> str:
    """Write the b-vectors in the way that makes fibres coherent; says what was written, or refuses."""
    from arcuate.io import FslBvecResource
    from arcuate.study.coherence import orientations

    coherence = report.coherence
    if coherence is None or not coherence.is_suspect:
        why = "the scan shows too little white matter" if coherence is None or not coherence.is_decided else "they fit"
        raise InputError(
            f"the check of the b-vectors decides for no flip or permutation ({why}); {path} was not written."
        )
    _, vectors = dwi.gradients.to_fsl(dwi.volume.get_affine())
    FslBvecResource.save(vectors @ orientations()[coherence.best].T, path)
    return f"{path}: b-vectors written as '{coherence.best}'; look at the fibres, then give it with --bvec"


def _coherence(report: ScanReport) -> str:
    coherence = report.coherence
    assert coherence is not None
    if not coherence.is_decided:
        return "too little white matter to check them against the fibres"
    index = coherence.indices["x y z"]
    if coherence.is_suspect:
        return f"fibre coherence {index:.3f}, with '{coherence.best}' {coherence.indices[coherence.best]:.3f}"
    return f"fibre coherence {index:.3f}, no flip or permutation is clearly better"


def _volumes(n: int) -> str:
    return "1 volume" if n == 1 else f"{n} volumes"
