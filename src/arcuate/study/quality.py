"""What a scan is, and what looks wrong with it, before any time is spent on it."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from arcuate.errors import InputError, InputWarning, of_one_cause
from arcuate.gradients import NO_B0, GradientTable, image_to_scanner
from arcuate.masks import otsu_mask
from arcuate.models.status import Status
from arcuate.models.tensor import TensorFit, fit_tensor, select_volumes, tensor_design
from arcuate.numerics.sphere import distinct_directions
from arcuate.study.coherence import Coherence, fibre_coherence
from arcuate.study.outliers import Outlier, find_outliers
from arcuate.volumes.geometry import axis_codes, voxel_size
from arcuate.volumes.scale_steps import find_parts, scale_doubts
from arcuate.volumes.scan import mean_of_volumes
from arcuate.volumes.signals import empty_doubt, find_empty, order_doubts
from arcuate.volumes.voxels import check_mask, map_volumes

if TYPE_CHECKING:
    from arcuate.dwi import Dwi
    from arcuate.volumes.resource import VolumeResource

HOLE = 1.75  # a gap in the directions this many times that of an even set is reported
BALANCE = 0.5  # a ratio of the extents of the directions below it is reported
EVEN_HOLE = 2.2  # the largest hole among n even lines is about 2.2 / sqrt(n) rad (1.6 to 2.3 on scanners' sets)
RIM = 0.075  # of the brain's radius, where fibres are not looked at: 5 mm of a human brain, 0.4 mm of a mouse's
ENOUGH = 20_000  # voxels whose median residual tells the noise


@dataclass(frozen=True)
class ShellFacts:
    """One shell: what its directions cover."""

    b: float  # mean, s/mm²
    n_volumes: int
    n_directions: int  # distinct lines
    largest_hole: float  # degrees from the emptiest line to the nearest direction
    balance: float  # smallest over largest eigenvalue of the mean of g gᵀ; 1 is even


@dataclass(frozen=True)
class ScanReport:
    """Facts of a scan and the doubts that they raise."""

    shape: tuple[int, ...]
    voxel_size: tuple[float, float, float]  # mm
    orientation: str  # where the axes of the array point, such as LAS
    obliquity: float  # degrees between the axes of the image and those of the scanner
    determinant_sign: int
    n_b0: int
    shells: tuple[ShellFacts, ...]
    snr_b0: float | None = None
    snr_from: str | None = None  # what the noise was taken from
    n_masked: int | None = None
    n_not_finite: int | None = None
    n_negative: int | None = None
    outliers: tuple[Outlier, ...] = ()
    neighbour_correlation: float | None = None  # see correlate_neighbours
    coherence: Coherence | None = None
    doubts: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """The report as plain numbers, strings, lists and dicts."""
        facts = asdict(self)
        if self.coherence is not None:
            facts["coherence"] |= {"best": self.coherence.best, "is_decided": self.coherence.is_decided}
        return facts


def inspect_scan(dwi: Dwi, mask: VolumeResource | None = None, *, header_only: bool = False) -> ScanReport:
    """Report on a scan.

    Parameters
    ----------
    dwi : the scan
    mask : brain; by default Otsu's on the mean of the b=0 volumes (of the lowest shell without any)
    header_only : leave out what needs the voxels

    Raises
    ------
    InputError
        The scan cannot be read, or its gradients do not fit it.
    """
    doubts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        gradients = dwi.gradients
        shells = _describe_shells(gradients, doubts)
        facts = _describe_geometry(dwi) | {"n_b0": int(gradients.is_b0.sum()), "shells": shells}
        if facts["n_b0"] == 0:
            doubts.append(f"{NO_B0}: most models need one (or raise --b0-threshold)")
        if not header_only:
            facts |= _describe_voxels(dwi, gradients, mask, doubts)
    doubts = of_one_cause([*(str(w.message) for w in caught if w.category is InputWarning), *doubts])
    return ScanReport(**facts, doubts=tuple(doubts))


def _describe_geometry(dwi: Dwi) -> dict[str, Any]:
    affine = dwi.volume.get_affine()
    axes = affine[:3, :3] / voxel_size(affine)
    return {
        "shape": tuple(dwi.volume.shape),
        "voxel_size": tuple(round(size, 4) for size in voxel_size(affine)),
        "orientation": axis_codes(affine),
        "obliquity": float(np.degrees(np.arccos(np.clip(np.abs(axes).max(axis=0).min(), -1, 1)))),
        "determinant_sign": int(np.sign(np.linalg.det(affine[:3, :3]))),
    }


def _describe_shells(gradients: GradientTable, doubts: list[str]) -> tuple[ShellFacts, ...]:
    try:
        shells = gradients.shells
    except InputError as error:
        doubts.append(str(error))
        return ()
    found = tuple(describe_directions(gradients.directions[s.indices], s.b) for s in shells)
    for shell in found:
        name = f"b={shell.b:.0f}"
        if shell.n_directions < 6:
            doubts.append(f"{name} has {shell.n_directions} distinct directions; a tensor needs 6")
        elif shell.balance < BALANCE:
            doubts.append(f"the directions of {name} lie to one side of space (balance {shell.balance:.2f}; even is 1)")
        elif np.radians(shell.largest_hole) > HOLE * EVEN_HOLE / np.sqrt(shell.n_directions):
            doubts.append(f"the directions of {name} leave a hole of {shell.largest_hole:.0f} degrees")
    if not found:
        doubts.append("there is no weighted volume: every b-value is at or below the b=0 threshold")
    return found


def describe_directions(directions: np.ndarray, b: float) -> ShellFacts:
    """Coverage of unit vectors (n, 3), a vector and its opposite taken as one."""
    lines = directions[distinct_directions(directions)]
    nearest = np.abs(_even_points(2000) @ lines.T).max(axis=1)
    extents = np.linalg.eigvalsh(lines.T @ lines / len(lines))
    return ShellFacts(
        b=float(b),
        n_volumes=len(directions),
        n_directions=len(lines),
        largest_hole=float(np.degrees(np.arccos(np.clip(nearest.min(), 0, 1)))),
        balance=float(max(0.0, extents[0]) / extents[2]),
    )


def _even_points(n: int) -> np.ndarray:
    """(n, 3): a spiral over the half sphere."""
    z = (np.arange(n) + 0.5) / n
    turn = np.pi * (1 + np.sqrt(5)) * np.arange(n)
    r = np.sqrt(1 - z * z)
    return np.column_stack([r * np.cos(turn), r * np.sin(turn), z])


def _describe_voxels(
    dwi: Dwi, gradients: GradientTable, mask: VolumeResource | None, doubts: list[str]
) -> dict[str, Any]:
    array = dwi.volume.get_array()
    affine = dwi.volume.get_affine()
    try:
        inside = _brain_of(dwi) if mask is None else check_mask(dwi.volume, mask)
    except InputError as error:
        if mask is not None:
            raise
        doubts.append(f"no brain was found, so that its voxels were not checked: {error}")
        _doubt_empty(dwi, find_empty(array, np.ones(array.shape[:3], dtype=bool)), doubts)
        return {}
    of_scale = scale_doubts(find_parts(array, gradients, dwi.origin.get("Parts", ())))
    doubts += of_scale or order_doubts(array, inside, gradients, dwi.origin)
    bad, negative = _count_bad(array, inside)
    if bad:
        doubts.append(f"{bad} values in the brain are not finite")
    if negative > 0.001 * int(inside.sum()) * array.shape[3]:
        doubts.append(f"{negative} values in the brain are negative: was the scan interpolated or rescaled?")
    empty = find_empty(array, inside)
    _doubt_empty(dwi, empty, doubts)
    outliers = find_outliers(array, inside, gradients, empty)
    odd = sorted({o.volume for o in outliers} - set(empty))
    if odd:
        listed = ", ".join(map(str, odd[:8])) + (" ..." if len(odd) > 8 else "")
        doubts.append(f"signal drops or jumps in volumes {listed} ({len(odd)}, counted from 0); was eddy run?")
    snr, source = estimate_snr(array, inside, gradients, empty), "differences of b=0 volumes"
    coherence = None
    try:
        volumes = np.asarray(select_volumes(gradients))
    except InputError as error:
        doubts.append(f"no tensor, so no check of the b-vectors: {error}")
    else:
        rows = np.stack([array[..., i][inside] for i in volumes], axis=1)
        fit = fit_tensor(rows, gradients.subset(volumes))
        coherence = _coherence_of(fit, inside, affine, doubts)
        if snr is None:
            snr, source = _snr_of_residuals(rows, fit, gradients.subset(volumes)), "residuals of the tensor"
            source += "" if gradients.is_b0.any() else ", its signal at b=0 extrapolated"
    if snr is not None and snr < 10:
        doubts.append(f"the SNR on b=0 is {snr:.1f}; below 10 fits are biased by the noise floor, whatever the method")
    return {
        "snr_b0": snr,
        "snr_from": None if snr is None else source,
        "n_masked": int(inside.sum()),
        "n_not_finite": bad,
        "n_negative": negative,
        "outliers": outliers,
        "neighbour_correlation": correlate_neighbours(array, inside, gradients),
        "coherence": coherence,
    }


def _doubt_empty(dwi: Dwi, empty: list[int], doubts: list[str]) -> None:
    if empty:
        doubts.append(empty_doubt(empty, dwi.volume.shape[3], dwi.origin))


def _brain_of(dwi: Dwi) -> np.ndarray:
    """Otsu's mask of the mean of the b = 0 volumes, or of the lowest b there is."""
    mean = mean_of_volumes(dwi, dwi.gradients.least_weighted)
    inside = otsu_mask(mean, voxel_size(dwi.volume.get_affine()))
    if not inside.any():
        raise InputError("found no voxel of a brain in the scan; check the image, or give a mask with --mask.")
    return inside


