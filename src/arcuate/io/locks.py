"""Locks on files that end with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: no such locks, nothing is ever known to be in use
    fcntl = None  # type: ignore[assignment]


def hold(path: Path) -> int | None:
    """Mark ``path`` as in use: a descriptor to close when it is not any more; None where there are no such locks."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return descriptor


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """Whether ``path`` is ours alone: nobody holds it, nor can until the block ends."""
    descriptor = None
    is_free = True
    if fcntl is not None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_free = False
        except OSError:  # a file system without locks
            pass
    try:
        yield is_free
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Whether nobody else is in such a block of this file, which is made for it and removed after it.

    Where there are no such locks nobody is.
    """
    if fcntl is None:
        yield True
        return
    descriptor = None
    is_alone = True
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_alone = os.fstat(descriptor).st_nlink > 0  # else its owner removed it between the two lines above
    except BlockingIOError:
        is_alone = False
    except OSError:  # a file system without locks, or a folder that cannot be written, of which whoever writes tells
        pass
    try:
        yield is_alone
    finally:
        if descriptor is not None:
            if is_alone:
                with contextlib.suppress(OSError):
                    path.unlink()
            os.close(descriptor)


def wait_for(path: Path) -> int | None:
    """Wait until nobody else holds ``path`` alone, and hold it; None where there are no such locks.

    A program that is started with the descriptor holds the lock as well, until both have closed it.
    """
    if fcntl is None:
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor
