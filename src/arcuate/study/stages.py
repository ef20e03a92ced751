"""Stages of a run: what was done, how long it took, why something was left out; shown while it happens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

NOT_ASKED = "not asked for"  # how the reason begins of a step that nobody wanted


@dataclass
class Stage:
    """One stage of a run."""

    name: str
    seconds: float = 0.0
    skipped: str | None = None  # why the stage was left out
    facts: dict[str, Any] = field(default_factory=dict)  # numbers that tell what came out
    words: str = ""  # the same for reading


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
        self._listener.begin(stage)
        start = time.perf_counter()
        try:
            yield stage
            is_done = True
        finally:
            if not is_done:
                self._listener.stop()
        stage.seconds = time.perf_counter() - start
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
