"""NIfTI volumes: what is read, what is written, and what survives."""

from __future__ import annotations

import gzip
import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from arcuate.errors import InputError, InputWarning
from arcuate.io import NiftiVolumeResource
from arcuate.volumes.resource import InMemoryVolumeResource

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 1.97, -0.33, -80], [0, 0.33, 1.97, -50], [0, 0, 0, 1]])
GEOMETRY = ["sform_code", "qform_code", "xyzt_units", "pixdim", "srow_x", "srow_y", "srow_z", "dim_info", "descrip",
            "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "toffset"]  # fmt: skip
REAL = [
    "canon_dti/3000_DTI_PA-ortho_cl.nii.gz",
    "canon_dti/11000_SAG_DTI_PA-ALL_20d_cl.nii.gz",
    "mdt_b1k_b2k/sub-mdt_dwi.nii.gz",
    "tractseg_reference/peaks.nii.gz",
    "tractseg_reference/FA.nii.gz",
]
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)


@pytest.fixture
def array() -> np.ndarray:
    values = np.random.default_rng(0).normal(100, 30, (5, 6, 7, 8)).astype(np.float32)
    values[:2] = 0
    return values


def in_memory(array: np.ndarray, affine: np.ndarray = AFFINE) -> InMemoryVolumeResource:
    return InMemoryVolumeResource(array, affine)


# --- reading


@pytest.mark.parametrize("name", REAL)
def test_a_real_image_is_read_as_nibabel_reads_it(name: str, data_dir: Path) -> None:
    ours, theirs = NiftiVolumeResource(data_dir / name), nib.load(data_dir / name)
    found = ours.get_array()
    assert found.dtype == np.float32
    assert found.flags.f_contiguous
    np.testing.assert_array_equal(found, np.asanyarray(theirs.dataobj).astype(np.float32))
    np.testing.assert_array_equal(ours.get_affine(), theirs.affine)
    assert ours.shape == theirs.shape


@pytest.mark.parametrize("name", REAL)
def test_the_geometry_of_a_real_image_survives_saving(name: str, data_dir: Path, tmp_path: Path) -> None:
    saved = NiftiVolumeResource.save(NiftiVolumeResource(data_dir / name), tmp_path / "x.nii.gz")
    before, after = nib.load(data_dir / name), nib.load(tmp_path / "x.nii.gz")
    for field in GEOMETRY:
        np.testing.assert_array_equal(after.header[field], before.header[field], err_msg=field)
    np.testing.assert_array_equal(after.affine, before.affine)
    np.testing.assert_array_equal(np.asanyarray(after.dataobj), NiftiVolumeResource(data_dir / name).get_array())
    assert saved.get_metadata() == NiftiVolumeResource(data_dir / name).get_metadata()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "f4", "f8", ">i2", ">f4", ">f8"])
def test_every_type_of_number_is_read(suffix: str, kind: type, dtype: str, tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 100, (4, 5, 6, 3)).astype(dtype)
    image = kind(values, AFFINE, dtype=values.dtype)
    if dtype.startswith(">"):
        image = kind(values, AFFINE, header=image.header.as_byteswapped(">"))
    nib.save(image, tmp_path / f"x{suffix}")
    volume = NiftiVolumeResource(tmp_path / f"x{suffix}")
    found = volume.get_array()
    np.testing.assert_array_equal(found, values)
    assert found.dtype == (dtype if dtype in ("u1", "i1") else np.float32)
    np.testing.assert_allclose(volume.get_affine(), AFFINE, atol=1e-5)
    for i in (0, 2, -1):
        np.testing.assert_array_equal(volume.get_volume(i), values[..., i])


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_scaled_integers_come_as_float32_near_the_exact_value(dtype: str, suffix: str, tmp_path: Path) -> None:
    raw = np.random.default_rng(2).integers(0, 200, (4, 5, 6)).astype(dtype)
    image = nib.Nifti1Image(raw, AFFINE)
    image.header.set_slope_inter(0.37, -12.5)
    nib.save(image, tmp_path / f"x{suffix}")
    slope, inter = (float(nib.load(tmp_path / f"x{suffix}").dataobj.slope), -12.5)
    stored = np.asarray(nib.load(tmp_path / f"x{suffix}").dataobj.get_unscaled(), np.float64)
    found = NiftiVolumeResource(tmp_path / f"x{suffix}").get_array()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, (stored * slope + inter).astype(np.float32))


