"""What `arcuate info` finds out about a scan."""

from __future__ import annotations

import json

import numpy as np
import pytest

from arcuate.dwi import Dwi
from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.study.outliers import find_outliers
from arcuate.study.quality import correlate_neighbours, describe_directions, estimate_snr, inspect_scan
from arcuate.volumes.resource import InMemoryVolumeResource

AFFINE = np.diag([-2.0, 2, 2.5, 1])
SHAPE = (16, 18, 12)


def even(n: int) -> np.ndarray:
    """Lines that repel each other."""
    g = np.random.default_rng(n).normal(size=(n, 3))
    for _ in range(300):
        g /= np.linalg.norm(g, axis=1, keepdims=True)
        both = np.vstack([g, -g])
        apart = g[:, None] - both[None]
        distance = np.linalg.norm(apart, axis=2, keepdims=True)
        push = np.where(distance > 1e-9, apart / np.maximum(distance, 1e-9) ** 3, 0).sum(axis=1)
        g = g + 0.1 * push / np.linalg.norm(push, axis=1).max()
    return g / np.linalg.norm(g, axis=1, keepdims=True)


def table(n_b0: int = 6, n: int = 20, b: float = 1000.0) -> GradientTable:
    return GradientTable(np.r_[np.zeros(n_b0), np.full(n, b)], np.vstack([np.zeros((n_b0, 3)), even(n)]))


def scan(snr: float = 25.0, gradients: GradientTable | None = None, affine: np.ndarray = AFFINE) -> Dwi:
    """A ball of isotropic tissue, with Rician noise."""
    gradients = gradients or table()
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij"))
    ball = (grid**2).sum(0) < 0.7
    signal = np.where(ball[..., None], 500 * np.exp(-gradients.bvals * 0.8e-3), 0)
    noisy = np.hypot(signal + rng.normal(0, 500 / snr, signal.shape), rng.normal(0, 500 / snr, signal.shape))
    return Dwi.from_arrays(noisy.astype(np.float32), affine, gradients)


def inside(dwi: Dwi) -> np.ndarray:
    return np.asarray(dwi.volume.get_array()[..., 0] > 250)


def mask_of(dwi: Dwi) -> InMemoryVolumeResource:
    return InMemoryVolumeResource(inside(dwi).astype(np.uint8), dwi.volume.get_affine())


def test_the_facts_of_a_scan_are_those_it_was_made_with() -> None:
    dwi = scan()
    report = inspect_scan(dwi)
    assert report.shape == (*SHAPE, 26)
    assert report.voxel_size == (2.0, 2.0, 2.5)
    assert report.orientation == "LAS"
    assert report.obliquity == pytest.approx(0)
    assert report.determinant_sign == -1
    assert report.n_b0 == 6
    assert [(s.b, s.n_volumes, s.n_directions) for s in report.shells] == [(1000.0, 20, 20)]
    assert report.outliers == ()
    assert report.doubts == ()
    assert report.n_masked is not None
    assert 0.5 < report.n_masked / inside(dwi).sum() < 1.1  # Otsu's mask takes the rim of so small a ball away


@pytest.mark.parametrize("snr", [12.0, 25.0, 60.0])
@pytest.mark.parametrize("n_b0", [1, 2, 8])
def test_the_snr_is_that_of_one_b0_volume(snr: float, n_b0: int) -> None:
    dwi = scan(snr, table(n_b0))
    report = inspect_scan(dwi, mask_of(dwi))
    assert report.snr_b0 == pytest.approx(snr, rel=0.15)
    assert report.snr_from is not None
    assert ("tensor" in report.snr_from) == (n_b0 == 1)


def test_a_drift_in_scale_between_b0_volumes_is_not_noise() -> None:
    dwi = scan(30.0)
    drifting = dwi.volume.get_array() * np.linspace(1, 1.2, 26, dtype=np.float32)
    assert estimate_snr(drifting, inside(dwi), dwi.gradients, []) == pytest.approx(30, rel=0.15)


