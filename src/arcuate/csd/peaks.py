"""Peaks of fibre orientation distributions as a step, and the form in which files hold them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np

from arcuate.cache import cacheable
from arcuate.csd.fods import compute_csd_fods, estimate_fods
from arcuate.csd.responses import estimate_response_function
from arcuate.errors import InputError
from arcuate.models.peak_rule import PeakRule, peak_rule_of
from arcuate.models.peaks import find_peaks
from arcuate.models.response import Response
from arcuate.volumes.resource import VolumeResource, describe_grid
from arcuate.volumes.scan import Scan
from arcuate.volumes.voxels import check_mask, masked_blocks, scatter

N_WRITTEN = 3  # peaks of a voxel in files, as MRtrix3 and TractSeg take them, unless more are asked for


@cacheable(version=3, outputs=("fod_peak_dirs", "fod_peak_values"))
def find_fod_peaks(
    fods: VolumeResource,
    mask: VolumeResource | None = None,
    *,
    n_peaks: int = 5,
    relative_peak_threshold: float | None = None,
    min_separation_angle: float | None = None,
    min_amplitude: float | None = None,
    response: Response | None = None,
) -> tuple[VolumeResource, VolumeResource]:
    """Peaks of an image of FODs (MRtrix3's basis): directions (x, y, z, n_peaks, 3), values (x, y, z, n_peaks).

    Parameters
    ----------
    fods : (x, y, z, n_coef), such as :func:`compute_csd_fods` returns
    mask : (x, y, z), where to look; every voxel without it
    relative_peak_threshold, min_separation_angle, min_amplitude
        See :func:`arcuate.models.peaks.find_peaks`; by default the rule of the response,
        :func:`arcuate.models.peak_rule.peak_rule_of`. 0, 0 and 0 give every maximum, as MRtrix3's ``sh2peaks -num``.
    response : of the FODs; without it they count as made by the soft method
    """
    rule = peak_rule_of(response).changed(relative_peak_threshold, min_separation_angle, min_amplitude)
    inside = check_mask(fods, mask)
    n_vox = int(inside.sum())
    directions = np.zeros((n_vox, n_peaks, 3), np.float32)
    values = np.zeros((n_vox, n_peaks), np.float32)
    for place, rows in masked_blocks(fods.get_array(), inside):
        peaks = find_peaks(rows, n_peaks=n_peaks, **rule._asdict())
        directions[place], values[place] = peaks.directions, peaks.values
    return fods.with_array(scatter(directions, inside)), fods.with_array(scatter(values, inside))


@cacheable(
    version=3,
    outputs=("csd_peak_dirs", "csd_peak_values"),
    calls=(estimate_response_function, estimate_fods, find_fod_peaks),
)
def compute_csd_peaks(
    dwi: Scan,
    mask: VolumeResource | None,
    response: Response | None = None,
    n_peaks: int = 5,
    *,
    relative_peak_threshold: float | None = None,
    min_separation_angle: float | None = None,
    min_amplitude: float | None = None,
    shell: float | None = None,
    lmax: int | None = None,
) -> tuple[VolumeResource, VolumeResource]:
    """Directions and amplitudes of the peaks of the white-matter FODs, strongest first.

    Returns
    -------
    directions : (x, y, z, n_peaks, 3) float32, unit vectors in the scanner frame, 0 where absent
    values : (x, y, z, n_peaks) float32, amplitudes of the FOD, 0 where absent

    See :func:`estimate_fods` for mask, response, shell and lmax; without a response it is that of
    :func:`estimate_response_function`. See :func:`find_fod_peaks` for n_peaks, relative_peak_threshold,
    min_separation_angle (degrees) and min_amplitude, by default those of the response.
    """
    if response is None:
        response = estimate_response_function(dwi, mask, shell=shell)
    fods = compute_csd_fods(dwi, mask, response, shell=shell, lmax=lmax)
    return find_fod_peaks(
        fods,
        mask,
        n_peaks=n_peaks,
        relative_peak_threshold=relative_peak_threshold,
        min_separation_angle=min_separation_angle,
        min_amplitude=min_amplitude,
        response=response,
    )


@dataclass(frozen=True, eq=False)
class FodPeaks:
    """Peaks of an image of FODs, strongest first, and how they were chosen."""

    directions: VolumeResource  # (x, y, z, n_peaks, 3) float32, unit vectors in the scanner frame, 0 where absent
    values: VolumeResource  # (x, y, z, n_peaks) float32, amplitudes, 0 where absent
    parameters: dict[str, Any]  # as a sidecar says them

    def __repr__(self) -> str:
        found = int(np.count_nonzero(np.asarray(self.values.get_array())))
        return f"FodPeaks({found} peaks; {describe_grid(self.values)})"

    def _repr_html_(self) -> str:
        """For notebooks: the strongest peak of each voxel as a colour."""
        return self.directions._repr_html_()

    @property
    def vectors(self) -> VolumeResource:
        """One image (x, y, z, 3 n_peaks), the form in which files hold peaks."""
        return combine_csd_peaks_to_vector_volume(self.directions, self.values)


def locate_fod_peaks(fods: VolumeResource, mask: VolumeResource | None = None, **options: Any) -> FodPeaks:
    """Peaks of an image of FODs with every option that they were found by; see :func:`find_fod_peaks`."""
    call = inspect.signature(inspect.unwrap(find_fod_peaks)).bind(fods, mask, **options)
    call.apply_defaults()
    directions, values = find_fod_peaks(fods, mask, **options)
    given = (call.arguments[name] for name in PeakRule._fields)
    rule = peak_rule_of(call.arguments["response"]).changed(*given)
    used = {
        "NPeaks": call.arguments["n_peaks"],
        "RelativePeakThreshold": rule.relative_peak_threshold,
        "MinSeparationAngle": rule.min_separation_angle,
        "MinAmplitude": rule.min_amplitude,
    }
    return FodPeaks(directions, values, used)


def combine_csd_peaks_to_vector_volume(directions: VolumeResource, values: VolumeResource) -> VolumeResource:
    """One image (x, y, z, 3 n_peaks) float32: x y z of each peak, its length the amplitude, 0 where absent.

    The form in which MRtrix3 and TractSeg read peaks. ``directions`` (x, y, z, n, 3) and ``values`` (x, y, z, n) are
    those of :func:`compute_csd_peaks`.
    """
    arrow, height = np.asarray(directions.get_array()), np.asarray(values.get_array())
    if arrow.ndim != 5 or arrow.shape[-1] != 3 or arrow.shape[:-1] != height.shape:
        raise InputError(
            f"found directions of shape {arrow.shape} and values of shape {height.shape}; expected (x, y, z, n, 3) and "
            "(x, y, z, n), as compute_csd_peaks returns them."
        )
    vectors = (arrow * height[..., None]).astype(np.float32, copy=False)
    vectors[np.isnan(vectors)] = 0.0
    return directions.with_array(vectors.reshape(*height.shape[:3], -1))


def split_vector_volume(vectors: VolumeResource) -> tuple[VolumeResource, VolumeResource]:
    """Directions and values from an image of peaks (x, y, z, 3 n), ours or MRtrix3's: 0 and NaN are absent."""
    array = np.nan_to_num(np.asarray(vectors.get_array(), dtype=np.float32), nan=0.0)
    if array.ndim != 4 or array.shape[3] % 3:
        raise InputError(f"found an image of shape {array.shape}; expected peaks (x, y, z, 3 n): x y z for each.")
    arrow = array.reshape(*array.shape[:3], -1, 3)
    height = np.linalg.norm(arrow, axis=-1)
    unit = np.divide(arrow, height[..., None], out=np.zeros_like(arrow), where=height[..., None] > 0)
    return vectors.with_array(unit), vectors.with_array(height)
