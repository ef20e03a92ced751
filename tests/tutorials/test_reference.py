"""The two reference tutorials run as they stand, on the phantom, and leave what they promise."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from arcuate.dwi import Dwi
from arcuate.errors import InputError
from arcuate.fetch.weights import tractseg_weights
from arcuate.io import NiftiVolumeResource
from arcuate.nets.brain import is_installed as has_hdbet
from arcuate.phantom import Phantom, make_phantom, three_shell_gradients

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = Path(os.environ.get("ARCUATE_REFERENCE", ROOT.parent / "shared" / "reference"))
PICTURES = {
    "csd_response.png": (200, 200),
    "csd_recursive_response.png": (200, 200),
    "csd_odfs.png": (600, 600),
    "csd_peaks.png": (600, 600),
    "csd_both.png": (600, 600),
}
CACHED = (
    "compute_csd_peaks.params.json", "csd_peak_dirs.nii.gz", "csd_peak_values.nii.gz", "estimate_dti.nii.gz",
    "estimate_dti.params.json", "estimate_noddi.nii.gz", "estimate_noddi.params.json",
    "estimate_noddi_directions.nii.gz",
)  # fmt: skip


def _tutorial(name: str) -> Path:
    path = REFERENCE / name
    if not path.is_file():
        pytest.skip(f"the tutorial is not at {path}; set ARCUATE_REFERENCE to its folder")
    return path


def _run(script: Path, *arguments: str, **variables: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "DISPLAY"} | variables
    done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _save(phantom: Phantom, folder: Path, scale: float = 1.0) -> None:
    affine = phantom.affine @ np.diag([scale, scale, scale, 1])
    Dwi.from_arrays(phantom.signal, affine, phantom.gradients).save(folder, basename="scan")


def test_the_csd_tutorial_draws_its_five_pictures(tmp_path: Path) -> None:
    pytest.importorskip("pyvista", reason="PyVista is not installed (extra viz)")
    tutorial = _tutorial("tutorial_csd.py")
    gradients = three_shell_gradients(n_b0=2, n_directions=45, seed=0)
    one_shell = np.flatnonzero(gradients.is_b0 | (np.abs(gradients.bvals - 2000) < 100))
    _save(make_phantom(gradients.subset(one_shell), shape=(32, 32, 20), voxel_size=6.0, snr=60, seed=0), tmp_path)
    files = [str(tmp_path / f"scan{suffix}") for suffix in (".nii.gz", ".bval", ".bvec")]
    _run(tutorial, str(tmp_path / "out"), *files)
    from PIL import Image

    for name, size in PICTURES.items():
        with Image.open(tmp_path / "out" / name) as picture:
            pixels = np.asarray(picture)
            assert picture.size == size
        assert (pixels.max(axis=-1) > 60).mean() > 0.02, f"{name} is nearly empty"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which TractSeg's weights are found; a narrow network's where they are not on this machine."""
    pytest.importorskip("torch", reason="torch is not installed (extra tractseg)")
    try:
        tractseg_weights("tract_segmentation")
    except InputError:
        folder = tmp_path_factory.mktemp("weights")
        published = runpy.run_path(str(ROOT / "tests" / "nets" / "published_weights.py"))
        published["write_weights"](folder / "pretrained_weights_tract_segmentation_v3.npz", 72, 1, n_filters=4)
        return {"ARCUATE_WEIGHTS": str(folder)}
    return {}


@pytest.mark.parametrize("scale", [0.5, pytest.param(1.0, marks=pytest.mark.long)])
def test_the_pipeline_tutorial_runs_from_files_to_tracts_and_cache(
    tmp_path: Path, weights: dict[str, str], scale: float
) -> None:
    """A small head, of which the embedded method finds the brain; and one of a human's size, which HD-BET sees."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra report)")
    tutorial = _tutorial("tutorial_pipeline.py")
    gradients = three_shell_gradients(n_b0=3, n_directions=20, seed=0)
    phantom = make_phantom(gradients, shape=(28, 32, 20), voxel_size=6.0, snr=40, seed=0)
    _save(phantom, tmp_path, scale)
    out = tmp_path / "out"
    printed = _run(tutorial, str(tmp_path), "scan", str(out), **weights)

    assert "TractSeg output shape: (28, 32, 20, 72)" in printed
    assert "Peak directions shape: (28, 32, 20, 5, 3)" in printed
    assert printed.count(": cached") == 3
    assert "not cached" not in printed
    assert {name for name in CACHED if (out / "cache" / name).is_file()} == set(CACHED)
    sidecar = json.loads((out / "cache" / "estimate_dti.params.json").read_text())
    assert {"dwi", "mask"} <= set(sidecar["hashes"])

    def read(name: str) -> np.ndarray:
        return NiftiVolumeResource(out / name).load().get_array()

    inside = read("brain_mask.nii.gz") > 0
    if scale < 1 or not has_hdbet():  # the network knows real heads, not phantoms
        assert 2 * np.sum(inside & phantom.brain_mask) > 0.9 * (inside.sum() + phantom.brain_mask.sum())
    compared = inside & phantom.brain_mask
    assert np.abs(read("fa.nii.gz") - phantom.fa)[compared].mean() < 0.06
    ndi_odi_fwf = read("noddi.nii.gz")
    truths = (phantom.ndi, phantom.odi, phantom.fwf)
    errors = [np.abs(ndi_odi_fwf[..., i] - truth)[compared].mean() for i, truth in enumerate(truths)]
    assert max(errors) < 0.2, errors
    assert NiftiVolumeResource(out / "denoised_dwi.nii.gz").shape == (28, 32, 20, 63)
