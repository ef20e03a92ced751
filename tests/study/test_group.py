"""What subjects say together: mean responses, the table of key numbers, outliers by name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from arcuate.errors import InputError
from arcuate.io.responses import read_response
from arcuate.models.response import Response
from arcuate.study import group
from arcuate.study.group import (
    MEASURES,
    average_responses,
    collect_rows,
    response_files,
    robust_z,
    write_group_response,
    write_group_table,
)


@pytest.fixture(scope="module")
def cohort(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Derivatives of three subjects: one run thrice, with gains of the scanner in its response."""
    out = tmp_path_factory.mktemp("group") / "out"
    for i, gain in enumerate((1.0, 2.0, 4.0)):
        shutil.copytree(finished / "sub-small", out / f"sub-{i}")
        for path in list((out / f"sub-{i}").rglob("sub-small*")):
            path.rename(path.with_name(path.name.replace("sub-small", f"sub-{i}")))
        record = out / f"sub-{i}" / "dwi" / f"sub-{i}_run.json"
        content = json.loads(record.read_text().replace("sub-small", f"sub-{i}"))
        tables = content["Steps"]["response"]["tissues"]
        content["Steps"]["response"]["tissues"] = {t: (gain * np.array(rows)).tolist() for t, rows in tables.items()}
        record.write_text(json.dumps(content))
    return out


def test_the_mean_of_scaled_responses_is_their_shape_at_the_scale_of_the_group(cohort: Path) -> None:
    one = Response.from_dict(json.loads((cohort / "sub-0/dwi/sub-0_run.json").read_text())["Steps"]["response"])
    paths, names, left_out = write_group_response(cohort)
    assert (names, left_out) == (["sub-0", "sub-1", "sub-2"], [])
    mean = read_response(response_files(cohort))
    np.testing.assert_allclose(mean.get_zonal(), one.get_zonal() * 7 / 3, rtol=1e-9)
    assert mean.algorithm == "mean"
    assert mean.made_from["n_responses"] == 3
    assert cohort / "group" / "response" / "wm.txt" in paths


def test_a_subject_with_other_shells_is_left_out_and_named(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(cohort, out)
    record = out / "sub-1" / "dwi" / "sub-1_run.json"
    content = json.loads(record.read_text())
    content["Steps"]["response"]["bvals"][-1] = 500.0
    record.write_text(json.dumps(content))
    _, names, left_out = average_responses(out)
    assert names == ["sub-0", "sub-2"]
    assert len(left_out) == 1
    assert left_out[0].startswith("sub-1 has another response (wm at b = 500")


def test_numbers_are_those_of_the_maps(cohort: Path) -> None:
    rows = collect_rows(cohort)
    assert [row.name for row in rows] == ["sub-0", "sub-1", "sub-2"]
    folder = cohort / "sub-0" / "dwi"
    fa, md = (
        np.asarray(nib.load(folder / f"sub-0_model-tensor_param-{p}_dwimap.nii.gz").dataobj) for p in ("fa", "md")
    )
    white = (fa >= 0.25) & (md <= 1.1e-3) & (md > 0)
    values = rows[0].values
    assert values["white_voxels"] == white.sum() > 100
    assert values["fa"] == pytest.approx(fa[white].mean(), rel=1e-6)
    assert values["md"] == pytest.approx(md[white].mean(), rel=1e-6)
    assert values["ndi"] is None
    assert values["snr_b0"] > 5  # type: ignore[operator]
    assert 1 <= values["peaks"] <= 3  # type: ignore[operator]
    assert 0 <= values["dti_not_fitted"] < 5  # type: ignore[operator]


def test_runs_that_did_not_change_are_not_read_again(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = collect_rows(cohort)
    monkeypatch.setattr(group, "numbers_of", lambda *_: pytest.fail("read again"))
    assert collect_rows(cohort) == before


def test_the_table_has_a_dictionary_of_all_its_columns(cohort: Path) -> None:
    path = write_group_table(cohort, collect_rows(cohort))
    head, *lines = path.read_text().splitlines()
    assert len(lines) == 3
    assert list(json.loads(path.with_suffix(".json").read_text())) == head.split("\t")
    assert all(len(line.split("\t")) == len(MEASURES) + 2 for line in lines)


def test_robust_z_names_the_one_that_is_far_and_not_its_neighbours() -> None:
    values = [*np.linspace(0.9, 1.1, 21), 3.0, None]
    z = robust_z(values)
    assert z[21] > 10
    assert np.abs(z[:21]).max() < 2
    assert np.isnan(z[22])
    assert not robust_z([1.0, 2.0, 99.0]).any()  # too few for a spread
    assert not robust_z([1.0] * 9 + [5.0]).any()  # more than half alike


def test_a_folder_without_runs_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found no finished run"):
        collect_rows(tmp_path)
    with pytest.raises(InputError, match=r"wm\.json there or in response"):
        response_files(tmp_path)


def test_the_command_does_all_of_it(cohort: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "arcuate", "cohort", str(tmp_path), str(cohort), "group"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mean response of 3 scans" in done.stdout
    page = (cohort / "cohort.html").read_text()
    assert "Cohort of 3 scans" in page
    methods = (cohort / "methods.md").read_text()
    assert "## 3 scans" in methods
    assert "Scans: sub-0, sub-1, sub-2" in methods
    assert "single-shell constrained spherical deconvolution" in methods
    wrong = subprocess.run([*command[:-1], "participant", "--table"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "for the level group" in wrong.stderr


def test_a_run_takes_a_given_response_and_obeys_it(finished: Path, tmp_path: Path) -> None:
    kept = next(finished.rglob("*_label-wm_response.json"))
    shutil.copy(kept, tmp_path / "wm.json")
    scan = finished.parent / "sub-small_dwi.nii.gz"
    steps = ("--steps", "denoise,mask,response,fod", "--mask-method", "otsu", "--no-report", "--response",
             str(tmp_path / "wm.json"))  # fmt: skip
    command = [sys.executable, "-m", "arcuate", "run", str(scan), "--out", str(tmp_path / "out"), *steps]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "response (given)" in done.stderr
    name = "sub-small/dwi/sub-small_model-csd_param-fod_dwimap.nii.gz"
    assert (tmp_path / "out" / name).read_bytes() == (finished / name).read_bytes()
    sidecar = json.loads((tmp_path / "out" / name.replace(".nii.gz", ".json")).read_text())
    assert sidecar["Inputs"]["response_wm"]["File"] == "wm.json"
    both = subprocess.run([*command, "--algorithm", "ssst"], capture_output=True, text=True)
    assert both.returncode == 2
    assert "--response together with --algorithm ssst" in both.stderr
    shutil.copy(kept, tmp_path / "tissue.json")
    other = subprocess.run([*command[:-1], str(tmp_path / "tissue.json")], capture_output=True, text=True)
    assert other.returncode == 2
    assert "Name the files after their tissues" in other.stderr