def test_neighbours_correlate_as_numpy_says_and_less_the_more_noise_there_is() -> None:
    found = []
    for snr in (60.0, 15.0, 6.0):
        dwi = scan(snr)
        signal = dwi.volume.get_array()
        array = signal + 300 * np.linspace(0, 1, signal.shape[0])[:, None, None, None] * signal[..., :1] / signal.max()
        table = dwi.gradients
        rows, weighted = array[inside(dwi)], np.flatnonzero(~table.is_b0)
        expected = []
        for i in weighted:
            others = weighted[weighted != i]
            nearest = others[np.argmax(np.abs(table.directions[others] @ table.directions[i]))]
            expected.append(np.corrcoef(rows[:, i], rows[:, nearest])[0, 1])
        correlation = correlate_neighbours(array, inside(dwi), table)
        assert correlation == pytest.approx(np.mean(expected), abs=1e-4)
        found.append(float(correlation or 0))
    assert found[0] > found[1] > found[2] > 0.2


def test_one_volume_has_no_neighbour() -> None:
    dwi = scan(60.0)
    gradients = dwi.gradients.subset(np.arange(7))
    assert correlate_neighbours(dwi.volume.get_array()[..., :7], inside(dwi), gradients) is None


def test_a_low_snr_is_doubted() -> None:
    dwi = scan(6.0)
    assert any("SNR on b=0 is" in doubt for doubt in inspect_scan(dwi, mask_of(dwi)).doubts)


def test_a_volume_that_lost_signal_is_named_once() -> None:
    dwi = scan()
    array = dwi.volume.get_array().copy()
    array[..., 11] *= 0.6
    (found,) = find_outliers(array, inside(dwi), dwi.gradients)
    assert (found.volume, found.slice) == (11, None)
    assert found.change == pytest.approx(-0.4, abs=0.05)


def test_a_slice_that_dropped_out_is_named() -> None:
    dwi = scan()
    array = dwi.volume.get_array().copy()
    array[:, :, 5, 14] *= 0.5
    found = find_outliers(array, inside(dwi), dwi.gradients)
    assert [(o.volume, o.slice) for o in found] == [(14, 5)]
    report = inspect_scan(Dwi(InMemoryVolumeResource(array, AFFINE), dwi.bval, dwi.bvec), mask_of(dwi))
    assert any("volumes 14 (1, counted from 0)" in doubt for doubt in report.doubts)


def test_even_directions_are_balanced_and_leave_no_hole() -> None:
    for n in (6, 12, 30, 60):
        facts = describe_directions(even(n), 1000)
        assert facts.n_directions == n
        assert facts.balance > 0.7
        assert np.radians(facts.largest_hole) < 2.5 / np.sqrt(n)


def test_a_vector_and_its_opposite_are_one_direction() -> None:
    lines = even(10)
    facts = describe_directions(np.vstack([lines, -lines, lines]), 1000)
    assert (facts.n_volumes, facts.n_directions) == (30, 10)
    assert facts == type(facts)(1000.0, 30, *list(vars(describe_directions(lines, 1000)).values())[2:])


def test_directions_near_one_plane_are_doubted() -> None:
    flat = even(20) * [1, 1, 0.2]
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    gradients = GradientTable(np.r_[0.0, np.full(20, 1000.0)], np.vstack([np.zeros(3), flat]))
    doubts = inspect_scan(scan(gradients=gradients), header_only=True).doubts
    assert any("lie to one side of space" in doubt for doubt in doubts)


def test_six_equal_directions_are_doubted_and_nothing_breaks() -> None:
    gradients = GradientTable(np.r_[0.0, np.full(6, 1000.0)], np.vstack([np.zeros(3), np.tile([0.0, 0, 1], (6, 1))]))
    dwi = scan(gradients=gradients)
    report = inspect_scan(dwi, mask_of(dwi))
    assert report.shells[0].n_directions == 1
    assert report.coherence is None
    assert any("1 distinct directions" in doubt for doubt in report.doubts)


def test_a_scan_without_b0_is_described_all_the_same() -> None:
    dwi = scan(gradients=table(0, 30, 2000.0))
    report = inspect_scan(dwi)
    assert report.n_b0 == 0
    assert any("no b=0 volume" in doubt for doubt in report.doubts)


