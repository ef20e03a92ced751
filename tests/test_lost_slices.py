"""The robust tensor step on scans with dropped-out slices: what all voxels of a slice say together is believed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from arcuate.dti import Dti
from arcuate.dwi import Dwi
from arcuate.gradients import GradientTable
from arcuate.models.robust_tensor import fit_robust_tensor
from arcuate.models.tensor import fit_tensor
from arcuate.phantom import make_phantom, spread_directions
from arcuate.volumes.resource import InMemoryVolumeResource


@dataclass(frozen=True)
class Head:
    """A phantom with few volumes, 5 % of whose slices dropped out."""

    clean: np.ndarray  # (x, y, z, n_meas)
    spoiled: np.ndarray
    lost: np.ndarray  # (z, n_meas) bool
    inside: np.ndarray  # (x, y, z) bool
    affine: np.ndarray
    gradients: GradientTable
    truth: np.ndarray  # (n_vox,) FA without noise

    def dti(self, image: np.ndarray, **options: bool) -> Dti:
        scan = Dwi.from_arrays(image.astype(np.float32), self.affine, self.gradients)
        return scan.estimate_dti(InMemoryVolumeResource(self.inside.astype(np.uint8), self.affine), **options)

    def error(self, dti: Dti) -> float:
        return float(np.abs(np.asarray(dti.get_fa_md()[0].get_array())[self.inside] - self.truth).mean())


@pytest.fixture(scope="module", params=[(2, 12, 5), (3, 30, 2)], ids=["14 volumes", "33 volumes"])
def head(request: pytest.FixtureRequest) -> Head:
    n_b0, n, seed = request.param
    gradients = GradientTable(np.repeat([0.0, 1000], [n_b0, n]), np.vstack([np.zeros((n_b0, 3)), spread_directions(n)]))
    noisy, clean = (make_phantom(gradients, (24, 24, 16), 8.0, snr=snr, seed=seed) for snr in (25, None))
    inside = noisy.brain_mask
    rng = np.random.default_rng(seed)
    thick = np.flatnonzero(inside.sum(axis=(0, 1)) > 20)
    pairs = rng.permutation(len(thick) * len(gradients))[: round(0.05 * len(thick) * len(gradients))]
    lost = np.zeros((16, len(gradients)), dtype=bool)
    lost[thick[pairs % len(thick)], pairs // len(thick)] = True
    image = np.asarray(noisy.signal, dtype=np.float64)
    spoiled = image * np.where(lost, rng.uniform(0, 0.3, lost.shape), 1.0)
    truth = fit_tensor(np.asarray(clean.signal)[inside], gradients).fa
    return Head(image, spoiled, lost, inside, noisy.affine, gradients, truth)


def test_with_five_percent_of_slices_dropped_out_fa_is_within_ten_percent_of_the_clean_scans(head: Head) -> None:
    clean = head.error(head.dti(head.clean))
    assert head.error(head.dti(head.spoiled)) > 2 * clean, "else nothing was tested"
    found = head.dti(head.spoiled, robust=True)
    assert head.error(found) < 1.1 * clean
    named = {(entry["Slice"], entry["Volume"]) for entry in found.parameters["SlicesOutlying"]}
    assert named == set(map(tuple, np.argwhere(head.lost).tolist()))
    counts = np.where(head.inside, np.asarray(found.outliers.get_array()), 255)
    assert np.all(counts >= head.lost.sum(axis=1)), "the map counts the lost ones"


def test_with_few_volumes_voxels_alone_do_not_get_there(head: Head) -> None:
    if len(head.gradients) > 14:
        pytest.skip("more volumes need no help")
    clean = np.abs(fit_tensor(head.clean[head.inside], head.gradients).fa - head.truth).mean()
    alone = fit_robust_tensor(head.spoiled[head.inside], head.gradients).fa
    assert np.abs(alone - head.truth).mean() > 1.1 * clean


def test_without_lost_slices_the_step_is_within_two_percent_of_wls_and_names_none(head: Head) -> None:
    found = head.dti(head.clean, robust=True)
    assert head.error(found) < 1.02 * head.error(head.dti(head.clean))
    assert found.parameters["SlicesOutlying"] == []
    rows = fit_robust_tensor(head.clean.astype(np.float32)[head.inside], head.gradients)
    np.testing.assert_allclose(np.asarray(found.volume.get_array())[head.inside], rows.tensors, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0)])
def test_slices_are_found_along_the_axis_that_they_are_stored_on(head: Head, order: tuple[int, int, int]) -> None:
    plain = head.dti(head.spoiled, robust=True)
    affine = head.affine[:, [*order, 3]]
    scan = Dwi.from_arrays(head.spoiled.transpose(*order, 3).astype(np.float32), affine, head.gradients)
    mask = InMemoryVolumeResource(np.ascontiguousarray(head.inside.transpose(order)).astype(np.uint8), affine)
    turned = scan.estimate_dti(mask, robust=True)
    assert turned.parameters["SliceAxis"] == "ijk"[order.index(2)]
    assert turned.parameters["SlicesOutlying"] == plain.parameters["SlicesOutlying"]
    for name, volume in plain.get_maps().items():
        if name != "evecs":
            array = np.asarray(volume.get_array())
            expected = array.transpose(*order, *range(3, array.ndim))
            np.testing.assert_allclose(
                turned.get_maps()[name].get_array(), expected, rtol=1e-5, atol=1e-9, err_msg=name
            )
