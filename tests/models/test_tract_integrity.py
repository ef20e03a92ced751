"""White-matter tract integrity: recovery, the largest kurtosis, where it holds, laws, and DIPY."""

from __future__ import annotations

import numpy as np
import pytest

from arcuate.gradients import GradientTable
from arcuate.models.kurtosis import fit_kurtosis
from arcuate.models.kurtosis_measures import monomials
from arcuate.models.tract_integrity import TractStatus, largest_kurtosis, tract_integrity
from arcuate.phantom import make_phantom


def _directions(n: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def gradients() -> GradientTable:
    bvals = np.r_[np.zeros(3), np.full(30, 700.0), np.full(40, 1400.0)]
    return GradientTable(bvals, np.where(bvals[:, None] > 0, _directions(73), 0))


def _axons(gradients: GradientTable, share: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Log signals to the second order of b (what kurtosis sees) of sticks and what is around them."""
    g = gradients.directions
    cosine = (g @ turns.transpose(0, 2, 1)[..., 0].T).T ** 2
    within, around = 1e-3 * cosine, 1.9e-3 * cosine + 0.5e-3 * (1 - cosine)
    mean = share[:, None] * within + (1 - share)[:, None] * around
    spread = (share * (1 - share))[:, None] * (around - within) ** 2
    b = gradients.bvals
    return 500 * np.exp(-b * mean + b**2 * spread / 2)


def test_recovers_the_axons_that_made_the_signal(gradients):
    rng = np.random.default_rng(0)
    share, turns = rng.uniform(0.5, 0.7, 200), np.linalg.qr(rng.normal(size=(200, 3, 3)))[0]
    found = tract_integrity(fit_kurtosis(_axons(gradients, share, turns), gradients))
    valid = found.status == TractStatus.VALID
    assert valid.sum() > 100
    np.testing.assert_allclose(found.awf[valid], share[valid], atol=1e-6)
    np.testing.assert_allclose(found.da[valid], 1e-3, rtol=1e-4)
    np.testing.assert_allclose(found.de_ad[valid], 1.9e-3, rtol=1e-4)
    np.testing.assert_allclose(found.de_rd[valid], 0.5e-3, rtol=1e-4)
    np.testing.assert_allclose(found.tortuosity[valid], 1.9 / 0.5, rtol=1e-3)


def test_the_largest_kurtosis_is_that_of_a_dense_grid_or_above():
    rng = np.random.default_rng(1)
    turns = np.linalg.qr(rng.normal(size=(40, 3, 3)))[0]
    evals = rng.uniform(0.2e-3, 2e-3, (40, 3))
    matrices = np.einsum("vij,vj,vkj->vik", turns, evals, turns)
    power = 1e-6 * rng.normal(size=(40, 15))
    dense = _directions(100_000, 5)
    along = np.einsum("ni,vij,nj->vn", dense, matrices, dense, optimize=True)
    expected = (power @ monomials(dense).T / along**2).max(axis=1)
    found = largest_kurtosis(matrices[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]], power)
    assert np.all(found >= expected * (1 - 1e-9))
    np.testing.assert_allclose(found, expected, rtol=5e-3)


def test_is_dipys_where_axons_are_aligned(gradients):
    from dipy.core.gradients import gradient_table
    from dipy.reconst.dki_micro import KurtosisMicrostructureModel

    head = make_phantom(gradients, shape=(30, 30, 20), voxel_size=6.0, snr=40, seed=1)
    rows = np.asarray(head.signal)[head.brain_mask & (head.fa > 0.6)].astype(np.float64)
    fit = fit_kurtosis(rows, gradients)
    found = tract_integrity(fit)
    pick = np.flatnonzero(found.status == TractStatus.VALID)[:15]
    assert len(pick) == 15
    table = gradient_table(gradients.bvals, bvecs=gradients.directions)
    peer = KurtosisMicrostructureModel(table).fit(rows[pick], gtol=1e-6)
    np.testing.assert_allclose(found.awf[pick], peer.awf, rtol=1e-6)
    np.testing.assert_allclose(found.da[pick], peer.axonal_diffusivity, rtol=1e-6)
    np.testing.assert_allclose(found.de_ad[pick], peer.hindered_ad, rtol=1e-6)
    np.testing.assert_allclose(found.de_rd[pick], peer.hindered_rd, rtol=1e-6)
    np.testing.assert_allclose(found.tortuosity[pick], peer.tortuosity, rtol=1e-6)


def test_crossing_grey_and_empty_voxels_are_marked_and_zero(gradients):
    turns = np.stack([np.eye(3), np.eye(3)[[1, 0, 2]]])
    one, other = _axons(gradients, np.array([0.6, 0.6]), turns)
    water = np.exp(-0.8e-3 * gradients.bvals)
    rows = np.stack([one, 0.5 * (one + other), water, np.zeros_like(one), np.full_like(one, np.nan)])
    found = tract_integrity(fit_kurtosis(rows, gradients))
    expected = [TractStatus.VALID, TractStatus.NOT_ALIGNED, TractStatus.NOT_ALIGNED, TractStatus.OUTSIDE]
    np.testing.assert_array_equal(found.status, [*expected, TractStatus.OUTSIDE])
    for values in (found.awf, found.da, found.de_ad, found.de_rd, found.tortuosity):
        assert values[0] > 0
        assert not values[1:].any()


def test_one_compartment_has_no_axonal_fraction(gradients):
    along = np.einsum("mi,i->m", gradients.directions**2, [1.7e-3, 0.2e-3, 0.2e-3])
    signals = np.exp(-gradients.bvals * along - (gradients.bvals * along) ** 2 * 0.05)
    found = tract_integrity(fit_kurtosis(signals[None], gradients))
    assert found.status[0] == TractStatus.NO_KURTOSIS
    assert found.awf[0] == 0


def test_rotation_changes_little_and_order_and_number_of_rows_nothing(gradients):
    rng = np.random.default_rng(2)
    rows = _axons(gradients, rng.uniform(0.5, 0.7, 30), np.linalg.qr(rng.normal(size=(30, 3, 3)))[0])
    rows = rows * np.exp(rng.normal(0, 0.02, rows.shape))
    plain = tract_integrity(fit_kurtosis(rows, gradients))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turned = tract_integrity(fit_kurtosis(rows, GradientTable(gradients.bvals, gradients.directions @ turn.T)))
    np.testing.assert_array_equal(turned.status, plain.status)
    np.testing.assert_allclose(turned.awf, plain.awf, rtol=1e-6)
    np.testing.assert_allclose(turned.de_ad, plain.de_ad, rtol=0.02)  # tensors are fitted to 100 fixed directions
    alone = tract_integrity(fit_kurtosis(rows[11:12], gradients))
    np.testing.assert_allclose(alone.da, plain.da[11:12], rtol=1e-12)
    assert len(tract_integrity(fit_kurtosis(rows[:0], gradients)).awf) == 0
