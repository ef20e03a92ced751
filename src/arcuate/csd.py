"""Spherical deconvolution as steps: response functions, fibre orientation distributions and their peaks."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from arcuate.cache import cacheable
from arcuate.errors import InputError, InputWarning
from arcuate.models.csd import choose_lmax, choose_shell, find_shell_of, make_csd_system
from arcuate.models.multitissue import make_multi_tissue_model, tissue_fractions, total_fibre_density
from arcuate.models.peaks import find_peaks
from arcuate.models.response import Response, check_response
from arcuate.models.response_ssst import estimate_recursive, estimate_ssst
from arcuate.models.status import count_status
from arcuate.numerics.sh import n_coefs
from arcuate.resource import InMemoryVolumeResource, VolumeResource
from arcuate.voxels import check_mask, masked_blocks, scatter

if TYPE_CHECKING:
    from arcuate.dwi import Dwi

# Algorithms that need the image's geometry or all shells: "module:function", called as
# function(dwi, inside, shell=..., lmax=...) -> Response.
MULTI_SHELL_ALGORITHMS: dict[str, str] = {
    "tournier": "arcuate.responses:estimate_tournier",
    "dhollander": "arcuate.responses:estimate_dhollander",
}
ALGORITHMS = ("auto", "ssst", "recursive", "tournier", "dhollander")


@dataclass(frozen=True, eq=False)
class Fods:
    """Fibre orientation distributions of a scan.

    Parameters
    ----------
    volumes : one image per tissue, white matter first, (x, y, z, n_coef) float32
        MRtrix3's basis, scanner frame; an isotropic tissue has one coefficient.
    status : (x, y, z) uint8, see :class:`arcuate.models.status.Status`
    parameters : how they were made, and how many voxels ended how
    kkt_residual : (x, y, z) float32, of multi-tissue CSD: how far a solution is from the conditions it must meet
    """

    volumes: dict[str, VolumeResource]
    status: VolumeResource | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    kkt_residual: VolumeResource | None = None


@cacheable(version=2)
def estimate_response_function(
    dwi: Dwi,
    mask: VolumeResource | None = None,
    algorithm: str = "auto",
    *,
    shell: float | None = None,
    lmax: int | None = None,
    fa_threshold: float = 0.7,
    roi_radius: float = 10.0,
) -> Response:
    """Response function of the scan; it decides which model later steps fit.

    Parameters
    ----------
    mask : (x, y, z), where to look; every voxel without it
    algorithm : str
        ``auto``: ``tournier`` (2013, single fibres chosen in rounds) on one shell, ``dhollander`` (2019, three
        tissues) on two or more. ``ssst``: mean tensor of
        the voxels with high FA near the centre of the mask. ``recursive``: calibrated on voxels with a single peak.
    shell : s/mm²
        Shell for the algorithms that take one; by default the highest with directions enough for ``lmax``.
    lmax : even degree up to 12; by default 8, or what the directions of the shell carry
    fa_threshold, roi_radius
        For ``ssst``: FA above the threshold, at most so many voxels from the centre of the mask along each axis.

    Raises
    ------
    InputError
        An unknown algorithm, a scan without the shells it needs, or a response that cannot be that of fibres.
    """
    name = _resolve(algorithm, dwi, shell)
    inside = check_mask(dwi.volume, mask)
    if name in MULTI_SHELL_ALGORITHMS:
        module, function = MULTI_SHELL_ALGORITHMS[name].split(":")
        response: Response = getattr(importlib.import_module(module), function)(dwi, inside, shell=shell, lmax=lmax)
    else:
        response = _estimate_on_one_shell(name, dwi, inside, shell, lmax, fa_threshold, roi_radius)
    check_response(response)
    return response if lmax is None else response.with_origin(lmax=lmax)


@cacheable(version=2)
def estimate_fods(
    dwi: Dwi,
    mask: VolumeResource | None,
    response: Response,
    *,
    shell: float | None = None,
    lmax: int | None = None,
    constraint_directions: np.ndarray | None = None,
) -> Fods:
    """Fibre orientation distributions of all tissues of the response.

    Parameters
    ----------
    mask : (x, y, z), where to fit; every voxel if None
    response : decides the model: single-shell CSD for one tissue on one shell, multi-tissue CSD otherwise
    shell : s/mm², only to say which shell a response without b-value belongs to
    lmax : degree of the white-matter FOD; by default that of the response, at most 8
    constraint_directions : (n, 3) float, where the FOD is held non-negative; a fixed set by default

    Raises
    ------
    InputError
        The response was made on shells that the scan does not have, or cannot be that of fibres.
    """
    if not response.is_single_shell:
        return _estimate_multi_tissue(dwi, mask, response, lmax=lmax, constraint_directions=constraint_directions)
    inside = check_mask(dwi.volume, mask)
    n_vox = int(inside.sum())
    coefs, status = np.zeros((0, 0), np.float32), np.zeros(n_vox, np.uint8)
    fit, volumes, parameters = _prepare(dwi, response, shell, lmax, constraint_directions)
    for place, rows in masked_blocks(dwi.volume.get_array(), inside, volumes=volumes):
        block = fit(rows)
        if not coefs.size:
            coefs = np.zeros((n_vox, block.coefs.shape[1]), np.float32)
        coefs[place], status[place] = block.coefs, block.status
    parameters["VoxelsByStatus"] = count_status(status)
    return Fods(
        {response.tissues[0]: _volume(scatter(coefs, inside), dwi.volume)},
        _volume(scatter(status, inside, np.uint8), dwi.volume),
        parameters,
    )


def compute_csd_fods(
    dwi: Dwi,
    mask: VolumeResource | None,
    response: Response,
    *,
    shell: float | None = None,
    lmax: int | None = None,
) -> VolumeResource:
    """White-matter FODs (x, y, z, n_coef) float32, MRtrix3's basis, scanner frame.

    See :func:`estimate_fods` for mask, response, shell and lmax.
    """
    fods = estimate_fods(dwi, mask, response, shell=shell, lmax=lmax)
    return fods.volumes[response.tissues[0]]


@cacheable(version=2, outputs=("csd_peak_dirs", "csd_peak_values"))
def compute_csd_peaks(
    dwi: Dwi,
    mask: VolumeResource | None,
    response: Response,
    n_peaks: int = 5,
    *,
    relative_peak_threshold: float = 0.5,
    min_separation_angle: float = 25.0,
    shell: float | None = None,
    lmax: int | None = None,
) -> tuple[VolumeResource, VolumeResource]:
    """Directions and amplitudes of the peaks of the white-matter FODs, strongest first.

    Returns
    -------
    directions : (x, y, z, n_peaks, 3) float32, unit vectors in the scanner frame, 0 where absent
    values : (x, y, z, n_peaks) float32, amplitudes of the FOD, 0 where absent

    See :func:`estimate_fods` for mask, response, shell and lmax; :func:`arcuate.models.peaks.find_peaks` for n_peaks,
    relative_peak_threshold and min_separation_angle (degrees).
    """
    fods = compute_csd_fods(dwi, mask, response, shell=shell, lmax=lmax)
    return find_fod_peaks(
        fods,
        mask,
        n_peaks=n_peaks,
        relative_peak_threshold=relative_peak_threshold,
        min_separation_angle=min_separation_angle,
    )


@cacheable(version=2, outputs=("fod_peak_dirs", "fod_peak_values"))
def find_fod_peaks(
    fods: VolumeResource,
    mask: VolumeResource | None = None,
    *,
    n_peaks: int = 5,
    relative_peak_threshold: float = 0.5,
    min_separation_angle: float = 25.0,
    min_amplitude: float = 0.0,
) -> tuple[VolumeResource, VolumeResource]:
    """Peaks of an image of FODs (MRtrix3's basis): directions (x, y, z, n_peaks, 3), values (x, y, z, n_peaks).

    Parameters
    ----------
    fods : (x, y, z, n_coef), such as :func:`compute_csd_fods` returns
    mask : (x, y, z), where to look; every voxel without it
    n_peaks, relative_peak_threshold, min_separation_angle, min_amplitude
        See :func:`arcuate.models.peaks.find_peaks`.
    """
    inside = check_mask(fods, mask)
    n_vox = int(inside.sum())
    directions = np.zeros((n_vox, n_peaks, 3), np.float32)
    values = np.zeros((n_vox, n_peaks), np.float32)
    for place, rows in masked_blocks(fods.get_array(), inside):
        peaks = find_peaks(
            rows,
            n_peaks=n_peaks,
            relative_peak_threshold=relative_peak_threshold,
            min_separation_angle=min_separation_angle,
            min_amplitude=min_amplitude,
        )
        directions[place], values[place] = peaks.directions, peaks.values
    return _volume(scatter(directions, inside), fods), _volume(scatter(values, inside), fods)


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
    vectors = np.nan_to_num(arrow * height[..., None], nan=0.0).astype(np.float32)
    return _volume(vectors.reshape(*height.shape[:3], -1), directions)


def split_vector_volume(vectors: VolumeResource) -> tuple[VolumeResource, VolumeResource]:
    """Directions and values from an image of peaks (x, y, z, 3 n), ours or MRtrix3's: 0 and NaN are absent."""
    array = np.nan_to_num(np.asarray(vectors.get_array(), dtype=np.float32), nan=0.0)
    if array.ndim != 4 or array.shape[3] % 3:
        raise InputError(f"found an image of shape {array.shape}; expected peaks (x, y, z, 3 n): x y z for each.")
    arrow = array.reshape(*array.shape[:3], -1, 3)
    height = np.linalg.norm(arrow, axis=-1)
    unit = np.divide(arrow, height[..., None], out=np.zeros_like(arrow), where=height[..., None] > 0)
    return _volume(unit, vectors), _volume(height, vectors)


def _resolve(algorithm: str, dwi: Dwi, shell: float | None) -> str:
    """The algorithm behind a name."""
    if algorithm not in ALGORITHMS:
        raise InputError(f"found the response algorithm {algorithm!r}; expected one of {', '.join(ALGORITHMS)}.")
    name = algorithm
    if algorithm == "auto":
        name = "tournier" if shell is not None or len(dwi.gradients.shells) == 1 else "dhollander"
    if name not in {"ssst", "recursive", *MULTI_SHELL_ALGORITHMS}:
        raise InputError(f"the response algorithm {name} is not there yet; take 'ssst' or 'recursive'.")
    return name


def _estimate_on_one_shell(
    name: str,
    dwi: Dwi,
    inside: np.ndarray,
    shell: float | None,
    lmax: int | None,
    fa_threshold: float,
    roi_radius: float,
) -> Response:
    found, degree = choose_shell(dwi.gradients, shell=shell, lmax=lmax)
    volumes = np.sort(np.concatenate([np.flatnonzero(dwi.gradients.is_b0), found.indices]))
    table = dwi.gradients.subset(volumes)
    if name == "ssst":
        inside = inside & _near_centre(inside, roi_radius)
    rows = np.concatenate([r for _, r in masked_blocks(dwi.volume.get_array(), inside, volumes=volumes)])
    if name == "ssst":
        return estimate_ssst(rows, table, lmax=degree, fa_threshold=fa_threshold)
    return estimate_recursive(rows, table, lmax=degree)


def _near_centre(inside: np.ndarray, radius: float) -> np.ndarray:
    """Voxels within ``radius`` voxels of the centre of the mask's box along every axis."""
    near = np.ones(inside.shape, dtype=bool)
    for axis in range(3):
        found = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        distance = np.abs(np.arange(inside.shape[axis]) - (found[0] + found[-1]) / 2)
        near &= (distance <= radius).reshape([-1 if a == axis else 1 for a in range(3)])
    return near


def _prepare(
    dwi: Dwi, response: Response, shell: float | None, lmax: int | None, directions: np.ndarray | None
) -> tuple[Callable[[np.ndarray], Any], np.ndarray, dict[str, Any]]:
    """The fit of rows of the response's shell, those volumes, and the facts for the sidecar."""
    check_response(response)
    found = find_shell_of(response, dwi.gradients, shell=shell)
    if math.isnan(response.shells[0]):
        warnings.warn(
            f"the response does not say which shell it was made on; taken as b={found.b:.0f} s/mm². Add the line "
            f"'# Shells: {found.b:.0f}' to its file, or give --shell.",
            InputWarning,
            stacklevel=4,
        )
    degree = choose_lmax(response, dwi.gradients, found, lmax)
    zonal = response.get_zonal()
    system = make_csd_system(dwi.gradients.directions[found.indices], zonal, degree, constraint_directions=directions)
    facts = {
        "Model": "single-shell constrained spherical deconvolution",
        "ShellUsed": float(round(found.b)),
        "VolumesUsed": [int(i) for i in found.indices],
        "B0Threshold": dwi.gradients.b0_threshold,
        "Lmax": degree,
        "Tau": system.tau,
        "MaxIterations": system.max_iterations,
        "ConstraintDirections": len(system.penalty),
        "Response": response.to_dict(),
    }
    return system.fit, found.indices, facts


def _estimate_multi_tissue(
    dwi: Dwi,
    mask: VolumeResource | None,
    response: Response,
    *,
    lmax: int | None,
    constraint_directions: np.ndarray | None,
) -> Fods:
    inside = check_mask(dwi.volume, mask)
    n_vox = int(inside.sum())
    model = make_multi_tissue_model(dwi.gradients, response, lmax=lmax, constraint_directions=constraint_directions)
    coefs = [np.zeros((n_vox, n_coefs(degree)), np.float32) for degree in model.lmax]
    status, residual = np.zeros(n_vox, np.uint8), np.zeros(n_vox, np.float32)
    for place, rows in masked_blocks(dwi.volume.get_array(), inside, volumes=model.volumes):
        block = model.fit(rows)
        for out, part in zip(coefs, block.coefs, strict=True):
            out[place] = part
        status[place], residual[place] = block.status, block.kkt_residual
    facts = {
        "Model": "multi-tissue constrained spherical deconvolution",
        "Tissues": list(response.tissues),
        "ShellsUsed": [float(round(b)) for b in response.shells],
        "VolumesUsed": [int(i) for i in model.volumes],
        "B0Threshold": dwi.gradients.b0_threshold,
        "Lmax": dict(zip(response.tissues, model.lmax, strict=True)),
        "Constraints": len(model.problem.constraints),
        "LargestKktResidual": float(residual.max(initial=0.0)),
        "VoxelsByStatus": count_status(status),
        "Response": response.to_dict(),
    }
    volumes: dict[str, VolumeResource] = {
        tissue: _volume(scatter(part, inside), dwi.volume) for tissue, part in zip(response.tissues, coefs, strict=True)
    }
    return Fods(
        volumes,
        _volume(scatter(status, inside, np.uint8), dwi.volume),
        facts,
        _volume(scatter(residual, inside), dwi.volume),
    )


def compute_tissue_fractions(fods: Fods) -> VolumeResource:
    """Share of each tissue (x, y, z, n_tissue) float32, in the order of ``fods.volumes``; 0 outside the mask."""
    volumes = list(fods.volumes.values())
    return _volume(tissue_fractions([v.get_array() for v in volumes]).astype(np.float32), volumes[0])


def compute_fibre_density(fods: VolumeResource) -> VolumeResource:
    """Total apparent fibre density (x, y, z) float32: the integral of each FOD over the sphere.

    Along a peak it is the amplitude of the FOD, which :func:`compute_csd_peaks` returns as its values.
    """
    return _volume(total_fibre_density(fods.get_array()).astype(np.float32), fods)


def _volume(array: np.ndarray, like: VolumeResource) -> InMemoryVolumeResource:
    return InMemoryVolumeResource(array, like.get_affine(), like.get_metadata())
