"""Non-negative least squares over a large dictionary that lives in few coordinates, by active sets.

The problem of every kernel here: with atoms c_1 ... c_n in k coordinates (n may be much larger than k), a positive
semi-definite k x k matrix G and a k-vector p,

    minimise  ½ xᵀ (CᵀGC + λ₂ I) x - (Cᵀp - λ₁)ᵀ x   subject to  x >= 0.

That is min ½|y - A x|² + λ₁ Σx + ½ λ₂ |x|² when A = P C, G = PᵀP and p = Pᵀy: non-negative least squares, or for
λ > 0 the non-negative elastic net. A is never formed, nor AᵀA: a column of it is made when its atom becomes active.

References
----------
Lawson & Hanson 1974, Solving Least Squares Problems, ch. 23; Bro & de Jong 1997, J. Chemometrics 11:393, for the
normal equations.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from arcuate.errors import InputError
from arcuate.numerics.compiled import inner, kernel, run_in_chunks

_CHUNK = 64  # rows solved with one work space
SUM_IN_ANY_ORDER = {"reassoc", "contract"}  # lets sums run in vector lanes; NaN and infinity keep their meaning


def solve_nonnegative(
    atoms: np.ndarray, gram: np.ndarray, projection: np.ndarray, l1: float = 0.0, l2: float = 0.0
) -> tuple[np.ndarray, bool]:
    """Non-negative weights (n,) of the atoms, and whether the iteration ended at the solution.

    Parameters
    ----------
    atoms : (k, n) float
        Atoms in coordinates, one per column.
    gram : (k, k) float
        Inner products of the coordinates.
    projection : (k,) float
        Inner products of the coordinates with the data.
    l1, l2 : float
        Weights of Σx and ½|x|². With l1 > 0, l2 must be above 0: else more atoms than coordinates have no unique
        solution, and the active set may have to trade atoms that depend on each other.

    Raises
    ------
    InputError
        Shapes that do not fit, or weights without a unique solution.
    """
    projection = np.asarray(projection, dtype=np.float64)
    if projection.ndim != 1:
        raise InputError(f"found a projection of shape {projection.shape}; expected (k,).")
    weights, is_solved = solve_nonnegative_rows(atoms, gram, projection[None], l1, l2)
    return weights[0], bool(is_solved[0])


def solve_nonnegative_rows(
    atoms: np.ndarray, gram: np.ndarray, projections: np.ndarray, l1: float = 0.0, l2: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative weights (n_rows, n) for each row of projections (n_rows, k), and whether each is solved.

    See :func:`solve_nonnegative`; rows are shared out among threads.
    """
    if l1 < 0 or l2 < 0 or (l1 > 0 and l2 == 0):
        raise InputError(f"found l1 = {l1:g} and l2 = {l2:g}; expected both at or above 0, and l2 above 0 where l1 is.")
    atoms = np.ascontiguousarray(atoms, dtype=np.float64)
    gram = np.ascontiguousarray(gram, dtype=np.float64)
    projections = np.ascontiguousarray(projections, dtype=np.float64)
    k, n = atoms.shape
    if gram.shape != (k, k) or projections.shape[1:] != (k,):
        raise InputError(
            f"found atoms {atoms.shape}, gram {gram.shape} and projections {projections.shape}; "
            f"expected ({k}, n), ({k}, {k}) and (n_rows, {k})."
        )
    padding = max(-k % 8, 16 - k)  # few different sizes, each compiled once; NODDI's is 16
    atoms = np.pad(atoms, ((0, padding), (0, 0)))
    gram = np.pad(gram, (0, padding))
    projections = np.pad(projections, ((0, 0), (0, padding)))
    weights, is_solved = np.zeros((len(projections), n)), np.zeros(len(projections), dtype=np.bool_)

    def work(begin: int, end: int) -> None:
        rows, scratch = slice(begin, end), solver_scratch(lanes_of(k + padding), n, n)
        _solve_rows(atoms, gram, projections[rows], (float(l1), float(l2)), scratch, weights[rows], is_solved[rows])

    run_in_chunks(work, len(projections), _CHUNK)
    return weights, is_solved


@kernel()
def _solve_rows(atoms, gram, projections, penalties, scratch, weights, is_solved):
    """Fill the weights (n_rows, n), which are zero, and whether the solution was reached (n_rows,)."""
    n = atoms.shape[1]
    for row in range(projections.shape[0]):
        found = solve_active_set(atoms, gram, projections[row], penalties[0], penalties[1], n, scratch)
        for a in range(found[0]):
            weights[row, scratch.active[a]] = scratch.weights[a]
        is_solved[row] = found[1]


