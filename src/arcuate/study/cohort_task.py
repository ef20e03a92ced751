"""One subject of a cohort as a task: ``arcuate run`` in a process of its own, and what became of it.

This runs on a worker. Whatever happens to the subject's process (an error, a crash, too much memory) is an
:class:`Outcome`; the worker goes on. The process ends with its worker, and a lock keeps a second one from the same
subject until the first is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from arcuate.errors import InputError
from arcuate.io import locks
from arcuate.study.bids import read_json, write_json

COMPLETE, FAILED, STOPPED, PENDING = "complete", "failed", "stopped", "pending"
POLL = 0.1  # seconds between looks at a process
LOOKS_PER_CHECK = 5  # of its memory, and whether it is to stop
GRACE = 60.0  # seconds until a process that was asked to stop is ended
_MIB = 1 << 20


@dataclass(frozen=True)
class Task:
    """One scan to be run.

    Parameters
    ----------
    name : of all its files, as ``sub-01_ses-02``
    subject, session : labels; an empty session where there is none
    arguments : of ``arcuate``
    fingerprint : inputs, options and version; a run that is complete with the same one is not repeated
    work : folder of states, logs and what is running
    log : file of the run's words
    memory_mb : of the process; None for no limit
    problem : why the scan cannot be run, in one sentence
    command : name of the call of ``arcuate cohort`` that it belongs to
    """

    name: str
    subject: str
    session: str
    arguments: tuple[str, ...]
    fingerprint: str
    work: Path
    log: Path
    memory_mb: float | None = None
    problem: str = ""
    command: str = ""

    @property
    def state_file(self) -> Path:
        """Where its outcome is kept."""
        return self.work / "states" / f"{self.name}.json"

    @property
    def running_file(self) -> Path:
        """What is known of it while it runs."""
        return self.work / "running" / f"{self.name}.json"

    @property
    def lock_file(self) -> Path:
        """Held by the one process that runs it."""
        return self.work / "locks" / f"{self.name}.lock"

    @property
    def stop_file(self) -> Path:
        """A file that stops every task of the command while it is there; others in the same folder go on."""
        return self.work / "stopped" / self.command


@dataclass(frozen=True)
class Outcome:
    """What became of a task."""

    name: str
    subject: str
    session: str
    state: str  # COMPLETE, FAILED, STOPPED or PENDING
    step: str = ""  # at which it failed or was stopped
    message: str = ""  # one sentence
    log: str = ""
    seconds: float | None = None
    peak_mb: float | None = None  # largest resident memory
    fingerprint: str = ""
    was_done: bool = False  # by a former command; nothing was run
    command: str = ""  # that it was run by

    @classmethod
    def of(cls, task: Task, state: str, **facts: Any) -> Outcome:
        """An outcome of ``task``; its log is named where ``seconds`` say that it was run."""
        log = str(task.log) if facts.get("seconds") is not None else ""
        return cls(task.name, task.subject, task.session, state, log=log, **facts)


def kept_outcome(task: Task) -> Outcome | None:
    """The outcome that is kept of a task; None where there is none, or of other inputs, options or version."""
    if not task.state_file.is_file():
        return None
    try:
        found = Outcome(**read_json(task.state_file))
    except (InputError, TypeError):
        return None
    return replace(found, was_done=True) if found.fingerprint == task.fingerprint else None


def run_task(task: Task) -> Outcome:
    """Run one scan, and keep its outcome; never raises for what goes wrong with the scan."""
    with _held(task) as descriptor:
        kept = kept_outcome(task)
        if kept is not None and kept.state == COMPLETE:  # finished while the worker that started it was lost
            return kept
        if task.stop_file.exists():
            return Outcome.of(task, STOPPED, message="stopped before it began.")
        with _shown_as_running(task):  # until its state is kept: who stops the cohort waits for that
            if task.problem:
                outcome = Outcome.of(task, FAILED, step="files", message=task.problem)
            else:
                outcome = _run(task, descriptor)
            outcome = replace(outcome, fingerprint=task.fingerprint, command=task.command)
            facts = asdict(outcome)
            facts.pop("was_done")
            write_json(task.state_file, facts)
    return outcome


def _run(task: Task, descriptor: int | None) -> Outcome:
    task.log.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with task.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "arcuate.commands.attached", *task.arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            pass_fds=() if descriptor is None else (descriptor,),
            start_new_session=True,  # Ctrl-C goes to the command that waits for all of them
        )
        code, peak, why = _wait(task, process)
    seconds = round(time.perf_counter() - start, 3)
    words = task.log.read_text(encoding="utf-8", errors="replace")
    if code == 0:
        return Outcome.of(task, COMPLETE, seconds=seconds, peak_mb=peak)
    is_stopped = why == STOPPED
    message = "stopped; what is finished is kept." if is_stopped else why or failure_in_words(code, words)
    state = STOPPED if is_stopped else FAILED
    return Outcome.of(task, state, step=step_at_end(words), message=message, seconds=seconds, peak_mb=peak)


def _wait(task: Task, process: subprocess.Popen[bytes]) -> tuple[int, float | None, str]:
    """Exit status of the process, its largest memory in MiB, and why it was ended here, if it was."""
    why, since, looks = "", 0.0, 0
    while True:
        code, peak = _poll(process)
        if code is not None:
            assert process.stdin is not None
            process.stdin.close()
            return code, peak, why
        looks += 1
        if not why and looks % LOOKS_PER_CHECK == 0:
            why = _reason_to_end(task, process.pid)
            if why:
                since = time.perf_counter()
                process.terminate()
        if why and time.perf_counter() - since > GRACE:
            process.kill()
        time.sleep(POLL)


def _poll(process: subprocess.Popen[bytes]) -> tuple[int | None, float | None]:
    """Exit status, None while it runs, and largest resident memory in MiB where the system tells."""
    if not hasattr(os, "wait4"):
        return process.poll(), None
    pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    if pid == 0:
        return None, None
    process.returncode = os.waitstatus_to_exitcode(status)
    per_unit = 1024 if sys.platform != "darwin" else 1  # kB, and bytes on macOS
    return process.returncode, round(usage.ru_maxrss * per_unit / _MIB, 1)


def _reason_to_end(task: Task, pid: int) -> str:
    if task.stop_file.exists():
        return STOPPED
    if task.memory_mb is None:
        return ""
    import psutil

    try:
        used = psutil.Process(pid).memory_info().rss / _MIB
    except psutil.Error:  # just ended
        return ""
    if used <= task.memory_mb:
        return ""
    return (
        f"it took {used:.0f} MB of memory where {task.memory_mb:.0f} MB were its share; raise --mem-mb, or run fewer "
        "subjects at once with --workers."
    )


@contextlib.contextmanager
def _held(task: Task) -> Iterator[int | None]:
    """Wait until no other process runs the subject; a descriptor that the subject's process holds on to."""
    path = task.lock_file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    descriptor = locks.wait_for(path)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextlib.contextmanager
