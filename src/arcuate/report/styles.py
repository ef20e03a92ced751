"""How each map is called and coloured, in pictures and in the viewer alike."""

from __future__ import annotations

from dataclasses import dataclass

from arcuate.report.subject import MapFile


@dataclass(frozen=True)
class MapStyle:
    """Name, colours and range of a map.

    Parameters
    ----------
    label : what it is, with its unit
    colormap : one that all kinds of colour vision can read
    limits : lowest and highest value shown; None for what the image holds
    factor : what the values are multiplied by to be in the unit of the label
    """

    label: str
    colormap: str = "viridis"
    limits: tuple[float, float] | None = None
    factor: float = 1.0


STYLES = {
    ("tensor", "fa"): MapStyle("FA", limits=(0, 1)),
    ("tensor", "md"): MapStyle("MD (1e-3 mm²/s)", "cividis", (0, 3), 1e3),
    ("tensor", "ad"): MapStyle("AD (1e-3 mm²/s)", "cividis", (0, 3), 1e3),
    ("tensor", "rd"): MapStyle("RD (1e-3 mm²/s)", "cividis", (0, 3), 1e3),
    ("noddi", "icvf"): MapStyle("NDI", limits=(0, 1)),
    ("noddi", "odi"): MapStyle("ODI", "magma", (0, 1)),
    ("noddi", "isovf"): MapStyle("FWF", "cividis", (0, 1)),
    ("noddi", "rmse"): MapStyle("RMSE / S0", "inferno"),
    ("noddi", "dot"): MapStyle("dot fraction", limits=(0, 1)),
    ("noddi", "s0"): MapStyle("S0", "gray"),
}
NOT_PLAIN = frozenset({"evals", "evecs", "diffusivity", "fod", "peaks", "direction"})  # drawn in their own way


def style_of(found: MapFile) -> MapStyle:
    """Style of a map; one that nobody chose is named by its parameter."""
    return STYLES.get((found.model, found.param), MapStyle(" ".join(filter(None, (found.param, found.label)))))


def rank_of(found: MapFile) -> int:
    """Place of a map among the others of its model; unknown ones come last."""
    key = (found.model, found.param)
    return list(STYLES).index(key) if key in STYLES else len(STYLES)
