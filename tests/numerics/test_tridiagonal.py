"""The leading part of a symmetric eigenproblem, against LAPACK."""

from __future__ import annotations

import numpy as np
import pytest

from arcuate.numerics import tridiagonal as tri


def _spiked(n: int, n_signal: int, rng: np.random.Generator) -> np.ndarray:
    """Gram matrix of noise with a few strong components, as a patch of a scan has it."""
    strong = (rng.normal(size=(n, n_signal)) * np.geomspace(1000, 3, max(n_signal, 1))[:n_signal]) @ rng.normal(
        size=(n_signal, 2 * n)
    )
    X = strong + rng.normal(size=(n, 2 * n))
    return X @ X.T


def _reduced(matrix: np.ndarray) -> tuple[np.ndarray, ...]:
    n = len(matrix)
    A = tri.aligned(n, n)
    A[:, :n] = matrix
    d, e, beta = np.empty(n), np.empty(n), np.empty(n)
    tri.reduce_to_tridiagonal(A, d, e, beta, tri.aligned(tri.PANEL, n), tri.aligned(tri.PANEL, n))
    return A, d, e, beta


@pytest.mark.parametrize("n", [1, 2, 3, 8, 9, 17, 27, 64, 65, 130])
def test_the_tridiagonal_matrix_has_the_eigenvalues_of_the_full_one(n):
    matrix = _spiked(n, min(3, n - 1), np.random.default_rng(n))
    _, d, e, _ = _reduced(matrix)
    T = np.diag(d) + np.diag(e[1:], 1) + np.diag(e[1:], -1)
    np.testing.assert_allclose(np.linalg.eigvalsh(T), np.linalg.eigvalsh(matrix), atol=1e-13 * np.trace(matrix))


@pytest.mark.parametrize("n", [2, 33, 120])
def test_bisection_finds_any_eigenvalue_to_rounding(n):
    matrix = _spiked(n, min(5, n - 1), np.random.default_rng(n))
    _, d, e, _ = _reduced(matrix)
    places = np.random.default_rng(0).integers(0, n, tri.LANES)
    values = np.empty(tri.LANES)
    tri.bisect_eigenvalues(d, e, places, values)
    expected = np.linalg.eigvalsh(matrix)
    np.testing.assert_allclose(values, expected[places], atol=3e-14 * expected[-1], rtol=1e-9)


@pytest.mark.parametrize(("n", "n_above"), [(9, 1), (27, 6), (90, 20), (90, 89), (90, 90)])
@pytest.mark.parametrize("in_full", [True, False])
def test_projection_is_that_on_the_leading_eigenvectors(n, n_above, in_full):
    rng = np.random.default_rng(n + n_above)
    matrix = _spiked(n, min(n_above, n - 2), rng)
    A, d, e, beta = _reduced(matrix)
    values, vectors = np.linalg.eigh(matrix)
    cut = 0.5 * (values[n - n_above] + (values[n - n_above - 1] if n_above < n else 0.0))
    rotations, kept = np.empty((4 * n * n, 3)), np.empty(n, dtype=bool)
    if in_full:
        n_rot = tri.deflate_all(d, e, rotations)
        np.testing.assert_allclose(np.sort(d), values, atol=1e-13 * values[-1])
        kept[:] = d > cut
    else:
        n_rot = tri.deflate_above(d, e, values[::-1][:n_above].copy(), cut, kept, rotations)
    assert n_rot >= 0
    assert kept.sum() == n_above
    b = rng.normal(size=n)
    expected = vectors[:, n - n_above :] @ (vectors[:, n - n_above :].T @ b)
    tri.project(A, beta, kept, rotations, n_rot, b)
    np.testing.assert_allclose(b, expected, atol=1e-6 if n_above == n - 1 else 1e-9)  # a cut in the bulk has no gap


@pytest.mark.parametrize("matrix", [np.eye(12), np.diag(np.arange(12.0)), np.ones((12, 12)), np.zeros((12, 12))])
def test_repeated_and_zero_eigenvalues_do_no_harm(matrix):
    _, d, e, _ = _reduced(matrix)
    n_rot = tri.deflate_all(d, e, np.empty((4 * 144, 3)))
    assert n_rot >= 0
    np.testing.assert_allclose(np.sort(d), np.linalg.eigvalsh(matrix), atol=1e-13)


@pytest.mark.parametrize("scale", [1e-60, 1e70])
def test_matrices_of_any_scale_are_reduced(scale):
    matrix = _spiked(20, 3, np.random.default_rng(1)) * scale
    _, d, e, _ = _reduced(matrix)
    values = np.empty(tri.LANES)
    tri.bisect_eigenvalues(d, e, np.full(tri.LANES, 19), values)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix)[-1], rtol=1e-12)
