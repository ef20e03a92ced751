"""Named bundles as families of curves through the head, and the fibres they give each voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from arcuate.numerics.compiled import inner, kernel

SPACING = 4.0  # mm between the points of a curve
BACKGROUND = 0.25  # weight of the fibres that fan out to the cortex; they give way to bundles
LAYER_AXIS = (0.48, 0.64, 0.6)  # of the right hemisphere, unit length: oblique to all three axes
LAYER_PERIOD = 0.3  # rad, of two layers: about 6 mm each where the fan is 40 mm wide
SHORT_SHARE = 0.4  # of the short fibres between the fan, on average
LAYER_CONTRAST = 0.65
SMALLEST_FRACTION = 0.1
MERGE_COSINE = np.cos(np.deg2rad(30.0))  # populations closer than this are one

# Right-hand curves: radius (mm), then x y z of the points they pass. Two-sided bundles are mirrored.
_PAIRED: dict[str, tuple[float, list[list[tuple[float, float, float]]]]] = {
    "AF": (6.5, [
        [(47, 24, 8), (42, 12, 18), (38, -6, 24), (37, -24, 25), (40, -39, 17), (46, -45, 4), (50, -36, -10),
         (49, -20, -20), (48, -6, -26)],
        [(44, 30, 18), (38, 14, 22), (36, -6, 26), (37, -26, 25), (42, -42, 14), (46, -46, -4), (44, -36, -18)],
    ]),
    "ATR": (5.5, [
        [(11, -18, 8), (15, -6, 11), (19, 8, 8), (18, 22, 6), (18, 40, 6), (20, 60, 10)],
        [(12, -14, 10), (19, 6, 11), (20, 22, 12), (24, 42, 16), (26, 56, 20)],
    ]),
    "CG": (4.5, [
        [(7, 34, -10), (7, 41, 4), (7, 34, 22), (7, 14, 33), (7, -10, 35), (8, -32, 30), (12, -44, 16), (18, -42, 0),
         (24, -28, -14), (26, -12, -20)],
    ]),
    "CST": (6.5, [
        [(7, -24, -58), (8, -20, -36), (14, -17, -17), (21, -13, 2), (23, -15, 18), *fan]
        for fan in (
            [(17, -18, 32), (9, -20, 47)], [(23, -17, 33), (20, -18, 46)], [(28, -15, 31), (32, -15, 43)],
            [(33, -11, 27), (43, -9, 34)], [(35, -7, 22), (51, -4, 22)],
        )
    ]),
    "IFO": (5.5, [
        [(26, 60, -2), (25, 40, -4), (30, 20, -7), (35, 4, -7), (36, -16, -6), (34, -36, -1), (30, -56, 2),
         (20, -76, 2)],
        [(36, 52, 4), (31, 34, -3), (32, 18, -7), (35, 2, -8), (36, -18, -7), (36, -40, 2), (32, -58, 12),
         (26, -70, 20)],
    ]),
    "ILF": (5.5, [
        [(40, 22, -36), (42, 2, -32), (43, -20, -24), (41, -40, -13), (35, -58, -5), (25, -76, -3)],
        [(46, 10, -26), (46, -14, -22), (44, -36, -12), (40, -56, 0), (34, -70, 10)],
    ]),
    "OR": (4.5, [
        [(21, -22, 3), (28, -14, -5), (34, -13, -10), (37, -24, -9), (36, -40, -3), (29, -58, 2), (14, -77, 4)],
        [(21, -24, 5), (28, -28, 4), (33, -42, 6), (28, -58, 8), (14, -74, 12)],
    ]),
    "POPT": (5.0, [
        [(36, -64, 34), (31, -50, 24), (26, -36, 11), (20, -24, -3), (14, -19, -17), (9, -23, -36), (7, -28, -56)],
        [(24, -70, 36), (26, -52, 22), (24, -36, 8), (19, -25, -4), (14, -20, -18), (9, -24, -36), (7, -28, -56)],
    ]),
    "SLF_II": (7.0, [
        [(36, 42, 20), (35, 20, 28), (33, -6, 33), (34, -30, 34), (38, -50, 28)],
        [(26, 34, 34), (29, 12, 35), (30, -8, 35), (34, -32, 32), (42, -46, 20)],
    ]),
    "UF": (4.5, [
        [(40, 18, -38), (37, 12, -26), (34, 12, -14), (29, 22, -8), (23, 36, -10), (17, 52, -10)],
        [(46, 14, -30), (38, 10, -20), (33, 14, -10), (28, 26, -6), (28, 42, -8), (30, 54, -6)],
    ]),
}  # fmt: skip

# Half-curves from the midline out; each is completed by its mirror image.
_CROSSING: dict[str, tuple[float, list[list[tuple[float, float, float]]]]] = {
    "CC_1": (5.0, [[(0, 28, -4), (8, 34, -9), (14, 46, -12), (16, 60, -12)]]),
    "CC_2": (6.0, [
        [(0, 33, 6), (10, 39, 6), (17, 52, 7), (19, 74, 6)],
        [(0, 33, 8), (12, 39, 10), (24, 50, 17), (30, 62, 24)],
        [(0, 32, 10), (11, 38, 16), (16, 48, 28), (16, 54, 36)],
    ]),
    "CC_3": (6.5, [
        [(0, 20, 22), (9, 22, 26), (14, 25, 36), (14, 27, 46)],
        [(0, 20, 21), (11, 22, 25), (26, 26, 33), (34, 30, 40)],
        [(0, 19, 20), (13, 22, 23), (32, 26, 24), (50, 30, 20)],
    ]),
    "CC_4": (6.5, [
        [(0, 6, 25), (9, 6, 29), (15, 6, 38), (14, 6, 48)],
        [(0, 6, 25), (11, 6, 29), (27, 5, 35), (36, 5, 43)],
        [(0, 6, 24), (13, 6, 27), (33, 4, 25), (56, 4, 20)],
    ]),
    "CC_5": (6.5, [
        [(0, -9, 26), (9, -10, 30), (15, -11, 39), (13, -12, 48)],
        [(0, -9, 26), (11, -10, 30), (27, -12, 35), (37, -14, 42)],
        [(0, -9, 25), (13, -10, 28), (34, -13, 25), (57, -16, 20)],
    ]),
    "CC_6": (6.5, [
        [(0, -24, 23), (10, -28, 29), (16, -36, 39), (14, -40, 46)],
        [(0, -24, 22), (12, -28, 27), (30, -36, 33), (40, -42, 38)],
        [(0, -24, 21), (15, -28, 24), (35, -34, 20), (56, -38, 12)],
    ]),
    "CC_7": (6.0, [
        [(0, -37, 10), (12, -44, 13), (21, -58, 10), (16, -78, 6)],
        [(0, -36, 13), (13, -43, 18), (24, -56, 24), (24, -68, 32)],
        [(0, -36, 9), (16, -42, 12), (31, -46, 4), (42, -46, -10), (48, -40, -20)],
    ]),
    "MCP": (6.0, [[(0, -10, -35), (10, -13, -35), (21, -24, -35), (27, -40, -35), (32, -56, -35)]]),
}  # fmt: skip

BUNDLE_NAMES: tuple[str, ...] = tuple(
    sorted([*_CROSSING, *(f"{name}_{side}" for name in _PAIRED for side in ("left", "right"))])
)
_SHEET = dict.fromkeys(("CC_3", "CC_4", "CC_5", "CC_6"), (-5.0, 0.0, 5.0))  # mm to the front: no gaps in between
LATERALITY = {"AF": 1.15}  # radius on the left, relative to the right: language is not symmetric


@dataclass(frozen=True)
class Curves:
    """All curves of all bundles as one list of points, with a box around each."""

    points: np.ndarray  # (n_points, 6): x y z in head mm, unit tangent
    first: np.ndarray  # (n_curves + 1,) int, where each curve starts in ``points``
    bundle: np.ndarray  # (n_curves,) int, index in BUNDLE_NAMES, ascending
    radius: np.ndarray  # (n_curves,) mm
    box: np.ndarray  # (n_curves, 6): lowest x y z, highest x y z within the radius


def make_curves() -> Curves:
    """The curves of every bundle, resampled at equal steps."""
    families: list[tuple[str, float, np.ndarray]] = []
    mirror = np.array([-1.0, 1.0, 1.0])
    for name, (radius, curves) in _PAIRED.items():
        for knots in curves:
            families.append((f"{name}_right", radius, _resample(np.array(knots, dtype=float))))
            left = _resample(np.array(knots, dtype=float) * mirror)
            families.append((f"{name}_left", radius * LATERALITY.get(name, 1.0), left))
    for name, (radius, curves) in _CROSSING.items():
        for knots in curves:
            half = np.array(knots, dtype=float)
            whole = np.vstack([half[:0:-1] * mirror, half])
            shifts = [np.array([0.0, y, 0.0]) for y in _SHEET.get(name, (0.0,))]
            families.extend((name, radius, _resample(whole + shift)) for shift in shifts)
    families.sort(key=lambda family: BUNDLE_NAMES.index(family[0]))
    lengths = [len(points) for _, _, points in families]
    box = np.array([[*(p[:, :3].min(0) - r), *(p[:, :3].max(0) + r)] for _, r, p in families])
    return Curves(
        points=np.vstack([points for _, _, points in families]),
        first=np.concatenate([[0], np.cumsum(lengths)]),
        bundle=np.array([BUNDLE_NAMES.index(name) for name, _, _ in families]),
        radius=np.array([radius for _, radius, _ in families]),
        box=box,
    )


def _resample(knots: np.ndarray) -> np.ndarray:
    """(n, 6) points and unit tangents along a smooth curve through ``knots``."""
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    spline = CubicSpline(along, knots)
    at = np.linspace(0, along[-1], int(np.ceil(along[-1] / SPACING)) + 1)
    tangents = spline(at, 1)
    return np.column_stack([spline(at), tangents / np.linalg.norm(tangents, axis=1, keepdims=True)])


@inner(error_model="numpy")
def _nearest(x, y, z, points, first, last):
    """Squared distance to the polyline points[first:last], and its tangent there."""
    best, tx, ty, tz = 1e30, 0.0, 0.0, 0.0
    for p in range(first, last - 1):
        ax, ay, az = points[p, 0], points[p, 1], points[p, 2]
        dx, dy, dz = points[p + 1, 0] - ax, points[p + 1, 1] - ay, points[p + 1, 2] - az
        s = ((x - ax) * dx + (y - ay) * dy + (z - az) * dz) / (dx * dx + dy * dy + dz * dz)
        s = min(max(s, 0.0), 1.0)
        away = (x - ax - s * dx) ** 2 + (y - ay - s * dy) ** 2 + (z - az - s * dz) ** 2
        if away < best:
            best = away
            tx = points[p, 3] + s * (points[p + 1, 3] - points[p, 3])
            ty = points[p, 4] + s * (points[p + 1, 4] - points[p, 4])
            tz = points[p, 5] + s * (points[p + 1, 5] - points[p, 5])
    return best, tx, ty, tz


@inner(error_model="numpy")
def _bundle_weights(x, y, z, points, first, bundle, radius, box, weights, axes):
    """Weight and direction of every bundle at a point; the direction is the mean over the bundle's curves."""
    weights[:] = 0.0
    axes[:] = 0.0
    for c in range(bundle.size):
        if (
            x < box[c, 0] or y < box[c, 1] or z < box[c, 2]
            or x > box[c, 3] or y > box[c, 4] or z > box[c, 5]
        ):  # fmt: skip
            continue
        away, tx, ty, tz = _nearest(x, y, z, points, first[c], first[c + 1])
        weight = 1.0 - away / radius[c] ** 2
        if weight <= 0.0:
            continue
        b = bundle[c]
        sign = 1.0 if axes[b, 0] * tx + axes[b, 1] * ty + axes[b, 2] * tz >= 0.0 else -1.0
        axes[b, 0] += sign * weight * tx
        axes[b, 1] += sign * weight * ty
        axes[b, 2] += sign * weight * tz
        weights[b] = max(weights[b], weight)
    for b in range(weights.size):
        _normalise(axes[b])


