"""CSD, responses and peaks with DIPY's names: equal to DIPY, and taken by its tracking."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import dipy.core.gradients as peer_gradients
import dipy.data as peer_data
import dipy.direction.peaks as peer_peaks
import dipy.reconst.csdeconv as peer
import dipy.reconst.shm as peer_shm
import numpy as np
import pytest

from arcuate import dipy as face
from arcuate.errors import InputError, InputWarning
from arcuate.phantom import make_phantom, three_shell_gradients

SMALL = peer_data.get_fnames(name="small_64D")


@pytest.fixture(scope="module")
def small():
    """DIPY's small_64D: data (x, y, z, 65) and both gradient tables."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = face.load_nifti(SMALL[0])[0].astype(np.float64)
        bvals, bvecs = face.read_bvals_bvecs(SMALL[1], SMALL[2])
        bvecs = np.nan_to_num(bvecs)
        theirs = peer_gradients.gradient_table(bvals, bvecs=bvecs)
    return data, face.gradient_table(bvals, bvecs=bvecs), theirs


@pytest.fixture(scope="module")
def real(data_dir: Path):
    """b = 0 and b = 2000 of a real scan, two slices cut out of the middle, and both gradient tables."""
    stem = data_dir / "mdt_b1k_b2k" / "sub-mdt_dwi"
    data, _ = face.load_nifti(f"{stem}.nii.gz")
    bvals, bvecs = face.read_bvals_bvecs(f"{stem}.bval", f"{stem}.bvec")
    keep = (bvals < 50) | (bvals > 1500)
    bvals, bvecs = bvals[keep], bvecs[keep]
    data = np.asarray(data[30:62, 36:58][..., keep], dtype=np.float64)
    return data, face.gradient_table(bvals, bvecs=bvecs), peer_gradients.gradient_table(bvals, bvecs=bvecs)


@pytest.fixture(scope="module")
def phantom():
    """b = 0 and b = 3500 of the phantom at SNR 30, a block of white matter, and both gradient tables."""
    # with 64 directions degree 10 (66 coefficients) is singular to rounding: there DIPY's answer hangs on the last bit
    gradients = three_shell_gradients(n_b0=2, n_directions=80)
    head = make_phantom(gradients, shape=(48, 48, 30), voxel_size=4.0, snr=30, seed=0)
    keep = gradients.is_b0 | (gradients.bvals > 3000)
    data = head.signal[16:32, 14:34, 14:18][..., keep].astype(np.float64)
    bvals, bvecs = gradients.bvals[keep], gradients.directions[keep]
    return data, face.gradient_table(bvals, bvecs=bvecs), peer_gradients.gradient_table(bvals, bvecs=bvecs)


@pytest.fixture(params=["small", "real", "phantom"])
def scan(request):
    return request.getfixturevalue(request.param)


