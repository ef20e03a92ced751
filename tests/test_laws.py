"""Laws every model obeys. A model joins by one function that returns a :class:`Subject`, listed in ``SUBJECTS``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numba
import numpy as np
import pytest

from arcuate.gradients import GradientTable
from arcuate.models.csd import fit_csd
from arcuate.models.free_water import fit_free_water_tensor
from arcuate.models.kurtosis import fit_kurtosis, kurtosis_design
from arcuate.models.mppca import fit_mppca
from arcuate.models.multitissue import fit_multi_tissue
from arcuate.models.noddi import fit_noddi
from arcuate.models.patch2self import fit_patch2self
from arcuate.models.peaks import find_peaks
from arcuate.models.response import Response, tensor_response
from arcuate.models.response_dhollander import Choice, estimate_tissues
from arcuate.models.response_tournier import choose_single_fibres
from arcuate.models.response_zonal import tensor_zonal
from arcuate.models.rician_tensor import fit_rician_tensor
from arcuate.models.robust_tensor import fit_robust_tensor
from arcuate.models.status import Status
from arcuate.models.tensor import TensorFit, fit_tensor
from arcuate.phantom import add_rician_noise, simulate_rows

Fields = dict[str, np.ndarray]


@dataclass(frozen=True)
class Subject:
    """A model on trial.

    ``fit(signals, gradients)`` gives named arrays, one row per voxel, ``status`` among them where there is one.
    What is in none of the tuples is a plain number: the same however the head lies and whatever the unit.
    """

    gradients: GradientTable
    signals: np.ndarray  # (n_vox, n_meas) with noise; row 0 is ordinary
    fit: Callable[[np.ndarray, GradientTable], Fields]
    clean: np.ndarray | None = None  # (n_vox, n_meas) without noise
    truth: Fields = field(default_factory=dict)  # what ``clean`` must give
    truth_tolerance: float = 1e-8  # absolute, in the unit of the field divided by its largest value
    scaling: tuple[str, ...] = ()  # fields in the unit of the signal
    axes: tuple[str, ...] = ()  # (n_vox, ..., 3): axes, sign arbitrary
    tensors: tuple[str, ...] = ()  # (n_vox, 6): xx xy xz yy yz zz
    not_rotating: tuple[str, ...] = ()  # fields to leave out where the head is turned (coefficients, for example)
    rotation_tolerance: float = 1e-8
    order_tolerance: float = 1e-9
    scale_tolerance: float = 1e-9
    is_per_voxel: bool = True  # False for models that learn from all voxels together


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _table(rng: np.random.Generator, *shells: tuple[float, int]) -> GradientTable:
    bvals = np.concatenate([np.full(n, b) for b, n in shells])
    directions = np.where(bvals[:, None] > 0, _unit(rng.normal(size=(len(bvals), 3))), 0)
    return GradientTable(bvals, directions)


def tensor(how: str = "") -> Subject:
    rng = np.random.default_rng(0)
    gradients = _table(rng, (0, 2), (1000, 30))
    evals = np.sort(rng.uniform(0.2e-3, 2e-3, (101, 3)), axis=1)[:, ::-1]
    turns = np.linalg.qr(rng.normal(size=(101, 3, 3)))[0]
    full = np.einsum("vij,vj,vkj->vik", turns, evals, turns)
    clean = 500 * np.exp(
        -gradients.bvals * np.einsum("mi,vij,mj->vm", gradients.directions, full, gradients.directions)
    )

    def fit(signals: np.ndarray, table: GradientTable) -> Fields:
        if how == "robust":
            result: TensorFit = fit_robust_tensor(signals, table)
        elif how == "rician":
            result = fit_rician_tensor(signals, table, 0.04 * np.max(signals, axis=1))
        else:
            result = fit_tensor(signals, table)
        return {
            "fa": result.fa, "md": result.md, "s0": result.s0, "first": result.evecs[:, 0],
            "tensors": result.tensors, "status": result.status,
        }  # fmt: skip

    return Subject(
        gradients=gradients,
        signals=np.abs(clean + rng.normal(scale=20, size=clean.shape)),
        fit=fit,
        clean=None if how == "rician" else clean,  # without noise its likelihood is that of no scan
        truth={"md": evals.mean(axis=1), "first": turns[:, :, 0], "s0": np.full(101, 500.0)},
        scaling=("s0",),
        axes=("first",),
        tensors=("tensors",),
        **({"rotation_tolerance": 1e-4, "order_tolerance": 1e-4, "scale_tolerance": 1e-4} if how == "rician" else {}),
    )


def kurtosis(constrained: bool = False) -> Subject:
    rng = np.random.default_rng(10)
    gradients = _table(rng, (0, 2), (1000, 30), (2000, 35))
    evals = np.sort(rng.uniform(0.3e-3, 2e-3, (101, 3)), axis=1)[:, ::-1]
    turns = np.linalg.qr(rng.normal(size=(101, 3, 3)))[0]
    full = np.einsum("vij,vj,vkj->vik", turns, evals, turns)
    elements = rng.uniform(0, 1.2, (101, 1)) * np.array([1.0] * 3 + [0] * 6 + [1 / 3] * 3 + [0] * 3)
    elements += rng.normal(scale=0.05, size=(101, 15))
    six = full[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]
    coefs = np.column_stack([six, elements * evals.mean(axis=1)[:, None] ** 2, np.full(101, np.log(500))])
    clean = np.exp(coefs @ kurtosis_design(gradients.bvals, gradients.directions).T)

    def fit(signals: np.ndarray, table: GradientTable) -> Fields:
        result = fit_kurtosis(signals, table, constrained=constrained)
        return {
            "fa": result.fa, "md": result.md, "mk": result.mk, "ak": result.ak, "rk": result.rk, "kfa": result.kfa,
            "s0": result.s0, "first": result.evecs[:, 0], "tensors": result.tensors, "elements": result.kurtosis,
            "status": result.status,
        }  # fmt: skip

    return Subject(
        gradients=gradients,
        signals=np.abs(clean + rng.normal(scale=10, size=clean.shape)),
        fit=fit,
        clean=None if constrained else clean,  # some of it has signals that rise with b
        truth={"md": evals.mean(axis=1), "first": turns[:, :, 0], "s0": np.full(101, 500.0), "elements": elements},
        scaling=("s0",),
        axes=("first",),
        tensors=("tensors",),
        not_rotating=("elements",),
        rotation_tolerance=1e-7,
        order_tolerance=1e-7,
        scale_tolerance=1e-7,
    )


def free_water() -> Subject:
    rng = np.random.default_rng(11)
    gradients = _table(rng, (0, 2), (700, 30), (1500, 35))
    evals = np.sort(rng.uniform(0.3e-3, 1.5e-3, (101, 3)), axis=1)[:, ::-1]
    turns = np.linalg.qr(rng.normal(size=(101, 3, 3)))[0]
    along = (np.einsum("vji,mj->vmi", turns, gradients.directions) ** 2 * evals[:, None, :]).sum(axis=-1)
    share = rng.integers(1, 70, 101) / 100  # shares that the search looks at
    tissue, water = np.exp(-gradients.bvals * along), np.exp(-gradients.bvals * 3e-3)
    clean = 500 * ((1 - share)[:, None] * tissue + share[:, None] * water)

    def fit(signals: np.ndarray, table: GradientTable) -> Fields:
        result = fit_free_water_tensor(signals, table)
        return {
            "fwf": result.fwf, "fa": result.fa, "md": result.md, "s0": result.s0, "first": result.evecs[:, 0],
            "tensors": result.tensors, "status": result.status,
        }  # fmt: skip

    return Subject(
        gradients=gradients,
        signals=np.abs(clean + rng.normal(scale=5, size=clean.shape)),
        fit=fit,
        clean=clean,
        truth={"fwf": share, "md": evals.mean(axis=1), "first": turns[:, :, 0], "s0": np.full(101, 500.0)},
        scaling=("s0",),
        axes=("first",),
        tensors=("tensors",),
    )


def patch2self() -> Subject:
    rng = np.random.default_rng(3)
    gradients = _table(rng, (0, 4), (1000, 20))
    clean = rng.gamma(2, 50, (3000, 4)) @ rng.uniform(0.2, 1, (4, 24))

    def fit(signals: np.ndarray, table: GradientTable) -> Fields:
        result = fit_patch2self(signals, table.is_b0)
        return {"denoised": result.denoised, "sigma": result.sigma, "status": result.status}

    return Subject(
        gradients=gradients,
        signals=clean + rng.normal(scale=5, size=clean.shape),
        fit=fit,
        scaling=("denoised", "sigma"),
        order_tolerance=1e-6,
        scale_tolerance=1e-6,
        is_per_voxel=False,
    )


def _noddi(refine: bool) -> Subject:
    rng = np.random.default_rng(2)
    gradients = _table(rng, (0, 2), (1000, 30), (2500, 45))
    n, axes = 61, _unit(rng.normal(size=(61, 3)))
    truth = np.column_stack([rng.uniform(0.4, 0.7, n), rng.uniform(0.05, 0.4, n), rng.uniform(0.05, 0.3, n)])
    clean = simulate_rows(gradients, axes, 1.0, *truth.T, 500.0)

    def fit(signals: np.ndarray, table: GradientTable) -> Fields:
        result = fit_noddi(signals, table, refine=refine)
        return {
            "ndi": result.ndi, "odi": result.odi, "fwf": result.fwf, "s0": result.s0, "rmse": result.rmse,
            "first": result.directions, "status": result.status,
        }  # fmt: skip

    return Subject(
        gradients=gradients,
        signals=add_rician_noise(clean, 15.0, rng),
        fit=fit,
        clean=clean if refine else None,
        truth={"ndi": truth[:, 0], "odi": truth[:, 1], "fwf": truth[:, 2], "first": axes, "s0": np.full(n, 500.0)},
        truth_tolerance=2e-3,
        scaling=("s0",),
        axes=("first",),
        rotation_tolerance=1e-5,
        order_tolerance=1e-5,
        scale_tolerance=1e-5 if refine else 1e-9,
    )


def single_shell_csd() -> Subject:
    rng = np.random.default_rng(6)
    gradients = _table(rng, (0, 2), (3000, 64))
    axes = _unit(rng.normal(size=(67, 2, 3)))
    share = np.column_stack([np.full(67, 0.6), np.full(67, 0.4)])
    clean = simulate_rows(gradients, axes, share, 0.6, 0.05, 0.05, 500.0)
    response = tensor_response(np.array([1.7e-3, 0.3e-3, 0.3e-3]), 500.0, 3000.0)

    def fit(signals: np.ndarray, table: GradientTable) -> Fields:
        fods = fit_csd(signals, table, response)
        peaks = find_peaks(fods.coefs, n_peaks=2)
        return {
            "coefs": fods.coefs, "status": fods.status, "directions": peaks.directions, "values": peaks.values,
        }  # fmt: skip

    return Subject(
        gradients=gradients,
        signals=add_rician_noise(clean, 10.0, rng),
        fit=fit,
        scaling=("coefs", "values"),
        axes=("directions",),
        not_rotating=("coefs", "directions", "values"),  # the penalised grid stays: its own test gives the angles
        order_tolerance=1e-8,
        scale_tolerance=1e-8,
    )


def _tissues_of_head() -> tuple[GradientTable, np.ndarray]:
    """Signals of white matter with one and two fibres, grey matter, fluid, and mixtures of them, noise included."""
    rng = np.random.default_rng(12)
    gradients = _table(rng, (0, 4), (1000, 30), (2500, 45))
    n = 400
    axes = _unit(rng.normal(size=(n, 2, 3)))
    share = np.column_stack([np.full(n, 0.6), np.full(n, 0.4)])
    share[: n // 2] = [1.0, 0.0]
    white = simulate_rows(gradients, axes, share, 0.6, 0.05, 0.02, 500.0)
    grey = 600 * np.exp(-gradients.bvals * 0.8e-3)
    fluid = 1500 * np.exp(-gradients.bvals * 3e-3)
    amounts = rng.dirichlet([0.4, 0.4, 0.4], n)
    amounts[: n // 4] = [1, 0, 0]
    amounts[n // 4 : n // 2] = np.eye(3)[rng.integers(0, 3, n // 4)]
    clean = amounts[:, :1] * white + amounts[:, 1:2] * grey + amounts[:, 2:] * fluid
    return gradients, add_rician_noise(clean, 10.0, rng)


def multi_tissue_csd() -> Subject:
    gradients, signals = _tissues_of_head()
    bvals = np.array([0.0, 1000.0, 2500.0])
    white = np.stack([tensor_zonal(np.array([1.7e-3, 0.3e-3, 0.3e-3]), 500.0, b, 8) for b in bvals])
    isotropic = [s0 * np.exp(-bvals * d)[:, None] * np.sqrt(4 * np.pi) for s0, d in ((600, 0.8e-3), (1500, 3e-3))]
    response = Response(("wm", "gm", "csf"), bvals, (white, *isotropic))

    def fit(rows: np.ndarray, table: GradientTable) -> Fields:
        found = fit_multi_tissue(rows, table, response)
        peaks = find_peaks(found.coefs[0], n_peaks=2)
        return {
            "coefs": found.coefs[0], "amounts": np.column_stack([c[:, 0] for c in found.coefs]),
            "status": found.status, "directions": peaks.directions, "values": peaks.values,
        }  # fmt: skip

    return Subject(
        gradients=gradients,
        signals=signals[:101],
        fit=fit,
        scaling=("coefs", "amounts", "values"),
        axes=("directions",),
        not_rotating=("coefs", "directions", "values"),  # the directions of the constraints stay
        rotation_tolerance=0.02,
        order_tolerance=1e-6,
        scale_tolerance=1e-6,
    )


def dhollander() -> Subject:
    gradients, signals = _tissues_of_head()

    def fit(rows: np.ndarray, table: GradientTable) -> Fields:
        response, voxels = estimate_tissues(rows, table, choice=Choice(wm_percent=10, gm_percent=70, csf_percent=70))
        return {
            **dict(zip(response.tissues, response.coefs, strict=True)),
            "voxels of gm": voxels.gm, "voxels of csf": voxels.csf,
        }  # fmt: skip

    return Subject(
        gradients=gradients,
        signals=signals,
        fit=fit,
        scaling=("wm", "gm", "csf"),
        rotation_tolerance=0.02,  # white matter is chosen by FODs that are held non-negative on directions that stay
        scale_tolerance=1e-7,  # axes of nearly isotropic voxels turn by the rounding of weights
        is_per_voxel=False,
    )


def tournier() -> Subject:
    gradients, signals = _tissues_of_head()

    def fit(rows: np.ndarray, table: GradientTable) -> Fields:
        high = np.flatnonzero(table.bvals > 2000)
        single = choose_single_fibres(rows[:, high], table.directions[high], lambda good: good, n_voxels=40)
        return {"response": single.zonal[None]}

    return Subject(
        gradients=gradients,
        signals=signals,
        fit=fit,
        scaling=("response",),
        rotation_tolerance=0.05,
        is_per_voxel=False,
    )


def mppca() -> Subject:
    rng = np.random.default_rng(14)
    gradients = _table(rng, (0, 4), (1000, 20))
    shape = (11, 9, 8)
    clean = rng.gamma(2, 50, (np.prod(shape), 3)) @ rng.uniform(0.2, 1, (3, 24))

    def fit(rows: np.ndarray, table: GradientTable) -> Fields:
        found = fit_mppca(rows.reshape(*shape, -1))
        return {"denoised": found.denoised.reshape(rows.shape), "sigma": found.sigma.ravel()}

    return Subject(
        gradients=gradients,
        signals=clean + rng.normal(scale=5, size=clean.shape),
        fit=fit,
        scaling=("denoised", "sigma"),
        order_tolerance=1e-5,
        scale_tolerance=1e-5,
        is_per_voxel=False,
    )


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "tensor": cache(tensor),
    "robust tensor": cache(lambda: tensor("robust")),
    "rician tensor": cache(lambda: tensor("rician")),
    "kurtosis": cache(kurtosis),
    "kurtosis, constrained": cache(lambda: kurtosis(constrained=True)),
    "free water": cache(free_water),
    "patch2self": cache(patch2self),
    "single-shell csd": cache(single_shell_csd),
    "multi-tissue csd": cache(multi_tissue_csd),
    "dhollander": cache(dhollander),
    "tournier": cache(tournier),
    "mppca": cache(mppca),
    "noddi": cache(lambda: _noddi(refine=False)),
    "noddi refined": cache(lambda: _noddi(refine=True)),
}


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Subject:
    return SUBJECTS[request.param]()


def _axis_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance of two axes, the sign left open."""
    return np.minimum(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))


