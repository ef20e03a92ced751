"""Response of a tissue from chosen voxels."""

from __future__ import annotations

import math

import numpy as np
from threadpoolctl import threadpool_limits

from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.models.response import Response
from arcuate.models.response_zonal import zonal_harmonics
from arcuate.models.tensor import fractional_anisotropy, tensor_design
from arcuate.numerics.compiled import run_in_chunks
from arcuate.numerics.eigen import eigh_3x3
from arcuate.numerics.nnls import solve_nonnegative

LEAST_DEGREE = 4  # of fibres on a shell: their directions differ from voxel to voxel, so that few gradients suffice
FULL_DEGREE = 10  # fitted and cut to the degree of the response: a fit of that degree alone is biased (MRtrix3's)
SMALLEST = 1e-6  # of the largest signal of a voxel: what a tensor takes for one that is not positive
ROWS = 4_000  # voxels whose tensors are fitted together: five arrays of them per thread
N_ANGLES = 90  # between fibre and perpendicular plane, where the response must rise
DEFAULT_LMAX = 8


def shell_rows(gradients: GradientTable) -> list[tuple[float, np.ndarray]]:
    """b and volumes of each row of a multi-shell response: b = 0 first, where there is one."""
    rows = [(0.0, np.flatnonzero(gradients.is_b0))] if gradients.is_b0.any() else []
    return rows + [(shell.b, shell.indices) for shell in gradients.shells]


def fibre_zonal(signals: np.ndarray, cosines: np.ndarray, lmax: int) -> np.ndarray:
    """Zonal coefficients (lmax/2 + 1,) of the signal of one shell over all voxels at once; degree 0 is the mean.

    Parameters
    ----------
    signals, cosines : (n_vox, n_dir) float
        Signal of each voxel, and the cosine between its fibre and the gradient.

    Notes
    -----
    Least squares subject to: no negative signal along the fibre, and a signal that does not fall from the fibre to the
    plane across it.

    References
    ----------
    Smith, Dhollander, Connelly 2015, Proc. ISMRM 23:2843 (as MRtrix3's amp2response).
    """
    if lmax == 0:
        return isotropic_zonal(signals)
    design = zonal_harmonics(cosines.ravel(), lmax).T
    normal, right = _normal_equations(design, signals.ravel())
    angles = np.linspace(0.0, math.pi / 2, N_ANGLES)
    along_angle = zonal_harmonics(np.cos(angles), lmax).T
    rising = np.diff(along_angle, axis=0)
    constraints = np.vstack([along_angle[:1], rising / np.linalg.norm(rising, axis=1, keepdims=True)])
    lower = np.linalg.cholesky(normal)
    rows = np.linalg.solve(lower, constraints.T)  # the constraints where the normal matrix is the identity
    free = np.linalg.solve(lower, right)
    scale = float(np.linalg.norm(free)) or 1.0
    multipliers, _ = solve_nonnegative(rows, np.eye(len(rows)), -free / scale)  # scipy 1.15's loses digits
    return np.linalg.solve(lower.T, free + rows @ multipliers * scale)


def isotropic_zonal(signals: np.ndarray) -> np.ndarray:
    """(1,) zonal coefficient of the mean signal (n_vox, n_dir)."""
    return np.array([float(np.mean(signals)) * math.sqrt(4 * math.pi)])


