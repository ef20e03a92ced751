"""``arcuate run`` stopped at any moment and started again ends as if nothing had happened."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_files import contents

from arcuate.dwi import Dwi
from arcuate.gradients import GradientTable
from arcuate.io import NiftiVolumeResource

FEW = ("--no-report", "--steps", "denoise,mask,dti")  # the rest goes the same way, and takes minutes to compile
EVERYTHING: tuple[str, ...] = ()
Reference = Callable[[tuple[str, ...]], tuple[dict[str, bytes], int, Path]]


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball of crossing fibres in air: two shells of 32 directions, two b=0."""
    rng = np.random.default_rng(5)
    directions = rng.normal(size=(32, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    table = np.concatenate([np.zeros((2, 3)), directions, directions[::-1]])
    bvals = np.repeat([0.0, 1000.0, 2500.0], [2, 32, 32])
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in (26, 28, 22)], indexing="ij")
    inside = x**2 + y**2 + z**2 < 0.75

    def fibre(axis: np.ndarray) -> np.ndarray:
        return np.exp(-bvals * (0.2e-3 + 1.5e-3 * (axis @ table.T) ** 2))

    axes = np.stack([np.cos(3 * z), np.sin(3 * z), np.zeros_like(z)], axis=-1)
    other = np.array([0.0, 0.0, 1.0])
    signal_ = np.where((x > 0)[..., None], fibre(axes), 0.5 * fibre(axes) + 0.5 * fibre(other))
    signal_ = np.where((np.abs(y) < 0.2)[..., None], np.exp(-bvals * 2.5e-3), signal_)
    noise = rng.normal(scale=25, size=(2, *signal_.shape))
    image = np.hypot(np.where(inside[..., None], 1000 * signal_, 0) + noise[0], noise[1])
    affine = np.array([[-5.0, 0, 0, 60], [0, 5, 0, -60], [0, 0, 5, -50], [0, 0, 0, 1]])
    folder = tmp_path_factory.mktemp("scan")
    Dwi.from_arrays(np.asfortranarray(image.astype(np.float32)), affine, GradientTable(bvals, table)).save(
        folder, basename="sub-ball_dwi"
    )
    return folder / "sub-ball_dwi.nii.gz"


def start(scan: Path, out: Path, *options: str, **of_process: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "arcuate", "run", str(scan), "--out", str(out), "--mask-method", "otsu", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **of_process)


def finish(process: subprocess.Popen[str]) -> None:
    _, error = process.communicate()
    assert process.returncode == 0, error


def assert_same_files(out: Path, expected: dict[str, bytes], first: Path) -> None:
    """Files hold what those of the undisturbed run in ``first`` hold; where an image differs, how its voxels differ."""
    found = contents(out)
    assert found.keys() == expected.keys()
    differences = []
    for name in (name for name in found if found[name] != expected[name]):
        note = name
        if name.endswith(".nii.gz"):
            ours, theirs = (NiftiVolumeResource(folder / name).get_array() for folder in (out, first))
            where = np.argwhere(~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs))))
            note += f": {len(where)} voxels differ"
            if len(where):
                at = tuple(where[0])
                note += f", the first at {at}: {ours[at]!r} and {theirs[at]!r}"
        differences.append(note)
    assert not differences


def finished_steps(cache: Path) -> dict[str, str]:
    """When each result in a cache was computed, by its key."""
    records = [json.loads(path.read_text()) for path in cache.glob(".arcuate/entries/*/*/entry.json")]
    return {record["key"]: record["computed"] for record in records}


def strays(out: Path) -> list[Path]:
    """Files that no finished or stopped run may leave."""
    staging = list((out / ".arcuate-cache" / ".arcuate" / "staging").glob("*"))
    return staging + [path for path in out.rglob("*") if path.name.endswith(".tmp")]


