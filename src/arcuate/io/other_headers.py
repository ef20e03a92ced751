"""Headers of images that are no NIfTI and can be read as one, and the names of files that cannot."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from arcuate.io.gzip_blocks import MAGIC

_MGH = struct.Struct(">7ih15f")  # version, 4 dimensions, type, dof, whether the rest is set, sizes, axes, centre
_MGH_OFFSET = 284
_MGH_TYPES = {0: "u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
_DICOM = slice(128, 132)
_BEGINS = (  # what a file begins with, and what it then is
    (MAGIC, "it was compressed twice; unpack it once (gunzip)"),
    (b"BZh", "it is compressed with bzip2; unpack it first (bunzip2)"),
    (b"\xfd7zXZ", "it is compressed with xz; unpack it first"),
    (b"PK\x03\x04", "it is a zip archive; unpack it first"),
    (b"NRRD", "it is an NRRD image"),
    (b"\x89HDF", "it is an HDF5 file (MINC 2?)"),
    (b"CDF", "it is a MINC image"),
    (b"mrtrix image", "it is an image of MRtrix3; name it .mif"),
    (b"version https://git-lfs", "it is a pointer of git LFS, without the content; fetch that first (git lfs pull)"),
    (b"/annex/objects", "it is a pointer of git-annex, without the content; fetch that first (datalad get)"),
    (b"<", "it is a page of the web or XML, such as the answer of a server in place of the file"),
)


def what_it_is(head: bytes) -> str:
    """What a file is that begins with ``head`` and is no image that is read; empty where that is not known."""
    if head[_DICOM] == b"DICM":
        return "it is a DICOM file; convert the series first (dcm2niix)"
    return next((what for start, what in _BEGINS if head.lstrip().startswith(start)), "")


def analyze_header(header: Any) -> Any:
    """NIfTI header of an ANALYZE one, which was read as NIfTI: where the image lies is not in it.

    Its scale is SPM's. What NIfTI keeps of the place in the scanner are other fields of ANALYZE, and left out.
    """
    from nibabel.nifti1 import Nifti1Header

    made = Nifti1Header(endianness=header.endianness, check=False)
    for name in ("dim", "datatype", "bitpix", "pixdim", "vox_offset", "scl_slope"):
        made[name] = header[name]
    made["pixdim"][0] = 1
    made["magic"] = b"ni1"  # a pair
    return made


def mgh_header(head: bytes) -> Any | None:
    """NIfTI header of FreeSurfer's ``.mgh`` that begins with ``head``; None where it is none.

    Without a place in the scanner FreeSurfer takes its coronal one, as here.
    """
    from nibabel.nifti1 import Nifti1Header

    if len(head) < _MGH_OFFSET or head[:4] != b"\0\0\0\1":
        return None
    fields = _MGH.unpack(head[: _MGH.size])
    dims, code, is_placed, numbers = fields[1:5], fields[5], fields[7], fields[8:]
    if code not in _MGH_TYPES or min(dims) < 1:
        return None
    sizes, axes, centre = np.array(numbers[:3]), np.reshape(numbers[3:12], (3, 3)).T, np.array(numbers[12:])
    if not is_placed:
        sizes, axes, centre = np.ones(3), np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), np.zeros(3)
    affine = np.eye(4)
    affine[:3, :3] = axes * sizes
    affine[:3, 3] = centre - affine[:3, :3] @ (np.array(dims[:3]) / 2)
    made = Nifti1Header(endianness=">", check=False)
    made.set_data_dtype(np.dtype(_MGH_TYPES[code]))
    made.set_data_shape(dims if dims[3] > 1 else dims[:3])
    made.set_sform(affine, 1)
    made["pixdim"][1:4] = sizes
    made["vox_offset"] = _MGH_OFFSET
    return made
