"""What a dry run says: of one scan, and of every scan of a cohort in the words of ``arcuate run --dry-run``."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from arcuate.errors import InputError, MissingExtraError
from arcuate.study.memory import MIB
from arcuate.study.stages import NOT_ASKED

if TYPE_CHECKING:
    from arcuate.dwi import Dwi
    from arcuate.study.bids import Derivatives
    from arcuate.study.cohort_task import Task
    from arcuate.study.plan import Plan


@dataclass(frozen=True)
class PlannedRun:
    """A run of one scan that was checked, and would be done.

    Parameters
    ----------
    plan : its steps
    scan : none of its voxels was read
    inputs : every file that is read, by its role
    names : where its results go
    memory : bytes that it may take
    """

    plan: Plan
    scan: Dwi
    inputs: dict[str, Path]
    names: Derivatives
    memory: int

    @property
    def sentences(self) -> list[str]:
        """What ``arcuate run --dry-run`` says."""
        words = [f"would read {self.files}: {self.size}"]
        words += [f"would do {name}" + (f": {step.how}" if step.how else "") for name, step in self.plan.steps.items()]
        words += [f"would leave out {name}: {reason}" for name, reason in self.left_out.items()]
        words.append(f"would take {self.memory_mb} MB of memory at most")
        if former := self.former:
            words.append(f"would replace {former}")
        words.append(f"would write to {self.names.folder} as {self.names.prefix}_...; nothing was done (--dry-run)")
        return words

    def told(self) -> PlannedRun:
        """The same, its sentences said."""
        click.echo("\n".join(self.sentences))
        return self

    @property
    def in_short(self) -> list[str]:
        """The same in four lines, for one scan of many."""
        steps = [f"{name} ({step.how})" if step.how else name for name, step in self.plan.steps.items()]
        return [
            f"files: {self.files}",
            f"scan: {self.size}",
            f"steps: {', '.join(steps)}",
            f"memory: {self.memory_mb} MB at most" + (f"; would replace {self.former}" if self.former else ""),
        ]

    @property
    def left_out(self) -> dict[str, str]:
        """Why a step that was wanted cannot be done, by its name."""
        return {name: reason for name, reason in self.plan.left_out.items() if not reason.startswith(NOT_ASKED)}

    @property
    def files(self) -> str:
        """Names of the files that are read."""
        return ", ".join(dict.fromkeys(path.name for path in self.inputs.values()))

    @property
    def size(self) -> str:
        """Voxels and gradients."""
        return f"{' x '.join(map(str, self.scan.volume.shape[:3]))} voxels, {self.scan.gradients.in_words}"

    @property
    def memory_mb(self) -> int:
        """MiB, rounded up."""
        return -(-self.memory // MIB)

    @property
    def former(self) -> str:
        """What a former run left under the same names; empty where there is nothing."""
        from arcuate.study.outputs import read_record

        try:
            record = read_record(self.names)
        except InputError:
            return "a list of results that cannot be read"
        if record is None:
            return ""
        return f"{len(record.files)} files of a run that " + ("ended" if record.is_finished else "was stopped")


@dataclass
class PlannedScans:
    """What a dry run of a cohort found so far."""

    protocols: Counter[str] = field(default_factory=Counter)  # scans by their gradients
    left_out: Counter[str] = field(default_factory=Counter)  # ... and by a step that is left out, with the reason
    n_failing: int = 0
    memory_mb: int = 0  # of the scan that takes most

    def look_at(self, task: Task, name: str) -> Iterator[str]:
        """Lines on one scan that is to be run, by its name: files, gradients, steps, memory, and what is doubtful."""
        planned, problem, heard = _dry_run(task)
        if planned is None:
            self.n_failing += 1
            yield f"{name}: {problem}"
            return
        self.protocols[planned.scan.gradients.in_words] += 1
        self.left_out.update(f"{step}: {reason}" for step, reason in planned.left_out.items())
        self.memory_mb = max(self.memory_mb, planned.memory_mb)
        yield f"{name}: to be run"
        yield from (f"  {line}" for line in planned.in_short)
        yield from (f"  check: {text}" for text in heard)

    def sentences(self, n_at_once: int, *, is_local: bool) -> list[str]:
        """What all scans together say."""
        words = [f"left out of {_scans(n)}: {what}" for what, n in self.left_out.most_common()]
        if len(self.protocols) > 1:
            found = "; ".join(f"{n} of {what}" for what, n in self.protocols.most_common())
            words.append(f"check: {len(self.protocols)} protocols: {found}")
        if self.memory_mb and is_local:
            words.append(f"{_scans(n_at_once)} at once may take {n_at_once * self.memory_mb} MB of memory")
            there = _memory_of_machine()
            if there and n_at_once * self.memory_mb > there:
                words[-1] += f", and this machine has {there}: --workers {max(1, there // self.memory_mb)} is enough"
        if self.n_failing:
            words.append(f"{_scans(self.n_failing)} would fail")
        return words


def _dry_run(task: Task) -> tuple[PlannedRun | None, str, list[str]]:
    """What ``arcuate run --dry-run`` finds, why it fails in one sentence, and its warnings."""
    from arcuate.commands.run import run

    if task.problem:
        return None, task.problem, []
    with warnings.catch_warnings(record=True) as heard, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        try:
            found = run.main([*task.arguments[1:], "--dry-run", "--quiet"], prog_name="run", standalone_mode=False)
        except (InputError, MissingExtraError) as error:
            return None, " ".join(str(error).split()), []
        except click.ClickException as error:
            return None, " ".join(error.format_message().split()), []
        except OSError as error:
            return None, f"{error.strerror or error} ({error.filename})", []
    assert isinstance(found, PlannedRun)
    texts: Sequence[str] = [" ".join(str(warning.message).split()) for warning in heard]
    return found, "", list(dict.fromkeys(texts))


def _scans(n: int) -> str:
    return f"{n} scan{'' if n == 1 else 's'}"


def _memory_of_machine() -> int:
    """MiB that are built in; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB
    except (AttributeError, ValueError, OSError):
        return 0
