"""``arcuate register``, ``apply``, ``structural`` and ``template``: what they write, and their mistakes in one line."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from arcuate.dwi import Dwi
from arcuate.io import NiftiVolumeResource
from arcuate.phantom import Phantom, make_phantom, three_shell_gradients
from arcuate.registration import TransformResource
from arcuate.volumes.resource import InMemoryVolumeResource
from arcuate.volumes.transforms import Affine

needs_ants = pytest.mark.skipif(
    importlib.util.find_spec("ants") is None, reason="antspyx is not installed (extra ants); its oracle is left out"
)
SHAPE = (26, 30, 24)


@pytest.fixture(scope="module")
def head() -> Phantom:
    return make_phantom(three_shell_gradients(n_b0=2, bvals=(1000,), n_directions=6), SHAPE, 6.0, snr=None)


@pytest.fixture
def folder(head: Phantom, tmp_path: Path) -> Path:
    """A T1, labels and a brain mask on the grid of the head, FA of two subjects, and a scan that is turned."""
    contrast = (100 * (head.tissue @ [1.0, 0.62, 0.22])).astype(np.float32)
    noise = np.abs(np.random.default_rng(0).normal(0, 1, SHAPE)).astype(np.float32)
    for name, array in (("t1", contrast + noise), ("labels", head.label_image),
                        ("brain", head.brain_mask.astype(np.uint8)), ("s1_fa", head.fa),
                        ("s2_fa", head.fa)):  # fmt: skip
        NiftiVolumeResource.save(InMemoryVolumeResource(array, head.affine), tmp_path / f"{name}.nii.gz")
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", 5, degrees=True).as_matrix()
    turn[:3, 3] = [4, -3, 2]
    scan = Dwi.from_arrays(head.signal, head.affine, head.gradients)
    moved = InMemoryVolumeResource(scan.volume.get_array(), turn @ head.affine)
    Dwi(moved, scan.bval, scan.bvec).save(tmp_path, basename="dwi")
    TransformResource.of(Affine(turn)).save(tmp_path / "known")
    return tmp_path


def _read(path: Path) -> np.ndarray:
    return np.asarray(NiftiVolumeResource(path).get_array())


@pytest.mark.parametrize("name", ["register", "apply", "structural", "template"])
def test_the_help_shows_two_examples_and_what_is_written(arcuate: Callable, name: str) -> None:
    outcome = arcuate(name, "--help")
    assert outcome.code == 0
    assert outcome.out.count(f"\n  arcuate {name} ") >= 2
    assert "Writes" in outcome.out or "writes" in outcome.out.lower()


def test_apply_brings_images_and_labels_over_and_back(arcuate: Callable, folder: Path, head: Phantom) -> None:
    scan_fa = folder / "fa_of_scan.nii.gz"
    grid = NiftiVolumeResource(folder / "dwi.nii.gz").get_affine()
    NiftiVolumeResource.save(InMemoryVolumeResource(head.fa, grid), scan_fa)
    done = arcuate("apply", scan_fa, "--reference", folder / "t1.nii.gz", "--transform", folder / "known", "--out",
                   folder / "fa_in_t1.nii.gz")  # fmt: skip
    assert done.code == 0, done.err
    assert "26 x 30 x 24, scalar" in done.out
    np.testing.assert_allclose(_read(folder / "fa_in_t1.nii.gz"), head.fa, atol=1e-3)
    back = arcuate("apply", folder / "labels.nii.gz", "--reference", scan_fa, "--transform", folder / "known",
                   "--inverse", "--interpolation", "label", "--out", folder / "labels_in_scan.nii.gz")  # fmt: skip
    assert back.code == 0, back.err
    np.testing.assert_array_equal(_read(folder / "labels_in_scan.nii.gz"), head.label_image)
    same = arcuate("apply", scan_fa, "--reference", folder / "t1.nii.gz", "--transform",
                   folder / "known" / "0_affine.mat", "--out",
                   folder / "again.nii.gz")  # fmt: skip
    assert same.code == 0, same.err
    np.testing.assert_allclose(_read(folder / "again.nii.gz"), head.fa, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--transform", "absent.h5"), "does not exist"),
        (("--transform", "known", "--interpolation", "sinc"), "found the interpolation 'sinc'; expected linear"),
        (("--transform", "known", "--kind", "tensor"), "for the kind 'tensor'; expected (x, y, z, 6)"),
        (("--transform", "known", "--modulate"), "found modulation for the kind 'scalar'"),
        (("--transform", "t1.nii.gz"), "expected a displacement field"),
    ],
)
def test_mistakes_of_apply_are_one_line_and_nothing_is_written(
    arcuate: Callable, folder: Path, options: tuple[str, ...], says: str
) -> None:
    named = [folder / word if word in {"absent.h5", "known", "t1.nii.gz"} else word for word in options]
    outcome = arcuate("apply", folder / "s1_fa.nii.gz", "--reference", folder / "t1.nii.gz", *named, "--out",
                      folder / "out.nii.gz")  # fmt: skip
    assert outcome.code == 2, outcome.out
    assert says in outcome.err
    assert "Traceback" not in outcome.err
    assert not (folder / "out.nii.gz").exists()


def test_an_output_that_is_an_input_is_refused(arcuate: Callable, folder: Path) -> None:
    before = (folder / "s1_fa.nii.gz").read_bytes()
    outcome = arcuate("apply", folder / "s1_fa.nii.gz", "--reference", folder / "t1.nii.gz", "--transform",
                      folder / "known", "--out", folder / "s1_fa.nii.gz")  # fmt: skip
    assert outcome.code == 2
    assert "it is an input" in outcome.err
    assert (folder / "s1_fa.nii.gz").read_bytes() == before


COMMANDS = (
    ("register", "--fixed", "t1.nii.gz", "--moving", "dwi.nii.gz", "--out", "out"),
    ("structural", "t1.nii.gz", "--no-bias", "--out", "out"),
    ("template", "s1_fa.nii.gz", "s2_fa.nii.gz", "--out", "out"),
)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_without_ants_nothing_is_read_or_written_and_the_extra_is_named(
    arcuate: Callable, folder: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ants", None)
    for method in ("get_array", "get_volume"):
        monkeypatch.setattr(NiftiVolumeResource, method, lambda *_: pytest.fail("voxels were read"))
    outcome = arcuate(*(folder / word if word.endswith("gz") or word == "out" else word for word in words))
    assert outcome.code == 2, outcome.err
    assert "ANTs (antspyx)" in outcome.err
    assert "ants]" in outcome.err
    assert not (folder / "out").exists()


@needs_ants
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("register", "--fixed", "t1", "--moving", "s1_fa", "--phase-encoding", "j"), "found --phase-encoding for an"),
        (("register", "--fixed", "t1", "--moving", "dwi", "--phase-encoding", "up"), "the phase-encoding direction"),
        (("register", "--fixed", "t1", "--moving", "s1_fa", "--transform", "Bend"), "could not register"),
        (("template", "s1_fa"), "found 1 subject for a template; expected two or more"),
        (("template", "s1_fa", "t1"), "found no 'fa' in t1.nii.gz"),
        (("structural", "dwi"), "takes (x, y, z). Take one volume"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(arcuate: Callable, folder: Path, words: tuple[str, ...], says: str) -> None:
    images = {"t1", "s1_fa", "dwi"}
    extra = ("--metric", "md") if words[1:] == ("s1_fa", "t1") else ()
    named = [folder / f"{word}.nii.gz" if word in images else word for word in words]
    outcome = arcuate(*named, *extra, "--out", folder / "out")
    assert outcome.code == 2, outcome.out + outcome.err
    assert says in " ".join(outcome.err.split())


@needs_ants
def test_register_finds_the_way_of_a_scan_to_its_t1(arcuate: Callable, folder: Path, head: Phantom) -> None:
    outcome = arcuate("register", "--fixed", folder / "t1.nii.gz", "--moving", folder / "dwi.nii.gz", "--out",
                      folder / "to_t1", "--warped", folder / "b0_in_t1.nii.gz")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "affine, from dwi.nii.gz to t1.nii.gz" in outcome.out
    assert json.loads((folder / "to_t1" / "transform.json").read_text())["fwd"] == ["0_affine.mat"]
    points = np.argwhere(head.brain_mask)[::50] @ head.affine[:3, :3].T + head.affine[:3, 3]
    known = TransformResource.load(folder / "known").map_points(points)
    found = TransformResource.load(folder / "to_t1").map_points(points)
    assert np.median(np.linalg.norm(found - known, axis=1)) < 1.5  # a quarter of a voxel
    assert _read(folder / "b0_in_t1.nii.gz").shape == SHAPE


@needs_ants
def test_structural_writes_what_its_help_says(arcuate: Callable, folder: Path, head: Phantom) -> None:
    outcome = arcuate("structural", folder / "t1.nii.gz", "--mask", folder / "brain.nii.gz", "--out", folder / "out")
    assert outcome.code == 0, outcome.err
    written = {path.name for path in (folder / "out").glob("*.nii.gz")}
    assert written == {
        "T1w.nii.gz",
        "mask.nii.gz",
        "dseg.nii.gz",
        *(f"probseg_{t}.nii.gz" for t in ("csf", "gm", "wm")),
    }
    labels = _read(folder / "out" / "dseg.nii.gz")
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    said = json.loads((folder / "out" / "dseg.json").read_text())
    assert said["Labels"] == {"1": "csf", "2": "gm", "3": "wm"}
    assert set(said["Inputs"]) == {"t1", "mask"} or len(said["Inputs"]) == 2
    pure = (head.tissue[..., 0] > 0.99) & head.brain_mask
    assert np.mean(labels[pure] == 3) > 0.9


@needs_ants
def test_template_writes_the_mean_and_the_transforms(arcuate: Callable, folder: Path) -> None:
    outcome = arcuate("template", folder / "s1_fa.nii.gz", folder / "s2_fa.nii.gz", "--iterations", "1", "--out",
                      folder / "out")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "template of 2 subjects, fa" in outcome.out
    assert _read(folder / "out" / "fa_template.nii.gz").shape == SHAPE
    for stem in ("s1_fa", "s2_fa"):
        TransformResource.load(folder / "out" / "transforms" / stem)
