"""Reports in a headless browser: they start without complaint, ask nobody for anything, and what is moved is seen."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

NO_WEBGL = """
const original = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  return kind === "webgl2" ? null : original.call(this, kind, ...rest);
};
"""


@pytest.fixture(scope="module")
def human_report(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Report of the inner part of two slices of a human scan, multi-tissue: without a GPU the whole takes minutes."""
    folder, out = data_dir / "mdt_b1k_b2k", tmp_path_factory.mktemp("human")
    if not folder.is_dir():
        pytest.skip(f"the human scan is not at {folder}")
    scan, mask = out / "sub-mdt_dwi.nii.gz", out / "sub-mdt_mask.nii.gz"
    for path in (scan, mask):
        nib.save(nib.load(folder / path.name).slicer[32:72, 32:72], path)  # type: ignore[attr-defined]
    for ending in ("bval", "bvec"):
        shutil.copy(folder / f"sub-mdt_dwi.{ending}", out)
    steps = ["--denoise", "none", "--steps", "dti,response,fod,peaks"]
    command = [sys.executable, "-m", "arcuate", "run", str(scan), "--mask", str(mask), "--out", str(out), *steps]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / "sub-mdt.html"


@pytest.fixture(params=["phantom", "human"])
def report(request: pytest.FixtureRequest, chromium: Any) -> Path:
    if request.param == "human":
        return Path(request.getfixturevalue("human_report"))
    return Path(request.getfixturevalue("finished")) / "sub-small.html"


# what the controls do is the same code for every scan: the second one's pixels, drawn without a GPU, in the full count
FIRST = pytest.mark.parametrize("report", ["phantom", pytest.param("human", marks=pytest.mark.long)], indirect=True)


def test_it_starts_without_complaint_and_asks_nobody(
    open_page: Callable, report: Path, record_property: Callable
) -> None:
    opened = open_page(report)
    ready, size = opened.wait(), report.stat().st_size / 1e6
    record_property("ready_ms", ready)
    record_property("megabytes", size)
    print(f"{report.name}: {size:.2f} MB, ready after {ready:.0f} ms")
    for panel in ("maps", "glyphs"):
        picture = opened.pixels(panel)
        assert (picture.max(axis=-1) > 60).mean() > 0.02, f"the {panel} are drawn"
    assert opened.run("document.querySelectorAll('.stage .note').length") == 0
    opened.tab.wait_for_timeout(300)
    assert opened.complaints == []
    assert opened.foreign == []
    assert opened.addresses[0] == opened.address, "the browser tells of every address, the page's own first"
    assert size < 15


@FIRST
def test_pixels_of_the_maps_follow_what_is_moved(open_page: Callable, report: Path) -> None:
    opened = open_page(report)
    opened.wait()
    tab = opened.tab
    before = opened.pixels("maps")
    np.testing.assert_array_equal(opened.pixels("maps"), before, err_msg="nothing was moved")
    tab.locator("#maps-slice").focus()
    first = tab.locator("#maps-slice").input_value()
    tab.keyboard.press("ArrowRight" if first == "0" else "ArrowLeft")
    before = opened.wait_for_change("maps", before)
    assert tab.locator("#maps-slice").input_value() != first
    tab.select_option("#maps-below", label="FA")
    before = opened.wait_for_change("maps", before)
    tab.select_option("#maps-above", label="MD (1e-3 mm²/s)")
    before = opened.wait_for_change("maps", before)
    grey = np.ptp(before, axis=-1)
    tab.locator("#maps-opacity").fill("0")
    after = opened.wait_for_change("maps", before)
    assert np.ptp(after, axis=-1).mean() < 0.5 * grey.mean(), "without the overlay the map below is grey"
    tab.locator("#maps-opacity").fill("100")
    before = opened.wait_for_change("maps", after)
    tab.check("#viewer-radiological")
    opened.wait_for_change("maps", before)
    assert "mm (right, front, top): FA" in tab.locator("#maps-status").inner_text()
    opened.run(
        "(n => { n.scene.crosshairPos = n.mm2frac([-0.3, -0.3, -0.3]); n.drawScene(); n.createOnLocationChange(); })"
        "(arcuateViewer.maps.niivue)"
    )
    opened.until("document.getElementById('maps-status').textContent.startsWith('0, 0, 0 mm')")  # and not "-0"
    assert opened.complaints == []


