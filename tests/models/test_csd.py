"""Single-shell CSD: DIPY's coefficients in every voxel, the right directions, clear refusals."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from arcuate.errors import InputError, InputWarning
from arcuate.gradients import GradientTable
from arcuate.models.csd import CsdSystem, choose_shell, fit_csd, make_csd_system
from arcuate.models.peaks import find_peaks
from arcuate.models.response import Response, tensor_response
from arcuate.models.status import Status
from arcuate.numerics.sh import sh_matrix
from arcuate.numerics.sphere import get_hemisphere

EVALS = np.array([1.7e-3, 0.3e-3, 0.3e-3])


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _spread(n: int) -> np.ndarray:
    """n directions on a half sphere, evenly spread."""
    k = np.arange(n) + 0.5
    z, phi = 1 - k / n, np.pi * (1 + 5**0.5) * k
    r = np.sqrt(1 - z**2)
    return np.column_stack([r * np.cos(phi), r * np.sin(phi), z])


def _table(n: int = 64, b: float = 3000.0) -> GradientTable:
    return GradientTable(np.repeat([0.0, b], [2, n]), np.vstack([np.zeros((2, 3)), _spread(n)]))


def _signals(gradients: GradientTable, fibres: np.ndarray, s0: float = 100.0) -> np.ndarray:
    """(n_vox, n_meas) of fibres (n_vox, n_fibres, 3) in equal parts."""
    along = np.einsum("vfi,mi->vfm", fibres, gradients.directions) ** 2
    return s0 * np.exp(-gradients.bvals * (EVALS[1] + (EVALS[0] - EVALS[1]) * along)).mean(axis=1)


def _noisy(gradients: GradientTable, n_vox: int, snr: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    clean = _signals(gradients, _unit(rng.normal(size=(n_vox, 2, 3))))
    noise = rng.normal(scale=100 / snr, size=(2, *clean.shape))
    return np.hypot(clean + noise[0], noise[1])


@pytest.mark.parametrize("lmax", [2, 4, 6, 8, 10, 12])
@pytest.mark.parametrize("snr", [8, 30])
def test_coefficients_are_dipys_in_every_voxel(lmax: int, snr: float) -> None:
    peer = pytest.importorskip("dipy.reconst.csdeconv")
    gradients = _table()
    system = make_csd_system(gradients.directions[2:], tensor_response(EVALS, 100, 3000, lmax=lmax).get_zonal(), lmax)
    signals = _noisy(gradients, 150, snr)[:, 2:]
    found = system.fit(signals)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        solved = [peer.csdeconv(s, system.forward, system.penalty, tau=0.1, convergence=50) for s in signals]
    expected = np.array([coefs for coefs, _ in solved])
    error = np.abs(found.coefs - expected).max(axis=1) / np.abs(expected).max(axis=1)
    assert error.max() <= 1e-8
    np.testing.assert_array_equal(found.n_iterations, [n for _, n in solved])


def test_a_system_of_any_constraint_set_and_iteration_limit_is_solved_as_by_dipy() -> None:
    peer = pytest.importorskip("dipy.reconst.csdeconv")
    gradients = _table(30)
    zonal = tensor_response(EVALS, 100, 3000).get_zonal()
    signals = _noisy(gradients, 60, 15)[:, 2:]
    refused = []
    for n_reg, limit, tau in ((50, 1, 0.1), (333, 3, 0.3), (8, 50, 0.0)):
        system = make_csd_system(
            gradients.directions[2:], zonal, 8, tau=tau, max_iterations=limit, constraint_directions=_spread(n_reg)
        )
        found = system.fit(signals)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                expected = np.array(
                    [peer.csdeconv(s, system.forward, system.penalty, tau=tau, convergence=limit)[0] for s in signals]
                )
            except np.linalg.LinAlgError:
                refused.append(n_reg)  # too few directions to make DIPY's system definite
                continue
        is_same = found.status != Status.NO_SIGNAL
        error = np.abs(found.coefs - expected).max(axis=1) / np.abs(expected).max(axis=1)
        assert is_same.sum() > 50
        assert error[is_same].max() <= 1e-6  # 30 directions: the unconstrained start is ill-conditioned
    assert refused in ([], [8])


def test_directions_of_single_fibres_are_found_without_noise() -> None:
    gradients = _table()
    fibres = _unit(np.random.default_rng(3).normal(size=(500, 1, 3)))
    response = tensor_response(EVALS, 100, 3000)
    peaks = find_peaks(fit_csd(_signals(gradients, fibres), gradients, response).coefs)
    angles = np.degrees(np.arccos(np.clip(np.abs(np.sum(peaks.directions[:, 0] * fibres[:, 0], axis=-1)), 0, 1)))
    assert angles.max() < 1.0
    assert np.all(peaks.values[:, 1] == 0)


def test_crossings_at_right_angles_are_found_without_noise() -> None:
    gradients = _table()
    first = _unit(np.random.default_rng(4).normal(size=(300, 3)))
    second = _unit(np.cross(first, [0.3, -0.5, 0.8]))
    response = tensor_response(EVALS, 100, 3000)
    fit = fit_csd(_signals(gradients, np.stack([first, second], axis=1)), gradients, response)
    peaks = find_peaks(fit.coefs)
    assert np.all(peaks.values[:, 1] > 0)
    for fibre in (first, second):
        cosines = np.abs(np.einsum("vpi,vi->vp", peaks.directions[:, :2], fibre)).max(axis=1)
        assert np.degrees(np.arccos(np.clip(cosines, 0, 1))).max() < 3.0


def test_turning_scan_and_table_turns_the_peaks() -> None:
    rng = np.random.default_rng(5)
    gradients, response = _table(), tensor_response(EVALS, 100, 3000)
    first = _unit(rng.normal(size=(2000, 3)))
    second = np.where(np.arange(2000)[:, None] % 2, first, _unit(np.cross(first, rng.normal(size=(2000, 3)))))
    signals = _signals(gradients, np.stack([first, second], axis=1))
    signals = np.hypot(signals + rng.normal(scale=100 / 30, size=signals.shape), rng.normal(scale=100 / 30))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    still = find_peaks(fit_csd(signals, gradients, response).coefs).directions[:, 0] @ turn.T
    turned = find_peaks(fit_csd(signals, gradients.rotated(turn), response).coefs, relative_peak_threshold=0.3)
    cosines = np.abs(np.einsum("vi,vpi->vp", still, turned.directions)).max(axis=1)  # two equal peaks may swap
    angles = np.degrees(np.arccos(np.clip(cosines, 0, 1)))
    assert np.median(angles) <= 0.2
    assert np.percentile(angles, 99) <= 2.0


def test_scaling_signal_and_response_together_leaves_the_fod() -> None:
    gradients = _table()
    signals = _noisy(gradients, 50, 20)
    one = fit_csd(signals, gradients, tensor_response(EVALS, 100, 3000)).coefs
    other = fit_csd(signals * 1e3, gradients, tensor_response(EVALS, 1e5, 3000)).coefs
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-9 * np.abs(one).max())
    brighter = fit_csd(signals * 7, gradients, tensor_response(EVALS, 100, 3000)).coefs
    np.testing.assert_allclose(brighter, 7 * one, rtol=0, atol=1e-9 * np.abs(brighter).max())


@pytest.mark.parametrize(
    ("bad", "status"),
    [(np.nan, Status.NOT_FINITE), (np.inf, Status.NOT_FINITE), (-np.inf, Status.NOT_FINITE), (0.0, Status.NO_SIGNAL)],
)
def test_a_bad_voxel_is_zero_and_marked_and_its_neighbours_keep_every_bit(bad: float, status: Status) -> None:
    gradients, response = _table(), tensor_response(EVALS, 100, 3000)
    signals = _noisy(gradients, 300, 20)
    good = fit_csd(signals, gradients, response)
    signals[7] = bad
    signals[130, 5] = bad if not np.isfinite(bad) else signals[130, 5]
    found = fit_csd(signals, gradients, response)
    others = np.setdiff1d(np.arange(300), [7, 130])
    assert found.status[7] == status
    assert not found.coefs[7].any()
    np.testing.assert_array_equal(found.coefs[others], good.coefs[others])
    np.testing.assert_array_equal(found.status[others], good.status[others])


def test_a_voxel_of_constant_signal_is_fitted() -> None:
    gradients = _table()
    fit = fit_csd(np.full((3, 66), 40.0), gradients, tensor_response(EVALS, 100, 3000))
    assert np.all(np.isfinite(fit.coefs))
    assert np.all(fit.status == Status.FITTED)


def test_float32_signals_give_the_fods_of_the_same_numbers_in_float64() -> None:
    gradients, response = _table(), tensor_response(EVALS, 100, 3000)
    signals = _noisy(gradients, 40, 20).astype(np.float32)
    np.testing.assert_array_equal(
        fit_csd(signals, gradients, response).coefs, fit_csd(signals.astype(np.float64), gradients, response).coefs
    )


def test_iterations_that_run_out_are_reported_with_the_last_iterate() -> None:
    gradients = _table()
    system = make_csd_system(
        gradients.directions[2:], tensor_response(EVALS, 100, 3000).get_zonal(), 8, max_iterations=1
    )
    fit = system.fit(_noisy(gradients, 50, 10)[:, 2:])
    assert np.all(fit.status == Status.NOT_CONVERGED)
    assert np.all(np.isfinite(fit.coefs))
    assert fit.coefs.any(axis=1).all()


def test_no_voxels_give_no_fods() -> None:
    gradients = _table()
    assert fit_csd(np.zeros((0, 66)), gradients, tensor_response(EVALS, 100, 3000)).coefs.shape == (0, 45)


def test_amplitudes_hardly_go_below_zero() -> None:
    gradients = _table()
    fit = fit_csd(_noisy(gradients, 200, 20), gradients, tensor_response(EVALS, 100, 3000))
    amplitudes = fit.coefs @ sh_matrix(get_hemisphere("repulsion724").vertices, 8).T
    assert np.median(amplitudes.min(axis=1) / amplitudes.max(axis=1)) > -0.1


# --- which volumes, which degree


def _two_shells(n_low: int, n_high: int) -> GradientTable:
    return GradientTable(
        np.repeat([0.0, 1000.0, 3000.0], [2, n_low, n_high]),
        np.vstack([np.zeros((2, 3)), _spread(n_low), _spread(n_high)]),
    )


def test_the_highest_shell_with_directions_enough_is_chosen() -> None:
    shell, lmax = choose_shell(_two_shells(60, 45))
    assert (shell.b, lmax) == (3000.0, 8)
    shell, lmax = choose_shell(_two_shells(60, 40))
    assert (shell.b, lmax) == (1000.0, 8)
    assert choose_shell(_two_shells(60, 40), shell=1000)[0].b == 1000.0


@pytest.mark.parametrize(("n", "lmax"), [(44, 6), (28, 6), (27, 4), (15, 4)])
def test_the_degree_falls_with_the_directions_and_says_so(n: int, lmax: int) -> None:
    with pytest.warns(InputWarning, match=rf"{n} distinct directions; lmax falls to {lmax}"):
        assert choose_shell(_table(n))[1] == lmax


def test_opposite_and_repeated_directions_count_once() -> None:
    directions = np.vstack([np.zeros((1, 3)), _spread(30), -_spread(30), _spread(30)])
    gradients = GradientTable(np.repeat([0.0, 2000.0], [1, 90]), directions)
    with pytest.warns(InputWarning, match="30 distinct directions; lmax falls to 6"):
        assert choose_shell(gradients)[1] == 6


def test_a_given_degree_above_the_directions_is_super_resolved_and_says_so() -> None:
    gradients = _table(60)
    response = tensor_response(EVALS, 100, 3000, lmax=12)
    with pytest.warns(InputWarning, match="91 coefficients.*super-resolved"):
        fit = fit_csd(_noisy(gradients, 10, 30), gradients, response, lmax=12)
    assert fit.coefs.shape == (10, 91)


@pytest.mark.parametrize("lmax", [3, 14, 0])
def test_a_degree_that_is_odd_or_too_high_is_refused(lmax: int) -> None:
    with pytest.raises(InputError, match=f"lmax = {lmax}; expected an even degree from 2 to 12"):
        fit_csd(np.ones((1, 66)), _table(), tensor_response(EVALS, 100, 3000, lmax=12), lmax=lmax)


def test_a_degree_above_that_of_the_response_is_refused() -> None:
    with pytest.raises(InputError, match=r"response has degree 6.*lmax = 8"):
        fit_csd(np.ones((1, 66)), _table(), tensor_response(EVALS, 100, 3000, lmax=6), lmax=8)


@pytest.mark.parametrize("n", [1, 6, 14])
def test_too_few_directions_are_counted_in_the_message(n: int) -> None:
    with pytest.raises(InputError, match=rf"needs 15 distinct directions.*found {n} at b=3000"):
        choose_shell(_table(n))


def test_a_response_of_another_shell_is_refused() -> None:
    with pytest.raises(InputError, match=r"made on the shell b=1000 .* shells at 3000"):
        fit_csd(np.ones((1, 66)), _table(), tensor_response(EVALS, 100, 1000))
    with pytest.raises(InputError, match=r"made on the shell b=3000 .* see b=1000"):
        fit_csd(np.ones((1, 122)), _two_shells(60, 60), tensor_response(EVALS, 100, 3000), shell=1000)


def test_a_response_that_is_no_fibres_is_refused() -> None:
    with pytest.raises(InputError, match="not prolate"):
        fit_csd(np.ones((1, 66)), _table(), tensor_response(EVALS[::-1], 100, 3000))
    with pytest.raises(InputError, match="no signal"):
        fit_csd(np.ones((1, 66)), _table(), tensor_response(EVALS, 0, 3000))
    three = Response(("wm", "csf"), np.array([3000.0]), (np.ones((1, 3)), np.ones((1, 1))))
    with pytest.raises(InputError, match="one tissue on one shell"):
        fit_csd(np.ones((1, 66)), _table(), three)


def test_signals_of_another_length_are_refused() -> None:
    with pytest.raises(InputError, match="found 5 signals per voxel for 64 directions"):
        CsdSystem(np.ones((64, 6)), np.ones((10, 6))).fit(np.ones((2, 5)))


def test_a_table_without_weighted_volumes_is_refused() -> None:
    with pytest.raises(InputError, match="no weighted volume"):
        choose_shell(GradientTable(np.zeros(3), np.zeros((3, 3))))
