"""Measures of tensors with DIPY's names: from eigenvalues, from 3 x 3 matrices, and the signal they predict."""

from __future__ import annotations

from typing import Any

import numpy as np

from arcuate.errors import InputError
from arcuate.models import tensor as models
from arcuate.numerics.eigen import eigh_3x3

_ROWS, _COLUMNS = [0, 1, 1, 2, 2, 2], [0, 0, 1, 0, 1, 2]  # of xx xy yy xz yz zz
_SQUARE = np.array([[0, 1, 3], [1, 2, 4], [3, 4, 5]])
_LEAST_S0 = 1e-4


def _evals_first(evals: Any, axis: int) -> np.ndarray:
    evals = np.asarray(evals)
    if evals.shape[-1] != 3:
        raise InputError(f"found {evals.shape[-1]} eigenvalues; expected 3.")
    return np.moveaxis(evals, axis, 0)


def _share(part: np.ndarray, evals: np.ndarray) -> np.ndarray:
    """Part of the trace; NaN where that is zero, as in DIPY."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(part) / evals.sum(0)


def fractional_anisotropy(evals: Any, axis: int = -1) -> np.ndarray:
    """(...): sqrt(1/2 Σ (λᵢ - λⱼ)² / Σ λᵢ²) of eigenvalues (..., 3), 0 where all are 0."""
    return models.fractional_anisotropy(np.moveaxis(_evals_first(evals, axis), 0, -1))


def geodesic_anisotropy(evals: Any, axis: int = -1) -> np.ndarray:
    """(...): sqrt(Σ log²(λᵢ / (λ₁λ₂λ₃)^⅓)) of eigenvalues (..., 3), 0 where the first is 0."""
    evals = _evals_first(evals, axis).astype(float)
    is_zero = evals[0] == 0
    evals = np.where(is_zero, 1.0, evals)
    return np.sqrt(np.sum(np.log(evals / np.cbrt(np.prod(evals, axis=0))) ** 2, axis=0))


def mean_diffusivity(evals: Any, axis: int = -1) -> np.ndarray:
    """(...), mm²/s: (λ₁ + λ₂ + λ₃) / 3 of eigenvalues (..., 3)."""
    return _evals_first(evals, axis).mean(0)


def axial_diffusivity(evals: Any, axis: int = -1) -> np.ndarray:
    """(...), mm²/s: λ₁ of eigenvalues (..., 3)."""
    return _evals_first(evals, axis)[0]


def radial_diffusivity(evals: Any, axis: int = -1) -> np.ndarray:
    """(...), mm²/s: (λ₂ + λ₃) / 2 of eigenvalues (..., 3)."""
    return _evals_first(evals, axis)[1:].mean(0)


def trace(evals: Any, axis: int = -1) -> np.ndarray:
    """(...), mm²/s: λ₁ + λ₂ + λ₃ of eigenvalues (..., 3)."""
    return _evals_first(evals, axis).sum(0)


def linearity(evals: Any, axis: int = -1) -> np.ndarray:
    """(...): (λ₁ - λ₂) / Σ λᵢ of eigenvalues (..., 3)."""
    a, b, _ = evals = _evals_first(evals, axis)
    return _share(a - b, evals)


def planarity(evals: Any, axis: int = -1) -> np.ndarray:
    """(...): 2 (λ₂ - λ₃) / Σ λᵢ of eigenvalues (..., 3)."""
    _, b, c = evals = _evals_first(evals, axis)
    return _share(2 * (b - c), evals)


def sphericity(evals: Any, axis: int = -1) -> np.ndarray:
    """(...): 3 λ₃ / Σ λᵢ of eigenvalues (..., 3)."""
    evals = _evals_first(evals, axis)
    return _share(3 * evals[2], evals)


def color_fa(fa: np.ndarray, evecs: np.ndarray) -> np.ndarray:
    """(..., 3) FA, cut at 1, times the magnitudes of the first eigenvector; ``evecs`` (..., 3, 3) as columns."""
    if evecs.shape != (*fa.shape, 3, 3):
        raise InputError(f"found FA of shape {fa.shape} and eigenvectors {evecs.shape}; expected {(*fa.shape, 3, 3)}.")
    return np.abs(evecs[..., 0]) * np.clip(fa, 0, 1)[..., None]


def determinant(q_form: np.ndarray) -> np.ndarray:
    """(...) determinant of (..., 3, 3)."""
    return np.sum(q_form[..., 0, :] * np.cross(q_form[..., 1, :], q_form[..., 2, :]), axis=-1)


def isotropic(q_form: np.ndarray) -> np.ndarray:
    """(..., 3, 3) isotropic part: a third of the trace on the diagonal."""
    return np.trace(q_form, axis1=-2, axis2=-1)[..., None, None] / 3 * np.eye(3)


def deviatoric(q_form: np.ndarray) -> np.ndarray:
    """(..., 3, 3) what is not isotropic."""
    return q_form - isotropic(q_form)


def norm(q_form: np.ndarray) -> np.ndarray:
    """(...) Frobenius norm of (..., 3, 3)."""
    return np.sqrt(np.sum(np.abs(q_form) ** 2, axis=(-2, -1)))


def mode(q_form: np.ndarray) -> np.ndarray:
    """(...) -1 (planar) to 1 (linear), 0 where isotropic: 3√6 det(A / |A|), A the deviatoric part."""
    part = deviatoric(q_form)
    size = norm(part)
    return np.where(size == 0, 0.0, 3 * np.sqrt(6) * determinant(part / np.where(size == 0, 1, size)[..., None, None]))


def from_lower_triangular(D: Any) -> np.ndarray:
    """(..., 3, 3) from (..., 6 or more): xx xy yy xz yz zz."""
    return np.asarray(D)[..., _SQUARE]


def lower_triangular(tensor: np.ndarray, b0: Any = None) -> np.ndarray:
    """(..., 6) xx xy yy xz yz zz of (..., 3, 3); with ``b0`` a seventh, -log b0."""
    if tensor.shape[-2:] != (3, 3):
        raise InputError(f"found tensors of shape {tensor.shape}; expected (..., 3, 3).")
    six = tensor[..., _ROWS, _COLUMNS]
    if b0 is None:
        return six
    if not isinstance(b0, int | float | np.number | np.ndarray):
        raise TypeError(f"b0 is {type(b0).__name__}; expected a number or an array")
    last = np.broadcast_to(-np.log(np.maximum(b0, _LEAST_S0)), six.shape[:-1])
    return np.concatenate([six, last[..., None]], axis=-1).astype(tensor.dtype)


def decompose_tensor(tensor: np.ndarray, min_diffusivity: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (..., 3), largest first, raised to ``min_diffusivity``, and eigenvectors (..., 3, 3) as columns."""
    tensor = np.asarray(tensor, dtype=np.float64)
    if tensor.shape[-2:] != (3, 3):
        raise InputError(f"found tensors of shape {tensor.shape}; expected (..., 3, 3).")
    rows = tensor.reshape(-1, 3, 3)[:, [0, 1, 2, 1, 2, 2], [0, 0, 0, 1, 1, 2]]  # the lower triangle, as LAPACK reads it
    evals, evecs = eigh_3x3(rows)
    evecs = evecs.transpose(0, 2, 1).reshape(tensor.shape)
    return np.maximum(evals, min_diffusivity).reshape(tensor.shape[:-1]), evecs


