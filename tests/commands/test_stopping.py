"""Ctrl-C held back waits, and none is lost; afterwards everything is as before."""

from __future__ import annotations

import signal
import threading

import pytest

from arcuate.commands.stopping import raised_surely
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


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="Windows has no SIGALRM")
def test_what_the_program_does_not_answer_is_left_alone() -> None:
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    try:
        with held_back():
            assert signal.getsignal(signal.SIGALRM) == signal.SIG_IGN
            signal.raise_signal(signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_in_another_thread_nothing_is_held() -> None:
    seen = []

    def work() -> None:
        with raised_surely(), held_back():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_an_error_that_a_package_made_of_the_interrupt_counts_as_one() -> None:
    def work() -> None:
        with raised_surely():
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise ImportError("initialization failed") from None

    with pytest.raises(KeyboardInterrupt):
        work()


def test_other_errors_stay_what_they_are() -> None:
    def work() -> None:
        with raised_surely():
            raise ImportError("no such module")

    with pytest.raises(ImportError, match="no such module"):
        work()
