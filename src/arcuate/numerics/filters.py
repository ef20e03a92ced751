"""Filters on images: median of a 3 x 3 x 3 neighbourhood, Otsu's threshold, and a smooth field to divide by."""

from __future__ import annotations

import numpy as np
import scipy

from arcuate.numerics.compiled import inner, kernel, part, run_in_chunks
from arcuate.numerics.elementary import larger, smaller

_FAR = 1e-4  # weight of the mean in a smooth field, next to the share of neighbours inside


def median_filter(image: np.ndarray, n_passes: int, *, across_slices: bool = True) -> np.ndarray:
    """Median over the 3 x 3 x 3 neighbourhood (3 x 3 within slices), ``n_passes`` times; edges repeat.

    Parameters
    ----------
    image : (x, y, z) float, no NaN
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


def _comparators(n: int) -> np.ndarray:
    """(n_pair, 2) int: places that, brought in order one after the other, sort ``n`` > 1 values (Batcher 1968)."""
    pairs = []
    step = top = 1 << (n - 1).bit_length() - 1
    while step > 0:
        other, offset, distance = top, 0, step
        while True:
            pairs += [(i, i + distance) for i in range(n - distance) if i & step == offset]
            if other == step:
                break
            distance, other, offset = other - step, other // 2, step
        step //= 2
    return np.array(pairs)


_SORT_9 = _comparators(9)
_TILE = 256  # values of a row of rows: what the kernel goes over again and again stays in the first cache


@kernel()
def _median_pass(image, reach_z, out, begin, end):
    """Medians in the planes x = begin ... end - 1, some rows along z at a time, without a branch.

    The 9 values of each slice's neighbourhood are sorted once, for the three windows that they belong to. Copies are
    loops: a slice that is written to takes numba longer to compile than all the rest.
    """
    nx, ny, nz = image.shape
    width = nz + 2  # of a row: its first and its last slice stand twice
    n_rows = max(1, _TILE // width)
    sorted_9 = np.empty((10, n_rows * width), dtype=np.float32)  # of each slice, in rising order after -inf
    sorted_18 = np.empty((11, n_rows * width), dtype=np.float32)  # of two, 5th to 14th; last the 14th of three
    for x in range(begin, end):
        for first in range(0, ny, n_rows):
            last = min(first + n_rows, ny)
            for y in range(first, last):
                for i in range(3):
                    plane = image[min(max(x + i - 1, 0), nx - 1)]
                    for j in range(3):
                        values = plane[min(max(y + j - 1, 0), ny - 1)]
                        row = sorted_9[1 + 3 * i + j][(y - first) * width :]
                        row[0], row[nz + 1] = values[0], values[nz - 1]
                        for z in range(nz):
                            row[z + 1] = values[z]
            for pair in range(len(_SORT_9)):
                _bring_in_order(sorted_9[1 + _SORT_9[pair, 0]], sorted_9[1 + _SORT_9[pair, 1]])
            if reach_z > 0:
                _write_middle(sorted_9, sorted_18)
            for y in range(first, last):
                at, target = (y - first) * width, out[x, y]
                found = sorted_18[10][at:] if reach_z > 0 else sorted_9[5][at + 1 :]
                for z in range(nz):
                    target[z] = found[z]


@inner()
def _bring_in_order(low, high):
    """The smaller of each two values into the one row, the larger into the other."""
    for z in range(len(low)):
        a, b = low[z], high[z]
        low[z], high[z] = smaller(a, b), larger(a, b)


@part()
def _write_middle(sorted_9, sorted_18):
    """The 14th of the 27 values of slices z, z + 1 and z + 2, from the sorted columns of each.

    The value of a rank among two sorted columns is the least of max(a_i, b_j) over all i + j = rank, where a_0 and b_0
    are below all: first the 5th to the 14th of two slices, then of those and the third.
    """
    for z in range(sorted_9.shape[1]):
        sorted_9[0, z] = -np.inf
    for k in range(11):
        for z in range(sorted_18.shape[1]):
            sorted_18[k, z] = np.inf
    for rank in range(5, 15):
        for i in range(max(0, rank - 9), min(9, rank) + 1):
            _keep_least(sorted_18[rank - 5], sorted_9[i], sorted_9[rank - i], 1)
    for j in range(10):
        _keep_least(sorted_18[10], sorted_18[9 - j], sorted_9[j], 2)


@inner()
def _keep_least(least, first, second, ahead):
    """``least`` or the larger of the two others, the second of slices ``ahead``, whatever is less."""
    shifted = second[ahead:]
    for z in range(len(shifted)):
        least[z] = smaller(least[z], larger(first[z], shifted[z]))


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
    total = scipy.ndimage.gaussian_filter(log * weight, narrow)
    norm = scipy.ndimage.gaussian_filter(weight, narrow)
    # the mean counts a little everywhere, and alone where nothing is near: the far background is divided by tissue too
    mean = float(log.sum() / max(weight.sum(), 1.0))
    coarse = (total + _FAR * mean) / (norm + _FAR)
    grid = np.meshgrid(
        *[(np.arange(n) - t // 2) / t for n, t in zip(image.shape, step, strict=True)], indexing="ij", sparse=False
    )
    return np.exp(scipy.ndimage.map_coordinates(coarse, grid, order=1, mode="nearest"))
