"""Seconds that a first ``arcuate run`` compiles, kernel by kernel, and seconds that a second process loads them.

usage: python -m benchmarks.bench_compile [--write]

A small scan of three shells goes through all steps and the report with an empty ``NUMBA_CACHE_DIR``, then once more in
another process. Seconds are those of the compiling thread on a processor, so that a loaded machine does not count;
those of a kernel are its own, without the kernels that it calls. On one thread, so that one process compiles all: with
more, a second one takes half of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from numba.core import caching, event

from benchmarks.side_by_side import arguments, show, table

SHAPE = (24, 24, 14)
MOST_SHOWN = 25


class Clock(event.Listener):
    """Own seconds and number of specialisations of each kernel that numba compiles."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)
        self._threads = threading.local()

    def on_start(self, event: Any) -> None:
        """A kernel begins, perhaps within another."""
        self._stack().append([time.thread_time(), 0.0])

    def on_end(self, event: Any) -> None:
        """What it took without the kernels within it is its own."""
        begin, within = self._stack().pop()
        took = time.thread_time() - begin
        function = event.data["dispatcher"].py_func
        name = f"{function.__module__.removeprefix('arcuate.')}.{function.__name__}"
        self.seconds[name] += took - within
        self.counts[name] += 1
        if self._stack():
            self._stack()[-1][1] += took

    def _stack(self) -> list[list[float]]:
        if not hasattr(self._threads, "stack"):
            self._threads.stack = []
        return self._threads.stack


class Loading:
    """Seconds in which compiled kernels were read from disk, and how many."""

    def __init__(self) -> None:
        self.seconds, self.count = 0.0, 0
        load = caching.Cache.load_overload

        def timed(cache: Any, *args: Any) -> Any:
            begin = time.thread_time()
            found = load(cache, *args)
            if found is not None:
                self.seconds += time.thread_time() - begin
                self.count += 1
            return found

        caching.Cache.load_overload = timed


def run_here(scan: str, out: str) -> None:
    """The command in this process; what was compiled and loaded goes to standard output's last line."""
    from arcuate.cli import main

    clock, loading = Clock(), Loading()
    begin = time.process_time()
    with event.install_listener("numba:compile", clock):
        try:
            main(["run", scan, "--out", out, "--mask-method", "otsu", "--denoise", "mppca", "--threads", "1"])
        except SystemExit as end:
            if end.code:
                raise
    found = {
        "seconds": clock.seconds,
        "counts": clock.counts,
        "loading": [loading.seconds, loading.count],
        "run": time.process_time() - begin,
    }
    print("\n" + json.dumps(found))


def in_a_process(scan: Path, out: Path, cache: Path) -> dict[str, Any]:
    """What :func:`run_here` found, in a process of its own with this cache of kernels."""
    command = [sys.executable, "-m", "benchmarks.bench_compile", "--here", str(scan), str(out)]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"arcuate run ended with {done.returncode}:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def write_scan(folder: Path) -> Path:
    """A phantom with three shells of 32 directions, on disk."""
    from arcuate.dwi import Dwi
    from arcuate.phantom import make_phantom, three_shell_gradients

    gradients = three_shell_gradients(n_b0=2, n_directions=32)
    phantom = make_phantom(gradients, shape=SHAPE, voxel_size=7.0, snr=30, seed=0)
    Dwi.from_arrays(phantom.signal, phantom.affine, gradients).save(folder, basename="sub-phantom_dwi")
    return folder / "sub-phantom_dwi.nii.gz"


def main() -> None:
    """Print the table; with ``--write`` keep it."""
    if sys.argv[1:2] == ["--here"]:
        run_here(*sys.argv[2:4])
        return
    options = arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan = write_scan(folder / "in")
        first = in_a_process(scan, folder / "first", folder / "kernels")
        second = in_a_process(scan, folder / "second", folder / "kernels")
    ordered = sorted(first["seconds"], key=first["seconds"].__getitem__, reverse=True)
    rows = [[name, f"{first['seconds'][name]:.2f} s", str(first["counts"][name])] for name in ordered[:MOST_SHOWN]]
    rest = ordered[MOST_SHOWN:]
    rows += [
        [
            f"{len(rest)} others",
            f"{sum(first['seconds'][name] for name in rest):.2f} s",
            str(sum(first["counts"][name] for name in rest)),
        ],
        [
            "all that a first run compiles",
            f"{sum(first['seconds'].values()):.1f} s",
            str(sum(first["counts"].values())),
        ],
        ["a second process compiles", f"{sum(second['seconds'].values()):.2f} s", str(sum(second["counts"].values()))],
        ["a second process loads", f"{second['loading'][0]:.2f} s", str(second["loading"][1])],
    ]
    note = (
        f"Processor seconds of the whole command: {first['run']:.1f} the first time, {second['run']:.1f} the second. "
        f"Own seconds of each kernel on one thread."
    )
    title = f"kernels of `arcuate run`, {' x '.join(map(str, SHAPE))} x 98"
    show("compile", table(title, ("kernel", "", "specialisations"), rows, note), write=options.write)


if __name__ == "__main__":
    main()
