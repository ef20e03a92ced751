"""The leading part of a symmetric eigenproblem: reduction to tridiagonal form, eigenvalues, spectral projection.

Meant for many matrices of 20 to 350 rows in which only the largest eigenvalues, and the projection of one or a few
vectors on their eigenvectors, are wanted. No eigenvector is ever formed:

1. ``reduce_to_tridiagonal``: T = Qᵀ A Q by Householder reflections, eight at a time;
2. ``bisect_eigenvalues``: any eigenvalues of T, 32 at once, by Sturm counts;
3. ``deflate_above``: QL sweeps whose shifts are the known eigenvalues take one eigenvalue off T each; the rotations
   are kept;
4. ``project``: Q V S Vᵀ Qᵀ b by replaying reflections and rotations on b forwards, then backwards.

References
----------
B. N. Parlett, The Symmetric Eigenvalue Problem, 1980, chapters 3, 7 and 8.
"""

from __future__ import annotations

import numpy as np

from arcuate.numerics.compiled import inner, njit
from arcuate.numerics.eigen import LANES

PANEL = 8
# sums may be reordered (the vectoriser needs it); NaN and infinity keep their meaning
REORDER = {"reassoc", "contract", "nsz"}


@njit(cache=True, error_model="numpy")
def aligned(n_rows, n_cols):
    """(n_rows, n_cols rounded up to a multiple of 8) zeros on a 64-byte boundary, as the vector unit likes it."""
    width = (n_cols + 7) // 8 * 8
    buffer = np.zeros(n_rows * width + 8)
    skip = (-(buffer.ctypes.data // 8)) % 8
    return buffer[skip : skip + n_rows * width].reshape((n_rows, width))


@inner(error_model="numpy")
def fill(a, value):
    """Set all of a vector; a loop compiles in a tenth of the time of ``a[:] = value``."""
    for i in range(a.shape[0]):
        a[i] = value


@inner(error_model="numpy", fastmath=REORDER)
def _dot(a, b, n):
    total = 0.0
    for j in range(n):
        total += a[j] * b[j]
    return total


@inner(error_model="numpy", fastmath=REORDER)
def _add_two(y, a, s, b, t, n):
    """y += s a + t b."""
    for j in range(n):
        y[j] += s * a[j] + t * b[j]


@inner(error_model="numpy", fastmath=REORDER)
def add_eight(y, A, r, s, n):
    """y += s[0] A[r] + ... + s[7] A[r + 7], first n entries: one load and store of y for eight products."""
    s0, s1, s2, s3, s4, s5, s6, s7 = s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]
    a0, a1, a2, a3, a4, a5, a6, a7 = A[r], A[r + 1], A[r + 2], A[r + 3], A[r + 4], A[r + 5], A[r + 6], A[r + 7]
    for j in range(n):
        low = s0 * a0[j] + s1 * a1[j] + s2 * a2[j] + s3 * a3[j]
        high = s4 * a4[j] + s5 * a5[j] + s6 * a6[j] + s7 * a7[j]
        y[j] += low + high


@inner(error_model="numpy")
def _whole_vectors(n, limit):
    """n rounded up to whole vectors, where the row is long enough: what lies beyond n is computed and never read."""
    return min((n + 7) // 8 * 8, limit)


@inner(error_model="numpy", fastmath=REORDER)
def _times(A, v, n, y):
    """y = A v for the leading (n, n) block of a symmetric matrix, as a sum of its rows."""
    width = _whole_vectors(n, A.shape[1])
    for j in range(width):
        y[j] = 0.0
    r = 0
    while r + 8 <= n:
        add_eight(y, A, r, v[r : r + 8], width)
        r += 8
    while r + 2 <= n:
        _add_two(y, A[r], v[r], A[r + 1], v[r + 1], width)
        r += 2
    if r < n:
        _add_two(y, A[r], v[r], A[r], 0.0, width)


@inner(error_model="numpy")
def _reflect(row, n):
    """Turn row[:n] into the Householder vector that leaves only its last entry; that entry and the scale β."""
    alpha = row[n - 1]
    rest = _dot(row, row, n - 1)
    if rest == 0.0:
        row[n - 1] = 0.0
        return alpha, 0.0
    norm = np.sqrt(alpha * alpha + rest)
    left = -norm if alpha > 0.0 else norm
    row[n - 1] = alpha - left
    return left, 1.0 / (norm * (norm + abs(alpha)))


@njit(cache=True, error_model="numpy", fastmath=REORDER)
def reduce_to_tridiagonal(A, d, e, beta, V, W):
    """Reduce A to tridiagonal form in place.

    Parameters
    ----------
    A : (n, >= n), both triangles; row i becomes the i-th Householder vector, in its first i entries. Rows whose length
        is a multiple of 8 and which start on a 64-byte boundary are a third faster (see ``aligned``)
    d, e, beta : (n,) diagonal, sub-diagonal (``e[i]`` couples i-1 and i, ``e[0]`` is 0), scales of the reflections
    V, W : (PANEL, columns of A) scratch

    Notes
    -----
    Reflections are gathered PANEL at a time: A stays as it is while a panel is built, and -V Wᵀ - W Vᵀ is added to it
    once at the end: it is read once per reflection and written once per panel. Both triangles are kept, twice the
    arithmetic of one, because sums of whole rows run at the full width of the vector unit and triangles do not.
    """
    n = d.shape[0]
    y = np.empty(A.shape[1])
    weights = np.empty(PANEL)
    top = n - 1
    e[0] = 0.0
    beta[0] = 0.0
    while top >= 1:
        depth = min(PANEL, top)
        for k in range(depth):
            i = top - k
            row = A[i]
            width = _whole_vectors(i + 1, A.shape[1])
            for l in range(k):
                _add_two(row, W[l], -V[l, i], V[l], -W[l, i], width)
            d[i] = row[i]
            e[i], beta[i] = _reflect(row, i)
            v = V[k]
            fill(v, 0.0)
            for j in range(i):
                v[j] = row[j]
            fill(W[k], 0.0)
            if beta[i] == 0.0:
                continue
            _times(A, v, i, y)
            for l in range(k):
                _add_two(y, V[l], -_dot(W[l], v, i), W[l], -_dot(V[l], v, i), width)
            half = 0.5 * beta[i] * beta[i] * _dot(y, v, i)
            w = W[k]
            for j in range(i):
                w[j] = beta[i] * y[j] - half * v[j]
        top -= depth
        width = _whole_vectors(top + 1, A.shape[1])
        for r in range(top + 1):
            if depth == PANEL:
                for l in range(PANEL):
                    weights[l] = -V[l, r]
                add_eight(A[r], W, 0, weights, width)
                for l in range(PANEL):
                    weights[l] = -W[l, r]
                add_eight(A[r], V, 0, weights, width)
            else:
                for l in range(depth):
                    _add_two(A[r], W[l], -V[l, r], V[l], -W[l, r], width)
    d[0] = A[0, 0]


@inner(error_model="numpy")
def _count_below(d, e2, shifts, floor, q, counts):
    """Number of eigenvalues below each of LANES shifts (Sturm)."""
    n_lanes = shifts.shape[0]  # not the constant: the compiler would unroll the loop instead of vectorising it
    for l in range(n_lanes):
        q[l] = 1.0
        counts[l] = 0.0
    for i in range(d.shape[0]):
        di = d[i]
        ei = e2[i]
        for l in range(n_lanes):
            t = di - shifts[l] - ei / q[l]
            if abs(t) < floor:
                t = -floor
            q[l] = t
            if t < 0.0:
                counts[l] += 1.0


@njit(cache=True, error_model="numpy")
def bisect_eigenvalues(d, e, indices, values):
    """Eigenvalues of T by their place in ascending order, LANES of them at once, to the last bits of ||T||.

    Parameters
    ----------
    d, e : (n,) as ``reduce_to_tridiagonal`` leaves them
    indices : (LANES,) int, places wanted (repeat one to fill up)
    values : (LANES,) result
    """
    n = d.shape[0]
    e2 = np.empty(n)
    low = d[0]
    high = d[0]
    biggest = 0.0
    for i in range(n):
        e2[i] = e[i] * e[i]
        biggest = max(biggest, e2[i])
        radius = abs(e[i]) + (abs(e[i + 1]) if i + 1 < n else 0.0)
        low = min(low, d[i] - radius)
        high = max(high, d[i] + radius)
    width = max(abs(low), abs(high))
    floor = max(2.3e-308 * max(1.0, biggest), 1e-300)
    low -= 4e-16 * width * n + floor
    high += 4e-16 * width * n + floor
    lower, upper, shifts = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    q, counts = np.empty(LANES), np.empty(LANES)
    fill(lower, low)
    fill(upper, high)
    for l in range(LANES):  # a first comb, denser towards the bottom, spares most of the halving
        shifts[l] = low + (high - low) * 0.5 ** (LANES - l)
    _count_below(d, e2, shifts, floor, q, counts)
    for l in range(LANES):
        for k in range(LANES):
            if counts[k] <= indices[l]:
                lower[l] = max(lower[l], shifts[k])
            else:
                upper[l] = min(upper[l], shifts[k])
    for _ in range(60):
        widest = 0.0
        for l in range(LANES):
            shifts[l] = 0.5 * (lower[l] + upper[l])
            widest = max(widest, (upper[l] - lower[l]) / (abs(shifts[l]) + 1e-8 * width))
        if widest <= 1e-13:
            break
        _count_below(d, e2, shifts, floor, q, counts)
        for l in range(LANES):
            if counts[l] <= indices[l]:
                lower[l] = shifts[l]
            else:
                upper[l] = shifts[l]
    for l in range(LANES):
        values[l] = 0.5 * (lower[l] + upper[l])


@inner(error_model="numpy")
def _qr_sweep(d, e, start, end, shift, rotations, n_rot):
    """One implicit QR sweep over rows start..end; appends its rotations (c, s, row) and returns their number."""
    g = d[start] - shift
    s = 1.0
    c = 1.0
    p = 0.0
    for j in range(start, end):
        f = s * e[j + 1]
        b = c * e[j + 1]
        r = np.sqrt(f * f + g * g)
        if j > start:
            e[j] = r
        if r == 0.0:
            d[j] -= p
            return n_rot
        inverse = 1.0 / r
        s = f * inverse
        c = g * inverse
        g = d[j] - p
        r = (d[j + 1] - g) * s + 2.0 * c * b
        p = s * r
        d[j] = g + p
        g = c * r - b
        rotations[n_rot, 0] = c
        rotations[n_rot, 1] = s
        rotations[n_rot, 2] = j
        n_rot += 1
    d[end] -= p
    e[end] = g
    return n_rot


@njit(cache=True, error_model="numpy")
def deflate_above(d, e, largest, cut, kept, rotations):
    """Take the eigenvalues above ``cut`` off the end of T, one after the other.

    Parameters
    ----------
    d, e : (n,) T, overwritten
    largest : (n_above,) those eigenvalues, largest first: the shifts
    cut : value that parts them from the rest
    kept : (n,) bool result, True where the rotated T holds one of them
    rotations : (capacity, 3) result; 4 n² rows are enough for any matrix

    Returns
    -------
    Number of rotations, or -1 where the sweeps did not converge.
    """
    n_above = largest.shape[0]
    for i in range(kept.shape[0]):
        kept[i] = False
    tiny = 1e-18 * (abs(largest[0]) if n_above > 0 else 0.0)
    n_rot = 0
    found = 0
    end = d.shape[0] - 1
    while found < n_above and end >= 0:
        n_rot = _deflate_end(d, e, end, largest[found], 2, tiny, rotations, n_rot)
        if n_rot < 0:
            return -1
        if d[end] > cut:
            kept[end] = True
            found += 1
        end -= 1
    return n_rot if found == n_above else -1


@njit(cache=True, error_model="numpy")
def deflate_all(d, e, rotations):
    """Turn T into its eigenvalues, in d, unsorted; the number of rotations, or -1 as in ``deflate_above``."""
    largest = 0.0
    for i in range(d.shape[0]):
        largest = max(largest, abs(d[i]) + abs(e[i]))
    n_rot = 0
    for end in range(d.shape[0] - 1, -1, -1):
        n_rot = _deflate_end(d, e, end, 0.0, 0, 1e-18 * largest, rotations, n_rot)
        if n_rot < 0:
            return -1
    return n_rot


@inner(error_model="numpy")
def _deflate_end(d, e, end, shift, n_given, tiny, rotations, n_rot):
    """Sweep until row ``end`` stands alone: ``n_given`` times with the shift that is given, then with Wilkinson's."""
    sweep = 0
    while True:
        start = end
        while start > 0 and abs(e[start]) > 2.3e-16 * (abs(d[start]) + abs(d[start - 1])) + tiny:
            start -= 1
        if start > 0:
            e[start] = 0.0
        if start == end:
            return n_rot
        if sweep == 40 or n_rot + end - start > rotations.shape[0]:
            return -1
        if sweep >= n_given:
            t = 0.5 * (d[end - 1] - d[end])
            r = np.sqrt(t * t + e[end] * e[end])
            shift = d[end] - e[end] * e[end] / (t + (r if t >= 0.0 else -r))
        n_rot = _qr_sweep(d, e, start, end, shift, rotations, n_rot)
        sweep += 1


@njit(cache=True, error_model="numpy", fastmath=REORDER)
def project(A, beta, kept, rotations, n_rot, b):
    """Replace b by its projection on the eigenvectors whose eigenvalues ``deflate_above`` kept.

    ``A`` and ``beta`` are what ``reduce_to_tridiagonal`` left: the reflections.
    """
    n = b.shape[0]
    for i in range(n - 1, 0, -1):
        if beta[i] != 0.0:
            row = A[i]
            t = beta[i] * _dot(row, b, i)
            for j in range(i):
                b[j] -= t * row[j]
    for k in range(n_rot):
        c = rotations[k, 0]
        s = rotations[k, 1]
        j = int(rotations[k, 2])
        t = b[j]
        b[j] = c * t + s * b[j + 1]
        b[j + 1] = c * b[j + 1] - s * t
    for j in range(n):
        if not kept[j]:
            b[j] = 0.0
    for k in range(n_rot - 1, -1, -1):
        c = rotations[k, 0]
        s = rotations[k, 1]
        j = int(rotations[k, 2])
        t = b[j]
        b[j] = c * t - s * b[j + 1]
        b[j + 1] = c * b[j + 1] + s * t
    for i in range(1, n):
        if beta[i] != 0.0:
            row = A[i]
            t = beta[i] * _dot(row, b, i)
            for j in range(i):
                b[j] -= t * row[j]
