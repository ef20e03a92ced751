"""Stages of a run: what was done, how long it took, why something was left out; shown while it happens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from numba.core import event

from arcuate.errors import noted_warnings
from arcuate.numerics.compiled import collecting_rarely
from arcuate.numerics.progress import progress_told_to

NOT_ASKED = "not asked for"  # how the reason begins of a step that nobody wanted


@dataclass
class Loop:
    """A loop of a stage that is running, by what it told of itself."""

    seconds: float = 0.0  # of computing when it began, from the begin of the stage
    part: float = 0.0  # done, 0 to 1

    def expected(self, seconds: float) -> float:
        """Seconds from its begin to its end, where the stage computes for ``seconds``; 0 while that cannot be told."""
        return (seconds - self.seconds) / self.part if self.part > 0 else 0.0


@dataclass
class Stage:
    """One stage of a run."""

    name: str
    seconds: float = 0.0  # without compiling
    skipped: str | None = None  # why the stage was left out
    facts: dict[str, Any] = field(default_factory=dict)  # numbers that tell what came out
    words: str = ""  # the same for reading
    warnings: list[str] = field(default_factory=list)  # that it gave, each once
    compiling: float = 0.0  # seconds
    n_compiled: int = 0  # kernels
    is_compiling: bool = False
    loop: Loop = field(default_factory=Loop)
    _began: float = field(default_factory=time.perf_counter)
    _compiling_since: float = 0.0

    def computing_so_far(self) -> float:
        """Seconds since the stage began, without compiling."""
        return max(0.0, time.perf_counter() - self._began - self.compiling_so_far())

    def hear(self, done: int, total: int) -> None:
        """A loop tells how many of its items are done; a new one when it begins."""
        if done == 0:
            self.loop = Loop(self.computing_so_far())
        self.loop.part = done / total if total else 1.0

    def compiling_so_far(self) -> float:
        """Seconds that went into compiling until now."""
        return self.compiling + (time.perf_counter() - self._compiling_since if self.is_compiling else 0.0)

    @contextmanager
    def compiling_elsewhere(self) -> Iterator[None]:
        """The block sees to kernels before the stage: waits for those of another process, or compiles some."""
        self.is_compiling, self._compiling_since = True, time.perf_counter()
        try:
            yield
        finally:
            self.compiling, self.is_compiling = self.compiling_so_far(), False


class _Compiling(event.Listener):  # type: ignore[misc]
    """Counts the kernels that numba compiles instead of loading them, and the seconds that takes."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._depth = 0  # a kernel that is compiled compiles those that it calls
        self._meanwhile = ExitStack()

    def on_start(self, _: object) -> None:
        stage = self._stage
        if self._depth == 0:
            self._meanwhile.enter_context(collecting_rarely())
            stage.is_compiling, stage._compiling_since = True, time.perf_counter()
        self._depth += 1
        stage.n_compiled += 1

    def on_end(self, _: object) -> None:
        stage = self._stage
        self._depth -= 1
        if self._depth == 0:
            stage.compiling, stage.is_compiling = stage.compiling_so_far(), False
            self._meanwhile.close()


def compiling_noted(stage: Stage) -> AbstractContextManager[None]:
    """Within the block the stage knows what numba compiles."""
    return cast(AbstractContextManager[None], event.install_listener("numba:compile", _Compiling(stage)))


class Listener(Protocol):
    """Who is told about the stages: a progress display, or nobody."""

    def begin(self, stage: Stage) -> None: ...

    def end(self, stage: Stage) -> None: ...

    def stop(self) -> None:
        """A stage ended early, by an error or by Ctrl-C: whatever shows that it runs is taken away."""


class Silent:
    """Listener that says nothing."""

    def begin(self, stage: Stage) -> None: ...

    def end(self, stage: Stage) -> None: ...

    def stop(self) -> None: ...


class StageLog:
    """Stages in the order in which they ran."""

    def __init__(self, listener: Listener | None = None) -> None:
        self.stages: list[Stage] = []
        self._listener: Listener = listener or Silent()

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time the block as one stage; what ends it early leaves the display as it was."""
        stage = Stage(name)
        is_done = False
        start = time.perf_counter()
        self._listener.begin(stage)
        try:
            with compiling_noted(stage), progress_told_to(stage.hear), noted_warnings() as stage.warnings:
                yield stage
            is_done = True
        finally:
            if not is_done:
                self._listener.stop()
        stage.seconds = max(0.0, time.perf_counter() - start - stage.compiling)
        self.stages.append(stage)
        self._listener.end(stage)

    def skip(self, name: str, reason: str) -> None:
        """Note that a stage was left out, and why."""
        stage = Stage(name, skipped=reason)
        self.stages.append(stage)
        self._listener.end(stage)

    def __getitem__(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)

    def __contains__(self, name: str) -> bool:
        return any(stage.name == name for stage in self.stages)


def voxels_in_words(counts: Mapping[str, int], what: str = "fitted") -> str:
    """Counts of voxels by status as words: ``fitted in 5012 voxels; 3 not finite``."""
    rest = "".join(f"; {n} {name.replace('_', ' ')}" for name, n in counts.items() if n and name != "fitted")
    return f"{what} in {counts.get('fitted', 0)} voxels{rest}"
