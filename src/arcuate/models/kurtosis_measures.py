"""What a kurtosis tensor says: mean, axial and radial kurtosis, its own mean and anisotropy.

A kurtosis tensor W is given by its 15 elements in the order xxxx yyyy zzzz xxxy xxxz xyyy yyyz xzzz yzzz xxyy xxzz yyzz
xxyz xyyz xyzz.
"""

from __future__ import annotations

import math

import numpy as np

from arcuate.numerics.compiled import inner, kernel, run_in_chunks

ELEMENTS = ("xxxx", "yyyy", "zzzz", "xxxy", "xxxz", "xyyy", "yyyz", "xzzz", "yzzz", "xxyy", "xxzz", "yyzz", "xxyz",
            "xyyz", "xyzz")  # fmt: skip
MULTIPLICITY = np.array([1.0, 1, 1, 4, 4, 4, 4, 4, 4, 6, 6, 6, 12, 12, 12])  # of each element in W(n)
_PAIRS = ("xx", "xy", "xz", "yy", "yz", "zz")
_DOUBLE = np.array([1.0, 2, 2, 1, 2, 1])  # of each pair in a quadratic form
_AT = np.array([[ELEMENTS.index("".join(sorted(a + b))) for b in _PAIRS] for a in _PAIRS])  # (6, 6): W of two pairs
_STEP = 0.7  # of log u: the trapezoid rule is exact to exp(-2 π² / 0.7) = 6e-13, see kurtosis_measures
_FIRST, _LAST = -15.0, 37.0  # log u: the integrand falls as u² below 1 / λ₁, as u^-1.5 above 1 / λ₃
_NODES = np.exp(np.arange(_FIRST, _LAST, _STEP))
_LEAST = 1e-7  # of the largest eigenvalue; a smaller one is taken as this in the mean kurtosis
_BLOCK = 2048  # voxels of one task
_ROUNDS = 24  # towards the highest kurtosis


def monomials(directions: np.ndarray) -> np.ndarray:
    """(n, 15): the products that give W(n) = Σ W_ijkl n_i n_j n_k n_l from the elements; ``directions`` (n, 3)."""
    x, y, z = (np.asarray(a, dtype=np.float64) for a in np.asarray(directions).T)
    axes = {"x": x, "y": y, "z": z}
    columns = [np.prod([axes[axis] for axis in element], axis=0) for element in ELEMENTS]
    return np.column_stack(columns) * MULTIPLICITY


