"""What a person sees of a run: per cent, seconds and what is left while it goes on; lines where nobody watches."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from arcuate.study.expected import Forecast, in_words

if TYPE_CHECKING:
    from arcuate.study.stages import Stage


class StageLines:
    """Listener that prints a line per finished stage; below them what runs now, if a person is watching.

    Parameters
    ----------
    console : where lines go
    expected : seconds that each stage may take, see :func:`arcuate.study.expected.expected_seconds`
    """

    def __init__(self, console: Console, expected: Mapping[str, float] | None = None) -> None:
        self._console = console
        self._forecast = Forecast(expected or {})
        self._has_forecast = bool(expected)
        self._progress: Progress | None = None
        self._start = time.perf_counter()
        self._compiling = 0.0

    def begin(self, stage: Stage) -> None:
        if not self._console.is_terminal or self._console.quiet:
            return
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), _Left(self._forecast, stage))
        # what goes to standard output stays there, and is no line above the bar
        self._progress = Progress(*columns, console=self._console, transient=True, redirect_stdout=False)
        self._progress.add_task(f"{stage.name:10}", total=1.0)
        if self._has_forecast:
            self._progress.add_task(f"{'all':10}", total=1.0)
        self._progress.start()

    def end(self, stage: Stage) -> None:
        self.stop()
        self._forecast.note(stage.name, stage.seconds)
        if stage.skipped is not None:
            self.say(f"{stage.name:10} left out: {stage.skipped}")
            return
        compiling = f" (and {stage.compiling:.0f} s compiling)" if stage.compiling >= 0.5 else ""
        self.say(f"{stage.name:10} {stage.seconds:7.2f} s  {stage.words}{compiling}".rstrip())
        self._compiling += stage.compiling
        part, left = self._forecast.of_run()
        elapsed = time.perf_counter() - self._start - self._compiling
        if self._has_forecast and part < 1 and elapsed > 10:
            more = f" and {in_words(self._compiling)} of compiling" if self._compiling >= 1 else ""
            self.say(f"{'':10} {100 * part:.0f} % of the run in {in_words(elapsed)}{more}, about {in_words(left)} left")

    def stop(self) -> None:
        """Take the bars away; the cursor comes back."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def say(self, sentence: str) -> None:
        """Print a line as it is."""
        self._console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    def say_all(self, sentences: Iterable[str]) -> None:
        """Print lines as they are."""
        for sentence in sentences:
            self.say(sentence)


class _Left(ProgressColumn):
    """Per cent, elapsed and expected time; or that kernels are compiled, and how many were."""

    def __init__(self, forecast: Forecast, stage: Stage) -> None:
        super().__init__()
        self._forecast, self._stage = forecast, stage

    def render(self, task: Task) -> Text:
        elapsed = task.elapsed or 0.0
        stage, compiling = self._stage, self._stage.compiling_so_far()
        told = (stage.name, max(0.0, elapsed - compiling), stage.loop)
        part, left = self._forecast.of_stage(*told) if task.id == 0 else self._forecast.of_run(*told)
        is_known = task.id > 0 or stage.name in self._forecast or stage.loop.part > 0
        task.completed = part if is_known else 0.0
        if stage.is_compiling and task.id == 0:
            return Text(f"compiling kernels ({stage.n_compiled} so far, {in_words(compiling)}); kept for next time")
        if not is_known:
            return Text(in_words(elapsed))
        return Text(f"{100 * part:3.0f} %  {in_words(elapsed)}, about {in_words(left)} left")
