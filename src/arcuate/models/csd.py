"""Single-shell constrained spherical deconvolution (Tournier 2007): eight voxels at a time, one per lane."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from arcuate.errors import InputError, NotApplicable, warn
from arcuate.gradients import SHELL_GAP, GradientTable, Shell
from arcuate.models.csd_kernels import CHUNK, CsdResults, CsdTables, fit_voxels
from arcuate.models.response import Response
from arcuate.models.response_checks import check_response
from arcuate.numerics.compiled import run_in_chunks
from arcuate.numerics.lanes import LINE
from arcuate.numerics.panel_product import as_panels
from arcuate.numerics.sh import degrees_and_orders, n_coefs, sh_matrix
from arcuate.numerics.sphere import count_directions, get_hemisphere

MAX_LMAX = 12


@dataclass(frozen=True)
class CsdFit:
    """Fibre orientation distributions of ``n_vox`` voxels."""

    coefs: np.ndarray  # (n_vox, n_coef) float64, in the basis of the system
    status: np.ndarray  # (n_vox,) uint8, see Status
    n_iterations: np.ndarray  # (n_vox,) uint8, constrained solutions made


@dataclass(frozen=True, eq=False)
class CsdSystem:
    """What all voxels share: minimise |X f - s|² + |H f|², H the rows of B where B f is below a threshold.

    Parameters
    ----------
    forward : (n_dir, n_coef) float
        X: signal in each direction per coefficient of the FOD.
    penalty : (n_reg, n_coef) float
        B: amplitude of the FOD on the constraint directions, times the weight of the penalty.
    tau : float
        Amplitudes below tau times the mean of the unconstrained FOD are pulled to zero.
    max_iterations : int
    is_lifted : bool, whether 1e-5 is added to the diagonal of XᵀX
        None: only where LAPACK finds no Cholesky factor, DIPY's rule. With more coefficients than directions rounding
        decides that, and with it the solution.

    Notes
    -----
    The unconstrained FOD is the least squares solution; its degrees up to 4 give the first set of penalised
    directions. Each round solves (XᵀX + HᵀH) f = Xᵀs and ends when the set repeats.

    References
    ----------
    Tournier, Calamante, Connelly 2007, NeuroImage 35:1459.
    """

    forward: np.ndarray
    penalty: np.ndarray
    tau: float = 0.1
    max_iterations: int = 50
    is_lifted: bool | None = None

    @cached_property
    def _normal_and_factor(self) -> tuple[np.ndarray, np.ndarray]:
        """XᵀX, lifted or not, and its lower Cholesky factor, each (n_coef, n_coef) float."""
        from scipy.linalg.lapack import dpotrf  # 50 ms, for FODs of one tissue alone

        normal = np.dot(self.forward.T, self.forward)
        # the upper triangle, as DIPY asks for it: on the verge of singular the rounding is part of the answer
        upper, info = dpotrf(normal, lower=False, clean=True)
        if self.is_lifted or (self.is_lifted is None and info > 0):
            normal = normal + 1e-5 * np.eye(len(normal))
            upper, info = dpotrf(normal, lower=False, clean=True)
        if info > 0:
            raise InputError(
                "the directions do not determine a fibre orientation distribution of this degree, not even with a "
                "small term added; lower lmax, or check the b-vectors and the response."
            )
        return normal, np.ascontiguousarray(upper.T)

    def fit(self, signals: np.ndarray) -> CsdFit:
        """FODs of signals (n_vox, n_dir) in the directions of ``forward``."""
        n_vox, n_coef = len(signals), self.forward.shape[1]
        if signals.shape[1] != len(self.forward):
            raise InputError(
                f"found {signals.shape[1]} signals per voxel for {len(self.forward)} directions; expected as many."
            )
        signals = np.ascontiguousarray(signals, dtype=np.float64)
        coefs = np.zeros((n_vox, n_coef))
        status, rounds = np.zeros(n_vox, dtype=np.uint8), np.zeros(n_vox, dtype=np.uint8)
        tables, results = self._tables, CsdResults(coefs, status, rounds)

        def work(begin: int, end: int) -> None:
            part = CsdResults(*(array[begin:end] for array in results))
            fit_voxels(signals[begin:end], tables, int(self.max_iterations), part)

        run_in_chunks(work, n_vox, CHUNK)
        return CsdFit(coefs, status, rounds)

    @cached_property
    def _tables(self) -> CsdTables:
        """Matrices laid out as the kernel reads them."""
        n_reg, n_coef = self.penalty.shape
        width = _padded(n_coef)
        table = np.zeros((2 * n_reg, width))
        table[:n_reg, :n_coef], table[n_reg:, :n_coef] = self.penalty, -self.penalty
        bare, full = np.zeros((width, width)), np.zeros((width, width))
        normal, factor = self._normal_and_factor
        bare[:n_coef, :n_coef] = normal
        full[:n_coef, :n_coef] = normal + self.penalty.T @ self.penalty
        return CsdTables(
            as_panels(self.forward.T),
            as_panels(self.penalty),
            np.ascontiguousarray(table).ravel(),
            bare.ravel(),
            full.ravel(),
            factor,
            float(self.tau * self.penalty[0, 0]),
        )


def make_csd_system(
    directions: np.ndarray,
    zonal: np.ndarray,
    lmax: int,
    *,
    tau: float = 0.1,
    penalty_weight: float = 1.0,
    max_iterations: int = 50,
    constraint_directions: np.ndarray | None = None,
) -> CsdSystem:
    """System in our basis; by default with the 181 constraint directions of DIPY's ``symmetric362`` half sphere.

    Parameters
    ----------
    directions : (n_dir, 3) float, unit vectors of one shell
    zonal : (>= lmax/2 + 1,) float, the response, see :class:`Response`
    lmax : even degree of the FOD
    tau, penalty_weight : amplitudes below ``tau`` times the mean are pulled to zero with this weight
    max_iterations : rounds after which a voxel counts as not converged
    constraint_directions : (n_reg, 3) float, unit vectors of another set
    """
    degree, _ = degrees_and_orders(lmax)
    rotational = zonal_to_rotational(zonal)[degree // 2]
    forward = sh_matrix(directions, lmax) * rotational
    if constraint_directions is None:
        constraint_directions = get_hemisphere("symmetric362").vertices
    penalty = sh_matrix(constraint_directions, lmax)
    penalty *= scale_of_penalty(rotational[0], forward.shape[1], len(penalty), penalty_weight)
    is_underdetermined = forward.shape[1] > len(forward)
    return CsdSystem(forward, penalty, tau, max_iterations, is_lifted=is_underdetermined or None)


def zonal_to_rotational(zonal: np.ndarray) -> np.ndarray:
    """Factors by which convolution with the response multiplies each even degree, (n_zonal,) float."""
    degree = 2 * np.arange(len(zonal))
    return np.asarray(zonal) / np.sqrt((2 * degree + 1) / (4 * math.pi))


def scale_of_penalty(rotational_0: float, n_coef: int, n_reg: int, weight: float) -> float:
    """Weight of the penalty in units of the signal, so that 1 suits any data (Tournier 2012, as DIPY has it)."""
    return weight * n_coef * rotational_0 / (math.sqrt(n_reg) * math.sqrt(362.0))


def choose_shell(gradients: GradientTable, *, shell: float | None = None, lmax: int | None = None) -> tuple[Shell, int]:
    """The shell for single-shell CSD and the degree it carries.

    Without ``shell``: the highest whose distinct directions reach (lmax+1)(lmax+2)/2, for lmax 8, else 6, else 4.
    An explicit ``lmax`` is kept, super-resolved where the directions are fewer.

    Raises
    ------
    InputError
        No such shell; fewer than 15 distinct directions; a degree that is odd or above 12.
    """
    if lmax is not None:
        check_lmax(lmax)
    candidates = [gradients.get_shell(shell)] if shell is not None else list(gradients.shells)[::-1]
    if not candidates:
        raise InputError(f"no weighted volume: every b-value is at or below {gradients.b0_threshold:g} s/mm².")
    counts = [_count_directions(gradients, candidate) for candidate in candidates]
    for degree in (8, 6, 4) if lmax is None else (lmax, 4):
        for candidate, count in zip(candidates, counts, strict=True):
            if count >= n_coefs(degree):
                chosen = degree if lmax is None else lmax
                _warn_of_degree(candidate, count, chosen, is_given=lmax is not None)
                return candidate, chosen
    found = ", ".join(f"{c} at b={s.b:.0f}" for c, s in zip(counts, candidates, strict=True))
    raise NotApplicable(
        f"single-shell CSD needs 15 distinct directions on one shell (degree 4); found {found} s/mm². Use the tensor, "
        "or check the b-vectors."
    )


def find_shell_of(response: Response, gradients: GradientTable, *, shell: float | None = None) -> Shell:
    """The shell of the scan that a single-shell response was made on.

    Raises
    ------
    InputError
        The scan has no such shell, or ``shell`` names another one.
    """
    b = response.shells[0]
    if math.isnan(b):
        return gradients.get_shell(shell) if shell is not None else choose_shell(gradients)[0]
    if shell is not None and abs(gradients.get_shell(shell).b - b) > SHELL_GAP:
        raise InputError(
            f"the response was made on the shell b={b:.0f} s/mm², the model is to see b={shell:.0f}; expected the same "
            "shell. Estimate the response on that shell (--shell), or leave the shell to the response."
        )
    nearest = min(gradients.shells, key=lambda candidate: abs(candidate.b - b), default=None)
    if nearest is not None and abs(nearest.b - b) <= SHELL_GAP:
        return nearest
    have = ", ".join(f"{s.b:.0f}" for s in gradients.shells)
    raise InputError(
        f"the response was made on the shell b={b:.0f} s/mm², but the scan has shells at {have or 'no b above 0'}; "
        "estimate the response on this scan."
    )


def choose_lmax(response: Response, gradients: GradientTable, shell: Shell, lmax: int | None = None) -> int:
    """Degree of the FOD: ``lmax`` where given (here or to the response), else 8, less where directions carry less."""
    lmax = response.lmax if lmax is None else lmax
    if lmax is not None:
        check_lmax(lmax)
        if lmax > response.degree:
            raise InputError(
                f"the response has degree {response.degree}, the model asks for lmax = {lmax}; lower lmax, or estimate "
                "the response with that degree."
            )
    _, degree = choose_shell(gradients, shell=shell.b, lmax=lmax)
    return min(degree, response.degree)


def fit_csd(
    signals: np.ndarray,
    gradients: GradientTable,
    response: Response,
    *,
    lmax: int | None = None,
    shell: float | None = None,
    tau: float = 0.1,
    penalty_weight: float = 1.0,
    max_iterations: int = 50,
) -> CsdFit:
    """FODs by single-shell CSD, on the shell of the response.

    Parameters
    ----------
    signals : (n_vox, n_meas) float
        One row per voxel, all volumes; only those of the shell are read.
    response : of one tissue on one shell
    lmax : even degree up to 12; by default 8, less where directions or response carry less
    shell : s/mm², to say which; must be that of the response

    Returns
    -------
    CsdFit
        Coefficients in MRtrix3's basis, frame of ``gradients``.

    Raises
    ------
    InputError
        Response and scan do not belong together; a degree that cannot be had; a response that is no fibre's.
    """
    zonal = response.get_zonal()
    check_response(response)
    found = find_shell_of(response, gradients, shell=shell)
    degree = choose_lmax(response, gradients, found, lmax)
    system = make_csd_system(
        gradients.directions[found.indices],
        zonal,
        degree,
        tau=tau,
        penalty_weight=penalty_weight,
        max_iterations=max_iterations,
    )
    return system.fit(signals[:, found.indices])


def check_lmax(lmax: int | None) -> None:
    """Refuse a degree of responses and FODs that is odd or out of range; None, the degree that suits, is one."""
    if lmax is not None and (lmax % 2 or not 2 <= lmax <= MAX_LMAX):
        raise InputError(f"found lmax = {lmax}; expected an even degree from 2 to {MAX_LMAX}.")


def _count_directions(gradients: GradientTable, shell: Shell) -> int:
    return count_directions(gradients.directions[shell.indices])


def _warn_of_degree(shell: Shell, count: int, lmax: int, *, is_given: bool) -> None:
    if is_given and count < n_coefs(lmax):
        what = f"lmax = {lmax} has {n_coefs(lmax)} coefficients: the solution rests on the constraint (super-resolved)"
    elif not is_given and lmax < 8:
        what = f"lmax falls to {lmax} (8 takes 45)"
    else:
        return
    warn(f"the shell b={shell.b:.0f} s/mm² has {count} distinct directions; {what}.")


def _padded(n: int) -> int:
    return -(-n // LINE) * LINE
