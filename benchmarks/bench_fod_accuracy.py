"""Accuracy of FOD peaks against the truth: multi-tissue and single-shell CSD, ours and MRtrix3's."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from arcuate.csd import estimate_response_function
from arcuate.dwi import Dwi
from arcuate.gradients import GradientTable
from arcuate.io.responses import write_response
from arcuate.models.csd import fit_csd
from arcuate.models.multitissue import make_multi_tissue_model
from arcuate.models.peaks import find_peaks
from arcuate.models.response import Response
from arcuate.models.second_pass import make_two_pass_model, sure_settings
from arcuate.phantom import Phantom, add_rician_noise, make_phantom, simulate_rows, three_shell_gradients
from arcuate.volumes.resource import InMemoryVolumeResource
from benchmarks.side_by_side import RESULTS, arguments, show, table

SNRS, ANGLES = (15, 30, 60), (40, 50, 60, 70, 80, 90)
S0 = 1000.0
RELATIVE_THRESHOLD = 0.3  # a peak counts above this share of the strongest
FAR = 25.0  # degrees: a peak further than this from every fibre is false
N_PEAKS = 5


@dataclass(frozen=True)
class Score:
    """Errors of one method in voxels of one kind."""

    first: np.ndarray  # (n,) degrees between the strongest peak and the nearest fibre
    second: np.ndarray  # (n,) degrees between the other fibre and the nearest other peak; 90 without one
    n_false: np.ndarray  # (n,) peaks far from every fibre


def main() -> None:
    """Print the tables, and draw the plot where results are kept."""
    options = arguments(__doc__).parse_args()
    count = 60 if options.small else 300
    gradients = three_shell_gradients()
    scores: dict[tuple[str, int, int], Score] = {}
    for snr in SNRS:
        responses = _responses(gradients, snr)
        fibres = _fibres(count)
        truth = np.concatenate(list(fibres.values()))
        rng = np.random.default_rng(snr)
        shares = np.where(np.any(truth != 0, axis=2), 1.0, 0.0)
        clean = simulate_rows(gradients, truth, shares / shares.sum(axis=1, keepdims=True), 0.6, 0.06, 0.02, S0)
        signals = add_rician_noise(clean, S0 / snr, rng).astype(np.float32)
        for method, (directions, values) in _methods(signals, gradients, responses).items():
            for i, angle in enumerate(fibres):
                part = slice(i * count, (i + 1) * count)
                scores[method, snr, angle] = score(directions[part], values[part], truth[part])
    methods = list(dict.fromkeys(key[0] for key in scores))
    show("fod_accuracy", _table(scores, methods, count), write=options.write)
    if options.write:
        _plot(scores, methods)


def _fibres(count: int) -> dict[int, np.ndarray]:
    """(count, 2, 3) directions for each crossing angle; angle 0 is a single fibre, its second direction 0."""
    rng = np.random.default_rng(0)
    out = {}
    for angle in (0, *ANGLES):
        first = rng.normal(size=(count, 3))
        first /= np.linalg.norm(first, axis=1, keepdims=True)
        across = np.cross(first, rng.normal(size=(count, 3)))
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        second = np.cos(np.deg2rad(angle)) * first + np.sin(np.deg2rad(angle)) * across
        out[angle] = np.stack([first, second if angle else 0 * second], axis=1)
    return out


def _responses(gradients: GradientTable, snr: float) -> dict[str, Response | Path]:
    """Responses of a head of that SNR: ours, and the folder with those of MRtrix3."""
    head, scan, mask = _head(gradients, snr)
    found: dict[str, Response | Path] = {
        name: estimate_response_function(scan, mask, name) for name in ("dhollander", "tournier")
    }
    if shutil.which("dwi2response"):
        found["MRtrix3"] = folder = _written(head)
        for words in (("dhollander", "dwi.nii", "wm.txt", "gm.txt", "csf.txt"), ("tournier", "dwi.nii", "one.txt")):
            _run(folder, "dwi2response", *words, "-grad", "grad.b", "-mask", "mask.nii", "-scratch", ".")
    return found


def _head(gradients: GradientTable, snr: float, seed: int = 0) -> tuple[Phantom, Dwi, InMemoryVolumeResource]:
    head = make_phantom(gradients, shape=(48, 48, 30), voxel_size=4.0, snr=snr, seed=seed)
    mask = InMemoryVolumeResource(head.brain_mask.astype(np.uint8), head.affine)
    return head, Dwi.from_arrays(head.signal, head.affine, head.gradients), mask


def _written(head: Phantom) -> Path:
    """A new folder with dwi.nii, mask.nii and grad.b of a head."""
    folder = Path(tempfile.mkdtemp())
    nib.save(nib.Nifti1Image(head.signal, head.affine), folder / "dwi.nii")
    nib.save(nib.Nifti1Image(head.brain_mask.astype(np.uint8), head.affine), folder / "mask.nii")
    np.savetxt(folder / "grad.b", head.gradients.to_mrtrix(), fmt="%.17g")
    return folder


def _methods(
    signals: np.ndarray, gradients: GradientTable, responses: dict[str, Response | Path]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Peaks of each method: directions (n, 5, 3) and amplitudes (n, 5)."""
    ours, single = responses["dhollander"], responses["tournier"]
    assert isinstance(ours, Response)
    assert isinstance(single, Response)
    out = {}
    base = make_multi_tissue_model(gradients, ours)
    sure, both = make_two_pass_model(base, settings=sure_settings(base)), make_two_pass_model(base)
    for name, coefs in (
        ("arcuate, multi-tissue, one pass", base.fit(signals[:, base.volumes]).coefs[0]),
        ("arcuate, multi-tissue, sure second pass", sure.fit(signals[:, sure.volumes]).coefs[0]),
        ("arcuate, multi-tissue, second pass", both.fit(signals[:, both.volumes]).coefs[0]),
        ("arcuate, single-shell", fit_csd(signals, gradients, single).coefs),
    ):
        peaks = find_peaks(coefs, n_peaks=N_PEAKS, relative_peak_threshold=0.0, min_separation_angle=0.0)  # as sh2peaks
        out[name] = (peaks.directions, peaks.values)
    folder = responses.get("MRtrix3")
    if isinstance(folder, Path):
        nib.save(nib.Nifti1Image(signals.reshape(len(signals), 1, 1, -1), np.eye(4)), folder / "rows.nii")
        multi = ("msmt_csd", "rows.nii", "wm.txt", "a.nii", "gm.txt", "b.nii", "csf.txt", "c.nii")
        for name, words in (
            ("MRtrix3 msmt_csd", multi),
            ("MRtrix3 csd", ("csd", "rows.nii", "one.txt", "a.nii", "-shells", "3500")),
        ):
            _run(folder, "dwi2fod", *words, "-grad", "grad.b")
            out[name] = _sh2peaks(folder, "a.nii", N_PEAKS)
        # the same solver with our response shows which of the two makes a difference
        write_response(ours, folder / "ours")
        words = [w for t in ours.tissues for w in (f"ours/{t}.txt", f"{t}_o.nii")]
        _run(folder, "dwi2fod", "msmt_csd", "rows.nii", *words, "-grad", "grad.b")
        out["MRtrix3 msmt_csd, our response"] = _sh2peaks(folder, "wm_o.nii", N_PEAKS)
        shutil.rmtree(folder)
    return out


