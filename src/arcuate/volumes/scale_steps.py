"""Steps in intensity scale between parts of a scan that were acquired one after the other, told by their b = 0."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.numerics.filters import otsu_threshold

STEP = 1.1  # factor between the b=0 of two parts; motion and drift within a scan stay below it
SURE = 4.0  # standard errors; in few or noisy voxels a step must exceed what chance makes of two medians
SPREAD = 1 / 3  # of the step: what the b=0 volumes of one part may differ by, both as logarithms
_NO_B0 = (
    "a part of the scan has no b=0 volume, so its intensity scale cannot be told. Leave --scale-parts out, or give "
    "parts that have each a b=0 volume."
)
_ERROR_OF_MEDIAN = 1.2533 * 1.4826  # of a normal distribution, in median absolute deviations over the root of n
MOST_PARTS = 6  # with more jumps than this the scale wanders, and no parts are seen


@dataclass(frozen=True)
class ScanPart:
    """Volumes ``start`` to ``stop - 1``, and the scale of their b = 0 relative to that of the first part."""

    start: int
    stop: int
    scale: float  # NaN without b = 0


def find_parts(array: np.ndarray, gradients: GradientTable, sizes: Sequence[int] = ()) -> tuple[ScanPart, ...]:
    """Parts of a scan with the scale of each; one part if there is no step between its b = 0 volumes.

    Parameters
    ----------
    array : (x, y, z, n_meas) float
    gradients : of ``n_meas`` volumes
    sizes : volumes of each part where known; else a part begins with the b = 0 volume whose scale jumps

    Notes
    -----
    The scale of a b = 0 volume is the median, over the bright voxels, of its ratio to the mean of all b = 0 volumes.
    """
    b0 = np.flatnonzero(gradients.is_b0)
    n = len(gradients)
    scales, errors = _scales_of(array, b0) if len(b0) > 1 else (np.ones(len(b0)), np.zeros(len(b0)))
    has_signal = np.isfinite(scales)  # an empty volume is another fault, and says nothing of the scale
    b0, scales, errors = b0[has_signal], scales[has_signal], errors[has_signal]
    if len(sizes) > 1:
        return _parts(np.cumsum([0, *sizes]), b0, scales)
    if len(b0) < 2:
        return _parts([0, n], b0, scales)
    logs = np.log(scales)
    least = np.maximum(np.log(STEP), SURE * np.hypot(errors[1:], errors[:-1]))
    jumps = np.flatnonzero(np.abs(np.diff(logs)) > least) + 1
    groups = np.split(logs, jumps)
    levels = np.array([np.median(group) for group in groups])
    spread = max(float(np.ptp(group)) for group in groups)
    is_clear = 0 < len(jumps) < MOST_PARTS and spread < SPREAD * np.abs(np.diff(levels)).min()
    is_one_odd_volume = len(groups) == 3 and len(groups[1]) == 1 and abs(levels[2] - levels[0]) < np.log(STEP)
    if not is_clear or is_one_odd_volume:
        return _parts([0, n], b0, scales)
    return _parts([0, *b0[jumps], n], b0, scales)


def _scales_of(array: np.ndarray, b0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n_b0,) scale of each b = 0 volume relative to their mean, NaN for an empty one; its relative standard error."""
    mean = np.zeros(array.shape[:3])
    for i in b0:
        mean += np.nan_to_num(array[..., i], posinf=0.0, neginf=0.0) / len(b0)
    bright = mean > otsu_threshold(mean) if mean.max() > mean.min() else np.zeros(mean.shape, bool)
    if not bright.any():
        return np.ones(len(b0)), np.zeros(len(b0))
    scales, errors = np.full(len(b0), np.nan), np.zeros(len(b0))
    for k, i in enumerate(b0):
        ratios = array[..., i][bright] / mean[bright]
        ratios = ratios[np.isfinite(ratios)]
        if len(ratios) and (scale := float(np.median(ratios))) > 1e-6:
            scales[k] = scale
            errors[k] = _ERROR_OF_MEDIAN * np.median(np.abs(ratios - scale)) / scale / np.sqrt(len(ratios))
    return scales, errors


