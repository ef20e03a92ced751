"""What each way to denoise does to FA, V1, MD and NDI of white matter: the table behind the default of `arcuate run`.

usage: python -m benchmarks.bench_denoise_choice [--small] [--write] [--only PART] [--data FOLDER]
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arcuate.denoise import choose_denoising
from arcuate.dwi import Dwi
from arcuate.gradients import GradientTable
from arcuate.phantom import make_phantom, spread_directions
from arcuate.volumes.resource import InMemoryVolumeResource
from benchmarks.side_by_side import arguments, show, table

DATA = Path(os.environ.get("ARCUATE_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SHAPE, VOXEL = (32, 36, 22), 5.5
SNRS = (10, 20, 40)
METHODS = ("none", "patch2self", "mppca")
SCHEMES: tuple[tuple[int, tuple[tuple[int, int], ...]], ...] = (  # volumes of b=0, then (b, directions)
    (1, ((1000, 6),)),
    (1, ((1000, 12),)),
    (2, ((1000, 20),)),
    (3, ((1000, 32),)),
    (6, ((1000, 64),)),
    (6, ((3000, 64),)),
    (1, ((1000, 6), (2000, 6))),
    (4, ((1000, 15), (2000, 15))),
    (6, ((1000, 30), (2000, 60))),
    (3, ((1000, 10), (2000, 10), (3000, 10))),
    (6, ((1000, 32), (2000, 32), (3000, 64))),
)
REAL_DIRECTIONS = (6, 12, 20, 30)
NOTHING = 5e-4  # differences in rms or mean (relative) below it are none


@dataclass(frozen=True)
class Maps:
    """Maps of white matter (n_vox,); V1 is (n_vox, 3)."""

    fa: np.ndarray
    md: np.ndarray
    v1: np.ndarray
    ndi: np.ndarray | None


@dataclass(frozen=True)
class Errors:
    """How far maps are from the truth: means, and root mean squares over white matter."""

    fa_mean: float
    fa_rms: float
    v1_degrees: float  # mean angle
    md_mean: float  # of 1e-3 mm²/s
    md_rms: float
    ndi_mean: float | None
    ndi_rms: float | None

    def further_than(self, other: Errors) -> list[str]:
        """Names of the measures in which these errors are larger than the other's."""
        names = ("fa_mean", "fa_rms", "v1_degrees", "md_mean", "md_rms", "ndi_mean", "ndi_rms")
        found = []
        for name in names:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is not None and abs(mine) > abs(theirs) + NOTHING:
                found.append(name)
        return found


def maps_of(scan: Dwi, white: np.ndarray) -> Maps:
    """Maps of the voxels of ``white`` (x, y, z) bool; NDI where there are two shells."""
    mask = InMemoryVolumeResource(white.astype(np.uint8), scan.volume.get_affine())
    dti = scan.estimate_dti(mask)
    fa, md = (np.asarray(volume.get_array())[white] for volume in dti.get_fa_md())
    v1 = np.asarray(dti.get_eig()[1].get_array())[white][:, :3]
    ndi = None
    if len(scan.gradients.shells) >= 2:
        ndi = np.asarray(scan.estimate_noddi(mask).ndi.get_array())[white]
    return Maps(fa, md * 1e3, v1, ndi)


def compare(found: Maps, truth: Maps) -> Errors:
    """Errors of maps; of V1 where the true FA is above 0.3."""
    clear = truth.fa > 0.3
    cosine = np.abs((found.v1[clear] * truth.v1[clear]).sum(axis=1))
    ndi = None if found.ndi is None or truth.ndi is None else found.ndi - truth.ndi

    def rms(x: np.ndarray) -> float:
        return float(np.sqrt(np.mean(x**2)))

    return Errors(
        float((found.fa - truth.fa).mean()),
        rms(found.fa - truth.fa),
        float(np.degrees(np.arccos(np.clip(cosine, 0, 1))).mean()),
        float((found.md - truth.md).mean()),
        rms(found.md - truth.md),
        None if ndi is None else float(ndi.mean()),
        None if ndi is None else rms(ndi),
    )


def phantom_cells(shape: tuple[int, int, int], voxel: float) -> Iterator[tuple[str, str, dict[str, Errors], Maps, Dwi]]:
    """Each scheme at each SNR."""
    for n_b0, shells in SCHEMES:
        bvals = np.concatenate([np.zeros(n_b0), *(np.full(n, float(b)) for b, n in shells)])
        directions = [spread_directions(n, k) for k, (_, n) in enumerate(shells)]
        gradients = GradientTable(bvals, np.vstack([np.zeros((n_b0, 3)), *directions]))
        clean = make_phantom(gradients, shape, voxel, snr=None)
        white = clean.tissue[..., 0] > 0.9
        truth = maps_of(Dwi.from_arrays(clean.signal, clean.affine, gradients), white)
        name = f"{n_b0} + " + " + ".join(f"{n} (b={b})" for b, n in shells)
        for snr in SNRS:
            noisy = make_phantom(gradients, shape, voxel, snr=snr)
            scan = Dwi.from_arrays(noisy.signal, noisy.affine, gradients)
            yield f"phantom, {name}", str(snr), errors_of(scan, white, truth), truth, scan


def errors_of(scan: Dwi, white: np.ndarray, truth: Maps) -> dict[str, Errors]:
    """Errors by method; Patch2Self learns from all voxels and MP-PCA from the patches, whatever the mask."""
    found = {}
    mask = InMemoryVolumeResource(white.astype(np.uint8), scan.volume.get_affine())
    for method in METHODS:
        done = scan if method == "none" else scan.denoise(method=method, mask=mask)  # type: ignore[arg-type]
        found[method] = compare(maps_of(done, white), truth)
    return found


