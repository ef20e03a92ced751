"""NODDI plain and refined over protocols and signal to noise, against the truth: which of them is the default.

usage: python -m benchmarks.bench_noddi_protocols [--small] [--write]
"""

from __future__ import annotations

import numpy as np

from arcuate.models.noddi import fit_noddi
from arcuate.models.status import Status
from arcuate.phantom import simulate_rows, three_shell_gradients
from benchmarks.side_by_side import arguments, show, table

PROTOCOLS = {  # b = 0 volumes, shells (s/mm²), directions of each
    "1000 x 16, 2000 x 16": (2, (1000, 2000), (16, 16)),
    "1000 x 30, 2000 x 60": (13, (1000, 2000), (30, 60)),
    "700 x 30, 2500 x 60": (8, (700, 2500), (30, 60)),
    "1000, 2000, 3000 x 90": (18, (1000, 2000, 3000), (90, 90, 90)),
}
TISSUES = {  # ranges of NDI, ODI, FWF
    "white": ((0.4, 0.8), (0.03, 0.25), (0.0, 0.2)),
    "grey": ((0.2, 0.6), (0.25, 0.6), (0.0, 0.4)),
    "edge of fluid": ((0.3, 0.7), (0.05, 0.5), (0.5, 0.9)),
}
SNR = (10, 20, 30, 50)
ON_GRID = np.linspace(0.1, 0.99, 12)  # NDI of the dictionary's atoms


def compare(n: int) -> str:
    """The table."""
    rows, rng = [], np.random.default_rng(0)
    for protocol, (n_b0, bvals, n_directions) in PROTOCOLS.items():
        gradients = three_shell_gradients(n_b0, bvals, n_directions)
        for tissue, ranges in TISSUES.items():
            axes = rng.normal(size=(n, 3))
            axes /= np.linalg.norm(axes, axis=1, keepdims=True)
            true = np.column_stack([rng.uniform(*bounds, n) for bounds in ranges])
            clean = simulate_rows(gradients, axes, 1.0, *true.T, np.ones(n))
            for snr in SNR:
                noise = rng.normal(0, 1 / snr, (2, *clean.shape))
                signals = np.hypot(clean + noise[0], noise[1])
                fits = [fit_noddi(signals, gradients, refine=refine) for refine in (False, True)]
                errors = [np.column_stack([fit.ndi, fit.odi, fit.fwf]) - true for fit in fits]
                means = [np.abs(error).mean(axis=0) for error in errors]
                on_grid = [np.mean(np.abs(fit.ndi[:, None] - ON_GRID).min(axis=1) < 1e-4) for fit in fits]
                rows.append([
                    protocol, tissue, str(snr),
                    *(f"{a:.3f} / {b:.3f} ({b / a:.2f})" for a, b in zip(*means, strict=True)),
                    f"{errors[0][:, 0].mean():+.3f} / {errors[1][:, 0].mean():+.3f}",
                    f"{100 * on_grid[0]:.0f} / {100 * on_grid[1]:.0f} %",
                    f"{np.count_nonzero(fits[1].status == Status.NOT_CONVERGED.value)}",
                ])  # fmt: skip
    header = ["directions", "tissue", "SNR", "NDI", "ODI", "FWF", "bias of NDI", "NDI on the grid", "not converged"]
    note = (
        f"{n} voxels each, one axis, Rician noise. Mean absolute errors of the plain and of the refined fit, "
        "in brackets their ratio; voxels whose NDI is that of an atom of the dictionary; refined voxels without "
        "convergence."
    )
    return table("NODDI, plain and refined: errors by protocol and SNR", header, rows, note)


def main() -> None:
    options = arguments(__doc__.splitlines()[0] if __doc__ else None).parse_args()
    show("noddi_protocols", compare(100 if options.small else 600), write=options.write)


if __name__ == "__main__":
    main()
