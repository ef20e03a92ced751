"""Kernels of MP-PCA: patches that slide along lines of the image, and the voxels that they serve."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from arcuate.models.mppca_gram import copy_rows, gather_planes, replace_plane, slide_sum
from arcuate.models.mppca_spectrum import split_spectrum
from arcuate.models.status import Status
from arcuate.numerics.compiled import inner, kernel
from arcuate.numerics.tridiagonal import PANEL, REORDER, aligned, fill, project

_FITTED = int(Status.FITTED)
_NOT_CONVERGED = int(Status.NOT_CONVERGED)
_NO_SIGNAL = int(Status.NO_SIGNAL)


class PatchResults(NamedTuple):
    """What is filled in for every voxel inside."""

    denoised: np.ndarray  # (n_vox n_meas,) float32, in the memory order of the image
    sigma: np.ndarray  # (x, y, z) float32, unit of the signal
    n_signal: np.ndarray  # (x, y, z) int16, components kept
    status: np.ndarray  # (x, y, z) uint8, see Status


class Masks(NamedTuple):
    """What is known of each voxel."""

    finite: np.ndarray  # (x, y, z) bool, whether all its signals are finite
    inside: np.ndarray  # (x, y, z) bool, whether it is to be denoised


class _Patch(NamedTuple):
    """Where a patch begins, and the voxels of the cross-section that its line serves."""

    x: int
    y: int
    z: int
    extent: np.ndarray  # (3,) int64, voxels along each axis
    y_range: tuple[int, int]  # first and past the last
    z_range: tuple[int, int]
    by_meas: bool  # the Gram matrix is over volumes, not over voxels


@kernel(error_model="numpy")
def find_finite(image, finite, first, last):
    """Whether all signals of a voxel are finite, in slices ``first`` to ``last``, read in the image's memory order."""
    nx, ny, _ = finite.shape
    flat, n_meas = image.values, image.n_meas
    sx, sy, sz, sm = image.strides[0], image.strides[1], image.strides[2], image.strides[3]
    for z in range(first, last):
        for x in range(nx):
            for y in range(ny):
                finite[x, y, z] = True
        n_outer, n_inner = (1, n_meas) if sm < sx else (n_meas, 1)
        for outer in range(n_outer):
            for y in range(ny):
                for x in range(nx):
                    for step in range(n_inner):
                        if not np.isfinite(flat[x * sx + y * sy + z * sz + (outer + step) * sm]):
                            finite[x, y, z] = False


@kernel(error_model="numpy")
def denoise_lines(image, masks, extent, is_exp1, results, first, last):
    """Denoise the voxels inside that are served by the lines of patches from ``first`` up to ``last``.

    A line of patches along x has the same sums in the same order whatever the number of threads.

    Parameters
    ----------
    image : FlatImage
    masks : Masks
    extent : (3,) int64, odd
    results : PatchResults, filled
    """
    n_z = masks.inside.shape[2] - extent[2] + 1
    for line in range(first, last):
        _denoise_line(image, masks, extent, is_exp1, line // n_z, line % n_z, results)


@inner(error_model="numpy")
def _served(start, length, size):
    """First and past-the-last voxel along an axis whose patch begins at ``start``: patches are moved inside."""
    half = length // 2
    first = 0 if start == 0 else start + half
    last = size if start == size - length else start + half + 1
    return first, last


@inner(error_model="numpy")
def _find_needed(masks, extent, y_range, z_range):
    """Which patches of a line serve any voxel."""
    inside, finite = masks.inside, masks.finite
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


@inner(error_model="numpy")
def _denoise_line(image, masks, extent, is_exp1, y0, z0, results):
    """Slide a patch along x; wherever it serves voxels, split its spectrum and project them."""
    inside = masks.inside
    n_meas = image.n_meas
    wx, n_cross = extent[0], extent[1] * extent[2]
    y_range = _served(y0, extent[1], inside.shape[1])
    z_range = _served(z0, extent[2], inside.shape[2])
    needed, any_needed = _find_needed(masks, extent, y_range, z_range)
    if not any_needed:
        return
    planes, n_finite = gather_planes(image, masks.finite, y0, z0, extent[1], extent[2])
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
            slide_sum(planes, n_cross, s, wx, needed, suffix, gram, work[0])
        elif needed[s]:
            for x in range(max(loaded, s), s + wx):
                replace_plane(planes, x, (x % wx) * n_cross, n_cross, window, gram, n_meas)
            loaded = s + wx
            copy_rows(gram, np.int64(0), work[0], np.int64(0), dim)
        if not needed[s]:
            continue
        n_voxels = 0
        for x in range(s, s + wx):
            n_voxels += n_finite[x]
        found = split_spectrum(work, min(n_meas, n_voxels), max(n_meas, n_voxels), is_exp1)
        patch = _Patch(s, y0, z0, extent, y_range, z_range, by_meas)
        _serve(patch, found, planes, window, work, masks, lines, results)
    _write_lines(lines, y_range, z_range, image.strides, results.denoised)


@inner(error_model="numpy")
def _serve(patch, found, planes, window, work, masks, lines, results):
    """Project the voxels that a patch serves; where no noise can be told from signal they stay as they are."""
    s, y0, z0, extent, y_range, z_range, by_meas = patch
    wx, wz = extent[0], extent[2]
    inside, finite = masks.inside, masks.finite
    signal, variance, n_rot = found
    A, _, _, scratch, kept, rotations = work
    sigma, n_signal, status = results.sigma, results.n_signal, results.status
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


@inner(error_model="numpy")
def _write_lines(lines, y_range, z_range, strides, denoised):
    """Put finished lines into the image, volume after volume as it is most often stored."""
    k = 0
    for y in range(y_range[0], y_range[1]):
        for z in range(z_range[0], z_range[1]):
            base = y * strides[1] + z * strides[2]
            for m in range(lines.shape[1]):
                for x in range(lines.shape[2]):
                    denoised[base + x * strides[0] + m * strides[3]] = lines[k, m, x]
            k += 1


@inner(error_model="numpy", fastmath=REORDER)
def _combine(window, coefs, n_meas, out):
    """Sum of the patch's voxels, weighted."""
    n = coefs.shape[0]
    for m in range(n_meas):
        row = window[m]
        total = 0.0
        for k in range(n):
            total += row[k] * coefs[k]
        out[m] = total
