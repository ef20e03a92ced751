"""The phantom as an image: truth maps, and the signals they give."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.polynomial import chebyshev

from arcuate.errors import InputError
from arcuate.gradients import GradientTable
from arcuate.numerics.compiled import run_in_chunks
from arcuate.phantom import anatomy, bundles
from arcuate.phantom.dispersion import disperse_sticks
from arcuate.phantom.grid import Grid, make_grid
from arcuate.phantom.signal import D_ISO, D_PAR, TRUTHS, Microstructure, write_signals
from arcuate.volumes.geometry import voxel_size

S0_WM, S0_GM, S0_CSF, S0_SKULL, S0_SCALP = 1000.0, 1250.0, 2800.0, 60.0, 420.0
_LINES, _VOXELS = 64, 1024  # of one thread at a time
BLOCK = 8192  # voxels whose signals are held in float64 at a time


@dataclass(frozen=True, eq=False)
class Phantom:
    """A head with known truth. Maps have the image's (x, y, z), directions are in the scanner frame.

    Truth is exact inside ``brain_mask``. ``fwf`` is the share of the *signal* at b = 0 that is free water, as a fit
    sees it; ``tissue`` holds shares of the volume. In a voxel with several fibre populations each has the voxel's NDI
    and ODI. Where ``fwf`` is 1 there are no populations. In "tensors" NDI is the share of sticks in the tissue outside
    the spheres, and ODI that of the Watson density with the same mean squared cosine.
    """

    signal: np.ndarray  # (x, y, z, n) float32, white matter near 1000 at b = 0
    affine: np.ndarray  # (4, 4) float64, voxel indices to scanner mm
    gradients: GradientTable
    truth: str
    sigma: float  # of the Rician noise, unit of the signal
    brain_mask: np.ndarray  # (x, y, z) bool: brain with its fluid
    tissue: np.ndarray  # (x, y, z, 3) float32: shares of white matter, grey matter, fluid
    n_fibres: np.ndarray  # (x, y, z) uint8, populations in voxels of the mask that hold tissue
    directions: np.ndarray  # (x, y, z, 3, 3) float32, unit vectors, strongest first, absent = 0
    fractions: np.ndarray  # (x, y, z, 3) float32, of the populations, sum 1 where there are any
    ndi: np.ndarray  # (x, y, z) float32
    odi: np.ndarray  # (x, y, z) float32
    fwf: np.ndarray  # (x, y, z) float32
    s0: np.ndarray  # (x, y, z) float32, noise-free signal at b = 0
    label_image: np.ndarray  # (x, y, z) uint8, 0 or 1 + index in REGIONS
    _bundle_bits: np.ndarray = field(repr=False)  # (x, y, z) uint32, bit i for BUNDLE_NAMES[i]
    _soma: np.ndarray = field(repr=False)  # (x, y, z) float32
    _scalp: np.ndarray = field(repr=False)  # (x, y, z) float32, share of the signal

    @property
    def bvals(self) -> np.ndarray:
        """(n,) float64, s/mm²."""
        return self.gradients.to_fsl(self.affine)[0]

    @property
    def bvecs(self) -> np.ndarray:
        """(n, 3) float64 as FSL writes them for this affine."""
        return self.gradients.to_fsl(self.affine)[1]

    @cached_property
    def bundles(self) -> dict[str, np.ndarray]:
        """Mask (x, y, z) of every named bundle: white matter in which it is one of the populations."""
        return {
            name: (self._bundle_bits >> np.uint32(i)) & np.uint32(1) > 0 for i, name in enumerate(bundles.BUNDLE_NAMES)
        }

    @cached_property
    def labels(self) -> dict[str, np.ndarray]:
        """Mask (x, y, z) of every region, for averages over regions."""
        return {name: self.label_image == i + 1 for i, name in enumerate(anatomy.REGIONS)}

    @property
    def is_single_fibre(self) -> np.ndarray:
        """(x, y, z) bool: nearly pure white matter with one fibre population."""
        return np.asarray((self.n_fibres == 1) & (self.tissue[..., 0] > 0.9))

    @property
    def is_crossing(self) -> np.ndarray:
        """(x, y, z) bool: nearly pure white matter with two or three populations."""
        return np.asarray((self.n_fibres > 1) & (self.tissue[..., 0] > 0.9))

    @cached_property
    def diffusivity(self) -> np.ndarray:
        """(x, y, z, 6) float32, mm²/s: mean diffusivity tensor as b goes to 0, xx xy xz yy yz zz; 0 outside the mask.

        Raises
        ------
        InputError
            In the truth "tensors", which has no such closed form here.
        """
        if self.truth == "tensors":
            raise InputError(
                'the tensor of the phantom is not defined for truth "tensors"; make it with "single-tensor" or "noddi".'
            )
        out = np.zeros((*self.brain_mask.shape, 6), dtype=np.float32)
        out[self.brain_mask] = _mean_tensors(self._rows(np.flatnonzero(self.brain_mask)))
        return out

    @cached_property
    def md(self) -> np.ndarray:
        """(x, y, z) float32, mm²/s: mean diffusivity of :attr:`diffusivity`."""
        return np.asarray(self.diffusivity[..., [0, 3, 5]].mean(axis=-1))

    @cached_property
    def fa(self) -> np.ndarray:
        """(x, y, z) float32: fractional anisotropy of :attr:`diffusivity`, exact for "single-tensor"."""
        tensors = self.diffusivity.astype(np.float64)
        diagonal, beside = tensors[..., [0, 3, 5]], 2 * (tensors[..., [1, 2, 4]] ** 2).sum(axis=-1)
        norm2 = (diagonal**2).sum(axis=-1) + beside
        spread2 = ((diagonal - diagonal.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1) + beside
        fa2 = 1.5 * spread2 / np.where(norm2 > 0, norm2, 1.0)
        return np.sqrt(np.clip(fa2, 0, 1)).astype(np.float32)

    def noise_free(self) -> np.ndarray:
        """(x, y, z, n) float32: the image without noise, computed anew."""
        out = np.empty((*self.s0.shape, len(self.gradients)), dtype=np.float32)
        self._write(out.reshape(-1, len(self.gradients)), None, 0.0, 0)
        return out

    def noise_free_rows(self, mask: np.ndarray) -> np.ndarray:
        """(n_vox, n) float64: signals without noise of the voxels of ``mask`` (x, y, z) bool, in C order."""
        out = np.empty((int(np.count_nonzero(mask)), len(self.gradients)))
        write_signals(self.gradients, self.truth, self._rows(np.flatnonzero(mask)), out, np.zeros(len(out), np.int64))
        return out

    def _rows(self, voxels: np.ndarray | slice) -> Microstructure:
        def pick(array: np.ndarray, *tail: int) -> np.ndarray:
            return np.ascontiguousarray(array.reshape(-1, *tail)[voxels], dtype=np.float64)

        return Microstructure(
            pick(self.directions, 3, 3), pick(self.fractions, 3), pick(self.ndi), pick(self.odi), pick(self.fwf),
            pick(self._soma), pick(self._scalp), pick(self.s0),
        )  # fmt: skip

    def _write(self, out: np.ndarray, noise_index: np.ndarray | None, sigma: float, key: int) -> None:
        """Signals of all voxels into ``out`` (n_vox, n_meas) float32, block by block."""
        block = np.empty((min(BLOCK, len(out)), out.shape[1]))
        for start in range(0, len(out), BLOCK):
            rows = slice(start, min(start + BLOCK, len(out)))
            part = block[: rows.stop - start]
            index = np.zeros(len(part), np.int64) if noise_index is None else noise_index[rows]
            write_signals(self.gradients, self.truth, self._rows(rows), part, index, sigma, key)
            out[rows] = part


def make_phantom(
    gradients: GradientTable,
    shape: tuple[int, int, int] = (96, 96, 60),
    voxel_size: float | tuple[float, float, float] = 2.0,
    snr: float | None = 30.0,
    seed: int = 0,
    truth: str = "noddi",
    orientation: str = "LAS",
    oblique_degrees: float = 0.0,
    *,
    shading: float = 0.0,
    head_scale: float | None = None,
    noise_seed: int | None = None,
) -> Phantom:
    """Multi-shell image of a head with known truth.

    Parameters
    ----------
    gradients : GradientTable, scanner frame
    shape : (3,) int
        Voxels along the scanner's x, y and z; an ``orientation`` that permutes axes permutes the stored shape.
    voxel_size : float or (3,) float, mm
    snr : float or None
        Signal of white matter at b = 0 over σ of the Rician noise; None for no noise.
    seed : int
        Draws the folds, the ventricles, slow changes of the tissue, and the noise.
    truth : "noddi", "tensors" or "single-tensor"
        What the signals are made of; see :func:`simulate_rows`.
    orientation : str
        Where the stored axes point to, any of the 48, such as "LAS" or "PSR". The same voxels hold the same bits.
    oblique_degrees : float
        Turns the grid, not the head.
    shading : float
        Strength of the coil's shading: 0.5 makes one side about half as bright again as the other.
    head_scale : float or None
        Size of the head, 1 for an adult; None shrinks it where the field of view is too small.
    noise_seed : int or None
        Draws the noise alone; None takes ``seed``.
    """
    if truth not in TRUTHS:
        raise InputError(f"found the truth {truth!r}; expected one of {', '.join(TRUTHS)}.")
    if snr is not None and not snr > 0:
        raise InputError(f"found an SNR of {snr}; expected a positive number, or None for no noise.")
    grid = make_grid(shape, voxel_size, orientation, oblique_degrees)
    sigma = 0.0 if snr is None else S0_WM / snr
    key = int(np.random.default_rng([1, seed if noise_seed is None else noise_seed]).integers(0, 2**63))
    maps = _draw_maps(grid, seed, shading, head_scale)
    noise_index = grid.stored(np.arange(int(np.prod(grid.shape)))).ravel()
    stored = {name: grid.stored(array) for name, array in maps.items()}
    size = (*stored["s0"].shape, len(gradients))
    signal = np.empty(size, dtype=np.float32)
    phantom = Phantom(
        signal=signal, affine=grid.affine, gradients=gradients, truth=truth, sigma=sigma, **stored
    )  # fmt: skip
    phantom._write(signal.reshape(-1, len(gradients)), noise_index, sigma, key)
    return phantom


def _draw_maps(grid: Grid, seed: int, shading: float, head_scale: float | None) -> dict[str, np.ndarray]:
    """Truth maps as rows in canonical C order."""
    size = np.array(voxel_size(grid.canonical))
    if head_scale is None:
        head_scale = min(1.0, float(np.min(size * grid.shape / np.array(anatomy.HEAD_SIZE))))
    to_head = np.ascontiguousarray(grid.canonical[:3] / head_scale)
    subject = anatomy.make_subject(np.random.default_rng([0, seed]))
    n_vox = int(np.prod(grid.shape))
    fractions = np.zeros((n_vox, 6), np.float32)
    regions, depths = np.zeros(n_vox, np.uint8), np.zeros(n_vox, np.float32)
    cell = float(np.cbrt(np.prod(size))) / head_scale
    n_sub = int(np.clip(np.round(cell), 1, 5))
    person, tables = (subject.folds, subject.twist, subject.ventricles), (fractions, regions, depths)

    def fill(begin: int, end: int) -> None:
        anatomy.fill_tissue(begin, end, grid.shape, to_head, cell, n_sub, person, tables)

    run_in_chunks(fill, grid.shape[0] * grid.shape[1], _LINES)
    tissue = fractions[:, :3].copy()
    inside = tissue.sum(axis=1)
    mask = inside >= 0.5
    tissue[mask] /= inside[mask, None]
    regions[~mask] = 0
    maps = {"brain_mask": mask, "tissue": tissue, "label_image": regions}
    maps |= _draw_fibres(grid, to_head, tissue, mask, regions)
    maps |= _draw_microstructure(grid, to_head, subject, tissue, fractions, mask, regions, depths, shading)
    for name in ("directions", "fractions", "n_fibres"):
        maps[name][maps["fwf"] >= 1.0] = 0
    return maps


def _draw_fibres(
    grid: Grid, to_head: np.ndarray, tissue: np.ndarray, mask: np.ndarray, regions: np.ndarray
) -> dict[str, np.ndarray]:
    """Populations of every voxel of the mask with tissue; grey matter has one, as it is one population to a fit."""
    n_vox = len(mask)
    curves = bundles.make_curves()
    directions, fractions = np.zeros((n_vox, 3, 3), np.float32), np.zeros((n_vox, 3), np.float32)
    bits = np.zeros(n_vox, np.uint32)
    voxels = np.flatnonzero(mask & (tissue[:, 2] < 1.0))
    paths = (curves.points, curves.first, curves.bundle, curves.radius, curves.box)
    special = (anatomy.STEM, anatomy.FOLIA, anatomy.CEREBELLAR_WHITE)

    def fill(begin: int, end: int) -> None:
        out = (directions, fractions, bits)
        bundles.fill_fibres(voxels[begin:end], grid.shape, to_head, regions, paths, special, out)

    run_in_chunks(fill, len(voxels), _VOXELS)
    is_grey = tissue[:, 0] < 0.5 * (tissue[:, 0] + tissue[:, 1])
    directions[is_grey, 1:] = 0
    fractions[is_grey, 1:] = 0
    fractions[is_grey & (fractions[:, 0] > 0), 0] = 1
    bits[tissue[:, 0] < 0.5] = 0
    n_fibres = np.count_nonzero(fractions, axis=1).astype(np.uint8)
    return {"directions": directions, "fractions": fractions, "n_fibres": n_fibres, "_bundle_bits": bits}


def _draw_microstructure(
    grid: Grid, to_head: np.ndarray, subject: anatomy.Subject, tissue: np.ndarray, fractions: np.ndarray,
    mask: np.ndarray, regions: np.ndarray, depths: np.ndarray, shading: float,
) -> dict[str, np.ndarray]:  # fmt: skip
    """NDI, ODI, FWF, S0 and what else the signal needs, all from tissue shares and slow waves."""
    n_vox = len(mask)
    head = np.flatnonzero(fractions.sum(axis=1) > 0)
    points = np.column_stack(np.unravel_index(head, grid.shape)) @ to_head[:, :3].T + to_head[:, 3]
    slow = [_slow_map(points, waves) for waves in subject.slow]
    wm, gm, csf = (tissue[head, t].astype(np.float64) for t in range(3))
    lesion = regions[head] == anatomy.LESION_LABEL
    outer = np.where(mask[head], 0.0, fractions[head] @ np.array([0, 0, 0, S0_SKULL, S0_SCALP, 0.0]))
    eye = np.where(mask[head], 0.0, fractions[head, anatomy.EYE]) * S0_CSF
    parts = np.stack([wm * S0_WM, gm * S0_GM])
    solid = parts.sum(axis=0)
    share = parts / np.where(solid > 0, solid, 1.0)
    superficial = np.exp(-np.maximum(depths[head] - anatomy.CORTEX_THICKNESS, 0.0) / 2.0)
    ndi = share[0] * (0.63 + 0.06 * slow[0]) * np.where(lesion, 0.6, 1.0) + share[1] * (0.38 + 0.04 * slow[0])
    odi = share[0] * (0.05 + 0.04 * (1 + slow[1]) + 0.08 * superficial) + share[1] * (0.45 + 0.07 * slow[1])
    leak = share[0] * (0.02 + 0.02 * (1 + slow[2])) + share[1] * 0.05 + 0.3 * lesion  # free water within the tissue
    water = csf * S0_CSF + eye + leak * solid
    total = water + (1 - leak) * solid
    values = {
        "ndi": np.where(solid > 0, ndi, 0.0),
        "odi": np.where(solid > 0, odi, 0.0),
        "fwf": water / np.where(total > 0, total, 1.0),
        "s0": (total + outer) * (1 + 0.03 * slow[2]) * _shade(points, shading),
        "_soma": share[0] * 0.03 + share[1] * 0.3,
        "_scalp": outer / np.where(total + outer > 0, total + outer, 1.0),
    }
    maps = {}
    for name, value in values.items():
        maps[name] = np.zeros(n_vox, np.float32)
        maps[name][head] = value
    return maps


def _slow_map(points: np.ndarray, waves: np.ndarray) -> np.ndarray:
    """Sum of waves at points (n, 3), squeezed into (-1, 1)."""
    total = np.zeros(len(points))
    for wave in waves:
        total += wave[4] * np.cos(points @ wave[:3] + wave[3])
    return np.tanh(total)


def _shade(points: np.ndarray, strength: float) -> np.ndarray:
    """Sensitivity of the coil at points (n, 3) in head mm: bright at the back left."""
    return np.exp(strength * (-0.004 * points[:, 0] - 0.005 * points[:, 1] + 0.002 * points[:, 2]))


def _mean_tensors(rows: Microstructure) -> np.ndarray:
    """(n_vox, 6) float64 mean diffusivity tensors of the first truth as b goes to 0."""
    spread = chebyshev.chebval(2 * rows.odi - 1, disperse_sticks(np.zeros(1), D_PAR).moment)
    across = D_PAR * (rows.ndi * 0.5 * (1 - spread) + (1 - rows.ndi) * (1 - 0.5 * rows.ndi * (1 + spread)))
    excess = D_PAR * (1.5 * spread - 0.5) * (rows.ndi + (1 - rows.ndi) * rows.ndi)
    tissue = rows.fractions.sum(axis=1) * (1 - rows.fwf)
    isotropic = rows.fwf * D_ISO + tissue * across
    first, second = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 1, 2, 2])
    products = np.einsum("vf,vfc,vfc->vc", rows.fractions, rows.directions[..., first], rows.directions[..., second])
    return np.asarray(isotropic[:, None] * np.array([1, 0, 0, 1, 0, 1]) + ((1 - rows.fwf) * excess)[:, None] * products)
