"""Three figures of peaks (first, missed, false) and fibre density on six protocols, ours and the peers'."""

from __future__ import annotations

import sys
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
from arcuate.models.second_pass import make_two_pass_model
from arcuate.models.three_tissue import make_three_tissue_model
from arcuate.phantom import add_rician_noise
from benchmarks.fod_peers import fit_by_cs_dmri, fit_by_mrtrix, fit_soft_by_mrtrix, has_mrtrix, peer_folder
from benchmarks.fod_voxels import KINDS, PROTOCOLS, S0, Kind, judge, make_gradients, make_head, make_kinds
from benchmarks.side_by_side import arguments, show, table

RELATIVE, OF_ONE_FIBRE, APART = 0.2, 0.1, 15.0  # one rule for all: of the strongest, of one fibre's peak, degrees
N_ITERATIONS = 2
Fits = dict[str, Callable[[], np.ndarray | None]]


def main() -> None:
    """Print a table for each protocol and SNR."""
    parser = arguments(__doc__)
    parser.add_argument("--protocol", action="append", choices=list(PROTOCOLS), help="all by default")
    parser.add_argument("--snr", type=float, action="append", help="15, 30 and 60 by default")
    parser.add_argument("--count", type=int, default=100, help="voxels of each kind")
    parser.add_argument("--truth", default="noddi", help="noddi or tensors")
    options = parser.parse_args()
    warnings.simplefilter("ignore", InputWarning)
    snrs = options.snr or ([30.0] if options.small else [15.0, 30.0, 60.0])
    count = 20 if options.small else options.count
    tables = [
        one_table(protocol, snr, count, options.truth) for protocol in options.protocol or PROTOCOLS for snr in snrs
    ]
    show("fod_protocols", "\n".join(tables), write=options.write)


def one_table(protocol: str, snr: float, count: int, truth: str) -> str:
    """All methods on the same voxels with the same noise."""
    gradients = make_gradients(protocol)
    head = make_head(gradients, snr, truth=truth)
    response, _ = estimate_tissues(head.reshape(-1, head.shape[-1]), gradients, lmax=8)
    single = estimate_response_function(Dwi.from_arrays(head, np.eye(4), gradients), None, "tournier")
    kinds = make_kinds(gradients, count, truth=truth, seed=1)
    rng = np.random.default_rng(int(snr))
    signals = np.vstack([add_rician_noise(k.signals, S0 / snr, rng) for k in kinds.values()]).astype(np.float32)
    rows = []
    with peer_folder(signals, gradients, response) as folder:
        fits = _ours(signals, gradients, response, single)
        if has_mrtrix():
            first, last = response.tissues[0], response.tissues[-1]
            tissues = response.tissues if len(gradients.shells) > 1 else (first, last)
            name = f"MRtrix3 msmt_csd, {len(tissues)} tissues"
            fits[name] = lambda: fit_by_mrtrix(folder, response, tissues, 8)
            fits["MRtrix3 csd"] = lambda: fit_soft_by_mrtrix(folder, single, single.degree)
        if len(gradients.shells) == 1:
            fits["cs_dmri SS3T"] = lambda: (fit_by_cs_dmri(folder, N_ITERATIONS) or [None])[0]
        for method, fit in fits.items():
            fods = fit()
            if fods is not None:
                rows.append([method, *_cells(fods, kinds, count)])
    note = (
        f"SNR {snr:g}, {count} voxels of each kind, truth {truth!r}; first: median degrees, missed: % of second "
        "fibres, false: per 100 voxels, density: over that of one fibre. One rule for all methods: above "
        f"{RELATIVE} of the strongest and {OF_ONE_FIBRE} of the peak of one fibre, {APART:g} degrees apart. Responses "
        "are ours for every method."
    )
    return table(f"Peaks of {protocol}, SNR {snr:g}", ["method", *_HEADER], rows, note)


def _ours(signals: np.ndarray, gradients: GradientTable, response: Response, single: Response) -> Fits:
    make = make_three_tissue_model if len(gradients.shells) == 1 else make_multi_tissue_model
    model = make(gradients, response)
    both = make_two_pass_model(model)
    return {
        "arcuate": lambda: model.fit(signals[:, model.volumes]).coefs[0],
        "arcuate, second pass": lambda: both.fit(signals[:, both.volumes]).coefs[0],
        "arcuate, soft": lambda: fit_csd(signals, gradients, single).coefs,
    }


_GROUPS = {
    "first": ("one", "x45", "x60", "d15", "d20", "wm+gm", "fan25"),
    "missed": ("x40", "x45", "x50", "x60", "x75", "x90", "y50", "y60", "t70", "t90"),
    "false": ("one", "d20", "d30", "dx60", "fan25", "fan30", "wm+gm", "wm+csf", "gm", "csf"),
    "right": ("one", "x60", "x90", "t90", "gm"),
    "afd": ("x60", "d20", "wm+gm", "wm+csf", "gm"),
}
_HEADER = [f"{figure}: {' '.join(kinds)}" for figure, kinds in _GROUPS.items()]


def _cells(fods: np.ndarray, kinds: dict[str, Kind], count: int) -> list[str]:
    peaks = find_peaks(fods, n_peaks=5, relative_peak_threshold=RELATIVE, min_separation_angle=APART)
    one = slice(KINDS.index("one") * count, (KINDS.index("one") + 1) * count)
    least = OF_ONE_FIBRE * float(np.median(peaks.values[one, 0]))
    values = np.where(peaks.values >= least, peaks.values, 0.0)
    figures = {}
    for i, (name, kind) in enumerate(kinds.items()):
        part = slice(i * count, (i + 1) * count)
        figures[name] = judge(peaks.directions[part], values[part], fods[part], kind)
    scale = figures["one"].afd
    cells = []
    for figure, names in _GROUPS.items():
        digits = 2 if figure in {"first", "afd"} else 0
        numbers = [getattr(figures[name], figure) / (scale if figure == "afd" else 1.0) for name in names]
        cells.append(" ".join(f"{number:.{digits}f}" for number in numbers))
    return cells


if __name__ == "__main__":
    sys.exit(main())
