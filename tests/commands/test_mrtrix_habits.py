"""A pipeline of MRtrix3 with arcuate in it: images, gradients and tensors go both ways without conversion."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from arcuate.io import open_volume
from arcuate.volumes.resource import InMemoryVolumeResource


def mrtrix3(*words: object) -> str:
    done = subprocess.run([*map(str, words), "-quiet", "-force"], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def mif(scan: Path, mrtrix: Path) -> Path:
    """The small scan as a ``.mif`` that holds its gradients, alone in its folder."""
    path = scan.parent.parent / "mif" / "dwi.mif"
    path.parent.mkdir()
    mrtrix3("mrconvert", scan, path, "-fslgrad", scan.with_suffix("").with_suffix(".bvec"),
            scan.with_suffix("").with_suffix(".bval"), "-strides", "-1,-2,3,4")  # fmt: skip
    return path


@pytest.mark.parametrize("command", ["dti", "dki"])
def test_tensor2metric_gives_our_fa(
    command: str, arcuate: Callable, make_head: Callable, tmp_path: Path, mrtrix: Path
) -> None:
    make_head(21, (1000.0, 2000.0)).save(tmp_path, "two")
    done = arcuate(command, tmp_path / "two.nii.gz", "--tensor-order", "mrtrix", "--out", tmp_path / "o")
    assert done.code == 0, done.err
    mrtrix3("tensor2metric", tmp_path / "o/diffusivity.nii.gz", "-fa", tmp_path / "fa.mif")
    theirs, ours = open_volume(tmp_path / "fa.mif"), open_volume(tmp_path / "o/fa.nii.gz")
    np.testing.assert_allclose(ours.get_array(), theirs.get_array(), atol=1e-4)
    assert json.loads((tmp_path / "o/diffusivity.json").read_text())["Order"] == "xx yy zz xy xz yz"


def test_a_run_starts_from_a_mif_and_ends_as_from_nifti(arcuate: Callable, mif: Path, scan: Path) -> None:
    outs = []
    for path in (mif, scan):
        out = path.parent / "out"
        done = arcuate("run", path, "--out", out, "--steps", "dti", "--mask-method", "otsu", "--no-report",
                       "--tensor-order", "mrtrix")  # fmt: skip
        assert done.code == 0, done.err
        outs.append(next(out.glob("*/dwi/*fa_dwimap.nii.gz")))
    first, second = map(open_volume, outs)
    world = [np.asarray(v.get_affine()) for v in (first, second)]
    assert not np.allclose(*world), "the mif is stored in other directions"
    turned = np.flip(first.get_array(), [axis for axis in range(3) if world[0][axis, axis] * world[1][axis, axis] < 0])
    np.testing.assert_allclose(turned, second.get_array(), atol=2e-6)


def test_single_images_are_written_as_mif(arcuate: Callable, mif: Path, tmp_path: Path) -> None:
    noisy = mif.with_name("den.mif.gz")
    done = arcuate("denoise", mif, "--method", "mppca", "--extent", "3", "--out", noisy, "--noise", tmp_path / "n.mif")
    assert done.code == 0, done.err
    ours, theirs = (np.array(mrtrix3("mrinfo", path, "-dwgrad").split(), float).reshape(-1, 4) for path in (noisy, mif))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9 * 1e3)
    assert not list(mif.parent.glob("*.bv*"))
    assert arcuate("mask", noisy, "--method", "otsu", "--out", tmp_path / "m.mif").code == 0
    assert arcuate("dti", noisy, "--mask", tmp_path / "m.mif", "--out", tmp_path / "dti").code == 0
    ours = open_volume(tmp_path / "m.mif").get_array()
    assert float(mrtrix3("mrstats", tmp_path / "m.mif", "-output", "mean")) == pytest.approx(ours.mean(), rel=1e-4)
    fod = InMemoryVolumeResource(np.ones((3, 3, 3, 15), np.float32))
    from arcuate.io import save_volume

    save_volume(fod, tmp_path / "fod.mif")
    assert arcuate("peaks", tmp_path / "fod.mif", "--out", tmp_path / "peaks.mif").code == 0
    assert mrtrix3("mrinfo", tmp_path / "peaks.mif", "-size").split() == ["3", "3", "3", "9"]