def _quiet(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


RESPONSE = (np.array([1.5e-3, 0.3e-3, 0.3e-3]), 280.0)


def test_responses_from_a_region_are_dipys(scan):
    data, ours, theirs = scan
    for options in ({}, {"roi_radii": (4, 3, 1), "fa_thr": 0.5}, {"roi_center": (5, 5, 1), "roi_radii": 3}):
        options = {"fa_thr": 0.6, **options}
        mask = _quiet(face.mask_for_response_ssst, ours, data, **options)
        expected = _quiet(peer.mask_for_response_ssst, theirs, data, **options)
        np.testing.assert_array_equal(mask, expected)
        assert mask.dtype == expected.dtype
        if not mask.any():
            continue
        (evals, s0), ratio = face.auto_response_ssst(ours, data, **options)
        (evals_2, s0_2), ratio_2 = _quiet(peer.auto_response_ssst, theirs, data, **options)
        np.testing.assert_allclose(evals, evals_2, rtol=1e-6)
        np.testing.assert_allclose((s0, ratio), (s0_2, ratio_2), rtol=1e-6)


def test_an_empty_mask_warns_and_gives_nan_as_in_dipy(small):
    data, ours, _ = small
    with pytest.warns(UserWarning, match="No voxel in mask"):
        (evals, s0), ratio = face.response_from_mask_ssst(ours, data, np.zeros(data.shape[:3]))
    assert np.isnan([evals, s0, ratio]).all()
    with pytest.raises(ValueError, match="Data must be 4D"):
        face.mask_for_response_ssst(ours, data[0])


def test_the_recursive_response_is_dipys(scan):
    data, ours, theirs = scan
    mask = data[..., 0] > np.percentile(data[..., 0], 40)
    options = {"mask": mask, "sh_order_max": 8, "peak_thr": 0.02, "iter": 3}
    found = face.recursive_response(ours, data, **options)
    expected = _quiet(peer.recursive_response, theirs, data, **options)
    np.testing.assert_allclose(found.dwi_response, expected.dwi_response, rtol=1e-6)
    np.testing.assert_allclose(found.S0, expected.S0, rtol=1e-6)
    sphere = face.default_sphere
    signal = _quiet(expected.on_sphere, peer_data.default_sphere)
    np.testing.assert_allclose(found.on_sphere(sphere), signal, rtol=1e-6)


@pytest.mark.parametrize("lmax", [4, 8, 10, 12])
@pytest.mark.parametrize("kind", ["evals", "AxSymShResponse", "DIPY's AxSymShResponse"])
def test_fods_are_dipys_in_every_voxel(scan, lmax, kind):
    data, ours, theirs = scan
    data = data[:8, :6, :1] if lmax <= 8 else data[:4, :4, :1]
    response = other = RESPONSE
    if kind != "evals":
        zonal = np.array([350.0, -160, 40, -8, 1.5, -0.4, 0.1])[: lmax // 2 + 1]
        other = peer.AxSymShResponse(280.0, zonal)
        response = other if kind.startswith("DIPY") else face.AxSymShResponse(280.0, zonal)
    fit = _quiet(face.ConstrainedSphericalDeconvModel, ours, response, sh_order_max=lmax)
    expected = _quiet(peer.ConstrainedSphericalDeconvModel, theirs, other, sh_order_max=lmax)
    found, wanted = _quiet(fit.fit, data), _quiet(expected.fit, data)
    largest = np.abs(wanted.shm_coeff).max(-1)
    error = np.abs(found.shm_coeff - wanted.shm_coeff).max(-1) / largest
    # 64 directions do not determine degree 10 (66 coefficients): how far DIPY's own answer moves with the last digits
    again = _quiet(expected.fit, data * (1 + 1e-13 * np.random.default_rng(0).normal(size=data.shape)))
    own = np.abs(again.shm_coeff - wanted.shm_coeff).max(-1) / largest
    is_determined = own < 1e-9
    assert is_determined.all() or len(ours.bvals) == 65
    assert np.nanmax(error[is_determined], initial=0.0) <= 1e-8
    sphere = peer_data.get_sphere(name="repulsion100")
    expected_odf = _quiet(lambda: wanted.odf(sphere))
    tolerance = 1e-9 * np.nanmax(wanted.shm_coeff)
    np.testing.assert_allclose(found.odf(sphere)[is_determined], expected_odf[is_determined], atol=tolerance)
    expected_gfa = np.array(wanted.gfa, dtype=float)
    np.testing.assert_allclose(found.gfa[is_determined], expected_gfa[is_determined], atol=1e-7)


def test_options_masks_indices_and_predictions_are_taken_as_by_dipy(small):
    data, ours, theirs = small
    options = {"lambda_": 0.5, "tau": 0.2, "convergence": 20, "sh_order_max": 6}
    ball = peer_data.get_sphere(name="repulsion200")
    mine = face.ConstrainedSphericalDeconvModel(ours, RESPONSE, reg_sphere=ball, **options)
    other = _quiet(peer.ConstrainedSphericalDeconvModel, theirs, RESPONSE, reg_sphere=ball, **options)
    for name in ("B_dwi", "B_reg", "R", "_X", "_P", "S_r"):
        np.testing.assert_allclose(getattr(mine, name), getattr(other, name), rtol=1e-9, atol=1e-9, err_msg=name)
    mask = data[..., 0] > np.median(data[..., 0])
    found, wanted = mine.fit(data, mask=mask), _quiet(other.fit, data, mask=mask)
    np.testing.assert_allclose(found.shm_coeff, wanted.shm_coeff, atol=1e-10)
    assert found.shape == wanted.shape
    assert not found.shm_coeff[~mask].any()
    inside = tuple(np.argwhere(mask)[0])
    np.testing.assert_array_equal(found[inside].shm_coeff, found.shm_coeff[inside])
    s0 = data[..., 0]
    predicted, expected = found.predict(S0=s0), wanted.predict(S0=s0)
    expected[inside] = wanted[inside].predict(S0=s0[inside])  # DIPY gives the first voxel inside the S0 of voxel 0
    np.testing.assert_allclose(predicted, expected, atol=1e-9 * s0.max())
    one = mine.fit(data[inside])
    np.testing.assert_array_equal(one.shm_coeff, found.shm_coeff[inside])
    other_table = face.gradient_table(ours.bvals[::2], bvecs=ours.bvecs[::2])
    np.testing.assert_allclose(one.predict(gtab=other_table), one.predict()[..., ::2], atol=1e-9)
    with pytest.raises(ValueError, match="do not match"):
        mine.fit(data, mask=mask[0])


def test_a_voxel_with_nan_gives_nan_and_leaves_the_others(small):
    data, ours, _ = small
    model = face.ConstrainedSphericalDeconvModel(ours, RESPONSE)
    rows = data.reshape(-1, data.shape[-1])[:20].copy()
    good = model.fit(rows).shm_coeff
    rows[4, 3] = np.nan
    found = model.fit(rows).shm_coeff
    assert np.isnan(found[4]).all()
    np.testing.assert_array_equal(np.delete(found, 4, 0), np.delete(good, 4, 0))


def test_several_shells_and_too_many_coefficients_are_warned_of():
    bvals = np.repeat([0.0, 1000, 3000], [1, 60, 60])
    rng = np.random.default_rng(0)
    bvecs = rng.normal(size=(121, 3))
    bvecs = np.where(bvals[:, None] > 0, bvecs / np.linalg.norm(bvecs, axis=1, keepdims=True), 0)
    with pytest.warns(InputWarning, match="shells at b = 1000, 3000"):
        face.ConstrainedSphericalDeconvModel(face.gradient_table(bvals, bvecs=bvecs), RESPONSE)
    one = face.gradient_table(bvals[:61], bvecs=bvecs[:61])
    with pytest.warns(UserWarning, match="Number of parameters required"):
        face.ConstrainedSphericalDeconvModel(one, RESPONSE, sh_order_max=10)
    with pytest.raises(InputError, match="even number"):
        face.ConstrainedSphericalDeconvModel(one, RESPONSE, sh_order_max=7)
    with pytest.raises(InputError, match=r"degree 4.*sh_order_max = 8"):
        face.ConstrainedSphericalDeconvModel(one, face.AxSymShResponse(1.0, np.array([1.0, -0.5, 0.1])))


PEAKS = ("peak_dirs", "peak_values", "peak_indices", "gfa", "qa", "shm_coeff", "B", "odf")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"relative_peak_threshold": 0.1, "min_separation_angle": 15, "npeaks": 3, "return_odf": True},
        {"normalize_peaks": True, "gfa_thr": 0.6, "sh_order_max": 4},
        {"sh_basis_type": "tournier07", "legacy": False},
        {"sh_basis_type": "tournier07"},
        {"legacy": False, "return_sh": True},
        {"return_sh": False, "parallel": True, "num_processes": 1},
    ],
)
def test_peaks_are_dipys(scan, options):
    data, ours, theirs = scan
    data = data[:7, :6, :2]
    mask = np.random.default_rng(0).random(data.shape[:3]) > 0.3
    options = {"relative_peak_threshold": 0.5, "min_separation_angle": 25, "mask": mask, **options}
    model = face.ConstrainedSphericalDeconvModel(ours, RESPONSE)
    other = _quiet(peer.ConstrainedSphericalDeconvModel, theirs, RESPONSE)
    for sphere, their_sphere in (
        (face.default_sphere, peer_data.default_sphere),
        (face.get_sphere("symmetric362"), peer_data.get_sphere(name="symmetric362")),
    ):
        found = face.peaks_from_model(model=model, data=data, sphere=sphere, **options)
        given = {k: v for k, v in options.items() if k not in ("parallel", "num_processes")}
        wanted = _quiet(peer_peaks.peaks_from_model, model=other, data=data, sphere=their_sphere, **given)
        for name in PEAKS:
            mine, expected = getattr(found, name), getattr(wanted, name)
            if expected is None:
                assert mine is None, name
                continue
            assert mine.shape == expected.shape
            assert mine.dtype == expected.dtype
            if name == "peak_dirs":  # on a full sphere rounding chooses between a vertex and its opposite
                sign = np.where(np.sum(mine * expected, axis=-1, keepdims=True) < 0, -1, 1)
                mine = mine * (sign if len(sphere.vertices) == 362 and sphere is not face.default_sphere else 1)
            if name == "peak_indices" and sphere is not face.default_sphere:
                np.testing.assert_array_equal(mine < 0, expected < 0)
                along = np.abs(np.sum(sphere.vertices[mine] * sphere.vertices[expected], axis=-1))
                np.testing.assert_allclose(along[mine >= 0], 1, atol=1e-6)  # the same vertex, or its opposite
                continue
            np.testing.assert_allclose(mine, expected, atol=1e-9 * np.nanmax(np.abs(expected)), err_msg=name)


