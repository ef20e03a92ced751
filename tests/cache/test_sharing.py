"""Several users of one cache: whoever may write to its folder may use all of it, and others get one sentence."""

from __future__ import annotations

import multiprocessing
import os
import stat
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from arcuate.cache import Cache, cacheable
from arcuate.cache.upkeep import clean_up, open_store
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource

SOMEBODY = 65534
pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has other rights")


@cacheable(version=1)
def raised(volume: VolumeResource, by: float = 1.0) -> InMemoryVolumeResource:
    return InMemoryVolumeResource(volume.get_array() + np.float32(by), volume.get_affine())


@cacheable(version=1)
def lowered(volume: VolumeResource, by: float = 1.0) -> InMemoryVolumeResource:
    return InMemoryVolumeResource(volume.get_array() - np.float32(by), volume.get_affine())


@pytest.fixture
def of_us() -> Iterator[Path]:
    """A cache with one result, in a place that every user may look into."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "cache")
        Path(place).chmod(0o755)
        yield folder
        for path in (folder, *folder.rglob("*")):  # what a test took away
            path.chmod(0o700)


def as_somebody(folder: Path, work: Callable[[Path], object]) -> object:
    """What ``work(folder)`` gives to a user who is neither root nor the owner where we may be another, else to us."""
    ours, theirs = multiprocessing.Pipe()

    def in_process() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(SOMEBODY, SOMEBODY, SOMEBODY)
            os.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)
        theirs.send(work(folder))

    process = multiprocessing.get_context("fork").Process(target=in_process)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads that wait
        process.start()
    answer = ours.recv() if ours.poll(60) else "no answer"
    process.join()
    return answer


def computed_twice(folder: Path) -> tuple[list[bool], list[str]]:
    """Whether each of two steps was kept already, and what was said."""
    volume = InMemoryVolumeResource(np.ones((3, 3, 3), np.float32))
    with warnings.catch_warnings(record=True) as told, Cache(folder) as cache:
        warnings.simplefilter("always")
        raised(volume)
        lowered(volume)
    return [call.was_cached for call in cache.calls], [str(one.message) for one in told]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_what_is_kept_in_a_folder_that_a_group_shares_is_the_groups_whatever_the_umask(umask: int, of_us: Path) -> None:
    of_us.mkdir()
    of_us.chmod(0o2775)
    before = os.umask(umask)
    try:
        assert computed_twice(of_us) == ([False, False], [])
    finally:
        os.umask(before)
    for path in of_us.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        wanted = 0o2770 if path.is_dir() else 0o660
        assert mode & wanted == wanted, f"{path} {mode:o}"


def test_in_a_folder_that_is_not_shared_the_umask_decides(of_us: Path) -> None:
    of_us.mkdir()
    of_us.chmod(0o777)  # as a temporary folder is: everybody may write, and nobody shares
    before = os.umask(0o022)
    try:
        computed_twice(of_us)
    finally:
        os.umask(before)
    assert all(not path.stat().st_mode & 0o022 for path in of_us.rglob("*"))


def test_a_cache_that_may_not_be_written_to_costs_one_sentence_for_all_steps(of_us: Path) -> None:
    computed_twice(of_us)
    for path in (of_us, *of_us.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    entries = [entry.folder for entry in open_store(of_us).entries()]
    for entry in entries:
        entry.chmod(0o755)
        (entry / "entry.json").rename(entry / "gone")  # so that both have to be computed and cannot be kept
        entry.chmod(0o555)
    kept, told = as_somebody(of_us, computed_twice)  # type: ignore[misc]
    assert kept == [False, False]
    refused = [text for text in told if "not kept" in text]
    assert len(refused) == 1
    assert "Permission denied" in refused[0]
    assert "chmod g+ws" in refused[0]
    for entry in entries:
        entry.chmod(0o755)
        (entry / "gone").rename(entry / "entry.json")
        entry.chmod(0o555)
    assert as_somebody(of_us, computed_twice) == ([True, True], [])


def test_results_that_another_user_keeps_to_themselves_are_neither_damaged_nor_removed(of_us: Path) -> None:
    computed_twice(of_us)
    for path in (of_us, *of_us.rglob("*")):
        path.chmod(0o777)
    for path in of_us.glob(".arcuate/entries/*/*/*"):
        path.chmod(0o000)

    def clean(folder: Path) -> tuple[int, int]:
        removal = clean_up(open_store(folder), keep_days=0)
        return removal.n_damaged, len(removal.entries)

    assert as_somebody(of_us, clean) == (0, 0)
    assert len(list(of_us.glob(".arcuate/entries/*/*/*"))) == 4


def test_a_cache_that_may_not_be_looked_into_is_one_sentence(of_us: Path) -> None:
    computed_twice(of_us)
    of_us.chmod(0o000)
    kept, told = as_somebody(of_us, computed_twice)  # type: ignore[misc]
    assert kept == [False, False]
    assert len(told) == 1
    assert "Permission denied" in told[0]


def test_gc_tells_results_that_may_not_be_removed_from_those_in_use(of_us: Path) -> None:
    computed_twice(of_us)
    for path in (of_us, *of_us.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)

    def clean(folder: Path) -> tuple[int, int, int]:
        removal = clean_up(open_store(folder), keep_days=0)
        return len(removal.entries), removal.n_in_use, removal.n_refused

    assert as_somebody(of_us, clean) == (0, 0, 2)
