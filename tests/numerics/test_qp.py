from __future__ import annotations

import subprocess
import sys
import textwrap

import numba
import numpy as np
import pytest
from scipy.optimize import nnls

from arcuate.numerics.qp import FEASIBILITY, ConeProblem
from arcuate.numerics.qp_active_set import make_active_set, panels_of
from arcuate.numerics.qp_kernel import SOLVED, ZERO, Solutions, take_starts
from arcuate.numerics.qp_start import make_lanes, make_start, start_problems
from arcuate.numerics.sh import sh_matrix
from arcuate.numerics.sphere import get_hemisphere


@pytest.fixture(scope="module")
def problem() -> ConeProblem:
    """Harmonics of degree 8 blurred by a Gaussian, not negative on 321 directions: ill-conditioned, many ties."""
    rng = np.random.default_rng(1)
    degree = np.repeat(np.arange(0, 9, 2), [1, 5, 9, 13, 17])
    design = sh_matrix(rng.normal(size=(150, 3)), 8) * np.exp(-0.08 * degree * (degree + 1))
    return ConeProblem(design, sh_matrix(get_hemisphere("symmetric642").vertices, 8))


@pytest.fixture(scope="module")
def signals(problem: ConeProblem) -> np.ndarray:
    """Sharp functions with noise from weak to strong, noise alone, and nothing."""
    rng = np.random.default_rng(2)
    clean = np.abs(rng.normal(size=(60, 3)))[:, :1] * (sh_matrix(rng.normal(size=(60, 3)), 8) @ problem.design.T)
    clean += rng.normal(size=clean.shape) * np.geomspace(1e-3, 3, 60)[:, None]
    return np.vstack([clean, rng.normal(size=(6, 150)), np.zeros((1, 150))])


def _dual_solution(problem: ConeProblem, s: np.ndarray) -> np.ndarray:
    q, r = np.linalg.qr(problem.design)
    rows = np.linalg.solve(r.T, problem.constraints.T).T
    scale = np.linalg.norm(rows, axis=1, keepdims=True)
    multipliers, _ = nnls((rows / scale).T, -(q.T @ s), maxiter=10_000)
    return np.linalg.solve(r, q.T @ s + (rows / scale).T @ multipliers)


def test_agrees_with_nnls_on_the_dual(problem: ConeProblem, signals: np.ndarray) -> None:
    fit = problem.solve(signals)
    for s, u in zip(signals, fit.solution, strict=True):
        expected = _dual_solution(problem, s)
        assert np.abs(u - expected).max() <= 1e-8 * max(np.abs(expected).max(), 1e-300)


def test_solutions_satisfy_the_conditions_of_karush_kuhn_and_tucker(problem: ConeProblem, signals: np.ndarray) -> None:
    fit = problem.solve(signals)
    assert np.all(fit.outcome[:-1] == SOLVED)
    assert fit.kkt_residual.max() < 1e-9
    for s, u in zip(signals[:-1], fit.solution, strict=False):
        values = problem.constraints @ u
        right = problem.design.T @ s
        gradient = problem.design.T @ (problem.design @ u) - right
        assert values.min() >= -1e-10 * values.max()
        active = values <= 1e-9 * values.max()
        multipliers, gap = nnls(problem.constraints[active].T, gradient, maxiter=10_000)
        assert gap <= 1e-6 * np.abs(right).max()
        assert multipliers @ np.abs(values[active]) <= 1e-6 * np.abs(right).max()


def test_a_part_that_is_exactly_zero_is_found_though_every_one_of_its_constraints_holds(problem: ConeProblem) -> None:
    n_meas, n = problem.design.shape
    rng = np.random.default_rng(4)
    flat = np.linspace(0.2, 1, n_meas)[:, None]  # a tissue of its own, next to a function that wants to be negative
    both = ConeProblem(
        np.hstack([problem.design, flat]), np.block([[problem.constraints, np.zeros((321, 1))], [np.zeros(n), 1]])
    )
    u = np.append(np.eye(1, n)[0] * -0.3, 1.0)
    fit = both.solve(both.design @ u + 0.01 * rng.normal(size=(20, n_meas)))
    assert np.all(fit.outcome == SOLVED)
    assert fit.kkt_residual.max() < 1e-9
    assert np.abs(fit.solution[:, :n]).max() < 1e-9
    assert fit.solution[:, n].min() > 0.1


