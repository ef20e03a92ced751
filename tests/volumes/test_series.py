"""Volumes left out and parts joined: numbers as typed, voxels untouched, nothing read before it is asked for."""

from __future__ import annotations

import tracemalloc
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.io import NiftiVolumeResource
from arcuate.volumes.resource import InMemoryVolumeResource
from arcuate.volumes.selection import note_selection, parse_numbers, parse_volumes, volumes_of_shells
from arcuate.volumes.series import Piece, SeriesVolume, bytes_beside, check_same_grid, pick


def image(n: int, seed: int = 0, order: str = "F", dtype: type = np.float32) -> InMemoryVolumeResource:
    array = np.random.default_rng(seed).normal(100, 20, (3, 4, 5, n)).astype(dtype)
    return InMemoryVolumeResource(np.asarray(array, order=order), np.diag([2.0, 2, 2, 1]))


class Unread(InMemoryVolumeResource):
    """An image whose voxels must not be asked for."""

    def get_array(self) -> np.ndarray:
        raise AssertionError("the voxels were read")


@pytest.mark.parametrize("order", ["C", "F"])
def test_picked_and_joined_volumes_are_those_of_the_sources(order: str) -> None:
    first, second = image(6, 1, order), image(4, 2, order, np.int16)
    joined = SeriesVolume((Piece.whole(first), Piece.whole(second, 2.0)))
    expected = np.concatenate([first.array, second.array.astype(np.float32) * 2], axis=3)
    np.testing.assert_array_equal(joined.get_array(), expected)
    assert joined.get_array().dtype == np.float32
    index = np.array([7, 0, 1, 9, 5])
    np.testing.assert_array_equal(pick(joined, index).get_array(), expected[..., index])
    np.testing.assert_array_equal(pick(pick(joined, index), np.array([3, 1])).get_array(), expected[..., [9, 0]])
    for i in (-1, 0, 3):
        np.testing.assert_array_equal(pick(joined, index).get_volume(i), expected[..., index[i]])
    with pytest.raises(InputError, match="no volume 5"):
        pick(joined, index).get_volume(5)


def test_shape_affine_and_picking_read_no_voxel() -> None:
    unread = Unread(np.zeros((3, 4, 5, 6)), np.diag([2.0, 2, 2, 1]))
    series = pick(SeriesVolume((Piece.whole(unread), Piece.whole(unread))), np.array([2, 8]))
    assert series.shape == (3, 4, 5, 2)
    np.testing.assert_array_equal(series.get_affine(), np.diag([2.0, 2, 2, 1]))
    with pytest.raises(AssertionError, match="were read"):
        series.get_array()


def test_parts_on_other_grids_are_refused_by_number() -> None:
    other = InMemoryVolumeResource(np.zeros((3, 4, 6, 2)))
    with pytest.raises(InputError, match=r"scan 1 has the grid .*resample"):
        check_same_grid([image(2), other])
    moved = InMemoryVolumeResource(np.zeros((3, 4, 5, 2)), np.diag([2.0, 2, 2.3, 1]))
    with pytest.raises(InputError, match=r"scan 2 lies elsewhere than scan 0.*on its own"):
        check_same_grid([image(2), image(3), moved])
    with pytest.raises(InputError, match="scan 1 is a 3-D image"):
        check_same_grid([image(2), InMemoryVolumeResource(np.zeros((3, 4, 5)))])


@pytest.mark.parametrize("apart", [1e-6, 1e-4, 1e-2, 0.5, 1.5])
def test_parts_whose_geometry_differs_by_rounding_are_joined_and_by_a_fraction_of_a_voxel_warned_of(apart) -> None:
    affine = np.diag([2.0, 2, 2, 1])
    moved = affine.copy()
    moved[0, 3] += apart
    images = [InMemoryVolumeResource(np.zeros((3, 4, 5, 2)), a) for a in (affine, moved)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if apart > 1:
            with pytest.raises(InputError, match="lies elsewhere"):
                check_same_grid(images)
        else:
            check_same_grid(images)
    assert [str(w.message).startswith("the affine of scan 1 differs") for w in caught] == [True] * (apart == 0.5)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("3,17-19", [3, 17, 18, 19]),
        ("last", [19]),
        ("17-last 0", [0, 17, 18, 19]),
        ([4, 2, 2], [2, 4]),
        ("", []),
        ("5-5", [5]),
    ],
)
def test_volumes_are_read_as_typed(words: str | list[int], expected: list[int]) -> None:
    np.testing.assert_array_equal(parse_volumes(words, 20), expected)


@pytest.mark.parametrize("words", ["20", "5-3", "-1", "3-", "first", "1.5", "0x3", "²", [20], [-1]])
def test_volumes_that_are_not_there_are_refused_with_what_is_expected(words: str | list[int]) -> None:
    with pytest.raises(InputError, match=r"to leave out; expected numbers from 0 to 19 .*3,17-20"):
        parse_volumes(words, 20)


