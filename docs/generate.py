"""Pages that are made, not written: API, command line, messages, tables of benchmarks, and the executed tutorials.

``python docs/generate.py [--gallery full|quick|no]`` writes ``docs/generated``; Sphinx does it by itself, see
``conf.py``. Nothing here is kept under version control.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    "robust_tensor": ("robust*",), "free_water": ("free_water*",),
    "noddi": ("noddi*",),
    "responses": ("respons*", "csd*"), "csd": ("csd*",), "multitissue": ("multi*", "msmt*"),
    "peaks": ("peak*", "csd*"), "mtnormalise": ("mtnorm*", "multi*"), "tracts": ("tract*",),
    "hdbet": ("hdbet*", "mask*"), "fod_accuracy": ("fod*",),
}  # fmt: skip

IMAGES = {  # face A: module -> what the page says of it
    "arcuate.dwi": "A scan, and the steps that start from it.",
    "arcuate.files": "Scans and images by their paths.",
    "arcuate.external": "Files for tools that know nothing else.",
    "arcuate.io": "Files. The only code that knows file formats.",
    "arcuate.volumes.scale_steps": "Steps in intensity scale between the parts of a scan.",
    "arcuate.volumes.resource": "Volumes and vectors in memory, and what all of them can do.",
    "arcuate.gradients": "b-values, directions in the scanner frame, shells.",
    "arcuate.denoise": "Denoising.",
    "arcuate.masks": "Brain masks.",
    "arcuate.dti": "The diffusion tensor.",
    "arcuate.kurtosis": "Kurtosis, and the tensor freed of its bias.",
    "arcuate.freewater": "Free water, and the tensor of the tissue beside it.",
    "arcuate.noddi": "NODDI.",
    "arcuate.csd": "Responses, fibre orientation distributions, peaks.",
    "arcuate.csd.responses": "Responses from masks, and by the algorithms that need the image.",
    "arcuate.mtnormalise": "Multi-tissue intensity normalisation.",
    "arcuate.tractseg": "Tracts.",
    "arcuate.structural": "The T1 image: bias field, brain, tissues (extra `[ants]`).",
    "arcuate.registration": "Registration, and what lies in one image brought to another (extra `[ants]`).",
    "arcuate.templates": "Templates (extra `[ants]`).",
    "arcuate.regions": "From maps to numbers: tables of regions.",
    "arcuate.harmonize": "Site effects taken out of maps and tables.",
    "arcuate.io.tables": "Tables, as BIDS has them.",
    "arcuate.io.labels": "Label images and the names of their labels.",
    "arcuate.cache": "The cache.",
    "arcuate.errors": "Errors and warnings.",
    "arcuate.figures.plotting": "Maps on paper (extra `[report]`).",
    "arcuate.figures.views": "From which side a picture is seen.",
    "arcuate.figures": "Glyphs, peaks, tracts (extra `[viz]`).",
}
MODELS = (
    "status", "patch2self", "mppca", "rician", "residual", "log_linear", "tensor", "robust_tensor",
    "kurtosis", "kurtosis_measures", "mean_signal", "free_water",
    "noddi", "response", "response_ssst", "response_tournier", "response_dhollander", "csd", "multitissue",
    "peaks", "peak_rule", "mtnormalise", "combat", "region_statistics",
)  # fmt: skip
NUMERICS = ("sh", "sphere", "legendre", "linalg", "nnls", "qp")


def write_pages() -> None:
    """Everything but the gallery; takes seconds."""
    for folder in ("tables", "api"):
        (OUT / folder).mkdir(parents=True, exist_ok=True)
    write_tables()
    _write("api/images.md", _api_page("Objects on images", IMAGES))
    _write("api/arrays.md", _arrays_page())
    models = (
        {"arcuate.phantom": "A head whose truth is known."}
        | {f"arcuate.models.{m}": "" for m in MODELS}
        | {f"arcuate.numerics.{m}": "" for m in NUMERICS}
    )
    _write("api/models.md", _api_page("Models: rows in, arrays out", models))
    _write("api/top.md", _top_page())
    _write("command_line.md", command_line_page())
    _write("messages.md", messages_page())


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


def public_names(module: Any) -> list[str]:
    """Public functions and classes that live in a module (or are re-exported by a package), in the order written."""
    listed = getattr(module, "__all__", None)
    found = []
    for name, thing in vars(module).items():
        if name.startswith("_") or not (
            inspect.isclass(thing) or inspect.isroutine(thing) or hasattr(thing, "py_func")
        ):
            continue
        home = getattr(thing, "__module__", "")
        is_own = home == module.__name__ or (listed is not None and home.startswith("arcuate.") and name in listed)
        if is_own and (listed is None or name in listed):
            found.append(name)
    return found


def _entry(module: Any, name: str) -> str:
    thing = getattr(module, name)
    kind = "autoclass" if inspect.isclass(thing) else "autofunction"
    options = "   :members:\n" if inspect.isclass(thing) else ""
    return f".. {kind}:: {module.__name__}.{name}\n{options}"


def _api_page(title: str, modules: dict[str, str]) -> str:
    import importlib

    parts = [f"# {title}\n"]
    for module_name, what in modules.items():
        module = importlib.import_module(module_name)
        entries = "\n".join(_entry(module, name) for name in public_names(module))
        opening = f".. module:: {module_name}\n\n" if what else f".. automodule:: {module_name}\n   :no-members:\n\n"
        parts.append(f"## {module_name}\n\n{what}\n\n```{{eval-rst}}\n{opening}{entries}\n```\n")
    return "\n".join(parts)


def _arrays_page() -> str:
    from arcuate import dipy as face

    entries = []
    for name in face.__all__:
        thing = getattr(face, name)
        if inspect.isclass(thing) or inspect.isroutine(thing):
            entries.append(_entry(face, name))
    return (
        "# Functions on arrays: arcuate.dipy\n\n"
        + (inspect.getdoc(face) or "").replace("``", "`")
        + "\n\n`default_sphere` and `small_sphere` are the 362 and the 181 directions of half of `repulsion724` and "
        "`symmetric362`.\n\n```{eval-rst}\n.. module:: arcuate.dipy\n\n" + "\n".join(entries) + "\n```\n"
    )


def _top_page() -> str:
    import arcuate

    rows = []
    for name in arcuate.__all__:
        thing = getattr(arcuate, name)
        if not callable(thing):
            continue
        summary = (inspect.getdoc(thing) or "").partition("\n")[0].replace("``", "`").replace("|", "\\|")
        role = "class" if inspect.isclass(thing) else "func"
        page = arcuate._HOME_OF[name]
        summary = re.sub(r":[a-z]+:`([^`]*)`", r"`\1`", summary)
        rows.append(f"| {{{role}}}`{name} <{page}.{name}>` | {summary} |")
    return (
        "# Names at the top\n\n`from arcuate import ...`\n\n| name | what it is |\n|---|---|\n" + "\n".join(rows) + "\n"
    )


def command_line_page() -> str:
    """Every command with its options, from click."""
    import click

    from arcuate.cli import app

    context = click.Context(app, info_name="arcuate")
    parts = [
        "# Command line\n\nExit status: 0 done; 2 the user's mistake, said in one line; 1 a bug of arcuate, with its "
        "traceback.\nProgress bars show on terminals only.\n\n`arcuate completion bash >> ~/.bashrc` (or zsh, fish) "
        "lets the Tab key complete commands, options and choices.\n"
    ]
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        assert command is not None
        parts += _command_parts(command, context, f"arcuate {name}", 2)
    return "\n".join(parts) + "\n"


def _command_parts(command: Any, parent: Any, name: str, level: int) -> list[str]:
    import click

    from arcuate.commands.manual import MANUAL

    context = click.Context(command, info_name=name.rpartition(" ")[2], parent=parent)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    parts = [f"{'#' * level} {name}\n\n```text\n{usage}\n```\n", _as_markdown(command.help or "")]
    rows = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and "--help" not in record[0]:
            name_of, said = record
            rows.append(f"| `{name_of}` | {_cell(said)} |".replace(name_of, name_of.replace("|", "\\|"), 1))
    if rows:
        parts.append("\n".join(["| option | |", "|---|---|", *rows]) + "\n")
    manual = MANUAL.get(name.removeprefix("arcuate "))
    if manual is not None:
        parts.append("```text\n" + "\n".join(manual.examples) + "\n```\n")
        parts += [f"*Writes*: {_cell(text)}\n" for text in manual.writes]
        parts += [f"*Cite*: {_cell(text)}\n" for text in manual.papers]
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            child = command.get_command(context, sub)
            parts += _command_parts(child, context, f"{name} {sub}", level + 1)
    return parts


def _as_markdown(text: str) -> str:
    return inspect.cleandoc(text).replace("\b\n", "").replace("*", "\\*").replace("<", "\\<") + "\n"


def _cell(text: str) -> str:
    return re.sub(r"([|<*_\[\]])", r"\\\1", " ".join(text.split()))


def read_messages() -> list[tuple[str, int, str, str]]:
    """(file, line, kind, text) of every message that the source raises or warns with; ``…`` stands for a value."""
    found = []
    for path in sorted((ROOT / "src" / "arcuate").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("InputError", "NotApplicable", "warn"):
                text = _text_of(node.args[0])
                if len(text) > 20:
                    kind = "warning" if name == "warn" else "error"
                    found.append((path.relative_to(ROOT / "src").as_posix(), node.lineno, kind, text))
    return found


def _text_of(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values)
    if isinstance(node, ast.BinOp):
        return _text_of(node.left) + _text_of(node.right)
    return "…"


def messages_page() -> str:
    """Every message, by the module that says it."""
    parts = [
        "# Every message\n\nWhat arcuate says when it stops (error) or goes on with a doubt (warning), as the source "
        "has it; … stands for what was found. Each says what was found, what was expected, and what to do.\n"
    ]
    last = ""
    for file, _, kind, text in read_messages():
        if file != last:
            parts.append(f"\n## {file.removesuffix('.py').replace('/', '.')}\n")
            last = file
        parts.append(f"- *{kind}*: {_cell(text)}")
    return "\n".join(parts) + "\n"


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


def _gallery_index(names: list[str]) -> str:
    cards = []
    for name in names:
        pictures = sorted((OUT / "gallery" / name).glob("*.png"), key=lambda p: -p.stat().st_size)
        if pictures:
            cards.append(f"[![{name}]({name}/{pictures[0].name}){{width=420px}}]({name}.md)")
    listing = "\n".join(names)
    return (
        "# Tutorials\n\nScripts that are notebooks, too, executed when these pages were made. They work on the "
        "phantom, a head whose truth is known and which needs no internet; `--data sherbrooke` and `--data stanford` "
        "take the public scans. `make tutorials` runs all of them.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{listing}\n```\n\n" + "\n\n".join(cards) + "\n"
    )


def main() -> None:
    """Write all pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gallery", choices=["full", "quick", "no"], default="full")
    given = parser.parse_args()
    write_pages()
    write_gallery(given.gallery)


if __name__ == "__main__":
    main()