def test_peaks_come_back_from_pickle_and_take_dipys_models(small):
    data, _, theirs = small
    model = _quiet(peer_shm.CsaOdfModel, theirs, 4)
    sphere = peer_data.default_sphere
    found = _quiet(face.peaks_from_model, model, data[:3, :3, :1], sphere, 0.5, 25)
    wanted = _quiet(peer_peaks.peaks_from_model, model, data[:3, :3, :1], sphere, 0.5, 25)
    np.testing.assert_array_equal(found.peak_indices, wanted.peak_indices)
    again = pickle.loads(pickle.dumps(found))
    assert isinstance(again, face.PeaksAndMetrics)
    np.testing.assert_array_equal(again.peak_dirs, found.peak_dirs)
    assert face.reshape_peaks_for_visualization(found).shape == (3, 3, 1, 15)


def test_dipys_tracking_takes_our_peaks_and_coefficients(small):
    from dipy.direction import DeterministicMaximumDirectionGetter, ProbabilisticDirectionGetter
    from dipy.tracking.local_tracking import LocalTracking
    from dipy.tracking.stopping_criterion import BinaryStoppingCriterion

    data, ours, theirs = small
    model = face.ConstrainedSphericalDeconvModel(ours, RESPONSE)
    inside = np.ones(data.shape[:3], dtype=bool)
    seeds = np.argwhere(inside).astype(float)[::7]

    def track(getter, seed=1):
        criterion = BinaryStoppingCriterion(inside)
        return list(LocalTracking(getter, criterion, seeds, np.eye(4), step_size=0.5, random_seed=seed))

    mine = track(face.peaks_from_model(model, data, face.default_sphere, 0.5, 25))
    other = _quiet(peer.ConstrainedSphericalDeconvModel, theirs, RESPONSE)
    wanted = track(_quiet(peer_peaks.peaks_from_model, other, data, peer_data.default_sphere, 0.5, 25))
    assert len(mine) == len(wanted) > 10
    for a, b in zip(mine, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    coefs = model.fit(data).shm_coeff
    for kind in (DeterministicMaximumDirectionGetter, ProbabilisticDirectionGetter):
        getter = _quiet(kind.from_shcoeff, coefs, max_angle=30.0, sphere=face.default_sphere)
        assert sum(len(s) > 2 for s in track(getter)) > 10


@pytest.mark.parametrize("basis", [None, "descoteaux07", "tournier07"])
@pytest.mark.parametrize("legacy", [True, False])
def test_bases_are_dipys(basis, legacy):
    sphere = peer_data.get_sphere(name="repulsion100")
    for order in (2, 8):
        options = {"sh_order_max": order, "basis_type": basis, "legacy": legacy}
        for mine, other in zip(
            face.sh_to_sf_matrix(sphere, **options),
            _quiet(peer_shm.sh_to_sf_matrix, sphere, return_inv=True, **options),
            strict=True,
        ):
            np.testing.assert_allclose(mine, other, atol=1e-12)
    samples = np.random.default_rng(0).random((3, 100))
    np.testing.assert_allclose(
        face.sf_to_sh(samples, sphere, 4, basis, legacy=legacy),
        _quiet(peer_shm.sf_to_sh, samples, sphere, sh_order_max=4, basis_type=basis, legacy=legacy),
        atol=1e-12,
    )


def test_simulated_tensors_are_dipys(small):
    from dipy.sims import voxel

    _, ours, theirs = small
    evecs = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]]).T
    evals = np.array([1.4e-3, 0.3e-3, 0.2e-3])
    np.testing.assert_allclose(
        face.single_tensor(ours, 100, evals=evals, evecs=evecs),
        voxel.single_tensor(theirs, 100, evals=evals, evecs=evecs),
        rtol=1e-12,
    )
    vertices = face.default_sphere.vertices
    np.testing.assert_allclose(
        face.single_tensor_odf(vertices, evals=evals, evecs=evecs),
        voxel.single_tensor_odf(vertices, evals=evals, evecs=evecs),
        rtol=1e-10,
    )
    mevals, angles = np.array([[1.5e-3, 0.3e-3, 0.3e-3]] * 2), [(10, 20), (70, 30)]
    signal, sticks = face.multi_tensor(ours, mevals, S0=5, angles=angles, fractions=[60, 40], snr=None)
    expected, axes = voxel.multi_tensor(theirs, mevals, S0=5, angles=angles, fractions=[60, 40], snr=None)
    np.testing.assert_allclose(signal, expected, rtol=1e-10)
    np.testing.assert_allclose(sticks, axes, atol=1e-12)
    np.testing.assert_allclose(
        face.multi_tensor_odf(vertices, mevals, angles, [60, 40]),
        voxel.multi_tensor_odf(vertices, mevals, angles, [60, 40]),
        rtol=1e-10,
    )


