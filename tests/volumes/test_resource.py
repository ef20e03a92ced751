"""Resources in memory: one interface with those on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from arcuate.errors import InputError
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource
from arcuate.volumes.resource import (
    InMemoryBvalResource,
    InMemoryBvecResource,
    InMemoryVolumeResource,
    VectorResource,
    VolumeResource,
)

AFFINE = np.diag([-2.0, 2, 3, 1])


def test_a_volume_in_memory_is_its_own_load_and_shares_its_array() -> None:
    array = np.zeros((2, 3, 4), np.float32)
    volume = InMemoryVolumeResource(array, AFFINE, {"descrip": "mine"})
    assert volume.load() is volume
    assert volume.get_array() is array
    assert volume.shape == (2, 3, 4)
    assert volume.get_metadata() == {"descrip": "mine"}
    np.testing.assert_array_equal(volume.get_affine(), AFFINE)


def test_changing_what_was_given_or_got_does_not_move_the_volume() -> None:
    affine, metadata = AFFINE.copy(), {"descrip": "mine"}
    volume = InMemoryVolumeResource(np.zeros((2, 3, 4)), affine, metadata)
    affine[0, 3] = 99
    metadata["descrip"] = "yours"
    volume.get_affine()[0, 3] = 77
    volume.get_metadata()["descrip"] = "theirs"
    np.testing.assert_array_equal(volume.get_affine(), AFFINE)
    assert volume.get_metadata() == {"descrip": "mine"}


def test_lists_are_taken_as_arrays() -> None:
    volume = InMemoryVolumeResource([[[1.0, 2.0]]], AFFINE.tolist())  # type: ignore[arg-type]
    assert volume.shape == (1, 1, 2)
    assert volume.get_affine().dtype == np.float64
    assert InMemoryBvalResource([0, 1000]).get().dtype == np.float64  # type: ignore[arg-type]
    assert InMemoryBvecResource([[0, 0, 1]]).get().shape == (1, 3)  # type: ignore[arg-type]


def test_an_affine_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match=r"affine of shape \(3, 3\).*\(4, 4\)"):
        InMemoryVolumeResource(np.zeros((2, 3, 4)), np.eye(3))


def test_disk_and_memory_offer_the_same(tmp_path: Path) -> None:
    volume = InMemoryVolumeResource(np.arange(24, dtype=np.float32).reshape(2, 3, 4), AFFINE)
    bval, bvec = InMemoryBvalResource(np.array([0.0, 1000])), InMemoryBvecResource(np.array([[0.0, 0, 0], [0, 0, 1]]))
    on_disk = NiftiVolumeResource.save(volume, tmp_path / "x.nii.gz")
    assert isinstance(on_disk, VolumeResource)
    assert isinstance(on_disk.load(), InMemoryVolumeResource)
    np.testing.assert_array_equal(on_disk.load().get_array(), volume.get_array())
    np.testing.assert_array_equal(on_disk.get_affine(), volume.get_affine())
    pairs: list[tuple[VectorResource, VectorResource]] = [
        (FslBvalResource.save(bval, tmp_path / "x.bval"), bval),
        (FslBvecResource.save(bvec, tmp_path / "x.bvec"), bvec),
    ]
    for saved, kept in pairs:
        np.testing.assert_array_equal(saved.get(), kept.get())
        np.testing.assert_array_equal(saved.load().get(), kept.get())
        assert type(saved.load()) is type(kept)
        assert kept.load() is kept
