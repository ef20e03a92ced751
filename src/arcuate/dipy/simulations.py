"""Signals and orientation distributions of tensors, with DIPY's names."""

from __future__ import annotations

from typing import Any

import numpy as np

from arcuate.errors import InputError

DIFFUSION_EVALS = np.array([1500e-6, 400e-6, 400e-6])  # mm²/s


def single_tensor(
    gtab: Any, S0: float = 1, evals: Any = None, evecs: Any = None, snr: float | None = None, rng: Any = None
) -> np.ndarray:
    """Signal (N,) of one tensor, with Rician noise of deviation S0 / snr if ``snr`` is given.

    Parameters
    ----------
    gtab : GradientTable, arcuate's or DIPY's
    evals : (3,), mm²/s
    evecs : (3, 3), eigenvectors as columns
    """
    tensor = _tensor(evals, evecs)
    if getattr(gtab, "btens", None) is not None:
        exponent = np.einsum("nij,ij->n", np.asarray(gtab.btens), tensor)
    else:
        exponent = np.asarray(gtab.bvals) * np.einsum("ni,ij,nj->n", gtab.bvecs, tensor, gtab.bvecs)
    return _add_rician(S0 * np.exp(-exponent), snr, S0, rng)


def multi_tensor(
    gtab: Any,
    mevals: Any,
    S0: float = 1.0,
    angles: Any = ((0, 0), (90, 0)),
    fractions: Any = (50, 50),
    snr: float | None = 20,
    rng: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Signal (N,) of several tensors and their axes (n, 3).

    Parameters
    ----------
    mevals : (n, 3), mm²/s
    angles : (n, 2) polar and azimuth angle in degrees, or (n, 3) axes
    fractions : (n,) percent, adding up to 100; as in DIPY tensors beyond them are left alone
    """
    if np.round(np.sum(fractions), 2) != 100.0:
        raise InputError(f"the fractions add up to {np.sum(fractions):g}; expected 100 (percent).")
    axes = _axes(angles)
    parts = [f / 100.0 * single_tensor(gtab, S0, evals, frame) for f, evals, frame in _tensors(fractions, mevals, axes)]
    return _add_rician(np.sum(parts, axis=0), snr, S0, rng), axes


def single_tensor_odf(r: Any, evals: Any = None, evecs: Any = None) -> np.ndarray:
    """Orientation distribution (...,) of one tensor on unit vectors (..., 3)."""
    r = np.asarray(r, dtype=np.float64)
    inverse = np.linalg.inv(_tensor(evals, evecs))
    width = np.einsum("...i,ij,...j->...", r, inverse, r) ** 1.5
    return 1 / (4 * np.pi * np.sqrt(np.prod(DIFFUSION_EVALS if evals is None else evals)) * width)


def multi_tensor_odf(odf_verts: Any, mevals: Any, angles: Any, fractions: Any) -> np.ndarray:
    """Orientation distribution (n_vertices,) of several tensors, see :func:`multi_tensor`."""
    tensors = _tensors(fractions, mevals, _axes(angles))
    return np.sum([f / 100.0 * single_tensor_odf(odf_verts, evals, frame) for f, evals, frame in tensors], axis=0)


def _tensors(fractions: Any, mevals: Any, axes: np.ndarray) -> list[tuple[float, Any, np.ndarray]]:
    """Percent, eigenvalues and eigenvectors of each tensor that has a fraction.

    Raises
    ------
    InputError
        There are fewer eigenvalues or axes than fractions.
    """
    n_known = min(len(mevals), len(axes))
    if n_known < len(fractions):
        raise InputError(
            f"found {len(fractions)} fractions, eigenvalues of {len(mevals)} tensors and {len(axes)} axes; expected "
            "eigenvalues and an axis for each fraction."
        )
    return list(zip(fractions, mevals, map(_frame, axes), strict=False))


def _tensor(evals: Any, evecs: Any) -> np.ndarray:
    values = DIFFUSION_EVALS if evals is None else np.asarray(evals, dtype=np.float64)
    vectors = np.eye(3) if evecs is None else np.asarray(evecs, dtype=np.float64)
    return vectors @ np.diag(values) @ vectors.T


def _axes(angles: Any) -> np.ndarray:
    angles = np.atleast_2d(np.asarray(angles, dtype=np.float64))
    if angles.shape[1] == 3:
        return angles
    theta, phi = np.deg2rad(angles).T
    return np.column_stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])


def _frame(axis: np.ndarray) -> np.ndarray:
    """Eigenvectors as columns, the first along ``axis``."""
    least = np.eye(3)[np.argmin(np.abs(axis))]
    second = np.cross(axis, least)
    second /= np.linalg.norm(second)
    return np.column_stack([axis, second, np.cross(axis, second)])


def _add_rician(signal: np.ndarray, snr: float | None, s0: float, rng: Any) -> np.ndarray:
    if snr is None:
        return signal
    rng = np.random.default_rng() if rng is None else rng
    real, imaginary = rng.normal(0, s0 / snr, size=(2, *signal.shape))
    return np.hypot(signal + real, imaginary)
