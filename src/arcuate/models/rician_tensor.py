"""The tensor of magnitudes whose noise is Rician, by maximum likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.models.nonlinear_kernels import Attenuated, fit_rician
from arcuate.models.status import Status
from arcuate.models.tensor import TensorFit, TensorModel, bvals_of, floored_tensors, prepare_model, rows_and_model
from arcuate.numerics.compiled import run_in_chunks

MAX_DIFFUSIVITY = 3.3e-3  # mm²/s; a tenth above free water at body temperature
_CHUNK = 512  # voxels of one task


@dataclass(frozen=True)
class RicianTensorModel(TensorModel):
    """Maximum-likelihood fit of a tensor under Rician noise, prepared once for a list of volumes.

    Parameters
    ----------
    design, n_reweight, min_diffusivity, min_signal
        Of the linear fit that it starts from, see :class:`arcuate.models.tensor.TensorModel`; ``min_diffusivity`` of
        the result too.

    Notes
    -----
    Minimises -Σᵢ log p(mᵢ | sᵢ, σ), sᵢ = s0 exp(-bᵢ gᵢᵀ D gᵢ), p(m | s, σ) = m/σ² exp(-(m² + s²) / 2σ²) I₀(m s/σ²), by
    Levenberg and Marquardt's method with the expected curvature (Fisher scoring), from the linear fit. Magnitudes below
    0 count as 0. Far above the noise it is non-linear least squares. Where a signal is below the noise, every higher
    diffusivity explains it as well: 500 Σᵢ eᵢ² is added, eᵢ the part of bᵢ D(gᵢ) that is below 0 or above bᵢ 3.3e-3
    mm²/s, a tenth above free water. Within those bounds it is 0.

    References
    ----------
    Gudbjartsson & Patz 1995, Magn. Reson. Med. 34:910. Veraart et al. 2011, Magn. Reson. Med. 66:678.
    """

    def fit_with_noise(self, signals: np.ndarray, sigma: np.ndarray) -> TensorFit:
        """Tensor of each row.

        Parameters
        ----------
        signals : (n_vox, n_meas) float32 or float64, magnitudes
            The volumes of the design, in its order.
        sigma : (n_vox,) float, unit of the signal
            Standard deviation of the noise in each channel. Where it is not above zero the linear fit stays, its status
            NOT_CONVERGED.

        Raises
        ------
        InputError
            No sigma is above zero.
        """
        sigma = np.nan_to_num(np.asarray(sigma, dtype=np.float64), posinf=0.0, neginf=0.0)
        if len(sigma) and not np.any(sigma > 0):
            raise InputError(
                "the Rician likelihood needs the standard deviation of the noise; the noise given is nowhere above 0. "
                "Give the map that `arcuate denoise --noise` writes, or fit without rician (--rician)."
            )
        linear = TensorModel(self.design, n_reweight=self.n_reweight, min_signal=self.min_signal).fit(signals)
        status = linear.status.copy()
        has_fit = (status == Status.FITTED) | (status == Status.FLOORED)
        status[has_fit & ~(sigma > 0)] = Status.NOT_CONVERGED
        rows = np.flatnonzero(has_fit & (sigma > 0))
        basis = np.ascontiguousarray(self.tables.basis[: len(self.design), :7])
        reach = MAX_DIFFUSIVITY * bvals_of(self.design)
        shared = Attenuated(basis, np.ascontiguousarray(self.tables.to_coefs[6]), reach)
        coefs = np.column_stack([linear.tensors[rows], np.log(np.maximum(linear.s0[rows], 1e-300))])
        points = coefs @ (self.design.T @ basis)
        is_solved = np.zeros(len(rows), np.uint8)

        def work(begin: int, end: int) -> None:
            place = rows[begin:end]
            magnitudes = np.maximum(np.asarray(signals[place], dtype=np.float64), 0.0)
            fit_rician(magnitudes, sigma[place], shared, points[begin:end], is_solved[begin:end])

        run_in_chunks(work, len(rows), _CHUNK)
        coefs = points @ self.tables.to_coefs.T
        tensors, s0 = linear.tensors.copy(), linear.s0.copy()
        tensors[rows], s0[rows] = coefs[:, :6], np.exp(coefs[:, 6])
        status[rows[is_solved == 0]] = Status.NOT_CONVERGED
        tensors, evals, evecs = floored_tensors(tensors, self.min_diffusivity)
        nothing = (status == Status.NO_SIGNAL) | (status == Status.NOT_FINITE)
        tensors[nothing], evals[nothing], evecs[nothing] = 0, 0, 0
        return TensorFit(tensors, s0, evals, evecs, status)


def fit_rician_tensor(signals: np.ndarray, gradients: GradientTable, sigma: np.ndarray, **options: Any) -> TensorFit:
    """Tensor of each voxel by maximum likelihood under Rician noise.

    Parameters
    ----------
    signals : (n_vox, n_meas) float
        One row per voxel, all volumes of the table, magnitudes.
    gradients : GradientTable
    sigma : (n_vox,) float, unit of the signal
        See :meth:`RicianTensorModel.fit_with_noise`.
    options
        Those of :func:`arcuate.models.tensor.prepare_model`: ``b_max``, ``n_reweight``, ``nonnegative``.

    Raises
    ------
    InputError
        The volumes do not determine a tensor, their number is not that of the gradient table, or no sigma is above 0.
    """
    rows, model = rows_and_model(RicianTensorModel, signals, gradients, **options)
    return model.fit_with_noise(rows, sigma)


def prepare_rician_tensor(gradients: GradientTable, **options: Any) -> tuple[np.ndarray, RicianTensorModel]:
    """The volumes (n,) and the model prepared for them; ``options`` of :func:`arcuate.models.tensor.prepare_model`."""
    return prepare_model(RicianTensorModel, gradients, **options)
