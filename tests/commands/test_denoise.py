"""``arcuate denoise`` as a user types it."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from arcuate.dwi import Dwi
from arcuate.gradients import GradientTable


@pytest.fixture
def noisy_files(tmp_path):
    rng = np.random.default_rng(0)
    bvals = np.repeat([0.0, 1000.0], [3, 20])
    directions = rng.normal(size=(23, 3))
    directions = np.where(bvals[:, None] > 0, directions / np.linalg.norm(directions, axis=1, keepdims=True), 0)
    array = (rng.gamma(3, 100, size=(9, 8, 7, 1)) + rng.normal(scale=9, size=(9, 8, 7, 23))).astype(np.float32)
    Dwi.from_arrays(array, np.diag([-2.0, 2, 2, 1]), GradientTable(bvals, directions)).save(tmp_path / "in", "dwi")
    return tmp_path / "in" / "dwi.nii.gz"


@pytest.mark.parametrize("method", ["patch2self", "mppca"])
def test_a_scan_its_gradients_a_noise_map_and_the_counts_are_written(arcuate, noisy_files, tmp_path, method):
    out, noise = tmp_path / "out" / "d.nii.gz", tmp_path / "out" / "noise.nii"
    ran = arcuate("denoise", noisy_files, "--out", out, "--noise", noise, "--method", method)
    assert ran.code == 0, ran.err
    assert nib.load(out).shape == (9, 8, 7, 23)
    assert np.median(nib.load(noise).get_fdata()) == pytest.approx(9, rel=0.2)
    for suffix in ("bval", "bvec"):
        assert (out.with_name(f"d.{suffix}")).read_text() == noisy_files.with_name(f"dwi.{suffix}").read_text()
    facts = json.loads(out.with_name("d.json").read_text())
    assert facts["Method"] == method
    assert {"VoxelsClipped", "VoxelsAboveB0", "MedianNoise"} <= facts.keys()
    assert [shell["B"] for shell in facts["Residual"]] == [0, 1000]
    assert "voxels clipped" in ran.out


def test_options_reach_the_model_and_mistakes_are_one_sentence(arcuate, noisy_files, tmp_path):
    out = tmp_path / "d.nii"
    ran = arcuate("denoise", noisy_files, "--out", out, "--method", "mppca", "--extent", "3,5,1", "--no-clip")
    assert ran.code == 0, ran.err
    facts = json.loads(out.with_name("d.json").read_text())
    assert facts["Extent"] == [3, 5, 1]
    assert facts["Clip"] is False
    for options, message in ((["--extent", "4"], "odd"), (["--extent", "a"], "one odd number or three")):
        ran = arcuate("denoise", noisy_files, "--out", out, "--method", "mppca", *options)
        assert ran.code == 2
        assert message in ran.err
        assert "Traceback" not in ran.err
