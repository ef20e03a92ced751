"""The folder of a cache under everything that may happen to a folder."""

from __future__ import annotations

import contextlib
import contextvars
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import arcuate
from arcuate.cache import Cache, CacheWarning, cacheable, files
from arcuate.io import NiftiVolumeResource
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource

CALLS: list[float] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    CALLS.clear()


@cacheable(version=1)
def scale(volume: VolumeResource, factor: float = 2.0) -> InMemoryVolumeResource:
    CALLS.append(factor)
    return InMemoryVolumeResource(volume.get_array() * np.float32(factor), volume.get_affine(), volume.get_metadata())


@cacheable(version=1, calls=(scale,))
def scale_twice(volume: VolumeResource) -> InMemoryVolumeResource:
    CALLS.append(-1)
    return scale(scale(volume))


def entry_folders(folder: Path) -> list[Path]:
    return sorted((folder / ".arcuate" / "entries").glob("*/*"))


def leftovers(folder: Path) -> list[Path]:
    """Files that are neither flat files, entries, memory nor locks."""
    return [*folder.glob(".arcuate/staging/*"), *folder.glob(".flat*"), *folder.glob("*.tmp")]


def test_the_sidecar_says_what_the_result_was_made_from(volume, folder):
    with Cache(folder):
        scale(volume, factor=3.0)
    sidecar = json.loads((folder / "scale.params.json").read_text())
    assert sidecar["scalars"] == {"factor": 3.0}
    assert list(sidecar["hashes"]) == ["volume"]
    assert len(sidecar["hashes"]["volume"]) == 64
    assert (sidecar["step"], sidecar["step_version"]) == ("scale", 1)
    assert sidecar["arcuate_version"] == arcuate.__version__


def test_status_tells_of_the_latest_call_and_of_former_sessions(volume, folder):
    with Cache(folder) as cache:
        assert cache.status([scale, scale_twice]) == {"scale": False, "scale_twice": False}
        scale(volume)
        assert cache.status([scale, scale_twice]) == {"scale": True, "scale_twice": False}
    cache = Cache(folder)
    assert cache.status([scale]) == {"scale": True}
    shutil.rmtree(folder / ".arcuate" / "entries")
    assert cache.status([scale]) == {"scale": False}
    with pytest.raises(TypeError, match="is no step"):
        cache.status([print])


