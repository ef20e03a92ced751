"""Kernels that a second process compiles while a run does its first steps; neither compiles what the other does."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from arcuate.commands.compilation import compile_kernels

if TYPE_CHECKING:
    from arcuate.study.stages import Listener, Stage

NEEDS = {  # of each stage, in the order in which the run compiles them
    "noddi": ("noddi", "refine"),
    "response": ("cone", "peaks"),
    "fod": ("cone", "peaks"),
    "peaks": ("peaks",),
    "report": ("report",),
}
# of the other process: what the run needs last, and takes longest, first; and what is soon done, to fill the end
ORDER = ("cone", "refine", "peaks", "noddi", "report")
_LAST = {  # of each task, the kernel that is compiled last
    "cone": ("arcuate.numerics.qp_kernel", "solve_open"),
    "refine": ("arcuate.models.noddi_refine", "refine_voxels"),
    "peaks": ("arcuate.models.peak_kernels", "find_peaks_of_voxels"),
    "noddi": ("arcuate.models.noddi_stages", "fit_voxels"),
    "report": ("arcuate.figures.raster", "draw_smaller"),
}
POLL = 0.05  # s


def are_compiled(task: str) -> bool:
    """Whether the kernels of one of ``ORDER`` are kept on disk for the present source, judged by the last of them."""
    module, name = _LAST[task]
    last = getattr(importlib.import_module(module), name)
    try:  # numba has no public question for this; without an answer nothing is done ahead
        return bool(last._cache._cache_file._load_index())
    except Exception:
        return True


class Claims:
    """Which process does a task: the first that makes the file of its name in a folder that both know."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, task: str) -> bool:
        """Whether the task is this process's from now on; no for one that somebody took before."""
        try:
            (self._folder / task).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def finish(self, task: str) -> None:
        """Note that the task is done."""
        (self._folder / f"{task}.done").touch()

    def is_done(self, task: str) -> bool:
        """Whether the task is done."""
        return (self._folder / f"{task}.done").exists()


class Ahead:
    """Tasks that another process compiles while this one does the first steps of a run; nothing without tasks."""

    def __init__(self, tasks: tuple[str, ...]) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._tasks = tasks
        if tasks:
            self._folder = tempfile.TemporaryDirectory(prefix="arcuate-claims-")
            self._claims = Claims(Path(self._folder.name))
            command = [sys.executable, "-m", "arcuate", "compile", "--jobs", "1", "--claims", self._folder.name, *tasks]
            nowhere = subprocess.DEVNULL
            self._process = subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere)

    @classmethod
    def of_steps(cls, steps: Collection[str]) -> Ahead:
        """What the later of these steps need and is not there; nothing where only one thread may work."""
        from arcuate.numerics.threads import n_threads

        needed = {task for step in steps for task in NEEDS.get(step, ())} if n_threads() > 1 else set()
        return cls(tuple(task for task in ORDER if task in needed and not are_compiled(task)))

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        """The process ends, also where it still compiles."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None
            self._folder.cleanup()

    def wait(self, task: str) -> None:
        """Until the other process has compiled the task, or ended: what failed is compiled by who needs it."""
        while self._process is not None and not self._claims.is_done(task) and self._process.poll() is None:
            time.sleep(POLL)

    def prepare(self, stage: Stage) -> None:
        """See that a stage finds its kernels: what nobody has begun is compiled here, task by task.

        While the other process is at the last of them, this one takes what later stages need.
        """
        needed = [task for task in NEEDS.get(stage.name, ()) if task in self._tasks and not self._claims.is_done(task)]
        if not needed:
            return
        with stage.compiling_elsewhere():
            for task in (*needed, *self._tasks):
                if all(self._claims.is_done(task) for task in needed):
                    return
                if self._claims.take(task):
                    compile_kernels(task)
                    self._claims.finish(task)
            for task in needed:
                self.wait(task)

    def listener(self, inner: Listener) -> Listener:
        """Tells ``inner`` all it is told; a stage whose kernels are being compiled begins when they are there."""
        return _Waiting(self, inner)


class _Waiting:
    def __init__(self, ahead: Ahead, inner: Listener) -> None:
        self._ahead, self._inner = ahead, inner
        self.end, self.stop = inner.end, inner.stop

    def begin(self, stage: Stage) -> None:
        self._inner.begin(stage)
        self._ahead.prepare(stage)
