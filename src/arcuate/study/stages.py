"""Stages of a run: what was done, how long it took, why something was left out; shown while it happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass
class Stage:
    """One stage of a run."""

    name: str
    seconds: float = 0.0
    skipped: str | None = None  # why the stage was left out
    facts: dict[str, Any] = field(default_factory=dict)  # what the report and the table say of it


class Listener(Protocol):
    """Who is told about the stages: a progress display, or nobody."""

    def begin(self, stage: Stage) -> None: ...

    def end(self, stage: Stage) -> None: ...


class Silent:
    """Listener that says nothing."""

    def begin(self, stage: Stage) -> None: ...

    def end(self, stage: Stage) -> None: ...


class StageLog:
    """Stages in the order in which they ran."""

    def __init__(self, listener: Listener | None = None) -> None:
        self.stages: list[Stage] = []
        self._listener: Listener = listener or Silent()

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time the block as one stage."""
        stage = Stage(name)
        self._listener.begin(stage)
        start = time.perf_counter()
        yield stage
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
