"""Eigenvalues of symmetric 3 x 3 matrices against LAPACK, most of all where they meet."""

from __future__ import annotations

import numpy as np
import pytest

from arcuate.numerics.eigen import eigh_3x3

ROWS, COLUMNS = [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]
N = 5000


def _matrices(evals: np.ndarray, seed: int = 0) -> np.ndarray:
    rotations = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(evals), 3, 3)))[0]
    full = np.einsum("vij,vj,vkj->vik", rotations, evals, rotations)
    return (full + full.transpose(0, 2, 1)) / 2


def _spectra() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    general = rng.normal(size=(N, 3))
    near = 1e-9 * rng.normal(size=N)
    return {
        "general": general,
        "two large meet": np.stack([np.ones(N), 1 + near, rng.random(N)], axis=1),
        "two small meet": np.stack([np.ones(N), 0.3 + near, np.full(N, 0.3)], axis=1),
        "all meet": 1e-3 * (1 + 1e-12 * general),
        "isotropic": np.full((N, 3), 0.7e-3),
        "rank one": np.stack([np.ones(N), np.zeros(N), np.zeros(N)], axis=1),
        "tiny": general * 1e-200,
        "huge": general * 1e200,
        "zero": np.zeros((N, 3)),
    }


@pytest.mark.parametrize("kind", _spectra())
def test_agrees_with_lapack_and_rebuilds_the_matrix(kind):
    full = _matrices(_spectra()[kind])
    evals, evecs = eigh_3x3(full[:, ROWS, COLUMNS])
    size = max(np.abs(full).max(), np.finfo(float).tiny)
    np.testing.assert_allclose(evals / size, np.linalg.eigvalsh(full)[:, ::-1] / size, rtol=0, atol=1e-14)
    rebuilt = np.einsum("vki,vk,vkj->vij", evecs, evals / size, evecs)
    np.testing.assert_allclose(rebuilt, full / size, rtol=0, atol=1e-14)
    np.testing.assert_allclose(
        np.einsum("vki,vli->vkl", evecs, evecs), np.broadcast_to(np.eye(3), full.shape), atol=1e-14
    )


def test_diagonal_matrices_are_sorted_and_signed():
    evals, evecs = eigh_3x3(np.array([[1.0, 0, 0, 3.0, 0, 2.0], [-1.0, 0, 0, -3.0, 0, -2.0]]))
    np.testing.assert_array_equal(evals, [[3, 2, 1], [-1, -2, -3]])
    np.testing.assert_array_equal(evecs[0], [[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert np.all(np.take_along_axis(evecs, np.abs(evecs).argmax(axis=2)[..., None], axis=2) > 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_matrix_that_is_not_finite_gives_nan_and_leaves_its_neighbours(bad):
    full = _matrices(_spectra()["general"][:40])[:, ROWS, COLUMNS]
    spoiled = full.copy()
    spoiled[7, 2] = bad
    evals, evecs = eigh_3x3(spoiled)
    clean_evals, clean_evecs = eigh_3x3(full)
    others = np.arange(40) != 7
    assert np.isnan(evals[7]).all()
    np.testing.assert_array_equal(evals[others], clean_evals[others])
    np.testing.assert_array_equal(evecs[others], clean_evecs[others])
