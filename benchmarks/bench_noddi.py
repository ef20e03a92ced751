"""NODDI side by side with AMICO on the phantom: speed, memory, and errors against the truth.

usage: python -m benchmarks.bench_noddi [--small] [--write] [--repeats N]

AMICO runs in the interpreter that ARCUATE_AMICO_PYTHON names (this one by default), its fit on two threads. Its
seconds are those of the fit alone: reading, kernels (generated and loaded once per scan) and tensors are left out.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numba
import numpy as np
from scipy.optimize import minimize
from scipy.special import ive

from arcuate.gradients import GradientTable
from arcuate.models.noddi import NoddiFit, fit_noddi
from arcuate.phantom import Phantom, make_phantom, simulate_rows, three_shell_gradients
from benchmarks.side_by_side import arguments, show, table

RUNNER = Path(__file__).with_name("amico_runner.py")
N_THREADS = 2
TISSUES = {"white": 0, "grey": 1}


def ask_amico(signals: np.ndarray, gradients: GradientTable) -> dict[str, np.ndarray]:
    """What benchmarks/amico_runner.py found."""
    python = os.environ.get("ARCUATE_AMICO_PYTHON", sys.executable)
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, signals=signals, bvals=gradients.bvals, directions=gradients.directions)
        subprocess.run([python, str(RUNNER), str(given), str(found)], check=True, capture_output=True)
        with np.load(found) as arrays:
            return {name: arrays[name] for name in arrays.files}


def pick(phantom: Phantom, tissue: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signals (n, n_meas), NDI ODI FWF (n, 3) and axes (n, 3) of voxels with one tissue and one population."""
    inside = (phantom.tissue[..., tissue] > 0.98) & (phantom.n_fibres == 1) & phantom.brain_mask
    index = np.random.default_rng(1).permutation(np.flatnonzero(inside))[:n]
    maps = [a.reshape(-1)[index] for a in (phantom.ndi, phantom.odi, phantom.fwf)]
    signals = phantom.signal.reshape(-1, phantom.signal.shape[3])[index]
    return signals, np.column_stack(maps), phantom.directions.reshape(-1, 3, 3)[index, 0]


