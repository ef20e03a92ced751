"""The tensor with DIPY's names: equal to DIPY, and DIPY's own tests pass on it."""

from __future__ import annotations

import importlib
import inspect
import types
import warnings

import dipy.core.gradients as peer_gradients
import dipy.reconst.dti as peer
import numpy as np
import pytest

from arcuate import dipy as face
from arcuate.dipy import gradients as face_gradients
from arcuate.dipy import tensor as face_tensor
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource


def _table(n: int = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    bvecs = rng.normal(size=(2 * n + 2, 3))
    bvecs /= np.linalg.norm(bvecs, axis=1, keepdims=True)
    bvecs[:2] = 0
    return np.repeat([0.0, 1000.0, 2500.0], [2, n, n]), bvecs


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    """(5, 6, 7, 42) noisy signals of tensors, with zero and negative values, one empty voxel."""
    bvals, bvecs = _table()
    rng = np.random.default_rng(1)
    turns = np.linalg.qr(rng.normal(size=(210, 3, 3)))[0]
    tensors = np.einsum("vij,vj,vkj->vik", turns, rng.uniform(0, 3e-3, (210, 3)), turns)
    signals = 300 * np.exp(-bvals * np.einsum("mi,vij,mj->vm", bvecs, tensors, bvecs))
    signals = signals + rng.normal(scale=10, size=signals.shape)
    signals[7] = 0
    return signals.reshape(5, 6, 7, 42)


MAPS = (
    "fa", "md", "ad", "rd", "trace", "ga", "mode", "linearity", "planarity", "sphericity", "evals", "quadratic_form",
    "S0_hat",
)  # fmt: skip


def _assert_same_fit(ours: face.TensorFit, theirs: peer.TensorFit, rtol: float = 1e-6) -> None:
    assert ours.shape == theirs.shape
    assert ours.model_params.shape == theirs.model_params.shape
    is_anisotropic = theirs.fa > 1e-3  # elsewhere the mode is that of rounding
    for name in MAPS:
        if name in ("ga", "mode") and not ours.shape:
            continue  # DIPY's own fail on a single voxel
        with np.errstate(invalid="ignore"):
            expected = getattr(theirs, name)
        if expected is None:
            assert getattr(ours, name) is None
            continue
        size = np.nanmax(np.abs(expected)) or 1.0
        found = getattr(ours, name)
        if name == "mode":
            found, expected = found[is_anisotropic], expected[is_anisotropic]
        np.testing.assert_allclose(found / size, expected / size, rtol=0, atol=rtol, err_msg=name)
    gaps = np.diff(theirs.evals, axis=-1)
    is_clear = np.all(gaps < -1e-3 * theirs.evals[..., :1], axis=-1) & (theirs.evals[..., 2] > 1e-7)
    cosines = np.abs(np.sum(ours.evecs * theirs.evecs, axis=-2))
    np.testing.assert_allclose(cosines[is_clear], 1, atol=1e-7)
    np.testing.assert_allclose(ours.color_fa[is_clear], theirs.color_fa[is_clear], atol=1e-4)
    assert ours.directions.shape == theirs.directions.shape


@pytest.mark.parametrize("method", ["WLS", "OLS", "LS", "wls"])
@pytest.mark.parametrize("whose", ["ours", "DIPY's"])
def test_equals_dipy_on_all_volumes(data, method, whose):
    bvals, bvecs = _table()
    table = face.gradient_table(bvals, bvecs=bvecs)
    theirs_table = peer_gradients.gradient_table(bvals, bvecs=bvecs)
    theirs = peer.TensorModel(theirs_table, fit_method=method, return_S0_hat=True).fit(data)
    model = face.TensorModel(table if whose == "ours" else theirs_table, fit_method=method, return_S0_hat=True)
    _assert_same_fit(model.fit(data), theirs)


@pytest.mark.parametrize("shape", [(42,), (210, 42), (35, 6, 42), (5, 6, 7, 42)])
@pytest.mark.parametrize("min_signal", [None, 1.0, 25.0])
def test_data_of_any_dimension_and_any_floor_are_fitted_as_by_dipy(data, shape, min_signal):
    options = {} if min_signal is None else {"min_signal": min_signal}
    values = data[0, 0, 0] if len(shape) == 1 else data.reshape(shape)
    bvals, bvecs = _table()
    ours = face.TensorModel(face.gradient_table(bvals, bvecs=bvecs), **options).fit(values)
    theirs = peer.TensorModel(peer_gradients.gradient_table(bvals, bvecs=bvecs), **options).fit(values)
    _assert_same_fit(ours, theirs)


@pytest.mark.parametrize("dtype", [bool, np.uint8, float])
def test_mask_is_taken_as_by_dipy(data, dtype):
    mask = (np.random.default_rng(3).random((5, 6, 7)) > 0.5).astype(dtype)
    bvals, bvecs = _table()
    ours = face.TensorModel(face.gradient_table(bvals, bvecs=bvecs), return_S0_hat=True).fit(data, mask=mask)
    theirs = peer.TensorModel(peer_gradients.gradient_table(bvals, bvecs=bvecs), return_S0_hat=True).fit(
        data, mask=mask
    )
    _assert_same_fit(ours, theirs)
    assert not ours.model_params[mask == 0].any()


@pytest.mark.parametrize(("dtype", "order"), [(np.float32, "C"), (np.float32, "F"), (np.int16, "F"), (np.uint8, "C")])
def test_types_and_memory_layouts_are_taken_as_by_dipy(data, dtype, order):
    values = np.asarray(np.clip(np.round(data / 2), 0, 200), dtype=dtype, order=order)
    bvals, bvecs = _table()
    ours = face.TensorModel(face.gradient_table(bvals, bvecs=bvecs)).fit(values)
    theirs = peer.TensorModel(peer_gradients.gradient_table(bvals, bvecs=bvecs)).fit(values.astype(np.float64))
    _assert_same_fit(ours, theirs)


def test_a_design_that_lacks_directions_gives_the_solution_of_least_norm(data):
    bvals, bvecs = _table()
    values, bvals, bvecs = np.abs(data[..., 2:22]) + 1, bvals[2:22], bvecs[2:22]  # one shell, no b = 0
    table = face.gradient_table(bvals, bvecs=bvecs)
    design = face_tensor.design_matrix(table)
    found, _ = face_tensor.ols_fit_tensor(design, values, return_lower_triangular=True)
    expected = np.log(values) @ np.linalg.pinv(design, rcond=1e-10).T
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_nan_voxel_is_zero_and_its_neighbours_are_unchanged(data):
    bvals, bvecs = _table()
    spoiled = data.copy()
    spoiled[1, 2, 3, 4] = np.nan
    model = face.TensorModel(face.gradient_table(bvals, bvecs=bvecs))
    fit, clean = model.fit(spoiled), model.fit(data)
    assert not fit.model_params[1, 2, 3].any()
    fit.model_params[1, 2, 3] = clean.model_params[1, 2, 3]
    np.testing.assert_array_equal(fit.model_params, clean.model_params)


def test_prediction_odf_and_adc_are_dipys(data):
    from dipy.data import get_sphere

    bvals, bvecs = _table()
    sphere = get_sphere(name="symmetric362")
    table, theirs_table = face.gradient_table(bvals, bvecs=bvecs), peer_gradients.gradient_table(bvals, bvecs=bvecs)
    theirs = peer.TensorModel(theirs_table, return_S0_hat=True).fit(data)
    ours = face.TensorFit(face.TensorModel(table), theirs.model_params, model_S0=theirs.S0_hat)
    np.testing.assert_allclose(ours.predict(table), theirs.predict(theirs_table), rtol=1e-8)
    np.testing.assert_allclose(ours.predict(table, S0=7.0), theirs.predict(theirs_table, S0=7.0), rtol=1e-8)
    s0 = np.full((5, 6, 7), 9.0)
    np.testing.assert_allclose(ours.predict(table, S0=s0), theirs.predict(theirs_table, S0=s0), rtol=1e-8)
    np.testing.assert_allclose(ours.odf(sphere), theirs.odf(sphere), rtol=1e-8)
    np.testing.assert_allclose(ours.adc(sphere), theirs.adc(sphere), rtol=0, atol=1e-14)
    np.testing.assert_allclose(ours.lower_triangular(), theirs.lower_triangular(), atol=1e-15)
    np.testing.assert_allclose(ours.lower_triangular(b0=3.0), theirs.lower_triangular(b0=3.0), atol=1e-15)
    part, theirs_part = ours[2, :, 3], theirs[2, :, 3]
    np.testing.assert_array_equal(part.model_params, theirs_part.model_params)
    np.testing.assert_array_equal(part.S0_hat, theirs_part.S0_hat)


def test_own_fit_method_is_called_as_by_dipy(data):
    calls = []

    def fit(design, rows, factor, *, return_S0_hat, offset):
        calls.append((design.shape, rows.shape, factor, return_S0_hat, offset))
        return np.full((len(rows), 12), 2.0), {"seen": rows > 0}

    bvals, bvecs = _table()
    model = face.TensorModel(face.gradient_table(bvals, bvecs=bvecs), 3, fit_method=fit, offset=1)
    assert model.fit(data).model_params.max() == 2.0
    assert calls == [((42, 7), (210, 42), 3, False, 1)]
    assert model.extra["seen"].shape == data.shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"fit_method": "crazy"}, "fit method 'crazy'; expected one of WLS"), ({"min_signal": -1.0}, "above zero")],
)
def test_what_is_not_offered_is_refused_as_a_value_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        face.TensorModel(face.gradient_table(*_table()), **arguments)


