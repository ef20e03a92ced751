"""DIPY's bases of spherical harmonics, as permutations of ours."""

from __future__ import annotations

from typing import Any

import numpy as np

from arcuate.dipy.spheres import vertices_of
from arcuate.errors import InputError
from arcuate.numerics.sh import degrees_and_orders, legacy_descoteaux_index, lmax_of, sh_matrix


def basis_matrix(
    directions: np.ndarray, sh_order_max: int, basis_type: str | None = None, legacy: bool = True
) -> np.ndarray:
    """(n_dir, n_coef) values of a basis of DIPY on directions (n_dir, 3)."""
    index, factor = basis_of(sh_order_max, basis_type, legacy)
    return sh_matrix(directions, sh_order_max)[:, index] * factor


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


def sh_to_sf_matrix(
    sphere: Any,
    sh_order_max: int = 8,
    basis_type: str | None = None,
    full_basis: bool = False,
    legacy: bool = True,
    return_inv: bool = True,
    smooth: float = 0,
) -> Any:
    """``B`` (n_coef, n_vertices), ``sf = sh @ B``; with ``return_inv`` also ``invB``, ``sh = sf @ invB``."""
    if full_basis:
        raise InputError("arcuate has even harmonics only; for full_basis=True use DIPY's sh_to_sf_matrix.")
    matrix = basis_matrix(vertices_of(sphere), sh_order_max, basis_type, legacy)
    if not return_inv:
        return matrix.T
    degree, _ = degrees_and_orders(sh_order_max)
    laplace = np.diag(-np.sqrt(smooth) * degree * (degree + 1.0))
    return matrix.T, np.linalg.pinv(np.concatenate([matrix, laplace]))[:, : len(matrix)].T


def sh_to_sf(
    sh: np.ndarray, sphere: Any, sh_order_max: int = 8, basis_type: str | None = None, legacy: bool = True
) -> np.ndarray:
    """Amplitudes (..., n_vertices) of coefficients (..., n_coef)."""
    return np.asarray(sh) @ sh_to_sf_matrix(sphere, sh_order_max, basis_type, legacy=legacy, return_inv=False)


def sf_to_sh(
    sf: np.ndarray,
    sphere: Any,
    sh_order_max: int = 4,
    basis_type: str | None = None,
    legacy: bool = True,
    smooth: float = 0.0,
) -> np.ndarray:
    """Coefficients (..., n_coef) of amplitudes (..., n_vertices)."""
    return np.asarray(sf) @ sh_to_sf_matrix(sphere, sh_order_max, basis_type, legacy=legacy, smooth=smooth)[1]


def convert_sh_from_legacy(coefs: np.ndarray) -> np.ndarray:
    """Coefficients (..., n_coef) in MRtrix3's basis from those of DIPY's default one (legacy Descoteaux)."""
    coefs = np.asarray(coefs)
    return coefs[..., legacy_descoteaux_index(lmax_of(coefs.shape[-1]))]
