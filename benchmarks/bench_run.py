"""One subject from read to written: seconds per stage and peak memory of ``arcuate run``.

usage: python -m benchmarks.bench_run [--small] [--write] [--repeats N]
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from arcuate.dwi import Dwi
from arcuate.io import NiftiVolumeResource
from arcuate.phantom import make_phantom, three_shell_gradients
from benchmarks.side_by_side import arguments, show, table

SHAPE = (128, 128, 60)
SMALL = (48, 48, 30)


def write_phantom(shape: tuple[int, int, int], folder: Path) -> tuple[Path, int]:
    """The phantom at b=0 (1), 1000, 2000, 3500 (64 each), SNR 30, on disk; and the bytes of its image in memory."""
    gradients = three_shell_gradients(n_b0=1, n_directions=64)
    phantom = make_phantom(gradients, shape=shape, voxel_size=2.0 if shape == SHAPE else 4.0, snr=30, seed=0)
    Dwi.from_arrays(phantom.signal, phantom.affine, gradients).save(folder, basename="sub-phantom_dwi")
    return folder / "sub-phantom_dwi.nii.gz", phantom.signal.nbytes


def run_once(scan: Path, out: Path) -> tuple[float, int]:
    """Seconds and peak memory in bytes of the command, in a process of its own, with nothing kept from before."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "arcuate", "run", str(scan), "--out", str(out), "--mask-method", "otsu"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"arcuate run ended with {process.returncode}")
    return seconds, usage.ru_maxrss * 1024


def read_timings(out: Path) -> dict[str, float]:
    """Seconds by stage, as the run noted them."""
    (path,) = out.rglob("*_timings.json")
    return json.loads(path.read_text())


def main() -> None:
    """Print the table; with ``--write`` keep it."""
    options = arguments(__doc__).parse_args()
    shape = SMALL if options.small else SHAPE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan, size = write_phantom(shape, folder / "in")
        out = folder / "out"
        run_once(scan, out)  # compiles
        runs, stages = [], []
        for _ in range(max(2, options.repeats // 2)):
            runs.append(run_once(scan, out))
            stages.append(read_timings(out))
        n_voxels = int(np.count_nonzero(NiftiVolumeResource(next(out.rglob("*_desc-brain_mask.nii.gz"))).get_array()))
    seconds = statistics.median(run[0] for run in runs)
    peak = max(run[1] for run in runs)
    rows = [[step, f"{statistics.median(timings[step] for timings in stages):.2f} s"] for step in stages[0]]
    rows += [
        ["start of the program to its end, report included", f"{seconds:.1f} s"],
        ["peak memory", f"{peak / 1e6:.0f} MB, {peak / size:.2f} images"],
    ]
    title = f"`arcuate run` on {' x '.join(map(str, shape))} x 193, float32, {size / 1e6:.0f} MB"
    note = f"{n_voxels} voxels in the mask; every stage includes writing its files; medians, the largest peak."
    show("run", table(title, ("stage", ""), rows, note), write=options.write)


if __name__ == "__main__":
    main()
