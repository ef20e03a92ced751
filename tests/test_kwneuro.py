"""What scripts for kwneuro 1.0 call is found under the same names, and takes arguments in the same order."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from arcuate import reg, registration
from arcuate.cache import Cache, CacheSpec, cacheable
from arcuate.errors import InputError
from arcuate.harmonize import harmonize_volumes
from arcuate.masks import brain_extract, brain_extract_dwi_batch, brain_extract_structural_batch
from arcuate.phantom import make_phantom, three_shell_gradients
from arcuate.util import create_estimate_volume_resource, deep_equal_allclose, subsample_volume, update_volume_metadata
from arcuate.volumes.resource import InMemoryVolumeResource
from arcuate.volumes.transforms import Affine

needs_ants = pytest.mark.skipif(
    importlib.util.find_spec("ants") is None, reason="antspyx is not installed (extra ants); its oracle is left out"
)

# module: {name: its first parameters, in kwneuro's order}
CALLS = {
    "build_template": {
        "average_volumes": ("volume_list", "normalize"),
        "build_template": ("volume_list", "initial_template", "iterations"),
        "build_multi_metric_template": ("subject_list", "initial_template", "weights", "iterations"),
    },
    "cache": {"Cache": ("folder", "force"), "CacheSpec": ("files", "save", "load", "step_name"), "cacheable": ()},
    "csd": {
        "combine_csd_peaks_to_vector_volume": ("directions", "values"), "compute_csd_fods": ("dwi", "mask", "response"),
        "compute_csd_peaks": ("dwi", "mask", "response"), "estimate_response_function": ("dwi", "mask"),
    },
    "dti": {"Dti": ("volume",)},
    "dwi": {"Dwi": ("volume", "bval", "bvec"), "subsample_dwi": ("dwi", "factor")},
    "external": {"TemporaryDwiFiles": (), "temporary_dwi_files": ("dwi",), "temporary_structural_file": ("structural",),
                 "temporary_volume_file": ("volume",)},
    "files": {
        "read_dwi_fsl": ("volume", "bval", "bvec"), "read_structural": ("path",), "read_volume": ("path",),
        "write_dwi_fsl": ("dwi", "volume", "bval", "bvec"), "write_structural": ("structural", "path"),
        "write_volume": ("volume", "path"),
    },
    "harmonize": {"CombatEstimates": (), "harmonize_volumes": ("volumes", "covars", "batch_col", "mask")},
    "io": {"FslBvalResource": ("path",), "FslBvecResource": ("path",), "NiftiVolumeResource": ("path",)},
    "masks": {"brain_extract": ("volume", "output_path"), "brain_extract_dwi_batch": ("cases",),
              "brain_extract_structural_batch": ("cases",)},
    "noddi": {"Noddi": ("volume", "directions")},
    "reg": {
        "TransformResource": (), "register_volumes": ("fixed", "moving", "type_of_transform", "mask", "moving_mask"),
        "register_volumes_multimetric": ("fixed", "moving", "weights", "mask", "moving_mask"),
        "register_dwi_to_structural": ("dwi", "structural", "type_of_transform", "dwi_mask", "structural_mask"),
    },
    "resource": {"BvalResource": (), "BvecResource": (), "InMemoryBvalResource": ("array",), "Resource": (),
                 "InMemoryBvecResource": ("array",), "InMemoryVolumeResource": ("array", "affine", "metadata"),
                 "VolumeResource": ()},
    "structural": {"StructuralImage": ("volume",)},
    "tractseg": {"extract_tractseg": ("dwi", "mask", "response", "output_type", "csd_peaks")},
    "util": {"create_estimate_volume_resource": ("array", "reference_volume", "intent_name"),
             "deep_equal_allclose": ("obj1", "obj2"), "subsample_volume": ("volume", "factor"),
             "update_volume_metadata": ("metadata", "volume_data_array", "intent_code", "intent_params")},
}  # fmt: skip


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in CALLS.items() for name in names])
def test_a_name_is_there_and_takes_its_arguments_in_order(module: str, name: str) -> None:
    found = getattr(importlib.import_module(f"arcuate.{module}"), name)
    expected = CALLS[module][name]
    if expected:
        assert tuple(inspect.signature(found).parameters)[: len(expected)] == expected


def _turned() -> tuple[InMemoryVolumeResource, InMemoryVolumeResource, Affine]:
    """Two images of one grid each, and a rigid map of points between them."""
    rng = np.random.default_rng(0)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [4, 8, -5], degrees=True).as_matrix()
    matrix[:3, 3] = [1, 2, -1]
    fixed = InMemoryVolumeResource(rng.random((9, 10, 8), dtype=np.float32), np.diag([2.0, 2, 2, 1]))
    moving = InMemoryVolumeResource(rng.random((7, 12, 9), dtype=np.float32), np.diag([-2.0, 2, 2.5, 1]))
    return fixed, moving, Affine(matrix)


def test_a_transform_of_reg_is_applied_in_the_order_of_kwneuro(tmp_path: Path) -> None:
    fixed, moving, affine = _turned()
    ours, theirs = registration.TransformResource.of(affine), reg.TransformResource.of(affine)
    expected = ours.apply(moving, fixed).array
    assert expected.shape == fixed.shape
    back = ours.apply(fixed, moving, "nearest", invert=True).array
    for transform in (theirs, theirs.save(tmp_path / "t"), reg.TransformResource.load(tmp_path / "t")):
        assert isinstance(transform, reg.TransformResource)
        np.testing.assert_allclose(transform.apply(fixed, moving).array, expected, atol=1e-5)
        np.testing.assert_allclose(transform.apply(fixed=fixed, moving=moving).array, expected, atol=1e-5)
        np.testing.assert_allclose(transform.apply(moving, fixed, True, "nearestNeighbor").array, back, atol=1e-5)
    np.testing.assert_allclose(theirs.inverse.apply(fixed, moving, "nearest").array, back, atol=1e-6)
    np.testing.assert_allclose(theirs.apply(volume=moving, reference=fixed).array, expected)
    np.testing.assert_allclose(ours.apply(fixed=fixed, moving=moving).array, expected)
    assert theirs.warp_fields == []
    with pytest.raises(InputError, match=r"found True in place of an interpolation.*arcuate\.reg"):
        ours.apply(fixed, moving, True)


@needs_ants
def test_registration_of_reg_gives_the_same_transform() -> None:
    head = make_phantom(three_shell_gradients(n_b0=1, bvals=(1000,), n_directions=6), (24, 28, 22), 6.0, snr=None)
    fixed = InMemoryVolumeResource((head.tissue @ [1.0, 0.6, 0.2]).astype(np.float32), head.affine)
    moved = registration.TransformResource.of(_turned()[2]).apply(fixed, fixed)
    warped, transform = reg.register_volumes(fixed, moved, "Rigid")
    ours, known = registration.register_volumes(fixed, moved, "Rigid")
    points = np.argwhere(head.brain_mask)[::40] @ head.affine[:3, :3].T + head.affine[:3, 3]
    off = np.linalg.norm(transform.map_points(points) - known.map_points(points), axis=1)
    assert off.max() < 0.3  # mm: ANTs' threads add in any order
    np.testing.assert_allclose(warped.array, ours.array, atol=0.05)
    np.testing.assert_array_equal(transform.apply(fixed, moved).array, warped.array)


@needs_ants
def test_images_of_ants_come_and_go_with_their_place() -> None:
    array = np.zeros((5, 6, 7), dtype=np.float32)
    array[1, 2, 3] = 4
    affine = np.array([[0, -2.0, 0, 3], [2, 0, 0, -5], [0, 0, 2.5, 1], [0, 0, 0, 1]])
    image = InMemoryVolumeResource(array, affine).to_ants_image()
    assert image.shape == (5, 6, 7)
    assert image.spacing == (2, 2, 2.5)
    back = InMemoryVolumeResource.from_ants_image(image)
    np.testing.assert_array_equal(back.array, array)
    np.testing.assert_allclose(back.affine, affine, atol=1e-6)
    empty = InMemoryVolumeResource(np.zeros((2, 2, 2), dtype=bool), affine).to_ants_image()
    assert empty.numpy().sum() == 0


def test_masks_are_written_to_their_files(tmp_path: Path) -> None:
    gradients = three_shell_gradients(n_b0=2, bvals=(1000,), n_directions=6)
    head = make_phantom(gradients, (28, 32, 24), 6.0, snr=40)
    from arcuate.dwi import Dwi
    from arcuate.structural import StructuralImage

    scan = Dwi.from_arrays(head.signal, head.affine, gradients)
    b0 = scan.compute_mean_b0()
    found = brain_extract_dwi_batch([(scan, tmp_path / "a.nii.gz"), (scan, tmp_path / "b.nii.gz")], method="otsu")
    assert [mask.path.name for mask in found] == ["a.nii.gz", "b.nii.gz"]
    single = brain_extract(b0, tmp_path / "c.nii.gz", method="otsu", sequential=True)
    others = brain_extract_structural_batch([(StructuralImage(b0), tmp_path / "d.nii.gz")], method="otsu")
    for mask in (*found, single, *others):
        inside = mask.get_array() > 0
        assert 2 * np.sum(inside & head.brain_mask) > 0.9 * (inside.sum() + head.brain_mask.sum())


def test_a_step_with_files_of_its_own_is_kept(tmp_path: Path) -> None:
    calls = []

    def write(words: set[str], folder: Path) -> None:
        (folder / "words.txt").write_text(" ".join(sorted(words)))

    def read(folder: Path) -> set[str]:
        return set((folder / "words.txt").read_text().split())

    @cacheable(CacheSpec(files=["words.txt"], save=write, load=read))
    def words_of(text: str, least: int = 1) -> set[str]:
        calls.append(text)
        return {word for word in text.split() if len(word) >= least}

    assert words_of("a bc") == {"a", "bc"}
    with Cache(cache_dir=tmp_path) as cache:
        assert words_of("a bc") == {"a", "bc"}
        assert words_of(text="a bc", least=1) == {"a", "bc"}
        assert words_of("a bc", 2) == {"bc"}
        assert cache.status([words_of]) == {"words_of": True} or list(cache.status([words_of]).values()) == [True]
    assert calls == ["a bc"] * 3
    assert (tmp_path / "words.txt").read_text() == "bc"  # the flat file shows the last call
    with Cache(tmp_path, force={"words_of"}) as cache:
        assert cache.is_forced("words_of")
        assert not cache.is_forced("other")
        words_of("a bc")
    with Cache(tmp_path) as cache:
        assert words_of("a bc", 2) == {"bc"}
        assert cache.cache_dir == tmp_path
        assert not cache.is_forced("words_of")
    assert calls == ["a bc"] * 4


def test_a_step_whose_files_are_not_those_it_names_is_computed_and_not_kept(tmp_path: Path) -> None:
    @cacheable(CacheSpec(files=["a.txt"], save=lambda result, folder: (folder / "b.txt").write_text(result), load=str))
    def wrong(text: str) -> str:
        return text

    with Cache(tmp_path), pytest.warns(UserWarning, match=r"its files are a\.txt, and save wrote b\.txt"):
        assert wrong("x") == "x"
    with pytest.raises(InputError, match="found no folder for the cache"):
        Cache()


def test_header_entries_follow_an_array_and_others_are_kept() -> None:
    entries = update_volume_metadata({"qform_code": 2, "tag": "mine"}, np.zeros((6, 7, 8), np.int16), 1001, (), "FA")
    assert entries["tag"] == "mine"
    assert int(entries["qform_code"]) == 2
    assert list(entries["dim"][:4]) == [3, 6, 7, 8]
    assert bytes(entries["intent_name"].tobytes()).rstrip(b"\0") == b"FA"
    like = InMemoryVolumeResource(np.zeros((4, 4, 4)), 2 * np.eye(4), entries)
    made = create_estimate_volume_resource(np.ones((4, 4, 4, 2), np.float32), like, "NDI")
    assert list(made.get_metadata()["dim"][:5]) == [4, 4, 4, 4, 2]
    small = subsample_volume(like)
    assert small.shape == (2, 2, 2)
    np.testing.assert_array_equal(small.affine[:3, :3], 4 * np.eye(3))


def test_alike_means_alike_down_to_types_and_nearly_in_numbers() -> None:
    one = {"a": [np.array([1.0, np.nan]), (1, "x")], "b": np.nan}
    other = {"a": [np.array([1.0 + 1e-9, np.nan]), (1, "x")], "b": np.nan}
    assert deep_equal_allclose(one, other)
    assert not deep_equal_allclose(one, {**other, "b": 1.0})
    assert not deep_equal_allclose([1], (1,))
    assert not deep_equal_allclose(np.zeros(3, np.float32), np.zeros(3))
    assert not deep_equal_allclose(np.zeros(3), np.zeros((3, 1)))
    assert deep_equal_allclose(np.array(["a"]), np.array(["a"]))


def test_harmonised_maps_and_what_was_learnt_can_be_pickled() -> None:
    rng = np.random.default_rng(0)
    volumes = [InMemoryVolumeResource(rng.normal(size=(3, 4, 2)) + (i > 2)) for i in range(6)]
    mask = InMemoryVolumeResource(np.ones((3, 4, 2), np.uint8))
    _, estimates = harmonize_volumes(volumes, {"scanner": ["a"] * 3 + ["b"] * 3}, "scanner", mask)
    again = pickle.loads(pickle.dumps(estimates))
    np.testing.assert_array_equal(again.estimates["gamma.star"], estimates.estimates["gamma.star"])
    assert again.info["batch_levels"] == ["a", "b"]
