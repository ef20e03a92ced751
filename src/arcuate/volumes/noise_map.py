"""What a noise map that was given for a tensor must be: asked for, on the grid of the scan, and in its unit."""

from __future__ import annotations

import numpy as np

from arcuate.errors import InputError, warn
from arcuate.volumes.resource import VolumeResource
from arcuate.volumes.scan import Scan
from arcuate.volumes.voxels import check_same_place, stored_like

LEAST_SNR = 3.0  # of the brightest voxels of the least weighted volume; a brain has 10 and more at b=0
MOST_SNR = 1e4  # above it the likelihood is that of no noise
_BRIGHT = 0.95  # quantile of signal over noise: a brain that fills a twentieth of the image is seen


def check_noise(
    volume: VolumeResource, noise: VolumeResource | None, *, robust: bool = False, rician: bool = False
) -> None:
    """Refuse a noise map that no fit asks for, a Rician fit without one, and a map of another grid, by its header.

    Parameters
    ----------
    volume : the scan, (x, y, z, n_meas)
    noise : the noise map, (x, y, z), if any
    robust, rician : see :meth:`arcuate.dti.Dti.estimate_dti`

    Raises
    ------
    InputError
        In one sentence, what of it.
    """
    if robust and rician:
        raise InputError("found robust and rician together; expected one of them (--robust or --rician).")
    if rician and noise is None:
        raise InputError(
            "the Rician likelihood needs the standard deviation of the noise; found no noise map. Give the one that "
            "`arcuate denoise --noise` writes, or fit without rician (--rician)."
        )
    if noise is None:
        return
    if not (robust or rician):
        raise InputError(
            "found a noise map for a fit that is not robust; add robust=True (--robust), or rician=True (--rician)."
        )
    noise = stored_like(volume, noise)
    shape = tuple(noise.shape)
    if shape[:3] != tuple(volume.shape[:3]) or shape[3:] not in {(), (1,)}:
        raise InputError(
            f"found a noise map of shape {shape}; expected {tuple(volume.shape[:3])}, the grid of the scan. Give the "
            "map that `arcuate denoise --noise` writes."
        )
    check_same_place(volume, noise, "the noise map")


def check_noise_level(scan: Scan, noise: VolumeResource | None, *, rician: bool) -> None:
    """Refuse a noise map of another unit than the scan, by its first volume of b=0 or of the lowest shell.

    Parameters
    ----------
    scan : one volume of it is read
    noise : the noise map, (x, y, z), if any, as :func:`check_noise` takes it
    rician : whether the fit is by the Rician likelihood, which then is no other than the Gaussian where the map is too
        low: a warning says so

    Raises
    ------
    InputError
        The noise is above the signal nearly everywhere.
    """
    if noise is None:
        return
    index = int(scan.gradients.least_weighted[0])
    signal = np.asarray(scan.volume.get_volume(index), dtype=np.float64)
    sigma = np.asarray(stored_like(scan.volume, noise).get_array(), dtype=np.float64).reshape(signal.shape)
    known = (sigma > 0) & (signal > 0) & np.isfinite(signal) & np.isfinite(sigma)
    if not known.any():
        return
    snr = float(np.quantile(signal[known] / sigma[known], _BRIGHT))
    levels = f"median {np.median(sigma[known]):.3g}; volume {index} of the scan: {np.median(signal[known]):.3g}"
    if snr < LEAST_SNR:
        raise InputError(
            f"the noise map has another unit than the scan ({levels}; signal over noise is {snr:.2g} in its brightest "
            f"voxels, expected {LEAST_SNR:g} and more). Give the standard deviation of the noise in the unit of the "
            "scan, as `arcuate denoise --noise` writes it: no variance, no other scale."
        )
    if rician and snr > MOST_SNR:
        warn(
            f"the noise map is far below the scan ({levels}): the Rician fit is then that of no noise. Expected its "
            "standard deviation in the unit of the scan; check whether one of the two was scaled."
        )
