"""Responses of white matter, grey matter and fluid without a segmentation (Dhollander 2016, 2019)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from arcuate.errors import InputError, NotApplicable, silenced_warnings, warn
from arcuate.gradients import GradientTable
from arcuate.models.multitissue import constraint_matrix, forward_matrix
from arcuate.models.peaks import find_peaks
from arcuate.models.response import Response, merge_responses
from arcuate.models.response_voxels import (
    ROWS,
    fibre_response,
    isotropic_response,
    rank_by_tensors,
    shell_rows,
)
from arcuate.models.tensor import select_volumes
from arcuate.numerics.compiled import run_in_chunks
from arcuate.numerics.qp import ConeProblem
from arcuate.numerics.sh import n_coefs
from arcuate.numerics.sphere import get_even_directions

THREE_TISSUES = ("wm", "gm", "csf")
TWO_TISSUES = ("wm", "csf")
MOST_DECAY = 10.0  # the signal decay metric is cut here
FEW_VOXELS = 20  # a tissue of fewer voxels is warned of
EVEN = (480, 300)  # two sets of directions along which a sharp FOD is non-negative; one alone decides ties by chance
RIDGE = 1e-3  # of the largest singular value: added where the signals do not determine the sharp FODs
BLOCK = 20_480  # voxels whose sharp FODs are solved together: whole chunks of the solver
MOST_STEPS = 200  # of a golden section, each of which takes a third off the interval


@dataclass(frozen=True)
class Choice:
    """How voxels are chosen."""

    fa_threshold: float = 0.2  # FA that parts white matter from the rest, at first
    wm_percent: float = 0.5  # how much of each tissue's voxels make its response; at least one voxel
    gm_percent: float = 2.0
    csf_percent: float = 10.0


@dataclass(frozen=True)
class TissueVoxels:
    """Voxels that the responses are made of; indices of rows."""

    wm: np.ndarray
    gm: np.ndarray
    csf: np.ndarray
    wm_directions: np.ndarray  # (n_wm, 3) float, of the fibres
    counts: dict[str, int]  # voxels of each tissue before the last choice


def estimate_tissues(
    signals: np.ndarray,
    gradients: GradientTable,
    tissues: tuple[str, ...] = THREE_TISSUES,
    *,
    lmax: int | None = None,
    choice: Choice | None = None,
) -> tuple[Response, TissueVoxels]:
    """Responses on all shells, and the voxels they are made of.

    Parameters
    ----------
    signals : (n_vox, n_meas) float, all volumes, of an eroded brain mask
    tissues : ``("wm", "gm", "csf")`` or ``("wm", "csf")``
    lmax : degree of white matter, see ``arcuate.models.response_voxels.fibre_response``

    Raises
    ------
    NotApplicable
        Under two b-values, or no voxel of a tissue.

    References
    ----------
    Dhollander, Raffelt, Connelly 2016, ISMRM Workshop on Breaking the Barriers of Diffusion MRI, 5.
    Dhollander, Mito, Raffelt, Connelly 2019, Proc. ISMRM 27:555.
    """
    choice = choice or Choice()
    voxels = choose_tissue_voxels(signals, gradients, tissues, choice=choice)
    white = np.asarray(signals[voxels.wm], dtype=np.float64)
    parts = [fibre_response(white, gradients, voxels.wm_directions, lmax=lmax)]
    parts += [isotropic_response(signals[getattr(voxels, t)], gradients, t) for t in tissues[1:]]
    facts = {
        "n_voxels_of_tissues": {tissue: len(getattr(voxels, tissue)) for tissue in tissues},
        "n_voxels_before_choice": voxels.counts,
        "fa_threshold": choice.fa_threshold,
        "percent_chosen": {tissue: getattr(choice, f"{tissue}_percent") for tissue in tissues},
    }
    merged = merge_responses(parts)
    return replace(merged, algorithm="dhollander", made_from=facts, n_voxels=None), voxels


def choose_tissue_voxels(
    signals: np.ndarray,
    gradients: GradientTable,
    tissues: tuple[str, ...] = THREE_TISSUES,
    *,
    choice: Choice | None = None,
) -> TissueVoxels:
    """Voxels of single-fibre white matter, grey matter and fluid; see :func:`estimate_tissues`.

    Signals stay in their own type: those of a head, twice in double precision, are most of a scan.
    """
    choice = choice or Choice()
    decay, is_usable = signal_decay(signals, gradients)
    usable = np.flatnonzero(is_usable)
    if len(usable) == 0:
        raise NotApplicable("no voxel has a signal that decays from b = 0 to the shells; check the scan and the mask.")
    vectors = np.zeros((len(signals), 3))
    fa, vectors[usable] = rank_by_tensors(signals, gradients, usable)
    is_wm = fa > choice.fa_threshold
    wm, gm, csf = _refine(usable[is_wm], usable[~is_wm], decay)
    if "gm" not in tissues and len(csf) == 0:
        csf = gm  # what is not white matter falls into no two groups
    found = {"wm": wm, "gm": gm, "csf": csf}
    counts = {tissue: len(found[tissue]) for tissue in THREE_TISSUES}
    _check_counts(counts, tissues)
    chosen_csf = _take(csf, -decay[csf], choice.csf_percent)
    middle = float(np.median(decay[gm])) if len(gm) else 0.0
    chosen_gm = _take(gm, np.abs(decay[gm] - middle), choice.gm_percent)
    _warn_of_few({"gm": len(chosen_gm), "csf": len(chosen_csf)}, tissues)
    csf_response = isotropic_response(signals[chosen_csf], gradients, "csf")
    chosen_wm = _single_fibres(signals, gradients, wm, csf_response, choice.wm_percent)
    return TissueVoxels(chosen_wm, chosen_gm, chosen_csf, vectors[chosen_wm], counts)


def check_tissue_gradients(gradients: GradientTable) -> None:
    """Refuse a scan of one b-value, or whose directions determine no tensor; NotApplicable says which."""
    rows = shell_rows(gradients)
    if len(rows) < 2:
        found = ", ".join(f"{b:.0f}" for b, _ in rows) or "none"
        raise NotApplicable(
            f"dhollander's responses need two b-values at least, one of which may be b=0; found b = {found} s/mm². "
            "Check --b0-threshold, or take the algorithm 'tournier'."
        )
    with silenced_warnings():
        try:
            select_volumes(gradients, b_max=float(gradients.bvals.max()))
        except InputError as error:
            raise NotApplicable(str(error)) from error


def signal_decay(signals: np.ndarray, gradients: GradientTable) -> tuple[np.ndarray, np.ndarray]:
    """Mean log of the signal at b = 0 over that at each shell, and where it can be had; (n_vox,) float and bool.

    Shells count by their number of volumes; values above 10 are cut. Without b = 0 the lowest shell stands for it. It
    cannot be had of a voxel with a signal that is not finite.
    """
    check_tissue_gradients(gradients)
    rows = shell_rows(gradients)
    means, is_finite = np.empty((len(rows), len(signals))), np.empty(len(signals), bool)

    def work(begin: int, end: int) -> None:
        block = np.asarray(signals[begin:end], dtype=np.float64)
        is_finite[begin:end] = np.isfinite(block).all(axis=1)
        for mean, (_, volumes) in zip(means, rows, strict=True):
            mean[begin:end] = np.maximum(block[:, volumes], 0).mean(axis=1)

    run_in_chunks(work, len(signals), ROWS)
    is_usable = is_finite & np.all(means > 0, axis=0)
    weights = np.array([len(volumes) for _, volumes in rows[1:]], dtype=np.float64)
    with np.errstate(all="ignore"):
        logs = [np.log(means[0] / mean) for mean in means[1:]]
        decay = np.average(logs, axis=0, weights=weights)
    is_usable &= np.isfinite(decay) & (np.nan_to_num(decay) > 0)
    return np.where(is_usable, np.minimum(np.nan_to_num(decay, posinf=MOST_DECAY), MOST_DECAY), 0.0), is_usable


def best_threshold(values: np.ndarray) -> float:
    """Value that parts ``values`` (n,) so that the two-valued image correlates with them (Ridgway 2009).

    Found by golden section from the middle of the range, to 1 % of the value: of several maxima the one that MRtrix3
    finds, so that both choose the same voxels.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if n < 2 or ordered[0] == ordered[-1]:
        return float(ordered[0]) if n else 0.0
    sums = np.concatenate([np.cumsum((ordered - ordered.mean())[::-1])[::-1], [0.0]])

    def cost(threshold: float) -> float:
        n_below = int(np.searchsorted(ordered, threshold, side="right"))
        return -sums[n_below] / math.sqrt(n_below * (n - n_below)) if 0 < n_below < n else 0.0

    low, high = ordered[0], ordered[-1]
    margin = 0.001 * (high - low)
    return _golden_section(cost, low + margin, 0.5 * (low + high), high - margin)


