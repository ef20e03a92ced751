"""What a step returns comes back bit for bit."""

from __future__ import annotations

import functools
import gc
import json
import pickle
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from arcuate.cache import Cache, CacheWarning, cacheable, fingerprint, storable, store
from arcuate.cache.volumes import StoredVolume
from arcuate.dwi import Dwi
from arcuate.errors import InputError, InputWarning
from arcuate.gradients import GradientTable
from arcuate.io import NiftiVolumeResource
from arcuate.io.locks import exclusive
from arcuate.volumes.resource import InMemoryBvalResource, InMemoryBvecResource, InMemoryVolumeResource, VolumeResource


@storable
@dataclass(frozen=True, eq=False)
class Fit:
    volume: VolumeResource
    status: VolumeResource
    facts: dict[str, Any] = field(default_factory=dict)


@storable
@dataclass(frozen=True, eq=False)
class Maps:
    ndi: VolumeResource
    d_par: float


def returned_by_cache(make: Callable[[], Any], folder: Path) -> Any:
    """What the second call of a step that returns ``make()`` gives."""
    calls = []

    @cacheable(version=1)
    def step() -> Any:
        calls.append(1)
        return make()

    with Cache(folder) as cache:
        step()
        assert cache.status([step]) == {"step": True}
    with Cache(folder):
        result = step()
    assert len(calls) == 1
    return result


def assert_same_volume(found: VolumeResource, expected: VolumeResource) -> None:
    a, b = found.get_array(), expected.get_array()
    assert a.dtype == b.dtype
    assert a.shape == b.shape == found.shape
    assert a.flags.c_contiguous == b.flags.c_contiguous
    assert a.flags.writeable
    assert a.tobytes() == b.tobytes()
    np.testing.assert_array_equal(found.get_affine(), expected.get_affine())
    assert found.get_affine().dtype == expected.get_affine().dtype
    assert found.get_metadata() == expected.get_metadata()


@functools.cache
def _arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    signal = rng.normal(size=(4, 5, 6, 3))
    special = signal.astype(np.float32)
    special.reshape(-1)[:6] = [np.nan, np.inf, -np.inf, -0.0, 1e-42, np.float32(3.4e38)]
    special.view(np.uint32).reshape(-1)[7] = 0x7FC12345  # a NaN with a payload
    return {
        "float32": signal.astype(np.float32), "float32 F": np.asfortranarray(signal.astype(np.float32)),
        "special": special, "float64": signal, "float64 exact": special.astype(np.float64)[..., :1],
        "float16": signal.astype(np.float16), "big endian": signal.astype(">f4"), "bool": signal > 0,
        "uint8": (signal > 0).astype(np.uint8), "int8": np.full((2, 2, 2), -3, np.int8),
        "int16": (signal * 1e4).astype(np.int16), "int32 large": np.full((2, 2, 2), 2**30 + 1, np.int32),
        "int64": np.full((2, 2, 2), 2**62, np.int64), "uint16": np.full((2, 2, 2), 65535, np.uint16),
        "complex": signal + 1j, "one voxel": np.ones((1, 1, 1), "f4"), "trailing": np.ones((2, 3, 4, 1), "f4"),
        "2d": np.ones((3, 4), "f4"), "empty": np.zeros((0, 3, 3), "f4"), "5d": np.ones((2, 2, 2, 2, 3), "f4"),
        "large": np.asfortranarray(rng.normal(size=(100, 100, 60, 8)).astype(np.float32)),
        "large C": rng.normal(size=(100, 100, 60, 8)).astype(np.float32),
    }  # fmt: skip


@pytest.mark.parametrize("name", _arrays())
def test_a_volume_of_any_kind_comes_back_bit_for_bit(name, folder):
    affine = np.array([[-1.7, 0.1, 0, 3], [0.2, 1.9, 0.3, -7.123456789], [0, 0.1, 2.2, 1 / 3], [0, 0, 0, 1]])
    expected = InMemoryVolumeResource(_arrays()[name], affine, {"descrip": "x", "pixdim": [1.0, 2.0]})
    found = returned_by_cache(lambda: expected, folder)
    assert isinstance(found, InMemoryVolumeResource) != name.startswith("large")
    assert fingerprint(found) == fingerprint(expected)
    assert_same_volume(found, expected)
    assert fingerprint(found) == fingerprint(expected)


