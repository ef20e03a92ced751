"""Pages from templates: whatever a file or a name holds is escaped, and a fact that is missing is an error."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from arcuate._version import __version__

if TYPE_CHECKING:
    from jinja2 import Template


def render(template: str, facts: Mapping[str, Any]) -> str:
    """The page that a template of this package makes of facts."""
    return load_template(template).render(facts)


@cache
def load_template(name: str) -> Template:
    """A template of this package, compiled."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("arcuate.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def shared_facts(script: str) -> dict[str, str]:
    """What every page takes: the version, the style sheet, and the script of that name with its digest."""
    folder = resources.files("arcuate.report")
    text = (folder / script).read_text(encoding="utf-8")
    css = (folder / "page.css").read_text(encoding="utf-8")
    return {"version": __version__, "css": css, "script": text, "script_digest": digest_of(text)}


def digest_of(script: str) -> str:
    """Of a script, as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