def _golden_section(cost: Callable[[float], float], low: float, middle: float, high: float) -> float:
    """Where ``cost`` is least, to 1 % of the place, or where that is 0, to a billionth of the interval."""
    ratio = (math.sqrt(5) - 1) / 2
    narrow = 1e-9 * abs(high - low)
    if abs(high - middle) > abs(middle - low):
        left, right = middle, middle + (1 - ratio) * (high - middle)
    else:
        left, right = middle - (1 - ratio) * (middle - low), middle
    at_left, at_right = cost(left), cost(right)
    for _ in range(MOST_STEPS):
        if abs(high - low) <= max(0.01 * (abs(left) + abs(right)), narrow):
            break
        if at_right < at_left:
            low, left, right = left, right, ratio * right + (1 - ratio) * high
            at_left, at_right = at_right, cost(right)
        else:
            high, right, left = right, left, ratio * left + (1 - ratio) * low
            at_left, at_right = cost(left), at_left
    return left if at_left < at_right else right


def _refine(wm: np.ndarray, rest: np.ndarray, decay: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """White matter without outliers of decay, grey matter without mixtures, fluid with what was lost to the first."""
    if len(wm) == 0 or len(rest) == 0:
        return wm, rest, rest[:0]
    excess = decay[rest] - np.median(decay[rest])
    is_csf = excess > best_threshold(excess)
    csf, gm = rest[is_csf], rest[~is_csf]
    wm_middle = float(np.median(decay[wm]))
    limit = wm_middle + 2 * 1.4826 * float(np.median(np.abs(decay[wm] - wm_middle)))
    outliers, wm = wm[decay[wm] > limit], wm[decay[wm] <= limit]
    if len(csf):
        lowest = float(decay[csf].min())
        csf = np.concatenate([csf, outliers[decay[outliers] > lowest]])
        pure = csf[decay[csf] - lowest > best_threshold(decay[csf] - lowest)]
        csf = pure if len(pure) else csf
    if len(gm):
        gm_middle = float(np.median(decay[gm]))
        kept = []
        for half, sign in ((gm[decay[gm] > gm_middle], 1.0), (gm[decay[gm] <= gm_middle], -1.0)):
            distance = sign * (decay[half] - gm_middle)
            kept.append(half[distance <= best_threshold(distance)] if len(half) else half)
        gm = np.concatenate(kept)
    return wm, np.sort(gm), np.sort(csf)


def _check_counts(counts: dict[str, int], tissues: tuple[str, ...]) -> None:
    """Refuse where a tissue that is wanted has no voxel."""
    if min(counts[tissue] for tissue in tissues) == 0:
        fewer = "two tissues, or " if counts["wm"] and len(tissues) == 3 else ""
        raise NotApplicable(
            f"found {counts['wm']} voxels of white matter, {counts['gm']} of grey matter and {counts['csf']} of fluid; "
            f"expected some of {'each' if len(tissues) == 3 else 'white matter and fluid'}. Take a larger mask, or "
            f"estimate {fewer}one tissue with algorithm 'tournier'."
        )


def _warn_of_few(counts: dict[str, int], tissues: tuple[str, ...]) -> None:
    names = {"gm": "grey matter", "csf": "fluid"}
    few = {tissue: n for tissue, n in counts.items() if tissue in tissues}
    if min(few.values()) < FEW_VOXELS:
        made = " and ".join(f"{n} voxel{'s' * (n != 1)} of {names[tissue]}" for tissue, n in few.items())
        warn(f"the responses rest on {made}; expected at least {FEW_VOXELS} each. Take a larger mask.")


def _take(voxels: np.ndarray, cost: np.ndarray, percent: float) -> np.ndarray:
    """The given share of voxels with the lowest cost, one at least."""
    return voxels[np.argsort(cost, kind="stable")[: _share(len(voxels), percent)]]


def _share(count: int, percent: float) -> int:
    """So many per cent of a count; never none of some."""
    return min(count, max(1, round(count * percent / 100)))


def _single_fibres(
    signals: np.ndarray, gradients: GradientTable, wm: np.ndarray, csf: Response, percent: float
) -> np.ndarray:
    """Voxels of white matter that a sharp response explains best as one fibre, judged at degree 2, then at degree 6."""
    count = _share(len(wm), percent)
    means = np.concatenate([block.mean(axis=1) for block in _in_double(signals, wm)])
    level = float(np.median(means)) * math.sqrt(4 * math.pi)
    for lmax, wanted in ((2, 2 * count), (6, count)):
        fod, fluid = _sharp_fods(_in_double(signals, wm), gradients, csf, level, lmax)
        peak = find_peaks(fod, n_peaks=1, relative_peak_threshold=0.0).values[:, 0]
        total = fod[:, 0] + fluid
        metric = np.divide(peak, total, out=np.zeros_like(peak), where=total > 0)
        wm = wm[np.argsort(-metric, kind="stable")[:wanted]]
    return wm


def _in_double(signals: np.ndarray, chosen: np.ndarray) -> Iterator[np.ndarray]:
    """The chosen rows in double precision, block by block: those of all white matter, twice, are most of a scan."""
    for start in range(0, len(chosen), BLOCK):
        yield np.asarray(signals[chosen[start : start + BLOCK]], dtype=np.float64)


def _sharp_fods(
    blocks: Iterator[np.ndarray], gradients: GradientTable, csf: Response, level: float, lmax: int
) -> tuple[np.ndarray, np.ndarray]:
    """FODs and fluid for a response that is a disc: level (1, -1, 1, -1) on every shell, level alone at b = 0."""
    rows = shell_rows(gradients)
    disc = level * np.array([1.0, -1.0, 1.0, -1.0])
    table = np.stack([disc if b > 0 else np.array([level, 0, 0, 0]) for b, _ in rows])
    index = np.zeros(len(gradients), np.int64)
    for row, (_, volumes) in enumerate(rows):
        index[volumes] = row
    degrees = (lmax, 0)
    design = forward_matrix(gradients, (table, csf.coefs[0]), index, degrees)
    n = design.shape[1]
    singular = np.linalg.svd(design, compute_uv=False)
    is_weak = len(design) < n or singular[-1] < RIDGE * singular[0]
    penalty = RIDGE * singular[0] * np.eye(n) if is_weak else None
    directions = np.vstack([get_even_directions(n) for n in EVEN])
    problem = ConeProblem(design, constraint_matrix(degrees, directions), penalty)
    solution = np.concatenate([problem.solve(block).solution for block in blocks])
    return np.ascontiguousarray(solution[:, : n_coefs(lmax)]), solution[:, -1]
