"""Multi-shell multi-tissue CSD with DIPY's names: DIPY's legacy basis, all volumes, isotropic tissues first."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from arcuate.dipy.csd import Sampled, SphHarmFit
from arcuate.dipy.gradients import gradient_table
from arcuate.dipy.harmonics import basis_matrix
from arcuate.dipy.renames import renamed
from arcuate.dipy.responses import _region, response_from_mask_ssst
from arcuate.dipy.simulations import single_tensor
from arcuate.dipy.spheres import get_default_sphere, vertices_of
from arcuate.dipy.tensor import TensorModel, fractional_anisotropy, mean_diffusivity
from arcuate.errors import warn
from arcuate.models.csd import zonal_to_rotational
from arcuate.models.response_zonal import zonal_harmonics
from arcuate.models.status import Status
from arcuate.numerics.qp import ConeProblem
from arcuate.numerics.qp_kernel import NOT_CONVERGED, SOLVED
from arcuate.numerics.sh import degrees_and_orders

SH_CONST = 0.5 / np.sqrt(np.pi)
_MAX_B = 1200.0  # s/mm²; above it DIPY warns of the tensor
_BLOCK = 50_000


def unique_bvals_tolerance(bvals: Any, *, tol: float = 20) -> np.ndarray:
    """One b-value (n,) per cluster, s/mm², lowest first: the highest of those within ``tol`` of its lowest."""
    b = np.unique(np.asarray(bvals, dtype=np.float64))
    found = []
    first = 0
    while first < len(b):
        found.append(b[np.searchsorted(b, b[first] + tol, side="right") - 1])
        first = int(np.searchsorted(b, found[-1] + tol, side="right"))
    return np.array(found)


class MultiShellResponse:
    """Response of several tissues on several shells.

    Parameters
    ----------
    response : (n_shell, n_iso + sh_order_max/2 + 1) float
        One column per isotropic tissue, then the zonal coefficients of the fibres.
    sh_order_max : degree
    shells : (n_shell,) float, b-values of the rows
    S0 : signal of each tissue without weighting
    """

    @renamed(sh_order="sh_order_max")
    def __init__(self, response: np.ndarray, sh_order_max: int, shells: Any, *, S0: Any = None) -> None:
        self.S0 = S0
        self.response = response
        self.sh_order_max = sh_order_max
        self.l_values = np.arange(0, sh_order_max + 1, 2)
        self.m_values = np.zeros_like(self.l_values)
        self.shells = shells
        if self.iso < 1:
            raise ValueError("sh_order_max and shape of response do not agree")

    @property
    def iso(self) -> int:
        """Number of isotropic tissues."""
        return int(self.response.shape[1]) - self.sh_order_max // 2 - 1


@renamed(sh_order="sh_order_max")
def multi_shell_fiber_response(
    sh_order_max: int,
    bvals: Any,
    wm_rf: Any,
    gm_rf: Any,
    csf_rf: Any,
    *,
    sphere: Any = None,
    tol: float = 20,
    btens: Any = None,
) -> MultiShellResponse:
    """Response of three tissues from tensors, one for each shell.

    Parameters
    ----------
    bvals : (n_shell,) float, distinct b-values, b = 0 first where there is one
    wm_rf, gm_rf, csf_rf : (n_weighted, 4) float: three eigenvalues and S0 per weighted shell
    sphere : where the fibre's signal is taken; ``default_sphere`` by default, subdivided once
    """
    bvals = np.array(bvals, dtype=np.float64)
    if btens is not None and not all(str(b) == "LTE" for b in np.asarray(btens).ravel()):
        raise NotImplementedError("b-tensors other than linear ones are not supported; leave btens out.")
    wm, gm, csf = (np.asarray(rf, dtype=np.float64) for rf in (wm_rf, gm_rf, csf_rf))
    degrees = np.arange(0, sh_order_max + 1, 2)
    vertices = (get_default_sphere() if sphere is None else sphere).subdivide().vertices
    basis = zonal_harmonics(vertices[:, 2], sh_order_max).T
    along_z = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]).T
    has_b0 = bvals[0] < tol
    if not has_b0:
        warn("No b0 given. Proceeding either way.", UserWarning)
    response = np.empty((len(bvals), len(degrees) + 2))
    for row, b in enumerate(bvals):
        i = max(row - 1, 0) if has_b0 else row
        at = 0.0 if has_b0 and row == 0 else b
        table = gradient_table(np.full(len(vertices), at), bvecs=vertices * (at > 0))
        signal = single_tensor(table, wm[i, 3], wm[i, :3], along_z)
        response[row, 2:] = np.linalg.lstsq(basis, signal, rcond=None)[0]
        response[row, 1] = gm[i, 3] * np.exp(-at * gm[i, 0]) / SH_CONST
        response[row, 0] = csf[i, 3] * np.exp(-at * csf[i, 0]) / SH_CONST
    return MultiShellResponse(response, sh_order_max, bvals, S0=[csf[0, 3], gm[0, 3], wm[0, 3]])


class MultiShellDeconvModel(Sampled):
    """Multi-shell multi-tissue constrained spherical deconvolution (Jeurissen 2014).

    Parameters
    ----------
    gtab : GradientTable, arcuate's or DIPY's
    response : MultiShellResponse, or (3, n_shell - 1, 4) float of tensors, see :func:`multi_shell_fiber_response`
    reg_sphere : where the FOD is held non-negative; ``default_sphere`` by default
    sh_order_max : even degree of the FOD
    iso : number of isotropic tissues, at least 2
    tol : b-values closer than this are one shell

    Notes
    -----
    The optimum is exact (see :mod:`arcuate.numerics.qp`); DIPY's solver stops about 1e-4 before it.
    """

    @renamed(sh_order="sh_order_max")
    def __init__(
        self,
        gtab: Any,
        response: Any,
        reg_sphere: Any = None,
        *,
        sh_order_max: int = 8,
        iso: int = 2,
        tol: float = 20,
    ) -> None:
        if not iso >= 2:
            raise ValueError("Multi-tissue CSD requires at least 2 tissue compartments")
        if not hasattr(response, "shells"):
            response = _from_tensors(gtab, np.asarray(response), sh_order_max, iso, tol)
        self.gtab, self.response, self.sh_order_max = gtab, response, sh_order_max
        self.sphere = get_default_sphere() if reg_sphere is None else reg_sphere
        self.l_values, self.m_values = degrees_and_orders(sh_order_max)
        degrees = np.arange(0, response.sh_order_max + 1, 2)  # of one fibre along z, after the isotropic tissues
        self.delta = np.concatenate([np.full(response.iso, SH_CONST), np.sqrt((2 * degrees + 1) / (4 * np.pi))])
        self._X = self._forward(gtab)
        amplitudes = basis_matrix(vertices_of(self.sphere), sh_order_max)
        reg = np.zeros((len(amplitudes) + response.iso, amplitudes.shape[1] + response.iso))
        reg[: response.iso, : response.iso] = np.eye(response.iso)
        reg[response.iso :, response.iso :] = amplitudes
        self._reg = reg

    @cached_property
    def _problem(self) -> ConeProblem:
        half = _one_of_each_pair(vertices_of(self.sphere))
        iso = self.response.iso
        keep = np.concatenate([np.arange(iso), iso + half])
        return ConeProblem(self._X, self._reg[keep])

    def _forward(self, gtab: Any) -> np.ndarray:
        """(n_meas, n) signal per coefficient: isotropic tissues, then the FOD."""
        zonal = np.asarray(self.response.response, dtype=np.float64)
        iso = self.response.iso
        if self.sh_order_max // 2 + 1 > zonal.shape[1] - iso:
            raise ValueError("Response and n do not match")
        bvals = np.asarray(gtab.bvals)
        row = np.argmin(np.abs(np.asarray(self.response.shells)[:, None] - bvals), axis=0)
        basis = basis_matrix(np.asarray(gtab.gradients), self.sh_order_max)
        basis[np.ix_(np.asarray(gtab.b0s_mask), self.l_values > 0)] = 0.0
        rotational = np.stack([zonal_to_rotational(z)[self.l_values // 2] for z in zonal[:, iso:]])
        return np.concatenate([zonal[row, :iso], basis * rotational[row]], axis=1)

    def fit(self, data: Any, mask: Any = None, verbose: bool = True, **_: Any) -> MSDeconvFit:
        """Tissues of ``data`` (..., g) where ``mask`` (...) is true; everywhere without it."""
        data = np.asarray(data)
        grid = data.shape[:-1]
        inside = np.ones(grid, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
        if inside.shape != grid:
            raise ValueError(f"mask and data shape do not match: {inside.shape} and {data.shape}")
        rows = data.reshape(-1, data.shape[-1]) if mask is None else data[inside]
        coefs = np.empty((len(rows), self._X.shape[1]))
        status = np.empty(len(rows), np.uint8)
        for start in range(0, len(rows), _BLOCK):
            place = slice(start, start + _BLOCK)
            block = np.asarray(rows[place], dtype=np.float64)
            is_finite = np.asarray(np.isfinite(block).all(axis=1))
            fit = self._problem.solve(np.where(is_finite[:, None], block, 0.0))
            coefs[place] = np.where(is_finite[:, None], fit.solution, np.nan)
            status[place] = np.where(fit.outcome == SOLVED, Status.FITTED, Status.NO_SIGNAL)
            status[place][fit.outcome == NOT_CONVERGED] = Status.NOT_CONVERGED
            status[place][~is_finite] = Status.NOT_FINITE
        if verbose and np.isnan(coefs).any():
            warn(
                f"{int(np.isnan(coefs[:, 0]).sum())} voxels hold signals that are not finite; filled with NaN.",
                UserWarning,
            )
        full = np.zeros((*grid, coefs.shape[1]))
        full[inside] = coefs
        everywhere = np.zeros(grid, np.uint8)
        everywhere[inside] = status
        return MSDeconvFit(self, full, None if mask is None else inside, status=everywhere)

    def predict(self, params: Any, *, gtab: Any = None, S0: Any = None) -> np.ndarray:
        """Signal (..., g) of all coefficients (..., n), for the model's own gradients by default."""
        if S0 is not None and np.any(np.asarray(S0) != 1.0):
            raise NotImplementedError("scaling by S0 is not defined here; multiply the result.")
        forward = self._X if gtab is None or gtab is self.gtab else self._forward(gtab)
        return np.asarray(params) @ forward.T


