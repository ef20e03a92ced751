"""Patch2Self under DIPY's name and arguments."""

from __future__ import annotations

import logging
import time
from typing import Any, Literal

import numpy as np

from arcuate.errors import InputError
from arcuate.models.patch2self import Regression, fit_patch2self

_LOG = logging.getLogger("arcuate")


def patch2self(
    data: np.ndarray,
    bvals: np.ndarray,
    *,
    patch_radius: int | tuple[int, int, int] = (0, 0, 0),
    model: Any = "ols",
    b0_threshold: float = 50,
    out_dtype: np.typing.DTypeLike | None = None,
    alpha: float = 1.0,
    verbose: bool = False,
    b0_denoising: bool = True,
    clip_negative_vals: bool = False,
    shift_intensity: bool = True,
    tmp_dir: str | None = None,
    version: int = 3,
) -> np.ndarray:
    """Denoised data, each volume predicted from all others of its kind.

    Parameters
    ----------
    data : (x, y, z, n_meas) real
    bvals : (n_meas,) s/mm²
    patch_radius : must be 0: with larger patches DIPY's own version 3 does not use them either
    model : "ols", "ridge", or an instance of scikit-learn's LinearRegression or Ridge
    b0_threshold : s/mm²; volumes with a b-value at or below it count as b = 0
    out_dtype : of the result; that of ``data`` if None
    alpha : weight of the ridge penalty
    verbose : log the seconds taken (logger "arcuate")
    b0_denoising : False passes the b = 0 volumes through
    clip_negative_vals : raise negative values to 0
    shift_intensity, tmp_dir, version : accepted and without effect. Every version is computed exactly here, from one
        Gram matrix over all voxels: DIPY's version 3 is a random sketch of it, its version 1 the same regressions one
        by one. Nothing is shifted, and nothing goes through the disk.

    Returns
    -------
    (x, y, z, n_meas), voxels with a NaN or an infinity 0

    Raises
    ------
    InputError
        (a ValueError) Shapes that do not fit, a model other than OLS and ridge, too few volumes.
    """
    data = np.asarray(data)
    bvals = np.asarray(bvals, dtype=np.float64).ravel()
    if data.ndim != 4 or len(bvals) != data.shape[3]:
        raise InputError(
            f"found data of shape {data.shape} and {len(bvals)} b-values; expected 4-D data with a b-value per volume."
        )
    if np.any(np.asarray(patch_radius) != 0):
        raise InputError(f"found patch_radius={patch_radius}; only 0, DIPY's default, is offered.")
    if version not in (1, 2, 3):
        raise InputError(f"found version={version}; expected 1 or 3 (both are computed exactly here).")
    regression, alpha = _regression_of(model, alpha)
    start = time.perf_counter()
    dtype = data.dtype if out_dtype is None else np.dtype(out_dtype)
    order: Literal["C", "F"] = "F" if data.flags.f_contiguous and not data.flags.c_contiguous else "C"
    denoised = np.empty(data.shape, dtype=dtype, order=order)
    fit_patch2self(
        data.reshape(-1, data.shape[3], order=order),
        bvals <= b0_threshold,
        model=regression,
        alpha=alpha,
        b0_denoising=b0_denoising,
        out=denoised.reshape(-1, data.shape[3], order=order),
    )
    if clip_negative_vals:
        np.maximum(denoised, 0, out=denoised)
    if verbose:
        _LOG.info("patch2self: %.1f s", time.perf_counter() - start)
    return denoised


def _regression_of(model: Any, alpha: float) -> tuple[Regression, float]:
    """Regression and penalty that a name or an estimator of scikit-learn stands for."""
    if isinstance(model, str) and model.lower() in ("ols", "ridge"):
        return ("ols" if model.lower() == "ols" else "ridge"), alpha
    kind = type(model).__name__
    if kind == "LinearRegression" and not getattr(model, "positive", False) and getattr(model, "fit_intercept", True):
        return "ols", alpha
    if kind == "Ridge" and not getattr(model, "positive", False) and getattr(model, "fit_intercept", True):
        return "ridge", float(model.alpha)
    raise InputError(
        f'found the model {model!r}; expected "ols", "ridge", LinearRegression() or Ridge(). '
        "The lasso has no solution in one matrix product and gains nothing over ridge here."
    )