def _damages() -> dict:
    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    return {
        "truncated image": lambda e: os.truncate(e / "result.nii.gz", (e / "result.nii.gz").stat().st_size // 2),
        "empty image": lambda e: os.truncate(e / "result.nii.gz", 0),
        "flipped bit": lambda e: flip(e / "result.nii.gz"),
        "longer image": lambda e: (e / "result.nii.gz").write_bytes((e / "result.nii.gz").read_bytes() + b"x"),
        "missing image": lambda e: (e / "result.nii.gz").unlink(),
        "truncated record": lambda e: os.truncate(e / "entry.json", 200),
        "empty record": lambda e: os.truncate(e / "entry.json", 0),
        "missing record": lambda e: (e / "entry.json").unlink(),
        "flipped record": lambda e: flip(e / "entry.json"),
        "record of nonsense": lambda e: (e / "entry.json").write_text("[1, 2]"),
        "binary record": lambda e: (e / "entry.json").write_bytes(b"\xff\xfe\0"),
    }


@pytest.mark.parametrize("damage", _damages())
def test_a_damaged_entry_is_computed_again_with_a_warning(damage, volume, folder):
    with Cache(folder):
        expected = scale(volume).get_array().copy()
    (entry,) = entry_folders(folder)
    _damages()[damage](entry)
    with Cache(folder) as cache, pytest.warns(CacheWarning, match="result of scale .*(damaged|cannot be used).*again"):
        np.testing.assert_array_equal(scale(volume).get_array(), expected)
    assert not cache.calls[-1].was_cached
    with Cache(folder) as cache:
        np.testing.assert_array_equal(scale(volume).get_array(), expected)
    assert cache.calls[-1].was_cached
    assert not leftovers(folder)


def test_a_flat_file_edited_by_hand_does_no_harm(volume, folder):
    with Cache(folder):
        expected = scale(volume).get_array().copy()
    with (folder / "scale.nii.gz").open("r+b") as file:  # the same file as the entry's
        file.seek(-12, os.SEEK_END)
        file.write(b"xxxx")
    with Cache(folder), pytest.warns(CacheWarning, match="damaged"):
        np.testing.assert_array_equal(scale(volume).get_array(), expected)


@pytest.mark.parametrize("content", [b"\xff\xfe{\xdd", b"", b"[]", b"{"])
def test_a_sidecar_that_was_damaged_is_written_anew(volume, folder, content):
    with Cache(folder):
        scale(volume)
    sidecar = folder / "scale.params.json"
    whole = sidecar.read_bytes()
    sidecar.write_bytes(content)
    with Cache(folder):
        scale(volume)
    assert sidecar.read_bytes() == whole
    assert len(CALLS) == 1


@pytest.mark.parametrize("content", [b"\xff\xfe{\xdd", b"[]", b"{}", b"null", b'{"sha256": 3}'])
def test_a_damaged_memory_of_a_file_is_read_anew(volume, folder, tmp_path, content, monkeypatch):
    monkeypatch.setattr(files, "GRAIN", -60.0)  # a file written just now is remembered, too
    path = tmp_path / "scan.nii.gz"
    NiftiVolumeResource.save(volume, path)
    with Cache(folder):
        scale(NiftiVolumeResource(path))
    memory = list((folder / ".arcuate" / "files").glob("*/*.json"))
    assert memory
    for one in memory:
        one.write_bytes(content)
    with Cache(folder):
        scale(NiftiVolumeResource(path))
    assert len(CALLS) == 1


def test_flat_files_that_were_deleted_come_back(volume, folder):
    with Cache(folder):
        scale(volume)
        (folder / "scale.nii.gz").unlink()
        (folder / "scale.params.json").unlink()
        scale(volume)
    assert len(CALLS) == 1
    assert (folder / "scale.nii.gz").exists()
    assert (folder / "scale.params.json").exists()


def test_results_for_several_arguments_stay_side_by_side(volume, folder):
    with Cache(folder):
        for factor in (1.0, 2.0, 3.0) * 2:
            scale(volume, factor)
    assert len(CALLS) == 3
    assert len(entry_folders(folder)) == 3


def test_a_step_called_by_a_step_is_kept_too(volume, folder):
    with Cache(folder):
        scale_twice(volume)
        shown = sorted(path.name for path in folder.glob("*.*") if path.name != ".arcuate")
        assert shown == ["scale_twice.nii.gz", "scale_twice.params.json"]  # what was called, not what that called
        scale(volume)
    assert CALLS == [-1, 2.0, 2.0]
    assert (folder / "scale.params.json").exists()


def test_the_innermost_of_two_caches_is_used(volume, tmp_path):
    with Cache(tmp_path / "outer") as outer:
        scale(volume)
        with Cache(tmp_path / "inner") as inner:
            scale(volume)
        scale(volume)
    assert len(CALLS) == 2
    assert [call.was_cached for call in outer.calls] == [False, True]
    assert [call.was_cached for call in inner.calls] == [False]
    scale(volume)
    assert len(CALLS) == 3


def test_a_cache_is_closed_when_its_block_fails(volume, folder):
    with pytest.raises(RuntimeError), Cache(folder):
        raise RuntimeError
    scale(volume)
    scale(volume)
    assert len(CALLS) == 2


def test_threads_use_the_only_open_cache_and_compute_once(volume, folder):
    with Cache(folder), ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: scale(volume).get_array(), range(16)))
    assert len(CALLS) == 1
    assert all(np.array_equal(r, results[0]) for r in results)


def test_threads_that_open_their_own_caches_do_not_meet(volume, tmp_path):
    barrier = threading.Barrier(2)

    def work(name: str) -> int:
        with Cache(tmp_path / name) as cache:
            barrier.wait(30)
            scale(volume)
            barrier.wait(30)
            return len(cache.calls)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, ["a", "b"])) == [1, 1]
    assert len(entry_folders(tmp_path / "a")) == len(entry_folders(tmp_path / "b")) == 1