PLAIN = [
    None, True, 3, 2**80, 0.1, float("inf"), -0.0, "text", "é", (1, (2.0, None)), [1, [2]], {"a": 1, 2: "b"},
    np.float32(0.1), np.int64(3), np.bool_(True), (), {}, [],
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_values_come_back_with_their_type(value, folder):
    found = returned_by_cache(lambda: value, folder)
    assert type(found) is type(value)
    assert found == value
    assert repr(found) == repr(value)


@pytest.mark.parametrize("shape", [(3,), (50, 40), ()])
def test_plain_arrays_come_back(shape, folder):
    expected = np.asarray(np.random.default_rng(0).normal(size=shape))
    found = returned_by_cache(lambda: {"rows": expected}, folder)["rows"]
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()
    found[...] = 0  # nobody else's memory


def test_tuples_and_dataclasses_come_back(volume, folder):
    status = InMemoryVolumeResource(np.ones((5, 6, 7), np.uint8), volume.affine)
    fit, maps, facts = returned_by_cache(
        lambda: (Fit(volume, status, {"n": 3}), Maps(volume, 1.7e-3), {"unit": "mm²/s"}), folder
    )
    assert isinstance(fit, Fit)
    assert isinstance(maps, Maps)
    assert (fit.facts, maps.d_par, facts) == ({"n": 3}, 1.7e-3, {"unit": "mm²/s"})
    for found, expected in [(fit.volume, volume), (fit.status, status), (maps.ndi, volume)]:
        assert_same_volume(found, expected)


def test_a_scan_and_a_gradient_table_come_back(volume, folder):
    array = np.asfortranarray(np.random.default_rng(0).normal(size=(4, 4, 4, 3)).astype(np.float32))
    scan = Dwi(
        InMemoryVolumeResource(array, volume.affine, volume.metadata),
        InMemoryBvalResource(np.array([0.0, 1000.0, 1000.0])),
        InMemoryBvecResource(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])),
    )
    found, table = returned_by_cache(lambda: (scan, scan.gradients), folder)
    assert_same_volume(found.volume, scan.volume)
    assert found.bval.get().tobytes() == scan.bval.get().tobytes()
    assert isinstance(table, GradientTable)
    assert table == scan.gradients
    assert fingerprint(found) == fingerprint(scan)


def test_header_entries_that_were_carried_over_come_from_the_volume_of_this_call(volume, folder):
    @cacheable(version=1)
    def carry(volume: VolumeResource) -> InMemoryVolumeResource:
        return InMemoryVolumeResource(volume.get_array(), volume.get_affine(), volume.get_metadata())

    other = InMemoryVolumeResource(volume.array, volume.affine, {"descrip": "a scan", "note": "read by nobody"})
    with Cache(folder) as cache:
        carry(volume)
        assert carry(other).get_metadata() == other.metadata
        assert [call.was_cached for call in cache.calls] == [False, True]


class Opaque:
    pass


@dataclass
class Holder:
    inside: Any


def _local() -> Any:
    @dataclass
    class Local:
        x: int = 1

    return Local()


@pytest.mark.parametrize(
    "make", [Opaque, lambda: Holder(1), lambda: Maps(Opaque(), 1.0), lambda: [print], _local, lambda: 1j], ids=range(6)
)
def test_a_result_that_cannot_be_kept_is_computed_each_time_and_said(make, folder):
    calls = []

    @cacheable(version=1)
    def step() -> Any:
        calls.append(1)
        return make()

    with Cache(folder) as cache:
        for _ in range(2):
            with pytest.warns(CacheWarning, match=r"the result of step was not kept: a .* cannot be kept"):
                step()
        assert cache.status([step]) == {"step": False}
    assert len(calls) == 2
    assert not list(folder.glob("*")) or {p.name for p in folder.iterdir()} == {".arcuate"}
    assert not list((folder / ".arcuate" / "staging").iterdir())


