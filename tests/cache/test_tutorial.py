"""The cache as the pipeline tutorial shows it: the same steps, the same names in the folder."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np

from arcuate.cache import Cache
from arcuate.csd import compute_csd_peaks
from arcuate.dti import Dti
from arcuate.dwi import Dwi
from arcuate.errors import InputWarning
from arcuate.gradients import GradientTable
from arcuate.models.response import tensor_response
from arcuate.noddi import Noddi
from arcuate.volumes.resource import InMemoryVolumeResource


def _scan() -> Dwi:
    rng = np.random.default_rng(2)
    directions = rng.normal(size=(45, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    table = np.concatenate([np.zeros((1, 3)), directions, directions])
    bvals = np.repeat([0.0, 1000.0, 2500.0], [1, 45, 45])
    axes = rng.normal(size=(4, 4, 3, 3))
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    signal = 1000 * np.exp(-bvals * (0.3e-3 + 1.4e-3 * (axes @ table.T) ** 2))
    array = np.asfortranarray(signal.astype(np.float32))
    return Dwi.from_arrays(array, np.diag([-2.0, 2.0, 2.0, 1.0]), GradientTable(bvals, table))


def _cell(denoised: Dwi, mask: InMemoryVolumeResource, folder: Path) -> tuple[dict[str, bool], list[bytes], list[bool]]:
    response = tensor_response(np.array([1.7e-3, 0.3e-3, 0.3e-3]), 1000.0, 2500.0)
    with Cache(folder) as pc, warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        dti = denoised.estimate_dti(mask=mask)
        noddi = denoised.estimate_noddi(mask=mask)
        directions, peaks = compute_csd_peaks(denoised, mask, response)
        status = pc.status([Dti.estimate_dti, Noddi.estimate_noddi, compute_csd_peaks])
    volumes = [dti.volume, *dti.get_eig(), noddi.volume, noddi.directions, noddi.ndi, directions, peaks]
    return status, [v.get_array().tobytes() for v in volumes], [call.was_cached for call in pc.calls]


def test_the_cell_of_the_tutorial_leaves_the_files_it_shows(folder: Path) -> None:
    denoised = _scan()
    mask = InMemoryVolumeResource(np.ones((4, 4, 3), np.uint8), denoised.volume.get_affine())
    status, first, _ = _cell(denoised, mask, folder)
    assert status == {"Dti.estimate_dti": True, "Noddi.estimate_noddi": True, "compute_csd_peaks": True}
    assert sorted(path.name for path in folder.iterdir() if path.name != ".arcuate") == [
        "compute_csd_peaks.params.json",
        "csd_peak_dirs.nii.gz",
        "csd_peak_values.nii.gz",
        "estimate_dti.nii.gz",
        "estimate_dti.params.json",
        "estimate_noddi.nii.gz",
        "estimate_noddi.params.json",
        "estimate_noddi_directions.nii.gz",
    ]
    sidecar = json.loads((folder / "compute_csd_peaks.params.json").read_text())
    assert set(sidecar["hashes"]) == {"dwi", "mask", "response"}
    assert sidecar["scalars"]["n_peaks"] == 5
    again, second, was_cached = _cell(denoised, mask, folder)
    assert again == status
    assert was_cached == [True, True, True]
    assert first == second
