"""Eigenvalues and eigenvectors of symmetric 3 x 3 matrices, many at once.

Cyclic Jacobi rotations with a fixed number of sweeps and no branches, so that the compiler runs eight matrices in
the lanes of one register. Unlike the closed formula it stays accurate to rounding where eigenvalues meet, and its
eigenvectors are orthonormal whatever the matrix.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from arcuate.numerics.compiled import inner, kernel, run_in_chunks

LANES = 32  # matrices (or voxels) worked on together: four registers of eight
_CHUNK = 256 * LANES  # matrices of one thread at a time: about a millisecond


def eigh_3x3(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, largest first, and unit eigenvectors of symmetric 3 x 3 matrices.

    Parameters
    ----------
    matrices : (n, 6) float
        xx xy xz yy yz zz of each.

    Returns
    -------
    evals : (n, 3) float64
    evecs : (n, 3, 3) float64
        ``evecs[v, k]`` belongs to ``evals[v, k]``; its component of largest magnitude is positive.
        A matrix that is not finite has NaN in both.
    """
    matrices = np.ascontiguousarray(matrices, dtype=np.float64)
    evals = np.empty((len(matrices), 3))
    evecs = np.empty((len(matrices), 3, 3))

    def work(begin: int, end: int) -> None:
        _eigh_many(matrices[begin:end], evals[begin:end], evecs[begin:end])

    run_in_chunks(work, len(matrices), _CHUNK)
    return evals, evecs


