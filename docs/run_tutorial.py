"""Execute one tutorial cell by cell and keep what each cell prints and draws: NAME FOLDER full|quick.

Writes ``outputs.json`` and the pictures to FOLDER. One process per tutorial, so that each starts afresh.
"""

from __future__ import annotations

import contextlib
import io
import json
import linecache
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def run(name: str, folder: Path, options: str) -> dict[str, Any]:
    """Outputs by the number of the cell: ``{"3": {"text": ..., "pictures": [...]}}``."""
    sys.path[:0] = [str(ROOT / "tutorials"), str(ROOT / "docs")]
    import example
    from generate import read_cells

    drawn: list[str] = []
    show = example.show

    def show_and_note(picture: Any, label: str) -> Any:
        drawn.append(label)
        return show(picture, label)

    example.show = show_and_note
    space: dict[str, Any] = {"__name__": "__main__"}
    outputs = {}
    for i, (kind, source) in enumerate(read_cells(name)):
        if kind != "code":
            continue
        drawn.clear()
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            file = f"<{name}, cell {i}>"
            linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)  # for inspect
            exec(compile(source, file, "exec"), space)
        text = printed.getvalue() + "".join(f"{w.category.__name__}: {w.message}\n" for w in caught)
        outputs[str(i)] = {"text": text, "pictures": list(drawn)}
    return outputs


def main() -> None:
    """Run the tutorial named on the command line in a folder of its own; keep pictures and text only."""
    name, folder, how = sys.argv[1], Path(sys.argv[2]).resolve(), sys.argv[3]
    with tempfile.TemporaryDirectory() as work:
        os.environ["ARCUATE_TUTORIAL"] = f"--out {work}/results" + (" --quick" if how == "quick" else "")
        outputs = run(name, folder, how)
        for old in folder.glob("*.png"):
            old.unlink()
        for picture in Path(work, "results").glob("*.png"):
            (folder / picture.name).write_bytes(picture.read_bytes())
    (folder / "outputs.json").write_text(json.dumps(outputs, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
