"""The documentation: it builds without a warning, quotes messages that exist, and describes every public name."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

import arcuate
from arcuate import dipy as face
from arcuate.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SHAPE = re.compile(r"\((\.\.\.|[a-zA-Z_]+|\d)(, ?[^()]*)+\)|\(\.\.\.\)")  # (n_vox, 3), (..., 6), (4, 4), (n,)
FACE_A = {  # DESIGN, section 1
    "arcuate.io": ("NiftiVolumeResource", "FslBvalResource", "FslBvecResource"),
    "arcuate.dwi": ("Dwi", "subsample_dwi"),
    "arcuate.dti": ("Dti",),
    "arcuate.kurtosis": ("Dki", "estimate_dki"),
    "arcuate.freewater": ("FreeWater", "estimate_free_water"),
    "arcuate.noddi": ("Noddi",),
    "arcuate.regions": ("region_table",),
    "arcuate.harmonize": ("harmonize_volumes", "CombatEstimates"),
    "arcuate.csd": (
        "estimate_response_function", "compute_csd_peaks", "compute_csd_fods", "combine_csd_peaks_to_vector_volume",
    ),
    "arcuate.tractseg": ("extract_tractseg", "get_bundle_names"),
    "arcuate.cache": ("Cache", "cacheable"),
}  # fmt: skip


def _load(name: str) -> ModuleType:
    """A module of the docs folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = _load("reference")


def _public() -> list[tuple[str, Any]]:
    """Every public function and class of both faces, the models and the top, by its full name."""
    found: dict[str, Any] = {}
    modules = [*reference.IMAGES, *(f"arcuate.models.{m}" for m in reference.MODELS)]
    for name in modules:
        module = importlib.import_module(name)
        found |= {f"{name}.{n}": getattr(module, n) for n in reference.public_names(module)}
    found |= {f"arcuate.dipy.{n}": getattr(face, n) for n in face.__all__ if callable(getattr(face, n))}
    found |= {f"arcuate.{n}": getattr(arcuate, n) for n in arcuate.__all__ if callable(getattr(arcuate, n))}
    return sorted(found.items())


PUBLIC = _public()


def _methods(thing: Any) -> list[tuple[str, Any]]:
    if not inspect.isclass(thing):
        return []
    return [(n, m) for n, m in vars(thing).items() if not n.startswith("_") and callable(getattr(m, "__func__", m))]


def _arguments(thing: Any) -> list[str]:
    try:
        parameters = inspect.signature(inspect.unwrap(getattr(thing, "py_func", thing))).parameters.values()
    except ValueError:
        return []
    return [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name != "self"]


def test_the_names_of_the_design_are_documented() -> None:
    documented = {name for name, _ in PUBLIC}
    for module, names in FACE_A.items():
        assert documented >= {f"{module}.{name}" for name in names}


@pytest.mark.parametrize(("name", "thing"), PUBLIC, ids=[name for name, _ in PUBLIC])
def test_every_public_name_says_what_it_is(name: str, thing: Any) -> None:
    own = thing.__dict__.get("__doc__") if inspect.isclass(thing) else thing.__doc__
    text = inspect.cleandoc(own or "")
    first = text.partition("\n\n")[0]
    assert len(first) > 15, f"{name} has no docstring"
    assert not text.startswith(f"{thing.__name__}("), f"{name} has the docstring that dataclasses make"
    for method, function in _methods(thing):
        if not isinstance(function, property):
            assert len(inspect.getdoc(getattr(thing, method)) or "") > 10, f"{name}.{method} has no docstring"


ARRAYS = ("array", "np.ndarray", "VolumeResource", "ndarray")


@pytest.mark.parametrize(("name", "thing"), PUBLIC, ids=[name for name, _ in PUBLIC])
def test_arrays_have_a_shape(name: str, thing: Any) -> None:
    """Whoever takes or gives an array says its shape, in the docstring or (dataclasses) beside the field."""
    if inspect.isclass(thing):
        annotations = inspect.get_annotations(thing)
        holds = any(any(word in str(kind) for word in ARRAYS) for kind in annotations.values())
        text = (inspect.getdoc(thing) or "") + inspect.getsource(thing)
    else:
        function = inspect.unwrap(getattr(thing, "py_func", thing))
        kinds = inspect.get_annotations(function)
        holds = any("ndarray" in str(kind) or "VolumeResource" in str(kind) for kind in kinds.values())
        text = inspect.getdoc(thing) or ""
    if not holds or "see :" in text.lower():
        return
    assert SHAPE.search(text), f"{name} names no shape:\n{text[:400]}"


