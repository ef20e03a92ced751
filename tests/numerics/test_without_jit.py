"""Kernels without lanes are plain Python too: their own tests hold with numba's compiler switched off."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

FILES = ("test_elementary.py", "test_legendre.py", "test_rice.py", "test_nnls.py", "test_eigen.py")


def test_scalar_kernels_pass_their_tests_as_plain_python() -> None:
    here = Path(__file__).parent
    quiet = ("-W", "ignore::RuntimeWarning")  # numpy speaks of infinities, compiled code does not
    command = [sys.executable, "-m", "pytest", "-q", *quiet, *(str(here / name) for name in FILES)]
    done = subprocess.run(
        command, env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, cwd=here.parents[1], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 50
