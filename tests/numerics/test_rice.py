"""The Rician distribution against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import i0e, i1e
from scipy.stats import rice

from arcuate.numerics.rice import bessel_ratio, estimate_variance, negative_log_likelihood, write_score


def _magnitudes(sigma: float, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    signals = rng.uniform(0, 1, n)
    return signals, np.hypot(signals + sigma * rng.normal(size=n), sigma * rng.normal(size=n))


def test_ratio_of_bessel_functions_is_within_its_promise():
    z = np.concatenate([[0.0], np.geomspace(1e-6, 1e9, 400)])
    found = np.array([bessel_ratio(x) for x in z])
    np.testing.assert_allclose(found, i1e(z) / i0e(z), rtol=0, atol=2e-8)


@pytest.mark.parametrize("sigma", [0.5, 0.05, 0.005])
def test_likelihoods_differ_as_scipy_says(sigma):
    signals, magnitudes = _magnitudes(sigma)

    def ours(s: np.ndarray, variance: float) -> float:
        return float(negative_log_likelihood(magnitudes, s, variance, np.empty(len(s))))

    def theirs(s: np.ndarray, variance: float) -> float:
        return -float(rice.logpdf(magnitudes, s / np.sqrt(variance), scale=np.sqrt(variance)).sum())

    for other, variance in ((signals * 0.98, sigma**2), (signals, 1.2 * sigma**2), (signals + sigma, 0.8 * sigma**2)):
        expected = theirs(other, variance) - theirs(signals, sigma**2)
        assert ours(other, variance) - ours(signals, sigma**2) == pytest.approx(expected, abs=1e-4)
    assert ours(-signals, sigma**2) == pytest.approx(ours(signals, sigma**2))


def test_score_is_the_slope_of_the_likelihood_and_its_spread_the_information():
    sigma = 0.2
    signals, magnitudes = _magnitudes(sigma, 20_000)
    score, information = np.empty((2, len(signals)))
    write_score(magnitudes, signals, sigma**2, score, information)
    step = 1e-5
    slope = [
        rice.logpdf(magnitudes[i], (signals[i] + step) / sigma, scale=sigma)
        - rice.logpdf(magnitudes[i], (signals[i] - step) / sigma, scale=sigma)
        for i in range(20)
    ]
    np.testing.assert_allclose(score[:20], np.array(slope) / (2 * step), rtol=1e-3, atol=1e-3)
    for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 1)):
        here = (signals > low) & (signals < high)
        assert np.mean(score[here] ** 2) == pytest.approx(np.mean(information[here]), rel=0.15)


@pytest.mark.parametrize(("sigma", "start"), [(0.3, 0.1), (0.05, 0.2), (0.01, 0.02)])
def test_noise_level_is_found_from_either_side(sigma, start):
    signals, magnitudes = _magnitudes(sigma, 3000)
    assert np.sqrt(estimate_variance(magnitudes, signals, start**2, 1e-12, 30)) == pytest.approx(sigma, rel=0.04)
