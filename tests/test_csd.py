"""Responses, FODs and peaks of scans: files that MRtrix3 reads, its peaks, frames, and clear refusals."""

from __future__ import annotations

import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
from sh_derivatives import sh_derivatives

from arcuate.csd import (
    combine_csd_peaks_to_vector_volume,
    compute_csd_fods,
    compute_csd_peaks,
    estimate_fods,
    estimate_response_function,
    find_fod_peaks,
    split_vector_volume,
)
from arcuate.dwi import Dwi
from arcuate.errors import InputError, InputWarning
from arcuate.gradients import GradientTable
from arcuate.io import NiftiVolumeResource
from arcuate.io.responses import read_directions, read_response, write_response
from arcuate.models.response import Response, tensor_response
from arcuate.phantom import make_phantom, three_shell_gradients
from arcuate.volumes.resource import InMemoryVolumeResource

EVALS = np.array([1.7e-3, 0.3e-3, 0.3e-3])


@pytest.fixture(scope="module")
def head():
    """Phantom of 3 mm at b = 0, 1000, 3000, SNR 30."""
    gradients = three_shell_gradients(n_b0=4, bvals=(1000, 3000), n_directions=(20, 60))
    return make_phantom(gradients, shape=(48, 48, 12), voxel_size=4.0, snr=30, oblique_degrees=12)


@pytest.fixture(scope="module")
def scan(head) -> Dwi:
    return Dwi.from_arrays(head.signal, head.affine, head.gradients)


@pytest.fixture(scope="module")
def white(head) -> InMemoryVolumeResource:
    """White matter of the phantom."""
    return InMemoryVolumeResource((head.tissue[..., 0] > 0.7).astype(np.uint8), head.affine)


@pytest.fixture(scope="module")
def response(scan, white) -> Response:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        return estimate_response_function(scan, white, "ssst", fa_threshold=0.5, roi_radius=100)


def _angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip(np.abs(np.sum(a * b, axis=-1)), 0, 1)))


def test_the_response_says_what_it_was_made_from(response) -> None:
    assert response.is_single_shell
    assert response.shells == (3000.0,)
    assert response.degree == 8
    assert response.algorithm == "ssst"
    assert response.n_voxels > 0
    assert response.s0 == pytest.approx(1000, rel=0.2)


def test_the_recursive_response_of_fibres_is_that_of_their_tensor() -> None:
    rng = np.random.default_rng(0)
    gradients = three_shell_gradients(n_b0=3, bvals=(2500,), n_directions=64)
    fibres = rng.normal(size=(400, 3))
    fibres /= np.linalg.norm(fibres, axis=1, keepdims=True)
    along = (fibres @ gradients.directions.T) ** 2
    rows = 700 * np.exp(-gradients.bvals * (EVALS[1] + (EVALS[0] - EVALS[1]) * along))
    small = Dwi.from_arrays(rows.reshape(20, 20, 1, -1), np.eye(4), gradients)
    found = estimate_response_function(small, None, "recursive")
    expected = tensor_response(EVALS, 700, 2500)
    assert found.s0 == pytest.approx(700)
    np.testing.assert_allclose(found.get_zonal()[:3], expected.get_zonal()[:3], rtol=0.03)


def test_a_fod_file_gives_mrtrix_the_peaks_that_we_find(scan, white, response, mrtrix, tmp_path: Path) -> None:
    fods = compute_csd_fods(scan, white, response)
    NiftiVolumeResource.save(fods, tmp_path / "fod.nii.gz")
    NiftiVolumeResource.save(white, tmp_path / "mask.nii.gz")
    seeds = np.linspace(0, 1, 1500, endpoint=False)
    table = np.column_stack([np.pi * (1 + 5**0.5) * 1500 * seeds, np.arccos(1 - 2 * (seeds + 1 / 3000))])
    np.savetxt(tmp_path / "seeds.txt", table)
    command = ["sh2peaks", "fod.nii.gz", "peaks.nii", "-num", "10", "-seeds", "seeds.txt", "-mask", "mask.nii.gz"]
    subprocess.run([mrtrix / command[0], *command[1:], "-quiet", "-force"], check=True, cwd=tmp_path)
    theirs, _ = split_vector_volume(NiftiVolumeResource(tmp_path / "peaks.nii"))
    ours, values = find_fod_peaks(fods, white, n_peaks=3)
    inside = white.get_array() > 0
    mine, other = ours.get_array()[inside].astype(float), theirs.get_array()[inside].astype(float)
    other /= np.maximum(np.linalg.norm(other, axis=-1, keepdims=True), 1e-12)
    nearest = _angles(mine[:, :, None], other[:, None]).min(axis=2)
    present = values.get_array()[inside] > 0
    far = present & (nearest > 0.1)
    assert far.sum() <= 0.005 * present.sum()
    coefs = fods.get_array()[inside].astype(float)
    for voxel, peak in np.argwhere(far):  # what sh2peaks missed is a maximum all the same
        direction = mine[voxel, peak] / np.linalg.norm(mine[voxel, peak])
        _, slope, curvature = sh_derivatives(coefs[voxel], direction[None])
        assert np.linalg.norm(slope) < 1e-3 * np.abs(curvature).max()
        assert curvature.max() < 0


