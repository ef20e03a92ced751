"""Statistics of regions: those of numpy for equal weights, and laws for others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from arcuate.models.region_statistics import region_statistics, weighted_percentiles


@pytest.mark.parametrize("n", [1, 2, 3, 10, 1001])
def test_equal_weights_give_what_numpy_gives(n: int) -> None:
    x = np.random.default_rng(n).gamma(2.0, size=n)
    found = region_statistics(x)
    assert found.n_voxels == n
    assert found.mean == pytest.approx(x.mean())
    assert found.median == pytest.approx(np.median(x))
    assert (found.p05, found.p95) == pytest.approx(tuple(np.percentile(x, [5, 95])))
    if n > 1:
        assert found.sd == pytest.approx(x.std(ddof=1))
    else:
        assert np.isnan(found.sd)


@given(
    arrays(np.float64, st.integers(2, 30), elements=st.floats(-5, 5)),
    st.integers(0, 2**31),
    st.floats(1e-3, 1e3),
)
def test_statistics_do_not_depend_on_the_unit_of_weights_and_lie_within_the_values(
    x: np.ndarray, seed: int, factor: float
) -> None:
    w = np.random.default_rng(seed).uniform(0.1, 1, len(x))
    one, other = region_statistics(x, w), region_statistics(x, w * factor)
    for key in ("mean", "median", "robust_mean", "p05", "p95"):
        assert getattr(one, key) == pytest.approx(getattr(other, key), abs=1e-9)
        assert x.min() - 1e-12 <= getattr(one, key) <= x.max() + 1e-12
    assert one.p05 <= one.median <= one.p95


def test_a_voxel_of_weight_zero_is_as_good_as_absent() -> None:
    x, w = np.array([1.0, 2.0, 3.0, 99.0]), np.array([1.0, 2.0, 1.0, 0.0])
    assert region_statistics(x, w) == region_statistics(x[:3], w[:3])
    assert region_statistics(np.array([1.0, np.nan]), None).n_voxels == 1


def test_the_weighted_median_sits_where_half_the_weight_lies() -> None:
    x = np.linspace(0, 1, 10_001)
    found = weighted_percentiles(x, x + 1e-9, (0.5,))[0]  # density 2x: the median is at sqrt(1/2)
    assert found == pytest.approx(np.sqrt(0.5), abs=1e-3)


def test_the_robust_mean_does_not_see_outliers() -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(0.7, 0.05, 950), rng.uniform(5, 50, 50)])
    found = region_statistics(x)
    assert found.mean > 1.5
    assert found.robust_mean == pytest.approx(0.7, abs=0.01)


def test_the_robust_mean_of_a_map_that_is_mostly_zero_is_its_mean() -> None:
    x = np.concatenate([np.zeros(60), np.full(40, 0.5)])
    assert region_statistics(x).robust_mean == pytest.approx(0.2)


def test_no_voxel_gives_no_number() -> None:
    found = region_statistics(np.array([np.nan, 1.0]), np.array([1.0, 0.0]))
    assert found.n_voxels == 0
    assert np.isnan(found.mean)
