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

from arcuate.study.cohort import COLUMNS
from arcuate.study.phantom_dataset import PhantomDataset, write_phantom_dataset

pytest.importorskip("dask.distributed", reason="the extra [cohort] is not installed")
OPTIONS = ("--steps", "dti", "--mask-method", "otsu", "--no-report")


def _dataset(folder: Path, n: int = 5, **kinds: object) -> Path:
    write_phantom_dataset(
        folder,
        PhantomDataset(n, n_sessions=2, n_parts=2, shape=(12, 12, 8), voxel_size=16.0, n_directions=7, **kinds),  # type: ignore[arg-type]
    )
    return folder


def _command(bids: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "arcuate", "cohort", str(bids), str(out), "participant", *OPTIONS, *more]


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
    """A cohort that was disturbed: a worker killed, then the command stopped, then started twice more."""

    bids: Path
    out: Path
    stopped: subprocess.CompletedProcess[str]
    table_when_stopped: dict[str, dict[str, str]]
    second: subprocess.CompletedProcess[str]
    changes: list[dict[str, int]]  # after the stop, the second and the third run
    third: subprocess.CompletedProcess[str]


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
    third = subprocess.run(command, capture_output=True, text=True)
    changes.append(_changes(out))
    return Story(bids, out, stopped, table, second, changes, third)


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
    # sessions of the first, third and fifth; parts of the others
    assert {name: row["state"] for name, row in table.items()} == {
        "sub-01_ses-01": "complete",
        "sub-01_ses-02": "complete",
        "sub-02_ses-01": "complete",
        "sub-03_ses-01": "complete",
        "sub-03_ses-02": "complete",
        "sub-04_ses-01": "failed",
        "sub-05_ses-01": "failed",
        "sub-05_ses-02": "failed",
    }
    assert "cut short" in table["sub-04_ses-01"]["message"]
    assert "8 b-vectors" not in table["sub-04_ses-01"]["message"]
    assert "16 b-vectors for 17 b-values" in table["sub-05_ses-01"]["message"]
    for row in table.values():
        assert (story.out / row["log"]).is_file()
        assert float(row["seconds"]) > 0
        assert float(row["peak_memory_mb"]) > 50


def test_what_was_finished_is_not_done_again(story: Story) -> None:
    after_stop, after_second, after_third = story.changes
    done = [f"logs/{name}.log" for name, row in story.table_when_stopped.items() if row["state"] == "complete"]
    assert all(after_second[log] == after_stop[log] for log in done)
    assert {n: t for n, t in after_third.items() if "sub-04" not in n and "sub-05" not in n} == {
        n: t for n, t in after_second.items() if "sub-04" not in n and "sub-05" not in n
    }
    assert after_third["logs/sub-05_ses-01.log"] > after_second["logs/sub-05_ses-01.log"]
    assert story.third.returncode == 3
    assert "3 scans, 2 at once" in story.third.stderr
    assert "5 complete, 3 failed (5 of them before)" in story.third.stderr


def test_bytes_are_those_of_a_single_run(story: Story, tmp_path: Path) -> None:
    parts = sorted(map(str, (story.bids / "sub-02").rglob("*_dwi.nii.gz")))
    command = [sys.executable, "-m", "arcuate", "run", *parts, "--out", str(tmp_path), *OPTIONS]
    subprocess.run(command, check=True, capture_output=True)
    single = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.glob("sub-*/**/*.*") if p.is_file()}
    single = {name: content for name, content in single.items() if not name.name.endswith("_timings.json")}
    assert len(single) > 10
    assert {name: (story.out / name).read_bytes() for name in single} == single


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
            assert all("/sub-04/" in place or "/sub-05/" in place for _, place in errors), errors
        else:
            assert not errors


def test_other_options_or_other_inputs_are_done_again(story: Story) -> None:
    def plan(*more: str) -> str:
        command = _command(story.bids, story.out, "--dry-run", "--participant-label", "01", *more)
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert plan().count(": complete") == 2
    assert plan("--b0-threshold", "20").count(": to be run") == 2
    image = next((story.bids / "sub-01" / "ses-01").rglob("*_dwi.nii.gz"))
    os.utime(image, ns=(0, time.time_ns()))
    assert plan().splitlines() == ["sub-01_ses-01: to be run", "sub-01_ses-02: complete"]


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


@pytest.mark.long
def test_twelve_subjects_on_a_scheduler_that_dies_and_comes_back(tmp_path: Path) -> None:
    faults = ("single_shell", "truncated", "broken_gradients")
    bids, out = _dataset(tmp_path / "bids", 12, faults=faults), tmp_path / "out"
    states = out / ".arcuate-cohort" / "states"
    scheduler = _Scheduler(tmp_path)
    try:
        command = _command(bids, out, "--scheduler", scheduler.address)
        first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running = _wait(lambda: [p for p in out.glob(".arcuate-cohort/running/*.json") if p.stat().st_size])
        os.kill(json.loads(running[0].read_text())["Pid"], signal.SIGKILL)  # type: ignore[index]
        _wait(lambda: len(list(states.glob("*.json"))) >= 3)
    finally:
        scheduler.kill()
    _, said = first.communicate(timeout=300)
    assert first.returncode == 2, said
    assert "the scheduler went away" in said
    before = {p.name: p.stat().st_mtime_ns for p in states.glob("*.json") if '"complete"' in p.read_text()}
    scheduler = _Scheduler(tmp_path)
    try:
        second = subprocess.run(
            _command(bids, out, "--scheduler", scheduler.address), capture_output=True, text=True, timeout=900
        )
    finally:
        scheduler.kill()
    assert second.returncode == 3, second.stderr
    assert {name: (states / name).stat().st_mtime_ns for name in before} == before
    by_subject: dict[str, set[str]] = {}
    for row in _table(out).values():
        by_subject.setdefault(row["participant_id"], set()).add(row["state"])
    assert len(by_subject) == 12
    assert [subject for subject, found in by_subject.items() if found != {"complete"}] == ["sub-11", "sub-12"]


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1:9", "127.0.0.1:99999999"])
def test_an_address_that_nobody_answers_is_one_sentence(tmp_path: Path, address: str) -> None:
    bids = _dataset(tmp_path / "bids", 1)
    done = subprocess.run(_command(bids, tmp_path / "out", "--scheduler", address), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: no scheduler answers at {address} (")
    assert len(done.stderr.splitlines()) == 1
