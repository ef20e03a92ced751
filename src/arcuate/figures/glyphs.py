"""Slices of glyphs and peaks, on the axes of the array or, where its affine is given, as the patient lies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arcuate.errors import InputError
from arcuate.figures.meshes import Mesh, amplitude_colors, direction_colors, glyphs, sticks, whole_sphere
from arcuate.figures.scene import Scene
from arcuate.figures.views import Canonical, Region, View, flat_plane
from arcuate.numerics.sh import lmax_of, sh_matrix
from arcuate.numerics.sphere import get_sphere
from arcuate.volumes.resource import VolumeResource

SCALE = 0.55
PEAK_WIDTH = 0.09  # of a voxel

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class _Paper:
    """What the picture is drawn on, and where it goes."""

    path: PathLike | None = None
    size: tuple[int, int] = (600, 600)
    color: str = "black"
    scale_bar: float = 0.0  # mm
    dpi: float | None = None


@dataclass(frozen=True, eq=False)
class _Slice:
    """One slice of the image on canonical axes, or a region of it, and where its voxels are."""

    view: View
    frame: Canonical
    shape: tuple[int, ...]  # canonical grid of the whole image
    region: Region | None = None  # voxels across and up

    @staticmethod
    def of(
        shape: tuple[int, ...], affine: np.ndarray | None, view: View | None, region: Region | None = None
    ) -> _Slice:
        frame = Canonical(affine)
        grid = frame.reorder(np.empty(shape[:3], bool)).shape
        view = view or View(flat_plane(grid))
        view.part(grid, region)  # refuses one that is not there
        return _Slice(view, frame, grid, region)

    @property
    def at(self) -> int:
        return self.view.slice_of(self.shape[self.view.axis])

    @property
    def box(self) -> tuple[slice, ...]:
        """Part of the canonical grid that is drawn, one voxel thick."""
        box = self.view.part(self.shape, self.region)
        box[self.view.axis] = slice(self.at, self.at + 1)
        return tuple(box)

    def take(self, array: np.ndarray) -> np.ndarray:
        """(n_vox, ...) values of the slice's voxels."""
        thin = self.cut(array)
        return np.asarray(thin.reshape(-1, *thin.shape[3:]), dtype=np.float64)

    def cut(self, array: np.ndarray) -> np.ndarray:
        """The slice's part of an array (x, y, z, ...) as it is stored, in canonical order."""
        return np.asarray(self.frame.reorder(array)[self.box])

    @property
    def centers(self) -> np.ndarray:
        """(n_vox, 3) float, in voxel sides (the smaller one in the plane is 1)."""
        ranges = [np.arange(part.start, part.stop) for part in self.box]
        ranges[self.view.axis] = np.array([0])
        return np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3) * self.spacing

    @property
    def spacing(self) -> np.ndarray:
        return np.asarray(self.frame.voxel_size / self.side)

    @property
    def side(self) -> float:
        """Smaller side of a voxel in the plane, mm: the unit of the scene."""
        size = self.frame.voxel_size
        return float(min(size[self.view.across], size[self.view.up]))

    def draw_background(self, scene: Scene, image: np.ndarray | VolumeResource, behind: float) -> None:
        array = np.asarray(image.get_array() if isinstance(image, VolumeResource) else image, dtype=np.float64)
        if self.frame.reorder(array).shape[:3] != self.shape:
            raise InputError(f"found a background of shape {array.shape[:3]}; expected the grid of the glyphs.")
        plane = self.cut(array).squeeze(axis=self.view.axis)
        plane = plane.mean(axis=-1) if plane.ndim == 3 else plane
        known = plane[np.isfinite(plane) & (plane != 0)]
        low, high = np.percentile(known, [1, 99]) if known.size else (0.0, 1.0)
        low = min(low, 0.0) if low > 0 else low
        grey = np.nan_to_num((plane - low) / max(high - low, 1e-30))
        first = np.array([part.start for part in self.box]) * self.spacing
        first[self.view.axis] = 0
        scene.add_plane(grey.T, self.view, self.spacing, first - behind * self.view.camera, dim=0.55)

    def picture(
        self,
        meshes: Sequence[tuple[Mesh, float]],
        background: np.ndarray | VolumeResource | None,
        paper: _Paper,
        *,
        is_placed: bool,
    ) -> np.ndarray:
        """The meshes, each with its opacity, before the background; the sides are labelled where they are known."""
        scene = Scene(paper.size, paper.color)
        for mesh, opacity in meshes:
            scene.add_mesh(mesh, opacity)
        if background is not None:
            highest = float(np.abs(meshes[-1][0].points[:, self.view.axis]).max(initial=0.0))
            self.draw_background(scene, background, 0.6 + highest)  # so far behind that it cuts nothing that is drawn
        bounds = None
        if self.region is not None:  # what sticks out of the region is cut off
            half = self.spacing / 2
            bounds = self.centers.min(axis=0) - half, self.centers.max(axis=0) + half
        scene.look(self.view.camera, np.eye(3)[self.view.up], margin=1.04 if bounds is None else 1.0, bounds=bounds)
        if is_placed:
            scene.add_labels(self.view.labels)
        if paper.scale_bar:
            scene.add_scale_bar(paper.scale_bar / self.side, f"{paper.scale_bar:g} mm")
        return scene.picture(paper.path, paper.dpi)


