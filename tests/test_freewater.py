"""The free-water step and the robust tensor step: scans to maps, through the command line and a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tables import random_table

from arcuate.cli import main
from arcuate.dwi import Dwi
from arcuate.errors import InputError, InputWarning
from arcuate.freewater import FreeWater, estimate_free_water
from arcuate.models.free_water import fit_free_water_tensor
from arcuate.models.rician_tensor import fit_rician_tensor
from arcuate.models.robust_tensor import prepare_robust_tensor
from arcuate.phantom import make_phantom
from arcuate.study.maps import FREE_WATER_MAPS, TENSOR_MAPS
from arcuate.study.plan import Settings, make_plan
from arcuate.volumes.geometry import Orientation
from arcuate.volumes.resource import InMemoryVolumeResource


@pytest.fixture(scope="module")
def scan() -> Dwi:
    """A small head on two shells; slice 5 of volume 7 dropped out."""
    gradients = random_table((0, 2), (700, 20), (1400, 20))
    head = make_phantom(gradients, shape=(12, 12, 9), voxel_size=16.0, snr=40)
    signal = np.array(head.signal)
    signal[:, :, 5, 7] *= 0.1
    return Dwi.from_arrays(signal, head.affine, gradients)


@pytest.fixture(scope="module")
def mask(scan: Dwi) -> InMemoryVolumeResource:
    inside = np.asarray(scan.volume.get_array())[..., 0] > 100
    return InMemoryVolumeResource(inside.astype(np.uint8), scan.volume.get_affine())


def _run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    return int(end.value.code or 0)


def test_free_water_maps_are_those_of_the_model_and_zero_outside_the_mask(scan, mask):
    inside = mask.get_array() > 0
    water = estimate_free_water(scan, mask)
    fit = fit_free_water_tensor(scan.volume.get_array()[inside], scan.gradients)
    np.testing.assert_allclose(water.fwf.get_array()[inside], fit.fwf, atol=1e-6)
    np.testing.assert_allclose(water.tensors.get_array()[inside], fit.tensors, rtol=1e-5, atol=1e-12)
    assert not water.fwf.get_array()[~inside].any()
    assert set(water.get_maps()) == set(FREE_WATER_MAPS)
    assert water.parameters["BValuesUsed"] == [0, 700, 1400]


def test_free_water_that_is_saved_can_be_opened(scan, mask, tmp_path: Path):
    water = estimate_free_water(scan, mask).save(tmp_path / "water.nii.gz")
    opened = FreeWater.open(tmp_path / "water.nii.gz")
    np.testing.assert_array_equal(opened.fwf.get_array(), water.fwf.get_array())
    np.testing.assert_array_equal(opened.get_fa_md()[0].get_array(), water.get_fa_md()[0].get_array())


def test_the_same_brain_stored_along_other_axes_has_the_same_water_and_outliers(scan):
    array, affine = scan.volume.get_array(), scan.volume.get_affine().copy()
    affine[:3, 3] += affine[:3, 0] * (array.shape[0] - 1)
    affine[:3, 0] *= -1
    turned = np.ascontiguousarray(np.asarray(array)[::-1].swapaxes(0, 1))
    other = Dwi.from_arrays(turned, affine[:, [1, 0, 2, 3]], scan.gradients)
    for estimate in (lambda s: s.estimate_free_water(), lambda s: s.estimate_dti(robust=True)):
        plain, moved = estimate(scan).get_maps(), estimate(other).get_maps()
        for name in set(plain) - {"evecs"}:
            expected = np.asarray(plain[name].get_array())[::-1].swapaxes(0, 1)
            np.testing.assert_allclose(moved[name].get_array(), expected, rtol=1e-4, atol=1e-6, err_msg=name)


def test_robust_maps_count_outliers_and_name_the_slice_that_dropped_out(scan, mask):
    inside = mask.get_array() > 0
    dti = scan.estimate_dti(mask, robust=True)
    assert dti.parameters["SlicesOutlying"] == [{"Volume": 7, "Slice": 5}]
    lost = np.zeros((int(inside.sum()), len(scan.gradients)), dtype=bool)
    lost[np.argwhere(inside)[:, 2] == 5, 7] = True
    _, model = prepare_robust_tensor(scan.gradients)
    fit = model.fit(scan.volume.get_array()[inside], None, lost)
    np.testing.assert_allclose(dti.volume.get_array()[inside], fit.tensors, rtol=1e-5, atol=1e-12)
    np.testing.assert_array_equal(dti.outliers.get_array()[inside], fit.n_outliers)
    assert dti.parameters["VoxelsWithOutliers"] == np.count_nonzero(fit.n_outliers)
    assert set(dti.get_maps()) == set(TENSOR_MAPS)
    assert scan.estimate_dti(mask).outliers is None


def test_noise_that_is_not_used_or_lies_on_another_grid_is_refused(scan):
    noise = InMemoryVolumeResource(np.ones((3, 3, 3)), scan.volume.get_affine())
    with pytest.raises(InputError, match=r"not robust; add robust=True \(--robust\)"):
        scan.estimate_dti(noise=noise)
    with pytest.raises(InputError, match=r"noise map of shape \(3, 3, 3\); expected \(12, 12, 9\)"):
        scan.estimate_dti(robust=True, noise=noise)
    moved = scan.volume.get_affine() + np.array([[0, 0, 0, 9.0]] + [[0] * 4] * 3)
    with pytest.raises(InputError, match="the noise map lies elsewhere"):
        scan.estimate_dti(robust=True, noise=InMemoryVolumeResource(np.ones((12, 12, 9)), moved))


def test_noise_stored_in_another_order_is_the_same_noise(scan, mask):
    sigma = np.random.default_rng(0).uniform(5, 25, mask.shape)
    turn = Orientation.of((2, 0, 1), (True, False, True), mask.shape, scan.volume.get_affine())
    straight, turned = (
        scan.estimate_dti(mask, rician=True, noise=noise).volume.get_array()
        for noise in (
            InMemoryVolumeResource(sigma, scan.volume.get_affine()),
            InMemoryVolumeResource(turn.turn(sigma), turn.affine),
        )
    )
    np.testing.assert_array_equal(straight, turned)


def test_the_rician_fit_takes_the_noise_map_and_is_refused_without_one(scan, mask):
    inside = mask.get_array() > 0
    sigma = np.full(inside.shape, 15.0, np.float32)
    sigma[:2] = 0
    noise = InMemoryVolumeResource(sigma, scan.volume.get_affine())
    dti = scan.estimate_dti(mask, rician=True, noise=noise)
    fit = fit_rician_tensor(scan.volume.get_array()[inside], scan.gradients, sigma[inside])
    np.testing.assert_allclose(dti.volume.get_array()[inside], fit.tensors, rtol=1e-4, atol=1e-9)
    np.testing.assert_array_equal(dti.status.get_array()[inside], fit.status)
    assert dti.parameters["FitMethod"] == "maximum likelihood, Rician noise"
    assert dti.parameters["VoxelsWithoutNoise"] == np.count_nonzero(sigma[inside] == 0)
    with pytest.raises(InputError, match=r"needs the standard deviation of the noise; found no noise map.*--noise"):
        scan.estimate_dti(mask, rician=True)
    with pytest.raises(InputError, match="nowhere above 0"):
        scan.estimate_dti(mask, rician=True, noise=noise.with_array(0 * sigma))
    with pytest.raises(InputError, match="robust and rician together"):
        scan.estimate_dti(mask, rician=True, robust=True, noise=noise)


@pytest.mark.parametrize("fit", ["rician", "robust"])
def test_a_noise_map_of_another_unit_is_refused_before_any_fit(scan, mask, fit):
    level = np.full(mask.shape, 15.0, np.float32)
    for factor in (1e6, 40.0):  # mistaken by a scale, or a variance
        noise = InMemoryVolumeResource(factor * level, scan.volume.get_affine())
        with pytest.raises(InputError, match=r"noise map has another unit than the scan \(median .*; volume 0 of"):
            scan.estimate_dti(mask, **{fit: True}, noise=noise)
    far_below = InMemoryVolumeResource(1e-6 * level, scan.volume.get_affine())
    if fit == "rician":
        with pytest.warns(InputWarning, match=r"noise map is far below the scan .* then that of no noise"):
            scan.estimate_dti(mask, rician=True, noise=far_below)


def test_the_commands_write_every_map_with_its_unit(scan, tmp_path: Path, capsys):
    scan.save(tmp_path, basename="scan")
    dwi = str(tmp_path / "scan.nii.gz")
    assert _run("freewater", dwi, "--out", str(tmp_path / "water")) == 0
    assert "free water from 42 volumes" in capsys.readouterr().out
    assert _run("dti", dwi, "--robust", "--out", str(tmp_path / "robust")) == 0
    assert "with outliers" in capsys.readouterr().out
    for folder, names in (("water", FREE_WATER_MAPS), ("robust", TENSOR_MAPS)):
        for name in set(names) - {"evecs"}:
            assert "Units" in json.loads((tmp_path / folder / f"{name}.json").read_text()), name


def test_free_water_is_planned_where_it_is_named_and_told_where_not(scan):
    plain = make_plan(scan, Settings())
    assert "freewater" not in plain
    assert "--steps all,freewater" in plain.left_out["freewater"]
    both = make_plan(scan, Settings(steps=("all", "freewater")))
    assert "freewater" in both
    assert "noddi" in both
    assert both.insists_on("freewater")
    assert not both.insists_on("noddi")


def test_a_run_with_robust_writes_outliers_and_says_so_in_the_methods(scan, tmp_path: Path):
    from arcuate.report.methods import methods_paragraph
    from arcuate.study.bids import Derivatives
    from arcuate.study.pipeline import run_subject

    settings = Settings(steps=("dti", "freewater"), mask_method="otsu", robust=True)
    run = run_subject(scan, Derivatives.of_scan(tmp_path, tmp_path / "sub-1_dwi.nii.gz"), inputs={}, settings=settings)
    files = {file.path.rpartition("/")[2] for file in run.outputs.record.files}
    assert "sub-1_model-tensor_param-outliers_dwimap.nii.gz" in files
    assert "sub-1_model-fwdti_param-fwf_dwimap.nii.gz" in files
    text, references = methods_paragraph(run.outputs.record)
    assert "studentised residual exceeded 3.6 standard deviations, starting from a fit with Geman-McClure" in text
    assert "a share of free water (diffusivity 0.003 mm²/s)" in text
    assert any("RESTORE" in reference for reference in references)
    assert any("Hoy AR" in reference for reference in references)
