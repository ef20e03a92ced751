"""Least squares under linear inequalities that all problems share: minimise ½|Xu - s|² subject to Au >= 0.

X and A belong to the acquisition, s to one voxel, so everything that can be factorised is factorised once:

1.  X = QR. With y = Ru and g = Qᵀs the problem is the projection of g on the cone By >= 0, B = AR⁻¹, rows scaled to
    one. Its solution is y = g + Bᵀλ with λ >= 0, By >= 0 and λᵀBy = 0.
2.  A good start: Newton steps with an exact line search on ½|y - g|² + ½ρ|min(By, 0)|², ρ growing threefold per step.
    A step costs one Cholesky factor, whatever the number of constraints that change sides.
3.  The solution: Lawson and Hanson's active set method from that start, on the pseudo-inverse of the active rows,
    which one constraint that enters or leaves changes by a matrix of rank one.
4.  The multipliers of the final set are solved anew, rows in their natural order, so that the result does not depend
    on the path. It is accepted only if it satisfies the conditions of Karush, Kuhn and Tucker.

References
----------
Lawson & Hanson 1974, Solving Least Squares Problems, ch. 23. Goldfarb & Idnani 1983, Math. Prog. 27:1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from arcuate.numerics.lanes import LANES
from arcuate.numerics.qp_kernel import make_kernel

SMALLEST_KERNEL = 48
FEASIBILITY = 1e-10  # of the largest constraint value


@dataclass(frozen=True)
class ConeFit:
    """Solutions of ``n_vox`` problems."""

    solution: np.ndarray  # (n_vox, n) float
    kkt_residual: np.ndarray  # (n_vox,) float, see :meth:`ConeProblem.solve`
    n_active: np.ndarray  # (n_vox,) int, constraints with a positive multiplier
    outcome: np.ndarray  # (n_vox,) uint8: SOLVED, NOT_CONVERGED or ZERO


@dataclass(frozen=True)
class ConeProblem:
    """What all problems share.

    Parameters
    ----------
    design : (n_meas, n) float
        X, of full column rank.
    constraints : (n_con, n) float
        A, no row zero.
    """

    design: np.ndarray
    constraints: np.ndarray

    @cached_property
    def _factors(self) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        n = self.design.shape[1]
        n_con = len(self.constraints)
        q, r = np.linalg.qr(self.design)
        inverse = np.linalg.solve(r, np.eye(n))
        rows = self.constraints @ inverse
        norms = np.linalg.norm(rows, axis=1)
        rows = rows / norms[:, None]
        n_pad, m_pad = _kernel_size(n), padded(n_con)
        padded_rows = _embed(rows, n_con, n_pad)
        start = (as_panels(_embed(q.T, n_pad, len(q))), as_panels(rows), np.vstack([padded_rows, -padded_rows]).ravel())
        shared = (
            padded_rows,
            _embed(rows.T, n_pad, m_pad),
            rows @ rows.T,
            norms,
            _embed(r, n_pad, n_pad),
            _embed(inverse, n_pad, n_pad),
        )
        return start, shared

    def solve(self, signals: np.ndarray) -> ConeFit:
        """Solution of each row of ``signals``, all of which must be finite.

        Parameters
        ----------
        signals : (n_vox, n_meas) float

        Notes
        -----
        The KKT residual is the largest of: stationarity |XᵀXu - Xᵀs - Aᵀλ|∞ / |Xᵀs|∞, infeasibility
        max(-Au) / max(Au), and complementarity max(λ Au) / (|Xᵀs|∞ |u|∞). It is at most 1e-9 in a SOLVED problem, and
        0 in a ZERO one, whose solution is the apex of the cone.
        """
        n = self.design.shape[1]
        n_vox = len(signals)
        start, shared = self._factors
        out = (np.empty((n_vox, n)), np.empty(n_vox), np.empty(n_vox, np.int64), np.empty(n_vox, np.uint8))
        _kernel(_kernel_size(n))(np.ascontiguousarray(signals), start, shared, FEASIBILITY, out)
        return ConeFit(*out)


@lru_cache(maxsize=8)
def _kernel(n_pad: int) -> Any:
    return make_kernel(n_pad)


def _kernel_size(n: int) -> int:
    """Unknowns of the kernel that takes ``n``: few sizes, so that few are ever compiled."""
    return max(padded(n), SMALLEST_KERNEL)


def padded(n: int) -> int:
    """``n`` rounded up to a whole number of vector registers."""
    return -(-n // LANES) * LANES


def as_panels(matrix: np.ndarray) -> np.ndarray:
    """Rows in panels of eight, each panel column by column; flat, zero rows at the end."""
    rows = np.zeros((padded(len(matrix)), matrix.shape[1]))
    rows[: len(matrix)] = matrix
    return np.ascontiguousarray(rows.reshape(-1, LANES, matrix.shape[1]).transpose(0, 2, 1)).ravel()


def _embed(matrix: np.ndarray, n_rows: int, n_columns: int) -> np.ndarray:
    out = np.zeros((n_rows, n_columns))
    out[: matrix.shape[0], : matrix.shape[1]] = matrix
    return out