def real_cells(data: Path) -> Iterator[tuple[str, str, dict[str, Errors], Maps, Dwi]]:
    """Parts of real scans, each against the whole of it."""
    from arcuate.io import NiftiVolumeResource

    path = data / "canon_dti" / "3000_DTI_PA-ortho_cl.nii.gz"
    if path.is_file():
        scan = Dwi.from_files(path).load()
        brain = np.asarray(scan.extract_brain(method="otsu").get_array()) > 0
        yield from _parts(scan, brain, "canon_dti", [(1, {1500: 8}), (1, {1500: 12})])
    path = data / "mdt_b1k_b2k" / "sub-mdt_dwi.nii.gz"
    if path.is_file():
        scan = Dwi.from_files(path).load()
        brain = np.asarray(NiftiVolumeResource(path.with_name("sub-mdt_mask.nii.gz")).get_array()) >= 0.5
        cuts: list[tuple[int, dict[int, int]]] = [(1, {1000: n}) for n in REAL_DIRECTIONS]
        cuts += [(13, {1000: 30}), (4, {1000: 15, 2000: 30}), (13, {1000: 30, 2000: 60})]
        yield from _parts(scan, brain, "mdt_b1k_b2k", cuts)


def _parts(
    scan: Dwi, brain: np.ndarray, name: str, cuts: Sequence[tuple[int, dict[int, int]]]
) -> Iterator[tuple[str, str, dict[str, Errors], Maps, Dwi]]:
    inside = InMemoryVolumeResource(brain.astype(np.uint8), scan.volume.get_affine())
    white = brain & (np.asarray(scan.estimate_dti(inside).get_fa_md()[0].get_array()) > 0.4)
    truth = maps_of(scan, white)
    gradients = scan.gradients
    for n_b0, shells in cuts:
        chosen = list(np.flatnonzero(gradients.is_b0)[:n_b0])
        for b, n in shells.items():
            shell = next(shell for shell in gradients.shells if abs(shell.b - b) < 50)
            chosen += _spread_part(gradients, np.asarray(shell.indices), n)
        index = np.array(sorted(chosen))
        volume = scan.volume.with_array(np.asfortranarray(scan.volume.get_array()[..., index]))
        part = Dwi.from_arrays(volume.get_array(), volume.get_affine(), gradients.subset(index))
        label = f"{n_b0} + " + " + ".join(f"{n} (b={b})" for b, n in shells.items())
        yield f"{name}, {label}", "", errors_of(part, white, truth), truth, part


def _spread_part(gradients: GradientTable, indices: np.ndarray, n: int) -> list[int]:
    """``n`` of the volumes whose directions determine a tensor well: the best of 300 draws."""
    x, y, z = gradients.directions[indices].T
    design = np.column_stack([x * x, y * y, z * z, x * y, x * z, y * z])
    rng = np.random.default_rng(0)
    draws = [np.sort(rng.choice(len(indices), n, replace=False)) for _ in range(300)]
    best = max(draws, key=lambda draw: float(np.linalg.svd(design[draw], compute_uv=False)[-1]))
    return [int(indices[i]) for i in best]


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the real scans")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    shape, voxel = ((24, 26, 18), 7.0) if given.small else (SHAPE, VOXEL)
    rows = []
    n_worse = dict.fromkeys(("patch2self", "mppca", "taken"), 0)
    n_cells = 0
    for cells in (phantom_cells(shape, voxel), real_cells(given.data)):
        for name, snr, errors, truth, scan in cells:
            n_cells += 1
            taken = choose_denoising(scan.gradients, {}).method
            n_worse["taken"] += bool(errors[taken].further_than(errors["none"]))
            for method in METHODS:
                worse = errors[method].further_than(errors["none"])
                n_worse[method] = n_worse.get(method, 0) + bool(worse)
                row = [
                    name,
                    snr,
                    method + (" (taken)" if method == taken else ""),
                    *_cells(errors[method], truth, worse),
                ]
                rows.append(row)
                print(" | ".join(row), flush=True)
    header = ["scan", "SNR", "denoising", "FA", "rms", "V1 (degrees)", "MD (1e-3)", "rms", "NDI", "rms", "further in"]
    note = (
        "Phantom (white matter above 90 % of a voxel): against the maps of the noise-free scan of the same scheme. "
        "Real scans (voxels with FA above 0.4 in the whole scan): against the whole scan without denoising, so that "
        "the last row of each has no error without denoising by construction. FA, MD and NDI: mean (that of the "
        "truth) and root mean square of the error; V1: mean angle where the true FA is above 0.3. "
        f"Further from the truth than without denoising in at least one measure: Patch2Self {n_worse['patch2self']}, "
        f"MP-PCA {n_worse['mppca']}, the default of `arcuate run` {n_worse['taken']} of {n_cells} cells."
    )
    show("denoise_choice", table("Denoising: what it does to the maps", header, rows, note), write=given.write)


def _cells(errors: Errors, truth: Maps, worse: list[str]) -> list[str]:
    fa, md = truth.fa.mean(), truth.md.mean()
    cells = [f"{fa + errors.fa_mean:.3f} ({fa:.3f})", f"{errors.fa_rms:.3f}", f"{errors.v1_degrees:.2f}"]
    cells += [f"{md + errors.md_mean:.3f} ({md:.3f})", f"{errors.md_rms:.3f}"]
    if errors.ndi_mean is None or errors.ndi_rms is None or truth.ndi is None:
        cells += ["", ""]
    else:
        ndi = truth.ndi.mean()
        cells += [f"{ndi + errors.ndi_mean:.3f} ({ndi:.3f})", f"{errors.ndi_rms:.3f}"]
    return [*cells, ", ".join(name.replace("_", " ") for name in worse)]


if __name__ == "__main__":
    main()
