"""Volumes and slices of a scan that are far from the others of their shell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.volumes.signals import find_empty
from arcuate.volumes.voxels import sums_of_slices

OUTLIER = 6.0  # robust standard deviations
DROP = 0.15  # and at least this share of the signal
FITTED_OUTLIERS = 18  # volumes of a shell from which on its mean signal is expected to depend on direction
BETWEEN_DIRECTIONS = 1.5e-4  # mm²/s: so much may the mean diffusivity of a whole brain differ between directions


@dataclass(frozen=True)
class Outlier:
    """A volume, or one of its slices, whose mean signal is far from that of its shell."""

    volume: int
    slice: int | None
    change: float  # relative to the shell's median


def find_outliers(
    array: np.ndarray, inside: np.ndarray, gradients: GradientTable, empty: list[int] | None = None
) -> tuple[Outlier, ...]:
    """Volumes and slices whose mean signal in the brain is far from the other volumes of their shell; empty volumes.

    Parameters
    ----------
    array : (x, y, z, n_meas)
    inside : (x, y, z) bool
    empty : what :func:`find_empty` says of them, where that is known

    Notes
    -----
    The mean signal of a brain depends on the direction, more so at high b: in shells of 18 volumes or more what is
    expected is a robust fit of 1 and the five products of degree 2 of the direction. In smaller ones, as the grids of
    DSI have them, it is the median, and a change must exceed what directions make of the signal (1.5e-4 mm²/s times b,
    in its logarithm).
    """
    try:
        groups = [np.asarray(shell.indices) for shell in gradients.shells]
    except InputError:  # no shells: every weighted volume has another b
        groups = []
    groups.append(np.flatnonzero(gradients.is_b0))
    empty = find_empty(array, inside) if empty is None else empty
    found = [Outlier(i, None, -1.0) for i in empty]
    sizes = inside.sum(axis=(0, 1))
    slices = np.flatnonzero(sizes >= max(20, 0.25 * sizes.max()))
    for whole_group in groups:
        group = np.setdiff1d(whole_group, empty)
        if len(group) < 5:
            continue
        sums = sums_of_slices(array, inside, group)
        whole = sums.sum(axis=1)
        design = _design_of(gradients, group)
        is_fitted = design.shape[1] > 1
        least = DROP if is_fitted else max(DROP, 1 - np.exp(-BETWEEN_DIRECTIONS * gradients.bvals[group].mean()))
        far, change = _compare(whole[:, None], design, least)
        found += [Outlier(int(group[i]), None, float(change[i, 0])) for i in np.flatnonzero(far[:, 0])]
        if not len(slices):  # a mask of few voxels
            continue
        # against the rest of its own volume, so that a volume that is off as a whole is named once
        far, change = _compare(sums[:, slices] / np.where(whole > 0, whole, 1)[:, None], design, least)
        for i, k in zip(*np.nonzero(far), strict=True):
            found.append(Outlier(int(group[i]), int(slices[k]), float(change[i, k])))
    return tuple(sorted(found, key=lambda o: (o.volume, -1 if o.slice is None else o.slice)))


def _design_of(gradients: GradientTable, group: np.ndarray) -> np.ndarray:
    """What the mean signal of volumes of one b may depend on, (n, 1) or (n, 6): a constant, and the direction."""
    one = np.ones((len(group), 1))
    if len(group) < FITTED_OUTLIERS or gradients.is_b0[group].any():
        return one
    x, y, z = gradients.directions[group].T
    design = np.column_stack([one[:, 0], x * x - y * y, 2 * z * z - x * x - y * y, x * y, x * z, y * z])
    return design if np.linalg.matrix_rank(design, tol=1e-3) == 6 else one


def _compare(values: np.ndarray, design: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Which of the values (n, k) are far from what is expected in their column, and their relative change (n, k).

    ``least`` is the share of the expected value that must be missing, or of the value that is too much.
    """
    expected = np.broadcast_to(np.median(values, axis=0), values.shape)
    if design.shape[1] > 1:
        expected = _robust_fits(design, values)
    away = values - expected
    freedom = len(values) / (len(values) - design.shape[1])
    spread = 1.4826 * np.median(np.abs(away), axis=0) * freedom
    change = np.divide(away, expected, out=np.zeros(values.shape), where=expected != 0)
    return (np.abs(away) > OUTLIER * spread) & (
        np.abs(away) > least * np.maximum(np.abs(expected), np.abs(values))
    ), change


def _robust_fits(design: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Fitted values (n, k) of least absolute deviations in each column, by reweighted least squares."""
    columns = values.T  # (k, n)
    weights = np.ones(columns.shape)
    floor = 1e-3 * np.maximum(np.median(np.abs(columns), axis=1, keepdims=True), 1e-30)
    fitted = columns
    for _ in range(20):
        weighted = weights[:, :, None] * design  # (k, n, n_unknown)
        normal, right = design.T @ weighted, np.einsum("kij,ki->kj", weighted, columns)
        fitted = np.linalg.solve(normal, right[:, :, None])[:, :, 0] @ design.T
        weights = 1 / np.maximum(np.abs(columns - fitted), floor)
    return np.asarray(fitted.T)
