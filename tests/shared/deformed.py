"""Heads deformed by fields that are known: phantoms with T1 contrast, and images of fibres along a smooth field."""

from __future__ import annotations

import numpy as np

from arcuate.phantom import make_phantom, three_shell_gradients
from arcuate.volumes.resource import InMemoryVolumeResource
from arcuate.volumes.transforms import Displacement

SHAPE, SIZE = (42, 50, 38), 4.0
T1 = np.array([1.0, 0.62, 0.22])  # of white matter, grey matter, fluid


def waves(amplitude: float, seed: int = 0, longest: float = 90.0):
    """A smooth displacement: u(points (n, 3)) -> (n, 3) mm, of at most about ``amplitude``."""
    rng = np.random.default_rng(seed)
    k = rng.normal(size=(4, 3, 3))
    k *= 2 * np.pi / longest / np.linalg.norm(k, axis=-1, keepdims=True)
    phase = rng.uniform(0, 2 * np.pi, (4, 3))

    def shift(points: np.ndarray) -> np.ndarray:
        return amplitude / 2 * np.sin(np.einsum("ni,wci->nwc", points, k) + phase).sum(axis=1) / np.sqrt(2)

    return shift


def field_of(shift, shape: tuple[int, ...], affine: np.ndarray) -> Displacement:
    """The displacement on a grid."""
    points = grid_points(shape, affine)
    return Displacement(shift(points).reshape(*shape, 3), affine)


def grid_points(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Scanner coordinates (n, 3) of all voxels, C order."""
    index = np.indices(shape).reshape(3, -1).T
    return index @ affine[:3, :3].T + affine[:3, 3]


def t1_head(seed: int = 0, orientation: str = "LAS", tilt: float = 0.0) -> dict[str, InMemoryVolumeResource]:
    """T1 contrast, labels and FA of a phantom head."""
    gradients = three_shell_gradients(n_b0=1, bvals=(1000,), n_directions=6)
    head = make_phantom(gradients, SHAPE, SIZE, snr=None, seed=seed, truth="single-tensor", orientation=orientation,
                        oblique_degrees=tilt)  # fmt: skip
    contrast = head.tissue @ T1
    noise = np.random.default_rng(seed).normal(0, 0.01, contrast.shape)
    return {
        "t1": InMemoryVolumeResource((100 * (contrast + np.abs(noise))).astype(np.float32), head.affine),
        "labels": InMemoryVolumeResource(head.label_image, head.affine),
        "fa": InMemoryVolumeResource(head.fa, head.affine),
        "mask": InMemoryVolumeResource(head.brain_mask.astype(np.uint8), head.affine),
    }


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|)."""
    return float(2 * np.sum(one & other) / max(one.sum() + other.sum(), 1))
