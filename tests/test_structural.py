"""The T1 image: equal to ANTs by hand, right on a phantom, geometry kept."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import deformed
import nibabel as nib
import numpy as np
import pytest

from arcuate.cache import Cache
from arcuate.errors import InputError, MissingExtraError
from arcuate.structural import StructuralImage, read_structural
from arcuate.volumes.resource import InMemoryVolumeResource

needs_ants = pytest.mark.skipif(
    importlib.util.find_spec("ants") is None, reason="antspyx is not installed (extra ants); its oracle is left out"
)


@pytest.fixture(scope="module")
def head() -> dict[str, InMemoryVolumeResource]:
    """A head with a bias field across it, stored obliquely."""
    found = deformed.t1_head(orientation="PSR", tilt=12.0)
    t1 = found["t1"]
    points = deformed.grid_points(t1.shape, t1.get_affine()) @ [0.006, 0.004, -0.003]
    return {**found, "shaded": t1.with_array((t1.array * np.exp(points.reshape(t1.shape))).astype(np.float32))}


@needs_ants
def test_n4_takes_the_bias_out_equals_ants_and_keeps_the_geometry(head: dict) -> None:
    import ants

    from arcuate.volumes.ants_images import to_ants

    image = StructuralImage(head["shaded"])
    done = image.correct_bias(head["mask"]).volume
    np.testing.assert_array_equal(done.get_affine(), head["shaded"].get_affine())
    mask = to_ants(head["mask"].with_array(head["mask"].array.astype(np.float32)), "it")
    peer = ants.n4_bias_field_correction(to_ants(head["shaded"], "it"), mask=mask)
    np.testing.assert_allclose(done.get_array(), peer.numpy(), rtol=1e-3, atol=1e-2)
    white = (head["mask"].array > 0) & (head["t1"].array > 95)

    def unevenness(volume: np.ndarray) -> float:
        ratio = volume[white] / head["t1"].array[white]
        return float(np.std(ratio) / np.mean(ratio))

    assert unevenness(np.asarray(done.get_array())) < 0.4 * unevenness(head["shaded"].array)


@needs_ants
def test_atropos_finds_the_tissues_and_equals_ants(head: dict) -> None:
    import ants

    from arcuate.volumes.ants_images import to_ants

    image = StructuralImage(head["t1"])
    tissues = image.estimate_tissues(head["mask"])
    labels = np.asarray(tissues.labels.get_array())
    mask = to_ants(head["mask"].with_array(head["mask"].array.astype(np.float32)), "it")
    peer = ants.atropos(a=to_ants(head["t1"], "it"), m="[0.2,1x1x1]", c="[5,0]", i="kmeans[3]", x=mask)
    assert np.mean(labels != peer["segmentation"].numpy()) < 1e-3  # threads of ANTs add up in any order
    inside = head["mask"].array > 0
    pure = {1: head["t1"].array < 28, 2: np.abs(head["t1"].array - 62) < 3, 3: head["t1"].array > 95}
    for label, where in pure.items():
        assert np.mean(labels[where & inside] == label) > 0.95
    assert not labels[~inside].any()
    shares = np.asarray(tissues.probabilities.get_array())
    np.testing.assert_allclose(shares[inside].sum(axis=1), 1, atol=1e-3)
    assert tissues.probability("wm").array[inside & pure[3]].mean() > 0.9
    assert np.mean(image.segment_tissues(mask=head["mask"]).get_array() != labels) < 1e-3
    with pytest.raises(InputError, match="found the tissue 'bone'"):
        tissues.probability("bone")


@needs_ants
def test_steps_are_kept(head: dict, tmp_path: Path) -> None:
    image = StructuralImage(head["shaded"])
    with Cache(tmp_path):
        first = image.correct_bias()
    import ants

    with Cache(tmp_path), pytest.MonkeyPatch.context() as patch:
        patch.setattr(ants, "n4_bias_field_correction", lambda *_, **__: pytest.fail("computed again"))
        again = image.correct_bias()
    np.testing.assert_array_equal(first.volume.get_array(), again.volume.get_array())


def test_a_brain_is_found_without_a_network(head: dict) -> None:
    mask = StructuralImage(head["t1"]).extract_brain(method="otsu")
    assert deformed.dice(np.asarray(mask.get_array()) > 0, head["mask"].array > 0) > 0.8
    np.testing.assert_array_equal(mask.get_affine(), head["t1"].get_affine())
    with pytest.raises(InputError, match="found the mask method 'bet'"):
        StructuralImage(head["t1"]).extract_brain(method="bet")


def test_images_are_read_saved_and_loaded(head: dict, tmp_path: Path) -> None:
    StructuralImage(head["t1"]).save(tmp_path / "t1.nii.gz")
    image = read_structural(tmp_path / "t1.nii.gz")
    np.testing.assert_array_equal(image.load().volume.get_array(), head["t1"].array)
    image.save(tmp_path, basename="again")
    assert (tmp_path / "again.nii.gz").is_file()
    nib.MGHImage(head["t1"].array, head["t1"].get_affine()).to_filename(tmp_path / "t1.mgz")
    np.testing.assert_array_equal(read_structural(tmp_path / "t1.mgz").volume.get_array(), head["t1"].array)


def test_bad_input_is_one_sentence(head: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    image = StructuralImage(head["t1"])
    with pytest.raises(InputError, match=r"found the method 'deep_atropos'; expected 'atropos'.*SynthSeg"):
        image.segment_tissues(method="deep_atropos")
    with pytest.raises(InputError, match="arcuate makes no parcellation"):
        image.parcellate()
    if importlib.util.find_spec("ants") is not None:
        with pytest.raises(InputError, match="is constant or holds nothing finite"):
            StructuralImage(head["t1"].with_array(np.ones(head["t1"].shape))).correct_bias()
        sheared = np.array([[2.0, 0.5, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
        with pytest.raises(InputError, match="the axes of the image are not orthogonal"):
            StructuralImage(InMemoryVolumeResource(head["t1"].array, sheared)).correct_bias()
        with pytest.raises(InputError, match="found a mask of shape"):
            image.estimate_tissues(head["mask"].with_array(np.ones((3, 3, 3))))
    monkeypatch.setitem(sys.modules, "ants", None)
    for step in (image.correct_bias, image.segment_tissues):
        with pytest.raises(MissingExtraError, match=r"pip install .*\[ants\]'"):
            step()
