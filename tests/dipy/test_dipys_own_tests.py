"""DIPY's own tests with arcuate's names put in the place of DIPY's; those of the tensor are in ``test_tensor_face``."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import types
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("dipy")

from arcuate import dipy as face

MODULES = {  # and what they call DIPY's modules
    "dipy.reconst.tests.test_csdeconv": (),
    "dipy.direction.tests.test_peaks": (),
    "dipy.reconst.tests.test_peak_finding": (),
    "dipy.reconst.tests.test_odf": (),
    "dipy.reconst.tests.test_dki": ("dki", "dti"),
    "dipy.reconst.tests.test_fwdti": ("fwdti", "dti"),
    "dipy.reconst.tests.test_mcsd": (),
    "dipy.reconst.tests.test_shm": (),
    "dipy.core.tests.test_gradients": (),
    "dipy.core.tests.test_sphere": (),
    "dipy.sims.tests.test_voxel": (),
    "dipy.denoise.tests.test_patch2self": ("p2s",),
    "dipy.io.tests.test_io_gradients": (),
    # what of theirs takes our tables, spheres, models and peaks
    "dipy.direction.tests.test_bootstrap_direction_getter": (),
    "dipy.direction.tests.test_pmf": (),
    "dipy.io.tests.test_io_peaks": (),
    "dipy.reconst.tests.test_cross_validation": (),
    "dipy.reconst.tests.test_msdki": (),
    "dipy.reconst.tests.test_gqi": (),
    "dipy.tracking.tests.test_tracking": (),
}
NOT_OURS = {
    "test_odfdeconv": "the sharpening deconvolution transform (SDT) is not offered",
    "test_odf_sh_to_sharp": "the sharpening deconvolution transform (SDT) is not offered",
    "test_r2_term_odf_sharp": "the sharpening deconvolution transform (SDT) is not offered",
    "test_forward_sdeconv_mat": "tests a helper function of DIPY's that is not offered",
    "test_default_lambda_csdmodel": "counts the deprecation warnings of DIPY's own basis functions; see test_csd_face",
    "test_boot_pmf": "counts the deprecation warnings of DIPY's own basis functions",
    "test_peak_directions_nl": "peak_directions_nl is not offered: find_peaks refines on the sphere",
    "test_peaks_from_positions": "peaks_from_positions belongs to tracking and is not offered",
    "test_local_maxima": "tests compiled helper functions of DIPY's that are not offered",
    "test_remove_similar_peaks": "tests compiled helper functions of DIPY's that are not offered",
    "test_search_descending": "tests compiled helper functions of DIPY's that are not offered",
    "test_minmax_normalize": "minmax_normalize is not offered",
    "test_OdfFit": "tests DIPY's abstract classes",
    "test_dki_fits": "a mask of the shape of the signals; leverages and robust fits are not offered",
    "test_dki_errors": "nonlinear and constrained fits are not offered",
    "test_fwdti_singlevoxel": "Cholesky-bounded fits are not offered",
    "test_fwdti_precision": "the number of rounds (piterations) is not offered",
    "test_fwdti_multi_voxel": "Cholesky-bounded fits are not offered",
    "test_fwdti_errors": "weighted nonlinear fits are not offered",
    "test_fwdti_restore": "robust fits are not offered",
    "test_fwdti_jac_multi_voxel": "the fit without a transform of the fraction is not offered",
    "test_multi_shell_fiber_response": "b-tensors other than linear ones are not offered",
    "test_auto_response_msmt": "looks for the line breaks in DIPY's warning",
    "test_sf_to_sh": "odd harmonics are not offered",
    "test_convert_sh_to_full_basis": "odd harmonics are not offered",
    "test_convert_sh_from_legacy": "odd harmonics are not offered",
    "test_convert_sh_to_legacy": "odd harmonics are not offered",
    "test_disperse_charges": "asks for DIPY's own class of sphere",
    "test_validate_patch_radius_and_version": "patches of more than a voxel are not offered",
}
NAMES = [name for name in (*face.__all__, "default_sphere", "small_sphere") if name != "get_fnames"]
# get_fnames: their tests read scans that ship with DIPY, ours offers the two public ones


class _First:
    """A module of DIPY's in which our names stand in the place of its own."""

    def __init__(self, theirs: types.ModuleType) -> None:
        self._theirs = theirs

    def __getattr__(self, name: str) -> object:
        return getattr(face if name in NAMES else self._theirs, name)


@cache
def _swapped(module: str) -> types.ModuleType:
    """DIPY's tests with our names in them."""
    theirs = importlib.import_module(module)
    made = types.ModuleType("dipys_tests")
    made.__file__ = theirs.__file__
    exec(compile(inspect.getsource(theirs), "dipys_tests", "exec"), made.__dict__)
    made.__dict__.update({name: getattr(face, name) for name in NAMES if name in made.__dict__})
    made.__dict__.update({name: _First(getattr(theirs, name)) for name in MODULES[module]})
    if "setup_module" in made.__dict__:
        made.setup_module()
    return made


def _about_ours() -> list[tuple[str, str]]:
    """Tests in which one of our names, or a function that uses one, is called."""
    found = []
    for module, spaces in MODULES.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = importlib.import_module(module)
        ours = {name for name in NAMES if hasattr(theirs, name)} | set(spaces)
        assert ours, f"nothing of ours is under test in {module}"
        source = inspect.getsource(theirs)
        parts = [part for part in ast.parse(source).body if isinstance(part, ast.FunctionDef)]
        functions = {part.name: ast.unparse(part) for part in parts}
        helpers = {n for n, text in functions.items() if not n.startswith("test_") and _mentions(text, ours)}
        found += [(module, n) for n, t in functions.items() if n.startswith("test_") and _mentions(t, ours | helpers)]
    return found


def _mentions(text: str, names: set[str]) -> bool:
    return re.search(rf"\b({'|'.join(map(re.escape, names))})\b", text) is not None


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("module", "name"), _about_ours(), ids=lambda v: v.rpartition(".")[2])
def test_dipys_own_test_passes(module: str, name: str, pytestconfig: pytest.Config, tmp_path: Path) -> None:
    if name in NOT_OURS:
        pytest.skip(NOT_OURS[name])
    test: Callable[..., None] = getattr(_swapped(module), name)
    given = {"pytestconfig": pytestconfig, "tmp_path": tmp_path}
    test(**{name: value for name, value in given.items() if name in inspect.signature(test).parameters})