def _count_bad(array: np.ndarray, inside: np.ndarray) -> tuple[int, int]:
    """Values inside that are not finite, and that are negative."""
    counts = map_volumes(array, inside, lambda v: (np.count_nonzero(~np.isfinite(v)), np.count_nonzero(v < 0)))
    bad, negative = np.sum(counts, axis=0, dtype=int)
    return int(bad), int(negative)


def _median_of_chi2(freedom: int) -> float:
    """Median of a chi-squared distribution; scipy.stats, which has it too, takes a second to import."""
    return 2.0 * float(scipy.special.gammaincinv(0.5 * freedom, 0.5))


def estimate_snr(array: np.ndarray, inside: np.ndarray, gradients: GradientTable, empty: list[int]) -> float | None:
    """Median signal over noise of one b=0 volume, from the differences between b=0 volumes; None with one.

    The noise is that of the median voxel, so that drifts and pulsation in part of the brain count little. ``empty``
    volumes are left out.
    """
    index = np.setdiff1d(np.flatnonzero(gradients.is_b0), empty)
    if len(index) < 2:
        return None
    rows = np.stack([array[..., i][inside] for i in index], axis=1).astype(np.float64)
    rows = rows[np.isfinite(rows).all(axis=1) & (rows != 0).any(axis=1)]  # 0 throughout: outside a stripped skull
    if not len(rows):
        return None
    rows = rows * (np.median(rows) / np.maximum(np.median(rows, axis=0), 1e-30))  # volumes may drift in scale
    n = len(index)
    noise = np.sqrt(np.median(rows.var(axis=1, ddof=1)) / (_median_of_chi2(n - 1) / (n - 1)))
    return float(np.median(rows.mean(axis=1)) / noise) if noise > 0 else None


