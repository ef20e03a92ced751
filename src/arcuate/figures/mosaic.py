"""Slices side by side, straight from arrays to pixels: lookup tables instead of a plotting package.

A scalar map becomes one byte per pixel and a table of colours, so that a picture of six slices takes milliseconds and
some tens of kilobytes.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arcuate.figures.lettering import typeface
from arcuate.figures.panels import Panel, choose_slices, lookup_table, robust_limits
from arcuate.figures.views import Canonical, View

Box = tuple[slice, slice, slice]

_LAST = 239  # codes: 0 paper, 1 to 239 the map, 240 to 254 ink from faint to full, 255 outlines
_FAINT, _OUTLINE = 240, 255
_MARK = (230, 159, 0)  # outlines: Okabe and Ito's orange
_INK = {"black": (255, 255, 255), "white": (0, 0, 0)}
_GAP = 4  # pixels between slices


@dataclass(frozen=True)
class Layout:
    """How slices are laid out.

    Parameters
    ----------
    plane : axial, coronal or sagittal
    slices : indices, counted from the patient's left, back or bottom; or how many, spread over what is not empty
    columns : slices side by side
    tile : pixels of the longer side of a slice, about: each voxel takes a whole number of them
    radiological : the patient's right on the left
    background : black or white
    scale_bar : length in mm of a bar in the last slice; none if 0
    has_bar : whether a colour bar is drawn below
    """

    plane: str = "axial"
    slices: Sequence[int] | int = 6
    columns: int = 3
    tile: int = 300
    radiological: bool = False
    background: str = "black"
    scale_bar: float = 0.0
    has_bar: bool = True


@dataclass(frozen=True, eq=False)
class Mosaic:
    """A picture: colours, or codes and the table of their colours."""

    pixels: np.ndarray  # (height, width) uint8 codes, or (height, width, 3) uint8
    table: np.ndarray  # (256, 3) uint8, of the codes

    @property
    def rgb(self) -> np.ndarray:
        """(height, width, 3) uint8."""
        return self.pixels if self.pixels.ndim == 3 else self.table[self.pixels]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def png(self, dpi: float | None = None) -> bytes:
        """As PNG; ``dpi`` is noted in it."""
        from PIL import Image

        image = Image.fromarray(self.pixels)
        if self.pixels.ndim == 2:
            image.putpalette(self.table.tobytes())
        buffer = io.BytesIO()
        # measured: more compression saves 3 % of the bytes and takes three times as long
        image.save(buffer, format="PNG", compress_level=4, **({"dpi": (dpi, dpi)} if dpi else {}))
        return buffer.getvalue()

    def save(self, path: str | os.PathLike[str], dpi: float | None = None) -> None:
        """Write a PNG."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(self.png(dpi))


def draw_mosaic(
    panel: Panel, affine: np.ndarray, layout: Layout | None = None, *, inside: np.ndarray | None = None,
    box: Box | None = None,
) -> Mosaic:  # fmt: skip
    """Slices of a map, letters at the sides of the first, each with its number, a colour bar below.

    Parameters
    ----------
    panel : the map
    affine : (4, 4), voxel indices to scanner mm
    layout : see :class:`Layout`
    inside : (x, y, z), voxels to show; the others are blank, as are those that are not finite
    box : part of the canonical grid to show, see :func:`box_of`; what ``inside`` leaves of the image if None
    """
    layout = layout or Layout()
    frame = Canonical(affine)
    array = frame.reorder(panel.checked)
    shown = None if inside is None else frame.reorder(np.asarray(inside)) > 0
    box = box or box_of(inside, affine) or (slice(None), slice(None), slice(None))
    part = array[box]
    shown = None if shown is None else shown[box]
    outline = None if panel.contour is None else (frame.reorder(np.asarray(panel.contour)) > 0)[box]
    limits = panel.limits or robust_limits(part if shown is None else part[shown])
    view = View(layout.plane)
    start = box[view.axis].start or 0
    chosen = _slices_in(part if shown is None else shown, view, layout.slices, start)
    grid = _Grid.of(part.shape, frame.voxel_size, view, len(chosen), layout)
    canvas = _Canvas(grid, panel, layout)
    for number, at in enumerate(chosen):
        view = View(layout.plane, at, layout.radiological)
        known = None if shown is None else view.take(shown)
        canvas.put(number, grid.enlarge(_coded(view.take(part), panel, limits, known)))
        if outline is not None:
            canvas.outline(number, grid.enlarge(view.take(outline)))
        canvas.write(number, str(start + at), "corner")
    if chosen:
        canvas.label_sides(view.labels)
    if layout.scale_bar:
        canvas.scale_bar(layout.scale_bar)
    canvas.bar(panel, limits)
    return canvas.done()


