"""Where the tasks of a cohort run: Dask's clusters, on this machine, at an address, or as jobs of SLURM."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arcuate.errors import InputError, MissingExtraError
from arcuate.study.kernel_notes import are_noted

SLOT = "subject"  # resource of a worker: how many subjects it runs at once
LOCAL, SLURM = "local", "slurm"
WAIT = 30.0  # seconds until a scheduler must answer
WAIT_FOR_JOBS = 24 * 3600.0  # until the first job of a queue starts
WALLTIME_OF_JOBQUEUE = "00:30:00"  # where nobody has set one
LISTS_OF_JOBQUEUE = ("job_extra_directives", "job_directives_skip", "job_script_prologue", "worker_extra_args")
NUMBERS_OF_JOBQUEUE = ("cores", "processes", "job_cpu", "death_timeout")
WAIT_FOR_RESULT = 5.0  # seconds
RENEW = 10.0  # seconds between two looks for jobs that ended
LOST = 60.0  # seconds without a scheduler after which it is given up


@dataclass(frozen=True)
class Placement:
    """Where tasks run, and how many at once.

    Parameters
    ----------
    scheduler : "local", "slurm", or the address of a Dask scheduler
    n_workers : subjects at once; ignored at an address, whose workers are there already
    threads : of each subject
    memory_mb : of each subject; None for no limit
    work : folder for what Dask writes
    slurm : options of dask-jobqueue's SLURMCluster by name; those that are lists may come several times
    """

    scheduler: str
    n_workers: int
    threads: int
    memory_mb: float | None
    work: Path
    slurm: Sequence[tuple[str, str]] = ()


class Cluster:
    """A Dask client, and what a cohort asks of it."""

    def __init__(self, client: Any, n_at_once: int, dashboard: str, renew: Callable[[], object] = lambda: None) -> None:
        self._client, self.n_at_once, self.dashboard, self._renew = client, n_at_once, dashboard, renew
        self._last_renewed = time.monotonic()
        self._has_slots = any(SLOT in w.get("resources", {}) for w in self._workers().values())
        self._futures: list[Any] = []
        self._lost_since = 0.0

    def submit(self, function: Callable[..., Any], tasks: Sequence[Any], worker: str | None = None) -> list[Any]:
        """A future of ``function(task)`` for each task, on a given worker if it is there, else on any."""
        futures: list[Any] = self._client.map(
            function,
            tasks,
            key=[f"arcuate-{task.name}-{time.time_ns():x}" for task in tasks],
            pure=False,
            workers=None if worker is None else [worker],
            allow_other_workers=worker is not None,  # it may be gone by then
            resources={SLOT: 1} if self._has_slots else None,
        )
        self._futures += futures
        return futures

    def result(self, future: Any) -> Any:
        """What an ended future holds; None where it was lost with its worker, and no other has made it again yet."""
        try:
            return future.result(timeout=WAIT_FOR_RESULT)
        except TimeoutError:
            return None

    def cancel(self) -> None:
        """Take back what has not begun."""
        self._client.cancel([f for f in self._futures if not f.done()], force=True)

    def check(self) -> bool:
        """Whether the scheduler answers; one that was started anew knows nothing of what was submitted.

        Raises
        ------
        InputError
            The scheduler did not answer for a minute.
        """
        if time.monotonic() - self._last_renewed > RENEW:
            self._last_renewed = time.monotonic()
            self._renew()
        if self._client.status == "running":
            self._lost_since = 0.0
            return True
        self._lost_since = self._lost_since or time.monotonic()
        if self._client.status == "closed" or time.monotonic() - self._lost_since > LOST:
            raise InputError(
                "the scheduler went away; what is finished is kept. Start a scheduler, and the same command again to "
                "go on."
            )
        return False

    def workers_without_kernels(self, note: str) -> dict[str, str]:
        """A worker for each kind of processor on which no run of this note has ended, by kind."""
        found: dict[str, str] = {}
        ready: set[str] = set()
        for worker, (kind, is_ready) in self._client.run(are_noted, note).items():
            found.setdefault(kind, worker)
            if is_ready:
                ready.add(kind)
        return {kind: worker for kind, worker in found.items() if kind not in ready}

    def _workers(self) -> dict[str, Any]:
        return dict(self._client.scheduler_info(n_workers=-1)["workers"])


@contextlib.contextmanager
def open_cluster(placement: Placement) -> Iterator[Cluster]:
    """A cluster that takes tasks; closed, and with it the workers that were started for it, when the block ends.

    Raises
    ------
    MissingExtraError
        Dask, or dask-jobqueue for SLURM, is not installed.
    InputError
        No scheduler answers at the address, it has no worker, or SLURM takes no jobs.
    """
    try:
        import dask
        from dask.distributed import Client
    except ImportError as error:
        raise MissingExtraError("dask", "cohort", "a cohort") from error
    quiet = {
        "distributed.logging": {"distributed": "critical", "bokeh": "critical", "tornado": "critical"},
        "distributed.comm.timeouts.connect": WAIT,
        "distributed.admin.system-monitor.gil.enabled": False,
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": False,
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(quiet))
        stack.enter_context(_without_words_of_dask())
        if placement.scheduler == LOCAL:
            target = stack.enter_context(_local(placement))
        elif placement.scheduler == SLURM:
            target = stack.enter_context(_slurm(placement))
        else:
            target = placement.scheduler
            _check_address(target)
        try:
            client = stack.enter_context(Client(target, timeout=WAIT, set_as_default=False))
        except (OSError, ValueError, TimeoutError) as error:
            raise _no_answer(placement.scheduler, error) from error
        at_once = _wait_for_workers(client, target, placement)
        # a job of SLURM that ended, as at the end of its time, is not started again by itself
        renew = (lambda: target.scale(jobs=placement.n_workers)) if placement.scheduler == SLURM else (lambda: None)
        yield Cluster(client, at_once, client.dashboard_link or "", renew)


@contextlib.contextmanager
def _without_words_of_dask() -> Iterator[None]:
    """Dask tells of lost connections in pages of tracebacks; what they mean is said here in a sentence."""
    import logging

    names = [
        name for name in logging.root.manager.loggerDict if name.split(".")[0] in {"distributed", "tornado", "asyncio"}
    ]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _check_address(address: str) -> None:
    """Refuse an address where nobody listens: a client of Dask that found nobody takes a minute to end."""
    kind, _, place = address.rpartition("://")
    if kind not in {"", "tcp", "tls"}:
        return
    host, colon, port = place.rpartition(":")
    try:
        if not colon or not port.isdigit():
            raise ValueError("an address has the form HOST:PORT")
        with socket.create_connection((host.strip("[]"), int(port)), timeout=WAIT):
            pass
    except (OSError, ValueError, OverflowError) as error:
        raise _no_answer(address, error) from error


def _no_answer(address: str, error: Exception) -> InputError:
    return InputError(
        f"no scheduler answers at {address} ({' '.join(str(error).split())}); start one with `dask scheduler`, and "
        "give the address that it prints: --scheduler tcp://HOST:8786."
    )


def _wait_for_workers(client: Any, target: Any, placement: Placement) -> int:
    """Subjects that run at once."""
    until = time.monotonic() + (WAIT_FOR_JOBS if placement.scheduler == SLURM else WAIT)
    while True:
        try:
            client.wait_for_workers(1, timeout=1.0)
            break
        except TimeoutError as error:
            if refusals := getattr(target, "refusals", None):
                raise _no_jobs(refusals[0]) from error
            if time.monotonic() > until:
                raise InputError(
                    f"the scheduler at {placement.scheduler} has no worker; start some with `dask worker ADDRESS "
                    f"--nthreads 1 --resources {SLOT}=1`, where arcuate is installed."
                ) from error
    if placement.scheduler in {LOCAL, SLURM}:
        return placement.n_workers
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return int(sum(w.get("resources", {}).get(SLOT, w["nthreads"]) for w in workers))


def _local(placement: Placement) -> Any:
    import logging

    from dask.distributed import LocalCluster

    return LocalCluster(
        n_workers=placement.n_workers,
        threads_per_worker=1,
        processes=True,
        memory_limit=0,
        resources={SLOT: 1},
        local_directory=str(placement.work / "dask"),
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
    )


def _slurm(placement: Placement) -> Any:
    """A cluster whose workers are jobs, with a list ``refusals`` of what sbatch said where it took none."""
    from dask.distributed import Status

    jobqueue = import_jobqueue()
    refusals: list[str] = []

    class _Job(jobqueue.slurm.SLURMJob):  # type: ignore[misc, name-defined]
        async def _submit_job(self, script_filename: str) -> Any:
            try:
                return await super()._submit_job(script_filename)
            except (RuntimeError, OSError) as error:  # lost in a log otherwise
                refusals.append(" ".join(str(error).rpartition("stderr:")[2].split()))
                raise

    class _Jobs(jobqueue.SLURMCluster):  # type: ignore[misc, name-defined]
        job_cls = _Job

        async def _close(self) -> None:
            try:
                await super()._close()
            except AssertionError:  # a job that was refused never began, and is taken for one that was not closed
                if not refusals:
                    raise
                for job in self._created:
                    job.status = Status.failed
                self.status = Status.failed
                await super()._close()

    try:
        cluster = _Jobs(**slurm_options(placement))
        cluster.refusals = refusals
        cluster.scale(jobs=placement.n_workers)
    except (TypeError, ValueError, OSError) as error:
        raise _no_jobs(" ".join(str(error).split())) from error
    return cluster


def import_jobqueue() -> Any:
    """The package dask_jobqueue, which takes Ctrl-C for itself where it is imported: as it was before.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        import dask_jobqueue.slurm
    except ImportError as error:
        raise MissingExtraError("dask-jobqueue", "slurm", "--scheduler slurm") from error
    finally:
        if before is not None:  # one that was not set from Python cannot be set back
            signal.signal(signal.SIGINT, before)
    return dask_jobqueue


