"""What a single run writes is a BIDS data set: the official validator has no error."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def errors_of(folder: Path) -> set[tuple[str, str]]:
    """Code and place of each error of the validator."""
    beside = Path(sys.executable).with_name("bids-validator-deno")
    program = str(beside) if beside.exists() else shutil.which("bids-validator-deno")
    if program is None:
        pytest.skip("bids-validator-deno is not installed")
    told = subprocess.run([program, str(folder), "--json"], capture_output=True, text=True)
    issues = json.loads(told.stdout)["issues"]["issues"]
    return {(issue["code"], issue.get("location", "")) for issue in issues if issue.get("severity") == "error"}


def test_a_run_with_its_report_has_no_error(finished: Path) -> None:
    assert list(finished.glob("*.html"))
    assert len(list(finished.glob("sub-small/dwi/*"))) > 20
    assert errors_of(finished) == set()


def test_a_name_of_ones_own_is_bids_with_subject_and_session(finished: Path, tmp_path: Path) -> None:
    scan = tmp_path / "3000_DTI.nii.gz"
    for ending in (".nii.gz", ".bval", ".bvec"):
        shutil.copy(finished.parent / f"sub-small_dwi{ending}", tmp_path / f"3000_DTI{ending}")
    mask = next(finished.rglob("*_mask.nii.gz"))
    shutil.copy(mask, tmp_path / "drawn.nii.gz")
    out = tmp_path / "out"
    words = ["run", scan, "--mask", tmp_path / "drawn.nii.gz", "--out", out, "--steps", "dti", "--no-report"]
    named = ["--subject", "c1", "--session", "02"]
    subprocess.run([sys.executable, "-m", "arcuate", *map(str, words), *named], check=True, capture_output=True)
    folder = out / "sub-c1" / "ses-02" / "dwi"
    assert (folder / "sub-c1_ses-02_model-tensor_param-fa_dwimap.nii.gz").is_file()
    kept = folder / "sub-c1_ses-02_desc-brain_mask.nii.gz"
    assert kept.read_bytes() == mask.read_bytes(), "the mask that was given lies beside the maps"
    assert errors_of(out) == set()
