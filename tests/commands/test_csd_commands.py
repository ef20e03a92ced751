"""``arcuate response``, ``fod`` and ``peaks``: one after the other, as files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from arcuate.dwi import Dwi
from arcuate.io import NiftiVolumeResource


@pytest.fixture
def fibres(make_head: Callable[..., Dwi], tmp_path: Path) -> Path:
    """A ball of one fibre along the scanner's x, 60 directions at b=2000."""
    make_head(n_directions=60, bvals=(2000.0,)).save(tmp_path / "in", basename="sub-ball_dwi")
    return tmp_path / "in" / "sub-ball_dwi.nii.gz"


def test_response_fod_and_peaks_lead_to_the_fibre(arcuate: Callable, fibres: Path, tmp_path: Path) -> None:
    mask = tmp_path / "mask.nii.gz"
    assert arcuate("mask", fibres, "--method", "otsu", "--out", mask).code == 0
    made = arcuate("response", fibres, "--mask", mask, "--algorithm", "ssst", "--out", tmp_path / "response")
    assert made.code == 0, made.err
    text, facts = tmp_path / "response" / "wm.txt", tmp_path / "response" / "wm.json"
    assert len(np.loadtxt(text).ravel()) == 5
    assert json.loads(facts.read_text())

    made = arcuate("fod", fibres, "--mask", mask, "--response", facts, "--out", tmp_path / "fod")
    assert made.code == 0, made.err
    fod = tmp_path / "fod" / "wm.nii.gz"
    assert NiftiVolumeResource(fod).shape == (30, 34, 28, 45)

    made = arcuate("peaks", fod, "--mask", mask, "--n-peaks", "2", "--out", tmp_path / "peaks.nii.gz")
    assert made.code == 0, made.err
    peaks = NiftiVolumeResource(tmp_path / "peaks.nii.gz").get_array()
    assert peaks.shape == (30, 34, 28, 6)
    first = peaks[15, 17, 14, :3]
    assert abs(first[0]) / np.linalg.norm(first) > np.cos(np.radians(2.0))


def test_a_response_in_mrtrix_form_gives_the_same_fods(arcuate: Callable, fibres: Path, tmp_path: Path) -> None:
    assert arcuate("response", fibres, "--algorithm", "ssst", "--out", tmp_path / "r").code == 0
    for name, file in (("json", "wm.json"), ("text", "wm.txt")):
        made = arcuate("fod", fibres, "--response", tmp_path / "r" / file, "--shell", "2000", "--out", tmp_path / name)
        assert made.code == 0, made.err
    one, other = (NiftiVolumeResource(tmp_path / n / "wm.nii.gz").get_array() for n in ("json", "text"))
    np.testing.assert_allclose(other, one, atol=1e-4 * np.abs(one).max())


def test_a_response_of_another_shell_is_refused(
    arcuate: Callable, make_head: Callable[..., Dwi], fibres: Path, tmp_path: Path
) -> None:
    make_head(n_directions=60, bvals=(1000.0,)).save(tmp_path / "other", basename="sub-other_dwi")
    arcuate("response", fibres, "--algorithm", "ssst", "--out", tmp_path / "r")
    scan = tmp_path / "other" / "sub-other_dwi.nii.gz"
    outcome = arcuate("fod", scan, "--response", tmp_path / "r" / "wm.json", "--out", tmp_path / "fod")
    assert outcome.code == 2
    assert outcome.err.count("error: ") == 1
    assert not list((tmp_path / "fod").glob("*.nii.gz")) if (tmp_path / "fod").exists() else True


@pytest.mark.parametrize("response", ["missing.json", "in/sub-ball_dwi.bval"])
def test_what_is_no_response_is_one_sentence(arcuate: Callable, fibres: Path, tmp_path: Path, response: str) -> None:
    outcome = arcuate("fod", fibres, "--response", tmp_path / response, "--out", tmp_path / "fod")
    assert outcome.code == 2
    assert outcome.err.count("error: ") == 1