def test_flat_files_have_the_names_the_step_gives(volume, folder):
    @cacheable(version=1, outputs=("csd_peak_dirs", "csd_peak_values"))
    def compute_csd_peaks() -> tuple[VolumeResource, VolumeResource]:
        return volume, volume

    @cacheable(version=1, outputs={"volume": "estimate_noddi"})
    def estimate_noddi() -> Fit:
        return Fit(volume, volume)

    @cacheable
    def estimate_dti() -> Fit:
        return Fit(volume, volume)

    @cacheable
    def extract_brain() -> VolumeResource:
        return volume

    @cacheable(outputs=("own_maps",))
    def estimate_maps() -> Maps:
        return Maps(volume, 1.0)

    with Cache(folder):
        for step in (compute_csd_peaks, estimate_noddi, estimate_dti, extract_brain, estimate_maps):
            step()
    assert sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) == [
        "compute_csd_peaks.params.json", "csd_peak_dirs.nii.gz", "csd_peak_values.nii.gz",
        "estimate_dti.nii.gz", "estimate_dti.params.json", "estimate_dti_status.nii.gz",
        "estimate_maps.params.json", "estimate_noddi.nii.gz", "estimate_noddi.params.json",
        "extract_brain.nii.gz", "extract_brain.params.json", "own_maps.nii.gz",
    ]  # fmt: skip
    np.testing.assert_array_equal(nibabel.load(folder / "csd_peak_dirs.nii.gz").get_fdata(), volume.array)


def test_a_large_kept_volume_is_read_only_when_it_is_asked_for(folder, tmp_path, monkeypatch):
    array = np.asfortranarray(np.random.default_rng(0).normal(size=(100, 100, 60, 10)).astype(np.float32))
    found = returned_by_cache(lambda: InMemoryVolumeResource(array), folder)
    with monkeypatch.context() as patch:
        patch.setattr(NiftiVolumeResource, "get_array", None)
        assert found.shape == array.shape
        assert found.get_affine().shape == (4, 4)
        assert fingerprint(found) == fingerprint(InMemoryVolumeResource(array))
    saved = NiftiVolumeResource.save(InMemoryVolumeResource(array), tmp_path / "x.nii.gz").path
    copied = NiftiVolumeResource.save(found, tmp_path / "y.nii.gz")
    assert copied.path.read_bytes() == saved.read_bytes() == found.encoded_file().read_bytes()
    again = pickle.loads(pickle.dumps(found))
    assert_same_volume(again, found)
    assert found.get_array() is found.get_array()
    assert found.encoded_file() is not None  # read, and as it was kept
    found.get_array()[0] = 1
    assert found.encoded_file() is None
    assert fingerprint(found) != fingerprint(InMemoryVolumeResource(array))


def test_a_large_kept_volume_whose_file_was_changed_meanwhile_is_refused(folder, tmp_path):
    array = np.zeros((100, 100, 60, 10), np.float32, order="F")
    found = returned_by_cache(lambda: InMemoryVolumeResource(array), folder)
    other = NiftiVolumeResource.save(InMemoryVolumeResource(array + np.float32(1)), tmp_path / "other.nii.gz").path
    with (folder / "step.nii.gz").open("r+b") as file:  # the same file as the entry's, a sound image in it
        file.write(other.read_bytes())
        file.truncate()
    saved = tmp_path / "saved.nii.gz"
    for use in (found.get_array, lambda: found.get_volume(0), lambda: NiftiVolumeResource.save(found, saved)):
        with pytest.raises(InputError, match="of the cache was changed while it was in use"):
            use()
    assert not saved.exists()


def test_a_large_kept_volume_that_was_read_is_saved_from_memory_where_its_file_was_changed(folder, tmp_path):
    array = np.asfortranarray(np.random.default_rng(0).normal(size=(100, 100, 60, 10)).astype(np.float32))
    found = returned_by_cache(lambda: InMemoryVolumeResource(array), folder)
    found.get_array()
    (folder / "step.nii.gz").write_bytes(b"something else")
    saved = NiftiVolumeResource.save(found, tmp_path / "saved.nii.gz")
    np.testing.assert_array_equal(saved.get_array(), array)


