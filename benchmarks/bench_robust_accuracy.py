"""Errors of FA with dropped-out slices: plain, robust, and the oracle that knows which slices are lost.

usage: python -m benchmarks.bench_robust_accuracy [--small] [--write] [--scan DWI] [--head DWI]
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.dwi import Dwi
from arcuate.gradients import GradientTable
from arcuate.io import NiftiVolumeResource
from arcuate.models.robust_tensor import prepare_robust_tensor
from arcuate.models.tensor import fit_tensor, prepare_tensor, select_volumes
from arcuate.phantom import make_phantom, spread_directions
from arcuate.volumes.resource import InMemoryVolumeResource
from benchmarks.side_by_side import arguments, show, table

SCHEMES: tuple[tuple[Any, ...], ...] = (  # volumes and b of each shell, SNR
    ((3, 0), (30, 1000), 30), ((6, 0), (60, 1000), 20), ((4, 0), (32, 1500), 20), ((2, 0), (20, 1000), 20),
    ((7, 0), (6, 500), (15, 1000), 30), ((2, 0), (12, 1000), 25), ((1, 0), (12, 1500), 25),
)  # fmt: skip
SEEDS = (21, 22, 23, 24)
SHARE, MOST = 0.05, 0.3  # of the slices drop out, to at most this part of their signal
N_HALF = 15  # directions of the real head that are fitted; the others are the reference


@dataclass(frozen=True)
class Case:
    """A clean scan, and FA that is taken as the truth."""

    image: np.ndarray  # (x, y, z, n_meas), the volumes of the tensor alone
    inside: np.ndarray  # (x, y, z) bool
    affine: np.ndarray
    gradients: GradientTable
    truth: np.ndarray  # (n_vox,), in the order of image[inside]

    def fa(self, image: np.ndarray, *, robust: bool = False) -> np.ndarray:
        """(n_vox,) of the step, as `arcuate dti` does it."""
        scan = Dwi.from_arrays(image.astype(np.float32), self.affine, self.gradients)
        mask = InMemoryVolumeResource(self.inside.astype(np.uint8), self.affine)
        return np.asarray(scan.estimate_dti(mask, robust=robust).get_fa_md()[0].get_array())[self.inside]

    def error(self, fa: np.ndarray) -> float:
        """Mean error of FA."""
        return float(np.abs(fa - self.truth).mean())


def lose_slices(case: Case, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The image with some slices dropped out, and which: (z, n_meas) bool; the first b = 0 is spared.

    Where all b = 0 of a slice are lost, nothing tells S0, and FA is gone.
    """
    spared = np.flatnonzero(case.gradients.is_b0)[0]
    volumes = [v for v in range(len(case.gradients)) if v != spared]
    pairs = [(k, v) for k in np.flatnonzero(case.inside.any(axis=(0, 1))) for v in volumes]
    lost = np.zeros((case.image.shape[2], case.image.shape[3]), dtype=bool)
    for p in rng.permutation(len(pairs))[: round(SHARE * len(pairs))]:
        lost[pairs[p]] = True
    factors = np.where(lost, rng.uniform(0, MOST, lost.shape), 1.0)
    return case.image * factors, lost


