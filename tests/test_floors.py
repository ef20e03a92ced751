"""Imports point down only, and heavy packages wait until they are needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "arcuate"
HEAVY = {
    "torch", "pyvista", "vtk", "matplotlib", "dask", "distributed", "dipy", "sklearn", "amico", "pandas", "jinja2",
    "ants", "h5py",
}  # fmt: skip

# Names of kwneuro's modules for what lies elsewhere here, so that its scripts run: imports, and arguments in its order.
KWNEURO = ("resource", "util", "reg", "build_template")

# The order of the package: a module imports what stands before it, or beside it in its own package.
ORDER = (
    ("_version", "errors", "gradients", "numerics"),  # the ground
    ("volumes", "phantom", "fetch", "models", "nets"),
    ("io", "cache"),
    ("masks", "dti", "kurtosis", "freewater", "noddi", "csd", "mtnormalise", "tractseg", "structural", "registration",
     "templates", "regions", "harmonize", "denoise", "dwi", "files", "external", *KWNEURO),
    ("study",),
    ("dipy", "figures", "report", "commands", "cli"),
    ("__init__", "__main__"),
)  # fmt: skip
FLOOR = {name: floor for floor, names in enumerate(ORDER) for name in names}
PLACE = {name: place for place, name in enumerate(name for names in ORDER for name in names)}
STEPS = set(ORDER[3])
MENU = STEPS | {"_version", "errors", "gradients", "cli", "__init__", "__main__"}


def _modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


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
            if node.module == "arcuate":
                found.extend((f"arcuate.{alias.name}", at_top) for alias in node.names)
            else:
                found.append((node.module or "", at_top))
        inner = at_top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inner)

    visit(tree, True)
    return found


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down_only(path: Path) -> None:
    relative = path.relative_to(SOURCE)
    home = relative.parts[0].removesuffix(".py")
    if home == "__main__":
        return
    for name, _ in _imports(ast.parse(path.read_text(encoding="utf-8"))):
        parts = name.split(".")
        if parts[0] != "arcuate":
            continue
        assert len(parts) > 1, f"{relative} imports the root of the package"
        if parts[1] == home:
            continue
        assert parts[1] in PLACE, f"{relative} imports {name}, which has no floor"
        assert PLACE[parts[1]] < PLACE[home], f"{relative} imports {name}, which stands above it"
        if home == "numerics":
            assert parts[1] == "errors", f"numerics knows no MRI words, yet imports {name}"


def test_the_root_shows_the_steps_and_nothing_else() -> None:
    modules = {path.stem for path in SOURCE.glob("*.py")}
    assert modules <= MENU, f"{modules - MENU} belong into a package"
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages <= set(PLACE)


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_heavy_packages_are_imported_inside_functions(path: Path) -> None:
    for name, at_top in _imports(ast.parse(path.read_text(encoding="utf-8"))):
        assert not (at_top and name.split(".")[0] in HEAVY), f"{path.name} imports {name} at its top"


def test_importing_arcuate_loads_no_heavy_package() -> None:
    code = "import sys, arcuate; print(' '.join(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)
