"""Responses with DIPY's names: from a region of high anisotropy, or calibrated recursively."""

from __future__ import annotations

import numbers
import warnings
from typing import Any

import numpy as np

from arcuate.dipy.csd import AxSymShResponse, ConstrainedSphericalDeconvModel
from arcuate.dipy.renames import renamed
from arcuate.dipy.spheres import get_default_sphere, vertices_of
from arcuate.dipy.tensor import TensorModel, fractional_anisotropy
from arcuate.errors import InputError, warn
from arcuate.models.response_recursive import calibrate
from arcuate.numerics.panel_product import evaluate_rows


@renamed(roi_radius="roi_radii")
def auto_response_ssst(
    gtab: Any, data: np.ndarray, roi_center: Any = None, roi_radii: Any = 10, fa_thr: float = 0.7
) -> tuple[tuple[Any, Any], Any]:
    """``(evals, S0), ratio`` of the voxels with FA above ``fa_thr`` in a cuboid around ``roi_center``.

    Parameters
    ----------
    data : (x, y, z, g)
    roi_center : voxel indices; the centre of the volume by default
    roi_radii : voxels, one number or three
    """
    mask = mask_for_response_ssst(gtab, data, roi_center=roi_center, roi_radii=roi_radii, fa_thr=fa_thr)
    return response_from_mask_ssst(gtab, data, mask)


@renamed(roi_radius="roi_radii")
def mask_for_response_ssst(
    gtab: Any, data: np.ndarray, roi_center: Any = None, roi_radii: Any = 10, fa_thr: float = 0.7
) -> np.ndarray:
    """(x, y, z) int, 1 where :func:`auto_response_ssst` takes its voxels."""
    data = np.asarray(data)
    if data.ndim < 4:
        raise ValueError(
            "Data must be 4D (3D image + directions). To use a 2D image, please reshape it into a "
            "(N, N, 1, ndirs) array."
        )
    region = _region(data.shape[:3], roi_center, roi_radii)
    fa = np.nan_to_num(fractional_anisotropy(TensorModel(gtab).fit(data[region]).evals))
    mask = np.zeros(data.shape[:3], dtype=np.int64)
    mask[region] = fa > fa_thr
    if not mask.any():
        warn(f"No voxel with a FA higher than {fa_thr} were found. Try a larger roi or a lower threshold.", UserWarning)
    return mask


def response_from_mask_ssst(gtab: Any, data: np.ndarray, mask: np.ndarray) -> tuple[tuple[Any, Any], Any]:
    """``(evals, S0), ratio``: mean first and second eigenvalue and mean b = 0 signal where ``mask`` > 0."""
    rows = np.asarray(data)[np.asarray(mask) > 0]
    if len(rows) == 0:
        warn("No voxel in mask with value > 0 were found.", UserWarning)
        return (np.nan, np.nan), np.nan
    first, second = TensorModel(gtab).fit(rows).evals[:, :2].mean(axis=0)
    at_b0 = rows[:, np.asarray(gtab.b0s_mask)]
    evals = np.array([first, second, second])
    return (evals, np.mean(at_b0) if at_b0.size else 0), second / first


@renamed(sh_order="sh_order_max", nbr_processes="num_processes")
def recursive_response(
    gtab: Any,
    data: np.ndarray,
    mask: np.ndarray | None = None,
    sh_order_max: int = 8,
    peak_thr: float = 0.01,
    init_fa: float = 0.08,
    init_trace: float = 0.0021,
    iter: int = 8,  # noqa: A002
    convergence: float = 0.001,
    parallel: bool = False,
    num_processes: int | None = None,
    sphere: Any = None,
) -> AxSymShResponse:
    """Response calibrated on the voxels that show a single peak (Tax 2014).

    Parameters
    ----------
    data : (x, y, z, g) or (n_vox, g)
    mask : (x, y, z) bool
    sh_order_max : degree
    peak_thr : a voxel is single-fibre when its second peak is below this fraction of the first
    init_fa, init_trace : tensor of the first, fat response (mm²/s)
    iter : most rounds
    convergence : largest relative change of a coefficient in the last round
    parallel, num_processes : without effect: all cores work in any case
    sphere : where peaks are looked for; ``default_sphere`` by default
    """
    sphere = get_default_sphere() if sphere is None else sphere
    data = np.asarray(data)
    rows = data.reshape(-1, data.shape[-1]) if mask is None else data[np.asarray(mask, dtype=bool)]
    where_dwi = np.flatnonzero(~np.asarray(gtab.b0s_mask))
    directions = np.asarray(gtab.gradients)[where_dwi]
    directions = directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-300)

    def deconvolve(signals: np.ndarray, response: np.ndarray | None) -> np.ndarray:
        if response is None:
            model = ConstrainedSphericalDeconvModel(
                gtab, (fa_trace_to_lambdas(init_fa, init_trace), 1.0), sh_order_max=sh_order_max
            )
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # the first round has said it all
                given = AxSymShResponse(1.0, response)
                model = ConstrainedSphericalDeconvModel(gtab, given, sh_order_max=sh_order_max)
        return evaluate_rows(model.fit_rows(signals)[0], model.sampling_matrix(sphere))

    zonal, is_single = calibrate(
        rows,
        where_dwi,
        directions,
        deconvolve,
        vertices_of(sphere),
        np.asarray(sphere.edges),
        lmax=sh_order_max,
        peak_thr=peak_thr,
        n_rounds=iter,
        convergence=convergence,
    )
    if not is_single.any():
        raise InputError("no voxel shows a single peak; expected some. Raise peak_thr, or give a mask of white matter.")
    return AxSymShResponse(rows[is_single][:, np.asarray(gtab.b0s_mask)].mean(), zonal)


def fa_trace_to_lambdas(fa: float = 0.08, trace: float = 0.0021) -> np.ndarray:
    """(3,) eigenvalues of a prolate tensor, mm²/s."""
    part = fa / np.sqrt(3 - 2 * fa**2)
    return trace / 3 * np.array([1 + 2 * part, 1 - part, 1 - part])


def _region(shape: tuple[int, ...], center: Any, radii: Any) -> tuple[slice, ...]:
    """The cuboid; a radius that leaves the volume is cut to the distance from its border."""
    center = np.array(shape) // 2 if center is None else np.asarray(center)
    radii = np.array([radii] * 3 if isinstance(radii, numbers.Number) else radii)
    slices = []
    for c, r, n in zip(center, radii, shape, strict=True):
        if int(c - r) < 0 or int(c + r) >= n:
            r = min(int(c), int(n - c))
        slices.append(slice(int(c - r), int(c + r) + 1))
    return tuple(slices)
