"""Noise level and denoised signal by Marchenko-Pastur PCA of local patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from arcuate.errors import InputError, warn
from arcuate.models.flat_image import flat_image
from arcuate.models.mppca_kernels import Masks, PatchResults, denoise_lines, find_finite
from arcuate.models.status import Status
from arcuate.numerics.compiled import run_in_chunks

LINES = 4  # of patches in one call of the kernel: an eighth of a second on a head of 200 volumes
SLICES = 4  # in which one call looks for values that are not finite

Estimator = Literal["exp1", "exp2"]


@dataclass(frozen=True)
class MppcaFit:
    """A denoised image and what was found in the patch around each voxel."""

    denoised: np.ndarray  # (x, y, z, n_meas) float32, in the memory order of the input; 0 outside the mask
    sigma: np.ndarray  # (x, y, z) float32, standard deviation of the noise, unit of the signal
    n_signal: np.ndarray  # (x, y, z) int16, components kept
    status: np.ndarray  # (x, y, z) uint8, see Status
    extent: tuple[int, int, int]  # voxels of the patch along each axis


def choose_extent(
    shape: tuple[int, ...], n_meas: int, extent: int | tuple[int, int, int] | None = None
) -> tuple[int, int, int]:
    """Odd lengths of the patch, none longer than the image.

    Parameters
    ----------
    shape : (x, y, z) of the image
    n_meas : number of volumes
    extent : one odd length for all axes, or three. By default the smallest cube with at least ``n_meas`` voxels; an
        axis too thin for it takes the largest odd length that fits, and the other axes grow to make up for it.

    Raises
    ------
    InputError
        A length is even or not positive, or the patch has a single voxel.

    Warns
    -----
    InputWarning
        A length that was asked for exceeds the image and was cut to the largest odd length that fits.
    """
    fits = [size - 1 + size % 2 for size in shape[:3]]
    if extent is None:
        length = 3
        while True:
            chosen = [min(length, fit) for fit in fits]
            if np.prod(chosen) >= n_meas or all(length >= fit for fit in fits):
                break
            length += 2
    else:
        asked = [int(extent)] * 3 if np.ndim(extent) == 0 else [int(e) for e in extent]  # type: ignore[arg-type, union-attr]
        if len(asked) != 3 or any(e < 1 or e % 2 == 0 for e in asked):
            raise InputError(f"the patch's extent is one or three odd numbers of voxels; found {extent}.")
        chosen = [min(e, fit) for e, fit in zip(asked, fits, strict=True)]
        if chosen != asked:
            warn(
                f"a patch of {_times(asked)} voxels does not fit an image of {_times(shape[:3])}; "
                f"{_times(chosen)} is used."
            )
    if np.prod(chosen) < 2:
        raise InputError(
            f"MP-PCA needs patches of several voxels; {_times(chosen)} is one. Take a larger extent (5 is usual)."
        )
    return chosen[0], chosen[1], chosen[2]


def check_mppca(
    shape: tuple[int, ...], *, extent: int | tuple[int, int, int] | None = None, estimator: Estimator = "exp2"
) -> tuple[int, int, int]:
    """The patch of MP-PCA for an image of this shape (x, y, z, n_meas); see :func:`fit_mppca` for what is refused.

    Nothing of the image is needed: what cannot work is said before it is read.
    """
    if len(shape) != 4 or shape[3] < 2:
        raise InputError(f"MP-PCA needs an image (x, y, z, n) of at least 2 volumes; found shape {tuple(shape)}.")
    if str(estimator).lower() not in ("exp1", "exp2"):
        raise InputError(f'the noise estimator is "exp1" or "exp2"; found {estimator!r}.')
    return choose_extent(shape[:3], shape[3], extent)


def _times(lengths: list[int] | tuple[int, ...]) -> str:
    return " x ".join(str(int(length)) for length in lengths)


def fit_mppca(
    image: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    extent: int | tuple[int, int, int] | None = None,
    estimator: Estimator = "exp2",
) -> MppcaFit:
    """Image without the components of each voxel's patch that are noise, and the noise level.

    Parameters
    ----------
    image : (x, y, z, n_meas) real, any unit. Best before any step that interpolates or smooths.
    mask : (x, y, z) bool, voxels to denoise; voxels outside still belong to their neighbours' patches
    extent : see ``choose_extent``
    estimator : "exp2" (Cordero-Grande 2019) or "exp1" (Veraart 2016)

    Raises
    ------
    InputError
        The image is not four-dimensional, has fewer than two volumes, or the options do not fit it.

    Notes
    -----
    X (n_meas, n) holds the n voxels of a patch; r = min(n_meas, n), q = max(n_meas, n), λ₁ <= ... <= λᵣ are the
    eigenvalues of the smaller Gram matrix divided by q. The noise components are 1 ... p, p the largest for which

        (λₚ - λ₁) / (4 √γₚ) < σ²ₚ = (λ₁ + ... + λₚ) / p,    γₚ = p / q ("exp1"), p / (q - r + p) ("exp2")

    and the voxel is projected on the eigenvectors of the others. At the border of the image the patch is moved inside,
    so that it always has n voxels. A voxel with a NaN or an infinity among its signals belongs to no patch (n is
    smaller there), and is 0 in the result. Sums over a patch only ever add, never take away what left the patch: one
    voxel of 1e10 does not spoil the rest of its line.

    References
    ----------
    J. Veraart et al., Denoising of diffusion MRI using random matrix theory, NeuroImage 142 (2016) 394-406.
    L. Cordero-Grande et al., Complex diffusion-weighted image estimation via matrix recovery under general noise
    models, NeuroImage 200 (2019) 391-404.
    """
    image = np.asarray(image)
    chosen, name = check_mppca(image.shape, extent=extent, estimator=estimator), str(estimator).lower()
    shape = image.shape[:3]
    if mask is None:
        inside = np.ones(shape, dtype=np.bool_)
    else:
        inside = np.ascontiguousarray(np.asarray(mask) > 0)
        if inside.shape != shape:
            raise InputError(f"the mask has shape {inside.shape}, the image {shape}.")
    flat = flat_image(image)
    finite = np.empty(shape, dtype=np.bool_)
    run_in_chunks(lambda first, last: find_finite(flat, finite, first, last), shape[2], SLICES)
    denoised = np.zeros(len(flat.values), dtype=np.float32)
    sigma = np.zeros(shape, dtype=np.float32)
    n_signal = np.zeros(shape, dtype=np.int16)
    status = np.where(inside & ~finite, np.uint8(Status.NOT_FINITE), np.uint8(Status.OUTSIDE))
    results = PatchResults(denoised, sigma, n_signal, status)
    masks, lengths = Masks(finite, inside), np.array(chosen)

    def work(first: int, last: int) -> None:
        denoise_lines(flat, masks, lengths, name == "exp1", results, first, last)

    run_in_chunks(work, (shape[1] - chosen[1] + 1) * (shape[2] - chosen[2] + 1), LINES)
    return MppcaFit(flat.shaped(denoised, image.shape), sigma, n_signal, status, chosen)
