"""Long loops in pieces: while a kernel runs Python hears no Ctrl-C, so no kernel should run for more than a moment."""

from __future__ import annotations

from collections.abc import Iterator

from arcuate.numerics.threads import n_threads


def pieces(n: int, per_thread: int) -> Iterator[slice]:
    """Slices of 0 ... n in order, each with ``per_thread`` items for each thread in use, the last with the rest.

    The callers choose ``per_thread`` for about half a second of work; the items must not depend on each other.
    """
    size = per_thread * n_threads()
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
