"""The tensor: recovery, the volumes it sees, what it refuses, and DIPY as oracle."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest

from arcuate.errors import InputError, InputWarning
from arcuate.gradients import GradientTable
from arcuate.models.kurtosis import select_kurtosis_volumes
from arcuate.models.status import Status
from arcuate.models.tensor import (
    TensorModel,
    fit_tensor,
    fractional_anisotropy,
    select_volumes,
    tensor_design,
)
from arcuate.numerics.sphere import count_directions


def _directions(n: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _table(*shells: tuple[float, int], **options: float) -> GradientTable:
    bvals = np.concatenate([np.full(n, b) for b, n in shells])
    directions = np.concatenate([_directions(n, i) if b > 0 else np.zeros((n, 3)) for i, (b, n) in enumerate(shells)])
    return GradientTable(bvals, directions, **options)


def _signals(evals: np.ndarray, gradients: GradientTable, s0: float = 900.0, seed: int = 0) -> tuple:
    """Signals of randomly turned tensors, the tensors (n, 3, 3) and their first eigenvectors."""
    turns = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(evals), 3, 3)))[0]
    tensors = np.einsum("vij,vj,vkj->vik", turns, evals, turns)
    g = gradients.directions
    return s0 * np.exp(-gradients.bvals * np.einsum("mi,vij,mj->vm", g, tensors, g)), tensors, turns[:, :, 0]


def _random_evals(n: int, seed: int = 3) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).uniform(0.1e-3, 2.5e-3, (n, 3)), axis=1)[:, ::-1]


@pytest.fixture(scope="module")
def gradients() -> GradientTable:
    return _table((0, 2), (1000, 32))


@pytest.fixture(scope="module")
def noisy(gradients: GradientTable) -> np.ndarray:
    clean, *_ = _signals(_random_evals(300), gradients)
    return np.abs(clean + np.random.default_rng(5).normal(scale=30, size=clean.shape))


# --- recovery


@pytest.mark.parametrize("n_reweight", [0, 1, 4])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_recovers_the_tensors_that_made_the_signal(gradients, n_reweight, dtype):
    evals = _random_evals(500)
    signals, tensors, first = _signals(evals, gradients)
    fit = fit_tensor(signals.astype(dtype), gradients, n_reweight=n_reweight)
    tolerance = 1e-12 if dtype is np.float64 else 1e-8
    np.testing.assert_allclose(fit.evals, evals, rtol=0, atol=tolerance)
    np.testing.assert_allclose(fit.tensors, tensors[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]], rtol=0, atol=tolerance)
    np.testing.assert_allclose(fit.s0, 900, rtol=1e-6)
    np.testing.assert_allclose(fit.fa, fractional_anisotropy(evals), rtol=0, atol=1e-8 if dtype is np.float64 else 1e-4)
    clear = evals[:, 0] - evals[:, 1] > 0.1e-3
    angle = np.rad2deg(np.arccos(np.minimum(np.abs(np.sum(fit.evecs[:, 0] * first, axis=1)), 1)))
    assert angle[clear].max() < 0.1
    assert np.all(fit.status == Status.FITTED)


def test_maps_follow_from_the_eigenvalues(gradients):
    signals, *_ = _signals(np.array([[1.7e-3, 0.4e-3, 0.2e-3]]), gradients)
    fit = fit_tensor(signals, gradients)
    np.testing.assert_allclose(fit.md, 2.3e-3 / 3)
    np.testing.assert_allclose(fit.ad, 1.7e-3)
    np.testing.assert_allclose(fit.rd, 0.3e-3)
    np.testing.assert_allclose(fit.fa, np.sqrt(0.5 * (1.3**2 + 0.2**2 + 1.5**2) / (1.7**2 + 0.4**2 + 0.2**2)))


def test_isotropic_and_linear_tensors_have_fa_zero_and_one(gradients):
    signals, *_ = _signals(np.array([[0.8e-3] * 3, [2e-3, 0, 0]]), gradients)
    fit = fit_tensor(signals, gradients)
    np.testing.assert_allclose(fit.fa, [0, 1], atol=1e-6)
    assert fractional_anisotropy(np.zeros(3)) == 0


def test_eigenvectors_rebuild_the_tensor_and_are_sorted(gradients, noisy):
    fit = fit_tensor(noisy, gradients)
    rebuilt = np.einsum("vki,vk,vkj->vij", fit.evecs, fit.evals, fit.evecs)
    np.testing.assert_allclose(rebuilt[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]], fit.tensors, rtol=0, atol=1e-16)
    assert np.all(np.diff(fit.evals, axis=1) <= 0)


def test_reweighting_lowers_the_error_under_noise():
    gradients = _table((0, 4), (1500, 30))
    clean, tensors, _ = _signals(np.tile([2.2e-3, 0.3e-3, 0.2e-3], (4000, 1)), gradients)
    noisy = clean + np.random.default_rng(0).normal(scale=45, size=clean.shape)
    truth = tensors[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]
    rms = [np.sqrt(np.mean((fit_tensor(noisy, gradients, n_reweight=n).tensors - truth) ** 2)) for n in (0, 1)]
    assert rms[1] < 0.8 * rms[0]


def test_weighted_fit_solves_its_normal_equations(gradients, noisy):
    design = tensor_design(gradients.bvals, gradients.directions)
    rounds = [TensorModel(design, n_reweight=n).fit(noisy) for n in (0, 1, 2)]
    for before, after in pairwise(rounds):
        weights = np.exp(2 * np.column_stack([before.tensors, np.log(before.s0)]) @ design.T)
        residual = np.log(noisy) - np.column_stack([after.tensors, np.log(after.s0)]) @ design.T
        gradient = np.einsum("mj,vm,vm->vj", design, weights, residual)
        size = np.einsum("mj,vm,vm->vj", np.abs(design), weights, np.abs(residual))
        assert np.abs(gradient / size).max() < 1e-10


# --- signals that cannot be taken as they are


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
def test_a_bad_signal_marks_its_voxel_and_no_other(gradients, noisy, bad, status):
    spoiled = noisy.copy()
    spoiled[17, 5] = bad
    fit, clean = fit_tensor(spoiled, gradients), fit_tensor(noisy, gradients)
    others = np.arange(len(noisy)) != 17
    assert fit.status[17] == status
    assert np.all(fit.status[others] == Status.FITTED)
    for name in ("tensors", "s0", "evals", "evecs", "fa"):
        np.testing.assert_array_equal(getattr(fit, name)[others], getattr(clean, name)[others])
        assert np.all(np.isfinite(getattr(fit, name)))
    if status == Status.NOT_FINITE:
        assert not fit.tensors[17].any()
        assert fit.s0[17] == 0
    else:
        np.testing.assert_allclose(fit.fa[17], clean.fa[17], atol=0.25)


@pytest.mark.parametrize("value", [0.0, -5.0])
def test_voxel_without_any_positive_signal_is_marked(gradients, noisy, value):
    spoiled = noisy.copy()
    spoiled[3] = value
    fit = fit_tensor(spoiled, gradients)
    assert fit.status[3] == Status.NO_SIGNAL
    assert not fit.evecs[3].any()
    assert fit.fa[3] == 0


def test_bad_values_in_volumes_that_are_not_used_do_not_matter(noisy):
    gradients = _table((0, 2), (1000, 32), (3000, 5))
    signals = np.column_stack([noisy, np.full((len(noisy), 5), np.nan)])
    assert np.all(fit_tensor(signals, gradients).status == Status.FITTED)


@pytest.mark.parametrize("factor", [1e-12, 1e9])
def test_the_floor_moves_with_the_unit_of_the_signal(gradients, noisy, factor):
    spoiled = noisy.copy()
    spoiled[::3, 4] = -1.0
    one, other = fit_tensor(spoiled, gradients), fit_tensor(spoiled * factor, gradients)
    np.testing.assert_allclose(other.tensors, one.tensors, rtol=0, atol=1e-14)
    np.testing.assert_allclose(other.s0, one.s0 * factor, rtol=1e-12)
    np.testing.assert_array_equal(other.status, one.status)


def test_eigenvalues_are_raised_only_if_asked(gradients):
    evals = np.tile([1.5e-3, 0.3e-3, -0.2e-3], (20, 1))
    signals, *_ = _signals(evals, gradients)
    free, held = (fit_tensor(signals, gradients, nonnegative=flag) for flag in (False, True))
    np.testing.assert_allclose(free.evals, evals, atol=1e-12)
    np.testing.assert_allclose(held.evals, np.tile([1.5e-3, 0.3e-3, 1e-9], (20, 1)), atol=1e-12)
    assert held.fa.max() <= 1
    rebuilt = np.einsum("vki,vk,vkj->vij", held.evecs, held.evals, held.evecs)
    np.testing.assert_allclose(held.tensors, rebuilt[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]], atol=1e-15)


def test_weights_that_leave_too_few_volumes_keep_the_unweighted_fit():
    gradients = _table((0, 1), (1000, 12))
    signals = np.full((1, 13), 1e-7)
    signals[0, 0] = 1.0
    signals[0, 3] = 1e250
    fit = fit_tensor(signals, gradients, n_reweight=3)
    assert np.all(np.isfinite(fit.tensors))
    assert fit.status[0] in (Status.FLOORED, Status.NOT_CONVERGED)


def test_no_rows_give_no_tensors(gradients):
    fit = fit_tensor(np.empty((0, 34)), gradients)
    assert fit.evecs.shape == (0, 3, 3)
    assert fit.fa.shape == (0,)


# --- the volumes a tensor sees


def test_sees_the_shells_up_to_b_max_and_a_little_more():
    gradients = _table((0, 2), (1000, 12), (1590, 12), (2000, 30))
    np.testing.assert_array_equal(select_volumes(gradients), np.arange(26))
    np.testing.assert_array_equal(select_volumes(gradients, b_max=1000), np.arange(14))
    np.testing.assert_array_equal(select_volumes(gradients, b_max=5000), np.arange(56))


def test_volumes_come_in_acquisition_order_whatever_the_order_of_shells():
    gradients = _table((2000, 8), (0, 1), (1000, 12), (0, 1))
    np.testing.assert_array_equal(select_volumes(gradients), np.arange(8, 22))


def test_takes_the_lowest_shells_that_suffice_with_a_warning():
    gradients = _table((0, 1), (700, 4), (2000, 6), (3000, 60))
    with pytest.warns(InputWarning, match=r"b <= 1500 .* do not determine a tensor; .* shells at b = 700, 2000\."):
        np.testing.assert_array_equal(select_volumes(gradients), np.arange(11))


def test_data_at_b_2000_only_are_fitted_with_a_warning():
    gradients = _table((0, 2), (2000, 30))
    signals, tensors, _ = _signals(_random_evals(5), gradients)
    with pytest.warns(InputWarning, match=r"shells at b = 2000\. Its diffusivities are lower"):
        fit = fit_tensor(signals, gradients)
    np.testing.assert_allclose(fit.tensors[:, 0], tensors[:, 0, 0], atol=1e-12)


def test_without_b0_two_shells_suffice_with_a_warning():
    gradients = _table((700, 12), (1400, 12))
    signals, tensors, _ = _signals(_random_evals(5), gradients)
    with pytest.warns(InputWarning, match=r"no b=0 volume.*extrapolated"):
        fit = fit_tensor(signals, gradients)
    np.testing.assert_allclose(fit.tensors[:, 0], tensors[:, 0, 0], atol=1e-12)
    np.testing.assert_allclose(fit.s0, 900, rtol=1e-10)


def test_b_values_without_shells_are_used_up_to_b_max():
    bvals = np.concatenate([[0], np.linspace(200, 3000, 57)])
    gradients = GradientTable(bvals, np.concatenate([np.zeros((1, 3)), _directions(57)]))
    np.testing.assert_array_equal(select_volumes(gradients), np.flatnonzero(bvals <= 1600))


@pytest.mark.parametrize(
    ("gradients", "message"),
    [
        (_table((0, 1), (1000, 5)), r"6 distinct directions; found 5 with b from 1000 to 1000.*Raise b_max"),
        (_table((0, 10)), r"volumes with b above 50 s/mm²; all 10 b-values"),
        (_table((1000, 30)), r"two different b-values; all 30 volumes have b = 1000.*none is b=0"),
        (_table((0, 1), (60, 3)), r"6 distinct directions; found 3 with"),
        (
            GradientTable(np.r_[0.0, np.full(6, 1000.0)], np.r_[np.zeros((1, 3)), np.tile([[0.6, 0.8, 0]], (6, 1))]),
            r"6 distinct directions; found 1 with b",
        ),
        (
            GradientTable(
                np.r_[0.0, np.full(12, 1000.0)],
                [[0, 0, 0], *[[np.cos(t), np.sin(t), 0] for t in np.arange(12) * np.pi / 12]],
            ),
            r"7 unknowns; the 13 volumes .* determine 4 of them .*in a plane",
        ),
    ],
    ids=["five directions", "b=0 only", "no b=0", "low b", "six identical directions", "directions in a plane"],
)
def test_what_does_not_determine_a_tensor_is_refused_with_the_reason(gradients, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        with pytest.raises(InputError, match=message):
            select_volumes(gradients)


def test_six_directions_and_one_b0_suffice():
    six = np.array([[1, 1, 0], [1, -1, 0], [1, 0, 1], [1, 0, -1], [0, 1, 1], [0, 1, -1]]) / np.sqrt(2)
    gradients = GradientTable(np.r_[0.0, np.full(6, 1000.0)], np.r_[np.zeros((1, 3)), six])
    signals, tensors, _ = _signals(_random_evals(5), gradients)
    np.testing.assert_allclose(fit_tensor(signals, gradients).tensors[:, 3], tensors[:, 1, 1], atol=1e-12)


def test_a_direction_and_its_opposite_count_once():
    directions = _directions(9)
    assert count_directions(np.concatenate([directions, -directions])) == 9


def test_signals_of_another_length_are_refused_with_both_counts(gradients):
    with pytest.raises(InputError, match=r"shape \(3, 33\) for 34 b-values"):
        fit_tensor(np.ones((3, 33)), gradients)


def test_negative_count_of_rounds_is_refused(gradients, noisy):
    with pytest.raises(InputError, match=r"n_reweight is -1; expected 0 \(OLS\)"):
        fit_tensor(noisy, gradients, n_reweight=-1)


# --- DIPY


@pytest.mark.parametrize(("method", "n_reweight"), [("OLS", 0), ("WLS", 1)])
def test_equals_dipy_on_the_same_volumes(method, n_reweight):
    from dipy.core.gradients import gradient_table
    from dipy.reconst.dti import TensorModel as Peer

    gradients = _table((0, 3), (700, 20), (1000, 32), (2500, 40))
    clean, *_ = _signals(np.sort(np.random.default_rng(0).uniform(0, 3e-3, (2000, 3)))[:, ::-1], gradients)
    signals = np.abs(clean + np.random.default_rng(1).normal(scale=60, size=clean.shape)) + 1e-2
    volumes = select_volumes(gradients)
    fit = fit_tensor(signals, gradients, n_reweight=n_reweight)
    table = gradient_table(gradients.bvals[volumes], bvecs=gradients.directions[volumes])
    peer = Peer(table, fit_method=method, return_S0_hat=True).fit(signals[:, volumes])
    np.testing.assert_allclose(fit.fa, peer.fa, rtol=0, atol=1e-6)
    np.testing.assert_allclose(fit.md, peer.md, rtol=0, atol=1e-11)
    np.testing.assert_allclose(fit.s0, peer.S0_hat, rtol=1e-8)


@pytest.mark.parametrize("b_max", [0.0, -5.0, np.nan])
@pytest.mark.parametrize("select", [select_volumes, select_kurtosis_volumes])
def test_a_b_max_that_no_b_value_can_be_is_refused(b_max, select):
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(62, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    bvals = np.r_[0.0, 0.0, np.full(30, 1000.0), np.full(30, 2000.0)]
    table = GradientTable(bvals, np.where(bvals[:, None] > 0, directions, 0))
    with pytest.raises(InputError, match=r"b_max = .*above 0, in s/mm²"):
        select(table, b_max=b_max)
