"""Surfaces on their own: the response of a fibre bundle, and tracts in the head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from arcuate.errors import InputError
from arcuate.figures.glyphs import PathLike
from arcuate.figures.meshes import direction_colors, glyphs, whole_sphere
from arcuate.figures.scene import Scene
from arcuate.figures.views import Canonical, View
from arcuate.numerics.sh import sh_matrix
from arcuate.numerics.sphere import get_sphere

if TYPE_CHECKING:
    from arcuate.models.response import Response
    from arcuate.volumes.resource import VolumeResource

_TRACT_COLORS = (  # Okabe and Ito's, told apart by all kinds of colour vision
    "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip


def response_surfaces(response: Response, directions: np.ndarray) -> np.ndarray:
    """(n_tissues, n_shells, n_dir) float: the signal of a bundle along z, relative to the tissue's largest."""
    amplitudes = np.empty((len(response.tissues), len(response.bvals), len(directions)))
    for t, table in enumerate(response.coefs):
        lmax = 2 * (table.shape[1] - 1)
        degrees = np.arange(0, lmax + 1, 2)
        zonal = sh_matrix(directions, lmax)[:, degrees * (degrees + 1) // 2]
        amplitudes[t] = table @ zonal.T
    highest = amplitudes.max(axis=(1, 2), keepdims=True)
    return np.asarray(amplitudes / np.where(highest > 0, highest, 1))


def render_response(
    response: Response, *, path: PathLike | None = None, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Picture of a response: a row per tissue, a surface per shell (lowest b first), the fibre upright.

    Parameters
    ----------
    response : see :class:`arcuate.models.response.Response`
    path : PNG to write
    size : width and height, pixels; 260 per surface by default

    Returns
    -------
    (height, width, 3) uint8
    """
    vertices, faces, _ = whole_sphere(get_sphere("repulsion724"))
    surfaces = response_surfaces(response, vertices)
    n_tissues, n_shells, _ = surfaces.shape
    size = size or (260 * n_shells, 260 * n_tissues)
    columns, rows = np.meshgrid(np.arange(n_shells), -np.arange(n_tissues))
    centers = np.stack([columns, np.zeros_like(columns), rows], axis=-1).reshape(-1, 3) * 2.2
    radii = np.maximum(surfaces.reshape(-1, len(vertices)), 0)
    scene = Scene(size)
    scene.add_mesh(glyphs(radii, centers.astype(float), vertices, faces, direction_colors(vertices)))
    scene.look(np.array([0.0, -1.0, 0.25]), np.array([0.0, 0.0, 1.0]), margin=1.1)
    return scene.picture(path)


def render_tracts(
    tracts: VolumeResource,
    *,
    names: Sequence[str] | None = None,
    path: PathLike | None = None,
    brain: VolumeResource | None = None,
    size: tuple[int, int] = (900, 900),
    view: View | None = None,
    threshold: float = 0.5,
    smooth: int = 25,
) -> np.ndarray:
    """Picture of tracts as smooth surfaces in the head.

    Parameters
    ----------
    tracts : (x, y, z) or (x, y, z, n_tracts)
        Masks, or probabilities.
    names : of the tracts; those that end in ``_left`` and ``_right`` share a colour
    path : PNG to write
    brain : mask, drawn as glass around them
    size : width and height, pixels
    view : plane and side to look from; the left by default. Its slice does not matter
    threshold : where the surface lies
    smooth : rounds of smoothing

    Returns
    -------
    (height, width, 3) uint8
    """
    view = view or View("sagittal")
    frame = Canonical(tracts.get_affine())
    array = frame.reorder(np.asarray(tracts.get_array()))
    array = array[..., None] if array.ndim == 3 else array
    if names is not None and len(names) != array.shape[-1]:
        raise InputError(f"found {len(names)} names for {array.shape[-1]} tracts; expected one for each.")
    stems = [_stem(name) for name in names] if names is not None else [str(k) for k in range(array.shape[-1])]
    order = list(dict.fromkeys(stems))
    scene = Scene(size)
    if brain is not None:
        inside = frame.reorder(np.asarray(brain.get_array()))
        scene.add_contour(inside, frame.voxel_size, 0.5, 2 * smooth, "white", 0.12)
    for k, stem in enumerate(stems):
        color = _TRACT_COLORS[order.index(stem) % len(_TRACT_COLORS)]
        scene.add_contour(array[..., k], frame.voxel_size, threshold, smooth, color, 1.0)
    scene.look(view.camera, np.eye(3)[view.up])
    scene.add_labels(view.labels)
    return scene.picture(path)


def _stem(name: str) -> str:
    return name.removesuffix("_left").removesuffix("_right").removesuffix("_L").removesuffix("_R")
