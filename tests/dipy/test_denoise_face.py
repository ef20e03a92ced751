"""Patch2Self under DIPY's name, against DIPY's own and scikit-learn."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from arcuate import dipy as face
from arcuate.errors import InputError


def make_data(seed=0):
    rng = np.random.default_rng(seed)
    clean = (rng.gamma(2.0, 50.0, size=(3000, 5)) @ rng.uniform(0.2, 1, size=(5, 24))).reshape(15, 20, 10, 24)
    return clean + rng.normal(scale=5, size=clean.shape), clean, np.where(np.arange(24) % 8 == 0, 0.0, 1000.0)


def test_the_signature_is_dipys():
    from dipy.denoise.patch2self import patch2self as peer

    ours, theirs = (inspect.signature(f).parameters for f in (face.patch2self, inspect.unwrap(peer)))
    assert list(ours) == list(theirs)
    assert {n: p.default for n, p in ours.items()} == {n: p.default for n, p in theirs.items()}


@pytest.mark.parametrize("version", [1, 3])
@pytest.mark.parametrize("order", ["C", "F"])
def test_float64_data_equals_scikit_learn_to_rounding(version, order, tmp_path):
    from sklearn.linear_model import LinearRegression

    data, _, bvals = make_data()
    data = np.array(data, order=order)
    found = face.patch2self(data, bvals, version=version, tmp_dir=str(tmp_path))
    assert found.dtype == np.float64
    rows, result = data.reshape(-1, 24), found.reshape(-1, 24)
    for j in (0, 1, 16, 23):
        others = np.flatnonzero(bvals == bvals[j])
        others = others[others != j]
        expected = LinearRegression().fit(rows[:, others], rows[:, j]).predict(rows[:, others])
        np.testing.assert_allclose(result[:, j], expected, rtol=1e-9, atol=1e-9)


def test_dipys_sketch_comes_near_the_exact_answer():
    from dipy.denoise.patch2self import patch2self as peer

    data, clean, bvals = make_data()
    exact = face.patch2self(data, bvals)
    sketched = peer(data, bvals, shift_intensity=False, version=3)
    assert np.linalg.norm(exact - sketched) < 0.1 * np.linalg.norm(exact)
    assert np.linalg.norm(exact - clean) <= np.linalg.norm(sketched - clean) * 1.02


def test_dtypes_b0_and_clipping_follow_the_arguments():
    data, _, bvals = make_data()
    data -= 150
    plain = face.patch2self(data, bvals)
    assert plain.min() < 0
    np.testing.assert_array_equal(face.patch2self(data, bvals, clip_negative_vals=True), np.maximum(plain, 0))
    np.testing.assert_array_equal(face.patch2self(data, bvals, b0_denoising=False)[..., ::8], data[..., ::8])
    assert face.patch2self(data, bvals, out_dtype=np.float32).dtype == np.float32
    whole = np.rint(data).astype(np.int16)
    assert face.patch2self(whole, bvals).dtype == np.int16
    np.testing.assert_allclose(face.patch2self(whole, bvals), plain, atol=1.5)


def test_estimators_of_scikit_learn_are_understood():
    from sklearn.linear_model import Lasso, LinearRegression, Ridge

    data, _, bvals = make_data()
    np.testing.assert_array_equal(face.patch2self(data, bvals, model=LinearRegression()), face.patch2self(data, bvals))
    np.testing.assert_array_equal(
        face.patch2self(data, bvals, model=Ridge(alpha=50.0)), face.patch2self(data, bvals, model="ridge", alpha=50.0)
    )
    for model in ("lasso", Lasso()):
        with pytest.raises(InputError, match='expected "ols", "ridge"'):
            face.patch2self(data, bvals, model=model)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"patch_radius": 1}, "only 0"), ({"version": 7}, "expected 1 or 3")],
)
def test_what_is_not_offered_is_refused(options, message):
    data, _, bvals = make_data()
    with pytest.raises(InputError, match=message):
        face.patch2self(data, bvals, **options)
    with pytest.raises(InputError, match="a b-value per volume"):
        face.patch2self(data, bvals[1:])
