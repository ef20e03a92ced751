"""What a person sees of a cohort: a live line per worker, or a line per finished subject in a log."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from arcuate.study.cohort_task import COMPLETE, Outcome, step_at_end
from arcuate.study.expected import in_words

REFRESH = 1.0  # seconds between two looks at what runs
MOST_ROWS = 30  # workers that are shown


class CohortLines:
    """Listener of a cohort: lines as they come, and below them what runs now if a person is watching."""

    def __init__(self, console: Console, work: Path) -> None:
        self._console, self._work = console, work
        self._live: Live | None = None
        self._n_tasks = self._n_done = self._n_failed = 0
        self._start = self._last_look = time.monotonic()
        self._n_before = 0

    def begin(self, n_tasks: int, n_done: int) -> None:
        """Tasks in all, and those that were complete before."""
        self._n_tasks, self._n_done, self._n_before = n_tasks, n_done, n_done
        self._start = time.monotonic()
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def end(self, outcome: Outcome) -> None:
        """A line for a subject that ended."""
        self._n_done += 1
        name = f"[{self._n_done}/{self._n_tasks}] {outcome.name}"
        if outcome.state == COMPLETE:
            memory = "" if outcome.peak_mb is None else f", {outcome.peak_mb:.0f} MB"
            self.say(f"{name} complete: {outcome.seconds or 0:.1f} s{memory}")
        else:
            self._n_failed += outcome.state == "failed"
            where = f" at {outcome.step}" if outcome.step else ""
            self.say(f"{name} {outcome.state}{where}: {outcome.message}")

    def tick(self) -> None:
        """Show anew what runs."""
        if self._live is None or time.monotonic() - self._last_look < REFRESH:
            return
        self._last_look = time.monotonic()
        self._live.update(self._table(), refresh=True)

    def stop(self) -> None:
        """Take the live lines away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, sentence: str) -> None:
        """Print a line as it is."""
        self._console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    def _table(self) -> Table:
        from arcuate.study.cohort import running_now

        table = Table.grid(padding=(0, 2))
        now = list(running_now(self._work))
        for facts in now[:MOST_ROWS]:
            table.add_row(*map(Text, _cells(facts)))
        if len(now) > MOST_ROWS:
            table.add_row(f"and {len(now) - MOST_ROWS} more")
        table.add_row(Text(self._in_all()))
        return table

    def _in_all(self) -> str:
        ended = self._n_done - self._n_before
        words = f"{self._n_done} of {self._n_tasks} done, {self._n_failed} failed"
        if ended:
            left = (time.monotonic() - self._start) / ended * (self._n_tasks - self._n_done)
            words += f", about {in_words(left)} to go"
        return words


def _cells(facts: dict[str, Any]) -> tuple[str, str, str, str]:
    """Worker, subject, step and time of what a worker does."""
    try:
        with Path(facts["Log"]).open(encoding="utf-8", errors="replace") as log:
            step = step_at_end(log.read())
    except OSError:
        step = "starting"
    return str(facts["Worker"]), str(facts["Name"]), step, in_words(time.time() - float(facts["Since"]))