def lanes_of(k: int) -> tuple[int, ...]:
    """A tuple of length ``k``: its length is part of its type, so loops over it have a size that the compiler knows.

    With a size found at run time, loops as short as these would run one number at a time (three times slower).
    """
    return (0,) * k


class Scratch(NamedTuple):
    """Work space of one problem; the solver leaves the active atoms and their weights in the first two fields."""

    active: np.ndarray  # (most,) int64, active atoms
    weights: np.ndarray  # (most,) float64, their weights
    trial: np.ndarray  # (most,) float64, the weights that minimise without the constraint
    sides: np.ndarray  # (2, most) float64, right-hand side, and what the lower triangle makes of it
    gradient: np.ndarray  # (n,) float64
    images: np.ndarray  # (most, k) float64, images of the active atoms under the Gram matrix
    inner: np.ndarray  # (most, most) float64, their inner products
    triangle: np.ndarray  # (most, most) float64, Cholesky factor of those, its diagonal inverted
    vectors: np.ndarray  # (2, k) float64, what is left of the projection, and one atom
    lanes: tuple[int, ...]  # k zeros: its length is known to the compiler


def solver_scratch(lanes: tuple[int, ...], n: int, most: int) -> Scratch:
    """Work space of :func:`solve_active_set` for ``n`` atoms of which at most ``most`` are active together."""
    k = len(lanes)
    return Scratch(
        np.empty(most, np.int64),
        np.empty(most),
        np.empty(most),
        np.empty((2, most)),
        np.empty(n),
        np.empty((most, k)),
        np.empty((most, most)),
        np.empty((most, most)),
        np.empty((2, k)),
        lanes,
    )


@inner()
def solve_active_set(atoms, gram, projection, l1, l2, n_usable, scratch):
    """Number of active atoms, and whether the solution was reached; atoms and weights are left in the scratch.

    Only the first ``n_usable`` atoms take part.
    """
    active, weights, trial, sides, gradient, images, inner, triangle, vectors, lanes = scratch
    rest = vectors[0]
    m = np.int64(0)
    for c in range(len(lanes)):
        rest[c] = projection[c]
    _correlate(atoms, rest, n_usable, gradient, lanes)
    steepest = 0.0
    for j in range(n_usable):
        steepest = max(steepest, abs(gradient[j]))
    tolerance = 1e-11 * steepest
    for _ in range(3 * n_usable):
        found = _steepest(gradient, n_usable, tolerance + l1)
        if found < 0:
            return m, True
        if m == active.shape[0]:
            return m, False
        active[m], weights[m] = found, 0.0
        _add_atom(atoms, gram, projection, found, (l1, l2), m, scratch)
        _extend_cholesky(inner, triangle, sides, m)
        if triangle[m, m] <= 0.0:
            gradient[found] = -np.inf  # a combination of the active atoms
            continue
        _solve_upper(triangle, sides[1], m + 1, trial)
        if trial[m] <= 0.0:
            gradient[found] = -np.inf  # enters by rounding only
            continue
        m = _step_to_trial(m + 1, scratch)
        _subtract(projection, images, weights, m, rest, lanes)
        _correlate(atoms, rest, n_usable, gradient, lanes)
        for a in range(m):
            gradient[active[a]] = -np.inf
    return m, False


@inner()
def _steepest(gradient, n, threshold):
    """Index of the largest entry above the threshold, -1 if there is none."""
    largest = _largest(gradient, n)
    if largest > threshold:
        for j in range(n):
            if gradient[j] == largest:
                return j
    return -1


@inner(fastmath={"nnan", "nsz", "reassoc"})
def _largest(gradient, n):
    """Largest entry; without the promise of no NaN (rows are finite) the comparison would go one by one."""
    largest = -np.inf
    for j in range(n):
        largest = max(largest, gradient[j])
    return largest


