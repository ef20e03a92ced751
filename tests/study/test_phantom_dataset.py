"""The phantom data set is BIDS, holds what was asked for, and its faults are where it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from arcuate.dwi import Dwi
from arcuate.errors import InputError
from arcuate.study.phantom_dataset import PhantomDataset, write_phantom_dataset

TINY = {"shape": (12, 12, 8), "voxel_size": 16.0, "n_directions": 7}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "bids"
    faults = ("single_shell", "truncated", "broken_gradients")
    write_phantom_dataset(folder, PhantomDataset(5, n_sessions=2, n_parts=2, faults=faults, is_inherited=True, **TINY))
    return folder


def test_every_second_subject_has_sessions_and_the_others_have_parts(dataset: Path) -> None:
    assert sorted(p.name for p in (dataset / "sub-01").iterdir()) == ["ses-01", "ses-02"]
    parts = sorted((dataset / "sub-02").rglob("*.nii.gz"))
    assert [p.name for p in parts] == ["sub-02_ses-01_run-1_dwi.nii.gz", "sub-02_ses-01_run-2_dwi.nii.gz"]
    assert len(Dwi.from_files(parts).checked().gradients) == 3 + 2 * 7


def test_gradient_files_at_the_top_apply_to_the_images_below(dataset: Path) -> None:
    image = dataset / "sub-01" / "ses-02" / "dwi" / "sub-01_ses-02_dwi.nii.gz"
    assert not list(image.parent.glob("*.bval"))
    assert len(Dwi.from_files(image).checked().gradients) == 3 + 2 * 7


def test_faults_are_those_that_the_table_of_participants_names(dataset: Path) -> None:
    rows = dict(row.split("\t") for row in (dataset / "participants.tsv").read_text().splitlines()[1:])
    assert rows == {
        "sub-01": "n/a",
        "sub-02": "n/a",
        "sub-03": "one shell alone",
        "sub-04": "an image that was cut short",
        "sub-05": "b-vectors for one volume too few",
    }
    single = Dwi.from_files(next((dataset / "sub-03").rglob("*_dwi.nii.gz")))
    assert [round(s.b) for s in single.gradients.shells] == [1000]
    with pytest.raises(InputError, match=r"cut short|truncated|incomplete"):
        Dwi.from_files(sorted((dataset / "sub-04").rglob("*_dwi.nii.gz"))).load()
    with pytest.raises(InputError, match="16"):
        _ = Dwi.from_files(next((dataset / "sub-05").rglob("*_dwi.nii.gz"))).checked()


def test_sessions_of_a_subject_show_one_head_with_other_noise(dataset: Path) -> None:
    first, second = (Dwi.from_files(p).load() for p in sorted((dataset / "sub-01").rglob("*_dwi.nii.gz")))
    one, other = (np.asarray(s.volume.get_array())[..., 3:].mean(axis=-1) for s in (first, second))
    assert not np.array_equal(one, other)
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.99


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    command = [sys.executable, "-m", "arcuate", "phantom", str(tmp_path), "--subjects", "1"]
    outcome = subprocess.run(command, capture_output=True, text=True)
    assert outcome.returncode == 2
    assert "not empty; expected a new folder" in outcome.stderr
    assert (tmp_path / "mine.txt").read_text() == "keep me"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_subjects": 1, "faults": ("truncated", "single_shell")}, "2 faults for 1 subjects"),
        ({"n_parts": 4}, "3 volumes of b=0 for 4 parts"),
        ({"bvals": (50.0,)}, "above 100"),
        ({"voxel_size": 0.0}, "above 0"),
    ],
)
def test_what_no_data_set_can_have_is_one_sentence(changes: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        PhantomDataset(**{"n_subjects": 3, **changes})
