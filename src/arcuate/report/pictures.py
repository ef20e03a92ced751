"""The pictures of a report, each with the text that stands for it where it cannot be seen."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from arcuate.errors import MissingExtraError
from arcuate.figures.plotting import Panel, plot_directions, plot_histograms, plot_maps, plot_mask, png_of
from arcuate.figures.views import Canonical, View
from arcuate.report.layers import color_fa
from arcuate.report.styles import NOT_PLAIN, rank_of, style_of
from arcuate.report.subject import MapFile, SubjectFiles

_FOD_WIDTH = 44  # voxels across: more are too small to be seen as shapes


@dataclass(frozen=True)
class Picture:
    """One picture of the page."""

    png: bytes
    alt: str
    caption: str = ""

    @property
    def source(self) -> str:
        """As a data: address."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass
class Section:
    """A part of the page: pictures, and what is missing from it."""

    anchor: str
    title: str
    pictures: list[Picture] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def sections_of(subject: SubjectFiles) -> list[Section]:
    """Every section for which the run left something."""
    makers: tuple[tuple[str, str, Callable[[SubjectFiles], Iterator[Picture]]], ...] = (
        ("directions", "Directions", _directions),
        ("denoising", "Denoising", _denoising),
        ("mask", "Brain mask", _mask),
        ("tensor", "Diffusion tensor", _tensor),
        ("noddi", "NODDI", lambda s: _maps_of(s, "noddi")),
        ("response", "Fibre response", _response),
        ("fods", "Fibre orientations", _fods),
        ("tissues", "Tissues", _tissues),
        ("tracts", "Tracts", _tracts),
        ("others", "Other maps", _others),
    )
    sections = []
    for anchor, title, make in makers:
        section = Section(anchor, title)
        try:
            for picture in make(subject):
                section.pictures.append(picture)
        except MissingExtraError as error:
            section.missing.append(str(error))
        if section.pictures or section.missing:
            sections.append(section)
    return sections


def _directions(subject: SubjectFiles) -> Iterator[Picture]:
    shells = {float(b): np.array(d) for b, d in subject.scan_facts.get("directions", {}).items() if len(d)}
    if shells:
        named = ", ".join(f"{len(d)} at b = {b:.0f}" for b, d in shells.items())
        yield Picture(
            png_of(plot_directions(shells)),
            f"Gradient directions on the sphere: {named}.",
            "Gradient directions (filled) and their opposites (hollow), scanner frame.",
        )


def _denoising(subject: SubjectFiles) -> Iterator[Picture]:
    path = subject.residuals
    if path is not None:
        yield Picture(
            path.read_bytes(),
            "One volume of each shell before and after denoising, and the difference.",
            "What was taken away should look like noise: no anatomy in the right column.",
        )
    if subject.noise is not None:
        panel = Panel(_map_array(subject.noise), "noise σ", "inferno", contour=brain_of(subject))
        figure = plot_maps([panel], subject.noise.get_affine(), slices=6)
        yield Picture(png_of(figure), "Axial slices of the estimated noise level.", "Noise level.")


def _mask(subject: SubjectFiles) -> Iterator[Picture]:
    inside, fa = brain_of(subject), subject.get_map("tensor", "fa")
    source = subject.mask or (fa.volume if fa is not None else None)
    if inside is None or source is None:
        return
    below = inside.astype(np.float32)
    if subject.denoised is not None:
        below = np.asarray(subject.denoised.compute_mean_b0().get_array(), dtype=np.float32)
    affine = source.get_affine()
    note = "" if subject.mask is not None else " (given to the run: where the tensor was fitted)"
    for plane in thick_planes(below.shape, affine):
        figure = plot_mask(below, inside, affine, plane=plane, slices=6, label="mean b = 0")
        alt = f"{plane.capitalize()} slices with the outline of the brain mask."
        yield Picture(png_of(figure), alt, f"Outline of the mask{note}, {plane}.")


