"""A cohort at the level of participants: what is to be run, running it on a cluster, the table of what became of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from arcuate._version import __version__
from arcuate.errors import InputError
from arcuate.io import locks, write_text_atomically
from arcuate.study.bids import Derivatives, link_to, read_json, write_json
from arcuate.study.bids_index import SessionScan, facts_of_file
from arcuate.study.cohort_status import write_status
from arcuate.study.cohort_task import COMPLETE, FAILED, PENDING, Outcome, Task, kept_outcome, run_task
from arcuate.study.outputs import read_record

if TYPE_CHECKING:
    from arcuate.study.cluster import Cluster

WORK = ".arcuate-cohort"  # below the output folder, unless another one is named
EVERY = 2.0  # seconds between two writings of the table, or more where it is long
MOST_AHEAD = 3  # scans that go ahead of the others, one after the other, until one is complete
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
    own_files : options that name a file, in whose name {subject} and {session} stand for the scan's labels
    """

    out: Path
    work: Path
    arguments: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    threads: int = 1
    memory_mb: float | None = None
    own_files: Mapping[str, str] = field(default_factory=dict)


def plan_tasks(scans: Sequence[SessionScan], options: CohortOptions) -> list[Task]:
    """One task for each scan; looks at the names, sizes and dates of its files, and reads none of them.

    Raises
    ------
    InputError
        Two scans would write under one name.
    """
    common = json.dumps([__version__, options.arguments, [facts_of_file(p) for p in options.files]])
    command = uuid.uuid4().hex
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
        if options.memory_mb is not None:
            arguments += ["--mem-mb", str(int(options.memory_mb))]
        if scan.mask is not None:
            arguments += ["--mask", str(scan.mask)]
        own, problem = _own_files(scan, options.own_files)
        arguments += [word for pair in own.items() for word in pair]
        state = _state_of_inputs(scan, at_top) + json.dumps([_facts_if_there(Path(path)) for path in own.values()])
        tasks[name] = Task(
            name=name,
            subject=scan.subject,
            session=scan.session,
            arguments=tuple(arguments),
            fingerprint=hashlib.sha256((common + state).encode()).hexdigest()[:32],
            work=options.work,
            log=options.out / "logs" / f"{name}.log",
            memory_mb=options.memory_mb,
            problem=scan.problem or problem,
            command=command,
        )
    return list(tasks.values())


