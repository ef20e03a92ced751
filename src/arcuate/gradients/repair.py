"""What gradient files get wrong: units, lengths that carry b, derived volumes; repaired where certain, else refused."""

from __future__ import annotations

import numpy as np

from arcuate.errors import InputError, warn

NORM_TOLERANCE = 0.05  # a b-vector whose length is further from 1 is refused
NORM_EXACT = 0.01  # one whose length is further from 1 is scaled with a warning
B_UNITS = {"s/mm2": 1.0, "s/m2": 1e-6, "ms/um2": 1e3}  # name: s/mm² in one of the unit
_IN_S_PER_M2 = 1e7  # no scanner reaches b = 10 million s/mm²; in s/m² that is 10 s/mm²
_IN_MS_PER_UM2 = 50.0  # b-values that stay below it are b = 0 in s/mm², or in ms/µm²
_ZERO = 1e-6  # shorter vectors are zero
_LENGTHS_AGREE = 0.03  # relative; lengths in files are rounded to 2 to 6 decimals
_LEVEL_GAP = 0.025  # of squared lengths; closer ones are one level
_LEAST_AT_LEVEL = 3  # fewer vectors of one length may be mistakes
_GRIDS = 100  # a grid's squared radius looked for, in steps of the grid
_LEAST_RADII = 6  # so many different radii on one grid are no accident


LOWEST_B, HIGHEST_B = 10.0, 200_000.0  # s/mm², of a scan's largest b-value, where a unit was named


def in_s_per_mm2(bvals: np.ndarray, unit: str) -> np.ndarray:
    """b-values (n,) in s/mm² from those in ``unit``, one of ``B_UNITS``.

    Raises
    ------
    InputError
        An unknown unit, or one in which the largest b-value is that of no scan.
    """
    if unit not in B_UNITS:
        raise InputError(f"found the unit {unit!r} of b-values; expected one of {', '.join(B_UNITS)}.")
    converted = np.asarray(bvals, dtype=np.float64) * B_UNITS[unit]
    highest = float(np.max(converted[np.isfinite(converted)], initial=0.0))
    if unit != "s/mm2" and highest > 0 and not LOWEST_B <= highest <= HIGHEST_B:
        raise InputError(
            f"in the unit {unit} the largest b-value is {highest:g} s/mm²; expected {LOWEST_B:g} to {HIGHEST_B:g}. "
            "Check the b-value file, or leave the unit out (--b-unit)."
        )
    return converted


def check_unit(bvals: np.ndarray, vectors: np.ndarray) -> None:
    """Refuse b-values in s/m² or ms/µm², or of no scan; warn where they may be. Asked once, where a file comes in.

    Parameters
    ----------
    bvals : (n,) float, taken as s/mm²
    vectors : (n, 3) float
    """
    highest = float(np.max(bvals[np.isfinite(bvals)], initial=0.0))
    if highest >= _IN_S_PER_M2:
        raise InputError(
            f"the largest b-value is {highest:g}: its unit is s/m², expected s/mm² (1000 s/mm² is 1e9 s/m²). Name the "
            "unit with --b-unit s/m2 (in Python b_unit='s/m2'), or divide the b-values by 1,000,000."
        )
    if highest > HIGHEST_B:
        raise InputError(
            f"the largest b-value is {highest:,.0f} s/mm² (volume {int(np.nanargmax(bvals))}, counted from 0); "
            f"expected at most {HIGHEST_B:,.0f}, which no scanner reaches. Check the b-value file, or name its unit: "
            "--b-unit s/m2 (in Python b_unit='s/m2')."
        )
    if not 0 < highest < _IN_MS_PER_UM2:
        return
    if _is_surely_weighted(bvals, vectors, highest):
        raise InputError(
            f"the largest b-value is {highest:g}, of volumes with many directions: the unit is ms/µm², expected s/mm² "
            "(1 ms/µm² is 1000 s/mm²). Name the unit with --b-unit ms/um2 (in Python b_unit='ms/um2'), or multiply "
            "the b-values by 1000."
        )
    warn(
        f"the largest b-value is {highest:g}: if the unit of the file is ms/µm², multiply it by 1000 or say --b-unit "
        "ms/um2; arcuate takes s/mm² and never rescales by itself."
    )


def _is_surely_weighted(bvals: np.ndarray, vectors: np.ndarray, highest: float) -> bool:
    """Whether volumes below any usual threshold point in six directions, beside ones with a much lower b."""
    if vectors.shape != (len(bvals), 3) or not bvals.min() <= 0.05 * highest:
        return False
    unit = vectors[(bvals > 0.05 * highest) & (np.abs(np.linalg.norm(vectors, axis=1) - 1) <= NORM_TOLERANCE)]
    return len(np.unique(np.round(unit * np.sign(unit[:, :1] + 1e-12), 2), axis=0)) >= 6


