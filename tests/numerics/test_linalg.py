"""Cholesky in lanes against LAPACK."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from arcuate.numerics import lanes
from arcuate.numerics.lanes import LINE, add_outer_tile, hinge_slopes, mark_negative, multiply_panel, transpose_8
from arcuate.numerics.linalg import cholesky_solve_lanes, triangle_lines


def _lay_out(matrices: np.ndarray, right: np.ndarray) -> np.ndarray:
    n = right.shape[1]
    lines = np.zeros((triangle_lines(n), LINE))
    i, j = np.tril_indices(n)
    lines[i * (i + 1) // 2 + j] = matrices[:, i, j].T
    lines[n * (n + 1) // 2 + np.arange(n)] = right.T
    return lines.ravel()


def _systems(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    roots = rng.normal(size=(LINE, 2 * n, n))
    return np.einsum("vki,vkj->vij", roots, roots), rng.normal(size=(LINE, n))


@pytest.mark.parametrize("n", [1, 2, 3, 6, 15, 28, 45, 66, 91])
def test_solves_eight_systems_as_lapack_does(n: int) -> None:
    matrices, right = _systems(n)
    x = np.zeros(LINE * n)
    cholesky_solve_lanes(_lay_out(matrices, right), n, x)
    expected = np.linalg.solve(matrices, right[..., None])[..., 0]
    np.testing.assert_allclose(x.reshape(n, LINE).T, expected, rtol=1e-9, atol=1e-12)


def test_a_matrix_that_is_not_positive_definite_spoils_its_own_lane_only() -> None:
    matrices, right = _systems(15)
    good, bad = np.zeros(LINE * 15), np.zeros(LINE * 15)
    cholesky_solve_lanes(_lay_out(matrices, right), 15, good)
    matrices[3] *= -1
    cholesky_solve_lanes(_lay_out(matrices, right), 15, bad)
    assert np.all(np.isnan(bad.reshape(15, LINE)[:, 3]))
    others = np.arange(LINE) != 3
    np.testing.assert_array_equal(bad.reshape(15, LINE)[:, others], good.reshape(15, LINE)[:, others])


def test_tiles_cut_for_narrow_and_for_wide_registers_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    matrices, right = _systems(23)
    table, lines, changed = rng.normal(size=(30, 16)), rng.normal(size=(11, LINE)), np.arange(0, 30, 3)
    found = []
    for is_wide in (True, False):
        monkeypatch.setattr(lanes, "_is_wide", lambda _, is_wide=is_wide: is_wide)
        solve = njit(error_model="numpy")(cholesky_solve_lanes.py_func)

        @njit
        def multiply(table, lines, changed, product, sums):
            multiply_panel(table, 8, lines, 11, product, 0)
            add_outer_tile(table, 16, changed, changed, len(changed), sums, 0, 8, 0)

        x, product, sums = np.zeros(LINE * 23), np.zeros(LINE * LINE), np.ones(16 * 16)
        solve(_lay_out(matrices, right), 23, x)
        multiply(table.ravel(), lines.ravel(), changed, product, sums)
        found.append((x, product, sums))
    for wide, narrow in zip(*found, strict=True):
        np.testing.assert_array_equal(wide, narrow)
    np.testing.assert_allclose(product.reshape(8, 8), table.ravel()[8:96].reshape(11, 8).T @ lines)
    expected = 1 + table[changed, 8:].T @ table[changed, :8]
    np.testing.assert_allclose(sums.reshape(16, 16)[8:, :8], expected)


def test_transposing_turns_rows_into_lines() -> None:
    @njit
    def transpose(source, out):
        transpose_8(source, 3, 10, out, 1)

    source, out = np.arange(100.0), np.zeros(72)
    transpose(source, out)
    expected = source[3:83].reshape(8, 10)[:, :8].T
    np.testing.assert_array_equal(out[8:].reshape(8, 8), expected)


def test_slope_and_curvature_of_the_hinge_and_its_signs() -> None:
    @njit
    def look(w, dw, step, slopes, marks):
        hinge_slopes(w, dw, step, len(w) // 8, slopes)
        mark_negative(w, len(w) // 8, marks)

    rng = np.random.default_rng(0)
    w, dw, step = rng.normal(size=(37, 8)), rng.normal(size=(37, 8)), rng.uniform(size=8)
    slopes, marks = np.empty(16), np.empty(37, np.uint8)
    look(w.ravel(), dw.ravel(), step, slopes, marks)
    below = w + step * dw < 0
    np.testing.assert_allclose(slopes[:8], np.sum((w + step * dw) * dw * below, axis=0))
    np.testing.assert_allclose(slopes[8:], np.sum(dw**2 * below, axis=0))
    np.testing.assert_array_equal(np.unpackbits(marks[:, None], axis=1, bitorder="little"), w < 0)
