"""kwneuro's names for what its scripts call beside the steps: every n-th voxel, header entries, comparison."""

from __future__ import annotations

from typing import Any

import numpy as np

from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource
from arcuate.volumes.voxels import every_nth_voxel

__all__ = ["create_estimate_volume_resource", "deep_equal_allclose", "subsample_volume", "update_volume_metadata"]


def subsample_volume(volume: VolumeResource, factor: int = 2) -> InMemoryVolumeResource:
    """Every ``factor``-th voxel of an image (x, y, z, ...) along x, y and z; their centres stay where they were."""
    return every_nth_voxel(volume, factor)


def update_volume_metadata(
    metadata: dict[str, Any],
    volume_data_array: np.ndarray,
    intent_code: int | str | None = None,
    intent_params: Any = (),
    intent_name: str = "",
) -> dict[str, Any]:
    """Header entries for another array on the same grid.

    Parameters
    ----------
    metadata : entries of the volume that it was made from; what NIfTI does not know is kept as it is
    volume_data_array : (x, y, z, ...), whose shape and type are entered
    intent_code, intent_params, intent_name : NIfTI's intent, where there is one

    Notes
    -----
    arcuate's own steps need none of it: ``volume.with_array(array)`` keeps the geometry, and files are written with
    the entries that belong to the array.
    """
    from nibabel.nifti1 import Nifti1Header

    header = Nifti1Header()
    known = {name: value for name, value in metadata.items() if name in header.keys()}  # noqa: SIM118
    for name, value in known.items():
        header[name] = value
    header.set_data_dtype(volume_data_array.dtype)
    header.set_data_shape(volume_data_array.shape)
    if intent_code is not None:
        header.set_intent(intent_code, intent_params, intent_name)
    return {**dict(header), **{name: value for name, value in metadata.items() if name not in known}}


def create_estimate_volume_resource(
    array: np.ndarray, reference_volume: VolumeResource, intent_name: str
) -> InMemoryVolumeResource:
    """Estimates (x, y, z[, n]) as a volume on the grid of another, ``intent_name`` among its header entries."""
    entries = update_volume_metadata(
        reference_volume.get_metadata(), array, "NIFTI_INTENT_ESTIMATE", intent_name=intent_name
    )
    return InMemoryVolumeResource(array, reference_volume.get_affine(), entries)


def deep_equal_allclose(obj1: Any, obj2: Any) -> bool:
    """Whether two things of lists, tuples, dicts, arrays and plain values are alike; numbers of arrays nearly so.

    Types, shapes and dtypes count; NaN equals NaN.
    """
    if type(obj1) is not type(obj2):
        return False
    if isinstance(obj1, np.ndarray):
        if obj1.shape != obj2.shape or obj1.dtype != obj2.dtype:
            return False
        is_numeric = np.issubdtype(obj1.dtype, np.number)
        return bool(np.allclose(obj1, obj2, equal_nan=True) if is_numeric else np.array_equal(obj1, obj2))
    if isinstance(obj1, dict):
        return obj1.keys() == obj2.keys() and all(deep_equal_allclose(obj1[key], obj2[key]) for key in obj1)
    if isinstance(obj1, list | tuple):
        return len(obj1) == len(obj2) and all(map(deep_equal_allclose, obj1, obj2))
    is_nan = isinstance(obj1, float | np.floating) and np.isnan(obj1) and np.isnan(obj2)
    return bool(is_nan or obj1 == obj2)
