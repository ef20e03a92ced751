"""Response functions as a step: which algorithm, and those that need the geometry of the scan or all of its shells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from arcuate.cache import cacheable, storable
from arcuate.errors import InputError, NotApplicable, warn
from arcuate.gradients import NO_B0, GradientTable
from arcuate.models.csd import check_lmax, choose_shell
from arcuate.models.response import Response
from arcuate.models.response_checks import check_response
from arcuate.models.response_dhollander import (
    THREE_TISSUES,
    TWO_TISSUES,
    Choice,
    check_tissue_gradients,
    estimate_tissues,
)
from arcuate.models.response_ssst import estimate_recursive, estimate_ssst
from arcuate.models.response_tournier import choose_single_fibres
from arcuate.models.response_voxels import DEFAULT_LMAX
from arcuate.models.three_tissue import can_have_three_tissues, grey_and_fluid, is_three_tissue
from arcuate.volumes.resource import VolumeResource
from arcuate.volumes.scan import Scan
from arcuate.volumes.signals import read_signals
from arcuate.volumes.voxels import check_mask, masked_rows, scatter

storable(Response)

ALGORITHMS = ("auto", "ssst", "recursive", "tournier", "dhollander")
EROSION = 3  # voxels taken off the mask's border
ROI_RADIUS = 10.0  # voxels
LEAST_KEPT = 0.2  # of the mask; an erosion that leaves less is made smaller


@cacheable(version=7)
def estimate_response_function(
    dwi: Scan,
    mask: VolumeResource | None = None,
    algorithm: str = "auto",
    *,
    shell: float | None = None,
    lmax: int | None = None,
    fa_threshold: float | None = None,
    roi_radius: float | None = None,
) -> Response:
    """Response function of the scan; it decides which model later steps fit.

    Parameters
    ----------
    mask : (x, y, z), where to look; every voxel without it
    algorithm : str
        ``auto``: ``dhollander`` (2019, three tissues; two where three cannot be had) on two shells or more, and on
        one shell of at least 18 directions with b = 0; ``tournier`` (2013, single fibres chosen in rounds) on other
        single shells, on the ``shell`` that is asked for, and where dhollander finds no tissues.
        ``ssst``: mean tensor of the voxels with high FA near the centre of the mask. ``recursive``: calibrated on
        voxels with a single peak.
    shell : s/mm²
        Shell for the algorithms that take one; by default the highest with directions enough for ``lmax``.
        dhollander takes all shells and refuses it.
    lmax : even degree up to 12; by default 8, or what the directions of the shell carry
    fa_threshold : FA above which a voxel is a fibre (``ssst``, by default 0.7), or white matter at first
        (``dhollander``, by default 0.2); refused by the others
    roi_radius : voxels from the centre of the mask along each axis, for ``ssst`` alone; by default 10

    Raises
    ------
    NotApplicable
        The scan lacks the shells or the tissues that the algorithm needs, or its response is not that of fibres.
    InputError
        An unknown algorithm, or an option that it does not take.
    """
    name = resolve_algorithm(algorithm, dwi.gradients, shell)
    _check_options(name, shell=shell, fa_threshold=fa_threshold, roi_radius=roi_radius)
    check_lmax(lmax)
    inside = check_mask(dwi.volume, mask)
    choice = Choice() if fa_threshold is None else Choice(fa_threshold=fa_threshold)
    if algorithm == "auto" and name == "dhollander":
        response = _estimate_what_can_be_had(dwi, inside, lmax=lmax, choice=choice)
    elif name == "tournier":
        response = estimate_tournier(dwi, inside, shell=shell, lmax=lmax)
    elif name == "dhollander":
        response = estimate_dhollander(dwi, inside, lmax=lmax, choice=choice)
    else:
        response = _estimate_on_one_shell(name, dwi, inside, shell, lmax, fa_threshold, roi_radius)
    check_response(response)
    return replace(response, lmax=lmax)


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
    array = read_signals(dwi, inside, np.append(found.indices, np.flatnonzero(dwi.gradients.is_b0)))
    rows = masked_rows(array, inside, volumes=found.indices)

    def widen(good: np.ndarray) -> np.ndarray:
        wide = binary_dilation(scatter(good, inside, np.bool_)) & inside
        return wide.ravel(order="F")[np.flatnonzero(inside.ravel(order="F"))]

    single = choose_single_fibres(
        rows, dwi.gradients.directions[found.indices], widen, lmax=degree, n_voxels=n_voxels, n_candidates=10 * n_voxels
    )
    facts = {
        "n_rounds": single.n_rounds,
        "settled": single.is_settled,
        "shell": found.b,
    }
    bvals, table = np.array([found.b]), single.zonal[None]
    if dwi.gradients.is_b0.any():
        picked = np.zeros(len(rows), bool)
        picked[single.chosen] = True
        at_b0 = np.flatnonzero(dwi.gradients.is_b0)
        signals = masked_rows(array, scatter(picked, inside, np.bool_), volumes=at_b0)
        signals = signals[np.isfinite(signals)]
        if not len(signals):
            raise NotApplicable(
                "the b=0 volumes hold no number in the voxels of single fibres; leave such volumes out (--exclude)."
            )
        mean = float(np.mean(signals, dtype=np.float64))
        bvals = np.array([0.0, found.b])
        table = np.vstack([np.eye(1, len(single.zonal))[0] * mean * np.sqrt(4 * np.pi), single.zonal])
    return Response(
        ("wm",),
        bvals,
        (table,),
        "tournier",
        facts,
        n_voxels=len(single.chosen),
        b0_threshold=dwi.gradients.b0_threshold,
    )


def estimate_dhollander(
    dwi: Scan,
    inside: np.ndarray,
    tissues: tuple[str, ...] = (),
    *,
    lmax: int | None = None,
    erosion: int = EROSION,
    choice: Choice | None = None,
) -> Response:
    """Responses of three tissues on all shells; see :func:`~arcuate.models.response_dhollander.estimate_tissues`.

    The mask is eroded first, less than ``erosion`` voxels where that would leave under a fifth of it.

    Parameters
    ----------
    tissues : by default those that the b-values allow, see :func:`tissues_of`
    """
    check_tissue_gradients(dwi.gradients)
    tissues = tissues or tissues_of(dwi)
    if lmax is None and can_have_three_tissues(dwi.gradients):
        lmax = DEFAULT_LMAX  # many voxels at many angles determine it, however few the directions
    if not dwi.gradients.is_b0.any():
        _warn_of_missing_b0(dwi, tissues)
    core, n_eroded = erode(inside, erosion)
    rows = masked_rows(read_signals(dwi, core), core)
    response, _ = estimate_tissues(rows, dwi.gradients, tissues, lmax=lmax, choice=choice)
    return response.with_origin(erosion=n_eroded, n_voxels_looked_at=len(rows))


def tissues_of(dwi: Scan) -> tuple[str, ...]:
    """Tissues that the b-values of a scan allow: three; white matter and fluid on two shells without b = 0."""
    gradients = dwi.gradients
    return THREE_TISSUES if gradients.is_b0.any() or len(gradients.shells) > len(TWO_TISSUES) else TWO_TISSUES


def _estimate_what_can_be_had(dwi: Scan, inside: np.ndarray, *, lmax: int | None, choice: Choice) -> Response:
    """Three tissues, else two, else white matter on one shell: what "auto" does where a scan allows no more.

    On one shell there is no second choice of two tissues: the soft method resolves more than a hard constraint with
    white matter and fluid, and both see fibres in grey matter. The response says in ``made_from`` why there are fewer,
    and a warning does.
    """
    reasons: list[str] = []
    choices = (tissues_of(dwi), TWO_TISSUES) if len(dwi.gradients.shells) > 1 else (THREE_TISSUES,)
    for tissues in dict.fromkeys(choices):
        try:
            response = estimate_dhollander(dwi, inside, tissues, lmax=lmax, choice=choice)
            check_response(response)
            if is_three_tissue(response):
                grey_and_fluid(response)
        except NotApplicable as reason:
            reasons.append(str(reason))
            continue
        return _said_why(response, f"the responses of {' and '.join(tissues)} alone", reasons)
    try:
        response = estimate_tournier(dwi, inside, lmax=lmax)
        check_response(response)
    except NotApplicable as error:
        why = reasons[0].partition(";")[0].rstrip(".")
        raise NotApplicable(f"no tissues can be told apart ({why}), and on one shell: {error}") from error
    return _said_why(response, f"tournier's response of white matter on b={response.shells[0]:.0f} s/mm²", reasons)


def _said_why(response: Response, what: str, reasons: list[str]) -> Response:
    """The response with the reason why there is no more, after a warning; as it is where there is none."""
    if not reasons:
        return response
    reason = reasons[0].partition(";")[0].rstrip(".")
    warn(f"three tissues cannot be had ({reason}): taking {what}.")
    return response.with_origin(fewer_tissues_because=reason)


def _warn_of_missing_b0(dwi: Scan, tissues: tuple[str, ...]) -> None:
    shells = dwi.gradients.shells
    if len(shells) > 1:
        warn(
            f"{NO_B0}: the lowest shell, b={shells[0].b:.0f} s/mm², stands for it in the choice of voxels, "
            f"and the responses are those of {', '.join(tissues)}."
        )


def erode(inside: np.ndarray, n_steps: int) -> tuple[np.ndarray, int]:
    """The mask (x, y, z) bool without its border of ``n_steps`` voxels, fewer where little is left, and how many."""
    from scipy.ndimage import binary_erosion

    for n in range(n_steps, 0, -1):
        core = binary_erosion(inside, iterations=n)
        if core.sum() >= LEAST_KEPT * inside.sum():
            return core, n
    return inside, 0


def check_response_gradients(gradients: GradientTable, algorithm: str = "auto") -> None:
    """Refuse an algorithm that the b-values and directions of a scan rule out, before a voxel is read.

    Raises
    ------
    NotApplicable
        No shell, too few b-values or directions, or no b = 0 where the algorithm needs it.
    """
    if not gradients.shells:
        raise NotApplicable("found no weighted volume; a response needs one shell at least.")
    try:
        if algorithm == "dhollander" or (algorithm == "auto" and len(gradients.shells) > 1):
            check_tissue_gradients(gradients)
            return
    except NotApplicable:
        if algorithm == "dhollander":
            raise
    choose_shell(gradients)
    if algorithm in {"ssst", "recursive"}:
        gradients.require_b0(f"the response algorithm {algorithm}")


def resolve_algorithm(algorithm: str, gradients: GradientTable, shell: float | None = None) -> str:
    """The algorithm behind a name, by shells and directions.

    Raises
    ------
    InputError
        There is no algorithm of that name.
    """
    if algorithm not in ALGORITHMS:
        raise InputError(f"found the response algorithm {algorithm!r}; expected one of {', '.join(ALGORITHMS)}.")
    if algorithm == "auto":
        has_tissues = len(gradients.shells) > 1 or can_have_three_tissues(gradients)
        return "dhollander" if shell is None and has_tissues else "tournier"
    return algorithm


def _check_options(name: str, *, shell: float | None, fa_threshold: float | None, roi_radius: float | None) -> None:
    """Refuse options that the algorithm does not obey."""
    if shell is not None and name == "dhollander":
        raise InputError(
            "dhollander's responses are made on all shells; found a single shell asked for. Take algorithm 'tournier', "
            "or leave the shell out."
        )
    if fa_threshold is not None and name not in {"ssst", "dhollander"}:
        raise InputError(
            f"fa_threshold is for the algorithms ssst and dhollander; {name} does not choose its voxels by it. Leave "
            "fa_threshold out, or take one of the two."
        )
    if fa_threshold is not None and not 0 <= fa_threshold < 1:
        raise InputError(f"found fa_threshold = {fa_threshold}; expected a number from 0 to below 1.")
    if roi_radius is not None and name != "ssst":
        raise InputError(
            f"roi_radius is for the algorithm ssst; {name} looks at the whole mask. Leave roi_radius out, or take ssst."
        )


def _estimate_on_one_shell(
    name: str,
    dwi: Scan,
    inside: np.ndarray,
    shell: float | None,
    lmax: int | None,
    fa_threshold: float | None,
    roi_radius: float | None,
) -> Response:
    found, degree = choose_shell(dwi.gradients, shell=shell, lmax=lmax)
    dwi.gradients.require_b0(f"the response algorithm {name}")
    volumes = np.sort(np.concatenate([np.flatnonzero(dwi.gradients.is_b0), found.indices]))
    table = dwi.gradients.subset(volumes)
    if name == "ssst":
        inside = inside & _near_centre(inside, ROI_RADIUS if roi_radius is None else roi_radius)
    rows = masked_rows(read_signals(dwi, inside, volumes), inside, volumes=volumes)
    if name == "ssst":
        return estimate_ssst(
            rows, table, lmax=degree, **({} if fa_threshold is None else {"fa_threshold": fa_threshold})
        )
    return estimate_recursive(rows, table, lmax=degree)


def _near_centre(inside: np.ndarray, radius: float) -> np.ndarray:
    """Voxels within ``radius`` voxels of the centre of the mask's box along every axis."""
    near = np.ones(inside.shape, dtype=bool)
    for axis in range(3):
        found = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        distance = np.abs(np.arange(inside.shape[axis]) - (found[0] + found[-1]) / 2)
        near &= (distance <= radius).reshape([-1 if a == axis else 1 for a in range(3)])
    return near
