"""How many threads work, in kernels and around them."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from arcuate.errors import InputError, InputWarning

# Read by BLAS and OpenMP when they are loaded: for those that come later, torch's among them.
_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_asked_for: list[int] = []  # by set_threads, for the whole process


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
    limit = _asked_for[0] if _asked_for else available_threads()
    parallel = _parallel()
    return limit if parallel is None else max(1, min(limit, int(parallel._get_num_threads())))


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
