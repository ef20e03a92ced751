"""`arcuate info`, as a person types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from arcuate.commands.info import info
from arcuate.errors import InputError
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource
from arcuate.volumes.resource import InMemoryVolumeResource


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    bvals = np.r_[0.0, 0.0, np.full(10, 1000.0)]
    bvecs = rng.normal(size=(12, 3))
    bvecs /= np.linalg.norm(bvecs, axis=1, keepdims=True)
    array = np.zeros((12, 12, 10, 12), np.float32)
    array[2:10, 2:10, 2:8] = 400 * np.exp(-bvals * 1e-3) + rng.normal(0, 10, (8, 8, 6, 12))
    NiftiVolumeResource.save(InMemoryVolumeResource(array, np.diag([-2.0, 2, 2, 1])), tmp_path / "x.nii.gz")
    FslBvalResource.save(bvals, tmp_path / "x.bval")
    FslBvecResource.save(bvecs, tmp_path / "x.bvec")
    return tmp_path / "x.nii.gz"


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(info, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_it_prints_what_the_scan_is(scan: Path) -> None:
    text = run(scan)
    assert "12 x 12 x 10 x 12, voxels of 2 x 2 x 2 mm" in text
    assert "LAS, along the scanner's axes, radiological storage" in text
    assert "b=0          2 volumes" in text
    assert "b=1000       10 volumes, 10 directions" in text
    assert "SNR on b=0   " in text
    assert "\x1b" not in text


def test_json_holds_the_same_facts_and_nothing_else(scan: Path) -> None:
    facts = json.loads(run(scan, "--json"))
    assert facts["shape"] == [12, 12, 10, 12]
    assert facts["n_b0"] == 2
    assert facts["snr_b0"] == pytest.approx(40, rel=0.3)


def test_quick_reads_no_voxel(scan: Path) -> None:
    whole = scan.read_bytes()
    scan.write_bytes(whole[: len(whole) // 2])
    assert "10 directions" in run(scan, "--quick")
    with pytest.raises(InputError, match="cut short"):
        run(scan)


def test_the_threshold_of_b0_is_obeyed(scan: Path) -> None:
    assert json.loads(run(scan, "--json", "--quick", "--b0-threshold", "1000"))["n_b0"] == 12


def test_info_takes_the_same_masks_as_every_command(arcuate: Callable, scan: Path, tmp_path: Path) -> None:
    grid = NiftiVolumeResource(scan)
    inside = (grid.get_array()[..., 0] > 300).astype(np.float32)
    soft = np.where(inside > 0, 0.9, 0.1)  # probabilities: at 0.5 and above is brain
    elsewhere = grid.get_affine().copy()
    elsewhere[0, 3] += 50
    paths = {name: tmp_path / f"{name}.nii.gz" for name in ("plain", "fourth", "soft", "elsewhere")}
    for path, array, affine in (
        (paths["plain"], inside, grid.get_affine()),
        (paths["fourth"], inside[..., None], grid.get_affine()),
        (paths["soft"], soft, grid.get_affine()),
        (paths["elsewhere"], inside, elsewhere),
    ):
        NiftiVolumeResource.save(InMemoryVolumeResource(array, affine), path)
    counts = set()
    for name in ("plain", "fourth", "soft"):
        outcome = arcuate("info", scan, "--mask", paths[name], "--json")
        assert outcome.code == 0, outcome.err
        counts.add(json.loads(outcome.out)["n_masked"])
    assert counts == {int(inside.sum())}
    outcome = arcuate("info", scan, "--mask", paths["elsewhere"])
    assert outcome.code == 2
    assert "the mask lies elsewhere" in outcome.err