STEPS = (
    "arcuate.csd.compute_csd_fods", "arcuate.csd.compute_csd_peaks", "arcuate.csd.estimate_fods",
    "arcuate.csd.combine_csd_peaks_to_vector_volume", "arcuate.csd.estimate_response_function",
    "arcuate.csd.find_fod_peaks", "arcuate.denoise.run_denoising", "arcuate.masks.extract_brain",
    "arcuate.masks.otsu_mask", "arcuate.mtnormalise.mtnormalise", "arcuate.tractseg.extract_tractseg",
    "arcuate.tractseg.find_tracts", "arcuate.dti.Dti.estimate_dti", "arcuate.kurtosis.Dki.estimate_dki",
    "arcuate.noddi.Noddi.estimate_noddi", "arcuate.regions.region_table", "arcuate.harmonize.harmonize_volumes",
    "arcuate.harmonize.harmonize_table", "arcuate.harmonize.harmonize_values", "arcuate.models.combat.fit_combat",
    "arcuate.dwi.subsample_dwi", "arcuate.models.tensor.fit_tensor", "arcuate.models.kurtosis.fit_kurtosis",
    "arcuate.models.noddi.fit_noddi",
    "arcuate.models.csd.make_csd_system", "arcuate.models.peaks.find_peaks", "arcuate.phantom.make_phantom",
    "arcuate.models.patch2self.fit_patch2self", "arcuate.models.mppca.fit_mppca",
    "arcuate.models.mtnormalise.normalise_tissues", "arcuate.dipy.ConstrainedSphericalDeconvModel",
    "arcuate.dipy.peaks_from_model", "arcuate.dipy.recursive_response", "arcuate.dipy.patch2self",
)  # fmt: skip
OBVIOUS = {"dwi", "gtab", "gradients", "lmax", "mask"}


@pytest.mark.parametrize("name", STEPS)
def test_steps_describe_every_argument(name: str) -> None:
    home, _, last = name.rpartition(".")
    owner: Any = importlib.import_module(home) if home.islower() else dict(PUBLIC)[home]
    thing = getattr(owner, last)
    text = inspect.getdoc(thing) or ""
    missing = [a for a in _arguments(thing) if a not in OBVIOUS and not re.search(rf"\b{a}(?!\w)", text)]
    assert not missing, f"{name} does not describe {missing}"


