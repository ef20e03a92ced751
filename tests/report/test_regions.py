"""The outlines of an atlas in the report lie on the borders of its labels."""

from __future__ import annotations

import numpy as np

from arcuate.report.regions import outlined


def test_outlines_lie_between_neighbours_of_a_plane_and_nowhere_else() -> None:
    labels = np.zeros((8, 9, 7), dtype=np.int32)
    labels[2:6, 3:7, 1:6] = 3
    labels[4:6, 3:7, 1:6] = 12
    grey = np.full((8, 9, 7, 3), 0.5, dtype=np.float32)
    turned = np.array([[0.0, 0, 2, 0], [2, 0, 0, 0], [0, -2, 0, 0], [0, 0, 0, 1]])  # axial slices run along y
    for affine, through in ((np.diag([-2.0, 2, 2, 1]), 2), (turned, 1)):
        drawn = np.any(outlined(grey, labels, affine, "axial") != 0.5, axis=-1)
        assert not drawn[labels == 0].any()
        inner = [slice(None)] * 3
        assert drawn.any()
        inner[through] = slice(2, 5) if through == 2 else slice(4, 6)  # within the labels
        middle = drawn[tuple(inner)]
        assert np.all(middle == middle.take([0], axis=through))  # the same in every slice: no lid is drawn
        assert drawn[4, 5, 3], "the border of two regions"
        assert not drawn[5, 5, 3], "the inside of a region"
