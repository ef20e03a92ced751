"""Ctrl-C: raised until it arrives, and how a stopped process ends."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

ASK_AGAIN = 0.3  # seconds after which a Ctrl-C that was lost is raised again
STOPPED = 128 + signal.SIGINT  # exit status of a command that was stopped

_came_by: int | None = None  # the signal that stopped the command


@contextlib.contextmanager
def raised_surely() -> Iterator[None]:
    """Ctrl-C and SIGTERM end what runs here by a KeyboardInterrupt; a signal that is ignored stays so.

    Also where a package made another error of it: one interrupted in its import says "initialization failed". What
    Python would print of an interrupt that it loses is left out.
    """
    global _came_by
    _came_by = None
    answered = threading.current_thread() is threading.main_thread()  # in other threads Python refuses handlers
    numbers = [number for number in _signals() if answered and signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _stop) for number in numbers}
    tell = sys.unraisablehook
    sys.unraisablehook = lambda lost: None if isinstance(lost.exc_value, KeyboardInterrupt) else tell(lost)
    try:
        yield
    except Exception as error:
        if _came_by is None:
            raise
        raise KeyboardInterrupt from error
    finally:
        if answered and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = tell


def _stop(signum: int, frame: FrameType | None) -> None:
    """Handler that raises KeyboardInterrupt, and again until it arrives.

    Python loses an exception that is raised in a destructor or in a callback from C, and a handler runs wherever the
    program happens to be. So it is called again, until :func:`raised_surely` stops the clock; not while the exception
    is on its way, when ``finally`` blocks remove temporary files.
    """
    global _came_by
    if signum in (signal.SIGINT, signal.SIGTERM):
        _came_by = signum
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, ASK_AGAIN)
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    if error is None:
        raise KeyboardInterrupt


def _signals() -> list[int]:
    """Those that a run answers; the clock's first, so that it is the first to work again."""
    return [getattr(signal, name) for name in ("SIGALRM", "SIGTERM", "SIGINT") if hasattr(signal, name)]


def end_process() -> NoReturn:
    """End the process by the signal that stopped it, as a shell expects: then its loop over subjects ends, too.

    The interpreter is not torn down: packages that were interrupted while they were imported may crash it there.
    """
    for number in _signals():
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C twice
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()  # temporary folders of packages
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if os.name == "posix":
        number = _came_by or signal.SIGINT
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    os._exit(STOPPED)
