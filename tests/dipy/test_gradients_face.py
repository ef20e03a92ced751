"""Gradient tables and images with DIPY's names: the same answers as DIPY's own functions."""

from __future__ import annotations

import warnings

import dipy.core.gradients as peer
import nibabel as nib
import numpy as np
import pytest
from dipy.io.gradients import read_bvals_bvecs as peer_read
from dipy.io.image import load_nifti as peer_load

from arcuate import dipy as face


def _numbers() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    bvals = np.array([0, 1000, 40, 2000, 1000, 3000, 1000, 2000.0])
    bvecs = rng.normal(size=(8, 3))
    bvecs /= np.linalg.norm(bvecs, axis=1, keepdims=True)
    bvecs[0] = 0
    bvecs[2] = np.nan
    bvecs[3] *= 1.004
    return bvals, bvecs


def _assert_same(ours: object, theirs: object) -> None:
    for name in ("gradients", "bvals", "bvecs", "b0s_mask", "b0_threshold", "big_delta", "small_delta"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
    if getattr(theirs, "btens", None) is None:
        assert ours.btens is None
    else:
        np.testing.assert_allclose(ours.btens, theirs.btens, atol=1e-9)
    assert len(ours) == len(theirs)


@pytest.mark.parametrize("form", ["columns", "rows", "lists", "one array", "one array, rows", "column of b"])
def test_table_has_the_attributes_of_dipys(form):
    bvals, bvecs = _numbers()
    arguments = {
        "columns": (bvals, bvecs),
        "rows": (bvals, bvecs.T),
        "lists": (bvals.tolist(), bvecs.tolist()),
        "one array": (np.column_stack([bvals, bvecs]), None),
        "one array, rows": (np.column_stack([bvals, bvecs]).T, None),
        "column of b": (bvals, bvecs),
    }[form]
    ours = face.gradient_table(arguments[0], bvecs=arguments[1], big_delta=0.04, small_delta=0.01)
    theirs = peer.gradient_table(arguments[0], bvecs=arguments[1], big_delta=0.04, small_delta=0.01)
    _assert_same(ours, theirs)
    for name in ("tau", "qvals", "gradient_strength"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("btens", ["LTE", "PTE", "STE", "CTE", ["LTE", "PTE", "STE", "CTE"] * 2, np.ones((8, 3, 3))])
def test_b_tensors_are_dipys(btens):
    bvals, bvecs = _numbers()
    bvecs[[0, 2]] = [0, 0, 1]  # DIPY's rotation of a zero vector warns
    btens = np.array(btens) if isinstance(btens, list) else btens
    _assert_same(
        face.gradient_table(bvals, bvecs=bvecs, btens=btens), peer.gradient_table(bvals, bvecs=bvecs, btens=btens)
    )


def test_gradients_alone_make_a_table():
    gradients = np.random.default_rng(0).normal(size=(7, 3)) * 500
    gradients[1] = np.nan
    ours, theirs = face.GradientTable(gradients), peer.GradientTable(gradients)
    for name in ("gradients", "bvals", "bvecs", "b0s_mask"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-14)


@pytest.mark.parametrize("index", [3, slice(1, 7), [1, 4, 5], np.array([1, 3])])
def test_indexing_picks_the_weighted_volumes_as_dipy_does(index):
    bvals, bvecs = _numbers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        ours = face.gradient_table(bvals, bvecs=bvecs)[index]
        theirs = peer.gradient_table(bvals, bvecs=bvecs)[index]
    _assert_same(ours, theirs)


def test_info_and_summary(capsys):
    table = face.gradient_table(*_numbers())
    table.info
    assert "B-values shape (8,)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b, g: (b, np.where(np.arange(8)[:, None] == 4, 1.1 * g, g)), r"volume 4 \(b = 1000\) is not a unit"),
        (lambda b, g: (b[:-1], g), r"bvals \(7,\) and bvecs \(8, 3\)"),
        (lambda b, g: (b, None), r"no bvecs; expected both"),
    ],
)
def test_what_dipy_refuses_is_refused_as_a_value_error(change, message):
    arguments = change(*_numbers())
    with pytest.raises(ValueError, match=message):
        face.gradient_table(arguments[0], bvecs=arguments[1])
    with pytest.raises(ValueError):  # noqa: PT011
        peer.gradient_table(arguments[0], bvecs=arguments[1])


