"""Scans and images by their paths: for scripts that read files, call one step, and write files."""

from __future__ import annotations

import os
from pathlib import Path

from arcuate.dwi import Dwi
from arcuate.errors import InputError
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource, open_volume, save_volume, written_together
from arcuate.numerics.user_folders import as_path
from arcuate.structural import StructuralImage, read_structural
from arcuate.volumes.resource import VolumeResource

__all__ = ["read_dwi_fsl", "read_structural", "read_volume", "write_dwi_fsl", "write_structural", "write_volume"]


def read_volume(path: str | os.PathLike[str]) -> VolumeResource:
    """A volume (x, y, z[, n]) from a file; nothing is read yet."""
    return open_volume(path)


def write_volume(volume: VolumeResource, path: str | os.PathLike[str]) -> VolumeResource:
    """Write a volume (x, y, z[, n]) to a file, folders made; the volume backed by it."""
    return save_volume(volume, path)


def read_dwi_fsl(
    volume: str | os.PathLike[str],
    bval: str | os.PathLike[str] | None = None,
    bvec: str | os.PathLike[str] | None = None,
) -> Dwi:
    """A diffusion scan with FSL's gradient files; nothing is read yet.

    Parameters
    ----------
    volume : the image (x, y, z, n_meas), ``.nii`` or ``.nii.gz``
    bval, bvec : gradient files; those called as the image without them
        :meth:`arcuate.dwi.Dwi.from_files` also finds those that BIDS lets an image inherit, and MRtrix3's tables.

    Raises
    ------
    InputError
        The image is no NIfTI file by its name.
    """
    return Dwi(
        NiftiVolumeResource(_nifti(volume)),
        FslBvalResource(_beside(volume, ".bval") if bval is None else as_path(bval)),
        FslBvecResource(_beside(volume, ".bvec") if bvec is None else as_path(bvec)),
    )


def write_dwi_fsl(
    dwi: Dwi,
    volume: str | os.PathLike[str],
    bval: str | os.PathLike[str] | None = None,
    bvec: str | os.PathLike[str] | None = None,
) -> Dwi:
    """Write a diffusion scan as an image and FSL's gradient files, folders made; the scan backed by them.

    Parameters
    ----------
    dwi : scan
    volume : the image to write, ``.nii`` or ``.nii.gz``
    bval, bvec : gradient files to write; called as the image without them
    """
    target = _nifti(volume)
    bvals = _beside(volume, ".bval") if bval is None else as_path(bval)
    bvecs = _beside(volume, ".bvec") if bvec is None else as_path(bvec)
    for path in (target, bvals, bvecs):
        path.parent.mkdir(parents=True, exist_ok=True)
    checked = dwi.checked()
    with written_together():
        image = NiftiVolumeResource.save(dwi.volume, target)
        gradients = FslBvalResource.save(checked.bval, bvals), FslBvecResource.save(checked.bvec, bvecs)
    return Dwi(image, *gradients, dwi.b0_threshold, dwi.origin)


def write_structural(structural: StructuralImage, path: str | os.PathLike[str]) -> StructuralImage:
    """Write a structural image (x, y, z) to a file, folders made; the image backed by it."""
    return structural.save(path)


def _nifti(path: str | os.PathLike[str]) -> Path:
    found = as_path(path)
    if not found.name.endswith((".nii", ".nii.gz")):
        raise InputError(
            f"found the image {found}; expected a .nii or .nii.gz file, which FSL's gradient files go with."
        )
    return found


def _beside(path: str | os.PathLike[str], suffix: str) -> Path:
    image = _nifti(path)
    return image.with_name(image.name.removesuffix(".gz").removesuffix(".nii") + suffix)
