"""Scans from files, parts and arrays: what is taken, what is told, and what the methods accept."""

from __future__ import annotations

import inspect
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from arcuate.denoise import run_denoising
from arcuate.dti import Dti
from arcuate.dwi import Dwi
from arcuate.errors import InputError, InputWarning
from arcuate.freewater import FreeWater
from arcuate.gradients import GradientTable
from arcuate.io import FslBvalResource, FslBvecResource
from arcuate.kurtosis import Dki
from arcuate.masks import extract_brain
from arcuate.noddi import Noddi
from arcuate.volumes.geometry import Orientation

AFFINE = np.array([[-2.0, 0, 0, 8], [0, 2, 0, -8], [0, 0, 3, -9], [0, 0, 0, 1]])
BVALS = np.repeat([0.0, 1000, 2000], [2, 8, 8])


def vectors(seed: int = 0) -> np.ndarray:
    g = np.random.default_rng(seed).normal(size=(len(BVALS), 3))
    return np.where(BVALS[:, None] > 0, g / np.linalg.norm(g, axis=1, keepdims=True), 0)


def scan(seed: int = 0) -> Dwi:
    table = GradientTable(BVALS, vectors(seed))
    decay = np.exp(-BVALS * 1e-3 * (0.4 + table.directions[:, 0] ** 2))
    noise = np.random.default_rng(seed).normal(0, 5, (6, 7, 5, len(BVALS)))
    return Dwi.from_arrays((500 * decay + noise).astype(np.float32), AFFINE, table)


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    for i in range(2):
        scan(i).save(tmp_path, basename=f"sub-1_run-{i + 1}_dwi")
    return [tmp_path / f"sub-1_run-{i + 1}_dwi.nii.gz" for i in range(2)]


@pytest.mark.parametrize(
    ("method", "step"),
    [
        (Dwi.denoise, run_denoising),
        (Dwi.extract_brain, extract_brain),
        (Dwi.estimate_dti, Dti.estimate_dti),
        (Dwi.estimate_dki, Dki.estimate_dki),
        (Dwi.estimate_free_water, FreeWater.estimate_free_water),
        (Dwi.estimate_noddi, Noddi.estimate_noddi),
    ],
)
def test_methods_have_the_arguments_and_defaults_of_their_steps(method: object, step: object) -> None:
    ours = list(inspect.signature(method).parameters.values())[1:]
    theirs = list(inspect.signature(inspect.unwrap(step)).parameters.values())[1:]
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


@pytest.mark.parametrize("exclude", ["3,16-last", [3, 16, 17]])
def test_excluded_volumes_are_gone_from_everything_and_told(exclude: str | list[int], parts: list[Path]) -> None:
    left = Dwi.from_files(parts[0], exclude=exclude)
    kept = np.setdiff1d(np.arange(18), [3, 16, 17])
    np.testing.assert_array_equal(left.gradients.bvals, BVALS[kept])
    np.testing.assert_allclose(left.gradients.directions, vectors()[kept], atol=1e-6)
    np.testing.assert_array_equal(left.load().volume.get_array(), scan().volume.get_array()[..., kept])
    assert left.origin["VolumesExcluded"] == [3, 16, 17]
    assert left.denoise(method="mppca").origin == left.origin, "a step keeps what is known of the scan"


def test_a_trace_image_is_left_out_before_it_is_judged(parts: list[Path]) -> None:
    bvecs = vectors()
    bvecs[-1] = 0
    FslBvecResource.save(bvecs, parts[0].with_name("sub-1_run-1_dwi.bvec"))
    with pytest.raises(InputError, match=r"trace or ADC image.*--exclude 17"):
        _ = Dwi.from_files(parts[0]).gradients
    assert len(Dwi.from_files(parts[0], exclude="last").gradients) == 17
    assert len(Dwi.from_files(parts, exclude=[17]).gradients) == 35


def test_shells_are_kept_by_their_nearest_b(parts: list[Path]) -> None:
    kept = Dwi.from_files(parts[0], shells="0,1010")
    np.testing.assert_array_equal(kept.gradients.bvals, BVALS[:10])
    assert kept.origin["ShellsKept"] == [0, 1000]
    assert kept.volume.shape == (6, 7, 5, 10)
    assert scan().select(b_max=1500).gradients == kept.gradients.subset(np.arange(10))


