"""Lobes of fibre orientation distributions, one fixel each: integral, peak, mean direction, dispersion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from arcuate.errors import InputError
from arcuate.models.fixel_kernels import CHUNK, MOST, HalfSphere, segment_voxels
from arcuate.numerics.compiled import run_in_chunks
from arcuate.numerics.panel_product import as_panels
from arcuate.numerics.sh import lmax_of, sh_matrix
from arcuate.numerics.sh_polynomial import polynomial_table
from arcuate.numerics.sphere import get_icosahedron


@dataclass(frozen=True)
class Lobes:
    """Lobes of ``n_vox`` FODs, those of a voxel one after the other, largest integral first."""

    counts: np.ndarray  # (n_vox,) int, lobes of each voxel
    directions: np.ndarray  # (n, 3) float64, unit vectors, mean over the lobe
    peak_directions: np.ndarray  # (n, 3) float64, unit vectors, of the highest amplitude
    afd: np.ndarray  # (n,) float64, integral of the FOD over the lobe and its opposite: apparent fibre density
    peak: np.ndarray  # (n,) float64, highest amplitude
    dispersion: np.ndarray  # (n,) float64, afd over peak: wider lobes have more of it


def segment_lobes(
    coefs: np.ndarray, *, min_amplitude: float = 0.1, min_integral: float = 0.0, max_lobes: int = MOST
) -> Lobes:
    """Lobes of FODs.

    Parameters
    ----------
    coefs : (n_vox, n_coef) float, FODs in MRtrix3's basis
    min_amplitude : lobes whose peak is below are left out, unit of the FOD
    min_integral : lobes whose integral is below are left out
    max_lobes : at most this many per voxel, those of the largest integral

    Raises
    ------
    InputError
        A number of coefficients that no even degree has, or parameters out of range.

    Notes
    -----
    The FOD is sampled on 1281 directions of a half sphere, taken from the highest positive amplitude down. A direction
    joins the lobe of its neighbours; without one it begins a lobe, between several it counts for the strongest and
    leads to no other. Integrals weigh each direction with the area around it. The peak is refined by Newton's method,
    and lobes with one peak are one. FODs that are not finite, or alike in all directions, have no lobes.

    References
    ----------
    Smith, Tournier, Calamante, Connelly 2013, NeuroImage 67:298 (the segmentation). Raffelt et al. 2012, NeuroImage
    59:3976 (apparent fibre density of a lobe).
    """
    coefs = np.ascontiguousarray(np.atleast_2d(coefs), dtype=np.float64)
    try:
        lmax = lmax_of(coefs.shape[1])
    except ValueError as error:
        raise InputError(f"this is no image of FODs: {error}") from error
    if min_amplitude < 0 or min_integral < 0 or not 1 <= max_lobes <= MOST:
        raise InputError(
            f"found min_amplitude = {min_amplitude:g}, min_integral = {min_integral:g}, max_lobes = {max_lobes}; "
            f"expected thresholds of at least 0, and 1 to {MOST} lobes."
        )
    is_round = ~np.any(coefs[:, 1:] != 0, axis=1)
    if is_round.any():
        coefs = np.where(is_round[:, None], 0.0, coefs)
    sphere, polynomials, n_vox = _sphere(lmax), polynomial_table(lmax), len(coefs)
    counts, table = np.zeros(n_vox, np.int64), np.zeros((n_vox, max_lobes, 8))
    thresholds = (float(min_amplitude), float(min_integral))

    def segment(begin: int, end: int) -> None:
        segment_voxels(coefs[begin:end], sphere, polynomials, thresholds, counts[begin:end], table[begin:end])

    run_in_chunks(segment, n_vox, CHUNK)
    rows = table[np.arange(max_lobes) < counts[:, None]]
    afd, peak = rows[:, 6], rows[:, 7]
    return Lobes(counts, rows[:, :3].copy(), rows[:, 3:6].copy(), afd.copy(), peak.copy(), afd / peak)


@lru_cache(maxsize=8)
def _sphere(lmax: int) -> HalfSphere:
    """1281 directions; the area of each is 2 x 2π / 1281 in the mean.

    The icosahedron lies as that of MRtrix3's fod2fixel does, so that lobes that touch are cut along the same border.
    """
    half = get_icosahedron(4)
    vertices, faces = half.vertices, np.asarray(half.faces, np.int64)
    corners = vertices[faces]
    for k in (1, 2):  # corners that lie in the other half, on the side of the first
        is_far = np.sum(corners[:, 0] * corners[:, k], axis=1) < 0
        corners[is_far, k] *= -1
    flat = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    areas = np.bincount(faces.ravel(), weights=np.repeat(flat / 3, 3), minlength=len(vertices))
    areas *= 4 * np.pi / areas.sum()
    panels = as_panels(sh_matrix(vertices, lmax))
    return HalfSphere(panels, np.ascontiguousarray(vertices), half.neighbours, areas)
