"""Each function of lanes, written in LLVM's vector types, against a few lines of numpy that say what it does."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from numpy.testing import assert_allclose, assert_array_equal

from arcuate.numerics import lanes
from arcuate.numerics.lanes import LINE

ELIMINATIONS = {"eliminate_8x2": 8, "eliminate_4x2": 4}  # rows of the tile


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_every_function_of_lanes_has_a_twin_here():
    intrinsics = {name for name, value in vars(lanes).items() if type(value).__name__ == "_Intrinsic"}
    assert intrinsics == {*ELIMINATIONS, "eliminate_pivots", "subtract_row", "multiply_panel"} | {
        "add_outer_tile", "transpose_8", "mark_crests", "hinge_slopes", "mark_negative",
    }  # fmt: skip


def at(i, j):
    """Line of A[i, j] in a packed lower triangle."""
    return i * (i + 1) // 2 + j


@pytest.mark.parametrize("column", [0, 1, 6])
@pytest.mark.parametrize("name", ELIMINATIONS)
def test_elimination_of_a_tile(name, column, rng):
    row = column + 3
    found = rng.normal(size=(at(row + ELIMINATIONS[name] + 1, 0), LINE))
    expected = found.copy()
    for i in range(row, row + ELIMINATIONS[name]):
        for c in (column, column + 1):
            expected[at(i, c)] -= sum(expected[at(i, k)] * expected[at(c, k)] for k in range(column))
        expected[at(i, column)] *= expected[at(column, column)]
        expected[at(i, column + 1)] -= expected[at(i, column)] * expected[at(column + 1, column)]
        expected[at(i, column + 1)] *= expected[at(column + 1, column + 1)]
    function = getattr(lanes, name)
    njit(lambda matrix, row, column: function(matrix, row, column))(found.reshape(-1), row, column)
    assert_allclose(found, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("column", [0, 1, 6])
def test_elimination_of_two_pivots_leaves_the_inverses_of_their_roots(column, rng):
    found = rng.normal(size=(at(column + 3, 0), LINE))
    for row in (column, column + 1):
        found[at(row, row)] = 100 + np.abs(found[at(row, row)])
    found[at(column, column), 3] = -1000.0  # in one lane not positive definite
    expected = found.copy()
    for i, c in ((column, column), (column + 1, column), (column + 1, column + 1)):
        expected[at(i, c)] -= sum(expected[at(i, k)] * expected[at(c, k)] for k in range(column))
    with np.errstate(invalid="ignore"):
        expected[at(column, column)] **= -0.5
        expected[at(column + 1, column)] *= expected[at(column, column)]
        expected[at(column + 1, column + 1)] -= expected[at(column + 1, column)] ** 2
        expected[at(column + 1, column + 1)] **= -0.5
    njit(lambda matrix, column: lanes.eliminate_pivots(matrix, column))(found.reshape(-1), column)
    assert_allclose(found, expected, rtol=1e-13, atol=1e-13)
    assert np.array_equal(np.isnan(found).any(axis=0), np.arange(LINE) == 3)


def test_subtract_row_is_one_step_of_back_substitution(rng):
    matrix, x, row = rng.normal(size=(at(6, 0), LINE)), rng.normal(size=(6, LINE)), 4
    expected = x.copy()
    for i in range(row):
        expected[i] -= matrix[at(row, i)] * x[row]
    njit(lambda m, row, x: lanes.subtract_row(m, row, x))(matrix.reshape(-1), row, x.reshape(-1))
    assert_allclose(x, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("count", [0, 1, 45])
def test_multiply_panel_is_a_product_of_matrices(count, rng):
    panel, lines, out = rng.normal(size=16 + LINE * 45), rng.normal(size=(45, LINE)), np.ones((11, LINE))
    expected = np.ones_like(out)
    expected[2:10] = panel[16:].reshape(45, LINE)[:count].T @ lines[:count]
    njit(lambda p, a, l, n, o, b: lanes.multiply_panel(p, a, l, n, o, b))(
        panel, 16, lines.reshape(-1), count, out.reshape(-1), 2
    )
    assert_allclose(out, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_add_outer_tile_adds_outer_products_of_rows(count, rng):
    width, start, i, j = 16, 3, 8, 0
    table, out = rng.normal(size=(9, width)), rng.normal(size=start + width * width)
    left, right = rng.integers(9, size=5), rng.integers(9, size=5)
    expected = out.copy()
    tile = expected[start:].reshape(width, width)[i : i + LINE, j : j + LINE]
    tile += table[left[:count], i : i + LINE].T @ table[right[:count], j : j + LINE]
    njit(lambda t, w, l, r, n, o, s, i, j: lanes.add_outer_tile(t, w, l, r, n, o, s, i, j))(
        table.reshape(-1), width, left, right, count, out, start, i, j
    )
    assert_allclose(out, expected, rtol=1e-13, atol=1e-13)


def test_transpose_8_turns_rows_into_lines(rng):
    start, stride, place = 5, 11, 1
    source, out = rng.normal(size=start + LINE * stride), np.zeros((LINE + 2, LINE))
    expected = out.copy()
    for r in range(LINE):
        expected[place : place + LINE, r] = source[start + r * stride : start + r * stride + LINE]
    njit(lambda s, a, b, o, p: lanes.transpose_8(s, a, b, o, p))(source, start, stride, out.reshape(-1), place)
    assert_array_equal(out, expected)


def bits(is_marked):
    """(n,) uint8 of (n, LINE) bool."""
    return np.packbits(is_marked, axis=1, bitorder="little")[:, 0]


def test_mark_crests_marks_lines_that_at_most_one_neighbour_is_above(rng):
    lines, floor = rng.normal(size=(50, LINE)), rng.normal(size=LINE) - 1
    neighbours, marks = np.array([rng.choice(50, 6, replace=False) for _ in range(50)]), np.zeros(50, np.uint8)
    n_above = (lines[neighbours] > lines[:, None]).sum(axis=1)
    expected = bits((n_above <= 1) & (lines > floor))
    njit(lambda l, near, k, n, f, m: lanes.mark_crests(l, near, k, n, f, m))(
        lines.reshape(-1), neighbours.reshape(-1), 6, 50, floor, marks
    )
    assert 0 < np.count_nonzero(expected) < 50
    assert_array_equal(marks, expected)


@pytest.mark.parametrize("count", [0, 1, 30])
def test_hinge_slopes_are_the_derivatives_of_the_squared_negative_part(count, rng):
    w, dw = rng.normal(size=(30, LINE)), rng.normal(size=(30, LINE))
    step, out = rng.random(LINE), np.ones((2, LINE))
    value = (w + step * dw)[:count]
    expected = [(np.minimum(value, 0) * dw[:count]).sum(axis=0), ((value < 0) * dw[:count] ** 2).sum(axis=0)]
    njit(lambda w, d, s, n, o: lanes.hinge_slopes(w, d, s, n, o))(
        w.reshape(-1), dw.reshape(-1), step, count, out.reshape(-1)
    )
    assert_allclose(out, expected, rtol=1e-13, atol=1e-13)


def test_mark_negative_marks_lanes_below_zero(rng):
    w, marks = rng.normal(size=(20, LINE)), np.full(21, 7, np.uint8)
    w[3] = [0.0, -0.0, np.nan, -np.inf, np.inf, -1e-300, 1e-300, -1.0]
    njit(lambda w, n, m: lanes.mark_negative(w, n, m))(w.reshape(-1), 20, marks)
    assert_array_equal(marks, [*bits(w < 0), 7])
