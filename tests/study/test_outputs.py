"""The list of a run's outputs: what it names, what it removes, and what it leaves alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from arcuate.errors import InputError
from arcuate.io import NiftiVolumeResource
from arcuate.report import SubjectFiles, find_subjects
from arcuate.study.bids import Derivatives, write_json
from arcuate.study.maps import Map
from arcuate.study.outputs import Outputs, read_record, record_path, refuse_overwriting
from arcuate.volumes.resource import InMemoryVolumeResource

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def image(value: float = 1.0) -> InMemoryVolumeResource:
    return InMemoryVolumeResource(np.full((4, 5, 6), value, np.float32), AFFINE)


def write_run(folder: Path, models: dict[str, float], prefix: str = "sub-1") -> tuple[Outputs, list[str]]:
    """A run that wrote FA of the models; what it has to say at its end."""
    outputs = Outputs(Derivatives(folder, prefix), {})
    for model, value in models.items():
        outputs.maps(model, [Map("fa", image(value))], {"Model": model}, step="dti", made_from=("dwi",))
    outputs.note("dti", {"Models": list(models)})
    return outputs, outputs.finish()


def paths(folder: Path) -> set[str]:
    return {p.name for p in folder.rglob("*") if p.is_file()}


def test_every_file_is_listed_with_step_sources_and_sha256(tmp_path: Path) -> None:
    outputs, _ = write_run(tmp_path, {"one": 1.0})
    content = json.loads(record_path(outputs.names).read_text())
    assert content["Finished"] is True
    assert content["Steps"] == {"dti": {"Models": ["one"]}}
    assert [file["Role"] for file in content["Files"]] == ["map", "sidecar"]
    for file in content["Files"]:
        assert file["SHA256"] == hashlib.sha256((tmp_path / file["File"]).read_bytes()).hexdigest()
        assert (file["Step"], file["MadeFrom"]) == ("dti", ["dwi"])
    (found,) = SubjectFiles(outputs.names).maps
    assert (found.model, found.param, found.label) == ("one", "fa", None)


def test_what_a_former_run_made_and_this_one_does_not_is_removed(tmp_path: Path) -> None:
    write_run(tmp_path, {"one": 1.0, "two": 2.0})
    outputs, said = write_run(tmp_path, {"two": 2.0})
    assert said == ["removed what a former run made and this one does not: 2 files of dti."]
    assert paths(tmp_path) == {"sub-1_model-two_param-fa_dwimap.nii.gz", "sub-1_model-two_param-fa_dwimap.json",
                               "sub-1_run.json"}  # fmt: skip
    assert [m.model for m in SubjectFiles(outputs.names).maps] == ["two"]


def test_a_file_that_changed_since_or_that_nobody_listed_is_never_removed(tmp_path: Path) -> None:
    outputs, _ = write_run(tmp_path, {"one": 1.0, "two": 2.0})
    edited = outputs.names.dwimap("one", "fa")
    NiftiVolumeResource.save(image(7.0), edited)
    own = outputs.names.path("desc-my_notes.txt")
    own.write_text("mine")
    outputs, said = write_run(tmp_path, {"two": 2.0})
    assert own.read_text() == "mine"
    assert NiftiVolumeResource(edited).get_array().max() == 7.0
    assert len(said) == 2
    assert said[0].endswith(" 1 files of dti."), "the sidecar"
    assert edited.name in said[1]
    assert [m.model for m in SubjectFiles(outputs.names).maps] == ["two"]
    assert write_run(tmp_path, {"two": 2.0})[1] == [], "it is said once"


def test_a_list_that_points_out_of_the_folder_removes_nothing_there(tmp_path: Path) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    (tmp_path / "out").mkdir()
    outputs, _ = write_run(tmp_path / "out", {"one": 1.0})
    path = record_path(outputs.names)
    content = json.loads(path.read_text())
    content["Files"].append(
        {"File": "../victim.txt", "Role": "map", "Step": "dti", "MadeFrom": [],
         "SHA256": hashlib.sha256(b"mine").hexdigest()}
    )  # fmt: skip
    write_json(path, content)
    write_run(tmp_path / "out", {"one": 1.0})
    assert victim.read_text() == "mine"


def test_a_run_that_was_stopped_keeps_the_former_files_in_its_list_and_has_no_report(tmp_path: Path) -> None:
    write_run(tmp_path, {"one": 1.0})
    stopped = Outputs(Derivatives(tmp_path, "sub-1"), {})
    stopped.maps("two", [Map("fa", image())], {}, step="dti", made_from=())
    stopped.note("dti", {})
    with pytest.raises(InputError, match="stopped before its end"):
        _ = SubjectFiles(stopped.names).maps
    outputs, _ = write_run(tmp_path, {"three": 3.0})
    assert {m.model for m in SubjectFiles(outputs.names).maps} == {"three"}
    assert not [name for name in paths(tmp_path) if "one" in name or "two" in name]


@pytest.mark.parametrize("prefix", ["scan[1]", "a{b}c", "x*y?", "50%", "sub-1_run-1"])
def test_names_that_mean_something_to_a_pattern_do_no_harm(prefix: str, tmp_path: Path) -> None:
    write_run(tmp_path, {"one": 1.0, "two": 1.0}, prefix)
    outputs, _ = write_run(tmp_path, {"two": 1.0}, prefix)
    (subject,) = find_subjects(tmp_path)
    assert subject.names.prefix == prefix
    assert [m.model for m in subject.maps] == ["two"]
    assert subject.maps[0].path == outputs.names.dwimap("two", "fa")


@pytest.mark.parametrize("left", [0, 10, 200])
def test_a_list_cut_short_is_one_sentence_and_the_next_run_writes_it_anew(left: int, tmp_path: Path) -> None:
    outputs, _ = write_run(tmp_path, {"one": 1.0})
    path = record_path(outputs.names)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(InputError, match=r"_run\.json cannot be read.*no whole JSON"):
        find_subjects(tmp_path)
    again, _ = write_run(tmp_path, {"one": 1.0})
    assert len(SubjectFiles(again.names).maps) == 1


def test_a_folder_of_a_version_without_lists_says_what_to_do(tmp_path: Path) -> None:
    names = Derivatives(tmp_path, "sub-1")
    names.folder.mkdir(parents=True)
    NiftiVolumeResource.save(image(), names.dwimap("old", "fa"))
    names.path("timings.json").write_text("{}")
    with pytest.raises(InputError, match=r"without a list of outputs.*Run `arcuate run`"):
        find_subjects(tmp_path)
    outputs, said = write_run(tmp_path, {"one": 1.0})
    assert "2 files of sub-1" in said[0]
    assert names.dwimap("old", "fa").is_file()
    assert [m.model for m in SubjectFiles(outputs.names).maps] == ["one"]


def test_an_output_is_refused_that_is_an_input_under_another_name(tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    scan.write_text("x")
    links: dict[str, Callable[[], Path]] = {
        "same": lambda: tmp_path / "sub" / ".." / "scan.nii.gz",
        "hard": lambda: _linked(os.link, scan, tmp_path / "hard.nii.gz"),
        "soft": lambda: _linked(os.symlink, scan, tmp_path / "soft.nii.gz"),
    }
    for make in links.values():
        with pytest.raises(InputError, match=r"is an input \(dwi.*another --out"):
            refuse_overwriting([make()], {"dwi": scan})
    refuse_overwriting([tmp_path / "other.nii.gz"], {"dwi": scan})


def _linked(link: Callable[[Path, Path], None], source: Path, target: Path) -> Path:
    link(source, target)
    return target


def test_a_run_never_writes_over_what_it_reads(tmp_path: Path) -> None:
    names = Derivatives(tmp_path, "sub-1")
    mask = names.path("desc-brain_mask.nii.gz")
    NiftiVolumeResource.save(image(), mask)
    before = mask.read_bytes()
    outputs = Outputs(names, {"mask": mask})
    with pytest.raises(InputError, match="is an input"):
        outputs.image("desc-brain_mask.nii.gz", image(2.0), {}, role="mask", step="mask", made_from=())
    assert mask.read_bytes() == before
    assert read_record(names) is None
