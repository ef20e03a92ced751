"""How far the work at hand is: told by long loops, heard by whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[int, int], None]  # items done, items in all

_listener: ContextVar[Listener | None] = ContextVar("progress", default=None)


def tell_progress(done: int, total: int) -> None:
    """Say that a loop has done so many of its items; 0 at its begin. Nothing where nobody listens."""
    listener = _listener.get()
    if listener is not None:
        listener(done, total)


@contextmanager
def progress_told_to(listener: Listener) -> Iterator[None]:
    """Within the block ``listener(done, total)`` is called by the loops that this thread begins."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
