"""Peaks on a grid with DIPY's names and rule, in an object that DIPY's tracking takes."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from arcuate.dipy.harmonics import sh_to_sf_matrix
from arcuate.dipy.renames import renamed
from arcuate.dipy.spheres import get_default_sphere, vertices_of
from arcuate.models.peaks import GridPeaks, find_peaks_on_grid
from arcuate.numerics.panel_product import evaluate_rows

_BLOCK = 5_000  # voxels whose amplitudes are held together

_ATTRIBUTES = ("sphere", "peak_indices", "peak_values", "peak_dirs", "gfa", "qa", "shm_coeff", "B", "odf")


class PeaksAndMetrics:
    """Peaks of every voxel.

    ``peak_dirs`` (..., npeaks, 3), ``peak_values`` (..., npeaks), ``peak_indices`` (..., npeaks) int32 vertices, -1
    where absent, ``gfa`` (...), ``qa`` (..., npeaks), ``shm_coeff`` (..., n_coef) or None, ``B`` or None, ``odf``
    (..., n_vertices) or None, ``sphere``. Where DIPY is installed this is a direction getter for its tracking.
    """

    sphere: Any
    peak_indices: np.ndarray
    peak_values: np.ndarray
    peak_dirs: np.ndarray
    gfa: np.ndarray
    qa: np.ndarray
    shm_coeff: np.ndarray | None
    B: np.ndarray | None
    odf: np.ndarray | None

    def __new__(cls) -> PeaksAndMetrics:
        made = _peaks_class() if cls is PeaksAndMetrics else cls
        return super(PeaksAndMetrics, made).__new__(made)

    def __reduce__(self) -> Any:
        return make_peaks, tuple(getattr(self, name) for name in _ATTRIBUTES)


def make_peaks(*values: Any) -> PeaksAndMetrics:
    """A PeaksAndMetrics of its attributes, in the order of ``_ATTRIBUTES``."""
    peaks = PeaksAndMetrics()
    for name, value in zip(_ATTRIBUTES, values, strict=True):
        setattr(peaks, name, value)
    return peaks


@lru_cache(maxsize=1)
def _peaks_class() -> type[PeaksAndMetrics]:
    """PeaksAndMetrics, made a child of DIPY's class where DIPY is installed: its tracking asks for that type."""
    if find_spec("dipy") is None:
        return PeaksAndMetrics
    try:
        from dipy.direction.peaks import PeaksAndMetrics as Trackable
    except ImportError:
        return PeaksAndMetrics
    return type("PeaksAndMetrics", (PeaksAndMetrics, Trackable), {"__module__": __name__})


