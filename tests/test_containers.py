"""Container recipes: both install the same, and what they install runs in a fresh virtual environment."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "containers"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the tests run without the checkout")


def _installation(recipe: str) -> str:
    """The line that installs arcuate."""
    (line,) = re.findall(r"pip install .*?(?= &&|\n)", (FOLDER / recipe).read_text(encoding="utf-8"))
    return line


def test_both_recipes_install_the_same() -> None:
    assert _installation("Dockerfile") == _installation("arcuate.def")


def test_files_that_recipes_and_pages_name_are_there() -> None:
    for path in (*FOLDER.iterdir(), *(ROOT / "docs" / "cohorts").glob("*.md")):
        for name in re.findall(r"containers/[\w.]+", path.read_text(encoding="utf-8")):
            assert (ROOT / name.rstrip(".")).is_file(), f"{path.name} names {name}"


@pytest.mark.long
def test_what_the_recipes_install_runs_a_cohort_in_a_fresh_environment(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    line = _installation("Dockerfile").replace("/source", str(ROOT)).replace("'", "")
    subprocess.run([tmp_path / "env" / "bin" / "python", "-m", *line.split()], check=True, capture_output=True)
    arcuate = tmp_path / "env" / "bin" / "arcuate"
    bids, out = tmp_path / "bids", tmp_path / "out"
    tiny = ("--shape", "12", "12", "8", "--voxel-size", "16", "--directions", "7")
    subprocess.run([arcuate, "phantom", bids, "--subjects", "2", *tiny], check=True)
    options = ("--steps", "dti", "--mask-method", "otsu", "--no-report")
    subprocess.run([arcuate, "cohort", bids, out, "participant", *options], check=True)
    assert (out / "participants_status.tsv").read_text().count("\tcomplete\t") == 2
