"""Tables of numbers and words: tab-separated with a JSON dictionary beside them, as BIDS has them."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.errors import InputError, MissingExtraError
from arcuate.io.atomic import write_text_atomically, written_together
from arcuate.io.number_text import read_text

MISSING = "n/a"


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of named columns.

    Parameters
    ----------
    columns : {name: values}, all of one length; numbers, words, or None where a value is missing
    dictionary : {name: what the column says}, with "Description" and "Units", for the JSON file

    Examples
    --------
    >>> table = region_table({"fa": fa}, labels, names="atlas.tsv")
    >>> table.to_pandas().query("region == 'genu'")
    >>> table.save("regions.tsv")  # and regions.json
    """

    columns: dict[str, list[Any]]
    dictionary: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {name: len(values) for name, values in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"found columns of the lengths {lengths}; expected one length for all.")

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, Any]], dictionary: Mapping[str, Any] | None = None) -> Table:
        """A table of rows, each a value by column; columns in the order in which they are met."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        return cls({name: [row.get(name) for row in rows] for name in names}, dict(dictionary or {}))

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def __getitem__(self, name: str) -> list[Any]:
        """Values of one column.

        Raises
        ------
        InputError
            There is no such column.
        """
        if name not in self.columns:
            raise InputError(f"found no column {name!r}; expected one of {', '.join(self.columns)}.")
        return self.columns[name]

    @property
    def rows(self) -> Iterator[dict[str, Any]]:
        """Row by row, each a value by column."""
        for values in zip(*self.columns.values(), strict=True):
            yield dict(zip(self.columns, values, strict=True))

    def numbers(self, name: str) -> np.ndarray:
        """One column as numbers (n_rows,) float64, NaN where a value is missing.

        Raises
        ------
        InputError
            There is no such column, or it holds words.
        """
        found = np.full(len(self), np.nan)
        for i, value in enumerate(self[name]):
            try:
                found[i] = np.nan if value is None else float(value)
            except (TypeError, ValueError) as error:
                raise InputError(f"found {value!r} in the column {name!r}; expected numbers only.") from error
        return found

    def with_column(self, name: str, values: Sequence[Any]) -> Table:
        """The same table with one column exchanged, or added at the end."""
        return Table({**self.columns, name: list(values)}, self.dictionary)

    def to_pandas(self) -> Any:
        """The table as a pandas DataFrame.

        Raises
        ------
        MissingExtraError
            pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtraError("pandas", None, "a table as a DataFrame") from error
        return pd.DataFrame(self.columns)

    def to_tsv(self) -> str:
        """The table as tab-separated text, a missing value as ``n/a``."""
        text = io.StringIO()
        writer = csv.writer(text, delimiter="\t", lineterminator="\n")
        writer.writerow(self.columns)
        for row in self.rows:
            writer.writerow([_as_text(value) for value in row.values()])
        return text.getvalue()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the table as ``x.tsv`` and its dictionary as ``x.json``; the path of the table."""
        path = Path(path)
        if path.suffix.lower() != ".tsv":
            raise InputError(f"cannot save a table as {path.name!r}; expected a name that ends in .tsv.")
        said = {name: self.dictionary[name] for name in self.columns if name in self.dictionary}
        said |= {name: value for name, value in self.dictionary.items() if name not in said}
        with written_together():
            write_text_atomically(path, self.to_tsv())
            write_text_atomically(path.with_suffix(".json"), json.dumps(said, indent=2, ensure_ascii=False) + "\n")
        return path

    def _repr_html_(self) -> str:
        """For notebooks."""
        from html import escape

        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(_as_text(value))}</td>" for value in row.values()) + "</tr>"
            for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def read_table(path: str | os.PathLike[str]) -> Table:
    """A table from tab- or comma-separated text, the first line naming the columns; numbers are made numbers.

    Raises
    ------
    InputError
        There is no such file, it is no text, or a row has another number of values than there are columns.
    """
    path = Path(path)
    text = read_text(path, "a table")
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{path} is empty; expected a table whose first line names the columns.")
    separator = "\t" if "\t" in lines[0] else ";" if ";" in lines[0] and "," not in lines[0] else ","
    names, *rows = list(csv.reader(lines, delimiter=separator))
    names = [name.strip() for name in names]
    if len(set(names)) < len(names):
        raise InputError(f"two columns of {path} have one name ({', '.join(names)}); expected different names.")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(names):
            raise InputError(
                f"line {number} of {path} has {len(row)} values; expected {len(names)}, one for each of the columns "
                f"{', '.join(names)}."
            )
    columns: dict[str, list[Any]] = {name: [row[i].strip() for row in rows] for i, name in enumerate(names)}
    return Table({name: _as_numbers(values) for name, values in columns.items()})


def _as_numbers(values: list[str]) -> list[Any]:
    """Numbers where all words of a column are numbers or missing; else the words."""
    found: list[Any] = []
    for word in values:
        if word.lower() in {"", "n/a", "na", "nan"}:
            found.append(None)
            continue
        if len(word) > 1 and word[0] == "0" and word.isdigit():
            return [w if w.lower() not in {"", "n/a"} else None for w in values]  # 01: a name, no number
        try:
            found.append(int(word) if word.lstrip("+-").isdigit() else float(word))
        except ValueError:
            return [w if w.lower() not in {"", "n/a"} else None for w in values]
    return found


def _as_text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, float | np.floating):
        return f"{float(value):.9g}"
    return str(value)
