"""Fibre coherence tells which way the b-vectors are to be written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from arcuate.dwi import Dwi
from arcuate.io import find_gradients
from arcuate.phantom import make_phantom, three_shell_gradients
from arcuate.study.coherence import fibre_coherence, orientations
from arcuate.study.quality import inspect_scan
from arcuate.volumes.resource import InMemoryBvecResource, InMemoryVolumeResource


def bundles(shape: tuple[int, int, int] = (26, 24, 22)) -> tuple[np.ndarray, np.ndarray]:
    """Directions (x, y, z, 3) along bent tubes in an image without other fibres, and their FA."""
    directions = np.random.default_rng(0).normal(size=(*shape, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    fa = np.full(shape, 0.1)
    t = np.linspace(0, 1, 400)[:, None]
    o = 0 * t
    curves = [  # none of them maps to another by a flip or permutation
        np.hstack([3 + 18 * t, 4 + 9 * t**2, 5 + 4 * t]),
        np.hstack([4 + 6 * t**2, 18 - 13 * t, 15 + 3 * t]),
        np.hstack([15 + 8 * np.cos(2.5 * t), 12 + 8 * np.sin(2.5 * t), 10 + 6 * t]),
        np.hstack([20 + o, 18 - 9 * t, 4 + 9 * t]),
    ]
    grid = np.stack(np.meshgrid(*[np.arange(n, dtype=float) for n in shape], indexing="ij"), axis=-1)
    for curve in curves:
        tangents = np.gradient(curve, axis=0)
        tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
        apart = np.linalg.norm(grid[..., None, :] - curve[::8], axis=-1)
        nearest = apart.argmin(axis=-1)
        tube = apart.min(axis=-1) < 2.2
        directions[tube] = tangents[::8][nearest[tube]]
        fa[tube] = 0.7
    return directions, fa


def test_the_24_orientations_are_different_and_orthonormal() -> None:
    matrices = orientations()
    assert next(iter(matrices)) == "x y z"
    lines = {tuple((m * np.sign(m.ravel()[np.flatnonzero(m)[0]])).ravel()) for m in matrices.values()}
    assert len(lines) == 24
    for matrix in matrices.values():
        np.testing.assert_array_equal(matrix @ matrix.T, np.eye(3))


def test_the_name_says_where_each_component_comes_from() -> None:
    np.testing.assert_array_equal(orientations()["y -x z"] @ [1, 2, 3], [2, -1, 3])


@pytest.mark.parametrize("voxel_size", [(1.0, 1.0, 1.0), (2.0, 2.0, 3.0)])
@pytest.mark.parametrize("name", list(orientations()))
def test_the_way_back_is_found_for_every_flip_and_permutation(
    name: str, voxel_size: tuple[float, float, float]
) -> None:
    directions, fa = bundles()
    wrong = orientations()[name]
    scaled = directions * voxel_size  # the same tubes in mm
    scaled /= np.linalg.norm(scaled, axis=-1, keepdims=True)
    found = fibre_coherence(scaled @ wrong.T, fa, voxel_size)
    back = orientations()[found.best] @ wrong
    np.testing.assert_array_equal(np.abs(back), np.eye(3))
    assert abs(np.trace(back)) == 3  # the same line: all signs alike
    assert found.is_suspect == (name != "x y z")


def test_little_white_matter_decides_nothing() -> None:
    directions, fa = bundles()
    fa[:, 6:] = 0
    fa[8:] = 0
    fa[:, :, 7:] = 0
    found = fibre_coherence(directions, fa, (1.0, 1.0, 1.0))
    assert not found.is_decided
    assert not found.is_suspect


@pytest.mark.parametrize("shape", [(30, 30, 1), (12, 12, 12)])
def test_noise_decides_nothing(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    found = [fibre_coherence(_random_lines(rng, shape), np.full(shape, 0.6), (2.0, 2.0, 2.0)) for _ in range(10)]
    assert max(one.ratio for one in found) > 1.05, "by chance some way is better"
    assert min(one.n_pairs for one in found) > 1000
    assert not any(one.is_decided or one.is_suspect for one in found)


def _random_lines(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    lines = rng.normal(size=(*shape, 3))
    return lines / np.linalg.norm(lines, axis=-1, keepdims=True)


def test_nothing_is_said_across_the_slices_of_a_slab() -> None:
    directions, fa = bundles()
    found = fibre_coherence(directions[:, :, :2], fa[:, :, :2], (1.0, 1.0, 1.0))
    assert found.indices["x y z"] == found.indices["x y -z"]


def test_voxels_that_are_not_numbers_are_left_out() -> None:
    directions, fa = bundles()
    expected = fibre_coherence(directions, fa, (1.0, 1.0, 1.0))
    fa[0, 0, 0] = np.nan
    directions[0, 0, 0] = np.nan
    assert fibre_coherence(directions, fa, (1.0, 1.0, 1.0)).indices == pytest.approx(expected.indices)


@pytest.fixture(scope="module")
def head_2mm() -> tuple[Dwi, InMemoryVolumeResource]:
    """The phantom at 2 mm, and its brain mask."""
    gradients = three_shell_gradients(n_b0=1, bvals=(1000,), n_directions=12)
    head = make_phantom(gradients, (80, 96, 60), 2.0, snr=25)
    mask = InMemoryVolumeResource(head.brain_mask.astype(np.uint8), head.affine)
    return Dwi.from_arrays(head.signal, head.affine, gradients), mask


def test_every_flip_and_permutation_of_the_phantom_is_seen_at_2_mm(head_2mm) -> None:
    found = inspect_scan(*head_2mm).coherence
    assert found is not None
    assert found.is_decided
    assert found.best == "x y z"
    own = found.indices["x y z"]
    # b-vectors written in another way turn every first eigenvector alike: their index is the one found here by name
    weakest = max((name for name in found.indices if name != "x y z"), key=lambda name: found.indices[name])
    assert own / found.indices[weakest] > 1.06, weakest


@pytest.mark.parametrize("name", ["-x y z", "x -y z", "x y -z", "y x z"])
def test_wrong_b_vectors_of_the_phantom_are_named(name: str, head_2mm) -> None:
    dwi, mask = head_2mm
    wrong = orientations()[name]
    report = inspect_scan(Dwi(dwi.volume, dwi.bval, InMemoryBvecResource(dwi.bvec.get() @ wrong.T)), mask)
    assert report.coherence is not None
    assert report.coherence.best == name  # each of these four undoes itself
    assert any("more coherent" in doubt for doubt in report.doubts)


def test_a_brain_of_a_mouse_is_looked_at_as_that_of_a_man(head_2mm) -> None:
    dwi, mask = head_2mm
    small = dwi.volume.get_affine().copy()
    small[:3] *= 0.07
    gradients = dwi.gradients
    mouse = Dwi.from_arrays(dwi.volume.get_array(), small, gradients)
    found = inspect_scan(mouse, InMemoryVolumeResource(mask.get_array(), small)).coherence
    whole = inspect_scan(dwi, mask).coherence
    assert found is not None
    assert whole is not None
    assert found.n_pairs == whole.n_pairs
    assert found.indices == pytest.approx(whole.indices)


@pytest.mark.parametrize("scan", ["5000_DTI_PA-SAG_20d_cl", "11000_SAG_DTI_PA-ALL_20d_cl"])
def test_wrong_b_vectors_of_a_real_scan_are_found(scan: str, data_dir: Path) -> None:
    dwi = Dwi(*find_gradients(data_dir / "canon_dti" / f"{scan}.nii.gz")).load()
    mask = dwi.extract_brain(method="otsu")
    right = inspect_scan(dwi, mask)
    assert right.coherence is not None
    assert right.coherence.is_decided
    assert right.coherence.best == "x y z"
    assert not any("coherent" in doubt for doubt in right.doubts)
    for name in ("x -y z", "z x -y"):
        wrong = orientations()[name]
        report = inspect_scan(Dwi(dwi.volume, dwi.bval, InMemoryBvecResource(dwi.bvec.get() @ wrong.T)), mask)
        assert report.coherence is not None
        back = orientations()[report.coherence.best] @ wrong
        assert abs(np.trace(back)) == 3, name
        assert any("more coherent" in doubt for doubt in report.doubts), name
