"""How each map is called and coloured, in pictures and in the viewer alike: one name per thing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from arcuate.report.subject import MapFile


@dataclass(frozen=True)
class MapStyle:
    """Name, colours and range of a map.

    Parameters
    ----------
    label : what it is, with its unit
    colormap : one that all kinds of colour vision can read, black where there is nothing
    limits : lowest and highest value shown; None for what the image holds
    factor : what the values are multiplied by to be in the unit of the label
    group : where the viewer lists it
    """

    label: str
    colormap: str = "gray"
    limits: tuple[float, float] | None = None
    factor: float = 1.0
    group: str = "Other maps"


def _diffusivity(name: str, high: float) -> MapStyle:
    return MapStyle(f"{name} (1e-3 mm²/s)", "gray", (0, high), 1e3, "Tensor")


# the limits of diffusivities are those of tissue: free water (3e-3 mm²/s) is white, and contrast within tissue is seen
STYLES = {
    ("tensor", "fa"): MapStyle("FA", limits=(0, 1), group="Tensor"),
    ("tensor", "md"): _diffusivity("MD", 1.5),
    ("tensor", "ad"): _diffusivity("AD", 2.2),
    ("tensor", "rd"): _diffusivity("RD", 1.5),
    ("tensor", "rmse"): MapStyle("Tensor residual / S0", "inferno", (0, 0.1), group="Tensor"),
    ("tensor", "outliers"): MapStyle("Volumes left out", "inferno", group="Tensor"),
    ("fwdti", "fwf"): MapStyle("Free water", "magma", (0, 1), group="Free water"),
    ("fwdti", "fa"): MapStyle("FA without free water", limits=(0, 1), group="Free water"),
    ("fwdti", "md"): replace(_diffusivity("MD without free water", 1.5), group="Free water"),
    ("fwdti", "ad"): replace(_diffusivity("AD without free water", 2.2), group="Free water"),
    ("fwdti", "rd"): replace(_diffusivity("RD without free water", 1.5), group="Free water"),
    ("noddi", "icvf"): MapStyle("NDI", "magma", (0, 1), group="NODDI"),
    ("noddi", "odi"): MapStyle("ODI", "magma", (0, 1), group="NODDI"),
    ("noddi", "isovf"): MapStyle("FWF", "magma", (0, 1), group="NODDI"),
    ("noddi", "rmse"): MapStyle("NODDI residual / S0", "inferno", (0, 0.1), group="NODDI"),
    ("noddi", "dot"): MapStyle("Dot fraction", "magma", (0, 1), group="NODDI"),
    ("noddi", "s0"): MapStyle("Fitted S0", group="NODDI"),
    ("kurtosis", "mk"): MapStyle("Mean kurtosis", limits=(0, 2), group="Kurtosis"),
    ("kurtosis", "ak"): MapStyle("Axial kurtosis", limits=(0, 2), group="Kurtosis"),
    ("kurtosis", "rk"): MapStyle("Radial kurtosis", limits=(0, 2), group="Kurtosis"),
    ("kurtosis", "kfa"): MapStyle("Kurtosis anisotropy", limits=(0, 1), group="Kurtosis"),
    ("kurtosis", "msk"): MapStyle("Kurtosis of the mean signal", limits=(0, 2), group="Kurtosis"),
    ("kurtosis", "fa"): MapStyle("FA by kurtosis", limits=(0, 1), group="Kurtosis"),
    ("kurtosis", "md"): replace(_diffusivity("MD by kurtosis", 1.5), group="Kurtosis"),
    ("kurtosis", "ad"): replace(_diffusivity("AD by kurtosis", 2.2), group="Kurtosis"),
    ("kurtosis", "rd"): replace(_diffusivity("RD by kurtosis", 1.5), group="Kurtosis"),
    ("kurtosis", "awf"): MapStyle("Axonal water fraction", "magma", (0, 1), group="Tract integrity"),
    ("kurtosis", "da"): replace(_diffusivity("Diffusivity within axons", 2.2), group="Tract integrity"),
    ("kurtosis", "dead"): replace(_diffusivity("AD outside axons", 3.0), group="Tract integrity"),
    ("kurtosis", "derd"): replace(_diffusivity("RD outside axons", 1.5), group="Tract integrity"),
    ("kurtosis", "tort"): MapStyle("Tortuosity", limits=(1, 6), group="Tract integrity"),
    ("kurtosis", "aligned"): MapStyle("Axons are aligned", limits=(0, 1), group="Tract integrity"),
}
_BY_PARAM = {
    "afd": MapStyle("Fibre density", group="Fibre orientations"),
    "peakafd": MapStyle("Density of the main fibre", group="Fibre orientations"),
    "residual": MapStyle("Residual", "inferno"),
}
TISSUE_NAMES = {"wm": "White matter", "gm": "Grey matter", "csf": "Fluid (CSF)"}
STEP_NAMES = {
    "denoise": "Denoising", "mask": "Brain mask", "dti": "Diffusion tensor", "kurtosis": "Kurtosis",
    "freewater": "Free water", "noddi": "NODDI",
    "response": "Fibre response", "fod": "Fibre orientations (FOD)", "peaks": "Peaks", "tracts": "Tracts",
    "report": "Report", "write": "Writing", "read": "Reading",
}  # fmt: skip
# drawn in their own way
NOT_PLAIN = frozenset({"evals", "evecs", "diffusivity", "kurtosis", "fod", "peaks", "direction"})


def style_of(found: MapFile) -> MapStyle:
    """Style of a map; one that nobody chose is named by its parameter and tissue."""
    key = (found.model, found.param)
    if key in STYLES:
        return STYLES[key]
    tissue = tissue_name(found.label) if found.label else ""
    if found.param == "fraction":
        return MapStyle(f"{tissue}, fraction", "gray", (0, 1), group="Tissues")
    chosen = _BY_PARAM.get(found.param)
    if chosen is not None:
        return chosen
    return MapStyle(" ".join(filter(None, (found.param.capitalize(), tissue.lower()))))


def tissue_name(label: str) -> str:
    """White matter for wm, and so on."""
    return TISSUE_NAMES.get(label, label)


def step_name(step: str) -> str:
    """A step as people call it."""
    return STEP_NAMES.get(step, step.replace("_", " ").capitalize())


def rank_of(found: MapFile) -> int:
    """Place of a map among the others; unknown ones come last, tissues in the order white, grey, fluid."""
    key = (found.model, found.param)
    if key in STYLES:
        return list(STYLES).index(key)
    if found.param == "fraction":
        tissues = list(TISSUE_NAMES)
        return 100 + (tissues.index(found.label) if found.label in tissues else len(tissues))
    return 200
