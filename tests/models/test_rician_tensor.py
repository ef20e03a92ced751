"""The tensor under Rician noise: optimality by SciPy, truth over noise, laws, bounds, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import ive
from tables import random_table

from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.models.rician_tensor import MAX_DIFFUSIVITY, fit_rician_tensor
from arcuate.models.status import Status
from arcuate.models.tensor import fit_tensor, tensor_design


def _voxels(gradients: GradientTable, n: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes of S0 = 1000 with Rician noise, and eigenvalues (n, 3) of white matter."""
    rng = np.random.default_rng(1)
    turns = np.linalg.qr(rng.normal(size=(n, 3, 3)))[0]
    evals = np.sort(rng.uniform([0.9e-3, 0.3e-3, 0.2e-3], [1.4e-3, 0.6e-3, 0.4e-3], (n, 3)), axis=1)[:, ::-1]
    g = gradients.directions
    along = np.einsum("mi,vij,vj,vkj,mk->vm", g, turns, evals, turns, g, optimize=True)
    signals = 1000 * np.exp(-gradients.bvals * along)
    noise = rng.normal(0, sigma, (2, *signals.shape))
    return np.hypot(signals + noise[0], noise[1]), evals


def _loss(coefs: np.ndarray, design: np.ndarray, magnitudes: np.ndarray, sigma: float) -> float:
    signals = np.exp(design @ coefs)
    z = magnitudes * signals / sigma**2
    return float(np.sum((magnitudes**2 + signals**2) / (2 * sigma**2) - np.log(ive(0, z)) - z))


@pytest.mark.parametrize(("b", "sigma"), [(1000.0, 50.0), (2000.0, 80.0), (3000.0, 50.0)])
def test_the_likelihood_is_as_high_as_scipy_finds_it(b, sigma):
    gradients = random_table((0, 5), (b, 60))
    design = tensor_design(gradients.bvals, gradients.directions)
    rows, _ = _voxels(gradients, 8, sigma)
    fit = fit_rician_tensor(rows, gradients, np.full(8, sigma), b_max=b, nonnegative=False)
    scale = np.r_[np.full(6, 1e-3), 1.0]
    start = fit_tensor(rows, gradients, b_max=b, nonnegative=False)
    for v in range(8):
        found = minimize(
            lambda c, v=v: _loss(c * scale, design, rows[v], sigma),
            np.r_[start.tensors[v], np.log(start.s0[v])] / scale,
            method="BFGS",
            options={"gtol": 1e-7},
        )
        ours = np.r_[fit.tensors[v], np.log(fit.s0[v])]
        assert _loss(ours, design, rows[v], sigma) <= found.fun + 1e-6
        np.testing.assert_allclose(ours / scale, found.x, atol=2e-3)


def test_far_above_the_noise_it_is_the_tensor_that_made_the_signal():
    gradients = random_table((0, 5), (1000, 30))
    rows, evals = _voxels(gradients, 50, 0.0)
    fit = fit_rician_tensor(rows, gradients, np.full(50, 1.0))
    np.testing.assert_allclose(fit.evals, evals, rtol=1e-5)
    np.testing.assert_allclose(fit.s0, 1000, rtol=1e-5)
    assert np.all(fit.status == Status.FITTED)


def test_diffusivities_lose_the_bias_of_the_noise_floor():
    gradients = random_table((0, 10), (2500, 90))
    rows, evals = _voxels(gradients, 400, 1000 / 8)
    plain = fit_tensor(rows, gradients, b_max=2500)
    fit = fit_rician_tensor(rows, gradients, np.full(400, 1000 / 8), b_max=2500)
    truth = evals.mean(axis=1)
    assert np.median(plain.md - truth) < -60e-6
    assert abs(np.median(fit.md - truth)) < 20e-6
    assert np.abs(fit.md - truth).mean() < 0.7 * np.abs(plain.md - truth).mean()


