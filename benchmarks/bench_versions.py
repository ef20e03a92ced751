"""This version beside another one, part by part, on the phantom and on a real scan, in turns.

usage: python -m benchmarks.bench_versions --before SOURCE [--data SCANS] [--small] [--write] [--repeats N]

SOURCE is the ``src`` folder of a checkout of the other version (``git worktree add OTHER COMMIT``). Both run in
processes of their own, one after the other, with the same environment.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from arcuate.dwi import Dwi
from arcuate.io import NiftiVolumeResource
from arcuate.phantom import make_phantom, three_shell_gradients
from benchmarks.multitissue_kinds import DATA
from benchmarks.side_by_side import arguments, show, table

RUNNER = Path(__file__).with_name("versions_runner.py")
OURS = Path(__file__).parents[1] / "src"
SHAPE, SMALL = (48, 48, 24), (20, 22, 16)


def main() -> None:
    """Time both, and print a table for each scan."""
    parser = arguments(__doc__)
    parser.add_argument("--before", type=Path, help="src folder of the other version")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the real scans")
    given = parser.parse_args()
    if given.before is None:
        print("bench_versions: left out; it needs the source of another version (--before SOURCE).")
        return
    texts = []
    with tempfile.TemporaryDirectory() as folder:
        scans = {"phantom": write_phantom(Path(folder), SMALL if given.small else SHAPE)}
        if (real := given.data / "mdt_b1k_b2k" / "sub-mdt_dwi.nii.gz").is_file():
            scans["mdt_b1k_b2k"] = real
        for name, scan in scans.items():
            texts.append(compare(name, scan, given.before, 1 if given.small else given.repeats, Path(folder)))
    show("versions", "\n".join(texts), write=given.write)


def compare(name: str, scan: Path, before: Path, repeats: int, folder: Path) -> str:
    """A table of one scan; each version has a process of its own, in turns."""
    seconds: dict[str, dict[str, list[float]]] = {}
    for _ in range(repeats):
        for version, source in (("before", before.resolve()), ("now", OURS)):
            for part, found in run(source, scan, folder / version).items():
                seconds.setdefault(part, {}).setdefault(version, []).append(statistics.median(found))
    rows = []
    for part, by in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(by["before"], by["now"], strict=True))
        medians = [f"{statistics.median(by[version]):.3f} s" for version in ("before", "now")]
        rows.append([part, *medians, f"{ratio:.2f}"])
    note = f"Processor time of all threads, medians of {repeats} processes of each version that took turns."
    return table(f"Two versions on {name}", ["part", "before", "now", "before / now"], rows, note)


def run(source: Path, scan: Path, kernels: Path) -> dict[str, list[float]]:
    """Seconds of each part by one version."""
    environment = os.environ | {"PYTHONPATH": str(source), "NUMBA_CACHE_DIR": str(kernels)}
    command = [sys.executable, str(RUNNER), str(scan), "3"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{source}: {done.stderr[-2000:]}")
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def write_phantom(folder: Path, shape: tuple[int, int, int]) -> Path:
    """A head of three shells of 30 directions, SNR 30, on disk."""
    gradients = three_shell_gradients(6, (1000, 2000, 3500), 30, seed=1)
    head = make_phantom(gradients, shape=shape, voxel_size=160.0 / shape[0], snr=30)
    scan = Dwi.from_arrays(head.signal, head.affine, head.gradients)
    scan.save(folder, basename="phantom_dwi")
    NiftiVolumeResource.save(scan.volume.with_array(head.brain_mask.astype(np.uint8)), folder / "phantom_mask.nii.gz")
    return folder / "phantom_dwi.nii.gz"


if __name__ == "__main__":
    main()
