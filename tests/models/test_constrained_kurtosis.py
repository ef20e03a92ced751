"""Kurtosis held positive, of a signal that decreases: optimality, an independent solver, laws, truth and status."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from tables import random_table

from arcuate.gradients import GradientTable
from arcuate.models.kurtosis import KurtosisFit, fit_kurtosis, kurtosis_constraints, kurtosis_design, prepare_kurtosis
from arcuate.models.status import Status
from arcuate.phantom import make_phantom


@pytest.fixture(scope="module")
def gradients() -> GradientTable:
    return random_table((0, 3), (1000, 30), (2000, 40))


@pytest.fixture(scope="module")
def rows(gradients) -> np.ndarray:
    """White matter of the phantom at SNR 15."""
    head = make_phantom(gradients, shape=(20, 20, 14), voxel_size=9.0, snr=15, seed=2)
    return np.asarray(head.signal)[head.brain_mask & (head.tissue[..., 0] > 0.7)][:150].astype(np.float64)


def _coefs(fit: KurtosisFit) -> np.ndarray:
    return np.column_stack([fit.tensors, fit.kurtosis * fit.md[:, None] ** 2, np.log(fit.s0)])


def _rows_of_constraints(gradients: GradientTable) -> np.ndarray:
    weighted = ~gradients.is_b0
    rows = kurtosis_constraints(gradients.directions[weighted], float(gradients.bvals.max()))
    unit = rows / np.linalg.norm(kurtosis_design(gradients.bvals, gradients.directions), axis=0)
    return rows / np.linalg.norm(unit, axis=1, keepdims=True)


def _weights(gradients: GradientTable, rows: np.ndarray, n_reweight: int) -> np.ndarray:
    if n_reweight == 0:
        return np.ones_like(rows)
    before = fit_kurtosis(rows, gradients, n_reweight=n_reweight - 1, nonnegative=False)
    return np.exp(2 * _coefs(before) @ kurtosis_design(gradients.bvals, gradients.directions).T)


@pytest.mark.parametrize("n_reweight", [0, 1, 2])
def test_kurtosis_is_positive_and_the_signal_decreases_along_every_direction(gradients, rows, n_reweight):
    free = fit_kurtosis(rows, gradients, n_reweight=n_reweight, nonnegative=False)
    held = fit_kurtosis(rows, gradients, n_reweight=n_reweight, nonnegative=False, constrained=True)
    constraints = _rows_of_constraints(gradients)
    assert (_coefs(free) @ constraints.T).min() < -1e-2, "else nothing was tested"
    assert (_coefs(held) @ constraints.T).min() > -1e-9
    assert np.all(held.status == Status.FITTED)
    assert 0.3 < held.is_bound.mean() <= 1


def test_voxels_that_obey_by_themselves_keep_the_plain_fit(gradients, rows):
    free = fit_kurtosis(rows, gradients, nonnegative=False)
    held = fit_kurtosis(rows, gradients, nonnegative=False, constrained=True)
    broken = (_coefs(free) @ _rows_of_constraints(gradients).T).min(axis=1) < -1e-9
    np.testing.assert_array_equal(held.is_bound, broken)
    assert np.count_nonzero(~broken) > 10
    for name in ("tensors", "kurtosis", "s0", "evals", "mk"):
        np.testing.assert_array_equal(getattr(held, name)[~broken], getattr(free, name)[~broken])


@pytest.mark.parametrize("n_reweight", [0, 1])
def test_the_constrained_fit_is_optimal(gradients, rows, n_reweight):
    """Its gradient is a non-negative combination of the constraints that hold with equality (Karush, Kuhn, Tucker)."""
    from scipy.optimize import nnls

    design = kurtosis_design(gradients.bvals, gradients.directions)
    lengths = np.linalg.norm(design, axis=0)
    constraints = _rows_of_constraints(gradients)
    held = fit_kurtosis(rows, gradients, n_reweight=n_reweight, nonnegative=False, constrained=True)
    weights, coefs = _weights(gradients, rows, n_reweight), _coefs(held)
    for v in np.flatnonzero(held.is_bound)[:60]:
        slope = (design / lengths).T @ (weights[v] * (design @ coefs[v] - np.log(rows[v])))
        active = constraints[constraints @ coefs[v] < 1e-8]
        multipliers, rest = nnls((active / lengths).T, slope)
        assert rest < 1e-7 * np.linalg.norm(slope)
        assert multipliers.max() > 0


def test_an_independent_solver_finds_the_same_tensors(gradients, rows):
    """SciPy's sequential quadratic programming, on the same weighted sum of squares."""
    design = kurtosis_design(gradients.bvals, gradients.directions)
    lengths = np.linalg.norm(design, axis=0)
    constraints = _rows_of_constraints(gradients) / lengths
    held = fit_kurtosis(rows, gradients, nonnegative=False, constrained=True)
    weights = _weights(gradients, rows, 1)
    for v in np.flatnonzero(held.is_bound)[:6]:
        weight = weights[v] / weights[v].max()
        matrix = np.sqrt(weight)[:, None] * design / lengths
        target = np.sqrt(weight) * np.log(rows[v])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = minimize(
                lambda c, m=matrix, t=target: 0.5 * np.sum((m @ c - t) ** 2),
                np.zeros(22),
                jac=lambda c, m=matrix, t=target: m.T @ (m @ c - t),
                constraints={"type": "ineq", "fun": lambda c: constraints @ c, "jac": lambda c: constraints},
                method="SLSQP",
                options={"ftol": 1e-15, "maxiter": 500},
            )
        ours = 0.5 * np.sum((matrix @ (_coefs(held)[v] * lengths) - target) ** 2)
        assert ours <= found.fun * (1 + 1e-6) + 1e-12
        np.testing.assert_allclose(design @ _coefs(held)[v], design @ (found.x / lengths), rtol=0, atol=1e-3)