def kurtosis_measures(
    evals: np.ndarray, evecs: np.ndarray, kurtosis: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, axial and radial kurtosis (n_vox,) each; 0 where an eigenvalue is not positive.

    Parameters
    ----------
    evals : (n_vox, 3) float, mm²/s, largest first
    evecs : (n_vox, 3, 3) float, ``evecs[v, k]`` the unit vector of ``evals[v, k]``
    kurtosis : (n_vox, 15) float, elements of W

    Notes
    -----
    The kurtosis along n is K(n) = MD² W(n) / D(n)². MK is its mean over the sphere, AK its value along the first
    eigenvector, RK its mean over the circle across it. With Ŵ in the frame of the eigenvectors,

    MK = MD² (Σᵢ Iᵢᵢ Ŵᵢᵢᵢᵢ + 6 Σ_{i<j} Iᵢⱼ Ŵᵢᵢⱼⱼ),  Iᵢⱼ = ⟨nᵢ² nⱼ² / D(n)²⟩.

    Tabesh gives the I by Carlson's R_F and R_D with differences of eigenvalues below the line, which lose all digits
    where two eigenvalues meet. The same functions are Carlson's multivariate R of order -2, one integral each,

    Iᵢⱼ = c/4 ∫₀^∞ u du / [(1 + u λᵢ)(1 + u λⱼ) √((1 + u λ₁)(1 + u λ₂)(1 + u λ₃))],  c = 3 if i = j, else 1,

    (from 1/D² = ∫ t exp(-t D) dt and the moments of a Gaussian), whose integrand is positive for all eigenvalues. In
    log u it is analytic within ±iπ of the real line whatever the eigenvalues, so that the trapezoid rule
    converges geometrically: 12 digits. RK is closed: with a, b for √λ₂, √λ₃ and s = a + b,

    RK = MD² [Ŵ₂₂₂₂ (b + 2a) / (2 a³ s²) + Ŵ₃₃₃₃ (a + 2b) / (2 b³ s²) + 3 Ŵ₂₂₃₃ / (a b s²)],

    which is Tabesh's with the difference λ₂ - λ₃ divided out.

    References
    ----------
    Tabesh et al. 2011, Magn. Reson. Med. 65:823. Hui et al. 2008, NeuroImage 42:122.
    Carlson 1977, Special Functions of Applied Mathematics (R functions).
    """
    evals = np.ascontiguousarray(evals, dtype=np.float64)
    evecs = np.ascontiguousarray(evecs, dtype=np.float64).reshape(-1, 9)
    kurtosis = np.ascontiguousarray(kurtosis, dtype=np.float64)
    measures = np.zeros((3, len(evals)))
    run_in_chunks(lambda begin, end: _measure_chunk(begin, end, evals, evecs, kurtosis, measures), len(evals), _BLOCK)
    return measures[0], measures[1], measures[2]


def mean_kurtosis_tensor(kurtosis: np.ndarray) -> np.ndarray:
    """(...): mean of W(n) over the sphere, from elements (..., 15).

    References
    ----------
    Hansen et al. 2013, Magn. Reson. Med. 69:1754.
    """
    w = np.asarray(kurtosis)
    return np.asarray((w[..., :3].sum(axis=-1) + 2 * w[..., 9:12].sum(axis=-1)) / 5)


def highest_kurtosis(tensors: np.ndarray, power: np.ndarray, vertices: np.ndarray, *, is_exact: bool) -> np.ndarray:
    """(n_vox,) largest MD² W(n) / D(n)² over all directions, or over ``vertices`` alone.

    Parameters
    ----------
    tensors : (n_vox, 6) float, xx xy xz yy yz zz of positive tensors, mm²/s
    power : (n_vox, 15) float, MD² times the elements of W
    vertices : (n, 3) float, unit vectors where the search begins

    Notes
    -----
    From the three highest vertices on that are higher than those around them, the top of the paraboloid through six
    directions around the highest so far is tried; the six come nearer by half where it is no higher.
    """
    values = np.empty((len(power), len(vertices)))
    for start in range(0, len(power), _BLOCK):
        part = slice(start, start + _BLOCK)
        grid = np.broadcast_to(vertices, (len(power[part]), *vertices.shape))
        values[part] = _along(tensors[part], power[part], grid)
    if not is_exact:
        return np.asarray(values.max(axis=1))
    near = np.abs(vertices @ vertices.T) > np.cos(4.0 / np.sqrt(len(vertices)))  # rad: the vertices around each
    highest_first = np.argsort(-np.where(_are_tops(values, near), values, -np.inf), axis=1)[:, :3]
    return np.max([_climbed(tensors, power, vertices[highest_first[:, k]], len(vertices)) for k in range(3)], axis=0)


def _are_tops(values: np.ndarray, near: np.ndarray) -> np.ndarray:
    """(n_vox, n) bool, whether no vertex near one is higher; ``near`` (n, n) bool."""
    return np.stack([values[:, k] >= values[:, near[k]].max(axis=1) for k in range(len(near))], axis=1)


def _climbed(tensors: np.ndarray, power: np.ndarray, at: np.ndarray, n_vertices: int) -> np.ndarray:
    """(n_vox,) kurtosis at the top that is reached from directions (n_vox, 3), vertices of a sphere of so many."""
    highest = _along(tensors, power, at[:, None])[:, 0]
    reach = np.full(len(power), 1.5 / np.sqrt(n_vertices))  # rad, about half the way between two vertices
    around = np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1)])
    for _ in range(_ROUNDS):
        first = np.cross(at, np.eye(3)[np.argmin(np.abs(at), axis=1)])
        first /= np.linalg.norm(first, axis=1, keepdims=True)
        plane = np.stack([first, np.cross(at, first)], axis=1)  # (n_vox, 2, 3)
        places = _moved(at[:, None], (reach[:, None, None] * around) @ plane)
        f = _along(tensors, power, places)
        slope = np.stack([f[:, 0] - f[:, 1], f[:, 2] - f[:, 3]], axis=1) / 2
        bend_x, bend_y = f[:, 0] + f[:, 1] - 2 * highest, f[:, 2] + f[:, 3] - 2 * highest
        mixed = (f[:, 4] + f[:, 5] - 2 * highest - bend_x - bend_y) / 2
        determinant = bend_x * bend_y - mixed**2
        is_top = (determinant > 0) & (bend_x < 0)
        safe = np.where(is_top, determinant, 1.0)
        step = -np.stack(
            [bend_y * slope[:, 0] - mixed * slope[:, 1], bend_x * slope[:, 1] - mixed * slope[:, 0]], axis=1
        )
        step = np.where(is_top[:, None], step / safe[:, None], 0.0)
        step *= np.minimum(1.0, 2.0 / np.maximum(np.linalg.norm(step, axis=1), 1e-300))[:, None]
        top = _moved(at, np.einsum("vk,vkj->vj", reach[:, None] * step, plane))
        tried = np.concatenate([places, top[:, None]], axis=1)
        values = np.concatenate([f, _along(tensors, power, top[:, None])], axis=1)
        best = np.argmax(values, axis=1)
        found = values[np.arange(len(best)), best]
        is_higher = found > highest
        at = np.where(is_higher[:, None], tried[np.arange(len(best)), best], at)
        highest = np.where(is_higher, found, highest)
        reach = np.where(is_higher & (best < len(around)), reach, reach / 2)
    return highest


def _along(tensors: np.ndarray, power: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """(n_vox, n) kurtosis along unit vectors (n_vox, n, 3)."""
    n = directions.shape[1]
    flat = directions.reshape(-1, 3)
    x, y, z = flat.T
    squares = np.column_stack([x * x, 2 * x * y, 2 * x * z, y * y, 2 * y * z, z * z]).reshape(-1, n, 6)
    fourth = monomials(flat).reshape(-1, n, 15)
    diffusivity = np.einsum("vni,vi->vn", squares, tensors)
    return np.asarray(np.einsum("vni,vi->vn", fourth, power) / diffusivity**2)


def _moved(at: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Unit vectors from ``at`` along tangents."""
    moved = at + steps
    return np.asarray(moved / np.linalg.norm(moved, axis=-1, keepdims=True))


def kurtosis_fractional_anisotropy(kurtosis: np.ndarray) -> np.ndarray:
    """(...) 0 to 1: ‖W - W̄ I‖ / ‖W‖ of elements (..., 15), W̄ its mean and I the isotropic tensor; 0 where W is 0.

    References
    ----------
    Glenn et al. 2015, NMR Biomed. 28:448.
    """
    w = np.asarray(kurtosis, dtype=np.float64)
    isotropic = np.array([1.0] * 3 + [0.0] * 6 + [1 / 3] * 3 + [0.0] * 3)
    rest = w - mean_kurtosis_tensor(w)[..., None] * isotropic
    power = np.sum(MULTIPLICITY * w * w, axis=-1)
    return np.sqrt(np.divide(np.sum(MULTIPLICITY * rest * rest, axis=-1), power, out=np.zeros_like(power),
                             where=power > 0))  # fmt: skip


@kernel(error_model="numpy")
def _measure_chunk(begin, end, evals, evecs, kurtosis, measures):
    """Fill the columns ``begin`` to ``end`` of ``measures`` (3, n_vox)."""
    for v in range(begin, end):
        _measure(evals[v], evecs[v], kurtosis[v], measures[:, v])


@inner(error_model="numpy", fastmath={"contract"})
def _measure(evals, evecs, kurtosis, measures):
    """MK, AK and RK of one voxel."""
    if not (evals[2] > 0.0 and evals[0] < np.inf):
        return
    turned = _in_eigenframe(evecs, kurtosis)
    md = (evals[0] + evals[1] + evals[2]) / 3.0
    measures[1] = turned[0] * (md / evals[0]) ** 2
    a, b = math.sqrt(evals[1] / md), math.sqrt(evals[2] / md)
    measures[2] = (
        turned[1] * (b + 2.0 * a) / (2.0 * a**3) + turned[2] * (a + 2.0 * b) / (2.0 * b**3) + 3.0 * turned[5] / (a * b)
    ) / (a + b) ** 2
    integrals = _sphere_integrals(max(evals[1] / evals[0], _LEAST), max(evals[2] / evals[0], _LEAST))
    mean = 0.0
    for k in range(6):
        mean += turned[k] * integrals[k]
    measures[0] = mean * (md / evals[0]) ** 2


@inner(error_model="numpy")
def _in_eigenframe(evecs, kurtosis):
    """Ŵ1111 2222 3333 1122 1133 2233 in the frame of the eigenvectors."""
    squares = np.empty((3, 6))  # products of two components of each eigenvector, as a quadratic form takes them
    for k in range(3):
        j = 0
        for p in range(3):
            for q in range(p, 3):
                squares[k, j] = evecs[3 * k + p] * evecs[3 * k + q] * _DOUBLE[j]
                j += 1
    half = np.zeros((2, 6))  # Σ W_ijkl v_k v_l of the first two
    for k in range(2):
        for i in range(6):
            for j in range(6):
                half[k, i] += kurtosis[_AT[i, j]] * squares[k, j]
    turned = np.zeros(6)
    for i in range(6):
        turned[0] += half[0, i] * squares[0, i]
        turned[1] += half[1, i] * squares[1, i]
        turned[3] += half[0, i] * squares[1, i]
        turned[4] += half[0, i] * squares[2, i]
        turned[5] += half[1, i] * squares[2, i]
        for j in range(6):
            turned[2] += kurtosis[_AT[i, j]] * squares[2, j] * squares[2, i]
    return turned


@inner(error_model="numpy", fastmath={"contract"})
def _sphere_integrals(second, third):
    """⟨nᵢ² nⱼ² / D²⟩ with weights 1 (i = j) and 6 for 11 22 33 12 13 23; eigenvalues 1, ``second``, ``third``."""
    sums = np.zeros(6)
    for k in range(_NODES.size):
        u = _NODES[k]
        q0, q1, q2 = 1.0 + u, 1.0 + u * second, 1.0 + u * third
        product = q0 * q1 * q2
        weight = u * u / (product * product * math.sqrt(product))
        sums[0] += weight * (q1 * q2) * (q1 * q2)
        sums[1] += weight * (q0 * q2) * (q0 * q2)
        sums[2] += weight * (q0 * q1) * (q0 * q1)
        sums[3] += weight * product * q2
        sums[4] += weight * product * q1
        sums[5] += weight * product * q0
    for k in range(3):
        sums[k] *= 0.75 * _STEP
        sums[3 + k] *= 1.5 * _STEP
    return sums
