"""Filters on images: median of a 3 x 3 x 3 neighbourhood, Otsu's threshold, and a smooth field to divide by."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from arcuate.numerics.compiled import inner, kernel, run_in_chunks

_FAR = 1e-4  # weight of the mean in a smooth field, next to the share of neighbours inside


def median_filter(image: np.ndarray, n_passes: int, *, across_slices: bool = True) -> np.ndarray:
    """Median over the 3 x 3 x 3 neighbourhood (3 x 3 within slices), ``n_passes`` times; edges repeat.

    Parameters
    ----------
    image : (x, y, z) float
    across_slices : bool
        False for slices that are not neighbours, or too few to filter across.

    Returns
    -------
    (x, y, z) float32
    """
    current = np.ascontiguousarray(image, dtype=np.float32)
    reach_z = 1 if across_slices else 0
    for _ in range(n_passes):
        current = _median_of(current, reach_z)
    return current


def _median_of(image: np.ndarray, reach_z: int) -> np.ndarray:
    """One pass over an image (x, y, z) float32."""
    out = np.empty_like(image)

    def work(begin: int, end: int) -> None:
        _median_pass(image, reach_z, out, begin, end)

    run_in_chunks(work, len(image), 1)
    return out


@kernel()
def _median_pass(image, reach_z, out, begin, end):
    """Medians in the planes x = begin ... end - 1."""
    nx, ny, nz = image.shape
    window = np.empty(27, dtype=np.float32)
    for x in range(begin, end):
        for y in range(ny):
            for z in range(nz):
                n = np.int64(0)  # a literal would be a constant for a while, and middle_of compiled for it
                for i in range(-1, 2):
                    u = min(max(x + i, 0), nx - 1)
                    for j in range(-1, 2):
                        v = min(max(y + j, 0), ny - 1)
                        for k in range(-reach_z, reach_z + 1):
                            window[n] = image[u, v, min(max(z + k, 0), nz - 1)]
                            n += 1
                out[x, y, z] = middle_of(window, n)


@inner()
def middle_of(window, n):
    """Middle of the first ``n`` values, the upper of two, by Hoare's selection; the window is reordered."""
    middle = n // 2
    low = 0
    high = n - 1
    while low < high:
        pivot = window[middle]
        i = low
        j = high
        while i <= j:
            while window[i] < pivot:
                i += 1
            while pivot < window[j]:
                j -= 1
            if i <= j:
                swap = window[i]
                window[i] = window[j]
                window[j] = swap
                i += 1
                j -= 1
        if j < middle:
            low = i
        if middle < i:
            high = j
    return window[middle]


def otsu_threshold(values: np.ndarray, n_bins: int = 512) -> float:
    """Threshold that maximises the variance between the two classes (Otsu 1979).

    The histogram ends at the 99.9th percentile, so that a few very bright values do not coarsen it.
    """
    values = np.asarray(values, dtype=np.float64).ravel()
    low, high = float(values.min()), float(np.percentile(values, 99.9))
    if not high > low:
        return low
    counts, edges = np.histogram(np.minimum(values, high), bins=n_bins, range=(low, high))
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    moment = np.cumsum(counts * centres)[:-1]
    total, total_moment = float(counts.sum()), float((counts * centres).sum())
    variance = (total_moment * below / total - moment) ** 2 / np.maximum(below * (total - below), 1.0)
    # between two well separated classes the variance is flat: take the middle of the flat stretch
    best = np.flatnonzero(variance >= variance.max() * (1 - 1e-12))
    return float(edges[1:-1][best].mean())


def smooth_field(image: np.ndarray, inside: np.ndarray, sigma: tuple[float, float, float]) -> np.ndarray:
    """Slow multiplicative variation of an image: exp of its log, averaged over ``inside`` with a Gaussian weight.

    Parameters
    ----------
    image : (x, y, z) float, positive inside
    inside : (x, y, z) bool
    sigma : width of the Gaussian along each axis, in voxels

    Returns
    -------
    (x, y, z) float64; far from ``inside`` the geometric mean over all of it
    """
    # a Gaussian this wide is the same on every fourth voxel, and 64 times cheaper
    step = tuple(max(1, min(4, int(s // 3), n // 8)) for s, n in zip(sigma, image.shape, strict=True))
    pick = tuple(slice(s // 2, None, s) for s in step)
    part, weight = image[pick], inside[pick].astype(np.float64)
    log = np.where(weight > 0, np.log(np.where(part > 0, part, 1.0)), 0.0)
    narrow = [s / t for s, t in zip(sigma, step, strict=True)]
    total = ndimage.gaussian_filter(log * weight, narrow)
    norm = ndimage.gaussian_filter(weight, narrow)
    # the mean counts a little everywhere, and alone where nothing is near: the far background is divided by tissue too
    mean = float(log.sum() / max(weight.sum(), 1.0))
    coarse = (total + _FAR * mean) / (norm + _FAR)
    grid = np.meshgrid(
        *[(np.arange(n) - t // 2) / t for n, t in zip(image.shape, step, strict=True)], indexing="ij", sparse=False
    )
    return np.exp(ndimage.map_coordinates(coarse, grid, order=1, mode="nearest"))
