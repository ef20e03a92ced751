"""``import arcuate`` offers some thirty names, quickly, and hides no module behind one of them."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import arcuate

NAMES = [name for name in arcuate.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_the_object_of_its_module(name: str) -> None:
    exported = getattr(arcuate, name)
    assert exported.__name__ == name
    assert exported.__module__.startswith("arcuate.")
    assert name in dir(arcuate)


def test_no_name_is_that_of_a_module() -> None:
    modules = {found.name for found in pkgutil.iter_modules(arcuate.__path__)}
    assert not modules & set(NAMES)
    assert 15 <= len(NAMES) <= 35


def test_unknown_names_are_no_attributes() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = arcuate.nothing  # type: ignore[attr-defined]


def test_importing_arcuate_loads_neither_numba_nor_nibabel() -> None:
    code = "import sys, arcuate; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numba", "scipy", "nibabel", "numpy", "torch"} & set(loaded)


def test_type_checkers_and_the_running_program_see_the_same_names() -> None:
    import ast
    from pathlib import Path

    tree = ast.parse(Path(arcuate.__file__).read_text(encoding="utf-8"))
    seen = {
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in arcuate._HOMES
        for alias in node.names
    }
    assert seen == {(home, name) for name, home in arcuate._HOME_OF.items()}
    assert {name for _, name in seen} == set(NAMES)


def test_a_scan_on_disk_finds_its_gradient_files(tmp_path: Path) -> None:
    gradients = arcuate.GradientTable(np.array([0.0, 1000.0]), np.array([[0.0, 0, 0], [1, 0, 0]]))
    array = np.arange(16, dtype=np.float32).reshape(2, 2, 2, 2)
    arcuate.Dwi.from_arrays(array, np.diag([-2.0, 2, 2, 1]), gradients).save(tmp_path, basename="scan")
    scan = arcuate.Dwi.from_files(tmp_path / "scan.nii.gz")
    np.testing.assert_allclose(scan.gradients.bvals, [0, 1000])
    np.testing.assert_array_equal(scan.load().volume.get_array(), array)
    with pytest.raises(arcuate.InputError, match=r"other\.bval"):
        arcuate.Dwi.from_files(tmp_path / "scan.nii.gz", bval=tmp_path / "other.bval")


def test_every_name_that_a_package_offers_can_be_had() -> None:
    packages = [found.name for found in pkgutil.walk_packages(arcuate.__path__, "arcuate.") if found.ispkg]
    assert len(packages) > 10
    for name in packages:
        package = importlib.import_module(name)
        assert [word for word in getattr(package, "__all__", ()) if not hasattr(package, word)] == []
