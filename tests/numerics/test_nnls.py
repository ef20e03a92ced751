"""Non-negative least squares and the elastic net against scipy and the conditions of optimality."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls

from arcuate.errors import InputError
from arcuate.numerics.nnls import solve_nonnegative


def _problem(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Basis (n_meas, k), atoms (k, n) that resemble each other, data (n_meas,)."""
    rng = np.random.default_rng(seed)
    k, n = int(rng.integers(2, 30)), int(rng.integers(2, 120))
    basis = rng.normal(size=(60, k))
    atoms = rng.normal(size=(k, n)) + rng.uniform(0, 3)
    return basis, atoms, basis @ atoms @ np.maximum(0, rng.normal(size=n) - 1.2) + rng.normal(size=60)


@pytest.mark.parametrize("seed", range(60))
def test_fits_as_well_as_scipy(seed):
    basis, atoms, data = _problem(seed)
    weights, is_solved = solve_nonnegative(atoms, basis.T @ basis, basis.T @ data)
    assert is_solved
    assert weights.min() >= 0
    ours, best = np.linalg.norm(basis @ atoms @ weights - data), nnls(basis @ atoms, data, maxiter=10_000)[1]
    assert ours <= best * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize(("l1", "l2"), [(2.0, 1e-3), (2.0, 0.3), (0.5, 1e-3), (0.0, 1.0)])
def test_elastic_net_meets_the_conditions_of_optimality(l1, l2):
    for seed in range(30):
        basis, atoms, data = _problem(seed)
        weights, is_solved = solve_nonnegative(atoms, basis.T @ basis, basis.T @ data, l1, l2)
        a = basis @ atoms
        slope = a.T @ (a @ weights - data) + l1 + l2 * weights
        size = np.abs(a.T @ data).max()
        assert is_solved
        assert weights.min() >= 0
        assert slope.min() >= -1e-8 * size
        assert np.abs(slope[weights > 0]).max(initial=0) <= 1e-8 * size


def test_twins_and_sums_of_atoms_do_not_upset_it():
    rng = np.random.default_rng(3)
    basis = rng.normal(size=(40, 6))
    some = rng.uniform(size=(6, 5))
    atoms = np.concatenate([some, some, some[:, :1] + some[:, 1:2], np.zeros((6, 1))], axis=1)
    data = basis @ some @ np.array([1.0, 2.0, 0.0, 0.5, 0.0])
    weights, is_solved = solve_nonnegative(atoms, basis.T @ basis, basis.T @ data)
    assert is_solved
    np.testing.assert_allclose(basis @ atoms @ weights, data, atol=1e-8)


def test_data_opposed_to_every_atom_have_no_weights():
    basis = np.eye(3)
    weights, is_solved = solve_nonnegative(np.abs(np.random.default_rng(0).normal(size=(3, 9))), basis, -np.ones(3))
    assert is_solved
    assert not weights.any()


def test_more_penalty_means_fewer_atoms():
    basis, atoms, data = _problem(7)
    counts = [
        np.count_nonzero(solve_nonnegative(atoms, basis.T @ basis, basis.T @ data, l1, 1e-3)[0]) for l1 in (0, 300, 1e6)
    ]
    assert counts[0] > counts[1] > counts[2] == 0


def test_arrays_that_do_not_fit_are_named_with_their_shapes():
    with pytest.raises(InputError, match=r"\(3, 4\).*\(2, 2\).*expected \(3, n\), \(3, 3\)"):
        solve_nonnegative(np.ones((3, 4)), np.eye(2), np.ones(3))


@pytest.mark.parametrize(("l1", "l2"), [(2.0, 0.0), (-1.0, 1.0), (1.0, -1.0)])
def test_weights_without_a_unique_solution_are_refused(l1, l2):
    basis, atoms, data = _problem(0)
    with pytest.raises(InputError, match="l2 above 0"):
        solve_nonnegative(atoms, basis.T @ basis, basis.T @ data, l1, l2)
