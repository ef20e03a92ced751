"""Free water with DIPY's names: all volumes, no change of frame, DIPY's floor for small signals."""

from __future__ import annotations

from typing import Any

import numpy as np

from arcuate.dipy.tensor import LEAST_EVAL, TensorFit
from arcuate.dipy.tensor_measures import tensor_prediction
from arcuate.errors import InputError
from arcuate.models import free_water as models

_BLOCK = 20_000  # voxels fitted together
_METHODS = {"WLS": False, "WLLS": False, "NLS": True, "NLLS": True}  # whether the fit goes on beyond linear ones
_NONLINEAR = {"f_transform": True, "cholesky": False, "weighting": None, "sigma": None}  # the only values offered
_SETTINGS = {"Diso": models.DISO, "mdreg": 2.7e-3, "min_signal": 1e-6}


class FreeWaterTensorModel:
    """Free-water model of a gradient table, arcuate's or DIPY's.

    Parameters
    ----------
    gtab : GradientTable
        Three b-values at least, b = 0 among them.
    fit_method : str
        "NLS", non-linear least squares from the weighted linear fit (DIPY's default), or "WLS".
    Diso, mdreg, min_signal : float
        Diffusivity of water (3e-3 mm²/s), mean diffusivity from which a voxel is all water (2.7e-3 mm²/s), and what
        smaller signals are raised to (1e-6).
    """

    def __init__(self, gtab: Any, *args: Any, fit_method: Any = "NLS", **kwargs: Any) -> None:
        if callable(fit_method) or fit_method not in _METHODS:
            raise InputError(
                f"found the fit method {fit_method!r}; expected one of {', '.join(_METHODS)}. For functions of your "
                "own use DIPY's model."
            )
        is_nonlinear = _METHODS[fit_method]
        if is_nonlinear:
            kwargs.pop("jac", None)  # derivatives are exact anyway
            other = [name for name, value in _NONLINEAR.items() if kwargs.pop(name, value) != value]
            if other:
                raise InputError(
                    f"found other values of {', '.join(other)} than DIPY's defaults; expected those. For weighted or "
                    "Cholesky-bounded fits use DIPY's own model."
                )
        unknown = [*args, *(name for name in kwargs if name not in _SETTINGS)]
        if unknown:
            raise InputError(f"found the arguments {unknown}; expected fit_method, {', '.join(_SETTINGS)}.")
        bvals = np.asarray(gtab.bvals, dtype=np.float64)
        n_levels = len(np.unique(np.round(bvals, -2)))
        if n_levels < 3:
            raise InputError(
                f"free water needs 3 different b-values, b=0 among them; found {n_levels}. Fit a TensorModel instead."
            )
        self.gtab = gtab
        self.fit_method = fit_method
        settings = {**_SETTINGS, **kwargs}
        self._diso = settings["Diso"]
        self._model = models.FreeWaterModel(
            bvals,
            np.nan_to_num(np.asarray(gtab.bvecs, dtype=np.float64)),
            np.asarray(gtab.b0s_mask, dtype=bool),
            settings["Diso"],
            settings["mdreg"],
            min_signal=settings["min_signal"],
            is_nonlinear=is_nonlinear,
        )

    def fit(self, data: np.ndarray, *, mask: np.ndarray | None = None) -> FreeWaterTensorFit:
        """Fit ``data`` (..., g) where ``mask`` (...) is true; everywhere without it."""
        data = np.asarray(data)
        grid = data.shape[:-1]
        inside = np.ones(grid, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
        if inside.shape != grid:
            raise InputError(f"found a mask of shape {inside.shape} for data of shape {data.shape}; expected {grid}.")
        if data.shape[-1] != len(self._model.bvals):
            raise InputError(
                f"found {data.shape[-1]} signals per voxel for {len(self._model.bvals)} gradients; expected as many."
            )
        rows = data[inside]
        found = np.empty((len(rows), 13))
        for start in range(0, len(rows), _BLOCK):
            place = slice(start, start + _BLOCK)
            fit = self._model.fit(rows[place])
            found[place, :3], found[place, 12] = fit.evals, fit.fwf
            found[place, 3:12] = fit.evecs.transpose(0, 2, 1).reshape(-1, 9)
            found[place][self._is_dark(rows[place])] = 0
        parameters = np.zeros((*grid, 13))
        parameters[inside] = found
        return FreeWaterTensorFit(self, parameters)

    def _is_dark(self, rows: np.ndarray) -> np.ndarray:
        """(n_vox,) bool, voxels of rows (n_vox, g) without signal, at b = 0 or at all: DIPY gives zeros there."""
        least = self._model.min_signal
        return np.asarray((rows.mean(axis=1) <= least) | (rows[:, self._model.is_b0].mean(axis=1) <= least))

    def predict(self, fwdti_params: np.ndarray, *, S0: Any = 1) -> np.ndarray:
        """Signal (..., g) of parameters (..., 13)."""
        return _predict(fwdti_params, self.gtab, S0, self._diso)


class FreeWaterTensorFit(TensorFit):
    """Fitted tensors and water; ``model_params`` (..., 13): eigenvalues, eigenvectors as columns, share of water."""

    def __init__(self, model: Any, model_params: np.ndarray) -> None:
        super().__init__(model, model_params)

    def __getitem__(self, index: Any) -> FreeWaterTensorFit:
        return type(self)(self.model, self.model_params[(*(index if type(index) is tuple else (index,)), ...)])

    @property
    def f(self) -> np.ndarray:
        """(...) share of free water."""
        return self.model_params[..., 12]

    def predict(self, gtab: Any, *, S0: Any = 1) -> np.ndarray:  # type: ignore[override]
        """Signal (..., g) for the gradients of ``gtab``; S0 a number or (...)."""
        return _predict(self.model_params, gtab, S0, self.model._diso)


def _predict(parameters: np.ndarray, gtab: Any, s0: Any, diso: float) -> np.ndarray:
    """Signal (..., g) of parameters (..., 13); 0 where an eigenvalue is not positive, as in DIPY."""
    share = parameters[..., 12:]
    is_positive = np.all(parameters[..., :3] > LEAST_EVAL, axis=-1, keepdims=True)
    tissue = tensor_prediction(parameters[..., :12], gtab, s0)
    water = np.asarray(s0)[..., None] * np.exp(-diso * np.asarray(gtab.bvals))
    return np.where(is_positive, (1 - share) * tissue + share * water, 0.0)
