"""Imports point down only, and heavy packages wait until they are needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "arcuate"
HEAVY = {"torch", "pyvista", "vtk", "matplotlib", "dask", "distributed", "dipy", "sklearn", "amico", "pandas", "jinja2"}

FLOOR = {
    "errors": 0, "interrupts": 0, "gradients": 0, "remote": 0, "numerics": 0,
    "models": 1, "nets": 1,
    "resource": 2, "io": 2, "cache": 2, "public_scans": 2, "voxels": 2, "orientation": 2, "views": 2, "plotting": 2,
    "denoise": 3, "masks": 3, "dti": 3, "noddi": 3, "csd": 3, "tractseg": 3, "dwi": 3,
    "responses": 3, "mtnormalise": 3,
    "study": 4,
    "dipy": 5, "commands": 5, "cli": 5, "figures": 5, "report": 5, "__init__": 6, "__main__": 6,
}  # fmt: skip


def _modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def _floor(relative: Path) -> int:
    first = relative.parts[0].removesuffix(".py")
    return FLOOR[first]


def _imports(tree: ast.AST) -> list[tuple[str, bool]]:
    """Every imported module, and whether the import runs when the module is imported."""
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, at_top: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.orelse:
                visit(child, at_top)
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            found.append((node.module or "", at_top))
            found.extend((f"{node.module}.{alias.name}", at_top) for alias in node.names if node.module == "arcuate")
        inner = at_top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inner)

    visit(tree, True)
    return found


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down_only(path: Path) -> None:
    relative = path.relative_to(SOURCE)
    floor = _floor(relative)
    for name, _ in _imports(ast.parse(path.read_text(encoding="utf-8"))):
        parts = name.split(".")
        if parts[0] != "arcuate" or len(parts) < 2 or parts[1] not in FLOOR:
            continue
        assert FLOOR[parts[1]] <= floor, f"{relative} (floor {floor}) imports {name} (floor {FLOOR[parts[1]]})"
        if parts[1] in {"errors", "numerics"} or floor > 0:
            continue
        assert relative.parts[0] != "numerics", f"numerics knows no MRI words, yet imports {name}"


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_heavy_packages_are_imported_inside_functions(path: Path) -> None:
    for name, at_top in _imports(ast.parse(path.read_text(encoding="utf-8"))):
        assert not (at_top and name.split(".")[0] in HEAVY), f"{path.name} imports {name} at its top"


def test_importing_arcuate_loads_no_heavy_package() -> None:
    code = "import sys, arcuate; print(' '.join(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)
