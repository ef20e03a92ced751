"""NODDI: recovery, AMICO side by side, failures and messages. Signals come from plain quadrature over the sphere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import i0e

from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource
from arcuate.models.noddi import NoddiFit, fit_noddi
from arcuate.models.status import Status

GOLDEN = Path(__file__).parent / "golden"
DPAR, DISO = 1.7e-3, 3e-3


def _spread(n: int, seed: int) -> np.ndarray:
    """A spiral of ``n`` unit vectors on the half sphere, turned at random."""
    i = np.arange(n) + 0.5
    z, azimuth = 1 - i / n, np.pi * (1 + np.sqrt(5)) * i
    spiral = np.column_stack([np.sqrt(1 - z * z) * np.cos(azimuth), np.sqrt(1 - z * z) * np.sin(azimuth), z])
    return spiral @ np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]


def make_table(*shells: tuple[float, int], n_b0: int = 2) -> GradientTable:
    directions = [np.zeros((n_b0, 3)), *(_spread(n, k) for k, (_, n) in enumerate(shells))]
    bvals = [np.zeros(n_b0), *(np.full(n, b) for b, n in shells)]
    return GradientTable(np.concatenate(bvals), np.concatenate(directions))


TABLE = make_table((1000.0, 30), (2000.0, 45), (3000.0, 60))


def simulate(
    gradients: GradientTable, ndi: float, odi: float, fwf: float, axis: np.ndarray, dot: float = 0.0
) -> np.ndarray:
    """Signal (n_meas,) of one voxel: sticks and tensors averaged over 120 x 240 directions about the axis."""
    x, weights = np.polynomial.legendre.leggauss(120)
    azimuth = 2 * np.pi * np.arange(240) / 240
    sine = np.sqrt(1 - x * x)
    points = np.stack(
        [np.outer(sine, np.cos(azimuth)), np.outer(sine, np.sin(azimuth)), np.repeat(x[:, None], 240, 1)], axis=-1
    ).reshape(-1, 3)
    kappa = 1 / np.tan(odi * np.pi / 2)
    density = np.repeat(weights * np.exp(kappa * (x * x - 1)), 240)
    density /= density.sum()
    turn = np.linalg.svd(np.asarray(axis, dtype=float)[None])[2][[1, 2, 0]]
    points = points @ turn
    b, g = gradients.bvals, gradients.directions
    sticks = np.exp(-b[:, None] * DPAR * (g @ points.T) ** 2) @ density
    across = DPAR * (1 - ndi)
    tensor = across * np.eye(3) + (DPAR - across) * np.einsum("p,pi,pj->ij", density, points, points)
    around = np.exp(-b * np.einsum("mi,ij,mj->m", g, tensor, g))
    tissue = ndi * sticks + (1 - ndi) * around
    return np.asarray(fwf * np.exp(-b * DISO) + dot + (1 - fwf - dot) * tissue)


def _voxels(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signals (n, n_meas) of TABLE, NDI ODI FWF (n, 3), axes (n, 3)."""
    rng = np.random.default_rng(seed)
    truth = np.column_stack([rng.uniform(0.3, 0.8, n), rng.uniform(0.04, 0.5, n), rng.uniform(0, 0.4, n)])
    axes = rng.normal(size=(n, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    return np.array([simulate(TABLE, *t, a) for t, a in zip(truth, axes, strict=True)]), truth, axes


def _maps(fit: NoddiFit) -> np.ndarray:
    return np.column_stack([fit.ndi, fit.odi, fit.fwf])


def _angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip(np.abs(np.sum(a * b, axis=1)), 0, 1)))


@pytest.fixture(scope="module")
def clean() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _voxels(60)


# --- recovery


def test_refined_fit_recovers_what_made_the_signal(clean):
    signals, truth, axes = clean
    fit = fit_noddi(700 * signals, TABLE, refine=True)
    assert np.all(fit.status == Status.FITTED)
    np.testing.assert_allclose(_maps(fit), truth, rtol=0, atol=3e-4)
    np.testing.assert_allclose(fit.s0, 700, rtol=1e-4)
    assert _angles(fit.directions, axes).max() < 0.05
    assert fit.rmse.max() < 1e-4


def test_dictionary_is_near_what_made_the_signal(clean):
    signals, truth, axes = clean
    fit = fit_noddi(signals, TABLE)
    error = np.abs(_maps(fit) - truth)
    assert np.all(fit.status == Status.FITTED)
    assert np.all(error.mean(axis=0) < [0.004, 0.004, 0.01])
    assert np.all(error.max(axis=0) < [0.015, 0.02, 0.04])
    assert _angles(fit.directions, axes).max() < 0.5