def test_a_signal_that_no_positive_function_makes_gives_the_apex(problem: ConeProblem) -> None:
    u = np.eye(1, problem.design.shape[1])[0]
    fit = problem.solve(np.stack([-(problem.design @ u), np.zeros(150)]))
    assert np.all(fit.solution == 0)
    assert fit.outcome[1] == ZERO


def test_threads_and_neighbours_do_not_change_a_bit(problem: ConeProblem, signals: np.ndarray) -> None:
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = problem.solve(signals)
        numba.set_num_threads(before)
        together = problem.solve(signals)
    finally:
        numba.set_num_threads(before)
    assert np.array_equal(alone.solution, together.solution)
    shifted = problem.solve(signals[5:])
    assert np.array_equal(shifted.solution, together.solution[5:])


def test_single_precision_signals_are_taken(problem: ConeProblem, signals: np.ndarray) -> None:
    single = signals.astype(np.float32)
    assert np.array_equal(problem.solve(single).solution, problem.solve(single.astype(np.float64)).solution)


@pytest.mark.parametrize("smoothness", [0.0, 1e-2, 1e-1])
def test_the_start_tells_the_active_constraints_of_most_problems_however_smooth(
    problem: ConeProblem, smoothness: float
) -> None:
    degree = np.repeat(np.arange(0, 9, 2), [1, 5, 9, 13, 17])
    smooth = ConeProblem(problem.design, problem.constraints, smoothness * np.diag(degree * (degree + 1.0))[1:])
    rng = np.random.default_rng(6)
    rows = np.abs(rng.normal(size=(64, 1))) * (sh_matrix(rng.normal(size=(64, 3)), 8) @ problem.design.T)
    rows += 0.03 * rng.normal(size=rows.shape)
    tables, cone = smooth._factors
    n, start, out = 45, make_start(64, *reversed(cone.rows.shape)), _room_for(64, 45)
    start_problems(rows, tables, start, make_lanes(n, len(problem.constraints)))
    state = make_active_set(cone, panels_of(cone.columns.shape[0]))
    take_starts(start, n, cone, state, FEASIBILITY, out)
    assert np.mean(out.outcome == SOLVED) > 0.7
    fit = smooth.solve(rows)
    assert np.all(fit.outcome == SOLVED)
    assert fit.kkt_residual.max() < 1e-9


def _room_for(n_vox: int, n: int) -> Solutions:
    return Solutions(np.empty((n_vox, n)), np.empty(n_vox), np.empty(n_vox, np.int64), np.empty(n_vox, np.uint8))


@pytest.mark.parametrize("lmax", [2, 6, 10])
def test_other_sizes_agree_with_nnls(lmax: int) -> None:
    rng = np.random.default_rng(3)
    design = sh_matrix(rng.normal(size=(150, 3)), lmax)
    small = ConeProblem(design, sh_matrix(get_hemisphere("symmetric642").vertices, lmax))
    signals = rng.normal(size=(9, 150)) + 0.3
    for s, u in zip(signals, small.solve(signals).solution, strict=True):
        expected = _dual_solution(small, s)
        assert np.abs(u - expected).max() <= 1e-8 * np.abs(expected).max()


@pytest.mark.parametrize("degrees", [(8, 10), pytest.param((8, 10, 12), marks=pytest.mark.long)])
def test_every_degree_is_kept_on_disk_and_a_new_process_compiles_nothing(degrees: tuple[int, ...]) -> None:
    program = textwrap.dedent(f"""
        import numpy as np
        from numba.core import event
        from arcuate.numerics.qp import ConeProblem
        from arcuate.numerics.sh import sh_matrix
        from arcuate.numerics.sphere import get_hemisphere

        rng = np.random.default_rng(0)
        with event.install_recorder("numba:compile") as compiled:
            for lmax in {degrees}:
                isotropic = np.geomspace(1, 0.1, 150)[:, None]
                design = np.hstack([sh_matrix(rng.normal(size=(150, 3)), lmax), isotropic, isotropic**2])
                amplitudes = sh_matrix(get_hemisphere("symmetric642").vertices, lmax)
                zero = np.zeros((len(amplitudes), 2))
                constraints = np.block([[amplitudes, zero], [np.zeros((2, amplitudes.shape[1])), np.eye(2)]])
                fit = ConeProblem(design, constraints).solve(rng.normal(size=(20, 150)) + 0.3)
                assert fit.kkt_residual.max() < 1e-7
        print(len(compiled.buffer))
        """)

    def count_compilations() -> int:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    count_compilations()
    assert count_compilations() == 0