def test_first_peaks_are_as_near_the_truth_as_those_of_mrtrix(head, scan, white, response, mrtrix, tmp_path) -> None:
    scan.save(tmp_path, basename="dwi")
    NiftiVolumeResource.save(white, tmp_path / "mask.nii.gz")
    write_response(response, tmp_path)
    run = {"check": True, "cwd": tmp_path}
    fsl = ["-fslgrad", "dwi.bvec", "dwi.bval", "-quiet", "-force"]
    csd = ["csd", "dwi.nii.gz", "wm.txt", "fod.nii.gz", "-mask", "mask.nii.gz", "-shells", "3000", "-lmax", "8"]
    subprocess.run([mrtrix / "dwi2fod", *csd, *fsl], **run)
    find = ["fod.nii.gz", "peaks.nii", "-num", "3", "-mask", "mask.nii.gz", "-quiet", "-force"]
    subprocess.run([mrtrix / "sh2peaks", *find], **run)
    theirs, heights = split_vector_volume(NiftiVolumeResource(tmp_path / "peaks.nii"))
    highest = np.argmax(heights.get_array(), axis=-1)[..., None, None]
    first = np.take_along_axis(theirs.get_array(), highest, axis=3)[..., 0, :]
    ours, _ = compute_csd_peaks(scan, white, response)
    single = (head.n_fibres == 1) & (white.get_array() > 0)
    truth = head.directions[single][:, 0]
    mine = np.median(_angles(ours.get_array()[single][:, 0], truth))
    other = np.median(_angles(first[single], truth))
    assert single.sum() > 100
    assert mine <= other + 0.05


def test_single_fibres_are_found_within_a_degree_without_noise(head) -> None:
    clean = make_phantom(head.gradients, shape=(48, 48, 12), voxel_size=4.0, snr=None, oblique_degrees=12)
    scan = Dwi.from_arrays(clean.signal, clean.affine, clean.gradients)
    single = (clean.n_fibres == 1) & (clean.tissue[..., 0] > 0.9)
    mask = InMemoryVolumeResource(single.astype(np.uint8), clean.affine)
    ours, _ = compute_csd_peaks(scan, mask, tensor_response(EVALS, 1000, 3000, n_voxels=1000))
    angles = _angles(ours.get_array()[single][:, 0], clean.directions[single][:, 0])
    assert np.percentile(angles, 95) < 1.0


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (1, -1, 1)])
def test_other_storage_orders_of_the_scan_give_the_same_fods_and_peaks(scan, white, response, order, flips) -> None:
    inside = white.get_array() > 0
    box = tuple(slice(a, a + 12) if n > 12 else slice(None) for a, n in zip((18, 18, 0), inside.shape, strict=True))
    array, mask = scan.volume.get_array()[box], inside[box]
    affine = scan.volume.get_affine()
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
        turn[old, new] = flip
        turn[old, 3] = 0 if flip > 0 else array.shape[old] - 1

    def stored(values: np.ndarray) -> np.ndarray:
        values = np.transpose(values, (*order, *range(3, values.ndim)))
        return values[tuple(slice(None, None, f) for f in flips)]

    def run(values: np.ndarray, inside: np.ndarray, place: np.ndarray):
        one = Dwi.from_arrays(values, place, scan.gradients)
        region = InMemoryVolumeResource(inside.astype(np.uint8), place)
        fods = compute_csd_fods(one, region, response).get_array()
        return fods, compute_csd_peaks(one, region, response)[1].get_array()

    fods, values = run(array, mask, affine)
    again, values_again = run(stored(array), stored(mask), affine @ turn)
    np.testing.assert_allclose(again, stored(fods), atol=1e-6 * np.abs(fods).max())
    np.testing.assert_allclose(values_again, stored(values), atol=1e-6 * values.max())


