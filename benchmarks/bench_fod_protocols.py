"""Three figures of peaks (first, missed, false) and fibre density on six protocols, ours and the peers'."""

from __future__ import annotations

import re
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np

from arcuate.csd import estimate_response_function
from arcuate.dwi import Dwi
from arcuate.errors import InputWarning
from arcuate.gradients import GradientTable
from arcuate.models.csd import fit_csd
from arcuate.models.multitissue import make_multi_tissue_model
from arcuate.models.peaks import find_peaks
from arcuate.models.response import Response
from arcuate.models.response_dhollander import estimate_tissues
from arcuate.models.second_pass import make_two_pass_model, sure_settings
from arcuate.models.three_tissue import make_three_tissue_model
from arcuate.phantom import add_rician_noise
from benchmarks.fod_peers import fit_by_cs_dmri, fit_by_mrtrix, fit_soft_by_mrtrix, has_mrtrix, peer_folder
from benchmarks.fod_voxels import (
    FALSE,
    KINDS,
    PROTOCOLS,
    S0,
    TRUTHS,
    Kind,
    is_worse,
    judge,
    judge_each,
    make_gradients,
    make_head,
    make_kinds,
)
from benchmarks.side_by_side import arguments, show, table

RELATIVE, OF_ONE_FIBRE, APART = 0.2, 0.1, 15.0  # one rule for all: of the strongest, of one fibre's peak, degrees
N_ITERATIONS = 2
ONE, SURE_PASS, SECOND = "arcuate, one pass", "arcuate, sure second pass", "arcuate, second pass"
SMOOTH = "arcuate, smooth first pass"
_INTRODUCTION = f"""# Peaks of FODs, {{protocol}}

First: median degrees between the strongest peak and the nearest fibre. Missed: % of second fibres without a peak
within 20 degrees. False: peaks further than 20 degrees from any fibre, per 100 voxels. Right: % of voxels with as many
peaks as fibres; of a fan, one. Afd: density over that of one fibre. One rule for all methods: peaks above {RELATIVE}
of the strongest and {OF_ONE_FIBRE} of the peak of one fibre, {APART:g} degrees apart. Responses are ours for every
method.

Truths: 'noddi' is the phantom's (d 1.7e-3), 'sticks' owes nothing to it (sticks of 2.2e-3 and cylinders of 1.8 and
0.55e-3 scattered alike; grey matter of sticks in all directions and a ball).
"""
Fits = dict[str, Callable[[], np.ndarray | None]]


def main() -> None:
    """Print a table for each protocol and SNR."""
    parser = arguments(__doc__)
    parser.add_argument("--protocol", action="append", choices=list(PROTOCOLS), help="all by default")
    parser.add_argument("--snr", type=float, action="append", help="15, 30 and 60 by default")
    parser.add_argument("--count", type=int, default=100, help="voxels of each kind")
    parser.add_argument("--truth", action="append", choices=TRUTHS, help="noddi and sticks by default")
    parser.add_argument("--seed", type=int, default=1, help="of the voxels, the head and the noise")
    parser.add_argument("--no-peers", action="store_true", help="without MRtrix3 and cs_dmri")
    options = parser.parse_args()
    warnings.simplefilter("ignore", InputWarning)
    snrs = options.snr or ([30.0] if options.small else [15.0, 30.0, 60.0])
    count = 20 if options.small else options.count
    for protocol in options.protocol or PROTOCOLS:
        tables, verdicts = [], []
        for truth in options.truth or ("noddi", "sticks"):
            for snr in snrs:
                made, verdict = one_table(protocol, snr, count, truth, seed=options.seed, peers=not options.no_peers)
                tables.append(made)
                verdicts += [[f"{truth}, SNR {snr:g}", *cells] for cells in verdict]
        worse = [table(f"Where MRtrix3 is better, {protocol}", _VERDICT, verdicts)] if verdicts else []
        area = "fod_protocols_" + re.sub(r"\W+", "_", protocol)
        area += "".join(f"_snr_{snr:g}" for snr in options.snr or ())
        show(area, "\n".join([_INTRODUCTION.format(protocol=protocol), *worse, *tables]), write=options.write)


def one_table(
    protocol: str, snr: float, count: int, truth: str, *, seed: int = 1, peers: bool = True
) -> tuple[str, list[list[str]]]:
    """All methods on the same voxels with the same noise, and for each of ours where it is worse than MRtrix3."""
    gradients = make_gradients(protocol)
    head = make_head(gradients, snr, truth=truth, seed=seed - 1)
    response, _ = estimate_tissues(head.reshape(-1, head.shape[-1]), gradients, lmax=8)
    single = estimate_response_function(Dwi.from_arrays(head, np.eye(4), gradients), None, "tournier")
    kinds = make_kinds(gradients, count, truth=truth, seed=seed)
    rng = np.random.default_rng(int(snr) + 1000 * (seed - 1))
    signals = np.vstack([add_rician_noise(k.signals, S0 / snr, rng) for k in kinds.values()]).astype(np.float32)
    rows, each, seconds, amounts = [], {}, {}, {}
    with peer_folder(signals, gradients, response) as folder:
        fits = _ours(signals, gradients, response, single)
        if has_mrtrix() and peers:
            first, last = response.tissues[0], response.tissues[-1]
            tissues = response.tissues if len(gradients.shells) > 1 else (first, last)
            name = f"MRtrix3 msmt_csd, {len(tissues)} tissues"
            fits[name] = lambda: fit_by_mrtrix(folder, response, tissues, 8)
            fits["MRtrix3 csd"] = lambda: fit_soft_by_mrtrix(folder, single, single.degree)
        if len(gradients.shells) == 1 and peers:
            fits["cs_dmri SS3T"] = lambda: (fit_by_cs_dmri(folder, N_ITERATIONS) or [None])[0]
        for method, fit in fits.items():
            start = time.process_time()
            fods = fit()
            seconds[method] = time.process_time() - start
            if fods is not None:
                cells, each[method] = _cells(fods, kinds, count)
                rows.append([method, *cells])
                amounts[method] = fods[:, 0]
    own, plain, sure = (
        seconds[SECOND] / seconds[SMOOTH],
        seconds[SECOND] / seconds[ONE],
        seconds[SURE_PASS] / seconds[ONE],
    )
    note = (
        f"SNR {snr:g}, {count} voxels of each kind, seed {seed}. Two passes take {own:.2f} of "
        f"the time of their first pass, {plain:.2f} of one pass, a sure second pass {sure:.2f}; density of 50/50 "
        f"crossings {_density(amounts, count)} of its first pass."
    )
    title = f"Peaks of {protocol}, SNR {snr:g}, truth {truth!r}"
    made = table(title, ["method", *_HEADER], [row for row in rows if row[0] != SMOOTH], note)
    return made, _compared(each, kinds)


