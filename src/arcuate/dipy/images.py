"""NIfTI images with DIPY's names: arrays in the type that the file has."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np


def load_nifti_data(fname: str | PathLike[str], as_ndarray: bool = True) -> Any:
    """The array of an image in its own type; nibabel's lazy array with ``as_ndarray=False``."""
    return load_nifti(fname, as_ndarray=as_ndarray)[0]


def load_nifti(
    fname: str | PathLike[str],
    return_img: bool = False,
    return_voxsize: bool = False,
    return_coords: bool = False,
    as_ndarray: bool = True,
) -> tuple[Any, ...]:
    """(data, affine), and on request nibabel's image, the voxel sizes (mm) and the axis codes, in this order."""
    import nibabel as nib

    image: Any = nib.load(fname)
    data = _read_array(image) if as_ndarray else image.dataobj
    result = [data, image.affine]
    if return_img:
        result.append(image)
    if return_voxsize:
        result.append(image.header.get_zooms()[:3])
    if return_coords:
        result.append(nib.aff2axcodes(image.affine))
    return tuple(result)


def save_nifti(
    fname: str | PathLike[str], data: np.ndarray, affine: np.ndarray, hdr: Any = None, dtype: Any = None
) -> None:
    """Write data (x, y, z, ...) and affine (4, 4) as NIfTI, in its type unless ``dtype`` or ``hdr`` say otherwise."""
    import nibabel as nib

    if hdr is None and dtype is None and data.dtype in (np.int64, np.uint64):
        raise ValueError(
            f"the array holds {data.dtype}, which most programs cannot read from NIfTI; give dtype, or convert it "
            "first, for example with data.astype(np.int32)."
        )
    nib.Nifti1Image(data, affine, header=hdr, dtype=dtype).to_filename(fname)


def _read_array(image: Any) -> np.ndarray:
    """The voxels of an image that nibabel opened; through isal where the file is gzip, three times as fast."""
    import nibabel as nib
    from isal import igzip
    from nibabel.volumeutils import apply_read_scaling

    name = str(image.get_filename())
    if not isinstance(image, nib.Nifti1Image) or not name.endswith(".gz"):
        return np.asanyarray(image.dataobj)
    header = image.dataobj
    stored: Any = np.empty(int(np.prod(header.shape)), dtype=header.dtype)
    with igzip.open(name) as file:
        file.seek(header.offset)
        view, n_read = stored.view(np.uint8).data, 0
        while n_read < len(view):
            got = file.readinto(view[n_read:])
            if not got:
                raise OSError(f"{name} ends after {n_read} of {len(view)} bytes of voxels; copy or download it again.")
            n_read += got
    return apply_read_scaling(stored.reshape(header.shape, order="F"), header.slope, header.inter)