def stack_tiles(
    before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray], affine: np.ndarray, inside: np.ndarray | None
) -> tuple[Mosaic, Mosaic, Mosaic]:
    """The middle axial slice of images before and after, and of their difference, side by side; each with its name.

    Parameters
    ----------
    before, after : (x, y, z) each, by name
    affine : (4, 4)
    inside : (x, y, z), what the pictures are cut to

    Returns
    -------
    before, after : grey, on the same limits
    difference : blue below 0, red above
    """
    frame, view = Canonical(affine), View("axial")
    box = box_of(inside, affine, margin=4) or (slice(None), slice(None), slice(None))
    canonical = frame.reorder(np.asarray(next(iter(before.values()))))[box]
    grid = _Grid.of(canonical.shape, frame.voxel_size, view, len(before), Layout(has_bar=False))
    gray, colored = Panel(canonical, colormap="gray"), Panel(canonical, colormap="blue-black-orange")
    canvases = [_Canvas(grid, panel, Layout(has_bar=False)) for panel in (gray, gray, colored)]
    for number, name in enumerate(before):
        pair = [np.asarray(view.take(frame.reorder(a[name])[box]), np.float32) for a in (before, after)]
        high = robust_limits(pair[0])[1]
        difference = pair[0] - pair[1]
        span = max(float(np.percentile(np.abs(difference), 99)), 1e-3 * high)
        shown = ((pair[0], (0.0, high)), (pair[1], (0.0, high)), (difference, (-span, span)))
        for canvas, (picture, limits) in zip(canvases, shown, strict=True):
            canvas.put(number, grid.enlarge(_coded(picture, canvas.panel, limits, None)))
            canvas.write(number, name, "name")
        canvases[2].write(number, f"±{span:.3g}", "corner")
    for canvas in canvases:
        canvas.label_sides(view.labels)
    return canvases[0].done(), canvases[1].done(), canvases[2].done()


def box_of(inside: np.ndarray | None, affine: np.ndarray, margin: int = 1) -> Box | None:
    """Part of the canonical grid that holds a mask (x, y, z), with a margin; None without one, or if it is empty."""
    if inside is None:
        return None
    canonical = Canonical(affine).reorder(np.asarray(inside)) > 0
    if not canonical.any():
        return None
    box = []
    for axis in range(3):
        filled = np.flatnonzero(canonical.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(max(int(filled[0]) - margin, 0), min(int(filled[-1]) + 1 + margin, canonical.shape[axis])))
    return box[0], box[1], box[2]


def _slices_in(array: np.ndarray, view: View, slices: Sequence[int] | int, start: int) -> list[int]:
    """Slices of the box, counted from its first."""
    if isinstance(slices, int):
        return choose_slices(array, view, slices)
    return choose_slices(array, view, [at - start for at in slices])


def _coded(picture: np.ndarray, panel: Panel, limits: tuple[float, float], known: np.ndarray | None) -> np.ndarray:
    """A slice as codes (rows, columns), or as colours (rows, columns, 3)."""
    values = np.asarray(picture, dtype=np.float32)
    if panel.is_color:
        colors = (255 * np.clip(np.nan_to_num(values), 0, 1) + 0.5).astype(np.uint8)
        return colors if known is None else np.where(known[..., None], colors, 0).astype(np.uint8)
    low, high = limits
    scaled = (values - low) * ((_LAST - 1) / max(high - low, 1e-30))
    codes = np.clip(np.nan_to_num(scaled) + 1.5, 1, _LAST).astype(np.uint8)
    finite = np.isfinite(values)
    return np.where(finite if known is None else finite & known, codes, 0).astype(np.uint8)


