"""A command that ends with the process that started it: ``python -m arcuate.commands.attached run ...``.

Its standard input is a pipe from that process. When the pipe closes because the process is no more, however it ended,
the command is stopped as by SIGTERM, so that nothing goes on where nobody waits for it.
"""

import os
import runpy
import signal
import threading
import time

GRACE = 120.0  # seconds until a command that does not stop is ended at once


def _end_with_the_pipe() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_pipe, daemon=True).start()
    runpy.run_module("arcuate", run_name="__main__")
