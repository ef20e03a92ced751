"""Peaks: true maxima on the sphere; DIPY's peaks on the grid."""

from __future__ import annotations

import numpy as np
import pytest
from sh_derivatives import sh_derivatives

from arcuate.errors import InputError
from arcuate.models.peaks import find_peaks, find_peaks_on_grid
from arcuate.models.status import Status
from arcuate.numerics.sh import degrees_and_orders, n_coefs, sh_matrix
from arcuate.numerics.sphere import get_hemisphere, get_sphere


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _deltas(fibres: np.ndarray, weights: np.ndarray, lmax: int) -> np.ndarray:
    """FODs of fibres (n_vox, n, 3) smoothed so that their side lobes stay low."""
    n_vox, n, _ = fibres.shape
    values = sh_matrix(fibres.reshape(-1, 3), lmax).reshape(n_vox, n, -1)
    degree, _ = degrees_and_orders(lmax)
    return np.einsum("vnc,vn->vc", values, weights) * np.exp(-degree * (degree + 1) / (lmax * (lmax + 1)))


def _random_fods(n: int, lmax: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    degree, _ = degrees_and_orders(lmax)
    rough = rng.normal(size=(n, n_coefs(lmax))) / (1 + degree)
    return 0.3 * rough + _deltas(_unit(rng.normal(size=(n, 3, 3))), rng.uniform(0.3, 1, (n, 3)), lmax)


@pytest.mark.parametrize("lmax", [2, 4, 8, 12])
def test_derivatives_are_those_of_finite_differences(lmax: int) -> None:
    rng = np.random.default_rng(lmax)
    coefs, directions = rng.normal(size=n_coefs(lmax)), _unit(rng.normal(size=(40, 3)))
    directions[0], directions[1] = [0, 0, 1], [0, 0, -1]
    values, gradients, hessians = sh_derivatives(coefs, directions)

    def f(points: np.ndarray) -> np.ndarray:
        return sh_matrix(points, lmax) @ coefs

    np.testing.assert_allclose(values, f(directions), atol=1e-10)
    tangent = _unit(np.cross(directions, [0.36, 0.48, 0.8]))
    other = np.cross(directions, tangent)
    step = 1e-4

    def moved(axis: np.ndarray, angle: float) -> np.ndarray:
        return f(np.cos(angle) * directions + np.sin(angle) * axis)

    scale = np.abs(hessians).max()
    for axis in (tangent, other):
        slope = (moved(axis, step) - moved(axis, -step)) / (2 * step)
        np.testing.assert_allclose(np.sum(gradients * axis, axis=1), slope, atol=1e-5 * scale)
    curvature = sum((moved(axis, step) - 2 * f(directions) + moved(axis, -step)) / step**2 for axis in (tangent, other))
    np.testing.assert_allclose(hessians.sum(axis=1), curvature, atol=1e-4 * scale)
    assert np.all(hessians[:, 0] <= hessians[:, 1])


@pytest.mark.parametrize("lmax", [4, 6, 8, 10, 12])
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_every_peak_is_a_maximum_by_gradient_and_hessian(lmax: int, threshold: float) -> None:
    coefs = _random_fods(300, lmax)
    peaks = find_peaks(coefs, n_peaks=10, relative_peak_threshold=threshold, min_separation_angle=0)
    assert np.mean(peaks.values[:, 0] > 0) > 0.99
    for v in range(len(coefs)):
        found = peaks.values[v] > 0
        values, gradients, hessians = sh_derivatives(coefs[v], peaks.directions[v, found])
        scale = np.abs(hessians).max(axis=1)
        np.testing.assert_allclose(values, peaks.values[v, found], rtol=1e-10)
        assert np.all(np.linalg.norm(gradients, axis=1) < 1e-6 * scale)
        assert np.all(hessians[:, 1] < 1e-6 * scale)


@pytest.mark.parametrize("lmax", [4, 8, 12])
def test_the_strongest_peak_is_the_highest_point_of_the_sphere(lmax: int) -> None:
    coefs = _random_fods(300, lmax, seed=1)
    dense = get_hemisphere("repulsion724").subdivide(n=2).vertices
    highest = (coefs @ sh_matrix(dense, lmax).T).max(axis=1)
    found = find_peaks(coefs, n_peaks=1).values[:, 0]
    assert np.all(found >= highest - 1e-12)
    assert np.all(found <= highest * 1.02)


def _all_maxima(coefs: np.ndarray, lmax: int, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Voxel and direction of the maxima above a share of the highest value, by a search without derivatives.

    It starts at the tops among 5121 directions 2 degrees apart, and looks around in ever smaller rings.
    """
    dense = get_hemisphere("symmetric642").subdivide(n=2)
    amplitudes = coefs @ sh_matrix(dense.vertices, lmax).T
    is_top = amplitudes > threshold * amplitudes.max(axis=1, keepdims=True)
    for near in dense.neighbours.T:
        is_top &= amplitudes >= amplitudes[:, near]
    voxel, vertex = np.nonzero(is_top)
    start = points = dense.vertices[vertex]
    ring = np.exp(1j * np.arange(8) * np.pi / 4)
    for radius in np.repeat(0.02 * 0.5 ** np.arange(8), 6):
        e = _unit(np.cross(points, np.where(np.abs(points[:, 2:]) < 0.9, [0.0, 0, 1], [1.0, 0, 0])))
        f = np.cross(points, e)
        offsets = ring.real[:, None, None] * e + ring.imag[:, None, None] * f
        around = _unit(np.concatenate([points[None], points + radius * offsets]))
        heights = np.einsum(
            "kpc,pc->kp", sh_matrix(around.reshape(-1, 3), lmax).reshape(9, len(points), -1), coefs[voxel]
        )
        points = around[heights.argmax(axis=0), np.arange(len(points))]
    stayed = np.sum(start * points, axis=1) > np.cos(np.deg2rad(3))
    return voxel[stayed], points[stayed]


def _near_crossings(n: int, lmax: int) -> np.ndarray:
    """FODs of two unequal fibres 35 to 60 degrees apart, about where their peaks merge."""
    rng = np.random.default_rng(lmax)
    first = _unit(rng.normal(size=(n, 3)))
    across = _unit(np.cross(first, rng.normal(size=(n, 3))))
    angle = np.deg2rad(rng.uniform(35, 60, (n, 1)))
    fibres = np.stack([first, np.cos(angle) * first + np.sin(angle) * across], axis=1)
    return _deltas(fibres, np.column_stack([np.ones(n), rng.uniform(0.6, 1, n)]), lmax)


@pytest.mark.parametrize(
    ("lmax", "fods"), [(4, "random"), (8, "random"), (12, "random"), (4, "near"), (6, "near"), (8, "near")]
)
def test_no_maximum_is_missed_not_even_a_shallow_one(lmax: int, fods: str) -> None:
    coefs = _random_fods(400, lmax, seed=5) if fods == "random" else _near_crossings(600, lmax)
    found = find_peaks(coefs, n_peaks=40, relative_peak_threshold=0.1, min_separation_angle=0).directions
    voxel, maxima = _all_maxima(coefs, lmax, 0.11)
    nearest = np.abs(np.einsum("pc,pkc->pk", maxima, found[voxel])).max(axis=1)
    assert len(maxima) > 1.05 * len(coefs)
    assert np.mean(nearest < np.cos(np.deg2rad(1.5))) <= 1e-3


@pytest.mark.parametrize("lmax", [4, 8, 12])
def test_no_peak_is_given_twice(lmax: int) -> None:
    directions = find_peaks(
        _random_fods(300, lmax), n_peaks=40, relative_peak_threshold=0.0, min_separation_angle=0
    ).directions
    cosines = np.abs(np.einsum("vpi,vqi->vpq", directions, directions))
    assert cosines[:, ~np.eye(40, dtype=bool)].max() < np.cos(np.deg2rad(1))


def test_peaks_are_sorted_separate_high_enough_and_few_enough() -> None:
    coefs = _random_fods(500, 8, seed=2)
    peaks = find_peaks(coefs, n_peaks=4, relative_peak_threshold=0.3, min_separation_angle=40)
    assert np.all(np.diff(peaks.values, axis=1) <= 0)
    present = peaks.values > 0
    assert np.all(peaks.values[present] >= (0.3 * peaks.values[:, :1] * np.ones(4))[present] - 1e-12)
    np.testing.assert_allclose(np.linalg.norm(peaks.directions[present], axis=-1), 1, atol=1e-12)
    assert not peaks.directions[~present].any()
    cosines = np.abs(np.einsum("vpi,vqi->vpq", peaks.directions, peaks.directions))
    off = ~np.eye(4, dtype=bool)
    assert np.all(cosines[:, off] <= np.cos(np.deg2rad(40)) + 1e-12)
    assert np.all(peaks.directions[..., 2] >= 0)


def test_asking_for_fewer_peaks_gives_the_first_of_them() -> None:
    coefs = _random_fods(400, 8, seed=3)
    many = find_peaks(coefs, n_peaks=10, relative_peak_threshold=0.0, min_separation_angle=20)
    few = find_peaks(coefs, n_peaks=2, relative_peak_threshold=0.0, min_separation_angle=20)
    np.testing.assert_allclose(few.values, many.values[:, :2], rtol=1e-12)
    np.testing.assert_allclose(few.directions, many.directions[:, :2], atol=1e-9)


def test_turning_the_fod_turns_its_peaks_to_a_millionth() -> None:
    rng = np.random.default_rng(6)
    coefs = _random_fods(200, 8, seed=6)
    points = get_sphere("repulsion200").vertices
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turned = (coefs @ sh_matrix(points, 8).T) @ np.linalg.pinv(sh_matrix(points @ turn.T, 8)).T
    one, other = find_peaks(coefs, n_peaks=1), find_peaks(turned, n_peaks=1)
    cosines = np.abs(np.sum(one.directions[:, 0] @ turn.T * other.directions[:, 0], axis=-1))
    assert np.median(1 - cosines) < 1e-12
    assert np.mean(np.arccos(np.clip(cosines, 0, 1)) < 1e-5) > 0.97  # the rest: two peaks of nearly equal height


def test_voxels_without_peaks_and_with_nan_are_marked() -> None:
    coefs = _random_fods(20, 8)
    alone = find_peaks(coefs)
    coefs[3], coefs[4], coefs[5, 7] = 0, 0, np.nan
    coefs[4, 0] = -1.0
    peaks = find_peaks(coefs)
    assert list(peaks.status[3:6]) == [Status.NO_SIGNAL, Status.NO_SIGNAL, Status.NOT_FINITE]
    assert not peaks.values[3:6].any()
    others = np.setdiff1d(np.arange(20), [3, 4, 5])
    np.testing.assert_array_equal(peaks.directions[others], alone.directions[others])


def test_a_minimum_amplitude_leaves_small_peaks_out() -> None:
    coefs = _random_fods(50, 8)
    values = find_peaks(coefs, relative_peak_threshold=0.0, min_amplitude=0.5).values
    assert np.all(values[values > 0] > 0.5)


@pytest.mark.parametrize(
    ("coefs", "options", "message"),
    [
        (np.zeros((2, 44)), {}, "no image of FODs: found 44"),
        (np.zeros((2, 45)), {"n_peaks": 0}, "n_peaks = 0"),
        (np.zeros((2, 45)), {"relative_peak_threshold": 1.5}, "a fraction"),
        (np.zeros((2, 45)), {"min_separation_angle": 100}, "0 to 90 degrees"),
    ],
)
def test_unusable_arguments_are_named(coefs: np.ndarray, options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_peaks(coefs, **options)


@pytest.mark.parametrize("name", ["half repulsion724", "symmetric362", "repulsion100"])
def test_grid_peaks_are_dipys(name: str) -> None:
    peer = pytest.importorskip("dipy.direction.peaks")
    data = pytest.importorskip("dipy.data")
    sphere = data.default_sphere if name.startswith("half") else data.get_sphere(name=name)
    rng = np.random.default_rng(0)
    matrix, degree = sh_matrix(sphere.vertices, 8), degrees_and_orders(8)[0]
    for trial in range(250):
        coefs = rng.normal(size=45) / (1 + degree)
        coefs[0] += rng.uniform(-3, 3)
        odf = matrix @ coefs
        if trial % 5 == 0:
            odf = np.round(odf, 1)  # ties
        if trial % 7 == 0:
            odf = np.maximum(odf, 0)  # plains
        threshold, angle = rng.choice([0, 0.3, 0.5, 0.9, 1.0]), rng.choice([0, 15, 25, 45, 90.0])
        options = {
            "relative_peak_threshold": threshold,
            "min_separation_angle": angle,
            "is_symmetric": bool(trial % 2),
        }
        _, values, indices = peer.peak_directions(odf, sphere, **options)
        found = find_peaks_on_grid(odf[None], sphere.vertices, sphere.edges, n_peaks=100, **options)
        np.testing.assert_array_equal(found.indices[0, : len(indices)], indices)
        np.testing.assert_array_equal(found.values[0, : len(values)], values)
        assert np.all(found.indices[0, len(indices) :] == -1)


def test_a_grid_with_nan_or_without_relief_has_no_peaks() -> None:
    sphere = get_hemisphere("repulsion724")
    odfs = np.ones((3, 362))
    odfs[1] = 0
    odfs[2, 8] = np.nan
    found = find_peaks_on_grid(odfs, sphere.vertices, sphere.edges)
    assert np.all(found.indices == -1)
    assert np.all(found.highest == -np.inf)
