"""The mean of magnitude data, and back."""

from __future__ import annotations

import numpy as np
import pytest

from arcuate.models.flat_image import flat_image
from arcuate.models.rician import MEAN_OF_NOISE, remove_rician_bias, rician_mean


def test_the_mean_is_that_of_simulated_magnitudes():
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=3.0, size=(2, 2_000_000))
    for signal in (0.0, 2.0, 6.0, 30.0):
        simulated = np.hypot(signal + noise[0], noise[1]).mean()
        assert rician_mean(np.array(signal), 3.0) == pytest.approx(simulated, rel=2e-3)


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_signal_comes_back_from_its_mean(order):
    signal = np.linspace(0.5, 400, 3000).reshape(1000, 3)
    sigma = np.linspace(1, 8, 1000).astype(np.float32)
    means = np.array(rician_mean(signal, sigma[:, None]), dtype=np.float32, order=order)
    image = flat_image(means.reshape(1000, 1, 1, 3, order=order))
    assert image.order == order
    remove_rician_bias(image, sigma)
    found = image.values.reshape(1000, 3, order=order)
    np.testing.assert_allclose(found, signal, atol=2e-3 * sigma.max())


def test_below_the_floor_there_is_no_signal_and_without_noise_no_bias():
    image = flat_image(np.array([0.5, MEAN_OF_NOISE * 2, -1.0, 7.0], dtype=np.float32).reshape(4, 1, 1, 1))
    remove_rician_bias(image, np.array([2.0, 2.0, 2.0, 0.0], np.float32))
    np.testing.assert_allclose(image.values, [0, 0, 0, 7], atol=1e-2)
