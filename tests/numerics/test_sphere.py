"""Direction sets: the same points, faces and edges as DIPY's, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from arcuate.numerics.sphere import (
    NAMES,
    HemiSphere,
    Sphere,
    get_hemisphere,
    get_icosahedron,
    get_sphere,
    unique_directions,
)


@pytest.mark.parametrize("name", NAMES)
def test_named_spheres_are_dipys_to_the_last_bit(name: str) -> None:
    data, sphere = pytest.importorskip("dipy.data"), pytest.importorskip("dipy.core.sphere")
    theirs = data.get_sphere(name=name)
    pairs = [
        (get_sphere(name), theirs),
        (get_hemisphere(name), sphere.HemiSphere.from_sphere(theirs)),
        (get_hemisphere(name).mirror(), sphere.HemiSphere.from_sphere(theirs).mirror()),
        (get_sphere(name).subdivide(n=1), theirs.subdivide(n=1)),
    ]
    for mine, other in pairs:
        for attribute in ("vertices", "faces", "edges", "theta", "phi"):
            np.testing.assert_array_equal(getattr(mine, attribute), getattr(other, attribute))


def test_a_divided_icosahedron_covers_a_half_sphere_evenly() -> None:
    half = get_icosahedron(4)
    assert half.vertices.shape == (1281, 3)
    assert len(half.faces) == 2560
    gaps = [np.degrees(np.arccos(np.abs(half.vertices @ v).clip(max=1).astype(float))) for v in half.vertices[::40]]
    nearest = [np.sort(gap)[1] for gap in gaps]
    assert min(nearest) > 3.5
    assert max(nearest) < 5.0


def test_an_icosahedron_without_faces_gets_its_hull() -> None:
    golden = (1 + np.sqrt(5)) / 2
    points = [(0, s, t * golden) for s in (1, -1) for t in (1, -1)]
    xyz = np.array(points + [(b, c, a) for a, b, c in points] + [(c, a, b) for a, b, c in points])
    sphere = Sphere(xyz=xyz / np.linalg.norm(xyz[0]))
    assert sphere.faces.shape == (20, 3)
    assert sphere.edges.shape == (30, 2)
    assert len(sphere.subdivide(n=1).vertices) == 42
    half = HemiSphere.from_sphere(sphere)
    assert len(half.vertices) == 6
    assert half.edges.shape == (15, 2)
    assert half.find_closest(-half.vertices[4]) == 4
    assert sphere.find_closest(sphere.vertices[7]) == 7


def test_a_sphere_is_made_of_exactly_one_kind_of_coordinates() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Sphere(x=[1.0], y=[0.0])
    with pytest.raises(ValueError, match="exactly one"):
        Sphere(xyz=np.eye(3), theta=[0.0], phi=[0.0])
    with pytest.raises(ValueError, match="faces"):
        Sphere(xyz=np.eye(3), edges=[[0, 1]])
    with pytest.warns(UserWarning, match="not on the unit sphere"):
        Sphere(xyz=2 * np.eye(3))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r'No sphere called "dice".*symmetric362'):
        get_sphere("dice")


def test_opposite_and_near_directions_count_once() -> None:
    directions = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [np.sin(0.1), np.cos(0.1), 0]])
    kept, mapping, index = unique_directions(directions, 1.0)
    assert len(kept) == 3
    np.testing.assert_array_equal(mapping, [0, 0, 1, 2])
    np.testing.assert_array_equal(index, [0, 2, 3])
    assert len(unique_directions(directions, 10.0)[0]) == 2
