"""The tensor step: scans to maps, on real heads, through the command line, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from arcuate.cli import main
from arcuate.dti import Dti
from arcuate.dwi import Dwi
from arcuate.errors import InputError, InputWarning
from arcuate.gradients import GradientTable
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource
from arcuate.models.status import Status
from arcuate.phantom import make_phantom, tensor_signals, three_shell_gradients
from arcuate.volumes.resource import InMemoryVolumeResource

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2.0, 0, -20], [0, 0, 2.5, -30], [0, 0, 0, 1]])


def _table(n: int = 24, b: float = 1000.0) -> GradientTable:
    directions = np.random.default_rng(0).normal(size=(n, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return GradientTable(np.r_[0.0, 0.0, np.full(n, b)], np.r_[np.zeros((2, 3)), directions])


def _scan(gradients: GradientTable | None = None, shape: tuple[int, int, int] = (6, 5, 4)) -> tuple[Dwi, np.ndarray]:
    """A scan of one tensor per voxel, and the tensors (x, y, z, 3, 3)."""
    gradients = gradients or _table()
    rng = np.random.default_rng(1)
    turns = np.linalg.qr(rng.normal(size=(*shape, 3, 3)))[0]
    evals = np.sort(rng.uniform(0.2e-3, 2e-3, (*shape, 3)), axis=-1)[..., ::-1]
    tensors = np.einsum("...ij,...j,...kj->...ik", turns, evals, turns)
    g = gradients.directions
    signals = 800 * np.exp(-gradients.bvals * np.einsum("mi,...ij,mj->...m", g, tensors, g))
    return Dwi.from_arrays(signals.astype(np.float32), AFFINE, gradients), tensors


@pytest.fixture(scope="module")
def mdt(data_dir: Path) -> tuple[Dwi, NiftiVolumeResource]:
    stem = data_dir / "mdt_b1k_b2k" / "sub-mdt_dwi"
    scan = Dwi(NiftiVolumeResource(f"{stem}.nii.gz"), FslBvalResource(f"{stem}.bval"), FslBvecResource(f"{stem}.bvec"))
    return scan.load(), NiftiVolumeResource(data_dir / "mdt_b1k_b2k" / "sub-mdt_mask.nii.gz")


# --- maps


def test_maps_have_the_shapes_frames_and_values_of_the_tensors_that_made_the_scan():
    scan, tensors = _scan()
    dti = scan.estimate_dti()
    np.testing.assert_allclose(
        dti.volume.get_array(), tensors[..., [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]], rtol=0, atol=1e-9
    )
    values, vectors = np.linalg.eigh(tensors)
    evals, evecs = dti.get_eig()
    fa, md = dti.get_fa_md()
    ad, rd = dti.get_ad_rd()
    for name, volume in {"fa": fa, "md": md, "ad": ad, "rd": rd}.items():
        np.testing.assert_array_equal(getattr(dti, name).get_array(), volume.get_array())
    np.testing.assert_allclose(evals.get_array(), values[..., ::-1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(np.abs(np.sum(evecs.get_array()[..., :3] * vectors[..., 2], axis=-1)), 1, atol=1e-4)
    np.testing.assert_allclose(md.get_array(), values.mean(-1), rtol=0, atol=1e-9)
    np.testing.assert_allclose(ad.get_array(), values[..., 2], rtol=0, atol=1e-9)
    np.testing.assert_allclose(rd.get_array(), values[..., :2].mean(-1), rtol=0, atol=1e-9)
    spread = values - values.mean(-1, keepdims=True)
    expected = np.sqrt(1.5 * np.sum(spread**2, -1) / np.sum(values**2, -1))
    np.testing.assert_allclose(fa.get_array(), expected, rtol=0, atol=1e-6)
    colour = dti.get_color_fa().get_array()
    np.testing.assert_allclose(np.linalg.norm(colour, axis=-1), expected, atol=1e-5)
    assert colour.shape == (6, 5, 4, 3)
    assert colour.min() >= 0
    for volume in (*dti.get_maps().values(), dti.status, dti.s0):
        np.testing.assert_array_equal(volume.get_affine(), AFFINE)
        assert volume.get_array().dtype in (np.float32, np.uint8)


def test_mask_limits_the_fit_and_leaves_zeros_outside():
    scan, _ = _scan()
    inside = np.zeros((6, 5, 4), dtype=np.uint8)
    inside[2:4, 1:3] = 1
    whole, part = scan.estimate_dti(), scan.estimate_dti(mask=InMemoryVolumeResource(inside, AFFINE))
    for name, volume in part.get_maps().items():
        values, expected = volume.get_array(), whole.get_maps()[name].get_array()
        np.testing.assert_array_equal(values[inside == 1], expected[inside == 1])
        assert not values[inside == 0].any(), name
    assert part.parameters["VoxelsByStatus"] == {"fitted": 16}
    np.testing.assert_array_equal(part.status.get_array() == Status.OUTSIDE, inside == 0)


def test_bad_voxels_are_counted_and_change_nothing_else():
    scan, _ = _scan()
    array = scan.volume.get_array().copy()
    array[0, 0, 0, 3], array[1, 0, 0, 4], array[2, 0, 0], array[3, 0, 0, 5] = np.nan, -2, 0, np.inf
    spoiled = Dwi.from_arrays(array, AFFINE, scan.gradients).estimate_dti()
    assert spoiled.parameters["VoxelsByStatus"] == {"fitted": 116, "floored": 1, "no_signal": 1, "not_finite": 2}
    np.testing.assert_array_equal(spoiled.volume.get_array()[:, 1:], scan.estimate_dti().volume.get_array()[:, 1:])
    assert all(np.isfinite(volume.get_array()).all() for volume in spoiled.get_maps().values())


def test_input_is_unchanged_and_integers_give_the_same_tensors():
    scan, _ = _scan()
    counts = np.round(scan.volume.get_array() * 20)
    before = counts.copy()
    tensors = [
        Dwi.from_arrays(counts.astype(dtype), AFFINE, scan.gradients).estimate_dti().volume.get_array()
        for dtype in (np.float32, np.int16, np.int32)
    ]
    np.testing.assert_array_equal(tensors[1], tensors[0])
    np.testing.assert_allclose(tensors[2], tensors[0], atol=1e-9)
    np.testing.assert_array_equal(counts, before)


def test_saved_tensors_give_the_same_maps(tmp_path):
    dti = _scan()[0].estimate_dti()
    saved = dti.save(tmp_path / "dti.nii.gz")
    assert isinstance(saved.volume, NiftiVolumeResource)
    assert isinstance(dti.volume, InMemoryVolumeResource)
    reread = Dti(NiftiVolumeResource(tmp_path / "dti.nii.gz"))
    for name, volume in reread.get_maps().items():
        np.testing.assert_array_equal(volume.get_array(), dti.get_maps()[name].get_array())


def test_parameters_say_what_was_fitted():
    gradients = _table()
    gradients = GradientTable(
        np.r_[gradients.bvals, np.full(10, 3000.0)], np.r_[gradients.directions, gradients.directions[2:12]]
    )
    facts = _scan(gradients)[0].estimate_dti(n_reweight=0, nonnegative=False, b_max=1200).parameters
    assert facts["FitMethod"] == "OLS"
    assert facts["NonNegative"] is False
    assert facts["BValuesUsed"] == [0.0, 1000.0]
    assert facts["VolumesUsed"] == list(range(26))
    json.dumps(facts)


def test_tensor_with_an_eigenvalue_of_zero_has_no_negative_one_after_rounding():
    directions = np.linalg.qr(np.random.default_rng(2).normal(size=(500, 3, 3)))[0]
    tensors = 1.7e-3 * np.einsum("vi,vj->vij", directions[:, 0], directions[:, 0])
    rows = tensors[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]].astype(np.float32)
    dti = Dti(InMemoryVolumeResource(rows.reshape(10, 10, 5, 6)))
    assert dti.get_eig()[0].get_array().min() >= 0
    assert dti.get_fa_md()[0].get_array().max() <= 1


# --- heads


def test_phantom_of_pure_tensors_gives_their_fa_and_axes():
    gradients = three_shell_gradients(n_b0=2, n_directions=30)
    head = make_phantom(gradients, shape=(32, 34, 20), voxel_size=6.0, snr=None, truth="single-tensor")
    mask = InMemoryVolumeResource(head.brain_mask, head.affine)
    dti = Dwi.from_arrays(head.signal, head.affine, gradients).estimate_dti(mask=mask)
    inside = head.brain_mask
    fa, md = (volume.get_array() for volume in dti.get_fa_md())
    assert np.abs(fa - head.fa)[inside].max() < 1e-4
    assert np.abs(md - head.md)[inside].max() < 1e-8
    single = inside & (head.n_fibres == 1) & (head.fa > 0.1)
    assert single.sum() > 500
    cosines = np.abs(np.sum(dti.get_eig()[1].get_array()[..., :3] * head.directions[..., 0, :], axis=-1))[single]
    assert np.rad2deg(np.arccos(np.minimum(cosines, 1))).max() < 0.1


def test_equals_dipy_on_the_phantom():
    pytest.importorskip("dipy")
    from dipy.core.gradients import gradient_table
    from dipy.reconst.dti import TensorModel

    gradients = three_shell_gradients(n_b0=2, n_directions=30)
    head = make_phantom(gradients, shape=(32, 34, 20), voxel_size=6.0, snr=20)
    scan, mask = Dwi.from_arrays(head.signal, head.affine, gradients), head.brain_mask
    dti = scan.estimate_dti(mask=InMemoryVolumeResource(mask, head.affine))
    volumes = np.array(dti.parameters["VolumesUsed"])
    used, rows = gradients.subset(volumes), head.signal[mask][:, volumes].astype(np.float64)
    peer = TensorModel(gradient_table(used.bvals, bvecs=used.directions), fit_method="WLS").fit(rows)
    assert rows.min() > 0
    assert np.abs(dti.get_fa_md()[0].get_array()[mask] - peer.fa).max() < 1e-6
    assert np.abs(dti.get_fa_md()[1].get_array()[mask] - peer.md).max() < 1e-9


def test_equals_dipy_on_a_real_scan(mdt):
    pytest.importorskip("dipy")
    from dipy.core.gradients import gradient_table
    from dipy.reconst.dti import TensorModel

    scan, mask = mdt
    dti = scan.estimate_dti(mask=mask)
    inside = mask.get_array() > 0
    volumes = dti.parameters["VolumesUsed"]
    assert len(volumes) == 43
    used = scan.gradients.subset(np.array(volumes))
    rows = scan.volume.get_array()[inside][:, volumes].astype(np.float64)
    peer = TensorModel(gradient_table(used.bvals, bvecs=used.directions), fit_method="WLS").fit(rows)
    positive = rows.min(axis=1) > 0
    assert positive.mean() > 0.9
    fa, md = (volume.get_array()[inside] for volume in dti.get_fa_md())
    assert np.abs(fa - peer.fa)[positive].max() < 1e-6
    assert np.abs(md - peer.md)[positive].max() < 1e-9
    floored = dti.status.get_array()[inside] == Status.FLOORED
    np.testing.assert_array_equal(floored, (rows.min(axis=1) <= 0) & (rows.max(axis=1) > 0))


def test_equals_dipy_on_a_real_oblique_scan(data_dir):
    pytest.importorskip("dipy")
    from dipy.core.gradients import gradient_table
    from dipy.reconst.dti import TensorModel

    stem = data_dir / "canon_dti" / "11000_SAG_DTI_PA-ALL_20d_cl"
    scan = Dwi(
        NiftiVolumeResource(f"{stem}.nii.gz"), FslBvalResource(f"{stem}.bval"), FslBvecResource(f"{stem}.bvec")
    ).load()
    mask = scan.extract_brain(method="otsu")
    dti, inside = scan.estimate_dti(mask=mask), mask.get_array() > 0
    rows = scan.volume.get_array()[inside].astype(np.float64)
    peer = TensorModel(gradient_table(scan.gradients.bvals, bvecs=scan.gradients.directions)).fit(rows)
    positive = rows.min(axis=1) > 0
    assert np.abs(dti.get_fa_md()[0].get_array()[inside] - peer.fa)[positive].max() < 1e-6


# --- command line


def _files(folder: Path, scan: Dwi) -> Path:
    scan.save(folder, basename="sub-01_dwi")
    return folder / "sub-01_dwi.nii.gz"


def _exit_code(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def test_command_writes_seven_maps_with_sidecars(tmp_path, capsys):
    scan, _ = _scan()
    path = _files(tmp_path, scan)
    assert _exit_code("dti", path, "--out", tmp_path / "maps") == 0
    assert "tensors from 26 volumes; voxels: 120 fitted" in capsys.readouterr().out
    expected = scan.estimate_dti().get_maps()
    assert sorted(p.name for p in (tmp_path / "maps").glob("*.nii.gz")) == sorted(f"{n}.nii.gz" for n in expected)
    for name, volume in expected.items():
        saved = NiftiVolumeResource(tmp_path / "maps" / f"{name}.nii.gz")
        np.testing.assert_allclose(saved.get_array(), volume.get_array(), rtol=0, atol=1e-6)
        sidecar = json.loads((tmp_path / "maps" / f"{name}.json").read_text(encoding="utf-8"))
        assert sidecar["FitMethod"] == "WLS"
        assert set(sidecar["Inputs"]) == {"dwi", "bval", "bvec"}
    assert json.loads((tmp_path / "maps" / "evecs.json").read_text())["ReferenceFrame"].startswith("scanner")
    assert json.loads((tmp_path / "maps" / "md.json").read_text())["Units"] == "mm^2/s"


def test_command_passes_its_options_on(tmp_path):
    path = _files(tmp_path, _scan()[0])
    assert _exit_code("dti", path, "--out", tmp_path / "o", "--n-reweight", 0, "--no-nonnegative", "--b-max", 1100) == 0
    sidecar = json.loads((tmp_path / "o" / "fa.json").read_text())
    assert (sidecar["FitMethod"], sidecar["NonNegative"], sidecar["BMax"]) == ("OLS", False, 1100)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("3-D", "3-D image"),
        ("one b-vector less", "25 b-vectors"),
        ("one b-value less", "25 b-values"),
        ("zero b-vector", "b-vector of volume 5 is zero"),
        ("no b=0", "two different b-values"),
        ("identical directions", "6 distinct directions"),
        ("mask of another shape", "mask of shape (5, 5, 4)"),
        ("empty mask", "mask is empty"),
        ("cut gzip", "cut short"),
        ("output is a file", "is a file; expected a folder"),
    ],
)
def test_what_cannot_be_used_ends_with_one_sentence_and_code_2(tmp_path, capsys, spoil, message):
    scan, _ = _scan()
    array, bvals, bvecs = scan.volume.get_array(), scan.bval.get(), scan.bvec.get()
    if spoil == "3-D":
        array = array[..., 0]
    elif spoil == "one b-vector less":
        bvecs = bvecs[:-1]
    elif spoil == "one b-value less":
        bvals = bvals[:-1]
    elif spoil == "zero b-vector":
        bvecs = np.where(np.arange(26)[:, None] == 5, 0, bvecs)
    elif spoil == "no b=0":
        array, bvals, bvecs = array[..., 2:], bvals[2:], bvecs[2:]
    elif spoil == "identical directions":
        bvecs = np.where(bvals[:, None] > 0, [[0.0, 0.6, 0.8]], 0)
    path = tmp_path / "dwi.nii.gz"
    NiftiVolumeResource.save(InMemoryVolumeResource(array, AFFINE), path)
    np.savetxt(tmp_path / "dwi.bval", bvals[None])
    np.savetxt(tmp_path / "dwi.bvec", bvecs.T)
    arguments: list[object] = ["dti", path, "--out", tmp_path / "maps"]
    if "mask" in spoil:
        mask = np.zeros((6, 5, 4) if spoil == "empty mask" else (5, 5, 4), dtype=np.uint8)
        NiftiVolumeResource.save(InMemoryVolumeResource(mask, AFFINE), tmp_path / "mask.nii.gz")
        arguments += ["--mask", tmp_path / "mask.nii.gz"]
    elif spoil == "cut gzip":
        path.write_bytes(path.read_bytes()[:-400])
    elif spoil == "output is a file":
        (tmp_path / "maps").write_text("not a folder")
    assert _exit_code(*arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / "maps").is_dir()


def test_scan_at_b_2000_only_is_fitted_with_a_warning():
    with pytest.warns(InputWarning, match=r"shells at b = 2000"):
        _scan(_table(b=2000.0))[0].estimate_dti()


def test_mask_of_another_shape_is_refused_before_the_scan_is_read():
    class Unread(InMemoryVolumeResource):
        def get_array(self) -> np.ndarray:
            raise AssertionError("the voxels were read")

    scan, _ = _scan()
    lazy = Dwi(Unread(scan.volume.get_array(), AFFINE), scan.bval, scan.bvec)
    with pytest.raises(InputError, match=r"mask of shape"):
        lazy.estimate_dti(mask=InMemoryVolumeResource(np.ones((2, 2, 2)), AFFINE))


def test_the_residual_of_a_gaussian_signal_is_its_noise() -> None:
    """Rows of one tensor with noise of 2 % of S0: what seven unknowns leave of it, whatever the unit of the signal."""
    gradients = three_shell_gradients(n_b0=4, bvals=(1000,), n_directions=60)
    tensors = np.tile([1.7e-3, 0, 0, 0.3e-3, 0, 0.3e-3], (400, 1))
    signals = tensor_signals(gradients, tensors, 500.0).astype(float)
    signals += np.random.default_rng(0).normal(scale=10.0, size=signals.shape)
    signals[5, 20] = 5000.0
    scan = Dwi.from_arrays(signals.reshape(20, 20, 1, -1).astype(np.float32), np.eye(4), gradients)
    rmse = np.asarray(scan.estimate_dti().rmse.get_array()).ravel()
    assert np.median(rmse) == pytest.approx(0.02 * np.sqrt((64 - 7) / 64), rel=0.05)
    assert rmse[5] > 0.5, "a spike stands out"
    scaled = Dwi.from_arrays(100 * np.asarray(scan.volume.get_array()), np.eye(4), gradients)
    np.testing.assert_allclose(np.asarray(scaled.estimate_dti().rmse.get_array()).ravel(), rmse, rtol=1e-3)
    robust = np.asarray(scan.estimate_dti(robust=True).rmse.get_array()).ravel()
    assert robust[5] < 0.04, "volumes left out do not count"
    empty = Dwi.from_arrays(np.zeros((2, 2, 1, 64), np.float32), np.eye(4), gradients)
    assert not np.asarray(empty.estimate_dti().rmse.get_array()).any()
