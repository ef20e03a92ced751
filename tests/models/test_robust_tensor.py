"""Robust tensor: slices that dropped out and spikes, what it costs without them, the median, and DIPY's RESTORE."""

from __future__ import annotations

import numpy as np
import pytest
from tables import random_table

from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.models.robust_tensor import RobustTensorModel, fit_robust_tensor, prepare_robust_tensor
from arcuate.models.status import Status
from arcuate.models.tensor import fit_tensor, tensor_design
from arcuate.phantom import make_phantom


def _table(n_b0: int = 3, n: int = 45, seed: int = 3) -> GradientTable:
    vectors = np.random.default_rng(seed).normal(size=(n_b0 + n, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[:n_b0] = 0
    return GradientTable(np.r_[np.zeros(n_b0), np.full(n, 1000.0)], vectors)


def _tensors(n: int, gradients: GradientTable, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise-free signals of tensors (S0 = 500), and their FA."""
    rng = np.random.default_rng(seed)
    evals = np.sort(rng.uniform(0.2e-3, 1.8e-3, (n, 3)), axis=1)[:, ::-1]
    turns = np.linalg.qr(rng.normal(size=(n, 3, 3)))[0]
    along = (np.einsum("vji,mj->vmi", turns, gradients.directions) ** 2 * evals[:, None, :]).sum(axis=-1)
    spread = np.sqrt(1.5 * ((evals - evals.mean(axis=1, keepdims=True)) ** 2).sum(axis=1) / (evals**2).sum(axis=1))
    return 500 * np.exp(-gradients.bvals * along), spread


@pytest.fixture(scope="module")
def head() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, GradientTable]:
    """A head at SNR 25: signals, the same with 5 % of slices dropped out, which those are, FA without noise, table."""
    gradients = _table()
    noisy, clean = (make_phantom(gradients, shape=(24, 24, 16), voxel_size=8.0, snr=snr, seed=1) for snr in (25, None))
    inside = noisy.brain_mask
    rows = np.asarray(noisy.signal)[inside].astype(np.float64)
    rng = np.random.default_rng(0)
    lost = np.zeros((16, len(gradients)), dtype=bool)
    lost.ravel()[rng.permutation(lost.size)[: int(0.05 * lost.size)]] = True
    dropped = lost[np.argwhere(inside)[:, 2]]
    spoiled = np.where(dropped, rows * rng.uniform(0, 0.3, rows.shape), rows)
    return rows, spoiled, dropped, fit_tensor(np.asarray(clean.signal)[inside], gradients).fa, gradients


def test_with_five_percent_of_slices_dropped_out_fa_is_as_good_as_that_of_the_clean_scan(head):
    rows, spoiled, dropped, truth, gradients = head
    clean, plain = (np.abs(fit_tensor(signals, gradients).fa - truth).mean() for signals in (rows, spoiled))
    fit = fit_robust_tensor(spoiled, gradients)
    assert np.abs(fit.fa - truth).mean() < 1.1 * clean
    assert plain > 2 * clean, "the plain fit is spoiled: else nothing was tested"
    assert fit.outliers[dropped].mean() > 0.98
    assert fit.outliers[~dropped].mean() < 0.005


def test_without_outliers_it_is_as_good_as_wls(head):
    rows, _, _, truth, gradients = head
    clean = np.abs(fit_tensor(rows, gradients).fa - truth).mean()
    assert np.abs(fit_robust_tensor(rows, gradients).fa - truth).mean() < 1.02 * clean


@pytest.mark.parametrize("shells", [((0, 2), (700, 20), (1400, 20)), ((0, 7), (500, 6), (1000, 15))])
def test_b0_volumes_are_no_outliers_where_the_signal_of_two_shells_bends_away_from_a_tensors(shells):
    """Kurtosis and free water lift the signal at b = 0 above the tensor's: that is the model's fault, not theirs."""
    gradients = random_table(*shells)
    noisy, clean = (make_phantom(gradients, shape=(24, 24, 16), voxel_size=8.0, snr=s, seed=1) for s in (40, None))
    rows, without = (np.asarray(h.signal)[noisy.brain_mask].astype(np.float64) for h in (noisy, clean))
    truth, plain, fit = fit_tensor(without, gradients), fit_tensor(rows, gradients), fit_robust_tensor(rows, gradients)
    assert fit.outliers[:, gradients.is_b0].mean() < 0.01
    for found, best, true in ((fit.fa, plain.fa, truth.fa), (fit.md, plain.md, truth.md)):
        assert np.abs(found - true).mean() < 1.02 * np.abs(best - true).mean()


def test_a_voxel_without_outliers_has_the_tensor_of_wls(head):
    rows, _, _, _, gradients = head
    fit, plain = fit_robust_tensor(rows, gradients), fit_tensor(rows, gradients)
    whole = fit.n_outliers == 0
    assert whole.mean() > 0.7
    np.testing.assert_allclose(fit.tensors[whole], plain.tensors[whole], rtol=0, atol=1e-12)
    np.testing.assert_allclose(fit.s0[whole], plain.s0[whole], rtol=1e-9)


def test_a_voxel_with_outliers_has_the_tensor_of_its_other_volumes(head):
    _, spoiled, _, _, gradients = head
    fit = fit_robust_tensor(spoiled, gradients)
    for v in np.flatnonzero(fit.n_outliers > 1)[:10]:
        kept = np.flatnonzero(~fit.outliers[v])
        alone = fit_tensor(spoiled[v : v + 1, kept], gradients.subset(kept))
        np.testing.assert_allclose(fit.tensors[v], alone.tensors[0], rtol=0, atol=1e-11)


@pytest.mark.parametrize(("factor", "count"), [(0.0, 4), (0.2, 4), (1.5, 2), (3.0, 2)])
def test_dropped_signals_and_spikes_change_nothing_where_there_is_no_noise(factor, count):
    gradients = _table()
    signals, fa = _tensors(200, gradients)
    spoiled = signals.copy()
    for v in range(200):
        spoiled[v, np.random.default_rng(v).permutation(48)[:count]] *= factor
    fit = fit_robust_tensor(spoiled, gradients)
    np.testing.assert_allclose(fit.fa, fa, atol=1e-6)
    np.testing.assert_array_equal(fit.outliers, spoiled != signals)
    assert np.all(fit.status == (Status.FLOORED if factor == 0 else Status.FITTED))


def test_noise_that_is_known_keeps_volumes_whose_residuals_it_explains(head):
    rows, _, _, _, gradients = head
    few = fit_robust_tensor(rows, gradients, noise=np.full(len(rows), 1e6))
    assert not few.outliers.any()
    same = fit_robust_tensor(rows, gradients, noise=np.full(len(rows), np.nan))
    np.testing.assert_array_equal(same.outliers, fit_robust_tensor(rows, gradients).outliers)


def test_too_few_volumes_are_refused_with_both_counts():
    with pytest.raises(InputError, match=r"needs 12 volumes, 5 more than it has unknowns; found 10\."):
        prepare_robust_tensor(_table(2, 8))
    assert len(prepare_robust_tensor(_table(1, 11))[0]) == 12


def test_a_cutoff_that_is_not_positive_is_refused():
    gradients = _table()
    with pytest.raises(InputError, match=r"cutoff 0; expected a number above 0"):
        RobustTensorModel(tensor_design(gradients.bvals, gradients.directions), cutoff=0.0)


def test_finds_the_outliers_that_dipys_restore_finds(head):
    """RESTORE cuts at 3 and takes the spread from other weights: on gross outliers both agree."""
    from dipy.core.gradients import gradient_table
    from dipy.reconst.dti import TensorModel

    _, spoiled, dropped, truth, gradients = head
    pick = np.random.default_rng(0).permutation(len(spoiled))[:150]
    rows = np.maximum(spoiled[pick], 1e-3)
    peer = TensorModel(gradient_table(gradients.bvals, bvecs=gradients.directions), fit_method="RESTORE")
    theirs = peer.fit(rows)
    ours = fit_robust_tensor(rows, gradients)
    assert np.median(np.abs(ours.fa - theirs.fa)) < 0.01
    assert np.abs(ours.fa - truth[pick]).mean() < 1.02 * np.abs(theirs.fa - truth[pick]).mean()
    assert (peer.extra["robust"][dropped[pick]] == 0).mean() > 0.95
    assert ours.outliers[dropped[pick]].mean() > 0.95
