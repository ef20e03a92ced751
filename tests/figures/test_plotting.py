"""Maps on paper: sides, colour bars, outlines, and what notebooks show."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arcuate.dti import Dti
from arcuate.errors import InputError, MissingExtraError
from arcuate.figures.plotting import (
    Panel,
    _figure_class,
    plot_histograms,
    plot_maps,
    plot_residuals,
    png_of,
    robust_limits,
)
from arcuate.noddi import Noddi
from arcuate.volumes.resource import InMemoryVolumeResource

LAS = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -10], [0, 0, 3, 0], [0, 0, 0, 1]])


@pytest.fixture
def image() -> np.ndarray:
    """Value 5 at the patient's left, front and top of an image stored from right to left."""
    array = np.ones((8, 10, 6), np.float32)
    array[7, 9, 5] = 5  # the first axis runs to the left
    return array


@pytest.mark.parametrize("radiological", [False, True])
def test_the_left_of_the_patient_is_where_the_letter_says(image: np.ndarray, radiological: bool) -> None:
    figure = plot_maps([Panel(image, "signal")], LAS, slices=[5], radiological=radiological)
    axis = figure.axes[0]
    picture = axis.images[0].get_array()
    row, column = np.argwhere(np.asarray(picture) == 5)[0]
    assert row == 0
    assert column == (7 if radiological else 0)
    letter = next(t for t in axis.texts if t.get_text() == "L")
    assert (letter.get_position()[0] > 0.5) == radiological


def test_every_map_has_its_colour_bar_and_shared_slices(image: np.ndarray) -> None:
    figure = plot_maps([Panel(image, "one"), Panel(2 * image, "two", limits=(0, 4))], LAS, slices=3)
    bars = [a.get_ylabel() for a in figure.axes if a.get_ylabel()]
    assert bars == ["one", "two"]
    assert sum(bool(a.images) for a in figure.axes) == 6
    assert figure.axes[3].images[0].get_clim() == (0, 4)
    assert png_of(figure)[:4] == b"\x89PNG"


def test_voxels_that_are_not_cubes_keep_their_shape(image: np.ndarray) -> None:
    figure = plot_maps([Panel(image)], LAS, plane="coronal", slices=1)
    assert figure.axes[0].get_aspect() == pytest.approx(1.5)


def test_a_mask_is_outlined_on_the_image_below_it(image: np.ndarray) -> None:
    mask = np.zeros(image.shape, bool)
    mask[2:6, 2:8, 1:5] = True
    figure = InMemoryVolumeResource(mask, LAS).plot(over=InMemoryVolumeResource(image, LAS), slices=[3])
    (outline,) = figure.axes[0].collections
    corners = np.vstack([path.vertices for path in outline.get_paths() if len(path.vertices)])
    np.testing.assert_allclose(np.ptp(corners, axis=0), [4, 6])


def test_volumes_and_their_repr_in_notebooks(image: np.ndarray) -> None:
    series = InMemoryVolumeResource(np.stack([image, 3 * image], axis=-1), LAS)
    assert series.plot(volume=1, slices=[5]).axes[0].images[0].get_array().max() == 15
    with pytest.raises(InputError, match="volume 2; expected one of 0 to 1"):
        series.plot(volume=2)
    html = series._repr_html_()
    assert "2 x 2 x 3 mm" in html
    assert "data:image/png;base64," in html
    assert 'alt="slices' in html


def test_tensors_and_noddi_draw_their_maps(image: np.ndarray) -> None:
    tensors = np.zeros((*image.shape, 6), np.float32)
    tensors[..., 0], tensors[..., 3], tensors[..., 5] = 1.7e-3, 0.3e-3, 0.3e-3
    dti = Dti(InMemoryVolumeResource(tensors, LAS))
    figure = dti.plot(slices=[2])
    color = np.asarray(figure.axes[0].images[0].get_array())
    assert color[..., 0].min() > 0.75
    assert color[..., 1:].max() < 1e-6
    assert "data:image/png" in dti._repr_html_()
    noddi = Noddi(InMemoryVolumeResource(np.full((*image.shape, 3), 0.5, np.float32), LAS), dti.volume)
    assert [a.get_ylabel() for a in noddi.plot().axes if a.get_ylabel()] == ["NDI", "ODI", "FWF"]
    assert "NODDI" in noddi._repr_html_()


