"""Runs into one folder, and names of every sort: list and report describe the last run, all of it and nothing else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from arcuate.report import find_subjects
from arcuate.study.bids import Derivatives

BOTH = ("--steps", "mask,dti", "--mask-method", "otsu")
MASK = ("--steps", "mask", "--mask-method", "otsu")


def _record(out: Path, stem: str = "sub-ball") -> dict:
    return json.loads((out / stem / "dwi" / f"{stem}_run.json").read_text())


def test_a_second_run_with_other_settings_is_described_alone(arcuate: Callable, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert arcuate("run", scan, "--out", out, *BOTH).code == 0
    first = (out / "sub-ball.html").read_text(encoding="utf-8")
    assert 'id="tensor"' in first
    assert "Left out, and why" in first
    outcome = arcuate("run", scan, "--out", out, *MASK)
    assert outcome.code == 0, outcome.err
    text = (out / "sub-ball.html").read_text(encoding="utf-8")
    assert 'id="tensor"' not in text
    assert "The diffusion tensor was fitted" not in text
    record = _record(out)
    assert "note: removed what a former run made and this one does not: 16 files of dti." in outcome.err
    assert list(record["Steps"]) == ["mask"]
    assert record["LeftOut"]["dti"].startswith("not asked for")
    assert not [p for p in out.rglob("*tensor*") if ".arcuate-cache" not in p.parts]
    files = {p.relative_to(out).as_posix() for p in (out / "sub-ball").rglob("*") if p.is_file()}
    assert files | {"sub-ball.html"} == {file["File"] for file in record["Files"]} | {"sub-ball/dwi/sub-ball_run.json"}
    third = arcuate("run", scan, "--out", out, *BOTH)
    assert third.code == 0, "no dead end"
    assert 'id="tensor"' in (out / "sub-ball.html").read_text(encoding="utf-8")


def test_a_run_without_a_report_says_that_the_page_is_an_older_one(
    arcuate: Callable, scan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arcuate("run", scan, "--out", out, *BOTH)
    assert "former run" not in arcuate("run", scan, "--out", out, *BOTH, "--no-report").err
    outcome = arcuate("run", scan, "--out", out, *MASK, "--no-report")
    assert "is the page of a former run; make it anew with: arcuate report" in " ".join(outcome.err.split())
    assert arcuate("report", out).code == 0
    assert 'id="tensor"' not in (out / "sub-ball.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["scan[1].nii.gz", "UPPER.NII.GZ", "a {b} (c).nii.gz"])
def test_any_name_of_a_scan_ends_in_a_report_of_all_maps(
    name: str, arcuate: Callable, scan: Path, tmp_path: Path
) -> None:
    stem = name[: name.lower().index(".nii")]
    shutil.copy(scan, tmp_path / name)
    for suffix in (".bval", ".bvec"):
        shutil.copy(scan.with_name(f"sub-ball_dwi{suffix}"), tmp_path / f"{stem}{suffix}")
    outcome = arcuate("run", tmp_path / name, "--out", tmp_path / "out", *BOTH)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "out" / stem / "dwi" / f"{stem}_desc-brain_mask.nii.gz").is_file()
    assert 'id="tensor"' in (tmp_path / "out" / f"{stem}.html").read_text(encoding="utf-8")
    (subject,) = find_subjects(tmp_path / "out")
    assert {m.param for m in subject.maps} == {"fa", "md", "ad", "rd", "evals", "evecs", "diffusivity", "rmse"}


@pytest.mark.parametrize("ending", ["run.json", "timings.json", "desc-scan_facts.json"])
def test_a_file_of_facts_cut_short_is_one_sentence(ending: str, arcuate: Callable, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arcuate("run", scan, "--out", out, *MASK)
    path = out / "sub-ball" / "dwi" / f"sub-ball_{ending}"
    path.write_bytes(path.read_bytes()[:-9])
    outcome = arcuate("report", out)
    assert outcome.code == 2
    assert outcome.err.count("error: ") == 1
    assert f"{ending} cannot be read" in outcome.err
    assert arcuate("run", scan, "--out", out, *MASK).code == 0


def test_a_mask_of_four_axes_is_written_as_the_run_used_it(arcuate: Callable, scan: Path, tmp_path: Path) -> None:
    from arcuate.io import NiftiVolumeResource
    from arcuate.volumes.resource import InMemoryVolumeResource

    grid = NiftiVolumeResource(scan)
    inside = (grid.get_array()[..., :1] > 300).astype("float32") * 0.7
    NiftiVolumeResource.save(InMemoryVolumeResource(inside, grid.get_affine()), tmp_path / "mask.nii.gz")
    outcome = arcuate("run", scan, "--mask", tmp_path / "mask.nii.gz", "--out", tmp_path / "out", "--steps", "dti")
    assert outcome.code == 0, outcome.err
    used = NiftiVolumeResource(tmp_path / "out" / "sub-ball" / "dwi" / "sub-ball_desc-brain_mask.nii.gz").get_array()
    assert used.shape == grid.shape[:3]
    assert (used == (inside[..., 0] > 0.5)).all()
    assert _record(tmp_path / "out")["Steps"]["mask"]["Method"] == "given"


def test_three_directions_leave_the_tensor_out(arcuate: Callable, make_head: Callable, tmp_path: Path) -> None:
    make_head(n_directions=3).save(tmp_path, basename="trace_dwi")
    outcome = arcuate(
        "run", tmp_path / "trace_dwi.nii.gz", "--out", tmp_path / "out", "--mask-method", "otsu", "--denoise", "none"
    )
    assert outcome.code == 0, outcome.err
    assert "dti        left out: a tensor needs 6 distinct directions" in outcome.err
    assert "6 distinct directions" in (tmp_path / "out" / "trace.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("options", "file", "name"), [
    ((), "desc-b0_dwiref", "Mean b = 0"),
    (("--exclude", "0"), "desc-lowestb_dwiref", "Mean of the lowest b"),
])  # fmt: skip
def test_the_picture_below_the_mask_is_called_what_it_is(
    options: tuple[str, ...], file: str, name: str, arcuate: Callable, scan: Path, tmp_path: Path
) -> None:
    outcome = arcuate("run", scan, "--out", tmp_path / "out", *MASK, *options)
    assert outcome.code == 0, outcome.err
    references = [f["File"] for f in _record(tmp_path / "out")["Files"] if f["File"].endswith("_dwiref.nii.gz")]
    assert references == [f"sub-ball/dwi/sub-ball_{file}.nii.gz"]
    page = (tmp_path / "out" / "sub-ball.html").read_text(encoding="utf-8")
    assert name in page
    assert {"Mean b = 0", "Mean of the lowest b"} & set(re.findall(r"Mean b = 0|Mean of the lowest b", page)) == {name}


def test_results_of_another_scan_of_the_same_name_are_not_replaced_in_silence(
    arcuate: Callable, scan: Path, make_head: Callable, tmp_path: Path
) -> None:
    options = ("--steps", "dti", "--mask-method", "otsu", "--no-report", "--out", tmp_path / "out")
    assert "another image" not in arcuate("run", scan, *options).err
    assert "another image" not in arcuate("run", scan, *options).err
    make_head(seed=1).save(tmp_path / "b", basename="sub-ball_dwi")
    second = arcuate("run", tmp_path / "b" / scan.name, *options)
    assert second.code == 0
    assert "holds the results of another image (sub-ball_dwi.nii.gz" in second.err
    assert "--subject" in second.err


def test_a_second_run_of_the_same_results_is_refused_while_the_first_goes_on(
    arcuate: Callable, scan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = ("run", scan, "--out", out, "--steps", "dti", "--mask-method", "otsu", "--no-report")
    with Derivatives.of_scan(out, scan).written_alone():
        refused = arcuate(*run)
        found = [path.name for path in out.rglob("*") if path.is_file() and ".arcuate-cache" not in path.parts]
    assert refused.code == 2
    assert "another run writes sub-ball" in refused.err
    assert "give another --out" in refused.err
    assert found == [".sub-ball_run.lock"]
    assert arcuate(*run).code == 0
    assert not list(out.glob("sub-ball/dwi/.*"))
