"""The diffusion tensor with DIPY's names: all volumes, no change of frame, DIPY's floor for small signals."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from arcuate.dipy.tensor_measures import (
    apparent_diffusion_coef,
    axial_diffusivity,
    color_fa,
    decompose_tensor,
    design_matrix,
    determinant,
    deviatoric,
    eig_from_lo_tri,
    fractional_anisotropy,
    from_lower_triangular,
    geodesic_anisotropy,
    isotropic,
    linearity,
    lower_triangular,
    mean_diffusivity,
    mode,
    norm,
    planarity,
    radial_diffusivity,
    sphericity,
    tensor_odf,
    tensor_prediction,
    trace,
)
from arcuate.errors import InputError
from arcuate.models import tensor as models
from arcuate.models.status import Status
from arcuate.volumes.voxels import masked_blocks

__all__ = [
    "MIN_POSITIVE_SIGNAL", "TensorFit", "TensorModel", "apparent_diffusion_coef", "axial_diffusivity", "color_fa",
    "decompose_tensor", "design_matrix", "determinant", "deviatoric", "eig_from_lo_tri", "fractional_anisotropy",
    "from_lower_triangular", "geodesic_anisotropy", "isotropic", "linearity", "lower_triangular", "mean_diffusivity",
    "mode", "norm", "ols_fit_tensor", "planarity", "radial_diffusivity", "sphericity", "tensor_prediction", "trace",
    "wls_fit_tensor",
]  # fmt: skip

MIN_POSITIVE_SIGNAL = 0.0001
LEAST_EVAL = 2e-7  # mm²/s: DIPY takes no smaller eigenvalue for positive
_TO_OURS = [0, 1, 3, 2, 4, 5]  # xx xy yy xz yz zz -> xx xy xz yy yz zz (its own inverse)
_BLOCK = 50_000  # voxels fitted together


def wls_fit_tensor(
    design_matrix: np.ndarray,
    data: np.ndarray,
    weights: np.ndarray | None = None,
    return_S0_hat: bool = False,
    return_lower_triangular: bool = False,
    return_leverages: bool = False,
    step: float = 1e4,
) -> tuple[Any, dict[str, np.ndarray] | None]:
    """Weighted fit; without ``weights`` (..., g) they are the squares of the signals that OLS fits.

    For the other parameters and the answer see :func:`ols_fit_tensor`.
    """
    design, rows = _as_rows(design_matrix, data)
    coefs, leverages = _fit_coefs(design, rows, 1), None
    if weights is not None or return_leverages:
        own = np.exp(2 * _fit_coefs(design, rows, 0) @ design.T) if weights is None else np.reshape(weights, rows.shape)
        coefs, leverages = _solve_in_blocks(design, np.log(rows), own)
    return _answer(design, coefs, data.shape, return_S0_hat, return_lower_triangular), (
        {"leverages": leverages.reshape(data.shape)} if return_leverages and leverages is not None else None
    )


def ols_fit_tensor(
    design_matrix: np.ndarray,
    data: np.ndarray,
    return_S0_hat: bool = False,
    return_lower_triangular: bool = False,
    return_leverages: bool = False,
    step: float = 1e4,
) -> tuple[Any, dict[str, np.ndarray] | None]:
    """Ordinary fit of log signals.

    Parameters
    ----------
    design_matrix : (g, 7), of :func:`design_matrix`
    data : (..., g), positive signals
    return_S0_hat : the answer is (parameters, S0) instead of the parameters alone
    return_lower_triangular : (..., 7) coefficients xx xy yy xz yz zz -log S0 in place of the parameters
    return_leverages : ``extra`` is {"leverages": (..., g)}
    step : accepted and without effect; memory is bounded anyway

    Returns
    -------
    parameters : (..., 12), eigenvalues and the eigenvectors as columns
    extra : dict or None
    """
    design, rows = _as_rows(design_matrix, data)
    answer = _answer(design, _fit_coefs(design, rows, 0), data.shape, return_S0_hat, return_lower_triangular)
    if not return_leverages:
        return answer, None
    leverages = models.solve_weighted(design, rows[:1] * 0)[1]
    return answer, {"leverages": np.broadcast_to(leverages[0], data.shape)}


def _as_rows(design: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Design (g, 7) float64 and signals (n_vox, g)."""
    data = np.asarray(data)
    if data.shape[-1] != len(design):
        raise InputError(f"found {data.shape[-1]} signals per voxel for {len(design)} gradients; expected as many.")
    return np.asarray(design, dtype=np.float64), data.reshape(-1, data.shape[-1])


