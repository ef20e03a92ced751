"""How a command that is stopped ends: cleanly at the first signal, at once at the second."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and what a scheduler sends
AGAIN = 0.01  # seconds after which an interrupt that was lost comes again


@contextlib.contextmanager
def stoppable() -> Iterator[list[int]]:
    """Let Ctrl-C and SIGTERM end the block by a KeyboardInterrupt; gives a list that then holds the signal.

    The ``finally`` blocks on the way remove temporary files. A second signal ends the process at once, whatever it is
    doing. Where the interrupt was lost, as in a destructor, from which Python lets no exception out, it comes again
    (not on Windows). An error that a package made of the interrupt counts as one. A signal that is ignored stays so.
    """
    came: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()  # Python refuses handlers in others
    numbers = [number for number in SIGNALS if is_main and signal.getsignal(number) != signal.SIG_IGN]

    def stop(signum: int, _: FrameType | None) -> None:
        came.append(signum)
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        with _coming_again(came):
            yield came
    except Exception as error:
        if not came:
            raise
        raise KeyboardInterrupt from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _coming_again(came: list[int]) -> Iterator[None]:
    """Within the block an interrupt that Python ignored after a signal ``came`` is raised anew, a moment later."""
    hook = sys.unraisablehook
    before: list[Any] = []  # handler of the timer's signal, once the timer was set

    def again(*_: object) -> None:
        raise KeyboardInterrupt

    def ignored(what: sys.UnraisableHookArgs) -> None:
        is_main = threading.current_thread() is threading.main_thread()
        if came and is_main and issubclass(what.exc_type, KeyboardInterrupt) and hasattr(signal, "setitimer"):
            before.append(signal.signal(signal.SIGALRM, again))
            signal.setitimer(signal.ITIMER_REAL, AGAIN)
        else:
            hook(what)

    sys.unraisablehook = ignored
    try:
        yield
    finally:
        sys.unraisablehook = hook
        if before:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before[0])


def exit_status(came: list[int]) -> int:
    """Exit status of a command that was stopped: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + (came[0] if came else signal.SIGINT)


def end_process(status: object) -> None:
    """End the process with an exit status, by the signal where it stands for one; does nothing without a status.

    A shell's loop over subjects ends with a command that died of Ctrl-C, and goes on after one that exits with 130.
    Taking the interpreter to pieces, half a second after a run, is left out: the system takes all back at once.
    """
    if os.name != "posix" or not isinstance(status, int):
        return
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError):
        if status - 128 not in SIGNALS:
            return  # the interpreter says what is wrong with the stream
    if status - 128 in SIGNALS:
        signal.signal(status - 128, signal.SIG_DFL)
        signal.raise_signal(status - 128)
    os._exit(status)
