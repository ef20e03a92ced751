"""Where an image lies in the scanner: the sform and qform of a NIfTI header."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.errors import InputError, warn
from arcuate.volumes.geometry import voxel_size

_GEOMETRY = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "srow_x", "srow_y", "srow_z",
)  # fmt: skip
_OTHER = ("pixdim", "xyzt_units", "dim_info", "toffset", "slice_code", "slice_duration", "descrip")
_SAME = 1e-3  # voxels; two affines that move no corner of the image by more say the same
_ROUNDED = 1.01  # length of a quaternion's vector part that is taken for 1
_DIFFERENT = 0.1  # voxels; sform and qform that move a corner by more are reported


def affine_of(header: Any, path: Path) -> np.ndarray:
    """(4, 4) float64, voxel indices to scanner mm: the sform if its code is above 0, else the qform.

    With neither, voxel sizes alone are used (x to the left, origin in the middle, as nibabel does), with a warning.
    Another warning tells that both are set and differ.
    """
    sform = _sform(header)
    qform = _qform(header, path, is_needed=sform is None)
    if sform is not None and qform is not None:
        moved = _largest_move(sform, qform, header["dim"][1:4])
        if moved > _DIFFERENT:
            warn(
                f"{path}: sform and qform place the image differently (by up to {moved:.3g} voxels); "
                "the sform is used. If it was set by a registration, make the two agree (fslorient, mrconvert)."
            )
    if sform is not None:
        return sform
    is_broken = int(header["sform_code"]) > 0
    if qform is not None:
        if is_broken:
            warn(
                f"{path}: the sform of the header is no place in the scanner ({header.get_sform()[:3].tolist()}); its "
                "qform is used. Check the directions of fibres before use."
            )
        return qform
    why = "its sform is no place in the scanner" if is_broken else "sform and qform codes are 0"
    warn(
        f"{path} does not say how it lies in the scanner ({why}); its axes are taken as left, anterior, superior. "
        "Check the directions of fibres before use."
    )
    return np.asarray(header.get_base_affine(), dtype=np.float64)


def mend_voxel_size(header: Any, path: Path) -> None:
    """Set the fields that a qform is made of to what the standard and other readers take them for.

    ``pixdim[0]`` becomes 1 or -1 (0 means 1), a negative voxel size its absolute value, one that is absent 1 mm (with
    a warning where the affine depends on it), and a quaternion that rounding made too long is brought to unit length.
    """
    pixdim = header["pixdim"]
    pixdim[0] = -1 if pixdim[0] < 0 else 1
    sizes = np.abs(pixdim[1:4])
    is_absent = ~np.isfinite(sizes) | (sizes == 0)
    pixdim[1:4] = np.where(is_absent, 1, sizes)
    n_axes = min(3, int(header["dim"][0]))
    if is_absent[:n_axes].any() and _sform(header) is None:
        warn(
            f"{path} gives the voxel sizes {sizes.tolist()}; 1 mm is taken where there is none. Set them (fslchpixdim)."
        )
    quaternion = ("quatern_b", "quatern_c", "quatern_d")
    length = math.sqrt(sum(float(header[name]) ** 2 for name in quaternion))
    if 1 < length <= _ROUNDED:
        for name in quaternion:
            header[name] = np.float64(header[name]) / length


def header_fields(header: Any) -> dict[str, Any]:
    """Geometry, units and description as plain numbers, lists and strings, named as in NIfTI."""
    fields: dict[str, Any] = {"sizeof_hdr": int(header["sizeof_hdr"])}
    for name in _GEOMETRY + _OTHER:
        value = header[name]
        if value.dtype.kind == "S":
            fields[name] = bytes(value.item()).rstrip(b"\0").decode("latin-1")
        else:
            fields[name] = value.tolist()
    return fields


def make_header(shape: tuple[int, ...], dtype: np.dtype, affine: np.ndarray, metadata: dict[str, Any]) -> Any:
    """Header of an image: geometry of ``metadata`` where it agrees with ``affine``, else of ``affine`` alone."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    if affine.shape != (4, 4) or not np.all(np.isfinite(affine)):
        raise InputError(f"cannot save an image with the affine {affine.tolist()}; expected (4, 4) finite numbers.")
    is_large = max(shape) > np.iinfo(np.int16).max or metadata.get("sizeof_hdr") == 540
    header = (Nifti2Header if is_large else Nifti1Header)(endianness="<")
    header.set_data_shape(shape)
    header.set_data_dtype(dtype)
    header["vox_offset"] = 544 if is_large else 352
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["xyzt_units"] = 2  # mm
    for name in _OTHER:
        _put(header, name, metadata.get(name))
    for name in _GEOMETRY:
        _put(header, name, metadata.get(name))
    header["pixdim"][1:][~np.isfinite(header["pixdim"][1:])] = 0
    if not _says(header, affine):
        _set_geometry(header, affine, metadata)
    return header


