"""Gradient tables: frames, shells, what is repaired and what is refused."""

from __future__ import annotations

import itertools
import pickle
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcuate.errors import InputError, InputWarning, NotApplicable
from arcuate.gradients import GradientTable, image_to_scanner, in_s_per_mm2
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource

SCANS = [
    "canon_dti/3000_DTI_PA-ortho_cl",
    "canon_dti/5000_DTI_PA-SAG_20d_cl",
    "canon_dti/11000_SAG_DTI_PA-ALL_20d_cl",
    "mdt_b1k_b2k/sub-mdt_dwi",
]
ORIENTATIONS = [
    np.column_stack([axes, flips])
    for axes in itertools.permutations(range(3))
    for flips in itertools.product([1, -1], repeat=3)
]


def directions(n: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rotation(seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def affine_of(linear: np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = linear
    return affine


@pytest.fixture
def bvals() -> np.ndarray:
    return np.array([0.0, 5, 995, 1000, 1005, 1990, 2000, 2010, 2005])


@pytest.fixture
def bvecs() -> np.ndarray:
    vectors = directions(9)
    vectors[0] = 0
    return vectors


# --- frames


def test_fsl_vectors_of_a_radiological_image_are_only_rotated(bvals: np.ndarray, bvecs: np.ndarray) -> None:
    linear = rotation(1) @ np.diag([-2.0, 2, 3])  # det < 0
    table = GradientTable.from_fsl(bvals, bvecs, affine_of(linear))
    np.testing.assert_allclose(table.directions, bvecs @ (linear / [2, 2, 3]).T, atol=1e-12)


def test_fsl_vectors_of_a_neurological_image_have_x_negated_first(bvals: np.ndarray, bvecs: np.ndarray) -> None:
    turn = rotation(2)
    table = GradientTable.from_fsl(bvals, bvecs, affine_of(turn @ np.diag([1.0, 2, 3])))
    np.testing.assert_allclose(table.directions, (bvecs * [-1, 1, 1]) @ turn.T, atol=1e-12)


@pytest.mark.parametrize("sign", [-1, 1])
def test_an_identity_like_affine_gives_the_convention_at_sight(sign: int) -> None:
    table = GradientTable.from_fsl(np.array([1000.0]), np.array([[1.0, 0, 0]]), np.diag([sign * 2.0, 2, 2, 1]))
    np.testing.assert_allclose(table.directions, [[-1, 0, 0]], atol=1e-15)


def test_a_sheared_affine_is_replaced_by_the_nearest_rotation() -> None:
    turn = rotation(3) @ np.diag([-1.0, 1, 1])
    stretch = np.array([[2, 0.1, 0], [0.1, 2, 0.05], [0, 0.05, 3]])  # symmetric, so that turn is the polar factor
    np.testing.assert_allclose(image_to_scanner(affine_of(turn @ stretch)), turn, atol=1e-12)


@given(seed=st.integers(0, 10_000), mirrored=st.booleans())
def test_fsl_vectors_come_back_as_they_were(seed: int, mirrored: bool) -> None:
    linear = rotation(seed) @ np.diag([-1.5 if mirrored else 1.5, 2, 2.5])
    vectors = directions(7, seed)
    table = GradientTable.from_fsl(np.full(7, 1000.0), vectors, affine_of(linear))
    bvals, again = table.to_fsl(affine_of(linear))
    np.testing.assert_allclose(again, vectors, atol=1e-12)
    np.testing.assert_array_equal(bvals, 1000)
    np.testing.assert_allclose(np.linalg.norm(table.directions, axis=1), 1, atol=1e-12)


def test_mrtrix_rows_come_back_as_they_were(bvals: np.ndarray, bvecs: np.ndarray) -> None:
    rows = np.column_stack([bvecs, bvals])
    np.testing.assert_allclose(GradientTable.from_mrtrix(rows).to_mrtrix(), rows, atol=1e-15)


def test_turning_affine_and_table_together_keeps_the_fsl_vectors(bvals: np.ndarray, bvecs: np.ndarray) -> None:
    affine = affine_of(rotation(4) @ np.diag([-2.0, 2, 2]))
    turn = rotation(5)
    table = GradientTable.from_fsl(bvals, bvecs, affine)
    np.testing.assert_allclose(table.rotated(turn).to_fsl(affine_of(turn) @ affine)[1], bvecs, atol=1e-12)


@pytest.mark.parametrize("scan", SCANS)
def test_a_real_scan_has_the_directions_that_mrtrix_gives_it(scan: str, data_dir: Path, mrtrix: Path) -> None:
    stem = str(data_dir / scan)
    volume = NiftiVolumeResource(f"{stem}.nii.gz")
    bvals, bvecs = FslBvalResource(f"{stem}.bval").get(), FslBvecResource(f"{stem}.bvec").get()
    ours = GradientTable.from_fsl(bvals, bvecs, volume.get_affine()).to_mrtrix()
    theirs = dwgrad(mrtrix, Path(f"{stem}.nii.gz"), Path(f"{stem}.bvec"), Path(f"{stem}.bval"))
    np.testing.assert_allclose(ours, theirs, atol=2e-6, rtol=1e-9)


@pytest.mark.parametrize("scan", SCANS)
def test_a_scan_stored_in_all_48_orders_has_one_table_and_it_is_that_of_mrtrix(
    scan: str, data_dir: Path, mrtrix: Path, tmp_path: Path
) -> None:
    stem = str(data_dir / scan)
    bvals, bvecs = FslBvalResource(f"{stem}.bval").get(), FslBvecResource(f"{stem}.bvec").get()
    affine = nib.load(f"{stem}.nii.gz").affine
    # MRtrix3 looks at the header and the number of volumes only: small voxels arrays are enough
    image = nib.Nifti1Image(np.zeros((2, 3, 4, len(bvals)), np.int16), affine)
    expected = GradientTable.from_fsl(bvals, bvecs, affine).directions
    np.savetxt(tmp_path / "x.bval", bvals[None])
    signs = set()
    for order in ORIENTATIONS:
        turned = image.as_reoriented(order)
        vectors = as_fsl_writes(bvecs, affine, order, turned.affine)
        signs.add(np.sign(np.linalg.det(turned.affine)))
        table = GradientTable.from_fsl(bvals, vectors, turned.affine)
        np.testing.assert_allclose(table.directions, expected, atol=1e-6)
        nib.save(turned, tmp_path / "x.nii")
        np.savetxt(tmp_path / "x.bvec", vectors.T, fmt="%.10f")
        theirs = dwgrad(mrtrix, tmp_path / "x.nii", tmp_path / "x.bvec", tmp_path / "x.bval")
        np.testing.assert_allclose(table.to_mrtrix(), theirs, atol=2e-6, rtol=1e-9)
    assert signs == {-1, 1}


def as_fsl_writes(bvecs: np.ndarray, affine: np.ndarray, order: np.ndarray, new_affine: np.ndarray) -> np.ndarray:
    """FSL's b-vectors after the image's axes were reordered: by permuting and negating components only."""
    along_axes = bvecs * ([-1, 1, 1] if np.linalg.det(affine) > 0 else [1, 1, 1])
    new = np.empty_like(bvecs)
    for old_axis, (new_axis, flip) in enumerate(order):
        new[:, new_axis] = flip * along_axes[:, old_axis]
    return new * ([-1, 1, 1] if np.linalg.det(new_affine) > 0 else [1, 1, 1])


def dwgrad(mrtrix: Path, image: Path, bvec: Path, bval: Path) -> np.ndarray:
    command = [mrtrix / "mrinfo", "-quiet", "-dwgrad", "-bvalue_scaling", "false", image, "-fslgrad", bvec, bval]
    return np.loadtxt(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())


def test_a_singular_affine_is_refused_and_points_to_the_header() -> None:
    with pytest.raises(InputError, match=r"singular.*sform and qform"):
        GradientTable.from_fsl(np.array([1000.0]), directions(1), affine_of(np.diag([2.0, 2, 0])))


# --- shells


def test_shells_are_cut_at_gaps_and_named_by_their_mean(bvals: np.ndarray, bvecs: np.ndarray) -> None:
    low, high = GradientTable(bvals, bvecs).shells
    assert low.b == pytest.approx(1000)
    assert high.b == pytest.approx(2001.25)
    np.testing.assert_array_equal(low.indices, [2, 3, 4])
    np.testing.assert_array_equal(high.indices, [5, 6, 7, 8])


def test_b_values_are_never_rescaled_and_the_threshold_is_inclusive(bvecs: np.ndarray) -> None:
    bvals = np.array([0, 50, 50.001, 700, 1000, 1000, 1000, 3000, 3000])
    bvecs[2] = [0, 0, 1]
    table = GradientTable(bvals, bvecs)
    np.testing.assert_array_equal(table.bvals, bvals)
    np.testing.assert_array_equal(table.is_b0, [True, True] + [False] * 7)


def test_a_gap_of_exactly_100_joins_and_a_larger_one_cuts() -> None:
    assert len(GradientTable(np.array([1000.0, 1100]), directions(2)).shells) == 1
    assert len(GradientTable(np.array([1000.0, 1100.1]), directions(2)).shells) == 2


def test_a_shell_of_exactly_200_is_kept_and_a_wider_one_is_refused_with_its_values() -> None:
    assert len(GradientTable(np.array([1000.0, 1100, 1200]), directions(3)).shells) == 1
    table = GradientTable(np.array([0.0, 1000, 1090, 1180, 1270]), np.vstack([np.zeros(3), directions(4)]))
    with pytest.raises(InputError, match=r"1000, 1090, 1180, 1270.*at most 200 wide"):
        table.shells


def test_a_lowest_b_between_50_and_100_names_the_threshold_to_raise() -> None:
    table = GradientTable(np.array([0.0, 60, 65, 1000]), directions(4))
    with pytest.warns(InputWarning, match=r"60 s/mm².*b0_threshold.*to 65"):
        assert [len(shell) for shell in table.shells] == [2, 1]
    raised = GradientTable(table.bvals, table.directions, b0_threshold=65)
    assert [shell.b for shell in raised.shells] == [1000]


def test_the_order_of_volumes_does_not_matter_to_shells(bvals: np.ndarray, bvecs: np.ndarray) -> None:
    order = np.random.default_rng(1).permutation(9)
    table = GradientTable(bvals, bvecs)
    for shell, shuffled in zip(table.shells, table.subset(order).shells, strict=True):
        assert shell.b == pytest.approx(shuffled.b)
        assert set(order[shuffled.indices]) == set(shell.indices)


@given(
    centres=st.lists(st.integers(3, 60), min_size=1, max_size=5, unique=True),
    jitter=st.lists(st.floats(-20, 20), min_size=30, max_size=30),
)
def test_every_weighted_volume_is_in_exactly_one_shell(centres: list[int], jitter: list[float]) -> None:
    bvals = np.array([250.0 * centres[i % len(centres)] + jitter[i] for i in range(30)] + [0.0])
    table = GradientTable(bvals, np.vstack([directions(30), np.zeros(3)]))
    assert len(table.shells) == len(centres)
    joined = np.concatenate([shell.indices for shell in table.shells])
    np.testing.assert_array_equal(np.sort(joined), np.arange(30))
    for shell in table.shells:
        assert np.ptp(bvals[shell.indices]) <= 200


def test_get_shell_takes_the_nearest_and_lists_what_there_is(bvals: np.ndarray, bvecs: np.ndarray) -> None:
    table = GradientTable(bvals, bvecs)
    assert table.get_shell(2050).b == pytest.approx(2001.25)
    with pytest.raises(InputError, match=r"b = 1500.*1000, 2001"):
        table.get_shell(1500)
    with pytest.raises(InputError, match="no weighted volume"):
        table.subset(table.is_b0).get_shell(1000)


def test_a_scan_without_b0_is_refused_where_one_is_needed() -> None:
    table = GradientTable(np.full(6, 2000.0), directions(6))
    with pytest.raises(InputError, match=r"mean b=0 needs.*2000.*b0-threshold"):
        table.require_b0("the mean b=0")


# --- repair


@pytest.mark.parametrize("transposed", [False, True])
def test_vectors_may_come_as_rows_or_columns(bvals: np.ndarray, bvecs: np.ndarray, transposed: bool) -> None:
    expected = GradientTable.from_fsl(bvals, bvecs, np.eye(4))
    assert GradientTable.from_fsl(bvals, bvecs.T if transposed else bvecs, np.eye(4)) == expected
    assert GradientTable.from_fsl(bvals[None], bvecs, np.eye(4)) == expected
    assert GradientTable.from_fsl(bvals[:, None], bvecs, np.eye(4)) == expected


def test_three_vectors_are_read_the_way_that_makes_sense() -> None:
    bvals = np.array([0.0, 1000, 1000])
    rows = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    expected = GradientTable.from_fsl(bvals, rows, np.diag([-1.0, 1, 1, 1]))
    np.testing.assert_array_equal(expected.directions, rows * [-1, 1, 1])
    assert GradientTable.from_fsl(bvals, rows.T, np.diag([-1.0, 1, 1, 1])) == expected
    oblique = directions(3, 5)
    np.testing.assert_allclose(
        GradientTable.from_fsl(np.full(3, 1000.0), oblique.T, np.diag([-1.0, 1, 1, 1])).directions, oblique * [-1, 1, 1]
    )


def test_vectors_rounded_to_two_decimals_are_scaled_with_a_warning() -> None:
    rough = np.round(directions(30), 1)
    rough = rough[np.abs(np.linalg.norm(rough, axis=1) - 1) < 0.05]
    with pytest.warns(InputWarning, match=r"off unit length \(worst: .*scaled to 1"):
        table = GradientTable(np.full(len(rough), 1000.0), rough)
    np.testing.assert_allclose(np.linalg.norm(table.directions, axis=1), 1, atol=1e-12)


def test_vectors_rounded_to_four_decimals_are_scaled_in_silence() -> None:
    table = GradientTable(np.full(30, 1000.0), np.round(directions(30), 4))
    np.testing.assert_allclose(np.linalg.norm(table.directions, axis=1), 1, atol=1e-12)


def test_a_vector_that_is_not_a_number_on_b0_is_taken_as_zero_with_a_warning(
    bvals: np.ndarray, bvecs: np.ndarray
) -> None:
    bvecs[0] = np.nan
    with pytest.warns(InputWarning, match=r"1 volume with b=0 .*not a number; taken as zero"):
        table = GradientTable.from_fsl(bvals, bvecs, np.eye(4))
    np.testing.assert_array_equal(table.directions[0], 0)


def test_b_values_that_look_like_ms_per_square_micrometre_are_doubted() -> None:
    with pytest.warns(InputWarning, match=r"largest b-value is 3.*multiply it by 1000"):
        GradientTable.from_fsl(np.array([0.0, 1, 3]), directions(3), np.eye(4))


def test_b_values_in_s_per_square_metre_are_refused_with_the_unit_and_the_remedy(
    bvals: np.ndarray, bvecs: np.ndarray
) -> None:
    with pytest.raises(InputError, match=r"unit is s/m², expected s/mm².*--b-unit s/m2"):
        GradientTable.from_fsl(bvals * 1e6, bvecs, np.eye(4))
    with pytest.raises(InputError, match=r"unit is s/m².*--b-unit s/m2"):
        GradientTable.from_mrtrix(np.column_stack([bvecs, bvals * 1e6]))
    np.testing.assert_allclose(in_s_per_mm2(bvals * 1e6, "s/m2"), bvals)


def test_b_values_that_no_scanner_reaches_are_refused(bvals: np.ndarray, bvecs: np.ndarray) -> None:
    bvals[4] = 1e6
    words = r"largest b-value is 1,000,000 s/mm² \(volume 4, counted from 0\); expected at most 200,000.*--b-unit s/m2"
    with pytest.raises(InputError, match=words):
        GradientTable.from_fsl(bvals, bvecs, np.eye(4))
    with pytest.raises(InputError, match=words):
        GradientTable.from_mrtrix(np.column_stack([bvecs, bvals]))
    bvals[4] = 25_000  # strong gradients, or a specimen
    assert GradientTable.from_fsl(bvals, bvecs, np.eye(4)).bvals[4] == 25_000


def test_b_values_surely_in_ms_per_square_micrometre_are_refused(bvals: np.ndarray, bvecs: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"2.01.*unit is ms/µm², expected s/mm².*--b-unit ms/um2"):
        GradientTable.from_fsl(bvals / 1000, bvecs, np.eye(4))
    np.testing.assert_allclose(in_s_per_mm2(bvals / 1000, "ms/um2"), bvals)
    with pytest.raises(InputError, match=r"'s/cm2'.*expected one of s/mm2"):
        in_s_per_mm2(bvals, "s/cm2")


def test_b0_volumes_with_directions_of_their_own_are_only_doubted() -> None:
    with pytest.warns(InputWarning, match="largest b-value is 5"):
        GradientTable.from_fsl(np.full(18, 5.0), directions(18), np.eye(4))


def shells_of_lengths() -> tuple[np.ndarray, np.ndarray]:
    return np.repeat([0.0, 500, 1000, 4000], [1, 12, 15, 15]), np.vstack([np.zeros(3), directions(42)])


@pytest.mark.parametrize("decimals", [3, 6])
@pytest.mark.parametrize("power", [0.5, 1.0])
def test_lengths_proportional_to_b_are_taken_off_where_the_b_values_are_true(decimals: int, power: float) -> None:
    bvals, unit = shells_of_lengths()
    vectors = np.round(unit * ((bvals / 4000) ** power)[:, None], decimals)
    with pytest.warns(InputWarning, match=r"lengths of the b-vectors are proportional to .*b-values kept"):
        table = GradientTable.from_fsl(bvals, vectors, np.diag([-1.0, 1, 1, 1]))
    np.testing.assert_array_equal(table.bvals, bvals)
    np.testing.assert_allclose(table.directions, unit * [-1, 1, 1], atol=0.02)


@pytest.mark.parametrize("first", [0.0, 4000.0])
def test_one_nominal_b_and_lengths_give_the_true_b_values(first: float) -> None:
    bvals, unit = shells_of_lengths()
    nominal = np.where(bvals > 0, 4000.0, first)
    vectors = np.round(unit * np.sqrt(bvals / 4000)[:, None], 6)
    with pytest.warns(InputWarning, match=r"the lengths carry b. Taken as b = 4000 times"):
        table = GradientTable.from_fsl(nominal, vectors, np.diag([-1.0, 1, 1, 1]))
    np.testing.assert_array_equal(table.bvals, bvals)
    with pytest.warns(InputWarning, match="the lengths carry b"):
        again = GradientTable.from_mrtrix(np.column_stack([vectors, nominal]))
    np.testing.assert_array_equal(again.bvals, bvals)
    np.testing.assert_allclose(again.directions, unit, atol=1e-5)


def test_a_grid_of_one_nominal_b_gives_the_true_b_values() -> None:
    points = [
        (x, y, z) for x in range(-3, 4) for y in range(-3, 4) for z in range(-3, 4) if 0 < x * x + y * y + z * z < 10
    ]
    grid = np.array([q for q in points if q > (0, 0, 0)], float) / 3
    with pytest.warns(InputWarning, match="the lengths carry b"):
        table = GradientTable.from_fsl(np.full(len(grid), 3000.0), np.round(grid, 5), np.eye(4))
    np.testing.assert_allclose(table.bvals, 3000 * (grid**2).sum(axis=1), atol=1)


@pytest.mark.parametrize("seed", range(5))
def test_lengths_that_carry_nothing_certain_are_refused(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wild = directions(30) * rng.uniform(0.5, 1, (30, 1))
    wild[0] /= np.linalg.norm(wild[0])
    with pytest.raises(InputError, match="has length"):
        GradientTable.from_fsl(np.full(30, 1000.0), wild, np.eye(4))
    one = directions(30)
    one[7] *= 0.5  # a single mistake is no shell
    with pytest.raises(InputError, match=r"volume 7 has length 0\.5"):
        GradientTable.from_fsl(np.full(30, 1000.0), one, np.eye(4))
    bvals = np.repeat([1000.0, 2000], 15)
    with pytest.raises(InputError, match="has length"):
        GradientTable.from_fsl(bvals, wild, np.eye(4))


def test_low_b_without_a_vector_names_the_threshold(bvals: np.ndarray, bvecs: np.ndarray) -> None:
    bvals[0], bvecs[0] = 80, 0
    with pytest.raises(InputError, match=r"volume 0 is zero.*raise b0_threshold \(--b0-threshold\) to 80"):
        GradientTable.from_fsl(bvals, bvecs, np.eye(4))
    bvecs[bvals > 50] = 0
    with pytest.raises(InputError, match="no weighted volume has one"):
        GradientTable.from_fsl(bvals, bvecs, np.eye(4))


def test_b_values_without_shells_have_levels() -> None:
    bvals = np.r_[0.0, np.linspace(100, 3000, 60)]
    table = GradientTable(bvals, np.vstack([np.zeros(3), directions(60)]))
    with pytest.raises(NotApplicable, match="form no distinct shell"):
        table.shells
    np.testing.assert_array_equal(np.sort(np.concatenate([level.indices for level in table.levels])), np.arange(1, 61))
    assert all(np.ptp(bvals[level.indices]) <= 200 for level in table.levels)
    np.testing.assert_array_equal(table.least_weighted, [0])
    assert table.subset(np.arange(1, 61)).least_weighted[0] == 0


def test_shells_are_the_levels_where_there_are_some(bvals: np.ndarray, bvecs: np.ndarray) -> None:
    table = GradientTable(bvals, bvecs)
    assert table.levels == table.shells
    np.testing.assert_array_equal(table.subset(np.arange(2, 9)).least_weighted, [0, 1, 2])


def test_taking_the_b0_volumes_alone_raises_no_doubt(bvals: np.ndarray, bvecs: np.ndarray) -> None:
    assert len(GradientTable.from_fsl(bvals, bvecs, np.eye(4)).subset(np.array([0, 1]))) == 2


# --- refusal


def test_one_vector_too_few_is_refused_with_both_counts(bvals: np.ndarray, bvecs: np.ndarray) -> None:
    for vectors in (bvecs[:-1], bvecs[:-1].T):
        with pytest.raises(InputError, match=r"found 8 b-vectors for 9 b-values.*same scan"):
            GradientTable.from_fsl(bvals, vectors, np.eye(4))


def test_a_table_that_does_not_fit_the_image_is_refused(bvals: np.ndarray, bvecs: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"found 9 b-values.*10 volumes"):
        GradientTable(bvals, bvecs).check_count(10)


@pytest.mark.parametrize(("vector", "word"), [([0, 0, 0], "zero"), ([np.nan, 0, 1], "not a number")])
def test_a_weighted_volume_without_direction_is_refused(
    vector: list[float], word: str, bvals: np.ndarray, bvecs: np.ndarray
) -> None:
    bvecs[4] = vector
    with pytest.raises(InputError, match=rf"volume 4 is {word}.*expected a unit vector.*trace.*--exclude 4"):
        GradientTable.from_fsl(bvals, bvecs, np.eye(4))


@pytest.mark.parametrize("length", [0.5, 0.94, 1.06, 31.6])
def test_a_vector_far_from_unit_length_is_refused_with_its_length(
    length: float, bvals: np.ndarray, bvecs: np.ndarray
) -> None:
    bvecs[3] *= length
    with pytest.raises(InputError, match=rf"volume 3 has length {length:g}.*within 5 %"):
        GradientTable.from_fsl(bvals, bvecs, np.eye(4))


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_a_b_value_that_is_none_is_refused(bad: float, bvals: np.ndarray, bvecs: np.ndarray) -> None:
    bvals[6] = bad
    with pytest.raises(InputError, match=r"volume 6 has the b-value.*finite"):
        GradientTable.from_fsl(bvals, bvecs, np.eye(4))


@pytest.mark.parametrize("shape", [(9, 4), (9,), (9, 3, 1), (0, 3)])
def test_vectors_of_another_shape_are_refused(shape: tuple[int, ...], bvals: np.ndarray) -> None:
    with pytest.raises(InputError):
        GradientTable.from_fsl(bvals, np.ones(shape), np.eye(4))


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(InputError, match="no b-values"):
        GradientTable(np.zeros(0), np.zeros((0, 3)))


# --- the object


def test_a_table_cannot_be_changed_and_keeps_its_own_copy(bvals: np.ndarray, bvecs: np.ndarray) -> None:
    table = GradientTable(bvals, bvecs)
    bvals[:] = 7
    assert table.bvals[3] == 1000
    with pytest.raises(ValueError, match="read-only"):
        table.directions[0, 0] = 1


def test_a_table_survives_pickling_and_reads_well(bvals: np.ndarray, bvecs: np.ndarray) -> None:
    table = GradientTable(bvals, bvecs)
    assert pickle.loads(pickle.dumps(table)) == table
    assert repr(table) == "GradientTable(9 volumes: 2 b=0; 3 at b=1000, 4 at b=2001)"
