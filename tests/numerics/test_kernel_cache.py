"""Compiled kernels have a place, also where nothing but the temporary folder can be written."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from compilations import COUNT

import arcuate

SOURCE = Path(arcuate.__file__).parent
KERNEL = """
import sys, tempfile, numpy
{first}
from arcuate.numerics import filters
import numba
print(numba.config.CACHE_DIR, filters.__file__)
"""


def run_in_a_closed_place(
    tmp_path: Path, first: str = "", **variables: str
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Import kernels with a package and a home folder that not even root could write to; what was said, the TMPDIR."""
    copy = tmp_path / "site" / "arcuate"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__", "static"))
    for folder in (copy, *(f for f in copy.rglob("*") if f.is_dir())):
        (folder / "__pycache__").write_text("a file where numba wants a folder")
    (tmp_path / "home").write_text("a file where a home folder should be")
    (tmp_path / "tmp").mkdir()
    home = str(tmp_path / "home")
    places = {"PYTHONPATH": str(tmp_path / "site"), "HOME": home, "XDG_CACHE_HOME": home}
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment |= places | {"TMPDIR": str(tmp_path / "tmp")} | variables
    command = [sys.executable, "-c", KERNEL.format(first=first)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False), tmp_path / "tmp"


@pytest.mark.parametrize("first", ["", "import numba"], ids=["arcuate first", "numba first"])
def test_where_nothing_else_can_be_written_kernels_go_into_the_temporary_folder(first: str, tmp_path: Path) -> None:
    done, temporary = run_in_a_closed_place(tmp_path, first)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.split()[0])
    assert folder.parent == temporary
    assert done.stderr.count("NUMBA_CACHE_DIR") == 1
    assert str(folder) in done.stderr
    if os.name == "posix":
        assert folder.stat().st_mode & 0o077 == 0  # numba runs what it finds there: nobody else may write to it


def test_a_folder_that_another_user_may_write_to_is_not_taken(tmp_path: Path) -> None:
    if not hasattr(os, "getuid"):
        pytest.skip("Windows gives each user a temporary folder")
    name = f"arcuate-kernels-{os.getuid()}"
    trap = f"import os; trap = tempfile.gettempdir() + '/{name}'; os.mkdir(trap); os.chmod(trap, 0o777)"
    done, temporary = run_in_a_closed_place(tmp_path, trap)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.split()[0])
    assert folder.parent == temporary
    assert folder.name != name


def test_a_folder_that_was_named_is_used_without_a_word(tmp_path: Path) -> None:
    done, temporary = run_in_a_closed_place(tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "named"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == str(tmp_path / "named")
    assert done.stderr == ""
    assert not list(temporary.iterdir())


def test_a_named_folder_that_cannot_be_written_is_named_in_the_warning(tmp_path: Path) -> None:
    done, temporary = run_in_a_closed_place(tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "home" / "below"))
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.split()[0]).parent == temporary
    assert str(tmp_path / "home" / "below") in done.stderr


EIGEN = """
import numpy
from arcuate.numerics.eigen import eigh_3x3
eigh_3x3(numpy.ones((1, 6)))
print(Count.n)
"""


def test_kernels_prepared_in_a_folder_that_cannot_be_written_are_used(
    other_user: dict[str, Any], tmp_path: Path
) -> None:
    kernels, temporary = tmp_path / "kernels", tmp_path / "tmp"
    temporary.mkdir()
    environment = os.environ | {"NUMBA_CACHE_DIR": str(kernels), "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", COUNT + EIGEN]
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **other_user)
        assert (done.returncode, done.stderr) == (0, "")
        for folder in (kernels, *(f for f in kernels.rglob("*") if f.is_dir())):
            folder.chmod(0o555)
    assert int(done.stdout) == 0
    assert any(temporary.rglob("*.nbi"))
    for folder in (kernels, *(f for f in kernels.rglob("*") if f.is_dir())):
        folder.chmod(0o755)


def compile_kernels(kernels: Path, **options: Any) -> tuple[int, str]:
    """How many kernels a process compiles that keeps them in a folder, and what it says."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(kernels)}
    command = [sys.executable, "-c", COUNT + EIGEN]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return int(done.stdout), done.stderr


def test_on_a_full_disk_kernels_are_compiled_and_not_kept(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no such limit")

    def no_file_of_more_than_100_bytes() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    n, said = compile_kernels(tmp_path, preexec_fn=no_file_of_more_than_100_bytes)
    assert n > 0
    assert f"cannot be kept in {tmp_path} (File too large)" in said
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and ".tmp." in path.name]
    assert compile_kernels(tmp_path) == (n, "")
    assert compile_kernels(tmp_path) == (0, "")


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_kernels_that_were_cut_short_on_disk_are_compiled_again(suffix: str, tmp_path: Path) -> None:
    n, _ = compile_kernels(tmp_path)
    for path in tmp_path.rglob(f"*{suffix}"):
        path.write_bytes(path.read_bytes()[:20])
    assert compile_kernels(tmp_path) == (n, "")
    assert compile_kernels(tmp_path) == (0, "")


@pytest.mark.parametrize("mode", [0o444, 0o000], ids=["for all", "for themselves"])
def test_kernels_that_somebody_else_began_in_a_folder_for_several_are_used_if_they_may_be_read(
    mode: int, other_user: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels, temporary = tmp_path / "kernels", tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    n, _ = compile_kernels(kernels)
    (inside,) = (path for path in kernels.iterdir() if path.name.startswith("numerics"))
    for path in inside.iterdir():
        path.chmod(mode)
    inside.chmod(0o555)
    assert compile_kernels(kernels, **other_user) == (0 if mode else n, "")
    assert compile_kernels(kernels, **other_user) == (0, "")
    inside.chmod(0o755)
    assert not list(temporary.rglob("*.tmp"))


def test_a_named_folder_that_may_not_be_looked_for_costs_nothing(other_user: dict[str, Any], tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o000)
    compile_kernels(closed / "kernels", **other_user)
    closed.chmod(0o755)


def _kernel_modules() -> list[str]:
    """Modules that import numba when they are imported."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [n.module for n in tree.body if isinstance(n, ast.ImportFrom)]
        names += [alias.name for n in tree.body if isinstance(n, ast.Import) for alias in n.names]
        if any((name or "").split(".")[0] == "numba" for name in names):
            found.append(".".join(("arcuate", *path.relative_to(SOURCE).with_suffix("").parts)))
    return found


def test_every_module_with_kernels_settles_their_place_first() -> None:
    code = """
import importlib, sys, numba
for name in sys.argv[1:]:
    for known in [m for m in sys.modules if m.startswith("arcuate")]:
        del sys.modules[known]
    numba_njit = numba.njit
    def njit(*args, **kwargs):
        assert "arcuate.numerics.kernel_cache" in sys.modules, name
        return numba_njit(*args, **kwargs)
    numba.njit = njit
    importlib.import_module(name)
    numba.njit = numba_njit
"""
    modules = _kernel_modules()
    assert {"arcuate.numerics.compiled", "arcuate.numerics.lanes"} <= set(
        modules
    )  # the others decorate through the first
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