@pytest.mark.parametrize("suffix", [".bval", ".txt", ".npy"])
@pytest.mark.parametrize("layout", ["rows", "columns", "commas"])
def test_files_are_read_as_dipy_reads_them(tmp_path, suffix, layout):
    bvals, bvecs = _numbers()
    paths = tmp_path / f"b{suffix}", tmp_path / f"v{suffix.replace('bval', 'bvec')}"
    vectors = bvecs.T if layout == "rows" else bvecs
    for path, values in zip(paths, (bvals[None], vectors), strict=True):
        if suffix == ".npy":
            np.save(path, values)
        else:
            np.savetxt(path, values, delimiter="," if layout == "commas" else " ")
    for ours, theirs in zip(face.read_bvals_bvecs(*paths), peer_read(*paths), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert face.read_bvals_bvecs(paths[0], None)[1] is None
    assert face.read_bvals_bvecs("", str(paths[1]))[0] is None
    _assert_same(face.gradient_table(str(paths[0]), bvecs=paths[1]), peer.gradient_table(str(paths[0]), bvecs=paths[1]))


def test_files_that_do_not_fit_are_refused_as_by_dipy(tmp_path):
    np.savetxt(tmp_path / "b.bval", np.ones((1, 5)))
    np.savetxt(tmp_path / "v.bvec", np.ones((3, 6)))
    np.savetxt(tmp_path / "w.bvec", np.ones((4, 6)))
    for arguments, error in [
        ((tmp_path / "b.bval", tmp_path / "v.bvec"), OSError),
        ((None, tmp_path / "w.bvec"), OSError),
        ((tmp_path / "b.dat", None), ValueError),
        ((3, None), ValueError),
    ]:
        for read in (face.read_bvals_bvecs, peer_read):
            with pytest.raises(error):
                read(*arguments)


@pytest.mark.parametrize("name", ["x.nii.gz", "x.nii"])
@pytest.mark.parametrize("scaled", [False, True])
def test_images_are_loaded_as_dipy_loads_them(tmp_path, name, scaled):
    values = np.random.default_rng(0).integers(-500, 500, (5, 6, 7, 3)).astype(np.int16)
    image = nib.Nifti1Image(values, np.diag([-2.0, 2.0, 2.5, 1.0]))
    if scaled:
        image.header.set_slope_inter(0.5, 3)
    nib.save(image, tmp_path / name)
    options = {"return_img": True, "return_voxsize": True, "return_coords": True}
    ours, theirs = face.load_nifti(tmp_path / name, **options), peer_load(tmp_path / name, **options)
    np.testing.assert_array_equal(ours[0], theirs[0])
    assert ours[0].dtype == theirs[0].dtype
    assert ours[0].flags.writeable
    np.testing.assert_array_equal(ours[1], theirs[1])
    assert ours[2].shape == theirs[2].shape
    assert ours[3:] == theirs[3:]
    assert len(face.load_nifti(tmp_path / name)) == 2
    np.testing.assert_array_equal(face.load_nifti_data(tmp_path / name, as_ndarray=False)[..., 1], theirs[0][..., 1])


def test_images_are_saved_and_cut_files_are_refused(tmp_path):
    values = np.random.default_rng(0).random((40, 40, 20)).astype(np.float32)
    face.save_nifti(tmp_path / "x.nii.gz", values, np.eye(4))
    np.testing.assert_array_equal(face.load_nifti(tmp_path / "x.nii.gz")[0], values)
    (tmp_path / "x.nii.gz").write_bytes((tmp_path / "x.nii.gz").read_bytes()[:-5000])
    with pytest.raises((OSError, EOFError)):
        face.load_nifti(tmp_path / "x.nii.gz")
    with pytest.raises(ValueError, match="int64"):
        face.save_nifti(tmp_path / "y.nii", np.zeros((2, 2, 2), np.int64), np.eye(4))
