"""``arcuate report``: one page per subject from the derivatives of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arcuate.commands.options import PATH, command
from arcuate.commands.shell import tell
from arcuate.errors import MissingExtraError, warn
from arcuate.study.memory import DRAWN_EARLY

if TYPE_CHECKING:
    from arcuate.dwi import Dwi
    from arcuate.report import EarlySections
    from arcuate.study.result import SubjectResult
    from arcuate.volumes.resource import VolumeResource


def examination(with_report: bool) -> Callable[[Dwi, VolumeResource | None], Any] | None:
    """What a run that ends with a report calls while the scan is in memory; imported when it is called."""

    def examine(scan: Dwi, mask: VolumeResource | None) -> Any:
        from arcuate.report import examine_scan

        return examine_scan(scan, mask)

    return examine if with_report else None


@contextmanager
def drawing_meanwhile(with_report: bool, scan: VolumeResource) -> Iterator[EarlySections | None]:
    """What draws sections of the page while a run that ends with a report goes on; None without one.

    None beside a large scan as well: drawing takes memory, and is a small part of the time that its steps take.
    """
    if not with_report or 4 * prod(scan.shape) > DRAWN_EARLY:
        yield None
        return
    from arcuate.report import EarlySections

    with EarlySections(_load_kernels) as early:
        yield early


def _load_kernels() -> None:
    """Load the kernels that draw, while others compute; those that are not there are compiled when it is their turn."""
    from arcuate.commands.ahead import are_compiled
    from arcuate.commands.compilation import TASKS

    if are_compiled("report"):
        TASKS["report"]()  # without compile_kernels: it holds back warnings, of other threads too


def end_with_report(run: SubjectResult, early: EarlySections | None = None) -> Path | None:
    """Last stage of a run: note what only the scan tells, and make the page; None where the extra is not installed.

    A page that was made from the same derivatives stays; sections that were drawn early are taken.
    """
    from arcuate.report import SubjectFiles, is_current

    try:
        with run.log.stage("report") as stage:
            page = run.names.report
            is_drawn = is_current(SubjectFiles(run.names))
            if not is_drawn:
                from arcuate.report import keep_scan_facts

                keep_scan_facts(run)
            run.outputs.add_unhashed(page, role="page", step="report")
            run.outputs.finish()
            if not is_drawn:
                from arcuate.report import write_report

                write_report(SubjectFiles(run.names), early)
            stage.facts, stage.words = {"page": page}, f"{page}"
    except MissingExtraError as error:
        run.log.skip("report", str(error))
        return None
    return page


@command()
@click.argument("folder", metavar="DIR", type=PATH)
def report(folder: Path) -> None:
    """Make the report of every scan whose derivatives are in DIR, again or for the first time."""
    from arcuate.report import find_subjects, write_report

    for subject in find_subjects(folder):
        if subject.missing_in_words:
            warn(f"{subject.names.prefix}: {subject.missing_in_words}.")
        tell(f"{write_report(subject)}")
