"""Storage orders: turned, turned back, and where voxels lie meanwhile."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest

from arcuate.volumes.geometry import Canonical, Orientation, axis_codes, parse_codes, tilt

ORDERS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]


def _store(array: np.ndarray, affine: np.ndarray, order: tuple, signs: tuple) -> tuple[np.ndarray, np.ndarray]:
    """The same image with its axes in another order and direction."""
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    for new, (old, sign) in enumerate(zip(order, signs, strict=True)):
        turn[old, new] = sign
        turn[old, 3] = array.shape[old] - 1 if sign < 0 else 0
    stored = np.flip(np.transpose(array, (*order, *range(3, array.ndim))), [i for i in range(3) if signs[i] < 0])
    return stored, affine @ turn


def _oblique(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.diag([-2.0, 2.5, 3.0])
    affine[:3, 3] = 60, -50, -40
    return affine


@pytest.mark.parametrize(("order", "signs"), ORDERS)
def test_every_storage_order_becomes_the_same_image_and_comes_back(order: tuple, signs: tuple) -> None:
    image = np.random.default_rng(0).normal(size=(4, 5, 6, 2))
    affine = _oblique(20)
    stored, stored_affine = _store(image, affine, order, signs)
    orientation = Orientation.towards("LAS", stored.shape[:3], stored_affine)
    np.testing.assert_array_equal(orientation.turn(stored), image)
    np.testing.assert_allclose(orientation.affine, affine, atol=1e-12)
    np.testing.assert_array_equal(orientation.turn_back(orientation.turn(stored)), stored)
    np.testing.assert_array_equal(tilt(orientation.affine, "LAS"), tilt(affine, "LAS"))


def test_a_voxel_stays_where_it_is_in_the_scanner() -> None:
    shape, affine = (4, 5, 6), _oblique(15)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    for codes in ("LPS", "RAS", "SLP"):
        orientation = Orientation.towards(codes, shape, affine)
        turned = orientation.turn(index)
        places = np.stack(np.meshgrid(*map(np.arange, turned.shape[:3]), indexing="ij"), axis=-1)
        ours = places @ orientation.affine[:3, :3].T + orientation.affine[:3, 3]
        np.testing.assert_allclose(ours, turned @ affine[:3, :3].T + affine[:3, 3], atol=1e-9)


def test_the_tilt_takes_the_axes_of_an_oblique_image_to_straight_ones() -> None:
    affine = _oblique(20)
    rotation = tilt(affine, "LAS")
    straight = np.diag([-2.0, 2.5, 3.0])
    np.testing.assert_allclose(rotation @ affine[:3, :3], straight, atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_array_equal(tilt(_oblique(0), "LAS"), np.eye(3))


@pytest.mark.parametrize(("order", "signs"), ORDERS)
@pytest.mark.parametrize("degrees", [0, 20])
def test_canonical_arrays_are_those_of_nibabel_in_every_storage_order(
    order: tuple, signs: tuple, degrees: float
) -> None:
    image = np.random.default_rng(1).normal(size=(3, 4, 5, 2))
    stored, affine = _store(image, _oblique(degrees), order, signs)
    theirs = nib.as_closest_canonical(nib.Nifti1Image(stored, affine))
    frame = Canonical(affine)
    np.testing.assert_array_equal(frame.reorder(stored), np.asarray(theirs.dataobj))
    np.testing.assert_allclose(frame.voxel_size, theirs.header.get_zooms()[:3], rtol=1e-6)
    assert axis_codes(affine) == "".join(nib.aff2axcodes(affine))
    u, _, vt = np.linalg.svd(theirs.affine[:3, :3] / frame.voxel_size)
    np.testing.assert_allclose(frame.rotation, u @ vt, atol=1e-12)
    assert [frame.stored_axis(i) for i in range(3)] == list(np.argsort(nib.io_orientation(affine)[:, 0]))


def test_codes_that_name_no_three_axes_are_refused() -> None:
    assert parse_codes("las") == ((0, -1), (1, 1), (2, 1))
    for codes in ("LA", "LRS", "LAX", "LASS"):
        with pytest.raises(ValueError, match="three axes"):
            parse_codes(codes)
