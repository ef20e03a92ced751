"""Kernels that are compiled ahead are those of a run, and are found where they were put."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compilations import COUNT
from numba import njit
from numba.core import event

from arcuate.commands.ahead import NEEDS, ORDER, Ahead, Claims, are_compiled
from arcuate.commands.compilation import TASKS, compile_kernels
from arcuate.numerics.threads import n_threads
from arcuate.study.stages import Silent, Stage, StageLog, compiling_noted

Arcuate = Callable[..., Any]  # code, out and err of a command, see conftest

MAIN = """
import sys
from arcuate.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print(Count.n)
"""


def count(folder: Path, *words: object, **variables: str) -> int:
    """Kernels that a command compiles in a new process."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder)} | variables
    command = [sys.executable, "-c", COUNT + MAIN, *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


def test_kernels_lie_in_the_folder_that_was_named(arcuate: Arcuate, tmp_path: Path) -> None:
    done = arcuate("compile", "mask", "--folder", tmp_path / "kernels")
    assert done.code == 0, done.err
    assert f"NUMBA_CACHE_DIR={tmp_path / 'kernels'}" in done.out
    assert count(tmp_path / "kernels", "compile", "--jobs", "1", "mask") == 0
    assert count(tmp_path / "elsewhere", "compile", "--jobs", "1", "mask") > 0


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="a processor of the x86 family by name")
def test_kernels_for_a_named_processor_are_found_by_that_name(arcuate: Arcuate, tmp_path: Path) -> None:
    done = arcuate("compile", "mask", "--folder", tmp_path, "--cpu", "x86-64")
    assert done.code == 0, done.err
    named = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": ""}
    assert all(f"{name}={value}" in done.out for name, value in named.items())
    assert count(tmp_path, "compile", "--jobs", "1", "mask", **named) == 0
    assert count(tmp_path, "compile", "--jobs", "1", "mask") > 0


def test_an_unknown_task_is_one_sentence(arcuate: Arcuate) -> None:
    done = arcuate("compile", "fods")
    assert done.code == 2
    assert "found the task 'fods'; expected some of cone, fod, tensor," in done.err


def test_a_process_compiles_ahead_and_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    with Ahead(("mask",)) as ahead:
        ahead.wait("mask")
    assert any(tmp_path.rglob("*.nbi"))
    with Ahead(("cone",)) as stopped:
        process = stopped._process
        assert process is not None
    assert process.poll() is not None


def test_a_stage_waits_for_its_kernels_and_the_seconds_are_those_of_compiling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    with Ahead(("peaks",)) as ahead:
        process = ahead._process
        assert process is not None
        while not (Path(ahead._folder.name) / "peaks").exists():  # the other has it
            time.sleep(0.01)
        log = StageLog(ahead.listener(Silent()))
        with log.stage("dti"):
            assert process.poll() is None
        with log.stage("peaks"):
            assert ahead._claims.is_done("peaks")
            assert any(tmp_path.rglob("peak_kernels.find_peaks_of_voxels-*.nbi"))
    assert log["dti"].compiling == 0
    assert log["peaks"].compiling > 10 * log["peaks"].seconds


def test_a_stage_compiles_what_the_other_process_has_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    compile_kernels("peaks")
    with Ahead(("cone", "peaks")) as ahead:
        process = ahead._process
        assert process is not None
        while not (Path(ahead._folder.name) / "cone").exists():  # the other has it, for half a minute
            time.sleep(0.01)
        with StageLog(ahead.listener(Silent())).stage("peaks"):
            assert ahead._claims.is_done("peaks")
            assert not ahead._claims.is_done("cone")
            assert process.poll() is None


def test_the_collector_rests_while_a_kernel_is_compiled() -> None:
    before, within = gc.get_threshold(), []

    class Look(event.Listener):
        def on_start(self, event: Any) -> None:
            within.append(gc.get_threshold())

        def on_end(self, event: Any) -> None: ...

    with compiling_noted(Stage("dti")), event.install_listener("numba:compile", Look()):
        njit(lambda x: x + 1)(1.0)
    assert len(within) == 1
    assert within[0][0] > before[0]
    assert gc.get_threshold() == before


def test_a_task_is_done_by_whoever_comes_first(tmp_path: Path) -> None:
    one, other = Claims(tmp_path), Claims(tmp_path)
    assert one.take("cone")
    assert not other.take("cone")
    assert not one.take("cone")
    assert not other.is_done("cone")
    one.finish("cone")
    assert other.is_done("cone")


def test_a_task_that_was_taken_is_left_out(arcuate: Arcuate, tmp_path: Path) -> None:
    assert Claims(tmp_path).take("mask")
    done = arcuate("compile", "--jobs", "1", "--claims", tmp_path, "mask")
    assert done.code == 0, done.err
    assert "mask" not in done.out
    assert not Claims(tmp_path).is_done("mask")


def test_a_run_does_not_wait_for_a_process_that_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    with Ahead(("peaks",)) as ahead:
        assert ahead._claims.take("cone")  # by nobody who would finish it
        assert ahead._process is not None
        ahead._process.kill()
        begin = time.perf_counter()
        ahead.wait("cone")
    assert time.perf_counter() - begin < 5


def test_kernels_that_are_there_are_known(tmp_path: Path) -> None:
    compile_kernels("peaks")
    assert are_compiled("peaks")
    code = "from arcuate.commands.ahead import are_compiled; print(are_compiled('peaks'))"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_every_task_that_is_shared_is_one_of_arcuate_compile_and_is_known_by_its_last_kernel() -> None:
    assert {task for tasks in NEEDS.values() for task in tasks} == set(ORDER) <= set(TASKS)
    assert all(isinstance(are_compiled(task), bool) for task in ORDER)
    with Ahead.of_steps(["report"]) as ahead:
        assert ahead._tasks == (() if are_compiled("report") or n_threads() == 1 else ("report",))


@pytest.mark.long
def test_a_run_compiles_nothing_where_all_tasks_were_compiled(arcuate: Arcuate, scan: Path, tmp_path: Path) -> None:
    assert arcuate("compile", *TASKS, "--folder", tmp_path / "kernels").code == 0
    words = ("run", scan, "--mask-method", "otsu", "--denoise", "mppca", "--out", tmp_path / "out")
    assert count(tmp_path / "kernels", *words) == 0
