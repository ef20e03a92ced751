from __future__ import annotations

import warnings

import numpy as np
import pytest

import arcuate.dipy as face
from arcuate.phantom import simulate_rows, three_shell_gradients

peer = pytest.importorskip("dipy.reconst.mcsd", reason="dipy is not installed")
core = pytest.importorskip("dipy.core.gradients")
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")


@pytest.fixture(scope="module")
def scan():
    gradients = three_shell_gradients()
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(216, 3))
    rows = simulate_rows(
        gradients,
        directions / np.linalg.norm(directions, axis=1, keepdims=True),
        ndi=0.7,
        odi=np.repeat([0.02, 0.9, 0.5], 72),
        fwf=np.repeat([0.0, 0.0, 1.0], 72),
        s0=1000.0,
    )
    return core.gradient_table(gradients.bvals, bvecs=gradients.directions), rows.reshape(6, 6, 6, -1)


def test_masks_and_responses_are_those_of_dipy(scan) -> None:
    gtab, data = scan
    options = {"roi_radii": 3, "wm_fa_thr": 0.5, "csf_md_thr": 0.005, "gm_md_thr": 0.0012, "gm_fa_thr": 0.3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, theirs = (
            face.mask_for_response_msmt(gtab, data, **options),
            peer.mask_for_response_msmt(gtab, data, **options),
        )
        assert all(mask.any() for mask in theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert np.array_equal(a, b)
        for a, b in zip(
            face.response_from_mask_msmt(gtab, data, *ours),
            peer.response_from_mask_msmt(gtab, data, *theirs),
            strict=True,
        ):
            assert a.shape == b.shape
            assert np.allclose(a, b, rtol=1e-6)
        for a, b in zip(
            face.auto_response_msmt(gtab, data, **options), peer.auto_response_msmt(gtab, data, **options), strict=True
        ):
            assert np.allclose(a, b, rtol=1e-6)


def test_the_multi_shell_response_is_that_of_dipy(scan) -> None:
    gtab, _ = scan
    rf = np.array([[1.7e-3, 3e-4, 3e-4, 900.0]] * 3)
    args = {"gm_rf": rf * [0.5, 2, 2, 1], "csf_rf": rf * [1.8, 10, 10, 3]}
    bvals = core.unique_bvals_tolerance(gtab.bvals)
    theirs = peer.multi_shell_fiber_response(8, bvals, rf, **args)
    ours = face.multi_shell_fiber_response(8, bvals, rf, **args)
    assert np.allclose(ours.response, theirs.response, rtol=1e-6, atol=1e-6)
    assert ours.iso == theirs.iso == 2
    assert np.allclose(ours.S0, theirs.S0)


@pytest.mark.parametrize("bvals", [[0, 5, 995, 1000, 1005, 2990, 3000, 3010], [0, 10, 25, 700, 715, 735, 1000]])
def test_b_values_are_grouped_as_dipy_groups_them(bvals: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(face.unique_bvals_tolerance(bvals), core.unique_bvals_tolerance(np.array(bvals)))


def test_the_matrices_of_the_model_are_those_of_dipy(scan, monkeypatch: pytest.MonkeyPatch) -> None:
    gtab, data = scan
    rf = np.array([[1.7e-3, 3e-4, 3e-4, 900.0]] * 3)
    bvals = core.unique_bvals_tolerance(gtab.bvals)
    response = peer.multi_shell_fiber_response(8, bvals, rf, rf * [0.5, 2, 2, 1], rf * [1.8, 10, 10, 3])
    theirs, ours = peer.MultiShellDeconvModel(gtab, response), face.MultiShellDeconvModel(gtab, response)
    assert np.allclose(ours._X, theirs._X, atol=1e-8 * np.abs(theirs._X).max())
    assert np.allclose(ours._reg, theirs.fitter._reg, atol=1e-12)
    fit = ours.fit(data)
    assert fit.shm_coeff.shape == (6, 6, 6, 45)
    assert fit.all_shm_coeff.shape == (6, 6, 6, 47)
    assert fit.volume_fractions.shape == (6, 6, 6, 3)
    assert np.allclose(ours.predict(fit.all_shm_coeff), theirs.predict(fit.all_shm_coeff))
    assert (fit.all_shm_coeff @ theirs.fitter._reg.T).min() > -1e-9
    assert fit.odf(face.default_sphere).shape == (6, 6, 6, 362)


def test_a_response_of_the_wrong_shape_is_refused_as_by_dipy(scan) -> None:
    gtab, _ = scan
    with pytest.raises(ValueError, match="at least 2 tissue compartments"):
        face.MultiShellDeconvModel(gtab, np.zeros((3, 3, 4)), iso=1)
    with pytest.raises(ValueError, match="Response must be of shape"):
        face.MultiShellDeconvModel(gtab, np.zeros((3, 2, 4)))


def test_voxels_outside_the_mask_are_zero_and_bad_ones_are_nan(scan) -> None:
    gtab, data = scan
    rf = np.array([[1.7e-3, 3e-4, 3e-4, 900.0]] * 3)
    model = face.MultiShellDeconvModel(gtab, np.stack([rf, rf * [0.5, 2, 2, 1], rf * [1.8, 10, 10, 3]]))
    data = data.copy()
    data[0, 0, 0, 5] = np.nan
    mask = np.zeros((6, 6, 6), bool)
    mask[0] = True
    with pytest.warns(UserWarning, match="1 voxels hold signals that are not finite"):
        fit = model.fit(data, mask=mask)
    assert np.isnan(fit.shm_coeff[0, 0, 0]).all()
    assert not fit.shm_coeff[1:].any()
