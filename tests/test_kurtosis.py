"""The kurtosis step: scans to maps, on a phantom and a real head, through the command line, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tables import random_table

from arcuate.cli import main
from arcuate.dwi import Dwi
from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource
from arcuate.kurtosis import Dki, estimate_dki
from arcuate.models.kurtosis import fit_kurtosis
from arcuate.models.mean_signal import prepare_mean_signal
from arcuate.models.status import Status
from arcuate.phantom import make_phantom
from arcuate.study.maps import INTEGRITY_MAPS, KURTOSIS_MAPS
from arcuate.volumes.resource import InMemoryVolumeResource

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2.0, 0, -20], [0, 0, 2.5, -30], [0, 0, 0, 1]])


def _scan(gradients: GradientTable, shape: tuple[int, int, int] = (5, 4, 3)) -> Dwi:
    """Two pools of water in each voxel."""
    rng = np.random.default_rng(1)
    signal = np.zeros((*shape, len(gradients)))
    for share in (0.6, 0.4):
        turns = np.linalg.qr(rng.normal(size=(*shape, 3, 3)))[0]
        evals = rng.uniform(0.3e-3, 2e-3, (*shape, 3))
        tensors = np.einsum("...ij,...j,...kj->...ik", turns, evals, turns)
        g = gradients.directions
        signal += 800 * share * np.exp(-gradients.bvals * np.einsum("mi,...ij,mj->...m", g, tensors, g))
    return Dwi.from_arrays(signal.astype(np.float32), AFFINE, gradients)


@pytest.fixture(scope="module")
def scan() -> Dwi:
    return _scan(random_table((0, 2), (1000, 20), (2000, 25)))


def test_maps_are_those_of_the_model_and_zero_outside_the_mask(scan):
    inside = np.zeros((5, 4, 3), dtype=bool)
    inside[1:4, 1:3, :2] = True
    dki = estimate_dki(scan, InMemoryVolumeResource(inside.astype(np.uint8), AFFINE))
    fit = fit_kurtosis(scan.volume.get_array()[inside], scan.gradients, constrained=True)
    for volume, expected in ((dki.mk, fit.mk), (dki.ak, fit.ak), (dki.rk, fit.rk), (dki.kfa, fit.kfa)):
        np.testing.assert_allclose(volume.get_array()[inside], np.clip(expected, -3 / 7, 10), rtol=1e-5)
        assert not volume.get_array()[~inside].any()
        np.testing.assert_array_equal(volume.get_affine(), AFFINE)
    np.testing.assert_allclose(dki.tensors.get_array()[inside], fit.tensors, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(dki.elements.get_array()[inside], fit.kurtosis, rtol=1e-5, atol=1e-7)
    fa, md = dki.get_fa_md()
    np.testing.assert_allclose(fa.get_array()[inside], fit.fa, atol=1e-5)
    np.testing.assert_allclose(md.get_array()[inside], fit.md, rtol=1e-5)
    _, expected = prepare_mean_signal(scan.gradients, np.arange(47)).fit(scan.volume.get_array()[inside])
    np.testing.assert_allclose(dki.msk.get_array()[inside], np.clip(expected, -3 / 7, 10), rtol=1e-5)
    assert dki.status.get_array()[inside].min() == dki.status.get_array()[inside].max() == Status.FITTED
    assert dki.parameters["VoxelsByStatus"] == {"fitted": 12}
    assert set(dki.get_maps()) == set(KURTOSIS_MAPS)


def test_kurtosis_beyond_the_limits_is_cut_and_counted():
    gradients = random_table((0, 2), (1000, 20), (2000, 25))
    signals = np.abs(np.random.default_rng(0).normal(100, 60, (4, 4, 4, 47))).astype(np.float32) + 1
    dki = estimate_dki(Dwi.from_arrays(signals, AFFINE, gradients), constrained=False)
    maps = np.asarray(dki.volume.get_array())[..., :3]
    assert maps.min() == pytest.approx(-3 / 7)
    assert maps.max() <= 10
    assert dki.parameters["VoxelsLimited"] > 10


def test_constraints_are_the_default_and_their_voxels_are_counted(scan):
    array = np.asarray(scan.volume.get_array())
    noisy = np.abs(array + np.random.default_rng(0).normal(0, 60, array.shape)).astype(np.float32) + 1
    spoiled = Dwi.from_arrays(noisy, AFFINE, scan.gradients)
    held, free = estimate_dki(spoiled), estimate_dki(spoiled, constrained=False)
    assert held.parameters["Constrained"]
    assert held.parameters["VoxelsAtConstraints"] > 50
    assert free.parameters["VoxelsAtConstraints"] == 0
    assert np.mean(np.asarray(held.rk.get_array()) < 0) < 0.1 < np.mean(np.asarray(free.rk.get_array()) < 0)


def test_tract_integrity_is_written_where_axons_are_aligned(tmp_path: Path, capsys):
    gradients = random_table((0, 2), (1000, 25), (2000, 25))
    head = make_phantom(gradients, shape=(30, 30, 20), voxel_size=6.0, snr=40)
    Dwi.from_arrays(head.signal, head.affine, gradients).save(tmp_path, basename="scan")
    mask = tmp_path / "mask.nii.gz"
    NiftiVolumeResource.save(InMemoryVolumeResource(head.brain_mask.astype(np.uint8), head.affine), mask)
    with pytest.raises(SystemExit) as end:
        main(["dki", str(tmp_path / "scan.nii.gz"), "--mask", str(mask), "--wmti", "--out", str(tmp_path / "out")])
    assert end.value.code == 0
    maps = {name: NiftiVolumeResource(tmp_path / "out" / f"{name}.nii.gz").get_array() for name in INTEGRITY_MAPS}
    valid = maps["aligned"] > 0
    said = json.loads((tmp_path / "out" / "awf.json").read_text())["VoxelsByTractIntegrity"]
    assert said["valid"] == valid.sum() > 20
    assert f"tract integrity in {said['valid']} of aligned axons" in capsys.readouterr().out
    assert np.mean(head.fa[valid] > 0.45) > 0.95
    assert 0.3 < np.median(maps["awf"][valid]) < 0.7
    assert np.median(maps["dead"][valid]) > np.median(maps["derd"][valid])
    for name in INTEGRITY_MAPS:
        assert not maps[name][~valid].any()


def test_the_same_brain_stored_along_other_axes_gives_the_same_maps(scan):
    """Axes reversed and exchanged; directions stay in the scanner frame."""
    plain = estimate_dki(scan)
    array = scan.volume.get_array()
    affine = AFFINE.copy()
    affine[:3, 3] += AFFINE[:3, 0] * (array.shape[0] - 1)
    affine[:3, 0] *= -1
    affine = affine[:, [1, 0, 2, 3]]
    turned = np.ascontiguousarray(array[::-1].swapaxes(0, 1))
    other = estimate_dki(Dwi.from_arrays(turned, affine, scan.gradients))
    for name, volume in plain.get_maps().items():
        expected = np.asarray(volume.get_array())[::-1].swapaxes(0, 1)
        np.testing.assert_allclose(other.get_maps()[name].get_array(), expected, rtol=1e-5, atol=1e-7, err_msg=name)


def test_what_is_saved_can_be_opened(scan, tmp_path: Path):
    dki = estimate_dki(scan).save(tmp_path / "dki.nii.gz")
    opened = Dki.open(tmp_path / "dki.nii.gz")
    np.testing.assert_array_equal(opened.mk.get_array(), dki.mk.get_array())
    np.testing.assert_array_equal(opened.get_fa_md()[0].get_array(), dki.get_fa_md()[0].get_array())
    assert opened.msk is None
    assert "msk" not in opened.get_maps()


def test_one_shell_is_refused_with_the_reason():
    with pytest.raises(InputError, match=r"needs two shells.*shells of the scan: 1000\)\. Fit the tensor alone"):
        estimate_dki(_scan(random_table((0, 2), (1000, 30))))


def test_the_command_writes_every_map_with_its_unit(scan, tmp_path: Path, capsys):
    scan.save(tmp_path, basename="scan")
    with pytest.raises(SystemExit) as end:
        main(["dki", str(tmp_path / "scan.nii.gz"), "--out", str(tmp_path / "out")])
    assert end.value.code == 0
    assert "kurtosis from 47 volumes; voxels: 60 fitted" in capsys.readouterr().out
    for name in KURTOSIS_MAPS:
        facts = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert facts["BValuesUsed"] == [0, 1000, 2000]
        assert "Units" in facts
    assert "xxyz" in json.loads((tmp_path / "out" / "kurtosis.json").read_text())["Order"]


def test_fa_and_md_are_nearer_to_the_phantoms_truth_than_those_of_the_tensor():
    """Noise-free white matter: what is left of the error is the model's."""
    gradients = random_table((0, 2), (1000, 45), (2000, 45))
    head = make_phantom(gradients, shape=(18, 20, 14), voxel_size=10.0, snr=None)
    white = head.brain_mask & (head.tissue[..., 0] > 0.8)
    scan = Dwi.from_arrays(head.signal, head.affine, gradients)
    mask = InMemoryVolumeResource(white.astype(np.uint8), head.affine)
    errors = []
    for fit in (scan.estimate_dti(mask), scan.estimate_dki(mask)):
        fa, md = (np.asarray(volume.get_array())[white] for volume in fit.get_fa_md())
        errors.append((np.abs(fa - head.fa[white]).mean(), np.abs(md - head.md[white]).mean()))
    assert errors[1][0] < 0.75 * errors[0][0]
    assert errors[1][1] < 0.75 * errors[0][1]


def test_a_real_head_has_the_kurtosis_that_is_known_of_white_matter(data_dir: Path):
    stem = data_dir / "mdt_b1k_b2k" / "sub-mdt_dwi"
    scan = Dwi(NiftiVolumeResource(f"{stem}.nii.gz"), FslBvalResource(f"{stem}.bval"), FslBvecResource(f"{stem}.bvec"))
    mask = NiftiVolumeResource(data_dir / "mdt_b1k_b2k" / "sub-mdt_mask.nii.gz")
    dki = scan.load().estimate_dki(mask)
    fa, md = (np.asarray(volume.get_array()) for volume in dki.get_fa_md())
    white = (np.asarray(mask.get_array()) > 0) & (fa > 0.5) & (md < 1.2e-3)
    mk, ak, rk, msk = (np.median(np.asarray(v.get_array())[white]) for v in (dki.mk, dki.ak, dki.rk, dki.msk))
    assert 0.8 < mk < 1.3
    assert ak < mk < rk
    assert 0.6 < msk < 1.3
