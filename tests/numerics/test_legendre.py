"""Legendre series against numerical integration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import eval_legendre

from arcuate.numerics.legendre import (
    even_degrees,
    even_legendre,
    even_legendre_powers,
    gaussian_zonal,
    watson_moments,
    write_even_legendre,
    zonal_degree,
)
from arcuate.numerics.sh import sh_matrix


@pytest.mark.parametrize("kappa", [0.0, 1e-9, 1e-3, 0.1, 1.0, 5.0, 20.0, 64.0, 128.0, 700.0])
def test_watson_coefficients_equal_numerical_integration(kappa):
    def density(t: float) -> float:
        return float(np.exp(kappa * (t * t - 1)))

    options = {"limit": 200, "epsabs": 1e-13, "epsrel": 1e-13}
    mass = quad(density, 0, 1, **options)[0]
    for degree, moment in zip(even_degrees(16), watson_moments(np.array(kappa), 16), strict=True):
        expected = quad(lambda t: density(t) * eval_legendre(degree, t), 0, 1, **options)[0] / mass  # noqa: B023
        assert abs(moment - expected) < 1e-11


def test_watson_moments_of_many_concentrations_are_those_of_each():
    kappas = np.array([[0.0, 3.0], [40.0, 0.5]])
    together = watson_moments(kappas, 12)
    for index in np.ndindex(2, 2):
        np.testing.assert_allclose(together[index], watson_moments(kappas[index], 12), rtol=0, atol=1e-14)


def test_opposite_concentrations_have_their_mass_on_axis_and_equator():
    assert watson_moments(np.array(-500.0), 2)[1] == pytest.approx(-0.5, abs=2e-3)
    assert watson_moments(np.array(500.0), 2)[1] == pytest.approx(1.0, abs=4e-3)


@pytest.mark.parametrize("a", [-30.0, -1.0, -1e-7, 0.0, 1e-13, 1e-5, 0.05, 1.0, 6.0, 20.0])
def test_series_of_a_gaussian_adds_up_to_it(a):
    t = np.linspace(-1, 1, 101)
    total = even_legendre(t, 60) @ gaussian_zonal(np.array(a), 60)
    np.testing.assert_allclose(total, np.exp(-a * t * t), rtol=0, atol=1e-11 * max(1, np.exp(-a)))


@pytest.mark.parametrize("a", [0.5, 1.7, 5.95, 17.0])
def test_degree_is_the_lowest_that_keeps_the_promise(a):
    t = np.linspace(-1, 1, 501)
    degree = zonal_degree(a, 1e-5)
    error = [
        np.abs(even_legendre(t, n) @ gaussian_zonal(np.array(a), n) - np.exp(-a * t * t)).max()
        for n in (degree, degree - 4)
    ]
    assert error[0] <= 1e-5 < error[1]


def test_harmonics_of_a_series_are_the_series():
    directions = np.random.default_rng(0).normal(size=(50, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    zonal = gaussian_zonal(np.array(2.0), 8)
    coefs = np.zeros(45)
    coefs[even_degrees(8) * (even_degrees(8) + 1) // 2] = zonal * np.sqrt(4 * np.pi / (2 * even_degrees(8) + 1))
    expected = even_legendre(directions[:, 2], 8) @ zonal
    np.testing.assert_allclose(sh_matrix(directions, 8) @ coefs, expected, rtol=0, atol=1e-13)


def test_kernels_write_the_polynomials():
    t = np.linspace(-1, 1, 41)
    values = np.empty((9, 41))
    write_even_legendre(t * t, values)
    np.testing.assert_allclose(values.T, even_legendre(t, 16), rtol=0, atol=1e-13)
    np.testing.assert_allclose(values[5], eval_legendre(10, t), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("lmax", "n_pow"), [(0, 4), (4, 4), (6, 4), (8, 8), (12, 8), (24, 16)])
def test_powers_are_the_polynomials(lmax, n_pow):
    t = np.linspace(-1, 1, 41)
    powers = even_legendre_powers(lmax, 4)
    assert powers.shape == (lmax // 2 + 1, n_pow)
    values = np.polynomial.polynomial.polyval(2 * t * t - 1, powers.T)
    np.testing.assert_allclose(values.T, even_legendre(t, lmax), rtol=0, atol=1e-12)
