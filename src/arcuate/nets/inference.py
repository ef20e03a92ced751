"""Inference in a thread of its own: denormal numbers are flushed there, and Ctrl-C is heard between layers.

Activations fade into denormal numbers, on which Intel's processors are about a hundred times slower. Flushing is a flag
of each thread that computes: PyTorch's workers take it from the thread that starts them and keep it for good. A new
thread, which starts workers of its own, has it in all of them and leaves none of it behind.
"""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

INTERVAL = 0.1  # seconds between looks of the calling thread, in which signals are answered

_stop: contextvars.ContextVar[threading.Event | None] = contextvars.ContextVar("stop", default=None)


class _StoppedError(BaseException):
    """The calling thread was interrupted."""


def infers(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator: the function runs a network, in a thread in which denormal numbers are flushed to 0."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        result: list[T] = []
        failure: list[BaseException] = []
        stop, done = threading.Event(), threading.Event()

        def infer() -> None:
            try:
                _stop.set(stop)
                with _flushing():
                    result.append(function(*args, **kwargs))
            except BaseException as error:
                failure.append(error)
            finally:
                done.set()

        thread = threading.Thread(target=contextvars.copy_context().run, args=(infer,), name="inference")
        thread.start()
        try:
            while not done.wait(INTERVAL):
                pass
        except BaseException:
            stop.set()
            done.wait()
            raise
        finally:
            thread.join()
        if failure:
            raise failure[0]
        return result[0]

    return run


def check_stop(*_: Any) -> None:
    """End the inference here if the thread that waits for it was interrupted; also a hook before a layer."""
    stop = _stop.get()
    if stop is not None and stop.is_set():
        raise _StoppedError


@contextmanager
def _flushing() -> Iterator[None]:
    """Denormal numbers are flushed in this thread, and each layer of a module looks first whether to go on."""
    try:
        import torch
        from torch.nn.modules.module import register_module_forward_pre_hook
    except ImportError:  # the function says which extra is missing
        yield
        return
    torch.set_flush_denormal(True)  # False where the processor cannot
    hook = register_module_forward_pre_hook(check_stop)
    try:
        yield
    finally:
        hook.remove()