def test_shapes_that_do_not_fit_are_refused(data):
    model = face.TensorModel(face.gradient_table(*_table()))
    with pytest.raises(ValueError, match=r"mask of shape \(3, 3\)"):
        model.fit(data, mask=np.ones((3, 3)))
    with pytest.raises(ValueError, match="41 signals per voxel for 42 gradients"):
        model.fit(data[..., 1:])


@pytest.mark.parametrize(
    "name",
    [
        "fractional_anisotropy", "mean_diffusivity", "axial_diffusivity", "radial_diffusivity", "trace", "linearity",
        "planarity", "sphericity", "geodesic_anisotropy",
    ],
)  # fmt: skip
def test_measures_of_eigenvalues_are_dipys(name):
    evals = np.sort(np.random.default_rng(0).uniform(0.1e-3, 2e-3, (4, 3, 3)), axis=-1)[..., ::-1]
    ours, theirs = getattr(face, name), getattr(peer, name)
    np.testing.assert_allclose(ours(evals), theirs(evals), rtol=1e-12)
    np.testing.assert_allclose(ours(evals, axis=1), theirs(evals, axis=1), rtol=1e-12)


def test_names_arguments_and_defaults_are_dipys():
    for name in ("TensorModel", "TensorFit", "GradientTable", "gradient_table", "fractional_anisotropy", "color_fa"):
        ours = inspect.signature(getattr(face, name)).parameters
        source = peer if hasattr(peer, name) else peer_gradients
        theirs = inspect.signature(inspect.unwrap(getattr(source, name))).parameters
        kept = {n: p.default for n, p in theirs.items()}
        assert {n: p.default for n, p in ours.items()} == kept, name


