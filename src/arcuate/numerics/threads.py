"""How many threads work, in kernels and around them."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import chain, islice
from typing import Any, TypeVar

from arcuate.errors import InputError, InputWarning

# Read by BLAS and OpenMP when they are loaded: for those that come later, torch's among them.
_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_asked_for: list[int] = []  # by set_threads, for the whole process
_pools: dict[int, ThreadPoolExecutor] = {}  # by the number of their threads
_here = threading.local()
_AHEAD = 4  # items taken per thread before the first result is waited for

_T = TypeVar("_T")
_R = TypeVar("_R")

if hasattr(os, "register_at_fork"):  # not on Windows; a forked process has none of the threads
    os.register_at_fork(after_in_child=_pools.clear)


def available_threads() -> int:
    """Processors that this process may use, at most ``$NUMBA_NUM_THREADS``."""
    try:
        available = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        available = os.cpu_count() or 1
    named = os.environ.get("NUMBA_NUM_THREADS", "")
    return min(available, int(named)) if named.isdigit() and int(named) > 0 else available


def n_threads() -> int:
    """Threads that one piece of work may use: as many as kernels do; 1 in a thread of :func:`in_order`."""
    if getattr(_here, "is_part", False):
        return 1
    limit = _asked_for[0] if _asked_for else available_threads()
    parallel = _parallel()
    return limit if parallel is None else max(1, min(limit, int(parallel._get_num_threads())))


def in_order(function: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
    """As ``map``, on :func:`n_threads` threads, with few items taken ahead of the results.

    The threads are the same every time: a scan has hundreds of such loops, many of them shorter than it takes to start
    a thread. Several loops at once get on in turns. What the function does on several threads in turn, one does here.
    However the loop ends, no thread works for it afterwards.
    """
    count, rest = n_threads(), iter(items)
    first = list(islice(rest, 2))
    if count == 1 or len(first) < 2:
        yield from map(function, chain(first, rest))
        return
    pool = _pools.get(count) or _pools.setdefault(count, _started_pool(count))
    ahead: deque[Future[_R]] = deque()
    try:
        for item in chain(first, rest):
            ahead.append(pool.submit(function, item))
            if len(ahead) >= _AHEAD * count:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        for future in ahead:
            future.cancel()
        wait(ahead)


def _started_pool(count: int) -> ThreadPoolExecutor:
    """A pool all of whose threads run.

    Ctrl-C comes to the main thread. If it came there while a thread of the pool is started, Python would not know of
    that one, and wait for it at the end of the process for ever. So another thread starts them.
    """
    pool = ThreadPoolExecutor(count, thread_name_prefix="arcuate", initializer=_be_part)
    all_run = threading.Barrier(count)

    def start() -> None:
        try:
            wait([pool.submit(all_run.wait) for _ in range(count)])
        except RuntimeError:  # the system gives no more threads, and says so again where they are needed
            all_run.abort()

    starting = threading.Thread(target=start)
    starting.start()
    starting.join()
    return pool


def _be_part() -> None:
    _here.is_part = True


def set_threads(n: int) -> None:
    """Let kernels, BLAS, OpenMP, compression and hashing use ``n`` threads each; fewer, with a warning, if there are.

    Parameters
    ----------
    n : 1 or more; above the number of processors all of them are used
    """
    from threadpoolctl import threadpool_limits

    if n < 1:
        raise InputError(f"found {n} threads; expected 1 or more.")
    most = available_threads()
    if n > most:
        warnings.warn(f"{n} threads were asked for, {most} can be used here; {most} are used.", InputWarning, 2)
    n = min(n, most)
    _asked_for[:] = [n]
    threadpool_limits(n)
    os.environ.update(dict.fromkeys(_VARIABLES, str(n)))


def _parallel() -> Any:
    """numba's own threads, None as long as no code in this process needed them: arcuate's kernels do not."""
    parallel = sys.modules.get("numba.np.ufunc.parallel")
    return parallel if parallel is not None and getattr(parallel, "_is_initialized", False) else None