def peak_directions(
    odf: np.ndarray,
    sphere: Any,
    relative_peak_threshold: float = 0.5,
    min_separation_angle: float = 25,
    is_symmetric: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Directions (n, 3), values (n,) and vertices (n,) of the peaks of one ODF (n_vertices,) on a sphere."""
    found = find_peaks_on_grid(
        np.asarray(odf)[None],
        sphere.vertices,
        sphere.edges,
        n_peaks=len(sphere.vertices),
        relative_peak_threshold=relative_peak_threshold,
        min_separation_angle=min_separation_angle,
        is_symmetric=is_symmetric,
    )
    n = int(np.sum(found.indices[0] >= 0))
    indices = found.indices[0, :n].astype(np.intp)
    return sphere.vertices[indices], found.values[0, :n], indices


def gfa(samples: np.ndarray) -> np.ndarray:
    """(...) generalised fractional anisotropy of samples (..., n) on a sphere; NaN where all are zero."""
    samples = np.asarray(samples)
    n = samples.shape[-1]
    spread = n * np.sum((samples - samples.mean(-1)[..., None]) ** 2, axis=-1)
    power = np.asarray((n - 1) * np.sum(samples**2, axis=-1))
    return np.sqrt(np.divide(spread, power, out=np.full(power.shape, np.nan), where=power > 0))


@renamed(sh_order="sh_order_max", nbr_processes="num_processes")
def peaks_from_model(
    model: Any,
    data: np.ndarray,
    sphere: Any = None,
    relative_peak_threshold: float = 0.5,
    min_separation_angle: float = 25,
    mask: np.ndarray | None = None,
    return_odf: bool = False,
    return_sh: bool = True,
    gfa_thr: float = 0,
    normalize_peaks: bool = False,
    sh_order_max: int = 8,
    sh_basis_type: str | None = None,
    legacy: bool = True,
    npeaks: int = 5,
    B: np.ndarray | None = None,
    invB: np.ndarray | None = None,
    parallel: bool = False,
    num_processes: int | None = None,
) -> PeaksAndMetrics:
    """Fit a model and find the peaks of its ODFs on the vertices of a sphere.

    Parameters
    ----------
    model : a model whose fit has ``odf(sphere)``, arcuate's or DIPY's
    data : (..., g)
    sphere : Sphere, arcuate's or DIPY's
    relative_peak_threshold : peaks below min + this fraction of (max - min) are left out, min = max(0, lowest)
    min_separation_angle : degrees
    mask : (...), voxels to work on
    return_odf, return_sh : whether ``odf`` and ``shm_coeff`` are filled
    gfa_thr : voxels with a lower gfa get no peaks
    normalize_peaks : peak values relative to the strongest of the voxel, ``peak_dirs`` of that length
    sh_order_max, sh_basis_type, legacy : form of ``shm_coeff``
    npeaks : most peaks per voxel
    B, invB : ready-made matrices of :func:`sh_to_sf_matrix`
    parallel, num_processes : checked and without effect: all cores work in any case
    """
    sphere = get_default_sphere() if sphere is None else sphere
    data = np.asarray(data)
    grid = data.shape[:-1]
    _check_processes(num_processes)
    inside = np.ones(grid, dtype=bool) if mask is None else np.asarray(mask)
    if inside.shape != grid:
        raise ValueError("Mask is not the same shape as data.")
    if return_sh and (B is None or invB is None):
        B, invB = sh_to_sf_matrix(sphere, sh_order_max, sh_basis_type, legacy=legacy)
    inside = inside.astype(bool)
    n_vertices = len(sphere.vertices)
    out = _Collected(inside, npeaks, invB if return_sh else None, n_vertices if return_odf else None, gfa_thr)
    rows = data[inside]
    settings: dict[str, Any] = {
        "relative_peak_threshold": relative_peak_threshold,
        "min_separation_angle": min_separation_angle,
    }
    for start in range(0, len(rows), _BLOCK):
        place = slice(start, min(start + _BLOCK, len(rows)))
        odf = _odf_of(model, rows[place], sphere)
        found = find_peaks_on_grid(odf, vertices_of(sphere), sphere.edges, n_peaks=npeaks, **settings)
        out.add(place, odf, found, vertices_of(sphere))
    return out.finish(sphere, B if return_sh else None, normalize_peaks)


class _Collected:
    """Rows of results, filled block by block."""

    def __init__(
        self, inside: np.ndarray, n_peaks: int, inverse: np.ndarray | None, n_vertices: int | None, gfa_thr: float
    ) -> None:
        n_vox = int(np.sum(inside))
        self.inside, self.inverse, self.gfa_thr = inside, inverse, gfa_thr
        self.indices = np.full((n_vox, n_peaks), -1, dtype=np.int32)
        self.values, self.qa = np.zeros((n_vox, n_peaks)), np.zeros((n_vox, n_peaks))
        self.directions, self.gfa = np.zeros((n_vox, n_peaks, 3)), np.zeros(n_vox)
        self.coefs = None if inverse is None else np.zeros((n_vox, inverse.shape[1]))
        self.odf = None if n_vertices is None else np.zeros((n_vox, n_vertices))
        self.highest = -np.inf

    def add(self, place: slice, odf: np.ndarray, found: GridPeaks, vertices: np.ndarray) -> None:
        if self.coefs is not None and self.inverse is not None:
            self.coefs[place] = evaluate_rows(odf, self.inverse.T)
        if self.odf is not None:
            self.odf[place] = odf
        self.gfa[place] = gfa(odf)
        is_flat = self.gfa[place] < self.gfa_thr
        is_peak = (found.indices >= 0) & ~is_flat[:, None]
        self.indices[place] = np.where(is_peak, found.indices, -1)
        self.values[place] = np.where(is_peak, found.values, 0.0)
        self.qa[place] = np.where(is_peak, found.values - found.lowest[:, None], 0.0)
        self.directions[place] = np.where(is_peak[..., None], vertices[np.maximum(found.indices, 0)], 0.0)
        tops = np.where(is_flat, odf.max(axis=1), found.highest)
        self.highest = max(self.highest, float(np.max(tops, initial=-np.inf)))

    def finish(self, sphere: Any, matrix: np.ndarray | None, normalize: bool) -> PeaksAndMetrics:
        self.qa /= self.highest
        if normalize:
            first = self.values[:, :1].copy()
            self.values = np.divide(self.values, first, out=np.zeros_like(self.values), where=first != 0)
            self.directions *= self.values[..., None]
        return make_peaks(
            sphere,
            self._spread(self.indices, -1),
            self._spread(self.values),
            self._spread(self.directions),
            self._spread(self.gfa),
            self._spread(self.qa),
            None if self.coefs is None else self._spread(self.coefs),
            matrix,
            None if self.odf is None else self._spread(self.odf),
        )

    def _spread(self, rows: np.ndarray, absent: int = 0) -> np.ndarray:
        full = np.full((*self.inside.shape, *rows.shape[1:]), absent, dtype=rows.dtype)
        full[self.inside] = rows
        return full


def _odf_of(model: Any, rows: np.ndarray, sphere: Any) -> np.ndarray:
    """(n_vox, n_vertices) ODFs of rows (n_vox, g); voxel by voxel where the model cannot take them together."""
    if hasattr(model, "fit_rows"):
        return evaluate_rows(model.fit_rows(rows)[0], model.sampling_matrix(sphere))
    return np.array([np.asarray(model.fit(row).odf(sphere=sphere), dtype=np.float64) for row in rows])


def _check_processes(num_processes: int | None) -> None:
    if num_processes is not None and not isinstance(num_processes, int):
        raise TypeError("num_processes must be an int or None")
    if num_processes == 0:
        raise ValueError("num_processes cannot be 0")


def reshape_peaks_for_visualization(peaks: Any) -> np.ndarray:
    """(..., 3 n) float32 from directions (..., n, 3) or from peaks."""
    directions = getattr(peaks, "peak_dirs", peaks)
    return np.reshape(directions, (*directions.shape[:-2], -1)).astype(np.float32)
