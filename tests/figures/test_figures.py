"""Geometry of glyphs and sticks, and pictures looked at by their pixels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from arcuate.errors import InputError, MissingExtraError
from arcuate.figures import glyphs as glyph_module
from arcuate.figures.meshes import direction_colors, glyphs, sticks, whole_sphere
from arcuate.figures.views import View
from arcuate.models.response import Response
from arcuate.numerics.sh import n_coefs, sh_matrix
from arcuate.numerics.sphere import get_hemisphere, get_sphere
from arcuate.volumes.resource import InMemoryVolumeResource

SPHERE = get_sphere("repulsion724")
LAS = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -10], [0, 0, 2, 0], [0, 0, 0, 1]])
RAS = np.diag([2.0, 2.0, 2.0, 1.0])


def _lobe(direction: tuple[float, float, float], vertices: np.ndarray = SPHERE.vertices) -> np.ndarray:
    unit = np.asarray(direction) / np.linalg.norm(direction)
    return np.asarray((vertices @ unit) ** 12)


def _lean(image: np.ndarray) -> float:
    """Correlation of column and height of what is drawn: above 0 it leans to the right like a slash."""
    rows, columns = np.nonzero(image.max(axis=-1) > 60)
    return float(np.corrcoef(columns, -rows)[0, 1])


def _coefs(direction: tuple[float, float, float], lmax: int = 8) -> np.ndarray:
    return np.linalg.lstsq(sh_matrix(SPHERE.vertices, lmax), _lobe(direction), rcond=None)[0]


def test_vertex_radius_equals_amplitude() -> None:
    vertices, faces, index = whole_sphere(SPHERE)
    amplitudes = np.random.default_rng(0).random((3, len(SPHERE.vertices)))
    centers = np.array([[0.0, 0, 0], [5, 1, 2], [-3, 4, 9]])
    mesh = glyphs(amplitudes[:, index], centers, vertices, faces, direction_colors(vertices))
    offsets = mesh.points.reshape(3, -1, 3) - centers[:, None]
    np.testing.assert_allclose(np.linalg.norm(offsets, axis=-1), amplitudes, atol=2e-6)
    np.testing.assert_allclose(offsets, amplitudes[..., None] * vertices, atol=2e-6)


@pytest.mark.parametrize("norm", [False, True])
def test_glyphs_of_a_slice_have_the_scaled_amplitude_in_the_scanner_direction(norm: bool) -> None:
    odf = 3.0 * np.stack([_lobe((1, 2, 3)), 0.5 * _lobe((0, 1, 0))])[:, None, None]
    part = glyph_module._Slice.of(odf.shape, LAS, None)
    mesh, highest = glyph_module._glyph_mesh(part, odf, SPHERE, 0.5, norm, None)
    offsets = mesh.points.reshape(2, -1, 3) - part.centers[:, None]
    expected = odf[::-1, 0, 0] * 0.5  # LAS: the first voxel lies to the right
    if norm:
        expected = expected / highest[:, None]
    np.testing.assert_allclose(offsets, expected[..., None] * SPHERE.vertices, atol=1e-6)


def test_half_a_sphere_is_completed() -> None:
    half = get_hemisphere("repulsion724")
    vertices, faces, index = whole_sphere(half)
    assert len(vertices) == 2 * len(half.vertices)
    assert len(faces) == 2 * len(vertices) - 4, "a closed surface (Euler)"
    np.testing.assert_allclose(np.abs(np.sum(vertices * half.vertices[index], axis=1)), 1)


def test_normals_of_a_ball_point_outwards() -> None:
    vertices, faces, _ = whole_sphere(SPHERE)
    mesh = glyphs(np.full((1, len(vertices)), 2.0), np.zeros((1, 3)), vertices, faces, direction_colors(vertices))
    assert np.einsum("ij,ij->i", mesh.normals, vertices).min() > 0.995


def test_sticks_end_where_their_peaks_do() -> None:
    halves = np.array([[0.4, 0.3, 0.0], [0, 0, 0.7]])
    mesh = sticks(halves, np.ones((2, 3)), 0.02, np.zeros((2, 3), np.uint8))
    points = mesh.points.reshape(2, 2, -1, 3).mean(axis=2)
    np.testing.assert_allclose(points[:, 1] - 1, halves, atol=1e-6)
    np.testing.assert_allclose(points[:, 0] - 1, -halves, atol=1e-6)


def test_importing_figures_does_not_load_pyvista() -> None:
    code = "import sys, arcuate.figures; print('pyvista' in sys.modules or 'vtk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_without_pyvista_glyphs_are_drawn_and_for_surfaces_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from arcuate.figures import render_tracts

    monkeypatch.setitem(sys.modules, "pyvista", None)
    assert glyph_module.render_glyphs(_lobe((1, 0, 0))[None, None, None], sphere=SPHERE).max() > 100
    with pytest.raises(MissingExtraError, match=r"pip install .*\[viz\]"):
        render_tracts(InMemoryVolumeResource(np.pad(np.ones((3, 3, 3)), 1), RAS))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="724 amplitudes per voxel for a sphere of 362"):
        glyph_module.render_glyphs(_lobe((1, 0, 0))[None, None, None], sphere=get_sphere("symmetric362"))
    with pytest.raises(InputError, match=r"expected directions\s+\(x, y, z, n_peaks, 3\)"):
        glyph_module.render_peaks(np.zeros((2, 2, 1, 3)), np.zeros((2, 2, 1)))


class TestPictures:
    """What is drawn, judged by its pixels."""

    @pytest.fixture(autouse=True)
    def _needs_pyvista(self) -> None:
        pytest.importorskip("pyvista", reason="PyVista is not installed (extra viz)")

    @pytest.mark.parametrize("affine", [None, RAS, LAS])
    @pytest.mark.parametrize("radiological", [False, True])
    def test_glyphs_lean_as_the_fibre_does(self, affine: np.ndarray | None, radiological: bool, tmp_path: Path) -> None:
        view = View("axial", radiological=radiological)
        odf = _lobe((1, 1, 0))[None, None, None]
        image = glyph_module.render_glyphs(odf, sphere=SPHERE, affine=affine, view=view, size=(150, 150))
        # cut the labels off
        assert _lean(image[25:-25, 25:-25]) * (-1 if radiological else 1) > 0.7

    @pytest.mark.parametrize("affine", [RAS, LAS])
    def test_peaks_and_glyphs_of_one_fibre_lean_the_same_way(self, affine: np.ndarray) -> None:
        peak = np.array([1.0, -1, 0]) / np.sqrt(2)
        directions, values = peak[None, None, None, None], np.ones((1, 1, 1, 1))
        odf = _lobe((1, -1, 0))[None, None, None]
        for image in (
            glyph_module.render_peaks(directions, values, affine=affine, size=(150, 150)),
            glyph_module.render_glyphs_and_peaks(
                odf, directions, values, sphere=SPHERE, affine=affine, size=(150, 150)
            ),
            glyph_module.render_fods(
                InMemoryVolumeResource(_coefs((1, -1, 0))[None, None, None], affine), size=(150, 150)
            ),
        ):
            assert _lean(image[25:-25, 25:-25]) < -0.7

    @pytest.mark.parametrize(("affine", "first"), [(RAS, "left"), (LAS, "right")])
    def test_the_first_voxel_and_its_background_lie_on_their_side(self, affine: np.ndarray, first: str) -> None:
        coefs = np.zeros((6, 6, 1, n_coefs(8)), np.float32)
        coefs[1, 4, 0] = _coefs((0, 0, 1))
        anatomy = np.ones((6, 6, 1), np.float32)
        anatomy[0, 5, 0] = 9.0
        image = glyph_module.render_fods(
            InMemoryVolumeResource(coefs, affine), background=anatomy, size=(240, 240), colormap="viridis"
        ).astype(int)
        colored = np.argwhere(np.ptp(image, axis=-1) > 40)
        grey = np.where(np.ptp(image, axis=-1) < 5, image.mean(axis=-1), 0)
        bright = np.argwhere((grey > 100) & (grey < 150))
        for places in (colored, bright):
            row, column = np.median(places, axis=0)
            assert row < 120
            assert (column > 120) == (first == "right")

    def test_colormap_and_direction_colours(self, tmp_path: Path) -> None:
        odf = _lobe((1, 0, 0))[None, None, None]
        by_direction = glyph_module.render_glyphs(odf, sphere=SPHERE, size=(100, 100))
        tip = by_direction[50, 80].astype(int)
        assert tip[0] > 120
        assert tip[0] > 2 * max(tip[1], tip[2])
        path = tmp_path / "new" / "plasma.png"
        by_map = glyph_module.render_glyphs(odf, sphere=SPHERE, size=(100, 100), colormap="plasma", path=path)
        assert by_map[50, 80, 1] > by_direction[50, 80, 1]
        from PIL import Image

        with Image.open(path) as saved:
            np.testing.assert_array_equal(np.asarray(saved), by_map)
        with pytest.raises(InputError, match="colormap 'nothing'"):
            glyph_module.render_glyphs(odf, sphere=SPHERE, size=(100, 100), colormap="nothing")

    def test_voxels_without_numbers_are_left_out(self) -> None:
        odf = np.stack([_lobe((1, 1, 0)), np.full(724, np.nan), np.zeros(724), -np.ones(724)])[:, None, None]
        image = glyph_module.render_glyphs(odf, sphere=SPHERE, size=(200, 60))
        assert image.shape == (60, 200, 3)
        assert image.max() > 100
        empty = glyph_module.render_glyphs(odf[1:], sphere=SPHERE, size=(60, 60))
        assert empty.max() == 0

    @pytest.mark.parametrize(("shape", "top"), [((2, 1, 3), 2), ((1, 2, 3), 1)])
    def test_flat_images_of_any_plane_are_seen_from_their_side(self, shape: tuple[int, ...], top: int) -> None:
        odf = np.zeros((*shape, 724))
        odf[0, 0, -1] = 1.0  # a ball in the top left corner (front is to the right in a sagittal view)
        odf[-1, -1, 0] = 1e-3 * _lobe((0, 0, 1))
        image = glyph_module.render_glyphs(odf, sphere=SPHERE, norm=False, scale=0.5, size=(200, 200))
        rows, columns = np.nonzero(image.max(axis=-1) > 60)
        assert rows.mean() < 100
        assert columns.mean() < 100

    def test_a_response_is_thin_along_the_fibre(self) -> None:
        from arcuate.figures import render_response

        response = Response(("wm",), np.array([0.0, 3000.0]), (np.array([[3000.0, 0], [900, -700]]),))
        image = render_response(response).astype(int).max(axis=-1) > 50
        ball, pancake = image[:, :260], image[:, 260:]
        height, width = (np.ptp(np.nonzero(pancake)[k]) for k in (0, 1))
        assert width > 1.3 * height
        assert ball.sum() > 1000

    def test_tracts_are_on_their_side_and_pairs_share_a_colour(self, tmp_path: Path) -> None:
        from arcuate.figures import render_tracts

        masks = np.zeros((30, 30, 30, 2), np.uint8)
        masks[20:26, 5:25, 12:18, 0] = 1  # LAS: a high first index is the patient's left
        masks[4:10, 5:15, 12:18, 1] = 1
        volume = InMemoryVolumeResource(masks, LAS)
        names = ("CST_left", "CST_right")
        image = render_tracts(volume, names=names, view=View("axial"), size=(200, 200)).astype(int)
        drawn = np.ptp(image, axis=-1) > 60
        left, right = drawn[:, :100].sum(), drawn[:, 100:].sum()
        assert left > 1.5 * right > 100
        with pytest.raises(InputError, match="1 names for 2 tracts"):
            render_tracts(volume, names=("CST",))
