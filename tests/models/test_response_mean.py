"""The mean response of a group is MRtrix3's, and refuses what cannot be averaged."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from arcuate.errors import InputError
from arcuate.models.response import Response
from arcuate.models.response_mean import mean_response


def _responses(n: int = 4, seed: int = 3) -> list[Response]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        gain = rng.uniform(0.3, 3)
        white = np.array([[900, 0, 0], [500, -200, 40], [280, -180, 70]]) * rng.uniform(0.9, 1.1, (3, 3)) * gain
        fluid = np.array([[2500.0], [300], [40]]) * rng.uniform(0.9, 1.1, (3, 1)) * gain
        bvals = np.array([0, 1000, 2500]) + rng.uniform(0, 9, 3)
        found.append(Response(("wm", "csf"), bvals, (white, fluid)))
    return found


@pytest.mark.parametrize("is_scaled", [True, False])
def test_mean_is_that_of_mrtrix(mrtrix: Path, tmp_path: Path, is_scaled: bool) -> None:
    responses = _responses()
    ours = mean_response(responses, is_scaled=is_scaled)
    for tissue in ours.tissues:
        files = []
        for i, response in enumerate(responses):
            files.append(tmp_path / f"{tissue}{i}.txt")
            np.savetxt(files[-1], response.get_tissue(tissue), fmt="%.12g")
        options = [] if is_scaled else ["-legacy"]
        command = [mrtrix / "responsemean", *files, tmp_path / f"{tissue}.txt", *options, "-quiet"]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
        theirs = np.loadtxt(tmp_path / f"{tissue}.txt", ndmin=2).reshape(ours.get_tissue(tissue).shape)
        np.testing.assert_allclose(ours.get_tissue(tissue), theirs, rtol=1e-9)


def test_gains_of_subjects_change_the_scale_of_the_mean_and_not_its_shape() -> None:
    responses = _responses()
    louder = [replace(responses[0], coefs=tuple(8 * c for c in responses[0].coefs)), *responses[1:]]
    before, after = mean_response(responses).coefs[0], mean_response(louder).coefs[0]
    ratio = after[0, 0] / before[0, 0]
    assert ratio > 1.2
    np.testing.assert_allclose(after, ratio * before)
    same = mean_response([responses[0]] * 3)
    np.testing.assert_allclose(same.coefs[0], responses[0].coefs[0])


def test_the_degree_is_the_lowest_that_all_have_and_shells_are_means() -> None:
    one, other = _responses(2)
    short = replace(other, coefs=(other.coefs[0][:, :2], other.coefs[1]))
    found = mean_response([one, short])
    assert found.lmax_of_tissues == (2, 0)
    np.testing.assert_allclose(found.bvals, (one.bvals + other.bvals) / 2)


def test_what_cannot_be_averaged_is_one_sentence() -> None:
    one, other = _responses(2)
    with pytest.raises(InputError, match="no response to average"):
        mean_response([])
    with pytest.raises(InputError, match="same tissues and shells"):
        mean_response([one, replace(other, bvals=[*other.bvals[:2], other.bvals[2] + 400])])
    with pytest.raises(InputError, match="same tissues and shells"):
        mean_response([one, replace(other, tissues=("wm", "gm"))])
    with pytest.raises(InputError, match=r"csf of subject number 2 .* above 0"):
        mean_response([one, replace(other, coefs=(other.coefs[0], -other.coefs[1]))])
