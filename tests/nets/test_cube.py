"""The cube that the networks see, against scipy's zoom of the image itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from arcuate.nets.cube import SIZE, make_axis_maps


def _cube_by_scipy(image: np.ndarray) -> np.ndarray:
    """Padded to a cube (the odd voxel behind), zoomed by nearest neighbour."""
    edge = max(image.shape)
    padded = np.zeros((edge,) * 3)
    starts = [int((edge - n) / 2) for n in image.shape]
    padded[tuple(slice(s, s + n) for s, n in zip(starts, image.shape, strict=True))] = image
    return ndimage.zoom(padded, SIZE / edge, order=0)


@pytest.mark.parametrize("shape", [(52, 67, 55), (73, 87, 73), (9, 31, 144), (150, 173, 148), (1, 2, 3)])
def test_source_and_back_are_those_of_scipy(shape: tuple[int, int, int]) -> None:
    image = 1 + np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    maps = make_axis_maps(shape, (2.0, 2.0, 2.0))
    cube = np.pad(image, ((0, 1),) * 3)[np.ix_(*(m.source for m in maps))]
    np.testing.assert_array_equal(cube, _cube_by_scipy(image))

    edge = max(shape)
    again = ndimage.zoom(cube, edge / SIZE, order=0)
    starts = [int((edge - n) / 2) for n in shape]
    expected = again[tuple(slice(s, s + n) for s, n in zip(starts, shape, strict=True))]
    np.testing.assert_array_equal(cube[np.ix_(*(m.back for m in maps))], expected)


def test_voxels_that_are_not_cubes_are_shown_as_long_as_they_are() -> None:
    x, y, z = make_axis_maps((60, 60, 30), (2.0, 2.0, 4.0))
    for flat, long in ((x, z), (y, z)):
        # half as many voxels, each twice as long: the same extent of the cube
        np.testing.assert_array_equal(flat.source // 2, long.source)
        assert (long.source[long.back] == np.arange(30)).all()


def test_every_position_of_the_image_has_one_slice_and_the_cube_few_distinct_ones() -> None:
    for axis in make_axis_maps((52, 67, 55), (2.0, 2.0, 2.0)):
        needed = axis.distinct(only_needed=True)
        looked_up = np.concatenate([axis.looked_up_at(p) for p in needed])
        np.testing.assert_array_equal(np.sort(looked_up), np.arange(len(axis.back)))
        shown = np.concatenate([axis.shown_at(p) for p in axis.distinct(only_needed=False)])
        np.testing.assert_array_equal(np.sort(shown), np.arange(SIZE))
        assert len(needed) <= 67
