"""Time and agreement of multi-tissue CSD with MRtrix3 by kind of voxel, one thread each: noise decides the work."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numba
import numpy as np

from arcuate.csd import estimate_response_function
from arcuate.dwi import Dwi
from arcuate.gradients import GradientTable
from arcuate.io import NiftiVolumeResource
from arcuate.models.multitissue import make_multi_tissue_model
from arcuate.models.response import Response
from arcuate.models.status import Status
from arcuate.numerics.sphere import get_even_directions, to_angles
from arcuate.phantom import add_rician_noise, make_phantom, simulate_rows, three_shell_gradients
from arcuate.volumes.resource import InMemoryVolumeResource
from benchmarks.side_by_side import table

DATA = Path(os.environ.get("ARCUATE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
HEADER = [
    "voxels", "count", "ours", "theirs", "ratio", "ratio, wall", "within 1e-3", "KKT residual", "least Ax", "unfitted"
]  # fmt: skip
NOTE = (
    "One thread each, 300 directions, medians of runs in turns. 'ours', 'theirs' and 'ratio' are processor time per "
    "voxel and its ratio; theirs starts a program and reads 'count' voxels (0.02 s). 'within 1e-3': voxels whose "
    "coefficients all lie within 1e-3 of the largest of MRtrix3's. 'least Ax' is min(Ax) / max(Ax). Responses by "
    "dhollander, from the same scan or phantom."
)


class Kind(NamedTuple):
    """Voxels of one kind."""

    name: str
    signals: np.ndarray  # (n_vox, n_meas) float32, all volumes
    gradients: GradientTable
    response: Response


class Measured(NamedTuple):
    """Seconds of one run, and the coefficients (n_vox, n)."""

    processor: float
    wall: float
    coefs: np.ndarray


def kinds_table(folder: Path, count: int, repeats: int) -> str:
    """The table, a row for each kind."""
    rows = [_row(kind, folder, repeats) for kind in _kinds(count)]
    return table("Multi-tissue CSD by kind of voxel, dwi2fod msmt_csd", HEADER, rows, NOTE)


def _kinds(count: int) -> Iterator[Kind]:
    path = DATA / "mdt_b1k_b2k"
    if path.is_dir():
        scan = Dwi.from_files(path / "sub-mdt_dwi.nii.gz").load()
        mask = NiftiVolumeResource(path / "sub-mdt_mask.nii.gz").load()
        response = estimate_response_function(scan, mask, "dhollander")
        signals, inside = np.asarray(scan.volume.get_array()), np.asarray(mask.get_array()) > 0
        yield Kind("brain, mdt_b1k_b2k", _spread(signals[inside], count), scan.gradients, response)
        yield Kind("background, mdt_b1k_b2k", _spread(signals[~inside], count), scan.gradients, response)
    table_ = three_shell_gradients()
    for snr in (30, 15):
        head = make_phantom(table_, shape=(40, 40, 24), voxel_size=4.8, snr=snr)
        scan = Dwi.from_arrays(head.signal, head.affine, head.gradients)
        mask = InMemoryVolumeResource(head.brain_mask.astype(np.uint8), head.affine)
        response = estimate_response_function(scan, mask, "dhollander")
        yield Kind(f"phantom, SNR {snr}", _spread(head.signal[head.brain_mask], count), head.gradients, response)
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(count, 1, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    odi = rng.uniform(0.15, 0.5, count)
    clean = np.vstack([simulate_rows(table_, directions[v : v + 1], 1.0, ndi=0.6, odi=odi[v]) for v in range(count)])
    noisy = add_rician_noise(clean, float(clean.max()) / 30, rng)
    scale = float(np.median(head.signal[head.is_single_fibre][:, head.gradients.is_b0])) / float(clean.max())
    yield Kind("dispersed (ODI .15 to .5), SNR 30", (scale * noisy).astype(np.float32), table_, response)


def _spread(signals: np.ndarray, count: int) -> np.ndarray:
    """``count`` rows (a multiple of four) from everywhere in the image."""
    return np.ascontiguousarray(signals[np.linspace(0, len(signals) - 1, count).astype(int)], dtype=np.float32)


def _row(kind: Kind, folder: Path, repeats: int) -> list[str]:
    model = make_multi_tissue_model(kind.gradients, kind.response)
    model.fit(kind.signals[:8, model.volumes])  # compiles
    times = []
    for _ in range(repeats):
        before = time.process_time(), time.perf_counter()
        threads = numba.get_num_threads()
        numba.set_num_threads(1)
        try:
            fit = model.fit(kind.signals[:, model.volumes])
        finally:
            numba.set_num_threads(threads)
        ours = Measured(time.process_time() - before[0], time.perf_counter() - before[1], np.hstack(fit.coefs))
        theirs = _with_mrtrix(kind, folder)
        times.append([ours.processor, theirs.processor, theirs.processor / ours.processor, theirs.wall / ours.wall])
    own, other, ratio, ratio_wall = (statistics.median(column) for column in zip(*times, strict=True))
    largest = np.maximum(np.abs(ours.coefs).max(axis=1), 1e-300)
    off = np.abs(ours.coefs - theirs.coefs).max(axis=1) / largest
    values = ours.coefs @ model.problem.constraints.T
    least = float((values.min(axis=1) / np.maximum(values.max(axis=1), 1e-300)).min())
    n = len(kind.signals)
    return [
        kind.name, str(n), f"{own / n * 1e6:.0f} µs", f"{other / n * 1e6:.0f} µs", f"{ratio:.1f} x",
        f"{ratio_wall:.1f} x", f"{100 * np.mean(off < 1e-3):.2f} %", f"{fit.kkt_residual.max():.1e}",
        f"{min(least, 0):.1e}", str(int(np.sum(fit.status == Status.NOT_CONVERGED))),
    ]  # fmt: skip


def _with_mrtrix(kind: Kind, folder: Path) -> Measured:
    grid = kind.signals.reshape(len(kind.signals) // 4, 2, 2, -1)
    nib.save(nib.Nifti1Image(grid, np.diag([2.0, 2, 2, 1])), folder / "kind.nii")
    np.savetxt(folder / "kind.b", kind.gradients.to_mrtrix(), fmt="%.17g")
    polar, azimuth = to_angles(get_even_directions(300))
    np.savetxt(folder / "kind_directions.txt", np.column_stack([azimuth, polar]), fmt="%.17g")
    degrees = ",".join(str(lmax) for lmax in kind.response.lmax_of_tissues)
    command = ["dwi2fod", "msmt_csd", "kind.nii", "-grad", "kind.b", "-directions", "kind_directions.txt"]
    command += ["-lmax", degrees, "-quiet", "-force", "-nthreads", "0"]
    for tissue in kind.response.tissues:
        (folder / f"kind_{tissue}.txt").write_text(kind.response.to_mrtrix(tissue))
        command += [f"kind_{tissue}.txt", f"kind_fod_{tissue}.nii"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, time.perf_counter()
    subprocess.run(command, check=True, cwd=folder, capture_output=True)
    processor = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before[0]
    wall = time.perf_counter() - before[1]
    parts = [nib.load(folder / f"kind_fod_{t}.nii").get_fdata() for t in kind.response.tissues]
    return Measured(processor, wall, np.hstack([p.reshape(len(kind.signals), -1) for p in parts]))
