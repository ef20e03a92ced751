"""arcuate: diffusion MRI, from the scan to maps of microstructure and fibre orientation.

The names below are imported from their modules when they are first asked for, so that ``import arcuate`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from arcuate._version import __version__

if TYPE_CHECKING:
    from arcuate.cache import Cache, CacheSpec, cacheable
    from arcuate.csd import (
        combine_csd_peaks_to_vector_volume,
        compute_csd_fods,
        compute_csd_peaks,
        estimate_response_function,
    )
    from arcuate.dti import Dti
    from arcuate.dwi import Dwi, subsample_dwi
    from arcuate.errors import InputError, InputWarning, MissingExtraError
    from arcuate.files import read_dwi_fsl, read_volume, write_dwi_fsl, write_structural, write_volume
    from arcuate.gradients import GradientTable
    from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource
    from arcuate.kurtosis import Dki
    from arcuate.models.response import Response
    from arcuate.noddi import Noddi
    from arcuate.phantom import make_phantom, three_shell_gradients
    from arcuate.structural import StructuralImage, read_structural
    from arcuate.tractseg import extract_tractseg, get_bundle_names
    from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource


__all__ = [
    "Cache",
    "CacheSpec",
    "Dki",
    "Dti",
    "Dwi",
    "FslBvalResource",
    "FslBvecResource",
    "GradientTable",
    "InMemoryVolumeResource",
    "InputError",
    "InputWarning",
    "MissingExtraError",
    "NiftiVolumeResource",
    "Noddi",
    "Response",
    "StructuralImage",
    "VolumeResource",
    "__version__",
    "cacheable",
    "combine_csd_peaks_to_vector_volume",
    "compute_csd_fods",
    "compute_csd_peaks",
    "estimate_response_function",
    "extract_tractseg",
    "get_bundle_names",
    "make_phantom",
    "read_dwi_fsl",
    "read_structural",
    "read_volume",
    "subsample_dwi",
    "three_shell_gradients",
    "write_dwi_fsl",
    "write_structural",
    "write_volume",
]

_HOMES = {
    "arcuate.cache": ("Cache", "CacheSpec", "cacheable"),
    "arcuate.csd": (
        "combine_csd_peaks_to_vector_volume", "compute_csd_fods", "compute_csd_peaks", "estimate_response_function",
    ),
    "arcuate.dti": ("Dti",),
    "arcuate.dwi": ("Dwi", "subsample_dwi"),
    "arcuate.errors": ("InputError", "InputWarning", "MissingExtraError"),
    "arcuate.gradients": ("GradientTable",),
    "arcuate.files": ("read_dwi_fsl", "read_volume", "write_dwi_fsl", "write_structural", "write_volume"),
    "arcuate.io": ("FslBvalResource", "FslBvecResource", "NiftiVolumeResource"),
    "arcuate.phantom": ("make_phantom", "three_shell_gradients"),
    "arcuate.kurtosis": ("Dki",),
    "arcuate.models.response": ("Response",),
    "arcuate.noddi": ("Noddi",),
    "arcuate.volumes.resource": ("InMemoryVolumeResource", "VolumeResource"),
    "arcuate.structural": ("StructuralImage", "read_structural"),
    "arcuate.tractseg": ("extract_tractseg", "get_bundle_names"),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """A public name, from the module that it lives in."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