def _ours(signals: np.ndarray, gradients: GradientTable, response: Response, single: Response) -> Fits:
    make = make_three_tissue_model if len(gradients.shells) == 1 else make_multi_tissue_model
    model = make(gradients, response)
    sure, both = make_two_pass_model(model, settings=sure_settings(model)), make_two_pass_model(model)
    for each in (model, sure, both):
        each.fit(signals[:40, model.volumes])  # compiled and factorised
    return {
        ONE: lambda: model.fit(signals[:, model.volumes]).coefs[0],
        SURE_PASS: lambda: sure.fit(signals[:, sure.volumes]).coefs[0],
        SMOOTH: lambda: both.first.fit(signals[:, both.volumes]).coefs[0],
        SECOND: lambda: both.fit(signals[:, both.volumes]).coefs[0],
        "arcuate, soft": lambda: fit_csd(signals, gradients, single).coefs,
    }


_GROUPS = {
    "first": ("one", "x45", "x60", "t70", "d15", "d20", "wm+gm", "fan25"),
    "missed": ("x40", "x45", "x50", "x60", "x75", "x90", "y50", "y60", "t70", "t90"),
    "false": ("one", "x45", "t70", "d20", "d30", "dx60", "fan25", "fan30", "wm+gm", "wm+csf", "gm", "csf"),
    "right": ("one", "x60", "x90", "t90", "fan25", "fan30", "gm"),
    "afd": ("x60", "d20", "wm+gm", "wm+csf", "gm"),
}
_HEADER = [f"{figure}: {' '.join(kinds)}" for figure, kinds in _GROUPS.items()]


def _cells(fods: np.ndarray, kinds: dict[str, Kind], count: int) -> tuple[list[str], dict[str, np.ndarray]]:
    """Cells of a method's row, and the three figures (3, count) of each voxel of each kind."""
    peaks = find_peaks(fods, n_peaks=5, relative_peak_threshold=RELATIVE, min_separation_angle=APART)
    one = slice(KINDS.index("one") * count, (KINDS.index("one") + 1) * count)
    least = OF_ONE_FIBRE * float(np.median(peaks.values[one, 0]))
    values = np.where(peaks.values >= least, peaks.values, 0.0)
    figures, each = {}, {}
    for i, (name, kind) in enumerate(kinds.items()):
        part = slice(i * count, (i + 1) * count)
        figures[name] = judge(peaks.directions[part], values[part], fods[part], kind)
        each[name] = judge_each(peaks.directions[part], values[part], kind)
    scale = figures["one"].afd
    cells = []
    for figure, names in _GROUPS.items():
        digits = 2 if figure in {"first", "afd"} else 0
        numbers = [getattr(figures[name], figure) / (scale if figure == "afd" else 1.0) for name in names]
        cells.append(" ".join(f"{number:.{digits}f}" for number in numbers))
    return cells, each


_VERDICT = ("voxels", "method", "worse", "mixed", "paired", "paired, mixed")


def _compared(each: dict[str, dict[str, np.ndarray]], kinds: dict[str, Kind]) -> list[list[str]]:
    """Kinds in which ours is worse in all figures that the kind has: a row of :data:`_VERDICT` for each of ours."""
    theirs = {method: found for method, found in each.items() if method.startswith("MRtrix3")}
    said = []
    for method in (ONE, SURE_PASS, SECOND) if theirs else ():
        cells = []
        for paired in (False, True):
            by_one, by_both = [], []
            for kind, voxels in kinds.items():
                counted = slice(None) if voxels.fibres.shape[1] else slice(FALSE, None)
                ours, peers = each[method][kind], [found[kind] for found in theirs.values()]
                if any(is_worse(ours, [peer], paired=paired)[counted].all() for peer in peers):
                    by_one.append(kind)
                if is_worse(ours, peers, paired=paired)[counted].all():
                    by_both.append(kind)
            cells += [", ".join(by_one) or "none", ", ".join(by_both) or "none"]
        said.append([method, *cells])
    return said


def _density(amounts: dict[str, np.ndarray], count: int) -> str:
    part = slice(KINDS.index("x40") * count, (KINDS.index("x90") + 1) * count)
    ratio = amounts[SECOND][part] / amounts[SMOOTH][part]
    return f"{np.median(ratio):.4f} (farthest {ratio[np.argmax(np.abs(ratio - 1))]:.4f})"


if __name__ == "__main__":
    sys.exit(main())
