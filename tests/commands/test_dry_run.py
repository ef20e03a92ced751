"""What a command refuses its --dry-run refuses in the same words, and neither reads a voxel for it."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcuate.dwi import Dwi
from arcuate.gradients import GradientTable
from arcuate.io import NiftiVolumeResource
from arcuate.registration import TransformResource
from arcuate.volumes.resource import InMemoryVolumeResource

Arcuate = Callable[..., Any]  # code, out and err of a command, see conftest

REFUSED = {
    "dti dwi.nii.gz -o o --robust --rician --noise noise.nii.gz": "found robust and rician together",
    "dti dwi.nii.gz -o o --rician": "needs the standard deviation of the noise",
    "dti dwi.nii.gz -o o --noise noise.nii.gz": "a noise map for a fit that is not robust",
    "dti dwi.nii.gz -o o --rician --noise other.nii.gz": "found a noise map of shape (4, 4, 4)",
    "dti dwi.nii.gz -o o --robust --noise other.nii.gz": "found a noise map of shape (4, 4, 4)",
    "dti dwi.nii.gz -o o --b-max -1": "found b_max = -1",
    "dti dwi.nii.gz -o o --robust --shells 0,1000 --exclude 1-12": "a robust tensor needs 12 volumes",
    "dti dwi.nii.gz -o o --shells 0,1000 --exclude 3-21": "a tensor needs 6 distinct directions",
    "dki dwi.nii.gz -o o --shells 0,1000": "two shells",
    "dki dwi.nii.gz -o o --b-max 0": "found b_max = 0",
    "freewater dwi.nii.gz -o o --shells 0,2000": "two shells",
    "freewater dwi.nii.gz -o o --diso -1": "-1",
    "noddi dwi.nii.gz -o o --shells 0,1000": "two shells",
    "noddi dwi.nii.gz -o o --directions other.nii.gz": "found directions of shape (4, 4, 4)",
    "noddi dwi.nii.gz -o o --dpar 0": "dpar",
    "response dwi.nii.gz -o o --algorithm dhollander --shell 1000": "found a single shell asked for",
    "response dwi.nii.gz -o o --algorithm tournier --fa-threshold 0.5": "fa_threshold is for the algorithms",
    "response dwi.nii.gz -o o --algorithm ssst --fa-threshold 2": "found fa_threshold = 2",
    "response dwi.nii.gz -o o --algorithm tournier --lmax 5": "lmax",
    "response dwi.nii.gz -o o --algorithm tournier --shell 700": "700",
    "response dwi.nii.gz -o o --algorithm ssst --exclude 0,1": "b=0",
    "fod dwi.nii.gz -o o --response wm.txt --lmax 7": "lmax",
    "fod dwi.nii.gz -o o --response wm.txt --second-pass": "a second pass needs FODs of a hard constraint",
    "fod dwi.nii.gz -o o --response wm.txt --shell 3000": "3000",
    "fod dwi.nii.gz -o o --response three/wm.txt --response three/gm.txt --response three/csf.txt --shell 2000":
        "multi-tissue CSD takes all of them",
    "fod dwi.nii.gz -o o --response three/wm.txt --response three/gm.txt --response three/csf.txt --method csd":
        "the method 'csd' sees one shell",
    "denoise dwi.nii.gz -o o.nii.gz --method mppca --extent 4": "one or three odd numbers of voxels",
    "denoise dwi.nii.gz -o o.nii.gz --method mppca --extent 1": "patches of several voxels",
    "denoise dwi.nii.gz -o o.nii.gz --model ridge --alpha -1": "ridge penalty is a number of 0 or above",
    "denoise dwi.nii.gz -o o.nii.gz --keep-b0 --exclude 3-41": "predicts a volume from others of its kind",
    "denoise dwi.nii.gz -o o.nii.gz --noise o.nii.gz": "as the scan and as the noise map",
    "apply fa.nii.gz --reference fa.nii.gz --transform t -o o.nii.gz --modulate": "found modulation for the kind",
    "apply fa.nii.gz --reference fa.nii.gz --transform t -o o.nii.gz --kind tensor": "for the kind 'tensor'",
    "harmonize --covars people.tsv --batch site -o o": "found no --mask",
    "tracts fa.nii.gz -o o --output-type TOM --probabilities": "orientation maps have no probabilities",
    "tracts fa.nii.gz -o o --tracts fa.nii.gz": "--tracts belongs to --output-type TOM",
    "run dwi.nii.gz -o o --robust --steps dti --shells 0,1000 --exclude 1-12": "a robust tensor needs 12 volumes",
    "run dwi.nii.gz -o o --robust --rician --noise noise.nii.gz": "found robust and rician together",
    "run dwi.nii.gz -o o --rician": "needs the standard deviation of the noise",
    "run dwi.nii.gz -o o --noise noise.nii.gz": "a noise map for a fit that is not robust",
    "run dwi.nii.gz -o o --rician --noise other.nii.gz": "found a noise map of shape (4, 4, 4)",
    "run dwi.nii.gz -o o --rician --noise noise.nii.gz --denoise mppca": "for a scan that is denoised first",
    "run dwi.nii.gz -o o --response wm.txt --algorithm tournier": "found --response together with --algorithm",
    "run dwi.nii.gz -o o --response wm.txt --second-pass": "a second pass needs FODs of a hard constraint",
    "run dwi.nii.gz -o o --algorithm tournier --second-pass": "a second pass needs FODs of a hard constraint",
    "run dwi.nii.gz -o o --steps denoise --denoise none": "the step denoise together with the denoising method none",
}  # fmt: skip


GOES_ON = (
    "dti dwi.nii.gz -o o", "dti dwi.nii.gz -o o --robust", "dti dwi.nii.gz -o o --rician --noise noise.nii.gz",
    "dki dwi.nii.gz -o o", "freewater dwi.nii.gz -o o", "noddi dwi.nii.gz -o o", "mask dwi.nii.gz o.nii.gz",
    "denoise dwi.nii.gz -o o.nii.gz", "denoise dwi.nii.gz -o o.nii.gz --method mppca --extent 3",
    "response dwi.nii.gz -o o", "fod dwi.nii.gz -o o --response wm.txt", "peaks fod.nii.gz o.nii.gz",
    "fixels fod.nii.gz -o o", "mtnormalise fod.nii.gz fa.nii.gz --mask mask.nii.gz -o o",
    "apply fa.nii.gz --reference fa.nii.gz --transform t -o o.nii.gz",
)  # fmt: skip


def _cut_short(path: Path) -> None:
    """Leave of a .nii.gz the header alone: who asks for a voxel fails."""
    header = gzip.decompress(path.read_bytes())[:352]
    path.write_bytes(gzip.compress(header))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, all of whose images but noise and mask are cut short behind their headers."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(20, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    table = GradientTable(
        np.repeat([0.0, 1000, 2000], [2, 20, 20]), np.vstack([np.zeros((2, 3)), directions, directions])
    )
    affine = np.diag([-4.0, 4, 4, 1])
    Dwi.from_arrays(rng.uniform(1, 2, (6, 7, 5, 42)).astype(np.float32), affine, table).save(tmp_path, "dwi")
    for name, shape in (("fa", (6, 7, 5)), ("fod", (6, 7, 5, 45)), ("noise", (6, 7, 5)), ("mask", (6, 7, 5)),
                        ("other", (4, 4, 4))):  # fmt: skip
        NiftiVolumeResource.save(InMemoryVolumeResource(np.ones(shape, np.float32), affine), f"{name}.nii.gz")
    for name in ("dwi", "fa", "fod", "other"):
        _cut_short(Path(f"{name}.nii.gz"))
    Path("wm.txt").write_text("# Shells: 2000\n500 -200 50\n")
    Path("three").mkdir()
    for tissue, rows in (("wm", "900 0\n500 -200\n300 -150"), ("gm", "900\n400\n200"), ("csf", "2000\n200\n50")):
        Path(f"three/{tissue}.txt").write_text(f"# Shells: 0,1000,2000\n{rows}\n")
    TransformResource(np.eye(4)[None], ()).save("t")
    Path("people.tsv").write_text("participant_id\tsite\timage\na\tx\tfa.nii.gz\n")
    return tmp_path


@pytest.mark.parametrize(("typed", "said"), REFUSED.items(), ids=REFUSED)
def test_what_is_refused_is_refused_before_voxels_are_read_and_by_a_dry_run(
    typed: str, said: str, arcuate: Arcuate, place: Path
) -> None:
    before = sorted(place.rglob("*"))
    dry, done = arcuate(*typed.split(), "--dry-run"), arcuate(*typed.split())
    assert (dry.code, done.code) == (2, 2), (dry, done)
    assert said in done.err
    assert dry.err == done.err
    assert "would" not in dry.out
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("typed", GOES_ON)
def test_a_dry_run_ends_where_the_command_would_read_voxels(typed: str, arcuate: Arcuate, place: Path) -> None:
    before = sorted(place.rglob("*"))
    dry = arcuate(*typed.split(), "--dry-run")
    assert (dry.code, "would write" in dry.out) == (0, True), dry.err
    assert sorted(place.rglob("*")) == before
    done = arcuate(*typed.split())
    assert (done.code, "cut short" in done.err) == (2, True), "else the images here tell nothing of who reads them"


def test_outliers_are_announced_with_robust_alone(arcuate: Arcuate, place: Path) -> None:
    words = ("dti", "dwi.nii.gz", "-o", "o", "--dry-run")
    assert "outliers" not in arcuate(*words).out
    assert "outliers.nii.gz" in arcuate(*words, "--robust").out