def _sections(text: str) -> dict[str, list[str]]:
    """Lines of each section of a numpydoc docstring."""
    parts = re.split(r"^(\w+)\n-{3,}\n", text, flags=re.MULTILINE)
    return {name: body.rstrip().splitlines() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.mark.parametrize(("name", "thing"), PUBLIC, ids=[name for name, _ in PUBLIC])
def test_a_section_of_parameters_holds_nothing_else(name: str, thing: Any) -> None:
    """A sentence after the last parameter would be shown as a parameter."""
    functions = [thing, *(getattr(thing, n) for n, _ in _methods(thing))] if inspect.isclass(thing) else [thing]
    for function in functions:
        for line in _sections(inspect.getdoc(function) or "").get("Parameters", []):
            names = line.partition(" : ")[0]
            if line and not line.startswith(" "):
                assert re.fullmatch(r"\*{0,2}\w+(, \*{0,2}\w+)*", names), f"{name}: {line!r} is no parameter"


@pytest.mark.parametrize("unit", ["s/mm²", "mm²/s", "mm", "degrees"])
def test_units_are_said(unit: str) -> None:
    assert sum(unit in (inspect.getdoc(thing) or "") for _, thing in PUBLIC) >= 3


def _commands() -> list[tuple[str, click.Command]]:
    context = click.Context(app)
    found = [(name, app.get_command(context, name)) for name in app.list_commands(context)]
    for name, command in list(found):
        if isinstance(command, click.Group):
            found += [(f"{name} {sub}", command.get_command(context, sub)) for sub in command.list_commands(context)]
    return [(name, command) for name, command in found if command is not None]


@pytest.mark.parametrize(("name", "command"), _commands(), ids=[name for name, _ in _commands()])
def test_every_command_and_option_has_a_help_text(name: str, command: click.Command) -> None:
    assert len(command.help or "") > 15
    for option in command.params:
        if isinstance(option, click.Option):
            says_itself = isinstance(option.type, click.Choice) or option.name in ("size",)
            assert option.help or says_itself, f"arcuate {name}: {option.opts} has no help"
    page = reference.command_pages()[name.split()[0]]
    assert f"# arcuate {name}\n" in page
    assert f"(commands/{name.split()[0]}.md)" in reference.command_line_page()


def test_messages_on_the_failure_page_are_those_of_the_source() -> None:
    said = "\n".join(text for _, _, _, text in reference.read_messages())
    said += (ROOT / "src" / "arcuate" / "errors.py").read_text(encoding="utf-8")
    rows = re.findall(r'^\| "([^"]+)" \|', (DOCS / "failures.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(rows) > 20
    for row in rows:
        for part in row.split("…"):
            assert part.strip() in said, f"no message of arcuate says {part.strip()!r}"


def test_every_message_ends_with_what_to_do() -> None:
    """Errors of the user have a found, an expected or a remedy, never a word alone."""
    short = [text for _, _, kind, text in reference.read_messages() if kind == "error" and len(text.split()) < 5]
    assert not short


def test_commands_in_the_pages_exist() -> None:
    names = {name.split()[0] for name, _ in _commands()}
    pages = [ROOT / "README.md", *DOCS.glob("*.md"), *(DOCS / "methods").glob("*.md")]
    for page in pages:
        for found in re.findall(
            r"^ *arcuate ([a-z]+) [A-Z-]|`arcuate ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE
        ):
            word = found[0] or found[1]
            assert word in names, f"{page.name}: arcuate {word} is no command"


def test_options_in_the_pages_are_those_of_their_command() -> None:
    options = {name: {opt for p in c.params for opt in (*p.opts, *p.secondary_opts)} for name, c in _commands()}
    n_checked = 0
    for page in [ROOT / "README.md", *DOCS.glob("*.md"), *(DOCS / "methods").glob("*.md")]:
        for line in re.findall(r"(?:^|`) *arcuate ([^`\n]+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            words = line.split()
            name = " ".join(words[:2]) if " ".join(words[:2]) in options else words[0]
            for option in re.findall(r"(?<!\S)--[a-z0-9-]+", line.partition("#")[0]):
                assert option in options.get(name, set()) | {"--help"}, f"{page.name}: arcuate {line}"
                n_checked += 1
    assert n_checked > 20


def test_imports_in_the_pages_work() -> None:
    for page in [ROOT / "README.md", *DOCS.glob("*.md"), *(DOCS / "methods").glob("*.md")]:
        text = page.read_text(encoding="utf-8")
        for module, names in re.findall(r"from (arcuate[a-z._]*) import ([A-Za-z0-9_, ]+)", text):
            imported = importlib.import_module(module)
            for name in re.split(r", *", names.strip(", ")):
                assert name in ("", "the same") or hasattr(imported, name.strip()), f"{page.name}: {module}.{name}"


@pytest.mark.parametrize("theme", ["basic", pytest.param("furo", marks=pytest.mark.long)])
def test_the_site_builds_without_a_warning_and_its_links_lead_somewhere(tmp_path: Path, theme: str) -> None:
    for package in ("sphinx", "myst_parser", "furo", "jupytext"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed (extra docs)")
    site = tmp_path / "html"
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-E", "-q", "-b", "html", str(DOCS), str(site)],
        capture_output=True, text=True, env=os.environ | {"ARCUATE_GALLERY": "kept", "ARCUATE_THEME": theme},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    broken = []
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r'(?:href|src)="([^"#]+)(?:#[^"]*)?"', text):
            if re.match(r"[a-z]+:|//", link):
                continue
            if not (page.parent / link.partition("?")[0]).exists():
                broken.append(f"{page.name}: {link}")
    assert not broken


def test_the_search_finds_a_command_by_its_name_here_and_elsewhere(tmp_path: Path) -> None:
    """The index that the pages search in: titles and keywords of the pages of commands."""
    pages = reference.command_pages()
    for word, command in (("dti", "dti"), ("dtifit", "dti"), ("dwi2fod", "fod"), ("bet", "mask"), ("amico", "noddi")):
        head = pages[command].split("---")[1]
        assert re.search(rf"keywords:.*\b{word}\b", head), (word, command)
    assert all(page.count("\n# arcuate ") == 1 for page in pages.values())


def test_the_pages_that_a_newcomer_looks_for_are_there() -> None:
    listed = (DOCS / "index.md").read_text(encoding="utf-8")
    for name in ("walkthrough", "report", "faq", "citing", "glossary", "platforms", "contributing", "changelog"):
        assert (DOCS / f"{name}.md").is_file()
        assert re.search(rf"^{name}$", listed, re.MULTILINE), f"{name} is in no table of contents"
    for picture in re.findall(r"!\[[^]]+\]\(([^)]+)\)", listed + (DOCS / "walkthrough.md").read_text(encoding="utf-8")):
        assert (DOCS / picture).is_file()


def test_formulas_are_written_as_the_converter_reads_them() -> None:
    r"""It reads \frac{1}{2}, and not \frac12; what it does not know at all stops the build."""
    for page in [*DOCS.glob("*.md"), *(DOCS / "methods").glob("*.md")]:
        assert not re.search(r"\\[td]?frac[^{]", page.read_text(encoding="utf-8")), page.name
