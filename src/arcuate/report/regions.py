"""The regions of a run in its report: their outlines on the scan, by which one sees whether the atlas lies right."""

from __future__ import annotations

from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.figures.charts import Axes, ranges_chart
from arcuate.figures.mosaic import Layout, draw_mosaic
from arcuate.figures.panels import Panel, robust_limits
from arcuate.report.arrays import Arrays
from arcuate.report.section import Picture, Section, Table
from arcuate.report.styles import STYLES

_COLORS = np.array(  # Okabe and Ito's
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)]
)
# shown where the run made them
_MAPS = {
    "fa": ("tensor", "fa"), "md": ("tensor", "md"), "icvf": ("noddi", "icvf"), "odi": ("noddi", "odi"),
    "isovf": ("noddi", "isovf"),
}  # fmt: skip
_ROWS = {"sagittal": 0, "coronal": 1, "axial": 2}
_MOST = 40  # regions in the table and the charts of the page


def draw_regions(arrays: Arrays, section: Section) -> None:
    """Outlines of the atlas on the anatomy, with and without, and the means of the largest regions."""
    atlas = next((arrays.subject.path_of(file) for file in arrays.subject.files("atlas")), None)
    if atlas is None or arrays.affine is None:
        return
    from arcuate.io import NiftiVolumeResource

    labels = np.asarray(NiftiVolumeResource(atlas).get_array())
    labels = labels if labels.ndim == 3 else np.where(labels.max(-1) > 0.25, labels.argmax(-1) + 1, 0)
    below = arrays.anatomy
    if below is not None:
        low, high = robust_limits(below)
        grey = np.repeat(np.clip((below - low) / (high - low), 0, 1)[..., None], 3, axis=-1).astype(np.float32)
        for plane in arrays.planes:
            pair = [_picture(arrays, color, plane) for color in (grey, outlined(grey, labels, arrays.affine, plane))]
            section.pictures.append(
                Picture(
                    f"{plane.capitalize()} slices with the outlines of the regions.",
                    f"Outlines of the regions on {arrays.anatomy_name}, {plane}: they should follow the tissue. The "
                    "slider takes them away.",
                    f"regions_{plane}",
                    png=pair[0],
                    after=pair[1],
                    sides=("without", "with the regions"),
                )
            )
    table = next((arrays.subject.path_of(file) for file in arrays.subject.files("table", "regions")), None)
    if table is not None:
        _draw_largest(table, section)


def outlined(grey: np.ndarray, labels: np.ndarray, affine: np.ndarray, plane: str) -> np.ndarray:
    """Colours (x, y, z, 3) of an image with the borders of labels (x, y, z) between neighbours in a plane."""
    through = int(np.argmax(np.abs(affine[_ROWS[plane], :3])))
    border = np.zeros(labels.shape, dtype=bool)
    for axis in {0, 1, 2} - {through}:
        border |= labels != np.roll(labels, 1, axis)
    border &= labels > 0
    color = grey.copy()
    color[border] = _COLORS[labels[border].astype(np.int64) % len(_COLORS)] / 255
    return color


def _picture(arrays: Arrays, color: np.ndarray, plane: str) -> bytes:
    assert arrays.affine is not None
    return draw_mosaic(
        Panel(color, "Regions"), arrays.affine, Layout(plane), inside=arrays.inside, box=arrays.box
    ).png()


def _draw_largest(path: Path, section: Section) -> None:
    """The largest regions as a table of means and, for each map, a chart of their means and spread."""
    from arcuate.io.tables import read_table

    rows = list(read_table(path).rows)
    by_place = {(row["index"], row["map"]): row for row in rows}
    regions = {row["index"]: (str(row["region"]), float(row["region_voxels"] or 0)) for row in rows}
    largest = sorted(regions, key=lambda index: -regions[index][1])[:_MOST]
    styles = {name: STYLES[key] for name, key in _MAPS.items() if any(row["map"] == name for row in rows)}

    def values(index: Any, name: str, *columns: str) -> list[float]:
        row = by_place.get((index, name), {})
        return [styles[name].factor * float(nan if row.get(c) is None else row[c]) for c in columns]

    lines = []
    for i in largest:
        means = [values(i, name, "mean")[0] for name in styles]
        lines.append((regions[i][0], f"{regions[i][1]:.0f}", *("" if m != m else f"{m:.3g}" for m in means)))
    caption = f"Means of the {len(largest)} largest of {len(regions)} regions; all of them are in {path.name}."
    section.tables.append(Table(caption, ("region", "voxels", *(s.label for s in styles.values())), lines))
    for name, style in styles.items():
        shown = [(regions[i][0], *values(i, name, "p05", "mean", "p95")) for i in largest]
        chart = ranges_chart(shown, Axes(style.label, title=f"{style.label} in the regions", width=560))  # type: ignore[arg-type]
        section.charts.append(
            Picture(f"{style.label} of the {len(largest)} largest regions.", f"{style.label}: mean (dot), and from the "
                    "5th to the 95th percentile of the voxels (line).", f"regions_{name}", svg=chart)
        )  # fmt: skip
