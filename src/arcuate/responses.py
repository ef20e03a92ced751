"""Responses of a scan that need its geometry, or all of its shells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arcuate.errors import InputError
from arcuate.models.csd import choose_shell
from arcuate.models.response import Response
from arcuate.models.response_dhollander import estimate_three_tissues
from arcuate.models.response_tournier import choose_single_fibres
from arcuate.models.response_voxels import DEFAULT_LMAX, fibre_response, isotropic_response
from arcuate.voxels import check_mask, masked_blocks, scatter

if TYPE_CHECKING:
    from arcuate.dwi import Dwi
    from arcuate.resource import VolumeResource

EROSION = 3  # voxels taken off the mask's border
LEAST_KEPT = 0.2  # of the mask; an erosion that leaves less is made smaller


def estimate_tournier(
    dwi: Dwi,
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
    dwi: Dwi,
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
    dwi: Dwi, masks: dict[str, VolumeResource], *, lmax: int = DEFAULT_LMAX, directions: np.ndarray | None = None
) -> Response:
    """Response on all shells from a mask per tissue, drawn by hand; the first tissue is that of the fibres.

    Parameters
    ----------
    masks : ``{"wm": mask, "gm": mask, ...}``, white matter first
    directions : (n_vox, 3) float, scanner frame, of the fibres in the voxels of the first mask in NIfTI's order;
        those of the tensor by default
    """
    from arcuate.models.response import merge_responses

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
