"""Whether a response can be that of a fibre bundle."""

from __future__ import annotations

import numpy as np

from arcuate.errors import NotApplicable, warn
from arcuate.models.response import ALIKE, WHITE_MATTER, Response, anisotropy
from arcuate.models.response_zonal import zonal_harmonics

MAX_RATIO = 0.3  # radial over axial diffusivity; above it a response is hardly that of one fibre bundle
MIN_VOXELS = 100  # fewer voxels make a noisy response
ROUND = 0.8  # signal along over across the fibre, of the highest shell; above it voxels hold water or grey matter


def check_response(response: Response) -> None:
    """Refuse a response that cannot be that of a fibre bundle, warn of a doubtful one.

    Raises
    ------
    NotApplicable
        No signal, no anisotropic tissue or two of them, or more signal along the fibre than across it (not prolate).
    """
    table = response.coefs[0][response.weighted]
    for tissue, isotropic in zip(response.tissues[1:], response.coefs[1:], strict=True):
        if not isotropic[0, 0] > 0:
            raise NotApplicable(
                f"the response of {tissue} has no signal at its lowest b (mean coefficient {isotropic[0, 0]:.4g}); "
                "expected a positive one. Check the mask and the data it was estimated from."
            )
    if not np.all(table[:, 0] > 0):
        raise NotApplicable(
            f"the response of {response.tissues[0]} has no signal (mean coefficient {float(table[:, 0].min()):.4g}); "
            "expected a positive one. Check the mask and the data it was estimated from."
        )
    _check_white_matter(response)
    _check_shape(response, table[-1])
    ratio, n_voxels = response.ratio, response.n_voxels
    if ratio is not None and ratio > MAX_RATIO:
        warn(
            f"the response is fat: radial over axial diffusivity is {ratio:.2f}, expected about 0.2 (below "
            f"{MAX_RATIO}). Look at the voxels it was estimated from."
        )
    if n_voxels is not None and n_voxels < MIN_VOXELS:
        warn(
            f"the response was estimated from {n_voxels} voxel{'s' * (n_voxels != 1)}; expected at least "
            f"{MIN_VOXELS}. Use a larger mask or a lower threshold."
        )


def _check_white_matter(response: Response) -> None:
    """Refuse a response in which white matter, the anisotropic tissue, cannot be told from the others."""
    shape = np.array([anisotropy(table[response.weighted]) for table in response.coefs])
    if not np.any(shape > 0):
        raise NotApplicable(
            f"found no anisotropic response among {', '.join(response.tissues)}; expected one of white matter, "
            "with coefficients of degree 2 and more. Give the file of white matter, too, or estimate the response on "
            "this scan."
        )
    if WHITE_MATTER in response.tissues[1:]:
        raise NotApplicable(
            f"the response called {WHITE_MATTER} is far less anisotropic than that of {response.tissues[0]}; expected "
            "white matter to be the most anisotropic. Check which file is which."
        )
    rivals = [t for t, s in zip(response.tissues, shape, strict=True) if s > 0 and s >= ALIKE * shape.max()]
    if len(rivals) > 1 and response.tissues[0] != WHITE_MATTER:
        raise NotApplicable(
            f"the responses of {', '.join(rivals)} are anisotropic alike; expected one tissue of fibres. Leave the "
            f"others out, or call the file of white matter {WHITE_MATTER}."
        )


def _check_shape(response: Response, highest: np.ndarray) -> None:
    """Refuse a highest shell (n,) with more signal along the fibre than across it, warn of one that is nearly round."""
    if len(highest) < 2:
        return
    harmonics = zonal_harmonics(np.array([1.0, 0.0]), 2 * (len(highest) - 1))
    along, across = (float(signal) for signal in highest @ harmonics)
    if highest[1] >= 0 or along >= across:
        raise NotApplicable(
            f"the response of {response.tissues[0]} is not prolate: its signal along the fibre is {along:.4g}, across "
            f"it {across:.4g}; expected less along than across. Check the frame of the b-vectors and the voxels it was "
            "estimated from."
        )
    if along > ROUND * across:
        warn(
            f"the response of {response.tissues[0]} is nearly round: along the fibre it has {along / across:.0%} of "
            "the signal across it, expected two thirds or less. Its voxels hold hardly any fibres (a phantom of water, "
            "grey matter, a mask without white matter), or b is low: FODs made with it are noise."
        )
