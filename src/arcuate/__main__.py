"""The process of the command line: ``arcuate``, and ``python -m arcuate``."""

import atexit
import gc
import os

from arcuate import cli
from arcuate.commands.stopping import end_process


def main() -> None:
    """Run the command line; stopped by a signal, end by it."""
    # importing and loading kernels makes objects by the hundred thousand, of which hardly one can go
    gc.set_threshold(100_000, 20, 20)
    # numpy's BLAS, which is loaded later, has threads that spin for some time when they have nothing to do, while
    # kernels would need the processor: a tenth of a run. As short as it can be: 2⁴ cycles
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    status: list[object] = [None]
    # registered first, so that it runs last: after packages removed their temporary folders, before the interpreter
    # is torn down, in which one that was interrupted while it was imported may crash
    atexit.register(lambda: end_process(status[0]))
    try:
        cli.main()
    except SystemExit as end:
        status[0] = end.code
        raise


if __name__ == "__main__":
    main()
