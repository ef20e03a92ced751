"""The options by which every command takes a scan: parts, volumes left out, units, scales, mended b-vectors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcuate.dwi import Dwi
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource
from arcuate.phantom import make_phantom
from arcuate.phantom.scheme import spread_directions

Arcuate = Callable[..., Any]  # code, out and err of a command, see conftest


def test_excluded_volumes_are_in_the_sidecar_and_not_in_the_fit(arcuate: Arcuate, scan: Path, tmp_path: Path) -> None:
    done = arcuate("dti", scan, "--exclude", "3,11-last", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    facts = json.loads((tmp_path / "out/fa.json").read_text())
    assert facts["VolumesExcluded"] == [3, 11, 12]
    assert facts["VolumesGiven"] == 13
    assert len(facts["VolumesUsed"]) == 10
    wrong = arcuate("dti", scan, "--exclude", "13", "--out", tmp_path / "no")
    assert (wrong.code, (tmp_path / "no").exists()) == (2, False)
    assert "numbers from 0 to 12" in wrong.err


def test_two_parts_of_another_scale_are_told_and_mended(
    arcuate: Arcuate, make_head: Callable[..., Dwi], tmp_path: Path
) -> None:
    folder = tmp_path / "sub-1" / "dwi"
    first, second = make_head(seed=0), make_head(seed=1)
    dim = second.volume.with_array(np.asarray(second.volume) * np.float32(0.25))
    first.save(folder, "sub-1_run-1_dwi")
    Dwi(dim, second.bval, second.bvec).save(folder, "sub-1_run-2_dwi")
    told = arcuate("info", folder.parent, "--json")
    assert told.code == 0, told.err
    facts = json.loads(told.out)
    assert facts["shape"][3] == 26
    assert any(
        "scale of the b=0 volumes steps (volumes 0 to 12: 1, volumes 13 to 25: 0.25" in d for d in facts["doubts"]
    )
    parts = [folder / f"sub-1_run-{i}_dwi.nii.gz" for i in (1, 2)]
    mended = arcuate("info", *parts, "--scale-parts", "--json")
    assert not any("scale" in doubt for doubt in json.loads(mended.out)["doubts"])
    scaled = arcuate("dti", *parts, "--scale-parts", "--out", tmp_path / "out")
    assert scaled.code == 0
    assert "intensity scale" not in scaled.err
    joined = arcuate("dti", *parts, "--out", tmp_path / "joined")
    assert joined.code == 0
    assert "the intensity scale of the b=0 volumes steps" in " ".join(joined.err.split())
    written = json.loads((tmp_path / "out/fa.json").read_text())
    assert written["PartScales"][1] == pytest.approx(0.25, rel=0.02)
    assert {"dwi", "dwi2", "bval", "bval2"} <= written["Inputs"].keys()


def test_gradient_files_for_some_of_the_parts_are_refused_before_work(
    arcuate: Arcuate, make_head: Callable[..., Dwi], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        make_head().save(tmp_path, name)
    for command in ("dti", "run"):
        done = arcuate(
            command,
            tmp_path / "a.nii.gz",
            tmp_path / "b.nii.gz",
            "--bval",
            tmp_path / "a.bval",
            "--out",
            tmp_path / "o",
        )
        assert (done.code, (tmp_path / "o").exists()) == (2, False)
        assert "found 1 bval files for 2 images; expected one for each" in done.err


def test_parts_are_scaled_only_after_a_plan_was_made(
    arcuate: Arcuate, make_head: Callable[..., Dwi], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in (1, 2):
        make_head(seed=i).save(tmp_path, f"run-{i}")
    parts = [tmp_path / f"run-{i}.nii.gz" for i in (1, 2)]
    monkeypatch.setattr(NiftiVolumeResource, "get_array", lambda *_: pytest.fail("a voxel was read"))
    monkeypatch.setattr(NiftiVolumeResource, "load", lambda *_: pytest.fail("a voxel was read"))
    refused = arcuate("run", *parts, "--scale-parts", "--steps", "noddi", "--out", tmp_path / "out")
    assert (refused.code, (tmp_path / "out").exists()) == (2, False)
    assert "two shells" in refused.err
    refused = arcuate("run", *parts, "--scale-parts", "--exclude", "13", "--out", tmp_path / "out")
    assert (refused.code, (tmp_path / "out").exists()) == (2, False)
    assert "a part of the scan has no b=0 volume" in refused.err


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("dti --shells 0", "tensor needs"),
        ("dti --robust --shells 0", "tensor needs"),
        ("dki", "two shells"),
        ("freewater", "two shells"),
        ("noddi", "two shells"),
        ("response --algorithm dhollander --shells 0", "no weighted volume|two b-values|shell"),
        ("response --shell 3000", "b=3000|3000"),
        ("fod --response RESPONSE", "3000"),
    ],
)
def test_what_the_gradients_rule_out_is_said_before_parts_are_scaled(
    command: str,
    reason: str,
    arcuate: Arcuate,
    make_head: Callable[..., Dwi],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for i in (1, 2):
        make_head(seed=i).save(tmp_path, f"run-{i}")
    (tmp_path / "wm.txt").write_text("# Shells: 3000\n500 -200 50\n")
    parts = [tmp_path / f"run-{i}.nii.gz" for i in (1, 2)]
    monkeypatch.setattr(NiftiVolumeResource, "get_array", lambda *_: pytest.fail("a voxel was read"))
    monkeypatch.setattr(NiftiVolumeResource, "load", lambda *_: pytest.fail("a voxel was read"))
    name, *options = command.replace("RESPONSE", str(tmp_path / "wm.txt")).split()
    refused = arcuate(name, *parts, "--scale-parts", *options, "--out", tmp_path / "out")
    assert (refused.code, (tmp_path / "out").exists()) == (2, False)
    assert re.search(reason, refused.err), refused.err


def test_the_unit_of_b_values_can_be_named(arcuate: Arcuate, scan: Path) -> None:
    bval = scan.with_name("sub-ball_dwi.bval")
    FslBvalResource.save(FslBvalResource(bval).get() / 1000, bval)
    refused = arcuate("info", scan, "--quick")
    assert refused.code == 2
    assert "the unit is ms/µm²" in refused.err
    assert "--b-unit ms/um2" in refused.err
    done = arcuate("info", scan, "--quick", "--b-unit", "ms/um2")
    assert "b=1000" in done.out


@pytest.mark.parametrize(("unit", "largest"), [("ms/um2", "1e+06"), ("s/m2", "0.001")])
def test_a_unit_in_which_no_scan_has_such_b_values_is_refused(
    arcuate: Arcuate, scan: Path, unit: str, largest: str
) -> None:
    refused = arcuate("info", scan, "--quick", "--b-unit", unit)
    assert refused.code == 2
    assert f"in the unit {unit} the largest b-value is {largest} s/mm²" in " ".join(refused.err.split())


def test_b_vectors_that_contradict_the_fibres_are_mended_on_request(arcuate: Arcuate, tmp_path: Path) -> None:
    from arcuate.gradients import GradientTable

    directions = spread_directions(20, 0)
    table = GradientTable(np.repeat([0.0, 1000], [2, 20]), np.vstack([np.zeros((2, 3)), directions]))
    head = make_phantom(table, (44, 50, 36), 4.0, snr=60, seed=0)
    Dwi.from_arrays(head.signal, head.affine, table).save(tmp_path, "x")
    true = FslBvecResource(tmp_path / "x.bvec").get()
    kept = arcuate("info", tmp_path / "x.nii.gz", "--write-bvecs", tmp_path / "new.bvec")
    assert kept.code == 2
    assert "decides for no flip" in kept.err
    FslBvecResource.save(true[:, [1, 0, 2]], tmp_path / "x.bvec")
    done = arcuate("info", tmp_path / "x.nii.gz", "--write-bvecs", tmp_path / "new.bvec")
    assert done.code == 0, done.err
    mended = FslBvecResource(tmp_path / "new.bvec").get()
    np.testing.assert_allclose(np.abs((mended * true).sum(axis=1))[2:], 1, atol=1e-4)
    again = arcuate("info", tmp_path / "x.nii.gz", "--write-bvecs", tmp_path / "new.bvec")
    assert again.code == 2
    assert "exists; give --write-bvecs a name" in again.err


def test_without_b0_the_mask_comes_from_the_lowest_shell(arcuate: Arcuate, scan: Path, tmp_path: Path) -> None:
    done = arcuate("mask", scan, "--exclude", "0", "--method", "otsu", "--out", tmp_path / "m.nii.gz")
    assert done.code == 0, done.err
    assert "lowest shell (b = 1000" in done.err
    inside = NiftiVolumeResource(tmp_path / "m.nii.gz").get_array()
    whole = arcuate("mask", scan, "--method", "otsu", "--out", tmp_path / "w.nii.gz")
    assert whole.code == 0
    both = NiftiVolumeResource(tmp_path / "w.nii.gz").get_array()
    assert 2 * np.sum(inside & both) / (inside.sum() + both.sum()) > 0.95


def test_b_values_that_form_no_shells_are_denoised(arcuate: Arcuate, scan: Path, tmp_path: Path) -> None:
    bvals = np.r_[0.0, np.linspace(400, 1500, 12)]
    FslBvalResource.save(bvals, scan.with_name("sub-ball_dwi.bval"))
    done = arcuate("denoise", scan, "--out", tmp_path / "d.nii.gz")
    assert done.code == 0, done.err
    assert len(json.loads((tmp_path / "d.json").read_text())["Residual"]) > 3
