"""A user without a home folder, or with one that may not be looked into, has the folders of any other."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from arcuate.cache import Cache
from arcuate.cli import app
from arcuate.dwi import Dwi
from arcuate.errors import InputError
from arcuate.fetch.public_scans import scans_folder
from arcuate.fetch.remote import cache_home
from arcuate.fetch.templateflow import template_path
from arcuate.fetch.weights import brain_weights, tractseg_weights
from arcuate.files import read_volume
from arcuate.io import save_volume
from arcuate.numerics import user_folders
from arcuate.phantom import three_shell_gradients
from arcuate.study.kernel_notes import are_noted

PLACES = ("HOME", "XDG_CACHE_HOME", "ARCUATE_WEIGHTS", "ARCUATE_DATA", "DIPY_HOME", "TEMPLATEFLOW_HOME")


@pytest.fixture(params=["a number without a name", "a home that cannot be looked into"])
def user_without_home(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PLACES, "TRACTSEG_WEIGHTS_DIR", "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    if request.param != "a number without a name":
        monkeypatch.setenv("HOME", "/" + 300 * "h")  # refused to root as well, who may look into every other folder
        return
    if sys.platform == "win32":
        pytest.skip("Windows knows no users by number")
    import pwd

    def unknown(_: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("user_without_home")
def test_what_is_looked_for_in_a_users_folders_is_not_there_rather_than_an_error() -> None:
    assert cache_home().is_absolute()
    assert user_folders.cache_folder("numba").is_absolute()
    assert scans_folder("stanford_hardi").is_absolute()
    assert brain_weights() is None
    assert not are_noted("a run")[1]
    with pytest.raises(InputError, match=re.escape(f"looked in {cache_home()}") + r".*arcuate fetch"):
        tractseg_weights("tract_segmentation")
    with pytest.raises(InputError, match="arcuate fetch tpl-"):
        template_path("tpl-MNI152NLin2009cAsym_res-01_T1w.nii.gz")


def test_a_cache_folder_that_is_not_absolute_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setattr(user_folders.platformdirs, "user_cache_path", lambda name, appauthor: Path("~", name))
    assert user_folders.cache_folder("numba") == Path(os.fspath(tmp_path), ".cache", "numba")


def test_a_tilde_at_the_beginning_is_the_home_folder_wherever_a_path_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    table = three_shell_gradients(n_b0=1, n_directions=6, seed=0)
    scan = Dwi.from_arrays(np.ones((2, 2, 2, len(table)), np.float32), np.eye(4), table).save("~/scans")
    assert scan.volume.get_array().shape == (2, 2, 2, len(table))
    assert Dwi.from_files("~/scans/dwi.nii.gz").gradients.bvals.shape == table.bvals.shape
    assert save_volume(scan.volume, "~/copy.nii").shape == read_volume("~/scans/dwi.nii.gz").shape
    with Cache("~/kept"):
        pass
    outcome = CliRunner().invoke(app, ["mask", "~/scans/dwi.nii.gz", "--out=~/masks/m.nii.gz", "--dry-run"])
    assert outcome.exit_code == 0, outcome
    assert str(tmp_path / "home" / "masks" / "m.nii.gz") in outcome.output
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["copy.nii", "kept", "scans"]
    assert list((tmp_path / "work").iterdir()) == []
    assert user_folders.as_path("~notes.nii") == Path("~notes.nii"), "a name as any other"
