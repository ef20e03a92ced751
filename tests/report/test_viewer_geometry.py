"""What the viewer draws is where the patient has it: radii, directions, sides; checked in the browser itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from arcuate.figures.views import Canonical, View
from arcuate.numerics.sh import lmax_of, sh_matrix
from arcuate.report import SubjectFiles, page, write_report

STORED = [("RAS", 0.0), ("LAS", 0.0), ("LPS", 25.0), ("PSR", 0.0), ("ASL", -20.0)]

TAKE_DRAWN = """() => {
  const { places, rows, shapes, nPairs, half, unit, frame } = arcuateViewer.glyphs.drawn();
  const n = Math.min(places.length / 3, 60);
  const every = Math.max(1, Math.floor(places.length / 3 / n));
  const glyphs = Array.from({ length: n }, (_, i) => i * every);
  return {
    unit, frame, half: Array.from(half),
    places: glyphs.map((g) => Array.from(places.subarray(3 * g, 3 * g + 3))),
    gains: glyphs.map((g) => rows[2 * g + 1]),
    shapes: glyphs.map((g) => Array.from(shapes.subarray(4 * nPairs * rows[2 * g], 4 * nPairs * (rows[2 * g] + 1)))),
  };
}"""


@pytest.fixture
def quick_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of the viewer alone, without the still pictures."""
    monkeypatch.setattr(page, "sections_of", lambda *_: [])


def _drawn(opened: Any) -> dict[str, np.ndarray]:
    """Glyphs as they were handed to WebGL."""
    opened.run("arcuateViewer.glyphs.settle()")
    found = {name: np.array(values) for name, values in opened.run(TAKE_DRAWN).items()}
    found["half"] = found["half"].reshape(-1, 3)
    found["shapes"] = found["shapes"].reshape(len(found["places"]), -1, 4)
    return found


def _stored_coefs(subject: SubjectFiles, places: np.ndarray, data: dict[str, Any]) -> np.ndarray:
    """(n, n_coef) of the file at the places where glyphs were drawn."""
    volume = subject.get_map(str(subject.csd_model), "fod").volume  # type: ignore[union-attr]
    canonical = Canonical(volume.get_affine()).reorder(np.asarray(volume.get_array()))
    voxels = np.rint(places / np.array(data["spacing"])).astype(int) + data["start"]
    return canonical[tuple(voxels.T)]


def _check_radii(opened: Any, subject: SubjectFiles) -> np.ndarray:
    """Compare what was drawn with the file; coefficients of the first glyph."""
    data = opened.run("(({spacing, start}) => ({spacing, start}))(arcuateViewer.glyphs.data)")
    drawn = _drawn(opened)
    coefs = _stored_coefs(subject, drawn["places"], data)
    expected = np.maximum(coefs @ sh_matrix(drawn["half"], lmax_of(coefs.shape[1])).T, 0)
    radii = drawn["shapes"][..., 0] * drawn["unit"]
    assert expected.max() > 0
    np.testing.assert_allclose(radii, expected, atol=2e-3 * expected.max())  # float16
    tops = expected.max(axis=1) / drawn["unit"]
    np.testing.assert_allclose(
        drawn["gains"], 0.75 / np.maximum(tops, 1), rtol=0.15
    )  # tops are those of 162 directions
    return coefs[0]


def test_radii_in_the_browser_are_the_amplitudes_of_the_phantoms_fods(open_page: Callable, finished: Any) -> None:
    from arcuate.report import find_subjects

    opened = open_page(finished / "sub-small.html")
    opened.wait()
    (subject,) = find_subjects(finished)
    _check_radii(opened, subject)
    assert len(_drawn(opened)["half"]) in {81, 321}
    opened.run("arcuateViewer.glyphs.camera.zoom = 60")
    _check_radii(opened, subject)
    assert len(_drawn(opened)["half"]) == 321, "at rest and near, half of 642 vertices"


