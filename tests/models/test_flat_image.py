"""Images as kernels read them, and the values that magnitudes do not have."""

from __future__ import annotations

import numpy as np
import pytest

from arcuate.models.clipping import count_odd_voxels
from arcuate.models.flat_image import flat_image

SHAPES = [(3, 4, 5, 6), (1, 4, 1, 6), (3, 1, 1, 2), (1, 1, 1, 3), (4, 3, 2, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_value_is_where_the_strides_say_and_comes_back(order, shape):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32).copy(order=order)
    flat = flat_image(image)
    assert np.shares_memory(flat.values, image)
    for at in np.ndindex(shape):
        assert flat.values[int(np.dot(at, flat.strides))] == image[at]
    np.testing.assert_array_equal(flat.shaped(flat.values, shape), image)
    rows = flat.rows_of(image[..., -1])
    for v in range(len(rows)):
        assert flat.values[v * flat.voxel_stride + (shape[3] - 1) * flat.volume_stride] == rows[v]


def test_an_image_in_neither_order_is_copied():
    image = np.random.default_rng(0).normal(size=(6, 4, 5, 3)).astype(np.float32)[::2]
    flat = flat_image(image)
    np.testing.assert_array_equal(flat.shaped(flat.values, image.shape), image)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("clip", [False, True])
def test_odd_voxels_are_counted_inside_and_clipped_everywhere(clip, order):
    image = np.random.default_rng(1).normal(5, 4, size=(30, 20, 9, 5)).astype(np.float32).copy(order=order)
    is_b0 = np.array([True, False, True, False, False])
    inside = np.random.default_rng(2).random(image.shape[:3]) > 0.5
    before = image.copy()
    flat = flat_image(image)
    found = count_odd_voxels(flat, is_b0, flat.rows_of(inside), clip=clip)
    expected = np.maximum(before, 0) if clip else before
    np.testing.assert_array_equal(image, expected)
    above = np.maximum(expected[..., ~is_b0].max(axis=-1), 0) > expected[..., is_b0].mean(axis=-1, dtype=np.float64)
    assert found.negative == int(((before < 0).any(axis=-1) & inside).sum())
    assert found.above_b0 == int((above & inside).sum())