def eig_from_lo_tri(data: Any, min_diffusivity: float = 0) -> np.ndarray:
    """(..., 12) eigenvalues and eigenvectors (columns) of tensors given as (..., 6): xx xy yy xz yz zz."""
    evals, evecs = decompose_tensor(from_lower_triangular(data), min_diffusivity=min_diffusivity)
    return np.concatenate([evals, evecs.reshape(*evals.shape[:-1], 9)], axis=-1)


def design_matrix(gtab: Any, dtype: Any = None) -> np.ndarray:
    """(g, 7) rows that give log S from xx xy yy xz yz zz and -log S0."""
    btens = getattr(gtab, "btens", None)
    if btens is None:
        btens = np.asarray(gtab.bvals)[:, None, None] * gtab.bvecs[:, :, None] * gtab.bvecs[:, None, :]
    six = btens[:, _ROWS, _COLUMNS] * np.where(np.equal(_ROWS, _COLUMNS), 1.0, 2.0)
    return -np.column_stack([six, np.ones(len(six))])


def tensor_prediction(dti_params: np.ndarray, gtab: Any, S0: Any) -> np.ndarray:
    """Signal (..., g) of tensors given as parameters (..., 12); S0 a number or (...)."""
    evals, evecs = dti_params[..., :3], dti_params[..., 3:12].reshape(*dti_params.shape[:-1], 3, 3)
    tensors = np.einsum("...ik,...k,...jk->...ij", evecs, evals, evecs)
    return np.exp(lower_triangular(tensors, b0=S0) @ design_matrix(gtab).T)


def apparent_diffusion_coef(q_form: np.ndarray, sphere: Any) -> np.ndarray:
    """(..., n_vertices) vᵀ D v for each vertex v of ``sphere``."""
    return np.einsum("ni,...ij,nj->...n", sphere.vertices, q_form, sphere.vertices)


def tensor_odf(evals: np.ndarray, evecs: np.ndarray, sphere: Any) -> np.ndarray:
    """(..., n_vertices) (vᵀ D⁻¹ v)^(-3/2) / (4π √det D); 0 where an eigenvalue is not positive (Aganj 2010)."""
    is_sound = np.all(evals > 0, axis=-1)
    safe = np.where(is_sound[..., None], evals, 1.0)
    along = np.einsum("ni,...ik->...nk", sphere.vertices, evecs)
    power = np.sum(along**2 / safe[..., None, :], axis=-1)
    odf = np.where(power > 0, power, 1.0) ** -1.5 / (4 * np.pi * np.sqrt(np.prod(safe, axis=-1)))[..., None]
    return np.where(is_sound[..., None], odf, 0.0)
