"""The pictures of a report, each with the text that stands for it where it cannot be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from arcuate.errors import MissingExtraError
from arcuate.figures.charts import (
    Axes,
    Line,
    carpet,
    directions_chart,
    histogram,
    line_chart,
    response_charts,
    response_curves,
)
from arcuate.figures.mosaic import Layout, draw_mosaic
from arcuate.figures.panels import Panel, robust_limits
from arcuate.numerics.threads import n_threads
from arcuate.report.arrays import Arrays
from arcuate.report.glyph_pictures import begin_fod_pictures
from arcuate.report.layers import color_fa
from arcuate.report.regions import draw_regions
from arcuate.report.section import Picture, Section, Table, png_bytes
from arcuate.report.styles import NOT_PLAIN, rank_of, style_of, tissue_name
from arcuate.report.subject import MapFile, SubjectFiles

if TYPE_CHECKING:
    from arcuate.report.early import EarlySections

NDI_BLANK = 0.9  # free water fraction from which the density of neurites is not told by the signal
NDI_BOUND = 0.985  # at and above it NDI lies at the upper bound of the fit
_ROUNDING = 1e-9  # of S0; a smaller residual is that of floating-point numbers
_TRACT_COLORS = np.array(  # Okabe and Ito's
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)]
)


def sections_of(
    subject: SubjectFiles, arrays: Arrays | None = None, early: EarlySections | None = None
) -> list[Section]:
    """Every section for which the run left something; those that were drawn early are taken as they are."""
    arrays = arrays or Arrays(subject)

    def make(anchor: str) -> Section:
        drawn = early.of(anchor, subject) if early is not None else None
        return draw_section(anchor, arrays) if drawn is None else drawn

    with ThreadPoolExecutor(n_threads(), thread_name_prefix="arcuate-report") as pool:
        glyphs = begin_fod_pictures(arrays, pool)  # first what takes longest
        made = dict(zip(_MAKERS, pool.map(make, _MAKERS), strict=True))
    made["fods"].pictures[:0] = [picture.result() for picture in glyphs]
    return [section for section in made.values() if not section.is_empty]


def draw_section(anchor: str, arrays: Arrays) -> Section:
    """One section; empty where the run left nothing for it."""
    title, make = _MAKERS[anchor]
    section = Section(anchor, title)
    try:
        make(arrays, section)
    except MissingExtraError as error:
        section.missing.append(str(error))
    return section


def _mosaic(arrays: Arrays, panel: Panel, layout: Layout | None = None) -> bytes:
    assert arrays.affine is not None
    return draw_mosaic(panel, arrays.affine, layout, inside=arrays.inside, box=arrays.box).png()


def _directions(arrays: Arrays, section: Section) -> None:
    shells = {float(b): np.array(d) for b, d in arrays.subject.scan_facts.get("directions", {}).items() if len(d)}
    if shells:
        named = ", ".join(f"{len(d)} at b = {b:.0f}" for b, d in shells.items())
        caption = (
            "The upper half of the sphere from above, scanner frame, equal areas. A volume's direction is filled where "
            "it points up, hollow where it points down: a good set is even, whatever the ends."
        )
        alt = f"Gradient directions on the sphere: {named}."
        section.charts.append(Picture(alt, caption, "directions", svg=directions_chart(shells), is_wide=True))


def _denoising(arrays: Arrays, section: Section) -> None:
    kept = {file.label: arrays.subject.path_of(file) for file in arrays.subject.files("residuals")}
    if {"before", "after", "residuals"} <= set(kept):
        before, after, residual = (kept[which].read_bytes() for which in ("before", "after", "residuals"))
        section.pictures.append(
            Picture(
                "One volume of each shell before and after denoising, on top of each other.",
                "A volume of each shell: move the slider from before to after.",
                "denoising", before, after,
            )
        )  # fmt: skip
        section.pictures.append(
            Picture("What denoising took away from the same volumes.",
                    "What was taken away (blue below 0, orange above): it should look like noise, without anatomy.",
                    "denoising_residual", residual)
        )  # fmt: skip
    facts = arrays.subject.steps.get("denoise", {}).get("Residual") or []
    if facts:
        section.tables.append(_residual_table(facts))
    if arrays.subject.noise is not None and arrays.affine is not None:
        noise = np.asarray(arrays.subject.noise.get_array(), dtype=np.float32)
        panel = Panel(noise if noise.ndim == 3 else noise[..., 0], "Noise σ", "inferno")
        section.pictures.append(
            Picture("Axial slices of the estimated noise level.", "Noise level, in units of the signal.", "noise",
                    _mosaic(arrays, panel))
        )  # fmt: skip


def _residual_table(facts: list[dict[str, Any]]) -> Table:
    rows = [
        (f"{f['B']:.0f}", f"{f['rms']:.3g}", *(f"{f[key]:.2f}" for key in ("anatomy", "neighbours", "magnitude")))
        for f in facts
    ]
    head = ("b (s/mm²)", "rms", "with anatomy", "between neighbours", "its size with the signal")
    return Table("What denoising took away, by shell: size and correlations (near 0: it was noise)", head, rows)


def _signal(arrays: Arrays, section: Section) -> None:
    facts = arrays.subject.scan_facts.get("carpet")
    if not facts:
        return
    matrix = np.array(facts["change"], dtype=np.float64)  # (slices, volumes)
    groups = [(f"b = {b:.0f}", int(n)) for b, n in facts["groups"]]
    axes = Axes(
        "volumes, by shell", "slice, from the bottom", width=1100, height=min(170 + 5 * len(matrix), 420), is_whole=True
    )
    caption = (
        "Mean signal of each slice of each volume against the median of its shell, from 25 % below (blue) to 25 % "
        "above (red). Dropped slices are blue cells, volumes that moved or drifted are columns, smooth patterns come "
        "from the directions of the gradients."
    )
    section.charts.append(
        Picture("Signal of every slice and volume relative to its shell.", caption, "carpet",
                svg=carpet(matrix, axes, limit=0.25, groups=groups), is_wide=True)
    )  # fmt: skip


def _mask(arrays: Arrays, section: Section) -> None:
    inside, below = arrays.inside, arrays.anatomy
    if inside is None or below is None or arrays.affine is None:
        return
    note = "" if arrays.subject.mask is not None else " (given to the run: where the tensor was fitted)"
    wide = tuple(slice(max(p.start - 6, 0), p.stop + 6) for p in arrays.box or ())
    for plane in arrays.planes:
        pair = []
        for contour in (None, inside):
            panel = Panel(below, arrays.anatomy_name, "gray", (0.0, robust_limits(below)[1]), contour)
            shown = draw_mosaic(panel, arrays.affine, Layout(plane, slices=_slices_of(arrays, plane)), box=_box(wide))
            pair.append(shown.png())
        alt = f"{plane.capitalize()} slices with the outline of the brain mask."
        caption = f"Outline of the mask{note}, {plane}: the slider takes it away."
        section.pictures.append(
            Picture(alt, caption, f"mask_{plane}", png=pair[0], after=pair[1], sides=("without", "with the mask"))
        )


def _box(parts: tuple[slice, ...]) -> tuple[slice, slice, slice] | None:
    return (parts[0], parts[1], parts[2]) if parts else None


def _slices_of(arrays: Arrays, plane: str) -> list[int]:
    """Slices spread over the brain, counted as the patient lies."""
    from arcuate.figures.panels import choose_slices
    from arcuate.figures.views import Canonical, View

    assert arrays.inside is not None
    return choose_slices(Canonical(arrays.affine).reorder(arrays.inside), View(plane), 6)


def _tensor(arrays: Arrays, section: Section) -> None:
    fa, evecs = arrays.subject.get_map("tensor", "fa"), arrays.subject.get_map("tensor", "evecs")
    if fa is not None and evecs is not None:
        color = color_fa(arrays.of(fa), arrays.of(evecs)) ** 0.8
        for plane in arrays.planes:
            alt = f"{plane.capitalize()} slices of FA, red left-right, green front-back, blue up-down."
            caption = f"Colour FA, {plane}: red left-right, green front-back, blue up-down."
            png = _mosaic(arrays, Panel(color, "Colour FA"), Layout(plane))
            section.pictures.append(Picture(alt, caption, f"colour_fa_{plane}", png))
    _draw_maps(arrays, section, _maps(arrays, "tensor"))


def _maps(arrays: Arrays, model: str | None = None) -> list[MapFile]:
    found = [m for m in arrays.subject.maps if m.param not in NOT_PLAIN and (model is None or m.model == model)]
    return sorted(found, key=rank_of)


def _others(arrays: Arrays, section: Section) -> None:
    known = {"tensor", "kurtosis", "fwdti", "noddi"}
    _draw_maps(
        arrays,
        section,
        [m for m in _maps(arrays) if m.model not in known and m.param not in {"fraction", "afd", "peakafd"}],
    )


def _draw_maps(arrays: Arrays, section: Section, maps: list[MapFile]) -> None:
    """A mosaic and a histogram of each map."""
    for found in maps:
        style, array = style_of(found), arrays.plain(found)
        if arrays.inside is None or array.shape != arrays.inside.shape or _is_rounding(found, array, arrays.inside):
            continue
        _draw_map(arrays, section, Panel(style.factor * array, style.label, style.colormap, style.limits))


def _is_rounding(found: MapFile, array: np.ndarray, inside: np.ndarray) -> bool:
    """Whether a map of residuals holds none: the model has as many unknowns as there are volumes."""
    return found.param == "rmse" and bool(np.median(array[inside]) < _ROUNDING)


def _draw_map(arrays: Arrays, section: Section, panel: Panel, caption: str = "") -> None:
    name = panel.label.split(" (")[0].lower().replace(" ", "_").replace(",", "").replace("/", "per")
    png = _mosaic(arrays, panel)
    alt = f"Axial slices of {panel.label} in the brain."
    section.pictures.append(Picture(alt, caption or panel.label + ".", name, png))
    values = panel.array if arrays.inside is None else panel.array[arrays.inside]
    chart = histogram(values, Axes(panel.label, "voxels", width=300, height=190))
    section.charts.append(Picture(f"Histogram of {panel.label} in the mask.", "", f"{name}_histogram", svg=chart))


def _noddi(arrays: Arrays, section: Section) -> None:
    maps = _maps(arrays, "noddi")
    by_name = {m.param: m for m in maps}
    if "icvf" in by_name and "isovf" in by_name and arrays.inside is not None:
        ndi, fwf = arrays.of(by_name["icvf"]), arrays.of(by_name["isovf"])
        _draw_ndi(arrays, section, ndi, fwf)
        maps = [m for m in maps if m.param != "icvf"]
    _draw_maps(arrays, section, maps)


def _draw_ndi(arrays: Arrays, section: Section, ndi: np.ndarray, fwf: np.ndarray) -> None:
    """NDI where there is tissue, NDI weighted by the share of tissue, and what is at the bound."""
    from scipy.ndimage import binary_erosion

    inside = arrays.inside
    assert inside is not None
    known = np.where(fwf < NDI_BLANK, ndi, np.nan)
    blank = int((inside & (fwf >= NDI_BLANK)).sum())
    _draw_map(arrays, section, Panel(known, "NDI", "magma", (0, 1)),
              f"NDI. Blank where free water takes {NDI_BLANK:.0%} or more ({blank} voxels): the signal tells nothing "
              "of neurites there.")  # fmt: skip
    _draw_map(arrays, section, Panel(ndi * (1 - fwf), "NDI x (1 - FWF)", "magma", (0, 1)),
              "NDI weighted by the fraction of tissue: what to average over a region that touches fluid.")  # fmt: skip
    at_bound = inside & (ndi >= NDI_BOUND) & (fwf < NDI_BLANK)
    flat = np.ones([3 if n > 4 else 1 for n in inside.shape])
    rim = inside & ~binary_erosion(inside, flat)
    if at_bound.any():
        section.text = (
            f"{int(at_bound.sum())} voxels lie at the upper bound of NDI, {int((at_bound & rim).sum())} of them in the "
            "outermost layer of the mask. There skull, vessels and fluid share the voxel with little tissue, and a "
            "restricted signal at low S0 is taken for neurites: leave the rim out of averages."
        )


def _response(arrays: Arrays, section: Section) -> None:
    response = arrays.subject.response
    if response is None:
        return
    bvals = ["?" if np.isnan(b) else f"{b:.0f}" for b in response.bvals]
    means, rows = [], []
    for tissue, table, curves in zip(response.tissues, response.coefs, response_curves(response)[1], strict=True):
        name = tissue_name(tissue)
        mean = table[:, 0] / np.sqrt(4 * np.pi)
        means.append(Line(name, np.asarray(response.bvals, dtype=float), mean))
        rows += [
            (name if k == 0 else "", b, f"{mean[k]:.1f}", f"{curve[0]:.1f}", f"{curve[-1]:.1f}")
            for k, (b, curve) in enumerate(zip(bvals, curves, strict=True))
        ]
    for tissue, chart in response_charts(response, {name: tissue_name(name) for name in response.tissues}).items():
        said = f"{tissue_name(tissue)}: signal against the angle to the fibre."
        section.charts.append(Picture(said, "", f"response_{tissue}", svg=chart))
    if len(bvals) > 1 and "?" not in bvals:
        axes = Axes("b (s/mm²)", "mean signal", "All tissues: mean signal by b", is_log=True, has_points=True)
        section.charts.append(
            Picture("Mean signal of each tissue against b.", "", "response_b", svg=line_chart(means, axes))
        )
    head = ("tissue", "b (s/mm²)", "mean", "along the fibre", "across")
    section.tables.append(Table("Signal of the responses", head, rows))
    section.text = f"Estimated with {response.algorithm}."


def _fods(arrays: Arrays, section: Section) -> None:
    """What stands below the glyphs."""
    _draw_maps(arrays, section, [m for m in _maps(arrays) if m.param in {"afd", "peakafd"}])


def _tracts(arrays: Arrays, section: Section) -> None:
    bundles = arrays.subject.bundle_volumes
    if not bundles or arrays.affine is None:
        return
    masks = {name: np.asarray(volume.get_array()) > 0.5 for name, volume in bundles.items()}
    if arrays.anatomy is not None:
        color = _overlay(arrays.anatomy, list(masks.values()))
        for plane in arrays.planes:
            png = draw_mosaic(
                Panel(color, "Tracts"), arrays.affine, Layout(plane), inside=arrays.inside, box=arrays.box
            ).png()
            alt = f"{len(masks)} tracts on the anatomy, {plane} slices."
            section.pictures.append(Picture(alt, f"Tracts on the anatomy, {plane}.", f"tracts_{plane}", png))
    section.text = f"Drawn are {', '.join(masks)}."
    section.pictures += _tract_surfaces(arrays, masks)


def _overlay(anatomy: np.ndarray, masks: list[np.ndarray]) -> np.ndarray:
    """(x, y, z, 3) in 0..1: anatomy in grey, tracts in colours."""
    low, high = robust_limits(anatomy)
    color = np.repeat(np.clip((anatomy - low) / (high - low), 0, 1)[..., None], 3, axis=-1).astype(np.float32)
    for k, mask in enumerate(masks):
        color[mask] = 0.45 * color[mask] + 0.55 * _TRACT_COLORS[k % len(_TRACT_COLORS)] / 255
    return color


def _tract_surfaces(arrays: Arrays, masks: dict[str, np.ndarray]) -> Iterator[Picture]:
    from arcuate.figures import render_tracts
    from arcuate.figures.views import View
    from arcuate.volumes.resource import InMemoryVolumeResource

    assert arrays.affine is not None
    stacked = InMemoryVolumeResource(np.stack(list(masks.values()), axis=-1).astype(np.uint8), arrays.affine)
    for plane in ("sagittal", "coronal", "axial"):
        image = render_tracts(stacked, names=list(masks), view=View(plane), brain=arrays.subject.mask, size=(600, 600))
        caption = f"Tracts, {plane} view; the two of a pair share a colour."
        yield Picture(
            f"{len(masks)} tracts in the head, {plane} view.", caption, f"tracts_3d_{plane}", png_bytes(image)
        )


_MAKERS: dict[str, tuple[str, Callable[[Arrays, Section], None]]] = {  # in the order of the page
    "directions": ("Directions", _directions),
    "denoising": ("Denoising", _denoising),
    "signal": ("Signal by slice and volume", _signal),
    "mask": ("Brain mask", _mask),
    "tensor": ("Diffusion tensor", _tensor),
    "kurtosis": ("Kurtosis", lambda a, s: _draw_maps(a, s, _maps(a, "kurtosis"))),
    "freewater": ("Free water", lambda a, s: _draw_maps(a, s, _maps(a, "fwdti"))),
    "noddi": ("NODDI", _noddi),
    "response": ("Fibre response", _response),
    "fods": ("Fibre orientations", _fods),
    "tissues": ("Tissues", lambda a, s: _draw_maps(a, s, [m for m in _maps(a) if m.param == "fraction"])),
    "tracts": ("Tracts", _tracts),
    "regions": ("Regions", draw_regions),
    "others": ("Other maps", _others),
}
