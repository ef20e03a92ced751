"""Looking into a cache and cleaning it up, as library and as command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from arcuate.cache import Cache, cacheable
from arcuate.cache.upkeep import clean_up, explain, open_store
from arcuate.commands.cache import cache as command
from arcuate.dwi import Dwi
from arcuate.errors import InputError
from arcuate.io.atomic import atomic_path
from arcuate.volumes.resource import InMemoryBvalResource, InMemoryBvecResource, InMemoryVolumeResource, VolumeResource


@cacheable(version=1)
def smooth(
    dwi: Dwi | VolumeResource, mask: VolumeResource | None = None, *, width: float = 1.0, mode: str = "near"
) -> VolumeResource:
    volume = dwi.volume if isinstance(dwi, Dwi) else dwi
    return InMemoryVolumeResource(volume.get_array() + np.float32(width), volume.get_affine())


@pytest.fixture
def scan() -> Dwi:
    array = np.asfortranarray(np.random.default_rng(0).normal(size=(4, 4, 4, 3)).astype(np.float32))
    bvecs = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    bvals = np.array([0.0, 1000.0, 1000.0])
    return Dwi(InMemoryVolumeResource(array), InMemoryBvalResource(bvals), InMemoryBvecResource(bvecs))


def arcuate_cache(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=True)


def entries(folder: Path) -> list[Path]:
    return sorted((folder / ".arcuate" / "entries").glob("*/*"))


def set_last_use(folder: Path, days: float) -> None:
    then = time.time() - days * 86400
    os.utime(folder / "entry.json", (then, then))


def test_ls_shows_every_result_with_its_parameters(volume, folder):
    with Cache(folder):
        smooth(volume)
        smooth(volume, width=2.5)
    result = arcuate_cache("ls", "--cache", folder)
    assert result.exit_code == 0
    header, *rows, total = result.output.splitlines()
    assert header.split()[:2] == ["step", "version"]
    assert [row.split()[0] for row in rows] == ["smooth", "smooth"]
    assert "width=2.5" in rows[0]
    assert "width=1.0 mode='near'" in rows[1]
    assert total.startswith("2 results, ")


def _changed(scan: Dwi, part: str) -> Dwi:
    array, bvals, bvecs = scan.volume.get_array(), scan.bval.get(), scan.bvec.get()
    affine = scan.volume.get_affine()
    if part == "voxels":
        array = array + np.float32(1)
    elif part == "affine":
        affine = np.diag([2.0, 2.0, 2.0, 1.0])
    elif part == "bval":
        bvals = bvals + 1
    else:
        bvecs = -bvecs
    return Dwi(InMemoryVolumeResource(array, affine), InMemoryBvalResource(bvals), InMemoryBvecResource(bvecs))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("voxels", ["dwi.volume.voxels changed"]),
        ("affine", ["dwi.volume.affine changed", "dwi.volume.header entries changed"]),
        ("bval", ["dwi.bval changed"]),
        ("bvec", ["dwi.bvec changed"]),
    ],
)
def test_why_says_which_part_of_which_argument_changed(part, expected, scan, folder):
    with Cache(folder):
        smooth(scan)
        smooth(_changed(scan, part))
    lines = explain(open_store(folder), "smooth")
    assert [line.strip().replace(".numbers", "").replace(".values", "") for line in lines[2:]] == expected


def test_why_compares_with_the_most_similar_earlier_result(volume, folder):
    other = InMemoryVolumeResource(volume.array + 1, volume.affine)
    mask = InMemoryVolumeResource(np.ones(volume.shape, np.uint8), volume.affine)
    with Cache(folder):
        smooth(volume, width=1.0)
        smooth(other, width=2.0, mode="far")
        smooth(volume, width=3.0)
    result = arcuate_cache("why", "smooth", "--cache", folder)
    assert result.exit_code == 0
    assert result.output.splitlines()[2:] == ["  width: 1.0 -> 3.0"]
    with Cache(folder):
        smooth(volume, mask, width=3.0)
    (line,) = explain(open_store(folder), "smooth")[2:]
    assert line.startswith("  mask: None -> content ")


def test_why_tells_of_a_new_version_a_forced_and_a_damaged_result(volume, folder):
    def make(version: int):
        def step(volume: VolumeResource) -> int:
            return version

        return cacheable(version=version)(step)

    with Cache(folder):
        make(1)(volume)
        assert explain(open_store(folder), "step")[1] == "because there was no result of it before"
        make(2)(volume)
        assert explain(open_store(folder), "step")[2:] == ["  step version: 1 -> 2"]
    with Cache(folder, force=True):
        make(2)(volume)
    assert explain(open_store(folder), "step")[1] == "because it was forced"
    with Cache(folder):
        smooth(volume)
        image = next(entries(folder)[0].parent.parent.glob("smooth*/*/*.nii.gz"))
        os.truncate(image, 10)
        with pytest.warns(UserWarning, match="damaged"):
            smooth(volume)
    assert (
        "because the entry was damaged: its file result.nii.gz has 10 bytes" in explain(open_store(folder), "smooth")[1]
    )


def test_why_of_an_unknown_step_names_the_known_ones(volume, folder):
    with Cache(folder):
        smooth(volume)
    with pytest.raises(InputError, match=r"no result of the step 'smoooth'.*holds results of: smooth"):
        explain(open_store(folder), "smoooth")


def test_a_folder_without_cache_is_the_users_mistake(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "arcuate", "cache", "ls", "--cache", tmp_path], capture_output=True, text=True
    )
    assert run.returncode == 2
    assert "found no cache in" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_the_output_folder_of_a_run_leads_to_its_cache(volume, tmp_path):
    with Cache(tmp_path / ".arcuate-cache"):
        smooth(volume)
    assert open_store(tmp_path).folder == tmp_path / ".arcuate-cache"


def test_gc_removes_what_was_not_used_for_so_many_days(volume, folder):
    with Cache(folder):
        for width in (1.0, 2.0, 3.0):
            smooth(volume, width=width)
    for entry, days in zip(entries(folder), (1, 20, 40), strict=True):
        set_last_use(entry, days)
    stays = entries(folder)[:2]
    assert arcuate_cache("gc", "--cache", folder, "--keep-days", 30, "--dry-run").exit_code == 0
    assert len(entries(folder)) == 3
    result = arcuate_cache("gc", "--cache", folder, "--keep-days", 30)
    assert result.exit_code == 0
    assert "removed 1 results" in result.output
    assert entries(folder) == stays


def test_gc_removes_the_longest_unused_until_the_rest_fits(volume, folder):
    with Cache(folder):
        for width in range(4):
            smooth(volume, width=float(width))
    folders = entries(folder)
    for entry, days in zip(folders, (3, 1, 4, 2), strict=True):
        set_last_use(entry, days)
    size = max(entry.size for entry in open_store(folder).entries())
    removal = clean_up(open_store(folder), max_size=2 * size)
    assert len(removal.entries) == 2
    assert entries(folder) == [folders[1], folders[3]]
    assert removal.kept <= 2 * size


def test_using_a_result_makes_it_young(volume, folder):
    with Cache(folder):
        smooth(volume)
        set_last_use(entries(folder)[0], 100)
        smooth(volume)
    assert not clean_up(open_store(folder), keep_days=1).entries


def test_gc_takes_the_flat_files_of_what_it_removes_and_no_others(volume, folder):
    with Cache(folder):
        smooth(volume, width=1.0)
        smooth(volume, width=2.0)
    (folder / "notes.txt").write_text("mine")
    (old,) = [e for e in open_store(folder).entries() if e.record["scalars"]["width"] == 1.0]
    set_last_use(old.folder, 9)
    clean_up(open_store(folder), keep_days=1)
    assert (folder / "smooth.nii.gz").exists()
    clean_up(open_store(folder), max_size=0)
    assert [path.name for path in folder.iterdir() if path.name != ".arcuate"] == ["notes.txt"]


def test_gc_leaves_results_that_are_in_use(folder):
    large = InMemoryVolumeResource(np.zeros((100, 100, 60, 10), np.float32, order="F"))
    with Cache(folder):
        smooth(large)
        held = smooth(large)
    removal = clean_up(open_store(folder), max_size=0)
    assert (len(removal.entries), removal.n_in_use) == (0, 1)
    assert held.get_array().max() == 1
    result = arcuate_cache("gc", "--cache", folder, "--max-size", "1kB")
    assert result.exit_code != 0
    assert "in use" in str(result.exception)
    del held
    assert len(clean_up(open_store(folder), max_size=0).entries) == 1


def test_gc_removes_damaged_entries_and_leftovers(volume, folder):
    with Cache(folder):
        smooth(volume)
        smooth(volume, width=9.0)
    os.truncate(entries(folder)[0] / "entry.json", 30)
    (folder / ".arcuate" / "staging" / f"{'0' * 40}.abcdef").mkdir(parents=True)
    result = arcuate_cache("gc", "--cache", folder)
    assert "removed 0 results (0 B), 1 damaged ones and 1 leftovers" in result.output
    assert len(entries(folder)) == 1


@pytest.mark.parametrize(
    ("text", "expected"), [("1000", 1e3), ("1kB", 1e3), ("2.5 GB", 2.5e9), ("1GiB", 2**30), ("3m", 3e6), ("0", 0)]
)
def test_sizes_are_read_as_people_write_them(text, expected):
    from arcuate.commands.cache import Size

    assert Size().convert(text, None, None) == expected


def test_a_size_of_nonsense_is_refused_with_examples(volume, folder):
    result = arcuate_cache("gc", "--cache", folder, "--max-size", "lots")
    assert result.exit_code == 2
    assert "500MB" in result.output


def test_a_digest_half_written_by_a_killed_process_is_removed_and_one_being_written_stays(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    place = folder / ".arcuate" / "files" / "ad"
    place.mkdir(parents=True)
    left = place / ".149890.json.f90ae318968a.tmp"
    left.touch()
    with atomic_path(place / "149891.json") as written, Cache(folder):
        assert not left.exists()
        assert written.exists()
    assert (place / "149891.json").exists()
