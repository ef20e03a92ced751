"""Fibres follow their tissue: tensors, FODs and peaks turned by the local derivative of a deformation.

``forward`` (n_vox, 3, 3) takes a direction of the moving image to where it points in the reference image: the inverse
of the derivative of the transform that resampling uses.
"""

from __future__ import annotations

import numpy as np

from arcuate.numerics.eigen import eigh_3x3
from arcuate.numerics.nnls import solve_nonnegative
from arcuate.numerics.sh import lmax_of, sh_matrix
from arcuate.numerics.sphere import get_even_directions

N_DIRECTIONS = 300  # of a half sphere, among which an FOD is laid out
_BLOCK = 4096  # voxels whose harmonics are held at once


def reorient_tensors(tensors: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """Tensors (n_vox, 6), xx xy xz yy yz zz, turned so that their first direction follows the tissue.

    Notes
    -----
    Preservation of principal direction: the first eigenvector goes where ``forward`` (n_vox, 3, 3) takes it, the plane
    of the first two likewise; eigenvalues stay.

    References
    ----------
    Alexander et al., Spatial transformations of diffusion tensor magnetic resonance images. IEEE TMI 20, 2001.
    """
    evals, evecs = eigh_3x3(np.ascontiguousarray(tensors, dtype=np.float64))
    vectors = evecs.reshape(-1, 3, 3)  # rows are eigenvectors
    first = _unit(np.einsum("vij,vj->vi", forward, vectors[:, 0]))
    second = np.einsum("vij,vj->vi", forward, vectors[:, 1])
    second = _unit(second - np.sum(second * first, axis=1, keepdims=True) * first)
    axes = np.stack([first, second, np.cross(first, second)], axis=1)
    turned = np.einsum("vk,vki,vkj->vij", evals, axes, axes)
    return turned[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]


def reorient_fods(coefs: np.ndarray, forward: np.ndarray, *, modulate: bool = False) -> np.ndarray:
    """FODs (n_vox, n_coef) whose every part points where ``forward`` (n_vox, 3, 3) takes it.

    Parameters
    ----------
    modulate : whether densities follow the deformation: the part along d is multiplied by |F d| / det F, so that the
        number of fibres is kept where tissue shrinks or grows; otherwise every part keeps its integral

    Notes
    -----
    An FOD c is written as narrow lobes at 300 directions, c = P w + r, with the non-negative weights w that leave the
    least, and a rest r that is laid out on the same lobes by least norm; put together of the lobes moved, c' = P(F d) w
    + ... For a rotation that is the rotation of the harmonics, exactly. The weights are few and close together, so that
    a peak goes where F takes it: laid out by least norm alone, as wide lobes, it is pulled by an eighth of its way.

    References
    ----------
    Raffelt et al., Reorientation of fiber orientation distributions using apodized point spread functions. MRM 67,
    2012. Raffelt et al., Apparent fibre density. NeuroImage 59, 2012.
    """
    coefs = np.asarray(coefs, dtype=np.float64)
    lmax = lmax_of(coefs.shape[1])
    directions = get_even_directions(N_DIRECTIONS)
    lobes = sh_matrix(directions, lmax)  # (n_dir, n_coef)
    weights = _few_lobes(coefs, lobes)
    weights += (coefs - weights @ lobes) @ np.linalg.pinv(lobes)
    out = np.empty_like(coefs)
    for start in range(0, len(coefs), _BLOCK):
        rows = slice(start, start + _BLOCK)
        moved = np.einsum("vij,dj->vdi", forward[rows], directions)
        own = weights[rows]
        if modulate:
            own = own * np.linalg.norm(moved, axis=2) / np.abs(np.linalg.det(forward[rows]))[:, None]
        harmonics = sh_matrix(moved.reshape(-1, 3), lmax).reshape(*moved.shape[:2], -1)
        out[rows] = np.einsum("vd,vdc->vc", own, harmonics)
    return out


def _few_lobes(coefs: np.ndarray, lobes: np.ndarray) -> np.ndarray:
    """Non-negative weights (n_vox, n_dir) of lobes (n_dir, n_coef) whose sum is nearest to the FODs (n_vox, n_coef)."""
    atoms, gram = np.ascontiguousarray(lobes.T), np.eye(lobes.shape[1])
    return (
        np.stack([solve_nonnegative(atoms, gram, row)[0] for row in coefs]) if len(coefs) else np.empty((0, len(lobes)))
    )


def reorient_vectors(vectors: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """Vectors (n_vox, n, 3), as peaks, turned by ``forward`` (n_vox, 3, 3); lengths stay."""
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    return _unit(np.einsum("vij,vnj->vni", forward, vectors)) * length


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) of length 1; those of length 0 stay 0."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
