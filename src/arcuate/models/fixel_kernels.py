# mypy: disable-error-code=no-untyped-def
"""Kernel that segments the lobes of an FOD sampled on a half sphere."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from arcuate.models.peak_kernels import _GAIN, _SAME, _climb
from arcuate.numerics.compiled import inner, kernel
from arcuate.numerics.lanes import LINE, multiply_panel
from arcuate.numerics.sh_polynomial import to_polynomial

MOST = 16  # lobes kept of one voxel; degree 12 has fewer of any size
CHUNK = 256  # voxels of one thread at a time
_HOPE = 1.0 / _GAIN  # of the least peak: the top of a lobe that refinement may still raise so far


class HalfSphere(NamedTuple):
    """Directions on which FODs are sampled."""

    panels: np.ndarray  # flat float64, panels of the harmonics, see panel_product.as_panels
    vertices: np.ndarray  # (n_dir, 3) float64, unit vectors
    neighbours: np.ndarray  # (n_dir, n) int64, directions next to each
    areas: np.ndarray  # (n_dir,) float64, sr on both halves together


@kernel(error_model="numpy")
def segment_voxels(coefs, sphere, polynomials, thresholds, counts, table):
    """Lobes of each row of ``coefs`` (n_vox, n_coef) into ``table`` (n_vox, most, 8) and their number into ``counts``.

    Columns of the table: mean direction, direction of the peak, integral, amplitude of the peak.
    """
    n_vox, n_coef = coefs.shape
    n_dir = len(sphere.vertices)
    n_panels = (n_dir + LINE - 1) // LINE
    lines, amplitude = np.zeros(LINE * n_coef), np.zeros(LINE * LINE * n_panels)
    values, home = np.zeros(n_dir), np.zeros(n_dir, np.int64)
    series = np.zeros((polynomials.shape[0], 2, polynomials.shape[1]))
    lobes, tops = np.zeros((n_dir, 4)), np.zeros(n_dir, np.int64)
    for start in range(0, n_vox, LINE):
        count = min(LINE, n_vox - start)
        lines[:] = 0.0
        for lane in range(count):
            if np.all(np.isfinite(coefs[start + lane])):
                for k in range(n_coef):
                    lines[LINE * k + lane] = coefs[start + lane, k]
        for panel in range(n_panels):
            multiply_panel(sphere.panels, panel * n_coef * LINE, lines, n_coef, amplitude, panel * LINE)
        for lane in range(count):
            v = start + lane
            for d in range(n_dir):
                values[d] = amplitude[LINE * d + lane]
            n_lobes = _segment(values, sphere, home, tops, lobes)
            if n_lobes > 0:
                to_polynomial(coefs[v], polynomials, series)
                counts[v] = _keep(series, values, sphere.vertices, tops, lobes, n_lobes, thresholds, table[v])


@inner(error_model="numpy")
def _segment(values, sphere, home, tops, lobes):
    """Sums of each lobe (integral, then x y z weighed by it, on the side of its top) and its top; how many.

    ``home`` of a direction is its lobe; -1 - lobe where it lies between several, which the strongest gets.
    """
    vertices, free = sphere.vertices, len(tops)
    n_lobes = 0
    home[:] = free
    for d in np.argsort(-values):
        if not values[d] > 0.0:
            break
        lobe, between, is_shared = free, free, False
        for near in sphere.neighbours[d]:
            there = home[near]
            if there < 0:
                between = min(between, -1 - there)
            elif there < free:
                is_shared = is_shared or (lobe < free and there != lobe)
                lobe = min(lobe, there)
        if lobe == free and between == free:
            lobe = n_lobes
            tops[lobe] = d
            lobes[lobe] = 0.0
            n_lobes += 1
        elif lobe == free:
            lobe, is_shared = between, True
        home[d] = -1 - lobe if is_shared else lobe
        _add(values[d] * sphere.areas[d], vertices[d], vertices[tops[lobe]], lobes[lobe])
    return n_lobes


@inner(error_model="numpy")
def _add(weight, vertex, top, sums):
    """One direction to the sums of its lobe, turned to the side of the top."""
    sums[0] += weight
    if vertex[0] * top[0] + vertex[1] * top[1] + vertex[2] * top[2] < 0.0:
        weight = -weight
    for k in range(3):
        sums[1 + k] += weight * vertex[k]


@inner(error_model="numpy")
def _keep(series, values, vertices, tops, lobes, n_lobes, thresholds, table):
    """Write the lobes above the thresholds, largest integral first; how many."""
    peaks, heights = np.zeros((n_lobes, 3)), np.zeros(n_lobes)
    space, found = np.empty(10), np.zeros((1, 3))
    least_peak, least_integral = thresholds
    for i in range(n_lobes):  # in the order of their tops, highest first
        top = vertices[tops[i]]
        peaks[i], heights[i] = top, values[tops[i]]
        if heights[i] < _HOPE * least_peak:
            continue
        height = _climb(series, top, np.inf, space, found, np.int64(0))
        if not height >= heights[i]:  # a plateau, which Newton's method leaves
            continue
        peaks[i], heights[i] = found[0], height
        for j in range(i):
            cosine = peaks[i, 0] * peaks[j, 0] + peaks[i, 1] * peaks[j, 1] + peaks[i, 2] * peaks[j, 2]
            if abs(cosine) > _SAME and lobes[j, 0] > 0.0:  # a maximum of the grid alone, on the slope of that lobe
                _merge(lobes[i], lobes[j])
                break
    count = 0
    for i in np.argsort(-lobes[:n_lobes, 0]):
        if count == len(table) or not lobes[i, 0] > 0.0 or lobes[i, 0] < least_integral:
            break
        norm = math.sqrt(lobes[i, 1] ** 2 + lobes[i, 2] ** 2 + lobes[i, 3] ** 2)
        if heights[i] < least_peak or not norm > 0.0:
            continue
        for k in range(3):
            table[count, k] = lobes[i, 1 + k] / norm
            table[count, 3 + k] = peaks[i, k]
        table[count, 6], table[count, 7] = lobes[i, 0], heights[i]
        count += 1
    return count


@inner(error_model="numpy")
def _merge(part, whole):
    """The sums of one lobe into those of another, and none to itself."""
    cosine = part[1] * whole[1] + part[2] * whole[2] + part[3] * whole[3]
    whole[0] += part[0]
    for k in range(1, 4):
        whole[k] += part[k] if cosine >= 0.0 else -part[k]
    part[:] = 0.0