@inner(fastmath=SUM_IN_ANY_ORDER)
def _correlate(atoms, rest, n, gradient, lanes):
    """atomsᵀ rest, eight coordinates at a time."""
    k = len(lanes)
    whole = k // 8
    for block in range(whole):
        c = 8 * block
        r0, r1, r2, r3 = rest[c], rest[c + 1], rest[c + 2], rest[c + 3]
        r4, r5, r6, r7 = rest[c + 4], rest[c + 5], rest[c + 6], rest[c + 7]
        for j in range(n):
            near = r0 * atoms[c, j] + r1 * atoms[c + 1, j] + r2 * atoms[c + 2, j] + r3 * atoms[c + 3, j]
            far = r4 * atoms[c + 4, j] + r5 * atoms[c + 5, j] + r6 * atoms[c + 6, j] + r7 * atoms[c + 7, j]
            gradient[j] = near + far if block == 0 else gradient[j] + (near + far)
    for c in range(8 * whole, k):
        r0 = rest[c]
        for j in range(n):
            gradient[j] = r0 * atoms[c, j] if c == 0 else gradient[j] + r0 * atoms[c, j]


@inner(fastmath=SUM_IN_ANY_ORDER)
def _subtract(projection, images, weights, m, rest, lanes):
    """rest = projection - Σ weight · image."""
    for c in range(len(lanes)):
        rest[c] = projection[c]
    for a in range(m):
        weight = weights[a]
        for c in range(len(lanes)):
            rest[c] -= weight * images[a, c]


@inner(fastmath=SUM_IN_ANY_ORDER)
def _add_atom(atoms, gram, projection, j, penalties, m, scratch):
    """Atom ``j`` becomes number ``m`` of the active ones: its image under the Gram matrix, its inner products."""
    l1, l2 = penalties
    lanes, images, inner = scratch.lanes, scratch.images, scratch.inner
    target, atom, image = scratch.sides[0], scratch.vectors[1], images[m]
    total = 0.0
    for c in range(len(lanes)):
        atom[c] = atoms[c, j]
        image[c] = 0.0
    for c in range(len(lanes)):
        total += atom[c] * projection[c]
    target[m] = total - l1
    for d in range(len(lanes)):
        value = atom[d]
        for c in range(len(lanes)):
            image[c] += value * gram[d, c]
    for a in range(m + 1):
        total = 0.0
        for c in range(len(lanes)):
            total += images[a, c] * atom[c]
        inner[m, a] = total
        inner[a, m] = total
    inner[m, m] += l2


@inner(error_model="numpy")
def _extend_cholesky(inner, triangle, sides, m):
    """Row ``m`` of the Cholesky factor and of its forward solution; a diagonal of 0: the atom depends on the others."""
    pivot, forward = inner[m, m], sides[0, m]
    for a in range(m):
        total = inner[m, a]
        for b in range(a):
            total -= triangle[m, b] * triangle[a, b]
        total *= triangle[a, a]
        triangle[m, a] = total
        pivot -= total * total
        forward -= total * sides[1, a]
    triangle[m, m] = 1.0 / np.sqrt(pivot) if pivot > 1e-13 * inner[m, m] else 0.0
    sides[1, m] = forward * triangle[m, m]


@inner()
def _solve_upper(triangle, forward, m, solution):
    """Unconstrained minimiser over the active atoms, column by column from the last."""
    for a in range(m):
        solution[a] = forward[a]
    for a in range(m - 1, -1, -1):
        value = solution[a] * triangle[a, a]
        solution[a] = value
        for b in range(a):
            solution[b] -= value * triangle[a, b]


@inner(error_model="numpy")
def _step_to_trial(m, scratch):
    """Moves the weights to the unconstrained minimiser, dropping on the way every atom that reaches zero."""
    active, weights, trial, sides, _, images, inner, triangle, _, lanes = scratch
    while True:
        step, blocking = 1.0, -1
        for a in range(m):
            if trial[a] <= 0.0 and weights[a] <= step * (weights[a] - trial[a]):
                step, blocking = weights[a] / (weights[a] - trial[a]), a
        if blocking < 0:
            for a in range(m):
                weights[a] = trial[a]
            return m
        for a in range(m):
            weights[a] += step * (trial[a] - weights[a])
        m -= 1
        for a in range(blocking, m):
            active[a], weights[a], sides[0, a] = active[a + 1], weights[a + 1], sides[0, a + 1]
            for c in range(len(lanes)):
                images[a, c] = images[a + 1, c]
            for b in range(m + 1):
                inner[a, b] = inner[a + 1, b]
        for a in range(m):
            for b in range(blocking, m):
                inner[a, b] = inner[a, b + 1]
        for a in range(blocking, m):
            _extend_cholesky(inner, triangle, sides, a)
        _solve_upper(triangle, sides[1], m, trial)
