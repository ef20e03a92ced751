"""Composite transforms (``.h5``), as fMRIPrep and QSIPrep hand them over, against ``antsApplyTransforms``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from arcuate.errors import InputError
from arcuate.registration import TransformResource
from arcuate.volumes.resource import InMemoryVolumeResource

needs_ants = pytest.mark.skipif(
    importlib.util.find_spec("ants") is None, reason="antspyx is not installed (extra ants); its oracle is left out"
)
FLIP = np.diag([-1.0, -1, 1])


def _grid(seed: int, zooms: tuple[float, float, float]) -> np.ndarray:
    """An affine of any storage order, any flips, and a tilt, around the origin."""
    rng = np.random.default_rng(seed)
    axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    axes = Rotation.random(random_state=seed).as_matrix() @ axes if seed % 2 else axes
    affine = np.eye(4)
    affine[:3, :3] = axes * zooms
    affine[:3, 3] = -affine[:3, :3] @ [9, 9, 9]
    return affine


def _image(affine: np.ndarray, seed: int, shape: tuple[int, ...]) -> InMemoryVolumeResource:
    smooth = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return InMemoryVolumeResource((smooth / np.abs(smooth).max()).astype(np.float32), affine)


def _affine_parts(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    matrix = Rotation.from_euler("xyz", rng.uniform(-8, 8, 3), degrees=True).as_matrix() * rng.uniform(0.95, 1.05)
    return np.concatenate([matrix.ravel(), rng.uniform(-3, 3, 3)]), rng.uniform(-10, 10, 3)


def _warp_parts(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors, x fastest, and size, origin, spacing and direction of their own tilted grid, LPS."""
    rng = np.random.default_rng(seed)
    size = (13, 14, 12)
    vectors = gaussian_filter(rng.normal(size=(*size, 3)), (3, 3, 3, 0))
    vectors *= 3 / np.abs(vectors).max()
    direction = Rotation.random(random_state=seed).as_matrix()
    spacing = rng.uniform(3.5, 5, 3)
    origin = -direction @ (spacing * (np.array(size) - 1) / 2)
    return vectors.transpose(3, 0, 1, 2).ravel(order="F"), np.concatenate([size, origin, spacing, direction.ravel()])


def _write_composite(path: Path, kinds: str, precision: str, seed: int) -> None:
    """A composite of affines (a) and warps (w), in the layout of ITK."""
    h5py = pytest.importorskip("h5py", reason="h5py is not installed (extra ants)")
    dtype = np.float32 if precision == "float" else np.float64
    with h5py.File(path, "w") as file:
        for name in ("ITKVersion", "HDFVersion", "OSName", "OSVersion"):
            file[name] = np.array([b"x"], dtype="S8")
        group = file.create_group("TransformGroup")
        text = h5py.string_dtype("ascii", None)
        first = group.create_group("0")
        first.create_dataset("TransformType", data=[f"CompositeTransform_{precision}_3_3"], dtype=text)
        for i, kind in enumerate(kinds, start=1):
            parameters, fixed = (_affine_parts if kind == "a" else _warp_parts)(seed + i)
            name = "AffineTransform" if kind == "a" else "DisplacementFieldTransform"
            own = group.create_group(str(i))
            own.create_dataset("TransformType", data=[f"{name}_{precision}_3_3"], dtype=text)
            own["TransformParameters"] = parameters.astype(dtype)
            own["TransformFixedParameters"] = fixed.astype(np.float64)


@needs_ants
@pytest.mark.parametrize("precision", ["float", "double"])
@pytest.mark.parametrize("kinds", ["aw", "aa", "waw", "awwa", "w"])
def test_a_composite_applies_as_antsapplytransforms_does(tmp_path: Path, kinds: str, precision: str) -> None:
    import ants

    path = tmp_path / "from-T1w_to-MNI_mode-image_xfm.h5"
    _write_composite(path, kinds, precision, seed=len(kinds))
    transform = TransformResource.load(path)
    assert len(transform.transform.links) == len(kinds)
    for seed in range(4):
        moving, fixed = (
            _image(_grid(seed, (2, 2.5, 3)), 1, (20, 21, 18)),
            _image(_grid(seed + 5, (3, 2, 2)), 2, (18, 22, 19)),
        )
        peer = ants.apply_transforms(fixed.to_ants_image(), moving.to_ants_image(), [str(path)]).numpy()
        np.testing.assert_allclose(transform.apply(moving, fixed).array, peer, atol=5e-6)


@pytest.mark.parametrize("kinds", ["aw", "waw", "aa"])
def test_the_way_back_of_a_composite_leads_back(tmp_path: Path, kinds: str) -> None:
    path = tmp_path / "xfm.h5"
    _write_composite(path, kinds, "float", seed=3)
    points = np.random.default_rng(0).uniform(-12, 12, (60, 3))
    transform = TransformResource.load(path)
    np.testing.assert_allclose(transform.inverse.map_points(transform.map_points(points)), points, atol=2e-3)
    if "w" in kinds:  # without a field of its own it cannot be written
        with pytest.raises(InputError, match="has no field of its own; keep the transform itself"):
            TransformResource.load([(path, True)])