def test_equals_dipy_on_all_volumes_of_a_real_scan(data_dir):
    stem = data_dir / "mdt_b1k_b2k" / "sub-mdt_dwi"
    values = NiftiVolumeResource(f"{stem}.nii.gz").get_array()[30:70, 30:70].astype(np.float64)
    bvals, bvecs = FslBvalResource(f"{stem}.bval").get(), FslBvecResource(f"{stem}.bvec").get()
    ours = face.TensorModel(face.gradient_table(bvals, bvecs=bvecs), return_S0_hat=True).fit(values)
    theirs = peer.TensorModel(peer_gradients.gradient_table(bvals, bvecs=bvecs), return_S0_hat=True).fit(values)
    np.testing.assert_allclose(ours.fa, theirs.fa, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.md, theirs.md, rtol=0, atol=1e-11)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_dipys_tracking_follows_a_fit():
    from dipy.data import get_sphere
    from dipy.direction import peaks_from_model

    bvals, bvecs = _table()
    table = face.gradient_table(bvals, bvecs=bvecs)
    signals = np.exp(-bvals * (1.7e-3 * bvecs[:, 0] ** 2 + 0.2e-3 * (1 - bvecs[:, 0] ** 2)))
    volume = np.tile(100 * signals, (3, 3, 3, 1))
    peaks = peaks_from_model(
        face.TensorModel(table), volume, get_sphere(name="symmetric362"), 0.5, 25, npeaks=1, parallel=False
    )
    assert np.abs(peaks.peak_dirs[..., 0, 0]).min() > 0.98


