"""Fibres follow their tissue: tensors, FODs and peaks turned by the local derivative of a deformation.

``forward`` (n_vox, 3, 3) takes a direction of the moving image to where it points in the reference image: the inverse
of the derivative of the transform that resampling uses.
"""

from __future__ import annotations

import math

import numpy as np

from arcuate.numerics.compiled import kernel, run_in_chunks
from arcuate.numerics.eigen import eigh_3x3
from arcuate.numerics.nnls import solve_nonnegative_rows
from arcuate.numerics.sh import lmax_of, sh_matrix
from arcuate.numerics.sh_polynomial import add_to_moments, from_moments, polynomial_table
from arcuate.numerics.sphere import get_even_directions

N_DIRECTIONS = 300  # of a half sphere, among which an FOD is laid out
_CHUNK = 64  # voxels whose weights are held at once, by each thread


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
    rest = np.linalg.pinv(lobes)
    out = np.empty_like(coefs)
    table = polynomial_table(lmax)
    maps = np.ascontiguousarray(forward, dtype=np.float64)
    volumes = np.abs(np.linalg.det(maps)) if modulate else np.zeros(len(maps))

    def work(begin: int, end: int) -> None:
        rows = slice(begin, end)
        weights = _few_lobes(coefs[rows], lobes)
        weights += (coefs[rows] - weights @ lobes) @ rest
        _gather(weights, maps[rows], volumes[rows], directions, table, out[rows])

    run_in_chunks(work, len(coefs), _CHUNK)
    return out


def _few_lobes(coefs: np.ndarray, lobes: np.ndarray) -> np.ndarray:
    """Non-negative weights (n_vox, n_dir) of lobes (n_dir, n_coef) whose sum is nearest to the FODs (n_vox, n_coef)."""
    return solve_nonnegative_rows(lobes.T, np.eye(lobes.shape[1]), coefs)[0]


@kernel(error_model="numpy")
def _gather(weights, forward, volumes, directions, table, out):
    """Series (n_vox, n_coef) of lobes of the weights (n_vox, n_dir), each at its direction moved by ``forward``.

    ``volumes`` (n_vox,): of a unit of volume after the move, for modulation; 0 for none.
    """
    moments = np.zeros((table.shape[0], 2, table.shape[1]))
    for v in range(weights.shape[0]):
        moments[:] = 0.0
        f = forward[v]
        for d in range(directions.shape[0]):
            n = directions[d]
            x = f[0, 0] * n[0] + f[0, 1] * n[1] + f[0, 2] * n[2]
            y = f[1, 0] * n[0] + f[1, 1] * n[1] + f[1, 2] * n[2]
            z = f[2, 0] * n[0] + f[2, 1] * n[1] + f[2, 2] * n[2]
            length = math.sqrt(x * x + y * y + z * z)
            if length > 0.0:
                x, y, z = x / length, y / length, z / length
            else:
                x, y, z = 0.0, 0.0, 1.0
            weight = weights[v, d] * length / volumes[v] if volumes[v] > 0.0 else weights[v, d]
            add_to_moments(weight, x, y, z, moments)
        from_moments(moments, table, out[v])


def reorient_vectors(vectors: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """Vectors (n_vox, n, 3), as peaks, turned by ``forward`` (n_vox, 3, 3); lengths stay."""
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    return _unit(np.einsum("vij,vnj->vni", forward, vectors)) * length


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) of length 1; those of length 0 stay 0."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