@pytest.fixture(scope="module")
def reference(scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """By options: the files of a run that nobody disturbed, how many it leaves with its cache, its folder."""

    @functools.cache
    def run(options: tuple[str, ...]) -> tuple[dict[str, bytes], int, Path]:
        first, second = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
        finish(start(scan, first, *options))
        finish(start(scan, second, *options))
        expected = contents(first)
        assert len(expected) > 10
        assert_same_files(second, expected, first)  # two runs give the same to begin with
        return expected, n_files(second), first

    return run


@pytest.fixture(scope="module")
def undisturbed(reference: Reference) -> tuple[dict[str, bytes], int, Path]:
    return reference(FEW)


def n_files(out: Path) -> int:
    """Files and folders of a run, those of its cache and those being written included."""
    return sum(len(folders) + len(files) for _, folders, files in os.walk(out))


def stop(scan: Path, out: Path, options: tuple[str, ...], sign: int, at: int) -> tuple[int, str]:
    """Exit status and errors of a run that is stopped as soon as it has made ``at`` files, however long that takes."""
    process = start(scan, out, *options)
    while process.poll() is None and n_files(out) < at:
        time.sleep(0.002)
    process.send_signal(sign)
    _, error = process.communicate()
    return process.returncode, error


def resume(scan: Path, out: Path, options: tuple[str, ...]) -> None:
    """Run to the end what was stopped; no step that had finished is computed again."""
    cache = out / ".arcuate-cache"
    before = finished_steps(cache)
    finish(start(scan, out, *options))
    after_all = finished_steps(cache)
    assert {key: after_all[key] for key in before} == before
    assert not strays(out)


def moments(n: int, n_all: int) -> list[int]:
    """``n`` numbers of files at which to stop, from the first one to nine tenths of what a run makes."""
    return sorted(np.random.default_rng(n).choice(np.arange(1, int(0.9 * n_all)), n, replace=False).tolist())


@pytest.mark.parametrize(("n_kills", "options"), [(3, FEW), pytest.param(30, EVERYTHING, marks=pytest.mark.long)])
def test_a_run_killed_at_random_moments_ends_with_the_same_files(n_kills, options, scan, reference, tmp_path):
    expected, n_all, first = reference(options)
    for at in moments(n_kills, n_all):
        out = tmp_path / str(at)
        code, error = stop(scan, out, options, signal.SIGKILL, at)
        assert code == -signal.SIGKILL, error
        resume(scan, out, options)
        assert_same_files(out, expected, first)


def test_a_run_killed_again_and_again_ends_with_the_same_files(scan, undisturbed, tmp_path):
    expected, n_all, first = undisturbed
    for share in (0.3, 0.5, 0.7):
        code, error = stop(scan, tmp_path, FEW, signal.SIGKILL, int(share * n_all))
        assert code == -signal.SIGKILL, error
    finish(start(scan, tmp_path, *FEW))
    assert_same_files(tmp_path, expected, first)
    assert not strays(tmp_path)


@pytest.mark.parametrize(("n_stops", "options"), [(2, FEW), pytest.param(15, EVERYTHING, marks=pytest.mark.long)])
def test_ctrl_c_ends_a_run_cleanly_and_it_goes_on_where_it_was(n_stops, options, scan, reference, tmp_path):
    expected, n_all, first = reference(options)
    for at in moments(n_stops, n_all):
        out = tmp_path / str(at)
        code, error = stop(scan, out, options, signal.SIGINT, at)
        assert code == -signal.SIGINT, error
        assert "Traceback" not in error
        assert not strays(out)
        resume(scan, out, options)
        assert_same_files(out, expected, first)


def test_a_finished_run_computes_nothing_again(scan, undisturbed, tmp_path):
    expected, _, first = undisturbed
    cache = tmp_path / "kept"
    finish(start(scan, tmp_path / "a", *FEW, "--cache", str(cache)))
    before = finished_steps(cache)
    finish(start(scan, tmp_path / "b", *FEW, "--cache", str(cache)))
    assert finished_steps(cache) == before
    for name in "ab":
        assert_same_files(tmp_path / name, expected, first)


def test_two_runs_at_once_may_share_a_cache(scan, undisturbed, tmp_path):
    expected, _, first = undisturbed
    cache = tmp_path / "kept"
    runs = [start(scan, tmp_path / name, *FEW, "--cache", str(cache)) for name in "ab"]
    for run in runs:
        finish(run)
    for name in "ab":
        assert_same_files(tmp_path / name, expected, first)


def test_a_cache_that_cannot_be_written_stops_no_run(scan, undisturbed, tmp_path, other_user):
    expected, _, first = undisturbed
    (cache := tmp_path / "kept").mkdir(mode=0o555)
    finish(start(scan, tmp_path / "out", *FEW, "--cache", str(cache), **other_user))
    assert not list(cache.iterdir())
    assert_same_files(tmp_path / "out", expected, first)
