from __future__ import annotations

import math
import subprocess
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from arcuate.errors import InputError, InputWarning
from arcuate.gradients import GradientTable
from arcuate.models.multitissue import (
    ILL_CONDITIONED,
    fit_multi_tissue,
    make_multi_tissue_model,
    tissue_fractions,
    total_fibre_density,
)
from arcuate.models.response import Response
from arcuate.models.response_zonal import tensor_zonal
from arcuate.models.status import Status
from arcuate.numerics.sphere import get_even_directions, get_hemisphere, to_angles
from arcuate.phantom import add_rician_noise, simulate_rows, three_shell_gradients

SHELLS = (0.0, 1000.0, 2000.0, 3500.0)


@pytest.fixture(scope="module")
def gradients() -> GradientTable:
    return three_shell_gradients()


def make_response(bvals: tuple[float, ...] = SHELLS, tissues: tuple[str, ...] = ("wm", "gm", "csf")) -> Response:
    scale = math.sqrt(4 * math.pi)
    wm = np.stack([tensor_zonal(np.array([1.6e-3, 3e-4, 3e-4]), 1000.0, b, 8) for b in bvals])
    wm[0, 1:] = 0
    isotropic = {"gm": (1250.0, 0.8e-3), "csf": (2800.0, 3e-3)}
    tables = [
        wm if t == "wm" else scale * isotropic[t][0] * np.exp(-isotropic[t][1] * np.array(bvals))[:, None]
        for t in tissues
    ]
    return Response(tissues, np.array(bvals), tuple(tables), "made up")


