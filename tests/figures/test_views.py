"""Slices as the patient lies: sides, labels and directions, whatever the storage order."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest

from arcuate.errors import InputError
from arcuate.figures.views import Canonical, View, flat_plane

SHAPE = (7, 8, 9)
CODES = [
    "".join(code)
    for order in itertools.permutations(("RL", "AP", "SI"))
    for code in itertools.product(*order)
]  # fmt: skip


def _stored(code: str) -> tuple[np.ndarray, np.ndarray]:
    """A bright voxel right, front and top of an image, stored in the order of ``code``."""
    image = np.zeros(SHAPE, np.float32)
    image[5, 6, 7] = 1
    original = nib.Nifti1Image(image, np.diag([2.0, 3.0, 4.0, 1.0]))
    ornt = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(original.affine), nib.orientations.axcodes2ornt(tuple(code))
    )
    stored = original.as_reoriented(ornt)
    return np.asarray(stored.dataobj), stored.affine


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("radiological", [False, True])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_bright_voxel_is_on_the_labelled_side(code: str, radiological: bool, plane: str) -> None:
    array, affine = _stored(code)
    at = {"axial": 7, "coronal": 6, "sagittal": 5}[plane]
    view = View(plane, at, radiological)
    picture = view.take(Canonical(affine).reorder(array))
    row, column = np.argwhere(picture == 1)[0]
    left, right, bottom, top = view.labels
    side = right if column > picture.shape[1] / 2 else left
    assert side == ("A" if plane == "sagittal" else "R")
    assert row < picture.shape[0] / 2, "the bright voxel is high up"
    assert (bottom, top) == (("P", "A") if plane == "axial" else ("I", "S"))


@pytest.mark.parametrize("code", CODES)
def test_voxel_sizes_and_directions_follow_the_reordering(code: str) -> None:
    _, affine = _stored(code)
    frame = Canonical(affine)
    np.testing.assert_allclose(frame.voxel_size, [2, 3, 4])
    np.testing.assert_allclose(frame.rotation, np.eye(3), atol=1e-12)


def test_directions_of_an_oblique_image_are_turned_onto_its_axes() -> None:
    turn = np.deg2rad(20)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([-2.0, 2.0, 2.0])
    along_first_axis = rotation[:, 0]  # in the scanner
    np.testing.assert_allclose(along_first_axis @ Canonical(affine).rotation, [1, 0, 0], atol=1e-12)


def test_neurological_axial_slices_are_seen_from_above_and_radiological_from_below() -> None:
    np.testing.assert_array_equal(View("axial").camera, [0, 0, 1])
    np.testing.assert_array_equal(View("axial", radiological=True).camera, [0, 0, -1])
    assert View("axial").labels == ("L", "R", "P", "A")
    assert View("axial", radiological=True).labels == ("R", "L", "P", "A")


def test_unknown_planes_and_slices_are_refused() -> None:
    with pytest.raises(InputError, match=r"oblique.*axial"):
        View("oblique")
    with pytest.raises(InputError, match="slice 9; expected one of 0 to 8"):
        View("axial", 9).slice_of(9)


def test_a_flat_image_names_its_plane() -> None:
    assert flat_plane((1, 5, 5)) == "sagittal"
    assert flat_plane((5, 1, 5)) == "coronal"
    assert flat_plane((5, 5, 1)) == "axial"
    assert flat_plane((5, 5, 5)) == flat_plane((1, 1, 1)) == "axial"
