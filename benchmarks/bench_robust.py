"""Robust tensor and free water side by side with DIPY's RESTORE and FreeWaterTensorModel (WLS).

usage: python -m benchmarks.bench_robust [--small] [--write] [--repeats N] [--scan DWI]
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dipy.reconst.dti as dti
import dipy.reconst.fwdti as fwdti
import numba
import numpy as np
from dipy.core.gradients import gradient_table

from arcuate.gradients import GradientTable
from arcuate.models.free_water import prepare_free_water
from arcuate.models.robust_tensor import prepare_robust_tensor
from benchmarks.side_by_side import Pair, alternate, arguments, show, table

N_ROWS, N_SMALL = 400, 60
TIMES = 20  # rows of ours over rows of theirs: its loop takes as long per voxel for any number

Rows = tuple[np.ndarray, GradientTable]


def phantom_rows(n: int) -> Rows:
    """Voxels of the phantom at SNR 30, a twentieth of whose signals dropped out; their table."""
    from arcuate.phantom import make_phantom, three_shell_gradients

    gradients, rng = three_shell_gradients(), np.random.default_rng(0)
    head = make_phantom(gradients, shape=(32, 32, 20), voxel_size=6.0, snr=30, seed=0)
    rows = np.asarray(head.signal)[head.brain_mask]
    rows = rows[rng.permutation(len(rows))[:n]].astype(np.float64)
    return np.where(rng.uniform(size=rows.shape) < 0.05, 0.2 * rows, rows), gradients


def real_rows(path: Path, n: int) -> Rows:
    """Voxels of a scan with a mask beside it (_mask for _dwi), and its table."""
    from arcuate.dwi import Dwi
    from arcuate.io import NiftiVolumeResource

    scan = Dwi.from_files(path)
    mask = np.asarray(NiftiVolumeResource(str(path).replace("_dwi", "_mask")).get_array()) > 0
    rows = np.asarray(scan.volume.get_array())[mask].astype(np.float64)
    rows = rows[(rows > 0).all(axis=1)]
    return rows[np.random.default_rng(0).permutation(len(rows))[:n]], scan.gradients


def compare(ours: Callable[[np.ndarray], object], theirs: Callable[[np.ndarray], object], rows: np.ndarray,
            repeats: int) -> Pair:  # fmt: skip
    """Seconds for these rows."""
    many = np.tile(rows, (TIMES, 1))
    pair = alternate(lambda: ours(many), lambda: theirs(rows), repeats)
    return Pair(pair.ours / TIMES, pair.theirs, pair.ratio * TIMES)


def lines_of(
    name: str, rows: np.ndarray, gradients: GradientTable, repeats: int
) -> tuple[list[list[str]], list[list[str]]]:
    """A line for the robust tensor and two for free water, each on the volumes it is fitted to."""
    volumes, robust = prepare_robust_tensor(gradients)
    used = gradients.subset(volumes)
    plain = gradient_table(used.bvals, bvecs=used.directions)
    restore = dti.TensorModel(plain, fit_method="RESTORE")
    pair = compare(robust.fit, restore.fit, rows[:, volumes], repeats)
    gap = np.median(np.abs(robust.fit(rows[:, volumes]).fa - restore.fit(rows[:, volumes]).fa))
    first = pair.row(f"robust tensor, {name}, {len(rows)} voxels, {len(volumes)} volumes, against RESTORE "
                     f"(median difference of FA {gap:.3f})")  # fmt: skip
    volumes, water = prepare_free_water(gradients)
    used = gradients.subset(volumes)
    peer = fwdti.FreeWaterTensorModel(gradient_table(used.bvals, bvecs=used.directions), fit_method="WLS")
    pair = compare(water.fit, peer.fit, rows[:, volumes], repeats)
    same = np.abs(water.fit(rows[:, volumes]).fwf - peer.fit(rows[:, volumes]).f) < 1e-9
    second = pair.row(f"free water, {name}, {len(rows)} voxels, {len(volumes)} volumes, against WLS "
                      f"(same share in {100 * same.mean():.1f} % of voxels)")  # fmt: skip
    few = rows[:100, volumes]
    refined = replace(water, is_nonlinear=True)
    peer = fwdti.FreeWaterTensorModel(gradient_table(used.bvals, bvecs=used.directions))
    pair = compare(refined.fit, peer.fit, few, 3)
    near = np.abs(refined.fit(few).fwf - peer.fit(few).f) < 1e-4
    third = pair.row(f"free water, {name}, {len(few)} voxels, against NLS, DIPY's default (share within 1e-4 in "
                     f"{100 * near.mean():.0f} % of voxels)")  # fmt: skip
    return [first], [second, third]


def main() -> None:
    """Print the tables; with ``--write`` keep them."""
    parser = arguments(__doc__)
    parser.add_argument("--scan", type=Path, help="a real scan with a mask beside it (_mask for _dwi)")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    n = N_SMALL if options.small else N_ROWS
    sets = {"phantom": phantom_rows(n)}
    if options.scan:
        sets["a human head"] = real_rows(options.scan, n)
    lines = [lines_of(name, *rows, options.repeats) for name, rows in sets.items()]
    note = f"{numba.get_num_threads()} threads; medians of runs in turns."
    for area, title, k in (("robust_tensor", "Robust tensor against DIPY", 0), ("free_water", "Free water", 1)):
        text = table(title, ("what", "arcuate", "peer", "ratio"), [row for pair in lines for row in pair[k]], note)
        show(area, text, write=options.write)


if __name__ == "__main__":
    main()
