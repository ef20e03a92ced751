"""Voxels of a mask as rows, and back; masks that do not belong to the scan."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from arcuate.errors import InputError, InputWarning
from arcuate.volumes.geometry import Orientation
from arcuate.volumes.resource import InMemoryVolumeResource
from arcuate.volumes.voxels import (
    _gather_voxels,
    check_mask,
    map_volumes,
    masked_blocks,
    masked_rows,
    scatter,
    sums_of_slices,
)

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -120], [0, 0, 2, -60], [0, 0, 0, 1]])


@pytest.fixture
def scan() -> InMemoryVolumeResource:
    values = np.random.default_rng(0).random((5, 6, 7, 4)).astype(np.float32)
    return InMemoryVolumeResource(values, AFFINE)


@pytest.fixture
def mask(scan: InMemoryVolumeResource) -> np.ndarray:
    return np.random.default_rng(1).random(scan.shape[:3]) > 0.4


def _rows(array: np.ndarray, mask: np.ndarray, **options: object) -> np.ndarray:
    return np.concatenate([rows for _, rows in masked_blocks(array, mask, **options)])  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, ">f4", ">i2"])
@pytest.mark.parametrize("layout", ["C", "F", "flipped"])
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_rows_come_with_x_fastest_whatever_the_memory_layout(scan, mask, dtype, layout, block):
    array = (scan.array * 1000).astype(dtype)
    array = array[::-1, :, ::-1] if layout == "flipped" else np.asarray(array, order=layout)
    expected = array.transpose(2, 1, 0, 3)[mask.transpose(2, 1, 0)]
    rows = _rows(array, mask, block=block)
    np.testing.assert_array_equal(rows, expected)
    assert rows.dtype == (np.float64 if dtype is np.float64 else np.float32)


@pytest.mark.parametrize("volumes", [np.array([3, 0]), np.array([True, False, False, True])])
def test_rows_of_some_volumes_are_those_columns(scan, mask, volumes):
    np.testing.assert_array_equal(_rows(scan.array, mask, volumes=volumes), _rows(scan.array, mask)[:, volumes])


@pytest.mark.parametrize("volumes", [None, np.array([3, 0]), np.array([True, False, False, True])])
def test_all_rows_are_those_of_the_blocks(scan, mask, volumes):
    np.testing.assert_array_equal(
        masked_rows(scan.array, mask, volumes=volumes), _rows(scan.array, mask, volumes=volumes)
    )
    none = masked_rows(scan.array, np.zeros_like(mask), volumes=volumes)
    assert none.shape == (0, 4 if volumes is None else 2)


@pytest.mark.parametrize("layout", ["C", "F"])
def test_values_inside_are_those_of_each_volume(scan, mask, layout):
    array = np.asarray(scan.array, order=layout)
    values = map_volumes(array, mask, lambda values: values)
    np.testing.assert_array_equal(np.stack(values, axis=1), _rows(array, mask))
    np.testing.assert_array_equal(np.stack(map_volumes(array, mask, np.copy, [2, 0])), np.stack(values)[[2, 0]])


@pytest.mark.parametrize("layout", ["C", "F"])
def test_sums_of_slices_count_what_is_inside_and_finite(scan, mask, layout):
    array = np.array(scan.array, order=layout)
    array[tuple(np.argwhere(mask)[0])] = [np.nan, np.inf, -np.inf, 1.0]
    mask[..., 1] = False  # a slice with nothing inside, between others
    expected = np.where(mask[..., None] & np.isfinite(array), array, 0).sum(axis=(0, 1), dtype=float).T
    np.testing.assert_allclose(sums_of_slices(array, mask, range(4)), expected, rtol=1e-12)
    assert not sums_of_slices(array, np.zeros_like(mask), [1]).any()


def test_blocks_cover_every_row_once_and_are_no_longer_than_asked(scan, mask):
    places = [place for place, _ in masked_blocks(scan.array, mask, block=11)]
    assert np.concatenate([np.arange(p.start, p.stop) for p in places]).tolist() == list(range(mask.sum()))
    assert max(p.stop - p.start for p in places) == 11


def test_an_image_of_one_volume_is_gathered_without_a_kernel_of_its_own(scan, mask):
    array = np.asfortranarray(scan.array, dtype=np.float32)
    one, before = np.asfortranarray(array[..., :1]), set(_gather_voxels.signatures)
    np.testing.assert_array_equal(masked_rows(one, mask), masked_rows(array, mask)[:, :1])
    assert all(signature[0].layout == "F" for signature in set(_gather_voxels.signatures) - before)


def test_scatter_undoes_the_gathering(scan, mask):
    back = scatter(_rows(scan.array, mask), mask)
    np.testing.assert_array_equal(back, np.where(mask[..., None], scan.array, 0))
    assert back.dtype == np.float32
    assert scatter(np.arange(mask.sum()), mask, dtype=np.uint8).shape == mask.shape


@pytest.mark.parametrize("tail", [(), (3,), (3, 3), (0,)])
def test_where_no_voxel_was_fitted_a_volume_of_zeros_comes_back(tail, mask):
    back = scatter(np.empty((0, *tail)), np.zeros_like(mask))
    assert back.shape == (*mask.shape, *tail)
    assert not back.any()


@pytest.mark.parametrize("dtype", [complex, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_a_mask_of_no_real_numbers_is_refused(scan, dtype):
    with pytest.raises(InputError, match=r"found a mask of the type .*expected 0 and 1"):
        check_mask(scan, InMemoryVolumeResource(np.zeros(scan.shape[:3], dtype), AFFINE))


def test_without_a_mask_all_voxels_are_inside(scan):
    assert check_mask(scan, None).all()


def test_mask_is_inside_from_one_half_on_and_nan_is_outside(scan):
    values = np.full(scan.shape[:3], 0.49, dtype=np.float32)
    values[0, 0, 0], values[1, 0, 0], values[2, 0, 0] = 0.5, np.nan, 255
    inside = check_mask(scan, InMemoryVolumeResource(values[..., None], AFFINE))
    assert np.argwhere(inside).tolist() == [[0, 0, 0], [2, 0, 0]]


def test_three_dimensional_scan_is_refused(scan):
    with pytest.raises(InputError, match=r"shape \(5, 6, 7\); expected 4 dimensions"):
        check_mask(InMemoryVolumeResource(scan.array[..., 0], AFFINE), None)


@pytest.mark.parametrize("shape", [(6, 5, 7), (5, 6), (5, 6, 7, 2)])
def test_mask_of_another_shape_is_refused_with_both_shapes(scan, shape):
    with pytest.raises(InputError, match=r"mask of shape \(.*scan of shape \(5, 6, 7, 4\); expected \(5, 6, 7\)"):
        check_mask(scan, InMemoryVolumeResource(np.ones(shape), AFFINE))


def test_an_image_without_a_voxel_is_refused():
    with pytest.raises(InputError, match=r"shape \(0, 3, 3, 4\), without a voxel"):
        check_mask(InMemoryVolumeResource(np.zeros((0, 3, 3, 4))), None)


def test_empty_mask_is_refused(scan):
    with pytest.raises(InputError, match=r"mask is empty"):
        check_mask(scan, InMemoryVolumeResource(np.zeros(scan.shape[:3]), AFFINE))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product([False, True], repeat=3)))
@pytest.mark.parametrize("tilt", [0.0, 0.6])
def test_mask_in_any_storage_order_of_the_grid_is_the_same_mask(scan, mask, order, flips, tilt):
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    oblique = InMemoryVolumeResource(scan.get_array(), turn @ AFFINE)
    stored = Orientation.of(order, flips, mask.shape, turn @ AFFINE)
    other = InMemoryVolumeResource(stored.turn(mask), stored.affine)
    np.testing.assert_array_equal(check_mask(oblique, other), mask)
    moved = stored.affine + np.array([[0, 0, 0, 5.0]] + [[0] * 4] * 3)
    with pytest.raises(InputError, match=r"lies elsewhere|found a mask of shape"):
        check_mask(oblique, InMemoryVolumeResource(stored.turn(mask), moved))


def test_mask_that_mirrors_the_scan_elsewhere_is_refused(scan, mask):
    flipped = AFFINE @ np.diag([-1.0, 1, 1, 1])
    with pytest.raises(InputError, match=r"lies elsewhere.*copy the affine"):
        check_mask(scan, InMemoryVolumeResource(mask, flipped))


def test_mask_a_little_off_or_without_geometry_is_used_with_a_warning(scan, mask):
    shifted = AFFINE + np.array([[0, 0, 0, 0.3]] + [[0, 0, 0, 0]] * 3)
    with pytest.warns(InputWarning, match=r"up to 0\.3 mm off; taken as drawn"):
        np.testing.assert_array_equal(check_mask(scan, InMemoryVolumeResource(mask, shifted)), mask)
    with pytest.warns(InputWarning, match=r"no geometry of its own"):
        check_mask(scan, InMemoryVolumeResource(mask))
    lying = InMemoryVolumeResource(mask, np.diag([-1.0, 1, 1, 1]), {"sform_code": 0, "qform_code": 0})
    with pytest.warns(InputWarning, match=r"no geometry of its own \(its sform and qform codes are 0\)"):
        check_mask(scan, lying)
    rounded = AFFINE + 1e-4
    rounded[3] = [0, 0, 0, 1]
    check_mask(scan, InMemoryVolumeResource(mask, rounded))
