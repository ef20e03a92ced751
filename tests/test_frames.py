"""The same head gives the same answers in the scanner's frame, however its image is stored."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from arcuate.csd import estimate_fods, estimate_response_function
from arcuate.denoise import run_denoising
from arcuate.dwi import Dwi
from arcuate.errors import InputWarning
from arcuate.gradients import GradientTable, image_to_scanner
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource
from arcuate.models.response import Response
from arcuate.models.response_zonal import tensor_zonal
from arcuate.models.tensor import fit_tensor
from arcuate.phantom import make_phantom, three_shell_gradients
from arcuate.volumes.resource import InMemoryBvalResource, InMemoryBvecResource, InMemoryVolumeResource

ORIENTATIONS = [
    np.column_stack([order, signs])
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
CANON = {
    3000: "3000_DTI_PA-ortho_cl",
    5000: "5000_DTI_PA-SAG_20d_cl",
    11000: "11000_SAG_DTI_PA-ALL_20d_cl",
}
FULL, ROWS, COLUMNS = [[0, 1, 2], [1, 3, 4], [2, 4, 5]], [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]


def _read(stem: Path) -> Dwi:
    files = (NiftiVolumeResource(f"{stem}.nii.gz"), FslBvalResource(f"{stem}.bval"), FslBvecResource(f"{stem}.bvec"))
    return Dwi(*files).load()


def _simulated() -> tuple[Dwi, InMemoryVolumeResource]:
    """A small oblique scan without any symmetry, two shells, and its mask."""
    rng = np.random.default_rng(0)
    bvals = np.repeat([0.0, 1000.0, 2000.0], [2, 15, 15])
    directions = rng.normal(size=(32, 3))
    directions = np.where(bvals[:, None] > 0, directions / np.linalg.norm(directions, axis=1, keepdims=True), 0)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1.8, 2.0, 2.4])
    affine[:3, 3] = [-20, 13, 7]
    turns = np.linalg.qr(rng.normal(size=(7, 5, 4, 3, 3)))[0]
    tensors = np.einsum("...ij,...j,...kj->...ik", turns, rng.uniform(0.1e-3, 2e-3, (7, 5, 4, 3)), turns)
    signals = 500 * np.exp(-bvals * np.einsum("mi,...ij,mj->...m", directions, tensors, directions))
    signals = np.abs(signals + rng.normal(scale=15, size=signals.shape)).astype(np.float32)
    mask = InMemoryVolumeResource(rng.random((7, 5, 4)) > 0.3, affine)
    return Dwi.from_arrays(signals, affine, GradientTable(bvals, directions)), mask


def _phantom() -> tuple[Dwi, InMemoryVolumeResource]:
    """A small, tilted phantom and its mask."""
    gradients = three_shell_gradients(n_b0=2, bvals=(1000, 2000), n_directions=20)
    head = make_phantom(gradients, shape=(32, 34, 20), voxel_size=6.0, orientation="PSR", oblique_degrees=15)
    scan = Dwi.from_arrays(head.signal, head.affine, gradients)
    return scan, InMemoryVolumeResource(head.brain_mask, head.affine)


def _real(data_dir: Path, name: str) -> tuple[Dwi, InMemoryVolumeResource]:
    if name == "mdt":
        scan = _read(data_dir / "mdt_b1k_b2k" / "sub-mdt_dwi")
        return scan, NiftiVolumeResource(data_dir / "mdt_b1k_b2k" / "sub-mdt_mask.nii.gz").load()
    scan = _read(data_dir / "canon_dti" / CANON[11000])
    return scan, scan.extract_brain(method="otsu").load()


def _stored(scan: Dwi, mask: InMemoryVolumeResource, orientation: np.ndarray) -> tuple[Dwi, InMemoryVolumeResource]:
    """The same scan and mask with axes permuted and flipped, the b-vectors as FSL writes them for the new image.

    Independent of how arcuate reads them: FSL's vector is the direction along the image's axes, its x negated where
    det(affine) > 0.
    """
    image = nib.Nifti1Image(scan.volume.get_array(), scan.volume.get_affine()).as_reoriented(orientation)
    other = nib.Nifti1Image(mask.get_array().astype(np.uint8), mask.get_affine()).as_reoriented(orientation)
    along = scan.bvec.get().copy()
    if np.linalg.det(scan.volume.get_affine()[:3, :3]) > 0:
        along[:, 0] *= -1
    new = np.zeros_like(along)
    for axis, (to, sign) in enumerate(orientation):
        new[:, int(to)] = sign * along[:, axis]
    if np.linalg.det(image.affine[:3, :3]) > 0:
        new[:, 0] *= -1
    volume = InMemoryVolumeResource(np.asarray(image.dataobj), image.affine)
    bvec = InMemoryBvecResource(new)
    return Dwi(volume, InMemoryBvalResource(scan.bval.get()), bvec), InMemoryVolumeResource(
        np.asarray(other.dataobj), other.affine
    )


def _as_before(array: np.ndarray, orientation: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A result of the reoriented scan with its voxels back in the order of the first one."""
    back = np.empty_like(orientation)
    for axis, (to, sign) in enumerate(orientation):
        back[to] = axis, sign
    result = nib.orientations.apply_orientation(array, back)
    assert result.shape[:3] == shape[:3]
    return result