@inner(error_model="numpy")
def _normalise(v):
    length = np.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
    if length > 0.0:
        for a in range(3):
            v[a] /= length


@inner(error_model="numpy")
def _fan(x, y, z, below_tentorium, is_stem, axis):
    """Direction of the fibres that are in no bundle: out to the cortex, or along the brainstem."""
    if is_stem:
        axis[0], axis[1], axis[2] = 0.05 * x / 10.0, 0.2, 1.0
    elif below_tentorium:
        axis[0], axis[1], axis[2] = x * 0.8, y + 34.0, 1.2 * (z + 36.0)
    else:
        side = 1.0 if x > 0 else -1.0
        axis[0], axis[1], axis[2] = x - 17.0 * side, 0.9 * (y + 8.0), z + 2.0
    if axis[0] == 0.0 and axis[1] == 0.0 and axis[2] == 0.0:
        axis[2] = 1.0
    _normalise(axis)


@inner(error_model="numpy")
def _interleaved(x, y, z, fan, axis):
    """Direction of the short fibres that are interleaved with the fan, and their share of the two.

    Both lie in thin layers: cones around an oblique line through the fan's centre, which hold the rays of the fan and
    the circles around the line. A fibre that is followed along a wrong direction leaves its layer.
    """
    side = 1.0 if x > 0 else -1.0
    u, v, w = side * LAYER_AXIS[0], LAYER_AXIS[1], LAYER_AXIS[2]
    axis[0], axis[1], axis[2] = v * fan[2] - w * fan[1], w * fan[0] - u * fan[2], u * fan[1] - v * fan[0]
    _normalise(axis)
    cosine = min(max(u * fan[0] + v * fan[1] + w * fan[2], -1.0), 1.0)
    wave = np.sin(np.arccos(cosine) * 2.0 * np.pi / LAYER_PERIOD)
    return min(max(SHORT_SHARE + LAYER_CONTRAST * wave, 0.0), 1.0)


