"""Commands look at what they are to write before they compute: no input is overwritten, no work is lost to a name."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from arcuate.io import NiftiVolumeResource
from arcuate.volumes.resource import InMemoryVolumeResource


@pytest.fixture(autouse=True)
def nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a command reads the voxels of a scan: it has to refuse before."""
    monkeypatch.setattr("arcuate.volumes.voxels._gather", lambda *_, **__: pytest.fail("voxels were read"))
    for step in ("arcuate.commands.denoise.run_denoising", "arcuate.masks.brain_mask"):
        monkeypatch.setattr(step, lambda *_, **__: pytest.fail("the step was done"))


@pytest.fixture
def files(scan: Path, tmp_path: Path) -> dict[str, Path]:
    """Inputs of every kind, by a short name."""
    grid = NiftiVolumeResource(scan)
    folder = scan.parent
    shape = grid.shape[:3]
    arrays = {
        "mask": np.ones(shape, np.uint8),
        "fod": np.zeros((*shape, 45), np.float32),
        "peaks": np.zeros((*shape, 9), np.float32),
        "direction": np.zeros((*shape, 3), np.float32),
        "fa": np.ones(shape, np.uint8),
    }
    found = {"scan": scan, "bvec": scan.with_name("sub-ball_dwi.bvec"), "folder": folder, "new": tmp_path / "new"}
    for name, array in arrays.items():
        found[name] = folder / f"{name}.nii.gz"
        NiftiVolumeResource.save(InMemoryVolumeResource(array, grid.get_affine()), found[name])
    found["wm"] = folder / "wm.json"
    found["wm"].write_text('{"algorithm": "x", "bvals": [0, 1000], "tissues": {"wm": [[900, 0], [300, -90]]}}')
    os.link(scan, folder / "hard.nii.gz")
    (folder / "soft.nii.gz").symlink_to(scan)
    return found | {"hard": folder / "hard.nii.gz", "soft": folder / "soft.nii.gz"}


OVERWRITING = {
    "mask": "mask {scan} --out {scan}",
    "mask through a hard link": "mask {scan} --out {hard}",
    "mask through a symbolic link": "mask {scan} --out {soft}",
    "denoise": "denoise {scan} --out {scan}",
    "denoise its mask": "denoise {scan} --mask {mask} --out {mask}",
    "denoise noise": "denoise {scan} --out {new}.nii.gz --noise {scan}",
    "denoise noise and scan": "denoise {scan} --out {new}.nii.gz --noise {new}.nii.gz",
    "peaks": "peaks {fod} --out {fod}",
    "dki": "dki {scan} --mask {fa} --out {folder}",
    "dti": "dti {scan} --mask {fa} --out {folder}",
    "freewater": "freewater {scan} --mask {fa} --out {folder}",
    "noddi": "noddi {scan} --directions {direction} --out {folder}",
    "fod": "fod {scan} --response {wm} --out {folder}",
    "mtnormalise": "mtnormalise {fod} --mask {mask} --out {folder}",
}


@pytest.mark.parametrize("words", OVERWRITING.values(), ids=OVERWRITING)
def test_no_command_writes_over_what_it_reads(words: str, arcuate: Callable, files: dict[str, Path]) -> None:
    before = {path: path.read_bytes() for path in files.values() if path.is_file()}
    outcome = arcuate(*[word.format(**files) for word in words.split()])
    assert outcome.code == 2, outcome.err
    assert outcome.err.count("error: ") == 1
    assert {path: path.read_bytes() for path in before} == before


NAMES = {
    "mask": "mask {scan} --out {new}",
    "denoise": "denoise {scan} --out {new}.mgz",
    "denoise noise": "denoise {scan} --out {new}.nii --noise {new}",
    "peaks": "peaks {fod} --out {new}.txt",
    "mask a folder": "mask {scan} --out {folder}",
    "dti a file": "dti {scan} --out {mask}",
    "dti below a file": "dti {scan} --out {mask}/below",
    "noddi a file": "noddi {scan} --out {bvec}",
    "response a file": "response {scan} --out {bvec}",
    "fod a file": "fod {scan} --response {wm} --out {bvec}",
    "tracts a file": "tracts {peaks} --out {bvec}",
    "run a file": "run {scan} --out {bvec}",
    "run cache a file": "run {scan} --out {new} --cache {bvec}",
    "demo a file": "demo --out {bvec}",
}


@pytest.mark.parametrize("words", NAMES.values(), ids=NAMES)
def test_a_name_that_cannot_be_written_is_refused_at_once(
    words: str, arcuate: Callable, files: dict[str, Path]
) -> None:
    outcome = arcuate(*[word.format(**files) for word in words.split()])
    assert outcome.code == 2, outcome.err
    assert outcome.err.count("error: ") == 1
    assert "expected" in outcome.err or "Give another" in outcome.err
    assert not list(files["new"].parent.glob("new*"))


TYPOS = {
    "algorithm": "run {scan} --out {new} --algorithm dholander",
    "mask method": "run {scan} --out {new} --mask-method bet",
    "denoise": "run {scan} --out {new} --denoise nlm",
    "steps": "run {scan} --out {new} --steps mask,spaghetti",
    "no step": "run {scan} --out {new} --steps ,",
    "mask": "mask {scan} --out {new}.nii.gz --method bet",
    "missing mask": "run {scan} --out {new} --mask {folder}/nowhere.nii.gz",
    "mask of another grid": "run {scan} --out {new} --mask {fod}",
    "contradiction": "run {scan} --out {new} --steps denoise --denoise none",
}


@pytest.mark.parametrize("words", TYPOS.values(), ids=TYPOS)
def test_a_typo_ends_before_any_work(words: str, arcuate: Callable, files: dict[str, Path]) -> None:
    outcome = arcuate(*[word.format(**files) for word in words.split()])
    assert outcome.code == 2, outcome.err
    assert outcome.err.count("error: ") == 1
    assert outcome.err.count("\n") == 1, "one line"
    assert not files["new"].exists()


def test_a_mask_that_an_earlier_run_wrote_there_is_no_mask_to_be_given(
    arcuate: Callable, files: dict[str, Path], tmp_path: Path
) -> None:
    mask = tmp_path / "out" / "sub-ball" / "dwi" / "sub-ball_desc-brain_mask.nii.gz"
    mask.parent.mkdir(parents=True)
    shutil.copy(files["mask"], mask)
    outcome = arcuate("run", files["scan"], "--mask", mask, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "copy the input to another place" in outcome.err


def test_an_empty_name_of_the_output_folder_is_refused_and_nothing_is_written_where_one_stands(
    arcuate: Callable, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    outcome = arcuate("run", scan, "--out", "", "--steps", "mask")
    assert outcome.code == 2
    assert "found an empty --out; expected a folder" in outcome.err
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize("target", ["nothing", "loop"])
def test_a_folder_behind_a_link_to_nothing_is_refused_with_where_it_points(
    target: str, arcuate: Callable, files: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / target)
    for out in (tmp_path / "loop", tmp_path / "loop" / "below"):
        done = arcuate("run", files["scan"], "--steps", "mask", "--mask-method", "otsu", "--out", out)
        assert done.code == 2
        assert re.search(rf"loop is a link to .*{target}, where there is nothing. Make that folder", done.err), done.err


def test_links_that_lead_in_a_circle_are_refused(arcuate: Callable, scan: Path, tmp_path: Path) -> None:
    mask = tmp_path / "mask.nii.gz"
    mask.symlink_to(mask.name)
    outcome = arcuate("dti", scan, "--mask", mask, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "mask.nii.gz is a link to" in outcome.err
