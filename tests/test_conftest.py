"""What the tests themselves rely on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PEERLESS = """
import pytest

def test_beside_mrtrix(mrtrix):
    pass

def test_beside_dipy():
    pytest.importorskip("dipy.no_such_module")
"""


@pytest.mark.parametrize(("required", "outcome"), [("0", "2 skipped"), ("1", "1 failed, 1 error")])
def test_a_peer_that_is_absent_is_a_failure_where_oracles_are_required(required, outcome, tmp_path):
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_peerless.py").write_text(PEERLESS)
    environment = {**os.environ, "PATH": "", "ARCUATE_REQUIRE_ORACLES": required}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert outcome in done.stdout
