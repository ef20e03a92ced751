"""Orientations of real scans: halves of the directions against each other, and one head in three obliquities."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from arcuate.dwi import Dwi
from arcuate.errors import InputWarning
from arcuate.gradients import GradientTable
from arcuate.models.multitissue import MultiTissueModel, make_multi_tissue_model, total_fibre_density
from arcuate.models.peak_rule import HARD
from arcuate.models.peaks import find_peaks
from arcuate.models.response import Response
from arcuate.models.response_dhollander import TWO_TISSUES, estimate_tissues
from arcuate.models.second_pass import Sharpening, make_two_pass_model, sure_settings
from arcuate.models.three_tissue import ThreeTissueModel, make_three_tissue_model
from benchmarks.fod_peers import fit_by_mrtrix, has_mrtrix, peer_folder
from benchmarks.side_by_side import arguments, show, table

DATA = Path(os.environ.get("ARCUATE_DATA", Path(__file__).parents[2] / "shared" / "data"))
CANON = ("3000_DTI_PA-ortho_cl", "5000_DTI_PA-SAG_20d_cl", "11000_SAG_DTI_PA-ALL_20d_cl")
ONE, TERM, BOTH = "one pass", "the smooth first pass alone", "two passes"
STRICT, CERTAIN = "two passes, 0.005 of spread unexplained", "one pass and a sure second"


class Found(NamedTuple):
    """Peaks and fibre density of rows of signals."""

    directions: np.ndarray  # (n, 5, 3)
    count: np.ndarray  # (n,)
    afd: np.ndarray  # (n,)


class Agreement(NamedTuple):
    """How two fits of the same voxels agree."""

    first: float  # degrees, median between the strongest peaks
    second: float  # degrees, median between the second peaks of voxels where both have two
    equal: float  # % of voxels with as many peaks
    afd: float  # correlation of fibre density
    peaks: float  # per voxel


def main() -> None:
    """Print both tables."""
    parser = arguments(__doc__)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--count", type=int, default=1500, help="voxels of the mask, chosen at random; 0 for all")
    parser.add_argument("--no-peers", action="store_true", help="without MRtrix3")
    options = parser.parse_args()
    warnings.simplefilter("ignore", InputWarning)
    count = 200 if options.small else options.count
    peers = has_mrtrix() and not options.no_peers
    tables = [table_of_halves(shells, options.splits, count, peers=peers) for shells in ((1000, 2000), (2000,))]
    show("fod_real", "\n".join([*tables, table_of_tilts(count)]), write=options.write)


def table_of_halves(shells: tuple[int, ...], n_splits: int, count: int, *, peers: bool) -> str:
    """Halves of the directions of a human scan, all of its shells or one; the response is that of all volumes."""
    folder = DATA / "mdt_b1k_b2k"
    scan = Dwi.from_files(folder / "sub-mdt_dwi.nii.gz")
    inside = np.asarray(nib.load(folder / "sub-mdt_mask.nii.gz").dataobj) > 0
    gradients = scan.gradients
    near = np.abs(gradients.bvals[:, None] - np.array(shells)).min(axis=1) < 100
    volumes = np.flatnonzero(gradients.is_b0 | near)
    rows, gradients = scan.volume.get_array()[inside][:, volumes], gradients.subset(volumes)
    response, _ = estimate_tissues(rows, gradients, lmax=8)
    chosen = np.random.default_rng(0).permutation(len(rows))[: count or None]
    rows = np.ascontiguousarray(rows[np.sort(chosen)])
    results: dict[str, list[Agreement]] = {}
    for split in range(n_splits):
        halves = [gradients.subset(half) for half in _halves(gradients, split)]
        fits: dict[str, list[Found]] = {}
        for half, table_of_half in zip(_halves(gradients, split), halves, strict=True):
            for name, found in _fit_all(rows[:, half], table_of_half, response, peers=peers).items():
                fits.setdefault(name, []).append(found)
        for name, (a, b) in fits.items():
            results.setdefault(name, []).append(_compare(a, b))
    header = ["method", "first peaks", "second peaks", "equal number", "peaks per voxel", "correlation of density"]
    note = (
        f"Human scan of 13 b=0, 30 directions at b=1000 and 60 at b=2000, {len(rows)} voxels of the mask, mean of "
        f"{n_splits} splits (standard deviation over splits). Degrees, medians over voxels where both halves have a "
        "peak, for second peaks where both have two; the default rule of peaks. Half of the directions, so that all "
        "methods have half of what the scan gives."
    )
    title = f"Halves of a human scan, {' and '.join(map(str, shells))} s/mm²"
    return table(title, header, [[name, *_cells(found)] for name, found in results.items()], note)


def table_of_tilts(count: int) -> str:
    """One head scanned three times with other obliquities: white matter and fluid, 12 directions at b=1500."""
    heads = []
    for name in CANON:
        scan = Dwi.from_files(DATA / "canon_dti" / f"{name}.nii.gz")
        heads.append((scan, np.asarray(scan.extract_brain(method="otsu").get_array()) > 0))
    reference, inside = heads[0]
    places = np.argwhere(inside)
    fits: list[dict[str, Found]] = []
    kept = np.ones(len(places), bool)
    rows = []
    for scan, mask in heads:
        to_voxel = np.linalg.inv(scan.volume.get_affine()) @ reference.volume.get_affine()
        where = np.rint(nib.affines.apply_affine(to_voxel, places)).astype(int)
        kept &= np.all((where >= 0) & (where < mask.shape), axis=1)
        where[~kept] = 0
        kept &= mask[tuple(where.T)]
        rows.append(scan.volume.get_array()[tuple(where.T)])
    chosen = np.flatnonzero(kept)
    chosen = np.sort(np.random.default_rng(0).permutation(chosen)[: 4 * count or None])
    for (scan, mask), signals in zip(heads, rows, strict=True):
        response, _ = estimate_tissues(scan.volume.get_array()[mask], scan.gradients, TWO_TISSUES, lmax=8)
        fits.append(_fit_all(signals[chosen], scan.gradients, response, peers=False))
    lines = []
    for name in fits[0]:
        found = [_compare(fits[0][name], fits[k][name]) for k in (1, 2)]
        lines.append([name, *_cells(found)])
    header = ["method", "first peaks", "second peaks", "equal number", "peaks per voxel", "correlation of density"]
    note = (
        f"A head at 3 mm, 12 directions at b=1500 and one b=0, {len(chosen)} voxels, two tilted scans against the "
        "first by the nearest voxel in the scanner, without registration: mean (standard deviation over the two). "
        "Twelve directions carry no three tissues; white matter and fluid with a hard constraint and degree 8 stand in "
        "for them, which `arcuate run` would not choose here."
    )
    return table("One head in three obliquities", header, lines, note)


def _halves(gradients: GradientTable, split: int) -> list[np.ndarray]:
    """Volumes of two halves of every shell and of b = 0."""
    rng = np.random.default_rng(split)
    parts: list[list[np.ndarray]] = [[], []]
    for group in [np.flatnonzero(gradients.is_b0), *(shell.indices for shell in gradients.shells)]:
        mixed = rng.permutation(group)
        parts[0].append(mixed[: len(mixed) // 2])
        parts[1].append(mixed[len(mixed) // 2 :])
    return [np.sort(np.concatenate(part)) for part in parts]


def _fit_all(signals: np.ndarray, gradients: GradientTable, response: Response, *, peers: bool) -> dict[str, Found]:
    """One pass, its smooth version where there is one, two passes, and MRtrix3's with the same response."""
    is_one_shell = len(gradients.shells) == 1 and len(response.tissues) == 3
    model: MultiTissueModel | ThreeTissueModel
    if is_one_shell:
        model = make_three_tissue_model(gradients, response, lmax=8)
    else:
        model = make_multi_tissue_model(gradients, response, lmax=8)
    both = make_two_pass_model(model)
    strict = make_two_pass_model(model, settings=Sharpening(unexplained=0.005))
    sure = make_two_pass_model(model, settings=sure_settings(model))
    models = {ONE: model, CERTAIN: sure, BOTH: both}
    if not is_one_shell:
        models |= {TERM: both.first, STRICT: strict}
    fods = {name: each.fit(signals[:, each.volumes]).coefs[0] for name, each in models.items()}
    if peers:
        tissues = (response.tissues[0], response.tissues[-1]) if is_one_shell else response.tissues
        with peer_folder(signals.astype(np.float32), gradients, response) as folder:
            fods[f"MRtrix3 msmt_csd, {len(tissues)} tissues"] = fit_by_mrtrix(folder, response, tissues, 8)
    out = {}
    for name, coefs in fods.items():
        peaks = find_peaks(coefs, n_peaks=5, **HARD._asdict())
        out[name] = Found(peaks.directions, np.count_nonzero(peaks.values, axis=1), total_fibre_density(coefs))
    return out


