"""Eigenvalues and eigenvectors of symmetric 3 x 3 matrices, many at once.

Cyclic Jacobi rotations with a fixed number of sweeps and no branches, so that the compiler runs eight matrices in
the lanes of one register. Unlike the closed formula it stays accurate to rounding where eigenvalues meet, and its
eigenvectors are orthonormal whatever the matrix.
"""

from __future__ import annotations

import math

import numpy as np

from arcuate.numerics.compiled import inner, kernel, njit, part, run_in_chunks

LANES = 32  # matrices (or voxels, or shifts) worked on together: four lines of eight
N_SWEEPS = 5
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
        eigh_many(matrices[begin:end], evals[begin:end], evecs[begin:end])

    run_in_chunks(work, len(matrices), _CHUNK)
    return evals, evecs


@kernel(error_model="numpy")
def eigh_many(matrices, evals, evecs):
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
def _rotate(app, aqq, apq, arp, arq):
    """One Jacobi rotation that zeroes ``apq``: tan of its angle is 2 apq / (d ± sqrt(d² + 4 apq²)), d = aqq - app.

    The elements after it, then cosine and sine.
    """
    d = aqq - app
    size = abs(d) + math.sqrt(d * d + 4.0 * apq * apq)
    t = 2.0 * apq / (size if size > 0.0 else 1.0)
    t = t if d >= 0.0 else -t
    c = 1.0 / math.sqrt(1.0 + t * t)
    s = t * c
    return app - t * apq, aqq + t * apq, c * arp - s * arq, s * arp + c * arq, c, s


@inner(error_model="numpy", fastmath={"contract"})
def _sweep(a, u):
    """Rotations of all lanes in the planes xy, xz, yz; ``u`` holds the columns of the accumulated rotation."""
    for i in range(LANES):
        xx, xy, xz = a[i], a[LANES + i], a[2 * LANES + i]
        yy, yz, zz = a[3 * LANES + i], a[4 * LANES + i], a[5 * LANES + i]
        xx, yy, xz, yz, c1, s1 = _rotate(xx, yy, xy, xz, yz)
        xx, zz, xy, yz, c2, s2 = _rotate(xx, zz, xz, 0.0, yz)
        yy, zz, xy, xz, c3, s3 = _rotate(yy, zz, yz, xy, 0.0)
        a[i], a[LANES + i], a[2 * LANES + i] = xx, xy, xz
        a[3 * LANES + i], a[4 * LANES + i], a[5 * LANES + i] = yy, 0.0, zz
        for k in range(3):
            p, q, r = u[k * LANES + i], u[(3 + k) * LANES + i], u[(6 + k) * LANES + i]
            p, q = c1 * p - s1 * q, s1 * p + c1 * q
            p, r = c2 * p - s2 * r, s2 * p + c2 * r
            q, r = c3 * q - s3 * r, s3 * q + c3 * r
            u[k * LANES + i], u[(3 + k) * LANES + i], u[(6 + k) * LANES + i] = p, q, r


@part()
def _exchange(evals, evecs, first, second):
    """The larger of two eigenvalues first, in every lane, and its eigenvector with it."""
    for i in range(LANES):
        a, b = evals[first * LANES + i], evals[second * LANES + i]
        keep = a >= b
        evals[first * LANES + i], evals[second * LANES + i] = a if keep else b, b if keep else a
        for k in range(3):
            p, q = evecs[(3 * first + k) * LANES + i], evecs[(3 * second + k) * LANES + i]
            evecs[(3 * first + k) * LANES + i] = p if keep else q
            evecs[(3 * second + k) * LANES + i] = q if keep else p


@inner(error_model="numpy")
def eigh_lanes(matrices, evals, evecs):
    """Decompose ``LANES`` matrices: element j of lane l lies at ``[j * LANES + l]`` (6, 3 and 9 elements)."""
    scaled, unit = np.empty(6 * LANES), np.empty(LANES)
    for i in range(LANES):  # squares of the elements must neither under- nor overflow
        size = 0.0
        for j in range(6):
            size = max(size, abs(matrices[j * LANES + i]))
        unit[i] = size if size > 0.0 else 1.0
    for j in range(6):
        for i in range(LANES):
            scaled[j * LANES + i] = matrices[j * LANES + i] / unit[i]
    for j in range(9):
        for i in range(LANES):
            evecs[j * LANES + i] = 1.0 if j % 4 == 0 else 0.0
    for _ in range(N_SWEEPS):
        _sweep(scaled, evecs)
    for k in range(3):
        j = 0 if k == 0 else 2 * k + 1  # xx, yy, zz
        for i in range(LANES):
            evals[k * LANES + i] = scaled[j * LANES + i]
    for first in range(2):
        for second in range(first + 1, 3):
            _exchange(evals, evecs, first, second)
    for k in range(3):
        for i in range(LANES):
            x, y, z = evecs[3 * k * LANES + i], evecs[(3 * k + 1) * LANES + i], evecs[(3 * k + 2) * LANES + i]
            largest = x if abs(x) >= abs(y) else y
            largest = largest if abs(largest) >= abs(z) else z
            sign = 1.0 if largest >= 0.0 else -1.0
            evecs[3 * k * LANES + i], evecs[(3 * k + 1) * LANES + i] = sign * x, sign * y
            evecs[(3 * k + 2) * LANES + i] = sign * z
            evals[k * LANES + i] *= unit[i]
