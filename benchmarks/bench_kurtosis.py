"""Kurtosis side by side with DIPY, in time and in the accuracy of FA, MD and MK against the phantom's truth.

usage: python -m benchmarks.bench_kurtosis [--small] [--write] [--repeats N] [--scan DWI]
"""

from __future__ import annotations

import warnings
from pathlib import Path

import dipy.reconst.dki as peer
import numba
import numpy as np
from dipy.core.gradients import gradient_table
from dipy.reconst.dki_micro import KurtosisMicrostructureModel

from arcuate.gradients import GradientTable
from arcuate.models.kurtosis import prepare_kurtosis
from arcuate.models.tensor import fit_tensor
from arcuate.models.tract_integrity import TractStatus, tract_integrity
from benchmarks.side_by_side import Pair, alternate, arguments, show, table

N_ROWS, N_SMALL = 4000, 500


def fit_by_dipy(rows: np.ndarray, gradients: GradientTable) -> tuple[np.ndarray, ...]:
    """FA, MD, MK, AK, RK and KFA."""
    fit = peer.DiffusionKurtosisModel(gradient_table(gradients.bvals, bvecs=gradients.directions)).fit(rows)
    return fit.fa, fit.md, fit.mk(), fit.ak(), fit.rk(), fit.kfa


def compare_rows(rows: np.ndarray, gradients: GradientTable, repeats: int) -> tuple[Pair, float, Pair]:
    """Seconds for the same volumes of the same voxels, maps included; largest difference of the parameters.

    Then the seconds of the constrained fit, against DIPY's plain one: its own needs a solver it comes without.
    """
    volumes, _ = prepare_kurtosis(gradients)
    rows, used = np.ascontiguousarray(rows[:, volumes]), gradients.subset(volumes)
    rows = rows[(rows > 0).all(axis=1)]  # DIPY floors the others in another way
    many = np.tile(rows, (10, 1))  # a fair time for ours: the peer's loop takes as long per voxel for any number

    def fit() -> tuple[np.ndarray, ...]:
        result = prepare_kurtosis(used)[1].fit(many)
        return result.fa, result.md, result.mk, result.ak, result.rk, result.kfa

    pair = alternate(fit, lambda: fit_by_dipy(rows, used), repeats)

    def hold() -> tuple[np.ndarray, ...]:
        result = prepare_kurtosis(used, constrained=True)[1].fit(many)
        return result.fa, result.md, result.mk, result.ak, result.rk, result.kfa

    held = alternate(hold, lambda: fit_by_dipy(rows, used), 1)
    ours = prepare_kurtosis(used)[1].fit(rows)
    theirs = peer.DiffusionKurtosisModel(gradient_table(used.bvals, bvecs=used.directions)).fit(rows.astype(float))
    positive = theirs.evals[:, 2] > 1e-5  # mm²/s; eigenvalues at the floor divide MD² W by noise
    difference = np.abs(ours.kurtosis - theirs.kt)[positive].max() / np.abs(theirs.kt[positive]).max()
    difference = max(float(difference), float(np.abs(ours.evals - theirs.evals).max() / theirs.evals.max()))
    return (
        Pair(pair.ours / 10, pair.theirs, pair.ratio * 10),
        difference,
        Pair(held.ours / 10, held.theirs, held.ratio * 10),
    )


def compare_integrity(rows: np.ndarray, gradients: GradientTable) -> Pair:
    """Seconds for tract integrity, the plain fit included, of voxels of aligned axons; the peer sees 100 of them."""
    volumes, model = prepare_kurtosis(gradients)
    rows, used = np.ascontiguousarray(rows[:, volumes], dtype=np.float64), gradients.subset(volumes)
    rows = rows[(rows > 0).all(axis=1)]
    rows = rows[tract_integrity(model.fit(rows)).status == TractStatus.VALID][:100]
    many = np.tile(rows, (20, 1))
    theirs = KurtosisMicrostructureModel(gradient_table(used.bvals, bvecs=used.directions))
    pair = alternate(lambda: tract_integrity(model.fit(many)), lambda: theirs.fit(rows, gtol=1e-5), 3)
    return Pair(pair.ours / 20, pair.theirs, pair.ratio * 20)


