"""``arcuate run``: what it writes, that it resumes, and what it says about scans it cannot use."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcuate.dwi import Dwi
from arcuate.io import NiftiVolumeResource, save_volume
from arcuate.volumes.resource import InMemoryVolumeResource

TENSOR = ("fa", "md", "ad", "rd", "evals", "evecs", "diffusivity")
STEPS = ("--steps", "mask,dti", "--mask-method", "otsu", "--no-report")


def _images(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.nii.gz")) if p.is_file()}


def test_writes_bids_derivatives_with_sidecars(arcuate: Callable, scan: Path, tmp_path: Path) -> None:
    outcome = arcuate("run", scan, "--out", tmp_path / "out", *STEPS)
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "out" / "sub-ball" / "dwi"
    assert (tmp_path / "out" / "dataset_description.json").is_file()
    assert (folder / "sub-ball_desc-brain_mask.nii.gz").is_file()
    for param in TENSOR:
        image = folder / f"sub-ball_model-tensor_param-{param}_dwimap.nii.gz"
        facts = json.loads(image.with_name(image.name.replace(".nii.gz", ".json")).read_text())
        assert NiftiVolumeResource(image).shape[:3] == (30, 34, 28)
        assert len(facts["Inputs"]["dwi"]["SHA256"]) == 64
        assert facts["GeneratedBy"][0]["Name"] == "arcuate"
        assert sum(facts["VoxelsByStatus"].values()) > 5000
    fa = NiftiVolumeResource(folder / "sub-ball_model-tensor_param-fa_dwimap.nii.gz").get_array()
    assert fa[15, 17, 14] == pytest.approx(0.80, abs=0.03)
    assert set(json.loads((folder / "sub-ball_timings.json").read_text())) == {"mask", "dti"}


def test_geometry_of_the_scan_survives(arcuate: Callable, scan: Path, tmp_path: Path) -> None:
    arcuate("run", scan, "--out", tmp_path / "out", *STEPS)
    fa = NiftiVolumeResource(tmp_path / "out/sub-ball/dwi/sub-ball_model-tensor_param-fa_dwimap.nii.gz")
    np.testing.assert_array_equal(fa.get_affine(), NiftiVolumeResource(scan).get_affine())


def test_a_second_run_repeats_nothing_and_leaves_the_same_bytes(
    arcuate: Callable, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arcuate("run", scan, "--out", tmp_path / "out", *STEPS)
    before = _images(tmp_path / "out")
    monkeypatch.setattr("arcuate.dti.prepare_tensor", lambda *_, **__: pytest.fail("the tensor was fitted again"))
    monkeypatch.setattr("arcuate.masks.otsu_mask", lambda *_, **__: pytest.fail("the mask was made again"))
    assert arcuate("run", scan, "--out", tmp_path / "out", *STEPS).code == 0
    assert _images(tmp_path / "out") == before


def test_names_that_are_not_bids_keep_their_stem(arcuate: Callable, scan: Path, tmp_path: Path) -> None:
    for suffix in (".nii.gz", ".bval", ".bvec"):
        shutil.copy(str(scan).replace(".nii.gz", suffix), tmp_path / f"Patient 7{suffix}")
    arcuate("run", tmp_path / "Patient 7.nii.gz", "--out", tmp_path / "out", *STEPS)
    assert (tmp_path / "out" / "Patient 7" / "dwi" / "Patient 7_desc-brain_mask.nii.gz").is_file()


@pytest.mark.parametrize("name", ["dwi.mif", "dwi.mif.gz"])
def test_an_image_of_mrtrix_with_gradients_in_its_header_gives_the_same_maps(
    name: str, arcuate: Callable, make_head: Callable, tmp_path: Path
) -> None:
    made = Dwi.concatenate([make_head(seed=0), make_head(seed=1)])  # two b=0 volumes, whose scales are compared
    made.save(tmp_path, "same")
    save_volume(made.volume, tmp_path / name, made.gradients)
    save_volume(made.volume.with_array(np.asarray(made.volume)[..., 0] > 300), tmp_path / "mask.mif")
    for image, out in ((tmp_path / "same.nii.gz", "nifti"), (tmp_path / name, "mif")):
        done = arcuate("run", image, "--mask", tmp_path / "mask.mif", "--out", tmp_path / out, *STEPS)
        assert done.code == 0, done.err
    maps = [next((tmp_path / out).rglob("*param-diffusivity_dwimap.nii.gz")) for out in ("nifti", "mif")]
    np.testing.assert_allclose(*(NiftiVolumeResource(path).get_array() for path in maps), rtol=1e-4, atol=1e-8)


def test_a_mask_of_ones_own_is_used(arcuate: Callable, scan: Path, tmp_path: Path) -> None:
    inside = np.zeros((30, 34, 28), np.uint8)
    inside[14:16, 16:18, 13:15] = 1
    mask = tmp_path / "mask.nii.gz"
    NiftiVolumeResource.save(InMemoryVolumeResource(inside, NiftiVolumeResource(scan).get_affine()), mask)
    arcuate("run", scan, "--mask", mask, "--out", tmp_path / "out", *STEPS)
    fa = NiftiVolumeResource(tmp_path / "out/sub-ball/dwi/sub-ball_model-tensor_param-fa_dwimap.nii.gz")
    np.testing.assert_array_equal(fa.get_array() > 0, inside > 0)


def _three_d(scan: Path) -> list[object]:
    volume = NiftiVolumeResource(scan)
    NiftiVolumeResource.save(InMemoryVolumeResource(volume.get_array()[..., 0], volume.get_affine()), scan)
    return []


def _one_bvec_short(scan: Path) -> list[object]:
    path = scan.with_name("sub-ball_dwi.bvec")
    np.savetxt(path, np.loadtxt(path)[:, :-1])
    return []


def _zero_bvec(scan: Path) -> list[object]:
    path = scan.with_name("sub-ball_dwi.bvec")
    bvecs = np.loadtxt(path)
    bvecs[:, 5] = 0
    np.savetxt(path, bvecs)
    return []


def _no_b0(scan: Path) -> list[object]:
    path = scan.with_name("sub-ball_dwi.bval")
    np.savetxt(path, np.where(np.loadtxt(path) == 0, 1000, np.loadtxt(path))[None])
    bvec = scan.with_name("sub-ball_dwi.bvec")
    bvecs = np.loadtxt(bvec)
    bvecs[:, 0] = [1, 0, 0]
    np.savetxt(bvec, bvecs)
    return []


def _mask_of_other_shape(scan: Path) -> list[object]:
    path = scan.with_name("mask.nii.gz")
    NiftiVolumeResource.save(InMemoryVolumeResource(np.ones((30, 34, 27), np.uint8)), path)
    return ["--mask", path]


def _empty_mask(scan: Path) -> list[object]:
    path = scan.with_name("mask.nii.gz")
    affine = NiftiVolumeResource(scan).get_affine()
    NiftiVolumeResource.save(InMemoryVolumeResource(np.zeros((30, 34, 28), np.uint8), affine), path)
    return ["--mask", path]


def _truncated(scan: Path) -> list[object]:
    scan.write_bytes(scan.read_bytes()[: scan.stat().st_size // 2])
    return []


def _truncated_by_another_tool(scan: Path) -> list[object]:
    plain = gzip.compress(gzip.decompress(scan.read_bytes()), 1)
    scan.write_bytes(plain[: len(plain) // 2])
    return []


def _no_bvals(scan: Path) -> list[object]:
    scan.with_name("sub-ball_dwi.bval").unlink()
    return []


def _same_directions(scan: Path) -> list[object]:
    path = scan.with_name("sub-ball_dwi.bvec")
    bvecs = np.loadtxt(path)
    bvecs[:, 1:] = np.array([[1.0], [0], [0]])
    np.savetxt(path, bvecs)
    return []


BAD = {
    _three_d: "3-D",
    _one_bvec_short: "12 b-vectors",
    _zero_bvec: "b-vector of volume 5 is zero",
    _no_b0: "none is b=0",
    _mask_of_other_shape: r"(30, 34, 27)",
    _empty_mask: "empty",
    _truncated: "",
    _truncated_by_another_tool: "",
    _no_bvals: "no b-values",
    _same_directions: "distinct directions",
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda f: f.__name__.strip("_"))
def test_a_scan_that_cannot_be_used_is_one_sentence_and_leaves_nothing_half_written(
    arcuate: Callable, scan: Path, tmp_path: Path, spoil: Callable
) -> None:
    extra = spoil(scan)
    outcome = arcuate("run", scan, "--out", tmp_path / "out", *STEPS, *extra)
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert outcome.code == 2
    assert len(errors) == 1
    assert BAD[spoil] in errors[0]
    assert "Traceback" not in outcome.err
    left = [p.name for p in (tmp_path / "out").rglob("*") if ".tmp" in p.name] if (tmp_path / "out").exists() else []
    assert left == []


def test_a_scan_with_b2000_alone_is_fitted_and_says_so(
    arcuate: Callable, make_head: Callable[..., Dwi], tmp_path: Path
) -> None:
    make_head(bvals=(2000.0,)).save(tmp_path, basename="sub-b2000_dwi")
    for _ in range(2):  # computed, and kept
        outcome = arcuate("run", tmp_path / "sub-b2000_dwi.nii.gz", "--out", tmp_path / "out", *STEPS[:-1])
        assert outcome.code == 0, outcome.err
        said = "fitted to the shells at b = 2000"
        assert re.search(f"warning: .*{said}", outcome.err)
        assert len(re.findall(f"check: .*{said}", outcome.err)) == 1
        record = json.loads((tmp_path / "out/sub-b2000/dwi/sub-b2000_run.json").read_text())
        assert [said in text for text in record["Steps"]["dti"]["Warnings"]] == [True]
        assert said in (tmp_path / "out/sub-b2000.html").read_text(encoding="utf-8")


def test_a_scan_without_b0_is_doubted_once_with_all_that_follows(
    arcuate: Callable, make_head: Callable[..., Dwi], tmp_path: Path
) -> None:
    whole = make_head(n_directions=20, bvals=(1000.0, 2000.0))
    kept = np.flatnonzero(~whole.gradients.is_b0)
    without = Dwi.from_arrays(
        whole.volume.get_array()[..., kept], whole.volume.get_affine(), whole.gradients.subset(kept)
    )
    without.save(tmp_path, basename="sub-nob0_dwi")
    outcome = arcuate("run", tmp_path / "sub-nob0_dwi.nii.gz", "--out", tmp_path / "out", *STEPS[:-1])
    assert outcome.code == 0, outcome.err
    checks = [c for c in re.split(r"\n(?=check: )", outcome.err) if c.startswith("check: ") and "no b=0" in c]
    assert len(checks) == 1, outcome.err
    said = " ".join(checks[0].split())
    for consequence in ("its head is looked for in the lowest shell", "most models need one", "is extrapolated"):
        assert said.count(consequence) == 1


def test_an_output_folder_that_cannot_be_written_is_one_sentence(arcuate: Callable, scan: Path, tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("here")
    outcome = arcuate("run", scan, "--out", blocker / "out", *STEPS)
    assert outcome.code == 2
    assert outcome.err.count("error: ") == 1
    assert blocker.read_text() == "here"


def test_a_read_only_output_folder_is_one_sentence(scan: Path, tmp_path: Path, other_user: dict[str, Any]) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    command = [sys.executable, "-m", "arcuate", "run", str(scan), "--out", str(folder), *STEPS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **other_user)
    assert done.returncode == 2
    assert [line[:7] for line in done.stderr.splitlines() if not line.startswith("warning: ")] == ["error: "]
    assert "you may not write to" in done.stderr
    assert not list(folder.iterdir())


def test_unknown_steps_name_the_known_ones(arcuate: Callable, scan: Path, tmp_path: Path) -> None:
    outcome = arcuate("run", scan, "--out", tmp_path / "out", "--steps", "mask,spaghetti")
    assert outcome.code == 2
    assert "spaghetti" in outcome.err
    assert "dti" in outcome.err


def test_nan_and_negative_voxels_have_their_own_status(arcuate: Callable, scan: Path, tmp_path: Path) -> None:
    volume = NiftiVolumeResource(scan)
    array = volume.get_array()
    array[15, 17, 14, 3], array[10, 12, 14, 4] = np.nan, -5.0
    NiftiVolumeResource.save(InMemoryVolumeResource(array, volume.get_affine()), scan)
    arcuate("run", scan, "--out", tmp_path / "out", *STEPS)
    image = tmp_path / "out/sub-ball/dwi/sub-ball_model-tensor_param-fa_dwimap.nii.gz"
    facts = json.loads(image.with_name(image.name.replace(".nii.gz", ".json")).read_text())
    fa = NiftiVolumeResource(image).get_array()
    assert facts["VoxelsByStatus"]["not_finite"] == 1
    assert facts["VoxelsByStatus"]["floored"] >= 1
    assert fa[15, 17, 14] == 0
    assert fa[15, 18, 14] > 0.7


def test_a_scan_whose_name_is_no_text_has_maps_and_a_page(arcuate: Callable, scan: Path, tmp_path: Path) -> None:
    stem = os.fsdecode(b"Z\xfcrich")  # a file server that writes Latin-1
    try:
        for ending in (".nii.gz", ".bval", ".bvec"):
            shutil.copy(scan.with_name(f"sub-ball_dwi{ending}"), tmp_path / f"{stem}{ending}")
    except OSError as error:
        pytest.skip(f"this file system takes UTF-8 alone ({error.strerror})")
    outcome = arcuate("run", tmp_path / f"{stem}.nii.gz", "--out", tmp_path / "out", *STEPS[:-1])
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "out" / f"{stem}.html").stat().st_size > 10_000
    again = arcuate("report", tmp_path / "out")
    assert again.code == 0, again.err


def test_a_map_whose_sidecar_found_no_room_is_replaced_by_the_same_command(
    arcuate: Callable, scan: Path, tmp_path: Path
) -> None:
    mask = tmp_path / "mask.nii.gz"
    (tmp_path / "mask.json").mkdir()  # nothing can be written there, not even by root
    refused = arcuate("mask", scan, "--method", "otsu", "--out", mask)
    assert refused.code == 2
    assert not mask.exists()
    (tmp_path / "mask.json").rmdir()
    assert arcuate("mask", scan, "--method", "otsu", "--out", mask).code == 0
    assert mask.exists()
