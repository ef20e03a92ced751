"""Scans in and out: the only code of arcuate that knows file formats."""

from arcuate.io.atomic import atomic_path, write_text_atomically
from arcuate.io.gradient_files import (
    FslBvalResource,
    FslBvecResource,
    MrtrixBvalResource,
    MrtrixBvecResource,
    find_gradients,
    read_mrtrix_table,
    write_mrtrix_table,
)
from arcuate.io.nifti import NiftiVolumeResource

__all__ = [
    "FslBvalResource",
    "FslBvecResource",
    "MrtrixBvalResource",
    "MrtrixBvecResource",
    "NiftiVolumeResource",
    "atomic_path",
    "find_gradients",
    "read_mrtrix_table",
    "write_mrtrix_table",
    "write_text_atomically",
]
