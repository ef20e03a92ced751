"""Steps that count their calls, and volumes to give them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from arcuate.volumes.resource import InMemoryVolumeResource


@pytest.fixture
def volume() -> InMemoryVolumeResource:
    rng = np.random.default_rng(1)
    array = np.asfortranarray(rng.normal(size=(5, 6, 7)).astype(np.float32))
    return InMemoryVolumeResource(array, np.diag([2.0, 2.0, 2.5, 1.0]), {"descrip": "a scan"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes an uncompressed image whose voxels all hold one value."""
    from arcuate.io import NiftiVolumeResource

    def make(name: str, value: float, shape: tuple[int, ...] = (4, 4, 4)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.full(shape, value, dtype=np.float32, order="F")
        NiftiVolumeResource.save(InMemoryVolumeResource(array, np.diag([2.0, 2.0, 2.0, 1.0])), path)
        return path

    return make
