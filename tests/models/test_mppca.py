"""MP-PCA: equal to dwidenoise, and defined where dwidenoise is not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nibabel as nib
import numba
import numpy as np
import pytest

from arcuate.errors import InputError, InputWarning
from arcuate.models.mppca import choose_extent, fit_mppca
from arcuate.models.status import Status


def make_image(shape, n_meas, *, sigma=3.0, rank=5, seed=0):
    """Smooth maps times signals of a few kinds, and Gaussian noise: (noisy, clean) float32."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 3, n) for n in shape], indexing="ij"), axis=-1)
    maps = 1 + np.sin(grid @ rng.normal(size=(3, rank)) + rng.normal(size=rank))
    clean = maps @ rng.uniform(20, 100, size=(rank, n_meas))
    noisy = clean + rng.normal(scale=sigma, size=clean.shape)
    return np.asfortranarray(noisy.astype(np.float32)), clean


def run_dwidenoise(image, folder, *options):
    nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "in.nii")
    command = ["dwidenoise", folder / "in.nii", folder / "out.nii", "-noise", folder / "noise.nii",
               "-datatype", "float64", "-force", "-quiet", "-nthreads", "2", *options]  # fmt: skip
    subprocess.run([str(c) for c in command], check=True, capture_output=True)
    return nib.load(folder / "out.nii").get_fdata(), nib.load(folder / "noise.nii").get_fdata()


def assert_equal_to_dwidenoise(image, fit, peer, inside=None):
    """1e-3 of the voxel's signal in 99.9 % of voxels; the noise map on the same scale."""
    denoised, noise = peer
    inside = np.ones(image.shape[:3], bool) if inside is None else inside
    scale = np.sqrt((image.astype(float) ** 2).mean(axis=-1))
    use = inside & (scale > 0)
    moved = np.abs(fit.denoised - denoised).max(axis=-1)[use] / scale[use]
    assert (moved <= 1e-3).mean() >= 0.999
    assert (np.abs(fit.sigma - noise)[use] <= 1e-3 * scale[use]).mean() >= 0.999
    big = use & (noise > 1e-3 * scale)
    assert (np.abs(fit.sigma - noise)[big] <= 1e-3 * noise[big]).mean() >= 0.999
    np.testing.assert_array_equal(fit.denoised[~inside], 0)


@pytest.mark.parametrize(
    ("n_meas", "extent", "options", "estimator"),
    [
        (40, None, [], "exp2"),
        (40, 3, ["-extent", "3"], "exp2"),
        (40, 5, ["-extent", "5"], "exp1"),
        (130, 5, ["-extent", "5"], "exp2"),
        (130, 3, ["-extent", "3"], "exp1"),
        (30, (3, 5, 1), ["-extent", "3,5,1"], "exp2"),
    ],
)
def test_equals_dwidenoise(mrtrix, tmp_path, n_meas, extent, options, estimator):
    image, _ = make_image((11, 9, 7), n_meas)
    peer = run_dwidenoise(image, tmp_path, *options, "-estimator", estimator.title())
    assert_equal_to_dwidenoise(image, fit_mppca(image, extent=extent, estimator=estimator), peer)


def test_equals_dwidenoise_inside_a_mask_with_zeros_around(mrtrix, tmp_path):
    image, _ = make_image((12, 12, 6), 30)
    image[:3] = 0
    mask = np.random.default_rng(2).random(image.shape[:3]) < 0.3
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), np.eye(4)), tmp_path / "mask.nii")
    peer = run_dwidenoise(image, tmp_path, "-mask", tmp_path / "mask.nii")
    assert_equal_to_dwidenoise(image, fit_mppca(image, mask), peer, mask)