@kernel(error_model="numpy")
def _eigh_many(matrices, evals, evecs):
    """Fill the eigenvalues (n, 3) and eigenvectors (n, 3, 3) of matrices (n, 6)."""
    n = matrices.shape[0]
    for group in range((n + LANES - 1) // LANES):
        first = group * LANES
        count = min(LANES, n - first)
        lanes, values, vectors = np.zeros(6 * LANES), np.empty(3 * LANES), np.empty(9 * LANES)
        for lane in range(count):
            for j in range(6):
                lanes[j * LANES + lane] = matrices[first + lane, j]
        eigh_lanes(lanes, values, vectors)
        for lane in range(count):
            for j in range(3):
                evals[first + lane, j] = values[j * LANES + lane]
                for k in range(3):
                    evecs[first + lane, j, k] = vectors[(3 * j + k) * LANES + lane]


@njit(inline="always")
def _rotate(app, aqq, apq, arp, arq, vp0, vp1, vp2, vq0, vq1, vq2):
    """One Jacobi rotation that zeroes ``apq``: tan of its angle is 2 apq / (d ± sqrt(d² + 4 apq²)), d = aqq - app."""
    d = aqq - app
    size = abs(d) + math.sqrt(d * d + 4.0 * apq * apq)
    t = 2.0 * apq / (size if size > 0.0 else 1.0)
    t = t if d >= 0.0 else -t
    c = 1.0 / math.sqrt(1.0 + t * t)
    s = t * c
    return (
        app - t * apq, aqq + t * apq, c * arp - s * arq, s * arp + c * arq,
        c * vp0 - s * vq0, c * vp1 - s * vq1, c * vp2 - s * vq2,
        s * vp0 + c * vq0, s * vp1 + c * vq1, s * vp2 + c * vq2,
    )  # fmt: skip


@njit(inline="always")
def _sweep(xx, xy, xz, yy, yz, zz, u0, u1, u2, v0, v1, v2, w0, w1, w2):
    """Rotations in the planes xy, xz, yz; u v w are the columns of the accumulated rotation."""
    xx, yy, xz, yz, u0, u1, u2, v0, v1, v2 = _rotate(xx, yy, xy, xz, yz, u0, u1, u2, v0, v1, v2)
    xx, zz, xy, yz, u0, u1, u2, w0, w1, w2 = _rotate(xx, zz, xz, 0.0, yz, u0, u1, u2, w0, w1, w2)
    yy, zz, xy, xz, v0, v1, v2, w0, w1, w2 = _rotate(yy, zz, yz, xy, 0.0, v0, v1, v2, w0, w1, w2)
    return xx, xy, xz, yy, 0.0, zz, u0, u1, u2, v0, v1, v2, w0, w1, w2


@njit(inline="always")
def _exchange(a, b, a0, a1, a2, b0, b1, b2):
    """The two pairs with the larger eigenvalue first."""
    keep = a >= b
    return (
        a if keep else b, b if keep else a,
        a0 if keep else b0, a1 if keep else b1, a2 if keep else b2,
        b0 if keep else a0, b1 if keep else a1, b2 if keep else a2,
    )  # fmt: skip


@njit(inline="always")
def _sign(a0, a1, a2):
    """±1 that makes the component of largest magnitude positive."""
    largest = a0 if abs(a0) >= abs(a1) else a1
    largest = largest if abs(largest) >= abs(a2) else a2
    return 1.0 if largest >= 0.0 else -1.0


@inner(error_model="numpy", fastmath={"contract"})
def eigh_lanes(matrices, evals, evecs):
    """Decompose ``LANES`` matrices: element j of lane l lies at ``[j * LANES + l]`` (6, 3 and 9 elements)."""
    for i in range(LANES):
        xx, xy, xz = matrices[i], matrices[LANES + i], matrices[2 * LANES + i]
        yy, yz, zz = matrices[3 * LANES + i], matrices[4 * LANES + i], matrices[5 * LANES + i]
        size = max(max(abs(xx), abs(xy)), max(abs(xz), abs(yy)))
        size = max(size, max(abs(yz), abs(zz)))
        unit = size if size > 0.0 else 1.0  # squares of the elements must neither under- nor overflow
        xx, xy, xz, yy, yz, zz = xx / unit, xy / unit, xz / unit, yy / unit, yz / unit, zz / unit
        u0, u1, u2, v0, v1, v2, w0, w1, w2 = 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0
        xx, xy, xz, yy, yz, zz, u0, u1, u2, v0, v1, v2, w0, w1, w2 = _sweep(
            xx, xy, xz, yy, yz, zz, u0, u1, u2, v0, v1, v2, w0, w1, w2
        )
        xx, xy, xz, yy, yz, zz, u0, u1, u2, v0, v1, v2, w0, w1, w2 = _sweep(
            xx, xy, xz, yy, yz, zz, u0, u1, u2, v0, v1, v2, w0, w1, w2
        )
        xx, xy, xz, yy, yz, zz, u0, u1, u2, v0, v1, v2, w0, w1, w2 = _sweep(
            xx, xy, xz, yy, yz, zz, u0, u1, u2, v0, v1, v2, w0, w1, w2
        )
        xx, xy, xz, yy, yz, zz, u0, u1, u2, v0, v1, v2, w0, w1, w2 = _sweep(
            xx, xy, xz, yy, yz, zz, u0, u1, u2, v0, v1, v2, w0, w1, w2
        )
        xx, xy, xz, yy, yz, zz, u0, u1, u2, v0, v1, v2, w0, w1, w2 = _sweep(
            xx, xy, xz, yy, yz, zz, u0, u1, u2, v0, v1, v2, w0, w1, w2
        )
        xx, yy, u0, u1, u2, v0, v1, v2 = _exchange(xx, yy, u0, u1, u2, v0, v1, v2)
        xx, zz, u0, u1, u2, w0, w1, w2 = _exchange(xx, zz, u0, u1, u2, w0, w1, w2)
        yy, zz, v0, v1, v2, w0, w1, w2 = _exchange(yy, zz, v0, v1, v2, w0, w1, w2)
        s, t, r = _sign(u0, u1, u2), _sign(v0, v1, v2), _sign(w0, w1, w2)
        evals[i], evals[LANES + i], evals[2 * LANES + i] = xx * unit, yy * unit, zz * unit
        evecs[i], evecs[LANES + i], evecs[2 * LANES + i] = s * u0, s * u1, s * u2
        evecs[3 * LANES + i], evecs[4 * LANES + i], evecs[5 * LANES + i] = t * v0, t * v1, t * v2
        evecs[6 * LANES + i], evecs[7 * LANES + i], evecs[8 * LANES + i] = r * w0, r * w1, r * w2
