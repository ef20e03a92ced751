"""Diffusion kurtosis with DIPY's names: all volumes, no change of frame, DIPY's floor for small signals."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from arcuate.dipy.spheres import get_sphere
from arcuate.dipy.tensor import LEAST_EVAL, MIN_POSITIVE_SIGNAL, TensorFit
from arcuate.errors import InputError
from arcuate.models import kurtosis as models
from arcuate.models import kurtosis_measures as measures

_ROUNDS = {"WLS": 1, "WLLS": 1, "LS": 0, "LLS": 0, "OLS": 0, "OLLS": 0}
_BLOCK = 20_000  # voxels fitted together
_UPPER = (..., [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2])  # xx xy xz yy yz zz of (..., 3, 3)


class DiffusionKurtosisModel:
    """Kurtosis model of a gradient table, arcuate's or DIPY's.

    Parameters
    ----------
    gtab : GradientTable
        Three b-values at least, b = 0 among them or not.
    fit_method : str
        "WLS" or "OLS" (and DIPY's other names for them).
    return_S0_hat : bool
        Whether the fit carries the fitted signal at b = 0.
    min_signal : float
        Signals below it are raised to it; 1e-4 by default.
    """

    def __init__(
        self, gtab: Any, *args: Any, fit_method: Any = "WLS", return_S0_hat: bool = False, **kwargs: Any
    ) -> None:
        if callable(fit_method) or str(fit_method).upper() not in _ROUNDS:
            raise InputError(
                f"found the fit method {fit_method!r}; expected one of {', '.join(_ROUNDS)}. For constrained, robust "
                "or nonlinear fits use DIPY's own model."
            )
        min_signal = kwargs.pop("min_signal", None)
        if min_signal is not None and min_signal <= 0:
            raise InputError(f"min_signal is {min_signal}; expected a number above zero.")
        if args or kwargs:
            raise InputError(f"found the arguments {[*args, *kwargs]}; expected fit_method, return_S0_hat, min_signal.")
        bvals = np.asarray(gtab.bvals, dtype=np.float64)
        n_levels = len(np.unique(np.round(bvals, -2)))
        if n_levels < 3:
            raise InputError(
                f"kurtosis needs 3 different b-values (b=0 may be one); found {n_levels}. Fit a TensorModel instead."
            )
        self.gtab = gtab
        self.fit_method = str(fit_method).upper()
        self.return_S0_hat = return_S0_hat
        self.min_signal = MIN_POSITIVE_SIGNAL if min_signal is None else min_signal
        directions = np.nan_to_num(np.asarray(gtab.bvecs, dtype=np.float64))
        self._design = models.kurtosis_design(bvals, directions)
        self._model = models.KurtosisModel(
            self._design,
            n_reweight=_ROUNDS[self.fit_method],
            min_diffusivity=1e-6 / float(-self._design.min()),
            min_signal=self.min_signal,
        )

    def fit(self, data: np.ndarray, mask: np.ndarray | None = None) -> DiffusionKurtosisFit:
        """Fit ``data`` (..., g) where ``mask`` (...) is true; everywhere without it."""
        data = np.asarray(data)
        grid = data.shape[:-1]
        inside = np.ones(grid, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
        if inside.shape != grid:
            raise InputError(f"found a mask of shape {inside.shape} for data of shape {data.shape}; expected {grid}.")
        if data.shape[-1] != len(self._design):
            raise InputError(
                f"found {data.shape[-1]} signals per voxel for {len(self._design)} gradients; expected as many."
            )
        parameters, s0 = np.zeros((*grid, 27)), np.zeros(grid)
        rows = data[inside]
        found, fitted = np.empty((len(rows), 27)), np.empty(len(rows))
        for start in range(0, len(rows), _BLOCK):
            place = slice(start, start + _BLOCK)
            fit = self._model.fit(rows[place])
            found[place, :3], found[place, 12:] = fit.evals, fit.kurtosis
            found[place, 3:12] = fit.evecs.transpose(0, 2, 1).reshape(-1, 9)
            fitted[place] = fit.s0
        parameters[inside], s0[inside] = found, fitted
        return DiffusionKurtosisFit(self, parameters, model_S0=s0 if self.return_S0_hat else None)

    def predict(self, dki_params: np.ndarray, S0: Any = 1.0) -> np.ndarray:
        """Signal (..., g) of tensors given as parameters (..., 27)."""
        return _predict(dki_params, self.gtab, S0)


class DiffusionKurtosisFit(TensorFit):
    """Fitted tensors; ``model_params`` (..., 27): eigenvalues, eigenvectors as columns, 15 elements of W."""

    @property
    def kt(self) -> np.ndarray:
        """(..., 15) xxxx yyyy zzzz xxxy xxxz xyyy yyyz xzzz yzzz xxyy xxzz yyzz xxyz xyyz xyzz."""
        return self.model_params[..., 12:27]

    @cached_property
    def _measures(self) -> list[np.ndarray]:
        evecs = np.swapaxes(self.evecs, -1, -2).reshape(-1, 3, 3)
        found = measures.kurtosis_measures(self.evals.reshape(-1, 3), evecs, self.kt.reshape(-1, 15))
        return [measure.reshape(self.shape) for measure in found]

    def mk(
        self, min_kurtosis: float = -3.0 / 7, max_kurtosis: float = 10, analytical: bool = True, fast: bool = True
    ) -> np.ndarray:
        """(...) mean kurtosis within the limits; exact, whatever ``analytical`` and ``fast``."""
        return np.clip(self._measures[0], min_kurtosis, max_kurtosis)

    def ak(
        self, min_kurtosis: float = -3.0 / 7, max_kurtosis: float = 10, analytical: bool = True, fast: bool = True
    ) -> np.ndarray:
        """(...) axial kurtosis within the limits; exact, whatever ``analytical`` and ``fast``."""
        return np.clip(self._measures[1], min_kurtosis, max_kurtosis)

    def rk(
        self, min_kurtosis: float = -3.0 / 7, max_kurtosis: float = 10, analytical: bool = True, fast: bool = True
    ) -> np.ndarray:
        """(...) radial kurtosis within the limits; exact, whatever ``analytical`` and ``fast``."""
        return np.clip(self._measures[2], min_kurtosis, max_kurtosis)

    def rtk(self, min_kurtosis: float = -3.0 / 7, max_kurtosis: float = 10) -> np.ndarray:
        """(...) radial kurtosis of the tensor within the limits: W's mean across the first eigenvector, by MD² / RD².

        References
        ----------
        Hansen et al. 2016, NeuroImage 142:381.
        """
        around = np.deg2rad([0.0, 60.0, 120.0])  # as many as the mean of a fourth power around a circle asks for
        second, third = self.evecs[..., None, :, 1], self.evecs[..., None, :, 2]
        across = np.cos(around)[:, None] * second + np.sin(around)[:, None] * third
        products = measures.monomials(across.reshape(-1, 3)).reshape(*self.shape, 3, 15)
        mean = np.einsum("...ni,...i->...", products, self.kt) / 3
        ratio = np.divide(self.md, self.rd, out=np.zeros(self.shape), where=self._is_positive)
        return np.clip(mean * ratio**2, min_kurtosis, max_kurtosis)

    def kmax(
        self, sphere: Any = "repulsion100", gtol: float | None = 1e-5, mask: np.ndarray | None = None
    ) -> np.ndarray:
        """(...) highest kurtosis along a direction; 0 outside ``mask`` (...) and where an eigenvalue is not positive.

        Parameters
        ----------
        sphere : whose highest vertex is taken if ``gtol`` is None; a name is that of repulsion100
        gtol : any number for the maximum itself, wherever DIPY's search would begin
        """
        inside = self._is_positive
        if mask is not None:
            if np.shape(mask) != self.shape:
                raise ValueError(f"found a mask of shape {np.shape(mask)}; expected {self.shape}.")
            inside = inside & np.asarray(mask, dtype=bool)
        at = get_sphere("repulsion724") if gtol is not None else sphere
        vertices = (at if hasattr(at, "vertices") else get_sphere("repulsion100")).vertices
        tensors = self.quadratic_form[inside][_UPPER]
        power = self.md[inside][:, None] ** 2 * self.kt[inside]
        highest = np.zeros(self.shape)
        highest[inside] = measures.highest_kurtosis(tensors, power, np.asarray(vertices), is_exact=gtol is not None)
        return highest

    @property
    def _is_positive(self) -> np.ndarray:
        """(...) bool, whether all eigenvalues are above DIPY's least, 2e-7 mm²/s."""
        return np.asarray(np.all(self.evals > LEAST_EVAL, axis=-1))

    def mkt(self, min_kurtosis: float = -3.0 / 7, max_kurtosis: float = 10) -> np.ndarray:
        """(...) mean of the kurtosis tensor within the limits."""
        return np.clip(measures.mean_kurtosis_tensor(self.kt), min_kurtosis, max_kurtosis)

    @property
    def kfa(self) -> np.ndarray:
        """(...) anisotropy of the kurtosis tensor; 0 where its mean is not positive, as in DIPY."""
        is_positive = measures.mean_kurtosis_tensor(self.kt) > 1e-8
        return np.where(is_positive, measures.kurtosis_fractional_anisotropy(self.kt), 0.0)

    def akc(self, sphere: Any) -> np.ndarray:
        """(..., n_vertices) kurtosis along the vertices of ``sphere``, not below -3/7; 0 where D(n) is not positive."""
        diffusivity = self.adc(sphere)
        power = self.md[..., None] ** 2 * (self.kt @ measures.monomials(sphere.vertices).T)
        along = np.divide(power, diffusivity**2, out=np.zeros_like(power), where=diffusivity > 0)
        return np.maximum(along, -3 / 7)

    def predict(self, gtab: Any, S0: Any = 1.0) -> np.ndarray:  # type: ignore[override]
        """Signal (..., g) for the gradients of ``gtab``; S0 a number or (...)."""
        return _predict(self.model_params, gtab, S0)


def _predict(parameters: np.ndarray, gtab: Any, s0: Any) -> np.ndarray:
    """Signal (..., g) of parameters (..., 27)."""
    evals, evecs = parameters[..., :3], parameters[..., 3:12].reshape(*parameters.shape[:-1], 3, 3)
    tensors = np.einsum("...ik,...k,...jk->...ij", evecs, evals, evecs)[_UPPER]
    square = evals.mean(axis=-1, keepdims=True) ** 2
    design = models.kurtosis_design(np.asarray(gtab.bvals), np.nan_to_num(np.asarray(gtab.bvecs)))
    logs = np.concatenate([tensors, parameters[..., 12:27] * square], axis=-1) @ design[:, :21].T
    return np.asarray(s0)[..., None] * np.exp(logs)
