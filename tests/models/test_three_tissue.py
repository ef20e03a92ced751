"""Single-shell three-tissue CSD: exact mixtures, an independent slow fit, grey matter without peaks, refusals."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import nnls

from arcuate.errors import InputError, InputWarning
from arcuate.gradients import GradientTable
from arcuate.models.multitissue import make_multi_tissue_model
from arcuate.models.peaks import find_peaks
from arcuate.models.response import Response, tensor_zonal
from arcuate.models.status import Status
from arcuate.models.three_tissue import can_have_three_tissues, make_three_tissue_model
from arcuate.phantom import add_rician_noise, simulate_rows, three_shell_gradients

B = 3000.0


def make_response(b: float = B, order: tuple[str, ...] = ("wm", "gm", "csf"), lmax: int = 8) -> Response:
    bvals, scale = np.array([0.0, b]), math.sqrt(4 * math.pi)
    wm = np.stack([tensor_zonal(np.array([1.7e-3, 3e-4, 3e-4]), 1000.0, x, lmax) for x in bvals])
    wm[0, 1:] = 0
    flat = {"gm": (1250.0, 0.8e-3), "csf": (2800.0, 3e-3)}
    tables = [wm if t == "wm" else scale * flat[t][0] * np.exp(-flat[t][1] * bvals)[:, None] for t in order]
    return Response(order, bvals, tuple(tables), "made up")


def make_gradients(b: float = B, n: int = 64, n_b0: int = 4) -> GradientTable:
    return three_shell_gradients(n_b0, (b,), n, seed=2)


@pytest.fixture(scope="module")
def gradients() -> GradientTable:
    return make_gradients()


@pytest.fixture(scope="module")
def every_kind(gradients: GradientTable) -> np.ndarray:
    """One fibre, two, white matter with grey matter and with fluid, grey matter, fluid: 20 each, SNR 30."""
    rng = np.random.default_rng(0)
    n = 20
    axes = rng.normal(size=(n, 2, 3))
    one = simulate_rows(gradients, axes[:, :1], 1.0, ndi=0.6, odi=0.06, s0=1000.0)
    two = simulate_rows(gradients, axes, np.tile([0.5, 0.5], (n, 1)), ndi=0.6, odi=0.06, s0=1000.0)
    grey = 1250.0 * np.exp(-0.8e-3 * np.tile(gradients.bvals, (n, 1)))
    fluid = simulate_rows(gradients, axes[:, :1], 1.0, fwf=1.0, s0=2800.0)
    kinds = [one, two, 0.5 * (one + grey), 0.5 * (one + fluid), grey, fluid]
    return np.vstack([add_rician_noise(rows, 1000.0 / 30, rng) for rows in kinds])


@pytest.mark.parametrize("order", [("wm", "gm", "csf"), ("wm", "csf", "gm")])
def test_recovers_what_two_b_values_determine(gradients: GradientTable, order: tuple[str, ...]) -> None:
    response = make_response(order=order)
    model = make_three_tissue_model(gradients, response)
    fod = np.zeros(45)
    fod[0], fod[1:6] = 0.2, np.random.default_rng(0).normal(size=5) * 0.02
    amounts = {"wm": [1, 1, 0, 0, 0], "gm": [0, 0.4, 0.5, 0, 0.2], "csf": [0, 0, 0, 0.3, 0.1]}
    truth = [np.outer(amounts[t], fod) if t == "wm" else np.array(amounts[t])[:, None] for t in order]
    blocks = make_multi_tissue_model(gradients, response_of(response, "wm", "csf")).problem.design
    wm, csf = blocks[:, :45], blocks[:, 45:]
    gm = make_multi_tissue_model(gradients, response_of(response, "wm", "gm")).problem.design[:, 45:]
    designs = {"wm": wm, "gm": gm, "csf": csf}
    signals = sum(t @ designs[name].T for name, t in zip(order, truth, strict=True))
    fit = model.fit(signals[:, model.volumes])
    for found, wanted in zip(fit.coefs, truth, strict=True):
        assert np.abs(found - wanted).max() < 1e-7


def response_of(response: Response, *tissues: str) -> Response:
    return Response(tissues, response.bvals, tuple(response.get_tissue(t) for t in tissues), "part")


def test_equals_fits_in_turns_by_nnls(gradients: GradientTable, every_kind: np.ndarray) -> None:
    model = replace(make_three_tissue_model(gradients, make_response(), n_iterations=3), smoothness=0.0)
    rows = every_kind[::13]
    fit = model.fit(rows)
    for v, signal in enumerate(rows):
        weighted = signal[~gradients.is_b0]
        y = np.append(weighted, math.sqrt(0.1 * len(weighted)) * signal[gradients.is_b0].mean())
        x, a = model.design, model.constraints
        n = x.shape[1] - 2
        white = np.zeros(n)
        grey, fluid = nnls(x[:, n:], y)[0]
        for _ in range(3):
            white, grey = np.split(_project(x[:, : n + 1], a, y - fluid * x[:, n + 1]), [n])
            grey, fluid = nnls(x[:, n:], y - x[:, :n] @ white)[0]
        scale = np.abs(white).max() + grey + fluid
        assert np.abs(fit.coefs[0][v] - white).max() < 1e-6 * scale
        assert abs(fit.coefs[1][v, 0] - grey) < 1e-6 * scale
        assert abs(fit.coefs[2][v, 0] - fluid) < 1e-6 * scale


def _project(design: np.ndarray, constraints: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """Least squares under constraints @ u >= 0, by non-negative least squares on the dual."""
    q, r = np.linalg.qr(design)
    rows = np.linalg.solve(r.T, constraints.T).T
    g = q.T @ signal
    multipliers = nnls(-rows.T, g, maxiter=30 * len(rows))[0]
    return np.linalg.solve(r, g + rows.T @ multipliers)


def test_grey_matter_has_no_peaks_where_two_tissues_see_many(gradients: GradientTable, every_kind: np.ndarray) -> None:
    grey, one = every_kind[80:100], every_kind[:20]
    three = make_three_tissue_model(gradients, make_response())
    two = make_multi_tissue_model(gradients, response_of(make_response(), "wm", "csf"))
    counts = [
        (find_peaks(model.fit(grey).coefs[0], relative_peak_threshold=0.2, min_amplitude=0.1).values > 0).sum() / 20
        for model in (three, two)
    ]
    assert counts[0] < 0.5
    assert counts[1] > 3
    assert np.all(find_peaks(three.fit(one).coefs[0], min_amplitude=0.5).values[:, 0] > 0)


def test_fods_of_grey_matter_are_smooth_and_single_fibres_in_it_keep_their_direction(gradients: GradientTable) -> None:
    rng = np.random.default_rng(4)
    n = 80
    axes = rng.normal(size=(n, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    slow = 1250.0 * np.exp(-0.79e-3 * np.tile(gradients.bvals, (n, 1)))  # decays slower than its response
    one = simulate_rows(gradients, axes, 1.0, ndi=0.6, odi=0.06, s0=1000.0)
    grey, mixed = (add_rician_noise(rows, 1000.0 / 30, rng) for rows in (slow, 0.8 * slow + 0.2 * one))
    model = make_three_tissue_model(gradients, make_response())
    count, error, amounts = [], [], []
    for each in (replace(model, smoothness=0.0), model):
        fits = each.fit(grey), each.fit(mixed)
        found = [find_peaks(f.coefs[0], relative_peak_threshold=0.2, min_amplitude=0.1) for f in fits]
        count.append(np.count_nonzero(found[0].values))
        cosine = np.abs(np.sum(find_peaks(fits[1].coefs[0], n_peaks=1).directions[:, 0] * axes, axis=1))
        error.append(np.median(np.degrees(np.arccos(np.clip(cosine, 0, 1)))))
        amounts.append(np.hstack([f.coefs[0][:, 0] for f in fits]))
        assert all(f.kkt_residual.max() < 1e-6 for f in fits)
    assert count[0] > 10
    assert count[1] < 0.5 * count[0]
    assert error[1] < error[0] + 0.3
    np.testing.assert_allclose(amounts[1], amounts[0], rtol=5e-3, atol=1e-4)


def test_every_voxel_is_an_optimum_and_reported(gradients: GradientTable, every_kind: np.ndarray) -> None:
    fit = make_three_tissue_model(gradients, make_response()).fit(every_kind)
    assert np.all(fit.status == Status.FITTED)
    assert fit.kkt_residual.max() < 1e-6
    assert all(np.all(part[:, 0] >= -1e-12) for part in fit.coefs)


def test_scaling_the_signal_scales_the_tissues_and_the_order_of_volumes_does_not_matter(
    gradients: GradientTable, every_kind: np.ndarray
) -> None:
    rows = every_kind[::7]
    model = make_three_tissue_model(gradients, make_response())
    once = np.hstack(model.fit(rows).coefs)
    np.testing.assert_allclose(np.hstack(model.fit(1e3 * rows).coefs), 1e3 * once, rtol=1e-8, atol=1e-7)
    order = np.random.default_rng(0).permutation(len(gradients))
    turned = make_three_tissue_model(gradients.subset(order), make_response())
    np.testing.assert_allclose(np.hstack(turned.fit(rows[:, order]).coefs), once, rtol=0, atol=1e-8)


def test_all_voxels_at_once_or_in_two_parts_give_the_same_bits(
    gradients: GradientTable, every_kind: np.ndarray
) -> None:
    model = make_three_tissue_model(gradients, make_response())
    together = model.fit(every_kind)
    parts = [model.fit(every_kind[:37]), model.fit(every_kind[37:])]
    for i, whole in enumerate(together.coefs):
        assert np.array_equal(whole, np.vstack([p.coefs[i] for p in parts]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_voxel_is_marked_and_its_neighbours_are_unchanged(
    gradients: GradientTable, every_kind: np.ndarray, bad: float
) -> None:
    rows = every_kind[:12].copy()
    model = make_three_tissue_model(gradients, make_response())
    good = model.fit(rows)
    rows[4, 17] = bad
    rows[5] = 0
    fit = model.fit(rows)
    assert fit.status[4] == Status.NOT_FINITE
    assert fit.status[5] == Status.NO_SIGNAL
    assert not fit.coefs[0][4:6].any()
    rest = np.delete(np.arange(12), [4, 5])
    assert all(np.array_equal(a[rest], b[rest]) for a, b in zip(fit.coefs, good.coefs, strict=True))


def test_twenty_directions_carry_degree_8_with_a_warning() -> None:
    few = make_gradients(n=20)
    with pytest.warns(InputWarning, match=r"20 distinct directions, lmax = 8 has 45 coefficients"):
        model = make_three_tissue_model(few, make_response())
    rng = np.random.default_rng(1)
    axes = rng.normal(size=(30, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    rows = add_rician_noise(simulate_rows(few, axes, 1.0, ndi=0.6, odi=0.05, s0=1000.0), 1000 / 30, rng)
    peaks = find_peaks(model.fit(rows).coefs[0], n_peaks=1)
    cosine = np.abs(np.sum(peaks.directions[:, 0] * axes, axis=1))
    assert np.median(np.degrees(np.arccos(np.clip(cosine, 0, 1)))) < 3


def test_a_low_b_value_is_warned_of() -> None:
    with pytest.warns(InputWarning, match=r"b=1000 s/mm² grey and white matter decay too much alike"):
        make_three_tissue_model(make_gradients(1000.0), make_response(1000.0))


def test_what_it_cannot_fit_is_refused_in_one_sentence(gradients: GradientTable) -> None:
    with pytest.raises(InputError, match=r"needs 18 distinct directions; the shell b=3000 s/mm² has 12.*tournier"):
        make_three_tissue_model(make_gradients(n=12), make_response())
    with pytest.raises(InputError, match=r"no b=0 volume.*--b0-threshold"):
        make_three_tissue_model(gradients.subset(~gradients.is_b0), make_response())
    with pytest.raises(InputError, match=r"made on the shells 2000 s/mm², the scan has 3000"):
        make_three_tissue_model(gradients, make_response(2000.0))
    with pytest.raises(InputError, match=r"response of the tissues wm, csf.*two isotropic tissues"):
        make_three_tissue_model(gradients, response_of(make_response(), "wm", "csf"))
    good = make_response()
    alike = Response(good.tissues, good.bvals, (*good.coefs[:2], 2 * good.coefs[1]))
    with pytest.raises(InputError, match=r"gm and csf decay alike.*Leave out a tissue"):
        make_three_tissue_model(gradients, alike)
    with pytest.raises(InputError, match=r"lmax = 7; expected an even degree"):
        make_three_tissue_model(gradients, make_response(), lmax=7)
    with pytest.raises(InputError, match=r"response has degree 6, the model asks for lmax = 8"):
        make_three_tissue_model(gradients, make_response(lmax=6), lmax=8)


def test_which_scans_can_have_three_tissues() -> None:
    assert can_have_three_tissues(make_gradients(n=18))
    assert not can_have_three_tissues(make_gradients(n=17))
    assert not can_have_three_tissues(make_gradients(n_b0=0))
    assert not can_have_three_tissues(three_shell_gradients(1, (1000, 2000), 30))


def test_more_rounds_move_signal_from_grey_to_white_matter(gradients: GradientTable, every_kind: np.ndarray) -> None:
    mixed = every_kind[40:60]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        amounts = [
            np.median(make_three_tissue_model(gradients, make_response(), n_iterations=n).fit(mixed).coefs[0][:, 0])
            for n in (2, 10)
        ]
    assert amounts[1] > amounts[0]
