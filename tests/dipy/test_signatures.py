"""Every name of the face has DIPY's arguments, order and defaults; former spellings still work."""

from __future__ import annotations

import importlib
import inspect
import warnings
from typing import Any

import numpy as np
import pytest

from arcuate import dipy as face
from arcuate.errors import InputError

PEERS = [
    importlib.import_module(f"dipy.{name}")
    for name in (
        "core.gradients", "core.sphere", "io.gradients", "io.image", "data", "reconst.csdeconv", "reconst.mcsd",
        "reconst.dti", "reconst.dki", "reconst.fwdti", "reconst.shm", "reconst.odf", "sims.voxel", "denoise.patch2self",
        "direction.peaks",
    )
]  # fmt: skip
DESIGNED = {
    "gradient_table", "read_bvals_bvecs", "load_nifti", "get_fnames", "fetch_stanford_hardi", "fetch_sherbrooke_3shell",
    "auto_response_ssst", "mask_for_response_ssst", "response_from_mask_ssst", "recursive_response",
    "ConstrainedSphericalDeconvModel", "peaks_from_model", "TensorModel", "fractional_anisotropy", "mean_diffusivity",
    "single_tensor_odf", "patch2self", "default_sphere", "small_sphere", "get_sphere", "MultiShellDeconvModel",
    "auto_response_msmt",
}  # fmt: skip
OURS_ONLY = {  # what we add to DIPY's arguments
    "MultiShellDeconvModel.fit": {"verbose"},
    "SphHarmFit": {"status"},
    "MSDeconvFit": {"status"},
}
METHODS = (
    "fit", "predict", "odf", "on_sphere", "basis", "adc", "lower_triangular", "find_closest", "subdivide",
)  # fmt: skip
GONE = object()
SPHERE = "a sphere"  # DIPY's default is a sphere, ours None for the same one
NAMES = sorted(n for n in face.__all__ if callable(getattr(face, n)) and n != "PeaksAndMetrics")


def _theirs(name: str) -> Any:
    found = next((getattr(module, name) for module in PEERS if hasattr(module, name)), None)
    assert found is not None, f"DIPY has no {name}"
    return found


def _arguments(function: Any) -> dict[str, Any]:
    """Name and default of each argument, in order."""
    out = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        default = GONE if parameter.default is parameter.empty else parameter.default
        out[name] = SPHERE if hasattr(default, "vertices") else default
    return out


def _compare(label: str, ours: Any, theirs: Any) -> None:
    mine, expected = _arguments(ours), _arguments(theirs)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(ours).parameters.values())
    extra = OURS_ONLY.get(label, set())
    if label in ("SphHarmFit", "MSDeconvFit"):
        return  # made by models, not by users
    if not takes_any or len(mine) > 4:
        assert [n for n in mine if n not in extra] == list(expected), label
    for name, default in expected.items():
        if name not in mine or default is GONE:
            continue  # theirs is required: ours may have a default
        is_same = mine[name] is default or mine[name] == default or (default is SPHERE and mine[name] is None)
        assert is_same, f"{label}({name}=): {mine[name]!r} here, {default!r} in DIPY"
    assert {n for n, d in mine.items() if d is GONE} <= {n for n, d in expected.items() if d is GONE}, label


@pytest.mark.parametrize("name", NAMES)
def test_arguments_and_defaults_are_dipys(name: str) -> None:
    ours, theirs = getattr(face, name), _theirs(name)
    if name not in ("Sphere", "HemiSphere"):  # keyword arguments alone, tested with the spheres
        _compare(name, ours, theirs)
    if not inspect.isclass(ours):
        return
    for method in (
        "fit",
        "predict",
        "odf",
        "on_sphere",
        "basis",
        "adc",
        "lower_triangular",
        "find_closest",
        "subdivide",
    ):
        if hasattr(theirs, method):
            _compare(f"{name}.{method}", getattr(ours, method), getattr(theirs, method))


