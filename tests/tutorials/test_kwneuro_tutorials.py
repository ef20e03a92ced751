"""The calls of kwneuro's three tutorials run on phantoms, with only the imports changed, and are right."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from arcuate.io import NiftiVolumeResource

HERE = Path(__file__).resolve().parent
needs_ants = pytest.mark.skipif(
    importlib.util.find_spec("ants") is None, reason="antspyx is not installed (extra ants); its oracle is left out"
)


def _run(name: str, out: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
    command = [sys.executable, "-W", "error::DeprecationWarning:arcuate", str(HERE / f"{name}.py"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _after(printed: str, words: str) -> float:
    return float(printed.partition(words)[2].split()[0])


def test_harmonisation(tmp_path: Path) -> None:
    printed = _run("kwneuro_harmonization", tmp_path)
    before, after = _after(printed, "between sites before "), _after(printed, "after ")
    assert after < 0.1 * before
    assert _after(printed, "slope of age ") == pytest.approx(0.002, rel=0.15)
    assert "sites north south west" in printed
    assert NiftiVolumeResource(tmp_path / "harmonized.nii.gz").shape == (12, 14, 9)


@needs_ants
def test_region_analysis(tmp_path: Path) -> None:
    printed = _run("kwneuro_region_analysis", tmp_path)
    assert "every second voxel (20, 23, 16)" in printed
    assert "tissues 0 1 2 3" in printed
    assert _after(printed, "median Dice ") >= 0.9
    labels = NiftiVolumeResource(tmp_path / "parcellation_in_scan.nii.gz").get_array()
    assert len(np.unique(labels)) > 5


@needs_ants
def test_group_template(tmp_path: Path) -> None:
    printed = _run("kwneuro_group_template", tmp_path)
    assert "every second voxel (16, 19, 14, 22)" in printed
    unlike = 1 - _after(printed, "likeness of the mean: ")
    assert 1 - _after(printed, "likeness of the template: ") < 0.8 * unlike
    assert 1 - _after(printed, "likeness of the two metrics: ") < 0.8 * unlike
    for name in ("fa_template", "fa_template_multi", "md_template_multi"):
        assert NiftiVolumeResource(tmp_path / f"{name}.nii.gz").shape == (32, 38, 28)
