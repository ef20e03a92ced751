"""A scene without a window: meshes, a light at the camera, a slice of anatomy behind, and the picture of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.errors import MissingExtraError
from arcuate.figures.held_signals import held_back
from arcuate.figures.meshes import Mesh
from arcuate.figures.views import View

_SURFACE = {"ambient": 0.25, "diffuse": 0.75, "specular": 0.15, "specular_power": 20}


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
        raise MissingExtraError("pyvista", "viz", "drawing glyphs and surfaces") from None
    return pyvista


class Scene:
    """Things to draw, seen in parallel projection.

    They are collected, and drawn all at once by :meth:`picture`: VTK may not be interrupted.

    Parameters
    ----------
    size : width and height of the picture, pixels
    """

    def __init__(self, size: tuple[int, int], background: str = "black") -> None:
        self._pyvista = import_pyvista()
        self._size, self._background = size, background
        self._parts: list[Callable[[Any], None]] = []  # each draws something with the plotter that it is given
        self._low, self._high = np.full(3, np.inf), np.full(3, -np.inf)

    def add_mesh(self, mesh: Mesh, opacity: float = 1.0) -> None:
        """Add triangles with their colours."""
        if not len(mesh.points):
            return

        def draw(plotter: Any) -> None:
            faces = np.column_stack([np.full(len(mesh.faces), 3), mesh.faces])
            surface = self._pyvista.PolyData(mesh.points, faces.ravel())
            surface.point_data["rgb"] = np.ascontiguousarray(mesh.colors)
            surface.point_data.active_normals = mesh.normals
            actor = plotter.add_mesh(
                surface, scalars="rgb", rgb=True, smooth_shading=False, opacity=opacity, **_SURFACE
            )
            actor.prop.interpolation = "Gouraud"

        self._parts.append(draw)
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
        """
        padded = np.pad(np.nan_to_num(np.asarray(array, dtype=np.float32)), 1)
        if padded.max() <= level:
            return
        grid = self._pyvista.ImageData(dimensions=padded.shape, spacing=size, origin=-size)
        grid.point_data["level"] = padded.ravel(order="F")
        surface = grid.contour([level], scalars="level")
        if smooth:
            surface = surface.smooth_taubin(n_iter=smooth, pass_band=0.08)
        self._parts.append(
            lambda plotter: plotter.add_mesh(surface, color=color, smooth_shading=True, opacity=opacity, **_SURFACE)
        )
        low, high = np.array(surface.bounds).reshape(3, 2).T
        self._grow(low, high)

    def add_plane(self, picture: np.ndarray, view: View, size: np.ndarray, at: np.ndarray, dim: float) -> None:
        """Add a slice as an unlit plane.

        Parameters
        ----------
        picture : (n_up, n_across) float in 0..1, in the order of the canonical axes
        size : (3,) float, voxel size, canonical axes
        at : (3,) float, centre of the slice's first voxel
        dim : brightness of white, 0..1
        """
        dims = np.ones(3, dtype=int)
        dims[view.across], dims[view.up] = picture.shape[1] + 1, picture.shape[0] + 1
        low = at.astype(float)
        for axis in (view.across, view.up):
            low[axis] -= size[axis] / 2
        grey = (255 * dim * np.clip(picture, 0, 1)).astype(np.uint8)

        def draw(plotter: Any) -> None:
            plane = self._pyvista.ImageData(dimensions=dims, spacing=size, origin=low)
            plane.cell_data["grey"] = np.repeat(grey.ravel()[:, None], 3, axis=1)
            plotter.add_mesh(plane, scalars="grey", rgb=True, lighting=False)

        self._parts.append(draw)
        self._grow(low, low + (dims - 1) * size)

    def look(self, camera: np.ndarray, up: np.ndarray, margin: float = 1.04) -> None:
        """Look from the direction ``camera`` at everything that was added."""
        if not np.all(np.isfinite(self._low)):
            self._low, self._high = -np.ones(3), np.ones(3)
        middle = (self._low + self._high) / 2
        corners = np.stack(np.meshgrid(*zip(self._low, self._high, strict=True), indexing="ij"), -1).reshape(-1, 3)
        corners = corners - middle
        camera = camera / np.linalg.norm(camera)
        right = np.cross(up, camera)
        right /= np.linalg.norm(right)
        upright = np.cross(camera, right)
        width, height = np.abs(corners @ right).max(), np.abs(corners @ upright).max()
        extent = max(float(np.linalg.norm(self._high - self._low)), 1e-6)
        scale = margin * max(height, width * self._size[1] / self._size[0], 1e-6)

        def aim(plotter: Any) -> None:
            eye = plotter.camera
            eye.position, eye.focal_point, eye.up = middle + 3 * extent * camera, middle, upright
            eye.parallel_projection = True
            eye.parallel_scale = scale
            eye.clipping_range = (extent, 5 * extent)

        self._parts.append(aim)

    def add_labels(self, labels: tuple[str, str, str, str]) -> None:
        """Write what lies at the left, right, bottom and top of the picture."""
        width, height = self._size
        font = max(10, height // 36)
        places = [(6, height / 2), (width - 1.2 * font, height / 2), (width / 2, 6), (width / 2, height - 1.9 * font)]

        def write(plotter: Any) -> None:
            for label, place in zip(labels, places, strict=True):
                plotter.add_text(label, position=place, font_size=0.6 * font, color="white", viewport=False)

        self._parts.append(write)

    def picture(self, path: str | os.PathLike[str] | None = None) -> np.ndarray:
        """(height, width, 3) uint8; saved as PNG if ``path`` is given."""
        image = self._draw()
        if path is not None:
            save_png(image, path)
        return image

    @held_back()
    def _draw(self) -> np.ndarray:
        plotter = self._pyvista.Plotter(off_screen=True, window_size=list(self._size), lighting="none")
        try:
            plotter.set_background(self._background)
            plotter.add_light(self._pyvista.Light(light_type="headlight", intensity=0.75))
            sideways = self._pyvista.Light(position=(-0.6, 0.9, 1.0), light_type="camera light", intensity=0.35)
            plotter.add_light(sideways)
            for part in self._parts:
                part(plotter)
            plotter.enable_anti_aliasing("ssaa")
            return np.asarray(plotter.screenshot(None, return_img=True))[..., :3].copy()
        finally:
            plotter.close()

    def _grow(self, low: np.ndarray, high: np.ndarray) -> None:
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)


def save_png(image: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Write (height, width, 3) uint8 as PNG."""
    from PIL import Image

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(Path(path), format="PNG", optimize=True)
