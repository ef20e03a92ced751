"""What the cache costs a first run, what it saves a second one, and how fast Ctrl-C ends a run.

usage: python -m benchmarks.bench_cache [--small] [--write] [--repeats N]
"""

from __future__ import annotations

import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from arcuate.dwi import Dwi
from arcuate.gradients import GradientTable
from arcuate.io import NiftiVolumeResource
from benchmarks.side_by_side import arguments, show, table

SHAPE = (96, 96, 60)
SMALL = (32, 32, 20)

# The command line, with clocks around the parts of the cache; what one clock runs inside another counts once.
CLOCKED = """
import json, sys, time
from arcuate import cli
from arcuate.cache import fingerprints, results, session
from arcuate.io import NiftiVolumeResource

spent, running = {}, []
def clock(owner, name, label):
    function = getattr(owner, name)
    def timed(*args, **kwargs):
        running.append([label, time.perf_counter()])
        try:
            return function(*args, **kwargs)
        finally:
            _, start = running.pop()
            seconds = time.perf_counter() - start
            spent[label] = spent.get(label, 0.0) + seconds
            if running:
                running[-1][1] += seconds
    setattr(owner, name, staticmethod(timed) if name == "save" else timed)

clock(fingerprints.Fingerprinter, "fingerprint", "fingerprints")
clock(results, "volume_digests", "fingerprints")
clock(session.Cache, "_keep", "keeping")
clock(NiftiVolumeResource, "load", "reading")
clock(NiftiVolumeResource, "save", "saving")
start = time.perf_counter()
try:
    cli.main(sys.argv[2:])
except SystemExit as stop:
    assert not stop.code, stop.code
spent["total"] = time.perf_counter() - start
open(sys.argv[1], "w").write(json.dumps(spent))
"""


def write_scan(shape: tuple[int, int, int], folder: Path) -> Path:
    """A head of crossing fibres on disk: b=0 (1), 1000, 2000, 3500 (64 each), SNR 30."""
    rng = np.random.default_rng(0)
    k = np.arange(64) + 0.5
    radius = np.sqrt(1 - (1 - k / 64) ** 2)
    phi = np.pi * (1 + 5**0.5) * k
    directions = np.column_stack([radius * np.cos(phi), radius * np.sin(phi), 1 - k / 64])
    table_ = np.concatenate([np.zeros((1, 3)), directions, directions[:, [1, 2, 0]], directions[:, [2, 0, 1]]])
    bvals = np.repeat([0.0, 1000.0, 2000.0, 3500.0], [1, 64, 64, 64])
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    inside = (1.6 * x**2 + 1.25 * y**2 + 1.3 * z**2) < 1
    axis = np.stack([np.cos(4 * z), np.sin(4 * z), 0.4 * x], axis=-1)
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    water, crossing = np.abs(y) < 0.15, x > 0
    image = np.empty((*shape, len(bvals)), np.float32, order="F")
    for i, (b, g) in enumerate(zip(bvals, table_, strict=True)):
        fibre = np.exp(-b * (0.25e-3 + 1.45e-3 * (axis @ g) ** 2))
        other = np.exp(-b * (0.25e-3 + 1.45e-3 * g[1] ** 2))
        signal_ = np.where(water, np.exp(-b * 3e-3), np.where(crossing, 0.5 * fibre + 0.5 * other, fibre))
        noise = rng.normal(scale=900 / 30, size=(2, *shape))
        image[..., i] = np.hypot(np.where(inside, 900 * signal_, 0) + noise[0], noise[1])
    affine = np.array([[-2.0, 0, 0, 96], [0, 2, 0, -96], [0, 0, 2, -60], [0, 0, 0, 1]])
    Dwi.from_arrays(image, affine, GradientTable(bvals, table_)).save(folder, basename="sub-head_dwi")
    return folder / "sub-head_dwi.nii.gz"


def command(scan: Path, out: Path) -> list[str]:
    return ["run", str(scan), "--out", str(out), "--mask-method", "otsu"]


def measure_first_run(scan: Path, folder: Path) -> dict[str, float]:
    """Seconds of a run without anything kept, in all and in the parts of the cache."""
    out, answer = folder / "first", folder / "clocked.json"
    shutil.rmtree(out, ignore_errors=True)
    subprocess.run([sys.executable, "-c", CLOCKED, str(answer), *command(scan, out)], check=True, capture_output=True)
    return json.loads(answer.read_text())


def measure_kept_run(scan: Path, folder: Path) -> float:
    """Seconds of a run of which everything is kept, from the start of the program to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "arcuate", *command(scan, folder / "first")], check=True, capture_output=True)
    return time.perf_counter() - start


def measure_reading(scan: Path) -> float:
    """Seconds to read the file once."""
    start = time.perf_counter()
    NiftiVolumeResource(scan).get_array()
    return time.perf_counter() - start


def measure_ctrl_c(scan: Path, folder: Path, seconds: float, n: int) -> list[float]:
    """Seconds from Ctrl-C to the end of the program, at random moments of runs."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell ignores it for what it starts in the background,
        signal.signal(signal.SIGINT, signal.default_int_handler)  # and what is ignored here is ignored in the runs
    taken, rng = [], np.random.default_rng(0)
    for i in range(n):
        out = folder / f"stopped{i}"
        process = subprocess.Popen(
            [sys.executable, "-m", "arcuate", *command(scan, out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(float(rng.uniform(0.1, 0.95)) * seconds)
        if process.poll() is None:
            start = time.perf_counter()
            process.send_signal(signal.SIGINT)
            process.wait()
            taken.append(time.perf_counter() - start)
        shutil.rmtree(out, ignore_errors=True)
    return taken


def main() -> None:
    """Print the table; with ``--write`` keep it."""
    options = arguments(__doc__).parse_args()
    shape = SMALL if options.small else SHAPE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan = write_scan(shape, folder / "in")
        measure_first_run(scan, folder)  # compiles
        firsts = [measure_first_run(scan, folder) for _ in range(max(2, options.repeats // 2))]
        time.sleep(2.5)  # until the file is older than the grain of the clock
        measure_kept_run(scan, folder)
        pairs = [(measure_kept_run(scan, folder), measure_reading(scan)) for _ in range(options.repeats)]
        median = {key: statistics.median(first[key] for first in firsts) for key in firsts[0]}
        stops = measure_ctrl_c(scan, folder, median["total"], 2 * options.repeats)
    reading = statistics.median(read for _, read in pairs)
    kept = statistics.median(run for run, _ in pairs)
    ratio = statistics.median(run / read for run, read in pairs)
    rows = [
        ["first run", f"{median['total']:.1f} s", ""],
        [
            "fingerprints in it",
            f"{median['fingerprints']:.2f} s",
            f"{median['fingerprints'] / median['total']:.1%} of the run",
        ],
        ["writing outputs and what is kept", f"{median['saving']:.2f} s", f"{median['saving'] / median['total']:.1%}"],
        ["reading the scan once", f"{reading:.2f} s", ""],
        ["second run, all kept", f"{kept:.2f} s", f"{ratio:.1f} x reading"],
        ["Ctrl-C to the end, worst", f"{max(stops):.2f} s", f"{len(stops)} runs stopped at random moments"],
    ]
    title = f"Cache: `arcuate run` on {' x '.join(map(str, shape))} x 193, float32"
    show("cache", table(title, ("what", "time", ""), rows), write=options.write)


if __name__ == "__main__":
    main()
