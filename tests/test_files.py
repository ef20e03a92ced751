"""Scans and images by their paths, and as temporary files for other tools."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import arcuate
from arcuate.dwi import Dwi
from arcuate.errors import InputError
from arcuate.external import temporary_dwi_files, temporary_structural_file, temporary_volume_file
from arcuate.files import read_dwi_fsl, read_structural, read_volume, write_dwi_fsl, write_structural, write_volume
from arcuate.phantom import three_shell_gradients
from arcuate.structural import StructuralImage
from arcuate.volumes.resource import InMemoryVolumeResource

AFFINE = np.array([[0, -2.0, 0, 3], [2, 0, 0, -5], [0, 0, 2.5, 1], [0, 0, 0, 1]])


@pytest.fixture
def scan() -> Dwi:
    gradients = three_shell_gradients(n_b0=1, bvals=(1000,), n_directions=6)
    array = np.random.default_rng(0).random((4, 5, 3, 7), dtype=np.float32)
    return Dwi.from_arrays(array, AFFINE, gradients)


@pytest.fixture
def volume() -> InMemoryVolumeResource:
    return InMemoryVolumeResource(np.random.default_rng(1).random((4, 5, 3), dtype=np.float32), AFFINE)


def _same(one: Dwi, other: Dwi) -> None:
    np.testing.assert_array_equal(one.volume.get_array(), other.volume.get_array())
    np.testing.assert_allclose(one.volume.get_affine(), other.volume.get_affine())
    np.testing.assert_allclose(one.gradients.bvals, other.gradients.bvals)
    np.testing.assert_allclose(one.gradients.directions, other.gradients.directions, atol=1e-6)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_gradient_files_are_called_as_the_image(scan: Dwi, tmp_path: Path, suffix: str) -> None:
    image = tmp_path / "new" / f"sub-01_acq-a.b_dwi{suffix}"
    written = write_dwi_fsl(scan, image)
    assert sorted(path.suffix for path in image.parent.iterdir()) == sorted([".bval", ".bvec", image.suffix])
    assert not written.volume.is_loaded
    assert not written.bval.is_loaded
    _same(read_dwi_fsl(image), scan)
    _same(written, scan)


def test_gradient_files_may_lie_elsewhere(scan: Dwi, tmp_path: Path) -> None:
    image, bval, bvec = tmp_path / "dwi.nii.gz", tmp_path / "g" / "a.bvals", tmp_path / "h" / "a.bvecs"
    write_dwi_fsl(scan, image, bval=bval, bvec=bvec)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dwi.nii.gz", "g", "h"]
    _same(read_dwi_fsl(str(image), bval=str(bval), bvec=str(bvec)), scan)


def test_an_image_that_is_no_nifti_by_name_is_refused(scan: Dwi, tmp_path: Path) -> None:
    for call in (lambda: read_dwi_fsl(tmp_path / "dwi.img"), lambda: write_dwi_fsl(scan, tmp_path / "dwi.mif")):
        with pytest.raises(InputError, match=r"found the image .*expected a \.nii or \.nii\.gz file"):
            call()
    assert not list(tmp_path.iterdir())


def test_volumes_and_structural_images_come_back(volume: InMemoryVolumeResource, tmp_path: Path) -> None:
    write_volume(volume, tmp_path / "a" / "fa.nii.gz")
    write_structural(StructuralImage(volume), tmp_path / "b" / "t1.nii.gz")
    for found in (read_volume(tmp_path / "a" / "fa.nii.gz"), read_structural(tmp_path / "b" / "t1.nii.gz").volume):
        np.testing.assert_array_equal(found.get_array(), volume.array)
        np.testing.assert_allclose(found.get_affine(), AFFINE)
    assert arcuate.read_dwi_fsl is read_dwi_fsl
    assert arcuate.write_structural is write_structural


def test_a_tool_that_knows_files_works_on_a_copy(volume: InMemoryVolumeResource, tmp_path: Path) -> None:
    source = write_volume(volume, tmp_path / "fa.nii.gz")
    with temporary_volume_file(source, filename="in/fa.nii.gz") as path:
        image = nib.load(path)
        nib.save(nib.Nifti1Image(1 - np.asarray(image.dataobj), image.affine), path)  # the tool spoils its input
        found = read_volume(path).load()
    assert not path.parent.parent.exists()
    np.testing.assert_allclose(found.array, 1 - volume.array, atol=1e-6)
    np.testing.assert_array_equal(source.get_array(), volume.array)


def test_a_scan_and_a_structural_image_are_files_within_the_block(scan: Dwi, volume: InMemoryVolumeResource) -> None:
    with temporary_dwi_files(scan, basename="sub-01") as files:
        assert [p.name for p in (files.volume, files.bval, files.bvec)] == [
            "sub-01.nii.gz", "sub-01.bval", "sub-01.bvec",
        ]  # fmt: skip
        _same(read_dwi_fsl(files.volume).load(), scan)
    assert not files.volume.parent.exists()
    with temporary_structural_file(StructuralImage(volume)) as path:
        np.testing.assert_array_equal(read_structural(path).volume.get_array(), volume.array)
    assert not path.exists()


@pytest.mark.parametrize("name", ["/tmp/x.nii.gz", "../x.nii.gz"])
def test_temporary_files_stay_in_their_folder(volume: InMemoryVolumeResource, name: str) -> None:
    with (
        pytest.raises(InputError, match="must be relative and stay within"),
        temporary_volume_file(volume, filename=name),
    ):
        pass
