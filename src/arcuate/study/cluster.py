"""Where the tasks of a cohort run: Dask's clusters, on this machine, at an address, or as jobs of SLURM."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from arcuate._version import __version__
from arcuate.errors import InputError, MissingExtraError

SLOT = "subject"  # resource of a worker: how many subjects it runs at once
LOCAL, SLURM = "local", "slurm"
WAIT = 30.0  # seconds until a scheduler must answer
WAIT_FOR_JOBS = 24 * 3600.0  # until the first job of a queue starts
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
    slurm : options of dask-jobqueue's SLURMCluster
    """

    scheduler: str
    n_workers: int
    threads: int
    memory_mb: float | None
    work: Path
    slurm: Mapping[str, str]


class Cluster:
    """A Dask client, and what a cohort asks of it."""

    def __init__(self, client: Any, n_at_once: int, dashboard: str) -> None:
        self._client, self.n_at_once, self.dashboard = client, n_at_once, dashboard
        self._has_slots = any(SLOT in w.get("resources", {}) for w in self._workers().values())
        self._futures: list[Any] = []
        self._lost_since = 0.0

    def submit(self, function: Callable[..., Any], task: Any, worker: str | None = None) -> Any:
        """A future of ``function(task)``, on a given worker if it is there, else on any."""
        future = self._client.submit(
            function,
            task,
            key=f"arcuate-{task.name}-{time.time_ns():x}",
            pure=False,
            workers=None if worker is None else [worker],
            allow_other_workers=worker is not None,  # it may be gone by then
            resources={SLOT: 1} if self._has_slots else None,
        )
        self._futures.append(future)
        return future

    def cancel(self) -> None:
        """Take back what has not begun."""
        self._client.cancel([f for f in self._futures if not f.done()], force=True)

    def check(self) -> None:
        """Refuse to wait for a scheduler that is gone.

        Raises
        ------
        InputError
            The scheduler did not answer for a minute.
        """
        if self._client.status == "running":
            self._lost_since = 0.0
            return
        self._lost_since = self._lost_since or time.monotonic()
        if self._client.status == "closed" or time.monotonic() - self._lost_since > LOST:
            raise InputError(
                "the scheduler went away; what is finished is kept. Start a scheduler, and the same command again to "
                "go on."
            )

    def workers_without_kernels(self) -> Iterator[tuple[str, str]]:
        """A worker of each kind of processor for which no run has compiled the kernels, and a name of that kind."""
        seen: set[str] = set()
        for worker, (kind, is_ready) in self._client.run(kind_of_processor).items():
            if kind not in seen and not is_ready:
                yield worker, kind
            seen.add(kind)

    def note_kernels(self, kind: str) -> None:
        """Remember that kernels for a kind of processor are there."""
        self._client.run(note_kernels, kind)

    def _workers(self) -> dict[str, Any]:
        return dict(self._client.scheduler_info(n_workers=-1)["workers"])


def kind_of_processor() -> tuple[str, bool]:
    """Name of this machine's processor as the compiler knows it, and whether kernels were compiled for it."""
    import llvmlite.binding as llvm

    kind = str(llvm.get_host_cpu_name())
    return kind, _kernel_note(kind).is_file()


def note_kernels(kind: str) -> None:
    """Leave a note where kernels for ``kind`` lie."""
    path = _kernel_note(kind)
    if kind == kind_of_processor()[0]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _kernel_note(kind: str) -> Path:
    named = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(named) if named else Path(platformdirs.user_cache_dir("arcuate", appauthor=False))
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return folder / f"arcuate-kernels-{__version__}-{python}-{kind}"


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
        at_once = _wait_for_workers(client, placement)
        yield Cluster(client, at_once, client.dashboard_link or "")


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


def _wait_for_workers(client: Any, placement: Placement) -> int:
    """Subjects that run at once."""
    is_queue = placement.scheduler == SLURM
    try:
        client.wait_for_workers(1, timeout=WAIT_FOR_JOBS if is_queue else WAIT)
    except TimeoutError as error:
        raise InputError(
            f"the scheduler at {placement.scheduler} has no worker; start some with `dask worker ADDRESS --nthreads 1 "
            f"--resources {SLOT}=1`, where arcuate is installed."
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
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise MissingExtraError("dask-jobqueue", "slurm", "--scheduler slurm") from error
    options: dict[str, Any] = {
        "cores": placement.threads,
        "processes": 1,
        "memory": f"{placement.memory_mb:.0f}MB" if placement.memory_mb else "8GB",
        "walltime": "24:00:00",
        "job_name": "arcuate",
        "worker_extra_args": ["--resources", f"{SLOT}=1"],
        "log_directory": str(placement.work / "slurm"),
        **placement.slurm,
    }
    for name in ("cores", "processes"):
        options[name] = int(options[name])
    try:
        cluster = SLURMCluster(**options)
        cluster.scale(jobs=placement.n_workers)
    except (TypeError, ValueError, OSError) as error:
        raise InputError(
            f"SLURM's jobs cannot be made: {' '.join(str(error).split())}. Check --slurm, whose options are those of "
            "dask_jobqueue.SLURMCluster."
        ) from error
    return cluster
