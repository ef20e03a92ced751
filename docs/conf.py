"""Sphinx configuration: Markdown pages, the API from docstrings, pages that generate.py makes."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

sys.path.insert(0, str(Path(__file__).parent))
import generate

import arcuate

project = "arcuate"
author = "the arcuate developers"
copyright = "the arcuate developers, BSD-3-Clause"  # noqa: A001 (Sphinx's name)
version = release = arcuate.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_math_renderer = "mathml"  # in the page itself: nothing is fetched to show it
myst_enable_extensions = ["dollarmath", "attrs_inline", "colon_fence"]
myst_heading_anchors = 3
suppress_warnings = [
    "myst.header",  # benchmark tables bring headings of their own
    "ref.python",  # GradientTable is a class here and in the face with DIPY's names
]
exclude_patterns = ["_build", "generated/tables", "examples"]
html_theme = os.environ.get("ARCUATE_THEME", "furo")  # a test takes a plain one: a tree of all pages in each takes long
html_title = f"arcuate {version}"
html_static_path = ["_static"]
html_css_files = ["arcuate.css"]
if html_theme == "furo":
    html_theme_options = {
        "light_css_variables": {"color-brand-primary": "#0072B2", "color-brand-content": "#0072B2"},
        "dark_css_variables": {"color-brand-primary": "#56B4E9", "color-brand-content": "#56B4E9"},
    }
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
napoleon_google_docstring = False
napoleon_use_rtype = False
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*"), ("py:obj", ".*")]  # types are words here: shapes and units
linkcheck_ignore = [r"https?://.*"]  # links inside the pages are checked by the build, others are not fetched


def escape_symbols(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings write |x|², a * b and c_ as mathematics: no markup of reStructuredText is meant."""
    for i, line in enumerate(lines):
        pieces = re.split(r"(``[^`]*``|:[a-z:]+:`[^`]*`|`[^`]*`_*)", line)
        for k in range(0, len(pieces), 2):
            pieces[k] = re.sub(r"([|*])", r"\\\1", pieces[k])
            pieces[k] = re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", pieces[k])
        lines[i] = "".join(pieces)


def inline_math(writer: Any, node: Any) -> None:
    """Mathematics as MathML, which browsers show by themselves."""
    writer.body.append(tex2mathml(node.astext()))
    raise SkipNode


def block_math(writer: Any, node: Any) -> None:
    """Mathematics on lines of its own."""
    writer.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise SkipNode


def make_pages(app: Any) -> None:
    """Everything that is made; the gallery as ARCUATE_GALLERY says: full, quick, no, or kept (what is there)."""
    generate.write_pages()
    how = os.environ.get("ARCUATE_GALLERY", "kept")
    has_gallery = (generate.OUT / "gallery" / "index.md").is_file()
    if how != "kept" or not has_gallery:
        generate.write_gallery("no" if how == "kept" else how)


def setup(app: Any) -> None:
    """Connect the functions above."""
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
    app.connect("builder-inited", make_pages)
    app.connect("autodoc-process-docstring", escape_symbols, priority=400)
