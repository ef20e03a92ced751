"""Pages that are made, not written: API, command line, messages, tables of benchmarks, and the executed tutorials.

``python docs/generate.py [--gallery full|quick|no]`` writes ``docs/generated``; Sphinx does it by itself, see
``conf.py``. Nothing here is kept under version control.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from reference import write_reference

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "generated"
RESULTS = ROOT / "benchmarks" / "results"
GALLERY = (
    "single_subject", "csd_on_arrays", "multi_tissue_csd", "custom_step", "region_averages", "t1_and_regions",
    "group_template", "harmonisation",
)  # fmt: skip
NEEDS = {"t1_and_regions": "ants", "group_template": "ants"}  # shown without outputs where it is not installed

TABLES = {  # table of a method page: which files of benchmarks/results belong to it; the first that is there
    "denoise": ("denoise.md",), "denoise_choice": ("denoise_choice*",),
    "masks": ("mask*", "hdbet*"), "tensor": ("tensor.md",), "kurtosis": ("kurtosis*",),
    "robust_tensor": ("robust_tensor.md",), "robust_tensor_accuracy": ("robust_tensor_accuracy.md",),
    "free_water": ("free_water*",),
    "noddi": ("noddi*",),
    "responses": ("respons*", "csd*"), "csd": ("csd*",), "multitissue": ("multi*", "msmt*"),
    "peaks": ("peak*", "csd*"), "mtnormalise": ("mtnorm*", "multi*"), "tracts": ("tract*",),
    "hdbet": ("hdbet*", "mask*"), "fod_accuracy": ("fod_accuracy.md",),
    "fod_heads": ("fod_heads.md",), "fod_single_fibres": ("fod_single_fibres.md",),
    "fod_shells": ("fod_shells.md",), "fod_real": ("fod_real.md",),
}  # fmt: skip


def write_pages() -> None:
    """Everything but the gallery; takes seconds."""
    (OUT / "tables").mkdir(parents=True, exist_ok=True)
    write_tables()
    written = set()

    def write(name: str, text: str) -> None:
        written.add(OUT / name)
        _write(name, text)

    write_reference(write)
    for folder in ("api", "commands"):  # names that are gone
        for path in set((OUT / folder).glob("*.md")) - written:
            path.unlink()


def _write(name: str, text: str) -> None:
    """Write a page if it changed: Sphinx reads changed files only."""
    path = OUT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def write_tables() -> None:
    """Tables for the method pages, and one page with all of them."""
    found = sorted(RESULTS.glob("*.md")) if RESULTS.is_dir() else []
    for name, patterns in TABLES.items():
        matches = ([path for path in found if path.match(pattern)] for pattern in patterns)
        files = next((some for some in matches if some), [])
        command = "`python -m benchmarks --write`"
        text = "\n\n".join(_lower_headings(path.read_text(encoding="utf-8")) for path in files)
        _write(f"tables/{name}.md", text or f"No table yet: {command} writes it, on a quiet machine.\n")
    for picture in RESULTS.glob("*.png"):
        shutil.copyfile(picture, OUT / "tables" / picture.name)
    everything = "\n\n".join(path.read_text(encoding="utf-8") for path in found)
    head = (
        "# Speed and agreement, measured\n\nEach table is what `python -m benchmarks --write` wrote: ours and the peer "
        "in turns, on one machine, medians.\n\n"
    )
    _write("benchmarks.md", head + (everything or "No table was written yet.\n"))


def _lower_headings(text: str) -> str:
    return re.sub(r"^(#{1,4}) ", r"\1# ", text, flags=re.MULTILINE)


def write_gallery(how: str) -> None:
    """The tutorials, executed cell by cell: a page, a notebook with outputs, and the script, for each.

    Parameters
    ----------
    how : "full", "quick" (a small phantom), or "no" (pages without outputs)
    """
    folder = OUT / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    shutil.copyfile(ROOT / "tutorials" / "example.py", folder / "example.py")
    for name in GALLERY:
        target = folder / name
        if how == "no" or (name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None):
            _write(f"gallery/{name}.md", render_tutorial(name, {}))
        else:
            target.mkdir(exist_ok=True)
            command = [sys.executable, str(ROOT / "docs" / "run_tutorial.py"), name, str(target), how]
            subprocess.run(command, check=True)
            outputs = json.loads((target / "outputs.json").read_text(encoding="utf-8"))
            _write(f"gallery/{name}.md", render_tutorial(name, outputs))
            write_notebook(name, outputs, target)
        shutil.copyfile(ROOT / "tutorials" / f"{name}.py", folder / f"{name}.py")
        entries.append(name)
    _write("gallery/index.md", _gallery_index(entries))


def read_cells(name: str) -> list[tuple[str, str]]:
    """(kind, source) of each cell of a tutorial."""
    import jupytext

    notebook = jupytext.read(ROOT / "tutorials" / f"{name}.py", fmt="py:percent")
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def render_tutorial(name: str, outputs: dict[str, Any]) -> str:
    """Markdown page of a tutorial; ``outputs`` by the number of the cell, as ``run_tutorial.py`` writes them."""
    parts = []
    for i, (kind, source) in enumerate(read_cells(name)):
        if kind == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        made = outputs.get(str(i), {})
        if made.get("text"):
            parts.append(f"```text\n{made['text'].rstrip()}\n```")
        parts += [f"![{picture}]({name}/{picture}.png)" for picture in made.get("pictures", [])]
    links = f"{{download}}`script <{name}.py>` (with {{download}}`example.py` beside it)"
    if outputs:
        links += f", {{download}}`notebook with its outputs <{name}/{name}.ipynb>`"
    parts.insert(1, f"Download: {links}. `python tutorials/{name}.py --data sherbrooke` runs it on a public scan.")
    return "\n\n".join(parts) + "\n"


def write_notebook(name: str, outputs: dict[str, Any], folder: Path) -> None:
    """The tutorial as a notebook that holds its outputs."""
    import base64

    import jupytext
    from nbformat.v4 import new_output

    notebook = jupytext.read(ROOT / "tutorials" / f"{name}.py", fmt="py:percent")
    for i, cell in enumerate(notebook.cells):
        made = outputs.get(str(i), {})
        if cell.cell_type != "code":
            continue
        cell["execution_count"] = None
        cell["outputs"] = []
        if made.get("text"):
            cell["outputs"].append(new_output("stream", name="stdout", text=made["text"]))
        for picture in made.get("pictures", []):
            code = base64.b64encode((folder / f"{picture}.png").read_bytes()).decode()
            cell["outputs"].append(new_output("display_data", {"image/png": code}))
    jupytext.write(notebook, folder / f"{name}.ipynb", fmt="ipynb")


CARDS = {  # picture of a tutorial that was not executed, and the sentence of its card
    "single_subject": ("landing", "From a scan to maps, step by step, with the errors against the truth."),
    "csd_on_arrays": ("report-dark", "A DIPY script with another import line: response, CSD, peaks, glyphs."),
    "multi_tissue_csd": ("walk_noddi", "Three tissues from two shells or more: responses, FODs, fractions, peaks."),
    "custom_step": ("walk_mask", "A step of your own that the cache keeps, as the built-in ones."),
    "region_averages": ("walk_tensor", "From maps and labels to a table of means, weighted by tissue."),
    "t1_and_regions": ("clinical", "T1, its tissues and an atlas brought to the scan, and a table of regions."),
    "group_template": ("clinical", "The mean head of a group, and what lies in it brought back to each subject."),
    "harmonisation": ("walk_tensor", "Shifts and scales of scanners taken out, effects of age and sex kept."),
}


def _gallery_index(names: list[str]) -> str:
    cards = [
        _card("A walk through a human scan", "../../walkthrough.md", "../../images/walk_fods.png",
              "Four commands on two slices of a healthy adult, and what to look for in each picture.")
    ]  # fmt: skip
    for name in names:
        title = next(source for kind, source in read_cells(name) if kind == "markdown").splitlines()[0].lstrip("# ")
        pictures = sorted((OUT / "gallery" / name).glob("*.png"), key=lambda p: -p.stat().st_size)
        other, sentence = CARDS[name]
        picture = f"{name}/{pictures[0].name}" if pictures else f"../../images/{other}.png"
        cards.append(_card(title, f"{name}.md", picture, sentence))
    listing = "\n".join(names)
    return (
        "# Tutorials\n\nScripts that are notebooks, too, executed when these pages were made. They work on the "
        "phantom, a head whose truth is known and which needs no internet; `--data sherbrooke` and `--data stanford` "
        "take the public scans. `make tutorials` runs all of them.\n\n"
        ":::::{container} cards\n" + "\n".join(cards) + "\n:::::\n\n"
        f"```{{toctree}}\n:hidden:\n:maxdepth: 1\n\n{listing}\n```\n"
    )


def _card(title: str, page: str, picture: str, sentence: str) -> str:
    return f"::::{{container}} card\n[![{title}]({picture})]({page})\n\n**[{title}]({page})**\n\n{sentence}\n::::"


def main() -> None:
    """Write all pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gallery", choices=["full", "quick", "no"], default="full")
    given = parser.parse_args()
    write_pages()
    write_gallery(given.gallery)


if __name__ == "__main__":
    main()
