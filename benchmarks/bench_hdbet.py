"""HD-BET with denormal numbers flushed, as it always runs, and without: seconds on a phantom and on a real head.

usage: python -m benchmarks.bench_hdbet [--small] [--write] [--repeats N]
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

import numpy as np

from arcuate.dwi import Dwi
from arcuate.gradients import GradientTable
from arcuate.masks import extract_brain
from arcuate.phantom import make_phantom
from benchmarks.bench_masks import HEADS, dice
from benchmarks.side_by_side import arguments, show, table


def main() -> None:
    """Print the table: seconds on the clock and of the processor, by image."""
    options = arguments(__doc__).parse_args()
    rows = []
    for name, scan in _heads(options.small):
        masks, times = {}, {}
        for is_flushed in (True, False):
            with nullcontext() if is_flushed else _unflushed():
                runs = [_timed(scan) for _ in range(options.repeats)]
            masks[is_flushed] = runs[0][0] > 0
            times[is_flushed] = [statistics.median(run[i] for run in runs) for i in (1, 2)]
        cells = [f"{clock:.1f} s ({processor:.1f} s)" for clock, processor in times.values()]
        rows.append([name, *cells, f"{times[False][1] / times[True][1]:.2f}", f"{dice(masks[True], masks[False]):.4f}"])
        print(" | ".join(rows[-1]), flush=True)
    note = (
        "One network of HD-BET 1 on the mean b=0 image, loading of its weights included: seconds on the clock, in "
        "brackets those of the processor over its cores, which other work on the machine does not change; the ratio is "
        "of the latter. Denormal numbers cost AMD's processors little; on one of Intel's a small phantom took 11 s "
        "with them flushed and more than 170 s without."
    )
    header = ["image", "flushed", "not flushed", "ratio", "Dice of the two masks"]
    show("hdbet", table("HD-BET: denormal numbers flushed, and not", header, rows, note), write=options.write)


def _heads(is_small: bool) -> Iterator[tuple[str, Dwi]]:
    table = GradientTable(np.array([0.0, 1000.0]), np.array([[0.0, 0, 0], [1, 0, 0]]))
    shape, voxel = ((32, 36, 28), 6.0) if is_small else ((64, 72, 56), 3.0)
    head = make_phantom(table, shape, voxel, snr=30)
    yield f"phantom, {' x '.join(map(str, shape))} of {voxel:g} mm", Dwi.from_arrays(head.signal, head.affine, table)
    path = next(iter(sorted(HEADS.glob("3000_*.nii.gz"))), None)
    if path is not None and not is_small:
        yield "canon_dti, series 3000", Dwi.from_files(path).load()


def _timed(scan: Dwi) -> tuple[np.ndarray, float, float]:
    """Mask, seconds on the clock, seconds of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    result = np.asarray(extract_brain(scan, method="hdbet").get_array())
    return result, time.perf_counter() - clock, time.process_time() - processor


@contextmanager
def _unflushed() -> Iterator[None]:
    """Inference as it would be without the flag."""
    import torch

    with patch.object(torch, "set_flush_denormal", lambda _: False):
        yield


if __name__ == "__main__":
    main()