# --- DIPY's own tests, with our names put in the place of theirs

NOT_OFFERED = {
    "test_roll_evals": "a private function of DIPY",
    "test_decompose_tensor_nan": "a private function of DIPY",
    "test_nnls_jacobian_func": "a private class of DIPY",
    "test_nlls_fit_tensor": "the nonlinear fit is not offered",
    "test_rwls_rnlls_irls_fit": "robust fits are not offered",
    "test_restore": "robust fits are not offered",
    "test_extra_return": "robust fits are not offered",
    "test_quantize_evecs": "quantize_evecs is not offered",
    "test_quantize_evecs_known_vectors": "quantize_evecs is not offered",
    "test_quantize_evecs_parallel_engines": "quantize_evecs is not offered",
}
EDITS = {  # lines about the nonlinear fit in tests that are about the others too
    '["OLS", "WLS", "NLLS"]': '["OLS", "WLS"]',
    'assert_warns(UserWarning, dti.TensorModel, gtab, fit_method="NLLS", step=1e4)': "pass",
    '["LS", "NLLS"]': '["LS", "WLS"]',
    'with assert_warns(UserWarning):\n        model = dti.TensorModel(gtab, fit_method="NLS", step=1e4)': "if False:",
}


class _Only:
    """A module of ours standing in for one of DIPY's: what ours lacks may come from DIPY only where listed."""

    def __init__(self, ours: types.ModuleType, theirs: types.ModuleType, allowed: tuple[str, ...] = ()) -> None:
        self._ours, self._theirs, self._allowed = ours, theirs, allowed

    def __getattr__(self, name: str) -> object:
        return getattr(self._theirs if name in self._allowed else self._ours, name)


def _dipys_tests() -> types.ModuleType:
    """DIPY's tests of the tensor with our functions under their names."""
    source = inspect.getsource(importlib.import_module("dipy.reconst.tests.test_dti"))
    for old, new in EDITS.items():
        assert old in source, f"DIPY's tests changed: {old}"
        source = source.replace(old, new)
    module = types.ModuleType("dipys_tests_of_the_tensor")
    exec(compile(source, "dipys_tests_of_the_tensor", "exec"), module.__dict__)
    module.__dict__.update({n: getattr(face_tensor, n) for n in face_tensor.__all__ if n in module.__dict__})
    module.__dict__["dti"] = _Only(face_tensor, peer)
    module.__dict__["grad"] = _Only(face_gradients, peer_gradients)
    module.__dict__["read_bvals_bvecs"] = face.read_bvals_bvecs
    module.__dict__["load_nifti_data"] = face.load_nifti_data
    return module


def _names_of_dipys_tests() -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module("dipy.reconst.tests.test_dti")
    return [name for name, value in vars(module).items() if name.startswith("test_") and callable(value)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", _names_of_dipys_tests())
def test_dipys_own_test_passes(name, pytestconfig):
    if name in NOT_OFFERED:
        pytest.skip(NOT_OFFERED[name])
    test = getattr(_dipys_tests(), name)
    test(pytestconfig) if "wrapper" in test.__name__ else test()
