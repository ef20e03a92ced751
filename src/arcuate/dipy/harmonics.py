"""DIPY's bases of spherical harmonics, as permutations of ours."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from arcuate.dipy.renames import renamed
from arcuate.dipy.spheres import vertices_of
from arcuate.errors import InputError
from arcuate.numerics.sh import degrees_and_orders, legacy_descoteaux_index, lmax_of, sh_matrix


def basis_matrix(
    directions: np.ndarray, sh_order_max: int, basis_type: str | None = None, legacy: bool = True
) -> np.ndarray:
    """(n_dir, n_coef) values of a basis of DIPY on directions (n_dir, 3)."""
    index, factor = basis_of(sh_order_max, basis_type, legacy)
    return sh_matrix(directions, sh_order_max)[:, index] * factor


def basis_to_the_last_bit(vectors: np.ndarray, sh_order_max: int) -> np.ndarray:
    """(n, n_coef) values of DIPY's default basis on vectors (n, 3) of any length, in DIPY's order of evaluation.

    With two or three coefficients more than directions, rounding decides whether DIPY's deconvolution adds its small
    term; values that differ in the last bit would decide otherwise, and change all coefficients.
    """
    x, y, z = np.asarray(vectors, dtype=np.float64).T
    length = np.sqrt(x * x + y * y + z * z)
    polar = np.where(length > 0, np.arccos(np.divide(z, length, out=np.ones_like(z), where=length > 0)), 0.0)
    degree, order = degrees_and_orders(sh_order_max)
    values = _complex_harmonics(degree, np.abs(order), polar[:, None], np.arctan2(y, x)[:, None])
    return np.where(order > 0, values.imag, values.real) * np.where(order == 0, 1.0, np.sqrt(2))


def rotational_to_the_last_bit(zonal: np.ndarray) -> np.ndarray:
    """(n_zonal,) zonal coefficients over those of a delta at the pole, as :func:`basis_to_the_last_bit`."""
    degree = 2 * np.arange(len(zonal))
    zero = np.zeros(1)
    return np.asarray(zonal) / _complex_harmonics(degree, np.zeros_like(degree), zero, zero).real


def _complex_harmonics(degree: np.ndarray, order: np.ndarray, polar: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    if hasattr(special, "sph_harm_y"):  # scipy 1.15
        return np.asarray(special.sph_harm_y(degree, order, polar, azimuth))
    return np.asarray(special.sph_harm(order, degree, azimuth, polar))


def basis_of(sh_order_max: int, basis_type: str | None = None, legacy: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Which of our functions each function of DIPY's basis is, and by which factor; two (n_coef,) arrays."""
    if basis_type not in {None, "descoteaux07", "tournier07"}:
        raise InputError(f"Invalid basis name {basis_type!r}; expected None, 'descoteaux07' or 'tournier07'.")
    if sh_order_max < 0 or sh_order_max % 2:
        raise InputError(f"found sh_order_max = {sh_order_max}; expected an even number, zero or above.")
    _, order = degrees_and_orders(sh_order_max)
    if basis_type == "tournier07":
        factor = np.where((order != 0) & legacy, np.sqrt(0.5), 1.0)
        return np.arange(len(order)), factor
    is_turned = (order < 0) & (order % 2 == 1) & (not legacy)
    return legacy_descoteaux_index(sh_order_max), np.where(is_turned, -1.0, 1.0)


@renamed(sh_order="sh_order_max")
def sh_to_sf_matrix(
    sphere: Any,
    sh_order_max: int = 4,
    basis_type: str | None = None,
    full_basis: bool = False,
    legacy: bool = True,
    return_inv: bool = True,
    smooth: float = 0,
) -> Any:
    """``B`` (n_coef, n_vertices), ``sf = sh @ B``; with ``return_inv`` also ``invB``, ``sh = sf @ invB``."""
    _refuse_odd(full_basis)
    matrix = basis_matrix(vertices_of(sphere), sh_order_max, basis_type, legacy)
    if not return_inv:
        return matrix.T
    degree, _ = degrees_and_orders(sh_order_max)
    laplace = np.diag(-np.sqrt(smooth) * degree * (degree + 1.0))
    return matrix.T, np.linalg.pinv(np.concatenate([matrix, laplace]))[:, : len(matrix)].T


@renamed(sh_order="sh_order_max")
def sh_to_sf(
    sh: np.ndarray,
    sphere: Any,
    sh_order_max: int = 4,
    basis_type: str | None = None,
    full_basis: bool = False,
    legacy: bool = True,
) -> np.ndarray:
    """Amplitudes (..., n_vertices) of coefficients (..., n_coef)."""
    _refuse_odd(full_basis)
    return np.asarray(sh) @ sh_to_sf_matrix(sphere, sh_order_max, basis_type, legacy=legacy, return_inv=False)


@renamed(sh_order="sh_order_max")
def sf_to_sh(
    sf: np.ndarray,
    sphere: Any,
    sh_order_max: int = 4,
    basis_type: str | None = None,
    full_basis: bool = False,
    legacy: bool = True,
    smooth: float = 0.0,
) -> np.ndarray:
    """Coefficients (..., n_coef) of amplitudes (..., n_vertices)."""
    _refuse_odd(full_basis)
    return np.asarray(sf) @ sh_to_sf_matrix(sphere, sh_order_max, basis_type, legacy=legacy, smooth=smooth)[1]


def convert_sh_from_legacy(sh_coeffs: np.ndarray, sh_basis: str, full_basis: bool = False) -> np.ndarray:
    """Coefficients (..., n_coef) in a basis from those in its legacy form; ``tournier07`` then is MRtrix3's basis."""
    return np.asarray(sh_coeffs) * _legacy_factor(sh_coeffs, sh_basis, full_basis)


def convert_sh_to_legacy(sh_coeffs: np.ndarray, sh_basis: str, full_basis: bool = False) -> np.ndarray:
    """Coefficients (..., n_coef) in the legacy form of a basis, the inverse of :func:`convert_sh_from_legacy`."""
    return np.asarray(sh_coeffs) / _legacy_factor(sh_coeffs, sh_basis, full_basis)


def convert_sh_descoteaux_tournier(sh_coeffs: np.ndarray) -> np.ndarray:
    """Coefficients (..., n_coef) in MRtrix3's basis from DIPY's default one (legacy descoteaux07), or back.

    The two differ by the sign of the order, so that the same exchange goes both ways.
    """
    sh_coeffs = np.asarray(sh_coeffs)
    return sh_coeffs[..., legacy_descoteaux_index(lmax_of(sh_coeffs.shape[-1]))]


def _legacy_factor(sh_coeffs: np.ndarray, sh_basis: str, full_basis: bool) -> np.ndarray:
    """(n_coef,) new coefficients over legacy ones."""
    _refuse_odd(full_basis)
    _, order = degrees_and_orders(lmax_of(np.asarray(sh_coeffs).shape[-1]))
    if sh_basis == "descoteaux07":
        return np.where((order < 0) & (order % 2 == 1), -1.0, 1.0)
    if sh_basis == "tournier07":
        return np.where(order == 0, 1.0, np.sqrt(0.5))
    raise InputError(f"Invalid basis name {sh_basis!r}; expected 'descoteaux07' or 'tournier07'.")


def _refuse_odd(full_basis: bool) -> None:
    if full_basis:
        raise InputError("arcuate has even harmonics only; for full_basis=True use DIPY's own function.")
