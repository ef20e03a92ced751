"""Spherical deconvolution as steps: response functions, fibre orientation distributions and their peaks."""

from arcuate.csd.fixels import Fixels, segment_fods
from arcuate.csd.fods import (
    Fods,
    compute_csd_fods,
    compute_fibre_density,
    compute_tissue_fractions,
    estimate_fods,
)
from arcuate.csd.peaks import (
    FodPeaks,
    combine_csd_peaks_to_vector_volume,
    compute_csd_peaks,
    find_fod_peaks,
    locate_fod_peaks,
    split_vector_volume,
)
from arcuate.csd.responses import ALGORITHMS, estimate_response_function

__all__ = [
    "ALGORITHMS",
    "Fixels",
    "FodPeaks",
    "Fods",
    "combine_csd_peaks_to_vector_volume",
    "compute_csd_fods",
    "compute_csd_peaks",
    "compute_fibre_density",
    "compute_tissue_fractions",
    "estimate_fods",
    "estimate_response_function",
    "find_fod_peaks",
    "locate_fod_peaks",
    "segment_fods",
    "split_vector_volume",
]
