"""kwneuro's own steps on a scan, one after the other: a program of its own, because it lives in another environment.

usage: PYTHON kwneuro_runner.py SCAN MASK FOLDER

PYTHON has kwneuro with AMICO (``pip install 'kwneuro[noddi]'``); SCAN is a .nii.gz with its .bval and .bvec beside it.
Each step is called as kwneuro's documentation does, with its defaults, and its result is written to FOLDER. Prints the
seconds on the clock of each step as JSON, {step: s}. The mask is given: its own comes from a network whose weights
have to be downloaded. AMICO's rotation matrices, which it makes once on a machine, are made before.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

os.environ.setdefault("DIPY_HOME", str(Path(tempfile.gettempdir()) / "arcuate-amico-matrices"))

import amico
from kwneuro.csd import combine_csd_peaks_to_vector_volume, compute_csd_peaks, estimate_response_function
from kwneuro.dwi import Dwi
from kwneuro.io import FslBvalResource, FslBvecResource, NiftiVolumeResource


def run(scan: str, mask: str, folder: Path) -> dict[str, float]:
    """Seconds of each step."""
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[step] = time.perf_counter() - start

    with timed("read"):
        bval, bvec = (scan.replace(".nii.gz", ending) for ending in (".bval", ".bvec"))
        dwi = Dwi(NiftiVolumeResource(scan), FslBvalResource(bval), FslBvecResource(bvec)).load()
        brain = NiftiVolumeResource(mask).load()
    with timed("denoise"):
        dwi = dwi.denoise()
        dwi.save(folder, "denoised")
    with timed("dti"):
        dti = dwi.estimate_dti(brain)
        NiftiVolumeResource.save(dti.volume, folder / "dti.nii.gz")
    with timed("noddi"):
        noddi = dwi.estimate_noddi(brain)
        NiftiVolumeResource.save(noddi.volume, folder / "noddi.nii.gz")
    with timed("response"):
        response = estimate_response_function(dwi, brain)
    with timed("fod and peaks"):
        peaks = combine_csd_peaks_to_vector_volume(*compute_csd_peaks(dwi, brain, response))
        NiftiVolumeResource.save(peaks, folder / "peaks.nii.gz")
    return seconds


if __name__ == "__main__":
    scan_path, mask_path, out = (Path(path).resolve() for path in sys.argv[1:4])
    os.chdir(out)  # where AMICO puts its kernels
    with redirect_stdout(sys.stderr):
        amico.setup()
        found = run(str(scan_path), str(mask_path), out)
    print(json.dumps(found))
