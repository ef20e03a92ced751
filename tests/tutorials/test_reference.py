"""The tutorial of constrained spherical deconvolution runs as it stands and draws its five pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from arcuate.dwi import Dwi
from arcuate.models.phantom import make_phantom, three_shell_gradients

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = Path(os.environ.get("ARCUATE_REFERENCE", ROOT.parent / "shared" / "reference")) / "tutorial_csd.py"
PICTURES = {
    "csd_response.png": (200, 200),
    "csd_recursive_response.png": (200, 200),
    "csd_odfs.png": (600, 600),
    "csd_peaks.png": (600, 600),
    "csd_both.png": (600, 600),
}


def test_the_csd_tutorial_draws_its_five_pictures(tmp_path: Path) -> None:
    pytest.importorskip("pyvista", reason="PyVista is not installed (extra viz)")
    if not TUTORIAL.is_file():
        pytest.skip(f"the tutorial is not at {TUTORIAL}; set ARCUATE_REFERENCE to its folder")
    gradients = three_shell_gradients(n_b0=2, n_directions=45, seed=0)
    one_shell = np.flatnonzero(gradients.is_b0 | (np.abs(gradients.bvals - 2000) < 100))
    phantom = make_phantom(gradients.subset(one_shell), shape=(32, 32, 20), voxel_size=6.0, snr=60, seed=0)
    Dwi.from_arrays(phantom.signal, phantom.affine, phantom.gradients).save(tmp_path, basename="scan")
    files = [str(tmp_path / f"scan{suffix}") for suffix in (".nii.gz", ".bval", ".bvec")]
    environment = {k: v for k, v in os.environ.items() if k != "DISPLAY"}
    done = subprocess.run(
        [sys.executable, str(TUTORIAL), str(tmp_path / "out"), *files],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    from PIL import Image

    for name, size in PICTURES.items():
        with Image.open(tmp_path / "out" / name) as picture:
            pixels = np.asarray(picture)
            assert picture.size == size
        assert (pixels.max(axis=-1) > 60).mean() > 0.02, f"{name} is nearly empty"
