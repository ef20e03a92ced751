"""Ctrl-C held back where it would crash a package of C++."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Signals that Python code would answer wait until the block ends; also a decorator.

    For packages whose C++ calls Python: VTK, interrupted there or while it is imported, crashes or prints errors.
    Signals that end the process at once still do. Other threads never receive a KeyboardInterrupt: nothing is held.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {}
    try:
        for number in SIGNALS:
            if callable(handler := signal.getsignal(number)):
                before[number] = handler
                signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
