"""``arcuate info``: what a scan is, and what looks wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from arcuate.commands.options import ScanFiles, mask_option, read_mask, scan_options

if TYPE_CHECKING:
    from arcuate.study.quality import ScanReport


@click.command()
@scan_options
@mask_option
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
@click.option("--quick", is_flag=True, help="Header and gradients only; no voxel is read.")
def info(scan: ScanFiles, mask: Path | None, as_json: bool, quick: bool) -> None:
    """What DWI is and what looks wrong with it: shells, directions, frame, SNR, outliers, b-vectors against fibres."""
    from rich.console import Console

    from arcuate.study.quality import inspect_scan

    with Console(stderr=True).status("reading and checking ..."):  # silent when not a terminal
        report = inspect_scan(scan.read(), read_mask(mask), header_only=quick)
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
    if report.coherence is not None:
        lines.append(f"b-vectors    {_coherence(report)}")
    for outlier in report.outliers:
        where = "" if outlier.slice is None else f", slice {outlier.slice}"
        lines.append(f"outlier      volume {outlier.volume}{where}: {100 * outlier.change:+.0f} %")
    return [*lines, *(f"check        {doubt}" for doubt in report.doubts)]


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