class MSDeconvFit(SphHarmFit):
    """Fitted tissues: ``shm_coeff`` of the FOD, ``all_shm_coeff``, ``volume_fractions``."""

    @property
    def shm_coeff(self) -> np.ndarray:
        return self._shm_coef[..., self.model.response.iso :]

    @property
    def all_shm_coeff(self) -> np.ndarray:
        """(..., iso + n_coef): the isotropic tissues first."""
        return self._shm_coef

    @property
    def volume_fractions(self) -> np.ndarray:
        """(..., iso + 1): isotropic tissues, then fibres."""
        return self._shm_coef[..., : self.model.response.iso + 1] / SH_CONST

    def odf(self, sphere: Any) -> np.ndarray:
        """(..., n_vertices) amplitudes of the FOD on the vertices of ``sphere``."""
        return self.shm_coeff @ self.model.sampling_matrix(sphere).T

    def predict(self, gtab: Any = None, S0: Any = 1.0) -> np.ndarray:
        """Signal (..., g) of the fit."""
        return self.model.predict(self._shm_coef, gtab=gtab, S0=S0)


def mask_for_response_msmt(
    gtab: Any,
    data: np.ndarray,
    *,
    roi_center: Any = None,
    roi_radii: Any = 10,
    wm_fa_thr: float = 0.7,
    gm_fa_thr: float = 0.2,
    csf_fa_thr: float = 0.1,
    gm_md_thr: float = 0.0007,
    csf_md_thr: float = 0.002,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masks (x, y, z) int of white matter, grey matter and fluid in a cuboid, by FA and mean diffusivity."""
    data = np.asarray(data)
    if data.ndim < 4:
        raise ValueError(
            "Data must be 4D (3D image + directions). To use a 2D image, please reshape it into a "
            "(N, N, 1, ndirs) array."
        )
    region = _region(data.shape[:3], roi_center, roi_radii)
    if not np.all(unique_bvals_tolerance(gtab.bvals) <= _MAX_B):
        warn("Some b-values are higher than 1200. The DTI fit might be affected.", UserWarning)
    evals = TensorModel(gtab).fit(data[region]).evals
    fa: np.ndarray = np.nan_to_num(np.asarray(fractional_anisotropy(evals)))
    md: np.ndarray = np.nan_to_num(np.asarray(mean_diffusivity(evals)))
    choices = {
        "WM": fa > wm_fa_thr,
        "GM": (fa < gm_fa_thr) & (fa > 0) & (md < gm_md_thr),
        "CSF": (fa < csf_fa_thr) & (fa > 0) & (md < csf_md_thr) & (md > 0),
    }
    masks = []
    for tissue, choice in choices.items():
        mask = np.zeros(data.shape[:3], dtype=np.int64)
        mask[region] = choice
        masks.append(mask)
        if not choice.any():
            limits = {"WM": (wm_fa_thr, None), "GM": (gm_fa_thr, gm_md_thr), "CSF": (csf_fa_thr, csf_md_thr)}
            _warn_of_empty(tissue, *limits[tissue])
    return masks[0], masks[1], masks[2]


def response_from_mask_msmt(
    gtab: Any, data: np.ndarray, mask_wm: np.ndarray, mask_gm: np.ndarray, mask_csf: np.ndarray, *, tol: float = 20
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tensor and S0 of each tissue on each weighted shell: three (n_weighted, 4) float."""
    data = np.asarray(data)
    bvals, bvecs = np.asarray(gtab.bvals), np.asarray(gtab.bvecs)
    groups = unique_bvals_tolerance(bvals, tol=tol)
    at_b0 = np.flatnonzero(np.abs(bvals - groups[0]) <= tol)
    found = []
    for mask in (mask_wm, mask_gm, mask_csf):
        rows = data[np.asarray(mask) > 0]
        mean_b0 = rows[:, at_b0].mean(axis=1, keepdims=True) if len(rows) else np.zeros((0, 1))
        responses = []
        for b in groups[1:]:
            index = np.flatnonzero(np.abs(bvals - b) <= tol)
            table = gradient_table(
                np.concatenate([[0], bvals[index]]), bvecs=np.concatenate([bvecs[at_b0[:1]], bvecs[index]])
            )
            part = np.concatenate([mean_b0, rows[:, index]], axis=1)
            (evals, s0), _ = response_from_mask_ssst(table, part, np.ones(len(part)))
            responses.append(np.append(np.broadcast_to(evals, 3), s0))
        found.append(np.asarray(responses))
    return found[0], found[1], found[2]


def auto_response_msmt(
    gtab: Any,
    data: np.ndarray,
    *,
    tol: float = 20,
    roi_center: Any = None,
    roi_radii: Any = 10,
    wm_fa_thr: float = 0.7,
    gm_fa_thr: float = 0.3,
    csf_fa_thr: float = 0.15,
    gm_md_thr: float = 0.001,
    csf_md_thr: float = 0.0032,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Responses of white matter, grey matter and fluid in a cuboid, three (n_weighted, 4) float."""
    if not np.all(unique_bvals_tolerance(gtab.bvals) <= _MAX_B):
        warn(
            "Some b-values are higher than 1200. The DTI fit might be affected. It is advised to use "
            "mask_for_response_msmt with bvalues lower than 1200, followed by response_from_mask_msmt with all bvalues "
            "to overcome this.",
            UserWarning,
        )
    masks = mask_for_response_msmt(
        gtab,
        data,
        roi_center=roi_center,
        roi_radii=roi_radii,
        wm_fa_thr=wm_fa_thr,
        gm_fa_thr=gm_fa_thr,
        csf_fa_thr=csf_fa_thr,
        gm_md_thr=gm_md_thr,
        csf_md_thr=csf_md_thr,
    )
    return response_from_mask_msmt(gtab, data, *masks, tol=tol)


def _from_tensors(gtab: Any, response: np.ndarray, sh_order_max: int, iso: int, tol: float) -> MultiShellResponse:
    bvals = unique_bvals_tolerance(gtab.bvals, tol=tol)
    if iso > 2:
        raise ValueError("Too many compartments for this kind of response input. It must be two tissue compartments.")
    if response.shape != (3, len(bvals) - 1, 4):
        raise ValueError("Response must be of shape (3, len(bvals)-1, 4) or be a MultiShellResponse object.")
    return multi_shell_fiber_response(
        sh_order_max, bvals=bvals, wm_rf=response[0], gm_rf=response[1], csf_rf=response[2]
    )


def _one_of_each_pair(vertices: np.ndarray) -> np.ndarray:
    """Indices of vertices without the opposites of earlier ones, whose constraint says the same."""
    alike = np.triu(np.abs(vertices @ vertices.T) > 1 - 1e-10, k=1).any(axis=0)
    return np.flatnonzero(~alike)


def _warn_of_empty(tissue: str, fa: float, md: float | None) -> None:
    text = "No voxel with a {0} than {1} were found. Try a larger roi or a {2} threshold for {3}."
    if md is None:
        warn(text.format("FA higher", fa, "lower FA", tissue), UserWarning)
        return
    for name, limit in (("FA", fa), ("MD", md)):
        warn(text.format(f"{name} lower", limit, f"higher {name}", tissue), UserWarning)
