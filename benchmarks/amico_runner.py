"""AMICO's NODDI on rows of voxels: a program of its own, because AMICO may live in another environment.

usage: PYTHON amico_runner.py IN.npz OUT.npz

IN holds ``signals`` (n_vox, n_meas), ``bvals`` (n_meas,), ``directions`` (n_meas, 3). OUT gets ``maps`` (n_vox, 3: NDI,
ODI, FWF), ``rmse``, ``directions`` (n_vox, 3: the tabulated direction AMICO used, of its 500), ``tensor_directions``
(what it is the nearest to), ``norm_direction`` (at which AMICO takes the norms), and the seconds of generating and
loading kernels, of the tensors and of the fit itself. Kernels and AMICO's matrices go to a temporary folder.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def run_amico(signals: np.ndarray, bvals: np.ndarray, directions: np.ndarray, folder: str) -> dict[str, np.ndarray]:
    """NODDI of AMICO with its defaults, two threads."""
    os.environ["DIPY_HOME"] = str(Path(tempfile.gettempdir()) / "arcuate-amico-matrices")
    import amico
    import nibabel as nib

    here = Path(folder)
    image = np.asarray(signals, dtype=np.float32)[:, None, None, :]
    nib.save(nib.Nifti1Image(image, np.eye(4)), here / "dwi.nii")
    nib.save(nib.Nifti1Image(np.ones(image.shape[:3], np.uint8), np.eye(4)), here / "mask.nii")
    np.savetxt(here / "dwi.scheme", np.column_stack([directions, bvals]), header="VERSION: BVECTOR", comments="")
    amico.set_verbose(0)
    amico.setup()
    evaluation = amico.Evaluation(folder, ".")
    evaluation.set_config("doComputeRMSE", True)
    evaluation.set_config("nthreads", 2)
    evaluation.load_data("dwi.nii", "dwi.scheme", mask_filename="mask.nii", b0_thr=0)
    evaluation.set_model("NODDI")
    start = time.perf_counter()
    evaluation.generate_kernels(regenerate=True, ndirs=500)
    evaluation.load_kernels()
    kernel_seconds = time.perf_counter() - start
    evaluation.fit()
    tabulated, own = _tabulated_directions(evaluation.DIRs.reshape(-1, 3).astype(float))
    return {
        "maps": evaluation.RESULTS["MAPs"].reshape(-1, 3),
        "rmse": evaluation.RESULTS["RMSE"].ravel(),
        "directions": tabulated,
        "tensor_directions": own,
        "norm_direction": amico.lut.load_directions(500)[0],
        "kernel_seconds": np.array(kernel_seconds),
        "tensor_seconds": np.array(evaluation.get_config("dirs_precomputing_time")),
        "fit_seconds": np.array(evaluation.get_config("fit_time")),
    }


def _tabulated_directions(own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entry of AMICO's table that its look-up (whole degrees of two angles) gives for each direction."""
    import amico

    own = np.where(own[:, 1:2] < 0, -own, own)
    azimuth = np.arctan2(own[:, 1], own[:, 0]) % (2 * np.pi)
    is_far = azimuth > np.pi
    azimuth = np.where(is_far, np.arctan2(-own[:, 1], -own[:, 0]) % (2 * np.pi), azimuth)
    polar = np.arctan2(np.hypot(own[:, 0], own[:, 1]), np.where(is_far, -own[:, 2], own[:, 2]))
    degrees = [np.floor(angle / np.pi * 180 + 0.5).astype(int) for angle in (polar, azimuth)]
    index = amico.lut.load_precomputed_hash_table(500)[degrees[0] * 181 + degrees[1]]
    return amico.lut.load_directions(500)[index], own


def main() -> None:
    given = np.load(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        found = run_amico(given["signals"], given["bvals"], given["directions"], folder)
    np.savez(sys.argv[2], **found)


if __name__ == "__main__":
    main()