@pytest.mark.parametrize("extent", [(5, 5, 1), (9, 9, 1)])
def test_equals_dwidenoise_on_two_slices_of_a_real_scan(mrtrix, data_dir, tmp_path, extent):
    path = data_dir / "mdt_b1k_b2k" / "sub-mdt_dwi.nii.gz"
    image = np.asarray(nib.load(path).dataobj)[30:76, 30:70]
    peer = run_dwidenoise(image, tmp_path, "-extent", ",".join(map(str, extent)))
    assert_equal_to_dwidenoise(image, fit_mppca(image, extent=extent), peer)


@pytest.mark.parametrize("estimator", ["exp1", "exp2"])
@pytest.mark.parametrize(("n_meas", "extent"), [(60, 5), (130, 3)])
def test_finds_the_noise_and_lowers_the_error(estimator, n_meas, extent):
    image, clean = make_image((14, 13, 12), n_meas, sigma=4.0)
    fit = fit_mppca(image, extent=extent, estimator=estimator)
    assert np.median(fit.sigma) == pytest.approx(4.0, rel=0.05)
    before, after = (np.sqrt(((a - clean) ** 2).mean()) for a in (image, fit.denoised))
    assert after < 0.6 * before
    assert (fit.status == Status.FITTED).all()
    assert np.median(fit.n_signal) in (4, 5, 6)


@pytest.mark.parametrize(("n_meas", "extent"), [(20, 3), (40, 3)])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e12])
def test_a_bad_voxel_does_not_spoil_the_line_it_lies_on(bad, n_meas, extent):
    image, _ = make_image((16, 7, 5), n_meas)
    good = fit_mppca(image, extent=extent)
    image[8, 3, 2, 4] = bad
    fit = fit_mppca(image, extent=extent)
    away = np.ones(image.shape[:3], bool)
    away[7:10, 2:5] = False  # across z every patch is moved so far inside that it holds the voxel
    np.testing.assert_allclose(fit.denoised[away], good.denoised[away], rtol=1e-5)
    np.testing.assert_allclose(fit.sigma[away], good.sigma[away], rtol=1e-5)
    assert np.isfinite(fit.denoised).all()
    if not np.isfinite(bad):
        assert fit.status[8, 3, 2] == Status.NOT_FINITE
        assert (fit.denoised[8, 3, 2] == 0).all()
        assert fit.sigma[7, 3, 2] == pytest.approx(good.sigma[7, 3, 2], rel=0.5)


@pytest.mark.parametrize(("n_meas", "extent"), [(20, 3), (40, 3), (90, 5)])
def test_the_number_of_threads_does_not_change_a_bit(n_meas, extent):
    image, _ = make_image((9, 8, 7), n_meas)
    most = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = fit_mppca(image, extent=extent)
    finally:
        numba.set_num_threads(most)
    two = fit_mppca(image, extent=extent)
    np.testing.assert_array_equal(one.denoised, two.denoised)
    np.testing.assert_array_equal(one.sigma, two.sigma)


@pytest.mark.parametrize(("n_meas", "extent"), [(20, 3), (40, 3)])
def test_memory_order_dtype_and_volume_order_do_not_matter(n_meas, extent):
    image, _ = make_image((7, 8, 6), n_meas)
    image = np.asfortranarray(np.rint(image))
    fit = fit_mppca(image, extent=extent)
    for other in (np.ascontiguousarray(image), image.astype(np.int16), image.astype(np.float64), image[::1, ::1]):
        again = fit_mppca(other, extent=extent)
        assert again.denoised.dtype == np.float32
        np.testing.assert_array_equal(again.denoised, fit.denoised)
    order = np.random.default_rng(0).permutation(n_meas)
    np.testing.assert_allclose(
        fit_mppca(image[..., order], extent=extent).denoised, fit.denoised[..., order], rtol=1e-5
    )
    np.testing.assert_allclose(fit_mppca(image * 1e-3, extent=extent).denoised, fit.denoised * 1e-3, rtol=1e-4)


