"""Slices in which a whole volume is lost: the axis they are found along, what is blamed, and what must stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tables import random_table

from arcuate.models.lost_slices import SliceEvidence
from arcuate.models.robust_tensor import prepare_robust_tensor
from arcuate.models.status import Status
from arcuate.models.tensor import determines_tensor, tensor_design

SHAPE = (8, 9, 7)
TABLE = random_table((0, 2), (1000, 12))
DESIGN = tensor_design(TABLE.bvals, TABLE.directions)


def _evidence(shape: tuple[int, int, int] = SHAPE, design: np.ndarray = DESIGN) -> tuple[SliceEvidence, np.ndarray]:
    """Of all voxels of an image, and their places (3, n_vox)."""
    places = np.indices(shape).reshape(3, -1)
    return SliceEvidence(places, design), places


def _outliers(places: np.ndarray, *lost: tuple[int, int, int], share: float = 0.8) -> np.ndarray:
    """A volume (axis, slice, volume) is an outlier in most voxels of its slice; 1 % of the others by chance."""
    rng = np.random.default_rng(0)
    found = rng.uniform(size=(places.shape[1], len(DESIGN))) < 0.01
    for axis, k, v in lost:
        at = places[axis] == k
        found[at, v] = rng.uniform(size=at.sum()) < share
    return found


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("share", [0.45, 1.0])
def test_slices_are_found_along_the_axis_of_the_acquisition(axis, share):
    evidence, places = _evidence()
    evidence.count(np.arange(places.shape[1]), _outliers(places, (axis, 3, 5), (axis, 6, 0), share=share))
    again = evidence.find_lost()
    assert evidence.axis == axis
    assert set(map(tuple, np.argwhere(evidence.lost))) == {(3, 5), (6, 0)}
    np.testing.assert_array_equal(again, np.isin(places[axis], (3, 6)))
    known = evidence.lost_of(np.arange(places.shape[1]))
    np.testing.assert_array_equal(np.flatnonzero(known[:, 5]), np.flatnonzero(places[axis] == 3))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_of_two_slices_the_lost_one_is_told_from_half_of_every_line_across(axis):
    shape = [30, 30, 30]
    shape[axis] = 2
    evidence, places = _evidence(tuple(shape))
    evidence.count(np.arange(places.shape[1]), _outliers(places, (axis, 1, 5)))
    evidence.find_lost()
    assert evidence.axis == axis
    assert np.argwhere(evidence.lost).tolist() == [[1, 5]]


def test_without_a_lost_slice_none_is_found_and_the_last_axis_stands():
    evidence, places = _evidence()
    evidence.count(np.arange(places.shape[1]), _outliers(places))
    assert not evidence.find_lost().any()
    assert (evidence.axis, evidence.lost.any(), evidence.lost.shape) == (2, False, (7, 14))


def test_volumes_drawn_along_by_a_worse_one_are_judged_again_without_it():
    evidence, places = _evidence()
    everywhere, at = np.arange(places.shape[1]), np.flatnonzero(places[2] == 3)
    found = _outliers(places, (2, 3, 5))
    found[at, 9] = np.random.default_rng(1).uniform(size=len(at)) < 0.5
    evidence.count(everywhere, found)
    assert evidence.find_lost()[at].all()
    assert np.argwhere(evidence.lost).tolist() == [[3, 5]], "volume 9 is far behind volume 5"
    still = evidence.lost_of(at)
    still[: len(at) // 2, 9] = True  # it stays an outlier in half of the slice
    evidence.count(at, still)
    assert evidence.find_lost()[at].all()
    assert np.argwhere(evidence.lost).tolist() == [[3, 5], [3, 9]]
    evidence.count(at, evidence.lost_of(at))
    assert not evidence.find_lost().any()
    assert evidence.n_outliers[5] == found[places[2] != 3, 5].sum() + len(at)


def test_two_outliers_by_chance_in_a_slice_of_six_voxels_lose_nothing():
    evidence, places = _evidence((3, 2, 5))
    found = np.zeros((places.shape[1], 14), dtype=bool)
    found[np.flatnonzero(places[2] == 2)[:3], 4] = True
    evidence.count(np.arange(places.shape[1]), found)
    assert not evidence.find_lost().any()


def test_what_would_leave_no_tensor_is_not_lost():
    single = random_table((0, 1), (1000, 12))
    evidence, places = _evidence(design=tensor_design(single.bvals, single.directions))
    evidence.count(np.arange(places.shape[1]), _outliers(places, (2, 3, 0), (2, 4, 7))[:, :13])
    evidence.find_lost()
    assert np.argwhere(evidence.lost).tolist() == [[4, 7]], "the only b = 0 of slice 3 stays"
    assert determines_tensor(DESIGN)
    assert not determines_tensor(DESIGN[2:])
    assert not determines_tensor(DESIGN[:7])
    assert not determines_tensor(DESIGN[:2])


def test_volumes_known_to_be_lost_have_no_part_in_anything():
    _, model = prepare_robust_tensor(TABLE)
    rng = np.random.default_rng(0)
    coefs = np.r_[1e-3, 1e-4, 0, 0.7e-3, 0, 0.4e-3, np.log(500)]
    rows = np.exp(DESIGN @ coefs) + rng.normal(0, 20, (300, 14))
    lost = rng.uniform(size=rows.shape) < 0.1
    lost[:, :2] = False
    lost[np.count_nonzero(lost, axis=1) > 3] = False
    whole, spoiled = model.fit(rows, None, lost), model.fit(np.where(lost, 150.0, rows), None, lost)
    np.testing.assert_array_equal(whole.outliers, spoiled.outliers)
    np.testing.assert_allclose(whole.tensors, spoiled.tensors, rtol=0, atol=1e-12)
    assert whole.outliers[lost].all()
    lacks = whole.status == Status.NOT_CONVERGED
    assert 0 < lacks.sum() < 10, "else what follows tests nothing"
    np.testing.assert_array_equal(whole.outliers[lacks], lost[lacks])  # what was kept determined no tensor: all is kept
    for v in np.flatnonzero(whole.status == Status.FITTED)[:40]:
        kept = np.flatnonzero(~lost[v])
        if len(kept) >= 12:
            alone = replace(model, design=DESIGN[kept]).fit(rows[v : v + 1, kept])
            np.testing.assert_allclose(whole.tensors[v], alone.tensors[0], rtol=0, atol=1e-12)
            np.testing.assert_array_equal(whole.outliers[v, kept], alone.outliers[0])


def test_where_nine_volumes_are_left_no_others_are_looked_for():
    _, model = prepare_robust_tensor(TABLE)
    rows = np.exp(DESIGN @ np.r_[1e-3, 1e-4, 0, 0.7e-3, 0, 0.4e-3, np.log(500)]) * np.ones((5, 1))
    rows[:, 3] *= 0.1
    lost = np.zeros(rows.shape, dtype=bool)
    lost[:, 9:] = True
    np.testing.assert_array_equal(model.fit(rows, None, lost).outliers, lost)
    lost[:, 9] = False
    assert model.fit(rows, None, lost).outliers[:, 3].all(), "with one more it is seen"
