"""The NODDI step: scans to maps, files, the command line, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from arcuate.cli import main
from arcuate.dwi import Dwi
from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.io import NiftiVolumeResource
from arcuate.models.noddi import fit_noddi
from arcuate.models.status import Status
from arcuate.noddi import Noddi
from arcuate.phantom import add_rician_noise, simulate_rows, spread_directions
from arcuate.study.bids import Derivatives
from arcuate.study.pipeline import Settings, run_subject
from arcuate.volumes.resource import InMemoryVolumeResource

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 1.9, 0.4, -20], [0, -0.4, 1.9, -30], [0, 0, 0, 1]])
SHAPE = (5, 4, 3)


def _table(*shells: float, n_b0: int = 2) -> GradientTable:
    directions = np.concatenate([np.zeros((n_b0, 3)), *(spread_directions(24, seed=k) for k in range(len(shells)))])
    return GradientTable(np.r_[np.zeros(n_b0), np.repeat(shells, 24)], directions)


def _scan(gradients: GradientTable | None = None, fwf: float | None = None) -> tuple[Dwi, np.ndarray, np.ndarray]:
    """A scan at SNR 100, its NDI ODI FWF (x, y, z, 3) and directions (x, y, z, 3)."""
    gradients = gradients or _table(1000.0, 2500.0)
    rng, n = np.random.default_rng(0), int(np.prod(SHAPE))
    axes = rng.normal(size=(n, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    water = rng.uniform(0, 0.3, n) if fwf is None else np.full(n, fwf)
    truth = np.column_stack([rng.uniform(0.4, 0.7, n), rng.uniform(0.05, 0.4, n), water])
    signals = simulate_rows(gradients, axes, 1.0, *truth.T, 600.0)
    noisy = add_rician_noise(signals, 6.0, rng).astype(np.float32).reshape(*SHAPE, -1)
    return Dwi.from_arrays(noisy, AFFINE, gradients), truth.reshape(*SHAPE, 3), axes.reshape(*SHAPE, 3)


def _mask() -> InMemoryVolumeResource:
    inside = np.zeros(SHAPE, np.uint8)
    inside[1:4, 1:, :2] = 1
    return InMemoryVolumeResource(inside, AFFINE)


def test_the_fit_goes_on_to_maximum_likelihood_unless_amicos_rules_are_asked_for() -> None:
    scan = _scan()[0]
    assert scan.estimate_noddi().parameters["Refined"] is True
    assert scan.estimate_noddi(as_amico=True).parameters["Refined"] is False
    ahead = scan.volume.with_array(np.broadcast_to(np.float32([0, 1, 0]), (*scan.volume.shape[:3], 3)))
    assert scan.estimate_noddi(directions=ahead).parameters["Refined"] is False, "given directions stay"
    assert scan.estimate_noddi(as_amico=True, refine=True).parameters["Refined"] is True


def test_the_refined_fit_converges_in_a_human_scan(data_dir: Path) -> None:
    """270 of 8,865 voxels did not: narrow valleys at ODI 0, in voxels of fluid and of the rim."""
    scan = Dwi.from_files(data_dir / "mdt_b1k_b2k" / "sub-mdt_dwi.nii.gz")
    mask = NiftiVolumeResource(data_dir / "mdt_b1k_b2k" / "sub-mdt_mask.nii.gz")
    noddi = scan.estimate_noddi(mask=mask)
    assert noddi.parameters["VoxelsByStatus"]["not_converged"] <= 10
    ndi = np.asarray(noddi.ndi.get_array())[np.asarray(mask.get_array()) > 0]
    on_grid = np.abs(ndi[:, None] - np.linspace(0.1, 0.99, 12)).min(axis=1) < 1e-4
    assert np.count_nonzero(on_grid) < 60, "the values of the dictionary leave no steps (2,190 voxels did sit on them)"


@pytest.mark.parametrize("refine", [False, True])
def test_maps_have_the_shapes_frames_and_values_of_what_made_the_scan(refine):
    scan, truth, axes = _scan()
    noddi = scan.estimate_noddi(refine=refine)
    for k, volume in enumerate((noddi.ndi, noddi.odi, noddi.fwf)):
        assert volume.shape == SHAPE
        assert volume.get_array().dtype == np.float32
        assert np.abs(volume.get_array() - truth[..., k]).mean() < 0.03
        np.testing.assert_array_equal(volume.get_affine(), AFFINE)
    assert noddi.volume.shape == noddi.directions.shape == (*SHAPE, 3)
    assert np.median(np.abs(np.sum(noddi.directions.get_array() * axes, axis=-1))) > 0.999
    assert noddi.parameters["VoxelsByStatus"] == {"fitted": 60}
    assert noddi.parameters["Refined"] is refine


def test_mask_limits_the_fit_and_leaves_zeros_outside():
    scan, _, _ = _scan()
    everywhere, limited = scan.estimate_noddi(), scan.estimate_noddi(_mask())
    inside = _mask().get_array() > 0
    np.testing.assert_array_equal(limited.volume.get_array()[inside], everywhere.volume.get_array()[inside])
    for volume in (limited.volume, limited.directions, limited.rmse, limited.status, limited.s0):
        assert not np.any(volume.get_array()[~inside])
    assert np.all(limited.status.get_array()[inside] == Status.FITTED)


def test_step_gives_what_the_model_gives_on_the_same_rows():
    scan, _, _ = _scan()
    fit = fit_noddi(scan.volume.get_array().reshape(-1, len(scan.gradients)), scan.gradients, refine=True)
    noddi = scan.estimate_noddi()
    np.testing.assert_array_equal(noddi.ndi.get_array().ravel(), fit.ndi.astype(np.float32))
    np.testing.assert_array_equal(noddi.rmse.get_array().ravel(), fit.rmse.astype(np.float32))


def test_inputs_are_unchanged_and_modulated_maps_are_products():
    scan, _, _ = _scan()
    before = scan.volume.get_array().copy()
    noddi = scan.estimate_noddi()
    np.testing.assert_array_equal(scan.volume.get_array(), before)
    ndi, odi = noddi.get_modulated_ndi_odi()
    tissue = 1 - noddi.fwf.get_array()
    np.testing.assert_array_equal(ndi.get_array(), noddi.ndi.get_array() * tissue)
    np.testing.assert_array_equal(odi.get_array(), noddi.odi.get_array() * tissue)


def test_saved_maps_come_back_from_two_files(tmp_path):
    noddi = _scan()[0].estimate_noddi()
    saved = noddi.save(tmp_path / "noddi.nii.gz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["noddi.nii.gz", "noddi_directions.nii.gz"]
    for back in (saved, Noddi.open(tmp_path / "noddi.nii.gz")):
        np.testing.assert_array_equal(back.volume.get_array(), noddi.volume.get_array())
        np.testing.assert_array_equal(back.directions.get_array(), noddi.directions.get_array())
        np.testing.assert_array_equal(back.odi.get_array(), noddi.odi.get_array())
    assert saved is not noddi
    assert saved.parameters == noddi.parameters


def test_given_directions_are_used(tmp_path):
    scan, _, axes = _scan()
    given = InMemoryVolumeResource(axes.astype(np.float32), AFFINE)
    noddi = scan.estimate_noddi(directions=given)
    np.testing.assert_allclose(noddi.directions.get_array(), axes, atol=1e-6)
    assert noddi.parameters["DirectionsGiven"]
    with pytest.raises(InputError, match=r"expected \(5, 4, 3, 3\)"):
        scan.estimate_noddi(directions=_mask())


def test_ex_vivo_adds_a_map():
    scan, _, _ = _scan()
    assert scan.estimate_noddi().dot is None
    noddi = scan.estimate_noddi(ex_vivo=True)
    assert noddi.dot.get_array().mean() < 0.05
    assert "dot" in noddi.get_maps()


# --- refusals


def test_one_shell_no_b0_and_an_empty_mask_are_refused():
    with pytest.raises(InputError, match="two shells"):
        _scan(_table(1000.0))[0].estimate_noddi()
    with pytest.raises(InputError, match="b0_threshold"):
        _scan(_table(1000.0, 2000.0, n_b0=0))[0].estimate_noddi()
    with pytest.raises(InputError, match="mask is empty"):
        _scan()[0].estimate_noddi(InMemoryVolumeResource(np.zeros(SHAPE, np.uint8), AFFINE))


def test_water_everywhere_is_an_error_that_says_what_to_check():
    gradients = _table(1000.0, 2500.0)
    signals = 500 * np.exp(-gradients.bvals * 4e-3) * np.ones((*SHAPE, 1))
    wrong = Dwi.from_arrays(signals.astype(np.float32), AFFINE, gradients)
    with pytest.raises(InputError, match=r"60 voxels.*FWF = 1.*unit of the b-values"):
        wrong.estimate_noddi()


# --- a stage of a run


class Willing(Settings):
    """Settings that name a step without insisting on it."""

    def insists_on(self, step: str) -> bool:
        return False


def test_a_run_writes_the_maps_under_their_bids_names(tmp_path):
    names = Derivatives(tmp_path, "sub-01")
    run = run_subject(_scan()[0], names, inputs={}, mask=_mask(), settings=Settings(steps=("noddi",)))
    for param in ("icvf", "odi", "isovf", "direction"):
        path = tmp_path / "sub-01" / "dwi" / f"sub-01_model-noddi_param-{param}_dwimap.nii.gz"
        assert path.exists()
        assert (
            json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())["Model"] == "NODDI (Watson)"
        )
    assert run.log["noddi"].facts["VoxelsByStatus"] == {"fitted": 18}
    assert run.log["noddi"].words == "fitted in 18 voxels"


def test_a_run_for_a_report_is_examined_while_its_scan_is_in_memory_and_keeps_no_map(tmp_path):
    scan, settings = _scan()[0], Settings(steps=("noddi",))
    whole = run_subject(scan, Derivatives(tmp_path / "a", "sub-01"), inputs={}, mask=_mask(), settings=settings)
    lean = run_subject(
        scan, Derivatives(tmp_path / "b", "sub-01"), inputs={}, mask=_mask(), settings=settings, keeps_maps=False,
        examine=lambda seen, inside: (seen.volume.get_array().copy(), inside.get_array().sum()),
    )  # fmt: skip
    assert whole.noddi is not None
    assert whole.examined is None
    assert lean.noddi is None
    np.testing.assert_array_equal(lean.examined[0], scan.volume.get_array())
    assert lean.examined[1] == _mask().get_array().sum()
    name = "sub-01/dwi/sub-01_model-noddi_param-icvf_dwimap.nii.gz"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_run_on_one_shell_leaves_it_out_and_says_why(tmp_path):
    scan, names = _scan(_table(1000.0))[0], Derivatives(tmp_path, "sub-01")
    run = run_subject(scan, names, inputs={}, mask=_mask(), settings=Willing(steps=("noddi",)))
    assert "two shells" in run.log["noddi"].skipped
    assert not list(tmp_path.rglob("*noddi*"))
    with pytest.raises(InputError, match="two shells"):
        run_subject(scan, names, inputs={}, mask=_mask(), settings=Settings(steps=("noddi",)))


# --- the command line


def _run(*argv: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(argv))
    return int(stop.value.code)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    _scan()[0].save(tmp_path, "scan")
    return tmp_path


def test_command_writes_maps_and_sidecars(files, capsys):
    assert _run("noddi", str(files / "scan.nii.gz"), "--out", str(files / "maps"), "--refine") == 0
    names = {p.name for p in (files / "maps").iterdir()}
    assert names == {
        f"{m}.{e}" for m in ("icvf", "odi", "isovf", "direction", "rmse", "s0") for e in ("nii.gz", "json")
    }
    expected = _scan()[0].estimate_noddi(refine=True)
    np.testing.assert_allclose(
        nib.load(files / "maps" / "icvf.nii.gz").get_fdata(), expected.ndi.get_array(), atol=1e-6
    )
    facts = json.loads((files / "maps" / "odi.json").read_text())
    assert facts["ParallelDiffusivity"] == 1.7e-3
    assert facts["Refined"] is True
    assert facts["VoxelsByStatus"] == {"fitted": 60}
    assert set(facts["Inputs"]) == {"dwi", "bval", "bvec"}
    assert "shells 1000, 2500" in capsys.readouterr().out


def test_command_refuses_one_shell_in_one_line(tmp_path, capsys):
    _scan(_table(1000.0))[0].save(tmp_path, "scan")
    assert _run("noddi", str(tmp_path / "scan.nii.gz"), "--out", str(tmp_path / "maps")) == 2
    error = capsys.readouterr().err
    assert "two shells" in error
    assert error.strip().count("\n") == 0
