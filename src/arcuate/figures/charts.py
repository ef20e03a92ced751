"""Charts as SVG, written directly: lines, histograms, directions, slices by volumes.

Colours are CSS variables with a value to fall back on: in a page they follow its light or dark scheme, and a chart that
is saved on its own has those of a white page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from arcuate.numerics.sh import sh_matrix

if TYPE_CHECKING:
    from arcuate.models.response import Response

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")  # Okabe and Ito's
_TAIL = 12.0  # widths of the middle half that a histogram shows at most beside it
_INK = "var(--ink, #1b1f24)"
_SOFT = "var(--soft, #5a6470)"
_LINE = "var(--line, #d9dee4)"


@dataclass(frozen=True)
class Line:
    """One curve of a chart."""

    name: str
    x: np.ndarray  # (n,)
    y: np.ndarray  # (n,)
    is_dashed: bool = False


@dataclass(frozen=True)
class Axes:
    """Names and kinds of the axes of a chart, its title, and its size in pixels."""

    x: str = ""
    y: str = ""
    title: str = ""
    is_log: bool = False
    width: int = 430
    height: int = 280
    has_points: bool = False
    is_whole: bool = False  # numbers that count something


def line_chart(lines: Sequence[Line], axes: Axes) -> str:
    """Curves with their names at the right.

    Parameters
    ----------
    lines : those with a y that is not above 0 leave it out where the axis is logarithmic
    axes : see :class:`Axes`
    """
    xs = np.concatenate([line.x for line in lines])
    ys = np.concatenate([line.y for line in lines])
    ys = ys[np.isfinite(ys) & ((ys > 0) | (not axes.is_log))]
    if not ys.size:
        ys = np.array([1.0])
    if axes.is_log:
        low, high = np.log10(ys.min()) - 0.05, np.log10(ys.max()) + 0.05
    else:
        low, high = min(0.0, float(ys.min())), float(ys.max()) * 1.05 or 1.0
    frame = _Frame(axes, (float(xs.min()), float(xs.max())), (float(low), float(high)), margin=100)
    parts = frame.drawn()
    ends = []
    for k, line in enumerate(lines):
        color = COLORS[k % len(COLORS)]
        known = np.isfinite(line.y) & ((line.y > 0) | (not axes.is_log))
        x, y = line.x[known], np.log10(line.y[known]) if axes.is_log else line.y[known]
        points = " ".join(f"{frame.across(a):.1f},{frame.up(b):.1f}" for a, b in zip(x, y, strict=True))
        dash = ' stroke-dasharray="5 4"' if line.is_dashed else ""
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"{dash}/>')
        if axes.has_points:
            parts += [
                f'<circle cx="{frame.across(a):.1f}" cy="{frame.up(b):.1f}" r="3.2" fill="{color}"/>'
                for a, b in zip(x, y, strict=True)
            ]
        if len(y):
            ends.append((frame.up(y[-1]), line.name, color))
    for at, name, color in _spread(ends, 15, frame.top, frame.bottom):
        parts.append(_text(frame.right + 6, at + 4, name, color=color))
    return _svg(axes.width, axes.height, parts, axes.title)


def histogram(values: np.ndarray, axes: Axes, *, limits: tuple[float, float] | None = None, n_bins: int = 60) -> str:
    """Distribution of values (...), 0 and NaN left out, with the median marked.

    Without ``limits`` from percentile 0.5 to 99.5, but no further from the middle half than ``_TAIL`` times its width:
    a few voxels far out would leave the others one bar.
    """
    known = np.asarray(values, dtype=np.float64).ravel()
    known = known[np.isfinite(known) & (known != 0)]
    if limits is None and known.size:
        lowest, first, third, highest = np.percentile(known, [0.5, 25, 75, 99.5])
        reach = _TAIL * (third - first)
        low, high = (max(lowest, first - reach), min(highest, third + reach)) if reach > 0 else (lowest, highest)
    else:
        low, high = limits or (0.0, 1.0)
    high = high if high > low else low + 1
    counts, edges = np.histogram(known, bins=n_bins, range=(low, high))
    frame = _Frame(axes, (float(low), float(high)), (0.0, float(max(counts.max(initial=0), 1)) * 1.05))
    outline = [f"M{frame.across(low):.1f},{frame.bottom:.1f}"]
    for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        at = frame.up(float(count))
        outline.append(f"L{frame.across(left):.1f},{at:.1f}L{frame.across(right):.1f},{at:.1f}")
    outline.append(f"L{frame.across(high):.1f},{frame.bottom:.1f}Z")
    parts = [*frame.drawn(), f'<path d="{"".join(outline)}" fill="{COLORS[0]}" fill-opacity=".75"/>']
    if known.size:
        middle = float(np.median(known))
        at = frame.across(min(max(middle, low), high))
        parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{frame.top}" y2="{frame.bottom}" stroke="{COLORS[4]}" '
            'stroke-width="1.5" stroke-dasharray="4 3"/>'
        )
        side = "end" if at > (frame.left + frame.right) / 2 else "start"
        parts.append(_text(at + (-5 if side == "end" else 5), frame.top + 11, f"median {middle:.3g}", anchor=side))
    return _svg(axes.width, axes.height, parts, axes.title)


def ranges_chart(rows: Sequence[tuple[str, float, float, float]], axes: Axes) -> str:
    """A line for each row from a low to a high value, with a dot between; names at the left.

    Parameters
    ----------
    rows : name, low, middle and high value; one that is not finite is left out
    axes : ``x`` and ``title``; the height follows the rows
    """
    known = [row for row in rows if np.isfinite(row[1:]).all()]
    names = [_shortened(name) for name, *_ in known]
    axes = replace(axes, height=24 + 18 * max(len(known), 1) + 46)
    low, high = (min((row[1] for row in known), default=0.0), max((row[3] for row in known), default=1.0))
    frame = _Frame(axes, (min(low, 0.0), high + 0.02 * abs(high - low)), (0.0, 1.0))
    frame.left = 24 + 7 * max(map(len, names), default=0)
    parts = []
    for value in _ticks(*frame.x):
        at = frame.across(value)
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{frame.top}" y2="{frame.bottom}" stroke="{_LINE}"/>')
        parts.append(_text(at, frame.bottom + 18, f"{value:g}", anchor="middle"))
    for k, (name, (whole, *values)) in enumerate(zip(names, known, strict=True)):
        y = frame.top + 18 * k + 9
        left, middle, right = map(frame.across, values)
        said = escape(f"{whole}: {values[1]:.3g}, from {values[0]:.3g} to {values[2]:.3g}")
        parts.append(
            f'<g><title>{said}</title><line x1="{left:.1f}" x2="{right:.1f}" y1="{y}" y2="{y}" stroke="{COLORS[0]}" '
            f'stroke-width="3" stroke-opacity=".45"/><circle cx="{middle:.1f}" cy="{y}" r="4" fill="{COLORS[0]}"/></g>'
        )
        parts.append(_text(frame.left - 8, y + 4, name, anchor="end"))
    if axes.title:
        parts.append(_text(8, 14, axes.title, color=_INK, weight=600))
    parts.append(_text((frame.left + frame.right) / 2, frame.bottom + 38, axes.x, anchor="middle"))
    return _svg(axes.width, axes.height, parts, axes.title or axes.x)


def _shortened(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"{name[: most - 7]}...{name[-4:]}"


def directions_chart(shells: Mapping[float, np.ndarray]) -> str:
    """Gradient directions of each shell on the upper half of the sphere, in an equal-area projection.

    A line has two ends; the one that the file names is filled where it is the upper one, hollow where it is the lower.

    Parameters
    ----------
    shells : (n, 3) unit vectors in the scanner frame, by b-value
    """
    side, gap = 200, 40
    n_columns = min(max(len(shells), 1), 3)
    parts = []
    for k, (b, directions) in enumerate(shells.items()):
        row, column = divmod(k, n_columns)
        x0, y0 = column * (side + gap) + gap / 2 + side / 2, row * (side + 64) + 34 + side / 2
        radius, color = side / 2 - 8, COLORS[k % len(COLORS)]
        for degrees in (30, 60, 90):
            r = radius * np.sqrt(1 - np.cos(np.radians(degrees)))
            parts.append(f'<circle cx="{x0}" cy="{y0}" r="{r:.1f}" fill="none" stroke="{_LINE}"/>')
        for x, y, z in np.atleast_2d(directions):
            up = z >= 0
            x, y, z = (x, y, z) if up else (-x, -y, -z)
            length = max(float(np.hypot(x, y)), 1e-12)
            r = radius * np.sqrt(max(1 - min(z, 1.0), 0.0))
            fill = color if up else "none"
            parts.append(
                f'<circle cx="{x0 + r * x / length:.1f}" cy="{y0 - r * y / length:.1f}" r="3.4" fill="{fill}" '
                f'stroke="{color}" stroke-width="1.4"/>'
            )
        parts.append(
            _text(x0, y0 - side / 2 - 12, f"b = {b:.0f}: {len(directions)} volumes", anchor="middle", color=_INK)
        )
        for letter, dx, dy in (("R", 1, 0), ("L", -1, 0), ("A", 0, -1), ("P", 0, 1)):
            parts.append(_text(x0 + dx * (radius + 10), y0 + dy * (radius + 9) + 4, letter, anchor="middle"))
    n_rows = -(-max(len(shells), 1) // n_columns)
    return _svg(n_columns * (side + gap), n_rows * (side + 64), parts, "Gradient directions")


def response_curves(response: Response) -> tuple[np.ndarray, list[np.ndarray]]:
    """Angles (46,) to the fibre, degrees, and of each tissue its signal (n_shells, 46) there."""
    angles = np.linspace(0, 90, 46)
    turned = np.radians(angles)
    around = np.column_stack([np.sin(turned), np.zeros_like(turned), np.cos(turned)])
    curves = []
    for table in response.coefs:
        degrees = np.arange(0, 2 * table.shape[1], 2)
        curves.append(table @ sh_matrix(around, int(degrees[-1]))[:, degrees * (degrees + 1) // 2].T)
    return angles, curves


def response_charts(response: Response, names: Mapping[str, str]) -> dict[str, str]:
    """Signal against the angle to the fibre, a chart for each tissue that has directions; ``names`` of tissues."""
    angles, curves = response_curves(response)
    charts = {}
    for tissue, shells in zip(response.tissues, curves, strict=True):
        if np.ptp(shells, axis=1).max() > 0:
            lines = [Line(f"b = {b:.0f}" if b == b else "b = ?", angles, y) for b, y in
                     zip(response.bvals, shells, strict=True)]  # fmt: skip
            title = f"{names.get(tissue, tissue)}: signal by direction"
            charts[tissue] = line_chart(lines, Axes("degrees from the fibre", "signal", title))
    return charts


def carpet(matrix: np.ndarray, axes: Axes, *, limit: float, groups: Sequence[tuple[str, int]] = ()) -> str:
    """A matrix as coloured cells: blue below 0, clear at 0, red above.

    Parameters
    ----------
    matrix : (n_rows, n_columns) float, the first row at the bottom; NaN stays blank
    limit : of the colours, to both sides
    groups : names of the columns' groups, and how many columns each has
    """
    from PIL import Image

    n_rows, n_columns = matrix.shape
    known = np.nan_to_num(matrix)[::-1]
    colors = np.where(known[..., None] < 0, (0, 114, 178), (213, 94, 0)).astype(np.uint8)
    alpha = np.clip(255 * np.abs(known) / limit, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([colors, alpha])).save(buffer, format="PNG")
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    frame = _Frame(axes, (0.0, float(n_columns)), (0.0, float(n_rows)))
    parts = [
        f'<image href="{source}" x="{frame.left}" y="{frame.top}" width="{frame.right - frame.left}" '
        f'height="{frame.bottom - frame.top}" preserveAspectRatio="none" style="image-rendering:pixelated"/>',
        *frame.drawn(),
    ]
    start = 0
    for name, count in groups:
        at = frame.across(start + count)
        middle = frame.across(start + count / 2)
        parts.append(_text(middle, frame.top - 5, name, anchor="middle"))
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{frame.top}" y2="{frame.bottom}" stroke="{_INK}"/>')
        start += count
    return _svg(axes.width, axes.height, parts, axes.title)


class _Frame:
    """The rectangle of a chart: numbers to pixels, ticks and names."""

    def __init__(self, axes: Axes, x: tuple[float, float], y: tuple[float, float], margin: int = 18) -> None:
        self.axes, self.x = axes, x if x[1] > x[0] else (x[0], x[0] + 1)
        self.y = y if y[1] > y[0] else (y[0], y[0] + 1)
        self.left, self.top = 62, 24
        self.right, self.bottom = axes.width - margin, axes.height - 46

    def across(self, value: float) -> float:
        return self.left + (value - self.x[0]) / (self.x[1] - self.x[0]) * (self.right - self.left)

    def up(self, value: float) -> float:
        return self.bottom - (value - self.y[0]) / (self.y[1] - self.y[0]) * (self.bottom - self.top)

    def _marks(self, ends: tuple[float, float]) -> list[float]:
        marks = _ticks(*ends)
        return [value for value in marks if value == int(value)] if self.axes.is_whole else marks

    def drawn(self) -> list[str]:
        parts = []
        for value in self._marks(self.x):
            at = self.across(value)
            parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{self.bottom}" y2="{self.bottom + 4}" stroke="{_SOFT}"/>'
            )
            parts.append(_text(at, self.bottom + 18, f"{value:g}", anchor="middle"))
        marks = _powers(*self.y) if self.axes.is_log else [(value, f"{value:g}") for value in self._marks(self.y)]
        for value, name in marks:
            at = self.up(value)
            parts.append(f'<line x1="{self.left}" x2="{self.right}" y1="{at:.1f}" y2="{at:.1f}" stroke="{_LINE}"/>')
            parts.append(_text(self.left - 6, at + 4, name, anchor="end"))
        parts.append(
            f'<line x1="{self.left}" x2="{self.right}" y1="{self.bottom}" y2="{self.bottom}" stroke="{_SOFT}"/>'
        )
        if self.axes.title:
            parts.append(_text(self.left, 14, self.axes.title, color=_INK, weight=600))
        parts.append(_text((self.left + self.right) / 2, self.bottom + 38, self.axes.x, anchor="middle"))
        if self.axes.y:
            middle = (self.top + self.bottom) / 2
            parts.append(
                f'<text transform="translate(14 {middle:.0f}) rotate(-90)" text-anchor="middle" fill="{_SOFT}">'
                f"{escape(self.axes.y)}</text>"
            )
        return parts


def _ticks(low: float, high: float) -> list[float]:
    """Up to seven round numbers between two others."""
    span = high - low
    step = 10.0 ** np.floor(np.log10(span / 4))
    step *= next((m for m in (1, 2, 2.5, 5, 10) if span / (m * step) <= 6), 10)
    return [round(float(v), 12) + 0.0 for v in np.arange(np.ceil(low / step - 1e-9) * step, high + 1e-9 * span, step)]


def _powers(low: float, high: float) -> list[tuple[float, str]]:
    """Logarithms of round numbers between two, and the numbers."""
    steps = (1,) if high - low > 2.5 else (1, 2, 5)
    found = [
        (float(np.log10(m)) + e, m * 10.0**e)
        for e in range(int(np.floor(low)) - 1, int(np.ceil(high)) + 1)
        for m in steps
    ]
    return [(at, f"{value:g}") for at, value in found if low <= at <= high]


def _spread(
    ends: list[tuple[float, str, str]], apart: float, top: float, bottom: float
) -> list[tuple[float, str, str]]:
    """Names moved so that none lies on another."""
    placed: list[tuple[float, str, str]] = []
    for at, name, color in sorted(ends):
        at = max(at, top, placed[-1][0] + apart if placed else top)
        placed.append((at, name, color))
    over = placed[-1][0] - bottom if placed else 0
    return [(at - max(over, 0), name, color) for at, name, color in placed]


def _text(x: float, y: float, text: str, *, anchor: str = "start", color: str = _SOFT, weight: int = 400) -> str:
    bold = f' font-weight="{weight}"' if weight != 400 else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}"{bold}>{escape(text)}</text>'


def _svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{escape(title)}" '
        f'font-family="system-ui, sans-serif" font-size="12">{"".join(parts)}</svg>'
    )
