"""Files, functions and kernels can be read at once; what is larger is named here, with the reason."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src" / "arcuate"
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60  # the docstring left out
MOST_PARAMETERS_OF_A_KERNEL = 8
LARGER = {
    "dwi.py": "every step as a method of the scan, its arguments written out for editors",
}
WIDER = {
    "numerics/lanes.py:add_outer_tile",  # one instruction, as numba takes it
    "phantom/bundles.py:_bundle_weights",
}  # fmt: skip
KERNEL = re.compile(r"(njit|kernel|inner|intrinsic|part)\b")


def _modules() -> dict[str, str]:
    return {path.relative_to(SOURCE).as_posix(): path.read_text() for path in sorted(SOURCE.rglob("*.py"))}


def _functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for name, text in _modules().items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}:{node.name}", node


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    n_lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        n_lines -= (function.body[0].end_lineno or 0) - function.body[0].lineno + 1
    return n_lines


def test_files_are_short_or_named():
    long = {name for name, text in _modules().items() if text.count("\n") > MOST_LINES}
    assert long == set(LARGER), "split the file, or take a name off the list that is short again"


def test_functions_are_short():
    long = {
        name: n_lines for name, function in _functions() if (n_lines := _lines(function)) > MOST_LINES_OF_A_FUNCTION
    }
    assert not long


def test_kernels_take_few_arguments_or_are_named():
    kernels = {n: f for n, f in _functions() if any(KERNEL.match(ast.unparse(d)) for d in f.decorator_list)}
    assert len(kernels) > 100
    wide = {n for n, f in kernels.items() if len(f.args.args) + len(f.args.kwonlyargs) > MOST_PARAMETERS_OF_A_KERNEL}
    assert wide == WIDER, "put arrays that belong together into a NamedTuple"