def _largest_difference(subject: Subject, name: str, a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference relative to the largest value."""
    distance = _axis_distance(a, b) if name in subject.axes else np.abs(a.astype(float) - b)
    return float(distance.max() / max(np.abs(b).max(), 1e-300))


def _turned(subject: Subject, name: str, values: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    if name in subject.axes:
        return values @ rotation.T
    if name in subject.tensors:
        full = rotation @ values[:, [[0, 1, 2], [1, 3, 4], [2, 4, 5]]] @ rotation.T
        return full[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]
    return values


def test_recovers_the_truth_without_noise(subject):
    if subject.clean is None:
        pytest.skip("this model has its own recovery test: what it finds without noise is not a closed formula")
    found = subject.fit(subject.clean, subject.gradients)
    for name, truth in subject.truth.items():
        assert _largest_difference(subject, name, found[name], truth) <= subject.truth_tolerance, name


def test_turning_the_head_turns_the_answer(subject):
    rotation = np.linalg.qr(np.random.default_rng(9).normal(size=(3, 3)))[0]
    still = subject.fit(subject.signals, subject.gradients)
    turned = subject.fit(subject.signals, subject.gradients.rotated(rotation))
    for name in still.keys() - set(subject.not_rotating):
        expected = _turned(subject, name, still[name], rotation)
        assert _largest_difference(subject, name, turned[name], expected) <= subject.rotation_tolerance, name


@pytest.mark.parametrize("factor", [1e-6, 37.0])
def test_scaling_the_signal_scales_what_has_its_unit_and_nothing_else(subject, factor):
    one = subject.fit(subject.signals, subject.gradients)
    other = subject.fit(subject.signals * factor, subject.gradients)
    for name, values in one.items():
        expected = values * factor if name in subject.scaling else values
        assert _largest_difference(subject, name, other[name], expected) <= subject.scale_tolerance, name


def test_the_order_of_volumes_does_not_matter(subject):
    order = np.random.default_rng(4).permutation(len(subject.gradients))
    one = subject.fit(subject.signals, subject.gradients)
    other = subject.fit(subject.signals[:, order], subject.gradients.subset(order))
    for name, values in one.items():
        if values.shape[-1:] == (len(order),) and name in subject.scaling:
            values = values[:, order]  # a field with one value per volume
        assert _largest_difference(subject, name, other[name], values) <= subject.order_tolerance, name


def test_a_voxel_does_not_depend_on_the_others(subject):
    if not subject.is_per_voxel:
        pytest.skip("this model learns from all voxels together")
    together = subject.fit(subject.signals, subject.gradients)
    half = len(subject.signals) // 2 + 1
    parts = [subject.fit(rows, subject.gradients) for rows in (subject.signals[:half], subject.signals[half:])]
    for name, values in together.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), values, err_msg=name)


@pytest.mark.parametrize(
    ("bad", "expected"), [(np.nan, Status.NOT_FINITE), (np.inf, Status.NOT_FINITE), (0.0, Status.NO_SIGNAL)]
)
def test_a_bad_voxel_marks_itself_and_nothing_else(subject, bad, expected):
    if not subject.is_per_voxel:
        pytest.skip("this model learns from all voxels together; its own tests say what a bad voxel does")
    good = subject.fit(subject.signals, subject.gradients)
    spoiled = subject.signals.copy()
    spoiled[5] = bad
    found = subject.fit(spoiled, subject.gradients)
    others = np.arange(len(spoiled)) != 5
    assert found["status"][5] == expected
    for name, values in good.items():
        np.testing.assert_array_equal(found[name][others], values[others], err_msg=name)
        assert np.all(np.isfinite(found[name])), name


def test_the_number_of_threads_does_not_change_a_bit(subject):
    most = numba.get_num_threads()
    results = []
    try:
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(threads)
            results.append(subject.fit(subject.signals, subject.gradients))
    finally:
        numba.set_num_threads(most)
    for name, values in results[0].items():
        np.testing.assert_array_equal(results[1][name], values, err_msg=name)


def test_the_input_is_left_as_it_was(subject):
    signals = subject.signals.copy()
    signals.setflags(write=False)
    subject.fit(signals, subject.gradients)
    np.testing.assert_array_equal(signals, subject.signals)