def test_shells_too_wide_are_a_doubt_not_an_end() -> None:
    gradients = GradientTable(np.r_[0.0, 1000.0 + 30 * np.arange(12)], np.vstack([np.zeros(3), even(12)]))
    report = inspect_scan(scan(gradients=gradients), header_only=True)
    assert report.shells == ()
    assert any("form no distinct shell" in doubt for doubt in report.doubts)


def test_bad_values_in_the_brain_are_counted() -> None:
    dwi = scan()
    array = dwi.volume.get_array().copy()
    array[8, 9, 6, 3:6] = np.nan
    array[8, 9, 5, :] = -5
    report = inspect_scan(Dwi(InMemoryVolumeResource(array, AFFINE), dwi.bval, dwi.bvec), mask_of(dwi))
    assert (report.n_not_finite, report.n_negative) == (3, 26)
    assert any("3 values in the brain are not finite" in doubt for doubt in report.doubts)


def test_with_the_header_alone_no_voxel_is_read() -> None:
    class Unread(InMemoryVolumeResource):
        def get_array(self) -> np.ndarray:
            raise AssertionError("a voxel was read")

    dwi = scan()
    lazy = Dwi(Unread(dwi.volume.get_array(), AFFINE), dwi.bval, dwi.bvec)
    assert inspect_scan(lazy, header_only=True).snr_b0 is None


def test_a_mask_of_another_grid_is_refused() -> None:
    with pytest.raises(InputError, match="mask of shape"):
        inspect_scan(scan(), InMemoryVolumeResource(np.ones((2, 3, 4), np.uint8), AFFINE))


def test_an_oblique_image_tells_its_tilt() -> None:
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    tilted = np.array([[2, 0, 0, 0], [0, 2 * c, -2 * s, 0], [0, 2 * s, 2 * c, 0], [0, 0, 0, 1]])
    report = inspect_scan(scan(affine=tilted), header_only=True)
    assert report.obliquity == pytest.approx(20)
    assert (report.orientation, report.determinant_sign) == ("RAS", 1)


def test_the_report_is_plain_enough_for_json() -> None:
    dwi = scan()
    facts = json.loads(json.dumps(inspect_scan(dwi, mask_of(dwi)).to_dict()))
    assert facts["shells"][0]["n_directions"] == 20
    assert facts["coherence"]["best"] in facts["coherence"]["indices"]


def test_a_mask_of_four_axes_and_of_shares_is_read_as_everywhere_else() -> None:
    dwi = scan()
    shares = np.where(inside(dwi), 0.9, 0.2)[..., None]
    report = inspect_scan(dwi, InMemoryVolumeResource(shares, dwi.volume.get_affine()))
    assert report.n_masked == int(inside(dwi).sum())
    away = dwi.volume.get_affine().copy()
    away[0, 3] += 50
    with pytest.raises(InputError, match="the mask lies elsewhere"):
        inspect_scan(dwi, InMemoryVolumeResource(shares, away))


@pytest.mark.parametrize("volume", [2, 7, 12])
@pytest.mark.parametrize("content", [0.0, np.nan, 300.0])
def test_an_empty_volume_is_named_in_any_shell(volume: int, content: float) -> None:
    gradients = GradientTable(np.r_[np.zeros(3), np.full(6, 700.0), np.full(4, 2000.0)],
                              np.vstack([np.zeros((3, 3)), even(6), even(4)]))  # fmt: skip
    dwi = scan(gradients=gradients)
    array = dwi.volume.get_array().copy()
    array[..., volume] = content
    report = inspect_scan(Dwi(InMemoryVolumeResource(array, AFFINE), dwi.bval, dwi.bvec), mask_of(dwi))
    assert [(o.volume, o.change) for o in report.outliers if o.slice is None] == [(volume, -1.0)]
    assert any(f"volume {volume} holds no signal" in doubt for doubt in report.doubts)
    assert not any("drops or jumps" in doubt for doubt in report.doubts)


