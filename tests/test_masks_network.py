"""HD-BET itself, with its own weights, on a real head in three storage orders and tilts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from arcuate import masks
from arcuate.dwi import Dwi
from arcuate.errors import InputError, InputWarning, MissingExtraError, NotApplicable
from arcuate.gradients import GradientTable
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource
from arcuate.masks import extract_brain, find_brains, resolve_method
from arcuate.nets import brain
from arcuate.study import plan
from arcuate.study.bids import Derivatives
from arcuate.study.pipeline import Settings, run_subject
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource

SERIES = ("3000", "5000", "11000")
GOLDEN = Path(__file__).parent / "golden" / "hdbet_canon.npz"  # five folds, by scripts/make_hdbet_golden.py
needs_network = pytest.mark.skipif(not brain.is_installed(), reason="HD-BET is not installed (extra [hdbet])")


def _scan(folder: Path, series: str) -> Dwi:
    path = next(folder.glob(f"{series}_*.nii.gz"))
    stem = path.name.removesuffix(".nii.gz")
    bvec = FslBvecResource(folder / f"{stem}.bvec")
    return Dwi(NiftiVolumeResource(path), FslBvalResource(folder / f"{stem}.bval"), bvec)


def _ball() -> Dwi:
    gradients = GradientTable(np.array([0.0, 1000.0]), np.array([[0.0, 0, 0], [1, 0, 0]]))
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, 40)] * 3, indexing="ij")
    image = np.where(x**2 + y**2 + z**2 < 0.7, 800.0, 10.0).astype(np.float32)
    return Dwi.from_arrays(np.stack([image, image / 2], axis=-1), np.diag([-4.0, 4, 4, 1]), gradients)


def _in_the_scanner(masks: list[VolumeResource]) -> tuple[np.ndarray, np.ndarray]:
    """Masks and fields of view (n_masks, n_points) bool at the points of a 2 mm grid in the scanner."""
    corners = []
    for mask in masks:
        ends = np.array(np.meshgrid(*[[0, n - 1] for n in mask.shape], indexing="ij")).reshape(3, -1)
        corners.append(mask.get_affine()[:3, :3] @ ends + mask.get_affine()[:3, 3:])
    sides = [
        np.arange(low, high, 2.0)
        for low, high in zip(*(f(np.hstack(corners), 1) for f in (np.min, np.max)), strict=True)
    ]
    points = np.array(np.meshgrid(*sides, indexing="ij")).reshape(3, -1)
    inside, seen = [], []
    for mask in masks:
        to_voxels = np.linalg.inv(mask.get_affine())
        index = np.rint(to_voxels[:3, :3] @ points + to_voxels[:3, 3:]).astype(int)
        seen.append(np.all((index >= 0) & (index < np.array(mask.shape)[:, None]), axis=0))
        looked_up = mask.get_array()[tuple(np.where(seen[-1], index, 0))] > 0
        inside.append(looked_up & seen[-1])
    return np.array(inside), np.array(seen)


def _check_agreement(masks: list[VolumeResource]) -> None:
    """Volumes agree within 3 %.

    The slabs are 120 mm thick and tilted differently: one cuts the cerebellum, one the right of the head, so that the
    part of the brain in them differs by 5 %. Compared is what all three saw, and each whole mask with the part of the
    head's brain that its slab holds.
    """
    inside, seen = _in_the_scanner(masks)
    ml = 2.0**3 / 1000
    common = np.array([(m & seen.all(axis=0)).sum() * ml for m in inside])
    assert common.min() > 1200
    assert np.ptp(common) / common.mean() < 0.03
    # a point is brain where most of the series that saw it say so
    brain = 2 * inside.sum(axis=0) > seen.sum(axis=0)
    held = np.array([(brain & s).sum() * ml for s in seen])
    assert np.ptp(held) / held.mean() > 0.03
    share = np.array([m.sum() * ml for m in inside]) / held
    assert np.ptp(share) / share.mean() < 0.03


FIELD = np.s_[14:78, 12:76]  # 192 mm of series 11000 that hold its brain: the network takes 128 voxels of 1.5 mm


def _cropped(scan: Dwi) -> Dwi:
    """The field of view cut to :data:`FIELD`."""
    affine = scan.volume.get_affine()
    affine[:3, 3] = affine[:3, :2] @ [axis.start for axis in FIELD] + affine[:3, 3]
    return Dwi.from_arrays(np.asarray(scan.volume.get_array())[FIELD], affine, scan.gradients)


def _agree(folder: Path, names: tuple[str, ...], folds: int, dice: float, *, whole: bool = True) -> None:
    scans = [_scan(folder / "canon_dti", series) for series in names]
    shapes = [scan.volume.shape[:3] for scan in scans]
    if not whole:
        scans = [_cropped(scan) for scan in scans]
    masks = [found.volume for found in find_brains(scans, method="hdbet", folds=folds, device="cpu")]
    if len(masks) > 1:
        _check_agreement(masks)
    for series, mask, shape in zip(names, masks, shapes, strict=True):
        inside, expected = mask.get_array() > 0, _golden(series, shape)
        if not whole:
            assert expected[FIELD].sum() == expected.sum()
            expected = expected[FIELD]
        assert 2 * float((inside & expected).sum()) / float(inside.sum() + expected.sum()) > dice


def _golden(series: str, shape: tuple[int, ...]) -> np.ndarray:
    with np.load(GOLDEN) as golden:
        return np.unpackbits(golden[series], count=int(np.prod(shape))).reshape(shape) > 0


def test_five_fold_masks_of_one_head_agree_in_the_scanner(data_dir: Path) -> None:
    masks = []
    for series in SERIES:
        b0 = _scan(data_dir / "canon_dti", series).compute_mean_b0()
        masks.append(InMemoryVolumeResource(_golden(series, b0.shape).astype(np.uint8), b0.get_affine()))
    _check_agreement(masks)


@needs_network
@pytest.mark.parametrize("names", [("11000",), pytest.param(SERIES, marks=pytest.mark.long)], ids=len)
def test_masks_of_one_head_in_other_storage_orders_are_those_of_hdbet_and_agree(
    names: tuple[str, ...], data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("HOME", str(tmp_path))
    loads = []
    verify = brain._verify
    monkeypatch.setattr(brain, "_verify", lambda *arguments: loads.append(verify(*arguments)))
    _agree(data_dir, names, folds=1, dice=0.96, whole=names == SERIES)
    assert len(loads) == 1  # one model load for all scans
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


@needs_network
@pytest.mark.long
def test_five_folds_give_hdbets_own_masks(data_dir: Path) -> None:
    _agree(data_dir, SERIES, folds=5, dice=0.995)


def test_auto_takes_the_network_where_it_is_installed_and_never_for_a_slab(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slab = _scan(data_dir / "mdt_b1k_b2k", "sub-mdt")
    for is_there, expected in ((True, "hdbet"), (False, "otsu")):
        monkeypatch.setattr("arcuate.masks.is_installed", lambda is_there=is_there: is_there)
        assert resolve_method("auto") == expected
        assert resolve_method("auto", _ball()) == expected
        assert resolve_method("auto", slab) == "otsu"
        assert resolve_method("otsu", _ball()) == "otsu"


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[hdbet\]"):
        extract_brain(_ball(), method="hdbet")


def test_folds_are_checked_before_anything_is_loaded() -> None:
    with pytest.raises(InputError, match=r"folds = 6.*1 to 5"):
        extract_brain(_ball(), method="otsu", folds=6)


def test_weights_that_are_not_hdbets_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "0.model"
    with pytest.raises(InputError, match="missing"):
        brain._verify(path, "0" * 64)
    path.write_bytes(b"something else")
    with pytest.raises(InputError, match="not what HD-BET published"):
        brain._verify(path, "0" * 64)


def test_a_thin_slab_is_padded_with_its_outer_slices_and_a_head_is_not() -> None:
    head = np.random.default_rng(0).normal(size=(10, 40, 40)).astype(np.float32)
    padded, inner = brain._pad_slab(head, (3.0, 4.0, 4.0))
    assert padded.shape[0] * 3.0 >= 100
    assert padded.shape[1:] == head.shape[1:]
    np.testing.assert_array_equal(padded[inner], head)
    np.testing.assert_array_equal(padded[0], head[0])
    np.testing.assert_array_equal(padded[-1], head[-1])
    whole, _ = brain._pad_slab(head, (12.0, 4.0, 4.0))
    np.testing.assert_array_equal(whole, head)


class _SeesNothing:
    """A network that finds no brain, as HD-BET does in most animals and phantoms."""

    axes = "LPS"
    facts: ClassVar = {"Network": "none"}

    def find_brain(self, head: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
        return np.zeros(head.shape, bool)


def test_where_the_network_finds_no_brain_auto_takes_the_embedded_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "choose_network", lambda *_: _SeesNothing())
    monkeypatch.setattr(masks, "is_installed", lambda: True)
    with pytest.warns(InputWarning, match="HD-BET found no brain.*otsu"):
        found = masks.find_brain(_ball())
    assert found.parameters["Method"] == "otsu"
    np.testing.assert_array_equal(found.volume.get_array(), extract_brain(_ball(), method="otsu").get_array())
    with pytest.raises(NotApplicable, match=r"found no brain.*--mask"):
        extract_brain(_ball(), method="hdbet")


@pytest.mark.filterwarnings("ignore:the mask may not be a brain")
def test_a_run_goes_on_where_the_network_finds_no_brain_unless_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, "choose_network", lambda *_: _SeesNothing())
    monkeypatch.setattr(masks, "is_installed", lambda: True)
    monkeypatch.setattr(plan, "is_installed", lambda: True)
    with pytest.warns(InputWarning, match="HD-BET found no brain.*otsu"):
        run_subject(_ball(), Derivatives(tmp_path, "auto"), inputs={}, settings=Settings(steps=("mask",)))
    written = json.loads((tmp_path / "auto/dwi/auto_desc-brain_mask.json").read_text())
    assert written["Method"] == "otsu"
    named = Settings(steps=("mask",), mask_method="hdbet")
    with pytest.raises(NotApplicable, match="found no brain"):
        run_subject(_ball(), Derivatives(tmp_path, "named"), inputs={}, settings=named)


class _SeesAll(_SeesNothing):
    def find_brain(self, head: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
        return head > 100


def test_the_network_named_for_slices_or_an_animal_is_doubted_and_for_a_head_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(masks, "choose_network", lambda *_: _SeesAll())
    monkeypatch.setattr(masks, "is_installed", lambda: True)
    ball = _ball()
    masks.find_brain(ball, method="hdbet")
    slices = Dwi.from_arrays(np.asarray(ball.volume)[:, :, 18:20], ball.volume.get_affine(), ball.gradients)
    with pytest.warns(InputWarning, match=r"HD-BET knows whole human heads, and the image measures 160 x 160 x 8 mm"):
        masks.find_brain(slices, method="hdbet")
