"""Pages to look things up in: a page for each public name with its example, one for each command, all messages."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
SOURCE = DOCS.parent / "src" / "arcuate"

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
    "status", "patch2self", "mppca", "rician", "residual", "log_linear", "tensor", "robust_tensor", "lost_slices",
    "kurtosis", "kurtosis_measures", "tract_integrity", "mean_signal", "free_water",
    "noddi", "response", "response_ssst", "response_tournier", "response_dhollander", "csd", "multitissue",
    "peaks", "peak_rule", "mtnormalise", "combat", "region_statistics",
)  # fmt: skip
NUMERICS = ("sh", "sphere", "legendre", "linalg", "nnls", "qp")
# What the user did, and the modules whose messages then come: the first that fits.
DID = (
    ("You gave images, gradients or a table", ("io", "gradients", "dwi", "volumes", "files", "external")),
    ("You typed a command", ("commands", "cli", "errors")),
    ("You ran a whole study", (
        "study/bids_index", "study/cohort", "study/cohort_status", "study/cluster", "study/group",
        "study/phantom_dataset", "phantom")),
    ("You ran the pipeline", ("study",)),
    ("You denoised", ("denoise", "models/patch2self", "models/mppca", "models/rician", "models/residual",
                      "models/clipping", "models/second_pass")),
    ("You made a mask, or gave one", ("masks", "nets/brain", "nets/nnunet_brain")),
    ("You fitted the tensor, kurtosis or free water", (
        "dti", "kurtosis", "freewater", "models/tensor", "models/robust", "models/kurtosis", "models/free_water",
        "models/log_linear", "models/mean_signal")),
    ("You fitted NODDI", ("noddi", "models/noddi")),
    ("You estimated a response or FODs", (
        "csd/responses", "csd/fods", "models/response", "models/csd", "models/multitissue", "models/three_tissue",
        "mtnormalise", "models/mtnormalise")),
    ("You looked for peaks, fixels or tracts", (
        "csd", "models/peak", "models/fixels", "tractseg", "nets/bundle", "nets/unet", "nets/cube")),
    ("You brought images together", ("registration", "structural", "templates", "models/reorient")),
    ("You made tables, or took site effects out", (
        "regions", "harmonize", "models/region_statistics", "models/combat")),
    ("You drew pictures or made a report", ("figures", "report")),
    ("You kept results in the cache", ("cache",)),
    ("You fetched data or weights", ("fetch",)),
    ("You called functions under DIPY's names", ("dipy",)),
    ("You called the mathematics below", ("numerics", "models", "nets", "resource")),
)  # fmt: skip


def write_reference(write: Any) -> None:
    """Every page of this file, by ``write(name, text)``."""
    models = {"arcuate.phantom": "A head whose truth is known."}
    models |= {f"arcuate.models.{m}": "" for m in MODELS} | {f"arcuate.numerics.{m}": "" for m in NUMERICS}
    faces: tuple[tuple[str, str, Mapping[str, str], str], ...] = (
        ("images", "Objects on images", IMAGES, "Images in, images out. What people import from arcuate."),
        ("arrays", "Functions on arrays: arcuate.dipy", {"arcuate.dipy": ""}, _about_arrays()),
        ("models", "Models: rows in, arrays out", models, "Rows of voxels in, arrays out; no images."),
    )
    for face, title, modules, about in faces:
        write(f"api/{face}.md", _face_page(title, modules, about))
        start = read_examples(face).get("start", "")
        write(f"api/start_{face}.md", _START.format(title=title, face=face, code=start))
        for module in modules:
            for name in public_names(importlib.import_module(module)):
                write(f"api/{module}.{name}.md", _name_page(face, title, module, name))
    write("api/top.md", _top_page())
    write("command_line.md", command_line_page())
    for name, page in command_pages().items():
        write(f"commands/{name}.md", page)
    write("messages.md", messages_page())
    write("tables/papers.md", _papers_table())


_START = """---
orphan: true
---
# What the examples start from

[{title}]({face}.md)