def thick_planes(shape: tuple[int, ...], affine: np.ndarray) -> list[str]:
    """Planes in which the image is more than a stripe."""
    frame = Canonical(affine)
    extent = np.array([shape[frame.stored_axis(axis)] for axis in range(3)]) * frame.voxel_size
    views = [View(plane) for plane in ("axial", "coronal", "sagittal")]
    return [v.plane for v in views if min(extent[v.across], extent[v.up]) > 0.15 * max(extent[v.across], extent[v.up])]


def _tensor(subject: SubjectFiles) -> Iterator[Picture]:
    fa, evecs = subject.get_map("tensor", "fa"), subject.get_map("tensor", "evecs")
    if fa is not None and evecs is not None:
        color = color_fa(np.asarray(fa.volume.get_array()), np.asarray(evecs.volume.get_array()))
        for plane in thick_planes(color.shape, fa.volume.get_affine()):
            figure = plot_maps([Panel(color, "colour FA")], fa.volume.get_affine(), plane=plane, slices=6)
            alt = f"{plane.capitalize()} slices of FA, red left-right, green front-back, blue up-down."
            yield Picture(png_of(figure), alt, f"Colour FA, {plane}: red left-right, green front-back, blue up-down.")
    yield from _maps_of(subject, "tensor")


def _maps_of(subject: SubjectFiles, model: str) -> Iterator[Picture]:
    maps = [m for m in subject.maps if m.model == model and m.param not in NOT_PLAIN]
    yield from _draw_maps(subject, sorted(maps, key=rank_of))


def _others(subject: SubjectFiles) -> Iterator[Picture]:
    known = {"tensor", "noddi"}
    yield from _draw_maps(subject, [m for m in subject.maps if m.model not in known and m.param not in NOT_PLAIN])


def _draw_maps(subject: SubjectFiles, maps: list[MapFile]) -> Iterator[Picture]:
    if not maps:
        return
    panels = [_panel(m) for m in maps]
    affine = maps[0].volume.get_affine()
    names = ", ".join(p.label for p in panels)
    yield Picture(png_of(plot_maps(panels, affine, slices=6)), f"Axial slices of {names}.", "")
    inside = brain_of(subject)
    values = {p.label: p.array[inside > 0] if inside is not None else p.array.ravel() for p in panels}
    yield Picture(png_of(plot_histograms(values)), f"Histograms of {names}.", "Distributions in the mask.")


def _panel(found: MapFile) -> Panel:
    style = style_of(found)
    return Panel(style.factor * _map_array(found.volume), style.label, style.colormap, style.limits)


def _map_array(volume: Any) -> np.ndarray:
    array = np.asarray(volume.get_array(), dtype=np.float32)
    return array if array.ndim == 3 else array[..., 0]


def brain_of(subject: SubjectFiles) -> np.ndarray | None:
    """The mask; where it was given to the run and not written, the voxels with a tensor."""
    if subject.mask is not None:
        return np.asarray(subject.mask.get_array()) > 0
    tensors = subject.get_map("tensor", "md")
    return None if tensors is None else np.asarray(tensors.volume.get_array()) != 0


def _response(subject: SubjectFiles) -> Iterator[Picture]:
    from arcuate.figures import render_response

    if subject.response is None:
        return
    response = subject.response
    shells = ", ".join("?" if np.isnan(b) else f"{b:.0f}" for b in response.bvals)
    yield Picture(
        _png(render_response(response)),
        f"Signal of {', '.join(response.tissues)} by direction, a surface for each of b = {shells}; the fibre upright.",
        f"Rows: {', '.join(response.tissues)}. Columns: b = {shells} s/mm². The fibre stands upright.",
    )


