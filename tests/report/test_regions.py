"""The outlines of an atlas in the report lie on the borders of its labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

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


def test_regions_come_with_a_chart_and_a_table_of_each_map_in_its_own_unit(tmp_path: Path) -> None:
    from arcuate.regions import region_table
    from arcuate.report.regions import _draw_largest
    from arcuate.report.section import Section
    from arcuate.volumes.resource import InMemoryVolumeResource

    labels = np.repeat(np.arange(4, dtype=np.int32), 54).reshape(6, 6, 6)
    rng = np.random.default_rng(0)
    maps = {"fa": rng.uniform(0.2, 0.4, labels.shape), "md": rng.uniform(0.7e-3, 0.9e-3, labels.shape)}
    as_volume = lambda array: InMemoryVolumeResource(array, np.eye(4))  # noqa: E731
    table = region_table({k: as_volume(a) for k, a in maps.items()}, as_volume(labels), {1: "Left <b>", 2: "b", 3: "c"})
    table.save(tmp_path / "t.tsv")
    section = Section("regions", "Regions")
    _draw_largest(tmp_path / "t.tsv", section)
    assert section.tables[0].head == ("region", "voxels", "FA", "MD (1e-3 mm²/s)")
    assert float(section.tables[0].rows[0][3]) == pytest.approx(0.8, abs=0.05)
    assert [picture.name for picture in section.charts] == ["regions_fa", "regions_md"]
    svg = section.charts[0].svg
    assert svg.count("<circle") == 3
    assert "Left &lt;b&gt;" in svg
    low, mean, high = (np.percentile(maps["fa"][labels == 1], 5), maps["fa"][labels == 1].mean(),
                       np.percentile(maps["fa"][labels == 1], 95))  # fmt: skip
    assert f"{mean:.3g}, from {low:.3g} to {high:.3g}" in svg
