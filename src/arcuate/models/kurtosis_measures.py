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
