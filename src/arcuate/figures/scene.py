"""A scene without a window: meshes, a light at the camera, a slice of anatomy behind, and the picture of it.

Glyphs and sticks are drawn by :mod:`arcuate.figures.raster`, which needs no extra; surfaces of images by PyVista.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.errors import InputError, MissingExtraError
from arcuate.figures.held_signals import held_back
from arcuate.figures.lettering import draw_text
from arcuate.figures.meshes import Mesh
from arcuate.figures.raster import Raster
from arcuate.figures.views import View

_SURFACE = {"ambient": 0.25, "diffuse": 0.75, "specular": 0.15, "specular_power": 20}
_PAPERS = {"black": 0.0, "white": 1.0}


def import_pyvista() -> Any:
    """PyVista, told to draw off screen.

    Raises
    ------
    MissingExtraError
        PyVista is not installed.
    """
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    try:
        with held_back():
            import pyvista
    except ImportError:
        raise MissingExtraError("pyvista", "viz", "drawing surfaces") from None
    return pyvista


@dataclass(frozen=True, eq=False)
class _Plane:
    """A slice behind the rest."""

    picture: np.ndarray  # (n_up, n_across) float in 0..1
    low: np.ndarray  # (3,) corner where both sides begin
    view: View
    size: np.ndarray  # (3,) voxel


@dataclass(frozen=True)
class _Eye:
    """Where a scene is seen from."""

    turn: np.ndarray  # (3, 3) rows: right, up, towards the eye
    middle: np.ndarray  # (3,)
    extent: float  # of all that is there
    half_height: float  # of what is seen


class Scene:
    """Things to draw, seen in parallel projection.

    They are collected, and drawn all at once by :meth:`picture`.

    Parameters
    ----------
    size : width and height of the picture, pixels
    paper : black or white
    """

    def __init__(self, size: tuple[int, int], paper: str = "black") -> None:
        if paper not in _PAPERS:
            raise InputError(f"found the paper {paper!r}; expected black or white.")
        self._size, self._paper = size, paper
        self._meshes: list[tuple[Mesh, float]] = []
        self._planes: list[_Plane] = []
        self._surfaces: list[Callable[[Any], None]] = []  # each draws something with the plotter that it is given
        self._texts: list[tuple[float, float, str, str]] = []
        self._bar: tuple[float, str] | None = None
        self._eye: _Eye | None = None
        self._low, self._high = np.full(3, np.inf), np.full(3, -np.inf)

    def add_mesh(self, mesh: Mesh, opacity: float = 1.0) -> None:
        """Add triangles with their colours."""
        if len(mesh.points):
            self._meshes.append((mesh, opacity))
            self._grow(mesh.points.min(axis=0), mesh.points.max(axis=0))

    @held_back()
    def add_contour(
        self, array: np.ndarray, size: np.ndarray, level: float, smooth: int, color: str, opacity: float
    ) -> None:
        """Add the surface where an image crosses a level, in one colour; nothing where it never does.

        Parameters
        ----------
        array : (x, y, z), canonical axes
            NaN and what lies outside the grid count as 0.
        size : (3,) float, voxel size
        level : above 0
        smooth : rounds of smoothing

        Raises
        ------
        MissingExtraError
            PyVista is not installed.
        """
        padded = np.pad(np.nan_to_num(np.asarray(array, dtype=np.float32)), 1)
        pyvista = import_pyvista()
        if padded.max() <= level:
            return
        grid = pyvista.ImageData(dimensions=padded.shape, spacing=size, origin=-size)
        grid.point_data["level"] = padded.ravel(order="F")
        surface = grid.contour([level], scalars="level")
        if smooth:
            surface = surface.smooth_taubin(n_iter=smooth, pass_band=0.08)
        self._surfaces.append(
            lambda plotter: plotter.add_mesh(surface, color=color, smooth_shading=True, opacity=opacity, **_SURFACE)
        )
        low, high = np.array(surface.bounds).reshape(3, 2).T
        self._grow(low, high)

    def add_plane(self, picture: np.ndarray, view: View, size: np.ndarray, at: np.ndarray, dim: float) -> None:
        """Add a slice as an unlit plane behind everything.

        Parameters
        ----------
        picture : (n_up, n_across) float in 0..1, in the order of the canonical axes
        size : (3,) float, voxel size, canonical axes
        at : (3,) float, centre of the slice's first voxel
        dim : how far white is from the paper, 0..1
        """
        low = at.astype(float)
        for axis in (view.across, view.up):
            low[axis] -= size[axis] / 2
        grey = np.clip(picture, 0, 1)
        grey = 1 - dim * (1 - grey) if self._paper == "white" else dim * grey
        self._planes.append(_Plane(grey, low, view, size))
        ends = np.zeros(3)
        ends[view.across], ends[view.up] = grey.shape[1], grey.shape[0]
        self._grow(low, low + ends * size)

    def look(
        self, camera: np.ndarray, up: np.ndarray, margin: float = 1.04,
        bounds: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:  # fmt: skip
        """Look from the direction ``camera`` at everything that was added, or at what lies within ``bounds``."""
        if not np.all(np.isfinite(self._low)):
            self._low, self._high = -np.ones(3), np.ones(3)
        low, high = (self._low, self._high) if bounds is None else bounds
        middle = (low + high) / 2
        corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), -1).reshape(-1, 3) - middle
        camera = camera / np.linalg.norm(camera)
        right = np.cross(up, camera)
        right /= np.linalg.norm(right)
        upright = np.cross(camera, right)
        width, height = np.abs(corners @ right).max(), np.abs(corners @ upright).max()
        extent = max(float(np.linalg.norm(self._high - self._low)), 1e-6)
        scale = margin * max(height, width * self._size[1] / self._size[0], 1e-6)
        self._eye = _Eye(np.stack([right, upright, camera]), middle, extent, scale)

    def add_labels(self, labels: tuple[str, str, str, str]) -> None:
        """Write what lies at the left, right, bottom and top of the picture."""
        width, height = self._size
        places = (
            (6, height / 2, "lm"),
            (width - 6, height / 2, "rm"),
            (width / 2, height - 5, "md"),
            (width / 2, 5, "ma"),
        )
        self._texts += [(x, y, anchor, label) for (x, y, anchor), label in zip(places, labels, strict=True)]

    def add_scale_bar(self, length: float, name: str) -> None:
        """Draw a bar of so many units of the scene at the lower left."""
        self._bar = length, name

    def picture(self, path: str | os.PathLike[str] | None = None, dpi: float | None = None) -> np.ndarray:
        """(height, width, 3) uint8; saved as PNG if ``path`` is given, with ``dpi`` noted in it."""
        if self._eye is None:
            self.look(np.array([0.0, 0, 1]), np.array([0.0, 1, 0]))
        image = self._draw_surfaces() if self._surfaces else self._draw_meshes()
        self._letter(image)
        if path is not None:
            save_png(image, path, dpi)
        return image

    def _draw_meshes(self) -> np.ndarray:
        eye = self._eye
        assert eye is not None
        paper = np.full(3, _PAPERS[self._paper])
        raster = Raster(self._size, paper, eye.turn, eye.middle, self._size[1] / 2 / eye.half_height)
        for mesh, opacity in self._meshes:
            raster.add_mesh(mesh, opacity)
        for plane in self._planes:
            corners = np.stack([plane.low] * 3)
            corners[1, plane.view.across] += plane.picture.shape[1] * plane.size[plane.view.across]
            corners[2, plane.view.up] += plane.picture.shape[0] * plane.size[plane.view.up]
            raster.add_plane(corners, np.repeat(plane.picture[..., None], 3, axis=-1))
        return raster.picture()

    @held_back()
    def _draw_surfaces(self) -> np.ndarray:
        """With PyVista: VTK may not be interrupted."""
        pyvista, eye = import_pyvista(), self._eye
        assert eye is not None
        plotter = pyvista.Plotter(off_screen=True, window_size=list(self._size), lighting="none")
        try:
            plotter.set_background(self._paper)
            plotter.add_light(pyvista.Light(light_type="headlight", intensity=0.75))
            plotter.add_light(pyvista.Light(position=(-0.6, 0.9, 1.0), light_type="camera light", intensity=0.35))
            for draw in self._surfaces:
                draw(plotter)
            for mesh, opacity in self._meshes:
                _add_to(plotter, pyvista, mesh, opacity)
            camera = plotter.camera
            camera.position, camera.focal_point = eye.middle + 3 * eye.extent * eye.turn[2], eye.middle
            camera.up = eye.turn[1]
            camera.parallel_projection = True
            camera.parallel_scale = eye.half_height
            camera.clipping_range = (eye.extent, 5 * eye.extent)
            plotter.enable_anti_aliasing("ssaa")
            return np.asarray(plotter.screenshot(None, return_img=True))[..., :3].copy()
        finally:
            plotter.close()

    def _letter(self, image: np.ndarray) -> None:
        assert self._eye is not None
        height = self._size[1]
        font, ink = max(11, height // 32), (0, 0, 0) if self._paper == "white" else (255, 255, 255)
        for x, y, anchor, text in self._texts:
            draw_text(image, x, y, text, anchor=anchor, size=font, ink=ink)
        if self._bar is not None:
            length, name = self._bar
            wide = round(length * height / 2 / self._eye.half_height)
            low, thick = height - 2 * font, max(2, height // 250)
            image[low : low + thick, 3 * font : 3 * font + wide] = ink
            draw_text(image, 3 * font + wide / 2, low - 4, name, anchor="md", size=font, ink=ink)

    def _grow(self, low: np.ndarray, high: np.ndarray) -> None:
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)


def _add_to(plotter: Any, pyvista: Any, mesh: Mesh, opacity: float) -> None:
    faces = np.column_stack([np.full(len(mesh.faces), 3), mesh.faces])
    surface = pyvista.PolyData(mesh.points, faces.ravel())
    surface.point_data["rgb"] = np.ascontiguousarray(mesh.colors)
    surface.point_data.active_normals = mesh.normals
    actor = plotter.add_mesh(surface, scalars="rgb", rgb=True, smooth_shading=False, opacity=opacity, **_SURFACE)
    actor.prop.interpolation = "Gouraud"


def save_png(image: np.ndarray, path: str | os.PathLike[str], dpi: float | None = None) -> None:
    """Write (height, width, 3) uint8 as PNG; ``dpi`` is noted in it."""
    from PIL import Image

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(Path(path), format="PNG", optimize=True, **({"dpi": (dpi, dpi)} if dpi else {}))
