"""A cohort at the level of participants: what is to be run, running it on a cluster, the table of what became of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from arcuate._version import __version__
from arcuate.errors import InputError
from arcuate.io import write_text_atomically
from arcuate.study.bids import Derivatives, read_json, write_json
from arcuate.study.bids_index import SessionScan, facts_of_file
from arcuate.study.cohort_task import COMPLETE, FAILED, PENDING, STOPPED, Outcome, Task, kept_outcome, run_task
from arcuate.study.outputs import record_path

if TYPE_CHECKING:
    from arcuate.study.cluster import Cluster

STATUS_TABLE = "participants_status.tsv"
WORK = ".arcuate-cohort"  # below the output folder, unless another one is named
COLUMNS = {
    "participant_id": "Subject",
    "session_id": "Session; n/a where the data set has none",
    "state": "complete, failed, stopped (start the same command again), or pending (not begun)",
    "step": "Step of the run at which it failed or was stopped; n/a where it did not",
    "message": "What went wrong, in one sentence; n/a where nothing did",
    "log": "File with the words of the run, seen from the folder of this table",
    "seconds": "Time that the last run of the scan took, in seconds",
    "peak_memory_mb": "Largest resident memory of that run, in MiB",
}
EVERY = 2.0  # seconds between two writings of the table
PATIENCE = 90.0  # seconds that running subjects have to stop in


class Listener(Protocol):
    """Who is told how the cohort goes on."""

    def begin(self, n_tasks: int, n_done: int) -> None: ...

    def end(self, outcome: Outcome) -> None: ...

    def tick(self) -> None:
        """Called a few times a second."""


@dataclass(frozen=True)
class CohortOptions:
    """How the scans of a cohort are run.

    Parameters
    ----------
    out : folder of the derivatives
    work : folder of caches, states and locks
    arguments : options of ``arcuate run``, the same for every scan
    files : inputs that all scans share, as group responses
    threads : of each scan
    memory_mb : of each scan; None for no limit
    """

    out: Path
    work: Path
    arguments: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    threads: int = 1
    memory_mb: float | None = None


def plan_tasks(scans: Sequence[SessionScan], options: CohortOptions) -> list[Task]:
    """One task for each scan; looks at the names, sizes and dates of its files, and reads none of them.

    Raises
    ------
    InputError
        Two scans would write under one name.
    """
    common = json.dumps([__version__, options.arguments, [facts_of_file(p) for p in options.files]])
    tasks: dict[str, Task] = {}
    at_top: dict[Path, list[Any]] = {}
    for scan in scans:
        name = scan.prefix
        if name in tasks:
            raise InputError(
                f"two scans would be written as {name}, of {tasks[name].subject} and {scan.subject}; expected names "
                "that tell them apart."
            )
        arguments = [
            "run", *map(str, scan.images), "--out", str(options.out), "--cache", str(options.work / "cache" / name),
            "--threads", str(options.threads), *options.arguments,
        ]  # fmt: skip
        if scan.mask is not None:
            arguments += ["--mask", str(scan.mask)]
        tasks[name] = Task(
            name=name,
            subject=scan.subject,
            session=scan.session,
            arguments=tuple(arguments),
            fingerprint=hashlib.sha256((common + _state_of_inputs(scan, at_top)).encode()).hexdigest()[:32],
            work=options.work,
            log=options.out / "logs" / f"{name}.log",
            memory_mb=options.memory_mb,
            problem=scan.problem,
        )
    return list(tasks.values())


def _state_of_inputs(scan: SessionScan, at_top: dict[Path, list[Any]]) -> str:
    """Names, sizes and dates of the images, and of the files that may apply to them in their folder and those above.

    ``at_top`` remembers those at the top of the data set, which is long and the same for all.
    """
    folder = scan.images[0].parent
    images = {path.name for path in (*scan.images, *((scan.mask,) if scan.mask else ()))}
    seen = _states_in(folder, images)
    while not folder.name.startswith("sub-"):
        folder = folder.parent
        seen += _states_in(folder)
    if folder.parent not in at_top:
        at_top[folder.parent] = _states_in(folder.parent)
    return json.dumps(sorted(seen) + at_top[folder.parent])


def _states_in(folder: Path, images: Iterable[str] = ()) -> list[Any]:
    """States of the named images of a folder, and of its gradient files and sidecars of diffusion images."""
    names = set(images)
    endings = (".bval", ".bvec", ".bvals", ".bvecs", ".b", "dwi.json")
    with os.scandir(folder) as entries:
        found = [e.name for e in entries if e.name in names or (e.name.endswith(endings) and e.is_file())]
    return [facts_of_file(folder / name) for name in sorted(found)]


def split_finished(tasks: Sequence[Task], out: Path) -> tuple[list[Task], list[Outcome]]:
    """Tasks that are to be run, and the outcomes of those that are complete.

    Complete is what ended well with the same inputs, options and version, and whose list of outputs is still there.
    """
    left: list[Task] = []
    done: list[Outcome] = []
    for task in tasks:
        kept = kept_outcome(task)
        is_there = record_path(Derivatives(out, task.name)).is_file()
        if kept is not None and kept.state == COMPLETE and is_there:
            done.append(kept)
        else:
            if kept is not None and kept.state == COMPLETE:
                task.state_file.unlink(missing_ok=True)
            left.append(task)
    return left, done


class CohortRun:
    """Runs tasks on a cluster, keeps the table of states, and leaves everything so that it can go on later."""

    def __init__(self, tasks: Sequence[Task], out: Path, listener: Listener, *, stops_on_failure: bool = False) -> None:
        self.out, self.listener, self._stops_on_failure = out, listener, stops_on_failure
        self.tasks = {task.name: task for task in tasks}
        self.outcomes: dict[str, Outcome] = {
            task.name: Outcome.of(task, PENDING, message="not begun.") for task in tasks
        }
        self._last_written = 0.0

    def note(self, outcomes: Iterable[Outcome]) -> None:
        """Take in what is known already."""
        self.outcomes |= {outcome.name: outcome for outcome in outcomes}

    def run(self, names: Sequence[str], cluster: Cluster) -> None:
        """Run the named tasks; the table holds every outcome when this ends, however it ends."""
        if not names:
            return
        stop_file = self.tasks[names[0]].stop_file
        stop_file.unlink(missing_ok=True)
        try:
            first = self._warm_up(list(names), cluster)
            self._run_all([name for name in names if name not in first], cluster, {})
        except BaseException:
            self._stop(stop_file, cluster)
            raise
        finally:
            self.write_table()

    def _warm_up(self, names: list[str], cluster: Cluster) -> set[str]:
        """Where kernels are not compiled yet: one scan on each kind of processor first, so that this is done once.

        A scan that fails before its end says nothing, and the next goes ahead.
        """
        tried: set[str] = set()
        workers = dict(cluster.workers_without_kernels())
        while workers and cluster.n_at_once > 1 and len(tried) < len(names):
            ahead = dict(zip([n for n in names if n not in tried], workers, strict=False))
            tried |= set(ahead)
            self._run_all(list(ahead), cluster, ahead)
            for name, worker in ahead.items():
                if self.outcomes[name].state == COMPLETE:
                    cluster.note_kernels(workers.pop(worker))
                elif self.outcomes[name].state in {PENDING, STOPPED}:
                    return tried
        return tried

    def _run_all(self, names: Sequence[str], cluster: Cluster, places: dict[str, str]) -> None:
        if self._has_to_stop():
            return
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        futures = {}
        for name in names:
            future = cluster.submit(run_task, self.tasks[name], places.get(name))
            futures[future.key] = name
            future.add_done_callback(ended.put)
        waiting = dict(futures)
        while waiting:
            self.listener.tick()
            cluster.check()
            try:
                future = ended.get(timeout=0.3)
            except queue.Empty:
                continue
            name = waiting.pop(future.key, None)
            if name is None:
                continue
            self._take(_outcome_of(future, self.tasks[name]))
            if self._has_to_stop():
                self._stop(self.tasks[name].stop_file, cluster)
                return

    def _has_to_stop(self) -> bool:
        return self._stops_on_failure and any(o.state == FAILED for o in self.outcomes.values())

    def _take(self, outcome: Outcome) -> None:
        self.outcomes[outcome.name] = outcome
        self.listener.end(outcome)
        if time.monotonic() - self._last_written > EVERY:
            self.write_table()

    def _stop(self, stop_file: Path, cluster: Cluster) -> None:
        """Let running subjects stop, wait for them, and take in how far they came."""
        write_text_atomically(stop_file, "stopped\n")
        with contextlib.suppress(Exception):  # a scheduler that is gone
            cluster.cancel()
        running = stop_file.parent / "running"
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and any(f"{p.stem}" in self.tasks for p in running.glob("*.json")):
            time.sleep(0.2)
        for name, task in self.tasks.items():
            if self.outcomes[name].state == PENDING and (kept := kept_outcome(task)) is not None:
                self.outcomes[name] = replace(kept, was_done=False)

    def write_table(self) -> None:
        """Write ``participants_status.tsv`` with its data dictionary; rows of other commands stay."""
        write_status(self.out, self.outcomes.values())
        self._last_written = time.monotonic()

    @property
    def counts(self) -> Counter[str]:
        """Scans by state."""
        return Counter(outcome.state for outcome in self.outcomes.values())


def _outcome_of(future: Any, task: Task) -> Outcome:
    """What a future of Dask holds; trouble of the cluster itself is a failure of the scan."""
    if future.status == "finished":
        found = future.result()
        assert isinstance(found, Outcome)
        return found
    if future.status == "cancelled":
        return Outcome.of(task, PENDING, message="not begun.")
    error = future.exception()
    kind = type(error).__name__
    if kind == "KilledWorker":
        return Outcome.of(task, FAILED, message="its workers died again and again; look at the system's log for why.")
    return Outcome.of(task, FAILED, message=f"the worker could not run it: {kind}: {' '.join(str(error).split())}")


def describe_dataset(out: Path, source: Path) -> None:
    """Write ``dataset_description.json`` and ``.bidsignore``; what is there already stays.

    Parameters
    ----------
    source : the data set that the derivatives come from
    """
    path = out / "dataset_description.json"
    if not path.exists():
        origin: dict[str, Any] = {"URL": source.resolve().as_uri()}
        described = source / "dataset_description.json"
        doi = read_json(described).get("DatasetDOI") if described.is_file() else None
        Derivatives(out, "").write_dataset_description()
        write_json(path, {**read_json(path), "SourceDatasets": [origin | ({"DOI": doi} if doi else {})]})


def write_status(out: Path, outcomes: Iterable[Outcome]) -> Path:
    """The table of states, by subject and session, and the meaning of its columns as JSON; path of the table."""
    from filelock import FileLock

    path = out / STATUS_TABLE
    out.mkdir(parents=True, exist_ok=True)
    ours = {_row_key(row := _row_of(outcome, out)): row for outcome in outcomes}
    with FileLock(out / f".{STATUS_TABLE}.lock"):
        rows = {_row_key(row): row for row in read_status(path)} | ours
        lines = ["\t".join(COLUMNS), *("\t".join(rows[key]) for key in sorted(rows))]
        write_text_atomically(path, "\n".join(lines) + "\n")
    write_json(path.with_suffix(".json"), {name: {"Description": text} for name, text in COLUMNS.items()})
    return path


def read_status(path: Path) -> list[list[str]]:
    """Rows of the table of states; none where there is no such table."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines or lines[0].split("\t") != list(COLUMNS):
        return []
    return [row for line in lines[1:] if len(row := line.split("\t")) == len(COLUMNS)]


