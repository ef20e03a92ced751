"""Ctrl-C held back waits, and none is lost; afterwards everything is as before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from arcuate.commands.stopping import SIGNALS, exit_status, stoppable
from arcuate.figures.held_signals import held_back


def test_an_interrupt_waits_for_the_end_of_the_block() -> None:
    done = []

    @held_back()
    def work() -> None:
        signal.raise_signal(signal.SIGINT)
        done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["all of it"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_blocks_may_nest() -> None:
    done = []

    @held_back()
    def work() -> None:
        with held_back():
            signal.raise_signal(signal.SIGINT)
        done.append("the outer one, too")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["the outer one, too"]


def test_an_interrupt_is_not_lost_when_the_block_fails() -> None:
    @held_back()
    def work() -> None:
        signal.raise_signal(signal.SIGINT)
        raise ValueError("in the block")

    with pytest.raises(KeyboardInterrupt) as caught:
        work()
    assert isinstance(caught.value.__context__, ValueError)


def test_without_an_interrupt_nothing_happens() -> None:
    @held_back()
    def work() -> int:
        return 3

    assert work() == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_the_program_does_not_answer_is_left_alone() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with stoppable(), held_back():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_in_another_thread_nothing_is_held() -> None:
    seen = []

    def work() -> None:
        with stoppable(), held_back():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no timers of signals")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_comes_in_a_destructor_is_not_lost(number: signal.Signals) -> None:
    class Dying:
        def __del__(self) -> None:
            signal.raise_signal(number)

    hook, start = sys.unraisablehook, time.monotonic()
    came: list[int] = []

    def work() -> None:
        nonlocal came
        with stoppable() as came:
            Dying()
            while time.monotonic() < start + 5:
                pass

    with pytest.raises(KeyboardInterrupt):
        work()
    assert came == [number]
    assert time.monotonic() < start + 4
    assert sys.unraisablehook is hook


def test_an_error_that_a_package_made_of_the_interrupt_counts_as_one() -> None:
    def work() -> None:
        with stoppable():
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise ImportError("initialization failed") from None

    with pytest.raises(KeyboardInterrupt):
        work()


def test_other_errors_stay_what_they_are() -> None:
    def work() -> None:
        with stoppable():
            raise ImportError("no such module")

    with pytest.raises(ImportError, match="no such module"):
        work()


@pytest.mark.parametrize("number", SIGNALS)
def test_the_signal_that_came_is_told_and_the_next_one_would_end_the_process(number: signal.Signals) -> None:
    before = [signal.getsignal(n) for n in SIGNALS]
    told: list[list[int]] = []
    seen: list[object] = []

    def work() -> None:
        with stoppable() as came:
            told.append(came)
            try:
                signal.raise_signal(number)
            finally:
                seen.extend(signal.getsignal(n) for n in SIGNALS)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert told == [[number]]
    assert exit_status(told[0]) == 128 + number
    assert seen == [signal.SIG_DFL] * 2
    assert [signal.getsignal(n) for n in SIGNALS] == before


@pytest.mark.skipif(os.name != "posix", reason="the interpreter ends the process elsewhere")
def test_a_process_cleans_up_and_ends_with_its_status_without_taking_the_interpreter_apart() -> None:
    code = """
import atexit, sys
from arcuate import __main__, cli

class Loud:
    def __del__(self):
        print("taken apart")

def command():
    atexit.register(print, "cleaned up")
    sys.stdout.write("no line end")
    raise SystemExit(3)

kept, cli.main = Loud(), command
__main__.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "no line endcleaned up\n", "")


def test_a_bug_keeps_its_traceback_and_its_status() -> None:
    code = "from arcuate import __main__, cli; cli.main = lambda: 1 / 0; __main__.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
