"""Kernels that find peaks: on the sphere by Newton's method, and on a grid by comparing neighbours."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from arcuate.models.status import Status
from arcuate.numerics.compiled import inner, kernel
from arcuate.numerics.lanes import LINE, mark_crests, multiply_panel, padded
from arcuate.numerics.sh_polynomial import evaluate, tangent_hessian, tangents, to_polynomial

CHUNK = 256  # voxels of one thread at a time
_STEP = 0.2  # rad, largest step of the refinement
_CLOSE = 1e-4  # rad; after a Newton step this small the error is of the order of its square
_SAME = math.cos(math.radians(1.0))  # maxima nearer to each other than this are one
_CELL = 0.14  # rad, the distance of neighbouring seeds
_GAIN = 1.5  # a refined peak is at most this much above the vertex it started from
_FITTED, _NO_SIGNAL, _NOT_FINITE = int(Status.FITTED), int(Status.NO_SIGNAL), int(Status.NOT_FINITE)


class Seeds(NamedTuple):
    """Directions that the search starts from, and the harmonics there; the same for all voxels."""

    panels: np.ndarray  # flat float64, panels of the harmonics on the seeds, see panel_product.as_panels
    vertices: np.ndarray  # (n_seeds, 3) float64, unit vectors
    neighbours: np.ndarray  # (n_seeds, n_near) int64, seeds beside each seed
    table: np.ndarray  # (n_m, half, half) float64, see sh_polynomial.polynomial_table


class Limits(NamedTuple):
    """Which maxima count."""

    threshold: float  # of the highest peak of the voxel, 0 to 1
    cosine: float  # of two peaks nearer than this the stronger stays
    least: float  # peaks at or below it are left out, unit of the amplitude


class Found(NamedTuple):
    """Maxima of one voxel, in the order in which they were found."""

    directions: np.ndarray  # (n_seeds, 3) float64, unit vectors
    heights: np.ndarray  # (n_seeds,) float64, unit of the amplitude


class PeakResults(NamedTuple):
    """What is filled in."""

    directions: np.ndarray  # (n_vox, n_peaks, 3) float64, unit vectors
    values: np.ndarray  # (n_vox, n_peaks) float64, unit of the amplitude
    status: np.ndarray  # (n_vox,) uint8, see Status


class Scratch(NamedTuple):
    """Work space for eight voxels in lanes, then for one after the other."""

    lines: np.ndarray  # (8 n_coef,) float64, coefficients
    amplitude: np.ndarray  # (8 n_seeds,) float64, padded to whole panels
    marks: np.ndarray  # (n_seeds,) uint8, bit of a lane: the search starts here
    floor: np.ndarray  # (8,) float64, amplitude from which on a seed counts
    near: np.ndarray  # (n_seeds n_near,) int64, neighbours of the seeds
    starts: np.ndarray  # (8, n_seeds) int64, seeds of each lane
    counts: np.ndarray  # (8,) int64, how many
    row: np.ndarray  # (n_coef,) float64, coefficients of one voxel
    series: np.ndarray  # (n_m, 2, half) float64, its polynomial
    found: Found


def make_scratch(seeds: Seeds, n_coef: int) -> Scratch:
    """Work space for series of ``n_coef`` coefficients."""
    n_seeds = len(seeds.vertices)
    return Scratch(
        np.zeros(LINE * n_coef),
        np.zeros(LINE * padded(n_seeds)),
        np.zeros(n_seeds, np.uint8),
        np.zeros(LINE),
        seeds.neighbours.reshape(-1),
        np.zeros((LINE, n_seeds), np.int64),
        np.zeros(LINE, np.int64),
        np.zeros(n_coef),
        np.zeros((seeds.table.shape[0], 2, seeds.table.shape[1])),
        Found(np.zeros((n_seeds, 3)), np.zeros(n_seeds)),
    )


@kernel(error_model="numpy")
def find_peaks_of_voxels(coefs, seeds, limits, scratch, results):
    """Peaks of harmonic series ``coefs`` (n_vox, n_coef) float64, strongest first."""
    n_vox, n_coef = coefs.shape
    n_seeds, n_near = seeds.neighbours.shape
    n_panels = (n_seeds + LINE - 1) // LINE
    lines, amplitude, marks, floor, near, starts, counts, row, series, found = scratch
    status, n_peaks = results.status, results.values.shape[1]
    for start in range(0, n_vox, LINE):
        count = min(LINE, n_vox - start)
        for lane in range(count):
            status[start + lane] = _load(coefs[start + lane], lane, lines)
        for panel in range(n_panels):
            multiply_panel(seeds.panels, panel * n_coef * LINE, lines, n_coef, amplitude, panel * LINE)
        _set_floors(amplitude, n_seeds, 0.5 * limits.threshold, limits.least, floor)
        mark_crests(amplitude, near, n_near, n_seeds, floor, marks)
        _collect(marks, count, starts, counts)
        for lane in range(count):
            v = start + lane
            if status[v] == _NOT_FINITE:
                continue
            if counts[lane] == 0:
                status[v] = _NO_SIGNAL
                continue
            for k in range(n_coef):
                row[k] = lines[LINE * k + lane]
            to_polynomial(row, seeds.table, series)
            chosen = starts[lane, : counts[lane]]
            n_found = _refine_all(series, amplitude, lane, chosen, seeds, limits.cosine, n_peaks, found)
            n_kept = _keep(found, n_found, limits, results.directions[v], results.values[v])
            status[v] = _FITTED if n_kept > 0 else _NO_SIGNAL


@inner(error_model="numpy")
def _load(row, lane, lines):
    """Copy one voxel into its lane, zeros if it is not finite."""
    for k in range(len(row)):
        lines[LINE * k + lane] = row[k]
    for k in range(len(row)):
        if not np.isfinite(row[k]):
            for j in range(len(row)):
                lines[LINE * j + lane] = 0.0
            return _NOT_FINITE
    return _FITTED


@inner(error_model="numpy")
def _set_floors(amplitude, n_seeds, threshold, least, floor):
    """Amplitude above which a maximum on the grid may still make a peak that counts."""
    highest = np.empty(LINE)
    for lane in range(LINE):
        highest[lane] = 0.0
    for d in range(n_seeds):
        for lane in range(LINE):
            highest[lane] = max(highest[lane], amplitude[LINE * d + lane])
    for lane in range(LINE):
        floor[lane] = max(threshold * highest[lane], least / _GAIN, 1e-12 * highest[lane])


@inner(error_model="numpy")
def _collect(marks, count, seeds, counts):
    """Marked vertices of each lane."""
    for lane in range(LINE):
        counts[lane] = 0
    for d in range(len(marks)):
        if marks[d] != 0:
            for lane in range(count):
                if (marks[d] >> lane) & 1:
                    seeds[lane, counts[lane]] = d
                    counts[lane] += 1


@inner(error_model="numpy")
def _refine_all(series, amplitude, lane, chosen, seeds, cosine, n_peaks, found):
    """Refine the chosen seeds, strongest first, until the rest cannot make one of the strongest peaks."""
    for i in range(np.int64(1), len(chosen)):  # insertion sort: a handful
        seed, j = chosen[i], i
        while j > 0 and amplitude[LINE * chosen[j - 1] + lane] < amplitude[LINE * seed + lane]:
            chosen[j] = chosen[j - 1]
            j -= 1
        chosen[j] = seed
    n_found, space = np.int64(0), np.empty(10)
    for i in range(len(chosen)):
        if n_found >= n_peaks and _GAIN * amplitude[LINE * chosen[i] + lane] < _weakest_needed(
            found, n_found, cosine, n_peaks
        ):
            break
        vertex, reach = seeds.vertices[chosen[i]], _CELL
        if _is_top(amplitude, lane, chosen[i], seeds.neighbours):
            reach = np.inf
        found.heights[n_found] = _climb(series, vertex, reach, space, found.directions, n_found)
        if found.heights[n_found] > -np.inf:
            n_found += 1
    return n_found


@inner(error_model="numpy")
def _weakest_needed(found, n_found, cosine, n_peaks):
    """Height of the weakest of ``n_peaks`` separate peaks, -inf while there are fewer."""
    directions, height = found.directions, found.heights
    kept, lowest = 0, np.inf
    for i in range(n_found):
        is_separate = True
        for j in range(n_found):
            if height[j] > height[i] or (height[j] == height[i] and j < i):
                alike = (
                    directions[i, 0] * directions[j, 0]
                    + directions[i, 1] * directions[j, 1]
                    + directions[i, 2] * directions[j, 2]
                )
                is_separate = is_separate and abs(alike) <= cosine
        if is_separate:
            kept += 1
            lowest = min(lowest, height[i])
    return lowest if kept >= n_peaks else -np.inf


@inner(error_model="numpy")
def _is_top(amplitude, lane, seed, neighbours):
    """Whether no neighbour is higher."""
    n_higher = 0
    for near in neighbours[seed]:
        n_higher += amplitude[LINE * near + lane] > amplitude[LINE * seed + lane]
    return n_higher == 0


@inner(error_model="numpy")
def _climb(series, start, reach, space, found, n_found):
    """Move to the maximum near ``start`` (3,) and put it behind those found.

    Returns its height; -inf where that is no maximum, one of those found, or further than ``reach`` by the first step.
    """
    x, y, z = start[0], start[1], start[2]
    evaluate(series, x, y, z, space)
    is_cap = False
    for k in range(40):
        height = space[0]
        inward = x * space[1] + y * space[2] + z * space[3]
        e, f = tangents(x, y, z)
        ge = e[0] * space[1] + e[1] * space[2] + e[2] * space[3]
        gf = f[0] * space[1] + f[1] * space[2] + f[2] * space[3]
        ee, ef, ff = tangent_hessian(space, e, f, inward)
        u, v, is_cap = _newton_step(ee, ef, ff, ge, gf)
        length = math.sqrt(u * u + v * v)
        if k == 0 and length > reach:
            return -np.inf
        if length > _STEP:
            u, v = u * _STEP / length, v * _STEP / length
        for _ in range(6):
            a, b, c = x + u * e[0] + v * f[0], y + u * e[1] + v * f[1], z + u * e[2] + v * f[2]
            norm = 1.0 / math.sqrt(a * a + b * b + c * c)
            if is_cap and _is_known(a * norm, b * norm, c * norm, found, n_found):
                return -np.inf
            evaluate(series, a * norm, b * norm, c * norm, space)
            if space[0] >= height or length < _CLOSE:
                break
            u, v = 0.5 * u, 0.5 * v
        x, y, z = a * norm, b * norm, c * norm
        if length < _CLOSE:
            break
    found[n_found, 0], found[n_found, 1], found[n_found, 2] = x, y, z
    return space[0] if is_cap else -np.inf


@inner(error_model="numpy")
def _is_known(x, y, z, found, n_found):
    """Whether the direction is one of those found, or its opposite."""
    nearest = 0.0
    for i in range(n_found):
        nearest = max(nearest, abs(x * found[i, 0] + y * found[i, 1] + z * found[i, 2]))
    return nearest > _SAME


@inner(error_model="numpy")
def _newton_step(ee, ef, ff, ge, gf):
    """Step to the top of the local parabola; where that is no cap, uphill along its axes by |curvature|."""
    middle, spread = 0.5 * (ee + ff), math.sqrt(0.25 * (ee - ff) ** 2 + ef * ef)
    low, high = middle - spread, middle + spread
    if high < 1e-3 * low:
        determinant = ee * ff - ef * ef
        return -(ff * ge - ef * gf) / determinant, -(ee * gf - ef * ge) / determinant, True
    a, b = (ef, high - ee) if abs(high - ee) > abs(high - ff) else (high - ff, ef)  # axis of the higher curvature
    norm = math.sqrt(a * a + b * b)
    a, b = (a / norm, b / norm) if norm > 0.0 else (1.0, 0.0)
    steepest = max(abs(low), abs(high), 1e-300)
    along = (a * ge + b * gf) / max(abs(high), 1e-3 * steepest)
    across = (a * gf - b * ge) / max(abs(low), 1e-3 * steepest)
    return a * along - b * across, b * along + a * across, high < 0.0


@inner(error_model="numpy")
def _keep(found, n_found, limits, directions, values):
    """Write the separate peaks, strongest first; how many."""
    if n_found == 0:
        return 0
    all_found, height = found.directions, found.heights
    order = np.empty(n_found, np.int64)
    for i in range(n_found):  # insertion sort: a handful, and np.argsort takes two seconds to compile
        k = i
        while k > 0 and height[order[k - 1]] < height[i]:
            order[k] = order[k - 1]
            k -= 1
        order[k] = i
    limit = limits.threshold * height[order[0]]
    count = 0
    for rank in range(n_found):
        i = order[rank]
        if height[i] < limit or not height[i] > limits.least or count == len(values):
            break
        one, is_separate = all_found[i], True
        for j in range(count):
            alike = one[0] * directions[j, 0] + one[1] * directions[j, 1] + one[2] * directions[j, 2]
            is_separate = is_separate and abs(alike) <= limits.cosine
        if is_separate:
            sign = -1.0 if one[2] < 0.0 else 1.0
            for axis in range(3):
                directions[count, axis] = sign * one[axis]
            values[count] = height[i]
            count += 1
    return count


class Grid(NamedTuple):
    """The sphere that functions are sampled on, and which of their maxima count."""

    vertices: np.ndarray  # (n_vertices, 3) float64, unit vectors
    edges: np.ndarray  # (n_edges, 2) int64, neighbouring vertices
    threshold: float  # of the highest peak above the voxel's floor, 0 to 1
    cosine: float  # of two peaks nearer than this the stronger stays
    is_symmetric: bool  # a direction and its opposite are one


class GridResults(NamedTuple):
    """What is filled in."""

    indices: np.ndarray  # (n_vox, n_peaks) int32, vertex of each peak
    values: np.ndarray  # (n_vox, n_peaks) float64, unit of the amplitude
    lowest: np.ndarray  # (n_vox,) float64, smallest amplitude
    highest: np.ndarray  # (n_vox,) float64, amplitude of the first peak


@kernel(error_model="numpy")
def find_grid_peaks(amplitudes, grid, results):
    """Peaks of amplitudes (n_vox, n_vertices) on the grid, strongest first."""
    n_vertices = len(grid.vertices)
    rank, peaks, height = np.zeros(n_vertices, np.int8), np.zeros(n_vertices, np.int64), np.zeros(n_vertices)
    for v in range(amplitudes.shape[0]):
        count = _grid_maxima(amplitudes[v], grid.edges, rank, peaks, height)
        results.lowest[v] = np.min(amplitudes[v])
        if count > 1:
            count = _thin(grid, peaks, height, count, max(results.lowest[v], 0.0))
        if count > 0:
            results.highest[v] = height[0]
        for i in range(min(count, results.indices.shape[1])):
            results.indices[v, i] = peaks[i]
            results.values[v, i] = height[i]


@inner(error_model="numpy")
def _grid_maxima(row, edges, rank, peaks, height):
    """Vertices above at least one neighbour and below none, highest first; how many.

    As in DIPY, each maximum below zero stands at the end as vertex 0 with the height 0.
    """
    rank[:] = 0
    for t in range(len(edges)):
        a, b = edges[t, 0], edges[t, 1]
        if row[a] < row[b]:
            rank[a], rank[b] = -1, rank[b] | 1
        elif row[a] > row[b]:
            rank[a], rank[b] = rank[a] | 1, -1
        elif np.isnan(row[a]) or np.isnan(row[b]):
            return 0
    count, n_negative = 0, 0
    for d in range(len(row)):
        if rank[d] > 0 and row[d] < 0.0:
            n_negative += 1
        elif rank[d] > 0:
            j = count
            while j > 0 and height[j - 1] < row[d]:
                peaks[j], height[j] = peaks[j - 1], height[j - 1]
                j -= 1
            peaks[j], height[j] = d, row[d]
            count += 1
    for j in range(count, count + n_negative):
        peaks[j], height[j] = 0, 0.0
    return count + n_negative


@inner(error_model="numpy")
def _thin(grid, peaks, height, count, floor):
    """Drop the peaks that are too small or too near a stronger one; how many stay."""
    vertices = grid.vertices
    limit = grid.threshold * (height[0] - floor)
    n_high = 1
    while n_high < count and height[n_high] - floor >= limit:
        n_high += 1
    kept = 0
    for i in range(n_high):
        is_separate = True
        for j in range(kept):
            alike = 0.0
            for axis in range(3):
                alike += vertices[peaks[i], axis] * vertices[peaks[j], axis]
            if grid.is_symmetric:
                alike = abs(alike)
            if alike > grid.cosine:
                is_separate = False
                break
        if is_separate:
            peaks[kept], height[kept] = peaks[i], height[i]
            kept += 1
    return kept
