"""Free water: recovery, DIPY's WLS, what it gains over the plain tensor, and scans that do not determine it."""

from __future__ import annotations

import numpy as np
import pytest
from tables import random_table

from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.models.free_water import fit_free_water_tensor, prepare_free_water
from arcuate.models.status import Status
from arcuate.models.tensor import fit_tensor, fractional_anisotropy


@pytest.fixture(scope="module")
def gradients() -> GradientTable:
    return random_table((0, 3), (1000, 30), (2000, 30))


def _signals(gradients: GradientTable, n: int = 300, most: float = 0.8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signals of the model, shares of water, eigenvalues."""
    rng = np.random.default_rng(1)
    evals = np.sort(rng.uniform(0.2e-3, 1.7e-3, (n, 3)), axis=1)[:, ::-1]
    turns = np.linalg.qr(rng.normal(size=(n, 3, 3)))[0]
    along = (np.einsum("vji,mj->vmi", turns, gradients.directions) ** 2 * evals[:, None, :]).sum(axis=-1)
    share = rng.uniform(0, most, n)
    tissue, water = np.exp(-gradients.bvals * along), np.exp(-gradients.bvals * 3e-3)
    return 500 * ((1 - share)[:, None] * tissue + share[:, None] * water), share, evals


def test_recovers_water_and_tissue_to_the_step_of_the_search(gradients):
    signals, share, evals = _signals(gradients)
    fit = fit_free_water_tensor(signals, gradients)
    np.testing.assert_allclose(fit.fwf, np.clip(share, 0.001, None), atol=1.1e-3)
    np.testing.assert_allclose(fit.evals, evals, atol=2e-5)
    np.testing.assert_allclose(fit.s0, 500, rtol=1e-2)
    assert np.all(fit.status == Status.FITTED)


def test_fa_of_tissue_with_water_is_nearer_to_truth_than_that_of_the_plain_tensor(gradients):
    signals, _, evals = _signals(gradients, most=0.5)
    noisy = np.abs(signals + np.random.default_rng(2).normal(scale=500 / 50, size=signals.shape))
    truth = fractional_anisotropy(evals)
    plain = np.abs(fit_tensor(noisy, gradients, b_max=2000).fa - truth).mean()
    assert np.abs(fit_free_water_tensor(noisy, gradients).fa - truth).mean() < 0.6 * plain


def test_water_alone_has_no_tensor(gradients):
    water = np.tile(800 * np.exp(-gradients.bvals * 3e-3), (5, 1))
    fit = fit_free_water_tensor(water, gradients)
    np.testing.assert_array_equal(fit.fwf, 1)
    assert not fit.tensors.any()
    assert not fit.fa.any()


def test_equals_dipys_wls_where_a_little_tissue_is_left_in_every_signal(gradients):
    """The same search in the same steps. Without noise in every voxel; with it, where tissue stays above the noise:
    a signal below that of the water tried is raised to a floor, and floors differ.
    """
    from dipy.core.gradients import gradient_table
    from dipy.reconst.fwdti import FreeWaterTensorModel

    signals, _, _ = _signals(gradients, n=150)
    noisy = np.abs(signals + np.random.default_rng(3).normal(scale=500 / 40, size=signals.shape))
    peer = FreeWaterTensorModel(gradient_table(gradients.bvals, bvecs=gradients.directions), fit_method="WLS")
    decay = np.exp(-3e-3 * gradients.bvals)
    for rows in (signals, noisy):
        ours, theirs = fit_free_water_tensor(rows, gradients), peer.fit(rows)
        same = np.abs(ours.fwf - theirs.f) < 1e-9
        water = np.outer(theirs.f * rows[:, gradients.is_b0].mean(axis=1), decay)
        has_tissue = (rows > water).all(axis=1)
        assert same[has_tissue].mean() >= 0.98
        assert np.abs(ours.fwf - theirs.f)[has_tissue].max() < 0.011
        positive = same & has_tissue & (theirs.evals[:, 2] > 1e-6)
        assert positive.mean() > 0.5
        np.testing.assert_allclose(ours.evals[positive], theirs.evals[positive], rtol=0, atol=1e-9)
        np.testing.assert_allclose(ours.fa[positive], theirs.fa[positive], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("gradients", "message"),
    [
        (
            random_table((0, 2), (1000, 60)),
            r"two shells.*found 1 \(shells of the scan: 1000\).*ill-posed.*Fit the tensor",
        ),
        (
            random_table((0, 2), (1000, 30), (4000, 30)),
            r"found 1 \(shells of the scan: 1000, 4000\).*Raise b_max",
        ),
        (random_table((500, 30), (1000, 30)), r"the scan has no b=0 volume"),
        (random_table((0, 2), (700, 2), (1500, 2)), r"6 distinct directions; found 4 with"),
    ],
    ids=["one shell", "second shell too high", "no b=0", "four directions"],
)
def test_what_does_not_determine_free_water_is_refused_with_the_reason(gradients, message):
    with pytest.raises(InputError, match=message):
        prepare_free_water(gradients)


def test_a_diffusivity_that_is_not_positive_is_refused(gradients):
    with pytest.raises(InputError, match=r"diffusivity of water 0; expected mm²/s above 0, such as 0\.003"):
        prepare_free_water(gradients, diso=0.0)


def test_signals_of_another_length_are_refused_with_both_counts(gradients):
    with pytest.raises(InputError, match=r"shape \(3, 33\) for 63 b-values"):
        fit_free_water_tensor(np.ones((3, 33)), gradients)