def test_rotation_scale_and_order_of_volumes_change_nothing(gradients, rows):
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    plain = fit_kurtosis(rows, gradients, constrained=True)
    turned = GradientTable(gradients.bvals, gradients.directions @ turn.T)
    order = np.random.default_rng(1).permutation(len(gradients))
    for other in (
        fit_kurtosis(rows, turned, constrained=True),
        fit_kurtosis(1e-3 * rows, gradients, constrained=True),
        fit_kurtosis(rows[:, order], gradients.subset(order), constrained=True),
    ):
        for name in ("fa", "mk", "ak", "rk", "kfa"):
            np.testing.assert_allclose(getattr(other, name), getattr(plain, name), rtol=1e-5, atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(other.is_bound, plain.is_bound)


@pytest.mark.parametrize("layout", ["float32", "reversed", "fortran", "one row", "no row"])
def test_storage_of_the_rows_changes_nothing(gradients, rows, layout):
    plain = fit_kurtosis(rows, gradients, constrained=True)
    turned = {
        "float32": (rows.astype(np.float32), slice(None)),
        "reversed": (rows[::-1], slice(None, None, -1)),
        "fortran": (np.asfortranarray(rows), slice(None)),
        "one row": (rows[7:8], slice(7, 8)),
        "no row": (rows[:0], slice(0, 0)),
    }
    signals, place = turned[layout]
    fit = fit_kurtosis(signals, gradients, constrained=True)
    tolerance = 1e-3 if layout == "float32" else 1e-12
    np.testing.assert_allclose(fit.mk, plain.mk[place], rtol=tolerance)


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
def test_a_bad_signal_marks_its_voxel_and_no_other(gradients, rows, bad, status):
    spoiled = rows.copy()
    spoiled[17, 5] = bad
    fit, clean = fit_kurtosis(spoiled, gradients, constrained=True), fit_kurtosis(rows, gradients, constrained=True)
    others = np.arange(len(rows)) != 17
    assert fit.status[17] == status
    np.testing.assert_array_equal(fit.kurtosis[others], clean.kurtosis[others])
    assert np.all(np.isfinite(fit.mk))
    silent = fit_kurtosis(np.zeros((2, len(gradients))), gradients, constrained=True)
    assert np.all(silent.status == Status.NO_SIGNAL)
    assert not silent.kurtosis.any()
    assert not silent.is_bound.any()


def test_signals_of_water_alone_and_of_noise_alone_have_an_answer(gradients):
    rng = np.random.default_rng(0)
    water = np.exp(-3e-3 * gradients.bvals)[None] + np.abs(rng.normal(0, 0.02, (100, len(gradients))))
    noise = np.abs(rng.normal(0, 1, (100, len(gradients)))) + 1e-3
    for signals in (water, noise, np.ones((1, len(gradients)))):
        fit = fit_kurtosis(signals, gradients, constrained=True)
        assert set(fit.status) <= {Status.FITTED, Status.FLOORED}
        for name in ("fa", "md", "mk", "ak", "rk", "kfa", "s0"):
            assert np.all(np.isfinite(getattr(fit, name))), name


def test_constraints_bring_fa_md_and_mk_nearer_to_truth_where_there_is_noise(gradients):
    heads = {
        snr: make_phantom(gradients, shape=(20, 20, 14), voxel_size=9.0, snr=snr, seed=4) for snr in (None, 30, 15)
    }
    white = heads[None].brain_mask & (heads[None].tissue[..., 0] > 0.8)
    true_mk = fit_kurtosis(np.asarray(heads[None].signal)[white], gradients).mk
    for snr, gains in ((30, (1.0, 1.0, 0.97)), (15, (0.92, 0.92, 0.6))):
        rows = np.asarray(heads[snr].signal)[white]
        errors = []
        for constrained in (False, True):
            fit = prepare_kurtosis(gradients, constrained=constrained)[1].fit(rows)
            mk = np.clip(fit.mk, -3 / 7, 10)
            truths = ((fit.fa, heads[None].fa[white]), (fit.md, heads[None].md[white]), (mk, true_mk))
            errors.append([np.abs(found - truth).mean() for found, truth in truths])
        for plain, held, gain in zip(*errors, gains, strict=True):
            assert held < 1.002 * gain * plain


def test_against_dipys_constrained_fit_no_solution_within_our_constraints_is_better(gradients, rows):
    """DIPY's CLS holds other constraints (convexity in every direction, no bound at the highest b): where they and ours
    are idle both are OLS, and where its solution meets ours as well ours fits no worse.
    """
    pytest.importorskip("cvxpy", reason="cvxpy, which DIPY's CLS is solved by, is not installed")
    from dipy.core.gradients import gradient_table
    from dipy.reconst.dki import DiffusionKurtosisModel

    rows = rows[:60]
    table = gradient_table(gradients.bvals / 1000, bvecs=gradients.directions, b0_threshold=0.01)  # see LOG.md
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = DiffusionKurtosisModel(table, fit_method="CLS").fit(rows)
    design = kurtosis_design(gradients.bvals, gradients.directions)
    axes = peer.evecs  # columns
    tensors = 1e-3 * np.einsum("vij,vj,vkj->vik", axes, peer.evals, axes)[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]
    elements = peer.kt * (tensors[:, [0, 3, 5]].mean(axis=1) ** 2)[:, None]
    theirs = np.column_stack([tensors, elements, np.zeros(len(rows))])
    theirs[:, 21] = (np.log(rows) - theirs @ design.T).mean(axis=1)
    held = fit_kurtosis(rows, gradients, n_reweight=0, nonnegative=False, constrained=True)
    free = _coefs(fit_kurtosis(rows, gradients, n_reweight=0, nonnegative=False))
    ours, constraints = _coefs(held), _rows_of_constraints(gradients)
    losses = [((coefs @ design.T - np.log(rows)) ** 2).sum(axis=1) for coefs in (ours, theirs, free)]
    assert np.all(losses[1] > (1 - 1e-6) * losses[2])
    idle = ~held.is_bound & (losses[1] < (1 + 1e-6) * losses[2])
    np.testing.assert_allclose(ours[idle], theirs[idle], rtol=0, atol=1e-5)
    meets = (theirs @ constraints.T).min(axis=1) > -1e-6
    assert meets.sum() > 3, "else nothing was tested"
    assert np.all(losses[0][meets] <= losses[1][meets] * (1 + 1e-6))
