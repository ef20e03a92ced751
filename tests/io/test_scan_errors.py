"""Scans that cannot be used: each is told in one sentence, and nothing half-written remains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from arcuate.dwi import Dwi
from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource, find_gradients, write_mrtrix_table
from arcuate.volumes.resource import InMemoryVolumeResource

AFFINE = np.diag([2.0, 2, 2, 1])
BVALS = np.r_[0.0, 0.0, np.full(8, 1000.0)]


def vectors() -> np.ndarray:
    found = np.random.default_rng(0).normal(size=(10, 3))
    found[:2] = 0
    found[2:] /= np.linalg.norm(found[2:], axis=1, keepdims=True)
    return found


def write(folder: Path, shape: tuple[int, ...] = (6, 7, 8, 10), bvals: np.ndarray = BVALS, bvecs: np.ndarray | None = None) -> Path:  # fmt: skip  # noqa: E501
    array = np.random.default_rng(1).normal(100, 10, shape).astype(np.float32)
    NiftiVolumeResource.save(InMemoryVolumeResource(array, AFFINE), folder / "x.nii.gz")
    FslBvalResource.save(bvals, folder / "x.bval")
    FslBvecResource.save(vectors() if bvecs is None else bvecs, folder / "x.bvec")
    return folder / "x.nii.gz"


def load(path: Path) -> Dwi:
    return Dwi(*find_gradients(path)).load()


def test_a_good_scan_is_read_and_saved_as_it_was(tmp_path: Path) -> None:
    dwi = load(write(tmp_path))
    saved = dwi.save(tmp_path / "out", basename="y")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["y.bval", "y.bvec", "y.nii.gz"]
    np.testing.assert_array_equal(saved.volume.get_array(), dwi.volume.get_array())
    np.testing.assert_array_equal(saved.bvec.get(), vectors())
    assert saved.gradients == dwi.gradients


def test_a_scan_with_an_mrtrix_table_is_the_same_scan(tmp_path: Path) -> None:
    path = write(tmp_path)
    table = load(path).gradients
    write_mrtrix_table(table, tmp_path / "x.b")
    for name in ("x.bval", "x.bvec"):
        (tmp_path / name).unlink()
    again = load(path).gradients
    np.testing.assert_allclose(again.directions, table.directions, atol=1e-15)
    np.testing.assert_array_equal(again.bvals, table.bvals)


def test_a_3d_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"3-D image of shape \(6, 7, 8\).*4-D"):
        load(write(tmp_path, shape=(6, 7, 8)))


def test_one_b_vector_too_few_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"9 b-vectors for 10 b-values"):
        load(write(tmp_path, bvecs=vectors()[:-1]))


def test_one_b_value_too_few_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"9 b-values for 10 volumes"):
        load(write(tmp_path, bvals=BVALS[:-1], bvecs=vectors()[:-1]))


def test_a_zero_vector_on_a_weighted_volume_is_refused(tmp_path: Path) -> None:
    bad = vectors()
    bad[5] = 0
    with pytest.raises(InputError, match=r"volume 5 is zero although its b-value is 1000"):
        load(write(tmp_path, bvecs=bad))


def test_a_zero_vector_in_an_mrtrix_table_is_refused_too(tmp_path: Path) -> None:
    path = write(tmp_path)
    rows = GradientTable.from_fsl(BVALS, vectors(), AFFINE).to_mrtrix()
    rows[5, :3] = 0
    np.savetxt(tmp_path / "x.b", rows)
    with pytest.raises(InputError, match="volume 5 is zero"):
        Dwi(*find_gradients(path, grad=tmp_path / "x.b")).load()


def test_no_b0_is_refused_where_the_mean_of_b0_is_asked_for(tmp_path: Path) -> None:
    bvecs = vectors()
    bvecs[:2] = [[1, 0, 0], [0, 1, 0]]
    dwi = load(write(tmp_path, bvals=np.full(10, 2000.0), bvecs=bvecs))
    with pytest.raises(InputError, match=r"needs a b=0 volume.*2000.*--b0-threshold"):
        dwi.compute_mean_b0()


def test_a_truncated_scan_is_refused_when_its_voxels_are_read(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:-2000])
    lazy = Dwi(*find_gradients(path))
    assert len(lazy.gradients) == 10
    with pytest.raises(InputError, match=r"x\.nii\.gz is damaged or was cut short"):
        lazy.load()


def test_a_folder_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    dwi = load(write(tmp_path))
    (tmp_path / "taken").write_text("a file")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"cannot write .*taken.*folder"):
        dwi.save(tmp_path / "taken")
    assert sorted(tmp_path.rglob("*")) == before
