"""Values between the points of a regular grid: linear, and the label with the largest linear weight."""

from __future__ import annotations

import math

import numpy as np

from arcuate.numerics.compiled import inner, kernel, run_in_chunks

_CHUNK = 4096


def interpolate_linearly(grid: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values (n_points, n) float64 at places ``at`` (n_points, 3), in steps of the grid (x, y, z, n) and within it.

    The grid is C-contiguous, float32 or float64.
    """
    at = np.ascontiguousarray(at, dtype=np.float64)
    out = np.empty((len(at), grid.shape[3]))
    run_in_chunks(lambda begin, end: _linear(grid, at[begin:end], out[begin:end]), len(at), _CHUNK)
    return out


def vote_of_neighbours(grid: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Labels (n_points, n) of largest linear weight at places ``at`` (n_points, 3) of a grid (x, y, z, n).

    Of labels with equal sums, to within 1e-12, the lowest; the grid is C-contiguous.
    """
    at = np.ascontiguousarray(at, dtype=np.float64)
    out = np.empty((len(at), grid.shape[3]), dtype=grid.dtype)
    run_in_chunks(lambda begin, end: _vote(grid, at[begin:end], out[begin:end]), len(at), _CHUNK)
    return out


@inner()
def _corner(at, size):
    """The grid point below a place, the next one, and how far the place is from the first."""
    low = min(max(math.floor(at), 0), size - 1)
    return low, min(low + 1, size - 1), at - low


@kernel()
def _linear(grid, at, out):
    nx, ny, nz, n = grid.shape
    for p in range(len(at)):
        i0, i1, a = _corner(at[p, 0], nx)
        j0, j1, b = _corner(at[p, 1], ny)
        k0, k1, c = _corner(at[p, 2], nz)
        for m in range(n):
            low = (grid[i0, j0, k0, m] * (1 - c) + grid[i0, j0, k1, m] * c) * (1 - b)
            low += (grid[i0, j1, k0, m] * (1 - c) + grid[i0, j1, k1, m] * c) * b
            high = (grid[i1, j0, k0, m] * (1 - c) + grid[i1, j0, k1, m] * c) * (1 - b)
            high += (grid[i1, j1, k0, m] * (1 - c) + grid[i1, j1, k1, m] * c) * b
            out[p, m] = low * (1 - a) + high * a


@kernel()
def _vote(grid, at, out):
    nx, ny, nz, n = grid.shape
    labels = np.empty(8, grid.dtype)
    sums = np.empty(8)
    for p in range(len(at)):
        i0, i1, a = _corner(at[p, 0], nx)
        j0, j1, b = _corner(at[p, 1], ny)
        k0, k1, c = _corner(at[p, 2], nz)
        for m in range(n):
            n_found = 0
            for corner in range(8):
                i, u = (i1, a) if corner & 4 else (i0, 1 - a)
                j, v = (j1, b) if corner & 2 else (j0, 1 - b)
                k, w = (k1, c) if corner & 1 else (k0, 1 - c)
                label = grid[i, j, k, m]
                known = 0
                while known < n_found and labels[known] != label:
                    known += 1
                if known == n_found:
                    labels[known] = label
                    sums[known] = 0.0
                    n_found += 1
                sums[known] += u * v * w
            best = 0
            for known in range(1, n_found):
                apart = sums[known] - sums[best]
                if apart > 1e-12 or (apart > -1e-12 and labels[known] < labels[best]):
                    best = known
            out[p, m] = labels[best]
