"""The wheel is built with the viewer or without it, and the viewer again only when its sources changed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("hatchling", reason="hatchling is not installed (extra dev)")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    """``hatch_build.py`` of the checkout."""
    path = ROOT / "hatch_build.py"
    if not path.is_file():
        pytest.skip("the tests run without the checkout that the wheel is built from")
    spec = importlib.util.spec_from_file_location("hatch_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path, hook: ModuleType) -> Path:
    """A copy of what the build reads, without what it makes."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    unwanted = shutil.ignore_patterns("node_modules", "static", "__pycache__")
    (folder / "src" / "arcuate").mkdir(parents=True)
    shutil.copy(ROOT / "src" / "arcuate" / "_version.py", folder / "src" / "arcuate")
    shutil.copytree(ROOT / "js", folder / "js", ignore=unwanted)
    for part in ("report", "numerics"):
        shutil.copytree(ROOT / "src" / "arcuate" / part, folder / "src" / "arcuate" / part, ignore=unwanted)
    return folder


def _build(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(checkout / "dist")]
    return subprocess.run(
        command, cwd=checkout, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def _names(checkout: Path) -> list[str]:
    (wheel,) = (checkout / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def _make_products(checkout: Path, hook: ModuleType) -> Path:
    static = checkout / hook.STATIC
    static.mkdir(parents=True)
    for name in hook.PRODUCTS:
        (static / name).write_text("made before")
    (static / hook.STAMP).write_text(hook.source_state(checkout / "js"))
    return static


def test_without_npm_the_wheel_is_built_and_a_warning_says_what_is_missing(checkout: Path, tmp_path: Path) -> None:
    done = _build(checkout, PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "npm is not installed" in done.stdout + done.stderr
    assert "still pictures only" in done.stdout + done.stderr
    assert "arcuate/report/page.py" in _names(checkout)
    assert [name for name in _names(checkout) if "static" in name] == ["arcuate/report/static/MISSING"]
    (wheel,) = (checkout / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert "npm is not installed" in archive.read("arcuate/report/static/MISSING").decode()


def test_without_npm_it_can_be_an_error(checkout: Path, tmp_path: Path) -> None:
    done = _build(checkout, PATH=str(tmp_path), ARCUATE_REQUIRE_VIEWER="1")
    assert done.returncode != 0
    assert "npm is not installed" in done.stdout + done.stderr


def test_what_is_up_to_date_is_shipped_as_it_is(checkout: Path, tmp_path: Path, hook: ModuleType) -> None:
    static = _make_products(checkout, hook)
    done = _build(checkout, PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "not built" not in done.stdout + done.stderr
    assert (static / "viewer.js").read_text() == "made before"
    for name in hook.PRODUCTS:
        assert f"arcuate/report/static/{name}" in _names(checkout)


def test_a_wheel_made_from_the_sdist_holds_the_viewer_without_npm(
    checkout: Path, tmp_path: Path, hook: ModuleType
) -> None:
    _make_products(checkout, hook)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(checkout / "dist")]
    subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
    (sdist,) = (checkout / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (folder,) = (tmp_path / "unpacked").iterdir()
    done = _build(folder, PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "not built" not in done.stdout + done.stderr
    assert "arcuate/report/static/viewer.js" in _names(folder)


def test_the_sdist_holds_what_its_tests_need() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    wanted = {"src", "js", "hatch_build.py", "tests", "benchmarks", "docs", "tutorials", "scripts", "Makefile"}
    assert wanted <= set(listed["sdist"]["include"])
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    at_root = {name.split("/")[0] for name in tracked.splitlines()} - {".ci", ".gitignore", ".pre-commit-config.yaml"}
    assert at_root - {".github", "pyproject.toml"} <= set(listed["sdist"]["include"])


def test_a_viewer_of_other_sources_is_not_kept(
    checkout: Path, tmp_path: Path, hook: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    static = _make_products(checkout, hook)
    (checkout / "js" / "src" / "main.js").write_text("// changed\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "npm is not installed" in hook.build_viewer(checkout)
    assert not (static / "viewer.js").exists()


def test_npm_that_fails_is_quoted(
    checkout: Path, tmp_path: Path, hook: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'no such registry' >&2\nexit 3\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hook.build_viewer(checkout) == "`npm ci --ignore-scripts --no-audit --no-fund` failed: no such registry"


def test_the_built_viewer_is_of_these_sources_and_names_its_licences(hook: ModuleType) -> None:
    static = ROOT / hook.STATIC
    if not (static / hook.STAMP).is_file():
        pytest.skip("the viewer was not built here (`pip install -e .` with npm)")
    assert (static / hook.STAMP).read_text() == hook.source_state(ROOT / "js"), "install arcuate again"
    script = (static / "viewer.js").read_text(encoding="utf-8")
    assert "</script" not in script.lower()
    assert "<!--" not in script
    assert len(script) < 1.2e6, "zarrita and numcodecs are left out"
    notices = (static / "THIRD_PARTY_NOTICES.txt").read_text(encoding="utf-8")
    for name in ("@niivue/niivue 0.69.0", "gl-matrix", "fflate", "nifti-reader-js", "Roboto"):
        assert name in notices
    for terms in (
        "Redistribution and use in source and binary forms",
        "Permission is hereby granted",
        "Apache License",
    ):
        assert terms in notices
    tracked = subprocess.run(
        ["git", "ls-files", str(hook.STATIC)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert tracked.stdout == "", "built files are never committed"
