"""Points on the unit sphere with the triangles between them, and the named direction sets that ship with arcuate."""

from __future__ import annotations

from functools import cached_property, lru_cache
from importlib import resources
from itertools import combinations
from typing import Any

import numpy as np

from arcuate.errors import warn

SAME_DIRECTION = 1.0  # degrees; closer lines count as one direction of a scan
NAMES = ("symmetric362", "symmetric642", "symmetric724", "repulsion724", "repulsion100", "repulsion200")


def to_angles(directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Polar and azimuth angle (rad) of directions (n, 3) of any length; a zero vector counts as +z."""
    x, y, z = np.asarray(directions, dtype=np.float64).T
    r = np.sqrt(x * x + y * y + z * z)
    cosine = np.divide(z, r, out=np.ones_like(r), where=r > 0)
    return np.arccos(np.clip(cosine, -1.0, 1.0)), np.arctan2(y, x)


def from_angles(theta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """(n, 3) unit vectors of polar and azimuth angles (rad)."""
    sin_theta = np.sin(theta)
    return np.column_stack([np.cos(phi) * sin_theta, np.sin(phi) * sin_theta, np.cos(theta)])


class Sphere:
    """Points on the unit sphere, given as ``x, y, z``, as ``xyz`` or as the angles ``theta, phi``.

    Parameters
    ----------
    x, y, z : (n,) float
    xyz : (n, 3) float
    theta, phi : (n,) float, rad
        Polar and azimuth angle.
    faces : (n_faces, 3) int
        Triangles; by default the convex hull.
    edges : (n_edges, 2) int
        Neighbours; by default the edges of the faces.

    Notes
    -----
    Vertices are kept as angles and recomputed from them, as DIPY does, so that both see the same last bits.
    """

    theta: np.ndarray
    phi: np.ndarray

    def __init__(
        self,
        *,
        x: Any = None,
        y: Any = None,
        z: Any = None,
        theta: Any = None,
        phi: Any = None,
        xyz: Any = None,
        faces: Any = None,
        edges: Any = None,
    ) -> None:
        given = [(x, y, z), (xyz,), (theta, phi)]
        touched = [any(part is not None for part in group) for group in given]
        complete = [all(part is not None for part in group) for group in given]
        if sum(touched) != 1 or touched != complete:
            raise ValueError("a sphere is made of (x, y, z), of xyz, or of (theta, phi); give exactly one of them.")
        if edges is not None and faces is None:
            raise ValueError("edges need the faces they belong to: give both, only faces, or neither.")
        if theta is not None:
            self.theta, self.phi = (np.atleast_1d(np.asarray(a, dtype=np.float64)) for a in (theta, phi))
        else:
            points = np.asarray(xyz if xyz is not None else np.stack([x, y, z], axis=-1), dtype=np.float64)
            if not np.allclose(np.linalg.norm(points, axis=-1), 1):
                warn("Vertices are not on the unit sphere.", UserWarning)
            self.theta, self.phi = to_angles(points)
        if faces is not None:
            self.faces = np.asarray(faces)
        if edges is not None:
            self.edges = np.asarray(edges)

    @cached_property
    def vertices(self) -> np.ndarray:
        """(n, 3) unit vectors."""
        return from_angles(self.theta, self.phi)

    @property
    def x(self) -> np.ndarray:
        return self.vertices[:, 0]

    @property
    def y(self) -> np.ndarray:
        return self.vertices[:, 1]

    @property
    def z(self) -> np.ndarray:
        return self.vertices[:, 2]

    @cached_property
    def faces(self) -> np.ndarray:
        """(n_faces, 3) triangles between the vertices."""
        return _hull(self.vertices)

    @cached_property
    def edges(self) -> np.ndarray:
        """(n_edges, 2) pairs of neighbours."""
        return unique_edges(self.faces)

    @cached_property
    def neighbours(self) -> np.ndarray:
        """(n, most) int64, the vertices that edges lead to from each; itself where it has fewer than the most."""
        lists: list[list[int]] = [[] for _ in self.vertices]
        for a, b in self.edges.tolist():
            if a != b:
                lists[a].append(b)
                lists[b].append(a)
        most = max(map(len, lists))
        return np.array([near + [i] * (most - len(near)) for i, near in enumerate(lists)], dtype=np.int64)

    def subdivide(self, *, n: int = 1) -> Sphere:
        """Sphere with every triangle cut in four, ``n`` times."""
        vertices, faces = self.vertices, self.faces
        for _ in range(n):
            vertices, faces = _cut_in_four(vertices, faces)
        return Sphere(xyz=vertices, faces=_small_index(faces, len(vertices)))

    def find_closest(self, xyz: np.ndarray) -> int:
        """Index of the vertex nearest to a unit vector (3,)."""
        return int(np.argmax(self.vertices @ np.asarray(xyz)))


class HemiSphere(Sphere):
    """Half of a sphere: a point and its opposite are one; takes the arguments of :class:`Sphere`.

    Parameters
    ----------
    tol : float, degrees
        Vertices closer than this to each other (or to the other's opposite) are one; the first is kept.
    """

    def __init__(self, *, faces: Any = None, edges: Any = None, tol: float = 1e-5, **points: Any) -> None:
        full = Sphere(**points)
        vertices, mapping, _ = unique_directions(full.vertices, tol)
        vertices *= 1 - 2 * (vertices[:, -1:] < 0)
        if faces is not None:
            faces = _unique_sets(mapping[np.asarray(faces)])
        if edges is not None:
            edges = _unique_sets(mapping[np.asarray(edges)])
        super().__init__(xyz=vertices, faces=faces, edges=edges)

    @classmethod
    def from_sphere(cls, sphere: Any, *, tol: float = 1e-5) -> HemiSphere:
        """The half of a sphere, of ours or of DIPY's."""
        return cls(theta=sphere.theta, phi=sphere.phi, edges=sphere.edges, faces=sphere.faces, tol=tol)

    @cached_property
    def faces(self) -> np.ndarray:
        return _unique_sets(_hull(np.vstack([self.vertices, -self.vertices])) % len(self.vertices))

    def mirror(self) -> Sphere:
        """The full sphere: these vertices, then their opposites."""
        n = len(self.vertices)
        vertices = np.vstack([self.vertices, -self.vertices])
        edges = np.vstack([self.edges, n + self.edges.astype(np.int64)])
        faces = np.vstack([self.faces, n + self.faces.astype(np.int64)])
        for pairs, columns in ((edges, (0, 1)), (faces, (0, 1)), (faces, (0, 2))):
            _cross_over(pairs, columns, vertices)
        size = len(vertices)
        return Sphere(xyz=vertices, edges=_small_index(edges, size), faces=_small_index(faces, size))

    def subdivide(self, *, n: int = 1) -> HemiSphere:
        return HemiSphere.from_sphere(self.mirror().subdivide(n=n))

    def find_closest(self, xyz: np.ndarray) -> int:
        """Index of the vertex nearest to a unit vector (3,) or to its opposite."""
        return int(np.argmax(np.abs(self.vertices @ np.asarray(xyz))))


@lru_cache(maxsize=len(NAMES))
def get_sphere(name: str = "symmetric362") -> Sphere:
    """A named direction set: symmetric362, symmetric642, symmetric724, repulsion724, repulsion100, repulsion200."""
    if name not in NAMES:
        raise ValueError(f'No sphere called "{name}"; there are {", ".join(NAMES)}.')
    with resources.as_file(resources.files("arcuate.numerics") / "data" / f"{name}.npz") as path, np.load(path) as file:
        return Sphere(xyz=file["vertices"], faces=file["faces"])


@lru_cache(maxsize=len(NAMES))
def get_hemisphere(name: str = "symmetric362") -> HemiSphere:
    """Half of a named direction set."""
    return HemiSphere.from_sphere(get_sphere(name))


@lru_cache(maxsize=2)
def get_icosahedron(n: int = 4) -> HemiSphere:
    """Half of the icosahedron (±1, 0, ±φ) and its cyclic turns, triangles cut in four ``n`` times: 5·4ⁿ + 1 points."""
    golden = (1 + 5**0.5) / 2
    corners = np.array([(a, 0.0, golden * b) for a in (1, -1) for b in (1, -1)]) / np.hypot(1, golden)
    points = np.concatenate([np.roll(corners, k, axis=1) for k in range(3)])
    near = points @ points.T > 0.4  # 1/√5 between neighbours, which are the corners of the triangles
    faces = [(i, j, k) for i, j, k in combinations(range(12), 3) if near[i, j] and near[j, k] and near[i, k]]
    return HemiSphere.from_sphere(Sphere(xyz=points, faces=np.array(faces)).subdivide(n=n))


@lru_cache(maxsize=2)
def get_even_directions(n: int = 480) -> np.ndarray:
    """(n, 3) directions of a half space, spread evenly; v and -v are one.

    Parameters
    ----------
    n : 480 (6 to 7 degrees from each to the next) or 300 (8 to 9 degrees)
    """
    name = f"even{n}.npz"
    with resources.as_file(resources.files("arcuate.numerics") / "data" / name) as path, np.load(path) as file:
        directions: np.ndarray = file["directions"]
    directions.flags.writeable = False
    return directions


def unique_edges(faces: np.ndarray) -> np.ndarray:
    """(n_edges, 2) edges of triangles, each once, in a fixed order."""
    faces = np.asarray(faces)
    return _unique_sets(np.concatenate([faces[:, 0:2], faces[:, 1:3], faces[:, ::2]]))


def distinct_directions(directions: np.ndarray) -> np.ndarray:
    """Indices (k,) of the directions (n, 3) at least one degree from every earlier one, v and -v counting as one.

    The one rule for how many directions a scan has.
    """
    return unique_directions(directions, SAME_DIRECTION)[2].astype(np.int64)


def count_directions(directions: np.ndarray) -> int:
    """How many of the directions (n, 3) are distinct, see :func:`distinct_directions`."""
    return len(distinct_directions(directions))


def unique_directions(vertices: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Directions at least ``angle`` degrees from every earlier one that is kept, v and -v counting as one.

    Returns
    -------
    kept : (n_kept, 3) float
    mapping : (n,) uint16, the kept direction that stands for each vertex
    index : (n_kept,) uint16, where each kept direction stood
    """
    vertices = np.ascontiguousarray(vertices, dtype=np.float64)
    if len(vertices) > 2**16:
        raise ValueError(f"found {len(vertices)} vertices; expected at most {2**16}.")
    mapping, index = _separate(vertices, np.cos(np.pi / 180 * angle))
    return vertices[index], mapping.astype(np.uint16), index.astype(np.uint16)


def _separate(vertices: np.ndarray, cosine: float) -> tuple[np.ndarray, np.ndarray]:
    """Greedy choice of vertices whose |cos| to all chosen before is at most ``cosine``: who stands for each, and whose.

    Not compiled: every run asks this of a hundred directions before it computes anything, which takes a millisecond.
    """
    n, count = len(vertices), 0
    mapping, index = np.zeros(n, np.int64), np.zeros(n, np.int64)
    x, y, z = np.empty((3, n))
    for i, (a, b, c) in enumerate(vertices.tolist()):
        near = np.abs(a * x[:count] + b * y[:count] + c * z[:count]) > cosine
        home = int(near.argmax()) if count else 0
        if count and near[home]:
            mapping[i] = home
            continue
        mapping[i], index[count] = count, i
        x[count], y[count], z[count] = a, b, c
        count += 1
    return mapping, index[:count]


def _unique_sets(sets: np.ndarray) -> np.ndarray:
    """Rows as sets of indices, each once, ordered by their last column first."""
    sets = np.sort(sets, axis=1)
    sets = sets[np.lexsort(sets.T)]
    is_new = np.ones(len(sets), dtype=bool)
    is_new[1:] = np.any(sets[1:] != sets[:-1], axis=-1)
    return sets[is_new]


def _hull(vertices: np.ndarray) -> np.ndarray:
    from scipy.spatial import Delaunay

    return _small_index(Delaunay(vertices).convex_hull, len(vertices))


def _small_index(index: np.ndarray, n_vertices: int) -> np.ndarray:
    return index.astype(np.uint16) if n_vertices < 2**16 else index


def _cut_in_four(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each triangle cut at the middles of its edges; the middles follow the old vertices."""
    faces = np.asarray(faces, dtype=np.int64)
    corners = np.sort(np.concatenate([faces[:, 0:2], faces[:, 1:3], faces[:, ::2]]), axis=1)
    edges = _unique_sets(corners)
    keys = edges[:, 1] * len(vertices) + edges[:, 0]  # ascending: the order of the edges
    number = len(vertices) + np.searchsorted(keys, corners[:, 1] * len(vertices) + corners[:, 0])
    a, b, c = number.reshape(3, -1)
    middles = vertices[edges].sum(axis=1)
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    x, y, z = faces.T
    parts = [(x, a, c), (y, b, a), (z, c, b), (a, b, c)]
    return np.vstack([vertices, middles]), np.concatenate([np.column_stack(p) for p in parts])


def _cross_over(sets: np.ndarray, columns: tuple[int, int], vertices: np.ndarray) -> None:
    """Replace the second index by its opposite where the two vertices are over 90 degrees apart, in place."""
    first, second = columns
    is_far = np.sum(vertices[sets[:, first]] * vertices[sets[:, second]], axis=1) < 0
    sets[is_far, second] = (sets[is_far, second] + len(vertices) // 2) % len(vertices)
