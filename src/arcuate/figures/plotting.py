"""Maps on paper: slices with colour bars, contours, residuals, histograms, with matplotlib.

Arrays and an affine in, a matplotlib Figure out; nothing is shown or kept. Pictures are neurological (the patient's
right on the right) unless asked to be radiological, and say so at their sides.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from arcuate.errors import InputError, MissingExtraError
from arcuate.figures.panels import Panel, choose_slices, robust_limits
from arcuate.figures.views import PLANES, Canonical, Region, View

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")  # Okabe and Ito's
_TILE = 1.75  # inches
_INKS = {"white": "black", "black": "white"}


def plot_maps(
    panels: Sequence[Panel],
    affine: np.ndarray,
    *,
    plane: str = "axial",
    slices: Sequence[int] | int = 5,
    radiological: bool = False,
    title: str = "",
    mask: np.ndarray | None = None,
    region: Region | None = None,
    paper: str = "white",
    scale_bar: float = 0.0,
) -> Any:
    """A row of slices for each map, with its colour bar.

    ``figure.savefig("fa.pdf")``, or ``.svg``, keeps text and outlines as vectors and the voxels as they are;
    ``figure.savefig("fa.png", dpi=300)`` is for journals that want pixels.

    Parameters
    ----------
    panels : maps on one grid
    affine : (4, 4), voxel indices to scanner mm
    plane : axial, coronal or sagittal
    slices : indices, counted from the patient's left, back or bottom; or how many, spread over what is not empty
    radiological : the patient's right on the left
    title : above it all
    mask : (x, y, z), voxels to show; the others are blank
    region : ((from, to), (from, to)), voxels
        Part of the slices to draw, across and up the picture, counted from the patient's left, back or bottom, ``to``
        left out.
    paper : white or black; the slices themselves lie on black where nothing is blank
    scale_bar : length in mm of a bar in the last slice; none if 0

    Returns
    -------
    matplotlib.figure.Figure
    """
    if paper not in _INKS:
        raise InputError(f"found the paper {paper!r}; expected white or black.")
    frame = Canonical(affine)
    arrays = [frame.reorder(panel.checked) for panel in panels]
    inside = None if mask is None else frame.reorder(np.asarray(mask)) > 0
    shown = choose_slices(arrays[0] if inside is None else inside, View(plane), slices)
    view = View(plane, shown[0], radiological)
    box = tuple(view.part(arrays[0].shape, region))
    arrays = [_blanked(array, inside)[box] for array in arrays]
    size = frame.voxel_size
    height = size[view.up] * arrays[0].shape[view.up] / (size[view.across] * arrays[0].shape[view.across])
    tile = np.array([_TILE, _TILE * min(max(height, 0.4), 2.5)])
    n_rows, n_columns = len(panels), len(shown)
    figure = _new_figure((n_columns * tile[0] + 1.1, n_rows * tile[1] + (0.35 if title else 0.05)))
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    for row, (panel, array) in enumerate(zip(panels, arrays, strict=True)):
        drawn = None
        limits = panel.limits or robust_limits(array)
        contour = None if panel.contour is None else frame.reorder(np.asarray(panel.contour, dtype=np.float32))[box]
        for column, at in enumerate(shown):
            view = View(plane, at, radiological)
            drawn = _draw_slice(axes[row, column], view, array, panel, limits, contour, size)
            _label_sides(axes[row, column], view, is_first=column == 0 and row == 0)
            if paper == "white" and mask is not None:
                axes[row, column].set_facecolor("white")
        bar = figure.colorbar(drawn, ax=list(axes[row]), fraction=0.03, pad=0.01, aspect=18)
        if panel.is_color:
            bar.ax.set_visible(False)
            axes[row, -1].text(1.04, 0.5, panel.label, transform=axes[row, -1].transAxes, rotation=90, va="center")
        else:
            bar.set_label(panel.label)
    if title:
        figure.suptitle(title, fontsize=10)
    if scale_bar:
        _draw_scale(axes[-1, -1], scale_bar, float(size[view.across]), arrays[-1].shape[view.up])
    _print_on(figure, paper, is_blank=mask is not None)
    return figure


def plot_volume(
    array: np.ndarray, affine: np.ndarray, *, label: str = "", volume: int = 0, over: np.ndarray | None = None,
    colormap: str | None = None, **options: Any,
) -> Any:  # fmt: skip
    """Slices of one image: a mask as an outline where there is an image to draw it ``over``, 3-vectors as colours.

    Parameters
    ----------
    array : (x, y, z) or (x, y, z, n)
    affine : (4, 4)
    label : what it is, with its unit
    volume : which of the n is shown
    over : (x, y, z), for masks: the image below the outline
    colormap : see :class:`Panel`; grey where None, unless values are within 0..1
    options : of :func:`plot_maps`
    """
    array = np.asarray(array)
    if array.ndim == 4:
        if not -array.shape[3] <= volume < array.shape[3]:
            raise InputError(f"found volume {volume}; expected one of 0 to {array.shape[3] - 1}.")
        array = array[..., volume]
    if array.ndim != 3:
        raise InputError(f"found an image of shape {array.shape}; expected 3 or 4 dimensions.")
    if over is not None:
        return plot_mask(over, array, affine, label=label, **options)
    finite = array[np.isfinite(array)]
    is_share = bool(finite.size) and finite.min() >= 0 and finite.max() <= 1
    limits = (0.0, 1.0) if is_share else None
    panel = Panel(array, label, colormap or ("viridis" if is_share else "gray"), limits)
    return plot_maps([panel], affine, **options)


def plot_mask(image: np.ndarray, mask: np.ndarray, affine: np.ndarray, *, label: str = "", **options: Any) -> Any:
    """Slices of an image (x, y, z) with the outline of a mask (x, y, z); ``options`` as for :func:`plot_maps`."""
    return plot_maps([Panel(image, label, "gray", contour=mask)], affine, **options)


def plot_residuals(
    before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray], affine: np.ndarray, *, plane: str = "axial",
    index: int | None = None, radiological: bool = False,
) -> Any:  # fmt: skip
    """A slice before and after denoising and what was taken away, a row per name.

    Parameters
    ----------
    before, after : (x, y, z) each, by name, such as ``{"b=1000": image}``
    affine : (4, 4)
    plane, index, radiological : see :class:`arcuate.figures.views.View`
    """
    frame, view = Canonical(affine), View(plane, index, radiological)
    figure = _new_figure((3 * 2.3 + 0.8, 2.35 * len(before)))
    axes = figure.subplots(len(before), 3, squeeze=False)
    for row, name in enumerate(before):
        first, second = (np.asarray(view.take(frame.reorder(a[name])), np.float32) for a in (before, after))
        low, high = 0.0, robust_limits(first)[1]
        span = max(float(np.percentile(np.abs(first - second), 99)), 1e-30)
        pictures = ((first, "gray", low, high), (second, "gray", low, high), (first - second, "RdBu_r", -span, span))
        for column, (picture, colormap, bottom, top) in enumerate(pictures):
            axis = axes[row, column]
            drawn = axis.imshow(picture, cmap=colormap, vmin=bottom, vmax=top, aspect=_aspect(view, frame.voxel_size))
            _label_sides(axis, view, is_first=column == 0 and row == 0)
            figure.colorbar(drawn, ax=axis, fraction=0.045, pad=0.02)
            if row == 0:
                axis.set_title(("before", "after", "before - after")[column], fontsize=9)
        axes[row, 0].set_ylabel(name)
    return figure


def plot_histograms(values: Mapping[str, np.ndarray], *, label: str = "", n_bins: int = 60) -> Any:
    """Distributions of the values (...) by name, 0 and NaN left out, a panel each; ``label`` on the y axis."""
    figure = _new_figure((2.4 * len(values), 1.9))
    axes = figure.subplots(1, len(values), squeeze=False)[0]
    for axis, (name, array) in zip(axes, values.items(), strict=True):
        known = array[np.isfinite(array) & (array != 0)]
        low, high = np.percentile(known, [0.5, 99.5]) if known.size else (0.0, 1.0)
        axis.hist(known, bins=n_bins, range=(low, high if high > low else low + 1), color=COLORS[0])
        axis.set_xlabel(name)
        axis.ticklabel_format(style="sci", scilimits=(-2, 4), axis="both")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(label or "voxels")
    return figure


def png_of(figure: Any, dpi: int = 110) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.05)
    return buffer.getvalue()


def html_of(facts: Mapping[str, Any], figure: Any | None, alt: str) -> str:
    """What a notebook shows: a table of facts, and a picture."""
    from html import escape

    rows = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(str(v))}</td></tr>" for k, v in facts.items())
    picture = ""
    if figure is not None:
        code = base64.b64encode(png_of(figure)).decode()
        picture = f'<img alt="{escape(alt)}" src="data:image/png;base64,{code}">'
    return f"<table>{rows}</table>{picture}"


def _draw_slice(
    axis: Any, view: View, array: np.ndarray, panel: Panel, limits: tuple[float, float], contour: np.ndarray | None,
    size: np.ndarray,
) -> Any:  # fmt: skip
    picture = np.asarray(view.take(array), dtype=np.float32)
    if panel.is_color:  # blank voxels become clear
        clear = np.isnan(picture).any(axis=-1)
        picture = np.clip(np.nan_to_num(picture), 0, 1)
        picture = np.dstack([picture, 1.0 - clear]) if clear.any() else picture
    drawn = axis.imshow(
        picture,
        cmap=panel.colormap,
        vmin=limits[0],
        vmax=limits[1],
        aspect=_aspect(view, size),
        interpolation="nearest",
    )
    if contour is not None:
        outline = view.take(contour)
        if outline.min() < 0.5 <= outline.max():
            axis.contour(outline, levels=[0.5], colors=COLORS[1], linewidths=0.9)
    return drawn


def _label_sides(axis: Any, view: View, *, is_first: bool) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_facecolor("black")
    if not is_first:
        return
    left, right, bottom, top = view.labels
    places = {left: (0.02, 0.5), right: (0.98, 0.5), bottom: (0.5, 0.02), top: (0.5, 0.98)}
    for (label, (x, y)), (across, up) in zip(
        places.items(), (("left", "center"), ("right", "center"), ("center", "bottom"), ("center", "top")), strict=True
    ):
        axis.text(x, y, label, transform=axis.transAxes, color="white", fontsize=7, ha=across, va=up)


def _blanked(array: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
    if inside is None:
        return array
    known = inside if array.ndim == 3 else inside[..., None]
    return np.where(known, np.asarray(array, dtype=np.float32), np.nan)


def _draw_scale(axis: Any, length: float, voxel: float, n_up: int) -> None:
    """A bar of so many mm at the lower left of a slice."""
    wide, left, low = length / voxel, 1.5, n_up - 2.5
    axis.plot([left, left + wide], [low, low], color="0.6", linewidth=2.5, solid_capstyle="butt", gid="scale bar")
    axis.text(left + wide / 2, low - 1, f"{length:g} mm", color="0.6", fontsize=7, ha="center", va="bottom")
    axis.autoscale(False)


def _print_on(figure: Any, paper: str, *, is_blank: bool) -> None:
    """Colours of paper and ink; the letters in the slices stay white unless the slices lie on white."""
    from matplotlib.text import Text

    figure.set_facecolor(paper)
    for axis in figure.axes:
        for spine in axis.spines.values():
            spine.set_edgecolor(_INKS[paper] if axis.get_ylabel() else "none")
        axis.tick_params(colors=_INKS[paper])
    for text in figure.findobj(Text):
        if text.get_color() in {"white", "w"}:
            text.set_color("black" if is_blank and paper == "white" else "white")
        elif text.get_color() in {"black", "k"} and paper == "black":
            text.set_color("white")


def _aspect(view: View, size: np.ndarray) -> float:
    return float(size[view.up] / size[view.across])


def _new_figure(size: tuple[float, float]) -> Any:
    return _figure_class()(figsize=size, layout="compressed")


@lru_cache(maxsize=1)
def _figure_class() -> Any:
    """matplotlib's Figure, which notebooks show without pyplot."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "report", "drawing maps") from None

    class NotebookFigure(Figure):
        def _repr_png_(self) -> bytes:
            return png_of(self)

    return NotebookFigure


__all__ = [
    "PLANES",
    "Panel",
    "html_of",
    "plot_histograms",
    "plot_maps",
    "plot_mask",
    "plot_residuals",
    "plot_volume",
    "png_of",
    "robust_limits",
]
