"""The phantom's laws: its truth, its signals against plain integration, its noise, and the 48 ways to store it."""

from __future__ import annotations

from itertools import permutations, product

import numba
import numpy as np
import pytest
from scipy.integrate import dblquad

from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.phantom import (
    BUNDLE_NAMES,
    REGIONS,
    add_rician_noise,
    make_phantom,
    simulate_rows,
    tensor_signals,
    three_shell_gradients,
)

ORIENTATIONS = ["".join(c) for p in permutations(("RL", "AP", "SI")) for c in product(*p)]
SHAPE = (26, 28, 20)  # odd ones out: no two axes are equally long


@pytest.fixture(scope="module")
def gradients():
    return three_shell_gradients(n_b0=2, n_directions=(8, 10, 12))


@pytest.fixture(scope="module")
def phantom(gradients):
    return make_phantom(gradients, SHAPE, snr=25.0, seed=3, orientation="RAS")


@pytest.fixture(scope="module")
def head():
    """A head coarse enough to be quick and fine enough for anatomy; one b = 0 and one weighted volume."""
    table = GradientTable([0.0, 1000.0], [[0, 0, 0], [1, 0, 0]])
    return make_phantom(table, (48, 48, 30), voxel_size=4.0, snr=None, orientation="LAS")


def _integral(b, cosine, odi, ndi, fwf):
    """Zhang's signal of one population by adaptive integration over the sphere."""
    d, kappa = 1.7e-3, 1 / np.tan(np.pi * odi / 2)
    mu = np.array([np.sqrt(1 - cosine**2), 0.0, cosine])  # g is the z axis

    def over_sphere(f):
        def integrand(phi, theta):
            n = np.array([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])
            return f(n) * np.exp(kappa * ((n @ mu) ** 2 - 1)) * np.sin(theta)

        return dblquad(integrand, 0, np.pi / 2, 0, 2 * np.pi, epsabs=1e-11, epsrel=1e-9)[0]

    norm = over_sphere(lambda n: 1.0)
    stick = over_sphere(lambda n: np.exp(-b * d * n[2] ** 2)) / norm
    cos2 = over_sphere(lambda n: n[2] ** 2) / norm
    extra = np.exp(-b * d * ((1 - ndi) + ndi * cos2))
    return fwf * np.exp(-b * 3e-3) + (1 - fwf) * (ndi * stick + (1 - ndi) * extra)


@pytest.mark.parametrize(
    ("b", "cosine", "odi", "ndi", "fwf"),
    [
        (1000.0, 0.3, 0.5, 0.4, 0.1),
        (3500.0, 0.8, 0.2, 0.7, 0.0),
        (2000.0, 0.0, 0.9, 1.0, 0.0),
        (3500.0, 1.0, 0.05, 0.6, 0.3),
        (2000.0, 0.6, 0.02, 0.5, 0.2),
        (6000.0, 0.5, 0.35, 0.9, 0.0),
    ],
)
def test_signal_equals_adaptive_integration_over_the_sphere(b, cosine, odi, ndi, fwf):
    table = GradientTable([0.0, b], [[0, 0, 0], [0, 0, 1]])
    mu = [np.sqrt(1 - cosine**2), 0.0, cosine]
    found = simulate_rows(table, np.array([mu]), 1.0, ndi, odi, fwf)
    assert found[0, 0] == pytest.approx(1.0, abs=1e-12)
    assert found[0, 1] == pytest.approx(_integral(b, cosine, odi, ndi, fwf), rel=1e-7)


def test_signal_without_dispersion_is_a_stick_and_a_tortuous_tensor(gradients):
    mu = np.array([[0.6, 0.0, 0.8]])
    cos2 = (gradients.directions @ mu[0]) ** 2
    b, ndi = gradients.bvals, 0.65
    stick = np.exp(-b * 1.7e-3 * cos2)
    extra = np.exp(-b * 1.7e-3 * ((1 - ndi) + ndi * cos2))
    found = simulate_rows(gradients, mu, 1.0, ndi, 1e-9, 0.0)[0]
    np.testing.assert_allclose(found, ndi * stick + (1 - ndi) * extra, rtol=1e-6)


