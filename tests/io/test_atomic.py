"""Files that belong together take their places together, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from arcuate.dwi import Dwi
from arcuate.errors import InputError
from arcuate.io import atomic_path, write_text_atomically, written_together
from arcuate.io.tables import Table
from arcuate.phantom import three_shell_gradients
from arcuate.study.bids import read_json, write_map
from arcuate.volumes.resource import InMemoryVolumeResource


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_of_a_block_take_their_places_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with written_together():
        write_text_atomically(tmp_path / "a", "new")
        with written_together():
            write_text_atomically(tmp_path / "b", "new")
        assert (tmp_path / "a").read_text() == "old"
        assert not (tmp_path / "b").exists()
    assert left_in(tmp_path) == ["a", "b"]
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.parametrize("error", [InputError("the disk is full"), KeyboardInterrupt()], ids=["an error", "Ctrl-C"])
def test_whatever_ends_the_block_early_leaves_the_older_files(error: BaseException, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")

    def write() -> None:
        with written_together():
            write_text_atomically(tmp_path / "a", "new")
            with atomic_path(tmp_path / "b"):
                raise error

    with pytest.raises(type(error)):
        write()
    assert left_in(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"
    write_text_atomically(tmp_path / "c", "the next one is written at once")
    assert (tmp_path / "c").exists()


def test_an_image_whose_sidecar_cannot_be_written_is_not_left_alone(tmp_path: Path) -> None:
    (tmp_path / "fa.json").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*fa\.json"):
        write_map(InMemoryVolumeResource(np.ones((2, 2, 2), np.float32)), tmp_path / "fa.nii.gz", {})
    (tmp_path / "fa.json").rmdir()
    assert left_in(tmp_path) == []


def test_neither_a_scan_without_its_gradients_nor_a_table_without_its_dictionary_is_left(tmp_path: Path) -> None:
    table = three_shell_gradients(n_b0=1, n_directions=6, seed=0)
    scan = Dwi.from_arrays(np.ones((2, 2, 2, len(table)), np.float32), np.eye(4), table)
    for name in ("dwi.bvec", "table.json"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=r"cannot write .*dwi\.bvec"):
        scan.save(tmp_path)
    with pytest.raises(InputError, match=r"cannot write .*table\.json"):
        Table({"region": [1]}).save(tmp_path / "table.tsv")
    assert left_in(tmp_path) == ["dwi.bvec", "table.json"]


def test_a_sidecar_tells_a_name_that_is_no_text_so_that_it_is_found_again(tmp_path: Path) -> None:
    name = os.fsdecode(b"Z\xfcrich.nii.gz")  # of a file server that writes Latin-1
    write_map(InMemoryVolumeResource(np.ones((2, 2, 2), np.float32)), tmp_path / "fa.nii.gz", {"Inputs": {"dwi": name}})
    assert read_json(tmp_path / "fa.json")["Inputs"]["dwi"] == name
