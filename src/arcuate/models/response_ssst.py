"""Single-shell responses of white matter: from voxels of high anisotropy, or calibrated recursively."""

from __future__ import annotations

import math

import numpy as np

from arcuate.errors import NotApplicable, silenced_warnings
from arcuate.gradients import GradientTable
from arcuate.models.csd import make_csd_system
from arcuate.models.response import Response, tensor_response
from arcuate.models.response_recursive import calibrate
from arcuate.models.response_zonal import tensor_zonal
from arcuate.models.status import Status
from arcuate.models.tensor import TensorFit, fit_tensor
from arcuate.numerics.panel_product import evaluate_rows
from arcuate.numerics.sh import sh_matrix
from arcuate.numerics.sphere import get_hemisphere

FAT_EVALS = (0.0021 / 3) * np.array([1.0, 1.0, 1.0]) + (0.0021 / 3) * 0.08 / math.sqrt(3 - 2 * 0.08**2) * np.array(
    [2.0, -1.0, -1.0]
)  # mm²/s, FA 0.08 and trace 0.0021: the first response of the recursive calibration (Tax 2014)


def estimate_ssst(
    signals: np.ndarray, gradients: GradientTable, *, lmax: int = 8, fa_threshold: float = 0.7
) -> Response:
    """Response of the mean tensor of the voxels with FA above a threshold (Tournier 2004).

    Parameters
    ----------
    signals : (n_vox, n_meas) float, b = 0 and one shell
    gradients : of those volumes

    Raises
    ------
    NotApplicable
        No voxel is above the threshold, or there is no b = 0 volume.
    """
    fit = _fit_tensor(signals, gradients)
    is_high = (fit.fa > fa_threshold) & _is_fitted(fit)
    if not is_high.any():
        raise NotApplicable(
            f"found no voxel with FA above {fa_threshold:g} among {len(signals)} (highest: "
            f"{float(np.max(fit.fa, initial=0.0)):.2f}); lower fa_threshold, or take a larger mask or radius."
        )
    first, second = fit.evals[is_high, :2].mean(axis=0)
    s0 = _mean_b0(signals[is_high], gradients)
    return tensor_response(
        np.array([first, second, second]),
        s0,
        gradients.shells[0].b,
        lmax=lmax,
        n_voxels=int(is_high.sum()),
        b0_threshold=gradients.b0_threshold,
        fa_threshold=fa_threshold,
    )


def estimate_recursive(
    signals: np.ndarray, gradients: GradientTable, *, lmax: int = 8, peak_threshold: float = 0.01, n_rounds: int = 8
) -> Response:
    """Response calibrated on the voxels that show a single peak (Tax 2014).

    Parameters
    ----------
    signals : (n_vox, n_meas) float, b = 0 and one shell
        White matter is picked among them: FA >= 0.4, or FA >= 0.15 and MD >= 0.0011 mm²/s.
    peak_threshold : a voxel is single-fibre when its second peak is below this fraction of the first

    Raises
    ------
    NotApplicable
        No voxel shows a single peak, or there is no b = 0 volume.
    """
    fit = _fit_tensor(signals, gradients)
    is_white = ((fit.fa >= 0.4) | ((fit.fa >= 0.15) & (fit.md >= 0.0011))) & _is_fitted(fit)
    rows, shell = signals[is_white], gradients.shells[0]
    directions = gradients.directions[shell.indices]
    sphere = get_hemisphere("repulsion724")
    to_amplitudes = sh_matrix(sphere.vertices, lmax)

    def deconvolve(some: np.ndarray, zonal: np.ndarray | None) -> np.ndarray:
        used = tensor_zonal(FAT_EVALS, 1.0, shell.b, lmax) if zonal is None else zonal
        return evaluate_rows(make_csd_system(directions, used, lmax).fit(some[:, shell.indices]).coefs, to_amplitudes)

    zonal, is_single = calibrate(
        rows,
        shell.indices,
        directions,
        deconvolve,
        sphere.vertices,
        sphere.edges,
        lmax=lmax,
        peak_thr=peak_threshold,
        n_rounds=n_rounds,
    )
    if not is_single.any():
        raise NotApplicable(
            f"none of {len(rows)} white-matter voxels shows a single peak; expected some. Take a mask of white "
            "matter, or the algorithm 'ssst'."
        )
    table = np.zeros((2, lmax // 2 + 1))
    table[0, 0] = _mean_b0(rows[is_single], gradients) * math.sqrt(4 * math.pi)
    table[1] = zonal
    facts = {"n_white_matter": len(rows), "peak_threshold": peak_threshold}
    return Response(
        ("wm",),
        np.array([0.0, shell.b]),
        (table,),
        "recursive",
        facts,
        n_voxels=int(is_single.sum()),
        b0_threshold=gradients.b0_threshold,
    )


def _fit_tensor(signals: np.ndarray, gradients: GradientTable) -> TensorFit:
    if len(gradients.shells) != 1:
        raise NotApplicable(f"found {len(gradients.shells)} shells; a single-shell response takes one, and b=0.")
    with silenced_warnings():  # of b above 1500: here the tensor only ranks voxels
        return fit_tensor(signals, gradients, b_max=gradients.shells[0].b)


def _is_fitted(fit: TensorFit) -> np.ndarray:
    return fit.status == Status.FITTED


def _mean_b0(signals: np.ndarray, gradients: GradientTable) -> float:
    b0 = gradients.require_b0("a response by this algorithm")
    return float(signals[:, b0].mean(dtype=np.float64))
