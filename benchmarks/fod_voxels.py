"""Voxels of known fibres for the accuracy benchmark: protocols, kinds of voxels, and three figures of their peaks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arcuate.gradients import GradientTable
from arcuate.phantom import add_rician_noise, simulate_rows, three_shell_gradients
from benchmarks.fod_sticks import simulate_fluid, simulate_grey, simulate_sticks

TRUTHS = ("noddi", "tensors", "sticks")  # the phantom's two, and one that shares no code and no diffusivity with it
S0, S0_GM, S0_CSF = 1000.0, 1250.0, 2800.0
NEAR = 20.0  # degrees: a peak this close to a fibre counts for it
FIRST, MISSED, FALSE = 0, 1, 2
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
    """``count`` voxels of each kind of tissue of a truth.

    Kinds: xNN and yNN are two fibres at NN degrees, 50/50 and 70/30; tNN three; dNN one of
    ODI .NN, dx60 two of ODI .15; fanNN populations in a plane with a spread of NN degrees; mixtures are 50/50.
    """
    return {
        kind: _make_kind(gradients, count, kind, truth, np.random.default_rng((seed, KINDS.index(kind))))
        for kind in kinds
    }


def judge(directions: np.ndarray, values: np.ndarray, fods: np.ndarray, kind: Kind) -> Figures:
    """Figures of peaks (n, n_peaks, 3), 0 where absent, of FODs (n, n_coef)."""
    each = judge_each(directions, values, kind)
    afd = float(np.median(np.maximum(fods[:, 0], 0)) * np.sqrt(4 * np.pi))
    right = 100 * float(np.mean(np.count_nonzero(values, axis=1) == kind.fibres.shape[1]))
    if kind.fibres.shape[1] == 0:
        return Figures(np.nan, np.nan, float(each[FALSE].mean()), right, afd)
    return Figures(float(np.median(each[FIRST])), float(each[MISSED].mean()), float(each[FALSE].mean()), right, afd)


def judge_each(directions: np.ndarray, values: np.ndarray, kind: Kind) -> np.ndarray:
    """(3, n) of each voxel: angle of its first peak, % of fibres missed, 100 times its false peaks."""
    is_peak, n_fibres = values > 0, kind.fibres.shape[1]
    if n_fibres == 0:
        return np.stack([np.zeros(len(values)), np.zeros(len(values)), 100.0 * is_peak.sum(axis=1)])
    cosine = np.abs(np.einsum("npc,nfc->npf", directions, kind.fibres))
    angle = np.where(is_peak[..., None], np.degrees(np.arccos(np.clip(cosine, 0, 1))), 90.0)
    missed = 100 * np.mean(angle.min(axis=1) > NEAR, axis=1) * n_fibres / max(n_fibres - 1, 1)
    false = 100.0 * np.sum(is_peak & (angle.min(axis=2) > NEAR), axis=1)
    return np.stack([angle[:, 0].min(axis=1), missed, false])


def is_worse(ours: np.ndarray, theirs: list[np.ndarray], *, paired: bool = False) -> np.ndarray:
    """(3,) bool: whether a figure of ours is above the least of theirs by more than a standard error.

    Parameters
    ----------
    ours, theirs : (3, n) of :func:`judge_each` on the same voxels; the first figure is a median, the others means
    paired : the standard error of the difference instead of that of their figure

    Notes
    -----
    The bar is the standard error of the figure that is compared with, by resampling voxels: how well these voxels tell
    what the peer's figure is for such tissue. Voxels and noise are the same for all methods, so the difference between
    two figures is known better than either: its standard error, asked for by ``paired``, is several times smaller
    where methods hardly differ, and tells apart FODs that are the same but for the directions of the constraint. It is
    the stricter remark. None of n voxels does not mean a standard error of 0: shares are known to one voxel in n at
    best.
    """
    n = ours.shape[1]
    resampled = np.random.default_rng(0).integers(n, size=(200, n))
    everything = np.arange(n)
    out = np.zeros(3, bool)
    for row in (FIRST, MISSED, FALSE):

        def figure(each: np.ndarray, chosen: np.ndarray, row: int = row) -> np.ndarray:
            picked = each[row][chosen]
            return np.asarray(np.median(picked, axis=-1) if row == FIRST else picked.mean(axis=-1))

        best = min(theirs, key=lambda each: float(figure(each, everything)))
        gap = figure(ours, everything) - figure(best, everything)
        if paired:
            spread = np.std(figure(ours, resampled) - figure(best, resampled))
        else:
            spread = max(np.std(figure(best, resampled)), 0.0 if row == FIRST else 100 / n)
        out[row] = gap > spread
    return out


def _make_kind(gradients: GradientTable, count: int, kind: str, truth: str, rng: np.random.Generator) -> Kind:
    ndi = rng.uniform(0.5, 0.7, count)
    if kind in {"gm", "csf"}:
        none = np.zeros((count, 0, 3))
        return Kind(_grey(gradients, count, truth, rng) if kind == "gm" else _fluid(gradients, count, truth), none)
    if kind in {"wm+gm", "wm+csf"}:
        one = _make_kind(gradients, count, "one", truth, rng)
        other = _grey(gradients, count, truth, rng) if kind == "wm+gm" else _fluid(gradients, count, truth)
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
        return Kind(_white(gradients, spread, weights / weights.sum(), ndi, odi, truth), first[:, None])
    axes = np.stack(fibres, axis=1)
    return Kind(_white(gradients, axes, np.array(shares), ndi, odi, truth), axes)


def _white(
    gradients: GradientTable, axes: np.ndarray, shares: np.ndarray, intra: np.ndarray, odi: np.ndarray, truth: str
) -> np.ndarray:
    """Signals (n, n_meas) of populations along axes (n, n_fibres, 3), the same shares in every voxel."""
    fractions = np.tile(shares, (len(axes), 1))
    if truth == "sticks":
        return S0 * simulate_sticks(gradients, axes, fractions, intra, odi)
    return simulate_rows(gradients, axes, fractions, intra, odi, 0, S0, truth=truth)


def _three(a: np.ndarray, b: np.ndarray, c: np.ndarray, angle: float) -> list[np.ndarray]:
    """Three directions, each ``angle`` from the two others."""
    tilt = np.arcsin(np.sin(angle / 2) * 2 / np.sqrt(3))
    around = 2 * np.pi / 3 * np.arange(3)
    return [np.cos(tilt) * a + np.sin(tilt) * (np.cos(t) * b + np.sin(t) * c) for t in around]


def _grey(gradients: GradientTable, count: int, truth: str, rng: np.random.Generator) -> np.ndarray:
    if truth == "sticks":
        return S0 * simulate_grey(gradients, rng.uniform(0.75e-3, 0.95e-3, count))
    axes = _unit(rng.normal(size=(count, 3)))
    return simulate_rows(gradients, axes, 1.0, rng.uniform(0.3, 0.45, count), 1.0, 0, S0_GM, truth=truth)


def _fluid(gradients: GradientTable, count: int, truth: str) -> np.ndarray:
    if truth == "sticks":
        return np.tile(S0 * simulate_fluid(gradients), (count, 1))
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
