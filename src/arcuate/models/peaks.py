"""Peaks of fibre orientation distributions: refined on the sphere, or picked on a grid by DIPY's rule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from arcuate.errors import InputError
from arcuate.models.peak_kernels import (
    CHUNK,
    Grid,
    GridResults,
    Limits,
    PeakResults,
    Seeds,
    find_grid_peaks,
    find_peaks_of_voxels,
    make_scratch,
)
from arcuate.numerics.compiled import run_in_chunks
from arcuate.numerics.panel_product import as_panels
from arcuate.numerics.sh import lmax_of, sh_matrix
from arcuate.numerics.sh_polynomial import polynomial_table
from arcuate.numerics.sphere import get_hemisphere

SEED_SPHERE = "symmetric642"  # 321 directions about 8 degrees apart: peaks of degree 12 are wider


@dataclass(frozen=True)
class Peaks:
    """Peaks of ``n_vox`` voxels, strongest first; absent ones are zero."""

    directions: np.ndarray  # (n_vox, n_peaks, 3) float64, unit vectors in the half z >= 0
    values: np.ndarray  # (n_vox, n_peaks) float64, amplitude of the FOD there
    status: np.ndarray  # (n_vox,) uint8: FITTED, NO_SIGNAL (no peak), NOT_FINITE


@dataclass(frozen=True)
class GridPeaks:
    """Peaks of functions sampled on a sphere, strongest first, with DIPY's measures."""

    indices: np.ndarray  # (n_vox, n_peaks) int32, vertex of each peak, -1 where absent
    values: np.ndarray  # (n_vox, n_peaks) float64
    lowest: np.ndarray  # (n_vox,) float64, smallest amplitude
    highest: np.ndarray  # (n_vox,) float64, amplitude of the first peak, -inf where there is none


def find_peaks(
    coefs: np.ndarray,
    *,
    n_peaks: int = 5,
    relative_peak_threshold: float = 0.5,
    min_separation_angle: float = 25.0,
    min_amplitude: float = 0.0,
) -> Peaks:
    """Peaks of FODs, each refined by Newton's method on the sphere with exact derivatives.

    Parameters
    ----------
    coefs : (n_vox, n_coef) float
        FODs in MRtrix3's basis.
    n_peaks : at most this many per voxel, the strongest
    relative_peak_threshold : peaks below this fraction of the strongest are left out
    min_separation_angle : degrees; of two peaks closer than this the stronger stays
    min_amplitude : peaks at or below it are left out

    Raises
    ------
    InputError
        A number of coefficients that no even degree has, or parameters out of range.

    Notes
    -----
    The refinement starts at those of 321 directions on a half sphere that at most one neighbour is higher than, and
    moves by -H⁻¹g in the tangent plane (with a shifted H where it is not negative definite) until the step is below
    1e-4 rad; the error is of the order of its square. Where one neighbour is higher it starts only if the first
    step stays within the cell: the shallow second maximum on the shoulder of a first one lies there.
    """
    coefs = np.atleast_2d(coefs)
    try:
        lmax = lmax_of(coefs.shape[1])
    except ValueError as error:
        raise InputError(f"this is no image of FODs: {error}") from error
    if n_peaks < 1 or not 0 <= relative_peak_threshold <= 1 or not 0 <= min_separation_angle <= 90:
        raise InputError(
            f"found n_peaks = {n_peaks}, relative_peak_threshold = {relative_peak_threshold:g}, min_separation_angle "
            f"= {min_separation_angle:g}; expected at least 1, a fraction, and an angle from 0 to 90 degrees."
        )
    coefs = np.ascontiguousarray(coefs, dtype=np.float64)
    n_vox = len(coefs)
    directions, values = np.zeros((n_vox, n_peaks, 3)), np.zeros((n_vox, n_peaks))
    status = np.zeros(n_vox, dtype=np.uint8)
    seeds, results = _seeds(lmax), PeakResults(directions, values, status)
    cosine = float(np.cos(np.deg2rad(min_separation_angle)))
    limits = Limits(float(relative_peak_threshold), cosine, float(min_amplitude))

    def work(begin: int, end: int) -> None:
        part = PeakResults(*(array[begin:end] for array in results))
        find_peaks_of_voxels(coefs[begin:end], seeds, limits, make_scratch(seeds, coefs.shape[1]), part)

    run_in_chunks(work, n_vox, CHUNK)
    return Peaks(directions, values, status)


def find_peaks_on_grid(
    amplitudes: np.ndarray,
    vertices: np.ndarray,
    edges: np.ndarray,
    *,
    n_peaks: int = 5,
    relative_peak_threshold: float = 0.5,
    min_separation_angle: float = 25.0,
    is_symmetric: bool = True,
) -> GridPeaks:
    """Peaks among the vertices of a sphere, by DIPY's rule.

    Parameters
    ----------
    amplitudes : (n_vox, n_vertices) float
    vertices : (n_vertices, 3) float
    edges : (n_edges, 2) int, neighbours
    is_symmetric : a direction and its opposite are one

    Notes
    -----
    A vertex is a maximum when it is above at least one neighbour and below none. Those at or above
    min + relative_peak_threshold (max - min) stay, with min the smallest amplitude but at least 0; then those closer
    than the angle to a stronger one go. A single maximum stays in any case. A voxel with
    NaN has no peaks. Maxima below zero count as vertex 0 with amplitude 0, which only a threshold of 0 lets through.
    """
    amplitudes = np.ascontiguousarray(amplitudes, dtype=np.float64)
    n_vox = len(amplitudes)
    indices, values = np.full((n_vox, n_peaks), -1, dtype=np.int32), np.zeros((n_vox, n_peaks))
    lowest, highest = np.zeros(n_vox), np.full(n_vox, -np.inf)
    grid = Grid(
        np.ascontiguousarray(vertices, dtype=np.float64),
        np.ascontiguousarray(edges, dtype=np.int64),
        float(relative_peak_threshold),
        float(np.cos(np.pi / 180 * min_separation_angle)),
        bool(is_symmetric),
    )
    results = GridResults(indices, values, lowest, highest)

    def work(begin: int, end: int) -> None:
        find_grid_peaks(amplitudes[begin:end], grid, GridResults(*(array[begin:end] for array in results)))

    run_in_chunks(work, n_vox, CHUNK)
    return GridPeaks(*results)


@lru_cache(maxsize=16)
def _seeds(lmax: int) -> Seeds:
    """Panels of the harmonics on the seeds, the seeds, and the neighbours of each, itself where it has fewer."""
    sphere = get_hemisphere(SEED_SPHERE)
    panels = as_panels(sh_matrix(sphere.vertices, lmax))
    return Seeds(panels, np.ascontiguousarray(sphere.vertices), sphere.neighbours, polynomial_table(lmax))
