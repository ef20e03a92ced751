"""The table of a cohort: what became of every scan, a row each."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from arcuate.io import write_text_atomically
from arcuate.study.bids import write_json
from arcuate.study.cohort_task import COMPLETE, PENDING, Outcome

STATUS_TABLE = "participants_status.tsv"
COLUMNS = {
    "participant_id": "Subject",
    "session_id": "Session; n/a where the data set has none",
    "state": "complete, failed, stopped (start the same command again), or pending (not begun)",
    "step": "Step of the run at which it failed or was stopped; n/a where it did not",
    "message": "What went wrong, in one sentence; n/a where nothing did",
    "log": "File with the words of the run, seen from the folder of this table",
    "seconds": "Time that the last run of the scan took, in seconds",
    "peak_memory_mb": "Largest resident memory of that run, in MiB",
}


def write_status(out: Path, outcomes: Iterable[Outcome], *, has_all: bool = False) -> Path:
    """The table of states, by subject and session, and the meaning of its columns as JSON; path of the table.

    Rows of other scans stay; where ``has_all`` says that there are no others, only those that are complete do.
    """
    from filelock import FileLock

    path = out / STATUS_TABLE
    out.mkdir(parents=True, exist_ok=True)
    ours = {_row_key(row := _row_of(outcome, out)): row for outcome in outcomes}
    with FileLock(out / f".{STATUS_TABLE}.lock"):
        others = {_row_key(row): row for row in read_status(path) if not has_all or row[2] == COMPLETE}
        rows = others | ours
        lines = ["\t".join(COLUMNS), *("\t".join(rows[key]) for key in sorted(rows))]
        write_text_atomically(path, "\n".join(lines) + "\n")
    write_json(path.with_suffix(".json"), {name: {"Description": text} for name, text in COLUMNS.items()})
    return path


def read_status(path: Path) -> list[list[str]]:
    """Rows of the table of states; none where there is no such table."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()  # people open it in spreadsheets
    if not lines or lines[0].split("\t") != list(COLUMNS):
        return []
    return [row for line in lines[1:] if len(row := line.split("\t")) == len(COLUMNS)]


def _row_key(row: list[str]) -> tuple[str, str]:
    return row[0], row[1]


def _row_of(outcome: Outcome, out: Path) -> list[str]:
    cells = (
        f"sub-{outcome.subject}",
        f"ses-{outcome.session}" if outcome.session else "",
        outcome.state,
        outcome.step,
        "" if outcome.state == PENDING else outcome.message,
        outcome.log.removeprefix(f"{out}{os.sep}").replace(os.sep, "/"),
        "" if outcome.seconds is None else f"{outcome.seconds:.1f}",
        "" if outcome.peak_mb is None else f"{outcome.peak_mb:.0f}",
    )
    return [" ".join(cell.split()) or "n/a" for cell in cells]