def separate_lengths(bvals: np.ndarray, vectors: np.ndarray, b0_threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """b-values and unit vectors where the lengths of the vectors carry b, with a warning; else both as they are.

    Two cases are certain. The b-values differ and the lengths are proportional to √b (or b): the b-values are true.
    All weighted volumes have one b-value, the longest vector has length 1, and the squared lengths fall into levels
    of several volumes, or onto the radii of a grid: then b is that value times the squared length, as MRtrix3 scales.

    Parameters
    ----------
    bvals : (n,) float, s/mm²
    vectors : (n, 3) float
    b0_threshold : float, s/mm²
    """
    norms = np.linalg.norm(np.nan_to_num(vectors), axis=1)
    is_weighted = bvals > b0_threshold
    look = is_weighted & (norms > _ZERO)
    b, length = bvals[look], norms[look]
    if not np.any(np.abs(length - 1) > NORM_TOLERANCE) or not np.all(np.isfinite(b)):
        return bvals, vectors
    unit = np.where((norms > _ZERO)[:, None], vectors / np.maximum(norms, _ZERO)[:, None], 0.0)
    if np.ptp(b) > 0.1 * b.max():
        for power, what in ((0.5, "the square root of b"), (1.0, "b")):
            ratio = length / b**power
            if np.all(np.abs(ratio / np.median(ratio) - 1) <= _LENGTHS_AGREE):
                _warn(f"the lengths of the b-vectors are proportional to {what}: scaled to 1, the b-values kept")
                return bvals, unit
        return bvals, vectors
    nominal, squared = float(np.median(b)), length**2
    is_one_b = np.ptp(b) <= 0.02 * nominal and abs(length.max() - 1) <= NORM_TOLERANCE
    above = squared[nominal * squared > b0_threshold]
    if not is_one_b or not (_are_levels(above) or _is_grid(above)):
        return bvals, vectors
    true = np.where(is_weighted, np.round(nominal * norms**2), bvals)
    n_zero = int(np.sum(is_weighted & ~look))
    _warn(
        f"all weighted volumes have b = {nominal:g} s/mm² and the lengths of their b-vectors differ: the lengths carry "
        f"b. Taken as b = {nominal:g} times the squared length ({true[look].min():g} to {true[look].max():g})"
        + (f"; {n_zero} of them with a zero vector as b = 0" if n_zero else "")
    )
    return true, unit


def _are_levels(squared: np.ndarray) -> bool:
    """Whether squared lengths (n,) fall into two or more narrow levels of several volumes each."""
    ordered = np.sort(squared)
    levels = np.split(ordered, np.flatnonzero(np.diff(ordered) > _LEVEL_GAP) + 1)
    return len(levels) > 1 and all(len(x) >= _LEAST_AT_LEVEL and np.ptp(x) <= 2 * _LEVEL_GAP for x in levels)


def _is_grid(squared: np.ndarray) -> bool:
    """Whether squared lengths (n,) are whole multiples of one step, as those of the points of a Cartesian grid."""
    steps = np.arange(2, _GRIDS + 1)[:, None] * squared
    n_radii = np.array([len(np.unique(np.round(row))) for row in steps])
    return bool(np.any((np.abs(steps - np.round(steps)).max(axis=1) <= 0.06) & (n_radii >= _LEAST_RADII)))


def unit_directions(directions: np.ndarray, bvals: np.ndarray, is_weighted: np.ndarray) -> np.ndarray:
    """Unit vectors (n, 3), zero on b = 0 volumes where they are; refuses what is not nearly one, repairs the rest."""
    finite = np.all(np.isfinite(directions), axis=1)
    norms = np.where(finite, np.linalg.norm(np.where(finite[:, None], directions, 0.0), axis=1), 0.0)
    is_zero = norms < _ZERO
    if np.any(is_zero & is_weighted):
        raise InputError(_what_was_lost(np.flatnonzero(is_zero & is_weighted), bvals, finite, is_zero, is_weighted))
    off = np.where(is_zero, 0.0, np.abs(norms - 1))
    wrong = np.flatnonzero((off > NORM_TOLERANCE) & is_weighted)
    if len(wrong):
        raise InputError(
            f"the b-vector of volume {wrong[0]} has length {norms[wrong[0]]:.4g}; expected 1 (within 5 %) or 0. "
            "If lengths carry the b-value, write plain unit vectors and the true b-values instead."
        )
    if not np.all(finite):
        _warn(f"{_count(~finite)} with b=0 had a b-vector that is not a number; taken as zero")
    if np.any(off > NORM_EXACT):
        worst = norms[np.argmax(off)]
        _warn(f"{_count(off > NORM_EXACT)} had a b-vector off unit length (worst: {worst:.4f}); scaled to 1")
    clean = np.where(finite[:, None], directions, 0.0)
    return np.where(is_zero[:, None], 0.0, clean / np.where(is_zero, 1.0, norms)[:, None])


def _what_was_lost(
    lost: np.ndarray, bvals: np.ndarray, finite: np.ndarray, is_zero: np.ndarray, is_weighted: np.ndarray
) -> str:
    """What weighted volumes without a direction are, and what to do about them."""
    first, what = int(lost[0]), "zero" if finite[lost[0]] else "not a number"
    found = f"the b-vector of volume {first} is {what} although its b-value is {bvals[first]:g}"
    found += f" ({len(lost)} such volumes)" if len(lost) > 1 else ""
    directed = bvals[is_weighted & ~is_zero]
    if len(directed) == 0:
        return (
            f"{found}; expected a unit vector, and no weighted volume has one. Check the b-vector file. Trace images, "
            "which a scanner makes of several directions, have none, and no model here can be fitted to them."
        )
    if bvals[lost].max() < 0.5 * directed.min():
        return (
            f"{found}; expected a unit vector. If these are b=0 volumes, raise b0_threshold (--b0-threshold) to "
            f"{np.ceil(bvals[lost].max()):g}; else check the b-vector file."
        )
    numbers = _ranges(lost)
    return (
        f"{found}; expected a unit vector. A weighted volume without a direction is most often a derived trace or ADC "
        f"image that the scanner appended (Philips), no measurement: leave it out with --exclude {numbers} (in Python "
        f"exclude='{numbers}'; volumes are counted from 0). Else check the b-vector file."
    )


def _ranges(numbers: np.ndarray) -> str:
    """Whole numbers in words: ``3,17-20``."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ",".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _warn(what: str) -> None:
    warn(f"{what}.")


def _count(which: np.ndarray) -> str:
    n = int(np.count_nonzero(which))
    return "1 volume" if n == 1 else f"{n} volumes"
