"""Functions on arrays with DIPY 1.12's names, arguments and conventions: change the import line of a DIPY script.

No change of frame, DIPY's basis for spherical harmonics, all volumes. Objects of DIPY (gradient tables, spheres) are
accepted, and results can be handed to DIPY's tracking. DIPY itself is not needed.
"""

from __future__ import annotations

from arcuate.dipy.gradients import GradientTable, gradient_table, gradient_table_from_bvals_bvecs, read_bvals_bvecs
from arcuate.dipy.images import load_nifti, load_nifti_data, save_nifti
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

__all__ = [
    "GradientTable",
    "TensorFit",
    "TensorModel",
    "axial_diffusivity",
    "color_fa",
    "decompose_tensor",
    "fractional_anisotropy",
    "geodesic_anisotropy",
    "gradient_table",
    "gradient_table_from_bvals_bvecs",
    "linearity",
    "load_nifti",
    "load_nifti_data",
    "lower_triangular",
    "mean_diffusivity",
    "mode",
    "planarity",
    "radial_diffusivity",
    "read_bvals_bvecs",
    "save_nifti",
    "sphericity",
    "trace",
]