def _assert_all_orientations_agree(scan: Dwi, mask: InMemoryVolumeResource) -> None:
    reference = {name: volume.get_array() for name, volume in scan.estimate_dti(mask=mask).get_maps().items()}
    signs_of_determinant = set()
    for orientation in ORIENTATIONS:
        stored, stored_mask = _stored(scan, mask, orientation)
        signs_of_determinant.add(np.sign(np.linalg.det(stored.volume.get_affine()[:3, :3])))
        np.testing.assert_allclose(stored.gradients.directions, scan.gradients.directions, atol=1e-6)
        for name, volume in stored.estimate_dti(mask=stored_mask).get_maps().items():
            found = _as_before(volume.get_array(), orientation, scan.volume.shape)
            expected = reference[name]
            if name == "evecs":  # an axis is known as well as its eigenvalue is apart from the others
                evals = reference["evals"]
                clear = evals[..., 0] - evals[..., 1] > 0.2 * evals[..., 0]
                found, expected = (v[clear][:, :3] for v in (found, expected))
                distance = np.minimum(np.abs(found - expected).max(-1), np.abs(found + expected).max(-1))
                assert distance.max() < 2e-6, (name, orientation)
                continue
            size = 1.0 if name == "fa" else np.abs(expected).max()
            assert np.abs(found - expected).max() <= 1e-6 * size, (name, orientation)
    assert signs_of_determinant == {-1.0, 1.0}


def test_simulated_scan_in_all_48_storage_orders_gives_the_same_tensors():
    _assert_all_orientations_agree(*_simulated())


def test_phantom_in_all_48_storage_orders_gives_the_same_tensors():
    _assert_all_orientations_agree(*_phantom())


def _fods(scan: Dwi, mask: InMemoryVolumeResource) -> dict[str, np.ndarray]:
    """Three tissues of a scan with two shells: white matter's coefficients are in the scanner's frame."""
    bvals = np.array([0.0, 1000.0, 2000.0])
    white = np.stack([tensor_zonal(np.array([1.7e-3, 0.3e-3, 0.3e-3]), 500.0, b, 8) for b in bvals])
    isotropic = [s0 * np.exp(-bvals * d)[:, None] * np.sqrt(4 * np.pi) for s0, d in ((600, 0.8e-3), (1500, 3e-3))]
    fods = estimate_fods(scan, mask, Response(("wm", "gm", "csf"), bvals, (white, *isotropic)))
    return {name: np.asarray(volume.get_array()) for name, volume in fods.volumes.items()}


def _denoised(scan: Dwi, mask: InMemoryVolumeResource) -> dict[str, np.ndarray]:
    found = run_denoising(scan, method="mppca", mask=mask, extent=3)
    return {"denoised": np.asarray(found.dwi.volume.get_array()), "noise": np.asarray(found.noise.get_array())}


@pytest.mark.parametrize(("step", "bar"), [(_fods, 1e-4), (_denoised, 1e-4)], ids=["multi-tissue csd", "mppca"])
def test_simulated_scan_in_all_48_storage_orders_gives_the_same(step, bar):
    scan, mask = _simulated()
    expected = step(scan, mask)
    for orientation in ORIENTATIONS:
        for name, array in step(*_stored(scan, mask, orientation)).items():
            found = _as_before(array, orientation, scan.volume.shape)
            assert np.abs(found - expected[name]).max() <= bar * np.abs(expected[name]).max(), (name, orientation)


