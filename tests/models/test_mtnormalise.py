from __future__ import annotations

import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from arcuate.errors import InputError
from arcuate.models.mtnormalise import normalise_tissues
from arcuate.mtnormalise import mtnormalise
from arcuate.volumes.resource import InMemoryVolumeResource

AFFINE = np.array([[-2.0, 0, 0, 30], [0, 2, 0.1, -40], [0, -0.1, 2, -20], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def tissues() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Three tissues whose sum is constant, times a smooth field and different gains, with noise and outliers."""
    rng = np.random.default_rng(0)
    shape = (26, 28, 18)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"), axis=-1)
    mask = (grid**2).sum(axis=-1) < 0.9
    shares = rng.dirichlet([1.0, 0.8, 0.5], size=shape)
    field = np.exp(0.3 * grid[..., 0] - 0.2 * grid[..., 1] * grid[..., 2] + 0.15 * grid[..., 2] ** 3)
    amounts = 0.282 * shares * field[..., None] / np.array([0.8, 1.0, 1.25])
    amounts *= 1 + 0.03 * rng.normal(size=shape)[..., None]
    amounts[rng.uniform(size=shape) < 0.02] *= 5
    wm = np.concatenate([amounts[..., :1], 0.1 * rng.normal(size=(*shape, 5))], axis=-1)
    return {"wm": wm, "gm": amounts[..., 1:2], "csf": amounts[..., 2:3]}, mask, field


def test_takes_out_the_field_and_balances_the_tissues(tissues) -> None:
    images, mask, field = tissues
    amounts = np.stack([a[..., 0] for a in images.values()], axis=-1)[mask]
    found = normalise_tissues(amounts, np.argwhere(mask).astype(float))
    ratio = found.field / field[mask]
    assert np.ptp(np.log(ratio)) < 0.06
    assert np.allclose(found.balance / found.balance[1], [0.8, 1, 1.25], rtol=0.05)
    assert not found.is_used[(amounts @ found.balance / found.field) > 0.6].any()


def test_agrees_with_mrtrix(tissues, mrtrix: Path, tmp_path: Path) -> None:
    images, mask, _ = tissues
    pairs = []
    for name, array in images.items():
        nib.save(nib.Nifti1Image(array.astype(np.float32), AFFINE), tmp_path / f"{name}.nii")
        pairs += [f"{name}.nii", f"{name}_out.nii"]
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), AFFINE), tmp_path / "mask.nii")
    subprocess.run(
        [str(mrtrix / "mtnormalise"), *pairs, "-mask", "mask.nii", "-quiet"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    ours = mtnormalise(
        {n: InMemoryVolumeResource(a.astype(np.float32), AFFINE, {}) for n, a in images.items()},
        InMemoryVolumeResource(mask, AFFINE, {}),
    )
    for name, image in ours.volumes.items():
        array = image.get_array()
        theirs = nib.load(tmp_path / f"{name}_out.nii").get_fdata().reshape(array.shape)
        assert np.abs(array - theirs)[mask].max() < 1e-2 * np.abs(theirs[mask]).max()
        assert np.allclose(array[mask][:, 0], theirs[mask][:, 0], rtol=1e-2)
        assert not array[~mask].any()


def test_the_gain_of_a_scan_does_not_matter(tissues) -> None:
    images, mask, _ = tissues
    amounts = np.stack([a[..., 0] for a in images.values()], axis=-1)[mask]
    positions = np.argwhere(mask).astype(float)
    once, often = normalise_tissues(amounts, positions), normalise_tissues(40 * amounts, positions)
    assert np.allclose(often.field, 40 * once.field, rtol=1e-9)


def test_a_voxel_that_is_not_a_number_is_left_out(tissues) -> None:
    images, mask, _ = tissues
    amounts = np.stack([a[..., 0] for a in images.values()], axis=-1)[mask]
    positions = np.argwhere(mask).astype(float)
    clean = normalise_tissues(amounts, positions)
    amounts = amounts.copy()
    amounts[7, 1] = np.nan
    found = normalise_tissues(amounts, positions)
    assert not found.is_used[7]
    assert np.allclose(found.field, clean.field, rtol=1e-2)


def test_tissues_that_do_not_belong_together_are_refused() -> None:
    rng = np.random.default_rng(0)
    first = rng.uniform(0.5, 1, size=500)
    amounts = np.stack([first, first**2 - 0.1], axis=1)
    with pytest.raises(InputError, match="cannot be balanced"):
        normalise_tissues(amounts, rng.uniform(size=(500, 3)))


def test_no_positive_voxel_is_refused() -> None:
    with pytest.raises(InputError, match="no voxel of the mask has a positive sum"):
        normalise_tissues(np.zeros((5, 2)), np.zeros((5, 3)))