def _compare(a: Found, b: Found) -> Agreement:
    has = (a.count > 0) & (b.count > 0)
    two = (a.count > 1) & (b.count > 1)
    return Agreement(
        _median_angle(a.directions[has, 0], b.directions[has, 0]),
        _median_angle(a.directions[two, 1], b.directions[two, 1]),
        100 * float(np.mean(a.count[has] == b.count[has])),
        float(np.corrcoef(a.afd, b.afd)[0, 1]),
        float(np.concatenate([a.count[has], b.count[has]]).mean()),
    )


def _median_angle(a: np.ndarray, b: np.ndarray) -> float:
    cosine = np.clip(np.abs(np.sum(a * b, axis=1)), 0, 1)
    return float(np.median(np.degrees(np.arccos(cosine)))) if len(a) else np.nan


def _cells(found: list[Agreement]) -> list[str]:
    means, spread = Agreement(*np.mean(found, axis=0)), Agreement(*np.std(found, axis=0))
    return [
        f"{means.first:.2f} ({spread.first:.2f})",
        f"{means.second:.2f} ({spread.second:.2f})",
        f"{means.equal:.1f} % ({spread.equal:.1f})",
        f"{means.peaks:.2f}",
        f"{means.afd:.4f} ({spread.afd:.4f})",
    ]


if __name__ == "__main__":
    sys.exit(main())
