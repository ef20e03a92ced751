"""Two passes: close crossings told apart, the rest of the voxels unchanged, fibre density kept."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from arcuate.gradients import GradientTable
from arcuate.models.multitissue import make_multi_tissue_model
from arcuate.models.peaks import find_peaks
from arcuate.models.response import Response, tensor_zonal
from arcuate.models.second_pass import (
    SURE_ON_ONE_SHELL,
    SURE_ON_SHELLS,
    Sharpening,
    evidence_for,
    is_crossing,
    is_dispersed,
    make_two_pass_model,
    misfit_of,
    second_moments,
    sure_settings,
    unexplained_spread,
)
from arcuate.models.three_tissue import make_three_tissue_model
from arcuate.models.tied_fit import contrast_of
from arcuate.numerics.sh import sh_matrix
from arcuate.numerics.sphere import get_hemisphere
from arcuate.phantom import add_rician_noise, simulate_rows, three_shell_gradients

EVALS = np.array([1.75e-3, 3.2e-4, 3.2e-4])


def make_response(bvals: tuple[float, ...], odi: float | None = None) -> Response:
    """White matter of a tensor, or that of the voxels: fibres of a dispersion."""
    scale = math.sqrt(4 * math.pi)
    wm = np.stack([tensor_zonal(EVALS, 1000.0, b, 8) if odi is None else zonal_of_fibres(odi, b) for b in bvals])
    wm[0, 1:] = 0
    flat = [scale * s0 * np.exp(-d * np.array(bvals))[:, None] for s0, d in ((1250.0, 0.8e-3), (2800.0, 3e-3))]
    return Response(("wm", "gm", "csf"), np.array(bvals), (wm, *flat), "made up")


def zonal_of_fibres(odi: float, b: float) -> np.ndarray:
    """(5,) zonal coefficients up to degree 8 of the signal of fibres along z."""
    points = get_hemisphere("repulsion724").vertices
    gradients = GradientTable(np.full(len(points), b), points)
    signal = simulate_rows(gradients, np.array([[0.0, 0.0, 1.0]]), ndi=0.6, odi=odi, s0=1000.0)[0]
    zonal = sh_matrix(points, 8)[:, [l * (l + 1) // 2 for l in range(0, 9, 2)]]
    return np.linalg.lstsq(zonal, signal, rcond=None)[0]


def make_models(kind: str, odi: float | None = None):
    shells = (1000.0, 2000.0, 3500.0) if kind == "several shells" else (3000.0,)
    gradients = three_shell_gradients(4, shells, 64, seed=1)
    response = make_response((0.0, *shells), odi)
    if kind == "several shells":
        return gradients, make_multi_tissue_model(gradients, response)
    return gradients, make_three_tissue_model(gradients, response)


def signals_at(
    gradients: GradientTable, angle: float, n: int = 60, odi: float = 0.05, snr: float = 30
) -> tuple[np.ndarray, np.ndarray]:
    """Noisy signals of two fibres at an angle (one at 0), and the fibres."""
    rng = np.random.default_rng(int(angle))
    first = rng.normal(size=(n, 3))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    across = np.cross(first, rng.normal(size=(n, 3)))
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    turn = np.deg2rad(angle)
    fibres = np.stack([first, np.cos(turn) * first + np.sin(turn) * across], axis=1)
    shares = np.tile([0.5, 0.5] if angle else [1.0, 0.0], (n, 1))
    clean = simulate_rows(gradients, fibres, shares, ndi=0.6, odi=odi, s0=1000.0)
    return add_rician_noise(clean, 1000 / snr, rng), fibres


def signals_of_a_fan(gradients: GradientTable, spread: float, n: int = 60) -> np.ndarray:
    """Noisy signals of fibres spread over a plane, Gaussian with a standard deviation of ``spread`` degrees, SNR 30."""
    rng = np.random.default_rng(int(spread))
    axis = rng.normal(size=(n, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    across = np.cross(axis, rng.normal(size=(n, 3)))
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    offsets = np.linspace(-3, 3, 31)
    turns = np.deg2rad(spread) * offsets
    fibres = np.stack([np.cos(t) * axis + np.sin(t) * across for t in turns], axis=1)
    weights = np.exp(-0.5 * offsets**2)
    clean = simulate_rows(gradients, fibres, np.tile(weights / weights.sum(), (n, 1)), ndi=0.6, odi=0.06, s0=1000.0)
    return add_rician_noise(clean, 1000 / 30, rng)


def n_missed(fods: np.ndarray, fibres: np.ndarray) -> int:
    """Voxels in which a fibre has no peak within 20 degrees."""
    peaks = find_peaks(fods, relative_peak_threshold=0.2, min_separation_angle=15, min_amplitude=0.1)
    cosine = np.abs(np.einsum("npc,nfc->npf", peaks.directions, fibres))
    return int(np.any(cosine.max(axis=1) < np.cos(np.radians(20)), axis=1).sum())


@pytest.mark.parametrize("kind", ["several shells", "one shell"])
def test_close_crossings_are_told_apart_and_their_density_is_kept(kind: str) -> None:
    gradients, model = make_models(kind)
    rows, fibres = signals_at(gradients, 48 if kind == "several shells" else 52)
    first = model.fit(rows[:, model.volumes])
    both = make_two_pass_model(model).fit(rows[:, model.volumes])
    before, after = n_missed(first.coefs[0], fibres), n_missed(both.coefs[0], fibres)
    assert before > 10
    assert after < 0.5 * before
    smooth = make_two_pass_model(model).first.fit(rows[:, model.volumes])
    np.testing.assert_allclose(both.coefs[0][:, 0], smooth.coefs[0][:, 0], rtol=5e-3)
    assert all(np.array_equal(a, b) for a, b in zip(both.coefs[1:], smooth.coefs[1:], strict=True))


@pytest.mark.parametrize("kind", ["several shells", "one shell"])
@pytest.mark.parametrize("odi", [0.04, 0.18])
def test_single_fibres_are_left_as_the_first_pass_found_them(kind: str, odi: float) -> None:
    gradients, model = make_models(kind)
    rows, _ = signals_at(gradients, 0, odi=odi)
    two = make_two_pass_model(model, settings=Sharpening(dispersed=0.0))
    first, both = two.first.fit(rows[:, model.volumes]), two.fit(rows[:, model.volumes])
    changed = np.any(first.coefs[0] != both.coefs[0], axis=1)
    assert changed.mean() <= 0.05


def test_fans_are_not_split_by_noise_where_little_spread_may_be_left() -> None:
    gradients, model = make_models("several shells")
    split = []
    for unexplained in (0.005, 1.0):
        two = make_two_pass_model(model, settings=Sharpening(unexplained=unexplained))
        fods = two.fit(signals_of_a_fan(gradients, 30, 120)).coefs[0]
        peaks = find_peaks(fods, relative_peak_threshold=0.2, min_separation_angle=15, min_amplitude=0.1)
        split.append(np.mean(np.count_nonzero(peaks.values, axis=1) > 1))
    assert split[0] <= 0.03
    assert split[1] > 0.06


@pytest.mark.parametrize("kind", ["several shells", "one shell"])
def test_a_sure_second_pass_tells_crossings_apart_and_leaves_fans_as_they_were(kind: str) -> None:
    gradients, model = make_models(kind, odi=0.06)
    sure = make_two_pass_model(model, settings=sure_settings(model))
    rows, fibres = signals_at(gradients, 50)
    one, two = model.fit(rows[:, model.volumes]).coefs, sure.fit(rows[:, model.volumes]).coefs
    assert n_missed(one[0], fibres) > 20
    assert n_missed(two[0], fibres) < 0.7 * n_missed(one[0], fibres)
    np.testing.assert_allclose(two[0][:, 0], one[0][:, 0], rtol=5e-3)
    assert all(np.array_equal(a, b) for a, b in zip(one[1:], two[1:], strict=True))
    fans = np.vstack([signals_of_a_fan(gradients, spread, 120)[:, model.volumes] for spread in (25, 30)])
    rule = {"relative_peak_threshold": 0.2, "min_separation_angle": 15, "min_amplitude": 0.1}
    split = [
        np.mean(np.count_nonzero(find_peaks(each.fit(fans).coefs[0], **rule).values, axis=1) > 1)
        for each in (model, sure)
    ]
    assert split[1] <= split[0] + 0.03


def test_peaks_may_leave_more_of_the_spread_where_the_signals_ask_louder() -> None:
    gradients, model = make_models("one shell", odi=0.06)
    rows, fibres = signals_at(gradients, 45, 80, snr=60)
    fits = [
        make_two_pass_model(model, settings=replace(SURE_ON_ONE_SHELL, per_evidence=each))
        .fit(rows[:, model.volumes])
        .coefs[0]
        for each in (0.0, SURE_ON_ONE_SHELL.per_evidence)
    ]
    before, after = (n_missed(fods, fibres) for fods in fits)
    assert 0.25 * len(rows) < before
    assert after < before - 3
    fans = signals_of_a_fan(gradients, 30, 60)[:, model.volumes]
    split = [
        np.any(make_two_pass_model(model, settings=each).fit(fans).coefs[0] != model.fit(fans).coefs[0], axis=1).mean()
        for each in (
            replace(SURE_ON_ONE_SHELL, dispersed=0.0),
            replace(SURE_ON_ONE_SHELL, dispersed=0.0, evidence=1e-9, least_evidence=1e-9, unexplained=1.0),
        )
    ]
    assert split[0] < 0.1 < split[1]


@pytest.mark.parametrize("settings", [SURE_ON_ONE_SHELL, Sharpening()])
def test_dispersed_fibres_of_one_shell_have_fewer_false_peaks_and_keep_their_density(settings: Sharpening) -> None:
    gradients, model = make_models("one shell", odi=0.06)
    rows, fibres = signals_at(gradients, 0, 80, odi=0.2)
    rows = rows[:, model.volumes]
    rough, smooth = (
        make_two_pass_model(model, settings=each).fit(rows) for each in (replace(settings, dispersed=0.0), settings)
    )
    false, error = [], []
    for fit in (rough, smooth):
        peaks = find_peaks(fit.coefs[0], relative_peak_threshold=0.2, min_separation_angle=15, min_amplitude=0.1)
        cosine = np.abs(np.einsum("npc,nc->np", peaks.directions, fibres[:, 0]))
        false.append(np.sum((peaks.values > 0) & (cosine < np.cos(np.radians(20)))))
        error.append(np.median(np.degrees(np.arccos(np.clip(cosine[:, 0], 0, 1)))))
        assert fit.kkt_residual.max() < 1e-6
    assert false[0] > 40
    assert false[1] < 0.5 * false[0]
    assert error[1] < error[0]
    np.testing.assert_allclose(smooth.coefs[0][:, 0], rough.coefs[0][:, 0], rtol=5e-3)
    assert all(np.array_equal(a, b) for a, b in zip(rough.coefs[1:], smooth.coefs[1:], strict=True))
    changed = np.any(smooth.coefs[0] != rough.coefs[0], axis=1)
    assert np.all(is_dispersed(rough.coefs[0][changed]))


def test_grey_matter_and_several_shells_are_not_made_smooth_by_the_second_pass() -> None:
    gradients, model = make_models("one shell")
    rng = np.random.default_rng(3)
    slow = 1250.0 * np.exp(-0.78e-3 * np.tile(gradients.bvals, (40, 1)))
    grey = add_rician_noise(slow, 1000 / 30, rng)[:, model.volumes]
    np.testing.assert_array_equal(
        make_two_pass_model(model, settings=SURE_ON_ONE_SHELL).fit(grey).coefs[0], model.fit(grey).coefs[0]
    )
    _, several = make_models("several shells")
    assert make_two_pass_model(several, settings=sure_settings(several)).smooth is None
    assert make_two_pass_model(several).smooth is None
    assert make_two_pass_model(model, settings=Sharpening(dispersed=0.0)).smooth is None


def test_degree_four_is_told_better_at_higher_b_values_and_not_at_all_by_degree_two() -> None:
    contrast = []
    for b in (1500.0, 2000.0, 3000.0):
        gradients = three_shell_gradients(4, (b,), 64, seed=1)
        design = make_three_tissue_model(gradients, make_response((0.0, b))).design[:, :-2]
        contrast.append(contrast_of(design))
        assert contrast_of(7 * design) == pytest.approx(contrast[-1])
        assert contrast_of(design[:, :6]) == 0
    assert 0.01 < contrast[0] < contrast[1] < contrast[2] < 0.15


def test_evidence_is_that_of_the_likelihood_whatever_the_unit_of_the_signals() -> None:
    rng = np.random.default_rng(0)
    design, truth = rng.normal(size=(50, 6)), rng.normal(size=(1, 6))
    rows = truth @ design.T + 0.3 * rng.normal(size=(1, 50))
    other = truth + 0.1
    left = [float(np.sum((f @ design.T - rows) ** 2)) for f in (other, truth)]
    found = evidence_for(design, rows, other, truth)
    np.testing.assert_allclose(found, 50 * math.log(left[0] / left[1]))
    assert found[0] > 0
    np.testing.assert_allclose(evidence_for(7 * design, 7 * rows, other, truth), found)
    assert evidence_for(design, rows, truth, truth)[0] == 0
    assert evidence_for(design, np.zeros((1, 50)), np.zeros((1, 6)), truth)[0] == 0


def test_what_no_response_fits_on_a_shell_is_left_out_of_the_evidence() -> None:
    gradients, model = make_models("several shells")
    design = model.problem.design[:, :45]
    misfit = misfit_of(design)
    assert misfit.shape == (len(design), 1 + 3 * 6)
    np.testing.assert_allclose(misfit.T @ misfit, np.eye(19), atol=1e-12)
    shell = gradients.shells[1]
    of_one_shell = np.zeros((len(design), 6))
    of_one_shell[shell.indices] = sh_matrix(gradients.directions[shell.indices], 2)
    np.testing.assert_allclose(misfit @ (misfit.T @ of_one_shell), of_one_shell, atol=1e-12)
    rng = np.random.default_rng(2)
    sharp = rng.normal(size=(1, 45)) * np.abs(sh_matrix(np.array([[0.0, 0.6, 0.8]]), 8))
    fods = sharp.copy()
    fods[:, 6:] *= 0.5
    rows = sharp @ design.T + 5.0 * rng.normal(size=(1, len(design)))
    other_response = rows + (of_one_shell @ np.array([400.0, 30, 50, 60, -80, 20]))[None]
    with_misfit = [evidence_for(design, each, fods, sharp, misfit)[0] for each in (rows, other_response)]
    assert with_misfit[0] > 10
    assert with_misfit[1] == pytest.approx(with_misfit[0], rel=1e-9)
    assert evidence_for(design, other_response, fods, sharp)[0] < 0.5 * evidence_for(design, rows, fods, sharp)[0]


def test_shells_of_few_directions_leave_no_more_than_they_have() -> None:
    gradients = three_shell_gradients(2, (1000.0, 2500.0), 4, seed=1)
    response = make_response((0.0, 1000.0, 2500.0))
    design = make_multi_tissue_model(gradients, response, lmax=2).problem.design[:, :6]
    assert misfit_of(design).shape == (10, 9)


def test_crossings_are_told_apart_where_one_shell_is_not_as_the_response_says_and_fans_stay_whole() -> None:
    gradients, model = make_models("several shells", odi=0.06)
    rows, fibres = signals_at(gradients, 48, 80, odi=0.06, snr=40)
    fans = np.vstack([signals_of_a_fan(gradients, spread, 60) for spread in (25, 30)])
    for each in (rows, fans):
        each[:, gradients.shells[1].indices] *= 1.2
    missed, split = [], []
    sure = make_two_pass_model(model, settings=sure_settings(model))
    of_all = replace(SURE_ON_SHELLS, evidence=18.0, least_evidence=18.0, per_evidence=5e-4)
    for two in (replace(sure, misfit=None, settings=of_all), sure):
        missed.append(n_missed(two.fit(rows).coefs[0], fibres))
        rule = {"relative_peak_threshold": 0.2, "min_separation_angle": 15, "min_amplitude": 0.1}
        split.append(np.mean(np.count_nonzero(find_peaks(two.fit(fans).coefs[0], **rule).values, axis=1) > 1))
    assert n_missed(model.fit(rows).coefs[0], fibres) > 70
    assert missed[1] < 0.7 * missed[0]
    assert split[1] <= split[0] + 0.01


def test_a_response_of_one_tissue_on_several_shells_takes_two_passes() -> None:
    gradients, _ = make_models("several shells")
    response = make_response((0.0, 1000.0, 2000.0, 3500.0), 0.06)
    model = make_multi_tissue_model(gradients, Response(("wm",), response.bvals, response.coefs[:1], "made up"))
    rows, fibres = signals_at(gradients, 50)
    one, two = (m.fit(rows).coefs[0] for m in (model, make_two_pass_model(model, settings=SURE_ON_SHELLS)))
    assert n_missed(two, fibres) < n_missed(one, fibres)


def test_two_lobes_account_for_their_spread_and_one_wide_lobe_does_not() -> None:
    degree = np.concatenate([np.full(2 * l + 1, l) for l in range(0, 9, 2)])
    smooth = np.exp(-0.02 * degree * (degree + 1))

    def fods(*turns: float) -> np.ndarray:
        points = np.array([[math.cos(math.radians(t)), math.sin(math.radians(t)), 0] for t in turns])
        return (sh_matrix(points, 8) * smooth).mean(axis=0, keepdims=True)

    for angle in (60, 75, 90):
        crossing = fods(0, angle)
        assert abs(unexplained_spread(crossing, crossing)[0]) < 0.01
    fan = fods(*range(-40, 41, 8))
    narrower = fods(-15, 15)
    assert unexplained_spread(fan, narrower)[0] > 0.05
    assert unexplained_spread(fan, fods(0))[0] > 0.1
    assert unexplained_spread(fods(0), fods(0))[0] == pytest.approx(0, abs=1e-9)


def test_the_second_pass_stays_above_its_slack() -> None:
    gradients, model = make_models("several shells")
    rows, _ = signals_at(gradients, 60)
    settings = Sharpening(slack=0.15)
    two = make_two_pass_model(model, settings=settings)
    fods = two.fit(rows[:, model.volumes]).coefs[0]
    amplitudes = fods @ two.problem.constraints[:, : fods.shape[1]].T
    assert np.all(amplitudes >= -1e-6 * amplitudes.max(axis=1, keepdims=True))
    mean = fods[:, 0] / math.sqrt(4 * math.pi)
    lowest = (fods @ sh_matrix(get_hemisphere("repulsion724").vertices, 8).T).min(axis=1)
    assert np.all(lowest >= -0.6 * mean)
    assert np.median(lowest / mean) < -0.05


def test_second_moments_are_those_of_the_sampled_fod() -> None:
    fods = np.random.default_rng(0).normal(size=(20, 45)) * 0.05
    fods[:, 0] = 0.3
    points = get_hemisphere("repulsion724").vertices
    values = fods @ sh_matrix(points, 8).T
    sampled = np.einsum("vn,ni,nj->vij", values, points, points) / values.sum(axis=1)[:, None, None]
    moments = second_moments(fods)
    np.testing.assert_allclose(moments, sampled[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]], atol=5e-3)
    np.testing.assert_allclose(moments[:, [0, 3, 5]].sum(axis=1), 1.0, atol=1e-12)


def test_two_fibres_look_like_a_crossing_and_one_or_none_do_not() -> None:
    degree = np.concatenate([np.full(2 * l + 1, l) for l in range(0, 9, 2)])
    smooth = np.exp(-0.02 * degree * (degree + 1))
    poles = sh_matrix(np.array([[1.0, 0, 0], [0.6, 0.8, 0]]), 8) * smooth
    ball = np.eye(1, 45) * 0.28
    assert is_crossing(np.vstack([poles[:1], poles.mean(axis=0), ball, np.zeros((1, 45))])).tolist() == [
        False, True, False, False,
    ]  # fmt: skip
    assert is_dispersed(np.vstack([poles[:1], poles.mean(axis=0), ball, np.zeros((1, 45))])).tolist() == [
        False, False, True, False,
    ]  # fmt: skip
    assert not is_crossing(ball[:, :1]).any()


def test_without_smoothness_the_first_pass_is_the_model_itself() -> None:
    gradients, model = make_models("several shells")
    rows, _ = signals_at(gradients, 0, n=10)
    two = make_two_pass_model(model, settings=Sharpening(smoothness=0.0))
    assert np.array_equal(two.first.fit(rows[:, model.volumes]).coefs[0], model.fit(rows[:, model.volumes]).coefs[0])


@pytest.mark.parametrize("kind", ["several shells", "one shell"])
def test_fods_are_the_same_bits_on_one_thread_of_blas_and_on_two(kind: str) -> None:
    rows, fods = None, []
    for n in (1, 2):
        with threadpool_limits(n, user_api="blas"):
            gradients, model = make_models(kind, odi=0.06)
            rows = signals_at(gradients, 50)[0] if rows is None else rows
            sure = make_two_pass_model(model, settings=sure_settings(model))
            fods.append(sure.fit(rows[:, model.volumes]).coefs[0])
    assert np.array_equal(*fods)