def phantom_rows(n: int, snr: float | None, seed: int = 0) -> tuple[np.ndarray, GradientTable, np.ndarray, np.ndarray]:
    """White-matter signals of the phantom up to b = 2000 (1 b=0, 64 directions each), their table, FA and MD."""
    from arcuate.phantom import make_phantom, three_shell_gradients

    gradients = three_shell_gradients()
    head = make_phantom(gradients, shape=(48, 48, 30), voxel_size=4.0, snr=snr, seed=seed)
    place = np.argwhere(head.brain_mask & (head.tissue[..., 0] > 0.9))
    place = tuple(place[np.random.default_rng(0).permutation(len(place))[:n]].T)
    return np.asarray(head.signal)[place], gradients, head.fa[place], head.md[place]


def compare_accuracy(n: int) -> list[list[object]]:
    """Mean errors in white matter, over SNR: the tensor up to b = 1500, DKI up to 3000, and DKI under constraints."""
    lines: list[list[object]] = []
    clean, table_of, *_ = phantom_rows(n, None)
    volumes, model = prepare_kurtosis(table_of)
    mk = model.fit(clean[:, volumes]).mk
    for snr in (None, 60, 30, 15):
        rows, gradients, fa, md = phantom_rows(n, snr)
        volumes, model = prepare_kurtosis(gradients)
        _, constrained = prepare_kurtosis(gradients, constrained=True)
        plain, held = model.fit(rows[:, volumes]), constrained.fit(rows[:, volumes])
        fits = {"tensor": fit_tensor(rows, gradients), "DKI": plain, "constrained": held}
        errors = {
            name: (np.abs(fit.fa - fa).mean(), 1e6 * np.abs(fit.md - md).mean(), 1e6 * (fit.md - md).mean())
            for name, fit in fits.items()
        }
        lines.append([
            snr or "no noise",
            " -> ".join(f"{error[0]:.3f}" for error in errors.values()),
            *[" -> ".join(f"{error[k]:.0f}" for error in errors.values()) for k in (1, 2)],
            " -> ".join(f"{np.abs(np.clip(fit.mk, -3 / 7, 10) - mk).mean():.3f}" for fit in (plain, held)),
            f"{100 * held.is_bound.mean():.0f} %",
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
        pair, difference, held = compare_rows(rows, table_of, options.repeats)
        what = f"WLS and maps, {name}, {len(volumes)} volumes (parameters differ by {difference:.0e} at most)"
        lines.append(pair.row(what))
        lines.append(held.row(f"constrained fit and maps against that WLS, {name}"))
    lines.append(compare_integrity(*phantom_rows(n // 4, 40)[:2]).row("WLS and tract integrity, phantom, 100 voxels"))
    speed = table("Kurtosis against DIPY", ("what", "arcuate", "peer", "ratio"), lines,
                  f"{numba.get_num_threads()} threads; medians of runs in turns.")  # fmt: skip
    accuracy = table(
        "White matter of the phantom: tensor (b = 0, 1000) -> DKI (b = 0, 1000, 2000) -> constrained DKI",
        ("SNR", "FA, mean error", "MD, mean error (1e-6 mm²/s)", "MD, bias (1e-6 mm²/s)", "MK, mean error",
         "voxels at constraints"),
        compare_accuracy(n),
        f"{n} voxels; truth is the diffusion tensor as b goes to 0 of dispersed neurites in hindered and free water, "
        "neither model's own form, and for MK the fit without noise (plain -> constrained). Noise is Rician.",
    )  # fmt: skip
    show("kurtosis", speed + "\n" + accuracy, write=options.write)


if __name__ == "__main__":
    main()
