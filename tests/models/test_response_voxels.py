from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from arcuate.csd.responses import erode, estimate_dhollander, estimate_tournier
from arcuate.dwi import Dwi
from arcuate.gradients import GradientTable
from arcuate.models.response_dhollander import best_threshold, choose_tissue_voxels
from arcuate.models.response_voxels import fibre_response, fibre_zonal, isotropic_response
from arcuate.models.response_zonal import tensor_zonal, zonal_harmonics
from arcuate.phantom import make_phantom, three_shell_gradients
from arcuate.volumes.resource import InMemoryVolumeResource
from arcuate.volumes.voxels import masked_blocks


def _scan(signal: np.ndarray, affine: np.ndarray, gradients: GradientTable) -> Dwi:
    return SimpleNamespace(volume=InMemoryVolumeResource(signal, affine, {}), gradients=gradients)  # type: ignore


@pytest.fixture(scope="module")
def phantom():
    made = make_phantom(three_shell_gradients(), shape=(44, 44, 28), voxel_size=4.4, seed=2)
    return SimpleNamespace(
        signal=made.signal, affine=made.affine, mask=made.brain_mask, gradients=made.gradients, erosion=1, truth=made
    )


@pytest.fixture(scope="module")
def real(data_dir: Path):
    folder = data_dir / "mdt_b1k_b2k"
    image = nib.load(folder / "sub-mdt_dwi.nii.gz")
    table = GradientTable.from_fsl(
        np.loadtxt(folder / "sub-mdt_dwi.bval"), np.loadtxt(folder / "sub-mdt_dwi.bvec"), image.affine
    )
    mask = nib.load(folder / "sub-mdt_mask.nii.gz").get_fdata() > 0
    return SimpleNamespace(
        signal=image.get_fdata(dtype=np.float32), affine=image.affine, mask=mask, gradients=table, erosion=0
    )


@pytest.fixture(params=["phantom", "real"])
def case(request: pytest.FixtureRequest):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def mrtrix_runs(tmp_path_factory: pytest.TempPathFactory):
    """Runs dwi2response once for each case and algorithm; the folder with its files."""
    done: dict[tuple[int, str], Path] = {}

    def run(case: SimpleNamespace, algorithm: str) -> Path:
        key = (id(case), algorithm)
        if key in done:
            return done[key]
        if shutil.which("dwi2response") is None:
            pytest.skip("MRtrix3 is not installed")
        folder = tmp_path_factory.mktemp(algorithm)
        nib.save(nib.Nifti1Image(case.signal, case.affine), folder / "dwi.nii")
        nib.save(nib.Nifti1Image(case.mask.astype(np.uint8), case.affine), folder / "mask.nii")
        np.savetxt(folder / "grad.b", case.gradients.to_mrtrix(), fmt="%.10g")
        out = ["wm.txt"] if algorithm == "tournier" else ["wm.txt", "gm.txt", "csf.txt", "-erode", str(case.erosion)]
        command = ["dwi2response", algorithm, "dwi.nii", *out, "-grad", "grad.b", "-mask", "mask.nii", "-quiet"]
        subprocess.run([*command, "-voxels", "voxels.nii"], cwd=folder, check=True, capture_output=True)
        done[key] = folder
        return folder

    return run


def _read(path: Path, n_rows: int) -> np.ndarray:
    table = np.loadtxt(path, ndmin=2)
    return table if len(table) == n_rows else table.T


def test_exact_signals_give_the_exact_response() -> None:
    rng = np.random.default_rng(0)
    cosines = rng.uniform(-1, 1, size=(20, 60))
    evals = np.array([1.7e-3, 3e-4, 3e-4])
    zonal = fibre_zonal(np.exp(-2000 * (evals[1] + (evals[0] - evals[1]) * cosines**2)), cosines, 10)
    assert np.allclose(zonal[:4], tensor_zonal(evals, 1.0, 2000.0, 10)[:4], atol=2e-3)


def test_a_response_rises_from_the_fibre_outwards_however_noisy_the_signals() -> None:
    rng = np.random.default_rng(0)
    cosines = rng.uniform(-1, 1, size=(3, 40))
    zonal = fibre_zonal(rng.normal(size=cosines.shape) + 1, cosines, 8)
    profile = zonal @ zonal_harmonics(np.cos(np.linspace(0, math.pi / 2, 90)), 8)
    assert profile[0] >= -1e-9
    assert np.all(np.diff(profile) >= -1e-8)


