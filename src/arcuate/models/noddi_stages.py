"""The three stages of NODDI's convex fit, voxel by voxel, on the dictionary's coordinates (Daducci 2015)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from arcuate.models.noddi_dictionary import DOT, FWF, N_DEG, NDI, ODI, RMSE, SIGNAL, NoddiTables
from arcuate.models.status import Status
from arcuate.numerics.compiled import inner, kernel, part
from arcuate.numerics.legendre import write_even_legendre
from arcuate.numerics.nnls import SUM_IN_ANY_ORDER, lanes_of, solve_active_set, solver_scratch
from arcuate.numerics.nnls import Scratch as SolverScratch

MOST_ACTIVE = 48  # atoms at work together; a handful in practice


class Room(NamedTuple):
    """Work space of one voxel."""

    legendre: np.ndarray  # (N_DEG, n_meas) float64
    lines: np.ndarray  # (2, n_meas) float64, squared cosines; what is left of the signal without water
    gram: np.ndarray  # (k, k) float64, inner products of the coordinates
    projections: np.ndarray  # (2, k) float64, of the coordinates with the signal, and with what is left of it
    block: np.ndarray  # (N_DEG, N_DEG) float64, inner products of Legendre functions on one shell
    image: np.ndarray  # (N_DEG, k) float64, those times the basis
    sums: np.ndarray  # (1 + n_shell * N_DEG,) float64, inner products of Legendre functions with the signal
    weights: np.ndarray  # (n_atom,) float64
    support_atoms: np.ndarray  # (k, n_atom) float64, atoms of the third stage
    support: np.ndarray  # (n_atom,) int64, which they are


class Scratch(NamedTuple):
    """Work space of a thread."""

    solver: SolverScratch
    room: Room


def make_room(tables: NoddiTables, n_meas: int) -> Scratch:
    """Work space for one voxel of ``n_meas`` volumes after the other."""
    n_old, k = tables.basis.shape
    n_atom = tables.ndi.shape[0] + tables.levels.shape[0]
    room = Room(
        np.empty((N_DEG, n_meas)),
        np.empty((2, n_meas)),
        np.empty((k, k)),
        np.empty((2, k)),
        np.empty((N_DEG, N_DEG)),
        np.empty((N_DEG, k)),
        np.empty(n_old),
        np.empty(n_atom),
        np.empty((k, n_atom)),
        np.empty(n_atom, np.int64),
    )
    return Scratch(solver_scratch(lanes_of(k), tables.atoms.shape[1], MOST_ACTIVE), room)


@kernel(error_model="numpy")
def fit_voxels(rows, directions, tables, penalties, scratch, maps, status):
    """The N_MAP maps (n_vox, N_MAP) of rows divided by their mean b = 0, in the dictionary's order.

    Parameters
    ----------
    rows : (n_vox, n_meas) float64
    directions : (n_vox, 3) float64, unit vectors along the fibres
    tables : NoddiTables
    penalties : (2,) float64, of the second stage: of the sum and of half the squares; (0,) for the first stage alone,
        which is start enough for the continuous fit
    scratch : of :func:`make_room`
    maps, status : filled
    """
    for v in range(rows.shape[0]):
        if status[v] == Status.NO_SIGNAL.value or status[v] == Status.NOT_FINITE.value:
            continue
        if not _fit_one(rows[v], directions[v], tables, penalties, scratch.solver, scratch.room, maps[v]):
            status[v] = Status.NOT_CONVERGED.value


@part()
def _fit_one(signal, direction, tables, penalties, solver, room, maps):
    """The three stages in one voxel, or the first alone; False if one of them did not converge."""
    starts, basis, atoms, levels = tables.starts, tables.basis, tables.atoms, tables.levels
    legendre, lines, gram, projections, block, image, sums, weights, support_atoms, support = room
    squares, rest = lines[0], lines[1]  # a matrix taken apart at once would give rows not known to be contiguous
    projection, projection_rest = projections[0], projections[1]
    k, width = atoms.shape
    n_tissue = tables.ndi.shape[0]
    n_atom = n_tissue + levels.shape[0]
    active, values, lanes = solver.active, solver.weights, solver.lanes
    _write_squares(tables.directions, direction, squares)
    write_even_legendre(squares, legendre)
    _write_gram(legendre, starts, basis, block, image, gram, lanes)
    _project(legendre, starts, signal, basis, sums, projection, lanes)

    # 1: how much free water (and dot)
    m, is_solved = solve_active_set(atoms, gram, projection, 0.0, 0.0, width, solver)
    for j in range(n_atom):
        weights[j] = 0.0
    if penalties.shape[0] == 0:
        for a in range(m):
            weights[active[a]] = values[a]
        _write_fit(signal, atoms, projection, m, solver, weights, tables, maps)
        return is_solved
    for i in range(rest.shape[0]):
        rest[i] = signal[i]
    for a in range(m):
        if active[a] >= n_tissue:
            _subtract_levels(values[a], levels[active[a] - n_tissue], starts, rest)
    for i in range(rest.shape[0]):
        rest[i] = max(rest[i], 0.0)

    # 2: which tissue, on the weighted volumes
    _project(legendre, starts, rest, basis, sums, projection_rest, lanes)
    l1, l2 = penalties[0], penalties[1]
    m, is_sparse_solved = solve_active_set(tables.unit_atoms, gram, projection_rest, l1, l2, width, solver)

    # 3: the weights of that tissue, water and dot, without penalty
    n_support = m + n_atom - n_tissue
    for a in range(n_support):
        support[a] = active[a] if a < m else n_tissue + a - m
    for c in range(k):
        for a in range(n_support):
            support_atoms[c, a] = atoms[c, support[a]]
    m, is_last_solved = solve_active_set(support_atoms, gram, projection, 0.0, 0.0, n_support, solver)
    for a in range(m):
        weights[support[active[a]]] = values[a]
    _write_fit(signal, support_atoms, projection, m, solver, weights, tables, maps)
    return is_solved and is_sparse_solved and is_last_solved


@inner(fastmath=SUM_IN_ANY_ORDER)
def _write_squares(gradient_directions, direction, squares):
    """Squared cosines of gradients and fibre."""
    x, y, z = gradient_directions
    for i in range(squares.shape[0]):
        cosine = x[i] * direction[0] + y[i] * direction[1] + z[i] * direction[2]
        squares[i] = cosine * cosine


@inner()
def _subtract_levels(weight, levels, starts, rest):
    """Removes a compartment that is the same in every direction of a shell."""
    for s in range(levels.shape[0]):
        level = weight * levels[s]
        for i in range(starts[s], starts[s + 1]):
            rest[i] -= level


@inner(fastmath=SUM_IN_ANY_ORDER)
def _dot_4(a, b, c, d, e):
    """Inner products of four rows with a fifth: four sums at once hide the latency of each."""
    t0, t1, t2, t3 = 0.0, 0.0, 0.0, 0.0
    for i in range(e.shape[0]):
        t0 += a[i] * e[i]
        t1 += b[i] * e[i]
        t2 += c[i] * e[i]
        t3 += d[i] * e[i]
    return t0, t1, t2, t3


@inner()
def _dots(rows, begin, end, other, sums):
    """Inner products of N_DEG = 7 rows, from ``begin`` to ``end``, with another; the middle row is taken twice.

    The rows are cut one by one: a slice of the matrix would lose the knowledge that they are contiguous.
    """
    r3 = rows[3, begin:end]
    sums[0], sums[1], sums[2], sums[3] = _dot_4(rows[0, begin:end], rows[1, begin:end], rows[2, begin:end], r3, other)
    _, sums[4], sums[5], sums[6] = _dot_4(r3, rows[4, begin:end], rows[5, begin:end], rows[6, begin:end], other)


@inner(fastmath=SUM_IN_ANY_ORDER)
def _write_gram(legendre, starts, basis, block, image, gram, lanes):
    """Inner products of the k coordinates: Bᵀ (PᵀP) B, shell by shell."""
    for a in range(len(lanes)):
        value = starts[1] * basis[0, a]
        for b in range(len(lanes)):
            gram[a, b] = value * basis[0, b]
    for s in range(starts.shape[0] - 2):
        begin, end, first = starts[s + 1], starts[s + 2], 1 + s * N_DEG
        for j in range(N_DEG):
            _dots(legendre, begin, end, legendre[j, begin:end], block[j])
        for j in range(N_DEG):
            for b in range(len(lanes)):
                image[j, b] = 0.0
            for i in range(N_DEG):
                weight = block[j, i]
                for b in range(len(lanes)):
                    image[j, b] += weight * basis[first + i, b]
        for a in range(len(lanes)):
            for j in range(N_DEG):
                weight = basis[first + j, a]
                for b in range(len(lanes)):
                    gram[a, b] += weight * image[j, b]


@inner(fastmath=SUM_IN_ANY_ORDER)
def _project(legendre, starts, signal, basis, sums, projection, lanes):
    """Inner products of the k coordinates with the signal."""
    total = 0.0
    for i in range(starts[1]):
        total += signal[i]
    sums[0] = total
    for s in range(starts.shape[0] - 2):
        begin, end = starts[s + 1], starts[s + 2]
        _dots(legendre, begin, end, signal[begin:end], sums[1 + s * N_DEG : 1 + (s + 1) * N_DEG])
    for a in range(len(lanes)):
        projection[a] = 0.0
    for c in range(basis.shape[0]):
        value = sums[c]
        for a in range(len(lanes)):
            projection[a] += value * basis[c, a]


@inner(error_model="numpy")
def _write_maps(weights, tables, maps):
    """Maps from the weights of the atoms; a voxel without tissue has NDI 0 and ODI 1."""
    ndi, moment_nodes, n_tissue = tables.ndi, tables.moment_nodes, tables.ndi.shape[0]
    tissue, inside, concentration, moment = 0.0, 0.0, 0.0, 0.0
    for j in range(n_tissue):
        tissue += weights[j]
        inside += weights[j] * ndi[j]
        concentration += weights[j] * tables.kappa[j]
        moment += weights[j] * ndi[j] * tables.second_moment[j]
    total = tissue
    for j in range(n_tissue, weights.shape[0]):
        total += weights[j]
    maps[NDI], maps[ODI] = 0.0, 1.0
    if tissue > 0.0:
        maps[NDI] = min(1.0, inside / tissue)
        if moment_nodes.shape[0] > 0:
            maps[ODI] = _odi_of_moment(moment / inside, moment_nodes)
        else:
            maps[ODI] = 2 / np.pi * np.arctan2(1.0, concentration / tissue)
    maps[FWF] = weights[-1] / total if total > 0.0 else 0.0
    maps[DOT] = weights[-2] / total if weights.shape[0] > n_tissue + 1 and total > 0.0 else 0.0
    maps[SIGNAL] = total


@inner()
def _odi_of_moment(moment, nodes):
    """ODI whose Watson distribution has this mean of P_2; ``nodes`` are those means at evenly spaced ODI, falling."""
    low, high = 0, nodes.shape[0] - 1
    while high - low > 1:
        middle = (low + high) // 2
        if nodes[middle] >= moment:
            low = middle
        else:
            high = middle
    share = (nodes[low] - moment) / (nodes[low] - nodes[high])
    return min(1.0, max(0.0, (low + share) / (nodes.shape[0] - 1)))


@inner()
def _write_fit(signal, atoms, projection, m, scratch, weights, tables, maps):
    """Maps, and the root mean square of what the fit leaves of the signal, from the inner products alone."""
    _write_maps(weights, tables, maps)
    active, values, images = scratch.active, scratch.weights, scratch.images
    n_meas = signal.shape[0]
    total = 0.0
    for i in range(n_meas):
        total += signal[i] * signal[i]
    for a in range(m):
        for c in range(projection.shape[0]):
            change = -2 * projection[c]
            for b in range(m):
                change += values[b] * images[b, c]
            total += values[a] * atoms[c, active[a]] * change
    maps[RMSE] = np.sqrt(max(total, 0.0) / n_meas)
