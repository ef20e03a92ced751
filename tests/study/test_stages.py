"""Stages are timed, and whatever ends one leaves the display as it was."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from arcuate.commands.run import StageLines
from arcuate.study.stages import Stage, StageLog, voxels_in_words


class Notes:
    """Listener that notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def begin(self, stage: Stage) -> None:
        self.heard.append(f"begin {stage.name}")

    def end(self, stage: Stage) -> None:
        self.heard.append(f"end {stage.name}")

    def stop(self) -> None:
        self.heard.append("stop")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_in_a_stage_is_told_to_the_display(error: type[BaseException]) -> None:
    notes = Notes()
    log = StageLog(notes)
    with pytest.raises(error), log.stage("dti"):
        raise error
    assert notes.heard == ["begin dti", "stop"]
    assert log.stages == []


def test_an_error_gives_the_cursor_and_the_output_back() -> None:
    terminal = io.StringIO()
    before = sys.stdout
    log = StageLog(StageLines(Console(file=terminal, force_terminal=True)))
    redirected = []

    def fail() -> None:
        with log.stage("mask"):
            redirected.append(sys.stdout)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert redirected[0] is not before, "the display does redirect it while it runs"
    assert sys.stdout is before
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l"), "the cursor is back"


def test_words_about_voxels_hold_no_brackets() -> None:
    counts = {"fitted": 5012, "not_finite": 3, "floored": 0}
    assert voxels_in_words(counts) == "fitted in 5012 voxels; 3 not finite"
