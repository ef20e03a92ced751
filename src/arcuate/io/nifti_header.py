"""Headers of NIfTI and of images like it, read as nibabel and MRtrix3 read them, or refused in one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.errors import InputError
from arcuate.io import geometry
from arcuate.io.gzip_blocks import CorruptFileError, read_head
from arcuate.io.names import why_absent
from arcuate.io.other_headers import analyze_header, mgh_header, what_it_is
from arcuate.io.stored_voxels import StoredVoxels

_SIZES = {348: 352, 540: 544}  # sizeof_hdr: bytes up to the voxels of a single file, without extensions
_SINGLE, _PAIR = (b"n+1", b"n+2"), (b"ni1", b"ni2")


@dataclass(frozen=True)
class Header(StoredVoxels):
    """What a NIfTI file says of its voxels, and all else."""

    nifti: Any  # nibabel's Nifti1Header or Nifti2Header


def read_header(path: Path) -> Header:
    """Header of the image at ``path``, which may be either file of a pair.

    Raises
    ------
    InputError
        There is no such file, or it is no image of real numbers as NIfTI, ANALYZE or FreeSurfer's .mgh.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected a .nii or .nii.gz file.")
    if not path.is_file():  # a pipe would keep us waiting
        raise InputError(f"{path} {why_absent(path)}")
    file = _partner(path, ".img", ".hdr") or path
    header, least = _unpack(file, path)
    voxels = file
    if bytes(header["magic"])[:3] in _PAIR:
        partner = _partner(file, ".hdr", ".img")
        if partner is None:
            raise _refusal(path, f"its voxels lie in a second file, and there is no {file.with_suffix('.img').name}")
        voxels, least = partner, 0
    geometry.mend_voxel_size(header, path)
    slope, intercept = _scaling(header)
    shape, dtype, offset = _shape(header, path), _dtype(header, path), _offset(header, least, path)
    return Header(voxels, shape, dtype, offset, slope, intercept, header)


def _refusal(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} cannot be read as NIfTI: {why}. Expected one .nii or .nii.gz file, or a pair of .hdr and .img; "
        "mrconvert makes one of most formats."
    )


def _partner(path: Path, own: str, other: str) -> Path | None:
    """The other file of a pair: same name, suffix ``other`` in place of ``own``; None if it is not there."""
    name = path.name.removesuffix(".gz").removesuffix(".GZ")
    if not name.lower().endswith(own):
        return None
    stem = name[: -len(own)]
    suffixes = (other, f"{other}.gz")
    names = [stem + suffix for suffix in (*suffixes, *map(str.upper, suffixes))]
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)


def _unpack(file: Path, path: Path) -> tuple[Any, int]:
    """nibabel's header made of the first bytes of ``file``, and the least that lies before voxels in the same file."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    try:
        head = read_head(file, 540)
    except CorruptFileError as error:
        raise _refusal(path, f"its gzip stream is damaged ({error})") from error
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}.") from error
    if (mgh := mgh_header(head)) is not None:
        return mgh, 0
    for endianness in "<>":
        size = int(np.frombuffer(head[:4].ljust(4, b"\0"), f"{endianness}i4")[0])
        if size in _SIZES:
            break
    else:
        short = "" if len(head) >= 348 else f"it has {len(head)} bytes only"
        raise _refusal(path, what_it_is(head) or short or "it does not start with a NIfTI header")
    if len(head) < size:
        raise _refusal(path, "it ends within its header")
    header = (Nifti1Header if size == 348 else Nifti2Header)(head[:size], endianness, check=False)
    if bytes(header["magic"])[:3] in _SINGLE + _PAIR:
        return header, _SIZES[size]
    if size != 348 or not (_partner(file, ".hdr", ".img") or _partner(file, ".img", ".hdr")):
        raise _refusal(path, "its header is not marked as NIfTI, and there is no second file as ANALYZE has it")
    return analyze_header(header), 0


def _shape(header: Any, path: Path) -> tuple[int, ...]:
    n_dim = int(header["dim"][0])
    shape = tuple(int(d) for d in header["dim"][1 : n_dim + 1])
    if not 1 <= n_dim <= 7 or any(d < 1 for d in shape):
        raise _refusal(path, f"its header gives the dimensions {[int(d) for d in header['dim']]}")
    return shape if n_dim <= 4 else (*shape[:3], *(d for d in shape[3:] if d > 1))


def _dtype(header: Any, path: Path) -> np.dtype:
    try:
        dtype: np.dtype = header.get_data_dtype()
    except Exception as error:  # nibabel raises several kinds for codes it does not know
        raise _refusal(path, f"its data type has the unknown code {int(header['datatype'])}") from error
    if dtype.kind not in "iuf":
        kind = f"colours ({', '.join(dtype.names)})" if dtype.names else f"of the type {dtype}"
        raise _refusal(path, f"its voxels are {kind}; arcuate reads integers and real numbers")
    return dtype


def _offset(header: Any, least: int, path: Path) -> int:
    """Bytes before the voxels, at least ``least``; 0 stands for the least."""
    offset = float(header["vox_offset"])
    is_possible = np.isfinite(offset) and offset == int(offset) and (offset == 0 or offset >= max(0, least - 4))
    if not is_possible:
        raise _refusal(path, f"its header places the voxels at byte {offset:g}")
    return int(offset) or least


def _scaling(header: Any) -> tuple[float, float]:
    """Slope and intercept, (1, 0) where the header asks for none."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0:
        return 1.0, 0.0
    return slope, intercept if np.isfinite(intercept) else 0.0