def test_a_context_copied_from_a_cache_that_was_closed_since_uses_none(volume, folder):
    with Cache(folder):
        context = contextvars.copy_context()
    context.run(scale, volume)
    assert not entry_folders(folder)


RACER = """
import sys, time, pathlib, numpy as np
from arcuate.cache import Cache, cacheable
from arcuate.volumes.resource import InMemoryVolumeResource

@cacheable(version=1)
def slow(volume, n):
    with open(sys.argv[2], "a") as log:
        log.write("computed\\n")
    time.sleep(0.05)
    return InMemoryVolumeResource(volume.get_array() + np.float32(n), volume.get_affine()), {"n": n}

volume = InMemoryVolumeResource(np.arange(24_000, dtype=np.float32).reshape(20, 30, 40))
go = pathlib.Path(sys.argv[3])
print("ready", flush=True)
while not go.exists():
    time.sleep(0.001)
with Cache(sys.argv[1]):
    for n in range(3):
        result, facts = slow(volume, n)
        assert np.array_equal(result.get_array(), volume.get_array() + n), n
        assert facts == {"n": n}
"""


def race(folder: Path, n_processes: int = 3) -> int:
    """Start processes that want the same three results at the same moment; how often one was computed."""
    folder.mkdir(parents=True)
    script, log, go = folder / "racer.py", folder / "log", folder / "go"
    script.write_text(RACER)
    log.touch()
    command = [sys.executable, "-W", "error", str(script), str(folder / "cache"), str(log), str(go)]
    racers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(n_processes)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    go.touch()
    for racer in racers:
        _, error = racer.communicate()
        assert racer.returncode == 0, error
    assert len(entry_folders(folder / "cache")) == 3
    assert not leftovers(folder / "cache")
    return len(log.read_text().splitlines())


@pytest.mark.parametrize("n_races", [5, pytest.param(50, marks=pytest.mark.long)])
def test_processes_that_race_for_one_step_compute_it_once(n_races, tmp_path):
    assert [race(tmp_path / str(i)) for i in range(n_races)] == [3] * n_races


KILLED = """
import sys
from pathlib import Path

import numpy as np
from arcuate.cache import Cache, cacheable
from arcuate.cache.store import Store
from arcuate.cache.upkeep import clean_up
from arcuate.volumes.resource import InMemoryVolumeResource

@cacheable(version=1)
def step(n):
    return InMemoryVolumeResource(np.random.default_rng(n).normal(size=(60, 60, 40)).astype(np.float32))

print("ready", flush=True)
with Cache(sys.argv[1]):
    for n in range(1000):
        step(n % 7)
        if n % 7 == 6:
            clean_up(Store(Path(sys.argv[1])), keep_days=0)
"""


def wait_for_changes(folder: Path, n: int) -> None:
    """Wait until files were seen to come or go ``n`` times."""
    before: list = []
    while n > 0:
        now = list(os.walk(folder))
        n -= now != before
        before = now