def _row_key(row: list[str]) -> tuple[str, str]:
    return row[0], row[1]


def _row_of(outcome: Outcome, out: Path) -> list[str]:
    log = Path(outcome.log)
    inside = log.relative_to(out).as_posix() if log.is_relative_to(out) else str(log)
    cells = (
        f"sub-{outcome.subject}",
        f"ses-{outcome.session}" if outcome.session else "",
        outcome.state,
        outcome.step,
        "" if outcome.state == PENDING else outcome.message,
        inside if outcome.state != PENDING and log.is_file() else "",
        "" if outcome.seconds is None else f"{outcome.seconds:.1f}",
        "" if outcome.peak_mb is None else f"{outcome.peak_mb:.0f}",
    )
    return [" ".join(cell.split()) or "n/a" for cell in cells]


def running_now(work: Path) -> Iterator[dict[str, Any]]:
    """Worker, subject, log and start of each subject that is being run."""
    for path in sorted((work / "running").glob("*.json")):
        with contextlib.suppress(InputError, OSError):
            yield {"Name": path.stem, **read_json(path)}


def clear_running(work: Path, is_ours: Callable[[str], bool]) -> None:
    """Remove what killed workers left of their subjects."""
    for path in (work / "running").glob("*.json"):
        if is_ours(path.stem):
            path.unlink(missing_ok=True)