def correlate_neighbours(array: np.ndarray, inside: np.ndarray, gradients: GradientTable) -> float | None:
    """Mean correlation, over the brain, of each weighted volume with that of the nearest direction of its shell.

    Noise, motion and dropouts lower it: a number by which scans of one protocol are compared. None without a shell of
    two volumes.

    References
    ----------
    Yeh et al., Differential tractography as a track-based biomarker for neuronal injury. NeuroImage 202, 2019.
    """
    index = np.argwhere(inside)
    index = index[:: -(-len(index) // ENOUGH)]
    unit = np.nan_to_num(array[tuple(index.T)].astype(np.float32), posinf=0, neginf=0)  # (n_vox, n_meas)
    unit -= unit.mean(axis=0)
    length = np.linalg.norm(unit, axis=0)
    unit /= np.where(length > 0, length, 1)
    found: list[float] = []
    for shell in gradients.levels:
        if shell.b <= gradients.b0_threshold or len(shell.indices) < 2:
            continue
        volumes = np.asarray(shell.indices)
        near = np.abs(gradients.directions[volumes] @ gradients.directions[volumes].T)
        np.fill_diagonal(near, -1)
        found += np.sum(unit[:, volumes] * unit[:, volumes[near.argmax(axis=1)]], axis=0).tolist()
    return float(np.mean(found)) if found else None


def _snr_of_residuals(rows: np.ndarray, fit: TensorFit, gradients: GradientTable) -> float | None:
    """Median S0 over the noise that a tensor leaves unexplained; a little low where a tensor is too simple."""
    freedom = rows.shape[1] - 7
    ok = np.flatnonzero((fit.status == Status.FITTED) & (fit.s0 > 0))
    if freedom < 3 or not ok.size:
        return None
    ok = ok[:: -(-ok.size // ENOUGH)]
    coefs = np.column_stack([fit.tensors[ok], np.log(fit.s0[ok])])
    residuals = rows[ok] - np.exp(coefs @ tensor_design(gradients.bvals, gradients.directions).T)
    variance = (residuals**2).sum(axis=1) / freedom
    noise = np.sqrt(np.median(variance) / (_median_of_chi2(freedom) / freedom))
    return float(np.median(fit.s0[ok]) / noise) if noise > 0 else None


def _coherence_of(fit: TensorFit, inside: np.ndarray, affine: np.ndarray, doubts: list[str]) -> Coherence:
    sizes = voxel_size(affine)
    radius = np.sqrt(inside.sum(axis=(0, 1)).max() * sizes[0] * sizes[1] / np.pi)  # mm, of the largest slice
    n_rim = round(RIM * radius / min(sizes[:2]))
    # the rim of the brain is full of false anisotropy; not eroded along z, where a slab has few slices
    core = scipy.ndimage.binary_erosion(inside, np.ones((3, 3, 1)), iterations=n_rim) if n_rim else inside
    fa = np.zeros(inside.shape)
    fa[inside] = fit.fa
    fa[~core] = 0
    directions = np.zeros((*inside.shape, 3))
    directions[inside] = fit.evecs[:, 0] @ image_to_scanner(affine)
    if np.linalg.det(affine[:3, :3]) > 0:  # the file's x runs against the array's: so that names are those of the file
        fa, directions = fa[::-1], directions[::-1]
    coherence = fibre_coherence(directions, fa, sizes)
    if coherence.is_suspect:
        doubts.append(
            f"fibres are {100 * (coherence.ratio - 1):.0f} % more coherent with the b-vectors written as "
            f"'{coherence.best}' (instead of 'x y z'): check how they were converted"
        )
    return coherence
