"""A kernel is the same machine code in the process that compiles it and in those that read it from disk."""

from __future__ import annotations

import importlib
import os
import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest
from kernel_families import FAMILIES
from numba import njit
from numba.core.codegen import JITCPUCodegen
from numba.core.dispatcher import Dispatcher

import arcuate.figures
import arcuate.models
import arcuate.numerics
import arcuate.volumes
from arcuate.numerics.own_copies import OwnCopies

PROGRAM = Path(__file__).parents[1] / "shared" / "kernel_families.py"
QUICK = ("eigen", "places")  # the first differs where inner functions run as code on their own


def results(kernels: Path, *families: str) -> dict[str, bytes]:
    """The bytes of all that families give, in a new process that keeps its kernels in this folder."""
    out = kernels.parent / "results.npz"
    command = [sys.executable, str(PROGRAM), str(out), *families]
    done = subprocess.run(command, env=os.environ | {"NUMBA_CACHE_DIR": str(kernels)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(out) as found:
        assert len(found.files) >= len(families)
        return {name: found[name].tobytes() for name in found.files}


def kernels_of_arcuate() -> dict[str, Dispatcher]:
    """All that run beside other threads, by the names that their files on disk begin with."""
    packages = (arcuate.numerics, arcuate.models, arcuate.volumes, arcuate.figures)
    names = [m.name for package in packages for m in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")]
    names.remove("arcuate.models.phantom")  # a name of old, which warns
    found = {f for name in names for f in vars(importlib.import_module(name)).values() if isinstance(f, Dispatcher)}
    return {f"{f.__module__.split('.')[-1]}.{f.__name__}": f for f in found if f.targetoptions.get("nogil")}


def functions_by_linkage(folder: Path) -> dict[str, dict[str, set[str]]]:
    """Of each kernel that was compiled into the folder the functions in its module, by their linkage."""
    found: dict[str, dict[str, set[str]]] = {}
    for path in folder.rglob("*.nbc"):
        if path.name.split("-")[0] in kernels_of_arcuate():
            _, _, (_, bitcode) = pickle.loads(path.read_bytes())[0]
            linkages = found.setdefault(path.stem, {})
            for function in llvm.parse_bitcode(bitcode).functions:
                if not function.is_declaration:
                    linkages.setdefault(function.linkage.name, set()).add(function.name)
    return found


def replaceable(folder: Path) -> dict[str, set[str]]:
    """Of each kernel in the folder the functions for which a linker may take another's: all but its own."""
    found = functions_by_linkage(folder)
    assert found
    own = {path: path.split(".")[1].split("-")[0] for path in found}
    shared = {path: {n for n in found[path]["linkonce_odr"] if own[path] not in n} for path in found}
    return {path: names for path, names in shared.items() if names}


def test_the_process_that_compiles_gives_the_bits_of_those_that_load(tmp_path: Path) -> None:
    first, later = (results(tmp_path / "kernels", *QUICK) for _ in range(2))
    assert [name for name in first if first[name] != later[name]] == []
    assert replaceable(tmp_path / "kernels") == {}
    inner = {path: names["internal"] for path, names in functions_by_linkage(tmp_path / "kernels").items()}
    kept = next(names for path, names in inner.items() if "eigh_many" in path)
    assert any("eigh_lanes" in name for name in kept), "taken into the kernel: the test shows nothing"
    assert len(set().union(*inner.values())) == sum(map(len, inner.values())), "two kernels have functions of one name"


@pytest.mark.long
def test_no_family_depends_on_who_compiled_its_kernels_or_on_what_ran_before(tmp_path: Path) -> None:
    kernels = tmp_path / "kernels"
    first, later = (results(kernels, *FAMILIES) for _ in range(2))
    other_way = results(kernels, *reversed(FAMILIES))
    assert [name for name in first if first[name] != later[name]] == []
    assert [name for name in later if later[name] != other_way[name]] == []
    assert replaceable(kernels) == {}


def test_all_that_runs_beside_other_threads_has_its_own_copies() -> None:
    kernels = kernels_of_arcuate()
    assert len(kernels) > 25
    assert [name for name, kernel in kernels.items() if kernel._compiler.pipeline_class is not OwnCopies] == []


def test_a_numba_that_holds_code_otherwise_compiles_as_it_would(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(JITCPUCodegen._library_class):  # type: ignore[misc, name-defined]
        """What a later numba may have instead."""

    monkeypatch.setattr(JITCPUCodegen, "_library_class", Other)
    kernel = njit(pipeline_class=OwnCopies)(lambda x: x + 1)
    assert kernel(1.0) == 2.0
    assert type(next(iter(kernel.overloads.values())).library) is Other