def render_glyphs(
    odf: np.ndarray,
    *,
    sphere: Any,
    path: PathLike | None = None,
    size: tuple[int, int] = (600, 600),
    scale: float = SCALE,
    norm: bool = True,
    colormap: str | None = None,
    background: np.ndarray | VolumeResource | None = None,
    affine: np.ndarray | None = None,
    view: View | None = None,
    opacity: float = 1.0,
    region: Region | None = None,
    paper: str = "black",
    scale_bar: float = 0.0,
    dpi: float | None = None,
) -> np.ndarray:
    """Picture of functions on the sphere, a glyph per voxel.

    Parameters
    ----------
    odf : (x, y, z, n_vertices) float
        Amplitudes; below 0 and NaN count as 0.
    sphere : with ``vertices`` and ``faces``, arcuate's or DIPY's, whole or half
    path : PNG to write
    size : width and height, pixels
    scale : float, voxel sides
        The surface lies ``scale`` times the amplitude from the voxel's centre.
    norm : divide each glyph by its largest amplitude
    colormap : colour by amplitude with this colormap of matplotlib's; by direction (red x, green y, blue z) if None
    background : (x, y, z), anatomy to draw behind, on the same grid
    affine : (4, 4), voxel indices to scanner mm
        Given, directions are in the scanner frame, the patient stands upright and the sides are labelled. Without it
        directions are on the array's own axes, the first to the right, the second up.
    view : slice and side to look from; the middle axial slice, or the only slice there is
    opacity : of the glyphs, 0..1
    region : ((from, to), (from, to)), voxels
        Part of the slice to draw, across and up the picture, counted from the patient's left, back or bottom,
        ``to`` left out; the whole slice if None.
    paper : black, or white for print
    scale_bar : length in mm of a bar at the lower left; none if 0
    dpi : noted in the PNG, so that ``size`` becomes inches; the number of pixels is that of ``size``

    Returns
    -------
    (height, width, 3) uint8
    """
    part = _Slice.of(_check(odf).shape, affine, view, region)
    mesh, _ = _glyph_mesh(part, odf, sphere, scale, norm, colormap)
    sheet = _Paper(path, size, paper, scale_bar, dpi)
    return part.picture([(mesh, opacity)], background, sheet, is_placed=affine is not None)


