"""Kurtosis side by side with DIPY, in time and in the accuracy of FA and MD against the phantom's truth.

usage: python -m benchmarks.bench_kurtosis [--small] [--write] [--repeats N] [--scan DWI]
"""

from __future__ import annotations

import warnings
from pathlib import Path

import dipy.reconst.dki as peer
import numba
import numpy as np
from dipy.core.gradients import gradient_table

from arcuate.gradients import GradientTable
from arcuate.models.kurtosis import prepare_kurtosis
from arcuate.models.tensor import fit_tensor
from benchmarks.side_by_side import Pair, alternate, arguments, show, table

N_ROWS, N_SMALL = 4000, 500


def fit_by_dipy(rows: np.ndarray, gradients: GradientTable) -> tuple[np.ndarray, ...]:
    """FA, MD, MK, AK, RK and KFA."""
    fit = peer.DiffusionKurtosisModel(gradient_table(gradients.bvals, bvecs=gradients.directions)).fit(rows)
    return fit.fa, fit.md, fit.mk(), fit.ak(), fit.rk(), fit.kfa


def compare_rows(rows: np.ndarray, gradients: GradientTable, repeats: int) -> tuple[Pair, float]:
    """Seconds for the same volumes of the same voxels, maps included; largest difference of the parameters."""
    volumes, _ = prepare_kurtosis(gradients)
    rows, used = np.ascontiguousarray(rows[:, volumes]), gradients.subset(volumes)
    rows = rows[(rows > 0).all(axis=1)]  # DIPY floors the others in another way
    many = np.tile(rows, (10, 1))  # a fair time for ours: the peer's loop takes as long per voxel for any number

    def fit() -> tuple[np.ndarray, ...]:
        result = prepare_kurtosis(used)[1].fit(many)
        return result.fa, result.md, result.mk, result.ak, result.rk, result.kfa

    pair = alternate(fit, lambda: fit_by_dipy(rows, used), repeats)
    ours = prepare_kurtosis(used)[1].fit(rows)
    theirs = peer.DiffusionKurtosisModel(gradient_table(used.bvals, bvecs=used.directions)).fit(rows.astype(float))
    positive = theirs.evals[:, 2] > 1e-5  # mm²/s; eigenvalues at the floor divide MD² W by noise
    difference = np.abs(ours.kurtosis - theirs.kt)[positive].max() / np.abs(theirs.kt[positive]).max()
    return Pair(pair.ours / 10, pair.theirs, pair.ratio * 10), max(
        float(difference), float(np.abs(ours.evals - theirs.evals).max() / theirs.evals.max())
    )


def phantom_rows(n: int, snr: float | None, seed: int = 0) -> tuple[np.ndarray, GradientTable, np.ndarray, np.ndarray]:
    """White-matter signals of the phantom up to b = 2000 (1 b=0, 64 directions each), their table, FA and MD."""
    from arcuate.phantom import make_phantom, three_shell_gradients

    gradients = three_shell_gradients()
    head = make_phantom(gradients, shape=(48, 48, 30), voxel_size=4.0, snr=snr, seed=seed)
    place = np.argwhere(head.brain_mask & (head.tissue[..., 0] > 0.9))
    place = tuple(place[np.random.default_rng(0).permutation(len(place))[:n]].T)
    return np.asarray(head.signal)[place], gradients, head.fa[place], head.md[place]


def compare_accuracy(n: int) -> list[list[object]]:
    """Mean absolute errors of FA and MD in white matter, over SNR: the tensor up to b = 1500, and DKI up to 3000."""
    lines: list[list[object]] = []
    for snr in (None, 60, 30, 15):
        rows, gradients, fa, md = phantom_rows(n, snr)
        volumes, model = prepare_kurtosis(gradients)
        fits = {"tensor": fit_tensor(rows, gradients), "DKI": model.fit(rows[:, volumes])}
        errors = {
            name: (np.abs(fit.fa - fa).mean(), 1e6 * np.abs(fit.md - md).mean(), 1e6 * (fit.md - md).mean())
            for name, fit in fits.items()
        }
        lines.append([
            snr or "no noise",
            *[f"{errors['tensor'][k]:.3f} -> {errors['DKI'][k]:.3f}" for k in (0,)],
            *[f"{errors['tensor'][k]:.0f} -> {errors['DKI'][k]:.0f}" for k in (1, 2)],
        ])  # fmt: skip
    return lines


def main() -> None:
    """Print the tables; with ``--write`` keep them."""
    parser = arguments(__doc__)
    parser.add_argument("--scan", type=Path, help="a real scan with a mask beside it (_mask for _dwi) to time as well")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    n = N_SMALL if options.small else N_ROWS
    lines = []
    rows, gradients, *_ = phantom_rows(n // 4, 30)
    sets = {f"phantom, {n // 4} voxels": (rows, gradients)}
    if options.scan:
        from arcuate.dwi import Dwi
        from arcuate.io import NiftiVolumeResource

        scan = Dwi.from_files(options.scan)
        mask = NiftiVolumeResource(str(options.scan).replace("_dwi", "_mask")).get_array() > 0
        real = np.asarray(scan.volume.get_array())[mask]
        pick = np.random.default_rng(0).permutation(len(real))[: n // 4]
        sets[f"a human head, {n // 4} voxels"] = (real[pick], scan.gradients)
    for name, (rows, table_of) in sets.items():
        volumes, _ = prepare_kurtosis(table_of)
        pair, difference = compare_rows(rows, table_of, options.repeats)
        what = f"WLS and maps, {name}, {len(volumes)} volumes (parameters differ by {difference:.0e} at most)"
        lines.append(pair.row(what))
    speed = table("Kurtosis against DIPY", ("what", "arcuate", "peer", "ratio"), lines,
                  f"{numba.get_num_threads()} threads; medians of runs in turns.")  # fmt: skip
    accuracy = table(
        "FA and MD in white matter of the phantom: tensor (b = 0, 1000) -> DKI (b = 0, 1000, 2000)",
        ("SNR", "FA, mean error", "MD, mean error (1e-6 mm²/s)", "MD, bias (1e-6 mm²/s)"),
        compare_accuracy(n),
        f"{n} voxels; truth is the diffusion tensor as b goes to 0 of dispersed neurites in hindered and free water, "
        "neither model's own form. Noise is Rician.",
    )  # fmt: skip
    show("kurtosis", speed + "\n" + accuracy, write=options.write)


if __name__ == "__main__":
    main()
