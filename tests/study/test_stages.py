"""Stages are timed, and whatever ends one leaves the display as it was."""

from __future__ import annotations

import io
import sys
import time

import numba
import pytest
from rich.console import Console

from arcuate.commands.stage_lines import StageLines
from arcuate.numerics.compiled import run_in_chunks
from arcuate.study.expected import Forecast
from arcuate.study.stages import Loop, Stage, StageLog, voxels_in_words


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
    before, results = sys.stderr, sys.stdout
    log = StageLog(StageLines(Console(file=terminal, force_terminal=True)))
    redirected = []

    def fail() -> None:
        with log.stage("mask"):
            redirected.append(sys.stderr)
            assert sys.stdout is results, "what a command prints is no line above the bar"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert redirected[0] is not before, "the display does redirect it while it runs"
    assert sys.stderr is before
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l"), "the cursor is back"


def test_words_about_voxels_hold_no_brackets() -> None:
    counts = {"fitted": 5012, "not_finite": 3, "floored": 0}
    assert voxels_in_words(counts) == "fitted in 5012 voxels; 3 not finite"


def test_compiling_is_counted_apart_from_computing() -> None:
    log = StageLog()
    with log.stage("first") as first:
        kernel = numba.njit(lambda x: x + 1)
        assert kernel(1) == 2
        time.sleep(0.2)
    with log.stage("second") as second:
        kernel(2)
    assert first.n_compiled >= 1
    assert first.compiling > 0.01
    assert 0.2 <= first.seconds < 0.2 + first.compiling + 1
    assert (second.n_compiled, second.compiling, second.is_compiling) == (0, 0.0, False)


def test_the_forecast_follows_what_stages_took() -> None:
    forecast = Forecast({"denoise": 10.0, "mask": 1.0, "fod": 20.0})
    part, left = forecast.of_run("denoise", 5.0)
    assert part == pytest.approx(5 / 31, abs=0.02)
    assert left == pytest.approx(26, rel=0.05)
    forecast.note("denoise", 20.0)  # twice as slow as was thought
    forecast.note("mask", 2.0)
    part, left = forecast.of_run()
    assert 30 < left < 40, "a pace of two, for the most part"
    assert part == pytest.approx(22 / (22 + left)), "per cent are those of the time"
    part, left = forecast.of_stage("fod", 60.0)
    assert part < 1, "a guess that was passed grows"
    assert left > 0
    forecast.note("fod", 60.0)
    assert forecast.of_run() == (1.0, 0.0)


def test_a_quick_stage_that_took_three_times_its_guess_says_little_about_the_rest() -> None:
    forecast = Forecast({"dti": 0.1, "fod": 10.0, "report": 10.0})
    forecast.note("dti", 0.3)
    assert forecast.of_run()[1] == pytest.approx(20, rel=0.1)


def test_the_voxels_done_tell_how_long_a_stage_takes() -> None:
    forecast = Forecast({"fod": 10.0, "report": 4.0})
    loop = Loop(seconds=1.0, part=0.1)  # after 5 s of its own: 50 s
    part, left = forecast.of_stage("fod", 6.0, loop)
    assert (part, left) == pytest.approx((6 / 51, 45), rel=0.01)
    left = forecast.of_run("fod", 6.0, loop)[1]
    assert 49 < left < 45 + 4 * 5.1, "and the stages after it go at a similar pace"
    part, left = forecast.of_stage("fod", 52.0, Loop(seconds=51.5, part=0.5))
    assert left < 3, "a short loop at the end changes nothing"
    assert Forecast({"fod": 10.0}).of_stage("fod", 1.0, Loop(0.5, 0.0))[1] == 9, "a loop that just began tells nothing"


def test_a_stage_hears_the_loops_that_run_in_it() -> None:
    heard: list[float] = []

    def work(begin: int, end: int) -> None:
        heard.append(stage.loop.part)
        time.sleep(0.02)

    with StageLog().stage("fod") as stage:
        run_in_chunks(work, 40, 4)
    assert stage.loop.part == 1.0
    assert heard[0] == 0.0
    assert any(0 < part < 1 for part in heard), heard
    run_in_chunks(work, 4, 4)
    assert stage.loop.part == 1.0, "and none after it"


@pytest.mark.parametrize("pace", [0.4, 1.0, 2.5])
def test_over_a_whole_run_the_time_left_is_right_within_a_third_once_half_is_done(pace: float) -> None:
    """Stages as a run of two slices took them, on machines of another speed than was thought."""
    guesses = {"mask": 0.6, "dti": 0.7, "kurtosis": 0.9, "noddi": 1.1, "response": 1.0, "fod": 4.0, "report": 7.0}
    took = {name: pace * factor * seconds for (name, seconds), factor in
            zip(guesses.items(), (0.5, 1.5, 1.2, 0.8, 2.0, 1.3, 0.9), strict=True)}  # fmt: skip
    forecast, now, whole = Forecast(guesses), 0.0, sum(took.values())
    for name, seconds in took.items():
        for step in range(1, 11):
            inside = seconds * step / 10
            loop = Loop(0.05 * seconds, (inside - 0.05 * seconds) / (0.9 * seconds)) if step < 10 else Loop(0.0, 1.0)
            part, left = forecast.of_run(name, inside, loop)
            true = whole - now - inside
            assert 0 <= part <= 1
            if now + inside > whole / 2:
                assert abs(left - true) < whole / 3, (name, step, left, true)
        forecast.note(name, seconds)
        now += seconds


def test_stages_that_were_kept_from_before_do_not_make_the_rest_look_short() -> None:
    forecast = Forecast({"denoise": 10.0, "fod": 20.0})
    forecast.note("denoise", 0.05)
    assert forecast.of_run()[1] == pytest.approx(20)


def test_a_log_has_plain_lines_with_per_cent_and_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    lines = StageLines(Console(file=log, width=80), {"dti": 10.0, "fod": 30.0})
    monkeypatch.setattr(lines, "_start", lines._start - 12)
    dti = Stage("dti", seconds=10.0, words="fitted in 9 voxels", compiling=3.0)
    lines.begin(dti)
    lines.end(dti)
    shown = log.getvalue()
    assert "\x1b" not in shown
    assert "dti          10.00 s  fitted in 9 voxels (and 3 s compiling)" in shown
    assert "25 % of the run in 12 s" not in shown, "compiling is no part of it"
    monkeypatch.setattr(lines, "_start", lines._start - 3)
    lines.end(Stage("left", skipped="why"))
    lines.end(Stage("mask", words=""))
    assert "25 % of the run in 12 s and 3 s of compiling, about 30 s left" in log.getvalue()


def test_a_terminal_shows_per_cent_elapsed_and_expected_time_of_stage_and_run() -> None:
    terminal = io.StringIO()
    lines = StageLines(Console(file=terminal, force_terminal=True, width=100), {"dti": 10.0, "fod": 30.0})
    stage = Stage("dti")
    lines.begin(stage)
    stage.is_compiling, stage.n_compiled, stage._compiling_since = True, 12, time.perf_counter() - 5
    time.sleep(0.3)
    stage.is_compiling = False
    time.sleep(0.3)
    lines.stop()
    shown = terminal.getvalue()
    assert "compiling kernels (12 so far, 5 s)" in shown
    assert "about 10 s left" in shown
    assert "about 40 s left" in shown
