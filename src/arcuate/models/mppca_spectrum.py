"""Spectrum of a patch's Gram matrix: which of its components are noise, and how strong the noise is."""

from __future__ import annotations

import numpy as np

from arcuate.numerics.compiled import inner
from arcuate.numerics.eigen import LANES
from arcuate.numerics.tridiagonal import (
    bisect_eigenvalues,
    deflate_above,
    deflate_all,
    reduce_to_tridiagonal,
)

SMALL = 64  # matrices up to this size are diagonalised in full: cheaper than to look for a few eigenvalues


@inner(error_model="numpy")
def split_spectrum(work, r, q, is_exp1):
    """Number of signal components, variance of the noise, and the rotations that project on the signal.

    The number is -2 where the patch is zero, -1 where no component qualifies as noise (no noise at all).
    """
    A, V, W, scratch, kept, rotations = work
    dim = kept.shape[0]
    d, e, beta, largest = scratch[0], scratch[1], scratch[2], scratch[3]
    rest = 0.0
    for i in range(dim):
        rest += A[i, i]
    if rest == 0.0:
        return -2, 0.0, 0
    reduce_to_tridiagonal(A, d, e, beta, V, W)

    n_rot = 0
    n_known = 0  # eigenvalues known so far, largest first
    smallest = 0.0
    if dim <= SMALL:
        n_rot = deflate_all(d, e, rotations)
        if n_rot < 0:
            return -1, 0.0, 0
        _sort_down(d, largest)
        smallest = max(largest[r - 1], 0.0)
        n_known = dim
    for rank in range(r):
        if rank == n_known:
            n_known, bottom = _next_eigenvalues(d, e, rank, r, largest)
            smallest = bottom if rank == 0 else smallest
        value = max(largest[rank], 0.0)
        n_noise = r - rank
        variance = rest / (q * float(n_noise))
        ratio = n_noise / (q if is_exp1 else q - rank)
        if (value - smallest) / (q * 4.0 * np.sqrt(ratio)) < variance:
            cut = 0.5 * (value + largest[max(rank - 1, 0)])
            if rank == 0:
                for i in range(dim):
                    kept[i] = False
                n_rot = 0
            elif dim <= SMALL:
                for i in range(dim):
                    kept[i] = d[i] > cut
            else:
                n_rot = deflate_above(d, e, largest[:rank], cut, kept, rotations)
            return rank, variance, n_rot
        rest = max(rest - value, 0.0)
    return -1, 0.0, 0


@inner(error_model="numpy")
def _next_eigenvalues(d, e, rank, r, largest):
    """Write the next eigenvalues, from place ``rank`` down; how many are known now, and the smallest of all r."""
    places = np.empty(LANES, dtype=np.int64)
    values = np.empty(LANES)
    lowest = d.shape[0] - r
    for l in range(LANES):
        places[l] = max(d.shape[0] - 1 - rank - l, lowest)
    places[LANES - 1] = lowest
    bisect_eigenvalues(d, e, places, values)
    n_new = min(LANES - 1, r - rank)
    for l in range(n_new):
        largest[rank + l] = values[l]
    return rank + n_new, max(values[LANES - 1], 0.0)


@inner(error_model="numpy")
def _sort_down(values, result):
    """``values`` in falling order, by insertion: there are few."""
    for i in range(values.shape[0]):
        v = values[i]
        j = i
        while j > 0 and result[j - 1] < v:
            result[j] = result[j - 1]
            j -= 1
        result[j] = v
