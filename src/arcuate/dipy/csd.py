"""Single-shell CSD with DIPY's names: all weighted volumes, DIPY's legacy basis, no change of frame."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from arcuate.dipy.harmonics import basis_matrix, basis_to_the_last_bit, rotational_to_the_last_bit
from arcuate.dipy.renames import renamed
from arcuate.dipy.simulations import single_tensor
from arcuate.dipy.spheres import get_small_sphere, vertices_of
from arcuate.errors import InputError, warn
from arcuate.gradients import SHELL_GAP
from arcuate.models.csd import CsdSystem, scale_of_penalty
from arcuate.models.response_zonal import zonal_harmonics
from arcuate.models.status import Status
from arcuate.numerics.sh import degrees_and_orders

_BLOCK = 50_000  # voxels fitted together


class AxSymShResponse:
    """Axially symmetric response as zonal harmonics.

    Parameters
    ----------
    S0 : float
        Signal without diffusion weighting.
    dwi_response : (n,) float
        Coefficients of degrees 0, 2, 4 ...
    bvalue : float, s/mm²
    """

    def __init__(self, S0: float, dwi_response: Any, bvalue: float | None = None) -> None:
        self.S0 = S0
        self.dwi_response = dwi_response
        self.bvalue = bvalue
        self.m_values = np.zeros(len(dwi_response))
        self.sh_order_max = 2 * (len(dwi_response) - 1)
        self.l_values = np.arange(0, self.sh_order_max + 1, 2)

    def basis(self, sphere: Any) -> np.ndarray:
        """(n_vertices, n) values of the zonal harmonics on a sphere."""
        return zonal_harmonics(np.cos(sphere.theta), self.sh_order_max).T

    def on_sphere(self, sphere: Any) -> np.ndarray:
        """(n_vertices,) signal of a fibre along z for gradients along the vertices."""
        return self.basis(sphere) @ np.asarray(self.dwi_response)


class Sampled:
    """A model of FODs that keeps the matrices by which it samples them on spheres."""

    sh_order_max: int

    @cached_property
    def _samplings(self) -> dict[int, tuple[Any, np.ndarray]]:
        return {}

    def sampling_matrix(self, sphere: Any) -> np.ndarray:
        """(n_vertices, n_coef): amplitudes on a sphere from coefficients."""
        kept = self._samplings.get(id(sphere))
        if kept is None or kept[0] is not sphere:
            kept = (sphere, basis_matrix(vertices_of(sphere), self.sh_order_max))
            self._samplings[id(sphere)] = kept
        return kept[1]


class ConstrainedSphericalDeconvModel(Sampled):
    """Constrained spherical deconvolution (Tournier 2007).

    Parameters
    ----------
    gtab : GradientTable, arcuate's or DIPY's
    response : (evals, S0), or an object with ``dwi_response`` and ``S0``
    reg_sphere : Sphere, optional
        Directions of the constraint; ``small_sphere`` by default.
    sh_order_max : even degree of the FOD
    lambda_ : weight of the constraint
    tau : amplitudes below tau times the mean are pulled to zero
    convergence : most iterations
    """

    @renamed(sh_order="sh_order_max")
    def __init__(
        self,
        gtab: Any,
        response: Any,
        reg_sphere: Any = None,
        sh_order_max: int = 8,
        lambda_: float = 1,
        tau: float = 0.1,
        convergence: int = 50,
    ) -> None:
        self.gtab, self.response = gtab, response
        self.sh_order_max, self.tau, self.convergence = sh_order_max, tau, convergence
        self._where_dwi = np.flatnonzero(~np.asarray(gtab.b0s_mask))
        self._where_b0s = np.flatnonzero(np.asarray(gtab.b0s_mask))
        _check_volumes(gtab, self._where_dwi, sh_order_max)
        self.B_dwi = basis_to_the_last_bit(np.asarray(gtab.gradients)[self._where_dwi], sh_order_max)
        self.l_values, self.m_values = degrees_and_orders(sh_order_max)
        self.sphere = get_small_sphere() if reg_sphere is None else reg_sphere
        zonal = self._read_response()
        if len(zonal) < sh_order_max // 2 + 1:
            raise InputError(
                f"the response has degree {2 * len(zonal) - 2}, the model asks for sh_order_max = {sh_order_max}; "
                "lower sh_order_max, or estimate the response with that degree."
            )
        rotational = rotational_to_the_last_bit(zonal)
        self.R = np.diag(rotational[self.l_values // 2])
        self.B_reg = basis_matrix(vertices_of(self.sphere), sh_order_max)
        self.B_reg *= scale_of_penalty(rotational[0], len(self.R), len(self.B_reg), lambda_)
        self._X = self.R.diagonal() * self.B_dwi

    @cached_property
    def _system(self) -> CsdSystem:
        return CsdSystem(self._X, self.B_reg, self.tau, self.convergence)

    @property
    def _P(self) -> np.ndarray:  # noqa: N802
        return self._X.T @ self._X

    def _read_response(self) -> np.ndarray:
        """Zonal coefficients; those of a tensor by least squares at the acquired directions, as DIPY has them."""
        if hasattr(self.response, "dwi_response"):
            self.response_scaling = self.response.S0
            return np.asarray(self.response.dwi_response, dtype=np.float64)
        evals, self.response_scaling = self.response[0], self.response[1]
        along_z = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]])
        self.S_r = single_tensor(self.gtab, self.response_scaling, evals, along_z)
        coefs = np.linalg.lstsq(self.B_dwi, self.S_r[self._where_dwi], rcond=-1)[0]
        return coefs[self.m_values == 0]

    def fit(self, data: Any, mask: Any = None, **_: Any) -> SphHarmFit:
        """FODs of ``data`` (..., g) where ``mask`` (...) is true; everywhere without it.

        Options of DIPY's parallel engines are accepted and without effect.
        """
        data = np.asarray(data)
        grid = data.shape[:-1]
        inside = np.ones(grid, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
        if inside.shape != grid:
            raise ValueError(f"mask and data shape do not match: {inside.shape} and {data.shape}")
        rows = data.reshape(-1, data.shape[-1]) if mask is None else data[inside]
        coefs, status = self.fit_rows(rows)
        shm_coeff = np.zeros((*grid, coefs.shape[1]))
        shm_coeff[inside] = coefs
        everywhere = np.zeros(grid, dtype=np.uint8)
        everywhere[inside] = status
        return SphHarmFit(self, shm_coeff, None if mask is None else inside, status=everywhere)

    def fit_rows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (n_vox, n_coef) and status (n_vox,) of rows (n_vox, g)."""
        coefs = np.empty((len(rows), len(self.R)))
        status = np.empty(len(rows), dtype=np.uint8)
        for start in range(0, len(rows), _BLOCK):
            place = slice(start, start + _BLOCK)
            fit = self._system.fit(rows[place][:, self._where_dwi])
            coefs[place], status[place] = fit.coefs, fit.status
        coefs[status == Status.NOT_FINITE] = np.nan  # as DIPY
        n_lost = int(np.sum(status == Status.NOT_CONVERGED))
        if n_lost:
            warn(f"maximum number of iterations exceeded - failed to converge in {n_lost} of {len(rows)} voxels")
        return coefs, status

    def predict(self, sh_coeff: Any, gtab: Any = None, S0: Any = 1.0) -> np.ndarray:
        """Signal (..., g) of FODs (..., n_coef) for the gradients of ``gtab``, the model's own by default."""
        if gtab is None or gtab is self.gtab:
            gtab, basis = self.gtab, self.B_dwi
        else:
            basis = basis_matrix(np.asarray(gtab.gradients)[~np.asarray(gtab.b0s_mask)], self.sh_order_max)
        s0 = np.asarray(S0)[..., None]
        weighted = (s0 / self.response_scaling) * (np.asarray(sh_coeff) @ (basis * self.R.diagonal()).T)
        signal = np.zeros((*weighted.shape[:-1], len(gtab.bvals)))
        signal[..., ~np.asarray(gtab.b0s_mask)] = weighted
        signal[..., np.asarray(gtab.b0s_mask)] = s0
        return signal