@inner(error_model="numpy")
def _merge(weights, axes, members):
    """Join populations that are nearly parallel, the heavier one first; returns their number."""
    n = weights.size
    for a in range(n):
        if weights[a] <= 0.0:
            continue
        for b in range(n):
            if b == a or weights[b] <= 0.0 or weights[b] > weights[a] or (weights[b] == weights[a] and b < a):
                continue
            cosine = axes[a, 0] * axes[b, 0] + axes[a, 1] * axes[b, 1] + axes[a, 2] * axes[b, 2]
            if abs(cosine) < MERGE_COSINE:
                continue
            sign = 1.0 if cosine >= 0.0 else -1.0
            for i in range(3):
                axes[a, i] = weights[a] * axes[a, i] + sign * weights[b] * axes[b, i]
            _normalise(axes[a])
            weights[a] += weights[b]
            weights[b] = 0.0
            members[a] |= members[b]


@inner(error_model="numpy")
def _keep_three(weights, axes, members, directions, fractions):
    """Write the three heaviest populations, strongest first; returns the bundles they belong to."""
    total, found = 0.0, np.uint32(0)
    for slot in range(3):
        best = 0
        for b in range(weights.size):
            if weights[b] > weights[best]:
                best = b
        if weights[best] <= 0.0 or (slot > 0 and weights[best] < SMALLEST_FRACTION * (total + weights[best])):
            break
        fractions[slot] = weights[best]
        total += weights[best]
        found |= members[best]
        for i in range(3):
            directions[slot, i] = axes[best, i]
        weights[best] = 0.0
    for slot in range(3):
        fractions[slot] /= total
    return found