@pytest.mark.parametrize("n_kills", [6, pytest.param(60, marks=pytest.mark.long)])
def test_a_process_killed_at_any_moment_leaves_whole_entries_and_nothing_else(n_kills, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    folder = tmp_path / "cache"
    rng = np.random.default_rng(0)
    for _ in range(n_kills):
        process = subprocess.Popen([sys.executable, str(script), str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        wait_for_changes(folder, int(rng.integers(1, 80)))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Cache(folder) as cache:  # cleans up
                pass
            for entry in cache._store.entries():
                assert cache._store.find(entry.record["name"], entry.record["key"]) is not None
        assert not list(folder.glob(".arcuate/staging/*"))


def _compute_in(folder: str, connection) -> None:
    """Run in a process of its own: what is computed with a cache in a hostile folder, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        volume = InMemoryVolumeResource(np.random.default_rng(0).normal(size=(60, 60, 40)).astype(np.float32))
        with Cache(folder):
            result = scale(volume).get_array()
        is_right = bool(np.array_equal(result, volume.array * 2))
    connection.send((is_right, [(w.category.__name__, str(w.message)) for w in caught]))


def compute_in(folder: Path, prepare=None) -> tuple[bool, list[tuple[str, str]]]:
    ours, theirs = multiprocessing.Pipe()

    def work() -> None:
        if prepare is not None:
            prepare()
        _compute_in(str(folder), theirs)

    process = multiprocessing.get_context("fork").Process(target=work)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads that wait
        process.start()
    answer = ours.recv() if ours.poll(60) else (False, [("", "the process ended without an answer")])
    process.join()
    return answer


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 1 MiB, and a way to fill and to empty it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root only; the limit on file sizes is tested instead")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_costs_a_warning_and_leaves_the_cache_usable(volume, small_disk):
    folder = small_disk / "cache"
    large = InMemoryVolumeResource(np.random.default_rng(0).normal(size=(80, 80, 60)).astype(np.float32))
    with Cache(folder) as cache:
        kept = scale(volume).get_array()
        with pytest.warns(CacheWarning, match="result of scale was not kept: No space left"):
            np.testing.assert_array_equal(scale(large).get_array(), large.array * 2)
        assert cache.status([scale]) == {"scale": False}
        assert not leftovers(folder)
        np.testing.assert_array_equal(scale(volume).get_array(), kept)
        assert cache.calls[-1].was_cached
        scale(volume, 5.0)
        scale(volume, 5.0)
        assert cache.calls[-1].was_cached


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096):
            pass


def test_a_disk_without_a_single_free_byte_costs_a_warning(volume, small_disk):
    folder = small_disk / "cache"
    with Cache(folder):
        scale(volume)
        filler = small_disk / "filler"
        _fill(filler)
        with pytest.warns(CacheWarning, match="not kept"):
            scale(volume, 7.0)
        scale(volume)  # kept before, still found
        filler.unlink()
        scale(volume, 8.0)
        scale(volume, 8.0)
    assert CALLS == [2.0, 7.0, 8.0]


def test_a_quota_costs_a_warning_and_leaves_no_stray_file(folder):
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    is_right, caught = compute_in(folder, limit)
    assert is_right
    assert [category for category, _ in caught] == ["CacheWarning"]
    assert "File too large" in caught[0][1]
    assert not leftovers(folder)
    assert compute_in(folder) == (True, [])


def test_a_read_only_folder_gives_what_it_has_and_takes_nothing(tmp_path):
    folder = tmp_path / "cache"
    assert compute_in(folder) == (True, [])
    (other := tmp_path / "empty").mkdir()
    everything = [tmp_path, *tmp_path.rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    closed = [p for p in tmp_path.parents if p.stat().st_uid == os.getuid() and not p.stat().st_mode & 0o005]
    for parent in closed:  # pytest's own folders, which another user may not enter
        parent.chmod(0o755)

    def as_nobody() -> None:
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)

    try:
        assert compute_in(folder, as_nobody) == (True, [])
        for target in (other, other / "sub"):
            is_right, caught = compute_in(target, as_nobody)
            assert is_right
            assert {category for category, _ in caught} == {"CacheWarning"}
            assert "Permission denied" in caught[0][1]
    finally:
        for path in everything:
            path.chmod(0o755 if path.is_dir() else 0o644)
        for parent in closed:
            parent.chmod(0o700)
    assert not list(other.iterdir())


def test_a_file_in_the_place_of_the_folder_is_the_users_mistake(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(arcuate.errors.InputError, match="is a file; expected a folder"), Cache(tmp_path / "cache"):
        pass


def test_a_cache_may_be_used_again_after_its_folder_was_deleted_in_between(volume, folder):
    with Cache(folder):
        scale(volume)
        shutil.rmtree(folder)
        scale(volume)
        scale(volume)
    assert len(CALLS) == 2


def test_ctrl_c_within_a_step_leaves_nothing_behind(tmp_path):
    script = tmp_path / "waits.py"
    script.write_text(
        textwrap.dedent("""
        import sys, time
        from arcuate.cache import Cache, cacheable

        @cacheable(version=1)
        def wait():
            print("ready", flush=True)
            time.sleep(60)

        with Cache(sys.argv[1]):
            wait()
        """)
    )
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "cache")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in error
    assert not leftovers(tmp_path / "cache")
    assert not entry_folders(tmp_path / "cache")
