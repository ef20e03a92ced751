"""Vectorised logarithm and exponential against numpy's."""

from __future__ import annotations

import numpy as np

from arcuate.numerics.elementary import exp_in_place, log_in_place


def test_logarithm_is_right_to_a_few_units_in_the_last_place():
    rng = np.random.default_rng(0)
    x = np.concatenate([np.exp(rng.uniform(-700, 700, 20_000)), 1 + rng.uniform(-1e-3, 1e-3, 20_000), [1.0, 0.5, 2.0]])
    result = x.copy()
    log_in_place(result, np.empty_like(x))
    np.testing.assert_allclose(result, np.log(x), rtol=2e-15, atol=0)


def test_exponential_is_right_to_a_few_units_in_the_last_place():
    x = np.concatenate([np.random.default_rng(0).uniform(-690, 690, 20_000), [0.0, 1.0, -1.0]])
    result = x.copy()
    exp_in_place(result, np.empty_like(x))
    np.testing.assert_allclose(result, np.exp(x), rtol=2e-15)


def test_exponent_is_limited_so_that_nothing_overflows():
    result = np.array([1e6, -1e6])
    exp_in_place(result, np.empty(2))
    np.testing.assert_allclose(result, np.exp([700.0, -700.0]))
