"""What goes into the page for the viewer: bytes that give the values back, grids that stay where they are."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from arcuate.figures.views import Canonical
from arcuate.numerics.sh import n_coefs
from arcuate.report import SubjectFiles, glyph_slices, layers, page, viewer, write_report
from arcuate.report.layers import nifti_bytes, quantised, reduce_grid, reduced_affine, viewer_maps
from arcuate.report.template import shared_facts
from arcuate.report.viewer import viewer_of
from arcuate.report.viewer_grid import ViewerGrid

CODES = ["RAS", "LPS", "PSR", "ASL"]
SHAPE = (20, 22, 18)


def _read(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def test_a_quantised_map_is_within_half_a_step_and_nothing_outside() -> None:
    values = np.random.default_rng(0).uniform(-0.2, 1.2, (6, 7, 8))
    values[0, 0, 0] = np.nan
    mask = np.ones(values.shape, bool)
    mask[:, :2] = False
    codes, slope, intercept = quantised(values, mask, (0.0, 1.0))
    image = nib.Nifti1Image.from_bytes(nifti_bytes(codes, np.diag([2, 2, 2, 1.0]), slope, intercept))
    back = np.asarray(image.dataobj)
    known = mask & np.isfinite(values)
    assert np.abs(back - np.clip(values, 0, 1))[known].max() <= 0.5 / 254 + 1e-6
    assert (back[~mask] < 0).all(), "below the range, so that overlays are clear there"
    assert image.get_data_dtype() == np.uint8


def test_colours_are_read_back_by_nibabel() -> None:
    color = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3)).astype(np.uint8)
    image = nib.Nifti1Image.from_bytes(nifti_bytes(color, np.eye(4)))
    found = np.asarray(image.dataobj)
    for k, name in enumerate("RGB"):
        np.testing.assert_array_equal(found[name], color[..., k])


@pytest.mark.parametrize("code", CODES)
def test_every_voxel_stays_at_its_place_in_the_scanner(lobe_run: Callable, code: str) -> None:
    subject: SubjectFiles = lobe_run(code, 15.0)
    fa = subject.get_map("tensor", "fa")
    assert fa is not None
    stored = np.asarray(fa.volume.get_array())
    grid = ViewerGrid(fa.volume.get_affine(), stored > 0)
    (layer,) = [la for la in viewer_maps(subject, grid)["layers"] if la["name"] == "FA"]
    image = _read(layer["bytes"])
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    shown = np.asarray(image.dataobj)
    places = np.argwhere(stored > 0.5)
    scanner = places @ fa.volume.get_affine()[:3, :3].T + fa.volume.get_affine()[:3, 3]
    back = np.linalg.inv(image.affine)
    voxels = np.rint(scanner @ back[:3, :3].T + back[:3, 3]).astype(int)
    np.testing.assert_allclose(shown[tuple(voxels.T)], stored[tuple(places.T)], atol=0.003)
    assert (shown > 0.5).sum() == len(places)


def test_the_grid_is_the_brain_with_a_margin() -> None:
    inside = np.zeros((10, 12, 14), bool)
    inside[3:7, 0:5, 6:14] = True
    grid = ViewerGrid(np.diag([-2.0, 2, 2, 1]), inside)
    assert grid.shape == (6, 6, 9)
    assert grid.start == [2, 0, 5]
    # stored from right to left: the box's first voxel is the stored one at 7
    np.testing.assert_allclose(grid.box_affine @ [0, 0, 0, 1], [-14, 0, 10, 1])


def test_large_images_are_averaged_in_place() -> None:
    mask = np.zeros((9, 8, 7), bool)
    mask[1:8, 1:7, 1:6] = True
    values = np.broadcast_to(np.arange(9.0)[:, None, None], mask.shape)
    small = reduce_grid(values, mask, 2)
    assert small.shape == (5, 4, 4)
    assert small[0, 1, 1] == 1, "the mean of what is in the mask alone"
    assert small[1, 1, 1] == 2.5
    assert small[4, 1, 1] == 0
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = 5
    np.testing.assert_allclose(reduced_affine(affine, 2) @ [1, 0, 0, 1], affine @ [2.5, 0.5, 0.5, 1])
    color = reduce_grid(np.stack([values] * 3, axis=-1), mask, 2)
    np.testing.assert_array_equal(color[..., 2], small)


def test_many_tracts_do_not_make_the_maps_coarser() -> None:
    block = np.ones((4, 4, 4))
    assert sum(layers.Layer(f"tract {k}", "Tracts", block).weight for k in range(72)) < 4
    assert layers.Layer("FA", "Tensor", block).weight == 1
    assert layers.Layer("colour FA", "Tensor", np.ones((4, 4, 4, 3))).weight == 3


def test_a_budget_keeps_pages_small(lobe_run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    subject: SubjectFiles = lobe_run()
    fa = subject.get_map("tensor", "fa")
    assert fa is not None
    grid = ViewerGrid(fa.volume.get_affine(), np.asarray(fa.volume.get_array()) > 0)
    assert viewer_maps(subject, grid)["factor"] == 1
    monkeypatch.setattr(layers, "BUDGET", 4000)
    reduced = viewer_maps(subject, grid)
    assert reduced["factor"] == 2
    assert reduced["shape"] == [10, 11, 9]
    assert _read(reduced["layers"][0]["bytes"]).shape == (10, 11, 9)


@pytest.mark.parametrize("code", CODES)
def test_glyphs_hold_the_coefficients_of_their_voxels(lobe_run: Callable, code: str) -> None:
    subject: SubjectFiles = lobe_run(code)
    found = subject.get_map("csd", "fod")
    assert found is not None
    coefs = np.asarray(found.volume.get_array())
    grid = ViewerGrid(found.volume.get_affine(), np.ones(coefs.shape[:3], bool))
    data = glyph_slices.viewer_glyphs(subject, grid, ["axial", "coronal", "sagittal"])
    assert data is not None
    canonical = Canonical(found.volume.get_affine()).reorder(coefs)
    order = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
    n_seen = 0
    for part in data["slices"]:
        content = gzip.decompress(base64.b64decode(part["bytes"]))
        n = part["n"]
        n_seen += n
        pairs = np.frombuffer(content, "<u2", 2 * n).reshape(n, 2)
        halves = np.frombuffer(content, "<f2", n * n_coefs(8), offset=4 * n).reshape(n, -1)
        voxels = np.empty((n, 3), int)
        for column, axis in zip((pairs[:, 0], pairs[:, 1], part["index"]), order[part["plane"]], strict=True):
            voxels[:, axis] = column
        expected = canonical[tuple(voxels.T)]
        np.testing.assert_allclose(halves * part["unit"], expected, atol=1e-3 * np.abs(expected).max(initial=1e-9))
        width, height = part["box"][2:]
        assert len(content) == 4 * n + 2 * n * n_coefs(8) + width * height
    assert n_seen > 0
    assert data["slices"][data["first"]]["plane"] == "axial"


def test_the_budget_of_glyphs_holds_for_large_images(made_run: Callable, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    fods = rng.normal(size=(40, 48, 40, 6)).astype(np.float32)
    fods[..., 0] = 3
    subject = made_run(tmp_path, np.eye(4), np.full(fods.shape[:3], 0.5), fods)
    grid = ViewerGrid(np.eye(4), np.ones(fods.shape[:3], bool))
    few = _sizes(subject, grid, 200_000)
    assert sum(few.values()) <= 200_000
    assert {plane for plane, _ in few} == {"axial", "coronal", "sagittal"}
    assert len(_sizes(subject, grid, 3_000_000)) > len(few)


def _sizes(subject: SubjectFiles, grid: ViewerGrid, budget: int) -> dict[tuple[str, int], int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glyph_slices, "BUDGET", budget)
        data = glyph_slices.viewer_glyphs(subject, grid, ["axial", "coronal", "sagittal"])
    assert data is not None
    return {(s["plane"], s["index"]): 2 * s["n"] * data["nCoef"] for s in data["slices"]}


def test_tissues_and_tracts_are_layers_and_sections(
    made_run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "viewer_script", lambda: "0;")
    fods = np.zeros((*SHAPE, n_coefs(4)), np.float32)
    fods[..., 0], fods[..., 3] = 0.2, 0.1
    grey = np.full((*SHAPE, 1), 0.1, np.float32)
    fa = np.full(SHAPE, 0.5)
    tracts = {name: np.zeros(SHAPE, np.uint8) for name in ("CST_left", "CST_right")}
    tracts["CST_left"][12:16, 8:14, 3:15] = 1
    tracts["CST_right"][4:8, 8:14, 3:15] = 1
    subject = made_run(tmp_path, np.diag([-3.0, 3, 3, 1]), fa, fods, {"gm": grey, "csf": 0.5 * grey}, tracts)
    made = viewer_of(subject, fa > 0, ["axial"])
    names = [name for group in made.groups.values() for _, name in group]
    assert len(names) == len(set(names)), "each map once"
    assert [name for _, name in made.groups["Tissues"]] == [
        "White matter, fraction",
        "Grey matter, fraction",
        "Fluid (CSF), fraction",
    ]
    assert [name for _, name in made.groups["Tracts"]] == ["CST_left", "CST_right"]
    assert made.maps is not None
    by_name = {layer["name"]: np.asarray(_read(layer["bytes"]).dataobj) for layer in made.maps["layers"]}
    np.testing.assert_allclose(by_name["White matter, fraction"], 0.2 / 0.35, atol=0.003)
    left = np.argwhere(by_name["CST_left"] > 0.5)
    assert left[:, 0].max() < SHAPE[0] / 2, "stored from right to left, shown from left to right"
    text = write_report(subject).read_text(encoding="utf-8")
    assert 'id="tissues"' in text
    assert "Axial slices of Grey matter, fraction in the brain." in text
    assert "2 tracts on the anatomy, axial slices." in text
    if _has_pyvista():
        assert "2 tracts in the head, coronal view" in text
        assert "Drawn are CST_left, CST_right" in text


def _has_pyvista() -> bool:
    from importlib.util import find_spec

    return find_spec("pyvista") is not None


class TestPage:
    """The page around the viewer."""

    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(page, "sections_of", lambda *_: [])

    def test_without_the_built_script_it_says_what_is_missing(
        self, lobe_run: Callable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(viewer, "viewer_script", lambda: None)
        text = write_report(lobe_run()).read_text(encoding="utf-8")
        assert "built from npm when arcuate is installed" in text
        assert text.count("<script") == 1, "the page's own buttons alone"
        assert "viewer-maps" not in text

    def test_the_policy_allows_the_script_and_nothing_else(
        self, lobe_run: Callable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = 'window.a = "<b> & é";'
        monkeypatch.setattr(viewer, "viewer_script", lambda: script)
        text = write_report(lobe_run()).read_text(encoding="utf-8")
        assert f"<script>{script}</script>" in text, "as it is, or its digest would not fit"
        import hashlib

        own, digest = (
            base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            for content in (shared_facts("page.js")["script"], script)
        )
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
        assert policy is not None
        assert (
            policy[1]
            == f"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src 'sha256-{own}' "
            f"'sha256-{digest}'"
        )

    def test_data_cannot_end_their_element(self, lobe_run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(viewer, "viewer_script", lambda: "0;")
        subject = lobe_run()
        made: Any = viewer.Viewer("0;", {"layers": [{"name": "</script><b>", "group": "x"}]})
        assert "<" not in made.maps_json
        assert json.loads(made.maps_json)["layers"][0]["name"] == "</script><b>"
        text = write_report(subject).read_text(encoding="utf-8")
        found = re.search(r'id="viewer-maps">(.*?)</script>', text, re.DOTALL)
        assert found is not None
        assert {layer["name"] for layer in json.loads(found[1])["layers"]} == {"FA", "MD (1e-3 mm²/s)"}

    @pytest.mark.parametrize("end", ["</SCRIPT", "<!--", "\r"])
    def test_a_script_that_would_end_its_element_is_refused(
        self, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "static").mkdir()
        (tmp_path / "static" / "viewer.js").write_bytes(f"a = '{end}';".encode())
        monkeypatch.setattr(viewer.resources, "files", lambda package: tmp_path)
        viewer.viewer_script.cache_clear()
        with pytest.raises(ValueError, match="Install arcuate again"):
            viewer.viewer_script()
        viewer.viewer_script.cache_clear()
