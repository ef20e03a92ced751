"""Kurtosis: recovery, its measures against numerical integration, the volumes it sees, what it refuses, and DIPY."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.special import elliprd, elliprf

from arcuate.errors import InputError, InputWarning
from arcuate.gradients import GradientTable
from arcuate.models.kurtosis import (
    KurtosisModel,
    fit_kurtosis,
    kurtosis_design,
    select_kurtosis_volumes,
)
from arcuate.models.kurtosis_measures import (
    ELEMENTS,
    kurtosis_fractional_anisotropy,
    kurtosis_measures,
    mean_kurtosis_tensor,
    monomials,
)
from arcuate.models.mean_signal import prepare_mean_signal
from arcuate.models.status import Status
from arcuate.models.tensor import fit_tensor, fractional_anisotropy

AXES = {"x": 0, "y": 1, "z": 2}


def _directions(n: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _table(*shells: tuple[float, int], **options: float) -> GradientTable:
    bvals = np.concatenate([np.full(n, b) for b, n in shells])
    directions = np.concatenate([_directions(n, i) if b > 0 else np.zeros((n, 3)) for i, (b, n) in enumerate(shells)])
    return GradientTable(bvals, directions, **options)


def _turns(n: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(n, 3, 3)))[0]


def _two_pools(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """D (n, 3, 3) and MD² W (n, 15) of two Gaussian pools: D is their mean, MD² W(n) three times the variance."""
    rng = np.random.default_rng(seed)
    pools = []
    for _ in range(2):
        turns = _turns(n, rng)
        pools.append(np.einsum("vij,vj,vkj->vik", turns, rng.uniform(0.2e-3, 2.4e-3, (n, 3)), turns))
    share = rng.uniform(0.2, 0.8, n)[:, None, None]
    gap = pools[0] - pools[1]
    elements = []
    for element in ELEMENTS:
        i, j, k, m = (AXES[axis] for axis in element)
        elements.append(gap[:, i, j] * gap[:, k, m] + gap[:, i, k] * gap[:, j, m] + gap[:, i, m] * gap[:, j, k])
    kurtosis = np.stack(elements, axis=1) * (share * (1 - share))[:, :, 0]
    return share * pools[0] + (1 - share) * pools[1], kurtosis


def _coefs(tensors: np.ndarray, kurtosis: np.ndarray, s0: float = 700.0) -> np.ndarray:
    six = tensors[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]
    return np.column_stack([six, kurtosis, np.full(len(six), np.log(s0))])


def _signals(gradients: GradientTable, n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signals exactly of the model, D (n, 6) and W (n, 15)."""
    tensors, kurtosis = _two_pools(n, seed)
    coefs = _coefs(tensors, kurtosis)
    signals = np.exp(coefs @ kurtosis_design(gradients.bvals, gradients.directions).T)
    return signals, coefs[:, :6], kurtosis / (np.trace(tensors, axis1=1, axis2=2) / 3)[:, None] ** 2


@pytest.fixture(scope="module")
def gradients() -> GradientTable:
    return _table((0, 3), (1000, 32), (2000, 40))


@pytest.fixture(scope="module")
def noisy(gradients: GradientTable) -> np.ndarray:
    clean, *_ = _signals(gradients)
    return np.abs(clean + np.random.default_rng(5).normal(scale=20, size=clean.shape)) + 1e-2


# --- recovery


