"""What makes two calls the same: content, parameters, version; and nothing else."""

from __future__ import annotations

import dataclasses
import enum
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from arcuate.cache import Cache, CacheWarning, cacheable, files, fingerprint
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource
from arcuate.volumes.resource import InMemoryBvalResource, InMemoryVolumeResource, VolumeResource

CALLS: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    CALLS.clear()


@cacheable(version=1)
def double(volume: VolumeResource, mask: VolumeResource | None = None, *, power: float = 1.0) -> InMemoryVolumeResource:
    CALLS.append("double")
    loaded = volume.load()
    return InMemoryVolumeResource(loaded.get_array() * np.float32(2**power), loaded.affine, loaded.metadata)


@cacheable(version=1)
def mean_of_file(path: Path) -> float:
    CALLS.append("mean")
    return float(NiftiVolumeResource(path).get_array().mean())


def n_calls(folder: Path, *volumes: VolumeResource, **options: float) -> int:
    before = len(CALLS)
    with Cache(folder):
        for volume in volumes:
            double(volume, **options)
    return len(CALLS) - before


def age(path: Path, seconds: float = 10.0) -> None:
    """Set the modification time back; the change time stays now, as the system keeps it."""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - int(seconds * 1e9)))


@pytest.fixture
def no_grain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust files as soon as they are read, as if every file had been written long ago."""
    monkeypatch.setattr(files, "GRAIN", -60.0)


def test_outside_a_cache_every_call_computes(volume):
    double(volume)
    double(volume)
    assert len(CALLS) == 2


def test_the_same_call_computes_once_also_in_a_later_cache(volume, folder):
    assert n_calls(folder, volume, volume) == 1
    assert n_calls(folder, volume) == 0


def test_a_volume_in_memory_and_on_disk_are_the_same(volume, folder, tmp_path):
    on_disk = NiftiVolumeResource.save(volume, tmp_path / "v.nii.gz")
    assert n_calls(folder, on_disk, on_disk.load(), volume, NiftiVolumeResource.save(volume, tmp_path / "w.nii")) == 1


def test_memory_order_and_views_do_not_matter(volume):
    array = volume.array
    wide = np.zeros((10, 6, 7), np.float32)
    wide[::2] = array
    for same in (np.ascontiguousarray(array), wide[::2], array[::-1][::-1]):
        assert fingerprint(same) == fingerprint(array)


@pytest.mark.parametrize("shape", [(7, 300, 200), (3, 4, 5, 6), (2, 3), (9,), (), (0, 3), (160, 160, 60, 3)])
def test_the_digest_does_not_depend_on_memory_order_for_any_size(shape):
    array = np.asarray(np.random.default_rng(0).normal(size=shape)).astype(np.float32)
    assert fingerprint(np.asfortranarray(array)) == fingerprint(np.ascontiguousarray(array))


def test_an_overwrite_in_place_is_seen(folder, make_file):
    path = make_file("a.nii", 1.0)
    assert n_calls(folder, NiftiVolumeResource(path)) == 1
    data = bytearray(path.read_bytes())
    data[352:356] = np.float32(9).tobytes()
    with path.open("r+b") as file:
        file.write(data)
    assert n_calls(folder, NiftiVolumeResource(path)) == 1
    with Cache(folder):
        assert double(NiftiVolumeResource(path)).get_array()[0, 0, 0] == 18


@pytest.mark.usefixtures("no_grain")
def test_an_overwrite_in_place_with_its_old_date_restored_is_seen(folder, make_file):
    path = make_file("a.nii", 1.0, (40, 40, 40))
    age(path)
    assert n_calls(folder, NiftiVolumeResource(path)) == 1
    assert n_calls(folder, NiftiVolumeResource(path)) == 0
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(352 + 4 * 30_000)  # beyond the bytes at both ends that are always compared
        file.write(np.float32(9).tobytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_mtime_ns, after.st_size, after.st_ino) == (before.st_mtime_ns, before.st_size, before.st_ino)
    assert n_calls(folder, NiftiVolumeResource(path)) == 1


def test_an_overwrite_within_the_grain_of_the_clock_is_seen(folder, make_file, monkeypatch):
    """A file system whose clock stands still: size, inode and all times stay as they were."""
    path = make_file("a.nii", 1.0, (40, 40, 40))
    stat, frozen = os.fstat, path.stat()
    start = frozen.st_ctime

    def still(descriptor: int) -> os.stat_result:
        real = stat(descriptor)
        return frozen if real.st_ino == frozen.st_ino else real

    monkeypatch.setattr(files.os, "fstat", still)
    monkeypatch.setattr(files, "now", lambda: start + 0.5)
    assert n_calls(folder, NiftiVolumeResource(path)) == 1
    with path.open("r+b") as file:
        file.seek(352 + 4 * 30_000)
        file.write(np.float32(9).tobytes())
    assert n_calls(folder, NiftiVolumeResource(path)) == 1
    monkeypatch.setattr(files, "now", lambda: start + 3)  # read again after the grain: trusted from here on
    assert n_calls(folder, NiftiVolumeResource(path)) == 0
    reads: list[NiftiVolumeResource] = []
    monkeypatch.setattr(NiftiVolumeResource, "load", lambda self: reads.append(self))
    assert n_calls(folder, NiftiVolumeResource(path)) == 0
    assert not reads


@pytest.mark.usefixtures("no_grain")
def test_a_file_that_was_read_before_is_recognised_without_reading_it(folder, make_file, monkeypatch):
    path = make_file("a.nii.gz", 1.0)
    assert n_calls(folder, NiftiVolumeResource(path)) == 1
    reads: list[Path] = []
    load = NiftiVolumeResource.load
    monkeypatch.setattr(NiftiVolumeResource, "load", lambda self: reads.append(self.path) or load(self))
    assert n_calls(folder, NiftiVolumeResource(path)) == 0
    assert not reads


@pytest.mark.usefixtures("no_grain")
def test_a_touched_but_unchanged_file_is_the_same(folder, make_file):
    path = make_file("a.nii.gz", 1.0)
    assert n_calls(folder, NiftiVolumeResource(path)) == 1
    path.touch()
    os.utime(path, (1e9, 1e9))
    assert n_calls(folder, NiftiVolumeResource(path)) == 0


@pytest.mark.usefixtures("no_grain")
def test_moved_folders_of_data_and_of_cache_change_nothing(tmp_path, make_file):
    path = make_file("here/a.nii.gz", 1.0)
    assert n_calls(tmp_path / "cache", NiftiVolumeResource(path)) == 1
    shutil.move(tmp_path / "here", tmp_path / "there")
    shutil.move(tmp_path / "cache", tmp_path / "elsewhere")
    assert n_calls(tmp_path / "elsewhere", NiftiVolumeResource(tmp_path / "there" / "a.nii.gz")) == 0


def test_two_files_of_one_name_and_size_are_told_apart(folder, make_file):
    volumes = [NiftiVolumeResource(make_file(f"{i}/dwi.nii", float(i))) for i in range(3)]
    assert n_calls(folder, *volumes) == 3


def test_a_path_counts_by_the_content_of_its_file(folder, make_file):
    a, b, c = make_file("a.nii", 1.0), make_file("b.nii", 1.0), make_file("c.nii", 2.0)
    with Cache(folder):
        assert [mean_of_file(p) for p in (a, b, c)] == [1.0, 1.0, 2.0]
    assert len(CALLS) == 2


def test_going_back_to_former_parameters_finds_their_result(volume, folder):
    with Cache(folder):
        first = double(volume, power=1.0).get_array()
        second = double(volume, power=2.0).get_array()
        third = double(volume, power=1.0).get_array()
    assert len(CALLS) == 2
    np.testing.assert_array_equal(first, third)
    assert not np.array_equal(first, second)


def test_flat_files_show_the_latest_call_also_when_it_was_kept(volume, folder):
    with Cache(folder):
        for power in (1.0, 2.0, 1.0):
            expected = double(volume, power=power).get_array()
            np.testing.assert_array_equal(NiftiVolumeResource(folder / "double.nii.gz").get_array(), expected)


def test_defaults_written_out_and_left_out_are_one_call(volume, folder):
    with Cache(folder):
        double(volume)
        double(volume, None, power=1.0)
        double(volume=volume, mask=None)
    assert len(CALLS) == 1


def test_another_default_is_another_call(volume, folder):
    def make(default: float):
        def scaled(volume: VolumeResource, factor: float = default) -> float:
            CALLS.append("scaled")
            return float(volume.get_array().sum() * factor)

        return cacheable(version=1)(scaled)

    with Cache(folder):
        assert make(1.0)(volume) != make(2.0)(volume)
    assert len(CALLS) == 2


def test_equal_bytes_of_another_shape_or_dtype_are_another_array():
    base = np.arange(64, dtype=np.float32)
    others = [base, base.reshape(8, 8), base.reshape(4, 16), base.view(np.int32), base.view(np.uint8), base.view(">f4")]
    assert len({fingerprint(a) for a in others}) == len(others)


def test_only_another_affine_is_another_call(volume, folder):
    moved = volume.affine.copy()
    moved[0, 3] += 1e-6
    with Cache(folder):
        double(volume)
        result = double(InMemoryVolumeResource(volume.array, moved, volume.metadata))
    assert len(CALLS) == 2
    np.testing.assert_array_equal(result.get_affine(), moved)


def test_an_array_changed_in_place_between_two_calls_is_seen(folder):
    array = np.zeros((200, 200, 60, 3), np.float32, order="F")  # large enough for its digest to be remembered
    volume = InMemoryVolumeResource(array)
    with Cache(folder):
        assert double(volume).get_array().max() == 0
        array[100, 100, 30, 1] = 1e-30
        assert double(volume).get_array().max() > 0
        array[100, 100, 30, 1] = 0
        assert double(volume).get_array().max() == 0
    assert len(CALLS) == 2


def test_a_result_changed_in_place_by_its_owner_leaves_the_kept_one_alone(volume, folder):
    with Cache(folder):
        first = double(volume).get_array()
        expected = first.copy()
        first[:] = -1
        second = double(volume).get_array()
        np.testing.assert_array_equal(second, expected)
        second[:] = -2
        np.testing.assert_array_equal(double(volume).get_array(), expected)


@pytest.mark.parametrize("name", ["threads", "n_threads", "device", "progress", "quiet"])
def test_an_argument_leaves_the_key_only_where_its_own_step_says_so(name, folder):
    scope: dict = {"CALLS": CALLS}
    exec(f"def step(x, {name}):\n    CALLS.append('step')\n    return {name}", scope)
    plain, ignoring = cacheable(version=1)(scope["step"]), cacheable(version=2, ignore=(name,))(scope["step"])
    with Cache(folder):
        assert [plain(1, "Skyra"), plain(1, "Prisma"), plain(1, "Skyra")] == ["Skyra", "Prisma", "Skyra"]
        assert len(CALLS) == 2
        assert [ignoring(1, 1), ignoring(1, 8)] == [1, 1]
    assert len(CALLS) == 3


def test_a_step_may_name_more_arguments_that_do_not_count(folder):
    @cacheable(version=1, ignore=("log",))
    def step(x: int, log: object = None) -> int:
        CALLS.append("step")
        return x

    with Cache(folder):
        step(1, log=print)
        step(1, log=object())
    assert len(CALLS) == 1


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Response:
    coefs: np.ndarray
    name: str
    made_in: float = dataclasses.field(default=0.0, compare=False)


VALUES = [
    None, True, False, 0, 1, 0.0, 1.0, -0.0, "1", "", b"1", 1j, float("nan"), float("inf"), np.float32(1), np.int32(1),
    [1], (1,), [1, 2], [[1], 2], [1, [2]], {"a": 1}, {"a": 2}, {"b": 1}, {1: "a"}, {1}, frozenset({1}), Colour.RED,
    Colour.BLUE, np.float32, np.dtype("f4"), np.dtype("f8"), ["a", "bc"], ["ab", "c"], "a\0b", np.zeros(3),
    np.zeros(3, np.float32), np.zeros((3, 1)), np.ma.masked_array([0.0, 0.0, 0.0], [0, 0, 1]), range(3),
    Response(np.zeros(2), "wm"), Response(np.zeros(2), "gm"), Response(np.ones(2), "wm"),
    InMemoryVolumeResource(np.zeros((2, 2, 2))), InMemoryBvalResource(np.zeros(3)),
]  # fmt: skip


def test_values_that_differ_have_fingerprints_that_differ():
    assert len({fingerprint(v) for v in VALUES}) == len(VALUES)


def test_equal_values_made_apart_have_one_fingerprint():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({3, 1, 2}) == fingerprint({2, 3, 1})
    assert fingerprint(Response(np.zeros(2), "wm", 1.0)) == fingerprint(Response(np.zeros(2), "wm", 2.0))
    assert fingerprint(np.float64(1.5)) == fingerprint(1.5)


def test_gradients_in_a_file_and_in_memory_are_the_same(tmp_path):
    (tmp_path / "a.bval").write_text("0 1000 1000\n")
    (tmp_path / "a.bvec").write_text("0 1 0\n0 0 1\n0 0 0\n")
    for resource in (FslBvalResource(tmp_path / "a.bval"), FslBvecResource(tmp_path / "a.bvec")):
        assert fingerprint(resource) == fingerprint(resource.load())
    (tmp_path / "b.bval").write_text("0\t1.0e3  1000.\n\n")
    assert fingerprint(FslBvalResource(tmp_path / "b.bval")) == fingerprint(FslBvalResource(tmp_path / "a.bval"))


class Opaque:
    pass


@pytest.mark.parametrize(
    "value",
    [Opaque(), print, (i for i in range(3)), np.random.default_rng(0), np.array([object()]), {"a": [Opaque()]}, Opaque],
    ids=["object", "function", "generator", "random", "objects", "nested", "class"],
)
def test_an_argument_without_fingerprint_is_computed_each_time_and_said(value, folder):
    @cacheable(version=1)
    def step(x: object) -> int:
        CALLS.append("step")
        return len(CALLS)

    with Cache(folder) as cache:
        for expected in (1, 2):
            with pytest.warns(CacheWarning, match=r"step was computed and not kept: x.* content cannot be told"):
                assert step(value) == expected
        assert cache.status([step]) == {"step": False}
    assert not list(folder.glob("*.json"))


def test_a_path_to_a_folder_is_refused_as_an_argument(folder, tmp_path):
    with Cache(folder), pytest.warns(CacheWarning, match="is a folder"), pytest.raises(Exception, match="folder"):
        mean_of_file(tmp_path)


def test_an_input_changed_by_the_step_itself_is_not_kept(volume, folder):
    @cacheable(version=1)
    def spoil(volume: InMemoryVolumeResource) -> int:
        CALLS.append("spoil")
        volume.array[0] = 7
        return 1

    with Cache(folder), pytest.warns(CacheWarning, match="volume changed while it was computed"):
        spoil(volume)
    assert not list(folder.glob("spoil*"))


def test_force_recomputes_all_or_the_named_steps(volume, folder):
    assert n_calls(folder, volume) == 1
    for force, expected in [(True, 1), (False, 0), ({"double"}, 1), ("double", 1), (["double"], 1), ({"n_calls"}, 0)]:
        CALLS.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheWarning)
            with Cache(folder, force=force):
                double(volume)
        assert len(CALLS) == expected, force


def test_a_forced_name_that_no_step_has_is_said(folder):
    with (
        pytest.warns(CacheWarning, match="no step that was loaded: estimate_dit"),
        Cache(folder, force={"estimate_dit"}),
    ):
        pass


def test_a_lazy_scan_is_read_once_for_its_fingerprint_and_the_step(folder, make_file, monkeypatch):
    path = make_file("a.nii.gz", 1.0)
    reads: list[Path] = []
    load = NiftiVolumeResource.load
    monkeypatch.setattr(NiftiVolumeResource, "load", lambda self: reads.append(self.path) or load(self))
    assert n_calls(folder, NiftiVolumeResource(path)) == 1
    assert reads == [path]


def test_a_file_is_forgotten_when_it_was_written_just_now(make_file, tmp_path, monkeypatch):
    path, reads = make_file("a.nii", 1.0), []

    def facts(memory: files.FileMemory, kind: str = "kind") -> dict:
        return memory.facts(path, kind, lambda p: reads.append(p) or {"digest": "x"})

    memory = files.FileMemory(tmp_path / "memory")
    for expected in (1, 2):  # within the grain of the clock each question reads the file
        assert facts(memory) == {"digest": "x"}
        assert len(reads) == expected
    monkeypatch.setattr(files, "now", lambda: path.stat().st_ctime + files.GRAIN + 1)
    for known in (memory, memory, files.FileMemory(tmp_path / "memory")):
        assert facts(known) == {"digest": "x"}
    assert len(reads) == 3
    facts(memory, "another kind")
    assert len(reads) == 4