def fibre_response(
    signals: np.ndarray,
    gradients: GradientTable,
    directions: np.ndarray | None = None,
    *,
    lmax: int | None = None,
    tissue: str = "wm",
) -> Response:
    """Response on all shells of voxels that hold one fibre population each (algorithm ``manual``).

    Parameters
    ----------
    signals : (n_vox, n_meas) float, all volumes
    directions : (n_vox, 3) float, of the fibre; the tensor's by default
    lmax : degree on every weighted shell
        By default 8, or the highest whose (lmax+1)(lmax+2)/2 the volumes of the shell reach, at least 4: the fibres of
        many voxels lie at many angles to few gradients.
    """
    signals = np.asarray(signals, dtype=np.float64)
    if len(signals) == 0:
        raise InputError("found no voxel to make a response of; expected some. Check the mask.")
    if directions is None:
        directions = rank_by_tensors(signals, gradients)[1]
    rows = shell_rows(gradients)
    highest = DEFAULT_LMAX if lmax is None else lmax
    table = np.zeros((len(rows), highest // 2 + 1))
    for row, (b, volumes) in enumerate(rows):
        if b == 0.0:
            table[row, :1] = isotropic_zonal(signals[:, volumes])
            continue
        degree = min(highest, max(LEAST_DEGREE, _degree_of(len(volumes)))) if lmax is None else lmax
        cosines = directions @ gradients.directions[volumes].T
        zonal = fibre_zonal(signals[:, volumes], cosines, max(degree, FULL_DEGREE) if degree else 0)
        table[row, : degree // 2 + 1] = zonal[: degree // 2 + 1]
    return _made_of(signals, gradients, tissue, table)


def isotropic_response(signals: np.ndarray, gradients: GradientTable, tissue: str) -> Response:
    """Response on all shells of voxels of an isotropic tissue (algorithm ``manual``)."""
    if len(signals) == 0:
        raise InputError(f"found no voxel of {tissue} to make a response of; expected some. Check the mask.")
    rows = shell_rows(gradients)
    table = np.stack([isotropic_zonal(np.asarray(signals, dtype=np.float64)[:, volumes]) for _, volumes in rows])
    return _made_of(signals, gradients, tissue, table)


def _made_of(signals: np.ndarray, gradients: GradientTable, tissue: str, table: np.ndarray) -> Response:
    """Response of one tissue from its table (n_shell, n_zonal), with the shells and the threshold of the scan."""
    return Response(
        (tissue,),
        np.array([b for b, _ in shell_rows(gradients)]),
        (table,),
        "manual",
        n_voxels=len(signals),
        b0_threshold=gradients.b0_threshold,
    )


def rank_by_tensors(
    signals: np.ndarray, gradients: GradientTable, chosen: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """FA (n_vox,) and first eigenvector (n_vox, 3) of tensors of all volumes, as MRtrix3's dwi2tensor fits them.

    Parameters
    ----------
    signals : (n, n_meas) float; what is not finite counts as 0
    chosen : (n_vox,) int, rows of them; all by default

    Notes
    -----
    Weights are the signals as measured, then twice those of the fit. Where most shells lie on the noise floor that has
    not converged, and FA of fluid lies on the other side of the threshold than with weights from ordinary least
    squares: such tensors only rank the voxels, and are to rank them as the published method does.
    """
    design = tensor_design(gradients.bvals, gradients.directions)
    products = np.einsum("ij,ik->ijk", design, design).reshape(len(design), -1)
    chosen = np.arange(len(signals)) if chosen is None else chosen
    tensors = np.empty((len(chosen), 6))

    def work(begin: int, end: int) -> None:
        block = signals[chosen[begin:end]].astype(np.float64, copy=False)  # a copy
        tensors[begin:end] = _tensors_of(block, design, products)

    with threadpool_limits(1, user_api="blas"):  # the bits must not depend on threads
        run_in_chunks(work, len(chosen), ROWS)
    evals, evecs = eigh_3x3(tensors)
    return fractional_anisotropy(evals), evecs[:, 0]


def _tensors_of(rows: np.ndarray, design: np.ndarray, products: np.ndarray) -> np.ndarray:
    """(n_vox, 6), weighted least squares; ``products`` (n_meas, 49) are those of the rows of the design (n_meas, 7).

    ``rows`` (n_vox, n_meas) are the signals, which are lost.
    """
    rows[~np.isfinite(rows)] = 0.0
    highest = np.maximum(rows.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    np.maximum(rows, SMALLEST * highest, out=rows)
    logs = np.log(rows)
    squares = np.square(np.divide(rows, highest, out=rows), out=rows)
    for _ in range(3):  # in the same memory again: blocks of this, one beside the other, were the most of a response
        normal = (squares @ products).reshape(-1, 7, 7)
        normal += 1e-14 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(7)
        found = np.linalg.solve(normal, (np.multiply(squares, logs, out=squares) @ design)[..., None])[..., 0]
        fitted = np.matmul(found, design.T, out=squares)
        fitted -= fitted.max(axis=1, keepdims=True)
        fitted *= 2
        np.exp(fitted, out=squares)
    return np.asarray(found[:, :6])


def _degree_of(n_directions: int) -> int:
    """Highest even degree whose coefficients do not outnumber the directions."""
    return max((d for d in range(0, 13, 2) if (d + 1) * (d + 2) // 2 <= n_directions), default=0)


def _normal_equations(design: np.ndarray, signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AᵀA with a little on its diagonal, and Aᵀs."""
    normal = design.T @ design
    normal += 1e-10 * normal.max() * np.eye(len(normal))
    return normal, design.T @ signals