```python
{code}
```
"""


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
    if module.__name__ == "arcuate.dipy":
        found = [
            n for n in module.__all__ if inspect.isclass(getattr(module, n)) or inspect.isroutine(getattr(module, n))
        ]
    return found


@lru_cache
def read_examples(face: str) -> dict[str, str]:
    """Code of each section of ``docs/examples/FACE.py`` by every name in its head; "start" comes first."""
    found: dict[str, str] = {}
    text = (DOCS / "examples" / f"{face}.py").read_text(encoding="utf-8")
    for part in re.split(r"^# %% ", text, flags=re.MULTILINE)[1:]:
        head, _, code = part.partition("\n")
        for name in re.split(r",\s*", head.strip()):
            found[name] = code.strip()
    return found


def _example_of(face: str, module: str, name: str) -> str:
    examples = read_examples(face)
    return examples.get(f"{module}.{name}") or examples.get(f"not run: {module}.{name}", "")


def _first_sentence(thing: Any) -> str:
    text = (inspect.getdoc(thing) or "").partition("\n\n")[0].replace("\n", " ").replace("``", "`")
    return re.sub(r":[a-z]+:`~?([^`]*)`", r"`\1`", text).replace("|", "\\|")


def _face_page(title: str, modules: Mapping[str, str], about: str) -> str:
    parts = [f"# {title}\n\n{about}\n"]
    for module_name, what in modules.items():
        module = importlib.import_module(module_name)
        rows = [
            f"| [`{n}`]({module_name}.{n}.md) | {_first_sentence(getattr(module, n))} |" for n in public_names(module)
        ]
        opening = f".. module:: {module_name}" if what or module_name == "arcuate.dipy" else (
            f".. automodule:: {module_name}\n   :no-members:"
        )  # fmt: skip
        head = f"## {module_name}\n\n{what}\n\n" if len(modules) > 1 else ""
        parts.append(
            f"{head}```{{eval-rst}}\n{opening}\n```\n\n| name | what it is |\n|---|---|\n" + "\n".join(rows) + "\n"
        )
    return "\n".join(parts)


def _name_page(face: str, title: str, module: str, name: str) -> str:
    thing = getattr(importlib.import_module(module), name)
    kind = "autoclass" if inspect.isclass(thing) else "autofunction"
    options = "   :members:\n" if inspect.isclass(thing) else ""
    parts = [
        f"---\norphan: true\n---\n# {name}\n\n[{title}]({face}.md) › `{module}`\n",
        f"```python\nfrom {module} import {name}\n```\n",
        f"```{{eval-rst}}\n.. {kind}:: {module}.{name}\n{options}```\n",
    ]
    example = _example_of(face, module, name)
    if example:
        parts.append(f"## Example\n\nIt goes on from [what the examples start from](start_{face}.md).\n")
        parts.append(f"```python\n{example}\n```\n")
    return "\n".join(parts)


def _about_arrays() -> str:
    from arcuate import dipy as face

    return (inspect.getdoc(face) or "").replace("``", "`") + (
        "\n\n`default_sphere` and `small_sphere` are the 362 and the 181 directions of half of `repulsion724` and "
        "`symmetric362`."
    )


def _top_page() -> str:
    import arcuate

    rows = []
    for name in arcuate.__all__:
        thing = getattr(arcuate, name)
        if callable(thing):
            role = "class" if inspect.isclass(thing) else "func"
            rows.append(f"| {{{role}}}`{name} <{arcuate._HOME_OF[name]}.{name}>` | {_first_sentence(thing)} |")
    return (
        "# Names at the top\n\n`from arcuate import ...`\n\n| name | what it is |\n|---|---|\n" + "\n".join(rows) + "\n"
    )


def command_line_page() -> str:
    """The list of commands by stage, each with a page of its own."""
    from arcuate.cli import COMMANDS, ELSEWHERE

    parts = [
        "# Command line\n\nExit status: 0 done; 2 the user's mistake, said in one line; 1 a bug of arcuate, with its "
        "traceback.\nProgress bars show on terminals only.\n\n`arcuate completion bash >> ~/.bashrc` (or zsh, fish) "
        "lets the Tab key complete commands, options and choices.\n"
    ]
    names = list(command_pages())
    for stage in dict.fromkeys(listed.stage for listed in COMMANDS.values()):
        rows = [
            f"| [`arcuate {name}`](commands/{name}.md) | {COMMANDS[name].summary} |"
            for name in names if COMMANDS[name].stage == stage
        ]  # fmt: skip
        parts.append(f"## {stage}\n\n| command | what comes of it |\n|---|---|\n" + "\n".join(rows) + "\n")
    rows = [f"| `{'`, `'.join(words.split())}` | `{here}` |" for words, here in ELSEWHERE.items()]
    parts.append("## Names from elsewhere\n\n| you typed | here |\n|---|---|\n" + "\n".join(rows) + "\n")
    listing = "\n".join(f"commands/{name}" for name in names)
    return "\n".join(parts) + f"\n```{{toctree}}\n:hidden:\n\n{listing}\n```\n"


def command_pages() -> dict[str, str]:
    """A page for each command with its options, examples, files and papers, from click."""
    import click

    from arcuate.cli import ELSEWHERE, app

    context = click.Context(app, info_name="arcuate")
    pages = {}
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        assert command is not None
        words = [
            word for words, here in ELSEWHERE.items() if here.startswith(f"arcuate {name}") for word in words.split()
        ]
        head = f"---\nmyst:\n  html_meta:\n    keywords: {', '.join([name, *words])}\n---\n"
        also = f"In other packages: `{'`, `'.join(words)}`.\n" if words else ""
        first, *rest = _command_parts(command, context, f"arcuate {name}", 1)
        pages[name] = head + "\n".join([first, also, *rest]) + "\n"
    return pages


def _command_parts(command: Any, parent: Any, name: str, level: int) -> list[str]:
    import click

    from arcuate.commands.manual import MANUAL

    context = click.Context(command, info_name=name.rpartition(" ")[2], parent=parent)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    parts = [f"{'#' * level} {name}\n", _as_markdown(command.help or ""), f"```text\n{usage}\n```\n"]
    manual = MANUAL.get(name.removeprefix("arcuate "))
    if manual is not None:
        parts.append("```text\n" + "\n".join(manual.examples) + "\n```\n")
    rows = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and "--help" not in record[0]:
            name_of, said = record
            rows.append(f"| `{name_of}` | {_cell(said)} |".replace(name_of, name_of.replace("|", "\\|"), 1))
    if rows:
        parts.append("\n".join(["| option | |", "|---|---|", *rows]) + "\n")
    if manual is not None:
        parts += [f"*Writes*: {_cell(text)}\n" for text in manual.writes]
        parts += [f"*Cite*: {_cell(text)}\n" for text in manual.papers]
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            child = command.get_command(context, sub)
            parts += _command_parts(child, context, f"{name} {sub}", level + 1)
    return parts


def _papers_table() -> str:
    """Papers by command, for the page on citing."""
    from arcuate.commands.manual import MANUAL

    told: dict[str, list[str]] = {}
    for name, manual in MANUAL.items():
        for paper in manual.papers:
            told.setdefault(paper, []).append(f"`{name}`")
    rows = [f"| {', '.join(names)} | {_cell(paper)} |" for paper, names in told.items()]
    return "| command | papers |\n|---|---|\n" + "\n".join(rows) + "\n"


def _as_markdown(text: str) -> str:
    return inspect.cleandoc(text).replace("\b\n", "").replace("*", "\\*").replace("<", "\\<") + "\n"


def _cell(text: str) -> str:
    """Words for a table or a list; options stay as they are typed."""
    plain = re.sub(r"([|<*_\[\]])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<![\w`-])(--[a-z0-9-]+)(?![`\w-])", r"`\1`", plain)


def read_messages() -> list[tuple[str, int, str, str]]:
    """(file, line, kind, text) of every message that the source raises or warns with; ``…`` stands for a value."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("InputError", "NotApplicable", "warn"):
                text = _text_of(node.args[0])
                if len(text) > 20:
                    kind = "warning" if name == "warn" else "error"
                    found.append((path.relative_to(SOURCE.parent).as_posix(), node.lineno, kind, text))
    return found


def _text_of(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values)
    if isinstance(node, ast.BinOp):
        return _text_of(node.left) + _text_of(node.right)
    return "…"


def what_was_done(file: str) -> str:
    """What the user did when a message of this file of the source comes."""
    inside = file.removeprefix("arcuate/").removesuffix(".py")
    for title, homes in DID:
        if any(
            inside == home or inside.startswith((f"{home}/", home if "/" in home else f"{home}/")) for home in homes
        ):
            return title
    raise LookupError(f"no heading of the page of messages holds {file}; add it to DID")


def messages_page() -> str:
    """Every message, by what the user did."""
    parts = [
        "# Every message\n\nWhat arcuate says when it stops (error) or goes on with a doubt (warning), as the source "
        "has it; … stands for what was found. Each says what was found, what was expected, and what to do.\n"
    ]
    told: dict[str, list[str]] = {title: [] for title, _ in DID}
    for file, _, kind, text in read_messages():
        told[what_was_done(file)].append(f"- *{kind}*: {_cell(text)}")
    for title, lines in told.items():
        if lines:
            parts.append(f"\n## {title}\n")
            parts += sorted(set(lines), key=lambda line: (line.startswith("- *warning*"), line))
    return "\n".join(parts) + "\n"
