"""Fibres follow a deformation: rotations exactly, any linear map along the fibre's own way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from arcuate.models.reorient import reorient_fods, reorient_tensors, reorient_vectors
from arcuate.numerics.sh import n_coefs, sh_matrix


def _tensor(matrix: np.ndarray) -> np.ndarray:
    return matrix[[0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def _maps(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.eye(3) + rng.uniform(-0.25, 0.25, (n, 3, 3))


def test_a_rotation_turns_tensors_and_fods_exactly() -> None:
    rng = np.random.default_rng(1)
    rotation = Rotation.from_euler("xyz", [20, -50, 110], degrees=True).as_matrix()
    half = rng.normal(size=(3, 3))
    tensor = half @ half.T
    turned = reorient_tensors(_tensor(tensor)[None], rotation[None])[0]
    np.testing.assert_allclose(turned, _tensor(rotation @ tensor @ rotation.T), atol=1e-10)
    for lmax in (2, 4, 8):
        coefs = rng.normal(size=(3, n_coefs(lmax)))
        out = reorient_fods(coefs, np.stack([rotation] * 3))
        directions = _unit(rng.normal(size=(50, 3)))
        before = coefs @ sh_matrix(directions @ rotation, lmax).T  # the value at R'd
        np.testing.assert_allclose(out @ sh_matrix(directions, lmax).T, before, atol=1e-10)


def test_the_first_direction_of_a_tensor_goes_where_the_map_takes_it_and_eigenvalues_stay() -> None:
    maps = _maps(40)
    axes = Rotation.random(40, random_state=3).as_matrix()
    evals = np.array([1.7e-3, 0.5e-3, 0.3e-3])
    tensors = np.einsum("vik,k,vjk->vij", axes, evals, axes)
    turned = reorient_tensors(np.stack([_tensor(t) for t in tensors]), maps)
    full = np.zeros((40, 3, 3))
    full[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]] = turned
    full[:, [1, 2, 2], [0, 0, 1]] = turned[:, [1, 2, 4]]
    values, vectors = np.linalg.eigh(full)
    np.testing.assert_allclose(values[:, ::-1], np.tile(evals, (40, 1)), rtol=1e-9)
    expected = _unit(np.einsum("vij,vj->vi", maps, axes[:, :, 0]))
    np.testing.assert_allclose(np.abs(np.sum(vectors[:, :, 2] * expected, axis=1)), 1.0, atol=1e-10)


def test_the_peak_of_an_fod_goes_where_the_map_takes_it() -> None:
    maps = _maps(60, 4)
    directions = _unit(np.random.default_rng(5).normal(size=(60, 3)))
    decay = np.exp(-0.02 * np.repeat(np.arange(0, 9, 2), 2 * np.arange(0, 9, 2) + 1) ** 2)
    coefs = sh_matrix(directions, 8) * decay
    out = reorient_fods(coefs, maps)
    expected = _unit(np.einsum("vij,vj->vi", maps, directions))
    assert np.median(np.degrees(np.arccos(np.abs(np.sum(expected * directions, axis=1))))) > 5
    across = _unit(np.cross(expected, [0.3, 0.5, 0.8]))
    a, b = (x.ravel()[:, None] for x in np.meshgrid(*[np.radians(np.linspace(-6, 6, 61))] * 2))
    angles = []
    for v in range(60):
        near = _unit(expected[v] + a * across[v] + b * np.cross(expected[v], across[v]))
        best = near[np.argmax(sh_matrix(near, 8) @ out[v])]
        angles.append(np.degrees(np.arccos(min(1.0, abs(best @ expected[v])))))
    assert np.median(angles) < 0.5  # wide lobes: 1.8
    np.testing.assert_allclose(out[:, 0], coefs[:, 0], rtol=1e-9)  # the integral


@pytest.mark.parametrize("modulate", [False, True])
def test_a_swelling_that_is_the_same_everywhere_dilutes_fibres_only_when_modulated(modulate: bool) -> None:
    coefs = np.random.default_rng(7).normal(size=(1, 45))
    out = reorient_fods(coefs, 1.2 * np.eye(3)[None], modulate=modulate)
    np.testing.assert_allclose(out, coefs * (1.2 / 1.2**3 if modulate else 1.0), atol=1e-10)


def test_peaks_keep_their_length_and_absent_ones_stay_absent() -> None:
    vectors = np.array([[[2.0, 0, 0], [0, 0, 0], [0, 0.5, 0]]])
    shear = np.array([[[1.0, 0.3, 0], [0, 1, 0], [0, 0, 1]]])
    out = reorient_vectors(vectors, shear)
    np.testing.assert_allclose(np.linalg.norm(out, axis=2), [[2, 0, 0.5]])
    np.testing.assert_allclose(out[0, 2], 0.5 * np.array([0.3, 1, 0]) / np.hypot(0.3, 1))
