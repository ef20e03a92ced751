"""Response functions as a step: which algorithm, and those that need the geometry of the scan or all of its shells."""

from __future__ import annotations

import numpy as np

from arcuate.cache import cacheable
from arcuate.errors import InputError
from arcuate.models.csd import choose_shell
from arcuate.models.response import Response, check_response, merge_responses
from arcuate.models.response_dhollander import estimate_three_tissues
from arcuate.models.response_ssst import estimate_recursive, estimate_ssst
from arcuate.models.response_tournier import choose_single_fibres
from arcuate.models.response_voxels import DEFAULT_LMAX, fibre_response, isotropic_response
from arcuate.volumes.resource import VolumeResource
from arcuate.volumes.scan import Scan
from arcuate.volumes.voxels import check_mask, masked_blocks, scatter

ALGORITHMS = ("auto", "ssst", "recursive", "tournier", "dhollander")
EROSION = 3  # voxels taken off the mask's border
LEAST_KEPT = 0.2  # of the mask; an erosion that leaves less is made smaller


@cacheable(version=2)
def estimate_response_function(
    dwi: Scan,
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
    if name == "tournier":
        response = estimate_tournier(dwi, inside, shell=shell, lmax=lmax)
    elif name == "dhollander":
        response = estimate_dhollander(dwi, inside, shell=shell, lmax=lmax)
    else:
        response = _estimate_on_one_shell(name, dwi, inside, shell, lmax, fa_threshold, roi_radius)
    check_response(response)
    return response if lmax is None else response.with_origin(lmax=lmax)


def estimate_tournier(
    dwi: Scan,
    inside: np.ndarray,
    *,
    shell: float | None = None,
    lmax: int | None = None,
    n_voxels: int = 300,
) -> Response:
    """Single-shell response by Tournier's (2013) rounds.

    See :func:`~arcuate.models.response_tournier.choose_single_fibres`.
    """
    from scipy.ndimage import binary_dilation

    found, degree = choose_shell(dwi.gradients, shell=shell, lmax=lmax)
    array = dwi.volume.get_array()
    rows = np.concatenate([block for _, block in masked_blocks(array, inside, volumes=found.indices)])

    def widen(good: np.ndarray) -> np.ndarray:
        wide = binary_dilation(scatter(good, inside, np.bool_)) & inside
        return wide.ravel(order="F")[np.flatnonzero(inside.ravel(order="F"))]

    single = choose_single_fibres(
        rows, dwi.gradients.directions[found.indices], widen, lmax=degree, n_voxels=n_voxels, n_candidates=10 * n_voxels
    )
    facts = {
        "n_voxels": len(single.chosen),
        "n_rounds": single.n_rounds,
        "settled": single.is_settled,
        "shell": found.b,
    }
    bvals, table = np.array([found.b]), single.zonal[None]
    if dwi.gradients.is_b0.any():
        picked = np.zeros(len(rows), bool)
        picked[single.chosen] = True
        at_b0 = np.flatnonzero(dwi.gradients.is_b0)
        blocks = masked_blocks(array, scatter(picked, inside, np.bool_), volumes=at_b0)
        mean = float(np.mean(np.concatenate([block for _, block in blocks]), dtype=np.float64))
        bvals = np.array([0.0, found.b])
        table = np.vstack([np.eye(1, len(single.zonal))[0] * mean * np.sqrt(4 * np.pi), single.zonal])
    return Response(("wm",), bvals, (table,), "tournier", facts)


def estimate_dhollander(
    dwi: Scan,
    inside: np.ndarray,
    *,
    shell: float | None = None,
    lmax: int | None = None,
    erosion: int = EROSION,
) -> Response:
    """Responses of three tissues on all shells; see :func:`~arcuate.models.response_dhollander.estimate_three_tissues`.

    The mask is eroded first, less than ``erosion`` voxels where that would leave under a fifth of it.
    """
    if shell is not None:
        raise InputError(
            "dhollander's responses are made on all shells; found a single shell asked for. Take algorithm 'tournier', "
            "or leave the shell out."
        )
    if len(dwi.gradients.shells) == 0:
        raise InputError("found no weighted volume; dhollander's responses need one shell at least.")
    core, n_eroded = erode(inside, erosion)
    rows = np.concatenate([block for _, block in masked_blocks(dwi.volume.get_array(), core)])
    response, _ = estimate_three_tissues(rows, dwi.gradients, lmax=DEFAULT_LMAX if lmax is None else lmax)
    return response.with_origin(erosion=n_eroded, n_voxels_looked_at=len(rows))


def response_from_masks(
    dwi: Scan, masks: dict[str, VolumeResource], *, lmax: int = DEFAULT_LMAX, directions: np.ndarray | None = None
) -> Response:
    """Response on all shells from a mask per tissue, drawn by hand; the first tissue is that of the fibres.

    Parameters
    ----------
    masks : ``{"wm": mask, "gm": mask, ...}``, white matter first
    directions : (n_vox, 3) float, scanner frame, of the fibres in the voxels of the first mask in NIfTI's order;
        those of the tensor by default
    """
    parts: list[Response] = []
    for tissue, mask in masks.items():
        inside = check_mask(dwi.volume, mask)
        rows = np.concatenate([block for _, block in masked_blocks(dwi.volume.get_array(), inside)])
        if parts:
            parts.append(isotropic_response(rows, dwi.gradients, tissue))
        else:
            parts.append(fibre_response(rows, dwi.gradients, directions, lmax=lmax, tissue=tissue))
    counts = {tissue: part.made_from["n_voxels"] for tissue, part in zip(masks, parts, strict=True)}
    merged = merge_responses(parts)
    return Response(merged.tissues, merged.bvals, merged.coefs, "manual", {"n_voxels_of_tissues": counts})


def erode(inside: np.ndarray, n_steps: int) -> tuple[np.ndarray, int]:
    """The mask (x, y, z) bool without its border of ``n_steps`` voxels, fewer where little is left, and how many."""
    from scipy.ndimage import binary_erosion

    for n in range(n_steps, 0, -1):
        core = binary_erosion(inside, iterations=n)
        if core.sum() >= LEAST_KEPT * inside.sum():
            return core, n
    return inside, 0


def _resolve(algorithm: str, dwi: Scan, shell: float | None) -> str:
    """The algorithm behind a name."""
    if algorithm not in ALGORITHMS:
        raise InputError(f"found the response algorithm {algorithm!r}; expected one of {', '.join(ALGORITHMS)}.")
    if algorithm == "auto":
        return "tournier" if shell is not None or len(dwi.gradients.shells) == 1 else "dhollander"
    return algorithm


def _estimate_on_one_shell(
    name: str,
    dwi: Scan,
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
