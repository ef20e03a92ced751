"""Tracts side by side with TractSeg on a real head: speed and memory, the same weights and peaks for both.

usage: python -m benchmarks.bench_tracts [--small] [--write] [--repeats N]

TractSeg runs in the interpreter that ARCUATE_TRACTSEG_PYTHON names (this one by default), each run in a process of
its own. The weights are random numbers in the published form: they take as long as the published ones. The head is
shared/data/tractseg_reference, or the folder ARCUATE_TEST_DATA names.
"""

from __future__ import annotations

import os
import runpy
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.side_by_side import arguments, show, table

ROOT = Path(__file__).resolve().parents[1]
RUNNER = Path(__file__).with_name("tractseg_runner.py")
DATA = Path(os.environ.get("ARCUATE_TEST_DATA", ROOT.parent / "shared" / "data"))
PEAKS = DATA / "tractseg_reference" / "peaks.nii.gz"
FILE = "pretrained_weights_tract_segmentation_v3.npz"
WAYS = {"TractSeg": ("tractseg",), "arcuate": ("arcuate",), "arcuate, bfloat16": ("arcuate", "--precision=bfloat16")}


def run_once(way: str, weights: Path, options: list[str]) -> dict[str, np.ndarray]:
    """What benchmarks/tractseg_runner.py found."""
    package, *more = WAYS[way]
    python = os.environ.get("ARCUATE_TRACTSEG_PYTHON", sys.executable) if package == "tractseg" else sys.executable
    out = weights / "out.npz"
    command = [python, str(RUNNER), package, str(PEAKS), str(weights), str(out), *more, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{way} failed in {python} (see ARCUATE_TRACTSEG_PYTHON):\n{done.stderr[-2000:]}")
    with np.load(out) as arrays:
        return {name: arrays[name] for name in arrays.files}


def report(runs: list[dict[str, dict[str, np.ndarray]]], is_small: bool) -> str:
    """Table of the runs, each with what every way found."""
    rows = []
    for way in WAYS:
        seconds, memory = ([float(run[way][name]) for run in runs] for name in ("seconds", "gigabytes"))
        times, parts = (
            [float(run["TractSeg"][name]) / float(run[way][name]) for run in runs] for name in ("seconds", "gigabytes")
        )
        theirs, ours = runs[0]["TractSeg"]["masks"], runs[0][way]["masks"]
        differ = int(np.bitwise_count(theirs ^ ours).sum()) / int(np.bitwise_count(theirs).sum())
        rows.append(
            [
                way,
                f"{statistics.median(seconds):.1f} s",
                f"{statistics.median(times):.1f} x faster",
                f"{max(memory):.1f} GB",
                f"1 / {statistics.median(parts):.1f}",
                f"{differ:.1e}",
            ]
        )
    header = ["run", "time", "against TractSeg", "peak memory", "of TractSeg's", "voxels that differ"]
    directions = "one slicing direction" if is_small else "three slicing directions"
    repeated = "one run each" if len(runs) == 1 else f"medians of {len(runs)} runs in turns"
    note = (
        f"72 tracts of a head of 73 x 87 x 73 voxels, {directions}, two threads, {repeated}. Time from the peaks in "
        "memory to the masks, the weights read from disk; the imports are left out. Voxels that differ: as a share of "
        "the voxels in TractSeg's tracts."
    )
    return table("Tracts", header, rows, note)


def main() -> None:
    given = arguments(__doc__.splitlines()[0] if __doc__ else None).parse_args()
    repeats = min(given.repeats, 2)  # a run of TractSeg takes over a minute
    options = ["--single"] if given.small else []
    write_weights = runpy.run_path(str(ROOT / "tests" / "nets" / "published_weights.py"))["write_weights"]
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder)
        write_weights(weights / FILE, 72, 1)
        runs = [{way: run_once(way, weights, options) for way in WAYS} for _ in range(repeats)]
    show("tracts", report(runs, given.small), write=given.write)


if __name__ == "__main__":
    main()
