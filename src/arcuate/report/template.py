"""Pages from templates: whatever a file or a name holds is escaped, and a fact that is missing is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def render(template: str, facts: Mapping[str, Any]) -> str:
    """The page that a template of this package makes of facts."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("arcuate.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(facts)
