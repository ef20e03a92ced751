"""One shell, three tissues against the soft method, by b-value and number of directions: what `auto` rests on."""

from __future__ import annotations

import sys
import warnings

import numpy as np

from arcuate.csd import estimate_response_function
from arcuate.dwi import Dwi
from arcuate.errors import InputWarning
from arcuate.models.csd import fit_csd
from arcuate.models.peak_rule import HARD, SOFT, PeakRule
from arcuate.models.peaks import find_peaks
from arcuate.models.response_dhollander import estimate_tissues
from arcuate.models.second_pass import SURE_ON_ONE_SHELL, make_two_pass_model
from arcuate.models.three_tissue import make_three_tissue_model
from arcuate.phantom import add_rician_noise, three_shell_gradients
from benchmarks.fod_voxels import S0, Kind, judge, make_head, make_kinds
from benchmarks.side_by_side import arguments, show, table

SHELLS = {
    "noddi": [(b, n) for b in (700, 1000, 1500, 2000, 3000) for n in (18, 32, 64)],
    "tensors": [(b, n) for b in (700, 1000, 1500, 2000, 3000) for n in (32, 64)],
}
TITLES = {
    "noddi": "Three tissues and the soft method on one shell",
    "tensors": "The same with the phantom's second truth",
}
KINDS = ("one", "x60", "x50", "y60", "d20", "wm+gm", "gm", "csf")
N_B0, SNR = 6, 30.0


def main() -> None:
    """Print a table for each truth of the phantom."""
    parser = arguments(__doc__)
    parser.add_argument("--truth", action="append", choices=list(SHELLS), help="both by default")
    parser.add_argument("--count", type=int, default=100, help="voxels of each kind")
    options = parser.parse_args()
    warnings.simplefilter("ignore", InputWarning)
    count = 20 if options.small else options.count
    tables = [one_table(truth, count, small=options.small) for truth in options.truth or SHELLS]
    show("fod_shells", "\n".join(tables), write=options.write)


def one_table(truth: str, count: int, *, small: bool) -> str:
    """All shells of a truth."""
    shells = SHELLS[truth][-1:] if small else SHELLS[truth]
    rows = [row for b, n in shells for row in _rows(b, n, truth, count)]
    header = ["shell", "method", "one fibre, degrees", "missed at 60 / 50 / 30 % at 60", "false: dispersed",
              "half grey", "grey matter", "fluid", "density"]  # fmt: skip
    note = (
        f"SNR {SNR:g}, {count} voxels of each kind; responses of a mixture of the same tissues. Each method has its "
        "own rule of peaks; three tissues as by default, with a second pass where the signals ask for it. Missed: % of "
        "second fibres without a peak within 20°, equal shares at 60 and 50°, and a fibre of 30 % at 60°; above 100 "
        "where the one peak of two fibres is near neither. False: peaks further than 20° from any fibre per 100 "
        "voxels; 'dispersed' has an ODI of 0.2. Density: that of half a voxel of white matter beside grey, over that "
        "of a whole one; the truth is 0.50."
    )
    return table(TITLES[truth], header, rows, note)


def _rows(b: int, n_directions: int, truth: str, count: int) -> list[list[str]]:
    """The soft method and three tissues on the same voxels of one shell."""
    gradients = three_shell_gradients(N_B0, (b,), n_directions, seed=5)
    head = make_head(gradients, SNR, truth=truth)
    response, _ = estimate_tissues(head.reshape(-1, head.shape[-1]), gradients, lmax=8)
    single = estimate_response_function(Dwi.from_arrays(head, np.eye(4), gradients), None, "tournier")
    kinds = make_kinds(gradients, count, truth=truth, seed=1, kinds=KINDS)
    rng = np.random.default_rng(int(SNR))
    signals = np.vstack([add_rician_noise(k.signals, S0 / SNR, rng) for k in kinds.values()]).astype(np.float32)
    model = make_two_pass_model(make_three_tissue_model(gradients, response), settings=SURE_ON_ONE_SHELL)
    found = {
        "soft": (fit_csd(signals, gradients, single).coefs, SOFT),
        "three tissues": (model.fit(signals[:, model.volumes]).coefs[0], HARD),
    }
    return [[f"{b} x {n_directions}", name, *_cells(*each, kinds, count)] for name, each in found.items()]


def _cells(fods: np.ndarray, rule: PeakRule, kinds: dict[str, Kind], count: int) -> list[str]:
    peaks = find_peaks(fods, n_peaks=5, **rule._asdict())
    parts = {kind: slice(i * count, (i + 1) * count) for i, kind in enumerate(kinds)}
    figures = {
        kind: judge(peaks.directions[part], peaks.values[part], fods[part], kinds[kind]) for kind, part in parts.items()
    }
    missed = " / ".join(f"{figures[kind].missed:.0f}" for kind in ("x60", "x50", "y60"))
    false = [f"{figures[kind].false:.0f}" for kind in ("d20", "wm+gm", "gm", "csf")]
    return [f"{figures['one'].first:.1f}", missed, *false, f"{figures['wm+gm'].afd / figures['one'].afd:.2f}"]


if __name__ == "__main__":
    sys.exit(main())