def _fods(subject: SubjectFiles) -> Iterator[Picture]:
    from arcuate.figures import render_fods, render_peaks
    from arcuate.volumes.resource import InMemoryVolumeResource

    fods = subject.csd_model and subject.get_map(subject.csd_model, "fod")
    if not fods:
        return
    fa = subject.get_map("tensor", "fa")
    background = None if fa is None else np.asarray(fa.volume.get_array())
    coefs, affine = np.asarray(fods.volume.get_array()), fods.volume.get_affine()
    for plane in [p for p in thick_planes(coefs.shape, affine) if p != "sagittal"]:
        box = _middle(coefs, affine, plane)
        below = None if background is None else background[box]
        part = InMemoryVolumeResource(coefs[box], affine)  # only its axes matter to the picture
        image = render_fods(part, view=View(plane), background=below, size=(900, 900))
        alt = f"FOD glyphs of the middle {plane} slice, coloured by direction."
        yield Picture(_png(image), alt, f"FODs, {plane}: red left-right, green front-back, blue up-down.")
    peaks = subject.csd_model and subject.get_map(subject.csd_model, "peaks")
    if peaks:
        flat = np.nan_to_num(np.asarray(peaks.volume.get_array(), dtype=np.float32))
        vectors = flat.reshape(*flat.shape[:3], -1, 3)
        box = _middle(vectors[..., 0, :], affine, "axial")
        below = None if background is None else background[box]
        lengths = np.linalg.norm(vectors[box], axis=-1)
        image = render_peaks(vectors[box], lengths, affine=affine, background=below, size=(900, 900), norm=True)
        yield Picture(_png(image), "Peaks of the FODs in the middle axial slice.", "Peaks, axial.")


def _tissues(subject: SubjectFiles) -> Iterator[Picture]:
    fractions, affine = subject.tissue_fractions, subject.affine
    if not fractions or affine is None:
        return
    panels = [Panel(array, f"fraction of {tissue}", "viridis", (0, 1)) for tissue, array in fractions.items()]
    for plane in thick_planes(panels[0].array.shape, affine)[:2]:
        figure = plot_maps(panels, affine, plane=plane, slices=6)
        alt = f"{plane.capitalize()} slices of the fractions of {', '.join(fractions)}."
        yield Picture(png_of(figure), alt, f"Share of each tissue in the FODs' isotropic parts, {plane}.")


def _middle(array: np.ndarray, affine: np.ndarray, plane: str) -> tuple[slice, ...]:
    """A box, one slice thick, around the middle of what is not empty; in the order in which the image is stored."""
    frame = Canonical(affine)
    filled = np.any(np.nan_to_num(array) != 0, axis=-1)
    if not filled.any():
        filled = np.ones_like(filled)
    axis = frame.stored_axis(View(plane).axis)
    counts = filled.sum(axis=tuple(a for a in range(3) if a != axis))
    at = int(np.flatnonzero(np.cumsum(counts) >= counts.sum() / 2)[0])
    thin = np.take(filled, at, axis=axis)
    if not thin.any():
        thin = np.ones_like(thin)
    box = [slice(at, at + 1)] * 3
    for other, line in zip([a for a in range(3) if a != axis], (thin.any(axis=1), thin.any(axis=0)), strict=True):
        inside = np.flatnonzero(line)
        middle, half = (inside[0] + inside[-1] + 1) // 2, min(inside[-1] + 1 - inside[0], _FOD_WIDTH) // 2 + 1
        box[other] = slice(max(middle - half, 0), min(middle + half, len(line)))
    return tuple(box)


def _tracts(subject: SubjectFiles) -> Iterator[Picture]:
    from arcuate.figures import render_tracts
    from arcuate.io import NiftiVolumeResource
    from arcuate.volumes.resource import InMemoryVolumeResource

    if not subject.bundles:
        return
    volumes = {name: NiftiVolumeResource(path) for name, path in subject.bundles.items()}
    masks = np.stack([np.asarray(v.get_array()) > 0.5 for v in volumes.values()], axis=-1).astype(np.uint8)
    stacked = InMemoryVolumeResource(masks, next(iter(volumes.values())).get_affine())
    for plane in ("sagittal", "coronal", "axial"):
        image = render_tracts(stacked, names=list(volumes), view=View(plane), brain=subject.mask, size=(600, 600))
        caption = f"Tracts, {plane} view; the two of a pair share a colour."
        if plane == "sagittal":
            caption += f" Drawn are {', '.join(volumes)}."
        yield Picture(_png(image), f"{len(volumes)} tracts in the head, {plane} view.", caption)


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