@pytest.mark.usefixtures("quick_pages")
@pytest.mark.parametrize(("code", "degrees"), STORED)
def test_radii_and_normals_whatever_the_storage(
    open_page: Callable, lobe_run: Callable, code: str, degrees: float
) -> None:
    subject = lobe_run(code, degrees)
    opened = open_page(write_report(subject))
    opened.wait()
    coefs = _check_radii(opened, subject)
    drawn = _drawn(opened)
    # the longest direction, turned as the vertices are, is the fibre on the image's own axes
    longest = drawn["half"][np.argmax(drawn["shapes"][0, :, 0])] @ drawn["frame"].T
    assert abs(longest @ np.array([1, 1, 0]) / np.sqrt(2)) > np.cos(np.deg2rad(6))
    normals, outside = drawn["shapes"][0, :, 1:], drawn["shapes"][0, :, 0] > 0.02
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(normals[outside], _normals(coefs, drawn["half"])[outside], atol=0.02)


def _normals(coefs: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Of the surface r(u) u, r from its harmonics: r u - grad r, by differences."""
    gradient = np.empty_like(directions)
    for axis in range(3):
        step = 1e-5 * np.eye(3)[axis]
        ends = [sh_matrix(directions + sign * step, lmax_of(len(coefs))) @ coefs for sign in (1, -1)]
        gradient[:, axis] = (ends[0] - ends[1]) / 2e-5  # r depends on the direction alone: this is tangential
    normals = (sh_matrix(directions, lmax_of(len(coefs))) @ coefs)[:, None] * directions - gradient
    return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True))


def _place(picture: np.ndarray, level: float) -> tuple[float, float, float]:
    """Where what is bright lies, -1..1 to the right and up; and how it leans, above 0 like a slash."""
    rows, columns = np.nonzero(picture > level)
    height, width = picture.shape
    return 2 * columns.mean() / width - 1, 1 - 2 * rows.mean() / height, float(np.corrcoef(columns, -rows)[0, 1])


@pytest.mark.usefixtures("quick_pages")
@pytest.mark.parametrize(("code", "degrees"), STORED)
def test_sides_in_both_conventions_and_their_letters(
    open_page: Callable, lobe_run: Callable, code: str, degrees: float
) -> None:
    opened = open_page(write_report(lobe_run(code, degrees)))
    opened.wait()
    opened.run("arcuateViewer.maps.setSlice('axial', 12)")
    opened.run("arcuateViewer.maps.niivue.setCrosshairWidth(0)")
    opened.tab.select_option("#maps-colors", "viridis")
    opened.tab.uncheck("#glyphs-plane")
    for name, sign in (("neurological", 1), ("radiological", -1)):
        opened.tab.check(f"#viewer-{name}")
        glyphs = opened.pixels("glyphs").max(axis=-1)
        opened.run("arcuateViewer.glyphs.reset()")  # the whole slice
        across, up, _ = _place(opened.pixels("glyphs").max(axis=-1), 50)
        assert sign * across > 0.15, "the fibre lies to the right"
        assert up > 0.15, "in front"
        opened.run("arcuateViewer.glyphs.isNormalised = true; arcuateViewer.glyphs.size = 0.5")
        lean = _one_glyph_leans(opened)
        assert sign * lean > 0.5, "and runs to the right and forwards"
        letters = _letters(opened)
        assert letters["R"][0] * sign > 0.8
        assert letters["L"][0] * sign < -0.8
        assert letters["A"][1] > 0.8 > -0.8 > letters["P"][1]
        maps = opened.pixels("maps")
        yellow = np.where(maps[..., 0] + maps[..., 1] - 2 * maps[..., 2] > 120, 1.0, 0.0)  # the top of viridis
        yellow[: len(yellow) // 12] = 0  # the colour bar
        yellow[-len(yellow) // 8 :] = 0
        across, up, _ = _place(yellow, 0.5)
        assert sign * across > 0.15
        assert up > 0.15
        assert glyphs.max() > 50


def _one_glyph_leans(opened: Any) -> float:
    """Lean of a single glyph in the middle of the picture."""
    opened.run(
        """() => {
          const view = arcuateViewer.glyphs;
          view.camera.middle = Array.from(view.slice.places.subarray(0, 3));
          view.camera.zoom = 500;
        }"""
    )
    picture = opened.pixels("glyphs").max(axis=-1)
    middle = [slice(n // 4, -n // 4) for n in picture.shape]
    return _place(picture[tuple(middle)], 40)[2]


def _letters(opened: Any) -> dict[str, tuple[float, float]]:
    """Place of each letter on the glyphs' picture, -1..1 to the right and up."""
    found = opened.run(
        """() => [...document.querySelectorAll("#glyphs-panel .sides span")].map((span) => {
          const box = document.getElementById("glyphs-canvas");
          return [span.textContent, 2 * parseFloat(span.style.left) / box.clientWidth - 1,
                  1 - 2 * parseFloat(span.style.top) / box.clientHeight];
        })"""
    )
    return {letter: (x, y) for letter, x, y in found}


@pytest.mark.usefixtures("quick_pages")
def test_letters_go_along_when_the_scene_turns(open_page: Callable, lobe_run: Callable) -> None:
    opened = open_page(write_report(lobe_run()))
    opened.wait()
    opened.run("arcuateViewer.glyphs.camera.rotate(Math.PI / 2, 0)")  # the front edge to the right
    opened.pixels("glyphs")
    letters = _letters(opened)
    assert set(letters) == {"A", "P", "I", "S"}
    # what faced the eye, the top, went to the right
    assert letters["S"][0] > 0.8
    assert letters["A"][1] > 0.8
    opened.run("arcuateViewer.glyphs.camera.rotate(0, Math.PI / 2)")  # what faces the eye goes down
    opened.pixels("glyphs")
    letters = _letters(opened)
    assert set(letters) == {"L", "R", "I", "S"}
    assert letters["S"][0] > 0.8
    assert letters["L"][1] < -0.8, "the left faced the eye"


@pytest.mark.usefixtures("quick_pages")
def test_niivues_letters_change_sides_with_the_picture(open_page: Callable, lobe_run: Callable) -> None:
    opened = open_page(write_report(lobe_run("LAS")))
    opened.wait()
    counts = []
    for name in ("neurological", "radiological"):
        opened.tab.check(f"#viewer-{name}")
        picture = opened.pixels("maps").min(axis=-1)
        band = slice(int(0.45 * len(picture)), int(0.55 * len(picture)))
        edge = picture.shape[1] // 16
        counts.append([int((picture[band, part] > 150).sum()) for part in (np.s_[:edge], np.s_[-edge:])])
    (left, right), (left_radiological, right_radiological) = counts
    assert 0 < left < right, "an L has fewer pixels than an R"
    assert left_radiological > right_radiological > 0


def _shrunk(picture: np.ndarray, side: int = 24) -> np.ndarray:
    """The filled part of a picture, in few pixels."""
    from PIL import Image

    rows, columns = (np.flatnonzero((picture > 0.12 * picture.max()).any(axis=axis)) for axis in (1, 0))
    part = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    image = Image.fromarray(part.astype(np.float32)).resize((side, side), Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float64)


@pytest.mark.parametrize("name", ["neurological", "radiological"])
def test_the_asymmetric_phantom_is_not_mirrored(open_page: Callable, finished: Any, name: str) -> None:
    from arcuate.report import find_subjects

    (subject,) = find_subjects(finished)
    opened = open_page(finished / "sub-small.html")
    opened.wait()
    opened.tab.check(f"#viewer-{name}")
    opened.run("arcuateViewer.maps.niivue.setCrosshairWidth(0)")
    opened.run("arcuateViewer.maps.niivue.setIsOrientationTextVisible(false)")
    opened.tab.select_option("#maps-plane", "axial")
    fa = subject.get_map("tensor", "fa").volume  # type: ignore[union-attr]
    evecs = subject.get_map("tensor", "evecs").volume  # type: ignore[union-attr]
    from arcuate.report.layers import color_fa

    color = color_fa(np.asarray(fa.get_array()), np.asarray(evecs.get_array())).max(axis=-1) ** 0.8
    canonical = Canonical(fa.get_affine()).reorder(color)
    label = opened.run("document.getElementById('maps-slice-number').textContent")
    at = int(re.sub(r"\D", "", label))
    expected = _shrunk(View("axial", at, name == "radiological").take(canonical))
    shown = _shrunk(opened.pixels("maps").max(axis=-1))
    right, mirrored, upside_down = (
        np.corrcoef(shown.ravel(), a.ravel())[0, 1] for a in (expected, expected[:, ::-1], expected[::-1])
    )
    assert right > 0.9
    assert 1 - right < 0.5 * (1 - max(mirrored, upside_down))
