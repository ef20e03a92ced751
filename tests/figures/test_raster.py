"""Triangles on the processor: nearest in front, edges where they belong, and the same scene as PyVista draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arcuate.errors import InputError
from arcuate.figures import render_fods, render_glyphs, render_peaks
from arcuate.figures.meshes import Mesh, glyphs, whole_sphere
from arcuate.figures.raster import Raster
from arcuate.figures.scene import Scene, _add_to, import_pyvista
from arcuate.figures.views import View
from arcuate.numerics.sh import n_coefs, sh_matrix
from arcuate.numerics.sphere import get_sphere
from arcuate.volumes.resource import InMemoryVolumeResource

SPHERE = get_sphere("repulsion724")


def _square(side: float, depth: float, color: tuple[int, int, int]) -> Mesh:
    corners = side / 2 * np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
    corners[:, 2] = depth
    towards = np.tile(np.array([0, 0, 1], np.float32), (4, 1))
    return Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]]), towards, np.tile(np.array(color, np.uint8), (4, 1)))


def _raster(size: tuple[int, int] = (100, 60)) -> Raster:
    return Raster(size, np.zeros(3), np.eye(3), np.zeros(3), 10.0)


def test_a_square_covers_its_pixels_and_no_other() -> None:
    raster = _raster()
    raster.add_mesh(_square(4.0, 0.0, (255, 0, 0)))
    red = raster.picture()[..., 0] > 100
    rows, columns = np.nonzero(red)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 49, 30, 69)
    assert red.sum() == 40 * 40, "no gap along the diagonal"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_one_hides_the_other_whatever_the_order(order: tuple[int, int]) -> None:
    squares = [_square(4.0, 0.0, (255, 0, 0)), _square(2.0, 1.0, (0, 255, 0))]
    raster = _raster()
    for k in order:
        raster.add_mesh(squares[k])
    picture = raster.picture()
    assert picture[30, 50, 1] > picture[30, 50, 0] + 100
    assert picture[15, 35, 0] > picture[15, 35, 1] + 100


def test_triangles_that_face_away_are_not_drawn_and_the_outside_of_the_picture_is_cut() -> None:
    raster = _raster()
    square = _square(400.0, 0.0, (255, 255, 255))
    raster.add_mesh(Mesh(square.points, square.faces[:, ::-1], square.normals, square.colors))
    assert raster.picture().max() == 0
    raster.add_mesh(square)
    assert raster.picture().min() > 200


def test_the_anatomy_lies_behind_and_only_where_its_corners_say() -> None:
    raster = _raster()
    raster.add_mesh(_square(2.0, 0.0, (255, 0, 0)))
    corners = np.array([[-3.0, -2, -5], [3.0, -2, -5], [-3.0, 2, -5]])
    shades = np.zeros((2, 3, 3))
    shades[0, 0], shades[1, 2] = 0.5, 0.9  # bottom left, top right
    raster.add_plane(corners, shades)
    picture = raster.picture()
    assert abs(int(picture[45, 25, 2]) - 128) <= 1
    assert abs(int(picture[15, 75, 2]) - 230) <= 1
    assert picture[30, 50, 0] > 150
    assert picture[30, 50, 2] < 100
    assert picture[5, 5].max() == 0


def test_it_draws_what_pyvista_draws() -> None:
    pytest.importorskip("pyvista", reason="PyVista is not installed (extra viz)")
    rng = np.random.default_rng(0)
    vertices, faces, index = whole_sphere(get_sphere("symmetric362"))
    radii = 0.3 + 0.4 * np.abs(vertices @ rng.normal(size=(3, 9))).T ** 2
    centers = np.stack(np.meshgrid([0, 3, 6], [0, 3, 6], [0]), axis=-1).reshape(-1, 3).astype(float)
    mesh = glyphs(radii[:, index], centers, vertices, faces, (255 * np.abs(vertices)).astype(np.uint8))
    pictures = []
    for is_theirs in (False, True):
        scene = Scene((240, 240))
        scene.add_mesh(mesh)
        if is_theirs:
            pyvista = import_pyvista()
            scene._surfaces.append(lambda plotter, pyvista=pyvista: _add_to(plotter, pyvista, mesh, 1.0))
        scene.look(np.array([0.3, -0.2, 1.0]), np.array([0.0, 1, 0]))
        pictures.append(scene.picture().astype(float))
    ours, theirs = pictures
    shapes = [picture.max(axis=-1) > 40 for picture in pictures]
    assert (shapes[0] & shapes[1]).sum() / (shapes[0] | shapes[1]).sum() > 0.97
    both = shapes[0] & shapes[1]
    hue = [picture[both] / picture[both].sum(axis=-1, keepdims=True) for picture in pictures]
    assert np.median(np.abs(hue[0] - hue[1])) < 0.03
    assert abs(ours[both].mean() - theirs[both].mean()) < 30


class TestPapers:
    """White paper, regions, scale bars, resolution."""

    COEFS = np.linalg.lstsq(sh_matrix(SPHERE.vertices, 4), (SPHERE.vertices[:, 0]) ** 4, rcond=None)[0]

    def _fods(self) -> InMemoryVolumeResource:
        coefs = np.zeros((12, 10, 1, n_coefs(4)), np.float32)
        coefs[2:6, 3:7] = self.COEFS
        return InMemoryVolumeResource(coefs, np.diag([-2.0, 2, 2, 1]))

    def test_paper_is_white_and_letters_black(self) -> None:
        image = render_fods(self._fods(), size=(300, 300), paper="white")
        assert (image[0, 0] == 255).all()
        assert image.min() < 40
        with pytest.raises(InputError, match="paper 'grey'; expected black or white"):
            render_fods(self._fods(), size=(60, 60), paper="grey")

    def test_a_region_fills_the_picture_counted_from_the_patients_left_and_back(self) -> None:
        # stored from right to left: voxels 2 to 5 of the array are 6 to 9 from the left
        wide = render_fods(self._fods(), size=(240, 240), region=((4, 12), (1, 9)))
        part = render_fods(self._fods(), size=(240, 240), region=((6, 10), (3, 7)))
        empty = render_fods(self._fods(), size=(240, 240), region=((0, 4), (3, 7)))
        inner = np.s_[30:-30, 30:-30]
        assert (part[inner].max(axis=-1) > 60).mean() > 0.25
        assert (part.max(axis=-1) > 60).mean() / (wide.max(axis=-1) > 60).mean() == pytest.approx(4, abs=1)
        assert empty[inner].max() == 0
        with pytest.raises(InputError, match=r"region .*expected \(\(from, to\), \(from, to\)\).*0 to 12 and 0 to 10"):
            render_fods(self._fods(), region=((0, 13), (0, 5)))

    def test_a_scale_bar_has_its_length_in_mm(self) -> None:
        options = {"size": (240, 240), "region": ((0, 12), (0, 10)), "paper": "white"}
        plain, barred = (render_fods(self._fods(), scale_bar=s, **options) for s in (0.0, 8.0))
        changed = (plain != barred).any(axis=-1)
        row = int(np.flatnonzero(changed.any(axis=1))[-1])
        assert changed[row].sum() == pytest.approx(8 / 24 * 240, abs=2)

    def test_the_resolution_is_noted_in_the_file(self, tmp_path: Path) -> None:
        directions = np.zeros((3, 3, 1, 1, 3))
        directions[..., 0] = 1
        path = tmp_path / "peaks.png"
        render_peaks(directions, np.ones((3, 3, 1, 1)), path=path, size=(120, 90), dpi=300, view=View("axial"))
        with Image.open(path) as image:
            assert image.size == (120, 90)
            assert image.info["dpi"][0] == pytest.approx(300, abs=0.1)

    def test_see_through_glyphs_let_the_anatomy_shine(self) -> None:
        odf = np.ones((1, 1, 1, len(SPHERE.vertices)))
        solid, glass = (render_glyphs(odf, sphere=SPHERE, size=(80, 80), opacity=o) for o in (1.0, 0.4))
        assert glass[40, 40].max() == pytest.approx(0.4 * solid[40, 40].max(), abs=3)