def test_peaks_go_through_one_image_and_absent_ones_are_zero_or_nan(scan, white, response) -> None:
    directions, values = compute_csd_peaks(scan, white, response, n_peaks=4)
    assert directions.shape == (*white.shape, 4, 3)
    assert values.shape == (*white.shape, 4)
    vectors = combine_csd_peaks_to_vector_volume(directions, values)
    assert vectors.shape == (*white.shape, 12)
    assert vectors.get_array().dtype == np.float32
    array = vectors.get_array().copy()
    array[np.repeat(values.get_array() == 0, 3, axis=-1)] = np.nan
    for image in (vectors, InMemoryVolumeResource(array, white.get_affine())):
        arrows, heights = split_vector_volume(image)
        np.testing.assert_allclose(heights.get_array(), values.get_array(), rtol=1e-5)
        np.testing.assert_allclose(arrows.get_array(), directions.get_array(), atol=1e-6)
    with pytest.raises(InputError, match=r"\(x, y, z, n, 3\)"):
        combine_csd_peaks_to_vector_volume(values, values)
    with pytest.raises(InputError, match="3 n"):
        split_vector_volume(InMemoryVolumeResource(np.zeros((2, 2, 2, 4))))


def test_response_files_come_back_and_decide_the_degree(scan, white, response, tmp_path: Path) -> None:
    write_response(response, tmp_path)
    for name in ("wm.txt", "wm.json"):
        read = read_response([tmp_path / name])
        np.testing.assert_array_equal(read.get_zonal(), response.get_zonal())
        assert read.shells == response.shells
    fods = estimate_fods(scan, white, read)
    assert fods.volumes["wm"].shape == (*white.shape, 45)
    assert fods.parameters["ShellUsed"] == 3000
    assert fods.parameters["Lmax"] == 8
    assert sum(fods.parameters["VoxelsByStatus"].values()) == int(white.get_array().sum())
    with pytest.warns(InputWarning, match="super-resolved"):
        high = estimate_response_function(scan, white, "ssst", fa_threshold=0.5, roi_radius=100, lmax=10)
    with pytest.warns(InputWarning, match="super-resolved"):
        assert compute_csd_fods(scan, white, high).shape == (*white.shape, 66)


def test_a_response_without_its_shell_is_taken_for_the_highest_with_a_warning(scan, white, tmp_path: Path) -> None:
    (tmp_path / "wm.txt").write_text("900 -450 150 -30 5\n")
    bare = read_response([tmp_path / "wm.txt"])
    with pytest.warns(InputWarning, match=r"does not say which shell.*b=3000"):
        fods = estimate_fods(scan, white, bare)
    assert fods.parameters["ShellUsed"] == 3000


def test_own_constraint_directions_are_used(scan, white, response, tmp_path: Path) -> None:
    np.savetxt(tmp_path / "dirs.txt", np.random.default_rng(0).uniform(0, 3, size=(90, 2)))
    directions = read_directions(tmp_path / "dirs.txt")
    assert estimate_fods(scan, white, response, constraint_directions=directions).parameters[
        "ConstraintDirections"
    ] == len(directions)
    (tmp_path / "bad.txt").write_text("1 0 0\n0 0 0\n")
    with pytest.raises(InputError, match="none of them zero"):
        read_directions(tmp_path / "bad.txt")


def test_refusals_name_what_was_found(scan, white, response, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="algorithm 'magic'; expected one of auto"):
        estimate_response_function(scan, white, "magic")
    with pytest.raises(InputError, match=r"no voxel with FA above 0\.99"):
        estimate_response_function(scan, white, "ssst", fa_threshold=0.99)
    other = tensor_response(EVALS, 1000, 2000)
    with pytest.raises(InputError, match=r"made on the shell b=2000 .* shells at 1000, 3000"):
        compute_csd_fods(scan, white, other)
    with pytest.raises(InputError, match=r"made on the shell b=3000 .* see b=1000"):
        compute_csd_fods(scan, white, response, shell=1000)
    with pytest.raises(InputError, match="not prolate"):
        compute_csd_fods(scan, white, tensor_response(EVALS[::-1], 1000, 3000))
    with pytest.raises(InputError, match=r"nothing.txt does not exist; expected a text file of a response"):
        read_response([tmp_path / "nothing.txt"])
    few = Dwi.from_arrays(
        scan.volume.get_array()[..., :14], scan.volume.get_affine(), GradientTable(
            scan.gradients.bvals[:14], scan.gradients.directions[:14]
        )
    )  # fmt: skip
    with pytest.raises(InputError, match="15 distinct directions"):
        estimate_response_function(few, white, "ssst")
    with pytest.raises(InputError, match="no image of FODs"):
        find_fod_peaks(scan.volume, None)
