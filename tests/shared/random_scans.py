"""Small scans of every sort: shells, noise, tissues, holes and masks drawn at random; for the fuzz tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arcuate.dwi import Dwi
from arcuate.gradients import GradientTable
from arcuate.volumes.resource import InMemoryVolumeResource

S0 = {"wm": 1000.0, "gm": 1150.0, "csf": 2500.0}


@dataclass(frozen=True)
class RandomScan:
    """A scan, its mask, and in words what is odd about them."""

    dwi: Dwi
    mask: InMemoryVolumeResource | None
    about: str


def draw_scan(seed: int) -> RandomScan:
    """1 to 9 shells of 1 to 64 directions, with and without b=0, SNR 3 to 100, any tissue absent, holes, NaN."""
    rng = np.random.default_rng(seed)
    gradients, about = _draw_gradients(rng)
    shape = tuple(int(n) for n in rng.integers(2, 9, size=3))
    tissues = [t for t in S0 if rng.random() < 0.8] or ["wm"]
    signal = simulate_rows(rng, gradients, int(np.prod(shape)), tissues)
    snr = float(np.exp(rng.uniform(np.log(3), np.log(100))))
    noise = rng.normal(scale=S0["wm"] / snr, size=(2, *signal.shape))
    signal = np.hypot(signal + noise[0], noise[1])
    signal, damage = _damage(rng, signal)
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    dwi = Dwi.from_arrays(signal.reshape(*shape, -1).astype(np.float32), affine, gradients)
    mask, kind = _draw_mask(rng, shape, affine)
    return RandomScan(
        dwi, mask, f"seed {seed}: {about}; {'+'.join(tissues)}; SNR {snr:.0f}; {damage}; {kind} mask of {shape}"
    )


def draw_sound_scan(seed: int) -> RandomScan:
    """A scan of three tissues, 1 to 5 shells of 6 to 64 directions and b=0, SNR 15 to 100, a thousand voxels or two."""
    rng = np.random.default_rng(seed)
    n_shells = int(rng.integers(1, 6))
    levels = np.sort(rng.choice(np.arange(300, 5000, 250), size=n_shells, replace=False)).astype(float)
    counts = rng.integers(6, 65, size=n_shells)
    counts[-1] = max(counts[-1], 12)
    n_b0 = int(rng.integers(1, 7))
    bvals = np.concatenate([np.zeros(n_b0), np.repeat(levels, counts)])
    directions = rng.normal(size=(len(bvals), 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions[:n_b0] = 0
    gradients = GradientTable(bvals, directions)
    shape = tuple(int(n) for n in rng.integers(9, 14, size=3))
    signal = simulate_rows(rng, gradients, int(np.prod(shape)), list(S0))
    snr = float(np.exp(rng.uniform(np.log(15), np.log(100))))
    noise = rng.normal(scale=S0["wm"] / snr, size=(2, *signal.shape))
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    image = np.hypot(signal + noise[0], noise[1]).reshape(*shape, -1).astype(np.float32)
    inside = (rng.random(shape) < rng.uniform(0.5, 1)).astype(np.uint8)
    shells = ", ".join(f"{n} at {b:.0f}" for n, b in zip(counts, levels, strict=True))
    about = f"seed {seed}: {n_b0} b=0, {shells}; SNR {snr:.0f}; {inside.sum()} voxels"
    return RandomScan(Dwi.from_arrays(image, affine, gradients), InMemoryVolumeResource(inside, affine), about)


def _draw_gradients(rng: np.random.Generator) -> tuple[GradientTable, str]:
    n_shells = int(rng.integers(1, 10))
    levels = np.sort(rng.choice(np.arange(200, 6000, 150), size=n_shells, replace=False)).astype(float)
    low = bool(rng.random() < 0.1) and n_shells > 1  # alone it would be taken for another unit
    if low:
        levels[0] = 30.0
    counts = rng.integers(1, 65, size=n_shells)
    if rng.random() < 0.3:
        counts = np.minimum(counts, rng.integers(1, 8))
    n_b0 = int(rng.integers(1, 5)) if rng.random() < 0.75 else 0
    bvals = np.concatenate([np.zeros(n_b0), np.repeat(levels, counts)])
    directions = rng.normal(size=(len(bvals), 3))
    if rng.random() < 0.05:
        directions[:, 2] = 0  # in a plane
    if rng.random() < 0.1:
        directions = directions[rng.integers(0, max(1, len(bvals) // 4), size=len(bvals))]  # repeated
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions[:n_b0] = 0
    order = rng.permutation(len(bvals))
    shells = ", ".join(f"{n} at {b:.0f}" for n, b in zip(counts, levels, strict=True))
    table = GradientTable(bvals[order], directions[order], 10.0 if low else 50.0)
    return table, f"{n_b0} b=0, {shells}"


def simulate_rows(rng: np.random.Generator, gradients: GradientTable, n_vox: int, tissues: list[str]) -> np.ndarray:
    """(n_vox, n_meas): shares of tissues, most voxels pure; one or two fibres."""
    share = rng.dirichlet(np.full(len(tissues), 0.1), size=n_vox)
    signal = np.zeros((n_vox, len(gradients)))
    for tissue, amount in zip(tissues, share.T, strict=True):
        if tissue == "wm":
            part = np.zeros_like(signal)
            weight = np.where(rng.random(n_vox) < 0.6, 1.0, 0.5)[:, None]
            for w in (weight, 1 - weight):
                fibre = rng.normal(size=(n_vox, 3))
                fibre /= np.linalg.norm(fibre, axis=1, keepdims=True)
                along = (fibre @ gradients.directions.T) ** 2
                stick, tube = (
                    np.exp(-gradients.bvals * 2.2e-3 * along),
                    np.exp(-gradients.bvals * (0.55e-3 + 1.25e-3 * along)),
                )
                part += w * (0.6 * stick + 0.4 * tube)
        else:
            diffusivity = rng.uniform(0.75e-3, 0.95e-3, size=(n_vox, 1)) if tissue == "gm" else 3e-3
            part = np.exp(-gradients.bvals * diffusivity) * np.ones((n_vox, 1))
        signal += amount[:, None] * S0[tissue] * part
    return signal


def _damage(rng: np.random.Generator, signal: np.ndarray) -> tuple[np.ndarray, str]:
    """Holes, NaN, empty volumes, negative values, another unit; or nothing."""
    n_vox, n_meas = signal.shape
    said = []
    if rng.random() < 0.2:
        signal[rng.random(n_vox) < rng.random()] = 0
        said.append("holes")
    if rng.random() < 0.15:
        signal[rng.random(signal.shape) < 0.01] = np.nan
        said.append("NaN here and there")
    if rng.random() < 0.15:
        signal[:, rng.integers(0, n_meas, size=rng.integers(1, 4))] = rng.choice([0.0, np.nan])
        said.append("empty or NaN volumes")
    if rng.random() < 0.1:
        signal -= 300
        said.append("negative values")
    if rng.random() < 0.1:
        signal *= 10.0 ** rng.integers(-9, 9)
        said.append("another unit")
    if rng.random() < 0.03:
        signal[:] = rng.choice([0.0, 7.0])
        said.append("constant")
    return signal, ", ".join(said) or "sound"


def _draw_mask(
    rng: np.random.Generator, shape: tuple[int, ...], affine: np.ndarray
) -> tuple[InMemoryVolumeResource | None, str]:
    kind = str(rng.choice(["no", "full", "random", "handful", "one voxel", "probability", "4-D", "empty", "bool"]))
    if kind == "no":
        return None, kind
    inside = np.ones(shape) if kind == "full" else (rng.random(shape) < rng.uniform(0.1, 1)).astype(float)
    if kind in {"one voxel", "handful"}:
        inside[:] = 0
        inside.flat[rng.integers(0, inside.size, size=1 if kind == "one voxel" else 6)] = 1
    elif kind == "probability":
        inside = rng.random(shape)
        inside.flat[0] = np.nan
    elif kind == "empty":
        inside[:] = 0
    array = inside.astype(bool) if kind == "bool" else inside.astype(np.float32)
    return InMemoryVolumeResource(array[..., None] if kind == "4-D" else array, affine), kind