@FIRST
def test_pixels_of_the_glyphs_follow_mouse_keys_and_controls(open_page: Callable, report: Path) -> None:
    opened = open_page(report)
    opened.wait()
    tab = opened.tab
    before = opened.pixels("glyphs")
    np.testing.assert_array_equal(opened.pixels("glyphs"), before, err_msg="nothing was moved")
    box = tab.locator("#glyphs-canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x + 60, y + 25, steps=4)
    tab.mouse.up()
    before = opened.wait_for_change("glyphs", before)
    tab.locator("#glyphs-canvas").focus()
    for key in ("ArrowLeft", "ArrowUp", "Shift+ArrowRight", "+", "-", "0"):
        tab.keyboard.press(key)
        before = opened.wait_for_change("glyphs", before)
    tab.mouse.wheel(0, -300)
    before = opened.wait_for_change("glyphs", before)
    slice_before = tab.locator("#glyphs-slice").input_value()
    tab.keyboard.press("PageUp" if slice_before == "0" else "PageDown")
    before = opened.wait_for_change("glyphs", before)
    assert tab.locator("#glyphs-slice").input_value() != slice_before
    tab.locator("#glyphs-size").fill("140")
    before = opened.wait_for_change("glyphs", before)
    tab.check("#glyphs-normalised")
    before = opened.wait_for_change("glyphs", before)
    tab.uncheck("#glyphs-plane")
    before = opened.wait_for_change("glyphs", before)
    tab.click("#glyphs-reset")
    before = opened.pixels("glyphs")
    tab.check("#viewer-radiological")
    opened.wait_for_change("glyphs", before)
    assert "radiological" in str(tab.locator("#glyphs-canvas").get_attribute("aria-label"))
    assert opened.complaints == []


@FIRST
def test_coarse_while_it_moves_and_fine_when_it_rests(open_page: Callable, report: Path) -> None:
    opened = open_page(report)
    opened.wait()
    opened.run("arcuateViewer.glyphs.settle()")
    level = "arcuateViewer.glyphs.drawn().half.length / 3"
    assert opened.run(level) == 321
    opened.run("arcuateViewer.glyphs.refresh()")
    opened.until(f"{level} === 81")
    opened.until(f"{level} === 321")


@FIRST
def test_every_control_is_reached_by_tab_and_has_a_name(open_page: Callable, report: Path) -> None:
    opened = open_page(report)
    opened.wait()
    opened.tab.locator("h1").click()
    reached = set()
    for _ in range(200):  # more than the page can hold
        opened.tab.keyboard.press("Tab")
        reached.add(opened.run("document.activeElement.id"))
    wanted = opened.run(
        "[...document.querySelectorAll('#viewer select, #viewer input, #viewer button')]"
        ".filter(e => !e.disabled).map(e => e.id)"  # colours and range of a map in colours are not to be chosen
    )
    # of two radio buttons the Tab key reaches the one that is chosen
    assert {*wanted, "maps-canvas", "glyphs-canvas"} - {"viewer-radiological"} <= reached
    unnamed = opened.run(
        """() => [...document.querySelectorAll("#viewer select, #viewer input, #viewer canvas, #viewer button")]
          .filter((e) => !(e.labels?.[0]?.textContent ?? e.textContent).trim() && !e.getAttribute("aria-label"))
          .map((e) => e.id)"""
    )
    assert unnamed == []


@FIRST
@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_light_and_dark(open_page: Callable, report: Path, scheme: str, is_dark: bool) -> None:
    opened = open_page(report, color_scheme=scheme)
    paper = opened.run("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in paper.removeprefix("rgb(").removesuffix(")").split(",")) / 3
    assert (brightness < 64) == is_dark


def test_without_webgl_the_still_pictures_stand_in(open_page: Callable, report: Path) -> None:
    opened = open_page(report, script=NO_WEBGL)
    opened.wait()
    notes = opened.tab.locator(".stage .note").all_inner_texts()
    assert len(notes) == 2
    assert all("WebGL" in note for note in notes)
    assert opened.run("[...document.querySelectorAll('.stage img')].every((image) => image.alt.length > 20)")
    assert opened.run("document.querySelectorAll('.stage img').length") == 2
    assert opened.run("[...document.querySelectorAll('#maps-panel select')].every((control) => control.disabled)")
    assert opened.foreign == []