@dataclass(frozen=True)
class _Grid:
    """Where each slice lies in the picture."""

    rows: np.ndarray  # stored row of each pixel row of a slice
    columns: np.ndarray
    n_slices: int
    n_columns: int
    per_mm: float  # pixels
    foot: int  # pixels below, for the colour bar

    @staticmethod
    def of(shape: tuple[int, ...], size: np.ndarray, view: View, n_slices: int, layout: Layout) -> _Grid:
        wide, high = shape[view.across], shape[view.up]
        longer = max(wide * size[view.across], high * size[view.up])
        finest = min(size[view.across], size[view.up])
        voxel = max(1, int(layout.tile * finest / longer))  # pixels of its shorter side
        per_mm = voxel / finest
        width, height = (max(1, round(n * s * per_mm)) for n, s in ((wide, size[view.across]), (high, size[view.up])))
        columns = ((np.arange(width) + 0.5) * wide / width).astype(int)
        rows = ((np.arange(height) + 0.5) * high / height).astype(int)
        foot = 44 if layout.has_bar else 0
        return _Grid(rows, columns, n_slices, max(1, min(layout.columns, n_slices)), float(per_mm), foot)

    def enlarge(self, picture: np.ndarray) -> np.ndarray:
        return picture.take(self.columns, axis=1)[self.rows]  # a tenth of the time of both indices at once

    @property
    def width(self) -> int:
        return self.n_columns * (len(self.columns) + _GAP) - _GAP

    @property
    def height(self) -> int:
        n_rows = -(-self.n_slices // self.n_columns)
        return max(n_rows, 1) * (len(self.rows) + _GAP) - _GAP + self.foot

    def place(self, number: int) -> tuple[slice, slice]:
        row, column = divmod(number, self.n_columns)
        top, left = row * (len(self.rows) + _GAP), column * (len(self.columns) + _GAP)
        return slice(top, top + len(self.rows)), slice(left, left + len(self.columns))


class _Canvas:
    """Pixels on which slices, outlines and text are put."""

    def __init__(self, grid: _Grid, panel: Panel, layout: Layout) -> None:
        from PIL import Image, ImageDraw

        self.grid, self.layout, self.panel = grid, layout, panel
        self.width = max(grid.width, 380 if layout.has_bar else 1)
        shape = (grid.height, self.width)
        self.paper = 255 if layout.background == "white" else 0
        self.is_color = panel.is_color
        self.pixels = np.zeros((*shape, 3) if self.is_color else shape, np.uint8)
        if self.is_color:
            self.pixels[:] = self.paper
        self.table = _table(panel.colormap, layout.background)
        self._ink = Image.new("L", (self.width, grid.height))
        self._halo = Image.new("L", (self.width, grid.height))
        self._pens = ImageDraw.Draw(self._ink), ImageDraw.Draw(self._halo)
        self.left = (self.width - grid.width) // 2

    def _at(self, number: int) -> tuple[slice, slice]:
        rows, columns = self.grid.place(number)
        return rows, slice(columns.start + self.left, columns.stop + self.left)

    def put(self, number: int, tile: np.ndarray) -> None:
        if self.is_color and self.paper:
            tile = np.where(tile.any(axis=-1, keepdims=True), tile, self.paper).astype(np.uint8)
        self.pixels[self._at(number)] = tile

    def outline(self, number: int, mask: np.ndarray) -> None:
        padded = np.pad(mask, 2)
        core = np.ones_like(mask)
        for down, across in ((0, 2), (4, 2), (2, 0), (2, 4)):
            core &= padded[down : down + mask.shape[0], across : across + mask.shape[1]]
        self.pixels[self._at(number)][mask & ~core] = _MARK if self.is_color else _OUTLINE

    def text(self, x: float, y: float, text: str, anchor: str, size: int = 20) -> None:
        ink, halo = self._pens
        font = typeface(size)
        ink.text((x, y), text, fill=255, font=font, anchor=anchor)
        halo.text((x, y), text, fill=255, font=font, anchor=anchor, stroke_width=2)

    def write(self, number: int, text: str, where: str) -> None:
        rows, columns = self._at(number)
        middle = (columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2
        places = {
            "corner": (columns.stop - 4, rows.stop - 3, "rd"),
            "name": (columns.start + 5, rows.start + 3, "la"),
            "left": (columns.start + 4, middle[1], "lm"),
            "right": (columns.stop - 4, middle[1], "rm"),
            "bottom": (middle[0], rows.stop - 3, "md"),
            "top": (middle[0], rows.start + 3, "ma"),
        }
        x, y, anchor = places[where]
        self.text(x, y, text, anchor, 15 if where == "corner" else 20)

    def label_sides(self, labels: tuple[str, str, str, str]) -> None:
        for where, letter in zip(("left", "right", "bottom", "top"), labels, strict=True):
            self.write(0, letter, where)

    def scale_bar(self, length: float) -> None:
        rows, columns = self._at(self.grid.n_slices - 1)
        wide = round(length * self.grid.per_mm)
        low = rows.stop - 12
        for pen in self._pens:
            pen.rectangle((columns.start + 10, low, columns.start + 10 + wide - 1, low + 3), fill=255)
        self.text(columns.start + 10 + wide / 2, low - 4, f"{length:g} mm", "md", 15)

    def bar(self, panel: Panel, limits: tuple[float, float]) -> None:
        """The colour bar between its ends, the name before it."""
        if not self.layout.has_bar:
            return
        middle = self.grid.height - self.grid.foot // 2
        if self.is_color:
            self.text(6, middle, panel.label, "lm")
            return
        low, high = (f"{limit:.0f}" if abs(limit) >= 1000 else f"{limit:.3g}" for limit in limits)
        room = self.width - 60 - sum(int(typeface(20).getlength(text)) for text in (low, high)) - 40
        height = 20  # of the letters; a long name is written smaller
        while height > 10 and typeface(height).getlength(panel.label) > room:
            height -= 1
        before = int(typeface(height).getlength(panel.label) + typeface(20).getlength(low))
        after = int(typeface(20).getlength(high))
        wide = max(40, min(240, self.width - before - after - 50))
        left = self.width - wide - 14 - after
        self.pixels[middle - 8 : middle + 8, left : left + wide] = np.linspace(1, _LAST, wide).round().astype(np.uint8)
        self.text(left + wide + 7, middle, high, "lm")
        self.text(left - 7, middle, low, "rm")
        self.text(6, middle, panel.label, "lm", height)

    def done(self) -> Mosaic:
        ink, halo = np.asarray(self._ink), np.asarray(self._halo)
        near = halo > 100
        if self.is_color:
            color = np.array(_INK[self.layout.background], np.float32)
            pixels = self.pixels
            pixels[near] = self.paper
            share = ink[near][:, None] / 255.0
            pixels[near] = (share * color + (1 - share) * self.paper).astype(np.uint8)
            return Mosaic(pixels, self.table)
        self.pixels[near] = 0
        drawn = ink > 8
        self.pixels[drawn] = _FAINT + ink[drawn] // 18  # 240 to 254
        return Mosaic(self.pixels, self.table)


def _table(colormap: str, background: str) -> np.ndarray:
    """(256, 3) uint8 colours of the codes."""
    table = np.empty((256, 3), np.uint8)
    ink = np.array(_INK[background], dtype=np.float64)
    paper = 255 - ink
    table[0] = paper
    table[1 : _LAST + 1] = lookup_table(colormap)[np.linspace(0, 255, _LAST).round().astype(int)]
    share = np.linspace(0.07, 1, _OUTLINE - _FAINT)[:, None]
    table[_FAINT:_OUTLINE] = (share * ink + (1 - share) * paper).round()
    table[_OUTLINE] = _MARK
    return table
