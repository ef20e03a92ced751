"""Public scans by DIPY's names, from files that are there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from arcuate.dipy import fetch_stanford_hardi, get_fnames
from arcuate.errors import InputError
from arcuate.fetch.public_scans import SCANS
from arcuate.fetch.remote import RemoteFile, RemoteSet


def test_paths_come_as_image_bvals_bvecs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("HARDI150.nii.gz", "HARDI150.bval", "HARDI150.bvec")
    folder = tmp_path / "stanford_hardi"
    folder.mkdir()
    files = []
    for name in names:
        (folder / name).write_bytes(name.encode())
        digest = "md5:" + hashlib.md5(name.encode()).hexdigest()
        files.append(RemoteFile(name, f"https://nowhere.invalid/{name}", digest))
    monkeypatch.setenv("ARCUATE_DATA", str(tmp_path))
    monkeypatch.setitem(SCANS, "stanford_hardi", RemoteSet("stanford_hardi", tuple(files), "", "", "", 1))
    assert get_fnames("stanford_hardi") == tuple(str(folder / name) for name in names)
    described, where = fetch_stanford_hardi()
    assert set(described) == set(names)
    assert where == str(folder)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match=r"nothing_64D.*stanford_hardi, sherbrooke_3shell"):
        get_fnames("nothing_64D")
