"""White-matter tract integrity: what diffusion and kurtosis tensors say of water within and around aligned axons."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from arcuate.models.kurtosis import KurtosisFit
from arcuate.models.kurtosis_measures import ELEMENTS, monomials
from arcuate.models.tensor import tensor_design
from arcuate.numerics.eigen import eigh_3x3
from arcuate.numerics.sphere import get_even_directions, get_sphere

LEAST_LINEARITY, MOST_PLANARITY, MOST_SPHERICITY = 0.4, 0.2, 0.35  # of one bundle of aligned axons
_BLOCK = 2000  # voxels taken together
_N_STARTS = 3
_APART = np.cos(np.deg2rad(25))  # of the angle between two starts
_N_ROUNDS = 20  # of the search for the largest kurtosis
_LARGEST_STEP = 0.15  # radians; directions of the first look are 0.12 apart
_AXES = {"x": 0, "y": 1, "z": 2}
_AT = np.array(
    [
        ELEMENTS.index("".join(sorted("xyz"[i] + "xyz"[j] + "xyz"[k] + "xyz"[m])))
        for i in range(3)
        for j in range(3)
        for k in range(3)
        for m in range(3)
    ]
)


class TractStatus(IntEnum):
    """Whether the model holds in a voxel."""

    OUTSIDE = 0  # the mask, or nothing was fitted there
    VALID = 1
    NOT_ALIGNED = 2  # the tensor is not that of one bundle of aligned axons
    NO_KURTOSIS = 3  # along no direction is there positive kurtosis: one compartment


@dataclass(frozen=True)
class TractIntegrity:
    """Axons and their surroundings in ``n_vox`` voxels; zero where the model does not hold (see ``status``)."""

    awf: np.ndarray  # (n_vox,) float64, axonal water fraction, 0 to 1
    da: np.ndarray  # (n_vox,) float64, mm²/s, diffusivity within axons: trace of their tensor
    de_ad: np.ndarray  # (n_vox,) float64, mm²/s, diffusivity outside axons, along them
    de_rd: np.ndarray  # (n_vox,) float64, mm²/s, diffusivity outside axons, across them
    status: np.ndarray  # (n_vox,) uint8, see TractStatus

    @property
    def tortuosity(self) -> np.ndarray:
        """(n_vox,) diffusivity outside axons along them over that across; 0 where the latter is not positive."""
        return np.divide(self.de_ad, self.de_rd, out=np.zeros_like(self.de_ad), where=self.de_rd > 0)


def tract_integrity(fit: KurtosisFit) -> TractIntegrity:
    """Axonal water fraction and the diffusivities of both compartments, in voxels of aligned axons.

    Parameters
    ----------
    fit : KurtosisFit
        Best one under constraints: negative kurtosis is taken as none.

    Notes
    -----
    Two compartments without exchange, axons that are sticks along one direction. With K(n) the kurtosis and D(n) the
    diffusivity along n, and K_max the largest kurtosis of all directions (a grid, then Newton's method on the sphere),

    f = K_max / (K_max + 3), Dₐ(n) = D(n) [1 - √(K(n) (1 - f) / (3 f))], Dₑ(n) = D(n) [1 + √(K(n) f / (3 (1 - f)))].

    Dₐ and Dₑ are tensors fitted to 100 directions, their negative eigenvalues raised to 0. Which root is that of the
    axons cannot be told from the signal: the slower one is taken. The model holds where the tensor's eigenvalues, over
    their sum, have (λ₁ - λ₂) >= 0.4, 2 (λ₂ - λ₃) <= 0.2 and 3 λ₃ <= 0.35.

    References
    ----------
    Fieremans, Jensen & Helpern 2011, NeuroImage 58:177. Westin et al. 2002, Med. Image Anal. 6:93 (shapes).
    """
    n_vox = len(fit.status)
    status = np.full(n_vox, TractStatus.OUTSIDE, np.uint8)
    has_tensor = fit.evals[:, 2] > 0
    status[has_tensor] = np.where(is_aligned(fit.evals[has_tensor]), TractStatus.VALID, TractStatus.NOT_ALIGNED)
    values = np.zeros((4, n_vox))
    aligned = np.flatnonzero(status == TractStatus.VALID)
    for begin in range(0, len(aligned), _BLOCK):
        rows = aligned[begin : begin + _BLOCK]
        power = fit.md[rows, None] ** 2 * fit.kurtosis[rows]
        largest = largest_kurtosis(fit.tensors[rows], power)
        status[rows[largest <= 0]] = TractStatus.NO_KURTOSIS
        rows, power, largest = rows[largest > 0], power[largest > 0], largest[largest > 0]
        share = largest / (largest + 3)
        within, around = compartments(fit.tensors[rows], power, share)
        inner, outer = (np.maximum(eigh_3x3(tensors)[0], 0) for tensors in (within, around))
        values[:, rows] = share, inner.sum(axis=1), outer[:, 0], outer[:, 1:].mean(axis=1)
    return TractIntegrity(values[0], values[1], values[2], values[3], status)


def is_aligned(evals: np.ndarray) -> np.ndarray:
    """(...) bool: whether eigenvalues (..., 3), largest first and above 0, are those of one bundle of axons."""
    a, b, c = np.moveaxis(np.asarray(evals) / np.sum(evals, axis=-1, keepdims=True), -1, 0)
    return (a - b >= LEAST_LINEARITY) & (2 * (b - c) <= MOST_PLANARITY) & (3 * c <= MOST_SPHERICITY)


def compartments(tensors: np.ndarray, power: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tensors (n_vox, 6) of the water within axons and around them.

    Parameters
    ----------
    tensors : (n_vox, 6) float, mm²/s
    power : (n_vox, 15) float, MD² W
    share : (n_vox,) float, axonal water fraction, above 0 and below 1
    """
    directions = get_sphere("repulsion100").vertices
    design = -tensor_design(np.ones(len(directions)), directions)[:, :6]
    along = tensors @ design.T
    kurtosis = np.maximum(power @ monomials(directions).T, 0) / along**2
    f = share[:, None]
    within = along * (1 - np.sqrt(kurtosis * (1 - f) / (3 * f)))
    around = along * (1 + np.sqrt(kurtosis * f / (3 * (1 - f))))
    inverse = np.linalg.pinv(design)
    return within @ inverse.T, around @ inverse.T


def largest_kurtosis(tensors: np.ndarray, power: np.ndarray) -> np.ndarray:
    """(n_vox,) largest MD² W(n) / D(n)² over all directions; ``tensors`` (n_vox, 6) positive, ``power`` MD² W."""
    grid = get_even_directions(480)
    design = -tensor_design(np.ones(len(grid)), grid)[:, :6]
    values = (power @ monomials(grid).T) / (tensors @ design.T) ** 2
    best = values.max(axis=1)
    quadratic = tensors[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)
    quartic = power[:, _AT].reshape(-1, 3, 3, 3, 3)
    for _ in range(_N_STARTS):  # from the best directions of the grid that are well apart
        starts = grid[values.argmax(axis=1)]
        positive = values.max(axis=1) > 0  # the search is on the logarithm
        found = _climb(starts[positive], quadratic[positive], quartic[positive])
        best[positive] = np.maximum(best[positive], found)
        values[np.abs(starts @ grid.T) > _APART] = -np.inf
    return best


def _climb(points: np.ndarray, quadratic: np.ndarray, quartic: np.ndarray) -> np.ndarray:
    """Local maximum of Q(n) / D(n)² from ``points`` (n, 3), by Newton's method on its logarithm, which grows."""

    def evaluate(at: np.ndarray) -> np.ndarray:
        fourth = np.einsum("vijkm,vi,vj,vk,vm->v", quartic, at, at, at, at, optimize=True)
        return np.asarray(fourth / np.einsum("vij,vi,vj->v", quadratic, at, at) ** 2)

    value = evaluate(points)
    for _ in range(_N_ROUNDS):
        step = _newton_step(points, quadratic, quartic)
        factor = np.ones(len(points))
        moved, moved_value = points, value
        for _ in range(8):
            trial = points + factor[:, None] * step
            trial /= np.linalg.norm(trial, axis=1, keepdims=True)
            trial_value = evaluate(trial)
            is_better = trial_value > moved_value
            moved = np.where(is_better[:, None], trial, moved)
            moved_value = np.where(is_better, trial_value, moved_value)
            factor = np.where(moved_value > value, 0.0, 0.5 * factor)
        gain = moved_value - value
        points, value = moved, moved_value
        if not np.any(gain > 1e-12 * value):
            break
    return value


def _newton_step(n: np.ndarray, quadratic: np.ndarray, quartic: np.ndarray) -> np.ndarray:
    """(n_vox, 3) tangent step towards the maximum of log Q(n) - 2 log D(n); uphill where that is not convex."""
    pair = np.einsum("vijkm,vi,vj->vkm", quartic, n, n, optimize=True)
    triple = np.einsum("vkm,vk->vm", pair, n)
    fourth = np.einsum("vm,vm->v", triple, n)[:, None]
    image = np.einsum("vij,vj->vi", quadratic, n)
    second = np.einsum("vi,vi->v", image, n)[:, None]
    slope = 4 * triple / fourth - 4 * image / second
    curvature = (
        (12 * pair / fourth[..., None] - 4 * quadratic / second[..., None])
        - 16 * np.einsum("vi,vj->vij", triple / fourth, triple / fourth)
        + 8 * np.einsum("vi,vj->vij", image / second, image / second)
    )
    tangents = np.linalg.svd(n[:, None, :])[2][:, 1:]  # (n_vox, 2, 3)
    slope2 = np.einsum("vai,vi->va", tangents, slope)
    bend, axes = np.linalg.eigh(np.einsum("vai,vij,vbj->vab", tangents, curvature, tangents))
    along = np.einsum("vab,va->vb", axes, slope2) / np.maximum(np.abs(bend), 1e-12)
    step = np.einsum("vab,vb,vai->vi", axes, along, tangents)
    length = np.linalg.norm(step, axis=1, keepdims=True)
    return step * np.minimum(1.0, _LARGEST_STEP / np.maximum(length, 1e-300))
