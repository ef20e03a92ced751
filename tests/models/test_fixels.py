"""Lobes of FODs: integrals, directions, thresholds, and MRtrix3's fod2fixel and fixel2voxel on the same FODs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from arcuate.csd import segment_fods
from arcuate.errors import InputError
from arcuate.io.fixels import write_fixels
from arcuate.models.fixels import segment_lobes
from arcuate.models.peaks import find_peaks
from arcuate.numerics.sh import sh_matrix
from arcuate.volumes.resource import InMemoryVolumeResource


def make_fods(n: int, seed: int = 0, lmax: int = 8) -> np.ndarray:
    """FODs of one to three fibres of random shares, each a pole smoothed as far as the degree asks for."""
    rng = np.random.default_rng(seed)
    axes = rng.normal(size=(n, 3, 3))
    axes /= np.linalg.norm(axes, axis=2, keepdims=True)
    shares = rng.dirichlet([1.5, 1.5, 1.5], size=n)
    shares[: n // 3] = [1, 0, 0]
    degree = np.concatenate([np.full(2 * l + 1, l) for l in range(0, lmax + 1, 2)])
    smooth = np.exp(-0.015 * degree * (degree + 1))
    poles = sh_matrix(axes.reshape(-1, 3), lmax).reshape(n, 3, -1)
    return np.einsum("nf,nfk->nk", shares, poles) * smooth


def test_integrals_of_all_lobes_sum_to_that_of_the_positive_fod() -> None:
    fods = make_fods(90)[30:]  # a sharp FOD of one fibre has rings of more ripples than lobes are kept
    lobes = segment_lobes(fods, min_amplitude=0.0)
    z = (2 * np.arange(20000) + 1) / 20000 - 1  # a spiral, evenly
    turn = np.pi * (1 + 5**0.5) * np.arange(20000)
    points = np.column_stack([np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn), z])
    positive = 4 * np.pi * np.maximum(fods @ sh_matrix(points, 8).T, 0).mean(axis=1)
    sums = np.bincount(np.repeat(np.arange(60), lobes.counts), weights=lobes.afd, minlength=60)
    np.testing.assert_allclose(sums, positive, rtol=0.01)


def test_a_lobe_for_each_peak_with_its_amplitude_and_direction() -> None:
    fods = make_fods(200)
    lobes = segment_lobes(fods)
    peaks = find_peaks(fods, n_peaks=16, relative_peak_threshold=0, min_separation_angle=0, min_amplitude=0.1)
    first = np.concatenate([[0], np.cumsum(lobes.counts)])
    same = np.flatnonzero(lobes.counts == (peaks.values > 0).sum(axis=1))
    assert len(same) > 190  # a maximum between the directions of the grid has no lobe of its own
    for v in same:
        mine = np.sort(lobes.peak[first[v] : first[v + 1]])[::-1]
        np.testing.assert_allclose(mine, peaks.values[v, : len(mine)], rtol=1e-6)


def test_one_fibre_is_one_fixel_along_it_with_its_density() -> None:
    axis = np.array([[0.36, 0.48, 0.8]])
    lobes = segment_lobes(0.7 * make_pole(axis))
    assert lobes.counts.tolist() == [1]
    assert abs(lobes.directions[0] @ axis[0]) > np.cos(np.radians(0.5))
    assert abs(lobes.peak_directions[0] @ axis[0]) > np.cos(np.radians(0.01))
    assert lobes.afd[0] == pytest.approx(0.7, rel=0.05)
    assert lobes.dispersion[0] == pytest.approx(lobes.afd[0] / lobes.peak[0])


def make_pole(axis: np.ndarray) -> np.ndarray:
    degree = np.concatenate([np.full(2 * l + 1, l) for l in range(0, 9, 2)])
    return sh_matrix(axis, 8) * np.exp(-0.03 * degree * (degree + 1))


def test_lobes_come_largest_first_and_thresholds_leave_small_ones_out() -> None:
    fods = make_fods(100)
    everything = segment_lobes(fods, min_amplitude=0.0)
    some = segment_lobes(fods, min_amplitude=0.2, min_integral=0.15, max_lobes=2)
    assert some.counts.max() <= 2
    assert some.counts.sum() < everything.counts.sum()
    assert some.afd.min() >= 0.15
    assert some.peak.min() >= 0.2
    start = 0
    for count in everything.counts:
        assert np.all(np.diff(everything.afd[start : start + count]) <= 0)
        start += count


def test_a_bad_or_empty_voxel_has_no_fixel_and_its_neighbours_keep_theirs() -> None:
    fods = make_fods(20)
    good = segment_lobes(fods)
    fods[3, 7], fods[4] = np.nan, 0.0
    bad = segment_lobes(fods)
    assert bad.counts[3] == bad.counts[4] == 0
    assert np.array_equal(np.delete(bad.counts, [3, 4]), np.delete(good.counts, [3, 4]))


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match=r"no image of FODs: found 44 coefficients"):
        segment_lobes(np.zeros((2, 44)))
    with pytest.raises(InputError, match=r"max_lobes = 40; expected thresholds of at least 0, and 1 to 16 lobes"):
        segment_lobes(make_fods(2), max_lobes=40)


def test_an_fod_that_is_alike_in_all_directions_has_no_lobes() -> None:
    round_ones = np.zeros((2, 45))
    round_ones[:, 0] = [1.0, 3.0]
    assert segment_lobes(np.vstack([round_ones, make_fods(1)])).counts.tolist()[:2] == [0, 0]
    assert segment_lobes(np.ones((3, 1))).counts.tolist() == [0, 0, 0]


def test_fixels_and_their_files_agree_with_fod2fixel(mrtrix: Path, tmp_path: Path) -> None:
    fods = make_fods(400, seed=3).astype(np.float32).reshape(10, 10, 4, 45)
    affine = np.diag([2.0, 2, 2, 1])
    nib.save(nib.Nifti1Image(fods, affine), tmp_path / "fod.nii")
    names = ("afd", "peak", "disp")
    run = {"check": True, "cwd": tmp_path, "capture_output": True}
    options = ["-nii", "-afd", "afd.nii", "-peak", "peak.nii", "-disp", "disp.nii", "-quiet"]
    subprocess.run([mrtrix / "fod2fixel", "fod.nii", "theirs", *options], **run)
    found = segment_fods(InMemoryVolumeResource(fods, affine))
    write_fixels(tmp_path / "ours", found.index.get_array(), found.directions, found.values, affine)
    index = {who: nib.load(tmp_path / who / "index.nii").get_fdata().astype(int) for who in ("ours", "theirs")}
    values = {who: {n: nib.load(tmp_path / who / f"{n}.nii").get_fdata().ravel() for n in names} for who in index}
    same = index["ours"][..., 0] == index["theirs"][..., 0]
    assert same.mean() > 0.98  # theirs has a lobe more where a top of the grid is no maximum
    off: dict[str, list[float]] = {name: [] for name in names}
    for voxel in np.argwhere(same):
        count = index["ours"][tuple(voxel)][0]
        place = {who: slice(index[who][tuple(voxel)][1], index[who][tuple(voxel)][1] + count) for who in index}
        order = {who: np.argsort(-values[who]["peak"][place[who]]) for who in index}
        for name in names:
            mine, other = (values[who][name][place[who]][order[who]] for who in ("ours", "theirs"))
            off[name] += list(np.abs(mine / other - 1))
    assert np.quantile(off["peak"], 0.999) < 1e-4
    for name in ("afd", "disp"):  # lobes that touch too: both cut them along the directions of one icosahedron
        assert np.mean(np.array(off[name]) < 0.01) > 0.99, (name, np.quantile(off[name], [0.5, 0.9, 0.98]))
        assert np.median(off[name]) < 5e-4
    for who in index:  # mrview and the fixel commands make the same checks when they open a folder
        command = [mrtrix / "fixel2voxel", f"{who}/afd.nii", "sum", f"{who}.nii", "-quiet", "-force"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    sums = [nib.load(tmp_path / f"{who}.nii").get_fdata() for who in index]
    assert np.mean(np.abs(sums[0][same] / sums[1][same] - 1) < 0.02) > 0.99


def test_many_fixels_fit_in_one_file(mrtrix: Path, tmp_path: Path) -> None:
    n = 40000  # more than a NIfTI-1 dimension holds
    index = np.zeros((n, 1, 1, 2), np.uint32)
    index[:, 0, 0, 0], index[:, 0, 0, 1] = 1, np.arange(n)
    index = index.reshape(200, 200, 1, 2)
    directions = np.tile([0.0, 0.0, 1.0], (n, 1))
    write_fixels(tmp_path / "many", index, directions, {"afd": np.arange(n)}, np.eye(4))
    command = [mrtrix / "fixel2voxel", "many/afd.nii", "sum", "sum.nii", "-quiet"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert np.array_equal(nib.load(tmp_path / "sum.nii").get_fdata().ravel(), np.arange(n))
