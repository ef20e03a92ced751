"""Compiled kernels on disk, of which trouble with the disk costs time and nothing else."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from numba import config
from numba.core import caching as numba_caching

from arcuate.errors import warn

_FunctionCache: Any = numba_caching.FunctionCache


class KeptKernels(_FunctionCache):  # type: ignore[misc]
    """numba's files of one function: what cannot be read is compiled, and what cannot be written is not kept.

    numba ends there, with an error of the system that names no place where the disk is full, with one of pickle where
    a power cut has left half of a file. A folder for several users is another such place: who compiled first owns it.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function, or None."""
        try:
            return super().load_overload(sig, target_context)
        except OSError:  # of another user, who keeps it to themselves
            return None
        except Exception:  # whatever it is that pickle meets in a damaged file
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the compiled function, or say why not."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            folder = config.CACHE_DIR or os.path.dirname(self.cache_path)  # noqa: PTH120 (numba's own strings)
            warn(
                f"compiled kernels cannot be kept in {folder} ({error.strerror or error}), and every call compiles "
                "them again. Make room there, or set NUMBA_CACHE_DIR to a folder that you may write to."
            )


def with_kept_kernels(dispatcher: Any) -> Any:
    """A compiled function whose files are such; a plain function, of ``NUMBA_DISABLE_JIT=1``, as it is."""
    cache = getattr(dispatcher, "_cache", None)
    if type(cache) is _FunctionCache:
        cache.__class__ = KeptKernels
    return dispatcher