@pytest.mark.parametrize(("slope", "inter"), [(0.0, 5.0), (np.nan, np.nan), (1.0, 0.0), (np.inf, 0.0)])
def test_a_slope_that_means_none_changes_nothing(slope: float, inter: float, array: np.ndarray, tmp_path: Path) -> None:
    NiftiVolumeResource.save(in_memory(array), tmp_path / "x.nii")
    raw = bytearray((tmp_path / "x.nii").read_bytes())
    raw[112:120] = np.array([slope, inter], "<f4").tobytes()
    (tmp_path / "x.nii").write_bytes(raw)
    np.testing.assert_array_equal(NiftiVolumeResource(tmp_path / "x.nii").get_array(), array)


def test_header_extensions_are_skipped(array: np.ndarray, tmp_path: Path) -> None:
    image = nib.Nifti1Image(array, AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"scanned on a Tuesday" * 50))
    for name in ("x.nii", "x.nii.gz"):
        nib.save(image, tmp_path / name)
        np.testing.assert_array_equal(NiftiVolumeResource(tmp_path / name).get_array(), array)


def test_the_content_tells_whether_a_file_is_compressed_not_its_name(array: np.ndarray, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "x.nii")
    (tmp_path / "x.nii").rename(tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(NiftiVolumeResource(tmp_path / "x.nii.gz").get_array(), array)


def test_several_gzip_members_in_one_file_are_read(array: np.ndarray, tmp_path: Path) -> None:
    NiftiVolumeResource.save(in_memory(array), tmp_path / "x.nii")
    raw = (tmp_path / "x.nii").read_bytes()
    (tmp_path / "y.nii.gz").write_bytes(
        gzip.compress(raw[:100]) + gzip.compress(raw[100:5000]) + gzip.compress(raw[5000:])
    )
    np.testing.assert_array_equal(NiftiVolumeResource(tmp_path / "y.nii.gz").get_array(), array)


def test_nothing_is_read_before_it_is_asked_for(array: np.ndarray, tmp_path: Path) -> None:
    volume = NiftiVolumeResource(tmp_path / "later.nii.gz")
    NiftiVolumeResource.save(in_memory(array), tmp_path / "later.nii.gz")
    whole = (tmp_path / "later.nii.gz").read_bytes()
    (tmp_path / "later.nii.gz").write_bytes(whole[: len(whole) // 2])
    assert volume.shape == array.shape
    np.testing.assert_allclose(volume.get_affine(), AFFINE, atol=1e-6)
    assert volume.get_metadata()["sform_code"] == 1
    with pytest.raises(InputError, match="cut short"):
        volume.get_array()


# --- geometry


def edited(array: np.ndarray, path: Path, **fields: object) -> NiftiVolumeResource:
    image = nib.Nifti1Image(array, None)
    for name, value in fields.items():
        getattr(image, name)(*value)  # type: ignore[misc]
    nib.save(image, path)
    return NiftiVolumeResource(path)


def turned(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[-2 * c, -2 * s, 0, 10], [-2 * s, 2 * c, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]])


def test_the_sform_wins_and_a_qform_that_differs_is_reported(array: np.ndarray, tmp_path: Path) -> None:
    volume = edited(array, tmp_path / "x.nii", set_sform=(turned(30), 2), set_qform=(turned(0), 1))
    with pytest.warns(InputWarning, match=r"x\.nii: sform and qform .*differently.*the sform is used"):
        np.testing.assert_allclose(volume.get_affine(), turned(30), atol=1e-5)


def test_equal_forms_are_not_reported_however_they_were_rounded(array: np.ndarray, tmp_path: Path) -> None:
    volume = edited(array, tmp_path / "x.nii", set_sform=(turned(30), 1), set_qform=(turned(30), 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(volume.get_affine(), turned(30), atol=1e-5)


def test_the_qform_is_used_where_the_sform_code_is_zero(array: np.ndarray, tmp_path: Path) -> None:
    volume = edited(array, tmp_path / "x.nii", set_sform=(turned(50), 0), set_qform=(turned(20), 1))
    np.testing.assert_allclose(volume.get_affine(), turned(20), atol=1e-5)


def test_an_image_without_geometry_is_doubted_and_read_as_nibabel_does(array: np.ndarray, tmp_path: Path) -> None:
    volume = edited(array, tmp_path / "x.nii", set_sform=(None, 0), set_qform=(None, 0))
    with pytest.warns(InputWarning, match="does not say how it lies"):
        np.testing.assert_array_equal(volume.get_affine(), nib.load(tmp_path / "x.nii").affine)


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (4, 0), (0, 1), (0, 3)])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.filterwarnings("ignore:.*place the image differently:arcuate.errors.InputWarning")
def test_both_forms_and_codes_survive_even_where_they_differ(
    codes: tuple[int, int], kind: type, array: np.ndarray, tmp_path: Path
) -> None:
    image = kind(array, None)
    image.set_sform(turned(33), codes[0])
    image.set_qform(turned(12), codes[1])
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 3.2
    image.header["descrip"] = b"TE=89;Time=101112.5"
    nib.save(image, tmp_path / "x.nii.gz")
    source = NiftiVolumeResource(tmp_path / "x.nii.gz")
    NiftiVolumeResource.save(source.load(), tmp_path / "y.nii.gz")
    before, after = nib.load(tmp_path / "x.nii.gz"), nib.load(tmp_path / "y.nii.gz")
    for field in GEOMETRY:
        np.testing.assert_array_equal(after.header[field], before.header[field], err_msg=field)
    assert type(after) is type(before)
    np.testing.assert_array_equal(after.affine, before.affine)


def test_a_map_derived_from_a_scan_keeps_its_codes_and_units(data_dir: Path, tmp_path: Path) -> None:
    scan = NiftiVolumeResource(data_dir / REAL[1])
    fa = InMemoryVolumeResource(np.ones(scan.shape[:3]), scan.get_affine(), scan.get_metadata())
    NiftiVolumeResource.save(fa, tmp_path / "fa.nii.gz")
    before, after = nib.load(data_dir / REAL[1]).header, nib.load(tmp_path / "fa.nii.gz").header
    for field in GEOMETRY:
        np.testing.assert_array_equal(after[field], before[field], err_msg=field)
    assert after.get_data_dtype() == np.float32


def test_metadata_that_no_longer_fits_the_affine_gives_way_to_it(data_dir: Path, tmp_path: Path) -> None:
    scan = NiftiVolumeResource(data_dir / REAL[1])
    moved = scan.get_affine() @ np.diag([2.0, 2, 2, 1])
    half = InMemoryVolumeResource(np.ones((40, 40, 20), np.float32), moved, scan.get_metadata())
    saved = NiftiVolumeResource.save(half, tmp_path / "half.nii.gz")
    header = nib.load(tmp_path / "half.nii.gz").header
    np.testing.assert_allclose(header.get_sform(), moved, atol=1e-4)
    np.testing.assert_allclose(header.get_qform(), moved, atol=1e-4)
    np.testing.assert_allclose(header.get_zooms(), (6, 6, 6), rtol=1e-4)
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    np.testing.assert_allclose(saved.get_affine(), moved, atol=1e-4)


def test_a_sheared_affine_is_kept_in_the_sform_alone(array: np.ndarray, tmp_path: Path) -> None:
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.7
    saved = NiftiVolumeResource.save(in_memory(array, sheared), tmp_path / "x.nii")
    header = nib.load(tmp_path / "x.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)
    np.testing.assert_allclose(saved.get_affine(), sheared, atol=1e-6)


@same_folder
@given(seed=st.integers(0, 2**32 - 1), flip=st.sampled_from([-1, 1]))
def test_any_scanner_affine_comes_back(seed: int, flip: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] @ np.diag(rng.uniform(0.5, 4, 3) * [flip, 1, 1])
    affine[:3, 3] = rng.uniform(-150, 150, 3)
    saved = NiftiVolumeResource.save(in_memory(np.ones((2, 3, 4), np.float32), affine), tmp_path / "x.nii")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(saved.get_affine(), affine, atol=2e-5)


def test_metadata_is_plain_and_goes_through_json(data_dir: Path, tmp_path: Path) -> None:
    scan = NiftiVolumeResource(data_dir / REAL[0])
    through = json.loads(json.dumps(scan.get_metadata()))
    assert through == scan.get_metadata()
    fa = InMemoryVolumeResource(np.ones(scan.shape[:3], np.float32), scan.get_affine(), through)
    assert NiftiVolumeResource.save(fa, tmp_path / "x.nii.gz").get_metadata() == scan.get_metadata()


def test_metadata_from_elsewhere_does_not_break_saving(array: np.ndarray, tmp_path: Path) -> None:
    odd = {"note": "mine", "pixdim": "wide", "sform_code": None, "descrip": "é" * 300, "srow_x": [1], "toffset": {}}
    saved = NiftiVolumeResource.save(InMemoryVolumeResource(array, AFFINE, odd), tmp_path / "x.nii.gz")
    np.testing.assert_allclose(saved.get_affine(), AFFINE, atol=1e-5)
    np.testing.assert_array_equal(saved.get_array(), array)


# --- writing


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("layout", ["C", "F", "strided", "transposed", "float64", "big endian"])
def test_any_memory_layout_gives_the_same_file(suffix: str, layout: str, array: np.ndarray, tmp_path: Path) -> None:
    same = {
        "C": np.ascontiguousarray(array),
        "F": np.asfortranarray(array),
        "strided": np.repeat(array, 2, axis=3)[..., ::2],
        "transposed": np.ascontiguousarray(array.transpose(3, 1, 0, 2)).transpose(2, 1, 3, 0),
        "float64": array.astype(np.float64),
        "big endian": array.astype(">f4"),
    }[layout]
    before = same.copy()
    NiftiVolumeResource.save(in_memory(same), tmp_path / f"a{suffix}")
    NiftiVolumeResource.save(in_memory(np.asfortranarray(array)), tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(np.asanyarray(nib.load(tmp_path / f"a{suffix}").dataobj), array)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    np.testing.assert_array_equal(same, before)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 4, 5), (3, 4, 5, 1), (3, 4, 5, 1, 3), (2, 3, 2, 4, 3, 2)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_images_of_any_dimension_come_back(shape: tuple[int, ...], order: str, tmp_path: Path) -> None:
    values = np.asarray(np.random.default_rng(3).normal(size=shape), dtype=np.float32, order=order)  # type: ignore[call-overload]
    saved = NiftiVolumeResource.save(in_memory(values), tmp_path / "x.nii.gz")
    # of five axes and more those of length 1 are left out when it is read
    seen = shape if len(shape) < 5 else (*shape[:3], *(n for n in shape[3:] if n > 1))
    assert saved.shape == seen
    np.testing.assert_array_equal(saved.get_array(), values.reshape(seen))
    np.testing.assert_array_equal(nib.load(tmp_path / "x.nii.gz").get_fdata(dtype=np.float32), values)


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        (np.array([True, False]), "u1"),
        (np.array([0, 1], np.int64), "u1"),
        (np.array([0, 255], np.uint16), "u1"),
        (np.array([-1, 255], np.int64), "i2"),
        (np.array([0, 40000], np.uint16), "i4"),
        (np.array([0, 2**40], np.uint64), "i8"),
        (np.array([0, 0.5], np.float64), "f4"),
        (np.array([0, 0.5], np.float16), "f4"),
    ],
)
def test_masks_and_labels_are_stored_small(values: np.ndarray, stored: str, tmp_path: Path) -> None:
    saved = NiftiVolumeResource.save(in_memory(values.reshape(1, 1, 2)), tmp_path / "x.nii.gz")
    image = nib.load(tmp_path / "x.nii.gz")
    assert image.get_data_dtype() == np.dtype(stored)
    np.testing.assert_array_equal(np.asanyarray(image.dataobj).ravel(), values)
    np.testing.assert_array_equal(saved.get_array().ravel(), values.astype(saved.get_array().dtype))


def test_values_that_are_not_finite_come_back(tmp_path: Path) -> None:
    values = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-42, 3e38], np.float32).reshape(1, 2, 3)
    saved = NiftiVolumeResource.save(in_memory(values), tmp_path / "x.nii.gz")
    assert saved.get_array().tobytes("F") == values.tobytes("F")