@kernel(error_model="numpy")
def fill_fibres(voxels, shape, to_head, regions, curves, special, out):
    """Fibre populations of the listed voxels (C order), directions in the head's frame.

    ``special`` holds the region codes of the brainstem and of cerebellar cortex (left) to cerebellar white matter.
    Writes directions (n_vox, 3, 3), fractions (n_vox, 3) and one bit per bundle (n_vox,).
    """
    points, first, bundle, radius, box = curves
    directions, fractions, members_of = out
    n_bundles = len(BUNDLE_NAMES)
    for v in voxels:
        i, j, k = v // (shape[1] * shape[2]), (v // shape[2]) % shape[1], v % shape[2]
        x = to_head[0, 0] * i + to_head[0, 1] * j + to_head[0, 2] * k + to_head[0, 3]
        y = to_head[1, 0] * i + to_head[1, 1] * j + to_head[1, 2] * k + to_head[1, 3]
        z = to_head[2, 0] * i + to_head[2, 1] * j + to_head[2, 2] * k + to_head[2, 3]
        weights, axes = np.zeros(n_bundles + 2), np.zeros((n_bundles + 2, 3))
        members = np.zeros(n_bundles + 2, dtype=np.uint32)
        is_stem, is_below = regions[v] == special[0], special[1] <= regions[v] <= special[2]
        kept_weights, kept_axes = np.zeros(3), np.zeros((3, 3))
        _bundle_weights(x, y, z, points, first, bundle, radius, box, weights[:n_bundles], axes[:n_bundles])
        for b in range(n_bundles):
            members[b] = np.uint32(1) << np.uint32(b)
        room = max(1.0 - 2.0 * weights.sum(), 0.0)
        _fan(x, y, z, is_below, is_stem, axes[n_bundles])
        short = 0.0
        if not (is_stem or is_below):
            short = _interleaved(x, y, z, axes[n_bundles], axes[n_bundles + 1])
        weights[n_bundles] = BACKGROUND * room * (1.0 - short)
        weights[n_bundles + 1] = BACKGROUND * room * short
        _merge(weights, axes, members)
        members_of[v] = _keep_three(weights, axes, members, kept_axes, kept_weights)
        for s in range(3):
            fractions[v, s] = kept_weights[s]
            for a in range(3):
                directions[v, s, a] = kept_axes[s, a]