@pytest.mark.parametrize("algorithm", ["dhollander", "tournier"])
def test_phantom_in_every_eighth_storage_order_gives_the_same_response(algorithm):
    """Six orders of the axes, with the flips in turn; an erosion and a dilation take all axes alike."""
    scan, mask = _phantom()
    options = {"shell": 2000.0} if algorithm == "tournier" else {}

    def response(scan: Dwi, mask: InMemoryVolumeResource) -> Response:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)  # of few voxels
            return estimate_response_function(scan, mask, algorithm=algorithm, **options)

    expected = response(scan, mask)
    for orientation in ORIENTATIONS[1::9]:
        found = response(*_stored(scan, mask, orientation))
        for ours, theirs in zip(found.coefs, expected.coefs, strict=True):
            assert np.abs(ours - theirs).max() <= 1e-3 * np.abs(theirs).max(), orientation


@pytest.mark.parametrize("name", ["mdt", "canon"])
def test_real_scan_in_all_48_storage_orders_gives_the_same_tensors(data_dir, name):
    _assert_all_orientations_agree(*_real(data_dir, name))


@pytest.mark.parametrize("name", ["simulated", "phantom", "mdt", "canon"])
def test_affine_and_vectors_turned_together_turn_the_tensors(request, name):
    made = {"simulated": _simulated, "phantom": _phantom}.get(name)
    scan, mask = made() if made else _real(request.getfixturevalue("data_dir"), name)
    still = scan.estimate_dti(mask=mask)
    for seed in range(3):
        turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
        turn *= np.linalg.det(turn)  # a rotation
        motion = np.eye(4)
        motion[:3, :3] = turn
        affine = motion @ scan.volume.get_affine()
        moved = Dwi(InMemoryVolumeResource(scan.volume.get_array(), affine), scan.bval, scan.bvec)
        np.testing.assert_allclose(moved.gradients.directions, scan.gradients.directions @ turn.T, atol=1e-12)
        found = moved.estimate_dti(mask=InMemoryVolumeResource(mask.get_array(), affine))
        expected = (turn @ still.volume.get_array()[..., FULL].astype(float) @ turn.T)[..., ROWS, COLUMNS]
        assert np.abs(found.volume.get_array() - expected).max() <= 1e-5 * np.abs(expected).max()
        for a, b in zip(found.get_fa_md(), still.get_fa_md(), strict=True):
            np.testing.assert_allclose(a.get_array(), b.get_array(), rtol=0, atol=1e-5 * b.get_array().max())


def _wrong_rules(scan: Dwi) -> dict[str, np.ndarray]:
    """Directions as read by programs that forget the rotation, or the sign of x."""
    flipped = scan.bvec.get() * [-1, 1, 1]
    return {"no rotation": flipped, "other sign": flipped @ image_to_scanner(scan.volume.get_affine()).T}


@pytest.fixture(scope="module")
def heads(data_dir: Path) -> dict[int, tuple[Dwi, np.ndarray]]:
    scans = {series: _read(data_dir / "canon_dti" / name) for series, name in CANON.items()}
    return {series: (scan, scan.extract_brain(method="otsu").get_array() > 0) for series, scan in scans.items()}


@pytest.mark.parametrize(("series", "bar"), [(5000, 14), (11000, 20)])
def test_three_scans_of_one_head_agree_and_wrong_rules_are_far_worse(heads, series, bar):
    """First eigenvectors where both scans have FA > 0.45, nearest voxel in the scanner."""
    reference, inside = heads[3000]
    fit = fit_tensor(reference.volume.get_array()[inside], reference.gradients)
    first, fa = np.zeros((*inside.shape, 3)), np.zeros(inside.shape)
    first[inside], fa[inside] = fit.evecs[:, 0], fit.fa

    scan, mask = heads[series]
    affine, to_voxel = scan.volume.get_affine(), np.linalg.inv(reference.volume.get_affine())
    where = np.rint(nib.affines.apply_affine(to_voxel @ affine, np.argwhere(mask))).astype(int)
    is_within = np.all((where >= 0) & (where < inside.shape), axis=1)
    where[~is_within] = 0

    def median_angle(directions: np.ndarray) -> float:
        fit = fit_tensor(scan.volume.get_array()[mask], GradientTable(scan.bval.get(), directions))
        both = is_within & (fit.fa > 0.45) & (fa[tuple(where.T)] > 0.45)
        assert both.sum() > 2000
        cosines = np.abs(np.sum(fit.evecs[both, 0] * first[tuple(where[both].T)], axis=1))
        return float(np.median(np.rad2deg(np.arccos(np.minimum(cosines, 1)))))

    right = median_angle(scan.gradients.directions)
    assert right <= bar
    for rule, directions in _wrong_rules(scan).items():
        assert median_angle(directions) >= right + 6, rule
