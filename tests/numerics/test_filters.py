"""Median filter, Otsu's threshold and the shading field against what they are defined as."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from arcuate.numerics.filters import _comparators, median_filter, otsu_threshold, smooth_field


@pytest.mark.parametrize("shape", [(7, 8, 9), (5, 6, 1), (20, 3, 2), (2, 9, 300), (1, 70, 7)])  # a row above a tile
@pytest.mark.parametrize("levels", [None, 4])
def test_median_equals_scipys(shape: tuple[int, int, int], levels: int | None) -> None:
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    if levels is not None:  # many values alike
        image = np.round(image * levels) / np.float32(levels) + 0
    np.testing.assert_array_equal(median_filter(image, 1), ndimage.median_filter(image, size=3, mode="nearest"))


@pytest.mark.parametrize("n", [2, 3, 5, 9])
def test_comparators_sort_whatever_comes(n: int) -> None:
    """All that a network sorts of 0 and 1 it sorts of any values (Knuth 5.3.4)."""
    rows = np.array(list(itertools.product((0, 1), repeat=n)))
    for low, high in _comparators(n):
        rows[:, [low, high]] = np.sort(rows[:, [low, high]], axis=1)
    assert np.all(np.diff(rows, axis=1) >= 0)


def test_median_within_slices_leaves_neighbouring_slices_alone() -> None:
    image = np.random.default_rng(2).normal(size=(9, 9, 4)).astype(np.float32)
    expected = ndimage.median_filter(image, size=(3, 3, 1), mode="nearest")
    np.testing.assert_array_equal(median_filter(image, 1, across_slices=False), expected)


def test_otsu_lies_between_two_classes() -> None:
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(10, 2, 5000), rng.normal(100, 10, 2000)])
    assert 20 < otsu_threshold(values) < 75


def test_otsu_is_not_moved_by_a_few_very_bright_values() -> None:
    rng = np.random.default_rng(4)
    values = np.concatenate([rng.normal(10, 2, 50000), rng.normal(100, 10, 20000)])
    bright = np.concatenate([values, [1e6] * 5])
    assert otsu_threshold(bright) == pytest.approx(otsu_threshold(values), abs=5)


def test_smooth_field_finds_the_shading_that_was_put_in() -> None:
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in (48, 52, 40)], indexing="ij")
    shading = np.exp(0.6 * x - 0.3 * y + 0.2 * z)
    inside = x**2 + y**2 + z**2 < 0.7
    deep = ndimage.binary_erosion(inside, iterations=6)
    ratio = (smooth_field(100 * shading, inside, (6.0, 6.0, 6.0)) / shading)[deep]
    assert ratio.std() / ratio.mean() < 0.08


@pytest.mark.parametrize("n_slices", [1, 2, 5])
def test_smooth_field_works_on_slabs(n_slices: int) -> None:
    image = np.full((32, 32, n_slices), 7.0)
    np.testing.assert_allclose(smooth_field(image, image > 0, (8.0, 8.0, 0.0)), 7.0, rtol=1e-9)