def score(directions: np.ndarray, values: np.ndarray, truth: np.ndarray) -> Score:
    """Errors of peaks (n, n_peaks, 3), strongest first, against fibres (n, 2, 3), 0 where there is one only."""
    counts = values > RELATIVE_THRESHOLD * values[:, :1]
    cosine = np.abs(np.einsum("npc,nfc->npf", directions, truth))
    is_fibre = np.any(truth != 0, axis=2)
    angle = np.degrees(np.arccos(np.clip(cosine, 0, 1)))
    angle[~counts] = 90.0
    angle[~np.broadcast_to(is_fibre[:, None, :], angle.shape)] = 90.0
    rows = np.arange(len(truth))
    nearest = angle[:, 0].argmin(axis=1)
    second = angle[rows, 1:, 1 - nearest].min(axis=1)
    n_false = np.sum(counts & (angle.min(axis=2) > FAR), axis=1)
    return Score(angle[rows, 0, nearest], second, n_false)


def _table(scores: dict[tuple[str, int, int], Score], methods: list[str], count: int) -> str:
    rows = []
    for snr in SNRS:
        for method in methods:
            one = scores[method, snr, 0]
            cells = [f"{np.median(one.first):.2f} ({one.first.mean():.2f})", f"{100 * one.n_false.mean():.1f} %"]
            for angle in ANGLES:
                at = scores[method, snr, angle]
                missing = 100 * np.mean(at.second > FAR)
                cells.append(
                    f"{np.median(at.first):.1f} / {np.median(at.second):.1f}; {missing:.0f} %, "
                    f"{100 * at.n_false.mean():.0f} %"
                )
            rows.append([snr, method, *cells])
    header = ["SNR", "method", "one fibre: median (mean)", "false peaks", *(f"{a}°" for a in ANGLES)]
    note = (
        f"Degrees; {count} voxels of each kind, dispersed fibres (ODI 0.06) of equal shares. Crossings: median of the "
        f"first / of the second peak; voxels whose second fibre has no peak within {FAR:g}°, false peaks per 100 "
        f"voxels (above {RELATIVE_THRESHOLD} of the strongest, further than {FAR:g}° from any fibre). "
        "Responses: dhollander (multi-tissue) and tournier (single shell) of a head of the same SNR, each program its "
        "own."
    )
    return table("Accuracy of the peaks of FODs", header, rows, note)


