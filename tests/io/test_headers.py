"""Headers as scanners, converters and old tools write them: read as other programs do, or refused in a sentence."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from arcuate.errors import InputError, InputWarning
from arcuate.io import NiftiVolumeResource
from arcuate.volumes.resource import InMemoryVolumeResource

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 1.97, -0.33, -80], [0, 0.33, 1.97, -50], [0, 0, 0, 1]])
VALUES = np.random.default_rng(0).normal(100, 30, (5, 4, 3, 6)).astype(np.float32)
Change = Callable[[nib.Nifti1Header], None]


def write(path: Path, change: Change, *, kind: type = nib.Nifti1Image, order: str = "<") -> Path:
    """An image of VALUES placed by a qform alone, its header changed byte for byte and never checked."""
    header = kind.header_class(endianness=order)
    header.set_data_shape(VALUES.shape)
    header.set_data_dtype(f"{order}f4")
    header["vox_offset"] = 544 if kind is nib.Nifti2Image else 352
    header.set_qform(AFFINE, 1)
    change(header)
    path.write_bytes(header.binaryblock + b"\0\0\0\0" + VALUES.astype(f"{order}f4").tobytes(order="F"))
    return path


def put(**fields: object) -> Change:
    def change(header: nib.Nifti1Header) -> None:
        for name, value in fields.items():
            header[name] = value

    return change


def negative(header: nib.Nifti1Header) -> None:
    header["pixdim"][1:4] *= -1


def zero_qfac(header: nib.Nifti1Header) -> None:
    header["pixdim"][0] = 0


def odd_qfac(header: nib.Nifti1Header) -> None:
    header["pixdim"][0] = np.nan


def as_the_phantom(header: nib.Nifti1Header) -> None:
    header.set_qform(np.diag([2.0, 2.0, 2.5, 1.0]), 1)  # qfac 1, which 0 stands for
    zero_qfac(header)


@pytest.mark.parametrize("change", [as_the_phantom, negative, odd_qfac], ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", "<>")
def test_a_voxel_size_that_is_no_plain_number_places_the_image_where_nibabel_does(
    change: Change, kind: type, order: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "x.nii", change, kind=kind, order=order)
    ours, theirs = NiftiVolumeResource(path), nib.load(path)
    np.testing.assert_array_equal(ours.get_affine(), theirs.affine)
    np.testing.assert_array_equal(ours.get_array(), VALUES)


@pytest.mark.parametrize("change", [as_the_phantom, negative], ids=lambda f: f.__name__)
def test_mrtrix_places_it_there_too(change: Change, tmp_path: Path, mrtrix: Path) -> None:
    path = write(tmp_path / "x.nii", change)
    command = [mrtrix / "mrconvert", path, "-strides", "1,2,3,4", tmp_path / "y.nii", "-quiet"]
    subprocess.run(command, capture_output=True, check=True)  # MRtrix3 writes an sform
    ours = NiftiVolumeResource(path)
    corners = np.array([[0, 0, 0, 1], [4, 3, 2, 1]]) @ ours.get_affine().T
    shape = np.array(VALUES.shape[:3]) - 1
    theirs = nib.load(tmp_path / "y.nii").affine
    cube = np.array([[i, j, k, 1] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])]) @ theirs.T
    for corner in corners:
        assert np.linalg.norm(cube - corner, axis=1).min() < 1e-3


def test_what_is_saved_again_has_a_header_that_needs_no_mending(tmp_path: Path) -> None:
    path = write(tmp_path / "x.nii", lambda header: (as_the_phantom(header), negative(header)))
    NiftiVolumeResource.save(NiftiVolumeResource(path), tmp_path / "y.nii")
    header = nib.Nifti1Header((tmp_path / "y.nii").read_bytes()[:348], check=False)
    np.testing.assert_array_equal(header["pixdim"][:4], [1, 2, 2, 2.5])
    np.testing.assert_array_equal(nib.load(tmp_path / "y.nii").affine, np.diag([2.0, 2.0, 2.5, 1.0]))


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_an_sform_that_is_no_place_gives_way_to_the_qform_and_is_told(value: float, tmp_path: Path) -> None:
    def broken(header: nib.Nifti1Header) -> None:
        header.set_sform(AFFINE, 1)
        for row in ("srow_x", "srow_y", "srow_z"):
            header[row][2] = value

    with pytest.warns(InputWarning, match="sform of the header is no place in the scanner.*qform is used"):
        affine = NiftiVolumeResource(write(tmp_path / "x.nii", broken)).get_affine()
    np.testing.assert_allclose(affine, AFFINE, atol=1e-5)
    path = write(tmp_path / "y.nii", lambda header: (broken(header), header.__setitem__("qform_code", 0))[0])
    with pytest.warns(InputWarning, match="its sform is no place in the scanner.*left, anterior, superior"):
        NiftiVolumeResource(path).get_affine()


def test_a_voxel_size_of_zero_is_taken_as_one_and_said(tmp_path: Path) -> None:
    path = write(tmp_path / "x.nii", lambda header: header["pixdim"].__setitem__(3, 0))
    with pytest.warns(InputWarning, match=r"voxel sizes .*0\.0.*1 mm is taken"):
        affine = NiftiVolumeResource(path).get_affine()
    assert np.linalg.norm(affine[:3, 2]) == pytest.approx(1)


def test_a_quaternion_that_rounding_made_too_long_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.nii", put(quatern_b=0.0, quatern_c=0.6004, quatern_d=0.8004))
    rotation = NiftiVolumeResource(path).get_affine()[:3, :3] / np.linalg.norm(AFFINE[:3, :3], axis=0)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-6)


@pytest.mark.parametrize(
    ("dim", "shape"),
    [
        ([5, 5, 4, 3, 6, 1], (5, 4, 3, 6)),
        ([5, 5, 4, 3, 1, 6], (5, 4, 3, 6)),
        ([7, 5, 4, 3, 1, 1, 6, 1], (5, 4, 3, 6)),
        ([5, 5, 4, 3, 2, 3], (5, 4, 3, 2, 3)),
        ([7, 5, 4, 18, 1, 1, 1, 1], (5, 4, 18)),
        ([4, 5, 4, 18, 1], (5, 4, 18, 1)),
    ],
)
def test_axes_of_length_one_beyond_the_third_are_left_out_of_more_than_four(
    dim: list[int], shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = write(tmp_path / "x.nii", put(dim=dim + [1] * (8 - len(dim))))
    volume = NiftiVolumeResource(path)
    assert volume.shape == shape
    np.testing.assert_array_equal(volume.get_array().ravel(order="F"), VALUES.ravel(order="F"))


@pytest.mark.parametrize("rest", [b"not gzip" * 8, b"\x1f", b"\0" * 700, b"\0" * 700 + b"text"])
@pytest.mark.parametrize("level", [1, 9])
def test_bytes_after_the_gzip_stream_are_left_out(rest: bytes, level: int, tmp_path: Path) -> None:
    plain = write(tmp_path / "x.nii", lambda header: None).read_bytes()
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(plain, level) + rest)
    np.testing.assert_array_equal(NiftiVolumeResource(tmp_path / "x.nii.gz").get_array(), VALUES)
    NiftiVolumeResource.save(InMemoryVolumeResource(VALUES, AFFINE), tmp_path / "y.nii.gz")
    with (tmp_path / "y.nii.gz").open("ab") as file:
        file.write(rest)
    np.testing.assert_array_equal(NiftiVolumeResource(tmp_path / "y.nii.gz").get_array(), VALUES)


def test_a_wrong_checksum_at_the_end_of_a_foreign_file_is_still_noticed(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(write(tmp_path / "x.nii", lambda header: None).read_bytes()))
    packed[-8] ^= 1
    (tmp_path / "x.nii.gz").write_bytes(packed)
    with pytest.raises(InputError, match="damaged or was cut short"):
        NiftiVolumeResource(tmp_path / "x.nii.gz").get_array()


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
@pytest.mark.parametrize(("image", "header"), [("x.img", "x.hdr"), ("x.img.gz", "x.hdr.gz"), ("x.img.gz", "x.hdr")])
def test_a_pair_of_header_and_voxels_is_read_by_either_name(
    kind: type, image: str, header: str, tmp_path: Path
) -> None:
    nib.save(kind(VALUES, AFFINE), tmp_path / "x.img")
    for name in (image, header):
        if name.endswith(".gz"):
            (tmp_path / name).write_bytes(gzip.compress((tmp_path / name.removesuffix(".gz")).read_bytes()))
            (tmp_path / name.removesuffix(".gz")).unlink()
    for name in (image, header):
        volume = NiftiVolumeResource(tmp_path / name)
        np.testing.assert_array_equal(volume.get_array(), VALUES)
        np.testing.assert_array_equal(volume.get_volume(2), VALUES[..., 2])
        np.testing.assert_allclose(volume.get_affine(), AFFINE, atol=1e-5)


def test_a_pair_whose_voxels_start_later_is_read(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(VALUES, AFFINE), tmp_path / "x.img")
    header = nib.nifti1.Nifti1PairHeader((tmp_path / "x.hdr").read_bytes()[:348], check=False)
    header["vox_offset"] = 16
    (tmp_path / "x.hdr").write_bytes(header.binaryblock)
    (tmp_path / "x.img").write_bytes(b"\0" * 16 + (tmp_path / "x.img").read_bytes())
    np.testing.assert_array_equal(NiftiVolumeResource(tmp_path / "x.hdr").get_array(), VALUES)


def test_half_a_pair_names_the_other_half(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(VALUES, AFFINE), tmp_path / "x.img")
    (tmp_path / "x.img").rename(tmp_path / "aside")
    with pytest.raises(InputError, match=r"second file, and there is no x\.img"):
        NiftiVolumeResource(tmp_path / "x.hdr").get_array()


@pytest.mark.parametrize(
    ("dtype", "said"),
    [(np.complex64, "of the type complex64"), ([("R", "u1"), ("G", "u1"), ("B", "u1")], r"colours \(R, G, B\)")],
)
def test_voxels_that_are_no_real_numbers_are_refused(dtype: object, said: str, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), dtype), np.eye(4)), tmp_path / "x.nii")
    with pytest.raises(InputError, match=rf"its voxels are {said}; arcuate reads integers and real numbers"):
        NiftiVolumeResource(tmp_path / "x.nii").get_array()


@pytest.mark.parametrize("kind", [nib.AnalyzeImage, nib.Spm99AnalyzeImage])
@pytest.mark.parametrize("name", ["x.img", "x.hdr", "x.img.gz"])
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_an_analyze_pair_is_read_and_said_to_have_no_place(kind: type, name: str, dtype: str, tmp_path: Path) -> None:
    image = kind(VALUES, np.diag([-2.0, 2.5, 3, 1]))  # SPM's scales integers
    image.set_data_dtype(dtype if kind is nib.Spm99AnalyzeImage else "float32")
    path = tmp_path / name.replace(".hdr", ".img")
    nib.save(image, path)
    with pytest.warns(InputWarning, match="does not say how it lies in the scanner"):
        affine = NiftiVolumeResource(tmp_path / name).get_affine()
    np.testing.assert_allclose(affine[:3, :3], np.diag([-2.0, 2.5, 3]))
    found = NiftiVolumeResource(tmp_path / name).get_array()
    np.testing.assert_allclose(found, nib.load(path).get_fdata(), rtol=1e-6)


@pytest.mark.parametrize("suffix", [".mgh", ".mgz"])
@pytest.mark.parametrize("dtype", ["float32", "int16", "uint8", "int32"])
def test_freesurfers_images_are_read_as_nibabel_reads_them(suffix: str, dtype: str, tmp_path: Path) -> None:
    image = nib.MGHImage(VALUES.astype(dtype), AFFINE)
    nib.save(image, tmp_path / f"x{suffix}")
    found = NiftiVolumeResource(tmp_path / f"x{suffix}")
    np.testing.assert_allclose(found.get_affine(), image.affine, atol=1e-4)
    np.testing.assert_array_equal(found.get_array(), VALUES.astype(dtype))
    nib.save(nib.MGHImage(VALUES[..., 0], AFFINE), tmp_path / f"y{suffix}")
    assert NiftiVolumeResource(tmp_path / f"y{suffix}").shape == VALUES.shape[:3]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(gzip.compress(b"\0" * 999, mtime=0), mtime=0), r"compressed twice.*gunzip"),
        (b"\0" * 128 + b"DICM" + b"\0" * 999, "DICOM file.*dcm2niix"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"/annex/objects/MD5E-s100--0.nii.gz\n", "datalad get"),
        (b"<!DOCTYPE html><html>404</html>", "page of the web"),
        (b"mrtrix image\ndim: 1,2,3\n", r"name it \.mif"),
        (b"BZh91AY", "bunzip2"),
        (b"NRRD0005\n", "NRRD"),
        (b"\0" * 999, "does not start with a NIfTI header"),
        (b"", "has 0 bytes only"),
    ],
)
def test_a_file_that_is_no_image_is_called_what_it_is(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").write_bytes(content)
    with pytest.raises(InputError, match=said):
        NiftiVolumeResource(tmp_path / "x.nii.gz").get_array()


LARGE = [2**24 + 1, 614454277, 2**31 - 1]


@pytest.mark.parametrize("dtype", ["<i4", ">i4", "<u4", "<i8", ">u8"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_labels_beyond_what_float32_holds_survive(dtype: str, suffix: str, tmp_path: Path) -> None:
    labels = np.zeros((4, 3, 2), dtype)
    labels.flat[:3] = LARGE
    image = nib.Nifti1Image(labels, np.eye(4), dtype=labels.dtype)
    if dtype.startswith(">"):
        image = nib.Nifti1Image(labels, np.eye(4), header=image.header.as_byteswapped(">"))
    nib.save(image, tmp_path / f"x{suffix}")
    found = NiftiVolumeResource(tmp_path / f"x{suffix}").get_array()
    np.testing.assert_array_equal(found, labels)
    assert found.dtype.kind in "iu"
    assert found.dtype.isnative
    saved = NiftiVolumeResource.save(NiftiVolumeResource(tmp_path / f"x{suffix}"), tmp_path / "y.nii.gz")
    np.testing.assert_array_equal(saved.get_array(), labels)
