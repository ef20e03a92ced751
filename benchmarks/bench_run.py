"""One subject from read to written: a head stage by stage, and a small scan the first and the second time.

usage: python -m benchmarks.bench_run [--kwneuro PYTHON] [--small] [--write] [--repeats N]

The small scan starts with an empty folder of kernels: its first run compiles all that it needs. A second run is of the
same scan into another folder, with nothing kept but the kernels. Processor seconds are those of the command and its
helpers together: on a machine that does other work they say more than those on the clock.

With --kwneuro, the program of an environment that has kwneuro and AMICO, its own steps are timed on the same head, too:
some ten minutes. Ours denoise by Patch2Self there, as kwneuro does, and are counted with mask, checks, kurtosis and
report.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from arcuate.dwi import Dwi
from arcuate.io import NiftiVolumeResource
from arcuate.phantom import make_phantom, three_shell_gradients
from benchmarks.side_by_side import arguments, show, table

SHAPE = (128, 128, 60)
SMALL = (48, 48, 30)
KWNEURO_RUNNER = Path(__file__).with_name("kwneuro_runner.py")


# Linux counts the memory of the process that starts another as that one's: a small one lies between.
MEASURED = """
import os, subprocess, sys, time
begin = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


class Run(NamedTuple):
    """What one run of the command took."""

    wall: float  # s
    processor: float  # s
    report: float  # s on the clock, after the last map
    peak: int  # bytes


def write_phantom(shape: tuple[int, int, int], folder: Path, n_directions: int = 64) -> tuple[Path, int]:
    """The phantom at b=0 (1), 1000, 2000, 3500 (64 each), SNR 30, on disk; and the bytes of its image in memory."""
    gradients = three_shell_gradients(n_b0=1, n_directions=n_directions)
    phantom = make_phantom(gradients, shape=shape, voxel_size=2.0 if shape == SHAPE else 4.0, snr=30, seed=0)
    Dwi.from_arrays(phantom.signal, phantom.affine, gradients).save(folder, basename="sub-phantom_dwi")
    return folder / "sub-phantom_dwi.nii.gz", phantom.signal.nbytes