def _parts(edges: Any, b0: np.ndarray, scales: np.ndarray) -> tuple[ScanPart, ...]:
    found = []
    for start, stop in itertools.pairwise(edges):
        own = scales[(b0 >= start) & (b0 < stop)]
        found.append(ScanPart(int(start), int(stop), float(np.median(own)) if len(own) else float("nan")))
    first = found[0].scale
    return tuple(ScanPart(part.start, part.stop, part.scale / first) for part in found)


def scale_doubts(parts: Sequence[ScanPart]) -> list[str]:
    """What the scales of the parts speak against, one sentence each; empty if nothing."""
    scales = np.array([part.scale for part in parts])
    doubts = []
    if len(parts) > 1 and np.isnan(scales).any():
        without = [f"{p.start} to {p.stop - 1}" for p in parts if np.isnan(p.scale) and np.isfinite(scales[0])]
        which = f"the part of volumes {', '.join(without)} has" if without else "the first part has"
        doubts.append(f"{which} no b=0 volume: whether all parts have one intensity scale cannot be told")
    known = scales[np.isfinite(scales)]
    if len(known) < 2 or known.max() <= STEP * known.min():
        return doubts
    alone = [part for part in parts if part.stop - part.start == 1 and np.isfinite(part.scale)]
    series = [part.scale for part in parts if part not in alone and np.isfinite(part.scale)]
    if alone and len(series) == 1:
        doubts += [
            f"volume {part.start}, b=0, has {part.scale / series[0]:.2g} times the signal of the other b=0 volumes: an "
            "image that the scanner derived (trace, ADC), or one of another series? Leave it out (--exclude "
            f"{part.start}), unless it belongs there"
            for part in alone
        ]
    else:
        listed = ", ".join(f"volumes {p.start} to {p.stop - 1}: {p.scale:.2g}" for p in parts if np.isfinite(p.scale))
        doubts.append(
            f"the intensity scale of the b=0 volumes steps ({listed}, relative to the first): parts acquired one after "
            "the other? Joined as they are, the signal does not decay as diffusion makes it, and tensor, NODDI and "
            "FODs are wrong; --scale-parts (in Python .scale_parts()) brings them to one scale"
        )
    return doubts


def with_one_scale(
    array: np.ndarray, gradients: GradientTable, origin: Mapping[str, Any]
) -> tuple[np.ndarray, Mapping[str, Any]]:
    """A scan (x, y, z, n_meas), its parts brought to the scale of the first, and its origin with what was done.

    Raises
    ------
    InputError
        See :func:`factors_of`.
    """
    parts = find_parts(array, gradients, origin.get("Parts", ()))
    factors = factors_of(parts, gradients, are_known="Parts" in origin)
    if len(parts) == 1:
        return array, origin
    scaled = np.multiply(array, factors.astype(np.result_type(array.dtype, np.float32)), order="K")
    sizes, scales = [part.stop - part.start for part in parts], [round(part.scale, 6) for part in parts]
    return scaled, {**origin, "Parts": sizes, "PartScales": scales}


def check_parts(gradients: GradientTable, sizes: Sequence[int]) -> None:
    """Refuse known parts (their numbers of volumes) of which one has no b = 0, before a voxel is read."""
    edges = np.cumsum([0, *sizes])
    if any(not gradients.is_b0[start:stop].any() for start, stop in itertools.pairwise(edges)):
        raise InputError(_NO_B0)


def factors_of(parts: Sequence[ScanPart], gradients: GradientTable, *, are_known: bool) -> np.ndarray:
    """(n_meas,) what to multiply each volume with, so that all parts have the scale of the first.

    Raises
    ------
    InputError
        A part without b = 0; or parts that were guessed and do not tell where the weighted volumes belong.
    """
    if any(np.isnan(part.scale) for part in parts):
        raise InputError(_NO_B0)
    is_sorted = any(np.all(gradients.is_b0[part.start : part.stop]) for part in parts)
    if len(parts) > 1 and not are_known and is_sorted:
        raise InputError(
            "the b=0 volumes have several intensity scales, but stand together, so that it cannot be told which "
            "weighted volumes belong to which. Give the parts as files of their own: arcuate run A B --scale-parts."
        )
    factors = np.ones(len(gradients))
    for part in parts:
        factors[part.start : part.stop] = 1 / part.scale
    return factors
