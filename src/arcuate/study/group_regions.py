"""Regions of all subjects in one table: the tables of the runs below each other, a row per scan, region and map."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arcuate.errors import InputError
from arcuate.io.atomic import atomic_path
from arcuate.io.tables import MISSING
from arcuate.study.bids import Derivatives, read_json, write_json
from arcuate.study.group import GROUP, find_runs, finished_record


def write_group_regions(out: Path) -> tuple[Path, int] | None:
    """Write ``<out>/group/regions.tsv`` and its data dictionary; its path and the scans in it.

    None where no finished run has a table of regions. Tables are read line by line, so that memory does not grow with
    their number.

    Raises
    ------
    InputError
        A table cannot be read.
    """
    tables = list(_tables_of_runs(out))
    if not tables:
        return None
    about: dict[str, Any] = {
        "participant_id": {"Description": "Subject"},
        "session_id": {"Description": "Session; n/a where the data set has none"},
    }
    columns: dict[str, None] = dict.fromkeys(about)
    for _, path in tables:
        columns |= dict.fromkeys(next(_rows_of(path), []))
        dictionary = path.with_suffix(".json")
        about = (read_json(dictionary) if dictionary.is_file() else {}) | about
    target = out / GROUP / "regions.tsv"
    with atomic_path(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        for names, path in tables:
            scan = {"participant_id": names.subject, "session_id": names.entities.get("ses", MISSING)}
            rows = _rows_of(path)
            head = next(rows, [])
            for row in rows:
                cells = scan | dict(zip(head, row, strict=False))
                writer.writerow([cells.get(name, MISSING) for name in columns])
    write_json(target.with_suffix(".json"), {name: about[name] for name in (*columns, *about) if name in about})
    return target, len(tables)


def _tables_of_runs(out: Path) -> Iterator[tuple[Derivatives, Path]]:
    for names in find_runs(out):
        record = finished_record(names)
        for file in record.files if record is not None else ():
            if file.step == "regions" and file.path.endswith(".tsv") and (out / file.path).is_file():
                yield names, out / file.path


def _rows_of(path: Path) -> Iterator[list[str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.reader(file, delimiter="\t")
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}. Run the scan again.") from error
