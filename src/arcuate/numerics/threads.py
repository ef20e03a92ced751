"""How many threads work, in kernels and around them, and what is left of them after a fork."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from typing import Any

from arcuate.errors import InputWarning

# Read by BLAS and OpenMP when they are loaded: for those that come later, torch's among them.
_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class _Process:
    """What holds for the whole process, as numba's own number of threads does."""

    limit: int | None = None  # asked for with set_threads
    lost_its_threads = False  # forked from a process whose kernels had threads
    has_warned = False


def available_threads() -> int:
    """Processors that this process may use, at most ``$NUMBA_NUM_THREADS``."""
    try:
        available = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        available = os.cpu_count() or 1
    named = os.environ.get("NUMBA_NUM_THREADS", "")
    return min(available, int(named)) if named.isdigit() and int(named) > 0 else available


def n_threads() -> int:
    """Threads that one piece of work may start: as many as kernels use."""
    if _Process.lost_its_threads:
        warn_of_lost_threads()
        return 1
    limit = _Process.limit or available_threads()
    parallel = _parallel()
    return limit if parallel is None else max(1, min(limit, int(parallel._get_num_threads())))


def set_threads(n: int) -> None:
    """Let kernels, BLAS, OpenMP, compression and hashing use ``n`` threads each; fewer, with a warning, if there are.

    Parameters
    ----------
    n : 1 or more; above the number of processors all of them are used
    """
    import numba
    from threadpoolctl import threadpool_limits

    most = 1 if _Process.lost_its_threads else min(available_threads(), numba.config.NUMBA_NUM_THREADS)
    if n > most:
        warnings.warn(f"{n} threads were asked for, {most} can be used here; {most} are used.", InputWarning, 2)
    n = min(n, most)
    _Process.limit = n
    numba.set_num_threads(n)
    threadpool_limits(n)
    os.environ.update(dict.fromkeys(_VARIABLES, str(n)))


def keep_kernels_usable_after_a_fork() -> None:
    """Let kernels work in processes that are forked from this one, as ``multiprocessing`` and joblib make them.

    GNU OpenMP, numba's threading layer on Linux, loses its threads in a fork: numba ends such a process at its first
    kernel, and a pool that starts another one in its place never returns. With one thread OpenMP needs none of those
    that were lost. So kernels of the forked process run on one thread (a pool has one process per processor anyway),
    and the first of them gives a warning.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    parallel, openmp = _parallel(), sys.modules.get("numba.np.ufunc.omppool")
    if parallel is None or openmp is None or parallel.threading_layer() != "omp" or openmp.openmp_vendor != "GNU":
        return
    # numba ends a process whose parent called this last; called here, the process answers for itself
    ctypes.CFUNCTYPE(None, ctypes.c_int)(openmp.launch_threads)(1)
    parallel._set_num_threads(1)
    _Process.lost_its_threads = True
    _Process.has_warned = False


def _parallel() -> Any:
    """numba's threads, None as long as no kernel needed them."""
    parallel = sys.modules.get("numba.np.ufunc.parallel")
    return parallel if parallel is not None and getattr(parallel, "_is_initialized", False) else None


def warn_of_lost_threads() -> None:
    """Say once that this process computes with one thread, if it does because of a fork."""
    if not _Process.lost_its_threads or _Process.has_warned:
        return
    _Process.has_warned = True
    warnings.warn(
        "this process was forked from one that had used arcuate's kernels, so it computes with one thread; processes "
        "started with the method 'spawn' or 'forkserver' use all that they are given.",
        InputWarning,
        stacklevel=3,
    )
