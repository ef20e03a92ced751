"""Mosaics by their pixels: where left is, what a value looks like, what is blank, outlined or white."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys

import matplotlib
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from arcuate.errors import InputError
from arcuate.figures.mosaic import Layout, box_of, draw_mosaic, stack_tiles
from arcuate.figures.panels import Panel, lookup_table

LAS = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -10], [0, 0, 3, 0], [0, 0, 0, 1]])
CODES = ["".join(c) for order in itertools.permutations(("RL", "AP", "SI")) for c in itertools.product(*order)]
BARE = Layout(slices=[5], has_bar=False)


def _stored(code: str) -> tuple[np.ndarray, np.ndarray]:
    """Colours, dark but for a red voxel near the patient's right, front and top, stored in the order of ``code``."""
    image = np.full((9, 11, 8), 0.0, np.float32)
    image[6, 8, 5] = 1
    original = nib.Nifti1Image(image, np.diag([2.0, 2.0, 2.0, 1.0]))
    axes = nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(code))
    stored = original.as_reoriented(nib.orientations.ornt_transform(*axes))
    array = np.asarray(stored.dataobj)
    return np.stack([array, 0 * array, 0.2 * (1 - array)], axis=-1), stored.affine


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("radiological", [False, True])
def test_what_is_at_the_right_is_drawn_at_the_right_whatever_the_storage(code: str, radiological: bool) -> None:
    array, affine = _stored(code)
    for plane, at, (row, column) in (
        ("axial", 5, (2.5 / 11, 6.5 / 9)),
        ("coronal", 8, (2.5 / 8, 6.5 / 9)),
        ("sagittal", 6, (2.5 / 8, 8.5 / 11)),
    ):
        rgb = draw_mosaic(Panel(array), affine, Layout(plane, [at], radiological=radiological, has_bar=False)).rgb
        rows, columns = np.nonzero((rgb[..., 0] > 200) & (rgb[..., 2] < 50))
        expected = 1 - column if radiological and plane != "sagittal" else column
        assert rows.mean() / rgb.shape[0] == pytest.approx(row, abs=0.02), plane
        assert columns.mean() / rgb.shape[1] == pytest.approx(expected, abs=0.02), plane


def test_letters_stand_at_the_sides_that_they_name() -> None:
    black = np.zeros((60, 80, 3), np.float32)
    pictures = {
        flag: draw_mosaic(
            Panel(black, limits=(0, 1), colormap="gray"), LAS, Layout(slices=[0], radiological=flag, has_bar=False)
        ).rgb
        for flag in (False, True)
    }
    half = pictures[False].shape[0] // 2
    parts = {"left": np.s_[half - 20 : half + 20, :24], "right": np.s_[half - 20 : half + 20, -24:]}
    ink = {(flag, side): (pictures[flag][part] > 128).sum() for flag in (False, True) for side, part in parts.items()}
    assert ink[False, "right"] > 1.3 * ink[False, "left"] > 0, "an R has more ink than an L"
    assert ink[True, "left"] > 1.3 * ink[True, "right"] > 0


def test_values_have_the_colours_of_their_table_between_the_limits() -> None:
    array = np.linspace(-0.5, 1.5, 41, dtype=np.float32)[:, None, None] * np.ones((1, 9, 2), np.float32)
    picture = draw_mosaic(Panel(array, limits=(0, 1), colormap="viridis"), np.eye(4), Layout(slices=[1], has_bar=False))
    row = picture.rgb[10]
    table = lookup_table("viridis").astype(int)
    for k in (5, 14, 27, 35):  # beside the letter
        seen = row[int((k + 0.5) * len(row) / 41)].astype(int)
        expected = table[round(255 * float(np.clip(array[k, 0, 0], 0, 1)))]
        assert np.abs(seen - expected).max() <= 3


