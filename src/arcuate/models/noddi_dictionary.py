"""The dictionary of NODDI in (shell, degree) coordinates: no atom is ever sampled at the volumes, nor turned.

An atom is symmetric about the fibre direction μ: on shell s its signal along g is Σ_l c[s, l] P_l(g·μ). The atoms of
one direction therefore live in ``1 + n_shell * n_deg`` coordinates (the first is b = 0) whatever the number of volumes,
and the atoms of another direction have the same coordinates. Only the inner products of the coordinates depend on μ.
The atoms are so alike that a few combinations of those coordinates hold them all: ``basis`` makes the one of the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from arcuate.gradients import GradientTable
from arcuate.numerics.legendre import (
    even_degrees,
    even_legendre,
    gaussian_zonal,
    n_even,
    watson_moments,
)

LMAX = 12
N_DEG = n_even(LMAX)
NDI_ATOMS = np.linspace(0.1, 0.99, 12)
ODI_ATOMS = np.concatenate([[0.03, 0.06], np.linspace(0.09, 0.99, 10)])
AMICO_NORM_DIRECTION = np.array([0.1095361, 0.04487117, 0.9929695])  # first of its 500
N_MAP = 6
NDI, ODI, FWF, DOT, RMSE, SIGNAL = range(N_MAP)  # columns of the maps; SIGNAL is s0 over the mean b = 0
LOSS = 1e-6  # share of the dictionary that its compression may lose, as a signal


class NoddiTables(NamedTuple):
    """The fields of :class:`NoddiDictionary` that kernels read, by the same names."""

    starts: np.ndarray  # (n_shell + 2,) int64
    directions: np.ndarray  # (3, n_meas) float64, unit vectors
    basis: np.ndarray  # (1 + n_shell * N_DEG, k) float64, signal over its mean b = 0
    atoms: np.ndarray  # (k, width) float64, the same unit
    unit_atoms: np.ndarray  # (k, width) float64, of unit norm
    levels: np.ndarray  # (n_atom - n_tissue, 1 + n_shell) float64, signal over its mean b = 0
    ndi: np.ndarray  # (n_tissue,) float64
    kappa: np.ndarray  # (n_tissue,) float64
    second_moment: np.ndarray  # (n_tissue,) float64
    moment_nodes: np.ndarray  # (n,) float64


@dataclass(frozen=True)
class NoddiDictionary:
    """Atoms in ``k`` coordinates: tissue first, then the dot if there is one, then water.

    The volumes are taken in the order ``order``: b = 0, then shell by shell.
    """

    order: np.ndarray  # (n_meas,) int, volume at each place
    starts: np.ndarray  # (n_shell + 2,) int, where b = 0 and each shell begin, and n_meas
    directions: np.ndarray  # (3, n_meas) float, gradient directions in that order, zero at b = 0
    basis: np.ndarray  # (1 + n_shell * N_DEG, k) float, what the k coordinates are made of
    atoms: np.ndarray  # (k, width) float; atoms of zeros fill it to a multiple of 32, for loops without a remainder
    # (k, width) float, tissue only, nothing at b = 0, scaled to unit norm on the weighted volumes
    unit_atoms: np.ndarray
    levels: np.ndarray  # (n_atom - n_tissue, 1 + n_shell) float, signal of dot and water
    ndi: np.ndarray  # (n_tissue,) float
    kappa: np.ndarray  # (n_tissue,) float
    second_moment: np.ndarray  # (n_tissue,) float, mean of P_2 over the atom's Watson distribution
    moment_nodes: np.ndarray  # (n,) float, that mean at evenly spaced ODI from 0 to 1; empty: ODI is that of the mean κ
    typical: np.ndarray  # (n_shell,) float, coefficient of P_2, mean over the tissue atoms

    def tables(self) -> NoddiTables:
        """What the kernels take."""
        return NoddiTables(*(getattr(self, name) for name in NoddiTables._fields))


def tissue_zonal(
    bvals: np.ndarray, kappa: np.ndarray, ndi: np.ndarray, dpar: float, lmax: int
) -> tuple[np.ndarray, np.ndarray]:
    """Legendre coefficients of the signal inside and outside of neurites, (n_kappa, n_ndi, n_b, n_deg) float each.

    Notes
    -----
    Inside: sticks of diffusivity ``dpar`` blurred by Watson's distribution. Outside: one Gaussian whose tensor is the
    mean of the tensors (dpar, dpar (1 - ndi), dpar (1 - ndi)) over that distribution (tortuosity; Zhang 2012).
    """
    moments = watson_moments(kappa, max(lmax, 2))
    sticks = gaussian_zonal(bvals * dpar, lmax)
    inside = np.broadcast_to(
        (moments[:, None, : n_even(lmax)] * sticks[None])[:, None], (len(kappa), len(ndi), len(bvals), n_even(lmax))
    )
    mean_square = (1 + 2 * moments[:, 1]) / 3
    across = dpar * (1 - ndi)
    along = across + (dpar - across) * mean_square[:, None]
    beside = across + (dpar - across) * (1 - mean_square[:, None]) / 2
    decay = np.exp(-beside[..., None] * bvals)
    outside = gaussian_zonal((along - beside)[..., None] * bvals, lmax) * decay[..., None]
    return inside, outside


def make_dictionary(
    gradients: GradientTable, dpar: float, diso: float, *, has_dot: bool, as_amico: bool
) -> NoddiDictionary:
    """Dictionary of every pair of NDI_ATOMS and ODI_ATOMS, free water, and the dot if wanted.

    Atoms get unit norm on average over all fibre directions, so that the fit turns with the head; ``as_amico`` takes
    the norm at AMICO's first tabulated direction, and the ODI of the mean κ.
    """
    shells = gradients.shells
    bvals = np.array([shell.b for shell in shells])
    groups = [np.flatnonzero(gradients.is_b0), *(shell.indices for shell in shells)]
    order = np.concatenate(groups)
    starts = np.concatenate([[0], np.cumsum([len(group) for group in groups])])
    kappa = _kappa_of(ODI_ATOMS)
    ndi = NDI_ATOMS
    inside, outside = tissue_zonal(bvals, kappa, ndi, dpar, LMAX)
    mixed = ndi[:, None, None] * inside + (1 - ndi[:, None, None]) * outside
    tissue = mixed.reshape(len(kappa) * len(ndi), -1).T
    levels = np.exp(-np.outer([0.0, diso] if has_dot else [diso], np.concatenate([[0.0], bvals])))
    free = np.zeros((len(tissue), len(levels)))
    free[::N_DEG] = levels[:, 1:].T
    atoms = np.concatenate([np.ones((1, tissue.shape[1] + len(levels))), np.concatenate([tissue, free], axis=1)])
    gram = _weighted_gram(gradients, AMICO_NORM_DIRECTION if as_amico else None)
    norms = np.sqrt(np.einsum("ca,cd,da->a", tissue, gram, tissue))
    unit_atoms = np.concatenate([np.zeros((1, tissue.shape[1])), tissue / norms])
    importance = np.concatenate([[starts[1]], np.diag(_weighted_gram(gradients, None))])
    basis, atoms, unit_atoms = _compress(np.sqrt(importance), atoms, unit_atoms)
    return NoddiDictionary(
        order=order,
        starts=starts,
        directions=np.ascontiguousarray(np.where(gradients.is_b0[:, None], 0.0, gradients.directions)[order].T),
        basis=basis,
        atoms=atoms,
        unit_atoms=unit_atoms,
        levels=levels,
        ndi=np.tile(ndi, len(kappa)),
        kappa=np.repeat(kappa, len(ndi)),
        second_moment=np.repeat(watson_moments(kappa, 2)[:, 1], len(ndi)),
        moment_nodes=np.empty(0) if as_amico else watson_moments(_kappa_of(np.linspace(0, 1, 1025)), 2)[:, 1],
        typical=tissue[1::N_DEG].mean(axis=1),
    )


def _compress(scale: np.ndarray, atoms: np.ndarray, unit_atoms: np.ndarray) -> tuple[np.ndarray, ...]:
    """Basis, and both sets of atoms in it: the fewest coordinates that hold them within LOSS.

    ``scale`` is the norm of each old coordinate, so that what is left out is small as a signal. Coordinates of zeros
    fill their number up to 16, 24 ...: each number is a kernel of its own, compiled when first met.
    """
    both = np.concatenate([atoms, unit_atoms * np.linalg.norm(scale[:, None] * atoms) / unit_atoms.shape[1]], axis=1)
    left, sizes, _ = np.linalg.svd(scale[:, None] * both, full_matrices=False)
    left = left[:, sizes > LOSS * sizes[0]]
    left = np.pad(left, ((0, 0), (0, max(16, -(-left.shape[1] // 8) * 8) - left.shape[1])))
    basis = left / scale[:, None]
    to_new = left.T * scale
    width = -(-atoms.shape[1] // 32) * 32
    return np.ascontiguousarray(basis), _fill(to_new @ atoms, width), _fill(to_new @ unit_atoms, width)


def _fill(atoms: np.ndarray, width: int) -> np.ndarray:
    """The atoms, and columns of zeros up to ``width``."""
    filled = np.zeros((len(atoms), width))
    filled[:, : atoms.shape[1]] = atoms
    return filled


def _kappa_of(odi: np.ndarray) -> np.ndarray:
    """Concentration κ = 1 / tan(π ODI / 2), at most 1e3."""
    return np.minimum(1e3, 1 / np.tan(np.maximum(odi, 1e-9) * np.pi / 2))


def _weighted_gram(gradients: GradientTable, direction: np.ndarray | None) -> np.ndarray:
    """Inner products of the coordinates over the weighted volumes, for one fibre direction or the mean over all."""
    n_deg = n_even(LMAX)
    gram = np.zeros((len(gradients.shells) * n_deg,) * 2)
    for s, shell in enumerate(gradients.shells):
        place = slice(s * n_deg, (s + 1) * n_deg)
        if direction is None:
            gram[place, place] = np.diag(len(shell) / (2 * even_degrees(LMAX) + 1))
        else:
            basis = even_legendre(gradients.directions[shell.indices] @ direction, LMAX)
            gram[place, place] = basis.T @ basis
    return gram