def test_given_the_voxels_of_mrtrix_the_responses_agree(case: SimpleNamespace, mrtrix_runs) -> None:
    folder = mrtrix_runs(case, "dhollander")
    chosen = nib.load(folder / "voxels.nii").get_fdata() > 0
    for column, tissue in ((2, "wm"), (1, "gm"), (0, "csf")):
        rows = case.signal[chosen[..., column]]
        if tissue == "wm":
            ours = fibre_response(rows, case.gradients).coefs[0]
        else:
            ours = isotropic_response(rows, case.gradients, tissue).coefs[0]
        theirs = _read(folder / f"{tissue}.txt", len(ours))
        assert np.allclose(ours[:, 0], theirs[:, 0], rtol=0.02)
        if tissue == "wm":
            assert np.allclose(ours[1:, 1], theirs[1:, 1], rtol=0.02)


def test_dhollander_agrees_with_mrtrix_end_to_end(case: SimpleNamespace, mrtrix_runs) -> None:
    folder = mrtrix_runs(case, "dhollander")
    ours = estimate_dhollander(_scan(case.signal, case.affine, case.gradients), case.mask, erosion=case.erosion)
    for tissue in ours.tissues:
        theirs = _read(folder / f"{tissue}.txt", len(ours.bvals))
        assert np.allclose(ours.get_tissue(tissue)[:, 0], theirs[:, 0], rtol=0.05), tissue
    theirs = _read(folder / "wm.txt", len(ours.bvals))
    assert np.allclose(ours.coefs[0][1:, 1], theirs[1:, 1], rtol=0.05)
    core, _ = erode(case.mask, case.erosion)
    rows = np.concatenate([block for _, block in masked_blocks(case.signal, core)])
    voxels = choose_tissue_voxels(rows, case.gradients)
    chosen = nib.load(folder / "voxels.nii").get_fdata() > 0
    for column, mine in ((2, voxels.wm), (0, voxels.csf)):
        picked = np.zeros(len(rows), bool)
        picked[mine] = True
        theirs = chosen[..., column].ravel(order="F")[core.ravel(order="F")]
        shared = (picked & theirs).sum() / theirs.sum()
        assert shared > 0.8, f"{shared:.0%} of {theirs.sum()} voxels are shared"


@pytest.mark.parametrize("case", ["real", pytest.param("phantom", marks=pytest.mark.long)], indirect=True)
def test_tournier_agrees_with_mrtrix_end_to_end(case: SimpleNamespace, mrtrix_runs) -> None:
    case = SimpleNamespace(**vars(case))
    if case.erosion == 0:  # of the human the inner part of the slices
        case.mask = case.mask.copy()
        case.mask[:36], case.mask[68:], case.mask[:, :36], case.mask[:, 68:] = 0, 0, 0, 0
    folder = mrtrix_runs(case, "tournier")
    ours = estimate_tournier(_scan(case.signal, case.affine, case.gradients), case.mask)
    theirs = np.loadtxt(folder / "wm.txt")
    assert np.allclose(ours.get_zonal()[:2], theirs[:2], rtol=0.05)


def test_dhollander_finds_each_tissue_where_it_is(phantom: SimpleNamespace) -> None:
    rows = np.concatenate([block for _, block in masked_blocks(phantom.signal, phantom.mask)])
    tissue = np.concatenate([block for _, block in masked_blocks(phantom.truth.tissue, phantom.mask)])
    voxels = choose_tissue_voxels(rows, phantom.gradients)
    assert tissue[voxels.wm, 0].mean() > 0.9
    assert tissue[voxels.gm, 1].mean() > 0.65
    assert tissue[voxels.csf, 2].mean() > 0.95


def test_the_best_threshold_parts_two_groups() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 500), rng.normal(10, 1, 300)])
    assert 3 < best_threshold(values) < 7


def test_few_directions_do_not_bias_the_response() -> None:
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(18, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    fibres = rng.normal(size=(200, 3))
    fibres /= np.linalg.norm(fibres, axis=1, keepdims=True)
    table = GradientTable(np.array([0.0, *[2500.0] * 18]), np.vstack([np.zeros(3), directions]))
    evals = np.array([1.9e-3, 2e-4, 2e-4])
    rows = 1000 * np.exp(-table.bvals * (evals[1] + (evals[0] - evals[1]) * (fibres @ table.directions.T) ** 2))
    found = fibre_response(rows, table, fibres).coefs[0][1]
    assert np.allclose(found[:3], tensor_zonal(evals, 1000.0, 2500.0, 4), rtol=0.02)
