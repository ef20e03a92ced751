"""Temporary files of killed processes go, those of living ones stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from arcuate.io.atomic import atomic_path, remove_abandoned
from arcuate.io.locks import alone, exclusive, hold

WRITER = """
import sys, time
from arcuate.io.atomic import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_only_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".mine.tmp").write_text("not ours")
    (tmp_path / "notes.0123456789ab.tmp").write_text("not ours")
    command = [sys.executable, "-c", WRITER, str(tmp_path / "image.nii.gz")]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    with atomic_path(tmp_path / "other.nii.gz"):
        assert remove_abandoned(tmp_path) == 0
    assert len(list(tmp_path.glob(".image*.tmp"))) == 1
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    assert remove_abandoned(tmp_path) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [".mine.tmp", "notes.0123456789ab.tmp", "other.nii.gz"]


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert remove_abandoned(tmp_path / "nowhere") == 0


def test_a_held_file_is_not_free_until_it_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch()
    first, second = hold(path), hold(path)
    assert first is not None
    assert second is not None
    os.close(first)
    with exclusive(path) as is_free:
        assert not is_free
    os.close(second)
    with exclusive(path) as is_free:
        assert is_free
    assert hold(tmp_path / "nowhere") is None


def test_one_at_a_time_is_in_a_block_and_nothing_stays_of_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / ".x.lock"
    with alone(path) as is_first:
        assert is_first
        with alone(path) as is_second:
            assert not is_second
        with alone(path) as is_third:
            assert not is_third
    assert list(path.parent.iterdir()) == []
    path.touch()  # of a process that was killed
    with alone(path) as is_alone:
        assert is_alone


def test_where_no_lock_can_be_made_nobody_is_kept_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with alone(tmp_path / "file" / ".x.lock") as is_alone:
        assert is_alone
