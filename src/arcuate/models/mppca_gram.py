"""Gram matrices of patches that slide along a line of an image."""

from __future__ import annotations

import numpy as np

from arcuate.numerics.compiled import inner
from arcuate.numerics.tridiagonal import PANEL, add_eight, aligned, fill


@inner(error_model="numpy")
def gather_planes(image, finite, y0, z0, wy, wz):
    """Signals of a line of cross-sections, (x, wy wz) rows of n_meas; voxels that are not finite are 0, and counted."""
    flat, strides, n_meas = image.values, image.strides, image.n_meas
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


@inner(error_model="numpy")
def copy_rows(source, first, target, offset, n_rows):
    """Copy rows of one matrix to rows of another, of the same width."""
    for i in range(n_rows):
        for j in range(source.shape[1]):
            target[offset + i, j] = source[first + i, j]


@inner(error_model="numpy")
def _add_plane(planes, first, n_rows, gram, offset, dim):
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


@inner(error_model="numpy")
def slide_sum(planes, n_cross, s, wx, needed, suffix, prefix, A):
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


@inner(error_model="numpy")
def _sum_backwards(planes, n_cross, start, length, wanted, dim, suffix):
    """Gram matrices of cross-sections start + j ... start + length - 1, one for each j from ``wanted`` on."""
    for j in range(length - 1, wanted - 1, -1):
        if j == length - 1:
            for i in range(dim):
                fill(suffix[j * dim + i], 0.0)
        else:
            copy_rows(suffix, (j + 1) * dim, suffix, j * dim, dim)
        _add_plane(planes, (start + j) * n_cross, n_cross, suffix, j * dim, dim)


@inner(error_model="numpy")
def _add_lower(suffix, offset, prefix, dim, A):
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


@inner(error_model="numpy")
def replace_plane(planes, x, slot, n_cross, window, gram, n_meas):
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