def run_once(scan: Path, out: Path, kernels: Path | None = None, options: Sequence[str] = ()) -> Run:
    """The command in a process of its own, with nothing kept from before but kernels."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "arcuate", "run", str(scan), "--out", str(out), "--mask-method", "otsu", *options]
    environment = os.environ | ({"NUMBA_CACHE_DIR": str(kernels)} if kernels else {})
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    measured = [sys.executable, "-c", MEASURED, *command]
    done = subprocess.run(measured, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"arcuate run ended with {done.returncode}:\n{done.stderr[-2000:]}")
    report = re.search(r"^report\s+([\d.]+) s", done.stderr, re.MULTILINE)
    assert report, done.stderr
    wall, processor, peak = map(float, done.stdout.split())
    return Run(wall, processor, float(report[1]), int(peak))


def read_timings(out: Path) -> dict[str, float]:
    """Seconds by stage, as the run noted them."""
    (path,) = out.rglob("*_timings.json")
    return json.loads(path.read_text())


def head_table(shape: tuple[int, int, int], folder: Path, repeats: int) -> str:
    """A head stage by stage, kernels compiled."""
    scan, size = write_phantom(shape, folder / "in")
    out = folder / "out"
    run_once(scan, out)  # compiles
    runs, stages = [], []
    for _ in range(repeats):
        runs.append(run_once(scan, out))
        stages.append(read_timings(out))
    n_voxels = int(np.count_nonzero(NiftiVolumeResource(next(out.rglob("*_desc-brain_mask.nii.gz"))).get_array()))
    peak = max(run.peak for run in runs)
    rows = [[step, f"{statistics.median(timings[step] for timings in stages):.2f} s"] for step in stages[0]]
    rows += [
        ["report, after the last map", f"{statistics.median(run.report for run in runs):.2f} s"],
        ["start of the program to its end", f"{statistics.median(run.wall for run in runs):.1f} s"],
        ["the same, of the processor", f"{statistics.median(run.processor for run in runs):.1f} s"],
        ["peak memory", f"{peak / 1e6:.0f} MB, {peak / size:.2f} images"],
    ]
    title = f"`arcuate run` on {' x '.join(map(str, shape))} x 193, float32, {size / 1e6:.0f} MB"
    note = f"{n_voxels} voxels in the mask; every stage includes writing its files; medians, the largest peak."
    return table(title, ("stage", ""), rows, note)


def first_table(folder: Path, repeats: int) -> str:
    """A small scan the first time, and again."""
    scan, _ = write_phantom(SMALL, folder / "small", n_directions=33)
    first = run_once(scan, folder / "first", folder / "kernels")
    second = [run_once(scan, folder / "second", folder / "kernels") for _ in range(repeats)]
    rows = [["first run, all kernels compiled", f"{first.wall:.1f} s", f"{first.processor:.1f} s"]]
    rows.append(
        [
            "second run, kernels there, nothing else kept",
            f"{statistics.median(run.wall for run in second):.1f} s",
            f"{statistics.median(run.processor for run in second):.1f} s",
        ]
    )
    title = f"`arcuate run` on {' x '.join(map(str, SMALL))} x 100, with report"
    return table(title, ("run", "on the clock", "of the processor"), rows, "Medians of the second run.")


def against_table(shape: tuple[int, int, int], folder: Path, repeats: int, python: str) -> str:
    """A head by ours, start to end, and by kwneuro's steps, in turns: ours before and after."""
    scan, _ = write_phantom(shape, folder / "against")
    out, theirs_out = folder / "ours", folder / "kwneuro"
    theirs_out.mkdir()
    same_steps = ("--denoise", "patch2self")
    run_once(scan, out, options=same_steps)  # compiles
    ours = [run_once(scan, out, options=same_steps).wall for _ in range(repeats)]
    mask = next(out.rglob("*_desc-brain_mask.nii.gz"))
    command = [python, str(KWNEURO_RUNNER), str(scan), str(mask), str(theirs_out)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{python}: {done.stderr[-2000:]}")
    theirs: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    stages = read_timings(out)
    ours += [run_once(scan, out, options=same_steps).wall for _ in range(repeats)]
    without = statistics.median(run_once(scan, out).wall for _ in range(repeats))
    total, typical = sum(theirs.values()), statistics.median(ours)
    together = {"fod and peaks": ("fod", "peaks")}
    rows = []
    for step, seconds in theirs.items():
        own = [stages[name] for name in together.get(step, (step,)) if name in stages]
        cells = [f"{sum(own):.1f} s", f"{seconds / sum(own):.1f}"] if own else ["", ""]
        rows.append([step, f"{seconds:.1f} s", *cells])
    rows.append(["all", f"{total:.1f} s", f"{typical:.1f} s", f"{total / typical:.1f}"])
    rows.append(
        ["all, ours without denoising (the default)", f"{total:.1f} s", f"{without:.1f} s", f"{total / without:.1f}"]
    )
    note = (
        "On the clock, one run of kwneuro's steps between ours (medians). Ours in all: start of the program, mask, "
        "checks, kurtosis and report too; its response and FODs are of three tissues and all shells, kwneuro's of one."
    )
    title = f"kwneuro's steps and `arcuate run` on {' x '.join(map(str, shape))} x 193"
    return table(title, ("step", "kwneuro", "arcuate", "times"), rows, note)


def main() -> None:
    """Print the tables; with ``--write`` keep them."""
    parser = arguments(__doc__)
    parser.add_argument("--kwneuro", metavar="PYTHON", help="the Python of an environment with kwneuro and AMICO")
    options = parser.parse_args()
    if options.kwneuro:
        program = shutil.which(options.kwneuro)
        if program is None or subprocess.run([program, "-c", "import amico, kwneuro"], capture_output=True).returncode:
            parser.error(f"--kwneuro: {options.kwneuro} is no Python that has kwneuro and AMICO; name that of theirs.")
    load = os.getloadavg()[0]
    repeats = max(2, options.repeats // 2)
    with tempfile.TemporaryDirectory() as name:
        texts = [first_table(Path(name), repeats), head_table(SMALL if options.small else SHAPE, Path(name), repeats)]
        if options.kwneuro:
            texts.append(against_table(SMALL if options.small else SHAPE, Path(name), repeats, options.kwneuro))
    texts.append(f"Load average of the machine when this began: {load:.1f} (0 on a quiet one).\n")
    show("run", "\n".join(texts), write=options.write)


if __name__ == "__main__":
    main()