def _fit_coefs(design: np.ndarray, rows: np.ndarray, n_reweight: int) -> np.ndarray:
    """(n_vox, 7) xx xy yy xz yz zz -log S0; NaN in a voxel with a signal that is not finite."""
    tiny = float(np.finfo(np.float64).tiny)
    model = models.TensorModel(_our_design(design), n_reweight=n_reweight, min_signal=tiny)
    coefs = np.empty((len(rows), 7))
    for start in range(0, len(rows), _BLOCK):
        place = slice(start, start + _BLOCK)
        fit = model.fit(rows[place])
        coefs[place, :6] = fit.tensors[:, _TO_OURS]
        coefs[place, 6] = -np.log(np.maximum(fit.s0, tiny))
        coefs[place][fit.status == Status.NOT_FINITE] = np.nan
    return coefs


def _our_design(design: np.ndarray) -> np.ndarray:
    """DIPY's design matrix with the columns xx xy xz yy yz zz, log S0."""
    return np.column_stack([design[:, _TO_OURS], -design[:, 6]])


def _solve_in_blocks(design: np.ndarray, logs: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    places = [slice(start, start + 1000) for start in range(0, len(logs), 1000)]
    parts = [models.solve_weighted(design, logs[place], weights[place]) for place in places]
    coefs, leverages = zip(*parts, strict=True)
    return np.concatenate(coefs), np.concatenate(leverages)


def _answer(design: np.ndarray, coefs: np.ndarray, shape: tuple[int, ...], with_s0: bool, as_coefs: bool) -> Any:
    """Coefficients in the form that DIPY's fit functions give."""
    grid = shape[:-1]
    if as_coefs:
        return coefs.reshape(*grid, 7)
    parameters, s0 = eig_from_lo_tri(coefs[:, :6], min_diffusivity=1e-6 / -design.min()), np.exp(-coefs[:, 6])
    lost = ~np.isfinite(coefs).all(axis=1)
    parameters[lost], s0[lost] = 0, 0
    parameters = parameters.reshape(*grid, 12)
    return (parameters, s0.reshape(*grid, 1)) if with_s0 else parameters


_ROUNDS = {wls_fit_tensor: 1, ols_fit_tensor: 0}  # of reweighting
common_fit_methods: dict[str, Callable[..., Any]] = {
    "WLS": wls_fit_tensor,
    "WLLS": wls_fit_tensor,
    "LS": ols_fit_tensor,
    "LLS": ols_fit_tensor,
    "OLS": ols_fit_tensor,
    "OLLS": ols_fit_tensor,
}


class TensorModel:
    """Tensor model of a gradient table, arcuate's or DIPY's.

    Parameters
    ----------
    gtab : GradientTable
    fit_method : str or callable
        "WLS" or "OLS" (and DIPY's other names for them), or a function
        ``(design_matrix, data, *args, return_S0_hat, **kwargs) -> parameters, extra``.
    return_S0_hat : bool
        Whether the fit carries the fitted signal at b = 0.
    min_signal : float
        Signals below it are raised to it; 1e-4 by default.
    """

    def __init__(
        self,
        gtab: Any,
        *args: Any,
        fit_method: Any = "WLS",
        return_S0_hat: bool = False,
        **kwargs: Any,
    ) -> None:
        if not callable(fit_method):
            if str(fit_method).upper() not in common_fit_methods:
                raise InputError(
                    f"found the fit method {fit_method!r}; expected one of {', '.join(common_fit_methods)} or a "
                    "function. For robust or nonlinear fits use DIPY's own model."
                )
            fit_method = common_fit_methods[str(fit_method).upper()]
        self.gtab = gtab
        self.fit_method = fit_method
        self.return_S0_hat = return_S0_hat
        self.design_matrix = design_matrix(gtab)
        self.args = args
        self.min_signal = kwargs.pop("min_signal", None)
        self.kwargs = kwargs
        self.extra: dict[str, np.ndarray] = {}
        if self.min_signal is not None and self.min_signal <= 0:
            raise InputError(f"min_signal is {self.min_signal}; expected a number above zero.")

    def fit(self, data: np.ndarray, mask: np.ndarray | None = None) -> TensorFit:
        """Fit ``data`` (..., g) where ``mask`` (...) is true; everywhere without it."""
        data = np.asarray(data)
        grid = data.shape[:-1]
        if mask is None:
            inside = np.ones(grid, dtype=bool)
        else:
            inside = np.asarray(mask, dtype=bool)
            if inside.shape != grid:
                raise InputError(
                    f"found a mask of shape {inside.shape} for data of shape {data.shape}; expected {grid}."
                )
        floor = MIN_POSITIVE_SIGNAL if self.min_signal is None else self.min_signal
        if self.fit_method in _ROUNDS and not self.args and set(self.kwargs) <= {"step"}:
            parameters, s0 = self._fit_in_blocks(data, inside, floor)
            return TensorFit(self, parameters, model_S0=s0 if self.return_S0_hat else None)
        rows = np.maximum(data[inside], floor)
        found, extra = self.fit_method(
            self.design_matrix, rows, *self.args, return_S0_hat=self.return_S0_hat, **self.kwargs
        )
        s0 = None  # type: ignore[assignment]
        if self.return_S0_hat:
            found, fitted = found
            s0 = np.zeros(grid)
            s0[inside] = np.reshape(fitted, -1)
        for name, values in (extra or {}).items():
            self.extra[name] = np.zeros(data.shape)
            self.extra[name][inside] = values
        parameters = np.zeros((*grid, found.shape[-1]))
        parameters[inside] = found
        return TensorFit(self, parameters, model_S0=s0)

    def _fit_in_blocks(self, data: np.ndarray, inside: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
        """Parameters (..., 12) and S0 (...) by one of arcuate's own fits, without a copy of the data."""
        n_meas = len(self.design_matrix)
        if data.shape[-1] != n_meas:
            raise InputError(f"found {data.shape[-1]} signals per voxel for {n_meas} gradients; expected as many.")
        model = models.TensorModel(
            _our_design(self.design_matrix),
            n_reweight=_ROUNDS[self.fit_method],
            min_diffusivity=1e-6 / -self.design_matrix.min(),
            min_signal=floor,
        )
        cube = data if data.ndim == 4 else data.reshape(-1, 1, 1, n_meas)
        mask = inside.reshape(cube.shape[:3])
        at = np.unravel_index(np.flatnonzero(mask.ravel(order="F")), mask.shape, order="F")
        parameters, s0 = np.zeros((*mask.shape, 12)), np.zeros(mask.shape)
        for place, rows in masked_blocks(cube, mask):
            fit = model.fit(rows)
            found = np.concatenate([fit.evals, fit.evecs.transpose(0, 2, 1).reshape(-1, 9)], axis=1)
            here = at[0][place], at[1][place], at[2][place]
            parameters[here], s0[here] = found, fit.s0
        return parameters.reshape(*inside.shape, 12), s0.reshape(inside.shape)

    def predict(self, dti_params: np.ndarray, S0: Any = 1.0) -> np.ndarray:
        """Signal (..., g) of tensors given as parameters (..., 12)."""
        return tensor_prediction(dti_params, self.gtab, S0)


class TensorFit:
    """Fitted tensors; ``model_params`` (..., 12) holds the eigenvalues and the eigenvectors as columns."""

    def __init__(self, model: Any, model_params: np.ndarray, model_S0: np.ndarray | None = None) -> None:
        self.model = model
        self.model_params = model_params
        self.model_S0 = model_S0

    def __getitem__(self, index: Any) -> TensorFit:
        index = index if type(index) is tuple else (index,)
        if len(index) >= self.model_params.ndim:
            raise IndexError(f"{len(index)} indices for tensors of shape {self.shape}")
        s0 = None if self.model_S0 is None else self.model_S0[index]
        return type(self)(self.model, self.model_params[(*index, ...)], model_S0=s0)

    @property
    def S0_hat(self) -> np.ndarray | None:  # noqa: N802
        """(...) fitted signal at b = 0; None unless the model was made with ``return_S0_hat``."""
        return self.model_S0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.model_params.shape[:-1]

    @property
    def directions(self) -> np.ndarray:
        """(..., 1, 3) first eigenvector, for tracking."""
        return self.evecs[..., None, :, 0]

    @property
    def evals(self) -> np.ndarray:
        """(..., 3) eigenvalues, largest first."""
        return self.model_params[..., :3]

    @property
    def evecs(self) -> np.ndarray:
        """(..., 3, 3) eigenvectors as columns."""
        return self.model_params[..., 3:12].reshape(*self.shape, 3, 3)

    @property
    def quadratic_form(self) -> np.ndarray:
        """(..., 3, 3) tensors."""
        return np.einsum("...ik,...k,...jk->...ij", self.evecs, self.evals, self.evecs)

    def lower_triangular(self, b0: Any = None) -> np.ndarray:
        """(..., 6) xx xy yy xz yz zz, and -log b0 where it is given."""
        return lower_triangular(self.quadratic_form, b0=b0)

    @cached_property
    def fa(self) -> np.ndarray:
        return fractional_anisotropy(self.evals)

    @cached_property
    def color_fa(self) -> np.ndarray:
        return color_fa(self.fa, self.evecs)

    @cached_property
    def ga(self) -> np.ndarray:
        return geodesic_anisotropy(self.evals)

    @cached_property
    def mode(self) -> np.ndarray:
        return mode(self.quadratic_form)

    @cached_property
    def md(self) -> np.ndarray:
        return self.trace / 3.0

    @cached_property
    def rd(self) -> np.ndarray:
        return radial_diffusivity(self.evals)

    @cached_property
    def ad(self) -> np.ndarray:
        return axial_diffusivity(self.evals)

    @cached_property
    def trace(self) -> np.ndarray:
        return trace(self.evals)

    @cached_property
    def planarity(self) -> np.ndarray:
        return planarity(self.evals)

    @cached_property
    def linearity(self) -> np.ndarray:
        return linearity(self.evals)

    @cached_property
    def sphericity(self) -> np.ndarray:
        return sphericity(self.evals)

    def odf(self, sphere: Any) -> np.ndarray:
        """(..., n_vertices) orientation distribution of diffusion on the vertices of ``sphere``."""
        return tensor_odf(self.evals, self.evecs, sphere)

    def adc(self, sphere: Any) -> np.ndarray:
        """(..., n_vertices) apparent diffusion coefficient along the vertices of ``sphere``."""
        return apparent_diffusion_coef(self.quadratic_form, sphere)

    def predict(self, gtab: Any, S0: Any = None, step: int | None = None) -> np.ndarray:
        """Signal (..., g) for the gradients of ``gtab``; S0 is the fitted one where there is one, else 1."""
        if S0 is None:
            S0 = 1.0 if self.model_S0 is None else self.model_S0
        return tensor_prediction(self.model_params[..., :12], gtab, S0)