def _set_geometry(header: Any, affine: np.ndarray, metadata: dict[str, Any]) -> None:
    sform_code = _code(metadata.get("sform_code")) or _code(metadata.get("qform_code")) or 1
    sizes = np.array(voxel_size(affine))
    header["pixdim"][1:4] = sizes
    header.set_sform(affine, sform_code)
    header["qform_code"] = 0
    if np.all(sizes > 0) and abs(np.linalg.det(affine[:3, :3] / sizes)) > 1e-6:
        header.set_qform(affine, _code(metadata.get("qform_code")) or sform_code, strip_shears=True)
        if _largest_move(affine, header.get_qform(), header["dim"][1:4]) > 10 * _SAME:
            header["qform_code"] = 0  # sheared: no quaternion says that


def _says(header: Any, affine: np.ndarray) -> bool:
    """Whether the header places the image where ``affine`` does."""
    sform = _sform(header)
    try:
        own = sform if sform is not None else _qform(header, Path(), is_needed=True)
    except InputError:
        return False
    if own is None:
        return False
    sizes = np.array(voxel_size(own))
    if not np.allclose(sizes, header["pixdim"][1:4], rtol=1e-3):
        return False
    return _largest_move(affine, own, header["dim"][1:4]) <= _SAME and np.allclose(
        affine[:3, :3], own[:3, :3], rtol=0, atol=1e-6 * sizes.max()
    )


def _code(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 < value < 6 else 0


def _put(header: Any, name: str, value: Any) -> None:
    """Set one field from metadata, which may come from anywhere: what does not fit is left out."""
    if value is None:
        return
    try:
        if isinstance(value, str):
            value = value.encode("latin-1", "replace")[:79]
        header[name] = value
    except (ValueError, TypeError, OverflowError):
        return


def _sform(header: Any) -> np.ndarray | None:
    if int(header["sform_code"]) <= 0:
        return None
    sform = np.asarray(header.get_sform(), dtype=np.float64)
    is_usable = np.all(np.isfinite(sform)) and np.any(sform[:3, :3], axis=0).all()
    return sform if is_usable else None


def _qform(header: Any, path: Path, *, is_needed: bool) -> np.ndarray | None:
    from nibabel.spatialimages import HeaderDataError

    if int(header["qform_code"]) <= 0:
        return None
    try:
        qform = np.asarray(header.get_qform(), dtype=np.float64)
        if np.all(np.isfinite(qform)) and np.any(qform[:3, :3], axis=0).all():
            return qform
        reason = f"it gives {qform.tolist()}"
    except (HeaderDataError, ValueError) as error:
        reason = str(error)
    if is_needed:
        raise InputError(f"{path}: the qform of the header is not a rotation ({reason}). Set it anew (fslorient).")
    return None


def _largest_move(a: np.ndarray, b: np.ndarray, shape: Any) -> float:
    """Largest distance between the places that two affines give to a corner of the image, in voxels."""
    size = min(voxel_size(b))
    edges = [(0, max(int(n) - 1, 1)) for n in shape]
    corners = np.array([(*corner, 1) for corner in itertools.product(*edges)], dtype=np.float64)
    move = float(np.linalg.norm((corners @ (a - b).T)[:, :3], axis=1).max())
    return move / size if size > 0 else math.inf
