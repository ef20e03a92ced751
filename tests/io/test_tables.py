"""Tables: written as BIDS has them, read as people have them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from arcuate.errors import InputError, MissingExtraError
from arcuate.io.tables import Table, read_table


def test_a_table_survives_the_disk_with_its_dictionary(tmp_path: Path) -> None:
    said = {"mean": {"Description": "weighted mean", "Units": "mm^2/s"}}
    table = Table({"region": ["a", "b"], "n": [3, 0], "mean": [0.7e-3, None]}, said)
    table.save(tmp_path / "t.tsv")
    assert (tmp_path / "t.tsv").read_text() == "region\tn\tmean\na\t3\t0.0007\nb\t0\tn/a\n"
    assert json.loads((tmp_path / "t.json").read_text()) == said
    again = read_table(tmp_path / "t.tsv")
    assert again.columns == table.columns
    np.testing.assert_array_equal(again.numbers("mean"), [0.7e-3, np.nan])


@pytest.mark.parametrize("separator", ["\t", ",", ";"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_reads_any_separator_and_line_end(tmp_path: Path, separator: str, ends: str) -> None:
    lines = ["participant_id site age", "01 a 31.5", "02 b n/a"]
    (tmp_path / "t.csv").write_bytes(("﻿" + ends.join(line.replace(" ", separator) for line in lines)).encode())
    table = read_table(tmp_path / "t.csv")
    assert table["participant_id"] == ["01", "02"]
    assert table["age"] == [31.5, None]


def test_without_pandas_the_sentence_names_it_and_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"needs pandas.*pip install pandas$"):
        Table({"a": [1]}).to_pandas()


def test_pandas_takes_it() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = Table({"a": [1, 2], "b": ["x", "y"]}).to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["b"]) == ["x", "y"]


def test_bad_tables_are_refused_with_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("a\tb\n1\t2\n3\n")
    with pytest.raises(InputError, match=r"line 3 of .* has 1 values; expected 2, one for each of the columns a, b"):
        read_table(path)
    path.write_text("a\ta\n1\t2\n")
    with pytest.raises(InputError, match=r"two columns of .* have one name"):
        read_table(path)
    path.write_text("")
    with pytest.raises(InputError, match="is empty; expected a table"):
        read_table(path)
    with pytest.raises(InputError, match="does not exist"):
        read_table(tmp_path / "absent.tsv")
    with pytest.raises(InputError, match=r"ends in \.tsv"):
        Table({"a": [1]}).save(tmp_path / "t.csv")
    with pytest.raises(InputError, match="found no column 'c'; expected one of a"):
        Table({"a": [1]})["c"]
    with pytest.raises(InputError, match="found 'x' in the column 'a'; expected numbers only"):
        Table({"a": ["x"]}).numbers("a")
    with pytest.raises(InputError, match="expected one length for all"):
        Table({"a": [1], "b": [1, 2]})
