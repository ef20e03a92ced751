"""How objects of the lower floors are drawn: by the figures, which lie above them and are looked up by name."""

from __future__ import annotations

import importlib
from typing import Any


def figures() -> Any:
    """The module that draws maps, loaded when a picture is asked for: the one arrow that points up."""
    return importlib.import_module("arcuate.figures.plotting")
