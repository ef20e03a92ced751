"""Functions on arrays with DIPY 1.12's names, arguments and conventions: change the import line of a DIPY script.

No change of frame, DIPY's basis for spherical harmonics, all volumes. Objects of DIPY (gradient tables, spheres) are
accepted, and results can be handed to DIPY's tracking. DIPY itself is not needed. Arguments that DIPY takes as keywords
only may be given by position, as older scripts do; names that DIPY gave up (``sh_order``) are taken with a warning.
"""

from __future__ import annotations

from arcuate.dipy.csd import AxSymShResponse, ConstrainedSphericalDeconvModel, SphHarmFit
from arcuate.dipy.datasets import fetch_sherbrooke_3shell, fetch_stanford_hardi, get_fnames
from arcuate.dipy.denoise import patch2self
from arcuate.dipy.free_water import FreeWaterTensorFit, FreeWaterTensorModel
from arcuate.dipy.gradients import GradientTable, gradient_table, gradient_table_from_bvals_bvecs, read_bvals_bvecs
from arcuate.dipy.harmonics import (
    convert_sh_descoteaux_tournier,
    convert_sh_from_legacy,
    convert_sh_to_legacy,
    sf_to_sh,
    sh_to_sf,
    sh_to_sf_matrix,
)
from arcuate.dipy.images import load_nifti, load_nifti_data, save_nifti
from arcuate.dipy.kurtosis import DiffusionKurtosisFit, DiffusionKurtosisModel
from arcuate.dipy.multishell import (
    MSDeconvFit,
    MultiShellDeconvModel,
    MultiShellResponse,
    auto_response_msmt,
    mask_for_response_msmt,
    multi_shell_fiber_response,
    response_from_mask_msmt,
    unique_bvals_tolerance,
)
from arcuate.dipy.peaks import (
    PeaksAndMetrics,
    gfa,
    peak_directions,
    peaks_from_model,
    reshape_peaks_for_visualization,
)
from arcuate.dipy.responses import (
    auto_response_ssst,
    fa_trace_to_lambdas,
    mask_for_response_ssst,
    recursive_response,
    response_from_mask_ssst,
)
from arcuate.dipy.simulations import multi_tensor, multi_tensor_odf, single_tensor, single_tensor_odf
from arcuate.dipy.spheres import HemiSphere, Sphere, get_default_sphere, get_small_sphere, get_sphere
from arcuate.dipy.tensor import (
    TensorFit,
    TensorModel,
    axial_diffusivity,
    color_fa,
    decompose_tensor,
    fractional_anisotropy,
    geodesic_anisotropy,
    linearity,
    lower_triangular,
    mean_diffusivity,
    mode,
    planarity,
    radial_diffusivity,
    sphericity,
    trace,
)
from arcuate.errors import warn

__all__ = [
    "AxSymShResponse",
    "ConstrainedSphericalDeconvModel",
    "DiffusionKurtosisFit",
    "DiffusionKurtosisModel",
    "FreeWaterTensorFit",
    "FreeWaterTensorModel",
    "GradientTable",
    "HemiSphere",
    "MSDeconvFit",
    "MultiShellDeconvModel",
    "MultiShellResponse",
    "PeaksAndMetrics",
    "SphHarmFit",
    "Sphere",
    "TensorFit",
    "TensorModel",
    "auto_response_msmt",
    "auto_response_ssst",
    "axial_diffusivity",
    "color_fa",
    "convert_sh_descoteaux_tournier",
    "convert_sh_from_legacy",
    "convert_sh_to_legacy",
    "decompose_tensor",
    "default_sphere",
    "fa_trace_to_lambdas",
    "fetch_sherbrooke_3shell",
    "fetch_stanford_hardi",
    "fractional_anisotropy",
    "geodesic_anisotropy",
    "get_fnames",
    "get_sphere",
    "gfa",
    "gradient_table",
    "gradient_table_from_bvals_bvecs",
    "linearity",
    "load_nifti",
    "load_nifti_data",
    "lower_triangular",
    "mask_for_response_msmt",
    "mask_for_response_ssst",
    "mean_diffusivity",
    "mode",
    "multi_shell_fiber_response",
    "multi_tensor",
    "multi_tensor_odf",
    "patch2self",
    "peak_directions",
    "peaks_from_model",
    "planarity",
    "radial_diffusivity",
    "read_bvals_bvecs",
    "recursive_response",
    "reshape_peaks_for_visualization",
    "response_from_mask_msmt",
    "response_from_mask_ssst",
    "save_nifti",
    "sf_to_sh",
    "sh_to_sf",
    "sh_to_sf_matrix",
    "single_tensor",
    "single_tensor_odf",
    "small_sphere",
    "sphericity",
    "trace",
    "unique_bvals_tolerance",
]


_FORMER = {"auto_response": auto_response_ssst, "response_from_mask": response_from_mask_ssst}


def __getattr__(name: str) -> object:
    """``default_sphere`` and ``small_sphere``, made when they are first asked for; functions by their former names."""
    if name == "default_sphere":
        return get_default_sphere()
    if name == "small_sphere":
        return get_small_sphere()
    if name in _FORMER:
        present = _FORMER[name].__name__
        warn(f"{name} is called {present} in today's DIPY and here.", DeprecationWarning)
        return _FORMER[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
