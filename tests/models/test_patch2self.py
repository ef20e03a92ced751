"""Patch2Self: every volume equal to its own regression by scikit-learn."""

from __future__ import annotations

import re
import subprocess
import sys

import nibabel as nib
import numba
import numpy as np
import pytest

from arcuate.errors import InputError, InputWarning
from arcuate.models.patch2self import BLOCK, fit_patch2self
from arcuate.models.status import Status


def make_signals(n_vox=5000, n_meas=30, *, sigma=5.0, seed=0):
    """Volumes that share six patterns, with noise: (noisy, clean) float32."""
    rng = np.random.default_rng(seed)
    clean = rng.gamma(2.0, 50.0, size=(n_vox, 6)) @ rng.uniform(0.2, 1, size=(6, n_meas))
    return np.asfortranarray((clean + rng.normal(scale=sigma, size=clean.shape)).astype(np.float32)), clean


def assert_equals_sklearn(signals, is_b0, fit, regressor, volumes):
    rows = signals.astype(np.float64)
    for j in volumes:
        others = np.flatnonzero(is_b0 == is_b0[j])
        others = others[others != j]
        expected = regressor.fit(rows[:, others], rows[:, j]).predict(rows[:, others])
        assert np.linalg.norm(fit.denoised[:, j] - expected) <= 1e-6 * np.linalg.norm(expected)
        assert np.abs(fit.denoised[:, j] - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("model", "alpha"), [("ols", 1.0), ("ridge", 1.0), ("ridge", 1e5)])
def test_equals_scikit_learn_volume_by_volume(order, model, alpha):
    from sklearn.linear_model import LinearRegression, Ridge

    signals = np.array(make_signals(2 * BLOCK + 77)[0], order=order)
    is_b0 = np.arange(30) % 6 == 0
    fit = fit_patch2self(signals, is_b0, model=model, alpha=alpha)
    regressor = LinearRegression() if model == "ols" else Ridge(alpha)
    assert_equals_sklearn(signals, is_b0, fit, regressor, range(30))
    assert fit.denoised.flags.f_contiguous == (order == "F")


def test_equals_scikit_learn_on_a_real_scan(data_dir):
    from sklearn.linear_model import LinearRegression

    folder = data_dir / "mdt_b1k_b2k"
    image = np.asarray(nib.load(folder / "sub-mdt_dwi.nii.gz").dataobj)
    is_b0 = np.loadtxt(folder / "sub-mdt_dwi.bval") <= 50
    rows = image.reshape(-1, image.shape[3], order="F")
    fit = fit_patch2self(rows, is_b0)
    assert_equals_sklearn(rows, is_b0, fit, LinearRegression(), range(0, 103, 6))


def test_a_mean_far_above_the_variation_loses_nothing():
    from sklearn.linear_model import LinearRegression

    signals = (make_signals(4000, 8)[0].astype(float) * 0.01 + 1e5).astype(np.float64)
    out = np.empty_like(signals)
    fit = fit_patch2self(signals, np.zeros(8, bool), out=out)
    assert fit.denoised is out
    others = np.arange(1, 8)
    expected = LinearRegression().fit(signals[:, others], signals[:, 0]).predict(signals[:, others])
    np.testing.assert_allclose(out[:, 0] - 1e5, expected - 1e5, rtol=1e-6, atol=1e-6)


def test_the_error_falls_and_the_noise_is_found():
    signals, clean = make_signals(20000, 60, sigma=6.0)
    fit = fit_patch2self(signals, np.zeros(60, bool))
    before, after = (np.sqrt(((a - clean) ** 2).mean()) for a in (signals, fit.denoised))
    assert after < 0.5 * before
    assert np.sqrt((fit.sigma**2).mean()) == pytest.approx(6.0, rel=0.02)


def test_the_number_of_threads_does_not_change_a_bit():
    signals, _ = make_signals(40000)
    most = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = fit_patch2self(signals, np.arange(30) < 3)
    finally:
        numba.set_num_threads(most)
    two = fit_patch2self(signals, np.arange(30) < 3)
    again = fit_patch2self(signals, np.arange(30) < 3)
    for other in (two, again):
        np.testing.assert_array_equal(one.denoised, other.denoised)
        np.testing.assert_array_equal(one.sigma, other.sigma)


def test_order_and_scale_of_the_volumes_do_not_matter():
    signals, _ = make_signals()
    is_b0 = np.arange(30) < 4
    fit = fit_patch2self(signals, is_b0)
    order = np.random.default_rng(3).permutation(30)
    moved = fit_patch2self(signals[:, order], is_b0[order])
    np.testing.assert_allclose(moved.denoised, fit.denoised[:, order], rtol=1e-5, atol=1e-4)
    scaled = fit_patch2self(signals * np.float32(1e-6), is_b0)
    np.testing.assert_allclose(scaled.denoised * 1e6, fit.denoised, rtol=1e-4, atol=1e-3)