def render_peaks(
    directions: np.ndarray,
    values: np.ndarray,
    *,
    path: PathLike | None = None,
    size: tuple[int, int] = (600, 600),
    scale: float = SCALE,
    norm: bool = True,
    width: float = PEAK_WIDTH,
    background: np.ndarray | VolumeResource | None = None,
    affine: np.ndarray | None = None,
    view: View | None = None,
    region: Region | None = None,
    paper: str = "black",
    scale_bar: float = 0.0,
    dpi: float | None = None,
) -> np.ndarray:
    """Picture of peaks, a stick per peak, coloured by direction.

    Parameters
    ----------
    directions : (x, y, z, n_peaks, 3) float, unit vectors
    values : (x, y, z, n_peaks) float
        Amplitudes; absent where 0 or NaN.
    scale : float, voxel sides
        A stick reaches ``scale`` times its amplitude to both sides.
    norm : divide each voxel's amplitudes by their largest
    width : of a stick, voxel sides
    path, size, background, affine, view, region, paper, scale_bar, dpi : see :func:`render_glyphs`

    Returns
    -------
    (height, width, 3) uint8
    """
    part = _Slice.of(_check_peaks(directions, values), affine, view, region)
    mesh = _peak_mesh(part, directions, values, scale, norm, width)
    sheet = _Paper(path, size, paper, scale_bar, dpi)
    return part.picture([(mesh, 1.0)], background, sheet, is_placed=affine is not None)


def render_glyphs_and_peaks(
    odf: np.ndarray,
    directions: np.ndarray,
    values: np.ndarray,
    *,
    sphere: Any,
    path: PathLike | None = None,
    size: tuple[int, int] = (600, 600),
    scale: float = SCALE,
    norm: bool = True,
    colormap: str | None = None,
    background: np.ndarray | VolumeResource | None = None,
    affine: np.ndarray | None = None,
    view: View | None = None,
    opacity: float = 0.4,
    region: Region | None = None,
    paper: str = "black",
    scale_bar: float = 0.0,
    dpi: float | None = None,
) -> np.ndarray:
    """Picture of glyphs with the peaks inside them; sticks reach just beyond the lobes that they belong to.

    Parameters are those of :func:`render_glyphs` and :func:`render_peaks`.

    Returns
    -------
    (height, width, 3) uint8
    """
    if tuple(_check(odf).shape[:3]) != tuple(_check_peaks(directions, values)[:3]):
        raise InputError(f"found glyphs on {odf.shape[:3]} voxels and peaks on {values.shape[:3]}; expected one grid.")
    part = _Slice.of(odf.shape, affine, view, region)
    mesh, highest = _glyph_mesh(part, odf, sphere, scale, norm, colormap)
    sticks_mesh = _peak_mesh(part, directions, values, 1.08 * scale, norm, PEAK_WIDTH, highest)
    sheet = _Paper(path, size, paper, scale_bar, dpi)
    return part.picture([(sticks_mesh, 1.0), (mesh, opacity)], background, sheet, is_placed=affine is not None)


def render_fods(
    fods: VolumeResource,
    *,
    path: PathLike | None = None,
    view: View | None = None,
    mask: VolumeResource | None = None,
    background: np.ndarray | VolumeResource | None = None,
    size: tuple[int, int] = (1000, 1000),
    scale: float = 0.62,
    colormap: str | None = None,
    sphere: Any = None,
    region: Region | None = None,
    paper: str = "black",
    scale_bar: float = 0.0,
    dpi: float | None = None,
) -> np.ndarray:
    """Picture of a slice of FODs as the patient lies, weak ones smaller, sides labelled.

    Parameters
    ----------
    fods : (x, y, z, n_coef), spherical harmonics in MRtrix3's basis, scanner frame
    mask : voxels to draw; all with a FOD otherwise
    sphere : directions to evaluate on; 724 of them by default, 362 where a voxel has less than 28 pixels
    scale : float, voxel sides
        Radius of the largest lobe of a strong FOD. Strong are those above the 60th percentile of the slice: they are
        drawn alike, weaker ones smaller in proportion.
    path, view, background, size, colormap, region, paper, scale_bar, dpi : see :func:`render_glyphs`

    Returns
    -------
    (height, width, 3) uint8
    """
    affine, array = fods.get_affine(), fods.get_array()
    part = _Slice.of(array.shape, affine, view, region)
    coefs = part.cut(array)
    if sphere is None:
        across, up = (coefs.shape[axis] * part.spacing[axis] for axis in (part.view.across, part.view.up))
        sphere = get_sphere("symmetric362" if min(size[0] / across, size[1] / up) < 28 else "repulsion724")
    if mask is not None:
        coefs = np.where(part.cut(np.asarray(mask.get_array()))[..., None] > 0, coefs, 0)
    basis = sh_matrix(np.asarray(sphere.vertices), lmax_of(array.shape[-1])).astype(np.float32)
    rows = np.ascontiguousarray(coefs, dtype=np.float32).reshape(-1, coefs.shape[-1])
    amplitudes = np.nan_to_num(rows @ basis.T)
    tops = amplitudes.max(axis=-1)
    strong = float(np.percentile(tops[tops > 0], 60)) if np.any(tops > 0) else 1.0
    rows = amplitudes / np.maximum(amplitudes.max(axis=1, keepdims=True, initial=0.0), strong)
    mesh = _mesh_of_rows(part, rows, sphere, scale, colormap)
    return part.picture([(mesh, 1.0)], background, _Paper(path, size, paper, scale_bar, dpi), is_placed=True)


