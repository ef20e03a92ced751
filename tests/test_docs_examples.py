"""The examples of the reference run as they stand, and every public name has one."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def reference() -> Any:
    sys.path.insert(0, str(DOCS))
    try:
        yield importlib.import_module("reference")
    finally:
        sys.path.remove(str(DOCS))


@pytest.mark.parametrize("face", ["images", "arrays", "models"])
def test_examples_run_as_they_stand(face: str, reference: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {"__name__": "example"}
    done = set()
    for name, code in reference.read_examples(face).items():
        if name.startswith("not run:"):
            compile(code, f"<{name}>", "exec")
            continue
        module, _, last = name.rpartition(".")
        if module:
            space[last] = getattr(importlib.import_module(module), last)
    for name, code in reference.read_examples(face).items():
        if name.startswith("not run:") or code in done:
            continue
        done.add(code)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a head of thousand voxels is doubtful in many ways
            try:
                exec(compile(code, f"<{name}>", "exec"), space)
            except Exception as error:
                raise AssertionError(f"the example of {name} ended with {type(error).__name__}: {error}") from error


def test_every_public_name_has_an_example(reference: Any) -> None:
    faces = (("images", reference.IMAGES), ("arrays", {"arcuate.dipy": ""}))
    names = [
        (face, module, name)
        for face, modules in faces
        for module in modules
        for name in reference.public_names(importlib.import_module(module))
    ]
    missing = [f"{module}.{name}" for face, module, name in names if not reference._example_of(face, module, name)]
    assert not missing, missing


def test_every_name_of_an_example_exists(reference: Any) -> None:
    for face in ("images", "arrays", "models"):
        for name in reference.read_examples(face):
            module, _, last = name.removeprefix("not run: ").rpartition(".")
            assert not module or hasattr(importlib.import_module(module), last), name


def test_every_message_stands_under_what_the_user_did(reference: Any) -> None:
    page = reference.messages_page()
    for file, *_ in reference.read_messages():
        assert f"## {reference.what_was_done(file)}\n" in page
    assert "–" not in page, "options stay as they are typed"
