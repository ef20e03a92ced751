"""Points of a regular grid, where matrices take them, and values between them: linear, and labels by vote."""

from __future__ import annotations

import math

import numpy as np

from arcuate.numerics.compiled import inner, kernel, run_in_chunks

_CHUNK = 4096


def grid_points(begin: int, end: int, shape: tuple[int, int, int], matrix: np.ndarray) -> np.ndarray:
    """Where a matrix (4, 4) takes the points ``begin`` ... ``end`` - 1 of a grid, C order: (n_points, 3)."""
    out = np.empty((end - begin, 3))
    _grid_points(begin, shape[1], shape[2], np.ascontiguousarray(matrix, dtype=np.float64), out)
    return out


def map_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Where a matrix (4, 4) takes points (n_points, 3)."""
    out = np.empty((len(points), 3))
    _map(np.ascontiguousarray(points, dtype=np.float64), np.ascontiguousarray(matrix, dtype=np.float64), out)
    return out


def interpolate_linearly(grid: np.ndarray, at: np.ndarray, outside: float = 0.0) -> np.ndarray:
    """Values (n_points, n) float64 at places ``at`` (n_points, 3), in steps of the grid (x, y, z, n).

    The grid is C-contiguous, float32 or float64, and ends half a step beyond its outer points: ``outside`` is beyond.
    """
    at = np.ascontiguousarray(at, dtype=np.float64)
    out = np.empty((len(at), grid.shape[3]))
    run_in_chunks(lambda begin, end: _linear(grid, at[begin:end], outside, out[begin:end]), len(at), _CHUNK)
    return out


def vote_of_neighbours(grid: np.ndarray, at: np.ndarray, outside: float = 0.0) -> np.ndarray:
    """Labels (n_points, n) of largest linear weight at places ``at`` (n_points, 3) of a grid (x, y, z, n).

    Of labels with equal sums, to within 1e-12, the lowest; the grid is C-contiguous.
    """
    at = np.ascontiguousarray(at, dtype=np.float64)
    out = np.empty((len(at), grid.shape[3]), dtype=grid.dtype)
    run_in_chunks(lambda begin, end: _vote(grid, at[begin:end], outside, out[begin:end]), len(at), _CHUNK)
    return out


@kernel()
def _grid_points(begin, ny, nz, matrix, out):
    for p in range(len(out)):
        place = begin + p
        i, j, k = place // (ny * nz), place // nz % ny, place % nz
        for row in range(3):
            out[p, row] = matrix[row, 0] * i + matrix[row, 1] * j + matrix[row, 2] * k + matrix[row, 3]


@kernel()
def _map(points, matrix, out):
    for p in range(len(points)):
        x, y, z = points[p, 0], points[p, 1], points[p, 2]
        for row in range(3):
            out[p, row] = matrix[row, 0] * x + matrix[row, 1] * y + matrix[row, 2] * z + matrix[row, 3]


@inner()
def _is_inside(at, nx, ny, nz):
    """Whether a place lies in the grid, half a step around its outer points included; not where it is NaN."""
    x, y, z = at[0], at[1], at[2]
    return -0.5 <= x < nx - 0.5 and -0.5 <= y < ny - 0.5 and -0.5 <= z < nz - 0.5


@inner()
def _corner(at, size):
    """The grid point below a place, the next one, and how far the place is from the first."""
    at = min(max(at, 0.0), size - 1.0)
    low = math.floor(at)
    return low, min(low + 1, size - 1), at - low


@inner()
def _cell(at, nx, ny, nz):
    """The eight grid points around a place: along each axis the lower, the upper, and how far it is from the lower."""
    i0, i1, a = _corner(at[0], nx)
    j0, j1, b = _corner(at[1], ny)
    k0, k1, c = _corner(at[2], nz)
    return (i0, j0, k0), (i1, j1, k1), (a, b, c)


@kernel()
def _linear(grid, at, outside, out):
    nx, ny, nz, n = grid.shape
    for p in range(len(at)):
        if not _is_inside(at[p], nx, ny, nz):
            out[p] = outside
            continue
        (i0, j0, k0), (i1, j1, k1), (a, b, c) = _cell(at[p], nx, ny, nz)
        for m in range(n):
            low = (grid[i0, j0, k0, m] * (1 - c) + grid[i0, j0, k1, m] * c) * (1 - b)
            low += (grid[i0, j1, k0, m] * (1 - c) + grid[i0, j1, k1, m] * c) * b
            high = (grid[i1, j0, k0, m] * (1 - c) + grid[i1, j0, k1, m] * c) * (1 - b)
            high += (grid[i1, j1, k0, m] * (1 - c) + grid[i1, j1, k1, m] * c) * b
            out[p, m] = low * (1 - a) + high * a


@kernel()
def _vote(grid, at, outside, out):
    nx, ny, nz, n = grid.shape
    labels = np.empty(8, grid.dtype)
    sums = np.empty(8)
    for p in range(len(at)):
        if not _is_inside(at[p], nx, ny, nz):
            out[p] = outside
            continue
        (i0, j0, k0), (i1, j1, k1), (a, b, c) = _cell(at[p], nx, ny, nz)
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
