"""``arcuate regions`` and ``arcuate harmonize``: tables from files, and their mistakes in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from arcuate.io import NiftiVolumeResource
from arcuate.io.tables import Table, read_table
from arcuate.registration import TransformResource
from arcuate.volumes.resource import InMemoryVolumeResource

AFFINE = np.diag([-2.0, 2, 2, 1])
SHAPE = (6, 7, 8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("tensor_param-fa", "kurtosis_param-fa", "tensor_param-md", "noddi_param-icvf", "noddi_param-isovf"):
        values = InMemoryVolumeResource(rng.uniform(0, 1, SHAPE).astype(np.float32), AFFINE)
        NiftiVolumeResource.save(values, tmp_path / f"sub-01_model-{name}_dwimap.nii.gz")
    labels = np.zeros(SHAPE, np.int32)
    labels[:3], labels[3:] = 17, 1035
    nib.MGHImage(labels, AFFINE).to_filename(tmp_path / "aseg.mgz")
    return tmp_path


def test_writes_a_table_named_after_the_maps(arcuate: Callable, folder: Path) -> None:
    maps = sorted(folder.glob("*.nii.gz"))
    outcome = arcuate("regions", *maps, "--labels", folder / "aseg.mgz", "--names", "freesurfer", "--out",
                      folder / "out" / "regions.tsv")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "2 regions, 5 maps" in outcome.out
    table = read_table(folder / "out" / "regions.tsv")
    assert set(table["map"]) == {"tensor_fa", "kurtosis_fa", "md", "icvf", "isovf"}
    assert set(table["region"]) == {"Left-Hippocampus", "ctx-lh-insula"}
    fa = NiftiVolumeResource(folder / "sub-01_model-tensor_param-fa_dwimap.nii.gz").get_array()
    row = next(r for r in table.rows if r["map"] == "tensor_fa" and r["index"] == 17)
    assert row["mean"] == pytest.approx(fa[:3].mean(dtype=float), rel=1e-6)
    assert next(r for r in table.rows if r["map"] == "icvf")["weighting"] == "tissue"
    assert json.loads((folder / "out" / "regions.json").read_text())["volume"]["Units"] == "mm^3"


def test_a_map_may_be_named(arcuate: Callable, folder: Path) -> None:
    fa = folder / "sub-01_model-tensor_param-fa_dwimap.nii.gz"
    outcome = arcuate("regions", f"mine={fa}", "--labels", folder / "aseg.mgz", "--out", folder / "r.tsv")
    assert outcome.code == 0, outcome.err
    assert set(read_table(folder / "r.tsv")["map"]) == {"mine"}
    twice = arcuate("regions", f"x={fa}", f"x={fa}", "--labels", folder / "aseg.mgz", "--out", folder / "r.tsv")
    assert (twice.code, "found two maps called 'x'" in twice.err) == (2, True)


def test_a_table_of_other_people_stays_without_force(arcuate: Callable, folder: Path) -> None:
    words = ("regions", *sorted(folder.glob("*fa*")), "--labels", folder / "aseg.mgz", "-o", folder / "mine.tsv")
    (folder / "mine.tsv").write_text("not arcuate's")
    refused = arcuate(*words)
    assert (refused.code, "--force" in refused.err) == (2, True)
    assert (folder / "mine.tsv").read_text() == "not arcuate's"
    assert arcuate(*words, "--force").code == 0
    again = arcuate(*words, "-nthreads", "1")
    assert again.code == 0, f"its own table is replaced: {again.err}"


@pytest.mark.parametrize(
    "typed",
    [
        "regions fa.nii.gz --labels aseg.mgz -o r.tsv",
        "harmonize --covars people.tsv --batch site --mask mask.nii.gz -o maps",
        "apply fa.nii.gz --reference fa.nii.gz --transform t -o moved.nii.gz",
        "register --fixed fa.nii.gz --moving fa.nii.gz --out to",
        "structural fa.nii.gz --mask mask.nii.gz -o t1",
        "template fa.nii.gz md.nii.gz --name fa -o mean",
        "compile fod",
    ],
)
def test_a_dry_run_says_what_would_be_written_and_writes_nothing(
    arcuate: Callable, folder: Path, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    if typed.split()[0] in {"register", "structural", "template"}:
        pytest.importorskip("ants", reason="antspyx is not installed (extra ants), which is asked for first")
    monkeypatch.chdir(folder)
    for name in ("fa", "md"):
        next(folder.glob(f"*tensor_param-{name}*.nii.gz")).rename(f"{name}.nii.gz")
    NiftiVolumeResource.save(InMemoryVolumeResource(np.ones(SHAPE, np.uint8), AFFINE), "mask.nii.gz")
    TransformResource(np.eye(4)[None], ()).save("t")
    lines = [f"{name}\t{site}\tfa.nii.gz" for name, site in (("a", "x"),)]
    Path("people.tsv").write_text("\n".join(["participant_id\tsite\timage", *lines]) + "\n")
    before = sorted(folder.rglob("*"))
    done = arcuate(*typed.split(), "--dry-run")
    assert done.code == 0, done.err
    assert "would" in done.out
    assert sorted(folder.rglob("*")) == before


def test_what_was_brought_over_says_how_and_only_its_own_is_replaced(
    arcuate: Callable, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    fa = next(folder.glob("*tensor_param-fa*.nii.gz"))
    TransformResource(np.eye(4)[None], ()).save("t")
    words = ("apply", fa, "--reference", fa, "--transform", "t", "moved.nii.gz")
    assert arcuate(*words).code == 0
    said = json.loads(Path("moved.json").read_text())
    assert (said["Kind"], said["Interpolation"], said["Command"]) == ("scalar", "linear", "arcuate apply")
    assert arcuate(*words).code == 0
    Path("moved.json").unlink()
    assert arcuate(*words).code == 2


def test_an_atlas_of_another_grid_is_one_line(arcuate: Callable, folder: Path) -> None:
    NiftiVolumeResource.save(InMemoryVolumeResource(np.ones((3, 3, 3)), AFFINE), folder / "atlas.nii.gz")
    outcome = arcuate("regions", *folder.glob("*param-fa*"), "--labels", folder / "atlas.nii.gz", "--out",
                      folder / "r.tsv")  # fmt: skip
    assert outcome.code == 2
    assert len(outcome.err.strip().splitlines()) == 1
    assert "--atlas-to-scan" in outcome.err
    assert not (folder / "r.tsv").exists()


def _covars(folder: Path) -> Path:
    names = [f"sub-{i:02d}" for i in range(12)]
    table = Table({"participant_id": names, "site": ["A", "B"] * 6, "age": [20 + 5 * i for i in range(12)],
                   "image": [f"{name}_fa.nii.gz" for name in names]})  # fmt: skip
    return table.save(folder / "covars.tsv")


def test_harmonises_maps_and_applies_the_model_to_others(arcuate: Callable, tmp_path: Path) -> None:
    rng, covars = np.random.default_rng(1), _covars(tmp_path)
    for i in range(12):
        fa = (0.5 + rng.normal(0, 0.02, SHAPE)) * (1.2 if i % 2 else 1.0)
        NiftiVolumeResource.save(InMemoryVolumeResource(fa, AFFINE), tmp_path / f"sub-{i:02d}_fa.nii.gz")
    NiftiVolumeResource.save(InMemoryVolumeResource(np.ones(SHAPE), AFFINE), tmp_path / "mask.nii.gz")
    common = ("harmonize", "--covars", covars, "--batch", "site")
    first = arcuate(*common, "--mask", tmp_path / "mask.nii.gz", "--continuous", "age", "--out", tmp_path / "out",
                    "--save-model", tmp_path / "model.npz")  # fmt: skip
    assert first.code == 0, first.err
    means = [NiftiVolumeResource(tmp_path / "out" / f"sub-{i:02d}_fa.nii.gz").get_array().mean() for i in range(12)]
    assert abs(np.mean(means[::2]) - np.mean(means[1::2])) < 0.01
    second = arcuate(*common, "--model", tmp_path / "model.npz", "--out", tmp_path / "again")
    assert second.code == 0, second.err
    for name in ("sub-00_fa.nii.gz", "sub-11_fa.nii.gz"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    inside = arcuate(*common, "--mask", tmp_path / "mask.nii.gz", "--out", tmp_path)
    assert (inside.code, "it is an input" in inside.err) == (2, True)


def test_harmonises_a_table(arcuate: Callable, tmp_path: Path) -> None:
    rng, covars = np.random.default_rng(2), _covars(tmp_path)
    rows = [
        {"participant_id": f"sub-{i:02d}", "index": k, "map": "fa", "mean": 0.5 + 0.1 * (i % 2) + rng.normal(0, 0.01)}
        for i in range(12)
        for k in range(1, 9)
    ]
    Table.of_rows(rows).save(tmp_path / "t.tsv")
    outcome = arcuate("harmonize", tmp_path / "t.tsv", "--covars", covars, "--batch", "site", "--out",
                      tmp_path / "done.tsv")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "mean of 1 maps harmonised over A, B" in outcome.out
    done = read_table(tmp_path / "done.tsv")
    odd = np.array([int(str(name)[-2:]) % 2 for name in done["participant_id"]])
    assert abs(done.numbers("mean")[odd == 1].mean() - done.numbers("mean")[odd == 0].mean()) < 0.01


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--batch", "scanner", "--mask", "covars.tsv"), "found no column 'scanner'"),
        (("--batch", "site"), "found no --mask"),
    ],
)
def test_mistakes_are_one_line(arcuate: Callable, tmp_path: Path, arguments: tuple, says: str) -> None:
    covars = _covars(tmp_path)
    for i in range(12):
        NiftiVolumeResource.save(InMemoryVolumeResource(np.ones(SHAPE), AFFINE), tmp_path / f"sub-{i:02d}_fa.nii.gz")
    NiftiVolumeResource.save(InMemoryVolumeResource(np.ones(SHAPE), AFFINE), tmp_path / "mask.nii.gz")
    given = [tmp_path / "mask.nii.gz" if word == "covars.tsv" else word for word in arguments]
    outcome = arcuate("harmonize", "--covars", covars, *given, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert says in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
