"""Shared by all tests: where real data lies, which peers are there, and a compile cache per state of the source."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]


def _state_of_kernels() -> str:
    """Digest of every file with a kernel, and of the packages that kernels take constants from."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "src").rglob("*.py")):
        content = path.read_bytes()
        if {"models", "numerics", "phantom"} & set(path.parts) or b"numba" in content:
            digest.update(content)
    return digest.hexdigest()[:16]


# numba's disk cache does not see edits in a file that a kernel imports from: every state of the kernels has its own.
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / "build" / "numba" / _state_of_kernels()))

# A shell that starts tests in the background leaves them deaf to Ctrl-C, and with them every program they start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

DATA = Path(os.environ.get("ARCUATE_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with the real scans; skips where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"the real scans are not at {DATA}; set ARCUATE_TEST_DATA to their folder")
    return DATA


@pytest.fixture(scope="session")
def mrtrix() -> Path:
    """Folder of MRtrix3's programs; skips where they are not installed."""
    program = shutil.which("dwi2tensor")
    if program is None:
        pytest.skip("MRtrix3 is not installed (Debian: apt-get install mrtrix3); its oracle tests are left out")
    return Path(program).parent


@pytest.fixture
def other_user() -> dict[str, Any]:
    """Options of ``subprocess.run`` for a process that folders can be closed to, also where the tests run as root.

    Linux lets root write everywhere by a capability of its own; without it the owner's permissions count.
    """
    if os.name != "posix":
        pytest.skip("Windows has no such permissions")
    if os.geteuid() != 0:
        return {}
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    drop_from_bounding_set, override, read_search = 24, 1, 2  # linux/prctl.h, linux/capability.h

    def give_up() -> None:
        for capability in (override, read_search):
            if prctl(drop_from_bounding_set, capability, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "the capability cannot be given up")

    return {"preexec_fn": give_up}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run of a small phantom, its report in it."""
    from arcuate.dwi import Dwi
    from arcuate.phantom import make_phantom, three_shell_gradients

    folder = tmp_path_factory.mktemp("run")
    gradients = three_shell_gradients(n_b0=2, n_directions=20, seed=0)
    keep = gradients.bvals < 2500
    phantom = make_phantom(gradients.subset(keep.nonzero()[0]), shape=(32, 32, 20), voxel_size=6.0, snr=40, seed=0)
    Dwi.from_arrays(phantom.signal, phantom.affine, phantom.gradients).save(folder, basename="sub-small_dwi")
    scan, out = folder / "sub-small_dwi.nii.gz", folder / "out"
    steps = ("--steps", "denoise,mask,dti,response,fod,peaks", "--algorithm", "ssst", "--mask-method", "otsu")
    command = [sys.executable, "-m", "arcuate", "run", str(scan), "--out", str(out), *steps]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "report" in done.stderr
    return out


ABSENT_PEER = re.compile(r"MRtrix3 is not installed|dipy is not installed|could not import '(dipy|amico)")


def _peers_are_required(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip for the want of a peer into a failure where ``ARCUATE_REQUIRE_ORACLES`` is set, as CI sets it."""
    is_absent = report.skipped and ABSENT_PEER.search(str(report.longrepr))
    if is_absent and os.environ.get("ARCUATE_REQUIRE_ORACLES") == "1":
        report.outcome = "failed"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, None]:
    _peers_are_required((yield).get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, None]:
    _peers_are_required((yield).get_result())


def pytest_configure(config: pytest.Config) -> None:
    """Kernels are compiled before several workers would each do it; reduced counts try the same examples each time.

    New examples are looked for by `make test-long`.
    """
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        subprocess.run([sys.executable, "-m", "arcuate", "compile"], check=False)
    if "long" not in (config.getoption("-m") or ""):
        settings.register_profile("reduced", derandomize=True)
        settings.load_profile("reduced")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "long" in (config.getoption("-m") or ""):
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="full counts: run `make test-long`"))