def _glyph_mesh(
    part: _Slice, odf: np.ndarray, sphere: Any, scale: float, norm: bool, colormap: str | None
) -> tuple[Mesh, np.ndarray]:
    """The glyphs of a slice, and the largest amplitude of each voxel."""
    n_vertices = len(np.asarray(sphere.vertices))
    if odf.shape[3] != n_vertices:
        raise InputError(f"found {odf.shape[3]} amplitudes per voxel for a sphere of {n_vertices} vertices.")
    rows = np.maximum(np.nan_to_num(part.take(odf), posinf=0.0), 0)
    highest = rows.max(axis=1, initial=0.0)
    if norm:
        rows = rows / np.where(highest > 0, highest, 1)[:, None]
    return _mesh_of_rows(part, rows, sphere, scale, colormap), highest


def _mesh_of_rows(part: _Slice, rows: np.ndarray, sphere: Any, scale: float, colormap: str | None) -> Mesh:
    vertices, faces, index = whole_sphere(sphere)
    inside = np.flatnonzero(rows.max(axis=1, initial=0.0) > 0)
    radii = np.maximum(rows[inside][:, index], 0)
    colors = direction_colors(vertices) if colormap is None else amplitude_colors(radii, colormap)
    drawn = vertices @ part.frame.rotation
    return glyphs(scale * radii, part.centers[inside], drawn, faces, colors)


def _peak_mesh(
    part: _Slice, directions: np.ndarray, values: np.ndarray, scale: float, norm: bool, width: float,
    highest: np.ndarray | None = None,
) -> Mesh:  # fmt: skip
    vectors, lengths = part.take(directions), np.nan_to_num(part.take(values))
    if norm:
        top = lengths.max(axis=1, initial=0.0) if highest is None else highest
        lengths = lengths / np.where(top > 0, top, 1)[:, None]
    v, k = np.nonzero((lengths > 0) & np.all(np.isfinite(vectors), axis=-1) & np.any(vectors != 0, axis=-1))
    unit = vectors[v, k] / np.linalg.norm(vectors[v, k], axis=-1, keepdims=True)
    halves = scale * lengths[v, k][:, None] * (unit @ part.frame.rotation)
    return sticks(halves, part.centers[v], width, direction_colors(unit))


def _check(odf: np.ndarray) -> np.ndarray:
    if np.ndim(odf) != 4:
        raise InputError(f"found glyphs of shape {np.shape(odf)}; expected (x, y, z, n_vertices).")
    return odf


def _check_peaks(directions: np.ndarray, values: np.ndarray) -> tuple[int, ...]:
    if np.ndim(directions) != 5 or tuple(np.shape(directions)) != (*np.shape(values), 3):
        raise InputError(
            f"found peaks of shapes {np.shape(directions)} and {np.shape(values)}; expected directions "
            "(x, y, z, n_peaks, 3) and values (x, y, z, n_peaks)."
        )
    return tuple(np.shape(values))
