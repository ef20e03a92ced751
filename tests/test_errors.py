"""Hints to install something are commands that work where they are typed; warnings are noted where that is asked."""

from __future__ import annotations

import importlib
import json
import re
import warnings
from importlib import metadata
from pathlib import Path

import pytest

from arcuate import errors


class Installed:
    """What pip notes of an installation."""

    def __init__(self, source: dict[str, object] | None) -> None:
        self.source = source

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self.source is None else json.dumps(self.source)


def test_an_extra_is_installed_from_where_arcuate_came(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    gone = (tmp_path / "gone").as_uri()
    vcs = {"url": "https://example.org/arcuate.git", "vcs_info": {"vcs": "git", "commit_id": "1"}}
    for source, says in (
        (None, "pip install 'arcuate[viz]'"),
        ({"url": folder.as_uri(), "dir_info": {}}, f"pip install '{folder}[viz]'"),
        ({"url": folder.as_uri(), "dir_info": {"editable": True}}, f"pip install -e '{folder}[viz]'"),
        ({"url": gone, "dir_info": {}}, "pip install '.[viz]' in the folder of arcuate's source"),
        (vcs, "pip install 'arcuate[viz] @ git+https://example.org/arcuate.git'"),
    ):
        monkeypatch.setattr(metadata, "distribution", lambda _, source=source: Installed(source))
        assert errors.how_to_install("viz") == says
        assert str(errors.MissingExtraError("pyvista", "viz", "drawing")).endswith(f"Install it with: {says}")


def test_a_package_that_cannot_be_loaded_is_told_from_one_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_peer.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    for name, says in (
        ("broken_peer", r"is installed and cannot be loaded: libGL.so.1: cannot open shared object file\. Mend what"),
        ("absent_peer", r"which is not installed\. Install it with: pip install absent_peer"),
    ):
        try:
            importlib.import_module(name)
        except ImportError:
            assert re.search(says, str(errors.MissingExtraError(name, None, "drawing")))


def test_a_copy_that_nobody_installed_still_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    assert errors.how_to_install("viz") == "pip install 'arcuate[viz]'"


def test_warnings_of_a_block_are_noted_once_and_given_all_the_same() -> None:
    with warnings.catch_warnings(record=True) as given, errors.noted_warnings() as outer:
        warnings.simplefilter("always")
        errors.warn("one")
        errors.warn("one")
        with errors.noted_warnings() as inner:
            errors.warn("two")
        errors.warn("three", UserWarning)
    assert (outer, inner) == (["one", "two"], ["two"])
    assert [str(one.message) for one in given] == ["one", "one", "two", "three"]


def test_silenced_warnings_are_neither_given_nor_noted() -> None:
    with warnings.catch_warnings(), errors.noted_warnings() as texts:
        warnings.simplefilter("error")
        with errors.silenced_warnings():
            errors.warn("one")
    assert texts == []


def test_doubts_of_one_cause_are_one_sentence_and_others_stay_as_they_are() -> None:
    said = [
        "the scan has no b=0 volume: its head is looked for in the lowest shell.",
        "b=1000 has 5 distinct directions; a tensor needs 6",
        "the scan has no b=0 volume: most models need one",
        "the scan has no b=0 volume: its head is looked for in the lowest shell.",
        "the mask may not be a brain: it is in pieces. Look at it.",
    ]
    assert errors.of_one_cause(said) == [
        "the scan has no b=0 volume: its head is looked for in the lowest shell; most models need one",
        said[1],
        said[4],
    ]
    assert errors.of_one_cause([*errors.of_one_cause(said), *said]) == errors.of_one_cause(said), "said again"