def test_kinds_do_not_mix_and_a_single_b0_is_passed_through():
    signals, _ = make_signals()
    fit = fit_patch2self(signals, np.arange(30) == 7)
    np.testing.assert_array_equal(fit.denoised[:, 7], signals[:, 7])
    changed = signals.copy()
    changed[:, 7] *= 3
    others = np.arange(30) != 7
    np.testing.assert_array_equal(
        fit_patch2self(changed, np.arange(30) == 7).denoised[:, others], fit.denoised[:, others]
    )
    kept = fit_patch2self(signals, np.arange(30) < 5, b0_denoising=False)
    np.testing.assert_array_equal(kept.denoised[:, :5], signals[:, :5])
    assert not kept.is_predicted[:5].any()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_voxel_that_is_not_finite_is_zero_and_the_rest_is_as_without_it(bad, order):
    signals, _ = make_signals()
    without = fit_patch2self(np.delete(signals, 100, axis=0), np.arange(30) < 2)
    signals = np.array(signals, order=order)
    signals[100, 5] = bad
    fit = fit_patch2self(signals, np.arange(30) < 2)
    assert fit.status[100] == Status.NOT_FINITE
    assert (fit.denoised[100] == 0).all()
    assert fit.sigma[100] == 0
    np.testing.assert_allclose(np.delete(fit.denoised, 100, axis=0), without.denoised, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", ["identical", "constant", "zero", "sum of two"])
def test_volumes_that_others_determine_are_returned_and_said(kind):
    from sklearn.linear_model import LinearRegression

    signals = make_signals()[0].astype(np.float64)
    signals[:, 3] = {
        "identical": signals[:, 9], "constant": 12.5, "zero": 0.0, "sum of two": signals[:, 9] + signals[:, 11]
    }[kind]  # fmt: skip
    n_determined = {"identical": 2, "constant": 1, "zero": 1, "sum of two": 3}[kind]
    with pytest.warns(InputWarning, match=f"{n_determined} of 30 volumes are constant, identical"):
        fit = fit_patch2self(signals, np.zeros(30, bool))
    np.testing.assert_allclose(fit.denoised[:, 3], signals[:, 3], rtol=1e-6)
    assert_equals_sklearn(signals, np.zeros(30, bool), fit, LinearRegression(), [0, 3, 9, 20])
    np.testing.assert_allclose(np.sqrt((fit.sigma**2).mean()), 5.0, rtol=0.05)


def test_more_volumes_than_voxels_are_returned_as_they_are():
    signals, _ = make_signals(12, 30)
    with pytest.warns(InputWarning, match="30 of 30 volumes"):
        fit = fit_patch2self(signals, np.zeros(30, bool))
    np.testing.assert_allclose(fit.denoised, signals, rtol=1e-6)


def test_an_image_of_zeros_stays_zero():
    with pytest.warns(InputWarning, match="6 of 6 volumes"):
        fit = fit_patch2self(np.zeros((100, 6), np.float32), np.zeros(6, bool))
    assert (fit.denoised == 0).all()


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float64, np.float16])
def test_other_dtypes_are_read_block_by_block(dtype):
    signals = np.rint(make_signals()[0]).clip(0, 2000)
    expected = fit_patch2self(signals, np.zeros(30, bool)).denoised
    fit = fit_patch2self(signals.astype(dtype), np.zeros(30, bool))
    assert fit.denoised.dtype == np.float32
    np.testing.assert_allclose(
        fit.denoised, expected, rtol=1e-3 if dtype == np.float16 else 1e-6, atol=2e-4 if dtype != np.float16 else 1.0
    )


def test_one_weighted_volume_among_many_b0_is_passed_through_and_said():
    signals, _ = make_signals(3000, 6)
    with pytest.warns(InputWarning, match="only weighted volume"):
        fit = fit_patch2self(signals, np.arange(6) < 5)
    np.testing.assert_array_equal(fit.denoised[:, 5], signals[:, 5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_b0": np.array([True, False])}, "found 1 weighted and 1 b=0 volumes, expected at least 2"),
        ({"is_b0": np.zeros(3, bool)}, "do not fit"),
        ({"model": "lasso"}, re.escape("found the regression 'lasso'")),
        ({"model": "ridge", "alpha": -1.0}, "0 or above; found -1"),
        ({"model": "ridge", "alpha": np.inf}, "0 or above; found inf"),
        ({"signals": np.full((5, 2), np.nan)}, "no voxel whose signals are all finite"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence(change, message):
    arguments = {"signals": np.ones((5, 2)), "is_b0": np.zeros(2, bool)} | change
    with pytest.raises(InputError, match=message):
        fit_patch2self(arguments.pop("signals"), arguments.pop("is_b0"), **arguments)


PEAK = """
import re, numpy as np
from pathlib import Path
from arcuate.models.patch2self import fit_patch2self
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
rng = np.random.default_rng(0)
fit_patch2self(rng.normal(size=(5000, 64)).astype(np.float32), np.zeros(64, bool))
image = np.empty((600_000, 64), np.float32, order="{order}")
for start in range(0, len(image), 10_000):
    image[start:start + 10_000] = rng.normal(size=(10_000, 64))
before = peak()
fit_patch2self(image, np.zeros(64, bool))
print((peak() - before) / image.nbytes)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak memory from /proc")
@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_is_the_result_and_a_few_blocks(order):
    code = PEAK.format(order=order)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 1.35  # the image itself was there before: 2.35 of it in all


@pytest.mark.parametrize("snr", [None, 20.0])
def test_equals_scikit_learn_on_the_phantom(snr):
    from sklearn.linear_model import LinearRegression

    from arcuate.phantom import make_phantom, three_shell_gradients

    phantom = make_phantom(three_shell_gradients(n_directions=24), (24, 28, 20), voxel_size=7.0, snr=snr)
    rows = phantom.signal.reshape(-1, 73)
    fit = fit_patch2self(rows, phantom.gradients.is_b0)
    np.testing.assert_array_equal(fit.denoised[:, 0], rows[:, 0])
    assert_equals_sklearn(rows, phantom.gradients.is_b0, fit, LinearRegression(), range(1, 73, 9))
