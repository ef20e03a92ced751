"""``arcuate run``: the main job, from a scan to every map."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from arcuate.commands.options import PATH, ScanFiles, mask_option, out_option, read_mask, scan_options
from arcuate.commands.report import end_with_report
from arcuate.study.pipeline import STEPS, Settings, run_subject

if TYPE_CHECKING:
    from arcuate.study.stages import Stage


class StageLines:
    """Listener that prints a line per stage, with a spinner while it runs if a person is watching."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("") if console.is_terminal else None
        self._has_said_compiling = False
        _tell_when_compiling(self._compiling)

    def begin(self, stage: Stage) -> None:
        if self._status is not None:
            self._status.update(f"{stage.name} ...")
            self._status.start()

    def end(self, stage: Stage) -> None:
        if self._status is not None:
            self._status.stop()
        if stage.skipped is not None:
            self._console.print(f"{stage.name:10} left out: {stage.skipped}", highlight=False, markup=False)
            return
        facts = "  ".join(f"{key} {value}" for key, value in stage.facts.items())
        self._console.print(f"{stage.name:10} {stage.seconds:7.2f} s  {facts}", highlight=False, markup=False)

    def _compiling(self) -> None:
        if not self._has_said_compiling:
            self._has_said_compiling = True
            self._console.print("compiling kernels; the next run has them ready", highlight=False)


def _tell_when_compiling(tell: Callable[[], None]) -> None:
    """Call ``tell`` whenever numba compiles a kernel instead of loading it."""
    from numba.core import event

    class Listener(event.Listener):  # type: ignore[misc]
        def on_start(self, _: object) -> None:
            tell()

        def on_end(self, _: object) -> None: ...

    event.register("numba:compile", Listener())


@click.command()
@scan_options
@mask_option
@out_option("Folder of the derivatives; made if it is not there.")
@click.option("--steps", help=f"Some of {','.join(STEPS)}; default: all that the scan allows.")
@click.option("--denoise", default="patch2self", show_default=True, help="patch2self, mppca or none.")
@click.option("--mask-method", default="auto", show_default=True, help="auto, hdbet or otsu.")
@click.option("--algorithm", default="auto", show_default=True, help="Response: see `arcuate response`.")
@click.option(
    "--report/--no-report", "with_report", default=True, show_default=True, help="End with a page of pictures."
)
@click.option("--cache", "cache_folder", type=PATH, help="Folder of kept results; default: OUT/.arcuate-cache.")
def run(
    scan: ScanFiles,
    mask: Path | None,
    out: Path,
    steps: str | None,
    denoise: str,
    mask_method: str,
    algorithm: str,
    with_report: bool,
    cache_folder: Path | None,
) -> None:
    """The whole pipeline on DWI: every map, response, fibre orientations, and a report.

    Stopped at any moment and started again, it goes on where it was.
    """
    from arcuate.cache import Cache
    from arcuate.study.bids import Derivatives

    names = Derivatives.of_scan(out, scan.dwi)
    settings = Settings(
        steps=tuple(step.strip() for step in steps.split(",") if step.strip()) if steps else (),
        denoise_method=denoise,
        mask_method=mask_method,
        response_algorithm=algorithm,
    )
    inputs = scan.inputs | ({"mask": mask} if mask else {})
    lines = StageLines(Console(stderr=True))
    with Cache(cache_folder or out / ".arcuate-cache"):
        result = run_subject(scan.read(), names, inputs=inputs, mask=read_mask(mask), settings=settings, listener=lines)
        if with_report:
            result.release_maps()
            end_with_report(result)
    click.echo(f"{names.folder}")
