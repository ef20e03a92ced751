"""``arcuate compile``: kernels made ready for containers, cluster nodes and the first run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import click

from arcuate.commands.ahead import Claims
from arcuate.commands.compilation import TASKS, compile_kernels
from arcuate.commands.shell import ArcuateCommand, tell
from arcuate.errors import InputError, did_you_mean


@click.command(cls=ArcuateCommand, name="compile")
@click.argument("tasks", nargs=-1, metavar="[TASK ...]")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the kernels go; later runs find them with NUMBA_CACHE_DIR set to it. Default: where they go anyway.",
)
@click.option(
    "--cpu",
    metavar="NAME",
    help="One that all nodes of a cluster can run, as LLVM names it: haswell, znver3. Default: this machine's.",
)
@click.option("--jobs", type=click.IntRange(1), help="Processes at a time. Default: one for each processor.")
@click.option("--dry-run", is_flag=True, help="Check the words, say what would be compiled, and end.")
@click.option("--claims", type=click.Path(path_type=Path), hidden=True, help="Of `arcuate run`: who compiles what.")
def compile_(
    tasks: tuple[str, ...],
    folder: Path | None,
    cpu: str | None,
    jobs: int | None,
    dry_run: bool,
    claims: Path | None,
) -> None:
    """Compile the kernels that runs need, so that no run waits for them: all, or those of some tasks.

    Kernels that are there already are left as they are. Tasks: cone (the solver of FODs), fod, tensor, noddi, refine
    (its continuous fit), response, peaks, denoise, mask, report."""
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise InputError(
            f"found the task {unknown[0]!r}; expected some of {', '.join(TASKS)}." + did_you_mean(unknown[0], TASKS)
        )
    wanted = tasks or tuple(TASKS)
    if dry_run:
        tell(
            f"would compile the kernels of {', '.join(wanted)}, where they are not there; nothing was done (--dry-run)"
        )
        return
    if jobs == 1 and folder is None and cpu is None:
        for task in wanted:
            begin = time.perf_counter()
            if claims is not None and not Claims(claims).take(task):
                continue
            compile_kernels(task)
            if claims is not None:
                Claims(claims).finish(task)
            tell(f"{task:10} {time.perf_counter() - begin:6.1f} s")
        return
    environment = dict(os.environ)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        environment["NUMBA_CACHE_DIR"] = str(folder.resolve())
    if cpu is not None:
        environment |= {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""}
    _in_processes(wanted, environment, jobs)
    tell(_how_to_use(folder, cpu))


def _in_processes(tasks: tuple[str, ...], environment: dict[str, str], jobs: int | None) -> None:
    """One process for each task, ``jobs`` at a time, and a line when each is done."""
    from arcuate.numerics.threads import available_threads

    def one(task: str) -> tuple[str, float, subprocess.CompletedProcess[str]]:
        begin = time.perf_counter()
        command = [sys.executable, "-m", "arcuate", "compile", "--jobs", "1", task]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return task, time.perf_counter() - begin, done

    with ThreadPoolExecutor(jobs or available_threads()) as pool:
        running = [pool.submit(one, task) for task in tasks]
        for count, future in enumerate(as_completed(running), 1):
            task, seconds, done = future.result()
            if done.returncode:
                pool.shutdown(cancel_futures=True)
                raise InputError(_why(task, done, environment))
            tell(f"{task:10} {seconds:6.1f} s  {count} of {len(tasks)}")


def _why(task: str, done: subprocess.CompletedProcess[str], environment: dict[str, str]) -> str:
    """One sentence about a process that failed."""
    cpu = environment.get("NUMBA_CPU_NAME")
    if done.returncode < 0 and cpu:
        return f"this machine cannot run code for the processor {cpu!r}; expected one that it and all nodes can run."
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return f"the kernels of {task} could not be compiled: {last}"


def _how_to_use(folder: Path | None, cpu: str | None) -> str:
    """What has to be set where the kernels are used."""
    variables = [f"NUMBA_CACHE_DIR={folder.resolve()}"] if folder is not None else []
    if cpu is not None:
        variables += [f"NUMBA_CPU_NAME={cpu}", "NUMBA_CPU_FEATURES="]
    return f"set where they are used: {' '.join(variables)}" if variables else "compiled"
