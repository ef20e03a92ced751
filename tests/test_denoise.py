"""The denoising step: scans in, scans out, and what it says about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from arcuate.cache import Cache
from arcuate.denoise import (
    choose_denoising,
    denoised_before,
    residual_doubts,
    residual_facts,
    run_denoising,
    shell_residuals,
)
from arcuate.dwi import Dwi
from arcuate.errors import InputError, InputWarning, NotApplicable
from arcuate.gradients import GradientTable
from arcuate.models.status import Status
from arcuate.volumes.resource import InMemoryVolumeResource

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.filterwarnings("ignore:Patch2Self takes anisotropy")  # these scans are small

AFFINE = np.array([[-2.0, 0.1, 0, 5], [0.1, 2, 0, 3], [0, 0, 2.5, 1], [0, 0, 0, 1]])


def make_scan(shape=(16, 14, 8), n_b0=3, *, sigma=20.0, seed=0, rician=False):
    """Fibres of many directions and two shells: (noisy, clean) scans."""
    rng = np.random.default_rng(seed)
    bvals = np.repeat([0.0, 1000.0, 2500.0], [n_b0, 20, 20])
    directions = rng.normal(size=(len(bvals), 3))
    directions = np.where(bvals[:, None] > 0, directions / np.linalg.norm(directions, axis=1, keepdims=True), 0)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 2, n) for n in shape], indexing="ij"), axis=-1)
    axes = np.stack([np.sin(grid[..., 0]), np.cos(grid[..., 0]), np.sin(grid[..., 1] * 2)], axis=-1)
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    clean = 600 * (1 + 0.4 * np.sin(5 * grid[..., :1]) * np.cos(4 * grid[..., 1:2]))
    clean = clean * np.exp(-bvals * (0.3e-3 + 1.2e-3 * (axes @ directions.T) ** 2))
    noise = rng.normal(scale=sigma, size=(2, *clean.shape))
    noisy = np.hypot(clean + noise[0], noise[1]) if rician else clean + noise[0]
    table = GradientTable(bvals, directions)
    return tuple(Dwi.from_arrays(np.asfortranarray(a.astype(np.float32)), AFFINE, table) for a in (noisy, clean))


def rmse(a, b):
    return float(np.sqrt(((a.volume.get_array() - b.volume.get_array()) ** 2).mean()))


@pytest.mark.parametrize("method", ["patch2self", "mppca"])
def test_the_error_falls_and_the_rest_of_the_scan_is_carried_over(method):
    noisy, clean = make_scan()
    before = noisy.volume.get_array().copy()
    denoised = noisy.denoise(method=method)
    assert rmse(denoised, clean) < 0.75 * rmse(noisy, clean)
    np.testing.assert_array_equal(noisy.volume.get_array(), before)
    np.testing.assert_array_equal(denoised.volume.get_affine(), AFFINE)
    np.testing.assert_array_equal(denoised.bval.get(), noisy.bval.get())
    np.testing.assert_array_equal(denoised.bvec.get(), noisy.bvec.get())
    assert denoised.volume.get_array().dtype == np.float32
    assert denoised.volume.get_array().flags.f_contiguous


@pytest.mark.parametrize("method", ["patch2self", "mppca"])
def test_the_noise_map_has_the_level_of_the_noise(method):
    noisy, _ = make_scan(sigma=20.0)
    result = run_denoising(noisy, method=method)
    noise = result.noise.get_array()
    assert noise.shape == noisy.volume.shape[:3]
    assert np.sqrt((noise.astype(float) ** 2).mean()) == pytest.approx(20.0, rel=0.15)
    assert result.parameters["MedianNoise"] == pytest.approx(20.0, rel=0.15)


def test_clipping_is_asked_for_and_counted():
    noisy, _ = make_scan(sigma=150.0)
    plain, clipped = run_denoising(noisy, clip=False), run_denoising(noisy)
    raw = plain.dwi.volume.get_array()
    assert raw.min() < 0
    np.testing.assert_array_equal(clipped.dwi.volume.get_array(), np.maximum(raw, 0))
    assert plain.parameters["VoxelsClipped"] == 0
    assert clipped.parameters["VoxelsClipped"] == int((raw < 0).any(axis=-1).sum())


@pytest.mark.parametrize("order", ["C", "F"])
def test_voxels_above_b0_are_counted_inside_the_mask(order):
    noisy, _ = make_scan(sigma=120.0)
    array = np.array(noisy.volume.get_array(), order=order)
    noisy = Dwi(InMemoryVolumeResource(array, AFFINE), noisy.bval, noisy.bvec)
    mask = np.zeros(array.shape[:3], np.uint8)
    mask[2:9, 3:10] = 1
    result = run_denoising(noisy, clip=False, mask=InMemoryVolumeResource(mask, AFFINE))
    found = result.dwi.volume.get_array()
    above = found[..., 3:].max(axis=-1) > np.maximum(found[..., :3].mean(axis=-1), -np.inf)
    assert result.parameters["VoxelsAboveB0"] == int((above & (mask > 0)).sum()) > 0
    assert result.parameters["VoxelsByStatus"] == {"fitted": int(mask.sum())}


def test_patch2self_learns_from_every_voxel_whatever_the_mask():
    noisy, _ = make_scan()
    mask = np.zeros(noisy.volume.shape[:3], np.uint8)
    mask[3:8] = 1
    part = noisy.denoise(mask=InMemoryVolumeResource(mask, AFFINE)).volume.get_array()
    np.testing.assert_array_equal(part, noisy.denoise().volume.get_array())
    patches = noisy.denoise(method="mppca", mask=InMemoryVolumeResource(mask, AFFINE)).volume.get_array()
    assert (patches[mask == 0] == 0).all()


def test_removing_the_rician_bias_brings_magnitudes_back_to_the_signal():
    noisy, clean = make_scan(sigma=60.0, rician=True, n_b0=4)
    low = clean.volume.get_array() < 60
    bias = {}
    for rician in (False, True):
        found = noisy.denoise(method="mppca", rician=rician).volume.get_array()
        bias[rician] = float((found - clean.volume.get_array())[low].mean())
    assert bias[False] > 15
    assert abs(bias[True]) < 0.5 * bias[False]


@pytest.mark.parametrize("method", ["patch2self", "mppca"])
def test_a_nan_voxel_is_zero_and_has_its_status(method):
    noisy, _ = make_scan()
    array = noisy.volume.get_array().copy(order="F")
    array[4, 5, 6, 7] = np.nan
    result = run_denoising(Dwi(InMemoryVolumeResource(array, AFFINE), noisy.bval, noisy.bvec), method=method)
    found = result.dwi.volume.get_array()
    assert (found[4, 5, 6] == 0).all()
    assert np.isfinite(found).all()
    assert result.status.get_array()[4, 5, 6] == Status.NOT_FINITE
    assert result.parameters["VoxelsByStatus"]["not_finite"] == 1


@pytest.mark.parametrize("method", ["patch2self", "mppca"])
def test_integers_and_slabs_of_two_slices_are_denoised(method):
    noisy, clean = make_scan((24, 22, 2))
    whole = np.asfortranarray(np.rint(noisy.volume.get_array()).astype(np.int16))
    scan = Dwi(InMemoryVolumeResource(whole, AFFINE), noisy.bval, noisy.bvec)
    assert rmse(scan.denoise(method=method), clean) < rmse(noisy, clean)


@pytest.mark.filterwarnings("ignore:volume 12 holds no signal")
def test_empty_and_repeated_volumes_are_said():
    noisy, _ = make_scan()
    array = noisy.volume.get_array().copy(order="F")
    array[..., 10], array[..., 12] = array[..., 11], 0
    with pytest.warns(InputWarning, match="3 of 40 volumes are constant, identical"):
        found = Dwi(InMemoryVolumeResource(array, AFFINE), noisy.bval, noisy.bvec).denoise().volume.get_array()
    assert (found[..., 12] == 0).all()


@pytest.mark.parametrize("method", ["patch2self", "mppca"])
@pytest.mark.parametrize("content", [np.nan, np.inf])
def test_a_volume_without_a_number_is_named_and_does_not_empty_the_scan(method, content):
    noisy, _ = make_scan()
    array = noisy.volume.get_array().copy()
    array[..., [5, 9]] = content
    with pytest.raises(NotApplicable, match=r"volumes 5,9 .*hold no number.*--exclude 5,9"):
        Dwi.from_arrays(array, AFFINE, noisy.gradients).denoise(method=method)


def test_a_mask_of_two_voxels_has_no_residuals_to_look_at_and_is_denoised():
    noisy, _ = make_scan()
    inside = np.zeros(noisy.volume.shape[:3], np.uint8)
    inside[5, 5:7, 4] = 1
    mask = noisy.volume.with_array(inside)
    done = run_denoising(noisy, method="mppca", mask=mask)
    assert shell_residuals(noisy, done.dwi, mask) == {}


def test_one_b0_is_passed_through():
    noisy, _ = make_scan(n_b0=1)
    result = run_denoising(noisy)
    np.testing.assert_array_equal(result.dwi.volume.get_array()[..., 0], noisy.volume.get_array()[..., 0])
    assert result.parameters["VolumesPassedThrough"] == [0]


def test_what_cannot_be_denoised_is_refused_with_a_sentence():
    noisy, _ = make_scan()
    with pytest.raises(InputError, match="found the denoising method 'nlmeans'; expected one of patch2self, mppca"):
        noisy.denoise(method="nlmeans")
    few = Dwi.from_arrays(noisy.volume.get_array()[..., [0, 5]], AFFINE, noisy.gradients.subset(np.array([0, 5])))
    with pytest.raises(InputError, match="expected at least 2 weighted"):
        few.denoise()


def test_the_residual_of_a_blur_has_structure_and_that_of_noise_has_none():
    from scipy.ndimage import gaussian_filter

    noisy, clean = make_scan((32, 30, 10), sigma=15.0)
    everywhere = InMemoryVolumeResource(np.ones(noisy.volume.shape[:3], np.uint8), AFFINE)
    blurred = gaussian_filter(clean.volume.get_array(), (3, 3, 0, 0))
    blurry = Dwi(InMemoryVolumeResource(blurred, AFFINE), noisy.bval, noisy.bvec)
    true, false = (shell_residuals(noisy, after, everywhere) for after in (clean, blurry))
    assert sorted(true) == [0.0, 1000.0, 2500.0]
    for b in true:
        assert abs(true[b].anatomy) < 0.05
        assert abs(true[b].neighbours) < 0.05
        assert true[b].rms == pytest.approx(15.0, rel=0.05)
    assert false[0.0].neighbours > 0.5
    assert abs(false[0.0].anatomy) > 0.2


def test_the_result_is_kept_and_comes_back_from_the_cache(tmp_path):
    noisy, _ = make_scan()
    with Cache(tmp_path) as cache:
        first = run_denoising(noisy, method="mppca", extent=3)
        assert cache.status([run_denoising])
        second = run_denoising(noisy, method="mppca", extent=3)
    np.testing.assert_array_equal(second.dwi.volume.get_array(), first.dwi.volume.get_array())
    np.testing.assert_array_equal(second.noise.get_array(), first.noise.get_array())
    assert second.parameters == first.parameters


@pytest.mark.parametrize("snr", [10.0, 30.0])
@pytest.mark.parametrize("method", ["patch2self", "mppca"])
def test_the_phantom_comes_nearer_to_its_noise_free_self_on_every_shell(method, snr):
    from arcuate.phantom import make_phantom, three_shell_gradients

    gradients = three_shell_gradients(n_b0=2, n_directions=30)
    clean, noisy = (make_phantom(gradients, (24, 28, 20), voxel_size=7.0, snr=level) for level in (None, snr))
    scan = Dwi.from_arrays(noisy.signal, noisy.affine, gradients)
    inside = InMemoryVolumeResource(noisy.brain_mask.astype(np.uint8), noisy.affine)
    denoised = scan.denoise(method=method, mask=inside).volume.get_array()
    for shell in gradients.shells:
        before, after = (
            np.sqrt(((a - clean.signal)[noisy.brain_mask][:, shell.indices] ** 2).mean())
            for a in (noisy.signal, denoised)
        )
        assert after < (0.95 if shell.b > 2000 and snr == 10 else 0.9) * before, shell.b


def head(n_b0, shells, snr=30.0, shape=(18, 18, 12), voxel=9.0):
    """(scan, phantom) of shells (b, directions)."""
    from arcuate.phantom import make_phantom, three_shell_gradients

    bvals, counts = zip(*shells, strict=True)
    gradients = three_shell_gradients(n_b0=n_b0, bvals=bvals, n_directions=counts)
    made = make_phantom(gradients, shape, voxel, snr=snr)
    return Dwi.from_arrays(made.signal, made.affine, gradients), made


@pytest.mark.parametrize("shells", [((1000, 6),), ((1500, 60),), ((1000, 30), (2000, 60))])
def test_patch2self_warns_of_the_anisotropy_it_takes_from_one_shell_or_few_directions(shells):
    scan, _ = head(2, shells)
    with pytest.warns(InputWarning, match=rf"takes anisotropy away.*{shells[0][1]} directions"):
        scan.denoise()
    scan.denoise(method="mppca")


@pytest.mark.parametrize("method", ["patch2self", "mppca"])
def test_the_noise_of_a_stripped_scan_is_that_of_the_brain(method):
    scan, made = head(3, ((1000, 30),))
    stripped = np.where(made.brain_mask[..., None], made.signal, 0)
    scan = Dwi.from_arrays(stripped, made.affine, made.gradients)
    for mask in (None, InMemoryVolumeResource(np.ones(made.brain_mask.shape, np.uint8), made.affine)):
        assert run_denoising(scan, method=method, mask=mask).parameters["MedianNoise"] > 0.5 * made.sigma


def test_two_b0_volumes_predicted_from_each_other_are_not_taken_for_lost_anatomy():
    scan, _ = head(2, ((1000, 30),), shape=(14, 14, 8), voxel=12.0)
    assert abs(shell_residuals(scan, scan.denoise())[0.0].anatomy) < 0.3


def test_a_residual_that_follows_the_anatomy_is_said_by_shell():
    noise = {"B": 0, "anatomy": 0.05, "magnitude": 0.3, "neighbours": -0.02, "rms": 9.0}
    lost = {"B": 1500, "anatomy": 0.08, "magnitude": 0.3, "neighbours": 0.58, "rms": 9.0}
    (doubt,) = residual_doubts([noise, lost])
    assert "b=1500 follows the anatomy" in doubt
    assert "0.58" in doubt


def test_a_blur_is_doubted_and_the_truth_is_not():
    from scipy.ndimage import gaussian_filter

    noisy, clean = make_scan((32, 30, 10), sigma=15.0)
    everywhere = InMemoryVolumeResource(np.ones(noisy.volume.shape[:3], np.uint8), AFFINE)
    blurry = Dwi(
        InMemoryVolumeResource(gaussian_filter(clean.volume.get_array(), (3, 3, 0, 0)), AFFINE), noisy.bval, noisy.bvec
    )
    assert residual_doubts(residual_facts(shell_residuals(noisy, clean, everywhere))) == []
    assert len(residual_doubts(residual_facts(shell_residuals(noisy, blurry, everywhere)))) == 3


SHELLS = GradientTable(
    np.repeat([0.0, 1000.0, 2000.0], [2, 6, 12]), np.repeat([[0, 0, 0], [0, 0, 1.0]], [2, 18], axis=0)
)


@pytest.mark.parametrize(
    ("sidecars", "asked", "method", "reason"),
    [
        ([], "auto", "none", "with 6 directions of b=1000 and 12 of b=2000 denoising by Patch2Self would lower FA"),
        ([{"ConversionSoftware": "dcm2niix"}], "auto", "none", "nothing tells that the scan was not interpolated"),
        ([{"Interpolated": False}], "auto", "none", "nothing tells"),
        ([{}, {"Denoised": True}], "auto", "none", "says that the scan was denoised before (Denoised: True;"),
        ([{}], "mppca", "mppca", "was asked for"),
        ([{"Denoised": True}], "patch2self", "patch2self", "was asked for"),
        ([], "none", "none", "was asked for"),
    ],
)
def test_the_choice_of_denoising_follows_from_what_is_known(sidecars, asked, method, reason):
    found = choose_denoising(SHELLS, sidecars, asked=asked)
    assert found.method == method
    assert reason in found.reason
    assert "directions" in found.reason
    assert "denois" in found.reason


def _cells_of_the_table() -> dict[tuple[str, str], dict[str, str]]:
    """(scan, SNR) of ``benchmarks/results/denoise_choice.md``: by method, in which measures it is further off."""
    text = (ROOT / "benchmarks" / "results" / "denoise_choice.md").read_text(encoding="utf-8")
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for line in text.splitlines():
        words = [word.strip() for word in line.strip("|").split("|")]
        if words[0].startswith(("phantom, ", "canon_dti, ", "mdt_b1k_b2k, ")):
            cells.setdefault((words[0], words[1]), {})[words[2]] = words[-1]
    return cells


def test_the_default_of_a_run_is_in_no_cell_of_the_table_further_from_the_truth_than_none():
    cells = _cells_of_the_table()
    phantom = {(name, snr) for name, snr in cells if name.startswith("phantom")}
    assert {snr for _, snr in phantom} == {"10", "20", "40"}
    assert {name.count("(b=") for name, _ in phantom} == {1, 2, 3}
    assert {n for n in (6, 12, 20, 32, 64) if any(f" + {n} (b=" in name for name, _ in phantom)} == {6, 12, 20, 32, 64}
    assert any(name.startswith("canon_dti") for name, _ in cells)
    assert any(name.startswith("mdt_b1k_b2k") for name, _ in cells)
    for (name, _), methods in cells.items():
        assert len(methods) == 3
        (taken,) = [method for method in methods if method.endswith("(taken)")]
        assert methods[taken] == "", f"{name}: {taken} is further off in {methods[taken]}"
        n_b0, *shells = name.split(", ")[1].split(" + ")
        parts = [shell.removesuffix(")").split(" (b=") for shell in shells]
        bvals = np.concatenate([np.zeros(int(n_b0)), *(np.full(int(n), float(b)) for n, b in parts)])
        directions = np.random.default_rng(0).normal(size=(len(bvals), 3))
        directions *= (bvals > 0)[:, None] / np.linalg.norm(directions, axis=1, keepdims=True)
        now = choose_denoising(GradientTable(bvals, directions)).method
        assert f"{now} (taken)" == taken, "the default changed: make the table anew"


def test_an_unknown_way_to_denoise_is_refused():
    with pytest.raises(
        InputError, match="found the denoising method 'nlm'; expected one of auto, patch2self, mppca, none"
    ):
        choose_denoising(SHELLS, asked="nlm")


@pytest.mark.parametrize(
    ("sidecar", "expected"),
    [
        ({"Method": "mppca", "RicianBiasRemoved": False}, "Method: mppca"),
        ({"Method": "otsu"}, None),
        ({"DenoiseMethod": "dwidenoise"}, "DenoiseMethod: dwidenoise"),
        ({"denoising": "none"}, None),
        ({"Denoised": False}, None),
        ({"command_history": ["mrconvert a b", "/opt/bin/dwidenoise a.mif b.mif  (version=3.0.3)"]}, "command_history"),
        ({"command_history": "dwifslpreproc a b\ndwidenoise a b"}, "command_history"),
        ({"command_history": ["mrconvert dwidenoise_out.mif b"]}, None),
        ({}, None),
    ],
)
def test_a_sidecar_says_whether_a_scan_was_denoised(sidecar, expected):
    found = denoised_before(sidecar)
    assert (found is None) if expected is None else (found is not None and expected in found)


def test_the_sidecar_of_our_own_denoising_is_recognised(tmp_path):
    from arcuate.io.sidecars import sidecars_of
    from arcuate.study.bids import write_map

    noisy, _ = make_scan()
    result = run_denoising(noisy)
    written = write_map(result.dwi.volume, tmp_path / "den.NII.GZ", result.parameters)
    (facts,) = sidecars_of(written)
    found = choose_denoising(noisy.gradients, [facts])
    assert found.method == "none"
    assert "denoised before (Method: patch2self;" in found.reason
    (tmp_path / "den.json").write_text('{"Method": "patch')
    with pytest.warns(InputWarning, match="den.json beside the image cannot be read as a JSON object"):
        assert sidecars_of(written) == [{}]