@pytest.mark.parametrize("refine", [False, True])
def test_ex_vivo_recovers_the_water_that_does_not_move(refine):
    axis = np.array([0.6, 0.0, 0.8])
    signals = np.array([simulate(TABLE, 0.6, 0.15, 0.1, axis, dot) for dot in (0.0, 0.1, 0.3)])
    fit = fit_noddi(signals, TABLE, ex_vivo=True, refine=refine)
    atol = 2e-3 if refine else 0.03
    np.testing.assert_allclose(fit.dot, [0.0, 0.1, 0.3], atol=atol)
    np.testing.assert_allclose(fit.ndi, 0.6, atol=2 * atol)
    assert np.all(fit_noddi(signals, TABLE).dot == 0)


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("fwf", [0.0, 0.001, 0.98, 0.999, 1.0])
def test_next_to_no_water_and_nothing_but_water(fwf, refine):
    rng = np.random.default_rng(4)
    clean = simulate(TABLE, 0.6, 0.2, fwf, np.array([0.0, 0.6, 0.8]))
    noisy = np.hypot(clean + 0.02 * rng.normal(size=(40, len(clean))), 0.02 * rng.normal(size=(40, len(clean))))
    fit = fit_noddi(np.vstack([clean, noisy]), TABLE, refine=refine)
    # plain: the penalty drops a hundredth of tissue; refined: row 0 has no noise, and is fitted with that of the others
    assert fit.fwf[0] == pytest.approx(fwf, abs=2e-3 if refine else 0.03)
    assert np.abs(fit.fwf[1:] - fwf).mean() < 0.05
    assert set(fit.status) <= {Status.FITTED, Status.NOT_CONVERGED}
    assert _maps(fit).min() >= 0
    assert _maps(fit).max() <= 1
    assert np.all(np.isfinite(fit.directions))


@pytest.mark.parametrize("fwf", [0.9, 0.97])
def test_the_refined_fit_of_mostly_water_is_most_likely_also_where_it_stands_at_a_bound(fwf):
    """Against moves of one parameter, under the noise that is most likely for what was fitted."""
    rng, table = np.random.default_rng(7), make_table((700.0, 20), (2000.0, 30))
    clean = simulate(table, 0.6, 0.2, fwf, np.array([0.0, 0.6, 0.8]))
    noisy = np.hypot(clean + 0.03 * rng.normal(size=(24, len(clean))), 0.03 * rng.normal(size=(24, len(clean))))
    fit = fit_noddi(noisy, table, refine=True)
    assert np.sum((fit.odi == 0) | (fit.ndi == 0) | (fit.ndi == 1)) > 5

    def against_likelihood(row: np.ndarray, signals: np.ndarray, variance: float) -> float:
        z = row * signals / variance
        return 0.5 * ((row - signals) ** 2).sum() / variance - np.log(i0e(z)).sum() + len(row) * np.log(variance)

    for row, point, s0, axis in zip(noisy, np.maximum(_maps(fit), [0, 1e-3, 0]), fit.s0, fit.directions, strict=True):
        signals = s0 * simulate(table, *point, axis)
        variance = min(np.geomspace(1e-4, 1e-2, 100), key=lambda v: against_likelihood(row, signals, v))
        reached = against_likelihood(row, signals, variance)
        for step in ([0, 0.02, 0], [0, 0, 0.01], [0, 0, -0.01]):
            moved = point + step
            if moved[2] <= 1:
                assert against_likelihood(row, s0 * simulate(table, *moved, axis), variance) > reached - 0.05


def test_given_directions_are_used_and_missing_ones_are_found(clean):
    signals, _, axes = clean
    wrong = np.roll(axes, 1, axis=1) * 3
    fit = fit_noddi(signals, TABLE, directions=wrong)
    np.testing.assert_allclose(fit.directions, wrong / 3, atol=1e-12)
    some = wrong.copy()
    some[:5] = [[0, 0, 0], [np.nan, 0, 1], [np.inf, 0, 0], [0, 0, 0], [np.nan] * 3]
    mixed = fit_noddi(signals, TABLE, directions=some)
    np.testing.assert_array_equal(mixed.directions[:5], fit_noddi(signals, TABLE).directions[:5])
    np.testing.assert_array_equal(mixed.ndi[5:], fit.ndi[5:])
    refined = fit_noddi(signals, TABLE, directions=axes + 0.1, refine=True)
    assert _angles(refined.directions, axes).max() < 0.05


def test_two_shells_are_enough_to_recover_without_noise():
    table = make_table((1000.0, 30), (2000.0, 60))
    axis = np.array([0.0, 0.0, 1.0])
    fit = fit_noddi(np.array([simulate(table, 0.55, 0.2, 0.1, axis)]), table, refine=True)
    np.testing.assert_allclose(_maps(fit)[0], [0.55, 0.2, 0.1], atol=1e-3)


