"""Commands show how far they are, and that kernels are compiled, without touching what they print."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from numba.core import event

from arcuate.commands import working as module
from arcuate.commands.shell import tell
from arcuate.commands.working import show_work, working
from arcuate.io import NiftiVolumeResource
from arcuate.numerics.progress import tell_progress
from arcuate.volumes.resource import InMemoryVolumeResource


def _on_a_terminal(command: list[str]) -> tuple[str, str]:
    """Standard output, piped, and what a person saw of standard error."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment)
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        seen += piece
    out, _ = process.communicate()
    assert process.returncode == 0, seen
    return out, seen.decode()


def test_a_person_sees_how_far_a_command_is_and_standard_output_stays_clean(scan: Path, tmp_path: Path) -> None:
    out, seen = _on_a_terminal([sys.executable, "-m", "arcuate", "dti", str(scan), "--out", str(tmp_path / "maps")])
    assert re.fullmatch(r".*maps: tensors from \d+ volumes; voxels: .*\n", out)
    assert "dti" in seen
    assert re.search(r"\d+ s|compiling kernels", seen)
    assert seen.rindex("\x1b[?25h") > seen.index("\x1b[?25l")  # the cursor comes back


def test_a_quiet_command_shows_nothing(scan: Path, tmp_path: Path) -> None:
    out, seen = _on_a_terminal(
        [sys.executable, "-m", "arcuate", "dti", str(scan), "-q", "--out", str(tmp_path / "maps")]
    )
    assert (out, seen) == ("", "")


def test_long_compiling_is_said_once_where_nobody_watches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_SAID_AFTER", 0.0)
    with working("dti"):
        for _ in range(3):
            event.start_event("numba:compile")
            event.end_event("numba:compile")
            tell_progress(1, 2)
    heard = capsys.readouterr()
    assert heard.out == ""
    assert heard.err.count("compiling kernels") == 1


def test_short_compiling_is_not_worth_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with working("dti"):
        event.start_event("numba:compile")
        event.end_event("numba:compile")
    assert capsys.readouterr() == ("", "")


def test_what_is_shown_ends_before_the_result_is_told_and_after_an_error() -> None:
    @click.command()
    @click.option("--fails", is_flag=True)
    def work(fails: bool) -> None:
        show_work()
        assert module._WATCHED in click.get_current_context().meta
        if fails:
            raise click.ClickException("no")
        tell("done")
        assert module._WATCHED not in click.get_current_context().meta

    assert work.main([], standalone_mode=False) is None
    with pytest.raises(click.ClickException, match="no"):
        work.main(["--fails"], standalone_mode=False)
    tell_progress(0, 1)  # nobody listens any more


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    directions = rng.normal(size=(12, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    image = rng.uniform(100, 200, size=(6, 6, 6, 13)).astype(np.float32)
    path = tmp_path / "scan.nii.gz"
    NiftiVolumeResource.save(InMemoryVolumeResource(image, np.diag([2.0, 2, 2, 1])), path)
    np.savetxt(tmp_path / "scan.bval", [[0] + [1000] * 12], fmt="%d")
    np.savetxt(tmp_path / "scan.bvec", np.vstack([np.zeros(3), directions]).T)
    return path