def test_a_mask_changes_nothing_inside_it():
    image, _ = make_image((9, 8, 7), 20)
    mask = np.zeros(image.shape[:3], bool)
    mask[0, 0, 0] = mask[4, 3] = mask[8, 7, 6] = True
    whole, part = fit_mppca(image, extent=3), fit_mppca(image, mask, extent=3)
    # which sums a patch is made of depends on what else is needed; rounding may differ, the answer does not
    np.testing.assert_allclose(part.denoised[mask], whole.denoised[mask], rtol=1e-5)
    assert (part.status[~mask] == Status.OUTSIDE).all()


def test_zero_background_is_zero_and_constant_volumes_stay():
    image, _ = make_image((12, 6, 5), 20)
    image[:6] = 0
    image[..., 3] = 7.0
    image[:6, ..., 3] = 0
    fit = fit_mppca(image, extent=3)
    assert (fit.denoised[:5] == 0).all()
    assert (fit.status[:5] == Status.NO_SIGNAL).all()
    assert np.isfinite(fit.denoised).all()
    np.testing.assert_allclose(fit.denoised[8:, ..., 3], 7.0, atol=3.0)
    nothing = fit_mppca(np.zeros((5, 5, 5, 10), np.float32))
    assert (nothing.denoised == 0).all()
    assert (nothing.sigma == 0).all()


def test_without_noise_nothing_changes():
    _, clean = make_image((9, 8, 7), 40, rank=3)
    image = clean.astype(np.float32)
    np.testing.assert_allclose(fit_mppca(image, extent=5).denoised, image, rtol=1e-4)
    same = np.full((6, 6, 6, 30), 5.0, np.float32)
    np.testing.assert_allclose(fit_mppca(same).denoised, same, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "n_meas", "extent", "expected"),
    [
        ((60, 60, 60), 27, None, (3, 3, 3)),
        ((60, 60, 60), 28, None, (5, 5, 5)),
        ((60, 60, 60), 125, None, (5, 5, 5)),
        ((60, 60, 60), 193, None, (7, 7, 7)),
        ((104, 104, 2), 103, None, (11, 11, 1)),
        ((104, 104, 3), 103, None, (7, 7, 3)),
        ((104, 104, 1), 20, None, (5, 5, 1)),
        ((4, 4, 4), 193, None, (3, 3, 3)),
        ((60, 60, 60), 193, 5, (5, 5, 5)),
        ((60, 60, 60), 193, (5, 3, 1), (5, 3, 1)),
    ],
)
def test_the_patch_is_a_cube_that_grows_sideways_in_a_slab(shape, n_meas, extent, expected):
    assert choose_extent(shape, n_meas, extent) == expected


def test_a_patch_thicker_than_the_slab_is_cut_and_said_so():
    image, _ = make_image((9, 9, 2), 20)
    with pytest.warns(InputWarning, match="5 x 5 x 5 voxels does not fit an image of 9 x 9 x 2; 5 x 5 x 1 is used"):
        fit = fit_mppca(image, extent=5)
    assert fit.extent == (5, 5, 1)
    np.testing.assert_array_equal(fit.denoised, fit_mppca(image, extent=(5, 5, 1)).denoised)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((5, 5, 5, 9), {"extent": 4}, "odd numbers of voxels; found 4"),
        ((5, 5, 5, 9), {"extent": (3, 3)}, "one or three odd"),
        ((5, 5, 5, 9), {"extent": 1}, "patches of several voxels"),
        ((5, 5, 5, 9), {"estimator": "exp3"}, '"exp1" or "exp2"; found \'exp3\''),
        ((5, 5, 5, 1), {}, "at least 2 volumes"),
        ((5, 5, 5), {}, "at least 2 volumes"),
        ((5, 5, 5, 9), {"mask": np.ones((5, 5, 4))}, r"the mask has shape \(5, 5, 4\)"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence(shape, options, message):
    with pytest.raises(InputError, match=message):
        fit_mppca(np.ones(shape, np.float32), **options)


def test_dwidenoise_is_where_the_tests_look_for_it(mrtrix):
    assert (Path(mrtrix) / "dwidenoise").exists()