def fa_of_oracle(case: Case, image: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """FA by WLS of what is not lost: what nobody can do better who leaves volumes out."""
    _, model = prepare_tensor(case.gradients)
    fa = np.zeros(case.inside.shape)
    for k in range(case.inside.shape[2]):
        at = case.inside[:, :, k]
        if at.any():
            kept = ~lost[k]
            fa[at, k] = replace(model, design=model.design[kept]).fit(image[at, k][:, kept]).fa
    return fa[case.inside]


def errors(case: Case, seed: int) -> list[float]:
    """Of WLS on the clean scan; with slices lost, of WLS, the oracle, each voxel alone, the step; of it, clean."""
    image, lost = lose_slices(case, np.random.default_rng(seed))
    alone = prepare_robust_tensor(case.gradients)[1].fit(image[case.inside]).fa
    found = [case.fa(case.image), case.fa(image), fa_of_oracle(case, image, lost), alone,
             case.fa(image, robust=True), case.fa(case.image, robust=True)]  # fmt: skip
    return [case.error(fa) for fa in found]


def ratios(case: Case, seed: int) -> list[float]:
    """The same over the first."""
    first, *rest = errors(case, seed)
    return [error / first for error in rest]


def phantom(seed: int, scheme: tuple[Any, ...], shape: tuple[int, int, int]) -> Case:
    """A head of the phantom; its truth is the fit without noise."""
    *shells, snr = scheme
    vectors = np.vstack([spread_directions(n, seed) * (b > 0) for n, b in shells])
    gradients = GradientTable(np.repeat([float(b) for _, b in shells], [n for n, _ in shells]), vectors)
    noisy, clean = (make_phantom(gradients, shape, 192 / shape[0], snr=s, seed=seed) for s in (snr, None))
    inside = noisy.brain_mask
    truth = fit_tensor(np.asarray(clean.signal)[inside], gradients).fa
    return Case(np.asarray(noisy.signal, dtype=np.float64), inside, noisy.affine, gradients, truth)


def half_of_head(path: Path, seed: int, *, is_apart: bool) -> Case:
    """Some volumes of a real head; the truth is WLS on the others (``is_apart``), or on these and the others."""
    scan = Dwi.from_files(path)
    array = np.asarray(scan.volume.get_array(), dtype=np.float64)
    mask = np.asarray(NiftiVolumeResource(str(path).replace("_dwi", "_mask")).get_array()) > 0
    inside = mask & (array > 0).all(axis=-1)
    volumes, gradients = select_volumes(scan.gradients), scan.gradients
    rng = np.random.default_rng(seed)
    weighted, b0 = (rng.permutation(volumes[gradients.is_b0[volumes] == is_b0]) for is_b0 in (False, True))
    used = np.sort(np.r_[b0[: len(b0) // 2 + 1], weighted[:N_HALF]])
    others = np.setdiff1d(volumes, used) if is_apart else volumes
    truth = fit_tensor(array[inside][:, others], gradients.subset(others)).fa
    return Case(array[..., used], inside, scan.volume.get_affine(), gradients.subset(used), truth)


def whole_head(path: Path) -> Case:
    """A real head whose own WLS fit is the reference: what dropped slices change, not how true it is."""
    scan = Dwi.from_files(path)
    array = np.asarray(scan.volume.get_array(), dtype=np.float64)
    inside = (np.asarray(scan.extract_brain(method="otsu").get_array()) > 0) & (array > 0).all(axis=-1)
    volumes = select_volumes(scan.gradients)
    gradients = scan.gradients.subset(volumes)
    case = Case(array[..., volumes], inside, scan.volume.get_affine(), gradients, np.zeros(0))
    return replace(case, truth=case.fa(case.image))


def in_cells(name: str, per_seed: list[list[float]], digits: int) -> list[str]:
    """A line of the table: means over the seeds, and the largest."""
    cells = [(np.mean(values), max(values)) for values in zip(*per_seed, strict=True)]
    return [name, *(f"{mean:.{digits}f} ({most:.{digits}f})" for mean, most in cells)]


HEADER = (
    "scan",
    "WLS",
    "oracle: lost slices known",
    "robust, each voxel for itself",
    "`--robust`",
    "`--robust`, clean",
)


def main() -> None:
    """Print the tables; with ``--write`` keep them."""
    parser = arguments(__doc__)
    parser.add_argument("--scan", type=Path, help="a real scan with a mask beside it (_mask for _dwi)")
    parser.add_argument("--head", type=Path, help="a real scan of few volumes")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    shape = (16, 16, 12) if options.small else (28, 28, 20)
    lines = []
    for scheme in SCHEMES[:1] if options.small else SCHEMES:
        *shells, snr = scheme
        values = [ratios(phantom(seed, scheme, shape), seed) for seed in SEEDS]
        volumes = ", ".join(f"{n} x b = {b}" for n, b in shells)
        lines.append(in_cells(f"phantom, {volumes}, SNR {snr}", values, 3))
        print(lines[-1], flush=True)
    if options.scan:
        for is_apart, against in ((True, "the 21 others"), (False, "all 43, these among them")):
            values = [ratios(half_of_head(options.scan, seed, is_apart=is_apart), seed) for seed in SEEDS]
            lines.append(in_cells(f"a human head, 22 of 43 volumes of b = 0 and 1000, against {against}", values, 3))
    text = table(
        f"Error of FA with {100 * SHARE:.0f} % of the slices dropped out, over that of WLS on the clean scan",
        HEADER, lines,
        f"Slices keep 0 to {MOST} of their signal. {len(SEEDS)} seeds each: mean (worst). The first b = 0 is whole. "
        "Truth: the phantom's fit without noise; WLS on other volumes of the human head.",
    )  # fmt: skip
    if options.head:
        case = whole_head(options.head)
        name = f"a human head, {len(case.gradients)} volumes, {int(case.inside.sum())} voxels"
        text += "\n" + table(
            "Mean difference of FA to WLS on the clean scan, 5 % of the slices dropped out",
            HEADER, [in_cells(name, [errors(case, seed)[1:] for seed in SEEDS], 4)],
        )  # fmt: skip
    show("robust_tensor_accuracy", text, write=options.write)


if __name__ == "__main__":
    main()