def test_many_shells_and_shells_that_scatter():
    rng = np.random.default_rng(0)
    table = make_table((300.0, 12), (800.0, 20), (1500.0, 30), (2400.0, 40), (6000.0, 60))
    table = GradientTable(np.where(table.is_b0, 5.0, table.bvals + rng.uniform(-8, 8, len(table))), table.directions)
    axis = np.array([0.48, 0.6, 0.64])
    fit = fit_noddi(np.array([simulate(table, 0.5, 0.25, 0.2, axis)]), table, refine=True)
    np.testing.assert_allclose(_maps(fit)[0], [0.5, 0.25, 0.2], atol=0.01)


# --- AMICO


def _golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / name) as arrays:
        return {key: arrays[key] for key in arrays.files}


@pytest.fixture(scope="module")
def phantom() -> dict[str, np.ndarray]:
    golden = _golden("noddi_phantom.npz")
    golden["signals"] = golden["signals"] / 20
    return golden


def _agreement(fit: NoddiFit, maps: np.ndarray) -> np.ndarray:
    return np.mean(np.abs(_maps(fit) - maps) < [1e-3, 1e-2, 1e-3], axis=0)


def test_solver_equals_amico_on_the_phantom_given_its_directions_and_rules(phantom):
    table = GradientTable(phantom["bvals"], phantom["gradients"])
    fit = fit_noddi(phantom["signals"], table, directions=phantom["directions"], as_amico=True)
    assert _agreement(fit, phantom["maps"]).min() >= 0.99
    assert np.percentile(np.abs(fit.rmse - phantom["rmse"]), 99) < 1e-4


def test_solver_equals_amico_on_a_real_scan_given_its_directions_and_rules(data_dir):
    golden, folder = _golden("noddi_mdt.npz"), data_dir / "mdt_b1k_b2k"
    volume = NiftiVolumeResource(folder / "sub-mdt_dwi.nii.gz")
    table = GradientTable.from_fsl(
        FslBvalResource(folder / "sub-mdt_dwi.bval").get(),
        FslBvecResource(folder / "sub-mdt_dwi.bvec").get(),
        volume.get_affine(),
    )
    array = np.asarray(volume.get_array())
    rows = array.reshape(-1, array.shape[3])[golden["index"]]
    fit = fit_noddi(rows, table, directions=golden["directions"], as_amico=True)
    assert _agreement(fit, golden["maps"]).min() >= 0.99


# Ratio of our mean absolute error to AMICO's: NDI, ODI, FWF. Where grey matter at SNR 200 is above .8 for NDI and FWF,
# so is maximum likelihood started at the truth (benchmarks/results/noddi.md).
REFINED = {
    "white 30": (1.05, 0.7, 1.05),
    "grey 30": (1.05, 1.05, 1.05),
    "white 200": (0.8, 0.3, 0.8),
    "grey 200": (0.95, 0.6, 0.95),
}


@pytest.mark.parametrize("refine", [False, True])
def test_errors_against_the_truth_are_at_most_those_of_amico(phantom, refine):
    table = GradientTable(phantom["bvals"], phantom["gradients"])
    fit = fit_noddi(phantom["signals"], table, refine=refine)
    for group in REFINED:
        here = phantom["groups"] == group
        truth = phantom["truth"][here, :3]
        error = _maps(fit)[here] - truth
        ratio = np.abs(error).mean(axis=0) / np.abs(phantom["maps"][here] - truth).mean(axis=0)
        assert np.all(ratio <= (REFINED[group] if refine else 1.05)), (group, ratio)
        if refine and group.endswith("200"):
            assert np.all(np.abs(error.mean(axis=0)) <= 0.002), (group, error.mean(axis=0))


# --- voxels that go wrong


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_voxel_is_marked_and_its_neighbours_are_unchanged(clean, bad, refine):
    signals = clean[0][:9].copy()
    expected = fit_noddi(signals, TABLE, refine=refine)
    signals[4, 17] = bad
    fit = fit_noddi(signals, TABLE, refine=refine)
    assert fit.status[4] == Status.NOT_FINITE
    others = np.arange(9) != 4
    for name in ("ndi", "odi", "fwf", "s0", "rmse", "directions", "status"):
        np.testing.assert_array_equal(getattr(fit, name)[others], getattr(expected, name)[others])
        if name != "status":
            assert not np.any(getattr(fit, name)[4])


@pytest.mark.parametrize("refine", [False, True])
def test_voxels_without_signal_are_zero_and_say_so(clean, refine):
    signals = np.zeros((4, len(TABLE)))
    signals[1] = clean[0][0] * np.where(TABLE.is_b0, 0, 1)  # no b = 0 signal
    signals[2] = np.where(TABLE.is_b0, 1.0, 0.0)  # nothing but b = 0
    signals[3] = -1.0
    fit = fit_noddi(signals, TABLE, refine=refine)
    assert np.all(fit.status == Status.NO_SIGNAL)
    assert not np.any(_maps(fit))
    assert not np.any(fit.directions)