def test_parts_are_joined_in_the_order_given(parts: list[Path]) -> None:
    joined = Dwi.from_files(parts, exclude="0,20")
    whole = np.concatenate([scan(0).volume.get_array(), scan(1).volume.get_array()], axis=3)
    kept = np.setdiff1d(np.arange(36), [0, 20])
    np.testing.assert_array_equal(joined.load().volume.get_array(), whole[..., kept])
    np.testing.assert_allclose(joined.gradients.directions, np.vstack([vectors(0), vectors(1)])[kept], atol=1e-6)
    assert joined.origin == {"Parts": [17, 17], "VolumesGiven": 36, "VolumesExcluded": [0, 20]}


@pytest.mark.parametrize("codes", ["RPI", "ASL", "PIR"])
def test_a_part_stored_in_another_order_of_axes_is_joined_in_that_of_the_first(
    parts: list[Path], tmp_path: Path, codes: str
) -> None:
    straight = Dwi.from_files(parts)
    second = Dwi.from_files(parts[1])
    affine, array = second.volume.get_affine(), second.volume.get_array()
    turn = Orientation.towards(codes, array.shape[:3], affine)
    turned = Dwi.from_arrays(turn.turn(array), turn.affine, second.gradients)
    turned.save(tmp_path, basename="turned")
    joined = Dwi.from_files([parts[0], tmp_path / "turned.nii.gz"])
    np.testing.assert_array_equal(joined.volume.get_array(), straight.volume.get_array())
    n = len(straight.gradients) - 1
    np.testing.assert_array_equal(joined.volume.get_volume(n), straight.volume.get_array()[..., n])
    np.testing.assert_allclose(joined.gradients.directions, straight.gradients.directions, atol=1e-6)
    moved = turn.affine.copy()
    moved[:3, 3] += 5
    Dwi.from_arrays(turn.turn(array), moved, second.gradients).save(tmp_path, basename="moved")
    with pytest.raises(InputError, match=r"moved.nii.gz (lies elsewhere|has the grid)"):
        Dwi.from_files([parts[0], tmp_path / "moved.nii.gz"])


def test_a_unit_that_was_named_is_converted(parts: list[Path]) -> None:
    FslBvalResource.save(BVALS * 1e6, parts[0].with_name("sub-1_run-1_dwi.bval"))
    with pytest.raises(InputError, match=r"unit is s/m².*--b-unit s/m2"):
        _ = Dwi.from_files(parts[0]).gradients
    np.testing.assert_allclose(Dwi.from_files(parts[0], b_unit="s/m2").gradients.bvals, BVALS)


def test_lengths_that_carry_b_are_written_as_unit_vectors_and_true_b(parts: list[Path], tmp_path: Path) -> None:
    FslBvalResource.save(np.where(BVALS > 0, 2000.0, 0), parts[0].with_name("sub-1_run-1_dwi.bval"))
    stretched = FslBvecResource(parts[0].with_name("sub-1_run-1_dwi.bvec")).get() * np.sqrt(BVALS / 2000)[:, None]
    FslBvecResource.save(stretched, parts[0].with_name("sub-1_run-1_dwi.bvec"))
    with pytest.warns(InputWarning, match="the lengths carry b"):
        loaded = Dwi.from_files(parts[0]).load()
    np.testing.assert_array_equal(loaded.bval.get(), BVALS)
    assert loaded.denoise(method="mppca").gradients == loaded.gradients  # no second warning
    again = loaded.save(tmp_path, basename="again")
    np.testing.assert_allclose(again.gradients.directions, vectors(), atol=1e-5)


