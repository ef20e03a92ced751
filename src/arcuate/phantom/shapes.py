"""Shapes as depths: how far inside a surface a point lies, mm, negative outside."""

from __future__ import annotations

import numpy as np

from arcuate.numerics.compiled import inner


@inner(error_model="numpy")
def smooth_max(a, b, blend):
    """Larger of two depths: the union of two shapes, its crease rounded over ``blend`` mm."""
    h = min(max(0.5 + 0.5 * (a - b) / blend, 0.0), 1.0)
    return b + (a - b) * h + blend * h * (1.0 - h)


@inner(error_model="numpy")
def smooth_min(a, b, blend):
    """Smaller of two depths: the part two shapes share."""
    return -smooth_max(-a, -b, blend)


@inner(error_model="numpy")
def ellipsoid(x, y, z, semi_x, semi_y, semi_z):
    """Depth in an ellipsoid around the origin, to first order near its surface."""
    px, py, pz = x / semi_x, y / semi_y, z / semi_z
    radius = np.sqrt(px * px + py * py + pz * pz)
    slope = np.sqrt((px / semi_x) ** 2 + (py / semi_y) ** 2 + (pz / semi_z) ** 2)
    if slope < 1e-9:
        return min(semi_x, semi_y, semi_z)
    return radius * (1.0 - radius) / slope


@inner(error_model="numpy")
def tube(x, y, z, points):
    """Depth in a tube along ``points`` (n, 4): x y z and the radius there."""
    best = -1e9
    for i in range(points.shape[0] - 1):
        ax, ay, az = points[i, 0], points[i, 1], points[i, 2]
        dx, dy, dz = points[i + 1, 0] - ax, points[i + 1, 1] - ay, points[i + 1, 2] - az
        s = ((x - ax) * dx + (y - ay) * dy + (z - az) * dz) / (dx * dx + dy * dy + dz * dz)
        s = min(max(s, 0.0), 1.0)
        away = np.sqrt((x - ax - s * dx) ** 2 + (y - ay - s * dy) ** 2 + (z - az - s * dz) ** 2)
        best = max(best, points[i, 3] + s * (points[i + 1, 3] - points[i, 3]) - away)
    return best


@inner(error_model="numpy")
def ramp(depth, width):
    """Share of a cell of ``width`` mm that lies inside a surface at ``depth``."""
    return min(max(0.5 + depth / width, 0.0), 1.0)


@inner(error_model="numpy")
def beyond(value, low, high):
    """How far ``value`` lies outside [low, high]."""
    return max(low - value, 0.0) + max(value - high, 0.0)


@inner(error_model="numpy")
def wave_sum(x, y, z, waves):
    """Σ a cos(k·p + φ) and its gradient; ``waves`` (n, 5): k (rad/mm), φ, a."""
    value = gx = gy = gz = 0.0
    for i in range(waves.shape[0]):
        phase = waves[i, 0] * x + waves[i, 1] * y + waves[i, 2] * z + waves[i, 3]
        value += waves[i, 4] * np.cos(phase)
        fall = -waves[i, 4] * np.sin(phase)
        gx += fall * waves[i, 0]
        gy += fall * waves[i, 1]
        gz += fall * waves[i, 2]
    return value, gx, gy, gz
