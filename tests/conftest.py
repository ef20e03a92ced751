"""Shared by all tests: where real data lies, which peers are there, and a compile cache per state of the source."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _source_state() -> str:
    digest = hashlib.sha256()
    for path in sorted((ROOT / "src").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


# numba's disk cache does not see edits in a file that a kernel imports from: every state of the source has its own.
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / "build" / "numba" / _source_state()))

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "long" in (config.getoption("-m") or ""):
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="full counts: run `make test-long`"))
