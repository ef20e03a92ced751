"""Scans in and out: the only code of arcuate that knows file formats."""

from arcuate.io.atomic import atomic_path, write_text_atomically, written_together
from arcuate.io.find_gradients import find_gradients, find_gradients_of_parts
from arcuate.io.find_scans import find_images
from arcuate.io.gradient_files import (
    FslBvalResource,
    FslBvecResource,
    MrtrixBvalResource,
    MrtrixBvecResource,
    read_mrtrix_table,
    write_mrtrix_table,
)
from arcuate.io.images import open_volume, save_volume
from arcuate.io.mif import MifVolumeResource
from arcuate.io.names import beside_image, common_name, image_stem
from arcuate.io.nifti import NiftiVolumeResource

__all__ = [
    "FslBvalResource",
    "FslBvecResource",
    "MifVolumeResource",
    "MrtrixBvalResource",
    "MrtrixBvecResource",
    "NiftiVolumeResource",
    "atomic_path",
    "beside_image",
    "common_name",
    "find_gradients",
    "find_gradients_of_parts",
    "find_images",
    "image_stem",
    "open_volume",
    "read_mrtrix_table",
    "save_volume",
    "write_mrtrix_table",
    "write_text_atomically",
    "written_together",
]