def test_residuals_are_centred_on_zero(image: np.ndarray) -> None:
    figure = plot_residuals({"b=0": image, "b=1000": image}, {"b=0": image - 0.5, "b=1000": image}, LAS)
    low, high = figure.axes[2].images[0].get_clim()
    assert low == -high == pytest.approx(-0.5)
    assert figure.axes[3].get_ylabel() == "b=1000"


def test_histograms_leave_out_zero_and_nan(image: np.ndarray) -> None:
    values = np.concatenate([image.ravel(), np.zeros(100), np.full(10, np.nan)])
    figure = plot_histograms({"FA": values})
    assert sum(patch.get_height() for patch in figure.axes[0].patches) <= image.size
    assert sum(patch.get_height() for patch in figure.axes[0].patches) >= image.size - 1


def test_limits_are_robust_and_start_at_zero() -> None:
    low, high = robust_limits(np.array([0, np.nan, *np.linspace(1, 2, 999), 1e6]))
    assert low == 0
    assert high == pytest.approx(2, abs=0.02)
    assert robust_limits(np.zeros(5)) == (0.0, 1.0)
    assert robust_limits(np.array([-2.0, 2.0]))[0] < -1.9


def test_without_matplotlib_the_extra_is_named_and_notebooks_show_the_facts(
    image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    _figure_class.cache_clear()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    volume = InMemoryVolumeResource(image, LAS)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[report\]"):
        volume.plot()
    assert "<img" not in volume._repr_html_()
    assert "(8, 10, 6)" in volume._repr_html_()
    _figure_class.cache_clear()


def test_a_region_is_counted_from_the_patients_left_and_back(image: np.ndarray) -> None:
    figure = plot_maps([Panel(image)], LAS, slices=[5], region=((0, 4), (6, 10)))
    picture = np.asarray(figure.axes[0].images[0].get_array())
    assert picture.shape == (4, 4)
    assert picture[0, 0] == 5, "the patient's left and front"
    with pytest.raises(InputError, match=r"region .*within 0 to 8 and 0 to 10"):
        plot_maps([Panel(image)], LAS, region=((0, 9), (0, 3)))


def test_white_paper_shows_nothing_outside_the_mask(image: np.ndarray) -> None:
    mask = np.zeros(image.shape, bool)
    mask[2:6, 2:8] = True
    color = np.repeat(image[..., None] / 10, 3, axis=-1)
    figure = plot_maps([Panel(image), Panel(color)], LAS, slices=[3], mask=mask, paper="white")
    shown, colored = (np.ma.filled(axis.images[0].get_array(), np.nan) for axis in figure.axes[:2])
    assert np.isnan(shown).sum() == shown.size - 24
    assert (colored[..., 3] == 0).sum() == shown.size - 24
    pixels = np.asarray(Image.open(io.BytesIO(png_of(figure))).convert("RGB"))
    assert (pixels[:4] == 255).all()
    dark = np.asarray(
        Image.open(io.BytesIO(png_of(plot_maps([Panel(image)], LAS, slices=[3], paper="black")))).convert("RGB")
    )
    assert (dark[:3, :3] == 0).all()
    with pytest.raises(InputError, match="paper 'pink'"):
        plot_maps([Panel(image)], LAS, paper="pink")


def test_a_scale_bar_is_as_long_as_it_says_and_vectors_stay_vectors(image: np.ndarray, tmp_path: Path) -> None:
    figure = InMemoryVolumeResource(image, LAS).plot(slices=[3], scale_bar=10)
    (bar,) = [line for line in figure.axes[0].lines if line.get_gid() == "scale bar"]
    assert np.ptp(bar.get_xdata()) == pytest.approx(5), "10 mm are 5 voxels of 2 mm"
    path = tmp_path / "slices.svg"
    figure.savefig(path)
    assert "scale bar" in path.read_text()
