"""A dry run of a cohort looks at every scan as its own dry run does, and names what would fail before any work."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from arcuate.cli import app
from arcuate.study.phantom_dataset import PhantomDataset, write_phantom_dataset


@pytest.fixture(scope="module")
def bids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planned") / "bids"
    faults = ("single_shell", "truncated", "broken_gradients")
    kind = PhantomDataset(4, shape=(12, 12, 8), voxel_size=16.0, n_directions=7, faults=faults)
    write_phantom_dataset(folder, kind)
    return folder


def _dry_run(bids: Path, out: Path, *more: str) -> object:
    words = ["cohort", str(bids), str(out), "participant", "--mask-method", "otsu", "--dry-run", *more]
    return app.main(words, standalone_mode=False)


def test_each_scan_is_told_with_files_gradients_steps_and_memory(
    bids: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _dry_run(bids, tmp_path / "out") == 3
    out, err = capsys.readouterr()
    first = out.split("sub-02:")[0].splitlines()
    assert first[0] == "sub-01: to be run"
    assert first[1] == "  files: sub-01_dwi.nii.gz, sub-01_dwi.bval, sub-01_dwi.bvec"
    assert first[2] == "  scan: 12 x 12 x 8 voxels, 17 volumes: 3 b=0; 7 at b=1000, 7 at b=2500"
    assert first[3].startswith("  steps: mask (otsu), dti, ")
    assert first[4].startswith("  memory: ")
    assert "check: 2 protocols: 1 of 17 volumes: 3 b=0; 7 at b=1000, 7 at b=2500; 1 of 10 volumes" in err
    assert "left out of 1 scan: noddi: " in err
    assert "2 scans would fail\n4 scans, 4 to be run; nothing was done (--dry-run)" in err
    assert not (tmp_path / "out").exists()


def test_what_would_fail_is_named_as_the_run_itself_names_it(
    bids: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _dry_run(bids, tmp_path / "out", "--participant-label", "03", "04", "--mem-mb", "40000")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"sub-03: {bids}/sub-03/dwi/sub-03_dwi.nii.gz is damaged or was cut short (")
    assert lines[1].startswith("sub-04: found 16 b-vectors for 17 b-values; expected as many of one as of the other.")
    _dry_run(bids, tmp_path / "out", "--participant-label", "01", "--mem-mb", "40")
    assert "sub-01: the run may take " in capsys.readouterr().out


def test_a_scan_in_several_gzip_members_is_whole(
    bids: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = bids / "sub-01" / "dwi" / "sub-01_dwi.nii.gz"
    content = gzip.decompress(image.read_bytes())
    kept = image.read_bytes()
    try:
        image.write_bytes(gzip.compress(content[:5000]) + gzip.compress(content[5000:]) + b"\0" * 512)
        assert not _dry_run(bids, tmp_path / "out", "--participant-label", "01")
        image.write_bytes(gzip.compress(content[:5000]) + gzip.compress(content[5000:-1]))
        assert _dry_run(bids, tmp_path / "out", "--participant-label", "01") == 3
    finally:
        image.write_bytes(kept)
    assert "is damaged or was cut short" in capsys.readouterr().out
