"""Multi-tissue constrained spherical deconvolution (Jeurissen 2014): one to three tissues, any shells."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from arcuate.errors import InputError, NotApplicable, warn
from arcuate.gradients import SHELL_GAP, GradientTable
from arcuate.models.csd import MAX_LMAX, zonal_to_rotational
from arcuate.models.response import Response
from arcuate.models.response_checks import check_response
from arcuate.models.status import Status
from arcuate.numerics.qp import ConeProblem
from arcuate.numerics.qp_kernel import NOT_CONVERGED, SOLVED
from arcuate.numerics.sh import degrees_and_orders, n_coefs, sh_matrix
from arcuate.numerics.sphere import count_directions, get_even_directions

DEFAULT_LMAX = 8
SUM_OF_TISSUES = 1 / math.sqrt(4 * math.pi)  # 0.28209479: coefficient of a tissue that fills its voxel
N_DIRECTIONS = 300  # where FODs are held non-negative, as many as in the published method
RIDGE = 3e-3  # of each column's length, 1e-5 of the Hessian, where directions are too few: less stops in some voxels
ILL_CONDITIONED = 1e8  # ratio of singular values above which the signals do not determine the tissues


@dataclass(frozen=True)
class MultiTissueFit:
    """Tissues of ``n_vox`` voxels."""

    coefs: tuple[np.ndarray, ...]  # one (n_vox, n_coef) float64 per tissue, MRtrix3's basis, frame of the gradients
    status: np.ndarray  # (n_vox,) uint8, see Status
    kkt_residual: np.ndarray  # (n_vox,) float64, see ConeProblem.solve; 0 where nothing was fitted
    n_active: np.ndarray  # (n_vox,) int, directions and tissues that the constraint holds at zero


@dataclass(frozen=True)
class MultiTissueModel:
    """Multi-tissue CSD, prepared for a scan.

    Minimises |Xu - s|² subject to Au >= 0: u holds the spherical harmonics of each tissue one after the other,
    X the signal of each, A the amplitudes of the FODs on the constraint directions and of the isotropic tissues.

    References
    ----------
    Jeurissen, Tournier, Dhollander, Connelly, Sijbers 2014, NeuroImage 103:411.
    """

    problem: ConeProblem
    volumes: np.ndarray  # (n_meas,) int, volumes of the scan that the model sees
    lmax: tuple[int, ...]  # of each tissue

    def fit(self, signals: np.ndarray) -> MultiTissueFit:
        """Tissues of signals (n_vox, n_meas), the volumes of ``self.volumes`` in that order."""
        signals = np.asarray(signals)
        if signals.dtype not in (np.float32, np.float64):
            signals = signals.astype(np.float64)
        if signals.shape[1] != len(self.volumes):
            raise InputError(f"found {signals.shape[1]} signals per voxel; the model takes {len(self.volumes)}.")
        is_finite = np.isfinite(signals).all(axis=1)
        has_signal = (signals > 0).any(axis=1)
        if not is_finite.all():
            signals = np.where(is_finite[:, None], signals, 0)
        fit = self.problem.solve(signals)
        status = np.full(len(signals), int(Status.NO_SIGNAL), np.uint8)
        status[fit.outcome == SOLVED] = Status.FITTED
        status[fit.outcome == NOT_CONVERGED] = Status.NOT_CONVERGED
        status[~has_signal] = Status.NO_SIGNAL
        status[~is_finite] = Status.NOT_FINITE
        is_empty = (status == Status.NO_SIGNAL) | (status == Status.NOT_FINITE)
        solution = np.where(is_empty[:, None], 0.0, fit.solution)
        ends = np.cumsum([n_coefs(lmax) for lmax in self.lmax])
        coefs = tuple(np.ascontiguousarray(part) for part in np.split(solution, ends[:-1], axis=1))
        return MultiTissueFit(coefs, status, np.where(is_empty, 0.0, fit.kkt_residual), fit.n_active)


def fit_multi_tissue(
    signals: np.ndarray,
    gradients: GradientTable,
    response: Response,
    *,
    lmax: int | None = None,
    constraint_directions: np.ndarray | None = None,
) -> MultiTissueFit:
    """Tissues of each voxel by multi-tissue CSD; see :func:`make_multi_tissue_model` for the parameters.

    Parameters
    ----------
    signals : (n_vox, n_meas) float, one row per voxel, all volumes
    """
    model = make_multi_tissue_model(gradients, response, lmax=lmax, constraint_directions=constraint_directions)
    return model.fit(np.asarray(signals)[:, model.volumes])


def make_multi_tissue_model(
    gradients: GradientTable,
    response: Response,
    *,
    lmax: int | None = None,
    constraint_directions: np.ndarray | None = None,
) -> MultiTissueModel:
    """Model of a scan for the tissues of a response.

    Parameters
    ----------
    response : one to three tissues; its shells must be those of the scan
    lmax : even degree of the FODs, at most 12
        By default what was asked for with the response, else the degree of the response, at most 8 and what the
        directions of all shells carry.
    constraint_directions : (n_dir, 3) float, where FODs are held non-negative, frame of ``gradients``;
        by default 300 on a half sphere, 8 to 9 degrees apart

    Raises
    ------
    InputError
        Shells that differ, more tissues than b-values, a degree above that of the response, a
        response that cannot be a tissue's.
    """
    check_response(response)
    _check_tissues(response)
    lmax = response.lmax if lmax is None else lmax
    volumes, rows = match_shells(gradients, response)
    degrees = _choose_degrees(response, lmax)
    if lmax is None:
        degrees = _lowered_to_directions(gradients, volumes, degrees)
    table = gradients.subset(volumes)
    design = forward_matrix(table, response.coefs, rows, degrees)
    while (
        not (is_carried := is_determined(design))
        and lmax is None
        and max(degrees) > 2
        and _has_distinct_means(design, degrees)
    ):
        degrees = tuple(min(degree, max(degrees) - 2) for degree in degrees)  # as many directions, but badly spread
        design = forward_matrix(table, response.coefs, rows, degrees)
    constraints = constraint_matrix(degrees, constraint_directions)
    lengths = np.linalg.norm(design, axis=0)
    if not _has_distinct_means(design, degrees):  # the mean of each tissue must be determined in any case
        raise NotApplicable(
            f"the signals of {len(design)} volumes do not determine the {design.shape[1]} unknowns of the tissues "
            f"{', '.join(response.tissues)} with lmax {max(degrees)}: two responses are alike, or the degree is too "
            "high for the directions. Lower lmax, or leave out a tissue."
        )
    is_super_resolved = _is_super_resolved(gradients, volumes, degrees, is_carried=is_carried)
    penalty = np.diag(RIDGE * lengths) if is_super_resolved else None
    return MultiTissueModel(ConeProblem(design, constraints, penalty), volumes, degrees)


def match_shells(gradients: GradientTable, response: Response) -> tuple[np.ndarray, np.ndarray]:
    """Volumes (n,) int that the response describes, and the row of the response for each of them, (n,) int.

    Raises
    ------
    InputError
        The scan has a shell that the response lacks, or the other way round.
    """
    if np.any(np.isnan(response.bvals)):
        raise InputError(
            "the response does not say which shells its rows belong to; add the line '# Shells: ...' at the top of its "
            "file, as dwi2response does."
        )
    is_b0 = response.bvals <= gradients.b0_threshold
    rows = np.full(len(gradients), -1)
    used = []
    for row in np.flatnonzero(~is_b0):
        b = response.bvals[row]
        shell = min(gradients.shells, key=lambda shell: abs(shell.b - b), default=None)
        if shell is not None and abs(shell.b - b) <= SHELL_GAP and _is_nearest(int(row), response.bvals, shell.b):
            rows[shell.indices] = row
            used.append(row)
    missing = [f"{s.b:.0f}" for s in gradients.shells if np.all(rows[s.indices] < 0)]
    extra = [f"{response.bvals[row]:.0f}" for row in np.flatnonzero(~is_b0) if row not in used]
    if missing or extra or is_b0.sum() > 1:
        ours = ", ".join(f"{b:.0f}" for b in (response.bvals[~is_b0] if is_b0.sum() < 2 else response.bvals)) or "none"
        scan = ", ".join(f"{s.b:.0f}" for s in gradients.shells) or "none"
        raise InputError(
            f"the response was made on the shells {ours} s/mm², the scan has {scan}; multi-tissue CSD takes all "
            f"shells, with a response for each. {_remedy_of_shells(response, gradients)}"
        )
    if is_b0.any():
        rows[gradients.is_b0] = np.flatnonzero(is_b0)[0]
    volumes = np.flatnonzero(rows >= 0)
    return volumes, rows[volumes]


def _is_nearest(row: int, bvals: np.ndarray, b: float) -> bool:
    """Whether no other row of the response is nearer to the shell ``b``."""
    return bool(np.argmin(np.abs(bvals - b)) == row)


def _remedy_of_shells(response: Response, gradients: GradientTable) -> str:
    if response.b0_threshold != gradients.b0_threshold:
        return (
            f"It was made with --b0-threshold {response.b0_threshold:g}, the scan is read with "
            f"{gradients.b0_threshold:g}: give the same to both."
        )
    low = response.bvals[response.bvals <= gradients.b0_threshold]
    if len(low) > 1:
        return f"Lower --b0-threshold below {low[1]:g} s/mm², or estimate the response on this scan."
    return "Estimate the response on this scan, or take the other volumes out."


def forward_matrix(
    gradients: GradientTable, tables: tuple[np.ndarray, ...], rows: np.ndarray, degrees: tuple[int, ...]
) -> np.ndarray:
    """(n_meas, n) signal of each measurement per coefficient of each tissue.

    Parameters
    ----------
    tables : one (n_shell, n_zonal) array of zonal coefficients per tissue
    rows : (n_meas,) int, the shell of each measurement
    """
    blocks = []
    is_b0 = gradients.is_b0
    for table, lmax in zip(tables, degrees, strict=True):
        degree, _ = degrees_and_orders(lmax)
        rotational = np.stack([zonal_to_rotational(zonal)[degree // 2] for zonal in table])[rows]
        rotational[np.ix_(is_b0, degree > 0)] = 0.0
        blocks.append(sh_matrix(gradients.directions, lmax) * rotational)
    return np.concatenate(blocks, axis=1)


def constraint_matrix(degrees: tuple[int, ...], directions: np.ndarray | None = None) -> np.ndarray:
    """(n_con, n) rows that must not be negative: amplitudes on the directions, and isotropic tissues."""
    if directions is None:
        directions = get_even_directions(N_DIRECTIONS)
    directions = np.atleast_2d(np.asarray(directions, dtype=np.float64))
    if directions.ndim != 2 or directions.shape[1] != 3 or not np.all(np.linalg.norm(directions, axis=1) > 0.5):
        raise InputError(
            f"found constraint directions of shape {directions.shape}; expected unit vectors, x y z for each."
        )
    parts = [sh_matrix(directions if lmax else directions[:1], lmax) for lmax in degrees]
    matrix = np.zeros((sum(len(p) for p in parts), sum(p.shape[1] for p in parts)))
    i = j = 0
    for part in parts:
        matrix[i : i + len(part), j : j + part.shape[1]] = part
        i, j = i + len(part), j + part.shape[1]
    return matrix


def tissue_fractions(coefs: tuple[np.ndarray, ...] | list[np.ndarray]) -> np.ndarray:
    """(..., n_tissue) share of each tissue, sum 1; 0 where there is none.

    Parameters
    ----------
    coefs : one (..., n_coef) array per tissue; the mean over directions, the first coefficient, counts
    """
    amounts = np.stack([np.maximum(np.asarray(c)[..., 0], 0.0) for c in coefs], axis=-1)
    total = amounts.sum(axis=-1, keepdims=True)
    return np.divide(amounts, total, out=np.zeros_like(amounts), where=total > 0)


def total_fibre_density(coefs: np.ndarray) -> np.ndarray:
    """(...) total apparent fibre density: the integral of the FOD (..., n_coef) over the sphere (Raffelt 2012)."""
    return np.maximum(np.asarray(coefs)[..., 0], 0.0) * math.sqrt(4 * math.pi)


def _check_tissues(response: Response) -> None:
    n_tissue, n_shell = len(response.tissues), len(response.bvals)
    if n_tissue > 3:
        raise InputError(f"found {n_tissue} tissues ({', '.join(response.tissues)}); expected one to three.")
    if n_tissue > n_shell:
        found = ", ".join(f"{b:.0f}" for b in response.bvals)
        raise NotApplicable(
            f"found {n_tissue} tissues for {n_shell} distinct b-values ({found} s/mm², b=0 included); expected at most "
            "as many tissues as b-values. Leave out a tissue (grey matter first)."
        )
    for tissue, table in zip(response.tissues, response.coefs, strict=True):
        if not np.all(table[:, 0] > 0):
            raise NotApplicable(
                f"the response of {tissue} is negative or zero on a shell (lowest mean coefficient "
                f"{float(table[:, 0].min()):.4g}); expected a positive signal. Check the voxels it was estimated from."
            )


def _choose_degrees(response: Response, lmax: int | None) -> tuple[int, ...]:
    if lmax is not None and (lmax % 2 or not 0 <= lmax <= MAX_LMAX):
        raise InputError(f"found lmax = {lmax}; expected an even degree up to {MAX_LMAX}.")
    carried = tuple(_degree_carried(table) for table in response.coefs)
    if lmax is not None and lmax > max(carried):
        raise InputError(
            f"the response has degree {max(carried)}, the model asks for lmax = {lmax}; lower lmax, or estimate the "
            "response with that degree."
        )
    return tuple(min(own, DEFAULT_LMAX if lmax is None else lmax) for own in carried)


def _degree_carried(table: np.ndarray) -> int:
    """Highest degree with a coefficient on any shell; shells of few directions leave the higher ones at zero."""
    return 2 * int(np.flatnonzero(np.any(table != 0, axis=0)).max(initial=0))


def _lowered_to_directions(gradients: GradientTable, volumes: np.ndarray, degrees: tuple[int, ...]) -> tuple[int, ...]:
    """Degrees that the distinct directions and the number of volumes carry; 2 at least for white matter."""
    count = _count_directions(gradients, volumes)
    while max(degrees) > 2 and (n_coefs(max(degrees)) > count or sum(map(n_coefs, degrees)) > len(volumes)):
        highest = max(degrees) - 2
        degrees = tuple(min(degree, highest) for degree in degrees)
    return degrees


def _count_directions(gradients: GradientTable, volumes: np.ndarray) -> int:
    weighted = volumes[~gradients.is_b0[volumes]]
    return count_directions(gradients.directions[weighted]) if len(weighted) else 0


def is_determined(design: np.ndarray, n_rows: int | None = None, *, most_apart: float = ILL_CONDITIONED) -> bool:
    """Whether the rows determine the columns.

    Parameters
    ----------
    design : (n_row, n_unknown) float
    n_rows : how many there are of them, where some are no measurements
    most_apart : ratio of the singular values, columns of length one, up to which they do
    """
    if (len(design) if n_rows is None else n_rows) < design.shape[1]:
        return False
    singular = np.linalg.svd(design / np.linalg.norm(design, axis=0), compute_uv=False)
    return bool(singular[-1] * most_apart >= singular[0])


def _has_distinct_means(design: np.ndarray, degrees: tuple[int, ...]) -> bool:
    return is_determined(design[:, np.cumsum([0, *map(n_coefs, degrees[:-1])])])


def _is_super_resolved(
    gradients: GradientTable, volumes: np.ndarray, degrees: tuple[int, ...], *, is_carried: bool
) -> bool:
    """Whether the degree asked for has more coefficients than the directions or the volumes determine; with a warning.

    The non-negative FOD is then decided by its constraint (Tournier 2007), as MRtrix3 allows it.
    """
    count, n = _count_directions(gradients, volumes), n_coefs(max(degrees))
    if is_carried and count >= n and len(volumes) >= sum(map(n_coefs, degrees)):
        return False
    spread = ", unevenly spread" if count >= n else ""
    warn(
        f"lmax = {max(degrees)} has {n} coefficients, the scan has {count} distinct directions on all shells{spread}: "
        "the FOD rests on its constraint (super-resolved). A lower lmax is determined by the signals alone."
    )
    return True
