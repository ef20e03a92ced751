"""Parts of a scan with another intensity scale are seen by their b = 0, and nothing else is taken for parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from arcuate.dwi import Dwi
from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.volumes.scale_steps import factors_of, find_parts, scale_doubts

SHAPE = (12, 12, 8)


def scan(layout: str, scales: list[float], *, snr: float = 20.0, seed: int = 0) -> Dwi:
    """A ball; ``layout`` has a letter per volume (0: b = 0, w: 1000, 1: 2000), ``scales`` a number per volume."""
    rng = np.random.default_rng(seed)
    g = rng.normal(size=(len(layout), 3))
    g /= np.linalg.norm(g, axis=1, keepdims=True)
    bvals = np.array([{"0": 0.0, "w": 1000.0, "1": 2000.0}[letter] for letter in layout])
    table = GradientTable(bvals, np.where(bvals[:, None] > 0, g, 0))
    x = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij"))
    head = 1000 * (np.sum(x**2, axis=0) < 0.8) * (1 + 0.3 * x[0])
    array = head[..., None] * np.exp(-bvals * 0.8e-3) + rng.normal(0, 1000 / snr, (*SHAPE, len(bvals)))
    return Dwi.from_arrays((array * np.array(scales)).astype(np.float32), np.diag([2.0, 2, 2, 1]), table)


@pytest.mark.parametrize(
    ("layout", "odd", "times"), [("00wwwwwwww0", 10, "0.3"), ("0wwww0www0", 9, "2"), ("000ww", 0, "1.5")]
)
def test_one_b0_volume_of_another_signal_at_an_end_is_no_part(layout: str, odd: int, times: str) -> None:
    scales = [1.0] * len(layout)
    scales[odd] = float(times)
    (doubt,) = scale_doubts(scan(layout, scales).find_parts())
    assert doubt.startswith(f"volume {odd}, b=0, has {times} times the signal of the other b=0 volumes")
    assert f"--exclude {odd})" in doubt
    assert "--scale-parts" not in doubt


def test_noise_of_a_few_voxels_is_no_step() -> None:
    rng = np.random.default_rng(0)
    bvals = np.array([0.0, 0, 0, *[1000.0] * 6])
    table = GradientTable(bvals, np.where(bvals[:, None] > 0, np.eye(3)[np.arange(9) % 3], 0))
    for _ in range(50):
        assert scale_doubts(find_parts(np.abs(rng.normal(100, 60, (4, 4, 4, 9))), table)) == []


def test_two_series_in_one_file_are_seen_with_their_factor_and_mended() -> None:
    dwi = scan("000wwwwww00wwwwwwww", [1.0] * 9 + [0.2] * 10)
    parts = dwi.find_parts()
    assert [(p.start, p.stop) for p in parts] == [(0, 9), (9, 19)]
    assert parts[1].scale == pytest.approx(0.2, rel=0.02)
    (doubt,) = scale_doubts(parts)
    assert "volumes 9 to 18: 0.2" in doubt
    assert "--scale-parts" in doubt
    mended = dwi.scale_parts()
    assert scale_doubts(mended.find_parts()) == []
    truth = scan("000wwwwww00wwwwwwww", [1.0] * 19)
    np.testing.assert_allclose(mended.volume.get_array(), truth.volume.get_array(), rtol=0.03, atol=3)
    assert mended.origin["PartScales"][1] == pytest.approx(0.2, rel=0.02)
    assert dwi.origin == {}, "the scan that was given stays"


def test_one_b0_each_is_enough() -> None:
    assert len(scan("0wwwwww0wwwwww", [1.0] * 7 + [1.4] * 7).find_parts()) == 2


@pytest.mark.parametrize("seed", range(5))
def test_noise_drift_and_one_odd_volume_are_no_parts(seed: int) -> None:
    layout = "0wwww" * 6
    for scales in (np.ones(30), np.linspace(1, 1.3, 30), np.where(np.arange(30) == 15, 0.5, 1.0)):
        dwi = scan(layout, list(scales), seed=seed)
        assert len(dwi.find_parts()) == 1
        assert scale_doubts(dwi.find_parts()) == []


def test_parts_that_were_given_are_compared_whatever_their_step() -> None:
    first, second = scan("0www", [1.0] * 4), scan("0www", [1.2] * 4, seed=1)
    joined = Dwi.concatenate([first, second])
    assert joined.find_parts()[1].scale == pytest.approx(1.2, rel=0.03)
    assert len(scale_doubts(joined.find_parts())) == 1
    same = Dwi.concatenate([first, scan("0www", [1.0] * 4, seed=1)])
    assert scale_doubts(same.find_parts()) == []


def test_a_part_without_b0_cannot_be_told_and_cannot_be_scaled() -> None:
    joined = Dwi.concatenate([scan("00www", [1.0] * 5), scan("wwww", [0.3] * 4)])
    assert scale_doubts(joined.find_parts()) == [
        "the part of volumes 5 to 8 has no b=0 volume: whether all parts have one intensity scale cannot be told"
    ]
    with pytest.raises(InputError, match=r"part of the scan has no b=0.*Leave --scale-parts out"):
        joined.scale_parts()


def test_parts_keep_their_volumes_and_scales_when_some_are_left_out(tmp_path: Path) -> None:
    layout = "00wwwww0wwwww1wwww1"
    parts = [scan(layout, [scale] * len(layout), seed=seed) for seed, scale in enumerate((1.0, 0.25, 1.0))]
    paths = [part.save(tmp_path, f"run-{i}").volume.path for i, part in enumerate(parts)]
    whole = Dwi.from_files(paths, shells="0,1000")
    assert whole.origin["Parts"] == [17, 17, 17]
    assert whole.scale_parts().origin["PartScales"] == pytest.approx([1, 0.25, 1], rel=0.05)
    n = len(layout)
    first = Dwi.from_files(paths, exclude=f"{n}-last")
    assert first.volume.shape[3] == n, "parts of which nothing is left are no parts"
    assert "Parts" not in first.origin
    assert first.origin["VolumesExcluded"] == list(range(n, 3 * n))
    scaled = Dwi.from_files(paths).scale_parts().select(exclude=range(n))
    assert scaled.origin["Parts"] == [n, n]
    assert scaled.origin["PartScales"] == pytest.approx([0.25, 1], rel=0.05)
    with pytest.raises(InputError, match="all 57 volumes were excluded"):
        Dwi.from_files(paths, exclude="0-last")


def test_volumes_sorted_by_b_do_not_tell_their_parts() -> None:
    dwi = scan("000000wwwwwwww", [1.0] * 3 + [0.2] * 3 + [1.0] * 4 + [0.2] * 4)
    assert len(dwi.find_parts()) == 2
    with pytest.raises(InputError, match=r"cannot be told which weighted volumes.*A B --scale-parts"):
        dwi.scale_parts()


def test_one_scale_gives_factors_of_one() -> None:
    dwi = scan("0ww0ww", [1.0] * 6)
    parts = find_parts(dwi.volume.get_array(), dwi.gradients)
    np.testing.assert_array_equal(factors_of(parts, dwi.gradients, are_known=False), 1)
    assert dwi.scale_parts().origin == {}
