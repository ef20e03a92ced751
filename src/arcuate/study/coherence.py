"""Whether the b-vectors fit the image: fibres continue into the voxels that they point at."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

FA_MIN = 0.4  # below it a first eigenvector says little about fibres
ALONG = np.cos(np.radians(30.0))  # a fibre points at a neighbour within this angle
MARGIN = 1.05  # another orientation must be this much better to be believed; real scans have 1.10 to 1.15
SLAB = 4  # an axis with so few voxels is not looked along: its slices may not even be neighbours
MIN_PAIRS = 500  # with fewer pairs of voxels the index is noise
MIN_INDEX = 0.2  # of the best way; random directions have 1 - cos 30° = 0.13 at most, scans of heads 0.3 to 0.7


@dataclass(frozen=True)
class Coherence:
    """Fibre coherence index of the b-vectors as they are, and of the 23 other ways to write them."""

    indices: dict[str, float]  # "x y z" (as they are), "-x y z", "y x z", ...; between 0 and 1
    n_pairs: int  # pairs of neighbours looked at

    @property
    def is_decided(self) -> bool:
        """Whether there was enough white matter to tell, and fibres that continue more than noise does."""
        return self.n_pairs >= MIN_PAIRS and self.indices[self.best] >= MIN_INDEX

    @property
    def best(self) -> str:
        """The way to write the b-vectors that gives the most coherent fibres."""
        return max(self.indices, key=lambda name: self.indices[name])

    @property
    def ratio(self) -> float:
        """Index of the best way over that of the b-vectors as they are; 1 if these are the best."""
        own = self.indices["x y z"]
        return self.indices[self.best] / own if own > 0 else float("inf")

    @property
    def is_suspect(self) -> bool:
        """Whether another flip or permutation makes fibres clearly more coherent."""
        return self.is_decided and self.best != "x y z" and self.ratio > MARGIN


def orientations() -> dict[str, np.ndarray]:
    """The 24 ways to permute and negate the components of a line: name, matrix (3, 3) acting on columns.

    Of the 48, those that differ by the sign of the whole vector are the same line; the one with fewer minus signs
    is kept. ``"y -x z"`` means that the new x is the old y, and so on.
    """
    found: dict[str, np.ndarray] = {}
    for axes in itertools.permutations(range(3)):
        for signs in ((1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1)):
            matrix = np.zeros((3, 3))
            matrix[range(3), axes] = signs
            name = " ".join(("-" if s < 0 else "") + "xyz"[a] for s, a in zip(signs, axes, strict=True))
            found[name] = matrix
    return found


def fibre_coherence(directions: np.ndarray, fa: np.ndarray, voxel_size: tuple[float, float, float]) -> Coherence:
    """Fibre coherence index for each flip and permutation of the b-vectors.

    Parameters
    ----------
    directions : (x, y, z, 3) float
        First eigenvectors along the axes of the *image* (not of the scanner), unit length.
    fa : (x, y, z) float
        Fractional anisotropy; voxels below 0.4 are left out.
    voxel_size : mm along each axis

    Notes
    -----
    For two neighbouring voxels i and j with the unit vector d from one to the other, fibres continue if both
    |vᵢ·d| and |vⱼ·d| exceed cos 30°. The index is Σ FAᵢ FAⱼ over such pairs, divided by Σ FAᵢ² over all neighbours
    that the fibres point at, whether these are white matter or not: so voxels longer than wide favour no orientation.
    Flipping or permuting the b-vectors turns each tensor, and so its first eigenvector, by the same matrix: no second
    fit is needed.

    References
    ----------
    Schilling et al., A fiber coherence index for quality control of B-table orientation in diffusion MRI scans.
    Magnetic Resonance Imaging 58, 2019.
    """
    fa = np.nan_to_num(np.asarray(fa, dtype=np.float64))
    is_fibre = (fa >= FA_MIN) & np.isfinite(directions).all(axis=-1)
    matrices = orientations()
    continued = dict.fromkeys(matrices, 0.0)
    pointed = dict.fromkeys(matrices, 0.0)
    every, square = directions[is_fibre], fa[is_fibre] ** 2
    n_pairs = 0
    for offset in itertools.product((-1, 0, 1), repeat=3):
        is_across_slab = any(step != 0 and n <= SLAB for step, n in zip(offset, fa.shape, strict=True))
        if offset <= (0, 0, 0) or is_across_slab:  # of opposite neighbours one is enough
            continue
        here, there = _pair(fa.shape, offset)
        both = is_fibre[here] & is_fibre[there]
        v, w = directions[here][both], directions[there][both]
        weight = fa[here][both] * fa[there][both]
        n_pairs += len(weight)
        step = np.array(offset) * np.asarray(voxel_size, dtype=np.float64)
        step /= np.linalg.norm(step)
        for name, matrix in matrices.items():
            turned = matrix.T @ step  # (M v)·d = v·(Mᵀd)
            is_continued = (np.abs(v @ turned) > ALONG) & (np.abs(w @ turned) > ALONG)
            continued[name] += float(weight[is_continued].sum())
            pointed[name] += float(square[np.abs(every @ turned) > ALONG].sum())
    indices = {name: continued[name] / pointed[name] if pointed[name] > 0 else 0.0 for name in matrices}
    return Coherence(indices, n_pairs)


def _pair(shape: tuple[int, ...], offset: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    here = tuple(slice(max(0, -o), n - max(0, o)) for o, n in zip(offset, shape, strict=True))
    there = tuple(slice(max(0, o), n - max(0, -o)) for o, n in zip(offset, shape, strict=True))
    return here, there