def test_the_face_holds_every_name_of_the_design() -> None:
    assert set(face.__all__) >= DESIGNED
    for name in face.__all__:
        assert getattr(face, name) is not None
    assert len(face.default_sphere.vertices) == 362
    assert len(face.small_sphere.vertices) == 181


@pytest.mark.parametrize("basis", ["descoteaux07", "tournier07"])
def test_conversions_of_coefficients_are_dipys(basis: str) -> None:
    coefs = np.random.default_rng(0).normal(size=(3, 45))
    for name in ("convert_sh_from_legacy", "convert_sh_to_legacy"):
        expected = _theirs(name)(coefs, basis)
        np.testing.assert_allclose(getattr(face, name)(coefs, basis), expected, rtol=1e-14)
    crossed = face.convert_sh_descoteaux_tournier(coefs)
    np.testing.assert_array_equal(crossed, _theirs("convert_sh_descoteaux_tournier")(coefs))


def _phantom() -> tuple[Any, np.ndarray]:
    rng = np.random.default_rng(0)
    bvecs = rng.normal(size=(41, 3))
    bvecs /= np.linalg.norm(bvecs, axis=1, keepdims=True)
    bvals = np.r_[0.0, np.full(40, 2000.0)]
    table = face.gradient_table(bvals, bvecs)  # by position, as older tutorials do
    axes = rng.normal(size=(27, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    rows = [np.linalg.svd(np.outer(a, a))[0] for a in axes]
    signal = [1000 * face.single_tensor(table, 1, [1.7e-3, 2e-4, 2e-4], evecs) for evecs in rows]
    return table, np.reshape(signal, (3, 3, 3, 41))


def test_former_argument_names_are_taken_with_a_warning_that_says_the_present_one() -> None:
    table, data = _phantom()
    response = (np.array([1.7e-3, 2e-4, 2e-4]), 1000.0)
    with pytest.warns(DeprecationWarning, match="sh_order is called sh_order_max") as caught:
        model = face.ConstrainedSphericalDeconvModel(table, response, sh_order=6)
    assert caught[0].filename == __file__  # the line of the user, which Python shows
    assert model.sh_order_max == 6
    with pytest.warns(DeprecationWarning, match="sh_order_max"):
        peaks = face.peaks_from_model(model, data, face.small_sphere, 0.5, 25, sh_order=4)
    assert peaks.shm_coeff.shape[-1] == 15
    with pytest.warns(DeprecationWarning, match="sh_order_max"):
        calibrated = face.recursive_response(table, data, sh_order=4, peak_thr=0.5, iter=1)
    assert calibrated.sh_order_max == 4
    with pytest.warns(DeprecationWarning, match="roi_radius is called roi_radii"):
        mask = face.mask_for_response_ssst(table, data, roi_radius=1, fa_thr=0.5)
    assert mask.sum() == 27
    with pytest.warns(DeprecationWarning, match="auto_response is called auto_response_ssst"):
        former = face.auto_response
    (evals, _), ratio = former(table, data, roi_radii=1)
    np.testing.assert_allclose((evals[0], ratio), (1.7e-3, 2 / 17), rtol=1e-6)


def test_a_former_and_a_present_name_together_are_an_error() -> None:
    table, _ = _phantom()
    with pytest.raises(TypeError, match="give sh_order_max alone"):
        face.ConstrainedSphericalDeconvModel(table, (np.ones(3), 1.0), sh_order=6, sh_order_max=8)


def test_the_present_names_give_no_warning() -> None:
    table, data = _phantom()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        response, _ = face.auto_response_ssst(table, data, roi_radii=1)
        face.ConstrainedSphericalDeconvModel(table, response, sh_order_max=6).fit(data)


def test_names_of_dipys_own_scans_are_handed_to_dipy() -> None:
    image, bval, bvec = face.get_fnames(name="small_25")
    assert [p.rsplit(".", 1)[-1] for p in (image, bval, bvec)] == ["gz", "bval", "bvec"]
    data, _ = face.load_nifti(image)
    assert data.shape == (10, 8, 2, 26)
    with pytest.raises(InputError, match="nothing_64D"):
        face.get_fnames("nothing_64D")
