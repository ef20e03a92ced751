"""A cohort on a cluster: failures are rows, killed workers lose nothing, what is finished is not done again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from run_files import contents

from arcuate.cli import app
from arcuate.errors import InputError
from arcuate.study.cluster import Placement, open_cluster
from arcuate.study.cohort_status import COLUMNS
from arcuate.study.cohort_task import step_at_end
from arcuate.study.phantom_dataset import PhantomDataset, write_phantom_dataset

pytest.importorskip("dask.distributed", reason="the extra [cohort] is not installed")
OPTIONS = ("--steps", "mask", "--mask-method", "otsu", "--no-report")  # what a scan takes is mostly its start


def _dataset(folder: Path, n: int = 4, **kinds: object) -> Path:
    write_phantom_dataset(
        folder,
        PhantomDataset(n, n_sessions=2, n_parts=2, shape=(12, 12, 8), voxel_size=16.0, n_directions=7, **kinds),  # type: ignore[arg-type]
    )
    return folder


def _command(bids: Path, out: Path, *more: str, options: tuple[str, ...] = OPTIONS) -> list[str]:
    return [sys.executable, "-m", "arcuate", "cohort", str(bids), str(out), "participant", *options, *more]


@pytest.mark.parametrize(
    "typed",
    [
        (), ("--second-pass",), ("--no-second-pass",), ("--no-report",), ("--robust",), ("--wmti",),
        ("--steps", "mask,fod"), ("--algorithm", "tournier", "--tensor-order", "mrtrix"),
    ],
)  # fmt: skip
def test_options_of_a_run_reach_every_scan_as_they_were_typed(typed: tuple[str, ...], tmp_path: Path) -> None:
    from arcuate.commands import cohort as module

    context = module.cohort.make_context("cohort", [str(tmp_path), str(tmp_path / "o"), "participant", *typed])
    handed_on = module._arguments(context.params)
    assert sorted(handed_on) == sorted(typed)


def _wait(what: Callable[[], object], seconds: float = 240.0) -> object:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("nothing came in time")


def _table(out: Path) -> dict[str, dict[str, str]]:
    rows = [line.split("\t") for line in (out / "participants_status.tsv").read_text().splitlines()]
    assert rows[0] == list(COLUMNS)
    return {f"{row[0]}_{row[1]}": dict(zip(rows[0], row, strict=True)) for row in rows[1:]}


def _changes(out: Path) -> dict[str, int]:
    """Time of change of every log and every derivative."""
    files = [*out.glob("logs/*"), *out.glob("sub-*/**/*")]
    return {path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in files if path.is_file()}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


@dataclass
class Story:
    """A cohort that was disturbed: a worker killed, then the command stopped, then started again."""

    bids: Path
    out: Path
    stopped: subprocess.CompletedProcess[str]
    table_when_stopped: dict[str, dict[str, str]]
    second: subprocess.CompletedProcess[str]
    changes: list[dict[str, int]]  # after the stop and the second run


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("cohort")
    bids, out = _dataset(folder / "bids", faults=("truncated", "broken_gradients")), folder / "out"
    command = _command(bids, out, "--workers", "2", "--nthreads", "1")
    work = out / ".arcuate-cohort"
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    running = _wait(lambda: [p for p in work.glob("running/*.json") if p.stat().st_size])
    killed = json.loads(running[0].read_text())  # type: ignore[index]
    os.kill(killed["Pid"], signal.SIGKILL)
    _wait(lambda: list(work.glob("states/*.json")))
    time.sleep(0.5)
    first.send_signal(signal.SIGTERM)
    printed, said = first.communicate(timeout=240)
    stopped = subprocess.CompletedProcess(command, first.returncode, printed, said)
    table, changes = _table(out), [_changes(out)]
    second = subprocess.run(command, capture_output=True, text=True)
    changes.append(_changes(out))
    return Story(bids, out, stopped, table, second, changes)


def test_a_stopped_cohort_says_so_and_leaves_nothing_running(story: Story) -> None:
    assert story.stopped.returncode in {-signal.SIGTERM, 143}, story.stopped.stderr
    assert "start the same command again to go on" in story.stopped.stderr
    assert "Traceback" not in story.stopped.stderr
    states = {row["state"] for row in story.table_when_stopped.values()}
    assert states <= {"complete", "failed", "stopped", "pending"}
    assert {"stopped", "pending"} & states
    assert not list((story.out / ".arcuate-cohort" / "running").glob("*"))


def test_failures_are_rows_with_their_reason_and_the_rest_is_complete(story: Story) -> None:
    assert story.second.returncode == 3, story.second.stderr
    table = _table(story.out)
    # sessions of the first and third; parts of the others
    assert {name: row["state"] for name, row in table.items()} == {
        "sub-01_ses-01": "complete",
        "sub-01_ses-02": "complete",
        "sub-02_ses-01": "complete",
        "sub-03_ses-01": "failed",
        "sub-03_ses-02": "failed",
        "sub-04_ses-01": "failed",
    }
    assert "cut short" in table["sub-03_ses-01"]["message"]
    assert "b-vectors" not in table["sub-03_ses-01"]["message"]
    assert "8 b-vectors for 9 b-values" in table["sub-04_ses-01"]["message"]
    for row in table.values():
        assert (story.out / row["log"]).is_file()
        assert float(row["seconds"]) > 0
        assert float(row["peak_memory_mb"]) > 50


def test_a_log_names_the_step_at_which_it_ends() -> None:
    log = "plan: mask (hdbet), dti, freewater, noddi\nmask was not named and is done because dti needs it\n"
    lines = [
        "mask          0.05 s  found",
        "dti        left out: why",
        "freewater     0.33 s  fitted",
        "noddi        1 s  x",
    ]
    ends = [step_at_end(log + "\n".join(lines[:n])) for n in range(5)]
    assert ends == ["mask", "dti", "freewater", "noddi", "report"]
    assert step_at_end("error: no b-values") == "files"
    assert step_at_end(log + "\n".join([*lines, "report        1.55 s  sub-01.html"])) == "end"


def test_what_was_finished_is_not_done_again(story: Story) -> None:
    after_stop, after_second = story.changes
    done = [name for name, row in story.table_when_stopped.items() if row["state"] == "complete"]
    assert all(after_second[f"logs/{name}.log"] == after_stop[f"logs/{name}.log"] for name in done)
    files = [name for name in after_stop if any(f"/{scan}_" in name for scan in done)]
    assert bool(files) == bool(done)
    assert {name: after_second[name] for name in files} == {name: after_stop[name] for name in files}
    assert f"{6 - len(done)} scans, 2 at once" in story.second.stderr
    assert "3 complete, 3 failed" in story.second.stderr


def test_files_are_those_of_a_single_run(story: Story, tmp_path: Path) -> None:
    parts = sorted(map(str, (story.bids / "sub-02").rglob("*_dwi.nii.gz")))
    command = [sys.executable, "-m", "arcuate", "run", *parts, "--out", str(tmp_path), *OPTIONS]
    subprocess.run(command, check=True, capture_output=True)
    single = {name: content for name, content in contents(tmp_path).items() if name.startswith("sub-")}
    assert len(single) >= 3
    assert {name: content for name, content in contents(story.out).items() if name in single} == single


def test_derivatives_pass_the_official_validator(story: Story) -> None:
    beside = Path(sys.executable).with_name("bids-validator-deno")
    program = str(beside) if beside.exists() else shutil.which("bids-validator-deno")
    if program is None:
        pytest.skip("bids-validator-deno is not installed")
    for folder, is_raw in ((story.out, False), (story.bids, True)):
        told = subprocess.run([program, str(folder), "--json"], capture_output=True, text=True)
        issues = json.loads(told.stdout)["issues"]["issues"]
        errors = {(issue["code"], issue.get("location", "")) for issue in issues if issue.get("severity") == "error"}
        if is_raw:  # of the phantoms those with a fault on purpose are found, and no other
            assert errors
            assert all("/sub-03/" in place or "/sub-04/" in place for _, place in errors), errors
        else:
            assert not errors


def test_derivatives_open_in_pybids_and_bids2table(story: Story) -> None:
    bids = pytest.importorskip("bids", reason="pybids is not installed")
    bids2table = pytest.importorskip("bids2table", reason="bids2table is not installed")
    masks = [p.name for p in story.out.glob("sub-*/**/*_mask.nii.gz")]
    assert len(masks) == 3
    layout = bids.BIDSLayout(story.bids, derivatives=[story.out])
    found = layout.get(scope="derivatives", suffix="mask", desc="brain", extension=".nii.gz")
    assert sorted(Path(image.path).name for image in found) == sorted(masks)
    table = bids2table.index_dataset(story.out).to_pylist()
    assert sorted((row["sub"], row["ses"]) for row in table if row["suffix"] == "mask") == [
        ("01", "01"), ("01", "02"), ("02", "01")
    ]  # fmt: skip


def test_sidecars_name_their_sources_in_data_sets_that_the_description_links(story: Story) -> None:
    sidecar = json.loads(next((story.out / "sub-02").rglob("*_mask.json")).read_text())
    description = json.loads((story.out / "dataset_description.json").read_text())
    assert description["DatasetLinks"] == {"input": story.bids.resolve().as_uri()}
    for uri in sidecar["Sources"]:
        data_set, place = uri.removeprefix("bids:").split(":")
        assert data_set == "input"
        assert (story.bids / place).is_file()
    assert [uri.rpartition("/")[2] for uri in sidecar["Sources"]][:3] == [
        f"sub-02_ses-01_run-1_dwi.{ending}" for ending in ("nii.gz", "bval", "bvec")
    ]
    assert len(sidecar["Sources"]) == 6


def _plan(story: Story, capsys: pytest.CaptureFixture[str], *more: str) -> list[str]:
    """The line of each scan that a call with --dry-run prints, and a check that it wrote nothing."""
    before = {path: path.stat().st_mtime_ns for path in story.out.rglob("*")}
    app.main([*_command(story.bids, story.out, "--dry-run", *more)[3:]], standalone_mode=False)
    assert {path: path.stat().st_mtime_ns for path in story.out.rglob("*")} == before
    return [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]


def test_other_options_other_inputs_and_removed_results_are_done_again(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = _plan(story, capsys)
    assert [line for line in lines if line.endswith(": complete")] == [
        "sub-01_ses-01: complete", "sub-01_ses-02: complete", "sub-02_ses-01 (2 parts): complete"
    ]  # fmt: skip
    assert len(lines) == 6
    one = ("--participant-label", "01", "02")
    assert all(line.endswith(": to be run") for line in _plan(story, capsys, *one, "--b0-threshold", "20"))
    image = next((story.bids / "sub-01" / "ses-01").rglob("*_dwi.nii.gz"))
    mask = next((story.out / "sub-02").rglob("*_mask.nii.gz"))
    date = image.stat().st_mtime_ns
    moved = mask.rename(mask.with_suffix(".moved"))
    os.utime(image, ns=(0, time.time_ns()))
    try:
        expected = ["sub-01_ses-01: to be run", "sub-01_ses-02: complete", "sub-02_ses-01 (2 parts): to be run"]
        assert _plan(story, capsys, *one) == expected
    finally:  # the other tests of the module come in any order
        moved.rename(mask)
        os.utime(image, ns=(date, date))


class _Scheduler:
    """A scheduler and two workers in processes of their own, as an administrator starts them."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scheduler.json"
        self.file.unlink(missing_ok=True)
        dask = [sys.executable, "-m", "dask"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        common = ["--scheduler-file", str(self.file), "--dashboard-address", ":0"]
        self.processes = [subprocess.Popen([*dask, "scheduler", "--port", "0", *common], cwd=folder, **quiet)]  # type: ignore[call-overload]
        self.address = str(_wait(self._read)["address"])  # type: ignore[index]
        worker = [*dask, "worker", *common, "--nthreads", "1", "--memory-limit", "0", "--resources", "subject=1"]
        self.processes += [subprocess.Popen(worker, cwd=folder, **quiet) for _ in range(2)]  # type: ignore[call-overload]

    def _read(self) -> dict[str, str] | None:
        try:
            return dict(json.loads(self.file.read_text()))
        except (OSError, ValueError):
            return None

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve subjects: sessions of the odd ones, parts of the even ones, three with a fault."""
    faults = ("single_shell", "truncated", "broken_gradients")
    return _dataset(tmp_path_factory.mktemp("twelve") / "bids", 12, faults=faults)


WITH_TENSOR = ("--steps", "dti", *OPTIONS[2:])
_SINGLE_RUNS = """
import sys
from arcuate.cli import app
out, *folders = sys.argv[1:]
for folder in folders:
    app.main(["run", folder, "--out", out, *OPTIONS], standalone_mode=False)
"""


def _check_twelve(bids: Path, out: Path, single: Path) -> None:
    """Ten are complete with the files of single runs, two failed with their reasons."""
    by_subject: dict[str, set[str]] = {}
    messages: dict[str, str] = {}
    for row in _table(out).values():
        by_subject.setdefault(row["participant_id"], set()).add(row["state"])
        messages[row["participant_id"]] = row["message"]
    assert len(by_subject) == 12
    assert {subject for subject, found in by_subject.items() if found != {"complete"}} == {"sub-11", "sub-12"}
    assert (by_subject["sub-11"], by_subject["sub-12"]) == ({"failed"}, {"failed"})
    assert "cut short" in messages["sub-11"]
    assert "b-vectors" in messages["sub-12"]
    sessions = [p for p in sorted(bids.glob("sub-*/ses-*")) if by_subject[p.parent.name] == {"complete"}]
    assert len(sessions) == 15
    script = _SINGLE_RUNS.replace("*OPTIONS", ", ".join(map(repr, WITH_TENSOR)))
    subprocess.run([sys.executable, "-c", script, str(single), *map(str, sessions)], check=True, capture_output=True)
    files = {name: content for name, content in contents(single).items() if name.startswith("sub-")}
    assert len(files) > 15 * 10
    found = contents(out)
    differing = [name for name in files if found[name] != files[name]]
    assert not differing


@pytest.mark.long
def test_twelve_subjects_on_two_local_workers_of_which_one_is_killed(twelve: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    work = out / ".arcuate-cohort"
    command = _command(twelve, out, "--workers", "2", "--nthreads", "1", options=WITH_TENSOR)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _wait(lambda: len(list(work.glob("states/*.json"))) >= 3)
    before = _changes(out)
    done = {path.stem for path in work.glob("states/*.json")}
    running = _wait(lambda: [p for p in work.glob("running/*.json") if p.stem not in done and p.stat().st_size])
    os.kill(json.loads(running[0].read_text())["Pid"], signal.SIGKILL)  # type: ignore[index]
    _, said = process.communicate(timeout=900)
    assert process.returncode == 3, said
    after = _changes(out)
    assert all(after[f"logs/{name}.log"] == before[f"logs/{name}.log"] for name in done), "finished ones were repeated"
    _check_twelve(twelve, out, tmp_path / "single")


@pytest.mark.long
def test_twelve_subjects_on_a_scheduler_that_dies_and_comes_back(twelve: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    states = out / ".arcuate-cohort" / "states"
    scheduler = _Scheduler(tmp_path)
    try:
        command = _command(twelve, out, "--scheduler", scheduler.address, options=WITH_TENSOR)
        first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running = _wait(lambda: [p for p in out.glob(".arcuate-cohort/running/*.json") if p.stat().st_size])
        os.kill(json.loads(running[0].read_text())["Pid"], signal.SIGKILL)  # type: ignore[index]
        _wait(lambda: len(list(states.glob("*.json"))) >= 3)
    finally:
        scheduler.kill()
    _, said = first.communicate(timeout=300)
    assert first.returncode == 2, said
    assert "the scheduler went away" in said
    assert "Traceback" not in said
    before = {p.name: p.stat().st_mtime_ns for p in states.glob("*.json") if '"complete"' in p.read_text()}
    assert before
    scheduler = _Scheduler(tmp_path)
    try:
        command = _command(twelve, out, "--scheduler", scheduler.address, options=WITH_TENSOR)
        second = subprocess.run(command, capture_output=True, text=True, timeout=900)
    finally:
        scheduler.kill()
    assert second.returncode == 3, second.stderr
    assert {name: (states / name).stat().st_mtime_ns for name in before} == before
    _check_twelve(twelve, out, tmp_path / "single")


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1:9", "127.0.0.1:99999999"])
def test_an_address_that_nobody_answers_is_one_sentence(tmp_path: Path, address: str) -> None:
    placement = Placement(address, 1, 1, None, tmp_path)
    words = rf"^no scheduler answers at {address} \(.*--scheduler tcp://HOST:8786\.$"
    with pytest.raises(InputError, match=words), open_cluster(placement):
        pass