def fit_from_truth(
    signal: np.ndarray, gradients: GradientTable, truth: np.ndarray, axis: np.ndarray, sigma: float
) -> np.ndarray:
    """NDI, ODI, FWF at the highest Rician likelihood, σ known, by scipy from the truth; the phantom's own signals."""
    first = np.linalg.svd(axis[None])[2]
    scale = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    amplitude = float(np.mean(signal[gradients.is_b0]))
    start = np.array([*truth, 1.0, 0.0, 0.0]) / scale

    def losses(points: np.ndarray) -> np.ndarray:
        p = points * scale
        axes = axis + p[:, 4:5] * first[1] + p[:, 5:6] * first[2]
        s = simulate_rows(gradients, axes, 1.0, p[:, 0], p[:, 1], p[:, 2], p[:, 3] * amplitude)
        z = signal * s / sigma**2
        return np.asarray(np.sum((signal - s) ** 2 / (2 * sigma**2) - np.log(ive(0, z)), axis=1))

    def loss_and_slope(point: np.ndarray) -> tuple[float, np.ndarray]:
        steps = np.concatenate([np.zeros((1, 6)), 1e-4 * np.eye(6), -1e-4 * np.eye(6)])
        around = losses(np.clip(point + steps, bounds[:, 0], bounds[:, 1]))
        width = np.clip(point + 1e-4, *bounds.T) - np.clip(point - 1e-4, *bounds.T)
        return float(around[0]), (around[1:7] - around[7:]) / width

    bounds = np.array([[0.01, 0.99], [0.02, 0.98], [0, 0.99], [0.5, 2], [-0.7, 0.7], [-0.7, 0.7]]) / scale[:, None]
    found = minimize(loss_and_slope, np.clip(start, *bounds.T), jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(found.x[:3] * scale[:3])


def time_fits(signals: np.ndarray, gradients: GradientTable, repeats: int) -> str:
    """Table of voxels per second, runs in turns."""
    fit_noddi(signals[:100], gradients, refine=True)
    ways = {"plain": False, "refined": True}
    seconds: dict[str, list[float]] = {name: [] for name in ("AMICO", *ways)}
    kernels = []
    for _ in range(repeats):
        for name, refine in ways.items():
            start = time.perf_counter()
            fit_noddi(signals, gradients, refine=refine)
            seconds[name].append(time.perf_counter() - start)
        found = ask_amico(signals, gradients)
        seconds["AMICO"].append(float(found["fit_seconds"]))
        kernels.append(float(found["kernel_seconds"]))
    rows = []
    for name in seconds:
        ratios = [theirs / own for theirs, own in zip(seconds["AMICO"], seconds[name], strict=True)]
        speed = len(signals) / statistics.median(seconds[name])
        rows.append([name, f"{speed / 1e3:.1f} k", f"{statistics.median(ratios):.1f}"])
    note = (
        f"{len(signals)} voxels, 193 volumes, {N_THREADS} threads, medians of {repeats} runs in turns. Ours include "
        f"the directions; AMICO's do not, nor {statistics.median(kernels):.1f} s of kernels. Ours write no file."
    )
    return table("NODDI: speed", ["fit", "voxels/s", "times AMICO"], rows, note)


def compare_errors(truth: str, n: int, n_likelihood: int) -> str:
    """Table of mean absolute errors, ours over AMICO's, and of biases."""
    gradients = three_shell_gradients()
    rows = []
    for snr in (30, 200):
        phantom = make_phantom(gradients, (64, 64, 40), 3.0, snr=snr, seed=0, truth=truth)
        for tissue, k in TISSUES.items():
            signals, true, axes = pick(phantom, k, n)
            amico = ask_amico(signals, gradients)["maps"]
            found = {"AMICO": amico, "plain": _maps(fit_noddi(signals, gradients))}
            found["refined"] = _maps(fit_noddi(signals, gradients, refine=True))
            base = np.abs(amico - true).mean(axis=0)
            for name, maps in found.items():
                rows.append([f"{tissue}, SNR {snr}", name, *_cells(maps - true, base)])
            if n_likelihood:
                some = [
                    fit_from_truth(signals[v].astype(float), gradients, true[v], axes[v], phantom.sigma)
                    for v in range(n_likelihood)
                ]
                best = np.abs(np.array(some) - true[:n_likelihood]).mean(axis=0)
                ours = np.abs(found["refined"][:n_likelihood] - true[:n_likelihood]).mean(axis=0)
                rows.append(
                    [f"{tissue}, SNR {snr}", "refined / likelihood from truth", *(f"{r:.3f}" for r in ours / best), ""]
                )
    header = ["voxels", "fit", "NDI", "ODI", "FWF", "bias NDI / ODI / FWF"]
    note = (
        f"Up to {n} voxels of one tissue and one fibre population each. Numbers are the mean absolute error, in "
        "brackets its ratio to AMICO's."
    )
    if n_likelihood:
        note += (
            f" The last row of each kind: our error over that of an independent fit (scipy, σ known, started at the "
            f"truth, the phantom's own signals), {n_likelihood} voxels."
        )
    what = (
        "NODDI's own form" if truth == "noddi" else "off NODDI's form (gamma-distributed diffusivities, slow spheres)"
    )
    return table(f"NODDI: errors where the truth is {what}", header, rows, note)


def compare_ranges(n: int) -> str:
    """Table of errors over wide ranges of all parameters, where the phantom has what tissue has."""
    gradients, rng = three_shell_gradients(), np.random.default_rng(0)
    rows = []
    for snr in (30, 200):
        for name, odi in {"little dispersion, ODI 0.05-0.25": (0.05, 0.25), "much, ODI 0.25-0.5": (0.25, 0.5)}.items():
            axes = rng.normal(size=(n, 3))
            axes /= np.linalg.norm(axes, axis=1, keepdims=True)
            true = np.column_stack([rng.uniform(*bounds, n) for bounds in ((0.3, 0.8), odi, (0, 0.4))])
            clean = simulate_rows(gradients, axes, 1.0, *true.T, np.ones(n))
            noise = rng.normal(0, 1 / snr, (2, *clean.shape))
            signals = np.hypot(clean + noise[0], noise[1]).astype(np.float32)
            amico = ask_amico(signals, gradients)["maps"]
            found = {"AMICO": amico, "plain": _maps(fit_noddi(signals, gradients))}
            found["refined"] = _maps(fit_noddi(signals, gradients, refine=True))
            base = np.abs(amico - true).mean(axis=0)
            rows += [[f"{name}, SNR {snr}", fit, *_cells(maps - true, base)] for fit, maps in found.items()]
    header = ["voxels", "fit", "NDI", "ODI", "FWF", "bias NDI / ODI / FWF"]
    note = f"{n} voxels each, NDI 0.3-0.8, FWF 0-0.4, one axis; errors as above."
    return table("NODDI: errors over wide ranges", header, rows, note)


def _maps(fit: NoddiFit) -> np.ndarray:
    return np.column_stack([fit.ndi, fit.odi, fit.fwf])


def _cells(error: np.ndarray, base: np.ndarray) -> list[str]:
    mean = np.abs(error).mean(axis=0)
    bias = " / ".join(f"{b:+.4f}" for b in error.mean(axis=0))
    return [*(f"{m:.4f} ({m / b:.2f})" for m, b in zip(mean, base, strict=True)), bias]


def main() -> None:
    options = arguments(__doc__.splitlines()[0] if __doc__ else None).parse_args()
    numba.set_num_threads(min(N_THREADS, numba.config.NUMBA_NUM_THREADS))
    gradients = three_shell_gradients()
    n = 3000 if options.small else 20_000
    phantom = make_phantom(gradients, (64, 64, 40), 3.0, snr=30, seed=0)
    index = np.random.default_rng(0).permutation(np.flatnonzero(phantom.brain_mask))[:n]
    signals = phantom.signal.reshape(-1, len(gradients))[index]
    parts = [
        time_fits(signals, gradients, options.repeats),
        compare_errors("noddi", 1000 if options.small else 1500, 20 if options.small else 120),
        compare_ranges(1000 if options.small else 2000),
        compare_errors("tensors", 1000 if options.small else 1500, 0),
    ]
    show("noddi", "\n".join(parts), write=options.write)


if __name__ == "__main__":
    main()