def test_an_axis_too_long_for_nifti_1_is_written_as_nifti_2(tmp_path: Path) -> None:
    values = np.arange(40_000, dtype=np.float32).reshape(40_000, 1, 1)
    saved = NiftiVolumeResource.save(in_memory(values), tmp_path / "x.nii.gz")
    assert isinstance(nib.load(tmp_path / "x.nii.gz"), nib.Nifti2Image)
    np.testing.assert_array_equal(saved.get_array(), values)


def test_saving_twice_gives_the_same_bytes_whatever_the_name_and_time(array: np.ndarray, tmp_path: Path) -> None:
    NiftiVolumeResource.save(in_memory(array), tmp_path / "a.nii.gz")
    NiftiVolumeResource.save(NiftiVolumeResource(tmp_path / "a.nii.gz"), tmp_path / "sub" / "b.nii.gz")
    first = (tmp_path / "a.nii.gz").read_bytes()
    assert first[4:8] == b"\0\0\0\0"
    assert (tmp_path / "sub" / "b.nii.gz").read_bytes() == first


def test_an_image_may_be_saved_over_itself(array: np.ndarray, tmp_path: Path) -> None:
    saved = NiftiVolumeResource.save(in_memory(array), tmp_path / "x.nii.gz")
    again = NiftiVolumeResource.save(saved, tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(again.get_array(), array)


def test_a_saved_volume_can_be_sent_to_another_process(array: np.ndarray, tmp_path: Path) -> None:
    saved = NiftiVolumeResource.save(in_memory(array), tmp_path / "x.nii.gz")
    _ = saved.get_affine()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(saved)).get_array(), array)
    assert saved == NiftiVolumeResource(str(tmp_path / "x.nii.gz"))


