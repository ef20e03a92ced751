"""Kernels of MP-PCA: Gram matrices of patches that slide along a line, their spectra, and the voxels they serve."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from arcuate.models.status import Status
from arcuate.numerics.tridiagonal import (
    LANES,
    PANEL,
    REORDER,
    add_eight,
    aligned,
    bisect_eigenvalues,
    deflate_above,
    deflate_all,
    fill,
    project,
    reduce_to_tridiagonal,
)

SMALL = 64  # matrices up to this size are diagonalised in full: cheaper than to look for a few eigenvalues

_FITTED = int(Status.FITTED)
_NOT_CONVERGED = int(Status.NOT_CONVERGED)
_NO_SIGNAL = int(Status.NO_SIGNAL)


@njit(cache=True, parallel=True, error_model="numpy")
def find_finite(flat, strides, n_meas, finite):  # type: ignore[no-untyped-def]
    """Whether all signals of a voxel are finite, read in the memory order of the image."""
    nx, ny, nz = finite.shape
    sx, sy, sz, sm = strides[0], strides[1], strides[2], strides[3]
    for z in prange(nz):
        for x in range(nx):
            for y in range(ny):
                finite[x, y, z] = True
        n_outer, n_inner = (1, n_meas) if sm < sx else (n_meas, 1)
        for outer in range(n_outer):
            for y in range(ny):
                for x in range(nx):
                    for inner in range(n_inner):
                        if not np.isfinite(flat[x * sx + y * sy + z * sz + (outer + inner) * sm]):
                            finite[x, y, z] = False


@njit(cache=True, parallel=True, error_model="numpy")
def denoise_lines(scan, inside, extent, is_exp1, results, first, last):  # type: ignore[no-untyped-def]
    """Denoise the voxels inside that are served by the lines of patches from ``first`` up to ``last``.

    Each line of patches along x is one job: the same sums in the same order whatever the number of threads.

    Parameters
    ----------
    scan : flat, strides (4,), n_meas, finite (x, y, z)
    inside : (x, y, z) bool
    extent : (3,) int, odd
    results : denoised (as flat), sigma, n_signal, status (x, y, z); filled
    """
    n_z = inside.shape[2] - extent[2] + 1
    for job in prange(first, last):
        _denoise_line(scan, inside, extent, is_exp1, job // n_z, job % n_z, results)


@njit(cache=True, error_model="numpy")
def _served(start, length, size):  # type: ignore[no-untyped-def]
    """First and past-the-last voxel along an axis whose patch begins at ``start``: patches are moved inside."""
    half = length // 2
    first = 0 if start == 0 else start + half
    last = size if start == size - length else start + half + 1
    return first, last


@njit(cache=True, error_model="numpy")
def _find_needed(inside, finite, extent, y_range, z_range):  # type: ignore[no-untyped-def]
    """Which patches of a line serve any voxel."""
    n_starts = inside.shape[0] - extent[0] + 1
    needed = np.zeros(n_starts, dtype=np.bool_)
    any_needed = False
    for s in range(n_starts):
        x_first, x_last = _served(s, extent[0], inside.shape[0])
        for x in range(x_first, x_last):
            for y in range(y_range[0], y_range[1]):
                for z in range(z_range[0], z_range[1]):
                    if inside[x, y, z] and finite[x, y, z]:
                        needed[s] = True
                        any_needed = True
    return needed, any_needed


@njit(cache=True, error_model="numpy")
def _denoise_line(scan, inside, extent, is_exp1, y0, z0, results):  # type: ignore[no-untyped-def]
    """Slide a patch along x; wherever it serves voxels, split its spectrum and project them."""
    n_meas, finite = scan[2], scan[3]
    wx, n_cross = extent[0], extent[1] * extent[2]
    y_range = _served(y0, extent[1], inside.shape[1])
    z_range = _served(z0, extent[2], inside.shape[2])
    needed, any_needed = _find_needed(inside, finite, extent, y_range, z_range)
    if not any_needed:
        return
    planes, n_finite = _gather_planes(scan, y0, z0, extent[1], extent[2])
    n_patch = wx * n_cross
    by_meas = n_meas <= n_patch
    dim = min(n_meas, n_patch)
    gram = aligned(dim, dim)
    scratch, kept = np.empty((5, dim)), np.empty(dim, dtype=np.bool_)
    work = (aligned(dim, dim), aligned(PANEL, dim), aligned(PANEL, dim), scratch, kept, np.empty((4 * dim**2 + 64, 3)))
    suffix = aligned(wx * dim if by_meas else 1, dim)
    window = aligned(1 if by_meas else n_meas, n_patch)
    n_lines = (y_range[1] - y_range[0]) * (z_range[1] - z_range[0])
    lines = np.zeros((n_lines, n_meas, inside.shape[0]), dtype=np.float32)
    loaded = 0  # planes before this one are in the window
    for s in range(needed.shape[0]):
        if by_meas:
            _slide_sum(planes, n_cross, s, wx, needed, suffix, gram, work[0])
        elif needed[s]:
            for x in range(max(loaded, s), s + wx):
                _replace_plane(planes, x, (x % wx) * n_cross, n_cross, window, gram, n_meas)
            loaded = s + wx
            _copy(gram, 0, work[0], 0, dim)
        if not needed[s]:
            continue
        n_voxels = 0
        for x in range(s, s + wx):
            n_voxels += n_finite[x]
        found = _split_spectrum(work, min(n_meas, n_voxels), max(n_meas, n_voxels), is_exp1)
        patch = (s, wx, extent[2], y0, z0, by_meas)
        _serve(patch, found, planes, window, work, inside, finite, y_range, z_range, lines, results)
    _write_lines(lines, y_range, z_range, scan[1], results[0])


@njit(cache=True, error_model="numpy")
def _serve(patch, found, planes, window, work, inside, finite, y_range, z_range, lines, results):  # type: ignore[no-untyped-def]
    """Project the voxels that a patch serves; where no noise can be told from signal they stay as they are."""
    s, wx, wz, y0, z0, by_meas = patch
    signal, variance, n_rot = found
    A, _, _, scratch, kept, rotations = work
    _, sigma, n_signal, status = results
    n_meas = lines.shape[1]
    n_cross = planes.shape[0] // inside.shape[0]
    out = np.empty(n_meas)
    b = np.empty(kept.shape[0])
    x_first, x_last = _served(s, wx, inside.shape[0])
    for x in range(x_first, x_last):
        for y in range(y_range[0], y_range[1]):
            for z in range(z_range[0], z_range[1]):
                if not (inside[x, y, z] and finite[x, y, z]):
                    continue
                centre = (y - y0) * wz + z - z0
                row = planes[x * n_cross + centre]
                for m in range(n_meas):
                    out[m] = row[m]
                sigma[x, y, z] = np.sqrt(variance)
                if signal < 0 or n_rot < 0:
                    status[x, y, z] = _NO_SIGNAL if signal == -2 else _NOT_CONVERGED
                else:
                    status[x, y, z] = _FITTED
                    n_signal[x, y, z] = signal
                    if by_meas:
                        project(A, scratch[2], kept, rotations, n_rot, out)
                    else:
                        fill(b, 0.0)
                        b[(x % wx) * n_cross + centre] = 1.0
                        project(A, scratch[2], kept, rotations, n_rot, b)
                        _combine(window, b, n_meas, out)
                k = (y - y_range[0]) * (z_range[1] - z_range[0]) + z - z_range[0]
                for m in range(n_meas):
                    lines[k, m, x] = out[m]


@njit(cache=True, error_model="numpy")
def _write_lines(lines, y_range, z_range, strides, denoised):  # type: ignore[no-untyped-def]
    """Put finished lines into the image, volume after volume as it is most often stored."""
    k = 0
    for y in range(y_range[0], y_range[1]):
        for z in range(z_range[0], z_range[1]):
            base = y * strides[1] + z * strides[2]
            for m in range(lines.shape[1]):
                for x in range(lines.shape[2]):
                    denoised[base + x * strides[0] + m * strides[3]] = lines[k, m, x]
            k += 1


@njit(cache=True, error_model="numpy")
def _gather_planes(scan, y0, z0, wy, wz):  # type: ignore[no-untyped-def]
    """Signals of a line of cross-sections, (x, wy wz) rows of n_meas; voxels that are not finite are 0, and counted."""
    flat, strides, n_meas, finite = scan
    nx = finite.shape[0]
    n_cross = wy * wz
    planes = aligned(nx * n_cross, n_meas)
    n_finite = np.zeros(nx, dtype=np.int64)
    for k in range(n_cross):
        y = y0 + k // wz
        z = z0 + k % wz
        base = y * strides[1] + z * strides[2]
        if strides[3] < strides[0]:
            for x in range(nx):
                for m in range(n_meas):
                    planes[x * n_cross + k, m] = flat[base + x * strides[0] + m * strides[3]]
        else:
            for m in range(n_meas):
                for x in range(nx):
                    planes[x * n_cross + k, m] = flat[base + x * strides[0] + m * strides[3]]
        for x in range(nx):
            if finite[x, y, z]:
                n_finite[x] += 1
            else:
                fill(planes[x * n_cross + k], 0.0)
    return planes, n_finite


@njit(cache=True, error_model="numpy")
def _copy(source, first, target, offset, n_rows):  # type: ignore[no-untyped-def]
    """Copy rows of one matrix to rows of another, of the same width."""
    for i in range(n_rows):
        for j in range(source.shape[1]):
            target[offset + i, j] = source[first + i, j]


@njit(cache=True, error_model="numpy")
def _add_plane(planes, first, n_rows, gram, offset, dim):  # type: ignore[no-untyped-def]
    """Add Σ s sᵀ over some rows to ``gram[offset : offset + dim]``, its lower triangle in whole blocks of 8 columns."""
    weights = np.zeros(PANEL)
    row = first
    last = first + n_rows
    while row + PANEL <= last:
        for i in range(dim):
            for k in range(PANEL):
                weights[k] = planes[row + k, i]
            add_eight(gram[offset + i], planes, row, weights, (i // PANEL + 1) * PANEL)
        row += PANEL
    while row < last:
        source = planes[row]
        for i in range(dim):
            target = gram[offset + i]
            t = source[i]
            for j in range((i // PANEL + 1) * PANEL):
                target[j] += t * source[j]
        row += 1


@njit(cache=True, error_model="numpy")
def _slide_sum(planes, n_cross, s, wx, needed, suffix, prefix, A):  # type: ignore[no-untyped-def]
    """A = Gram matrix of the cross-sections s ... s + wx - 1, given those of the patches before.

    Patches are taken wx at a time: each is a tail of the first one plus a head of what follows, and both grow by
    adding (van Herk), never by taking away: one huge voxel does not spoil the rest of its line.
    """
    dim = A.shape[0]
    j = s % wx
    last = min(s - j + wx, needed.shape[0])  # past the last patch of this round
    if j == 0:
        for i in range(dim):
            fill(prefix[i], 0.0)
        first_needed = s
        while first_needed < last and not needed[first_needed]:
            first_needed += 1
        if first_needed < last:
            _sum_backwards(planes, n_cross, s, wx, first_needed - s, dim, suffix)
    if needed[s]:
        _add_lower(suffix, j * dim, prefix, dim, A)
    for i in range(s + 1, last):
        if needed[i]:
            _add_plane(planes, (s + wx) * n_cross, n_cross, prefix, 0, dim)
            break


@njit(cache=True, error_model="numpy")
def _sum_backwards(planes, n_cross, start, length, wanted, dim, suffix):  # type: ignore[no-untyped-def]
    """Gram matrices of cross-sections start + j ... start + length - 1, one for each j from ``wanted`` on."""
    for j in range(length - 1, wanted - 1, -1):
        if j == length - 1:
            for i in range(dim):
                fill(suffix[j * dim + i], 0.0)
        else:
            _copy(suffix, (j + 1) * dim, suffix, j * dim, dim)
        _add_plane(planes, (start + j) * n_cross, n_cross, suffix, j * dim, dim)


@njit(cache=True, error_model="numpy")
def _add_lower(suffix, offset, prefix, dim, A):  # type: ignore[no-untyped-def]
    """A = the sum of two Gram matrices, made symmetric from their lower triangles."""
    for i in range(dim):
        first = suffix[offset + i]
        second = prefix[i]
        target = A[i]
        for j in range(i + 1):
            target[j] = first[j] + second[j]
    for i in range(dim):
        for j in range(i):
            A[j, i] = A[i, j]


@njit(cache=True, error_model="numpy")
def _replace_plane(planes, x, slot, n_cross, window, gram, n_meas):  # type: ignore[no-untyped-def]
    """Put a cross-section in its place in the patch, and its inner products with the whole patch in the Gram matrix."""
    n_cols = window.shape[1]
    for k in range(n_cross):
        row = planes[x * n_cross + k]
        for m in range(n_meas):
            window[m, slot + k] = row[m]
        fill(gram[slot + k], 0.0)
    weights = np.zeros(PANEL)
    m = 0
    while m + PANEL <= n_meas:
        for k in range(n_cross):
            for i in range(PANEL):
                weights[i] = window[m + i, slot + k]
            add_eight(gram[slot + k], window, m, weights, n_cols)
        m += PANEL
    while m < n_meas:
        source = window[m]
        for k in range(n_cross):
            target = gram[slot + k]
            t = source[slot + k]
            for j in range(n_cols):
                target[j] += t * source[j]
        m += 1
    for k in range(n_cross):
        row = gram[slot + k]
        for j in range(gram.shape[0]):
            gram[j, slot + k] = row[j]


@njit(cache=True, error_model="numpy")
def _split_spectrum(work, r, q, is_exp1):  # type: ignore[no-untyped-def]
    """Number of signal components, variance of the noise, and the rotations that project on the signal.

    The number is -2 where the patch is zero, -1 where no component qualifies as noise (no noise at all).
    """
    A, V, W, scratch, kept, rotations = work
    dim = kept.shape[0]
    d, e, beta, largest = scratch[0], scratch[1], scratch[2], scratch[3]
    rest = 0.0
    for i in range(dim):
        rest += A[i, i]
    if rest == 0.0:
        return -2, 0.0, 0
    reduce_to_tridiagonal(A, d, e, beta, V, W)

    n_rot = 0
    n_known = 0  # eigenvalues known so far, largest first
    smallest = 0.0
    if dim <= SMALL:
        n_rot = deflate_all(d, e, rotations)
        if n_rot < 0:
            return -1, 0.0, 0
        _sort_down(d, largest)
        smallest = max(largest[r - 1], 0.0)
        n_known = dim
    for rank in range(r):
        if rank == n_known:
            n_known, bottom = _next_eigenvalues(d, e, rank, r, largest)
            smallest = bottom if rank == 0 else smallest
        value = max(largest[rank], 0.0)
        n_noise = r - rank
        variance = rest / (q * float(n_noise))
        ratio = n_noise / (q if is_exp1 else q - rank)
        if (value - smallest) / (q * 4.0 * np.sqrt(ratio)) < variance:
            cut = 0.5 * (value + largest[max(rank - 1, 0)])
            if rank == 0:
                for i in range(dim):
                    kept[i] = False
                n_rot = 0
            elif dim <= SMALL:
                for i in range(dim):
                    kept[i] = d[i] > cut
            else:
                n_rot = deflate_above(d, e, largest[:rank], cut, kept, rotations)
            return rank, variance, n_rot
        rest = max(rest - value, 0.0)
    return -1, 0.0, 0


@njit(cache=True, error_model="numpy")
def _next_eigenvalues(d, e, rank, r, largest):  # type: ignore[no-untyped-def]
    """Write the next eigenvalues, from place ``rank`` down; how many are known now, and the smallest of all r."""
    places = np.empty(LANES, dtype=np.int64)
    values = np.empty(LANES)
    lowest = d.shape[0] - r
    for l in range(LANES):
        places[l] = max(d.shape[0] - 1 - rank - l, lowest)
    places[LANES - 1] = lowest
    bisect_eigenvalues(d, e, places, values)
    n_new = min(LANES - 1, r - rank)
    for l in range(n_new):
        largest[rank + l] = values[l]
    return rank + n_new, max(values[LANES - 1], 0.0)


@njit(cache=True, error_model="numpy")
def _sort_down(values, result):  # type: ignore[no-untyped-def]
    """``values`` in falling order, by insertion: there are few."""
    for i in range(values.shape[0]):
        v = values[i]
        j = i
        while j > 0 and result[j - 1] < v:
            result[j] = result[j - 1]
            j -= 1
        result[j] = v


@njit(cache=True, error_model="numpy", fastmath=REORDER)
def _combine(window, coefs, n_meas, out):  # type: ignore[no-untyped-def]
    """Sum of the patch's voxels, weighted."""
    n = coefs.shape[0]
    for m in range(n_meas):
        row = window[m]
        total = 0.0
        for k in range(n):
            total += row[k] * coefs[k]
        out[m] = total
