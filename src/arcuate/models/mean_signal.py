"""Diffusivity and kurtosis of the mean signal: the average over the directions of each shell, free of orientation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arcuate.gradients import GradientTable
from arcuate.models.log_linear_kernels import FLOOR, NOTHING
from arcuate.models.tensor import shells_or_levels
from arcuate.numerics.compiled import run_in_chunks
from arcuate.numerics.sphere import count_directions

_CHUNK = 4096  # voxels of one thread at a time
_LEAST_DIRECTIONS = 6  # fewer do not average over the sphere


@dataclass(frozen=True)
class MeanSignalModel:
    """Fit of the mean signal of each shell.

    Parameters
    ----------
    average : (n_meas, n_shells) float
        Columns that average the volumes of one shell each, b = 0 among them.
    bvals : (n_shells,) float, s/mm²
    counts : (n_shells,) int
        Volumes of each.

    Notes
    -----
    Minimises Σₛ nₛ S̄ₛ² (log S̄ₛ - log s0 + bₛ D̄ - bₛ² D̄² K̄ / 6)²: linear in D̄, D̄² K̄ and log s0.

    References
    ----------
    Henriques, Jespersen & Shemesh 2019, Magn. Reson. Med. 82:1838.
    """

    average: np.ndarray
    bvals: np.ndarray
    counts: np.ndarray

    def fit(self, signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Diffusivity D̄ (n_vox,) in mm²/s and kurtosis K̄ (n_vox,) of the mean signal of rows (n_vox, n_meas).

        Zero where a signal is not finite, where all are zero or negative, and where D̄ is zero.
        """
        signals = np.asarray(signals)
        diffusivity, kurtosis = np.empty(len(signals)), np.empty(len(signals))

        def work(begin: int, end: int) -> None:
            diffusivity[begin:end], kurtosis[begin:end] = self._fit_rows(signals[begin:end])

        run_in_chunks(work, len(signals), _CHUNK)
        return diffusivity, kurtosis

    def _fit_rows(self, signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(invalid="ignore", over="ignore"):  # signals that are not finite
            means = signals @ self.average
        largest = means.max(axis=1)
        is_sound = np.isfinite(means).all(axis=1) & (largest > 0)
        means = np.where(is_sound[:, None], means, 1.0) / np.where(is_sound, largest, 1.0)[:, None]
        means[means < NOTHING] = FLOOR
        unit = self.bvals.max()
        b = self.bvals / unit
        design = np.column_stack([-b, b**2 / 6, np.ones_like(b)])
        weights = self.counts * means**2
        normal = np.einsum("sj,vs,sk->vjk", design, weights, design, optimize=True)
        right = np.einsum("sj,vs->vj", design, weights * np.log(means))
        coefs = np.linalg.solve(normal, right[..., None])[..., 0]
        diffusivity, square = coefs[:, 0] / unit, coefs[:, 0] ** 2
        kurtosis = np.divide(coefs[:, 1], square, out=np.zeros_like(square), where=square > 0)
        return np.where(is_sound, diffusivity, 0.0), np.where(is_sound, kurtosis, 0.0)


def prepare_mean_signal(gradients: GradientTable, volumes: np.ndarray) -> MeanSignalModel | None:
    """The model for rows of ``volumes`` (n,) of a table; None where fewer than three b-values can be averaged."""
    used = gradients.subset(volumes)
    groups = [shell.indices for shell in shells_or_levels(used)]
    groups = [group for group in groups if count_directions(used.directions[group]) >= _LEAST_DIRECTIONS]
    if used.is_b0.any():
        groups.insert(0, np.flatnonzero(used.is_b0))
    if len(groups) < 3:
        return None
    average = np.zeros((len(volumes), len(groups)))
    for s, group in enumerate(groups):
        average[group, s] = 1 / len(group)
    return MeanSignalModel(average, used.bvals @ average, np.array([len(group) for group in groups]))
