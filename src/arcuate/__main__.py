"""The process of the command line: ``arcuate``, and ``python -m arcuate``."""

import atexit
import ctypes
import gc
import os
import signal
import sys


def main() -> None:
    """Run the command line; stopped by a signal, end by it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until commands can be stopped: no traceback of an import
    from arcuate import cli
    from arcuate.commands.stopping import end_process

    # importing and loading kernels makes objects by the hundred thousand, of which hardly one can go
    gc.set_threshold(100_000, 20, 20)
    # numpy's BLAS, which is loaded later, has threads that spin for some time when they have nothing to do, while
    # kernels would need the processor: a tenth of a run. As short as it can be: 2⁴ cycles
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    _open_closed_streams()
    _keep_freed_memory()
    status: list[object] = [None]
    # registered first, so that it runs last: after packages removed their temporary folders, before the interpreter
    # is torn down, in which one that was interrupted while it was imported may crash
    atexit.register(lambda: end_process(status[0]))
    try:
        cli.main()
    except SystemExit as end:
        status[0] = end.code
        raise


def _open_closed_streams() -> None:
    """Give standard input, output and error a place where the caller closed them (``>&-``, some daemons).

    Python has None there, and the next file that is opened gets their numbers, and with them what others print.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # in the order of their numbers
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the least that is free
            os.set_inheritable(number, True)
            stream = os.fdopen(number, mode)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _keep_freed_memory() -> None:
    """Let arrays up to 32 MB take memory that others gave back, whichever thread they were made by.

    The GNU C library asks the system for new pages instead, and has a heap for every thread that works at the same
    time: a third of a run's system time. Peak memory is the same. Who set the library's own variables keeps them.
    """
    is_set = any(name.startswith("MALLOC_") for name in os.environ)
    allocator = None if is_set or sys.platform != "linux" else getattr(ctypes.CDLL(None), "mallopt", None)
    if allocator is not None:  # musl has none
        for option, value in ((-8, 2), (-3, 32 << 20), (-1, 64 << 20)):  # heaps; bytes mapped alone; bytes left on top
            allocator(option, value)


if __name__ == "__main__":
    main()