@pytest.fixture(scope="module")
def every_kind(gradients: GradientTable) -> np.ndarray:
    """Single fibres, crossings, grey matter, fluid, mixtures, noise, next to no signal: 30 each."""
    rng = np.random.default_rng(0)
    n = 30
    directions = rng.normal(size=(n, 3, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    wm = {"ndi": 0.6, "odi": 0.08, "s0": 1000.0}
    rows = [
        simulate_rows(gradients, directions[:, :1], 1.0, **wm),
        simulate_rows(gradients, directions[:, :2], np.tile([0.5, 0.5], (n, 1)), **wm),
        simulate_rows(gradients, directions, np.tile([0.4, 0.3, 0.3], (n, 1)), **wm),
        simulate_rows(gradients, directions[:, :1], 1.0, ndi=0.4, odi=0.9, s0=1250.0),
        simulate_rows(gradients, directions[:, :1], 1.0, fwf=1.0, s0=2800.0),
        simulate_rows(gradients, directions[:, :1], 1.0, ndi=0.6, odi=0.1, fwf=0.5, s0=1700.0),
    ]
    noisy = [add_rician_noise(r, 1000.0 / 30, rng) for r in rows]
    noise = add_rician_noise(np.zeros((n, len(gradients))), 30.0, rng)
    return np.vstack([*noisy, noise, 1e-3 * noise])


def test_recovers_the_tissues_that_made_the_signal(gradients: GradientTable) -> None:
    model = make_multi_tissue_model(gradients, make_response())
    rng = np.random.default_rng(0)
    fod = np.zeros((5, 45))
    fod[:, 0] = 0.3
    fod[:, 1:6] = rng.normal(size=(5, 5)) * 0.02
    truth = np.hstack([fod, [[0.1, 0.05]] * 5])
    fit = model.fit(truth @ model.problem.design.T)
    assert np.abs(np.hstack(fit.coefs) - truth).max() < 1e-9


def test_every_kind_of_voxel_meets_the_conditions_of_an_optimum(
    gradients: GradientTable, every_kind: np.ndarray
) -> None:
    fit = fit_multi_tissue(every_kind, gradients, make_response())
    assert np.all(fit.status == Status.FITTED)
    assert fit.kkt_residual.max() < 1e-6
    model = make_multi_tissue_model(gradients, make_response())
    values = np.hstack(fit.coefs) @ model.problem.constraints.T
    assert np.all(values.min(axis=1) >= -1e-10 * values.max(axis=1))


def test_scaling_the_signal_scales_the_tissues(gradients: GradientTable, every_kind: np.ndarray) -> None:
    once = fit_multi_tissue(every_kind[::7], gradients, make_response())
    often = fit_multi_tissue(every_kind[::7] * 1e4, gradients, make_response())
    assert np.allclose(np.hstack(often.coefs), 1e4 * np.hstack(once.coefs), rtol=1e-9, atol=1e-9)


def test_the_order_of_volumes_does_not_matter(gradients: GradientTable, every_kind: np.ndarray) -> None:
    order = np.random.default_rng(0).permutation(len(gradients))
    first = fit_multi_tissue(every_kind[::7], gradients, make_response())
    second = fit_multi_tissue(every_kind[::7][:, order], gradients.subset(order), make_response())
    assert np.allclose(np.hstack(first.coefs), np.hstack(second.coefs), rtol=0, atol=1e-8)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_voxel_is_marked_and_its_neighbours_are_unchanged(
    gradients: GradientTable, every_kind: np.ndarray, bad: float
) -> None:
    rows = every_kind[:12].copy()
    good = fit_multi_tissue(rows, gradients, make_response())
    rows[4, 17] = bad
    rows[5] = 0
    fit = fit_multi_tissue(rows, gradients, make_response())
    assert fit.status[4] == Status.NOT_FINITE
    assert fit.status[5] == Status.NO_SIGNAL
    assert not fit.coefs[0][4:6].any()
    rest = np.delete(np.arange(12), [4, 5])
    assert np.array_equal(fit.coefs[0][rest], good.coefs[0][rest])


def test_one_shell_takes_two_tissues(gradients: GradientTable, every_kind: np.ndarray) -> None:
    volumes = np.flatnonzero(gradients.is_b0 | (gradients.bvals > 3000))
    fit = fit_multi_tissue(
        every_kind[:, volumes], gradients.subset(volumes), make_response((0.0, 3500.0), ("wm", "csf"))
    )
    assert np.all(fit.status == Status.FITTED)
    fractions = tissue_fractions(list(fit.coefs))
    assert np.median(fractions[120:150, 1]) > 0.7  # the floor of the noise at b = 3500 looks like fibres
    assert np.median(fractions[:30, 0]) > 0.8


def test_fractions_sum_to_one_and_density_is_the_integral_of_the_fod() -> None:
    fod, csf = np.zeros((2, 45)), np.array([[0.1], [0.0]])
    fod[0, 0] = 0.3
    assert np.allclose(tissue_fractions([fod, csf]), [[0.75, 0.25], [0, 0]])
    sphere = get_hemisphere("repulsion724").vertices
    amplitude = np.full(len(sphere), 0.3 / math.sqrt(4 * math.pi))
    assert total_fibre_density(fod)[0] == pytest.approx(4 * math.pi * amplitude.mean())


def test_a_response_of_other_shells_is_refused(gradients: GradientTable) -> None:
    with pytest.raises(InputError, match=r"made on the shells 1000, 2000 s/mm².*scan has 1000, 2000, 3500"):
        make_multi_tissue_model(gradients, make_response(SHELLS[:3]))
    with pytest.raises(InputError, match=r"made on the shells 1000, 2000, 3500 s/mm².*scan has 1000, 2000"):
        make_multi_tissue_model(gradients.subset(gradients.bvals < 3000), make_response())


def test_more_tissues_than_b_values_are_refused(gradients: GradientTable) -> None:
    part = gradients.subset(gradients.is_b0 | (gradients.bvals > 3000))
    with pytest.raises(InputError, match=r"3 tissues for 2 distinct b-values.*Leave out a tissue"):
        make_multi_tissue_model(part, make_response((0.0, 3500.0)))


def test_a_negative_response_is_refused(gradients: GradientTable) -> None:
    good = make_response()
    bad = good.coefs[2].copy()
    bad[2] = -1
    with pytest.raises(InputError, match="response of csf is negative or zero"):
        make_multi_tissue_model(gradients, Response(good.tissues, good.bvals, (*good.coefs[:2], bad)))


def test_an_oblate_response_is_refused(gradients: GradientTable) -> None:
    good = make_response()
    flat = good.coefs[0].copy()
    flat[:, 1] *= -1
    with pytest.raises(InputError, match="not prolate"):
        make_multi_tissue_model(gradients, Response(good.tissues, good.bvals, (flat, *good.coefs[1:])))


def test_a_degree_that_the_directions_do_not_carry_rests_on_the_constraint_and_says_so(
    gradients: GradientTable, every_kind: np.ndarray, mrtrix: Path, tmp_path: Path
) -> None:
    few = np.concatenate([np.flatnonzero(gradients.bvals == b)[:13] for b in np.unique(gradients.bvals)])
    part, response, rows = gradients.subset(few), make_response(), every_kind[:180, few].astype(np.float32)
    assert make_multi_tissue_model(part, response).lmax == (6, 0, 0)
    with pytest.warns(InputWarning, match=r"45 coefficients, the scan has 39 distinct.*super-resolved"):
        model = make_multi_tissue_model(part, response, lmax=8)
    fit = model.fit(rows)
    assert np.all(fit.status == Status.FITTED)
    assert fit.kkt_residual.max() < 1e-6
    theirs, ours = _fit_with_mrtrix(mrtrix, tmp_path, part, response, rows), np.hstack(fit.coefs)
    off = np.abs(ours - theirs).max(axis=1) / np.abs(ours).max(axis=1)
    assert np.mean(off < 1e-2) >= 0.95


def test_directions_that_are_many_but_badly_spread_lower_the_degree_or_take_a_ridge() -> None:
    rng = np.random.default_rng(0)
    turn = np.pi * (np.arange(16) + rng.random()) / 16
    circle = np.column_stack([np.cos(turn), np.sin(turn), np.zeros(16)])
    circles = np.vstack([circle, circle[:, [1, 2, 0]], circle[:, [2, 0, 1]]])  # in three planes, degree 8 is not seen
    bvals = np.repeat(SHELLS, [3, 16, 16, 16])
    planes = GradientTable(bvals, np.vstack([np.zeros((3, 3)), circles]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = make_multi_tissue_model(planes, make_response())
    assert model.lmax[0] < 8
    assert np.linalg.cond(model.problem.design / np.linalg.norm(model.problem.design, axis=0)) < ILL_CONDITIONED
    with pytest.warns(InputWarning, match=r"48 distinct directions on all shells, unevenly spread: .*super-resolved"):
        sharp = make_multi_tissue_model(planes, make_response(), lmax=8)
    fibres = rng.normal(size=(20, 1, 3))
    fibres /= np.linalg.norm(fibres, axis=-1, keepdims=True)
    signals = add_rician_noise(simulate_rows(planes, fibres, 1.0, ndi=0.6, odi=0.08, s0=1000.0), 1000.0 / 30, rng)
    fit = model.fit(signals[:, model.volumes])
    assert np.all(fit.status == Status.FITTED)
    of_degree_8 = sharp.fit(signals[:, sharp.volumes])  # its active constraints are conditioned 1e7 to 1e8
    assert np.all(of_degree_8.status == Status.FITTED)
    assert of_degree_8.kkt_residual.max() < 1e-7
    for coefs in (fit.coefs[0], of_degree_8.coefs[0]):
        assert np.median(coefs[:, 0]) * math.sqrt(4 * math.pi) == pytest.approx(1.0, abs=0.3)


def test_a_degree_above_that_of_the_response_is_refused(gradients: GradientTable) -> None:
    with pytest.raises(InputError, match=r"response has degree 8.*lmax = 10"):
        make_multi_tissue_model(gradients, make_response(), lmax=10)


def test_two_tissues_alike_are_refused(gradients: GradientTable) -> None:
    good = make_response()
    with pytest.raises(InputError, match="two responses are alike"):
        make_multi_tissue_model(gradients, Response(good.tissues, good.bvals, (*good.coefs[:2], 2 * good.coefs[1])))


def _fit_with_mrtrix(
    mrtrix: Path, folder: Path, gradients: GradientTable, response: Response, rows: np.ndarray
) -> np.ndarray:
    """Coefficients of all tissues (n_vox, n) by MRtrix3 with our directions."""
    nib.save(nib.Nifti1Image(rows.reshape(len(rows) // 4, 2, 2, -1), np.diag([2.0, 2, 2, 1])), folder / "dwi.nii")
    np.savetxt(folder / "grad.b", gradients.to_mrtrix(), fmt="%.17g")
    for tissue in response.tissues:
        (folder / f"{tissue}.txt").write_text(response.to_mrtrix(tissue))
    polar, azimuth = to_angles(get_even_directions(300))
    np.savetxt(folder / "directions.txt", np.column_stack([azimuth, polar]), fmt="%.17g")
    command = [str(mrtrix / "dwi2fod"), "msmt_csd", "dwi.nii", "-grad", "grad.b", "-directions", "directions.txt"]
    command += ["-lmax", "8,0,0", "-quiet"]
    for tissue in response.tissues:
        command += [f"{tissue}.txt", f"fod_{tissue}.nii"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return np.hstack([nib.load(folder / f"fod_{t}.nii").get_fdata().reshape(len(rows), -1) for t in response.tissues])


def test_agrees_with_mrtrix_on_the_same_directions(
    gradients: GradientTable, every_kind: np.ndarray, mrtrix: Path, tmp_path: Path
) -> None:
    response = make_response()
    rows = every_kind.astype(np.float32)
    theirs = _fit_with_mrtrix(mrtrix, tmp_path, gradients, response, rows)
    model = make_multi_tissue_model(gradients, response)
    ours = np.hstack(model.fit(rows).coefs)
    off = np.abs(ours - theirs).max(axis=1) / np.abs(ours).max(axis=1)
    assert np.mean(off < 1e-3) >= 0.99
    hessian = model.problem.design.T @ model.problem.design
    right = rows.astype(np.float64) @ model.problem.design

    def objective(u: np.ndarray) -> np.ndarray:
        return 0.5 * np.einsum("vi,ij,vj->v", u, hessian, u) - np.sum(right * u, axis=1)

    assert np.all(objective(ours) <= objective(theirs) + 1e-7 * np.abs(objective(theirs)))


def test_degrees_that_the_response_leaves_at_zero_are_not_fitted(gradients: GradientTable) -> None:
    full = make_response()
    wm = full.coefs[0].copy()
    wm[:, 4:] = 0  # as shells of fewer than 45 directions leave the degree 8
    response = Response(full.tissues, full.bvals, (wm, *full.coefs[1:]), "made up")
    signals = simulate_rows(gradients, np.array([[0.0, 0.6, 0.8]]), 1.0, ndi=0.6, odi=0.08, s0=1000.0)
    fit = fit_multi_tissue(signals, gradients, response)
    assert fit.coefs[0].shape == (1, 28)
    assert fit.status[0] == Status.FITTED
    with pytest.raises(InputError, match="degree 6"):
        make_multi_tissue_model(gradients, response, lmax=8)
