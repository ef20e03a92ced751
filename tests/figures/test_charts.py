"""Charts as SVG: well formed, numbers at their places, colours that follow the page."""

from __future__ import annotations

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from arcuate.figures.charts import Axes, Line, carpet, directions_chart, histogram, line_chart

NAME = "{http://www.w3.org/2000/svg}"


def _read(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def test_a_line_goes_through_its_numbers() -> None:
    x = np.array([0.0, 45, 90])
    root = _read(line_chart([Line("b = 1000", x, np.array([10.0, 20, 40]))], Axes("angle", "signal", "response")))
    (line,) = root.iter(f"{NAME}polyline")
    points = np.array([pair.split(",") for pair in line.attrib["points"].split()], dtype=float)
    assert np.diff(points[:, 0])[0] == pytest.approx(np.diff(points[:, 0])[1])
    rise = -np.diff(points[:, 1])
    assert rise[1] / rise[0] == pytest.approx(2, abs=0.02)
    texts = [t.text for t in root.iter(f"{NAME}text")]
    assert {"b = 1000", "angle", "signal", "response", "0", "40"} <= set(texts)


def test_a_logarithmic_axis_leaves_out_what_has_no_logarithm() -> None:
    lines = [Line("csf", np.array([0.0, 1000, 2000]), np.array([1000.0, 10, 0]))]
    root = _read(line_chart(lines, Axes(is_log=True, has_points=True)))
    assert len(list(root.iter(f"{NAME}circle"))) == 2


def test_a_histogram_counts_what_is_known_and_marks_the_median() -> None:
    values = np.concatenate([np.full(30, 1.0), np.full(10, 2.0), np.zeros(500), [np.nan]])
    svg = histogram(values, Axes("FA", "voxels"), limits=(0.5, 2.5), n_bins=2)
    path = re.search(r'<path d="([^"]*)"', svg)
    assert path is not None
    heights = [float(h) for h in re.findall(r"L[\d.]+,([\d.]+)", path[1])]
    bottom = float(re.findall(r"M[\d.]+,([\d.]+)", path[1])[0])
    assert (bottom - heights[0]) / (bottom - heights[2]) == pytest.approx(3, abs=0.05)
    assert "median 1" in svg


def test_a_few_voxels_far_out_do_not_leave_a_histogram_one_bar() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(0.02, 0.005, 980), np.full(20, 1.3)])
    heights = np.array(
        [float(h) for h in re.findall(r"L[\d.]+,([\d.]+)", histogram(values, Axes("residual", "voxels")))]
    )
    assert len(np.unique(heights)) > 12
    histogram(np.full(5, 2.0), Axes("all alike", "voxels"))


def test_directions_that_point_down_are_hollow_and_lie_opposite() -> None:
    root = _read(directions_chart({1000.0: np.array([[0.6, 0, 0.8], [-0.6, 0, -0.8], [0, 0, 1.0]])}))
    dots = [c.attrib for c in root.iter(f"{NAME}circle") if c.attrib["r"] == "3.4"]
    assert [d["fill"] == "none" for d in dots] == [False, True, False]
    assert (dots[0]["cx"], dots[0]["cy"]) == (dots[1]["cx"], dots[1]["cy"]), "one line, two ends"
    assert float(dots[0]["cx"]) > float(dots[2]["cx"]), "right is right"


def test_a_carpet_shows_a_dropped_slice_at_its_place() -> None:
    matrix = np.zeros((5, 8))
    matrix[1, 6] = -0.4
    svg = carpet(matrix, Axes("volumes", "slices"), limit=0.25, groups=[("b = 0", 2), ("b = 1000", 6)])
    (source,) = (i.attrib["href"] for i in _read(svg).iter(f"{NAME}image"))
    cells = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))))
    assert cells.shape == (5, 8, 4)
    assert tuple(cells[3, 6]) == (0, 114, 178, 255), "second from the bottom, and blue"
    assert cells[..., 3].astype(int).sum() == 255, "all else is clear"
    assert "b = 1000" in svg


def test_colours_follow_the_page_and_have_a_value_of_their_own() -> None:
    svg = histogram(np.arange(1.0, 50), Axes("FA", "voxels", "title <&>"))
    assert "var(--ink, #" in svg
    assert "title &lt;&amp;&gt;" in svg
    _read(svg)
