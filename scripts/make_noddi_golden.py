"""Makes tests/models/golden/noddi_*.npz: AMICO's NODDI on voxels of the phantom and of a real scan.

usage: python scripts/make_noddi_golden.py AMICO_PYTHON SCAN_FOLDER

AMICO_PYTHON is the interpreter of an environment with dmri-amico 2.1; SCAN_FOLDER holds sub-mdt_dwi.nii.gz, its
gradient files and sub-mdt_mask.nii.gz.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from arcuate.gradients import GradientTable
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource
from arcuate.phantom import make_phantom, three_shell_gradients

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "models" / "golden"
N_PHANTOM, N_SCAN = 400, 1500
STEP = 1 / 20  # of the phantom's signal as stored, white matter near 1000 at b = 0


def ask_amico(python: str, signals: np.ndarray, gradients: GradientTable) -> dict[str, np.ndarray]:
    """Results of benchmarks/amico_runner.py."""
    bvals = np.where(gradients.is_b0, 0.0, gradients.bvals)
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, signals=signals, bvals=bvals, directions=gradients.directions)
        subprocess.run([python, str(ROOT / "benchmarks" / "amico_runner.py"), str(given), str(found)], check=True)
        with np.load(found) as arrays:
            return {name: arrays[name] for name in ("maps", "rmse", "directions")}


def phantom_voxels() -> tuple[GradientTable, dict[str, np.ndarray]]:
    """Signals in steps, and truth, of N_PHANTOM voxels per kind of tissue and noise level."""
    gradients = three_shell_gradients()
    signals, truth, groups = [], [], []
    for snr in (30, 200):
        phantom = make_phantom(gradients, (64, 64, 40), 3.0, snr=snr, seed=0)
        for name, k in (("white", 0), ("grey", 1)):
            is_pure = (phantom.tissue[..., k] > 0.98) & (phantom.n_fibres == 1) & phantom.brain_mask
            index = np.random.default_rng(1).permutation(np.flatnonzero(is_pure))[:N_PHANTOM]
            rows = [a.reshape(-1, *a.shape[3:])[index] for a in (phantom.ndi, phantom.odi, phantom.fwf)]
            axes = phantom.directions.reshape(-1, 3, 3)[index, 0]
            signals.append(np.round(phantom.signal.reshape(-1, len(gradients))[index] / STEP).astype(np.uint16))
            truth.append(np.column_stack([*rows, axes]))
            groups += [f"{name} {snr}"] * len(index)
    return gradients, {
        "signals": np.concatenate(signals),
        "truth": np.concatenate(truth).astype(np.float32),
        "groups": np.array(groups),
    }


def main() -> None:
    python, folder = sys.argv[1], Path(sys.argv[2])
    GOLDEN.mkdir(exist_ok=True)
    gradients, voxels = phantom_voxels()
    found = ask_amico(python, voxels["signals"] * STEP, gradients)
    np.savez_compressed(
        GOLDEN / "noddi_phantom.npz",
        **voxels, bvals=gradients.bvals, gradients=gradients.directions,
        **{name: values.astype(np.float32) for name, values in found.items()},
    )  # fmt: skip

    volume = NiftiVolumeResource(folder / "sub-mdt_dwi.nii.gz")
    table = GradientTable.from_fsl(
        FslBvalResource(folder / "sub-mdt_dwi.bval").get(),
        FslBvecResource(folder / "sub-mdt_dwi.bvec").get(),
        volume.get_affine(),
    )
    inside = np.flatnonzero(NiftiVolumeResource(folder / "sub-mdt_mask.nii.gz").get_array() > 0)
    index = np.sort(np.random.default_rng(2).permutation(inside)[:N_SCAN])
    array = np.asarray(volume.get_array())
    found = ask_amico(python, array.reshape(-1, array.shape[3])[index], table)
    np.savez_compressed(
        GOLDEN / "noddi_mdt.npz", index=index, **{name: values.astype(np.float32) for name, values in found.items()}
    )


if __name__ == "__main__":
    main()