@pytest.mark.parametrize("n_reweight", [0, 1, 3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_recovers_the_tensors_that_made_the_signal(gradients, n_reweight, dtype):
    signals, tensors, kurtosis = _signals(gradients)
    fit = fit_kurtosis(signals.astype(dtype), gradients, n_reweight=n_reweight)
    tolerance = 1e-9 if dtype is np.float64 else 2e-4
    np.testing.assert_allclose(fit.tensors, tensors, rtol=0, atol=1e-3 * tolerance)
    np.testing.assert_allclose(fit.kurtosis, kurtosis, rtol=0, atol=tolerance * np.abs(kurtosis).max())
    np.testing.assert_allclose(fit.s0, 700, rtol=1e-5)
    assert np.all(fit.status == Status.FITTED)


def test_where_there_is_no_kurtosis_it_is_zero_and_the_tensor_is_the_plain_one(gradients):
    tensors, _ = _two_pools(100)
    coefs = _coefs(tensors, np.zeros((100, 15)))
    signals = np.exp(coefs @ kurtosis_design(gradients.bvals, gradients.directions).T)
    fit = fit_kurtosis(signals, gradients)
    np.testing.assert_allclose([fit.mk, fit.ak, fit.rk, fit.mkt], 0, atol=1e-8)
    np.testing.assert_allclose(fit.fa, fit_tensor(signals, gradients).fa, atol=1e-9)


def test_fa_and_md_of_tissue_with_kurtosis_are_nearer_to_truth_than_the_tensors_alone(gradients):
    tensors, kurtosis = _two_pools(500, seed=3)
    coefs = _coefs(tensors, kurtosis)
    signals = np.exp(coefs @ kurtosis_design(gradients.bvals, gradients.directions).T)
    evals = np.linalg.eigvalsh(tensors)[:, ::-1]
    alone, both = fit_tensor(signals, gradients), fit_kurtosis(signals, gradients)
    for truth, one, two in (
        (fractional_anisotropy(evals), alone.fa, both.fa),
        (evals.mean(axis=1), alone.md, both.md),
    ):
        assert np.abs(two - truth).max() < 1e-3 * np.abs(one - truth).max()


def test_weighted_fit_solves_its_normal_equations(gradients, noisy):
    design = kurtosis_design(gradients.bvals, gradients.directions)
    unit = design / np.linalg.norm(design, axis=0)
    before, after = (KurtosisModel(design, n_reweight=n).fit(noisy) for n in (0, 1))

    def logs(fit) -> np.ndarray:
        square = fit.md[:, None] ** 2
        return np.column_stack([fit.tensors, fit.kurtosis * square, np.log(fit.s0)]) @ design.T

    weights = np.exp(2 * logs(before))
    residual = np.log(noisy) - logs(after)
    gradient = np.einsum("mj,vm,vm->vj", unit, weights, residual)
    size = np.einsum("mj,vm,vm->vj", np.abs(unit), weights, np.abs(residual))
    assert np.abs(gradient / size).max() < 1e-8


# --- measures


def _sphere() -> tuple[np.ndarray, np.ndarray]:
    """Directions and weights of an integral over the sphere: Gauss-Legendre in z, even steps around it."""
    z, weights = np.polynomial.legendre.leggauss(200)
    phi = np.arange(96) * 2 * np.pi / 96
    r = np.sqrt(1 - z * z)[:, None]
    points = np.stack([r * np.cos(phi), r * np.sin(phi), np.broadcast_to(z[:, None], (200, 96))], axis=-1)
    return points.reshape(-1, 3), np.repeat(weights / 192, 96)


def _along(evals, evecs, kurtosis, directions) -> np.ndarray:
    """K(n) of one voxel."""
    diffusivity = (directions @ evecs.T) ** 2 @ evals
    return evals.mean() ** 2 * (monomials(directions) @ kurtosis) / diffusivity**2


EVALS = {
    "all apart": [1.7e-3, 0.6e-3, 0.2e-3],
    "two equal, prolate": [1.7e-3, 0.3e-3, 0.3e-3],
    "two equal, oblate": [1.3e-3, 1.3e-3, 0.2e-3],
    "three equal": [0.8e-3] * 3,
    "nearly equal": [0.8e-3 * (1 + 2e-6), 0.8e-3 * (1 + 1e-6), 0.8e-3],
    "two within rounding": [1.7e-3, 0.3e-3 * (1 + 1e-15), 0.3e-3],
    "one part in 100,000": [1.7e-3, 0.3e-3 * (1 + 1e-5), 0.3e-3],
    "a thin one": [2e-3, 0.4e-3, 0.02e-3],
}


@pytest.mark.parametrize("evals", EVALS.values(), ids=EVALS)
def test_mean_axial_and_radial_kurtosis_equal_numerical_integration(evals):
    evals = np.array(evals)
    points, weights = _sphere()
    circle = np.arange(2000) * 2 * np.pi / 2000
    n = 6
    _, kurtosis = _two_pools(n, seed=8)
    kurtosis /= 0.8e-3**2
    evecs = _turns(n, np.random.default_rng(2))
    mk, ak, rk = kurtosis_measures(np.tile(evals, (n, 1)), evecs, kurtosis)
    for v in range(n):
        order = points @ evecs[v]  # the grid in the frame of the eigenvectors, finest where D(n) is least
        expected = weights @ _along(evals, evecs[v], kurtosis[v], order)
        np.testing.assert_allclose(mk[v], expected, rtol=1e-8)
        around = np.outer(np.cos(circle), evecs[v, 1]) + np.outer(np.sin(circle), evecs[v, 2])
        np.testing.assert_allclose(rk[v], _along(evals, evecs[v], kurtosis[v], around).mean(), rtol=1e-9)
        np.testing.assert_allclose(ak[v], _along(evals, evecs[v], kurtosis[v], evecs[v, :1])[0], rtol=1e-9)


def _tabesh(a: float, b: float, c: float) -> tuple[float, float]:
    """F1 and F2 of Tabesh 2011 by Carlson's integrals, for eigenvalues that are well apart."""
    square, root = (a + b + c) ** 2, np.sqrt(b * c)
    rf, rd = elliprf(a / b, a / c, 1), elliprd(a / b, a / c, 1)
    first = root / a * rf + (3 * a * a - a * b - b * c - a * c) / (3 * a * root) * rd - 1
    second = (b + c) / root * rf + (2 * a - b - c) / (3 * root) * rd - 2
    return square / (18 * (a - b) * (a - c)) * first, square / (3 * (b - c) ** 2) * second


def test_mean_kurtosis_equals_the_published_formula_where_eigenvalues_are_apart():
    rng = np.random.default_rng(4)
    evals = np.sort(rng.uniform([1.5e-3, 0.7e-3, 0.2e-3], [2e-3, 1.2e-3, 0.5e-3], (50, 3)), axis=1)[:, ::-1]
    kurtosis = rng.normal(size=(50, 15))
    mk, _, _ = kurtosis_measures(evals, np.tile(np.eye(3), (50, 1, 1)), kurtosis)
    for v, (a, b, c) in enumerate(evals):
        (f11, f12), (f21, f22), (f31, f32) = _tabesh(a, b, c), _tabesh(b, a, c), _tabesh(c, b, a)
        w = kurtosis[v]
        expected = f11 * w[0] + f21 * w[1] + f31 * w[2] + f12 * w[11] + f22 * w[10] + f32 * w[9]
        np.testing.assert_allclose(mk[v], expected, rtol=1e-8)


def test_a_voxel_without_a_positive_tensor_has_no_kurtosis_along_directions():
    evals = np.array([[1e-3, 0.5e-3, 0.0], [1e-3, 0.5e-3, -0.1e-3], [0, 0, 0], [np.nan] * 3])
    measures = kurtosis_measures(evals, np.tile(np.eye(3), (4, 1, 1)), np.ones((4, 15)))
    np.testing.assert_array_equal(measures, 0)


def test_an_isotropic_kurtosis_tensor_has_its_mean_and_no_anisotropy():
    isotropic = np.array([1.0] * 3 + [0] * 6 + [1 / 3] * 3 + [0] * 3)
    np.testing.assert_allclose(monomials(_directions(20)) @ isotropic, 1)
    np.testing.assert_allclose(mean_kurtosis_tensor(0.7 * isotropic), 0.7)
    np.testing.assert_allclose(kurtosis_fractional_anisotropy(0.7 * isotropic), 0, atol=1e-12)
    assert kurtosis_fractional_anisotropy(np.zeros(15)) == 0
    single = np.array([1.0] + [0] * 14)  # W(n) = x⁴: ‖W - W̄ I‖² = 1 - 2 W̄ + 5 W̄², W̄ = 1/5
    np.testing.assert_allclose(kurtosis_fractional_anisotropy(single), np.sqrt(0.8))


def test_mean_signal_gives_the_diffusivity_and_kurtosis_that_made_it():
    gradients = _table((0, 2), (700, 30), (1500, 30), (2500, 5))
    b = gradients.bvals
    signals = 50 * np.exp(-0.9e-3 * b + (0.9e-3 * b) ** 2 * 0.8 / 6)
    signals = signals * (1 + 0.1 * np.random.default_rng(0).normal(size=(3, len(b))) * (b > 2000))
    diffusivity, kurtosis = prepare_mean_signal(gradients, np.arange(len(gradients))).fit(signals)
    np.testing.assert_allclose(diffusivity, 0.9e-3, rtol=1e-9)  # five directions do not make a mean: not used
    np.testing.assert_allclose(kurtosis, 0.8, rtol=1e-8)


def test_mean_signal_needs_three_averages():
    assert prepare_mean_signal(_table((0, 2), (1000, 30), (2000, 5)), np.arange(37)) is None


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
    fit, clean = fit_kurtosis(spoiled, gradients), fit_kurtosis(noisy, gradients)
    others = np.arange(len(noisy)) != 17
    assert fit.status[17] == status
    assert np.all(fit.status[others] == Status.FITTED)
    for name in ("tensors", "kurtosis", "s0", "evals", "evecs", "fa", "mk", "rk", "ak", "kfa"):
        np.testing.assert_array_equal(getattr(fit, name)[others], getattr(clean, name)[others])
        assert np.all(np.isfinite(getattr(fit, name)))
    if status == Status.NOT_FINITE:
        assert not fit.tensors[17].any()
        assert not fit.kurtosis[17].any()
        assert not fit.evecs[17].any()


@pytest.mark.parametrize("bad", [0.0, -5.0, np.nan])
def test_mean_signal_of_a_bad_voxel_is_zero_and_its_neighbours_are_unchanged(gradients, noisy, bad):
    model = prepare_mean_signal(gradients, np.arange(len(gradients)))
    spoiled = noisy[:20].copy()
    spoiled[3] = bad
    found, clean = np.array(model.fit(spoiled)), np.array(model.fit(noisy[:20]))
    np.testing.assert_array_equal(found[:, 3], 0)
    np.testing.assert_allclose(np.delete(found, 3, axis=1), np.delete(clean, 3, axis=1), rtol=1e-12)


def test_eigenvalues_are_raised_to_a_floor_and_the_tensor_with_them(gradients):
    signals, *_ = _signals(gradients, 400)
    noisy = np.abs(signals + np.random.default_rng(0).normal(scale=150, size=signals.shape)) + 1
    free = fit_kurtosis(noisy, gradients, nonnegative=False)
    held = fit_kurtosis(noisy, gradients)
    low = free.evals[:, 2] < 0
    assert low.sum() > 5
    np.testing.assert_allclose(held.evals[low, 2], 1e-6 / 2000)
    rebuilt = np.einsum("vki,vk,vkj->vij", held.evecs, held.evals, held.evecs)
    np.testing.assert_allclose(rebuilt[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]], held.tensors, rtol=0, atol=1e-16)
    np.testing.assert_array_equal(held.tensors[~low], free.tensors[~low])


# --- which volumes


def test_shells_above_b_max_are_left_out():
    gradients = _table((0, 2), (1000, 20), (2000, 20), (3050, 20), (5000, 20))
    bvals = gradients.bvals
    np.testing.assert_array_equal(select_kurtosis_volumes(gradients), np.flatnonzero(bvals <= 3100))
    np.testing.assert_array_equal(select_kurtosis_volumes(gradients, b_max=2000), np.flatnonzero(bvals <= 2100))


def test_a_scan_without_b0_needs_three_shells_and_says_that_s0_is_extrapolated():
    with pytest.raises(InputError, match=r"without b=0 it needs three shells.*found 2 \(shells of the scan: 1000, 20"):
        select_kurtosis_volumes(_table((1000, 30), (2000, 30)))
    with pytest.warns(InputWarning, match="no b=0 volume"):
        assert len(select_kurtosis_volumes(_table((500, 30), (1000, 30), (2000, 30)))) == 90


@pytest.mark.parametrize(
    ("gradients", "message"),
    [
        (
            _table((0, 2), (1000, 60)),
            r"beside b=0 it needs two shells with b <= 3000.*found 1 \(shells of the scan: 1000\)",
        ),
        (_table((0, 2), (1000, 60), (4000, 60)), r"found 1 \(shells of the scan: 1000, 4000\)\. Raise b_max"),
        (_table((0, 10)), r"found 0 \(shells of the scan: none\)"),
        (_table((0, 2), (1000, 7), (2000, 7)), r"15 distinct directions; found 14 with"),
        (_table((0, 2), (1000, 8), (2000, 8)), r"22 unknowns; the 18 volumes up to b = 2000"),
        (
            GradientTable(
                np.r_[0.0, np.full(20, 1000.0), np.full(20, 2000.0)],
                [
                    [0, 0, 0],
                    *[[np.cos(t), np.sin(t), 0] for t in np.arange(20) * np.pi / 20] * 2,
                ],
            ),
            r"22 unknowns; the 41 volumes .* determine 9 of them .*in a plane",
        ),
    ],
    ids=["one shell", "second shell too high", "b=0 only", "14 directions", "18 volumes", "directions in a plane"],
)
def test_what_does_not_determine_kurtosis_is_refused_with_the_reason(gradients, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        with pytest.raises(InputError, match=message):
            select_kurtosis_volumes(gradients)


def test_fifteen_directions_on_each_of_two_shells_suffice():
    fifteen = _directions(15, 3)
    gradients = GradientTable(
        np.r_[0.0, np.full(15, 1000.0), np.full(15, 2000.0)], np.r_[np.zeros((1, 3)), fifteen, fifteen]
    )
    signals, _, kurtosis = _signals(gradients, 20)
    np.testing.assert_allclose(fit_kurtosis(signals, gradients).kurtosis, kurtosis, atol=1e-7)


def test_signals_of_another_length_are_refused_with_both_counts(gradients):
    with pytest.raises(InputError, match=r"shape \(3, 33\) for 75 b-values"):
        fit_kurtosis(np.ones((3, 33)), gradients)


def test_negative_count_of_rounds_is_refused(gradients, noisy):
    with pytest.raises(InputError, match=r"n_reweight is -1; expected 0 \(OLS\)"):
        fit_kurtosis(noisy, gradients, n_reweight=-1)


# --- DIPY


@pytest.mark.parametrize(("method", "n_reweight"), [("OLS", 0), ("WLS", 1)])
def test_equals_dipy_on_the_same_volumes(noisy, gradients, method, n_reweight):
    from dipy.core.gradients import gradient_table
    from dipy.reconst.dki import DiffusionKurtosisModel as Peer

    fit = fit_kurtosis(noisy, gradients, n_reweight=n_reweight)
    table = gradient_table(gradients.bvals, bvecs=gradients.directions)
    peer = Peer(table, fit_method=method, return_S0_hat=True).fit(noisy)
    np.testing.assert_allclose(fit.evals, peer.evals, rtol=0, atol=1e-11)
    np.testing.assert_allclose(fit.kurtosis, peer.kt, rtol=0, atol=1e-6 * np.abs(peer.kt).max())
    np.testing.assert_allclose(fit.s0, peer.S0_hat.ravel(), rtol=1e-8)
    np.testing.assert_allclose(fit.fa, peer.fa, rtol=0, atol=1e-8)
    free = {"min_kurtosis": -np.inf, "max_kurtosis": np.inf}
    apart = np.min(-np.diff(fit.evals, axis=1), axis=1) > 0.1 * fit.md  # its formulas lose digits where they meet
    assert apart.mean() > 0.5
    for name in ("ak", "mkt"):
        np.testing.assert_allclose(getattr(fit, name), getattr(peer, name)(**free), rtol=0, atol=1e-6)
    np.testing.assert_allclose(fit.rk[apart], peer.rk(**free)[apart], rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        fit.mk[apart], peer.mk(**free)[apart], rtol=0, atol=5e-3
    )  # its Carlson integrals stop at 3e-4
    positive = peer.kfa > 0  # it gives 0 where the mean of W is not positive
    np.testing.assert_allclose(fit.kfa[positive], peer.kfa[positive], rtol=0, atol=1e-6)


def test_mean_signal_equals_dipys(noisy, gradients):
    from dipy.core.gradients import gradient_table
    from dipy.reconst.msdki import MeanDiffusionKurtosisModel as Peer

    diffusivity, kurtosis = prepare_mean_signal(gradients, np.arange(len(gradients))).fit(noisy)
    peer = Peer(gradient_table(gradients.bvals, bvecs=gradients.directions)).fit(noisy)
    np.testing.assert_allclose(diffusivity, peer.msd, rtol=1e-8)
    np.testing.assert_allclose(kurtosis, peer.msk, rtol=0, atol=1e-6)
