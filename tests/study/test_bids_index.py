"""Scans of a data set: sessions, parts, versions, filters; no file is opened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from arcuate.errors import InputError, InputWarning
from arcuate.study.bids_index import Wanted, index_dataset, read_filters, without_scan
from arcuate.study.cohort import CohortOptions, plan_tasks
from arcuate.study.cohort_status import read_status, write_status
from arcuate.study.cohort_task import COMPLETE, FAILED, PENDING, STOPPED, Outcome


def _make(folder: Path, *files: str, kind: str = "raw") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    description = {"Name": "x", "BIDSVersion": "1.10.0", "DatasetType": kind}
    (folder / "dataset_description.json").write_text(json.dumps(description))
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_images_of_a_session_are_parts_of_one_scan(tmp_path: Path) -> None:
    bids = _make(
        tmp_path,
        "sub-b/ses-2/dwi/sub-b_ses-2_dir-AP_run-2_dwi.nii.gz",
        "sub-b/ses-2/dwi/sub-b_ses-2_dir-AP_run-1_dwi.nii.gz",
        "sub-b/ses-2/dwi/sub-b_ses-2_dir-AP_run-1_sbref.nii.gz",
        "sub-b/ses-2/dwi/sub-b_ses-2_dir-AP_run-1_part-phase_dwi.nii.gz",
        "sub-b/ses-2/anat/sub-b_ses-2_T1w.nii.gz",
        "sub-b/ses-1/anat/sub-b_ses-1_T1w.nii.gz",
        "sub-a/dwi/sub-a_dwi.nii",
        "derivatives/sub-c/dwi/sub-c_dwi.nii.gz",
    )
    a, b = index_dataset(bids)
    assert (a.subject, a.session, a.prefix, a.name) == ("a", "", "sub-a", "sub-a")
    assert (b.prefix, b.name) == ("sub-b_ses-2_dir-AP", "sub-b ses-2")
    assert [image.name[-17:] for image in b.images] == ["_run-1_dwi.nii.gz", "_run-2_dwi.nii.gz"]


def test_what_the_data_set_ignores_is_left_out_by_the_rules_of_gitignore(tmp_path: Path) -> None:
    names = ("1/dwi/sub-1_run-1", "1/dwi/sub-1_run-2", "2/dwi/sub-2", "3/ses-a/dwi/sub-3_ses-a", "4/dwi/sub-4_acq-test")
    bids = _make(tmp_path, *(f"sub-{name}_dwi.nii.gz" for name in names), "sub-5/dwi/sub-5_dwi.nii.gz")
    patterns = "# scans with faults\r\n\r\nsub-2/\r\n**/*run-2*\r\n/sub-3/ses-a\r\n*_acq-*\r\n*_dwi.bvec\r\n!sub-4/\r\n"
    (bids / ".bidsignore").write_bytes(b"\xef\xbb\xbf" + patterns.encode())
    with pytest.warns(
        InputWarning, match=r"4 diffusion images of .* are left out, as its .bidsignore says: sub-1/dwi/"
    ):
        found = index_dataset(bids)
    assert [image.name for scan in found for image in scan.images] == ["sub-1_run-1_dwi.nii.gz", "sub-5_dwi.nii.gz"]
    with pytest.raises(InputError, match=r"found no diffusion scan .* the filter file, and its \.bidsignore"):
        index_dataset(bids, Wanted(("2",)))


def test_images_named_after_another_subject_or_session_are_left_out_with_a_warning(tmp_path: Path) -> None:
    names = ("sub-1/dwi/sub-2", "sub-1/dwi/sub-1", "sub-3/ses-b/dwi/sub-3_ses-a", "sub-3/ses-b/dwi/sub-3")
    bids = _make(tmp_path, *(f"{name}_dwi.nii.gz" for name in names))
    with pytest.warns(InputWarning) as heard:
        found = index_dataset(bids)
    assert [scan.images[0].name for scan in found] == ["sub-1_dwi.nii.gz", "sub-3_dwi.nii.gz"]
    words = [str(warning.message) for warning in heard]
    assert "sub-2_dwi.nii.gz is left out: its name is not that of sub-1, where it lies" in words[0]
    assert "sub-3_ses-a_dwi.nii.gz is left out: its name is not that of sub-3/ses-b, where it lies" in words[1]


def test_versions_of_one_scan_are_no_parts_and_a_filter_chooses(tmp_path: Path) -> None:
    files = [f"sub-1/dwi/sub-1_space-{s}_desc-preproc_dwi.nii.gz" for s in ("ACPC", "T1w")]
    mask = "sub-1/dwi/sub-1_space-T1w_desc-brain_mask.nii.gz"
    bids = _make(tmp_path / "qsiprep", *files, mask, kind="derivative")
    (scan,) = index_dataset(bids)
    assert "versions of one scan (space-ACPC, space-T1w)" in scan.problem
    (tmp_path / "f.json").write_text('{"dwi": {"space": "T1w"}, "t1w": {}}')
    (scan,) = index_dataset(bids, Wanted(filters=read_filters(tmp_path / "f.json")))
    assert not scan.problem
    assert scan.mask == bids / mask


def test_a_scan_in_two_formats_is_not_taken_twice(tmp_path: Path) -> None:
    bids = _make(tmp_path / "b", "sub-1/dwi/sub-1_dwi.nii", "sub-1/dwi/sub-1_dwi.nii.gz", "sub-1/dwi/sub-1_dwi.bval")
    (scan,) = index_dataset(bids)
    assert "one scan in two formats (sub-1_dwi.nii and sub-1_dwi.nii.gz)" in scan.problem
    (scan,) = index_dataset(bids, Wanted(filters={"extension": (".nii.gz",)}))
    assert (scan.problem, [image.name for image in scan.images]) == ("", ["sub-1_dwi.nii.gz"])


@pytest.mark.parametrize("names", [("echo-1", "echo-2"), ("rec-a", "rec-b"), ("", "part-mag")])
def test_echoes_and_reconstructions_are_no_parts(tmp_path: Path, names: tuple[str, str]) -> None:
    files = [f"sub-1/dwi/sub-1_{name}_dwi.nii.gz".replace("__", "_") for name in names]
    (scan,) = index_dataset(_make(tmp_path, *files))
    assert "versions of one scan" in scan.problem


def test_a_link_without_its_file_is_a_scan_that_fails_and_the_others_are_planned(tmp_path: Path) -> None:
    bids = _make(tmp_path / "b", "sub-1/dwi/sub-1_dwi.nii.gz", "sub-2/dwi/sub-2_dwi.bval")
    (bids / "sub-2/dwi/sub-2_dwi.nii.gz").symlink_to("../../.git/annex/objects/absent")
    (bids / "sub-1/dwi/sub-1_dwi.bval").symlink_to("../../.git/annex/objects/absent")
    whole, broken = plan_tasks(index_dataset(bids), CohortOptions(tmp_path / "out", tmp_path / "work"))
    assert not whole.problem
    assert "sub-2_dwi.nii.gz is a link to a file that is not there" in broken.problem
    assert "datalad get" in broken.problem


def test_subjects_without_a_scan_are_named(tmp_path: Path) -> None:
    bids = _make(tmp_path, "sub-1/dwi/sub-1_dwi.nii.gz", "sub-2/anat/sub-2_T1w.nii.gz", "sub-3/dwi/sub-3_sbref.nii.gz")
    assert without_scan(bids, Wanted(), index_dataset(bids)) == ["sub-2", "sub-3"]
    wanted = Wanted(("sub-1",))
    assert without_scan(bids, wanted, index_dataset(bids, wanted)) == []


@pytest.mark.parametrize(("value", "runs"), [("1", ["01"]), ('"1"', ["01"]), ('["01", "2"]', ["01", "2"])])
def test_numbers_of_runs_are_numbers(tmp_path: Path, value: str, runs: list[str]) -> None:
    bids = _make(tmp_path / "b", "sub-1/dwi/sub-1_run-01_dwi.nii.gz", "sub-1/dwi/sub-1_run-2_dwi.nii.gz")
    (tmp_path / "f.json").write_text(f'{{"dwi": {{"run": {value}}}}}')
    (scan,) = index_dataset(bids, Wanted(filters=read_filters(tmp_path / "f.json")))
    assert [image.name.split("run-")[1].split("_")[0] for image in scan.images] == runs


def test_results_of_preprocessed_images_have_one_desc(tmp_path: Path) -> None:
    name = "sub-1/ses-2/dwi/sub-1_ses-2_space-T1w_desc-preproc_dwi.nii.gz"
    (scan,) = index_dataset(_make(tmp_path, name, kind="derivative"))
    assert scan.prefix == "sub-1_ses-2_space-T1w"


def test_a_mask_in_a_raw_data_set_is_left_alone(tmp_path: Path) -> None:
    bids = _make(tmp_path, "sub-1/dwi/sub-1_dwi.nii.gz", "sub-1/dwi/sub-1_desc-brain_mask.nii.gz")
    assert index_dataset(bids)[0].mask is None


@pytest.mark.parametrize(
    ("value", "found"),
    [('"b3000"', ["1"]), ("null", ["2"]), ('["b3000", null]', ["1", "2"]), ('"*"', ["1"]), ('"Query.NONE"', ["2"])],
)
def test_filters_take_labels_lists_null_and_any(tmp_path: Path, value: str, found: list[str]) -> None:
    bids = _make(tmp_path / "b", "sub-1/dwi/sub-1_acq-b3000_dwi.nii.gz", "sub-2/dwi/sub-2_dwi.nii.gz")
    (tmp_path / "f.json").write_text(f'{{"dwi": {{"acquisition": {value}}}}}')
    scans = index_dataset(bids, Wanted(filters=read_filters(tmp_path / "f.json")))
    assert [scan.subject for scan in scans] == found


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted(("sub-9",)), r"has no sub-9; it holds 1 subjects, sub-1"),
        (Wanted(("01",)), r"has no sub-01; it holds 1 subjects, sub-1\. Did you mean 1\?"),
        (Wanted(sessions=("7",)), r"found no diffusion scan .* that is wanted"),
        (Wanted(filters={"acq": ("x",)}), r"Check the folder, the labels and the filter file"),
    ],
)
def test_what_is_not_there_is_one_sentence(tmp_path: Path, wanted: Wanted, words: str) -> None:
    bids = _make(tmp_path, "sub-1/dwi/sub-1_dwi.nii.gz")
    with pytest.raises(InputError, match=words):
        index_dataset(bids, wanted)


def test_a_folder_that_is_no_data_set_is_refused_and_taken_when_told_so(tmp_path: Path) -> None:
    (tmp_path / "sub-1" / "dwi").mkdir(parents=True)
    (tmp_path / "sub-1" / "dwi" / "sub-1_dwi.nii.gz").touch()
    with pytest.raises(InputError, match=r"no dataset_description\.json .* --skip-bids-validation"):
        index_dataset(tmp_path)
    assert len(index_dataset(tmp_path, is_checked=False)) == 1
    with pytest.raises(InputError, match="is no folder"):
        index_dataset(tmp_path / "nothing")


@pytest.mark.parametrize("content", ['{"dwi": {"acq": true}}', "[1]", '{"dwi": 3}', '{"dwi": {"acq": {}}}', "{"])
def test_a_filter_file_that_says_nothing_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "f.json").write_text(content)
    with pytest.raises(InputError, match=r"f\.json"):
        read_filters(tmp_path / "f.json")


def test_a_file_of_each_scan_is_named_by_its_labels_and_its_absence_is_a_row(tmp_path: Path) -> None:
    bids = _make(tmp_path / "b", "sub-1/ses-a/dwi/sub-1_ses-a_dwi.nii.gz", "sub-2/dwi/sub-2_dwi.nii.gz")
    (tmp_path / "1-a.h5").touch()
    own = {"--atlas-to-scan": str(tmp_path / "{subject}-{session}.h5"), "--atlas-names": "freesurfer"}
    options = CohortOptions(tmp_path / "out", tmp_path / "work", own_files=own)
    first, second = plan_tasks(index_dataset(bids), options)
    assert first.arguments[-4:] == ("--atlas-to-scan", str(tmp_path / "1-a.h5"), "--atlas-names", "freesurfer")
    assert not first.problem
    assert "2-.h5 is not there; expected the file of sub-2" in second.problem
    (tmp_path / "1-a.h5").write_text("another")
    assert plan_tasks(index_dataset(bids), options)[0].fingerprint != first.fingerprint


def test_commands_in_one_folder_have_stop_files_of_their_own(tmp_path: Path) -> None:
    bids = _make(tmp_path / "b", "sub-1/dwi/sub-1_dwi.nii.gz", "sub-2/dwi/sub-2_dwi.nii.gz")
    options = CohortOptions(tmp_path / "out", tmp_path / "work")
    plans = [plan_tasks(index_dataset(bids), options) for _ in range(2)]
    assert [len({task.stop_file for task in tasks}) for tasks in plans] == [1, 1]
    assert plans[0][0].stop_file != plans[1][0].stop_file
    assert [task.fingerprint for task in plans[0]] == [task.fingerprint for task in plans[1]]


def test_rows_of_scans_that_are_no_more_stay_only_where_they_are_complete(tmp_path: Path) -> None:
    bids = _make(tmp_path / "b", *(f"sub-{i}/dwi/sub-{i}_dwi.nii.gz" for i in range(4)))
    tasks = plan_tasks(index_dataset(bids), CohortOptions(tmp_path / "out", tmp_path / "work"))
    states = (COMPLETE, FAILED, PENDING, STOPPED)
    outcomes = [Outcome.of(task, state) for task, state in zip(tasks, states, strict=True)]
    table = write_status(tmp_path, outcomes)
    assert [row[2] for row in read_status(write_status(tmp_path, outcomes[2:3]))] == list(states)
    assert [row[2] for row in read_status(write_status(tmp_path, outcomes[2:3], has_all=True))] == [COMPLETE, PENDING]
    assert table.with_suffix(".json").is_file()
