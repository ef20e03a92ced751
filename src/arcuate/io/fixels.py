"""Fixel folders as MRtrix3 has them: index.nii, directions.nii, and one image of values per measure."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from arcuate.io.atomic import atomic_path

MOST_IN_NIFTI_1 = 32767  # its dimensions are 16-bit integers


def write_fixels(
    folder: Path, index: np.ndarray, directions: np.ndarray, values: dict[str, np.ndarray], affine: np.ndarray
) -> list[Path]:
    """Write a fixel folder; the paths written. A folder with other images of fixels keeps them.

    Parameters
    ----------
    index : (x, y, z, 2) int, number of fixels of each voxel and the place of its first
    directions : (n, 3) float, unit vectors in the scanner frame
    values : (n,) float each; written as ``<name>.nii``
    affine : (4, 4) float, of the voxels
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    images = {
        "index": (np.asarray(index, np.uint32), affine),
        "directions": (np.asarray(directions, np.float32)[:, :, None], np.eye(4)),
        **{name: (np.asarray(rows, np.float32)[:, None, None], np.eye(4)) for name, rows in values.items()},
    }
    written = []
    for name, (array, placed) in images.items():
        kind = nib.Nifti2Image if max(array.shape) > MOST_IN_NIFTI_1 else nib.Nifti1Image
        path = folder / f"{name}.nii"
        with atomic_path(path) as temporary:
            temporary.write_bytes(kind(array, placed).to_bytes())
        written.append(path)
    return written
