"""Response files: names that stay apart, duplicates, order, and MRtrix3's older form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from arcuate.errors import InputError
from arcuate.io.responses import distinct_names, read_directions, read_response, write_response
from arcuate.models.response import Response

BVALS = np.array([0.0, 1000, 2000])
TABLES = {
    "wm": np.array([[3400.0, 0, 0], [1900, -620, 90], [1300, -680, 170]]),
    "gm": np.array([[5600.0], [1560], [890]]),
    "csf": np.array([[9450.0], [600], [180]]),
}


def _write(folder: Path, tissue: str, stem: str, shells: str = "# Shells: 0,1000,2000\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = "\n".join(" ".join(f"{v:g}" for v in row) for row in TABLES[tissue])
    (folder / f"{stem}.txt").write_text(shells + rows + "\n")
    return folder / f"{stem}.txt"


def test_a_folder_of_responses_is_answered_with_the_files_in_it(tmp_path: Path) -> None:
    for tissue in ("gm", "wm"):
        _write(tmp_path / "all", tissue, tissue)
    with pytest.raises(InputError, match=r"all is a folder; expected a response file.*: gm\.txt, wm\.txt"):
        read_response([tmp_path / "all"])


def test_files_of_one_stem_are_named_by_their_folders(tmp_path: Path) -> None:
    files = [_write(tmp_path / tissue, tissue, "response") for tissue in ("csf", "wm", "gm")]
    response = read_response(files)
    assert response.tissues == ("wm_response", "csf_response", "gm_response")
    for tissue in TABLES:
        np.testing.assert_array_equal(response.get_tissue(f"{tissue}_response"), TABLES[tissue])


def test_names_go_up_as_many_folders_as_it_takes_and_leave_the_others_alone(tmp_path: Path) -> None:
    files = [
        _write(tmp_path / "sub-1" / "dwi", "wm", "wm"),
        _write(tmp_path / "sub-2" / "dwi", "gm", "wm"),
        _write(tmp_path / "group", "csf", "csf"),
    ]
    assert distinct_names(files) == ["sub-1_dwi_wm", "sub-2_dwi_wm", "csf"]


def test_json_files_of_one_stem_stay_apart_too(tmp_path: Path) -> None:
    files = []
    for tissue, table in TABLES.items():
        write_response(Response((tissue,), BVALS, (table,)), tmp_path / tissue, "response")
        files.append(tmp_path / tissue / "response.json")
    assert read_response(files).tissues == ("wm_response", "gm_response", "csf_response")


def test_a_file_given_twice_is_refused_however_it_is_spelled(tmp_path: Path) -> None:
    file = _write(tmp_path / "a", "wm", "wm")
    with pytest.raises(InputError, match=r"wm\.txt twice; expected one file for each tissue"):
        read_response([file, tmp_path / "a" / ".." / "a" / "wm.txt"])
    write_response(Response(("wm",), BVALS, (TABLES["wm"],)), tmp_path / "a")
    with pytest.raises(InputError, match="two forms of one response"):
        read_response([tmp_path / "a" / "wm.txt", tmp_path / "a" / "wm.json"])


def test_white_matter_comes_first_in_whatever_order_the_files_come(tmp_path: Path) -> None:
    files = [_write(tmp_path, tissue, tissue) for tissue in ("csf", "gm", "wm")]
    assert read_response(files).tissues == ("wm", "csf", "gm")


def test_older_files_without_their_shells_are_read_and_wait_for_the_scan(tmp_path: Path) -> None:
    response = read_response([_write(tmp_path, tissue, tissue, shells="") for tissue in TABLES])
    assert response.tissues == ("wm", "gm", "csf")
    assert np.all(np.isnan(response.bvals))
    one = read_response([_write(tmp_path, tissue, tissue, shells="") for tissue in TABLES], BVALS)
    np.testing.assert_array_equal(one.bvals, BVALS)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [" ", ", ", "\t"])
def test_text_as_other_programs_save_it_is_read(encoding: str, separator: str, tmp_path: Path) -> None:
    path = _write(tmp_path, "wm", "wm")
    head, *rows = path.read_text().splitlines()
    path.write_bytes("\r\n".join([head, *(row.replace(" ", separator) for row in rows)]).encode(encoding))
    np.testing.assert_array_equal(read_response([path]).coefs[0], TABLES["wm"])
    plain = np.eye(3)
    path.write_bytes("\r\n".join(separator.join(map(str, row)) for row in plain).encode(encoding))
    np.testing.assert_array_equal(read_directions(path), plain)


def test_a_file_without_numbers_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "wm.txt").write_text("# Shells: 0,1000\n")
    with pytest.raises(InputError, match="the response of wm holds no numbers; expected a row for each shell"):
        read_response([tmp_path / "wm.txt"])
    with pytest.raises(InputError, match=r"nowhere.txt does not exist; expected a text file of a response"):
        read_response([tmp_path / "nowhere.txt"])
    (tmp_path / "d.txt").write_text("# nothing\n")
    with pytest.raises(InputError, match=r"d.txt cannot be read: it holds no numbers"):
        read_directions(tmp_path / "d.txt")
