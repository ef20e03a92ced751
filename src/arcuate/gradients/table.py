"""Gradient tables: b-values, directions in the scanner frame, and the shells they form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from arcuate.errors import InputError, NotApplicable, silenced_warnings, warn
from arcuate.gradients.repair import NORM_TOLERANCE, check_unit, separate_lengths, unit_directions

B0_THRESHOLD = 50.0  # s/mm²; at or below it a volume counts as b = 0
NO_B0 = "the scan has no b=0 volume"  # how every warning begins whose cause this is
SHELL_GAP = 100.0  # s/mm²; a larger gap between sorted b-values separates two shells
SHELL_WIDTH = 200.0  # s/mm²; a wider shell is refused


@dataclass(frozen=True, eq=False)
class Shell:
    """Weighted volumes that share one b-value."""

    b: float  # mean b-value, s/mm²
    indices: np.ndarray  # (n,) int, volumes of the shell in acquisition order

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True, eq=False)
class GradientTable:
    """b-values and unit directions of ``n_meas`` volumes, in the scanner frame (RAS+).

    Make one with :meth:`from_fsl` or :meth:`from_mrtrix`, which know the frames of those files; the plain
    constructor takes directions that are in the scanner frame already.

    Parameters
    ----------
    bvals : (n_meas,) float, s/mm²
        Kept as given, never rescaled.
    directions : (n_meas, 3) float
        Unit vectors; zero is allowed for volumes with b = 0 only.
    b0_threshold : float, s/mm²
        A volume with ``b <= b0_threshold`` counts as b = 0.

    Raises
    ------
    InputError
        Shapes, b-values or vectors that cannot be repaired with certainty.
    """

    bvals: np.ndarray
    directions: np.ndarray
    b0_threshold: float = B0_THRESHOLD

    def __post_init__(self) -> None:
        bvals = np.array(self.bvals, dtype=np.float64)
        directions = np.array(self.directions, dtype=np.float64)
        if bvals.ndim != 1 or directions.shape != (len(bvals), 3):
            raise InputError(
                f"found b-values of shape {bvals.shape} and directions of shape {directions.shape}; "
                "expected (n,) and (n, 3). Check that both files belong to the same scan."
            )
        _check_bvals(bvals)
        if not self.b0_threshold >= 0:  # also NaN
            raise InputError(f"found b0_threshold = {self.b0_threshold}; expected a number of s/mm², zero or above.")
        directions = unit_directions(directions, bvals, bvals > self.b0_threshold)
        bvals.setflags(write=False)
        directions.setflags(write=False)
        object.__setattr__(self, "bvals", bvals)
        object.__setattr__(self, "directions", directions)

    @classmethod
    def from_fsl(
        cls, bvals: np.ndarray, bvecs: np.ndarray, affine: np.ndarray, b0_threshold: float = B0_THRESHOLD
    ) -> GradientTable:
        """Table from FSL's b-vectors, which refer to the axes of the image, x negated if det(affine) > 0.

        Parameters
        ----------
        bvals : (n_meas,), (n_meas, 1) or (1, n_meas) float, s/mm²
        bvecs : (n_meas, 3) or (3, n_meas) float
        affine : (4, 4) float, voxel indices to scanner mm
        """
        bvals = np.asarray(bvals, dtype=np.float64)
        if bvals.ndim <= 2 and max(bvals.shape, default=1) == bvals.size:
            bvals = bvals.reshape(-1)
        is_weighted = bvals > b0_threshold if bvals.ndim == 1 else None
        rows = bvecs_as_rows(np.asarray(bvecs, dtype=np.float64), len(bvals), is_weighted)
        if is_weighted is not None:
            check_unit(bvals, rows)
            bvals, rows = separate_lengths(bvals, rows, b0_threshold)
        return cls(bvals, rows @ image_to_scanner(affine).T, b0_threshold)

    def to_fsl(self, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """b-values (n_meas,) and b-vectors (n_meas, 3) as FSL writes them for an image with this affine."""
        return self.bvals.copy(), self.directions @ image_to_scanner(affine)

    @classmethod
    def from_mrtrix(cls, table: np.ndarray, b0_threshold: float = B0_THRESHOLD) -> GradientTable:
        """Table from MRtrix3's rows ``x y z b``, directions in the scanner frame; (n_meas, 4) float."""
        table = np.atleast_2d(np.asarray(table, dtype=np.float64))
        if table.ndim != 2 or table.shape[1] != 4:
            raise InputError(f"found a gradient table of shape {table.shape}; expected rows of 4 numbers: x y z b.")
        check_unit(table[:, 3], table[:, :3])
        bvals, directions = separate_lengths(table[:, 3], table[:, :3], b0_threshold)
        return cls(bvals, directions, b0_threshold)

    def to_mrtrix(self) -> np.ndarray:
        """(n_meas, 4) float: x y z in the scanner frame, b in s/mm²."""
        return np.column_stack([self.directions, self.bvals])

    def __len__(self) -> int:
        return len(self.bvals)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GradientTable):
            return NotImplemented
        return (
            self.b0_threshold == other.b0_threshold
            and np.array_equal(self.bvals, other.bvals)
            and np.array_equal(self.directions, other.directions)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"GradientTable({self.in_words})"

    @property
    def in_words(self) -> str:
        """``44 volumes: 4 b=0; 20 at b=1000, 20 at b=2500``."""
        try:
            with silenced_warnings():
                shells = ", ".join(f"{len(s)} at b={s.b:.0f}" for s in self.shells)
        except InputError:
            shells = "no distinct shells"
        return f"{len(self)} volumes: {int(self.is_b0.sum())} b=0; {shells}"

    def _repr_html_(self) -> str:
        """For notebooks: volumes by shell, and their directions on the sphere."""
        import importlib  # what draws lies above: looked up by name

        return str(importlib.import_module("arcuate.volumes.display").html_of_gradients(self))

    @cached_property
    def is_b0(self) -> np.ndarray:
        """(n_meas,) bool: volumes with b <= b0_threshold."""
        return self.bvals <= self.b0_threshold

    @cached_property
    def shells(self) -> tuple[Shell, ...]:
        """Weighted shells, lowest b first.

        Raises
        ------
        NotApplicable
            A shell is wider than 200 s/mm²: the b-values form none, as on a grid.
        """
        weighted = np.flatnonzero(~self.is_b0)
        if len(weighted) == 0:
            return ()
        order = weighted[np.argsort(self.bvals[weighted], kind="stable")]
        cuts = np.flatnonzero(np.diff(self.bvals[order]) > SHELL_GAP) + 1
        groups = np.split(order, cuts)
        for group in groups:
            low, high = self.bvals[group].min(), self.bvals[group].max()
            if high - low > SHELL_WIDTH:
                raise NotApplicable(
                    f"the b-values {_list(self.bvals[group])} s/mm² form no distinct shell ({len(group)} volumes, no "
                    f"gap above {SHELL_GAP:g}); expected shells at most {SHELL_WIDTH:g} wide. Models that need "
                    "shells cannot use this scan; take out the volumes between the shells first."
                )
        low = self.bvals[order][self.bvals[order] <= 2 * B0_THRESHOLD]
        if len(low):
            warn(
                f"the lowest weighted b-value is {low[0]:g} s/mm², above b0_threshold = {self.b0_threshold:g}: "
                f"if such volumes are meant as b=0, raise b0_threshold (--b0-threshold) to {np.ceil(low[-1]):g}."
            )
        return tuple(Shell(float(self.bvals[g].mean()), np.sort(g)) for g in groups)

    @cached_property
    def levels(self) -> tuple[Shell, ...]:
        """Weighted volumes grouped by b, lowest first: the shells, or where there are none pieces of the range of b.

        A piece is at most 200 s/mm² wide. For pictures and checks that compare like with like; models take shells.
        """
        try:
            return self.shells
        except NotApplicable:
            weighted = np.flatnonzero(~self.is_b0)
        order = weighted[np.argsort(self.bvals[weighted], kind="stable")]
        found: list[Shell] = []
        while len(order):
            n = int(np.sum(self.bvals[order] <= self.bvals[order[0]] + SHELL_WIDTH))
            found.append(Shell(float(self.bvals[order[:n]].mean()), np.sort(order[:n])))
            order = order[n:]
        return tuple(found)

    @cached_property
    def least_weighted(self) -> np.ndarray:
        """Indices of the b = 0 volumes, or where there are none of the volumes of the lowest shell."""
        return np.flatnonzero(self.is_b0) if self.is_b0.any() else self.levels[0].indices

    def get_shell(self, b: float) -> Shell:
        """The shell whose b is nearest to ``b`` (s/mm²), at most 100 away."""
        if not self.shells:
            raise NotApplicable(f"no weighted volume: every b-value is at or below {self.b0_threshold:g} s/mm².")
        nearest = min(self.shells, key=lambda shell: abs(shell.b - b))
        if not abs(nearest.b - b) <= SHELL_GAP:  # also where b is not a number
            have = ", ".join(f"{s.b:.0f}" for s in self.shells)
            raise InputError(f"found no shell at b = {b:g} s/mm²; the scan has shells at {have}. Choose one of them.")
        return nearest

    def check_count(self, n_volumes: int) -> None:
        """Refuse an image with another number of volumes than the table has."""
        if n_volumes != len(self):
            raise InputError(
                f"found {len(self)} b-values and b-vectors for an image of {n_volumes} volumes; expected one of each "
                "per volume. Check that the files belong to this image."
            )

    def require_b0(self, purpose: str) -> np.ndarray:
        """Indices of the b=0 volumes; refuses a scan without one, naming what needs it."""
        index = np.flatnonzero(self.is_b0)
        if len(index) == 0:
            raise NotApplicable(
                f"{purpose} needs a b=0 volume; the lowest b-value is {self.bvals.min():g} s/mm², above "
                f"b0_threshold = {self.b0_threshold:g}. Raise b0_threshold (--b0-threshold) if that counts as b=0."
            )
        return index

    def subset(self, index: np.ndarray) -> GradientTable:
        """Table of the volumes picked by ``index`` (integers or a boolean mask)."""
        index = np.asarray(index)
        return GradientTable(self.bvals[index], self.directions[index], self.b0_threshold)

    def rotated(self, rotation: np.ndarray) -> GradientTable:
        """Table with every direction turned by the orthonormal matrix ``rotation`` (3, 3)."""
        return GradientTable(self.bvals, self.directions @ np.asarray(rotation).T, self.b0_threshold)


def image_to_scanner(affine: np.ndarray) -> np.ndarray:
    """(3, 3) orthonormal matrix that takes an FSL b-vector (a column) to the scanner frame.

    Negates x if det(affine) > 0, then applies the polar factor of the affine's 3 x 3, reflection kept.
    """
    affine = np.asarray(affine, dtype=np.float64)
    if affine.shape not in {(3, 3), (4, 4)}:
        raise InputError(f"found an affine of shape {affine.shape}; expected (4, 4).")
    linear = affine[:3, :3]
    scale = np.linalg.norm(linear, axis=0)
    if not np.all(np.isfinite(linear)) or abs(np.linalg.det(linear / np.where(scale > 0, scale, 1.0))) < 1e-3:
        raise InputError(
            f"the affine of the image is singular: its 3 x 3 is {linear.tolist()}. "
            "Check the sform and qform of the header (fslhd, mrinfo)."
        )
    u, _, vt = np.linalg.svd(linear)
    polar = u @ vt
    flip = np.diag([-1.0, 1.0, 1.0]) if np.linalg.det(linear) > 0 else np.eye(3)
    return polar @ flip


def bvecs_as_rows(bvecs: np.ndarray, n_meas: int, is_weighted: np.ndarray | None = None) -> np.ndarray:
    """b-vectors as (n_meas, 3), from one vector per row or per column.

    Three vectors can be read both ways: they are rows, unless only the columns make sense as unit vectors (and zeros
    where ``is_weighted`` is False).
    """
    bvecs = np.atleast_2d(bvecs)
    if bvecs.shape == (3, 3) == (n_meas, 3):
        return bvecs if _is_plausible(bvecs, is_weighted) or not _is_plausible(bvecs.T, is_weighted) else bvecs.T
    if bvecs.shape == (n_meas, 3):
        return bvecs
    if bvecs.shape == (3, n_meas):
        return bvecs.T
    if bvecs.ndim != 2 or 3 not in bvecs.shape:
        raise InputError(f"found b-vectors as an array of shape {bvecs.shape}; expected (n, 3).")
    count = bvecs.shape[0] if bvecs.shape[1] == 3 else bvecs.shape[1]
    raise InputError(
        f"found {count} b-vectors for {n_meas} b-values; expected as many of one as of the other. "
        "Check that both files belong to the same scan."
    )


def _is_plausible(rows: np.ndarray, is_weighted: np.ndarray | None) -> bool:
    norms = np.linalg.norm(np.nan_to_num(rows), axis=1)
    is_unit = np.abs(norms - 1) <= NORM_TOLERANCE
    may_be_zero = np.ones(len(rows), dtype=bool) if is_weighted is None else ~is_weighted
    return bool(np.all(is_unit | (may_be_zero & (norms < 1e-6))))


def _check_bvals(bvals: np.ndarray) -> None:
    if len(bvals) == 0:
        raise InputError("found no b-values; expected one per volume.")
    bad = np.flatnonzero(~np.isfinite(bvals) | (bvals < 0))
    if len(bad):
        raise InputError(
            f"volume {bad[0]} has the b-value {bvals[bad[0]]}; expected a finite number of s/mm², zero or above. "
            "Check the b-value file."
        )


def _list(bvals: np.ndarray) -> str:
    """Distinct values, the middle ones left out where there are many."""
    words = [f"{b:g}" for b in np.unique(bvals)]
    return ", ".join(words if len(words) <= 12 else [*words[:6], "...", *words[-6:]])
