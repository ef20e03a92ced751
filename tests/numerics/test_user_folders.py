"""A user without a home folder, or with one that may not be looked into, has the folders of any other."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from arcuate.errors import InputError
from arcuate.fetch.public_scans import scans_folder
from arcuate.fetch.remote import cache_home
from arcuate.fetch.templateflow import template_path
from arcuate.fetch.weights import brain_weights, tractseg_weights
from arcuate.numerics import user_folders
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