def test_what_is_outside_the_mask_or_not_finite_is_paper() -> None:
    array = np.ones((40, 40, 1), np.float32)
    array[20:] = np.nan
    inside = np.ones(array.shape, bool)
    inside[:, 20:] = False
    for paper, value in (("black", 0), ("white", 255)):
        layout = Layout(slices=[0], has_bar=False, background=paper)
        box = (slice(None), slice(None), slice(None))
        rgb = draw_mosaic(Panel(array, limits=(0, 2), colormap="gray"), np.eye(4), layout, inside=inside, box=box).rgb
        height, width = rgb.shape[:2]
        assert (rgb[3 * height // 4, width // 4] == 128).all(), "known: at the bottom left"
        for row, column in ((height // 4, width // 4), (3 * height // 4, 3 * width // 4)):
            assert (rgb[row, column] == value).all()


def test_voxels_that_are_not_cubes_keep_their_shape() -> None:
    array = np.ones((20, 20, 20), np.float32)
    axial, coronal = (draw_mosaic(Panel(array), LAS, Layout(p, [5], has_bar=False)).size for p in ("axial", "coronal"))
    assert axial[0] == axial[1]
    assert coronal[1] / coronal[0] == pytest.approx(1.5, abs=0.02)


def test_a_mask_is_outlined_just_inside_its_edge() -> None:
    mask = np.zeros((40, 40, 1), bool)
    mask[10:30, 10:30] = True
    panel = Panel(np.zeros(mask.shape, np.float32), colormap="gray", limits=(0, 1), contour=mask)
    rgb = draw_mosaic(panel, np.eye(4), Layout(slices=[0], has_bar=False)).rgb
    orange = (rgb == (230, 159, 0)).all(axis=-1)
    rows, columns = np.nonzero(orange)
    side = rgb.shape[0] / 40
    assert (rows.min(), columns.min()) == (10 * side, 10 * side)
    assert (rows.max() + 1, columns.max() + 1) == (30 * side, 30 * side)
    assert not orange[int(15 * side) : int(25 * side), int(15 * side) : int(25 * side)].any()


def test_the_box_is_the_brain_with_a_margin_on_the_patients_axes() -> None:
    inside = np.zeros((10, 12, 14), bool)
    inside[3:7, 0:5, 6:14] = True
    assert box_of(inside, LAS) == (slice(2, 8), slice(0, 6), slice(5, 14))
    assert box_of(np.zeros_like(inside), LAS) is None
    assert box_of(None, LAS) is None


def test_slices_are_named_by_their_number_in_the_image_not_in_the_box() -> None:
    array = np.zeros((30, 30, 12), np.float32)
    array[:, :, 7] = 1
    inside = np.zeros(array.shape, bool)
    inside[5:25, 5:25, 4:10] = True
    picture = draw_mosaic(Panel(array, limits=(0, 1), colormap="gray"), np.eye(4), BARE, inside=inside).rgb
    bright = draw_mosaic(
        Panel(array, limits=(0, 1), colormap="gray"), np.eye(4), Layout(slices=[7], has_bar=False), inside=inside
    ).rgb
    middle = picture.shape[0] // 3
    assert picture[middle, middle].max() < 10
    assert bright[middle, middle].min() > 245


def test_a_scale_bar_has_the_length_it_says() -> None:
    array = np.zeros((60, 60, 1), np.float32)
    plain, barred = (
        draw_mosaic(Panel(array), np.diag([2.0, 2, 2, 1]), Layout(slices=[0], has_bar=False, scale_bar=s)).rgb
        for s in (0.0, 40.0)
    )
    changed = (plain != barred).any(axis=-1)
    row = int(np.flatnonzero(changed.any(axis=1))[-1])
    assert changed[row].sum() == pytest.approx(40 / 120 * plain.shape[1], abs=6)


def test_a_png_is_small_reads_back_and_knows_its_resolution() -> None:
    array = np.random.default_rng(0).random((64, 64, 8)).astype(np.float32)
    mosaic = draw_mosaic(Panel(array, "FA", limits=(0, 1)), np.eye(4), Layout(slices=4))
    image = Image.open(io.BytesIO(mosaic.png(dpi=300)))
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), mosaic.rgb)
    assert image.info["dpi"][0] == pytest.approx(300, abs=0.1)
    assert image.mode == "P", "a byte per pixel"


def test_residuals_are_dark_at_zero_and_coloured_by_their_sign() -> None:
    before = np.full((30, 30, 1), 5.0, np.float32)
    after = before.copy()
    after[:10], after[20:] = 4.0, 6.0
    first, second, rest = stack_tiles({"b = 0": before}, {"b = 0": after}, np.eye(4), None)
    assert first.size == second.size == rest.size
    line = rest.rgb[rest.size[1] // 3].astype(int)
    thirds = [line[int((k + 0.5) * len(line) / 3)] for k in range(3)]
    assert thirds[0][0] > thirds[0][2] + 80, "more before than after: orange"
    assert thirds[1].max() < 12
    assert thirds[2][2] > thirds[2][0] + 80, "blue"


def test_shapes_and_colormaps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(3, 3\); expected \(x, y, z\)"):
        draw_mosaic(Panel(np.zeros((3, 3))), np.eye(4))
    with pytest.raises(InputError, match="'rainbows'; expected a name that matplotlib knows"):
        draw_mosaic(Panel(np.zeros((3, 3, 3)), colormap="rainbows"), np.eye(4))


@pytest.mark.parametrize(
    "label", ["FA", "MD without kurtosis bias (1e-3 mm²/s)", "Density of the main fibre of each voxel"]
)
def test_a_long_name_does_not_run_into_the_colour_bar(label: str) -> None:
    flat = np.ones((52, 60, 2), np.float32)
    codes = draw_mosaic(Panel(flat, label, limits=(0, 1.5)), LAS, Layout(slices=2, columns=2, tile=200)).pixels
    foot = codes[-44:]
    is_bar = ((foot > 0) & (foot < 240)).sum(axis=0) >= 12
    is_ink = (foot >= 240).any(axis=0)
    assert is_bar.sum() >= 50
    assert np.flatnonzero(np.diff(is_bar.astype(int))).size == 2, "the bar is whole"
    assert not (is_bar & is_ink).any()
    assert is_ink[: np.flatnonzero(is_bar)[0]].any()


@pytest.mark.parametrize("name", ["viridis", "magma", "inferno", "plasma", "gray"])
def test_tables_that_are_kept_are_those_of_matplotlib(name: str) -> None:
    table = matplotlib.colormaps[name](np.arange(256) / 255, bytes=True)[:, :3]
    np.testing.assert_array_equal(lookup_table(name), table)


def test_slices_are_drawn_without_importing_matplotlib() -> None:
    code = (
        "import sys; import numpy as np; from arcuate.figures.mosaic import draw_mosaic; "
        "from arcuate.figures.panels import Panel; "
        "draw_mosaic(Panel(np.ones((9, 9, 9)), 'FA', 'gray'), np.eye(4)).png(); sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