def test_signals_below_the_noise_leave_diffusivities_within_their_bounds():
    gradients = random_table((0, 5), (3000, 40))
    rows, _ = _voxels(gradients, 200, 400.0)
    fit = fit_rician_tensor(rows, gradients, np.full(200, 400.0), b_max=3000)
    along = -tensor_design(np.ones(45), gradients.directions)[:, :6] @ fit.tensors.T
    assert along.max() < 1.05 * MAX_DIFFUSIVITY
    assert np.all(fit.evals >= 0)


def test_rotation_unit_and_order_of_volumes_change_nothing():
    gradients = random_table((0, 5), (1500, 60))
    rows, _ = _voxels(gradients, 40, 40.0)
    sigma = np.full(40, 40.0)
    plain = fit_rician_tensor(rows, gradients, sigma)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    order = np.random.default_rng(1).permutation(len(gradients))
    for other in (
        fit_rician_tensor(rows, GradientTable(gradients.bvals, gradients.directions @ turn.T), sigma),
        fit_rician_tensor(1e-4 * rows, gradients, 1e-4 * sigma),
        fit_rician_tensor(rows[:, order], gradients.subset(order), sigma),
        fit_rician_tensor(np.asfortranarray(rows), gradients, sigma),
    ):
        np.testing.assert_allclose(other.evals, plain.evals, rtol=1e-5)
    halves = fit_rician_tensor(rows[::-2].astype(np.float32), gradients, sigma[::-2])
    np.testing.assert_allclose(halves.evals, plain.evals[::-2], rtol=1e-4)


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (0.0, Status.FLOORED),
        (-3.0, Status.FLOORED),
        (np.nan, Status.NOT_FINITE),
        (np.inf, Status.NOT_FINITE),
        (-np.inf, Status.NOT_FINITE),
    ],
)
def test_a_bad_signal_marks_its_voxel_and_no_other(bad, status):
    gradients = random_table((0, 5), (1000, 30))
    rows, _ = _voxels(gradients, 20, 30.0)
    sigma = np.full(20, 30.0)
    spoiled = rows.copy()
    spoiled[7, 9] = bad
    fit, clean = fit_rician_tensor(spoiled, gradients, sigma), fit_rician_tensor(rows, gradients, sigma)
    assert fit.status[7] == status
    assert np.all(np.isfinite(fit.tensors))
    np.testing.assert_array_equal(np.delete(fit.tensors, 7, axis=0), np.delete(clean.tensors, 7, axis=0))
    silent = fit_rician_tensor(np.zeros((2, 35)), gradients, np.ones(2))
    assert np.all(silent.status == Status.NO_SIGNAL)
    assert not silent.tensors.any()


@pytest.mark.parametrize("unknown", [0.0, -1.0, np.nan, np.inf])
def test_where_the_noise_is_not_known_the_linear_fit_stays_and_says_so(unknown):
    gradients = random_table((0, 5), (1000, 30))
    rows, _ = _voxels(gradients, 20, 30.0)
    sigma = np.full(20, 30.0)
    sigma[3] = unknown
    fit, plain = fit_rician_tensor(rows, gradients, sigma), fit_tensor(rows, gradients)
    assert fit.status[3] == Status.NOT_CONVERGED
    np.testing.assert_allclose(fit.tensors[3], plain.tensors[3], rtol=1e-9)
    assert np.all(np.delete(fit.status, 3) == Status.FITTED)


def test_noise_that_is_nowhere_known_is_refused():
    gradients = random_table((0, 5), (1000, 30))
    rows, _ = _voxels(gradients, 4, 30.0)
    with pytest.raises(
        InputError, match=r"needs the standard deviation of the noise.*nowhere above 0.*denoise --noise"
    ):
        fit_rician_tensor(rows, gradients, np.zeros(4))
    assert len(fit_rician_tensor(rows[:0], gradients, np.zeros(0)).fa) == 0
