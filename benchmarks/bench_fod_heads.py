"""First and false peaks in whole heads: one pass, its smooth version, two passes and MRtrix3 on the same voxels."""

from __future__ import annotations

import sys
import warnings
from typing import NamedTuple

import numpy as np

from arcuate.csd import estimate_response_function
from arcuate.dwi import Dwi
from arcuate.errors import InputWarning
from arcuate.gradients import GradientTable
from arcuate.models.multitissue import make_multi_tissue_model
from arcuate.models.peaks import find_peaks
from arcuate.models.response import Response
from arcuate.models.second_pass import make_two_pass_model, sure_settings
from arcuate.phantom import Phantom, add_rician_noise, make_phantom, simulate_rows, three_shell_gradients
from arcuate.volumes.resource import InMemoryVolumeResource
from benchmarks.fod_peers import fit_by_mrtrix, has_mrtrix, peer_folder
from benchmarks.side_by_side import arguments, show, table

S0, N_SETS, SET_SIZE = 1000.0, 6, 300  # of voxels of one fibre
RELATIVE, APART, FAR = 0.3, 15.0, 20.0  # of the strongest peak; degrees between peaks, and from every fibre
ONE, CERTAIN, BOTH = "arcuate, one pass", "arcuate, sure second pass", "arcuate, second pass"
SMOOTH = "arcuate, smooth first pass"
MRTRIX = "MRtrix3 msmt_csd"


class Errors(NamedTuple):
    """What the peaks of one method are off in voxels of one kind."""

    first: np.ndarray  # (n,) degrees between the strongest peak and the nearest fibre
    n_false: np.ndarray  # (n,) peaks far from every fibre


def main() -> None:
    """Print the table of heads and that of single fibres."""
    parser = arguments(__doc__)
    parser.add_argument("--snr", type=int, action="append", help="of the heads, 30 by default")
    parser.add_argument("--head", type=int, action="append", help="seeds of the heads, 0, 1 and 2 by default")
    parser.add_argument("--only-sets", action="store_true", help="single fibres without whole heads")
    options = parser.parse_args()
    warnings.simplefilter("ignore", InputWarning)
    heads = options.head or ([0] if options.small else [0, 1, 2])
    if not options.only_sets:
        tables = [table_of_heads(snr, heads) for snr in options.snr or [30]]
        show("fod_heads", "\n".join(tables), write=options.write)
    sets = {snr: _sets(snr, 2 if options.small else N_SETS) for snr in ([30] if options.small else [15, 30, 60])}
    show("fod_single_fibres", _table_of_sets(sets), write=options.write)


def table_of_heads(snr: int, heads: list[int]) -> str:
    """Whole heads of an SNR."""
    gradients = three_shell_gradients()
    errors: dict[str, dict[str, list[Errors]]] = {}
    for seed in heads:
        head, response = _head(gradients, snr, seed)
        kinds = {"single fibre": head.is_single_fibre & head.brain_mask, "crossing": head.is_crossing & head.brain_mask}
        for kind, inside in kinds.items():
            for method, fods in _fit_all(head.signal[inside], gradients, response).items():
                errors.setdefault(kind, {}).setdefault(method, []).append(_judge(fods, head.directions[inside]))
    return _table_of_heads(snr, errors, len(heads))


def _head(gradients: GradientTable, snr: int, seed: int) -> tuple[Phantom, Response]:
    head = make_phantom(gradients, shape=(48, 48, 30), voxel_size=4.0, snr=snr, seed=seed)
    mask = InMemoryVolumeResource(head.brain_mask.astype(np.uint8), head.affine)
    scan = Dwi.from_arrays(head.signal, head.affine, head.gradients)
    return head, estimate_response_function(scan, mask, "dhollander")


def _sets(snr: int, n_sets: int) -> dict[str, list[float]]:
    """Median error of each set of single fibres by method, with the response of a head of that SNR."""
    gradients = three_shell_gradients()
    _, response = _head(gradients, snr, 0)
    sets: dict[str, list[float]] = {}
    for number in range(n_sets):
        directions, signals = _single_fibres(gradients, snr, number)
        for method, fods in _fit_all(signals, gradients, response).items():
            sets.setdefault(method, []).append(float(np.median(_judge(fods, directions[:, None]).first)))
    return sets