def _shown_as_running(task: Task) -> Iterator[None]:
    """A file that says which worker runs the subject, and where its words go."""
    path = task.running_file
    write_json(
        path,
        {
            "Worker": _worker_name(), "Pid": os.getpid(), "Log": str(task.log), "Since": time.time(),
            "Stop": task.stop_file.name,
        },
    )  # fmt: skip
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _worker_name() -> str:
    import platform

    return f"{platform.node()}-{os.getpid()}"


def failure_in_words(code: int, words: str) -> str:
    """One sentence on a process that ended with ``code`` and left ``words``."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if code == 2 and errors:
        return errors[-1]
    if code < 0:
        name = signal.Signals(-code).name
        hint = "; the system may have run out of memory: run fewer subjects at once" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}."
    last = lines[-1] if lines else "it said nothing"
    return f"a fault of arcuate ({last}); please report it with the log."


def step_at_end(words: str) -> str:
    """The step at which a log ends: the first planned one that it does not tell of; "files" before there is a plan."""
    from arcuate.study.plan import STEPS  # workers that see no failure spare themselves the models

    lines = words.splitlines()
    plan = next((line.removeprefix("plan: ") for line in lines if line.startswith("plan: ")), None)
    if plan is None:
        return "files"
    planned = [word.split(" ")[0] for word in plan.split(", ")]
    told = (line.partition("  ")[0] for line in lines)  # of a stage: its name, and blanks up to its column
    done = {word.strip() for word in told} & {*STEPS, "report"}
    return next((step for step in planned if step not in done), "end" if "report" in done else "report")
