"""Pages of registrations and templates: edges where they are, numbers that are right, doubts where there is cause."""

from __future__ import annotations

import re
from pathlib import Path

import deformed
import numpy as np
import pytest

from arcuate.registration import TransformResource
from arcuate.report.alignment import (
    Named,
    agreement_of,
    borders_of,
    edges_of,
    mutual_information,
    write_registration_page,
    write_template_page,
)
from arcuate.volumes.resource import InMemoryVolumeResource
from arcuate.volumes.transforms import Affine, Displacement

STAY = TransformResource(np.eye(4)[None])


@pytest.fixture(scope="module")
def t1() -> InMemoryVolumeResource:
    return deformed.t1_head()["t1"]


@pytest.mark.parametrize("affine", [np.diag([-2.0, 2, 2, 1]), np.array([[0, 0, 2.0, 0], [2, 0, 0, 0], [0, -2, 0, 0],
                                                                       [0, 0, 0, 1]])])  # fmt: skip
def test_edges_of_a_ball_lie_on_its_surface(affine: np.ndarray) -> None:
    radius = np.linalg.norm(np.indices((33, 33, 33)).T - 16, axis=-1)
    ball = (radius < 10).astype(np.float32)
    for plane, row in (("axial", 2), ("coronal", 1), ("sagittal", 0)):
        edges = edges_of(borders_of(ball, affine), affine, plane)
        assert edges.any()
        across = int(np.argmax(np.abs(affine[row, :3])))
        middle = edges.take(16, axis=across)
        assert np.abs(radius.take(16, axis=across)[middle] - 10).max() < 1.2
        ring = middle.sum()
        assert 40 < ring < 130  # one voxel wide, about 2 pi 10
    assert not edges_of(borders_of(np.ones((9, 9, 9)), affine), affine, "axial").any()


def test_numbers_of_a_known_move_are_those_of_the_move(t1: InMemoryVolumeResource) -> None:
    turn = np.eye(4)
    angle = np.radians(10)
    turn[:2, :2] = 1.1 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn[2, 2] = 1.1
    transform = TransformResource.of(Affine(turn))
    moving = t1.with_array(transform.inverse.apply(t1, t1).array)
    found = agreement_of(t1, (moving, transform.apply(moving, t1)), transform)
    np.testing.assert_allclose(found.volumes, 1.1**3, rtol=1e-6)
    np.testing.assert_allclose(found.affine, turn)
    assert found.information[1] > 2 * found.information[0]


def test_mutual_information_is_that_of_bits() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=200_000)
    assert mutual_information(one, -3 * one) == pytest.approx(5.0, abs=0.01)  # 32 cells of equal share
    assert mutual_information(one, rng.normal(size=200_000)) < 0.01
    assert mutual_information(one, np.zeros(200_000)) == 0.0


def _text(page: Path) -> str:
    return re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", page.read_text(encoding="utf-8"), flags=re.S)


def test_the_page_of_a_registration_shows_both_before_and_after(t1: InMemoryVolumeResource, tmp_path: Path) -> None:
    shift = np.eye(4)
    shift[:3, 3] = 9, -6, 3
    transform = TransformResource.of(Affine(shift))
    moved = InMemoryVolumeResource(t1.array, shift @ t1.get_affine())
    page = write_registration_page(
        tmp_path / "p.html", Named("t1 <i>", t1), Named("fa", moved), transform, transform.apply(moved, t1)
    )
    said, whole = _text(page), page.read_text(encoding="utf-8")
    assert "<i>" not in whole
    assert "Please check" not in said
    assert f"{np.linalg.norm([9, -6, 3]):.1f}" in said
    assert len(re.findall(r'type="range"', whole)) == 6  # three planes, twice
    assert "https://" not in whole


def test_a_registration_that_made_it_worse_or_folds_is_doubted(t1: InMemoryVolumeResource, tmp_path: Path) -> None:
    vectors = np.zeros((*t1.shape, 3))
    vectors[..., 0] = 18 * np.sin(np.arange(t1.shape[0]))[:, None, None]
    transform = TransformResource.of(Displacement(vectors, t1.get_affine()))
    page = write_registration_page(tmp_path / "p.html", Named("a", t1), Named("b", t1), transform,
                                   transform.apply(t1, t1))  # fmt: skip
    said = _text(page)
    assert "share less information after registration" in said
    assert "the warp folds space at" in said


def test_the_page_of_a_template_shows_it_beside_the_mean(t1: InMemoryVolumeResource, tmp_path: Path) -> None:
    page = write_template_page(tmp_path / "t.html", {"fa": t1}, {"fa": t1}, {"sub-01": STAY, "sub-02": STAY})
    said = _text(page)
    assert "Template of 2 subjects" in said
    assert "sub-02" in said
    assert page.read_text(encoding="utf-8").count('type="range"') == 3