def test_an_entry_is_in_use_as_long_as_its_volume_lives(folder):
    array = np.zeros((100, 100, 60, 10), np.float32, order="F")
    found = returned_by_cache(lambda: InMemoryVolumeResource(array), folder)
    (entry,) = (folder / ".arcuate" / "entries").glob("*/*/entry.json")
    with exclusive(entry) as is_free:
        assert not is_free
    del found
    gc.collect()
    with exclusive(entry) as is_free:
        assert is_free


def test_a_step_that_fails_keeps_nothing_and_says_what_it_says(volume, folder):
    @cacheable(version=1)
    def fail(volume: VolumeResource) -> None:
        raise KeyError("own message")

    with Cache(folder) as cache:
        for _ in range(2):
            with pytest.raises(KeyError, match="own message"):
                fail(volume)
        assert cache.status([fail]) == {"fail": False}
        with pytest.raises(TypeError, match="unexpected keyword"):
            fail(volume, nonsense=1)


def test_warnings_about_the_input_are_given_again_with_the_kept_result(folder):
    @cacheable(version=1)
    def inner(x: int) -> int:
        warnings.warn(f"{x} directions are few", InputWarning, stacklevel=2)
        return x

    @cacheable(version=1, calls=(inner,))
    def outer(x: int) -> int:
        warnings.warn("numerical trouble", RuntimeWarning, stacklevel=2)
        return inner(x)

    def told() -> list[tuple[type, str]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert outer(3) == 3
        return [(w.category, str(w.message)) for w in caught]

    few = (InputWarning, "3 directions are few")
    assert told() == [(RuntimeWarning, "numerical trouble"), few]
    with Cache(folder):
        assert told() == [(RuntimeWarning, "numerical trouble"), few]
        assert told() == [few]
    with Cache(folder), pytest.raises(InputWarning, match="are few"):
        outer(3)  # here every warning is an error, kept result or not
    with Cache(folder, force=True), pytest.raises(RuntimeWarning, match="trouble"):
        outer(3)


IMPORTED = """
import sys
print("imported", file=sys.stderr)
from dataclasses import dataclass

@dataclass
class Evil:
    x: int
"""


def test_an_entry_imports_nothing_and_makes_no_class_that_was_not_registered(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "evil_module.py").write_text(IMPORTED)
    monkeypatch.syspath_prepend(tmp_path)
    calls = []

    @cacheable(version=1)
    def step() -> Any:
        calls.append(1)
        return Maps(InMemoryVolumeResource(np.ones((2, 2, 2))), 1.0)

    with Cache(folder):
        step()
    (path,) = (folder / ".arcuate" / "entries").glob("*/*/entry.json")
    record = json.loads(path.read_text())
    record["result"] = {"dataclass": "evil_module:Evil", "fields": [["x", 1]]}
    record["check"] = store._check(record)  # whoever can write the folder can do that, too
    path.write_text(json.dumps(record))
    with Cache(folder), pytest.warns(CacheWarning, match="no class evil_module:Evil is registered here"):
        assert isinstance(step(), Maps)
    assert len(calls) == 2
    assert "evil_module" not in sys.modules
    assert "imported" not in capsys.readouterr().err


def test_a_kept_scan_shows_a_picture_without_being_decoded(folder, monkeypatch):
    array = np.asfortranarray(np.random.default_rng(0).normal(size=(100, 100, 60, 8)).astype(np.float32))
    found = returned_by_cache(lambda: InMemoryVolumeResource(array), folder)
    monkeypatch.setattr(StoredVolume, "read", None)
    assert "<img" in found._repr_html_()
    np.testing.assert_array_equal(found.get_volume(3), array[..., 3])


def test_labels_beyond_what_float32_holds_come_back_from_the_image(folder):
    labels = np.zeros((4, 4, 4), np.int32, order="F")
    labels[0, 0, 0] = 2**24 + 1
    found = returned_by_cache(lambda: InMemoryVolumeResource(labels), folder)
    assert_same_volume(found, InMemoryVolumeResource(labels))
    assert not list(folder.glob(".arcuate/entries/*/*/*.npy"))
