"""How kernels are compiled and run: conventions in :mod:`arcuate.numerics`."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba

from arcuate.numerics.kept_kernels import with_kept_kernels
from arcuate.numerics.own_copies import OwnCopies
from arcuate.numerics.progress import tell_progress
from arcuate.numerics.threads import in_order

__all__ = ["collecting_rarely", "inner", "kernel", "njit", "part", "run_in_chunks"]


def njit(**options: Any) -> Any:
    """numba's decorator of that name; what is kept on disk is so where the disk allows."""
    decorated = numba.njit(**options)
    return lambda function: with_kept_kernels(decorated(function))


def kernel(**options: Any) -> Any:
    """Decorator of a function that Python calls: kept on disk, and other threads run while it does.

    All it calls is in its own machine code, the same whether it was just compiled or read from disk.
    """
    return njit(cache=True, nogil=True, pipeline_class=OwnCopies, **options)


def inner(**options: Any) -> Any:
    """Decorator of a function that only kernels call: kept on disk, without the code that unpacks Python's objects."""
    return njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)


def part() -> Any:
    """Decorator of a function with one caller: taken into it before anything is compiled, with the caller's options.

    An inner function is optimised with all that it calls, and made machine code of, before its caller is, again with
    all of that. Where it has one caller that is wasted: half of what the largest kernels took.
    """
    return numba.njit(inline="always")


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Within the block, in which kernels are compiled, Python seldom looks for objects that hold each other.

    numba makes tens of millions of objects, which the collector goes through again and again: a fifth of the time.
    """
    before = gc.get_threshold()
    gc.set_threshold(100_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def run_in_chunks(work: Callable[[int, int], None], n: int, chunk: int) -> None:
    """Call ``work(begin, end)`` for 0 ... n in chunks of fixed size, on as many threads as kernels may use.

    What a chunk computes must depend on its own items alone: the result is then the same for any number of threads.
    The work is done in kernels that let other threads run; between two chunks Python hears Ctrl-C, and who listens to
    the progress is told.

    Notes
    -----
    numba's ``parallel=True`` compiles all that a loop calls three times over (24 of 90 s for the cone solver), wants
    its arguments flat, and is left by Ctrl-C only at its end. A chunk of some milliseconds costs Python 20 µs.
    """

    def do(begin: int) -> int:
        end = min(begin + chunk, n)
        work(begin, end)
        return end

    tell_progress(0, n)
    for end in in_order(do, range(0, n, chunk)):
        tell_progress(end, n)
