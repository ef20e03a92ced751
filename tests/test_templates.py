"""Templates: the mean of heads that were deformed by known fields, and equal to ANTs' own."""

from __future__ import annotations

import importlib.util
from typing import Any

import deformed
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from arcuate.errors import InputError
from arcuate.registration import TransformResource
from arcuate.templates import (
    average_volumes,
    build_fod_template,
    build_multi_metric_template,
    build_template,
    template_and_transforms,
)
from arcuate.volumes.resource import InMemoryVolumeResource

QUICK = {"reg_iterations": (30, 20, 5), "aff_iterations": (200, 100, 20, 0)}


def test_an_average_is_the_mean_on_the_largest_grid() -> None:
    rng = np.random.default_rng(0)
    first = InMemoryVolumeResource(rng.uniform(1, 2, (6, 7, 8)), np.diag([2.0, 2, 2, 1]))
    second = first.with_array(rng.uniform(1, 2, (6, 7, 8)))
    mean = average_volumes([first, second], normalize=False)
    np.testing.assert_allclose(mean.array, (first.array + second.array) / 2, rtol=1e-6)
    scaled = average_volumes([first, second.with_array(50 * second.array)])
    np.testing.assert_allclose(scaled.array, average_volumes([first, second]).array, rtol=1e-5)
    small = InMemoryVolumeResource(first.array[1:-1], first.affine @ np.array(
        [[1.0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))  # fmt: skip
    assert average_volumes([small, first]).shape == (6, 7, 8)
    with pytest.raises(InputError, match="found no volume"):
        average_volumes([])
    with pytest.raises(InputError, match=r"found a volume of shape \(2, 2, 2, 2\) \(number 1\)"):
        average_volumes([first, first.with_array(np.ones((2, 2, 2, 2)))])


@pytest.fixture(scope="module")
def group() -> dict[str, Any]:
    """Three heads, each one head deformed by a field of its own; the fields are a, b and -(a + b)."""
    if importlib.util.find_spec("ants") is None:
        pytest.skip("antspyx is not installed (extra ants)")
    head = deformed.t1_head()
    affine = head["t1"].get_affine()
    fields = [deformed.field_of(deformed.waves(4.0, seed), deformed.SHAPE, affine) for seed in (1, 2)]
    last = -(fields[0].vectors + fields[1].vectors)
    transforms = [TransformResource.of(f) for f in (*fields, type(fields[0])(last, affine))]
    maps = {
        name: [t.apply(head[name].with_array(gaussian_filter(np.asarray(head[name].array, float), 0.6)), head[name])
               for t in transforms]
        for name in ("t1", "fa")
    }  # fmt: skip
    return {"head": head, "transforms": transforms, **maps}


def test_a_template_is_sharper_than_the_plain_mean_and_as_the_head(group: dict[str, Any]) -> None:
    inside = group["head"]["mask"].array > 0
    template, transforms = template_and_transforms([{"t1": v} for v in group["t1"]], iterations=2, **QUICK)
    found, plain = template["t1"].array, average_volumes(group["t1"]).array
    truth = gaussian_filter(group["head"]["t1"].array, 0.6)

    def likeness(array: np.ndarray) -> float:
        return float(np.corrcoef(array[inside], truth[inside])[0, 1])

    assert likeness(found) > 0.98
    assert 1 - likeness(found) < 0.6 * (1 - likeness(plain))
    warped = [t.apply(v, template["t1"]).array for t, v in zip(transforms, group["t1"], strict=True)]
    spread = np.std(warped, axis=0)[inside].mean() / np.std([v.array for v in group["t1"]], axis=0)[inside].mean()
    assert spread < 0.6


def test_one_round_equals_that_of_ants(group: dict[str, Any]) -> None:
    import ants

    from arcuate.registration import SEED
    from arcuate.volumes.ants_images import seeded, to_ants

    start = average_volumes(group["t1"])
    ours = build_template(group["t1"], start, iterations=1, **QUICK).array
    with seeded(SEED):
        peer = ants.build_template(
            initial_template=to_ants(start, "it"), image_list=[to_ants(v, "it") for v in group["t1"]], iterations=1,
            type_of_transform="SyN", useNoRigid=False, **QUICK,
        ).numpy()  # fmt: skip
    inside = group["head"]["mask"].array > 0
    assert np.corrcoef(ours[inside], peer[inside])[0, 1] > 0.99
    assert np.median(np.abs(ours - peer)[inside]) < 0.03 * np.median(peer[inside])


def test_several_maps_make_one_template_each(group: dict[str, Any]) -> None:
    subjects = [{"fa": fa, "t1": t1} for fa, t1 in zip(group["fa"], group["t1"], strict=True)]
    template = build_multi_metric_template(subjects, weights={"fa": 1.0, "t1": 0.5}, iterations=1, **QUICK)
    inside = group["head"]["mask"].array > 0
    for name in ("fa", "t1"):
        truth, plain = np.asarray(group["head"][name].array), average_volumes(group[name]).array
        better = np.corrcoef(template[name].array[inside], truth[inside])[0, 1]
        assert better > np.corrcoef(plain[inside], truth[inside])[0, 1]


def test_a_template_of_fods_is_the_mean_of_those_brought_over() -> None:
    rng = np.random.default_rng(0)
    grid = InMemoryVolumeResource(rng.uniform(size=(5, 6, 4)), np.diag([2.0, 2, 2, 1]))
    fods = [grid.with_array(rng.normal(size=(5, 6, 4, 15)).astype(np.float32)) for _ in range(2)]
    stay = [TransformResource(np.eye(4)[None])] * 2
    mean = build_fod_template(fods, stay, grid)
    np.testing.assert_allclose(mean.array, (fods[0].array + fods[1].array) / 2, atol=1e-5)
    with pytest.raises(InputError, match="found 2 FODs and 1 transforms"):
        build_fod_template(fods, stay[:1], grid)
    with pytest.raises(InputError, match="expected one degree for all subjects"):
        build_fod_template([fods[0], grid.with_array(np.zeros((5, 6, 4, 6)))], stay, grid)


def test_bad_groups_are_one_sentence() -> None:
    volume = InMemoryVolumeResource(np.random.default_rng(0).uniform(size=(5, 5, 5)))
    with pytest.raises(InputError, match="found 1 subject for a template; expected two or more"):
        build_template([volume])
    with pytest.raises(InputError, match="subject 1 has the maps md; expected fa"):
        build_multi_metric_template([{"fa": volume}, {"md": volume}])
    with pytest.raises(InputError, match="found md in the weights; expected fa"):
        build_multi_metric_template([{"fa": volume}, {"fa": volume}], weights={"md": 1.0})
    with pytest.raises(InputError, match="found 0 iterations"):
        build_template([volume, volume], iterations=0)
