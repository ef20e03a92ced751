"""The interactive viewer of a page: its script as it was built, and the images that it shows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from arcuate.figures.views import PLANES
from arcuate.report.arrays import Arrays
from arcuate.report.glyph_slices import viewer_glyphs
from arcuate.report.layers import viewer_maps
from arcuate.report.subject import SubjectFiles
from arcuate.report.template import digest_of
from arcuate.report.viewer_grid import ViewerGrid

NOT_BUILT = (
    "The interactive viewer is not part of this installation: it is built from npm when arcuate is installed, and npm "
    "was not there or failed. Install Node.js with npm, then arcuate again. Until then the pictures below are still "
    "ones; any viewer shows the maps (NIfTI, scanner frame), and mrview shows the FODs."
)
NO_MAPS = "There is nothing to turn or to leaf through: this run left no maps."
_ENDS = ("</script", "<!--", "\r")  # in a script they would end it, hide what follows, or change its digest


@dataclass(frozen=True)
class Viewer:
    """What the page's template needs; ``missing`` says why there is no viewer."""

    script: str = ""
    maps: dict[str, Any] | None = None
    glyphs: dict[str, Any] | None = None
    missing: str = ""

    @property
    def digest(self) -> str:
        """Of the script, as a content security policy names it."""
        return digest_of(self.script)

    @property
    def groups(self) -> dict[str, list[tuple[int, str]]]:
        """Number and name of each map by its group."""
        found: dict[str, list[tuple[int, str]]] = {}
        for number, layer in enumerate((self.maps or {}).get("layers", [])):
            found.setdefault(layer["group"], []).append((number, layer["name"]))
        return found

    @property
    def maps_json(self) -> str:
        return _embedded(self.maps)

    @property
    def glyphs_json(self) -> str:
        return _embedded(self.glyphs)


def viewer_of(
    subject: SubjectFiles, inside: np.ndarray | None, planes: list[str], arrays: Arrays | None = None
) -> Viewer:
    """The viewer of a run.

    Parameters
    ----------
    inside : (x, y, z) bool, the brain, as the images are stored
    planes : those in which the image is more than a stripe
    arrays : where the maps were read already
    """
    script = viewer_script()
    if script is None:
        return Viewer(missing=NOT_BUILT + why_not_built())
    affine = subject.affine
    if inside is None or affine is None or not planes or not np.any(inside):
        return Viewer(missing=NO_MAPS)
    grid, arrays = ViewerGrid(affine, inside), arrays or Arrays(subject)
    maps = viewer_maps(subject, grid, arrays)
    maps["planes"] = planes
    glyphs = viewer_glyphs(subject, grid, planes, arrays)
    if glyphs is not None:
        for part in glyphs["slices"]:
            part["label"] = f"{part['plane']} {part['index'] + grid.start[PLANES[part['plane']]]}"
    return Viewer(script, maps, glyphs)


@lru_cache(maxsize=1)
def viewer_script() -> str | None:
    """The script as the installation built it; None where it did not.

    Raises
    ------
    ValueError
        It holds something that would end the script element around it.
    """
    path = resources.files("arcuate.report") / "static" / "viewer.js"
    if not path.is_file():
        return None
    script = path.read_bytes().decode("utf-8")  # line ends as they are: the digest is of them
    for end in _ENDS:
        if end in script.lower():
            raise ValueError(f"found {end!r} in {path}: it cannot be put into a page. Install arcuate again.")
    return script


def why_not_built() -> str:
    """What stood in the way of the viewer when arcuate was installed, as the build noted it; else nothing."""
    path = resources.files("arcuate.report") / "static" / "MISSING"
    return f" The build said: {path.read_text(encoding='utf-8')}" if path.is_file() else ""


def _embedded(content: Any) -> str:
    """JSON that can stand in a script element."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
