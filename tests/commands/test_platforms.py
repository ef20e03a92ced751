"""Branches for Windows and macOS, taken here by switching off what those systems lack."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from arcuate.io import NiftiVolumeResource, locks
from arcuate.numerics import kernel_cache
from arcuate.study import cohort_task
from arcuate.volumes.resource import InMemoryVolumeResource

WINDOWS_LACKS = ("pread", "wait4", "O_CLOEXEC", "fork")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What of the standard library Windows does not have is not there."""
    with monkeypatch.context() as switched:
        switched.setattr(locks, "fcntl", None)
        for name in WINDOWS_LACKS:
            switched.delattr(os, name, raising=False)
        yield


def test_without_locks_nothing_is_in_use_and_nothing_waits(windows: None, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch()
    assert locks.hold(path) is None
    assert locks.wait_for(path) is None
    with locks.exclusive(path) as is_free:
        assert is_free


def test_without_pread_compressed_images_are_read_by_all_threads(windows: None, tmp_path: Path) -> None:
    volume = InMemoryVolumeResource(np.random.default_rng(0).normal(size=(64, 64, 40, 4)), np.diag([2.0, 2, 2, 1]))
    NiftiVolumeResource.save(volume, tmp_path / "x.nii.gz")
    found = NiftiVolumeResource(tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(found.get_array(), volume.array.astype(np.asarray(found.get_array()).dtype))


def test_without_user_numbers_kernels_lie_in_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as switched:
        switched.delattr(os, "getuid")
        switched.setattr(kernel_cache.tempfile, "gettempdir", lambda: str(tmp_path))
        assert kernel_cache._temporary_folder() == tmp_path / "arcuate-kernels"


def _ended(process: subprocess.Popen[bytes]) -> tuple[int | None, float | None]:
    for _ in range(600):
        status, memory = cohort_task._poll(process)
        if status is not None:
            return status, memory
        time.sleep(0.05)
    pytest.fail("the process did not end")


def test_without_wait4_a_task_ends_with_its_status_and_no_memory(windows: None) -> None:
    assert _ended(subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])) == (3, None)


def test_memory_is_counted_in_bytes_on_macos_and_in_kb_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "x = bytearray(64 << 20)"
    status, here = _ended(subprocess.Popen([sys.executable, "-c", code]))
    assert status == 0
    assert (here or 0) > 64  # Linux counts what the process that starts another one has, too
    monkeypatch.setattr(cohort_task.sys, "platform", "darwin")
    _, as_bytes = _ended(subprocess.Popen([sys.executable, "-c", code]))
    assert as_bytes == pytest.approx((here or 0) / 1024, rel=0.2, abs=0.1)  # kB taken for bytes


def test_a_run_and_its_cache_work_on_windows(windows: None, arcuate: Callable, scan: Path, tmp_path: Path) -> None:
    words = ("run", scan, "--out", tmp_path / "out", "--steps", "mask,dti", "--mask-method", "otsu", "--no-report")
    first = arcuate(*words)
    assert first.code == 0, first.err
    fa = next((tmp_path / "out").rglob("*param-fa_dwimap.nii.gz"))
    before = fa.read_bytes()
    again = arcuate(*words)
    assert again.code == 0, again.err
    assert fa.read_bytes() == before
    removed = arcuate("cache", "gc", tmp_path / "out")
    assert removed.code == 0, removed.err
