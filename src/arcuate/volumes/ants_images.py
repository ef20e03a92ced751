"""Volumes as ANTs' images and back: coordinates turned from RAS to LPS, voxels and their order as they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from arcuate.errors import InputError, MissingExtraError
from arcuate.volumes.as_volume import as_volume
from arcuate.volumes.geometry import nearest_rotation, voxel_size
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource
from arcuate.volumes.voxels import check_same_place, stored_like

_SHEAR = 1e-3  # largest part by which axes may fail to be orthogonal


def require_ants(purpose: str) -> Any:
    """The module ``ants``.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    try:
        import ants
    except ImportError as error:
        raise MissingExtraError("ANTs (antspyx)", "ants", purpose) from error
    return ants


def to_ants(volume: VolumeResource, purpose: str, what: str = "the image") -> Any:
    """ANTs' image of a volume (x, y, z), float32.

    Raises
    ------
    InputError
        The volume is not 3-D, holds nothing finite, or its axes are not orthogonal, which ITK cannot represent.
    MissingExtraError
        ANTs is not installed.
    """
    require_ants(purpose)
    array = np.asarray(volume.get_array(), dtype=np.float32)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise InputError(f"found {what} of shape {tuple(volume.shape)}; {purpose} takes (x, y, z). Take one volume.")
    finite = np.isfinite(array)
    if not finite.any() or array[finite].max() == array[finite].min():
        raise InputError(f"{what} is constant or holds nothing finite; {purpose} needs contrast. Check the image.")
    return image_of(np.where(finite, array, 0), volume.get_affine(), what)


def image_of(array: np.ndarray, affine: np.ndarray, what: str = "the image") -> Any:
    """ANTs' image of voxels (x, y, z) as they are, in their own type, or of (x, y, z, n) as a fourth axis.

    Raises
    ------
    InputError
        The axes are not orthogonal, which ITK cannot represent.
    MissingExtraError
        ANTs is not installed.
    """
    ants = require_ants("an image of ANTs")
    origin, spacing, direction = _geometry(affine, what)
    if array.ndim == 4:
        origin, spacing, turned = (*origin, 0.0), (*spacing, 1.0), np.eye(4)
        turned[:3, :3] = direction
        direction = turned
    return ants.from_numpy(np.ascontiguousarray(array), origin=origin, spacing=spacing, direction=direction)


def mask_to_ants(mask: VolumeResource, image: VolumeResource, what: str = "the mask") -> Any:
    """ANTs' image of a mask (x, y, z) on the grid of an image: 1 where it is at least 0.5.

    Raises
    ------
    InputError
        The mask has another grid, or is the same everywhere.
    """
    volume = stored_like(image, as_volume(mask, like=image))
    if tuple(volume.shape[:3]) != tuple(image.shape[:3]):
        raise InputError(
            f"found {what} of shape {tuple(volume.shape)}; expected {tuple(image.shape[:3])}, the grid of its image."
        )
    check_same_place(image, volume, what)
    inside = np.asarray(volume.get_array()).reshape(image.shape[:3]) >= 0.5
    return to_ants(image.with_array(inside.astype(np.float32)), "a mask", what)


def from_ants(image: Any, like: VolumeResource | None = None) -> InMemoryVolumeResource:
    """Volume (x, y, z) float32 of an image of ANTs; with the affine and header entries of ``like`` if on its grid."""
    array = np.asarray(image.numpy(), dtype=np.float32)
    affine = affine_of(image)
    if like is not None and array.shape == tuple(like.shape[:3]) and np.allclose(affine, like.get_affine(), atol=1e-3):
        return like.with_array(array)
    return InMemoryVolumeResource(array, affine)


def affine_of(image: Any) -> np.ndarray:
    """(4, 4) affine, RAS, of an image of ANTs."""
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = np.asarray(image.direction) * np.asarray(image.spacing), image.origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """ANTs' random numbers from ``seed`` within the block."""
    ants = require_ants("registration")
    before, environment = ants.config._random_seed, os.environ.get("ANTS_RANDOM_SEED")
    ants.config._random_seed = seed
    os.environ["ANTS_RANDOM_SEED"] = str(seed)
    try:
        yield
    finally:
        ants.config._random_seed = before
        if environment is None:
            del os.environ["ANTS_RANDOM_SEED"]
        else:
            os.environ["ANTS_RANDOM_SEED"] = environment


def _geometry(affine: np.ndarray, what: str) -> tuple[tuple[float, ...], tuple[float, ...], np.ndarray]:
    """Origin, spacing and direction, LPS, of an affine, RAS."""
    spacing = voxel_size(affine)
    unit = affine[:3, :3] / np.array(spacing)
    rotation = nearest_rotation(unit)
    if np.abs(unit - rotation).max() > _SHEAR:
        raise InputError(
            f"the axes of {what} are not orthogonal (by {np.abs(unit - rotation).max():.2g}); ANTs cannot represent "
            "that. Resample it to a grid without shear."
        )
    flip = np.array([-1.0, -1.0, 1.0])
    return tuple(float(x) for x in flip * affine[:3, 3]), spacing, flip[:, None] * rotation