def test_signal_of_full_dispersion_is_the_same_in_every_direction():
    table = GradientTable(np.full(20, 3000.0), _unit(20))
    found = simulate_rows(table, np.array([[1.0, 0, 0]]), 1.0, 0.7, 1.0, 0.0)[0]
    assert np.ptp(found) < 1e-8


def _unit(n):
    v = np.random.default_rng(n).standard_normal((n, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def test_populations_and_compartments_add_up(gradients):
    axes = _unit(6).reshape(3, 2, 3)
    both = simulate_rows(gradients, axes, np.array([[0.7, 0.3]]), 0.6, 0.1, 0.2, 900.0)
    one = simulate_rows(gradients, axes[:, 0], 1.0, 0.6, 0.1, 0.0)
    two = simulate_rows(gradients, axes[:, 1], 1.0, 0.6, 0.1, 0.0)
    water = np.exp(-gradients.bvals * 3e-3)
    np.testing.assert_allclose(both, 900 * (0.2 * water + 0.8 * (0.7 * one + 0.3 * two)), rtol=1e-12)


@pytest.mark.parametrize("truth", ["noddi", "tensors", "single-tensor"])
def test_signal_turns_with_the_fibres(gradients, truth):
    turn = np.linalg.qr(np.random.default_rng(5).standard_normal((3, 3)))[0]
    axes = _unit(12).reshape(4, 3, 3)
    arguments = (np.array([[0.5, 0.3, 0.2]]), 0.6, 0.12, 0.1)
    straight = simulate_rows(gradients, axes, *arguments, truth=truth)
    turned = simulate_rows(gradients.rotated(turn), axes @ turn.T, *arguments, truth=truth)
    np.testing.assert_allclose(turned, straight, rtol=1e-10)


def test_second_truth_agrees_with_sampling_and_is_far_from_noddi():
    table = GradientTable([0.0, 3500.0], [[0, 0, 0], [0, 0, 1]])
    odi = 0.2
    kappa = 1 / np.tan(np.pi * odi / 2)
    u = (np.arange(200_000) + 0.5) / 200_000
    watson = np.exp(kappa * (u**2 - 1))
    spread = (watson * u**2).sum() / watson.sum()
    m = (3 * spread - 1) / (2 * (1 - spread))
    density = u ** (2 * m)
    assert (density * u**2).sum() / density.sum() == pytest.approx(spread, abs=1e-6)
    stick = (density * np.exp(-3500 * 2.1e-3 * u**2)).sum() / density.sum()
    found = simulate_rows(table, np.array([[0, 0, 1.0]]), 1.0, 1.0, odi, 0.0, truth="tensors")[0, 1]
    assert found == pytest.approx(stick, rel=1e-5)
    assert abs(found / simulate_rows(table, np.array([[0, 0, 1.0]]), 1.0, 1.0, odi)[0, 1] - 1) > 0.1


def test_tensor_signals_are_exponentials(gradients):
    tensors = np.array([[1.7e-3, 1e-4, 0, 3e-4, -5e-5, 4e-4]])
    full = np.array([[1.7e-3, 1e-4, 0], [1e-4, 3e-4, -5e-5], [0, -5e-5, 4e-4]])
    g = gradients.directions
    expected = 50 * np.exp(-gradients.bvals * np.einsum("ia,ab,ib->i", g, full, g))
    np.testing.assert_allclose(tensor_signals(gradients, tensors, 50.0)[0], expected, rtol=1e-13)


def test_directions_are_spread_and_belong_to_the_seed():
    table = three_shell_gradients(n_b0=3, seed=4)
    assert [len(s) for s in table.shells] == [64, 64, 64]
    assert int(table.is_b0.sum()) == 3
    for shell in table.shells:
        g = table.directions[shell.indices]
        cosine = np.abs(g @ g.T) - np.eye(64)
        assert np.degrees(np.arccos(cosine.max())) > 15.0  # the best packing of 64 axes has 18.3 or so
        np.testing.assert_allclose(g.T @ g / 64, np.eye(3) / 3, atol=0.01)
    assert three_shell_gradients(n_b0=3, seed=4) == table
    assert three_shell_gradients(n_b0=3, seed=5) != table


def test_all_tissues_regions_and_bundles_are_present(head, phantom):
    for t in range(3):
        assert np.count_nonzero(head.tissue[head.brain_mask][:, t] > 0.85) > 300
        assert np.count_nonzero(phantom.tissue[phantom.brain_mask][:, t] > 0.85) > 3  # the same in a tiny image
    assert tuple(head.labels) == REGIONS
    assert all(mask.sum() >= 5 for mask in head.labels.values())
    assert len(BUNDLE_NAMES) >= 8
    assert set(head.bundles) == set(BUNDLE_NAMES)
    assert all(mask.sum() >= 25 for mask in head.bundles.values())
    assert all(mask.sum() >= 1 for mask in phantom.bundles.values())
    assert phantom.is_single_fibre.sum() > 50
    assert phantom.is_crossing.sum() > 20
    assert np.count_nonzero(head.n_fibres == 3) > 40


def test_bundles_cross_kiss_and_bend(head):
    crossing = head.bundles["CC_5"] & head.bundles["CST_left"] & (head.n_fibres >= 2)
    assert crossing.sum() > 5
    kissing = head.bundles["UF_right"] & head.bundles["IFO_right"]
    assert kissing.sum() > 3
    assert np.any(head.bundles["UF_right"] & ~head.bundles["IFO_right"])
    arc = head.bundles["AF_left"] & (head.fractions[..., 0] > 0.6)
    axes = head.directions[arc][:, 0].astype(float)
    assert np.linalg.eigvalsh(axes.T @ axes / len(axes))[1] > 0.15  # no single direction


def test_tissue_shares_and_fibre_fractions_sum_to_one_in_the_mask(phantom):
    inside = phantom.brain_mask
    np.testing.assert_allclose(phantom.tissue[inside].sum(axis=-1), 1.0, atol=1e-5)
    has_fibres = phantom.n_fibres > 0
    np.testing.assert_allclose(phantom.fractions[has_fibres].sum(axis=-1), 1.0, atol=1e-5)
    lengths = np.linalg.norm(phantom.directions.astype(float), axis=-1)
    np.testing.assert_allclose(lengths[phantom.fractions > 0], 1.0, atol=1e-6)
    assert np.all(lengths[phantom.fractions == 0] == 0)
    assert np.all(np.diff(phantom.fractions, axis=-1) <= 0)
    assert not np.any(has_fibres & ~inside)
    for array in (phantom.ndi, phantom.odi, phantom.fwf):
        assert array.min() >= 0
        assert array.max() <= 1


def test_two_sided_bundles_lie_on_their_side_of_the_scanner_frame(head):
    for name, mask in head.bundles.items():
        voxels = np.argwhere(mask)
        x = voxels @ head.affine[0, :3] + head.affine[0, 3]
        if name.endswith("_left"):
            assert np.mean(x < 0) > 0.9, name
        elif name.endswith("_right"):
            assert np.mean(x > 0) > 0.9, name
        else:
            assert x.min() < -5, name
            assert x.max() > 5, name


def test_bundles_run_where_anatomy_has_them(head):
    def mean_axis(name):
        inside = head.bundles[name] & (head.n_fibres == 1)
        axes = head.directions[inside][:, 0].astype(float)
        return np.abs(np.linalg.eigh(axes.T @ axes)[1][:, -1])

    assert np.argmax(mean_axis("CST_left")) == 2
    assert np.argmax(mean_axis("ILF_right")) == 1
    assert np.argmax(mean_axis("CC_5")) == 0


def test_every_flip_shows_in_the_signal(head):
    image = head.signal[..., 0]
    scale = image.std()
    for axis in range(3):
        assert np.abs(image - np.flip(image, axis)).mean() > 0.02 * scale
        assert np.sqrt(np.mean((image - np.flip(image, axis)) ** 2)) > 0.1 * scale


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_same_head_is_stored_in_each_of_48_orders(orientation, phantom, gradients):
    other = make_phantom(gradients, SHAPE, snr=25.0, seed=3, orientation=orientation)
    letters = [{"R": "L", "A": "P", "S": "I"}.get(c, c) for c in orientation]
    axes = ["LPI".index(c) for c in letters]
    back = [axes.index(a) for a in range(3)]
    for name in ("signal", "tissue", "directions", "ndi", "n_fibres", "label_image"):
        array = getattr(other, name)
        array = array.transpose(*back, *range(3, array.ndim))
        for a in range(3):
            array = np.flip(array, a) if orientation[back[a]] in "LPI" else array
        np.testing.assert_array_equal(array, getattr(phantom, name))
    corner = np.array([1, 2, 3])
    canonical = [corner[back[a]] if orientation[back[a]] in "RAS" else SHAPE[a] - 1 - corner[back[a]] for a in range(3)]
    np.testing.assert_allclose(other.affine @ [*corner, 1], phantom.affine @ [*canonical, 1], atol=1e-10)
    from_files = GradientTable.from_fsl(other.bvals, other.bvecs, other.affine)
    np.testing.assert_allclose(from_files.directions, gradients.directions, atol=1e-12)


def test_oblique_grid_sees_the_same_head(gradients):
    straight = make_phantom(gradients, (48, 48, 30), voxel_size=4.0, snr=None, head_scale=0.8)
    turned = make_phantom(
        gradients, (48, 48, 30), voxel_size=4.0, snr=None, head_scale=0.8, oblique_degrees=17.0, orientation="PSR"
    )
    np.testing.assert_allclose(np.linalg.norm(turned.affine[:3, :3], axis=0), 4.0)
    index = np.argwhere(straight.is_single_fibre)
    points = index @ straight.affine[:3, :3].T + straight.affine[:3, 3]
    there = np.round((points - turned.affine[:3, 3]) @ np.linalg.inv(turned.affine[:3, :3]).T).astype(int)
    axes = straight.directions[tuple(index.T)][:, 0], turned.directions[tuple(there.T)][:, 0]
    angle = np.degrees(np.arccos(np.clip(np.abs((axes[0] * axes[1]).sum(axis=1)), 0, 1)))
    assert np.median(angle) < 8.0  # neighbouring voxel centres, up to 3 mm apart
    assert abs(int(turned.brain_mask.sum()) / int(straight.brain_mask.sum()) - 1) < 0.02


def test_noise_is_rician_with_the_stated_sigma(phantom):
    assert phantom.sigma == pytest.approx(1000 / 25)
    air = phantom.signal[phantom.s0 == 0]
    sigma = phantom.sigma
    assert air.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.01)
    assert (air.astype(float) ** 2).mean() == pytest.approx(2 * sigma**2, rel=0.015)
    clean = phantom.noise_free_rows(phantom.brain_mask)
    noisy = phantom.signal[phantom.brain_mask].astype(float)
    excess = (noisy**2 - clean**2 - 2 * sigma**2) / np.sqrt(4 * sigma**2 * clean**2 + 4 * sigma**4)
    assert abs(excess.mean()) < 5 / np.sqrt(excess.size)
    assert excess.std() == pytest.approx(1.0, rel=0.02)
    residual = noisy - clean
    neighbours = np.corrcoef(residual[:, 5], residual[:, 6])[0, 1]
    assert abs(neighbours) < 5 / np.sqrt(len(residual))


def test_added_rician_noise_has_the_moments_of_a_rician():
    noisy = add_rician_noise(np.full(400_000, 3.0), 1.5, np.random.default_rng(0))
    assert (noisy**2).mean() == pytest.approx(9 + 2 * 1.5**2, rel=0.005)
    assert (noisy**4).mean() == pytest.approx(81 + 8 * 9 * 1.5**2 + 8 * 1.5**4, rel=0.01)


def test_image_without_noise_is_the_truth_written_out(phantom, gradients):
    clean = phantom.noise_free()
    again = make_phantom(gradients, SHAPE, snr=None, seed=3, orientation="RAS")
    np.testing.assert_array_equal(clean, again.signal)
    pick = phantom.brain_mask
    rows = simulate_rows(
        gradients,
        phantom.directions[pick],
        phantom.fractions[pick],
        phantom.ndi[pick],
        phantom.odi[pick],
        phantom.fwf[pick],
        phantom.s0[pick],
    )
    np.testing.assert_allclose(clean[pick], rows, rtol=2e-6)
    np.testing.assert_allclose(phantom.noise_free_rows(pick), rows, rtol=1e-6)


def test_white_matter_is_near_1000_and_fluid_is_brighter(gradients):
    clean = make_phantom(gradients, SHAPE, snr=None).signal[..., 0]
    phantom = make_phantom(gradients, SHAPE, snr=None)
    assert np.median(clean[phantom.tissue[..., 0] > 0.95]) == pytest.approx(1000, rel=0.05)
    assert np.median(clean[phantom.tissue[..., 2] > 0.95]) > 2500


def test_single_tensor_truth_is_the_tensor_it_states(gradients):
    phantom = make_phantom(gradients, SHAPE, snr=None, truth="single-tensor")
    pick = phantom.brain_mask
    expected = tensor_signals(gradients, phantom.diffusivity[pick], phantom.s0[pick])
    np.testing.assert_allclose(phantom.noise_free_rows(pick), expected, rtol=1e-5)
    x = phantom.diffusivity[pick].astype(float)
    matrices = x[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)
    values = np.linalg.eigvalsh(matrices)
    fa = np.sqrt(1.5 * ((values - values.mean(1, keepdims=True)) ** 2).sum(1) / (values**2).sum(1))
    np.testing.assert_allclose(phantom.fa[pick], fa, atol=2e-3)  # where it is 0, rounding moves it most
    np.testing.assert_allclose(phantom.md[pick], values.mean(1), rtol=1e-5)


def test_tensor_of_the_first_truth_is_its_slope_at_b_zero():
    gradients = GradientTable(np.append(np.full(12, 5.0), 1000.0), _unit(13))  # 1000 keeps the table unsuspicious
    phantom = make_phantom(gradients, SHAPE, snr=None)
    pick = phantom.tissue[..., 0] > 0.9
    slope = -np.log(phantom.noise_free_rows(pick) / phantom.s0[pick][:, None])[:, :12] / 5.0
    stated = -np.log(tensor_signals(gradients, phantom.diffusivity[pick]))[:, :12] / 5.0
    np.testing.assert_allclose(slope, stated, rtol=0.01)


def test_tensor_is_not_stated_for_the_second_truth(gradients):
    phantom = make_phantom(gradients, SHAPE, snr=None, truth="tensors")
    with pytest.raises(InputError, match="single-tensor"):
        phantom.fa


def test_seed_decides_everything_and_noise_seed_the_noise_alone(phantom, gradients):
    again = make_phantom(gradients, SHAPE, snr=25.0, seed=3, orientation="RAS")
    np.testing.assert_array_equal(again.signal, phantom.signal)
    noise = make_phantom(gradients, SHAPE, snr=25.0, seed=3, orientation="RAS", noise_seed=8)
    np.testing.assert_array_equal(noise.s0, phantom.s0)
    assert np.mean(noise.signal == phantom.signal) < 0.01
    other = make_phantom(gradients, SHAPE, snr=25.0, seed=4, orientation="RAS")
    assert np.mean(other.tissue == phantom.tissue) < 0.9


def test_threads_do_not_change_a_bit(phantom, gradients):
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = make_phantom(gradients, SHAPE, snr=25.0, seed=3, orientation="RAS")
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(alone.signal, phantom.signal)


def test_shading_scales_the_signal_smoothly(gradients):
    plain = make_phantom(gradients, SHAPE, snr=None, orientation="RAS").noise_free()
    shaded = make_phantom(gradients, SHAPE, snr=None, orientation="RAS", shading=0.5).noise_free()
    ratio = shaded[..., 0] / np.where(plain[..., 0] > 0, plain[..., 0], np.nan)
    left, right = np.nanmean(ratio[:8]), np.nanmean(ratio[-8:])
    assert left > 1.1 * right


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": "dti"}, "expected one of noddi"),
        ({"orientation": "RAR"}, "three letters"),
        ({"snr": -1.0}, "positive number"),
        ({"voxel_size": 0.0}, "positive mm"),
        ({"shape": (10, 10)}, "three numbers"),
    ],
)
def test_bad_options_say_what_is_expected(change, message, gradients):
    with pytest.raises(InputError, match=message):
        make_phantom(gradients, **{"shape": (8, 8, 8), **change})
