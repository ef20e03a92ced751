"""What the page's own buttons do, and the viewer's colours, ranges and common crosshair."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from arcuate.report import write_report


@pytest.fixture(scope="module")
def page_path(lobe_run: Callable, chromium: Any) -> Path:
    """A page whose only FODs lie to the right, in front and on top."""
    return Path(write_report(lobe_run("LPS")))


def test_range_and_colours_of_a_map_are_chosen_and_taken_back(open_page: Callable, page_path: Path) -> None:
    opened = open_page(page_path)
    opened.wait()
    tab = opened.tab
    tab.select_option("#maps-below", label="FA")
    first = opened.pixels("maps")
    assert tab.locator("#maps-low").input_value() == "0"
    assert tab.locator("#maps-high").input_value() == "1"
    tab.locator("#maps-high").fill("0.25")
    tab.locator("#maps-high").press("Enter")
    brighter = opened.wait_for_change("maps", first)
    assert brighter.mean() > first.mean() + 10
    assert "FA  0" in tab.locator("#maps-scales").inner_text()
    assert "0.25" in tab.locator("#maps-scales").inner_text()
    tab.select_option("#maps-colors", "viridis")
    colored = opened.wait_for_change("maps", brighter)
    assert np.ptp(colored, axis=-1).mean() > 5 * np.ptp(first, axis=-1).mean() + 1
    tab.click("#maps-reset")
    back = opened.wait_for_change("maps", colored)
    np.testing.assert_allclose(back, first, atol=2)
    assert opened.complaints == []


def test_one_crosshair_moves_both_views(open_page: Callable, page_path: Path) -> None:
    opened = open_page(page_path)
    opened.wait()
    tab = opened.tab
    assert tab.locator("#glyphs-panel .sides i").count() == 1, "its place is marked from the start"
    at_first = opened.run("[arcuateViewer.glyphs.slice.index, Math.round(arcuateViewer.maps.voxel[2])]")
    assert at_first[0] == at_first[1], "both views begin with one slice"
    n_slices = opened.run("arcuateViewer.glyphs.data.slices.filter(s => s.plane === 'axial').length")
    assert n_slices > 1
    opened.run("arcuateViewer.maps.setSlice('axial', arcuateViewer.glyphs.data.slices.at(0).index)")
    opened.until("arcuateViewer.glyphs.slice.index === arcuateViewer.glyphs.data.slices.at(0).index")
    assert tab.locator("#glyphs-slice").input_value() == "0"
    tab.select_option("#glyphs-slice", "1")
    opened.until("Math.round(arcuateViewer.maps.voxel[2]) === arcuateViewer.glyphs.data.slices[1].index")
    # a click right of the middle, where the eye sees the patient's right
    box = tab.locator("#glyphs-canvas").bounding_box()
    before = opened.run("arcuateViewer.maps.voxel[0]")
    opened.run("arcuateViewer.glyphs.reset()")
    tab.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"])
    opened.until(f"arcuateViewer.maps.voxel[0] !== {before}")
    place = "glyphs.point.map((v, k) => v * glyphs.data.spacing[k])"
    seen = opened.run(f"(({{ glyphs }}) => glyphs.camera.project({place}))(arcuateViewer)")
    ratio = opened.run("devicePixelRatio")
    voxel = opened.run("arcuateViewer.glyphs.camera.zoom")
    assert abs(seen[0] / ratio - 0.25 * box["width"]) <= voxel, "the mark is where the click was"
    assert abs(seen[1] / ratio) <= voxel
    kept = opened.run("[...arcuateViewer.maps.voxel]")
    tab.uncheck("#viewer-linked")
    assert tab.locator("#glyphs-panel .sides i").count() in {0, 1}
    tab.select_option("#glyphs-slice", "0")
    tab.wait_for_timeout(300)
    assert opened.run("[...arcuateViewer.maps.voxel]") == kept, "apart again"
    assert opened.complaints == []


def test_a_slider_uncovers_the_other_picture(open_page: Callable, page_path: Path) -> None:
    opened = open_page(page_path)
    opened.wait()
    figure = opened.tab.locator("#mask figure").first
    figure.scroll_into_view_if_needed()

    def orange(at: str) -> int:
        figure.locator(".slide input").fill(at)
        shown = Image.open(io.BytesIO(figure.locator(".picture").screenshot())).convert("RGB")
        pixels = np.asarray(shown).astype(int)
        return int(((pixels[..., 0] > 200) & (pixels[..., 2] < 60) & (pixels[..., 1] > 120)).sum())

    whole, half, none = orange("0"), orange("50"), orange("100")
    assert whole > half > none + 30, "the outline is seen as far as the slider lets it"


def test_pictures_and_charts_are_enlarged_and_saved(open_page: Callable, page_path: Path) -> None:
    opened = open_page(page_path, accept_downloads=True)
    opened.wait()
    tab = opened.tab
    picture = tab.locator("#tensor .gallery figure").first
    picture.get_by_role("button", name="Enlarge").click()
    assert tab.locator("#enlarged").is_visible()
    assert tab.locator("#enlarged img").bounding_box()["height"] > 500
    tab.locator("#enlarged").get_by_role("button", name="Close").click()
    assert not tab.locator("#enlarged").is_visible()

    def saved(button: Any) -> tuple[str, bytes]:
        with tab.expect_download() as waiting:
            button.click()
        return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()

    name, content = saved(picture.get_by_role("button", name="PNG"))
    assert name == "sub-made_fa.png"
    size = picture.locator("img").evaluate("(image) => [image.naturalWidth, image.naturalHeight]")
    assert Image.open(io.BytesIO(content)).size == tuple(size)
    chart = tab.locator("#tensor .charts figure").first
    name, content = saved(chart.get_by_role("button", name="SVG"))
    assert name == "sub-made_fa_histogram.svg"
    assert ElementTree.fromstring(content).tag.endswith("svg")
    _, content = saved(chart.get_by_role("button", name="PNG"))
    image = Image.open(io.BytesIO(content)).convert("RGB")
    assert image.size == (900, 570)
    assert image.getpixel((2, 2)) == (255, 255, 255)
    assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 50, "the chart is in it"
    assert opened.complaints == []
    assert opened.foreign == [] or all(address.startswith("blob:") for address in opened.foreign)


def test_methods_and_bibtex_are_copied(open_page: Callable, page_path: Path) -> None:
    opened = open_page(page_path, permissions=["clipboard-read", "clipboard-write"])
    opened.wait()
    button = opened.tab.get_by_role("button", name="Copy the BibTeX")
    button.click()
    opened.until("document.querySelector('[data-of=methods-bibtex]').textContent !== 'Copy the BibTeX'")
    assert "@software{arcuate" in opened.run("getSelection().toString()") or "Copied" in str(
        opened.run("document.querySelector('[data-of=methods-bibtex]').textContent")
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone_shows_it_without_scrolling_sideways(open_page: Callable, page_path: Path, scheme: str) -> None:
    opened = open_page(page_path, color_scheme=scheme)
    opened.tab.set_viewport_size({"width": 400, "height": 800})
    opened.wait()
    assert opened.run("document.documentElement.scrollWidth") <= 400
    widths = opened.run("[...document.querySelectorAll('.gallery img')].map(i => i.getBoundingClientRect().width)")
    assert min(widths) > 300, "pictures take the width that there is"
    if scheme == "dark":
        boxes = opened.run(
            "[...document.querySelectorAll('figure, figure *')].map(e => getComputedStyle(e).backgroundColor)"
        )
        assert "rgb(255, 255, 255)" not in boxes, "no white box"