def test_arrays_that_do_not_fit_the_table_are_refused() -> None:
    table = GradientTable(BVALS, vectors())
    with pytest.raises(InputError, match=r"shape \(2, 3, 4\).*4-D.*last axis"):
        Dwi.from_arrays(np.zeros((2, 3, 4)), AFFINE, table)
    with pytest.raises(
        InputError, match=r"found tuple in place of a gradient table.*GradientTable\(bvals, directions\)"
    ):
        Dwi.from_arrays(np.zeros((2, 3, 4, 5)), AFFINE, (table.bvals, table.directions))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"18 b-values.*5 volumes"):
        Dwi.from_arrays(np.zeros((2, 3, 4, 5)), AFFINE, table)
    with pytest.raises(InputError, match=r"complex64; expected real numbers.*numpy\.abs"):
        Dwi.from_arrays(np.zeros((2, 3, 4, 18), np.complex64), AFFINE, table)
    with pytest.raises(InputError, match=r"type object; expected real numbers.*floats"):
        Dwi.from_arrays(np.zeros((2, 3, 4, 18), object), AFFINE, table)
    masked = np.ma.masked_less(np.arange(2 * 3 * 4 * 18.0).reshape(2, 3, 4, 18), 5)
    with pytest.raises(InputError, match=r"5 values are masked.*filled"):
        Dwi.from_arrays(masked, AFFINE, table)
    assert type(Dwi.from_arrays(np.ma.masked_less(masked.data, -1), AFFINE, table).volume.get_array()) is np.ndarray


def test_a_mask_may_be_a_path_a_nibabel_image_or_an_array(tmp_path: Path) -> None:
    dwi = scan()
    inside = np.zeros((6, 7, 5), np.uint8)
    inside[2:5, 1:6, 1:4] = 1
    image = nib.Nifti1Image(inside, AFFINE)
    nib.save(image, tmp_path / "mask.nii.gz")
    expected = dwi.estimate_dti(dwi.volume.with_array(inside)).volume.get_array()
    for mask in (inside, inside > 0, image, tmp_path / "mask.nii.gz", str(tmp_path / "mask.nii.gz")):
        np.testing.assert_array_equal(dwi.estimate_dti(mask).volume.get_array(), expected)
        np.testing.assert_array_equal(Dti.estimate_dti(dwi, mask).volume.get_array(), expected)
    with pytest.raises(InputError, match=r"found int in place of an image; expected a volume, a path"):
        dwi.estimate_dti(3)
    with pytest.raises(InputError, match=r"array of shape \(7,\)"):
        dwi.estimate_dti(np.ones(7))


def test_a_scan_is_made_of_paths_images_and_numbers_too(parts: list[Path]) -> None:
    expected = Dwi.from_files(parts[0]).load()
    names = [str(parts[0]), parts[0].with_name("sub-1_run-1_dwi.bval"), str(parts[0].with_name("sub-1_run-1_dwi.bvec"))]
    image = nib.load(parts[0])
    for volume, bval, bvec in (
        names,
        (image, np.loadtxt(names[1]), np.loadtxt(names[2])),
        (image, np.loadtxt(names[1]).tolist(), np.loadtxt(names[2]).T.tolist()),
    ):
        found = Dwi(volume, bval, bvec).load()
        np.testing.assert_array_equal(found.volume.get_array(), expected.volume.get_array())
        np.testing.assert_allclose(found.gradients.directions, expected.gradients.directions, atol=1e-6)
    with pytest.raises(InputError, match=r"found int in place of an image; expected a volume, a path"):
        Dwi(5, names[1], names[2])  # type: ignore[arg-type]


def test_volumes_go_to_nibabel_and_come_back() -> None:
    from arcuate.volumes.resource import from_nibabel

    volume = scan().compute_mean_b0()
    image = volume.to_nibabel()
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(volume))
    np.testing.assert_allclose(image.affine, AFFINE)
    back = from_nibabel(image)
    np.testing.assert_array_equal(back.get_array(), volume.get_array())
    np.testing.assert_allclose(back.get_affine(), AFFINE)
    assert np.asarray(volume, dtype=np.float64).dtype == np.float64
    assert volume.with_array(np.asarray(volume) > 3).to_nibabel().get_data_dtype() == np.uint8


def test_a_single_slice_stored_in_three_dimensions_is_told_from_a_single_volume(tmp_path: Path) -> None:
    made = scan()
    made.save(tmp_path, "x")
    for array, remedy in ((made.volume.get_array()[:, :, 2], r"\(x, y, 1, volumes\)"), (np.ones((6, 7, 5)), "mrcat")):
        nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "x.nii.gz")
        with pytest.raises(InputError, match=remedy):
            _ = Dwi.from_files(tmp_path / "x.nii.gz").gradients
