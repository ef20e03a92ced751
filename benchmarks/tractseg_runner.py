"""TractSeg's 72 tracts, by arcuate or by TractSeg itself: a program of its own, so that its memory is its own.

usage: PYTHON tractseg_runner.py PACKAGE PEAKS.nii.gz WEIGHTS OUT.npz [--single] [--precision P]

PACKAGE is ``arcuate`` or ``tractseg``; WEIGHTS is the folder of the weight files. OUT gets ``masks`` (bits of x, y, z,
72), ``seconds`` from the peaks in memory to the masks, weights read, and ``gigabytes``, the most that this process and
any of its children held.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np

N_THREADS = 2


def run_arcuate(path: Path, weights: Path, is_single: bool, precision: str) -> tuple[np.ndarray, float]:
    """Masks and seconds of arcuate."""
    from arcuate.io import NiftiVolumeResource
    from arcuate.tractseg import find_tracts

    peaks = NiftiVolumeResource(path).load()
    import_torch_first()
    start = time.perf_counter()
    found = find_tracts(
        peaks, weights=weights, device="cpu", single_orientation=is_single, precision=precision
    ).get_array()
    return found, time.perf_counter() - start


def run_tractseg(path: Path, weights: Path, is_single: bool) -> tuple[np.ndarray, float]:
    """Masks and seconds of TractSeg."""
    os.environ["TRACTSEG_WEIGHTS_DIR"] = str(weights)
    from tractseg import python_api

    peaks = nib.load(path).get_fdata()
    import_torch_first()
    start = time.perf_counter()
    found = python_api.run_tractseg(peaks, single_orientation=is_single, nr_cpus=N_THREADS)
    return found, time.perf_counter() - start


def import_torch_first() -> None:
    """Neither is charged for the import of torch."""
    import torch

    torch.set_num_threads(N_THREADS)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("package", choices=["arcuate", "tractseg"])
    for name in ("peaks", "weights", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--single", action="store_true")
    parser.add_argument("--precision", default="float32")
    given = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):
        if given.package == "arcuate":
            masks, seconds = run_arcuate(given.peaks, given.weights, given.single, given.precision)
        else:
            masks, seconds = run_tractseg(given.peaks, given.weights, given.single)
    held = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    np.savez(given.out, masks=np.packbits(masks > 0), seconds=seconds, gigabytes=max(held) * 1024 / 1e9)


if __name__ == "__main__":
    main()
