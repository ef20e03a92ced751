"""What a run writes of FODs: normalised tissues, their shares, fibre densities, peaks; and that MRtrix3 reads it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from arcuate.dwi import Dwi
from arcuate.models.response import Response
from arcuate.phantom import make_phantom, three_shell_gradients
from arcuate.study.bids import Derivatives
from arcuate.study.pipeline import Settings, SubjectResult, run_subject
from arcuate.volumes.resource import InMemoryVolumeResource


@pytest.fixture(scope="module")
def head():
    return make_phantom(
        three_shell_gradients(bvals=(1000, 3000), n_directions=(32, 46)),
        shape=(48, 48, 30),
        voxel_size=4.0,
        shading=0.5,
    )


def _run(head, folder: Path, response: Response | None = None, **settings: Any) -> tuple[SubjectResult, Path]:
    scan = Dwi.from_arrays(head.signal, head.affine, head.gradients).save(folder / "in", basename="sub-1_dwi")
    path = folder / "in" / "sub-1_dwi.nii.gz"
    mask = InMemoryVolumeResource(head.brain_mask.astype(np.uint8), head.affine)
    run = run_subject(
        scan,
        Derivatives.of_scan(folder / "out", path),
        inputs={"dwi": path},
        mask=mask,
        response=response,
        settings=Settings(steps=("response", "fod", "peaks"), denoise_method="none", **settings),
    )
    return run, folder / "out" / "sub-1" / "dwi"


@pytest.fixture(scope="module")
def multi(head, tmp_path_factory: pytest.TempPathFactory):
    return _run(head, tmp_path_factory.mktemp("multi"))


def _load(folder: Path, name: str) -> np.ndarray:
    return nib.load(folder / f"sub-1_model-msmtcsd_param-{name}_dwimap.nii.gz").get_fdata()


def test_a_run_without_a_second_pass_has_the_published_method(head, multi, tmp_path: Path) -> None:
    given = multi[0].response
    small = replace(head, brain_mask=head.brain_mask & (np.arange(30) == 15))
    sidecars = []
    for asked in (None, False):
        _, folder = _run(small, tmp_path / str(asked), response=given, second_pass=asked)
        sidecars.append(json.loads((folder / "sub-1_model-msmtcsd_param-fod_label-wm_dwimap.json").read_text()))
    assert sidecars[0]["SecondPass"]["evidence"] > 0
    assert "SecondPass" not in sidecars[1]


def test_tissues_are_normalised_and_their_shares_are_those_of_the_truth(head, multi) -> None:
    _, folder = multi
    inside = head.brain_mask
    amounts = np.stack([_load(folder, f"fod_label-{t}").reshape(*inside.shape, -1)[inside][:, 0] for t in
                        ("wm", "gm", "csf")])  # fmt: skip
    assert np.median(amounts.sum(axis=0)) == pytest.approx(0.282, rel=0.05)
    assert np.std(np.log(amounts.sum(axis=0))) < 0.15  # the coil's shading, a factor of two, is gone
    shares = np.stack([_load(folder, f"fraction_label-{t}")[inside] for t in ("wm", "gm", "csf")])
    assert np.allclose(shares.sum(axis=0)[amounts.sum(axis=0) > 0], 1, atol=1e-5)
    for i in (0, 2):  # the dispersed fibres of the phantom's cortex count as white matter by half
        assert shares[i][head.tissue[inside][:, i] > 0.95].mean() > 0.7
    facts = json.loads((folder / "sub-1_model-msmtcsd_param-fod_label-wm_dwimap.json").read_text())
    assert facts["IntensityNormalisation"]["Order"] == 3
    assert sum(facts["VoxelsByStatus"].values()) == inside.sum()
    assert "not_converged" not in facts["VoxelsByStatus"]  # the fast solver alone leaves 39


def test_fibre_density_is_the_integral_of_the_fod_and_its_amplitude_along_each_peak(multi) -> None:
    _, folder = multi
    fod, total = _load(folder, "fod_label-wm"), _load(folder, "afd")
    assert np.allclose(total, np.maximum(fod[..., 0], 0) * np.sqrt(4 * np.pi), rtol=1e-5, atol=1e-6)
    peaks = _load(folder, "peaks")
    along = np.linalg.norm(peaks.reshape(*peaks.shape[:3], -1, 3), axis=-1)
    assert np.allclose(along, _load(folder, "peakafd"), rtol=1e-5, atol=1e-6)
    for name in ("afd", "peakafd", "fraction_label-gm"):
        facts = json.loads((folder / f"sub-1_model-msmtcsd_param-{name}_dwimap.json").read_text())
        assert facts["Description"]
        assert facts["Units"]


def test_mrtrix_finds_our_peaks_in_the_fods_that_a_run_wrote(head, multi, mrtrix: Path, tmp_path: Path) -> None:
    _, folder = multi
    fod = folder / "sub-1_model-msmtcsd_param-fod_label-wm_dwimap.nii.gz"
    subprocess.run([str(mrtrix / "sh2peaks"), str(fod), "peaks.nii", "-num", "1", "-quiet"], cwd=tmp_path, check=True)
    theirs = nib.load(tmp_path / "peaks.nii").get_fdata()[head.is_single_fibre]
    ours = _load(folder, "peaks")[..., :3][head.is_single_fibre]
    cosine = np.abs(np.sum(ours * theirs, axis=1)) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert np.mean(np.degrees(np.arccos(np.clip(cosine, 0, 1))) < 0.1) > 0.98


def test_one_shell_has_a_density_and_no_shares(head, tmp_path: Path) -> None:
    run, folder = _run(head, tmp_path, response_algorithm="tournier")
    assert isinstance(run.response, Response)
    assert run.response.is_single_shell
    names = {p.name for p in folder.glob("*.nii.gz")}
    assert {f"sub-1_model-csd_param-{p}_dwimap.nii.gz" for p in ("fod", "afd", "peaks", "peakafd")} <= names
    assert not [n for n in names if "fraction" in n]
