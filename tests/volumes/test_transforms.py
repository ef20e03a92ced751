"""Transforms of points and resampling: laws that need no other program."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from arcuate.errors import InputError
from arcuate.volumes.resample import interpolation_of, sample
from arcuate.volumes.transforms import Affine, Chain, Displacement, jacobians

RNG = np.random.default_rng(0)


def _affine() -> Affine:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [10, -20, 5], degrees=True).as_matrix() * 1.1
    matrix[:3, 3] = [3, -2, 5]
    return Affine(matrix)


def _field() -> Displacement:
    grid = np.stack(np.meshgrid(*[np.linspace(0, np.pi, 12)] * 3, indexing="ij"), axis=-1)
    affine = np.diag([-3.0, 3, 4, 1])
    affine[:3, 3] = [16, -16, -20]
    return Displacement(3 * np.sin(grid), affine)


def test_there_and_back_is_where_one_was() -> None:
    chain = Chain((_field(), _affine()))
    points = RNG.uniform(-12, 12, (200, 3))
    np.testing.assert_allclose(chain.inverted().map(chain.map(points)), points, atol=1e-3)
    np.testing.assert_allclose(chain.inverted().inverted().map(points), chain.map(points), atol=1e-9)


def test_outside_of_a_field_points_stay() -> None:
    far = np.array([[500.0, 0, 0], [0, -400, 3]])
    np.testing.assert_array_equal(_field().map(far), far)


def test_derivatives_are_those_of_the_map() -> None:
    affine = _affine()
    found = jacobians(affine, RNG.uniform(-5, 5, (7, 3)), 1.0)
    np.testing.assert_allclose(found, np.tile(affine.matrix[:3, :3], (7, 1, 1)), atol=1e-9)


@pytest.mark.parametrize("interpolation", ["linear", "nearest", "label", "cubic"])
def test_at_the_centres_of_voxels_every_interpolation_gives_the_voxel(interpolation: str) -> None:
    image = RNG.integers(0, 9, (5, 6, 7)).astype(np.float64)
    index = np.indices(image.shape).reshape(3, -1).T.astype(float)
    np.testing.assert_allclose(sample(image, index, interpolation), image.ravel(), atol=1e-9)
    several = np.stack([image, 2 * image], axis=-1)
    np.testing.assert_allclose(sample(several, index, interpolation)[:, 1], 2 * image.ravel(), atol=1e-9)


def test_an_image_ends_half_a_voxel_beyond_its_outer_centres() -> None:
    image = np.ones((3, 3, 3))
    at = np.array([[-0.49, 1, 1], [-0.51, 1, 1], [2.49, 1, 1], [2.5, 1, 1]])
    np.testing.assert_array_equal(sample(image, at), [1, 0, 1, 0])


def test_labels_by_vote_make_no_new_label_and_take_the_lowest_of_equals() -> None:
    image = np.array([[[3, 9]]], dtype=np.int16)
    found = sample(image, np.array([[0, 0, 0.4], [0, 0, 0.5], [0, 0, 0.6]]), "label")
    np.testing.assert_array_equal(found, [3, 3, 9])
    assert found.dtype == np.int16


def test_names_of_interpolations_are_ours_or_those_of_ants() -> None:
    assert [interpolation_of(n) for n in ("genericLabel", "nearestNeighbor", "bSpline", "linear")] == [
        "label", "nearest", "cubic", "linear",
    ]  # fmt: skip
    with pytest.raises(InputError, match="found the interpolation 'sinc'; expected linear, nearest, label or cubic"):
        interpolation_of("sinc")


def test_a_flat_affine_has_no_inverse() -> None:
    with pytest.raises(InputError, match="no inverse"):
        Affine(np.diag([1.0, 1, 0, 1])).inverted()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, ">f4", np.float64])
def test_linear_values_are_scipys_in_every_type_and_byte_order(dtype: object) -> None:
    rng = np.random.default_rng(0)
    image = (100 * rng.random((9, 1, 7, 2))).astype(dtype)
    at = rng.uniform(-0.5, 8.4, (5000, 3)) * [1, 0, 0.75]
    expected = np.stack([ndimage.map_coordinates(image[..., n].astype(float), np.clip(at, 0, [8, 0, 6]).T, order=1,
                                                 mode="nearest") for n in range(2)], axis=-1)  # fmt: skip
    np.testing.assert_allclose(sample(image[:, :, ::-1][:, :, ::-1], at), expected, atol=1e-10)
    assert sample(image, np.full((3, 3), 50.0)).tolist() == [[0.0, 0.0]] * 3