# --- nothing half-written


class Interrupted(InMemoryVolumeResource):
    """A volume whose array cannot be converted to the end."""

    def get_array(self) -> np.ndarray:
        raise KeyboardInterrupt


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit])
def test_an_interrupted_save_leaves_the_old_file_and_no_other(
    error: type[BaseException], array: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import arcuate.io.stored_voxels

    saved = NiftiVolumeResource.save(in_memory(array), tmp_path / "x.nii.gz")
    whole = arcuate.io.stored_voxels.file_order

    def stops(values: np.ndarray, dtype: np.dtype) -> object:
        yield next(iter(whole(values[..., :4], dtype)))
        raise error

    monkeypatch.setattr(arcuate.io.stored_voxels, "file_order", stops)
    for name in ("x.nii.gz", "new.nii.gz", "new.nii"):
        with pytest.raises(error):
            NiftiVolumeResource.save(in_memory(array * 2), tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii.gz"]
    np.testing.assert_array_equal(saved.get_array(), array)


def test_a_folder_that_cannot_be_written_is_named_and_nothing_is_left(array: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match=r"cannot write .*x\.nii\.gz.*folder"):
        NiftiVolumeResource.save(in_memory(array), tmp_path / "file" / "x.nii.gz")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    (tmp_path / "taken.nii.gz").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        NiftiVolumeResource.save(in_memory(array), tmp_path / "taken.nii.gz")


def test_a_read_only_folder_is_refused(tmp_path: Path, other_user: dict[str, Any]) -> None:
    code = """
import sys
import numpy as np
from arcuate.io import NiftiVolumeResource
from arcuate.volumes.resource import InMemoryVolumeResource
NiftiVolumeResource.save(InMemoryVolumeResource(np.ones((2, 2, 2))), sys.argv[1] + "/x.nii.gz")
"""
    tmp_path.chmod(0o555)
    try:
        command = [sys.executable, "-c", code, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **other_user)
    finally:
        tmp_path.chmod(0o755)
    assert "InputError: cannot write" in done.stderr
    assert "Permission denied" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_told_and_nothing_is_left(
    array: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = Path.open

    def full(self: Path, mode: str = "r", *args: object) -> object:
        return real_open(Path("/dev/full") if "w" in mode else self, mode, *args)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", full)
    for name in ("x.nii", "x.nii.gz"):
        with pytest.raises(InputError, match="No space left"):
            NiftiVolumeResource.save(in_memory(np.tile(array, (4, 4, 4, 1))), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x", "x.nii.bz2", "x.mgz", "x.img", "nii.gz"])
def test_other_names_are_refused(name: str, array: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.nii\.gz or \.nii"):
        NiftiVolumeResource.save(in_memory(array), tmp_path / name)


@pytest.mark.parametrize(
    "values", [np.zeros((2, 2, 2), complex), np.zeros((0, 2, 2)), np.array(["a"]), np.float32(3)], ids=str
)
def test_arrays_that_nifti_has_no_place_for_are_refused(values: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot save"):
        NiftiVolumeResource.save(in_memory(values), tmp_path / "x.nii.gz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("affine", [np.eye(3), np.full((4, 4), np.nan)], ids=["3 x 3", "NaN"])
def test_an_affine_that_is_none_is_refused(affine: np.ndarray, array: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\(4, 4\)"):
        NiftiVolumeResource.save(in_memory(array, affine), tmp_path / "x.nii.gz")


# --- files that cannot be read


@pytest.mark.parametrize("by", ["arcuate", "nibabel"])
@pytest.mark.parametrize("keep", [0.999, 0.9, 0.5, 0.1])
def test_a_truncated_image_is_refused_in_a_sentence(by: str, keep: float, tmp_path: Path) -> None:
    values = np.random.default_rng(4).normal(size=(40, 40, 40, 8)).astype(np.float32)
    if by == "arcuate":
        NiftiVolumeResource.save(in_memory(values), tmp_path / "x.nii.gz")
    else:
        nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "x.nii.gz")
    NiftiVolumeResource.save(in_memory(values), tmp_path / "x.nii")
    for name in ("x.nii.gz", "x.nii"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: int(keep * len(whole))])
        with pytest.raises(InputError, match=r"damaged or was cut short.*again"):
            NiftiVolumeResource(tmp_path / name).get_array()


@pytest.mark.parametrize("by", ["arcuate", "nibabel"])
@pytest.mark.parametrize("missing", [1, 4, 8])
def test_a_file_that_lacks_only_its_checksum_is_refused(
    by: str, missing: int, array: np.ndarray, tmp_path: Path
) -> None:
    if by == "arcuate":
        NiftiVolumeResource.save(in_memory(array), tmp_path / "x.nii.gz")
    else:
        nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "x.nii.gz")
    whole = (tmp_path / "x.nii.gz").read_bytes()
    (tmp_path / "x.nii.gz").write_bytes(whole[:-missing])
    with pytest.raises(InputError, match="damaged"):
        NiftiVolumeResource(tmp_path / "x.nii.gz").get_array()


@same_folder
@given(data=st.data())
@pytest.mark.parametrize("by", ["arcuate", "nibabel"])
def test_a_damaged_byte_is_noticed_or_harmless(by: str, data: st.DataObject, tmp_path: Path) -> None:
    values = np.random.default_rng(5).integers(0, 50, (6, 7, 8, 4)).astype(np.float32)
    path = tmp_path / f"{by}.nii.gz"
    if by == "arcuate":
        NiftiVolumeResource.save(in_memory(values), path)
    else:
        nib.save(nib.Nifti1Image(values, AFFINE), path)
    raw = bytearray(path.read_bytes())
    where = data.draw(st.integers(0, len(raw) - 1))
    raw[where] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw)
    try:
        found = NiftiVolumeResource(path).get_array()
    except InputError:
        return
    np.testing.assert_array_equal(found, values)


@same_folder
@given(content=st.binary(max_size=700))
def test_any_bytes_are_refused_as_an_image(content: bytes, tmp_path: Path) -> None:
    for name, raw in {"x.nii": content, "x.nii.gz": gzip.compress(content)}.items():
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(InputError, match=r"cannot be read as NIfTI.*Expected one \.nii or \.nii\.gz"):
            NiftiVolumeResource(tmp_path / name).get_array()


@same_folder
@given(where=st.integers(0, 347), value=st.integers(0, 255))
@example(where=111, value=95)  # the voxels start beyond any file
@pytest.mark.filterwarnings("ignore::arcuate.errors.InputWarning")
def test_a_header_with_a_wrong_byte_is_read_or_refused(where: int, value: int, tmp_path: Path) -> None:
    NiftiVolumeResource.save(in_memory(np.ones((2, 3, 4), np.float32)), tmp_path / "x.nii")
    raw = bytearray((tmp_path / "x.nii").read_bytes())
    raw[where] = value
    (tmp_path / "x.nii").write_bytes(raw)
    try:
        volume = NiftiVolumeResource(tmp_path / "x.nii").load()
    except InputError:
        return
    assert volume.get_affine().shape == (4, 4)
    assert volume.get_array().shape == volume.shape


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_an_image_larger_than_its_file_asks_for_no_memory(name: str, array: np.ndarray, tmp_path: Path) -> None:
    NiftiVolumeResource.save(in_memory(array), tmp_path / "whole.nii")
    raw = bytearray((tmp_path / "whole.nii").read_bytes())
    raw[40:56] = np.array([4, 32000, 32000, 32000, 32000, 1, 1, 1], "<i2").tobytes()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    with pytest.raises(InputError, match=r"its header promises 4194304000000000352 bytes, the file has \d+\."):
        NiftiVolumeResource(tmp_path / name).get_array()


def test_what_is_no_nifti_file_is_told_apart(array: np.ndarray, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(array, AFFINE), tmp_path / "half.hdr")
    (tmp_path / "half.img").unlink()
    cases = {
        tmp_path / "absent.nii.gz": "does not exist",
        tmp_path: "is a folder",
        tmp_path / "half.hdr": r"half\.img",
    }
    for path, message in cases.items():
        with pytest.raises(InputError, match=message):
            _ = NiftiVolumeResource(path).shape


@pytest.mark.parametrize(
    "dtype", [np.complex64, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])], ids=["complex", "RGB"]
)
def test_voxels_that_are_no_real_numbers_are_refused(dtype: np.dtype, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4), dtype), AFFINE), tmp_path / "x.nii")
    with pytest.raises(InputError, match="integers and real numbers"):
        NiftiVolumeResource(tmp_path / "x.nii").get_array()


def test_a_volume_that_is_not_there_is_refused(array: np.ndarray, tmp_path: Path) -> None:
    saved = NiftiVolumeResource.save(in_memory(array), tmp_path / "x.nii.gz")
    for index in (8, -9):
        with pytest.raises(InputError, match="no volume"):
            saved.get_volume(index)
