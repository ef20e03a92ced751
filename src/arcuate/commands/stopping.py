"""How a command that is stopped ends: cleanly at the first signal, at once at the second."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and what a scheduler sends


@contextlib.contextmanager
def stoppable() -> Iterator[list[int]]:
    """Let Ctrl-C and SIGTERM end the block by a KeyboardInterrupt; gives a list that then holds the signal.

    The ``finally`` blocks on the way remove temporary files. A second signal ends the process at once, whatever it is
    doing: also where the first was lost, as in a destructor, from which Python lets no exception out. An error that a
    package made of the interrupt counts as one. A signal that is ignored stays so.
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
        yield came
    except Exception as error:
        if not came:
            raise
        raise KeyboardInterrupt from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
