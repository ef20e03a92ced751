"""Kurtosis with DIPY's names against DIPY on the same arrays."""

from __future__ import annotations

import numpy as np
import pytest

from arcuate import dipy as face
from arcuate.errors import InputError


def _scan() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """b-values, b-vectors and noisy signals (4, 3, 2, g) of two pools."""
    rng = np.random.default_rng(0)
    bvals = np.r_[0.0, 0.0, np.full(25, 1000.0), np.full(30, 2000.0)]
    bvecs = rng.normal(size=(len(bvals), 3))
    bvecs /= np.linalg.norm(bvecs, axis=1, keepdims=True)
    bvecs[:2] = 0
    data = np.zeros((4, 3, 2, len(bvals)))
    for share in (0.6, 0.4):
        turns = np.linalg.qr(rng.normal(size=(4, 3, 2, 3, 3)))[0]
        tensors = np.einsum("...ij,...j,...kj->...ik", turns, rng.uniform(0.3e-3, 2e-3, (4, 3, 2, 3)), turns)
        data += 900 * share * np.exp(-bvals * np.einsum("mi,...ij,mj->...m", bvecs, tensors, bvecs))
    return bvals, bvecs, data + rng.normal(scale=10, size=data.shape)


@pytest.mark.parametrize("method", ["WLS", "OLS"])
@pytest.mark.parametrize("table", ["arcuate", "dipy"])
def test_parameters_and_measures_are_dipys(method, table):
    import dipy.reconst.dki as peer
    from dipy.core.gradients import gradient_table

    bvals, bvecs, data = _scan()
    theirs = gradient_table(bvals, bvecs=bvecs)
    ours = theirs if table == "dipy" else face.gradient_table(bvals, bvecs=bvecs)
    mask = np.ones(data.shape[:3], dtype=bool)
    mask[0] = False
    fit = face.DiffusionKurtosisModel(ours, fit_method=method, return_S0_hat=True).fit(data, mask=mask)
    expected = peer.DiffusionKurtosisModel(theirs, fit_method=method, return_S0_hat=True).fit(data, mask=mask)
    np.testing.assert_allclose(fit.evals, expected.evals, rtol=0, atol=1e-11)
    np.testing.assert_allclose(fit.kt, expected.kt, rtol=0, atol=1e-7)
    np.testing.assert_allclose(fit.quadratic_form, expected.quadratic_form, rtol=0, atol=1e-11)
    np.testing.assert_allclose(fit.fa, expected.fa, rtol=0, atol=1e-8)
    np.testing.assert_allclose(fit.kfa, expected.kfa, rtol=0, atol=1e-7)
    for name in ("ak", "mkt", "rtk"):
        np.testing.assert_allclose(getattr(fit, name)(), getattr(expected, name)(), rtol=0, atol=1e-6)
    for name in ("mk", "rk"):
        np.testing.assert_allclose(getattr(fit, name)(), getattr(expected, name)(), rtol=0, atol=5e-3)
        np.testing.assert_array_equal(getattr(fit, name)(max_kurtosis=0.1).max(), 0.1)
    sphere = face.get_sphere("repulsion100")
    np.testing.assert_allclose(fit.akc(sphere)[mask], expected.akc(sphere)[mask], rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        fit.predict(ours, S0=500.0)[mask], expected.predict(theirs, S0=500.0)[mask], rtol=1e-6, atol=1e-6
    )
    for gtol in (None, 1e-5):
        highest = fit.kmax(gtol=gtol, mask=mask)
        np.testing.assert_allclose(highest[mask], expected[mask].kmax(gtol=gtol), rtol=0, atol=1e-5)
        assert not highest[~mask].any()
    np.testing.assert_allclose(fit.S0_hat[mask], expected.S0_hat[mask], rtol=1e-8)
    assert not fit.model_params[~mask].any()
    assert fit[1, 2].mk().shape == (2,)


def test_the_highest_kurtosis_is_above_that_of_every_direction():
    bvals, bvecs, data = _scan()
    fit = face.DiffusionKurtosisModel(face.gradient_table(bvals, bvecs=bvecs)).fit(data)
    along = fit.akc(face.get_sphere("repulsion724").subdivide()).max(axis=-1)
    assert np.all(fit.kmax() >= along - 1e-12)
    np.testing.assert_allclose(fit.kmax(), along, rtol=1e-2)


def test_fits_that_are_not_offered_are_refused_by_name():
    bvals, bvecs, _ = _scan()
    with pytest.raises(InputError, match=r"fit method 'CWLS'.*DIPY's own model"):
        face.DiffusionKurtosisModel(face.gradient_table(bvals, bvecs=bvecs), fit_method="CWLS")
    with pytest.raises(InputError, match=r"3 different b-values .*found 2"):
        face.DiffusionKurtosisModel(face.gradient_table(bvals[:27], bvecs=bvecs[:27]))