def _plot(scores: dict[tuple[str, int, int], Score], methods: list[str]) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, len(SNRS), figsize=(11, 6), sharex=True, sharey="row", layout="constrained")
    for column, snr in enumerate(SNRS):
        for method in methods:
            at = [scores[method, snr, angle] for angle in ANGLES]
            style = "-" if method.startswith("arcuate") else "--"
            panels[0, column].plot(ANGLES, [np.median(s.first) for s in at], style, marker="o", ms=3, label=method)
            panels[1, column].plot(ANGLES, [100 * np.mean(s.second > FAR) for s in at], style, marker="o", ms=3)
        panels[0, column].set_title(f"SNR {snr}")
        panels[1, column].set_xlabel("crossing angle, degrees")
    panels[0, 0].set_ylabel("first peak, median error, degrees")
    panels[1, 0].set_ylabel("second fibre missed, % of voxels")
    panels[0, -1].legend(fontsize=7)
    figure.savefig(RESULTS / "fod_accuracy.png", dpi=110)
    plt.close(figure)


def _sh2peaks(folder: Path, fods: str, n_peaks: int, *words: str) -> tuple[np.ndarray, np.ndarray]:
    """Directions (n_vox, n_peaks, 3) and amplitudes (n_vox, n_peaks) of an image's peaks, 0 where there are fewer."""
    _run(folder, "sh2peaks", fods, "peaks.nii", "-num", str(n_peaks), *words)
    vectors = np.nan_to_num(nib.load(folder / "peaks.nii").get_fdata()).reshape(-1, n_peaks, 3)
    values = np.linalg.norm(vectors, axis=2)
    return vectors / np.where(values > 0, values, 1)[..., None], values


def _run(folder: Path, *words: str) -> None:
    subprocess.run([*words, "-quiet", "-force", "-nthreads", "2"], cwd=folder, check=True, capture_output=True)


if __name__ == "__main__":
    main()
