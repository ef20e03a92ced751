"""Voxels of known fibres for the accuracy benchmark: protocols, kinds of voxels, and three figures of their peaks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arcuate.gradients import GradientTable
from arcuate.phantom import add_rician_noise, simulate_rows, three_shell_gradients

S0, S0_GM, S0_CSF = 1000.0, 1250.0, 2800.0
NEAR = 20.0  # degrees: a peak this close to a fibre counts for it
FAN = 21  # populations of a fan, two spreads to each side

# b-values, directions of each shell, b=0 volumes
PROTOCOLS = {
    "1000/2000/3500 x 64": ((1000, 2000, 3500), 64, 6),
    "1000/2000/3000 x 90": ((1000, 2000, 3000), 90, 18),
    "1000/2000 x 50": ((1000, 2000), 50, 5),
    "3000 x 64": ((3000,), 64, 6),
    "2000 x 45": ((2000,), 45, 5),
    "1000 x 32": ((1000,), 32, 3),
}
PAIRS = (40, 45, 50, 60, 75, 90)
KINDS = (
    "one", *(f"x{a}" for a in PAIRS), "y45", "y50", "y60", "y75", "t90", "t70", "d15", "d20", "d30", "dx60", "fan25",
    "fan30", "wm+gm", "wm+csf", "gm", "csf",
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """Voxels of one kind without noise."""

    signals: np.ndarray  # (n, n_meas) float64
    fibres: np.ndarray  # (n, n_fibres, 3) unit vectors; none in grey matter and fluid


@dataclass(frozen=True)
class Figures:
    """What peaks of one kind of voxel are worth."""

    first: float  # degrees, median over voxels of the angle between the strongest peak and the nearest fibre
    missed: float  # % of fibres that no peak is within 20 degrees of
    false: float  # peaks further than 20 degrees from every fibre, per 100 voxels
    right: float  # % of voxels with as many peaks as fibres
    afd: float  # median integral of the FOD


def make_gradients(protocol: str) -> GradientTable:
    """Directions of a protocol, spread evenly on each shell."""
    bvals, count, n_b0 = PROTOCOLS[protocol]
    return three_shell_gradients(n_b0, bvals, count, seed=5)


def make_kinds(
    gradients: GradientTable, count: int, *, truth: str = "noddi", seed: int = 0, kinds: tuple[str, ...] = KINDS
) -> dict[str, Kind]:
    """``count`` voxels of each kind: xNN and yNN are two fibres at NN degrees, 50/50 and 70/30; tNN three; dNN one of
    ODI .NN, dx60 two of ODI .15; fanNN populations in a plane with a spread of NN degrees; mixtures are 50/50.
    """
    return {kind: _make_kind(gradients, count, kind, truth, np.random.default_rng((seed, i))) for i, kind in
            enumerate(kinds)}  # fmt: skip


def judge(directions: np.ndarray, values: np.ndarray, fods: np.ndarray, kind: Kind) -> Figures:
    """Figures of peaks (n, n_peaks, 3), 0 where absent, of FODs (n, n_coef)."""
    is_peak = values > 0
    afd = float(np.median(np.maximum(fods[:, 0], 0)) * np.sqrt(4 * np.pi))
    n_fibres = kind.fibres.shape[1]
    if n_fibres == 0:
        count = is_peak.sum(axis=1)
        return Figures(np.nan, np.nan, 100 * float(count.mean()), 100 * float(np.mean(count == 0)), afd)
    cosine = np.abs(np.einsum("npc,nfc->npf", directions, kind.fibres))
    angle = np.where(is_peak[..., None], np.degrees(np.arccos(np.clip(cosine, 0, 1))), 90.0)
    first = float(np.median(angle[:, 0].min(axis=1)))
    missed = 100 * float(np.mean(angle.min(axis=1) > NEAR) * n_fibres / max(n_fibres - 1, 1))
    false = 100 * float(np.sum(is_peak & (angle.min(axis=2) > NEAR), axis=1).mean())
    right = 100 * float(np.mean(is_peak.sum(axis=1) == n_fibres))
    return Figures(first, missed, false, right, afd)


def _make_kind(gradients: GradientTable, count: int, kind: str, truth: str, rng: np.random.Generator) -> Kind:
    ndi = rng.uniform(0.5, 0.7, count)
    if kind in {"gm", "csf"}:
        none = np.zeros((count, 0, 3))
        return Kind(_grey(gradients, count, truth, rng) if kind == "gm" else _fluid(gradients, count), none)
    if kind in {"wm+gm", "wm+csf"}:
        one = _make_kind(gradients, count, "one", truth, rng)
        other = _grey(gradients, count, truth, rng) if kind == "wm+gm" else _fluid(gradients, count)
        return Kind(0.5 * one.signals + 0.5 * other, one.fibres)
    first = _unit(rng.normal(size=(count, 3)))
    across = _unit(np.cross(first, rng.normal(size=(count, 3))))
    third = np.cross(first, across)
    shares, odi = [1.0], rng.uniform(0.02, 0.10, count)
    fibres = [first]
    if kind[0] in "xy" or kind == "dx60":
        turn = np.deg2rad(float(kind.lstrip("dxy")))
        fibres = [first, np.cos(turn) * first + np.sin(turn) * across]
        shares = [0.7, 0.3] if kind[0] == "y" else [0.5, 0.5]
    elif kind[0] == "t":
        fibres, shares = _three(first, across, third, np.deg2rad(float(kind[1:]))), [1 / 3] * 3
    if kind[0] == "d":
        odi = np.full(count, 0.15 if kind == "dx60" else float(kind[1:]) / 100)
    if kind.startswith("fan"):
        offsets = np.linspace(-2, 2, FAN)
        turns = np.deg2rad(float(kind[3:])) * offsets
        weights = np.exp(-0.5 * offsets**2)
        spread = np.stack([np.cos(t) * first + np.sin(t) * across for t in turns], axis=1)
        rows = simulate_rows(gradients, spread, np.tile(weights / weights.sum(), (count, 1)), ndi, odi, 0, S0,
                             truth=truth)  # fmt: skip
        return Kind(rows, first[:, None])
    axes = np.stack(fibres, axis=1)
    return Kind(simulate_rows(gradients, axes, np.tile(shares, (count, 1)), ndi, odi, 0, S0, truth=truth), axes)


def _three(a: np.ndarray, b: np.ndarray, c: np.ndarray, angle: float) -> list[np.ndarray]:
    """Three directions, each ``angle`` from the two others."""
    tilt = np.arcsin(np.sin(angle / 2) * 2 / np.sqrt(3))
    around = 2 * np.pi / 3 * np.arange(3)
    return [np.cos(tilt) * a + np.sin(tilt) * (np.cos(t) * b + np.sin(t) * c) for t in around]


def _grey(gradients: GradientTable, count: int, truth: str, rng: np.random.Generator) -> np.ndarray:
    axes = _unit(rng.normal(size=(count, 3)))
    return simulate_rows(gradients, axes, 1.0, rng.uniform(0.3, 0.45, count), 1.0, 0, S0_GM, truth=truth)


def _fluid(gradients: GradientTable, count: int) -> np.ndarray:
    return simulate_rows(gradients, np.tile([0.0, 0.0, 1.0], (count, 1)), 1.0, 0.5, 0.5, 1.0, S0_CSF)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def make_head(gradients: GradientTable, snr: float, *, truth: str = "noddi", seed: int = 0) -> np.ndarray:
    """(30, 30, 14, n_meas) float32: voxels of all kinds mixed at random, for the responses, as those of a head."""
    rng = np.random.default_rng((seed, 77))
    shares = {"one": 0.40, "x60": 0.09, "x90": 0.16, "gm": 0.18, "csf": 0.05, "wm+gm": 0.07, "wm+csf": 0.05}
    n_vox = 30 * 30 * 14
    rows = []
    for i, (kind, share) in enumerate(shares.items()):
        rows.append(
            _make_kind(gradients, round(share * n_vox), kind, truth, np.random.default_rng((seed, 7, i))).signals
        )
    everything = np.vstack(rows)[rng.permutation(n_vox)]
    return add_rician_noise(everything, S0 / snr, rng).astype(np.float32).reshape(30, 30, 14, -1)