def test_simulated_tensors_beyond_the_fractions_are_left_alone_as_in_dipy(small):
    from dipy.sims import voxel

    _, ours, theirs = small
    mevals, vertices = np.array([[1.5e-3, 0.3e-3, 0.3e-3]] * 3), face.default_sphere.vertices
    for angles in ([(10, 20)], [(10, 20), (70, 30)]):
        signal, sticks = face.multi_tensor(ours, mevals, angles=angles, fractions=[100], snr=None)
        expected, axes = voxel.multi_tensor(theirs, mevals, angles=angles, fractions=[100], snr=None)
        np.testing.assert_allclose(signal, expected, rtol=1e-10)
        np.testing.assert_allclose(sticks, axes, atol=1e-12)
        np.testing.assert_allclose(
            face.multi_tensor_odf(vertices, mevals, angles, [100]),
            voxel.multi_tensor_odf(vertices, mevals, angles, [100]),
            rtol=1e-10,
        )


def test_more_fractions_than_tensors_are_refused(small):
    _, ours, _ = small
    with pytest.raises(InputError, match=r"found 2 fractions, eigenvalues of 1 tensors and 2 axes; expected"):
        face.multi_tensor(ours, [[1.5e-3, 0.3e-3, 0.3e-3]], fractions=[50, 50])


def test_the_weight_of_the_constraint_is_the_one_that_dipys_test_expects():
    bvals, bvecs = face.read_bvals_bvecs(SMALL[1], SMALL[2])
    table = face.gradient_table(bvals, bvecs=bvecs)
    sphere = face.default_sphere
    for lmax, weight in {4: 27.5230088, 8: 82.5713865, 16: 216.0843135}.items():
        model = _quiet(
            face.ConstrainedSphericalDeconvModel,
            table,
            (np.array([0.0015, 0.0003, 0.0003]), 100),
            sh_order_max=lmax,
            reg_sphere=sphere,
        )
        basis = face.sh_to_sf_matrix(sphere, lmax, return_inv=False).T
        np.testing.assert_allclose(model.B_reg, weight * basis, atol=1e-5)
