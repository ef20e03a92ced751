"""Free water with DIPY's names against DIPY on the same arrays."""

from __future__ import annotations

import numpy as np
import pytest

from arcuate import dipy as face
from arcuate.errors import InputError


def _scan() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """b-values, b-vectors and signals (4, 3, 2, g) of tissue and up to half of water."""
    rng = np.random.default_rng(0)
    bvals = np.r_[0.0, 0.0, np.full(25, 1000.0), np.full(30, 2000.0)]
    bvecs = rng.normal(size=(len(bvals), 3))
    bvecs /= np.linalg.norm(bvecs, axis=1, keepdims=True)
    bvecs[:2] = 0
    turns = np.linalg.qr(rng.normal(size=(4, 3, 2, 3, 3)))[0]
    evals = rng.uniform(0.3e-3, 1.5e-3, (4, 3, 2, 3))
    along = ((np.einsum("...ji,mj->...mi", turns, bvecs) ** 2) * evals[..., None, :]).sum(axis=-1)
    share = rng.uniform(0, 0.5, (4, 3, 2, 1))
    data = 900 * ((1 - share) * np.exp(-bvals * along) + share * np.exp(-3e-3 * bvals))
    return bvals, bvecs, data + rng.normal(scale=4, size=data.shape)


@pytest.mark.parametrize("table", ["arcuate", "dipy"])
def test_parameters_and_measures_are_dipys(table):
    from dipy.core.gradients import gradient_table
    from dipy.reconst.fwdti import FreeWaterTensorModel as Peer

    bvals, bvecs, data = _scan()
    theirs = gradient_table(bvals, bvecs=bvecs)
    ours = theirs if table == "dipy" else face.gradient_table(bvals, bvecs=bvecs)
    mask = np.ones(data.shape[:3], dtype=bool)
    mask[0] = False
    fit = face.FreeWaterTensorModel(ours, fit_method="WLS").fit(data, mask=mask)
    expected = Peer(theirs, fit_method="WLS").fit(data, mask=mask)
    np.testing.assert_allclose(fit.f, expected.f, rtol=0, atol=1e-9)
    np.testing.assert_allclose(fit.evals, expected.evals, rtol=0, atol=1e-10)
    np.testing.assert_allclose(fit.fa, expected.fa, rtol=0, atol=1e-7)
    np.testing.assert_allclose(fit.quadratic_form[mask], expected.quadratic_form[mask], rtol=0, atol=1e-10)
    np.testing.assert_allclose(
        fit.predict(ours, S0=500.0)[mask], expected.predict(theirs, S0=500.0)[mask], rtol=1e-6, atol=1e-6
    )
    assert not fit.model_params[~mask].any()
    assert fit[1, 2].f.shape == (2,)


@pytest.mark.parametrize("scale", [1.0, 1e-3], ids=["as scanned", "small numbers"])
def test_the_default_fit_is_dipys_nonlinear_one(scale):
    from dipy.core.gradients import gradient_table
    from dipy.reconst.fwdti import FreeWaterTensorModel as Peer

    bvals, bvecs, data = _scan()
    data = scale * data
    gtab = gradient_table(bvals, bvecs=bvecs)
    fit, expected = face.FreeWaterTensorModel(gtab).fit(data), Peer(gtab).fit(data)
    linear = face.FreeWaterTensorModel(gtab, fit_method="WLS").fit(data)
    np.testing.assert_allclose(fit.f, expected.f, rtol=0, atol=2e-6)
    np.testing.assert_allclose(fit.evals, expected.evals, rtol=0, atol=1e-8)
    np.testing.assert_allclose(fit.fa, expected.fa, rtol=0, atol=1e-5)
    assert np.abs(fit.f - linear.f).max() > 1e-4, "else the search had said it all"
    s0 = scale * 900.0
    rest = [np.sum((data - m.predict(gtab, S0=s0)) ** 2) for m in (fit, expected)]
    assert rest[0] == pytest.approx(rest[1], rel=1e-6)


def test_nonlinear_fits_of_odd_voxels_are_finite_and_dipys_where_dipys_are():
    """Water alone, one tensor alone, an isotropic voxel, no signal."""
    from dipy.core.gradients import gradient_table
    from dipy.reconst.fwdti import FreeWaterTensorModel as Peer

    bvals, bvecs, _ = _scan()
    along = bvecs[:, 0] ** 2 * 1.5e-3 + (1 - bvecs[:, 0] ** 2) * 0.3e-3
    rows = np.stack([
        np.exp(-3e-3 * bvals), np.exp(-bvals * along), np.exp(-0.7e-3 * bvals), np.zeros_like(bvals),
        0.5 * np.exp(-0.7e-3 * bvals) + 0.5 * np.exp(-3e-3 * bvals),
    ])[:, None, None]  # fmt: skip
    gtab = gradient_table(bvals, bvecs=bvecs)
    fit, expected = face.FreeWaterTensorModel(gtab).fit(1000 * rows), Peer(gtab).fit(1000 * rows)
    assert np.all(np.isfinite(fit.model_params))
    np.testing.assert_allclose(fit.f, expected.f, rtol=0, atol=1e-4)
    np.testing.assert_allclose(fit.evals, expected.evals, rtol=0, atol=1e-7)
    np.testing.assert_allclose(fit.f[[1, 2, 4], 0, 0], [0, 0, 0.5], atol=1e-4)
    assert face.FreeWaterTensorModel(gtab).fit(rows, mask=np.zeros(rows.shape[:3], bool)).f.sum() == 0


def test_what_is_not_offered_is_refused_by_name():
    bvals, bvecs, _ = _scan()
    with pytest.raises(InputError, match=r"fit method 'RESTORE'; expected one of WLS, WLLS, NLS, NLLS"):
        face.FreeWaterTensorModel(face.gradient_table(bvals, bvecs=bvecs), fit_method="RESTORE")
    with pytest.raises(InputError, match=r"other values of cholesky, weighting than DIPY's defaults"):
        face.FreeWaterTensorModel(face.gradient_table(bvals, bvecs=bvecs), cholesky=True, weighting="gmm")
    with pytest.raises(InputError, match=r"3 different b-values.*found 2"):
        face.FreeWaterTensorModel(face.gradient_table(bvals[:27], bvecs=bvecs[:27]), fit_method="WLS")
