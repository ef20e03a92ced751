"""A head in scanner millimetres (x to the right, y to the front, z up): which tissue lies where.

Every surface is a depth function. The cortex is what lies within 3 mm of the pial surface, which is the hull of each
hemisphere, the midline fissure, the Sylvian fissure with the insula, and sulci: the sheets where a random field on the
hull changes its sign, carried inwards. White matter fills the rest, around ventricles and deep grey nuclei.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arcuate.numerics.compiled import inner, kernel
from arcuate.phantom.shapes import beyond, ellipsoid, ramp, smooth_max, smooth_min, tube, wave_sum

HEAD_SIZE = (164.0, 192.0, 120.0)  # mm, the box that holds the head
WM, GM, CSF, SKULL, SCALP, EYE = range(6)
CORTEX_THICKNESS = 3.0  # mm
RIM = 1.8  # mm of fluid between hull and skull
LESION = (30.0, 24.0, 23.0, 7.0)  # x y z and radius, mm

REGIONS = (
    "cortex_left", "cortex_right", "white_matter_left", "white_matter_right",
    "thalamus_left", "thalamus_right", "caudate_left", "caudate_right", "putamen_left", "putamen_right",
    "lateral_ventricle_left", "lateral_ventricle_right", "third_ventricle", "fourth_ventricle",
    "cerebellar_cortex_left", "cerebellar_cortex_right", "cerebellar_white_matter", "brainstem",
    "sulcal_csf", "lesion",
)  # fmt: skip
_R = {name: i + 1 for i, name in enumerate(REGIONS)}
CORTEX, WHITE, THALAMUS, CAUDATE, PUTAMEN = (
    _R["cortex_left"], _R["white_matter_left"], _R["thalamus_left"], _R["caudate_left"], _R["putamen_left"],
)  # fmt: skip
LATERAL, THIRD, FOURTH = _R["lateral_ventricle_left"], _R["third_ventricle"], _R["fourth_ventricle"]
FOLIA, CEREBELLAR_WHITE, STEM = _R["cerebellar_cortex_left"], _R["cerebellar_white_matter"], _R["brainstem"]
FLUID, LESION_LABEL = _R["sulcal_csf"], _R["lesion"]

_LATERAL_VENTRICLE = np.array(
    [[5, 32, 5, 2.0], [7, 24, 10, 4.2], [9, 8, 15, 4.4], [11, -8, 17, 4.2], [17, -26, 14, 5.2], [24, -36, 6, 5.0],
     [23, -54, 4, 2.0]]
)  # fmt: skip
_TEMPORAL_HORN = np.array([[24, -36, 6, 4.6], [32, -24, -8, 2.8], [33, -8, -16, 2.4]], dtype=float)
_CAUDATE = np.array([[12, 20, 2, 6.0], [15, 10, 10, 5.0], [17, -4, 17, 3.0], [20, -20, 18, 2.0]], dtype=float)
_STEM = np.array([[0, -14, -4, 9.0], [0, -19, -20, 12.5], [0, -22, -34, 14.0], [0, -30, -64, 8.5]], dtype=float)


@dataclass(frozen=True)
class Subject:
    """What differs from seed to seed: the folds, the size of the ventricles, and slow maps of the tissue."""

    folds: np.ndarray  # (n, 5) waves on the hull
    twist: np.ndarray  # (n, 5) waves added in the right hemisphere only
    slow: np.ndarray  # (3, n, 5) waves of the maps NDI, ODI, S0
    ventricles: np.ndarray  # (2,) mm added to the radius, left and right


def make_subject(rng: np.random.Generator) -> Subject:
    """Draw one subject."""
    side = np.array([0.9, 0.0]) + rng.uniform(-0.3, 0.3)
    folds = _waves(rng, 14, 21.0, 29.0)
    twist = _waves(rng, 8, 20.0, 30.0) * np.array([1, 1, 1, 1, 0.45])
    slow = np.stack([_waves(rng, 8, 45.0, 90.0) for _ in range(3)])
    return Subject(folds, twist, slow, side)


def _waves(rng: np.random.Generator, n: int, shortest: float, longest: float) -> np.ndarray:
    """(n, 5) waves of random direction with wavelengths (mm) in the range; their sum has unit variance."""
    k = rng.standard_normal((n, 3))
    k *= 2 * np.pi / rng.uniform(shortest, longest, size=(n, 1)) / np.linalg.norm(k, axis=1, keepdims=True)
    return np.column_stack([k, rng.uniform(0, 2 * np.pi, n), np.full(n, np.sqrt(2 / n))])


@inner(error_model="numpy")
def _cerebrum(x, y, z):
    """Depth in the hull of both hemispheres, before fissures."""
    ax = abs(x)
    upper = ellipsoid(x, y + 1.0, z + 1.0, 68.0, 84.5, 49.0)
    floor = -25.0 + 14.0 / (1.0 + np.exp((y + 26.0) / 5.0))  # the tentorium rises at the back
    floor -= 18.0 * np.exp(-((x / 24.0) ** 4) - ((y + 2.0) / 24.0) ** 4)  # no cortex where the stem enters
    temporal = ellipsoid(ax - 43.0, y - 4.0, z + 27.0, 23.0, 42.0, 22.0)
    return smooth_max(smooth_min(upper, z - floor, 10.0), temporal, 6.0)


@inner(error_model="numpy")
def _cerebellum(x, y, z):
    return smooth_max(
        ellipsoid(abs(x) - 22.0, y + 54.0, z + 36.0, 30.0, 32.0, 21.0),
        ellipsoid(x, y + 50.0, z + 34.0, 18.0, 28.0, 20.0),
        6.0,
    )


@inner(error_model="numpy")
def intracranial(x, y, z):
    """Depth in the space inside the skull: the brain, its fluid, and the cisterns below it."""
    brain = smooth_max(_cerebrum(x, y, z), _cerebellum(x, y, z), 12.0)
    return smooth_max(brain, tube(x, y, z, _STEM), 14.0) + RIM


@inner(error_model="numpy")
def _sulci(x, y, z, folds, twist):
    """Depth below the sulcal sheets: the distance (mm) to the nearest one."""
    ax, side = abs(x) - 22.0, 1.0 if x > 0 else 0.0
    px, py, pz = ax / 46.0, (y + 1.0) / 84.0, (z - 2.0) / 50.0
    radius = np.sqrt(px * px + py * py + pz * pz) + 1e-6
    reach = 60.0  # mm, radius of the sphere that carries the field
    ux, uy, uz = px / radius, py / radius, pz / radius
    w, gx, gy, gz = wave_sum(reach * ux, reach * uy, reach * uz, folds)
    v, hx, hy, hz = wave_sum(reach * ux, reach * uy, reach * uz, twist)
    w, gx, gy, gz = w + side * v, gx + side * hx, gy + side * hy, gz + side * hz
    inward = gx * ux + gy * uy + gz * uz
    gx, gy, gz = (gx - inward * ux) / 46.0, (gy - inward * uy) / 84.0, (gz - inward * uz) / 50.0
    slope = np.sqrt(gx * gx + gy * gy + gz * gz) * reach / radius
    return abs(w) / np.sqrt(slope * slope + 0.0016)


@inner(error_model="numpy")
def _below_pia(x, y, z, folds, twist):
    """Depth of a point of the cerebrum below the pial surface, sulci and fissures included."""
    ax = abs(x)
    hull = _cerebrum(x, y, z)
    if hull < -2.0:
        return hull
    depth = hull
    if hull < 26.0:
        reach = 15.0 + 4.0 * np.sin(0.09 * y + 0.05 * z) + 2.0 * np.sin(0.13 * z - 0.06 * x)
        sheet = _sulci(x, y, z, folds, twist)
        end = max(hull - reach, 0.0)
        depth = smooth_min(depth, np.sqrt(sheet * sheet + end * end) - 0.55, 1.5)
    commissure = ellipsoid(0.0, y + 3.0, z - 6.0, 1e3, 41.0, 25.0)
    medial = np.sqrt(max(ax - 0.7, 0.0) ** 2 + max(commissure, 0.0) ** 2)
    depth = smooth_min(depth, medial, 1.5)
    sylvian = z + 7.0 + 0.3 * y + 1.8 * np.sin(0.16 * y + 0.1 * ax)
    along = beyond(y, -36.0, 34.0)
    fissure = np.sqrt(sylvian * sylvian + max(41.0 - ax, 0.0) ** 2 + along * along)
    insula = np.sqrt(
        (ax - 41.0 + 1.5 * np.sin(0.2 * y)) ** 2 + beyond(sylvian, -9.0, 9.0) ** 2 + beyond(y, -24.0, 24.0) ** 2
    )
    return smooth_min(depth, min(fissure, insula) - 0.8, 1.5)


@inner(error_model="numpy")
def _below_folia(x, y, z):
    """Depth of a point of the cerebellum below its surface; the folia are thin horizontal leaves."""
    hull = _cerebellum(x, y, z)
    level = z + 0.25 * (y + 50.0) + 0.004 * x * x
    leaf = abs(level - 6.5 * np.round(level / 6.5))
    end = max(hull - 8.0, 0.0)
    return min(hull, np.sqrt(leaf * leaf + end * end) - 0.3)


@inner(error_model="numpy")
def _put(share, tissue, fractions):
    """Replace ``share`` of what is there by ``tissue``."""
    for t in range(fractions.size):
        fractions[t] *= 1.0 - share
    fractions[tissue] += share


@inner(error_model="numpy")
def _ventricles(x, y, z, extra):
    """Depths in the lateral, third and fourth ventricles."""
    ax = abs(x)
    more = extra[0] if x < 0 else extra[1]
    lateral = max(tube(ax, y, z, _LATERAL_VENTRICLE), tube(ax, y, z, _TEMPORAL_HORN)) + more
    third = ellipsoid(x, y + 5.0, z + 1.0, 2.6, 14.0, 11.0)
    fourth = ellipsoid(x, y + 37.0, z + 33.0, 6.0, 4.5, 9.0)
    return lateral, third, fourth


@inner(error_model="numpy")
def _nuclei(x, y, z):
    """Depths in thalamus, caudate and putamen."""
    ax = abs(x)
    thalamus = ellipsoid(ax - 11.0, y + 16.0, z - 6.0, 8.5, 14.0, 8.5)
    putamen = ellipsoid(ax - 27.0 + 0.12 * (y - 4.0), y - 4.0, z - 1.0, 6.0, 17.0, 11.0)
    return thalamus, tube(ax, y, z, _CAUDATE), putamen


@inner(error_model="numpy")
def _inside(x, y, z, width, folds, twist, extra, fractions):
    """Tissue fractions of a cell inside the skull; returns its region and the depth below the pia (mm)."""
    right = 1 if x > 0 else 0
    pia, folia, stem = _below_pia(x, y, z, folds, twist), _below_folia(x, y, z), tube(x, y, z, _STEM)
    in_cerebellum = folia > pia
    thickness = 1.9 if in_cerebellum else CORTEX_THICKNESS
    depth = max(pia, folia)
    region = (CEREBELLAR_WHITE if in_cerebellum else WHITE + right) if depth > thickness else CORTEX + right
    if in_cerebellum and depth <= thickness:
        region = FOLIA + right
    _put(1.0, CSF, fractions)
    _put(ramp(depth, width), GM, fractions)
    _put(ramp(depth - thickness, width), WM, fractions)
    if depth < 0.0:
        region = FLUID
    _put(ramp(stem, width), WM, fractions)
    if stem > 0.0:
        region, depth = STEM, max(depth, thickness + stem)
    nuclei = _nuclei(x, y, z)
    for n in range(3):
        _put(ramp(nuclei[n], width) * (0.8 if n == 0 else 1.0), GM, fractions)
        if nuclei[n] > 0.0:
            region = (THALAMUS, CAUDATE, PUTAMEN)[n] + right
    lateral, third, fourth = _ventricles(x, y, z, extra)
    _put(ramp(max(lateral, third, fourth), width), CSF, fractions)
    if max(lateral, third, fourth) > 0.0:
        region = LATERAL + right if lateral > 0.0 else (THIRD if third > 0.0 else FOURTH)
    lesion = ellipsoid(x - LESION[0], y - LESION[1], z - LESION[2], LESION[3], LESION[3] + 2.0, LESION[3])
    if lesion > 0.0 and WHITE <= region <= WHITE + 1:
        region = LESION_LABEL
    return region, depth


@inner(error_model="numpy")
def _outside(x, y, z, depth, width, fractions):
    """Skull, scalp, soft tissue and eyes; ``depth`` is that in the intracranial space."""
    neck = ellipsoid(x, y + 12.0, z + 76.0, 60.0, 72.0, 44.0)
    face = ellipsoid(x, y - 56.0, z + 58.0, 46.0, 37.0, 42.0)
    head = smooth_max(depth + 7.5, smooth_max(neck, face, 10.0), 8.0)
    _put(ramp(head, width), SCALP, fractions)
    _put(ramp(depth + 4.2, width), SKULL, fractions)
    eye = ellipsoid(abs(x) - 30.0, y - 74.0, z + 33.0, 12.0, 12.0, 12.0)
    _put(ramp(eye, width) * (1.0 - ramp(depth + 3.0, width)), EYE, fractions)


@inner(error_model="numpy")
def _fill_cell(x, y, z, width, subject, fractions, inner):
    """Fractions of one cell (6,), which need not sum to one: the rest is air.

    Returns region, depth below the pia and depth in the intracranial space.
    """
    folds, twist, extra = subject
    fractions[:] = 0.0
    depth = intracranial(x, y, z)
    if depth < 0.5 * width:
        _outside(x, y, z, depth, width, fractions)
    region, pia = 0, 0.0
    if depth > -0.5 * width:
        inner[:] = 0.0
        region, pia = _inside(x, y, z, width, folds, twist, extra, inner)
        share = ramp(depth, width)
        for t in range(fractions.size):
            fractions[t] = fractions[t] * (1.0 - share) + inner[t] * share
    return region, pia, depth


@kernel(error_model="numpy")
def fill_tissue(begin, end, shape, to_head, cell, n_sub, subject, out):
    """Tissue of every voxel of the lines ``begin`` to ``end`` of the last axis, averaged over ``n_sub``³ cells.

    ``to_head`` (3, 4) takes voxel indices to head mm, ``cell`` is the edge of a voxel in head mm, ``subject`` has
    folds, twist and ventricles. Writes fractions (n_vox, 6), regions (n_vox,) and depths below the pia (n_vox,), voxels
    in C order.
    """
    fractions, regions, depths = out
    for row in range(begin, end):
        i, j = row // shape[1], row % shape[1]
        part, inner = np.empty(6), np.empty(6)
        for k in range(shape[2]):
            v = row * shape[2] + k
            fractions[v] = 0.0
            for s in range(-1, n_sub**3):  # the whole voxel first, then its cells
                p, edge = (float(i), float(j), float(k)), cell
                if s >= 0:
                    a, b, c = s // n_sub**2, (s // n_sub) % n_sub, s % n_sub
                    p = (i + (a + 0.5) / n_sub - 0.5, j + (b + 0.5) / n_sub - 0.5, k + (c + 0.5) / n_sub - 0.5)
                    edge = cell / n_sub
                x, y, z = _point(to_head, p[0], p[1], p[2])
                region, pia, inside = _fill_cell(x, y, z, edge, subject, part, inner)
                if s < 0:
                    regions[v], depths[v] = region, pia
                    if inside < -20.0 - cell:  # far from the brain one cell will do
                        fractions[v] = part
                        break
                    continue
                for t in range(6):
                    fractions[v, t] += part[t] / n_sub**3


@inner(error_model="numpy")
def _point(to_head, i, j, k):
    return (
        to_head[0, 0] * i + to_head[0, 1] * j + to_head[0, 2] * k + to_head[0, 3],
        to_head[1, 0] * i + to_head[1, 1] * j + to_head[1, 2] * k + to_head[1, 3],
        to_head[2, 0] * i + to_head[2, 1] * j + to_head[2, 2] * k + to_head[2, 3],
    )