def _no_jobs(why: str) -> InputError:
    return InputError(
        f"SLURM's jobs cannot be made: {why.removesuffix('.')}. Check --slurm, whose options are those of "
        "dask_jobqueue.SLURMCluster, and that sbatch works here."
    )


def slurm_options(placement: Placement) -> dict[str, Any]:
    """Arguments of ``dask_jobqueue.SLURMCluster``: what --slurm says, else the user's jobqueue.yaml, else our own.

    Raises
    ------
    InputError
        A number of processors that is none.
    """
    import dask

    options: dict[str, Any] = {
        "cores": placement.threads,
        "processes": 1,
        "memory": f"{placement.memory_mb:.0f}MB" if placement.memory_mb else "8GB",
        "job_name": "arcuate",
        "log_directory": str(placement.work / "slurm"),
    }
    if dask.config.get("jobqueue.slurm.walltime", None) == WALLTIME_OF_JOBQUEUE:
        options["walltime"] = "24:00:00"
    lists: dict[str, list[str]] = {"worker_extra_args": ["--resources", f"{SLOT}=1"]}
    for name, value in placement.slurm:
        if name in LISTS_OF_JOBQUEUE:
            lists.setdefault(name, []).append(value)
        elif name in NUMBERS_OF_JOBQUEUE and not value.isdigit():
            raise InputError(f"found --slurm {name}={value}; expected a whole number.")
        else:
            options[name] = int(value) if name in NUMBERS_OF_JOBQUEUE else value
    return options | lists
