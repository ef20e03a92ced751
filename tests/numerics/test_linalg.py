"""Cholesky in lanes against LAPACK."""

from __future__ import annotations

import numpy as np
import pytest

from arcuate.numerics.lanes import LANES
from arcuate.numerics.linalg import cholesky_solve_lanes, solve_factored_lanes, triangle_lines


def _lay_out(matrices: np.ndarray, right: np.ndarray) -> np.ndarray:
    n = right.shape[1]
    lines = np.zeros((triangle_lines(n), LANES))
    i, j = np.tril_indices(n)
    lines[i * (i + 1) // 2 + j] = matrices[:, i, j].T
    lines[n * (n + 1) // 2 + np.arange(n)] = right.T
    return lines.ravel()


def _systems(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    roots = rng.normal(size=(LANES, 2 * n, n))
    return np.einsum("vki,vkj->vij", roots, roots), rng.normal(size=(LANES, n))


@pytest.mark.parametrize("n", [1, 2, 3, 6, 15, 28, 45, 66, 91])
def test_solves_eight_systems_as_lapack_does(n: int) -> None:
    matrices, right = _systems(n)
    x = np.zeros(LANES * n)
    cholesky_solve_lanes(_lay_out(matrices, right), n, x)
    expected = np.linalg.solve(matrices, right[..., None])[..., 0]
    np.testing.assert_allclose(x.reshape(n, LANES).T, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n", [1, 3, 28, 45, 47])
def test_the_factor_serves_other_right_hand_sides(n: int) -> None:
    matrices, right = _systems(n)
    factor, x = _lay_out(matrices, 0 * right), np.zeros(LANES * n)
    cholesky_solve_lanes(factor, n, x)
    for scale in (1.0, -3.0):
        solve_factored_lanes(factor, n, np.ascontiguousarray(scale * right.T).ravel(), x)
        expected = np.linalg.solve(matrices, scale * right[..., None])[..., 0]
        np.testing.assert_allclose(x.reshape(n, LANES).T, expected, rtol=1e-9, atol=1e-12)


def test_a_matrix_that_is_not_positive_definite_spoils_its_own_lane_only() -> None:
    matrices, right = _systems(15)
    good, bad = np.zeros(LANES * 15), np.zeros(LANES * 15)
    cholesky_solve_lanes(_lay_out(matrices, right), 15, good)
    matrices[3] *= -1
    cholesky_solve_lanes(_lay_out(matrices, right), 15, bad)
    assert np.all(np.isnan(bad.reshape(15, LANES)[:, 3]))
    others = np.arange(LANES) != 3
    np.testing.assert_array_equal(bad.reshape(15, LANES)[:, others], good.reshape(15, LANES)[:, others])