def _own_files(scan: SessionScan, options: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Options with the names of this scan's files, and what is wrong with them in one sentence."""
    found: dict[str, str] = {}
    for option, value in options.items():
        name = value.replace("{subject}", scan.subject).replace("{session}", scan.session)
        is_word = option == "--atlas-names" and not os.path.lexists(name)  # a table that is known by name
        found[option] = name if is_word else str(Path(name).absolute())
        if not is_word and not Path(name).is_file():
            return found, f"{name} is not there; expected the file of {scan.name}. Check {option} {value}."
    return found, ""


def _facts_if_there(path: Path) -> list[Any]:
    return facts_of_file(path) if path.is_file() else [str(path)]


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
    return [_facts_if_there(folder / name) for name in sorted(found)]


def split_finished(tasks: Sequence[Task], out: Path) -> tuple[list[Task], list[Outcome]]:
    """Tasks that are to be run, and the outcomes of those that are complete.

    Complete is what ended well with the same inputs, options and version, and whose list of outputs is still there.
    """
    left: list[Task] = []
    done: list[Outcome] = []
    for task in tasks:
        kept = kept_outcome(task)
        if kept is not None and kept.state == COMPLETE and is_whole(Derivatives(out, task.name)):
            done.append(kept)
        else:
            left.append(task)
    return left, done


def is_whole(names: Derivatives) -> bool:
    """Whether a run to these names has ended, and every file that it lists is there; none of them is read."""
    try:
        record = read_record(names)
    except InputError:
        return False
    return record is not None and record.is_finished and all((names.out / file.path).is_file() for file in record.files)


class CohortRun:
    """Runs tasks on a cluster, keeps the table of states, and leaves everything so that it can go on later.

    Parameters
    ----------
    tasks : what is to be complete in the end
    out : folder of the derivatives
    listener : told what goes on
    stops_on_failure : whether nothing new is begun once a scan has failed
    has_all : whether these are all scans of the data set; rows of scans that are no more are then left out
    """

    def __init__(
        self, tasks: Sequence[Task], out: Path, listener: Listener, *, stops_on_failure: bool = False,
        has_all: bool = False,
    ) -> None:  # fmt: skip
        self.out, self.listener = out, listener
        self._stops_on_failure, self._has_all = stops_on_failure, has_all
        self.tasks = {task.name: task for task in tasks}
        self.outcomes: dict[str, Outcome] = {
            task.name: Outcome.of(task, PENDING, message="not begun.") for task in tasks
        }
        self._next_writing = 0.0
        self._has_failure = False

    def note(self, outcomes: Iterable[Outcome]) -> None:
        """Take in what is known already."""
        self.outcomes |= {outcome.name: outcome for outcome in outcomes}

    def run(self, names: Sequence[str], cluster: Cluster, note: str) -> None:
        """Run the named tasks; the table holds every outcome when this ends, however it ends.

        ``note`` is that of :mod:`arcuate.study.kernel_notes` for their settings.
        """
        if not names:
            return
        stop_file = self.tasks[names[0]].stop_file
        for task in (self.tasks[name] for name in names):  # a worker takes what is kept as complete for done
            kept = kept_outcome(task)
            if kept is not None and kept.state == COMPLETE and not is_whole(Derivatives(self.out, task.name)):
                task.state_file.unlink(missing_ok=True)
        try:
            first = self._warm_up(list(names), cluster, note)
            self._run_all([name for name in names if name not in first], cluster, {})
        except BaseException:
            self._stop(stop_file, cluster)
            raise
        finally:
            self.write_table()

    def _warm_up(self, names: list[str], cluster: Cluster, note: str) -> set[str]:
        """Where kernels are not compiled yet: one scan on each kind of processor first, so that this is done once.

        A scan that fails before its end says nothing, and the next goes ahead; after a few of them all go.
        """
        tried: set[str] = set()
        if cluster.n_at_once == 1:
            return tried
        workers = cluster.workers_without_kernels(note)
        for _ in range(MOST_AHEAD):
            if not workers or len(tried) == len(names) or self._has_to_stop():
                break
            ahead = dict(zip([n for n in names if n not in tried], workers, strict=False))
            tried |= set(ahead)
            self._run_all(list(ahead), cluster, {name: workers[kind] for name, kind in ahead.items()})
            for name, kind in ahead.items():
                if self.outcomes[name].state == COMPLETE:
                    del workers[kind]
        return tried

    def _run_all(self, names: Sequence[str], cluster: Cluster, places: dict[str, str]) -> None:
        if self._has_to_stop():
            return
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        waiting: dict[str, str] = {}  # name by key of its future
        lost = list(names)  # those that no scheduler knows: all at first, and again when it was started anew
        while waiting or lost:
            self.listener.tick()
            if cluster.check() and lost:
                waiting |= self._submit(lost, cluster, places, ended)
                lost = []
            futures = [future for future in _drained(ended) if future.key in waiting]
            for future in futures:
                name = waiting[future.key]
                if future.status == "cancelled":  # not by us: the scheduler went
                    lost.append(waiting.pop(future.key))
                elif (outcome := _outcome_of(future, self.tasks[name], cluster)) is not None:
                    del waiting[future.key]
                    self._take(outcome)
                else:  # lost with its worker; the scheduler gives it to another
                    ended.put(future)
            if futures and self._has_to_stop():
                self._stop(self.tasks[names[0]].stop_file, cluster)
                return

    def _submit(
        self, names: Sequence[str], cluster: Cluster, places: dict[str, str], ended: queue.SimpleQueue[Any]
    ) -> dict[str, str]:
        """Hand tasks to the cluster, those with a place to that worker; name by key of its future."""
        found: dict[str, str] = {}
        for place in {places.get(name) for name in names}:
            here = [name for name in names if places.get(name) == place]
            futures = cluster.submit(run_task, [self.tasks[name] for name in here], place)
            found |= {future.key: name for future, name in zip(futures, here, strict=True)}
            for future in futures:
                future.add_done_callback(ended.put)
        return found

    def _has_to_stop(self) -> bool:
        return self._stops_on_failure and self._has_failure

    def _take(self, outcome: Outcome) -> None:
        self.outcomes[outcome.name] = outcome
        self._has_failure |= outcome.state == FAILED
        self.listener.end(outcome)
        if time.monotonic() > self._next_writing:
            self.write_table()

    def _stop(self, stop_file: Path, cluster: Cluster) -> None:
        """Let running subjects stop, wait for them, and take in how far they came."""
        write_text_atomically(stop_file, "stopped\n")
        with contextlib.suppress(Exception):  # a scheduler that is gone
            cluster.cancel()
        work = next(iter(self.tasks.values())).work
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and any(f.get("Stop") == stop_file.name for f in running_now(work)):
            time.sleep(0.2)
        for name, task in self.tasks.items():
            if self.outcomes[name].state == PENDING and (kept := kept_outcome(task)) is not None:
                self.outcomes[name] = replace(kept, was_done=False)

    def write_table(self) -> None:
        """Write ``participants_status.tsv`` with its data dictionary; rows of other commands stay."""
        start = time.monotonic()
        write_status(self.out, self.outcomes.values(), has_all=self._has_all)
        now = time.monotonic()
        self._next_writing = now + max(EVERY, 20 * (now - start))  # a long table costs no more than a twentieth

    @property
    def counts(self) -> Counter[str]:
        """Scans by state."""
        return Counter(outcome.state for outcome in self.outcomes.values())


def _drained(ended: queue.SimpleQueue[Any]) -> list[Any]:
    """All that is in the queue, after a short wait for the first."""
    found = []
    with contextlib.suppress(queue.Empty):
        found.append(ended.get(timeout=0.3))
        while True:
            found.append(ended.get_nowait())
    return found


def _outcome_of(future: Any, task: Task, cluster: Cluster) -> Outcome | None:
    """What became of a task whose future ended; None where that is not known yet.

    What the worker kept is read before Dask is asked: that is lost with the worker.
    """
    if future.status == "finished":
        kept = kept_outcome(task)
        if kept is not None and (kept.command == task.command or kept.state == COMPLETE):
            return replace(kept, was_done=False)
        found = cluster.result(future)
        assert found is None or isinstance(found, Outcome)
        return found
    if future.status != "error":
        return None
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
        name, address = link_to(source, out)
        Derivatives(out, "").write_dataset_description({name: address})
        write_json(path, {**read_json(path), "SourceDatasets": [origin | ({"DOI": doi} if doi else {})]})


def running_now(work: Path) -> Iterator[dict[str, Any]]:
    """Worker, subject, log and start of each subject that is being run."""
    for path in sorted((work / "running").glob("*.json")):
        with contextlib.suppress(InputError, OSError):
            yield {"Name": path.stem, **read_json(path)}


def clear_running(tasks: Iterable[Task]) -> None:
    """Remove what killed workers left of these subjects; those that another command runs stay."""
    for task in tasks:
        path = task.running_file
        if path.is_file():
            with locks.exclusive(task.lock_file) as is_free:
                if is_free:
                    path.unlink(missing_ok=True)
