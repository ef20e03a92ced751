"""An image whose format its name tells: NIfTI, or MRtrix3's."""

from __future__ import annotations

import os
from pathlib import Path

from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.io.mif import MifVolumeResource
from arcuate.io.mif_header import is_mif
from arcuate.io.nifti import NiftiVolumeResource
from arcuate.numerics.user_folders import as_path
from arcuate.volumes.resource import VolumeResource

WRITTEN = (".nii.gz", ".nii", ".mif", ".mif.gz")  # endings of images that can be written


def open_volume(path: str | os.PathLike[str]) -> NiftiVolumeResource | MifVolumeResource:
    """The image (x, y, z) or (x, y, z, n) at ``path``, of the format that its name tells; nothing is read yet."""
    return MifVolumeResource(path) if is_mif(as_path(path)) else NiftiVolumeResource(path)


def save_volume(
    volume: VolumeResource, path: str | os.PathLike[str], gradients: GradientTable | None = None
) -> NiftiVolumeResource | MifVolumeResource:
    """Write a volume (x, y, z) or (x, y, z, n) in the format that the name tells; the volume backed by its file.

    Parameters
    ----------
    gradients : of the volumes; kept in the header of a ``.mif``. NIfTI has no place for them.

    Raises
    ------
    InputError
        The name ends otherwise; see also ``save`` of the two resources.
    """
    if not Path(path).name.lower().endswith(WRITTEN):
        raise InputError(f"cannot save an image as {Path(path).name!r}; expected one of {', '.join(WRITTEN)}.")
    if is_mif(as_path(path)):
        return MifVolumeResource.save(volume, path, gradients)
    return NiftiVolumeResource.save(volume, path)
