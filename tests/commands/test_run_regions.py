"""``arcuate run --atlas``: the table of a run's maps in regions, on the scan's grid or brought there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from arcuate.io import NiftiVolumeResource
from arcuate.io.tables import read_table
from arcuate.registration import TransformResource
from arcuate.study.bids import Derivatives
from arcuate.study.outputs import read_record
from arcuate.volumes.resource import InMemoryVolumeResource

STEPS = ("--steps", "mask,dti", "--mask-method", "otsu", "--no-report")


@pytest.fixture
def atlas(scan: Path, tmp_path: Path) -> Path:
    """Two halves of the ball, named in the table beside."""
    volume = NiftiVolumeResource(scan)
    labels = np.ones(volume.shape[:3], np.uint8)
    labels[15:] = 2
    NiftiVolumeResource.save(InMemoryVolumeResource(labels, volume.get_affine()), tmp_path / "atlas.nii.gz")
    (tmp_path / "atlas.tsv").write_text("index\tname\n1\tfirst\n2\tsecond\n")
    return tmp_path / "atlas.nii.gz"


def _folder(tmp_path: Path) -> Path:
    return tmp_path / "out" / "sub-ball" / "dwi"


def test_a_run_ends_with_the_table_and_the_atlas_on_its_grid(
    arcuate: Callable, scan: Path, atlas: Path, tmp_path: Path
) -> None:
    outcome = arcuate("run", scan, "--out", tmp_path / "out", *STEPS, "--atlas", atlas)
    assert outcome.code == 0, outcome.err
    assert "2 regions, 4 maps" in outcome.err
    table = read_table(_folder(tmp_path) / "sub-ball_desc-atlas_regions.tsv")
    assert set(table["region"]) == {"first", "second"}
    assert set(table["map"]) == {"fa", "md", "ad", "rd"}
    fa = NiftiVolumeResource(_folder(tmp_path) / "sub-ball_model-tensor_param-fa_dwimap.nii.gz").get_array()
    inside = NiftiVolumeResource(_folder(tmp_path) / "sub-ball_desc-brain_mask.nii.gz").get_array() > 0
    row = next(row for row in table.rows if row["region"] == "second" and row["map"] == "fa")
    assert row["mean"] == pytest.approx(fa[15:][inside[15:]].mean(dtype=float), rel=1e-5)
    assert row["status_fitted"] > 1000
    record = read_record(Derivatives(tmp_path / "out", "sub-ball"))
    assert record is not None
    assert {file.step for file in record.files} >= {"mask", "dti", "regions"}
    assert record.steps["regions"]["Regions"] == 2
    said = json.loads((_folder(tmp_path) / "sub-ball_desc-atlas_dseg.json").read_text())
    assert said["Labels"] == {"1": "first", "2": "second"}
    assert "atlas" in said["Inputs"]
    assert arcuate("report", tmp_path / "out").code == 0
    page = (tmp_path / "out" / "sub-ball.html").read_text(encoding="utf-8")
    assert 'id="regions"' in page
    assert "with the regions" in page
    assert "Means of the 2 largest of 2 regions" in page


def test_without_the_atlas_a_later_run_takes_the_table_away(
    arcuate: Callable, scan: Path, atlas: Path, tmp_path: Path
) -> None:
    arcuate("run", scan, "--out", tmp_path / "out", *STEPS, "--atlas", atlas)
    assert arcuate("run", scan, "--out", tmp_path / "out", *STEPS).code == 0
    assert not list(_folder(tmp_path).glob("*regions*"))


@pytest.mark.parametrize("option", ["--atlas-to-scan", "--scan-to-atlas"])
def test_an_atlas_elsewhere_is_brought_by_its_transform(
    arcuate: Callable, scan: Path, atlas: Path, tmp_path: Path, option: str
) -> None:
    move = np.eye(4)
    move[:3, 3] = [8, -4, 4]  # whole voxels
    labels = NiftiVolumeResource(atlas)
    moved = InMemoryVolumeResource(np.asarray(labels.get_array(), np.uint8), move @ labels.get_affine())
    NiftiVolumeResource.save(moved, tmp_path / "far.nii.gz")
    TransformResource((move if option == "--atlas-to-scan" else np.linalg.inv(move))[None]).save(tmp_path / "t")
    names = ("--atlas-names", tmp_path / "atlas.tsv")
    outcome = arcuate("run", scan, "--out", tmp_path / "out", *STEPS, "--atlas", tmp_path / "far.nii.gz", *names,
                      option, tmp_path / "t")  # fmt: skip
    assert outcome.code == 0, outcome.err
    found = NiftiVolumeResource(_folder(tmp_path) / "sub-ball_desc-atlas_dseg.nii.gz").get_array()
    np.testing.assert_array_equal(found, labels.get_array())
    fa = _folder(tmp_path) / "sub-ball_model-tensor_param-fa_dwimap.nii.gz"
    table = arcuate("regions", fa, "--labels", tmp_path / "far.nii.gz", option, tmp_path / "t", "--out",
                    tmp_path / "r.tsv")  # fmt: skip
    assert table.code == 0, table.err
    assert read_table(tmp_path / "r.tsv")["region_voxels"] == [15 * 34 * 28] * 2


def test_mistakes_are_one_line_before_anything_is_computed(
    arcuate: Callable, scan: Path, atlas: Path, tmp_path: Path
) -> None:
    NiftiVolumeResource.save(InMemoryVolumeResource(np.ones((3, 3, 3))), tmp_path / "small.nii.gz")
    for options, says in (
        (("--atlas", tmp_path / "small.nii.gz"), "found an atlas of shape (3, 3, 3)"),
        (("--atlas-names", "freesurfer"), "and no atlas; give it with --atlas"),
        (("--atlas", atlas, "--atlas-to-scan", tmp_path / "no", "--scan-to-atlas", tmp_path / "no"), "Leave one out"),
        (("--atlas", atlas, "--atlas-to-scan", tmp_path / "no.h5"), "does not exist; expected a transform"),
    ):
        outcome = arcuate("run", scan, "--out", tmp_path / "out", *STEPS, *options)
        assert outcome.code == 2
        assert says in outcome.err
        assert len(outcome.err.strip().splitlines()) == 1
    assert not _folder(tmp_path).exists()