def test_the_snr_of_a_stripped_scan_is_not_that_of_its_empty_surroundings() -> None:
    dwi = scan(25.0)
    stripped = np.where(inside(dwi)[..., None], dwi.volume.get_array(), 0)
    everywhere = np.ones(SHAPE, bool)
    assert estimate_snr(stripped, everywhere, dwi.gradients, []) == pytest.approx(25, rel=0.15)


def fibrous(bvals: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, GradientTable]:
    """A brain most of whose fibres run along x: its mean signal depends on the direction."""
    rng = np.random.default_rng(1)
    gradients = GradientTable(bvals, directions)
    ball = (np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")) ** 2).sum(0) < 0.7
    mean = 500 * np.exp(-bvals * (0.5e-3 + 0.12e-3 * gradients.directions[:, 0] ** 2))
    clean = np.where(ball[..., None], mean, 0)
    return np.hypot(clean + rng.normal(0, 10, clean.shape), rng.normal(0, 10, clean.shape)), ball, gradients


def test_a_grid_of_q_space_has_no_false_outliers() -> None:
    grid = np.array([q for q in np.ndindex(9, 9, 9) if 0 < ((np.array(q) - 4) ** 2).sum() <= 16], float) - 4
    square = (grid**2).sum(axis=1)
    bvals = np.r_[0, 250 * square]
    array, ball, gradients = fibrous(bvals, np.vstack([np.zeros(3), grid / np.sqrt(square)[:, None]]))
    assert find_outliers(array, ball, gradients) == ()
    array[..., 40] *= 0.2
    assert [o.volume for o in find_outliers(array, ball, gradients)] == [40]


def test_a_drop_is_seen_among_directions_that_differ_by_more() -> None:
    bvals = np.r_[0, np.full(45, 3500.0)]
    array, ball, gradients = fibrous(bvals, np.vstack([np.zeros(3), even(45)]))
    whole = array[ball].mean(axis=0)[1:]
    assert whole.max() > 1.3 * whole.min()
    assert find_outliers(array, ball, gradients) == ()
    across = 1 + int(np.argmin(np.abs(gradients.directions[1:, 0])))  # bright by its direction
    array[..., across] *= 0.75
    assert [o.volume for o in find_outliers(array, ball, gradients)] == [across]


@pytest.mark.parametrize("n_voxels", [1, 9])
def test_a_mask_of_few_voxels_ends_in_a_report(n_voxels: int) -> None:
    dwi = scan()
    few = np.zeros(SHAPE, np.uint8)
    few[8, 9, 1 : 1 + n_voxels] = 1
    report = inspect_scan(dwi, InMemoryVolumeResource(few, AFFINE))
    assert report.n_masked == n_voxels
    assert not [outlier for outlier in report.outliers if outlier.slice is not None]


@pytest.mark.parametrize("content", [0.0, np.nan, 7.0])
def test_a_scan_in_which_no_brain_is_found_is_described_with_its_empty_volumes(content: float) -> None:
    dwi = scan()
    array = dwi.volume.get_array().copy()
    array[..., dwi.gradients.is_b0] = content
    report = inspect_scan(Dwi(InMemoryVolumeResource(array, AFFINE), dwi.bval, dwi.bvec))
    assert (report.n_b0, report.n_masked) == (6, None)
    assert any(doubt.startswith("no brain was found") for doubt in report.doubts)
    assert any("volumes 0, 1, 2, 3, 4, 5 hold no signal" in doubt for doubt in report.doubts)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_values_that_are_no_numbers_hide_neither_brain_nor_noise(bad: float) -> None:
    dwi = scan(25.0)
    array = dwi.volume.get_array().copy()
    array[np.random.default_rng(0).random(array.shape) < 0.01] = bad
    report = inspect_scan(Dwi(InMemoryVolumeResource(array, AFFINE), dwi.bval, dwi.bvec))
    clean = inspect_scan(dwi)
    assert report.n_masked == pytest.approx(clean.n_masked, rel=0.02)
    assert report.snr_b0 == pytest.approx(clean.snr_b0, rel=0.1)
    assert report.outliers == ()
