"""Images and gradients as people hold them: resources, paths, nibabel images and arrays are all taken."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from arcuate.errors import InputError
from arcuate.volumes.resource import (
    InMemoryBvalResource,
    InMemoryBvecResource,
    InMemoryVolumeResource,
    VolumeResource,
    from_nibabel,
)

VolumeLike = Any  # VolumeResource, str, path, nibabel image or array


def as_volume(thing: Any, like: VolumeResource | None = None) -> VolumeResource:
    """A volume from a resource, a path, a nibabel image or an array.

    Parameters
    ----------
    thing : VolumeResource, str or path of a file (NIfTI, .mif), nibabel image, or array (x, y, z) or (x, y, z, n)
    like : where an array lies: it has the grid of this volume; the identity without it

    Raises
    ------
    InputError
        Something else was given.
    """
    if isinstance(thing, VolumeResource):
        return thing
    if isinstance(thing, str | os.PathLike):
        resource = importlib.import_module("arcuate.io.images").open_volume(thing)  # files are read above
        assert isinstance(resource, VolumeResource)
        return resource
    if hasattr(thing, "dataobj") and hasattr(thing, "affine"):
        return from_nibabel(thing)
    if isinstance(thing, np.ndarray):
        if thing.ndim not in {3, 4}:
            raise InputError(f"found an array of shape {thing.shape}; expected an image (x, y, z) or (x, y, z, n).")
        return InMemoryVolumeResource(thing) if like is None else like.with_array(thing)
    raise InputError(
        f"found {type(thing).__name__} in place of an image; expected a volume, a path, a nibabel image or an array."
    )


def as_bvals(thing: Any) -> Any:
    """b-values from a path (FSL's form) or numbers; a resource, or anything else, as it is."""
    return _as_vectors(thing, "FslBvalResource", InMemoryBvalResource)


def as_bvecs(thing: Any) -> Any:
    """b-vectors from a path (FSL's form) or numbers; a resource, or anything else, as it is."""
    return _as_vectors(thing, "FslBvecResource", InMemoryBvecResource)


def _as_vectors(thing: Any, of_file: str, in_memory: Callable[[np.ndarray], Any]) -> Any:
    if isinstance(thing, str | os.PathLike):
        return getattr(importlib.import_module("arcuate.io.gradient_files"), of_file)(thing)
    if isinstance(thing, np.ndarray | list | tuple):
        return in_memory(np.asarray(thing, dtype=np.float64))
    return thing
