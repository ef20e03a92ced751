"""HD-BET 2: equal to nnU-Net given the same weights, nothing but numbers read from them, chosen where it can be run."""

from __future__ import annotations

import json
import runpy
import warnings
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from arcuate.dwi import Dwi
from arcuate.errors import InputError
from arcuate.fetch.weights import HD_BET_FILES, brain_weights, unpack_brain_weights
from arcuate.gradients import GradientTable
from arcuate.masks import extract_brain, find_brain
from arcuate.nets import brain, nnunet_brain

PUBLISHED = runpy.run_path(str(Path(__file__).with_name("published_brain_weights.py")))
needs_nnunet = pytest.mark.skipif(
    not nnunet_brain.is_installed(),
    reason='HD-BET 2 is not installed (pip install hd-bet==2.0.1 nnunetv2==2.5.2 "dynamic-network-architectures<0.4")',
)


def _head(codes: str) -> Dwi:
    """A bright ball off the middle, voxels of 3 x 3 x 4 mm stored along ``codes``."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in (40, 44, 36)], indexing="ij")
    rng = np.random.default_rng(0)
    image = np.where((x - 0.2) ** 2 + y**2 + (z + 0.1) ** 2 < 0.5, 800.0, 10.0) + rng.normal(0, 3, x.shape)
    stored = nib.Nifti1Image(image.astype(np.float32), np.diag([-3.0, 3.0, 4.0, 1.0]))
    orientation = nib.orientations.axcodes2ornt(codes)
    turned = stored.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(stored.affine), orientation))
    b0 = np.asarray(turned.dataobj)
    gradients = GradientTable(np.array([0.0, 1000.0]), np.array([[0.0, 0, 0], [1, 0, 0]]))
    return Dwi.from_arrays(np.stack([b0, b0 / 2], axis=-1), turned.affine, gradients)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of HD-BET 2 where arcuate looks for them."""
    monkeypatch.setenv("ARCUATE_WEIGHTS", str(tmp_path))
    return PUBLISHED["write_brain_weights"](tmp_path / "hd-bet")


@needs_nnunet
@pytest.mark.parametrize("codes", ["LAS", "PSR"])
def test_equals_nnunet_given_the_same_file(codes: str, weights: Path, tmp_path: Path) -> None:
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    inside = extract_brain(_head(codes), method="hdbet", device="cpu")
    straight = _head("LAS").compute_mean_b0()
    nib.save(nib.Nifti1Image(straight.get_array(), straight.get_affine()), tmp_path / "head.nii.gz")
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(weights), "all")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictor.predict_from_files_sequential([[str(tmp_path / "head.nii.gz")]], [str(tmp_path / "mask.nii.gz")])
    expected = nib.load(tmp_path / "mask.nii.gz")
    found = nib.Nifti1Image(inside.get_array(), inside.get_affine())
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(found.affine), nib.orientations.axcodes2ornt(("L", "A", "S"))
    )
    np.testing.assert_array_equal(np.asarray(found.as_reoriented(turn).dataobj), np.asarray(expected.dataobj))
    assert 0.1 < inside.get_array().mean() < 0.3


@needs_nnunet
def test_the_mask_says_which_release_and_which_weights_made_it(weights: Path) -> None:
    scan = _head("LAS")
    facts = find_brain(scan, device="cpu").parameters
    assert facts["Method"] == "hdbet"
    assert facts["Network"] == "HD-BET 2"
    assert set(facts["Weights"]) == set(HD_BET_FILES)
    assert "Folds" not in facts


@needs_nnunet
def test_plans_that_name_other_code_are_refused(weights: Path) -> None:
    plans = json.loads((weights / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["architecture"]["network_class_name"] = "os.system"
    (weights / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(InputError, match=r"os\.system.*arcuate fetch hd-bet"):
        extract_brain(_head("LAS"), method="hdbet", device="cpu")


@needs_nnunet
def test_a_checkpoint_of_another_network_is_refused(weights: Path) -> None:
    torch = pytest.importorskip("torch")
    path = weights / HD_BET_FILES[-1]
    content = torch.load(path, weights_only=False)
    content["network_weights"]["decoder.seg_layers.0.bias"] = torch.zeros(3)
    torch.save(content, path)
    with pytest.raises(InputError, match=r"does not fit its plans\.json"):
        extract_brain(_head("LAS"), method="hdbet", device="cpu")


class _Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_code_in_a_checkpoint_is_refused_and_not_run_and_numbers_of_numpy_are_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra [hdbet])")
    path = tmp_path / "checkpoint_final.pth"
    good: dict[str, Any] = {
        "network_weights": {"a": torch.ones(2)}, "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres", "device": torch.device("cpu")},
        "logging": {"dice": [np.float64(0.9), np.float32(0.8), np.int64(3)]}, "_best_ema": np.float64(0.9),
    }  # fmt: skip
    torch.save(good, path)
    assert nnunet_brain._read_checkpoint(path)["logging"]["dice"] == good["logging"]["dice"]
    torch.save(good | {"logging": _Payload(tmp_path / "ran")}, path)
    with pytest.raises(InputError, match=r"no checkpoint of HD-BET 2.*arcuate fetch hd-bet"):
        nnunet_brain._read_checkpoint(path)
    assert not (tmp_path / "ran").exists()
    torch.save({"unet": {}}, path)
    with pytest.raises(InputError, match="no checkpoint of HD-BET 2"):
        nnunet_brain._read_checkpoint(path)


def _touch(folder: Path) -> Path:
    for name in HD_BET_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"something")
    return folder


def test_the_second_release_is_chosen_where_its_package_and_its_weights_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ARCUATE_WEIGHTS", str(tmp_path / "weights"))
    for has_package in (False, True):
        monkeypatch.setattr(nnunet_brain, "is_installed", lambda has_package=has_package: has_package)
        assert brain.choose_network(5).facts == {"Network": "HD-BET 1", "Folds": 5, "Augmentation": False}
    folder = _touch(tmp_path / "home" / "hd-bet_params" / "release_2.0.0")
    assert brain_weights() == folder
    chosen = brain.choose_network(5, True)
    assert isinstance(chosen, nnunet_brain.NnunetBrainNetwork)
    assert chosen.folder == folder
    assert brain.is_installed()
    first = chosen.facts
    (folder / HD_BET_FILES[-1]).write_bytes(b"something else")
    assert chosen.facts != first  # other weights are another result in the cache
    own = _touch(tmp_path / "weights" / "hd-bet")
    assert brain_weights() == own
    (own / HD_BET_FILES[-1]).write_bytes(b"")  # what a failed download leaves
    assert brain_weights() == folder


def test_the_archive_is_unpacked_whole_or_refused(tmp_path: Path) -> None:
    archive = tmp_path / "hd-bet_release_2.0.0.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name in (*HD_BET_FILES, "../outside"):
            packed.writestr(name, f"content of {name}")
    folder = unpack_brain_weights(archive)
    assert brain_weights(tmp_path) == folder
    assert (folder / HD_BET_FILES[-1]).read_text() == f"content of {HD_BET_FILES[-1]}"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hd-bet", archive.name]
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(HD_BET_FILES[0], "{}")
    with pytest.raises(InputError, match=r"not the archive of HD-BET 2.*arcuate fetch hd-bet"):
        unpack_brain_weights(archive)
    archive.write_bytes(b"<html>")
    with pytest.raises(InputError, match="not the archive"):
        unpack_brain_weights(archive)