def _single_fibres(gradients: GradientTable, snr: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions and noisy signals of one set of single fibres, as the accuracy benchmark has them."""
    rng = np.random.default_rng((number, snr))
    directions = rng.normal(size=(SET_SIZE, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    clean = simulate_rows(gradients, directions, 1.0, 0.6, 0.06, 0.02, S0)
    return directions, add_rician_noise(clean, S0 / snr, rng).astype(np.float32)


def _fit_all(signals: np.ndarray, gradients: GradientTable, response: Response) -> dict[str, np.ndarray]:
    """FODs (n, n_coef) of each method with the same response."""
    model = make_multi_tissue_model(gradients, response)
    both = make_two_pass_model(model)
    sure = make_two_pass_model(model, settings=sure_settings(model))
    methods = {ONE: model, CERTAIN: sure, SMOOTH: both.first, BOTH: both}
    fods = {name: each.fit(signals[:, each.volumes]).coefs[0] for name, each in methods.items()}
    if has_mrtrix():
        with peer_folder(signals.astype(np.float32), gradients, response) as folder:
            fods[MRTRIX] = fit_by_mrtrix(folder, response, response.tissues, 8)
    return fods


def _judge(fods: np.ndarray, fibres: np.ndarray) -> Errors:
    """Errors against fibres (n, n_fibres, 3), 0 where a voxel has fewer."""
    peaks = find_peaks(fods, n_peaks=5, relative_peak_threshold=RELATIVE, min_separation_angle=APART)
    cosine = np.abs(np.einsum("npc,nfc->npf", peaks.directions, fibres)).max(axis=2)
    angle = np.degrees(np.arccos(np.clip(cosine, 0, 1)))
    return Errors(angle[:, 0], np.sum((peaks.values > 0) & (angle > FAR), axis=1))


def _table_of_heads(snr: int, errors: dict[str, dict[str, list[Errors]]], n_heads: int) -> str:
    rows = []
    for kind, methods in errors.items():
        plain = np.concatenate([each.first for each in methods[ONE]])
        for method, found in methods.items():
            first = np.concatenate([each.first for each in found])
            false = 100 * np.concatenate([each.n_false for each in found])
            by_head = " / ".join(f"{each.first.mean():.2f}" for each in found)
            ratio, error = _ratio(first, plain)
            rows.append(
                [kind, method, f"{np.median(first):.3f}", f"{first.mean():.3f} ± {_standard_error(first):.3f}", by_head,
                 "" if method == ONE else f"{ratio:.3f} ± {error:.3f}",
                 f"{false.mean():.1f} ± {_standard_error(false):.1f}"]
            )  # fmt: skip
    note = (
        f"SNR {snr}, {n_heads} heads of 48 x 48 x 30 voxels, 1000/2000/3500 x 64, another brain and noise each; "
        f"all voxels of the brain with one fibre and with crossings, {', '.join(_counts(errors))}. Degrees between the "
        f"strongest peak and the nearest fibre; peaks above {RELATIVE} of the strongest and {APART:g}° apart that are "
        f"further than {FAR:g}° from every fibre, per 100 voxels. ±: one standard error over voxels; that of the "
        "ratio, on the same voxels, is smaller than that of either mean. Our dhollander response for all."
    )
    header = ["voxels", "method", "median", "mean", "of each head", "mean over that of one pass", "false per 100"]
    return table(f"Whole heads, SNR {snr}", header, rows, note)


def _counts(errors: dict[str, dict[str, list[Errors]]]) -> list[str]:
    return [f"{sum(len(e.first) for e in methods[ONE])} of {kind}" for kind, methods in errors.items()]


def _table_of_sets(sets: dict[int, dict[str, list[float]]]) -> str:
    rows = []
    for snr, methods in sets.items():
        for method, found in methods.items():
            mean = f"{np.mean(found):.3f} ± {_standard_error(np.array(found)):.3f}"
            rows.append([snr, method, mean, " / ".join(f"{value:.2f}" for value in found)])
    note = (
        f"{SET_SIZE} voxels each, ODI 0.06, other directions and noise in each set; medians in degrees, ± one standard "
        "error of their mean."
    )
    header = ["SNR", "method", "mean of sets", "median of each set"]
    return table("First peak of single fibres, 1000/2000/3500 x 64", header, rows, note)


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _ratio(ours: np.ndarray, plain: np.ndarray) -> tuple[float, float]:
    """Ratio of two means over the same voxels, and its standard error by the differences from it."""
    ratio = float(ours.mean() / plain.mean())
    return ratio, _standard_error(ours - ratio * plain) / float(plain.mean())


if __name__ == "__main__":
    sys.exit(main())