def test_one_number_or_none_stands_for_a_list() -> None:
    assert parse_volumes(3, 10).tolist() == [3]
    assert parse_numbers(1000, "b-values").tolist() == [1000]
    assert parse_volumes(None, 10).tolist() == parse_numbers(None, "b-values").tolist() == []


def test_numbers_are_read_as_typed() -> None:
    np.testing.assert_array_equal(parse_numbers("0, 1000 2e3", "b-values"), [0, 1000, 2000])
    with pytest.raises(InputError, match=r"'0,a' for b-values; expected numbers"):
        parse_numbers("0,a", "b-values")
    for word in ("nan", "-1000", "inf"):
        with pytest.raises(InputError, match="numbers of 0 or above"):
            parse_numbers(word, "b-values")


def test_shells_are_the_nearest_and_b0_is_that_of_the_table() -> None:
    g = np.random.default_rng(0).normal(size=(8, 3))
    g /= np.linalg.norm(g, axis=1, keepdims=True)
    table = GradientTable(np.array([0.0, 5, 1000, 1010, 2000, 2000, 3000, 3000]), g)
    np.testing.assert_array_equal(volumes_of_shells(table, [0, 2050], None), [0, 1, 4, 5])
    np.testing.assert_array_equal(volumes_of_shells(table, [], 1500), [0, 1, 2, 3])
    with pytest.raises(InputError, match=r"no shell at b = 1500"):
        volumes_of_shells(table, [1500], None)
    with pytest.raises(InputError, match=r"shell at b = 0 needs a b=0 volume"):
        volumes_of_shells(table.subset(np.arange(2, 8)), [0], None)


def test_what_was_left_out_is_numbered_as_in_the_file_however_often_one_selects() -> None:
    first = note_selection({}, 10, np.array([0, 2, 3, 4, 5, 6, 7, 8, 9]))
    assert first == {"VolumesGiven": 10, "VolumesExcluded": [1]}
    second = note_selection(first, 9, np.array([0, 1, 2, 3, 4, 5, 6, 7]))
    assert second["VolumesExcluded"] == [1, 9]


def test_joined_files_take_no_second_image_in_memory(tmp_path: Path) -> None:
    array = np.random.default_rng(3).normal(100, 20, (80, 80, 40, 24)).astype(np.float32)
    files = [
        NiftiVolumeResource.save(InMemoryVolumeResource(part, np.diag([2.0, 2, 2, 1])), tmp_path / f"{i}.nii.gz")
        for i, part in enumerate((array[..., :14], array[..., 14:]))
    ]
    joined = SeriesVolume(tuple(Piece.whole(file) for file in files))
    tracemalloc.start()
    found = joined.get_array()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found, array)
    assert found.flags.f_contiguous
    assert peak < 1.4 * array.nbytes


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32])
def test_joined_integers_keep_what_their_files_give(kind: type, tmp_path: Path) -> None:
    array = np.random.default_rng(3).integers(0, 100, (5, 4, 3, 6)).astype(kind)
    if kind is np.int32:
        array[0, 0, 0, 5] = 2**24 + 1  # which float32 does not hold
    files = []
    for i, part in enumerate((array[..., :4], array[..., 4:])):
        nib.save(nib.Nifti1Image(part, np.eye(4)), tmp_path / f"{i}.nii")
        files.append(NiftiVolumeResource(tmp_path / f"{i}.nii"))
    found = SeriesVolume(tuple(Piece.whole(file) for file in files)).get_array()
    np.testing.assert_array_equal(found, array)


def test_volumes_left_out_of_a_file_take_no_second_image_in_memory(tmp_path: Path) -> None:
    array = np.random.default_rng(3).normal(100, 20, (80, 80, 40, 24)).astype(np.float32)  # larger than what reads it
    whole = InMemoryVolumeResource(np.asfortranarray(array), np.diag([2.0, 2, 2, 1]))
    file = NiftiVolumeResource.save(whole, tmp_path / "scan.nii.gz")
    kept = np.array([0, 1, 3, 4, 7, 11])
    series = pick(file, kept)
    tracemalloc.start()
    found = series.get_array()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found, whole.array[..., kept])
    assert found.flags.f_contiguous
    assert peak < 1.4 * whole.array.nbytes
    np.testing.assert_array_equal(file.get_array(), whole.array, "the file is as it was")
    backwards = pick(file, kept[::-1])
    np.testing.assert_array_equal(backwards.get_array(), whole.array[..., kept[::-1]])
    np.testing.assert_array_equal(pick(whole, kept).get_array(), whole.array[..., kept])
    assert pick(whole, kept).get_array().base is not whole.array, "what somebody holds is not written to"
    assert bytes_beside(series) == 18 * whole.array.nbytes // 24
    assert bytes_beside(backwards) == whole.array.nbytes