class SphHarmFit:
    """Fitted FODs: ``shm_coeff`` (..., n_coef) in DIPY's legacy basis, zero outside the mask; ``status`` (...)."""

    def __init__(self, model: Any, shm_coef: np.ndarray, mask: np.ndarray | None, status: Any = None) -> None:
        self.model = model
        self._shm_coef = shm_coef
        self.mask = mask
        self.status = status

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shm_coef.shape[:-1]

    @property
    def shm_coeff(self) -> np.ndarray:
        return self._shm_coef

    def __getitem__(self, index: Any) -> SphHarmFit:
        place = (*index, Ellipsis) if isinstance(index, tuple) else index
        mask = None if self.mask is None else self.mask[index]
        return SphHarmFit(self.model, self._shm_coef[place], mask, None if self.status is None else self.status[index])

    def odf(self, sphere: Any) -> np.ndarray:
        """(..., n_vertices) amplitudes on the vertices of ``sphere``."""
        return self._shm_coef @ self.model.sampling_matrix(sphere).T

    @cached_property
    def gfa(self) -> np.ndarray:
        """(...) generalised fractional anisotropy, 0 where there is no signal."""
        power = np.sum(self._shm_coef**2, axis=-1)
        part = np.divide(self._shm_coef[..., 0] ** 2, power, out=np.ones_like(power), where=power > 0)
        return np.sqrt(1.0 - part)

    def predict(self, gtab: Any = None, S0: Any = 1.0) -> np.ndarray:
        """Signal (..., g) for the gradients of ``gtab``; zero outside the mask."""
        signal = self.model.predict(self._shm_coef, gtab=gtab, S0=S0)
        return signal if self.mask is None else np.where(self.mask[..., None], signal, 0.0)


def _check_volumes(gtab: Any, where_dwi: np.ndarray, sh_order_max: int) -> None:
    """Warn of several shells and of more coefficients than directions; refuse a table without weighted volumes."""
    if len(where_dwi) == 0:
        raise InputError("found no weighted volume in the gradient table; CSD needs one shell of directions.")
    if sh_order_max < 0 or sh_order_max % 2:
        raise InputError(f"found sh_order_max = {sh_order_max}; expected an even number, zero or above.")
    bvals = np.sort(np.asarray(gtab.bvals)[where_dwi])
    groups = np.split(bvals, np.flatnonzero(np.diff(bvals) > SHELL_GAP) + 1)
    if len(groups) > 1:
        found = ", ".join(f"{group.mean():.0f}" for group in groups)
        warn(
            f"the weighted volumes lie on shells at b = {found}; single-shell CSD takes them all as one, as DIPY "
            "does. Give it one shell and its b=0 volumes, or use multi-tissue CSD."
        )
    if (sh_order_max + 1) * (sh_order_max + 2) // 2 > len(where_dwi):
        warn("Number of parameters required for the fit are more than the actual data points", UserWarning)
