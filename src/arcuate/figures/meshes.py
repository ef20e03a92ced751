"""Triangles of glyphs and sticks, many at once; knows no drawing package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from arcuate.figures.panels import lookup_table

_AT_ONCE = 64  # glyphs whose normals are made together: what lies between is ten times their size
_SIDES = 10  # of the prism that draws a peak


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles with a normal and a colour at each corner."""

    points: np.ndarray  # (n, 3) float32
    faces: np.ndarray  # (n_faces, 3) int
    normals: np.ndarray  # (n, 3) float32, outwards
    colors: np.ndarray  # (n, 3) uint8


def whole_sphere(sphere: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices and outward triangles of a sphere, ours or DIPY's; half a sphere is completed.

    Returns
    -------
    vertices : (n, 3) float
    faces : (n_faces, 3) int, corners anticlockwise seen from outside
    index : (n,) int, the given vertex that each one shows
    """
    vertices = np.asarray(sphere.vertices, dtype=np.float64)
    index = np.arange(len(vertices))
    # the vertices of a whole sphere balance out, those of half of one do not
    if np.linalg.norm(vertices.mean(axis=0)) > 0.2:
        vertices, index = np.vstack([vertices, -vertices]), np.tile(index, 2)
        faces = _hull(vertices)
    else:
        faces = np.asarray(sphere.faces, dtype=np.int64)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), a + b + c) < 0
    faces = np.where(inward[:, None], faces[:, ::-1], faces)
    return vertices, faces, index


def _hull(vertices: np.ndarray) -> np.ndarray:
    from scipy.spatial import ConvexHull

    return np.asarray(ConvexHull(vertices).simplices, dtype=np.int64)


def glyphs(radii: np.ndarray, centers: np.ndarray, vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray) -> Mesh:
    """One closed surface per row: the vertex in direction u lies ``radius * u`` from the centre.

    Parameters
    ----------
    radii : (n_glyph, n_vertices) float, at least 0
    centers : (n_glyph, 3) float
    vertices : (n_vertices, 3) float, unit vectors
    faces : (n_faces, 3) int, anticlockwise seen from outside
    colors : (n_glyph, n_vertices, 3) uint8, or (n_vertices, 3)
    """
    n_glyph, n_vertices = radii.shape
    shapes = radii[..., None].astype(np.float32) * vertices.astype(np.float32)
    corners = scipy.sparse.csr_matrix(
        (np.ones(faces.size, np.float32), (faces.ravel(), np.repeat(np.arange(len(faces)), 3))),
        shape=(n_vertices, len(faces)),
    )
    normals = np.empty_like(shapes)
    for begin in range(0, n_glyph, _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        normals[part] = _normals(shapes[part], faces, corners, vertices)
    shifts = np.arange(n_glyph, dtype=np.int32)[:, None, None] * np.int32(n_vertices)
    return Mesh(
        (shapes + centers[:, None].astype(np.float32)).reshape(-1, 3),
        (faces.astype(np.int32) + shifts).reshape(-1, 3),
        normals.reshape(-1, 3),
        np.broadcast_to(colors, (n_glyph, n_vertices, 3)).reshape(-1, 3),
    )


def _normals(
    shapes: np.ndarray, faces: np.ndarray, corners: scipy.sparse.csr_matrix, vertices: np.ndarray
) -> np.ndarray:
    """Unit normals (n_glyph, n_vertices, 3) of surfaces; ``corners`` (n_vertices, n_faces): 1 where a face has one."""
    a, b, c = (shapes[:, faces[:, k]] for k in range(3))
    facets = _cross(b - a, c - a)  # length: twice the area, the weight it has in the normals of its corners
    sums = corners @ facets.transpose(1, 0, 2).reshape(len(faces), -1)
    normals = sums.reshape(len(vertices), len(shapes), 3).transpose(1, 0, 2)
    lengths = np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.where(lengths > 0, normals / np.where(lengths > 0, lengths, 1), vertices)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Cross products of 3-vectors (..., 3) of one type; numpy's own takes twice as long."""
    w = np.empty_like(u)
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        w[..., k] = u[..., i] * v[..., j] - u[..., j] * v[..., i]
    return w


def sticks(halves: np.ndarray, centers: np.ndarray, width: float, colors: np.ndarray) -> Mesh:
    """One prism per row, from ``center - half`` to ``center + half``.

    Parameters
    ----------
    halves : (n, 3) float
    centers : (n, 3) float
    width : thickness, in the unit of the others
    colors : (n, 3) uint8
    """
    lengths = np.linalg.norm(halves, axis=1, keepdims=True)
    along = halves / np.where(lengths > 0, lengths, 1)
    aside = np.cross(along, np.eye(3)[np.argmin(np.abs(along), axis=1)])
    aside /= np.maximum(np.linalg.norm(aside, axis=1, keepdims=True), 1e-30)
    third = np.cross(along, aside)
    turn = 2 * np.pi * np.arange(_SIDES) / _SIDES
    ring = np.cos(turn)[None, :, None] * aside[:, None] + np.sin(turn)[None, :, None] * third[:, None]
    ends = np.stack([centers - halves, centers + halves], axis=1)  # (n, 2, 3)
    points = ends[:, :, None] + width / 2 * ring[:, None]
    k = np.arange(_SIDES)
    after = (k + 1) % _SIDES
    sides = np.concatenate(
        [np.stack([k, after, after + _SIDES], axis=1), np.stack([k, after + _SIDES, k + _SIDES], axis=1)]
    )
    caps = np.stack([np.zeros(_SIDES - 2, int), np.arange(2, _SIDES), np.arange(1, _SIDES - 1)], axis=1)
    faces = np.concatenate([sides, caps, caps[:, ::-1] + _SIDES])
    n_points = 2 * _SIDES
    return Mesh(
        points.reshape(-1, 3).astype(np.float32),
        (faces + np.arange(len(halves))[:, None, None] * n_points).reshape(-1, 3),
        np.broadcast_to(ring[:, None], points.shape).reshape(-1, 3).astype(np.float32),
        np.repeat(colors, n_points, axis=0),
    )


def direction_colors(directions: np.ndarray) -> np.ndarray:
    """(..., 3) uint8: red along x, green along y, blue along z, as bright as can be."""
    size = np.abs(np.asarray(directions, dtype=np.float64))
    return np.asarray(255 * size / np.maximum(size.max(axis=-1, keepdims=True), 1e-30)).astype(np.uint8)


def amplitude_colors(amplitudes: np.ndarray, colormap: str) -> np.ndarray:
    """(..., 3) uint8 of a colormap of matplotlib's, from 0 to the highest amplitude."""
    top = float(np.max(amplitudes, initial=0.0))
    codes = 255 * (amplitudes / top if top > 0 else amplitudes)
    return lookup_table(colormap)[np.clip(codes + 0.5, 0, 255).astype(np.uint8)]
