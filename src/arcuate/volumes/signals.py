"""Signals of a scan as a step reads them, with a warning of what cannot be a diffusion scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arcuate.errors import warn
from arcuate.gradients import GradientTable
from arcuate.volumes.scale_steps import find_parts, scale_doubts
from arcuate.volumes.scan import Scan
from arcuate.volumes.selection import numbers_given
from arcuate.volumes.voxels import map_volumes

_SAMPLED = 500  # voxels that are looked at first; the others only where these raise a doubt
_BRIGHTER = 1.25  # times the b = 0 signal, which no weighted volume reaches in its median voxel
_FEW = 20  # voxels; in fewer a volume may be 0 everywhere by chance


def read_signals(scan: Scan, inside: np.ndarray, volumes: np.ndarray | None = None) -> np.ndarray:
    """Voxels of a scan (x, y, z, n_meas) for a fit, in the form in which the scan has them.

    Parameters
    ----------
    inside : (x, y, z) bool
    volumes : (n,) int or (n_meas,) bool, those that the fit takes; all by default

    Warns
    -----
    InputWarning
        One of these volumes has no value inside that is finite and above 0; or the b = 0 volumes tell that parts of
        the scan have another scale of intensity, see :func:`arcuate.volumes.scale_steps.find_parts`; or weighted
        volumes are brighter than b = 0.
    """
    array = scan.volume.get_array()
    taken = np.arange(array.shape[3])[slice(None) if volumes is None else volumes]
    index = np.flatnonzero(inside.ravel(order="F"))
    if len(index) < _FEW:
        return array
    sample = _sample(array, index)
    suspects = [i for i in taken if _is_dark(sample[:, i])]
    are_dark = map_volumes(array, inside, _is_dark, suspects)
    empty = [int(i) for i, is_dark in zip(suspects, are_dark, strict=True) if is_dark]
    origin = getattr(scan, "origin", {})
    if empty:
        warn(empty_doubt(empty, len(taken), origin))
    parts = origin.get("Parts", ())
    if doubts := scale_doubts(find_parts(sample[:, None, None], scan.gradients, parts)):
        doubts = scale_doubts(find_parts(array, scan.gradients, parts))
    elif not empty:
        doubts = _order_doubts(sample, scan.gradients, origin)
    for doubt in doubts:
        warn(doubt)
    return array


def order_doubts(
    array: np.ndarray, inside: np.ndarray, gradients: GradientTable, origin: Mapping[str, Any]
) -> list[str]:
    """What weighted volumes that are brighter than b = 0 say of the b-values, a sentence; none if there are no such.

    Parameters
    ----------
    array : (x, y, z, n_meas)
    inside : (x, y, z) bool
    """
    return _order_doubts(_sample(array, np.flatnonzero(inside.ravel(order="F"))), gradients, origin)


def _sample(array: np.ndarray, index: np.ndarray) -> np.ndarray:
    """(n_sampled, n_meas): some of the voxels at the x-fastest positions ``index``."""
    place = np.unravel_index(index[:: -(-len(index) // _SAMPLED)], array.shape[:3], order="F")
    return np.asarray(array[place])


def _order_doubts(sample: np.ndarray, gradients: GradientTable, origin: Mapping[str, Any]) -> list[str]:
    if not gradients.is_b0.any():
        return []
    values = np.where(np.isfinite(sample), sample, 0).astype(np.float64)
    b0 = values[:, gradients.is_b0].mean(axis=1)
    bright = b0 >= max(float(np.median(b0)), 1e-300)
    if np.count_nonzero(bright) < _FEW:
        return []
    ratios = np.median(values[bright] / b0[bright, None], axis=0)
    brighter = np.flatnonzero(~gradients.is_b0 & (ratios > _BRIGHTER))
    if not len(brighter):
        return []
    numbers = numbers_given(origin, brighter).tolist()
    listed = ", ".join(map(str, numbers[:8])) + (" ..." if len(numbers) > 8 else "")
    return [
        f"weighted volumes are brighter than b=0 ({listed}; {len(numbers)}, counted from 0): diffusion "
        "never does that. Are the b-values in the order of the volumes, and of this scan?"
    ]


def find_empty(array: np.ndarray, inside: np.ndarray) -> list[int]:
    """Volumes without signal: not one value in the brain is finite and above 0, or all are the same."""
    return [i for i, is_empty in enumerate(map_volumes(array, inside, _is_empty)) if is_empty]


def empty_doubt(empty: Sequence[int], n_volumes: int, origin: Mapping[str, Any]) -> str:
    """What empty volumes, of ``n_volumes`` that were looked at, mean for the scan; numbers are those in its files."""
    if len(empty) == n_volumes:
        return (
            "no volume holds a signal in the brain: every value is 0, negative or not a number. "
            "Check the image and its scaling, and that the mask belongs to it"
        )
    numbers = numbers_given(origin, np.asarray(empty)).tolist()
    if len(numbers) == 1:
        return f"volume {numbers[0]} holds no signal (counted from 0): leave it out (--exclude {numbers[0]})"
    listed = ", ".join(map(str, numbers[:8])) + (" ..." if len(numbers) > 8 else "")
    return f"volumes {listed} hold no signal ({len(numbers)}, counted from 0): leave them out (--exclude)"


def _is_empty(values: np.ndarray) -> bool:
    values = values[np.isfinite(values)]
    return _is_dark(values) or bool(values.size > 1 and values.max() == values.min())


def _is_dark(values: np.ndarray) -> bool:
    return not bool(np.any((values > 0) & np.isfinite(values)))
