"""A run with --robust on a scan that is denoised first: the noise map of denoising is the robust fit's noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tables import random_table

from arcuate.dwi import Dwi
from arcuate.errors import InputError
from arcuate.models.tensor import fit_tensor
from arcuate.phantom import make_phantom
from arcuate.study.bids import Derivatives
from arcuate.study.pipeline import run_subject
from arcuate.study.plan import Settings, make_plan
from arcuate.volumes.resource import InMemoryVolumeResource


def test_dropped_slices_of_a_denoised_scan_are_left_out_and_named(tmp_path: Path):
    gradients = random_table((0, 4), (1000, 32))
    heads = [make_phantom(gradients, shape=(24, 24, 16), voxel_size=8.0, snr=snr, seed=1) for snr in (20, None)]
    inside = heads[0].brain_mask
    truth = fit_tensor(np.asarray(heads[1].signal)[inside], gradients).fa
    rng = np.random.default_rng(0)
    share = np.ones((16, 36), np.float32)
    lost = rng.permutation(np.arange(16 * 35))[:29]  # 5 % of the slices, the first volume left alone
    share[lost // 35, 1 + lost % 35] = rng.uniform(0, 0.3, 29)
    array = np.asarray(heads[0].signal, dtype=np.float32)
    mask = InMemoryVolumeResource(inside.astype(np.uint8), heads[0].affine)
    errors, found = {}, None
    for name, volumes, is_robust in (
        ("clean", array, False),
        ("plain", array * share, False),
        ("robust", array * share, True),
    ):
        scan = Dwi.from_arrays(volumes, heads[0].affine, gradients)
        settings = Settings(steps=("denoise", "dti"), denoise_method="mppca", robust=is_robust)
        place = Derivatives.of_scan(tmp_path / name, tmp_path / "sub-1_dwi.nii.gz")
        run = run_subject(scan, place, inputs={}, settings=settings, mask=mask)
        errors[name] = np.abs(np.asarray(run.dti.get_fa_md()[0].get_array())[inside] - truth).mean()
        found = run.dti
    assert errors["plain"] > 2 * errors["clean"], "else nothing was tested"
    assert errors["robust"] < 1.1 * errors["clean"]
    assert found.parameters["NoiseGiven"]
    thick = {k for k in range(16) if inside[:, :, k].sum() > 20}
    expected = {(int(i), int(k)) for k, i in np.argwhere(share < 1) if k in thick}
    named = {(entry["Volume"], entry["Slice"]) for entry in found.parameters["SlicesOutlying"]}
    assert len(expected & named) >= 0.95 * len(expected)


def test_a_run_fits_under_rician_noise_with_the_map_that_it_is_given_and_says_so(tmp_path: Path):
    gradients = random_table((0, 3), (1500, 20))
    head = make_phantom(gradients, shape=(12, 12, 9), voxel_size=16.0, snr=10, seed=1)
    scan = Dwi.from_arrays(np.asarray(head.signal, np.float32), head.affine, gradients)
    mask = InMemoryVolumeResource(head.brain_mask.astype(np.uint8), head.affine)
    noise = mask.with_array(np.full(head.brain_mask.shape, 40.0, np.float32))
    settings = Settings(steps=("dti",), rician=True)
    plan = make_plan(scan, settings, mask, noise=noise)
    assert plan.how("dti") == "rician"
    place = Derivatives.of_scan(tmp_path, tmp_path / "sub-1_dwi.nii.gz")
    run = run_subject(scan, place, inputs={}, mask=mask, plan=plan)
    alone = scan.estimate_dti(mask, rician=True, noise=noise)
    np.testing.assert_allclose(run.dti.volume.get_array(), alone.volume.get_array(), rtol=1e-6, atol=1e-12)
    assert run.dti.parameters["FitMethod"] == "maximum likelihood, Rician noise"
    plan = make_plan(scan, settings, mask, noise=noise.with_array(1e6 * noise.get_array()))
    with pytest.raises(InputError, match="another unit than the scan"):
        run_subject(scan, Derivatives(tmp_path / "new", "sub-1"), inputs={}, mask=mask, plan=plan)
    assert not (tmp_path / "new").exists(), "nothing was done before"
