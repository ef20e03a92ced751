"""What a run holds in memory: each thing no longer than a later step needs it."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tables import random_table

from arcuate.cli import main
from arcuate.dwi import Dwi
from arcuate.phantom import make_phantom
from arcuate.study import pipeline
from arcuate.study.bids import Derivatives
from arcuate.study.memory import expected_memory
from arcuate.study.plan import Settings, make_plan


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small head of two shells on disk: path of its image, gradient files beside it."""
    folder = tmp_path_factory.mktemp("scan")
    head = make_phantom(random_table((0, 3), (1000, 16), (2500, 20)), shape=(24, 24, 16), voxel_size=8.0, snr=30)
    signal = np.asarray(head.signal, np.float32)
    Dwi.from_arrays(signal, head.affine, head.gradients).save(folder, basename="sub-1_dwi")
    return folder / "sub-1_dwi.nii.gz"


@pytest.mark.filterwarnings("ignore:the responses rest on")  # the head is small
def test_the_voxels_of_the_scan_are_gone_before_the_fods_are_there_twice(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays: list[Any] = []
    is_alive: dict[str, bool] = {}
    normalise, estimate = pipeline.normalised, pipeline._response

    def looked_at(name: str, function: Any) -> Any:
        def call(*args: Any) -> Any:
            gc.collect()
            is_alive[name] = arrays[0]() is not None
            return function(*args)

        return call

    monkeypatch.setattr(pipeline, "_response", looked_at("response", estimate))
    monkeypatch.setattr(pipeline, "normalised", looked_at("normalised", normalise))
    run = pipeline.run_subject(
        Dwi.from_files(scan), Derivatives.of_scan(tmp_path, scan), inputs={"dwi": scan}, keeps_maps=False,
        settings=Settings(steps=("fod",), mask_method="otsu"),
        examine=lambda seen, _: arrays.append(weakref.ref(seen.volume)),
    )  # fmt: skip
    assert "IntensityNormalisation" in run.outputs.record.steps["fod"]
    assert is_alive == {"response": True, "normalised": False}


# --- the estimate, and --mem-mb


def _write(folder: Path, tiles: int, n_per_shell: int) -> Path:
    """A block of balls of two shells, ``tiles`` along each axis; the same brain in each."""
    rng = np.random.default_rng(0)
    gradients = random_table((0, 2), (1000, n_per_shell), (2500, n_per_shell))
    place = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in (30, 34, 28)], indexing="ij"))
    radius = np.linalg.norm(place, axis=0)
    signal = np.abs(rng.normal(0, 5, (*radius.shape, len(gradients)))).astype(np.float32)
    tissues = ((0.0, 0.3, 3.0e-3, 3.0e-3), (0.3, 0.6, 0.9e-3, 0.7e-3), (0.6, 0.85, 1.7e-3, 0.3e-3))
    for least, most, along, across in tissues:
        inside = (radius >= least) & (radius < most)
        diffusivity = across + (along - across) * gradients.directions[:, 0] ** 2
        signal[inside] += (1000 * np.exp(-gradients.bvals * diffusivity)).astype(np.float32)
    whole = np.tile(signal, (tiles, tiles, tiles, 1))
    name = f"sub-{tiles}x{n_per_shell}_dwi"
    Dwi.from_arrays(whole, np.diag([-2.0, 2, 2, 1]), gradients).save(folder, basename=name)
    return folder / f"{name}.nii.gz"


# Linux counts the memory of the process that starts another as that one's: a small one lies between.
_MEASURED = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024)
"""


def _run(*arguments: object) -> tuple[int, int]:
    """Exit status and largest resident memory (bytes) of ``arcuate run`` in a process of its own."""
    command = [sys.executable, "-c", _MEASURED, sys.executable, "-m", "arcuate", "run", *map(str, arguments)]
    code, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(code), int(peak)


def _compare(
    tmp_path: Path, sizes: list[tuple[int, int]], steps: tuple[str, ...], *, with_report: bool, exclude: str = ""
) -> None:
    options = ["--steps", ",".join(steps), "--mask-method", "otsu"]
    options += [] if with_report else ["--no-report"]
    options += ["--exclude", exclude] if exclude else []
    for i, (tiles, n_per_shell) in enumerate(sizes):
        path = _write(tmp_path, tiles, n_per_shell)
        scan = Dwi.from_files(path, exclude=exclude)
        plan = make_plan(scan, Settings(steps=steps, mask_method="otsu"))
        needed = expected_memory(plan, scan.volume, scan.gradients, with_report=with_report)
        if i == 0:
            assert _run(path, "--out", tmp_path / "first", *options)[0] == 0  # compiles what is not there
        code, peak = _run(path, "--out", tmp_path / f"out{i}", *options)
        assert code == 0
        assert 0.6 * needed < peak < needed, (tiles, n_per_shell, peak / 1e6, needed / 1e6)


@pytest.mark.skipif(sys.platform != "linux", reason="counts resident memory as Linux does")
def test_a_run_takes_less_than_was_expected_and_not_much_less(tmp_path: Path) -> None:
    _compare(tmp_path, [(1, 8), (2, 30), (2, 110)], ("dti",), with_report=False)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="counts resident memory as Linux does")
@pytest.mark.filterwarnings("ignore:Patch2Self takes anisotropy")
def test_all_steps_and_the_report_take_less_than_was_expected_and_not_much_less(tmp_path: Path) -> None:
    steps = ("dti", "kurtosis", "noddi", "peaks")
    _compare(tmp_path, [(1, 30), (2, 60), (3, 60)], steps, with_report=True)
    _compare(tmp_path, [(1, 30), (2, 60), (2, 110)], ("denoise", "dti"), with_report=True)
    _compare(tmp_path, [(1, 30), (2, 60), (2, 110)], ("dti",), with_report=False, exclude="5")


def test_a_run_that_may_take_more_than_it_is_allowed_is_refused_with_the_figure(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["run", str(scan), "--out", str(tmp_path / "out"), "--steps", "mask", "--mask-method", "otsu"]
    with pytest.raises(SystemExit) as stop:
        main([*options, "--mem-mb", "50"])
    assert stop.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    found = re.search(r"may take (\d+) MB of memory, and --mem-mb allows 50; give it that much", said)
    assert found, said
    assert not (tmp_path / "out" / "sub-1").exists()
    for allowed, code in ((int(found[1]) - 1, 2), (int(found[1]), 0)):
        with pytest.raises(SystemExit) as stop:
            main([*options, "--mem-mb", str(allowed), "--dry-run"])
        assert (stop.value.code or 0) == code
    assert f"would take {found[1]} MB of memory at most" in capsys.readouterr().out