def test_negative_signals_count_as_zero_and_are_counted(clean):
    signals = np.repeat(clean[0][:1], 2, axis=0)
    signals[0, -1], signals[1, -1] = -0.3, 0.0
    fit = fit_noddi(signals, TABLE)
    assert list(fit.status) == [Status.FLOORED, Status.FITTED]
    assert fit.ndi[0] == fit.ndi[1]


@pytest.mark.parametrize("refine", [False, True])
def test_no_map_leaves_its_range_whatever_the_signal(refine):
    rng = np.random.default_rng(11)
    n = len(TABLE)
    signals = np.concatenate(
        [
            rng.uniform(0, 1, (60, n)),
            rng.exponential(size=(60, n)) * 1e4,
            np.exp(-TABLE.bvals * 1e-3) * rng.uniform(0, 5, (60, 1)),  # isotropic
            np.exp(TABLE.bvals * 1e-4) * np.ones((1, n)),  # rising with b
            np.ones((1, n)),
            np.where(TABLE.is_b0, 1e-30, 1.0)[None],
            np.where(TABLE.is_b0, 1e30, 1.0)[None],
            np.eye(1, n, 5) + np.where(TABLE.is_b0, 1.0, 0.0),
        ]
    )
    fit = fit_noddi(signals, TABLE, refine=refine)
    maps = _maps(fit)
    assert np.all(np.isfinite(maps))
    assert maps.min() >= 0
    assert maps.max() <= 1
    assert np.all(np.isfinite(fit.rmse))
    assert np.all(np.isfinite(fit.s0))
    np.testing.assert_allclose(np.linalg.norm(fit.directions, axis=1), 1, atol=1e-9)


def test_no_voxels_give_no_rows():
    fit = fit_noddi(np.empty((0, len(TABLE))), TABLE, refine=True)
    assert fit.ndi.shape == (0,)
    assert fit.directions.shape == (0, 3)


def test_integers_and_float32_give_what_float64_gives(clean):
    counts = np.round(clean[0][:10] * 4000)
    expected = fit_noddi(counts, TABLE)
    for dtype in (np.int16, np.uint16, np.float32):
        np.testing.assert_array_equal(fit_noddi(counts.astype(dtype), TABLE).ndi, expected.ndi)


# --- messages


def test_one_shell_is_refused_with_the_reason():
    table = make_table((1000.0, 60))
    with pytest.raises(InputError, match=r"two shells.*b=1000.*tensor and CSD"):
        fit_noddi(np.ones((1, len(table))), table)


def test_no_b0_is_refused_with_the_remedy():
    table = make_table((1000.0, 30), (2000.0, 30), n_b0=0)
    with pytest.raises(InputError, match=r"b=0.*lowest b-value is 1000.*b0_threshold"):
        fit_noddi(np.ones((1, len(table))), table)


def test_directions_in_one_plane_are_refused_unless_given():
    angles = np.linspace(0, np.pi, 20, endpoint=False)
    ring = np.column_stack([np.cos(angles), np.sin(angles), 0 * angles])
    table = GradientTable(np.r_[0, np.full(20, 1000.0), np.full(20, 2000.0)], np.r_[np.zeros((1, 3)), ring, ring])
    with pytest.raises(InputError, match=r"6 or more directions spread.*20 at b=1000"):
        fit_noddi(np.ones((1, 41)), table)
    assert fit_noddi(np.exp(-table.bvals * 1e-3)[None], table, directions=np.array([[1.0, 0, 0]])).status[0] == 1


def test_too_few_volumes_are_refused():
    table = make_table((1000.0, 6), (2000.0, 3))
    with pytest.raises(InputError, match=r"found 9 weighted volumes, expected 12"):
        fit_noddi(np.ones((1, len(table))), table)


@pytest.mark.parametrize(("name", "value"), [("dpar", 1.7), ("diso", 3.0), ("dpar", 0.0), ("diso", 1.6e-3)])
def test_a_diffusivity_in_another_unit_is_refused(name, value):
    with pytest.raises(InputError, match=r"mm²/s"):
        fit_noddi(np.ones((1, len(TABLE))), TABLE, **{name: value})


def test_arrays_of_other_shapes_are_refused():
    with pytest.raises(InputError, match=rf"\(n_vox, {len(TABLE)}\)"):
        fit_noddi(np.ones((2, 5)), TABLE)
    with pytest.raises(InputError, match=r"\(2, 3\), one per voxel"):
        fit_noddi(np.ones((2, len(TABLE))), TABLE, directions=np.ones((3, 3)))
