"""Registration and what is brought over: equal to ANTs, right against fields that are known."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import deformed
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from arcuate.cache import Cache
from arcuate.dti import Dti
from arcuate.dwi import Dwi
from arcuate.errors import InputError, InputWarning, MissingExtraError
from arcuate.io.transforms import read_transform, write_transform
from arcuate.phantom import three_shell_gradients
from arcuate.phantom.signal import tensor_signals
from arcuate.regions import region_table
from arcuate.registration import TransformResource, register_dwi_to_structural, register_volumes
from arcuate.volumes.resource import InMemoryVolumeResource
from arcuate.volumes.transforms import Affine, Chain, Displacement

ITERATIONS = (60, 40, 20)
needs_ants = pytest.mark.skipif(
    importlib.util.find_spec("ants") is None, reason="antspyx is not installed (extra ants); its oracle is left out"
)


def _grid(order: tuple[int, ...], flips: tuple[int, ...], tilt: tuple[float, ...], zooms: tuple[float, ...],
          origin: tuple[float, ...]) -> np.ndarray:  # fmt: skip
    axes = np.zeros((3, 3))
    for axis, (row, is_flipped) in enumerate(zip(order, flips, strict=True)):
        axes[row, axis] = (-1 if is_flipped else 1) * zooms[axis]
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", tilt, degrees=True).as_matrix() @ axes
    affine[:3, 3] = origin
    return affine


GRIDS = [
    _grid((0, 1, 2), (1, 0, 0), (0, 0, 0), (2, 2.5, 3), (20, -25, -22)),
    _grid((2, 0, 1), (0, 1, 0), (10, -20, 30), (2, 2.5, 3), (-20, -25, -22)),
    _grid((1, 2, 0), (1, 1, 1), (5, 5, 5), (3, 2, 2), (25, 20, 22)),
]


COARSE = _grid((0, 1, 2), (1, 0, 0), (0, 10, 0), (4, 4, 4), (30, -30, -30))


def _image(affine: np.ndarray, seed: int, shape: tuple[int, ...] = (20, 22, 18)) -> InMemoryVolumeResource:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return InMemoryVolumeResource((noise / np.abs(noise).max()).astype(np.float32), affine)


def _transform(affine: np.ndarray = GRIDS[0], seed: int = 3) -> TransformResource:
    """A warp on a grid of its own, then an affine map."""
    rng = np.random.default_rng(seed)
    vectors = gaussian_filter(rng.normal(size=(16, 16, 16, 3)), (3, 3, 3, 0))
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [8, -5, 12], degrees=True).as_matrix() * 1.05
    matrix[:3, 3] = [3, -2, 4]
    field = Displacement(
        4 * vectors / np.abs(vectors).max(), _grid((0, 1, 2), (1, 0, 0), (0, 10, 0), (4, 4, 4), (30, -30, -30))
    )
    return TransformResource.of(Chain((field, Affine(matrix))))


@needs_ants
@pytest.mark.parametrize("n", range(3))
def test_resampling_equals_antsapplytransforms_for_every_storage_order_and_tilt(n: int, tmp_path: Path) -> None:
    import ants

    from arcuate.volumes.ants_images import from_ants, to_ants

    moving, reference = _image(GRIDS[n], 1), _image(GRIDS[(n + 1) % 3], 2, (24, 20, 21))
    transform = _transform().save(tmp_path)
    files = [str(tmp_path / name) for name in json.loads((tmp_path / "transform.json").read_text())["fwd"]]
    for ours, theirs in (("linear", "linear"), ("nearest", "nearestNeighbor"), ("cubic", "bSpline")):
        done = transform.apply(moving, reference, ours)
        peer = ants.apply_transforms(to_ants(reference, "it"), to_ants(moving, "it"), files, interpolator=theirs)
        np.testing.assert_allclose(done.array, peer.numpy(), atol=2e-6)
        np.testing.assert_allclose(from_ants(peer).get_affine(), done.get_affine(), atol=1e-5)
    labels = moving.with_array((np.digitize(moving.array, [-0.3, -0.1, 0.1, 0.3]) * 7).astype(np.int16))
    peer = ants.apply_transforms(to_ants(reference, "it"), to_ants(labels, "it"), files, interpolator="genericLabel")
    done = transform.apply(labels, reference, "genericLabel")
    np.testing.assert_array_equal(done.array, peer.numpy())
    assert done.array.dtype == np.int16


@needs_ants
@pytest.mark.parametrize("tilt", [(0, 0, 0), (12, -25, 40)])
def test_an_image_keeps_its_place_with_ants_in_all_48_storage_orders(tilt: tuple[float, ...]) -> None:
    from arcuate.volumes.ants_images import from_ants, to_ants

    index = np.array([3.0, 1, 4])
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((0, 1), repeat=3):
            image = _image(_grid(order, flips, tilt, (2, 2.5, 3), (20, -25, -22)), 1, (6, 7, 8))
            theirs = to_ants(image, "it")
            place = np.array(theirs.origin) + np.array(theirs.direction) @ (np.array(theirs.spacing) * index)
            np.testing.assert_allclose(place * [-1, -1, 1], (image.affine @ [*index, 1])[:3], atol=1e-4)
            back = from_ants(theirs)
            np.testing.assert_allclose(back.get_affine(), image.affine, atol=1e-5)
            np.testing.assert_array_equal(back.array, image.array)


@needs_ants
def test_a_composite_that_ants_wrote_applies_as_antsapplytransforms_does(tmp_path: Path) -> None:
    import ants

    from arcuate.volumes.ants_images import to_ants

    pytest.importorskip("h5py", reason="h5py is not installed (extra ants)")
    fixed, moving = _image(GRIDS[0], 1), _image(GRIDS[1], 1)
    result = ants.registration(
        to_ants(fixed, "it"), to_ants(moving, "it"), "SyN", write_composite_transform=True, reg_iterations=(5, 0, 0),
        aff_iterations=(5, 0, 0, 0), outprefix=f"{tmp_path}/t_",
    )  # fmt: skip
    composite = str(result["fwdtransforms"])
    assert composite.endswith(".h5")
    done = TransformResource.load(composite).apply(moving, fixed)
    peer = ants.apply_transforms(to_ants(fixed, "it"), to_ants(moving, "it"), [composite])
    np.testing.assert_allclose(done.array, peer.numpy(), atol=2e-6)
    TransformResource.load(composite).save(tmp_path / "kept")
    again = TransformResource.load(tmp_path / "kept").apply(moving, fixed)
    np.testing.assert_allclose(again.array, done.array, atol=1e-5)


def test_a_transform_survives_the_disk_and_the_cache(tmp_path: Path) -> None:
    transform, points = _transform(), np.random.default_rng(0).uniform(-15, 15, (40, 3))
    expected = transform.map_points(points)
    np.testing.assert_allclose(transform.inverse.map_points(expected), points, atol=1e-3)
    transform.save(tmp_path / "t")
    loaded = TransformResource.load(tmp_path / "t")
    np.testing.assert_allclose(loaded.map_points(points), expected, atol=1e-5)
    files = [tmp_path / "t" / "0_warp.nii.gz", (tmp_path / "t" / "1_affine.mat", False)]
    np.testing.assert_allclose(TransformResource.load(files).map_points(points), expected, atol=1e-5)
    back = TransformResource.load([(tmp_path / "t" / "1_affine.mat", True)])
    np.testing.assert_allclose(back.map_points(loaded.transform.links[1].map(points)), points, atol=1e-9)


def test_linear_transforms_of_itk_are_read_as_itk_defines_them(tmp_path: Path) -> None:
    text = "#Insight Transform File V1.0\n#Transform 0\nTransform: {}\nParameters: {}\nFixedParameters: {}\n"
    path, flip = tmp_path / "t.txt", np.diag([-1.0, -1, 1])
    rotation = Rotation.from_euler("z", 30, degrees=True).as_matrix()
    centre, shift = np.array([10.0, -5, 3]), np.array([1.0, 2, 3])
    expected = lambda lps: rotation @ (lps - centre) + centre + shift  # noqa: E731
    numbers = " ".join(map(str, [*rotation.ravel(), *shift]))
    versor = " ".join(map(str, [0, 0, np.sin(np.radians(15)), *shift]))
    euler = " ".join(map(str, [0, 0, np.radians(30), *shift]))
    for kind, parameters in (("AffineTransform_double_3_3", numbers), ("VersorRigid3DTransform_double_3_3", versor),
                             ("Euler3DTransform_double_3_3", euler)):  # fmt: skip
        path.write_text(text.format(kind, parameters, "10 -5 3"))
        point = np.array([4.0, 7, -2])
        np.testing.assert_allclose(read_transform(path).map(point[None])[0], flip @ expected(flip @ point), atol=1e-9)
    path.write_text(text.format("BSplineTransform_double_3_3", "1 2", "0"))
    with pytest.raises(InputError, match=r"holds a BSplineTransform_double_3_3 with 2 parameters; expected one of"):
        read_transform(path)


def test_bad_transforms_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; expected a transform"):
        TransformResource.load(tmp_path / "absent.h5")
    for name, says in (("x.lta", "is no transform that is known"), ("x.mat", "is no matrix of ANTs"),
                       ("x.txt", "is no transform of ITK")):  # fmt: skip
        (tmp_path / name).write_text("1 0 0 0\n0 1 0 0\n")
        with pytest.raises(InputError, match=says):
            TransformResource.load(tmp_path / name)
    with pytest.raises(InputError, match=r"found no transform\.json in"):
        TransformResource.load(tmp_path)
    (tmp_path / "transform.json").write_text('{"fwd": ["../a.mat"], "inverse": []}')
    with pytest.raises(InputError, match="files of its own folder alone"):
        TransformResource.load(tmp_path)
    from arcuate.io import NiftiVolumeResource

    NiftiVolumeResource.save(_image(GRIDS[0], 0), tmp_path / "w.nii.gz")
    with pytest.raises(InputError, match="expected a displacement field"):
        TransformResource.load(tmp_path / "w.nii.gz")


def test_volumes_that_do_not_fit_their_kind_are_refused() -> None:
    transform, image = _transform(), _image(GRIDS[0], 0)
    with pytest.raises(InputError, match="found the kind 'vector'; expected one of scalar"):
        transform.apply(image, image, kind="vector")
    with pytest.raises(InputError, match=r"for the kind 'tensor'; expected \(x, y, z, 6\)"):
        transform.apply(image, image, kind="tensor")
    with pytest.raises(InputError, match="found modulation for the kind 'scalar'"):
        transform.apply(image, image, modulate=True)
    with pytest.raises(InputError, match="found no volume or no reference"):
        transform.apply(image)


def test_without_ants_registration_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ants", None)
    with pytest.raises(MissingExtraError, match=r"needs ANTs \(antspyx\).*pip install .*\[ants\]'"):
        register_volumes(_image(GRIDS[0], 0), _image(GRIDS[1], 0))


# --- heads deformed by a known field


@pytest.fixture(scope="module")
def heads() -> dict[str, Any]:
    """A head, the same deformed by a known field, and the transform that ANTs finds."""
    if importlib.util.find_spec("ants") is None:
        pytest.skip("antspyx is not installed (extra ants)")
    moving = deformed.t1_head()
    affine = moving["t1"].get_affine()
    truth = TransformResource.of(deformed.field_of(deformed.waves(5.0, 1), deformed.SHAPE, affine))
    fixed = {name: truth.apply(v, v, "label" if name in {"labels", "mask"} else "linear") for name, v in moving.items()}
    warped, found = register_volumes(fixed["t1"], moving["t1"], "SyN", reg_iterations=ITERATIONS)
    return {"moving": moving, "fixed": fixed, "truth": truth, "found": found, "warped": warped}


def test_registration_recovers_points_and_labels(heads: dict[str, Any]) -> None:
    fixed, moving = heads["fixed"], heads["moving"]
    inside = fixed["mask"].array.ravel() > 0
    points = deformed.grid_points(deformed.SHAPE, fixed["t1"].get_affine())[inside]
    expected = heads["truth"].map_points(points)
    apart = np.linalg.norm(heads["found"].map_points(points) - expected, axis=1)
    assert np.median(np.linalg.norm(points - expected, axis=1)) > 3.0  # mm, without registration
    assert np.median(apart) < deformed.SIZE / 2
    labels = heads["found"].apply(moving["labels"], fixed["t1"], "label").array
    overlaps = [
        deformed.dice(labels == k, fixed["labels"].array == k)
        for k in np.unique(labels)
        if k and np.sum(fixed["labels"].array == k) > 40
    ]
    assert len(overlaps) > 10
    assert np.median(overlaps) > 0.9
    assert deformed.dice(labels > 0, fixed["labels"].array > 0) > 0.96


BY_HAND = """
import sys
import numpy as np, ants
from arcuate.io import NiftiVolumeResource
from arcuate.volumes.ants_images import seeded, to_ants
from arcuate.registration import register_volumes
fixed, moving = (NiftiVolumeResource(path).load() for path in sys.argv[1:3])
options = dict(reg_iterations=(8, 4, 0), aff_iterations=(50, 20, 0, 0))
with seeded(7):
    peer = ants.registration(to_ants(fixed, "it"), to_ants(moving, "it"), "SyN", **options)
ours, _ = register_volumes(fixed, moving, "SyN", seed=7, **options)
print(np.abs(ours.array - peer["warpedmovout"].numpy()).max(), np.abs(moving.array - ours.array).mean())
"""


def test_registration_equals_antspyx_by_hand(heads: dict[str, Any], tmp_path: Path) -> None:
    """In a process of one thread: sums over several threads differ from one call of ANTs to the next."""
    from arcuate.io import NiftiVolumeResource

    for name in ("fixed", "moving"):
        NiftiVolumeResource.save(heads[name]["t1"], tmp_path / f"{name}.nii.gz")
    done = subprocess.run(
        [sys.executable, "-c", BY_HAND, tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz"],
        capture_output=True, text=True, env=os.environ | {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    apart, moved = map(float, done.stdout.split())
    assert apart < 1e-3  # of 100
    assert moved > 1.0


@pytest.mark.parametrize("orientation", ["LAS", "PSR", "SRA"])
def test_a_head_stored_in_another_order_and_tilted_stays_where_it_is(heads: dict[str, Any], orientation: str) -> None:
    """The same head on another grid: the transform is nearly none, in millimetres of the scanner."""
    other = deformed.t1_head(orientation=orientation, tilt=15.0)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [5, -4, 7], degrees=True).as_matrix()
    moved = InMemoryVolumeResource(other["t1"].array, turn @ other["t1"].get_affine())
    found = register_volumes(heads["moving"]["t1"], moved, "Rigid")[1]
    points = deformed.grid_points(deformed.SHAPE, heads["moving"]["t1"].get_affine())
    points = points[heads["moving"]["mask"].array.ravel() > 0]
    apart = np.linalg.norm(found.map_points(points) - points @ turn[:3, :3].T, axis=1)
    assert np.median(apart) < deformed.SIZE / 4


def test_region_means_through_atlas_transform_and_back_are_the_true_ones(heads: dict[str, Any]) -> None:
    """The atlas of one head brought to the other, and back; a map that changes by 80 % across the head."""
    fixed, moving = heads["fixed"], heads["moving"]
    points = deformed.grid_points(deformed.SHAPE, fixed["t1"].get_affine())
    smooth = fixed["t1"].with_array(0.5 + 0.2 * np.sin(points @ [0.04, 0.03, 0.02]).reshape(deformed.SHAPE))

    def errors(transform: TransformResource) -> np.ndarray:
        atlas = transform.apply(moving["labels"], fixed["t1"], "label")
        back = transform.inverse.apply(atlas, moving["t1"], "label")
        found = []
        for labels, truth in ((atlas, fixed["labels"]), (back, moving["labels"])):
            for row, expected in zip(region_table(smooth, labels).rows, region_table(smooth, truth).rows, strict=True):
                if expected["voxels"] > 100:
                    found.append(abs(row["mean"] / expected["mean"] - 1))
        return np.array(found)

    known, registered = errors(heads["truth"]), errors(heads["found"])
    assert len(known) >= 14
    assert np.all(known < 0.01)
    assert np.median(registered) < 0.01
    assert np.all(registered < 0.03)  # by registration alone; its borders are off by a part of a voxel of 4 mm


def test_a_registration_that_cannot_be_is_one_sentence(heads: dict[str, Any]) -> None:
    t1 = heads["fixed"]["t1"]
    with pytest.raises(InputError, match="the moving image is constant"):
        register_volumes(t1, t1.with_array(np.zeros(deformed.SHAPE)))
    with pytest.raises(InputError, match=r"takes \(x, y, z\)"):
        register_volumes(t1, t1.with_array(np.zeros((4, 4, 4, 2))))
    with pytest.raises(InputError, match=r"found the moving image of shape \(42, 50, 2\); expected 4 voxels or more"):
        register_volumes(t1, t1.with_array(t1.array[..., 10:12]))
    with pytest.raises(InputError, match="ANTs could not register the images with 'Magic'"):
        register_volumes(t1, heads["moving"]["t1"], "Magic")
    with pytest.raises(InputError, match="found the mask of shape"):
        register_volumes(t1, heads["moving"]["t1"], "Rigid", mask=t1.with_array(np.ones((4, 4, 4))))
    with pytest.warns(InputWarning, match="a mask of the fixed image and none of the moving one"):
        register_volumes(t1, t1, "Rigid", mask=t1.with_array(t1.get_array() > 0))


def test_a_scan_comes_to_its_t1_rigidly_and_the_step_is_kept(heads: dict[str, Any], tmp_path: Path) -> None:
    moving = heads["moving"]
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [4, -3, 6], degrees=True).as_matrix()
    turn[:3, 3] = [4, 6, -3]
    gradients = three_shell_gradients(n_b0=2, bvals=(1000,), n_directions=6)
    contrast = np.where(moving["t1"].array > 5, 140 - moving["t1"].array, 2)
    signal = np.repeat(contrast[..., None], len(gradients), axis=3).astype(np.float32)
    scan = Dwi.from_arrays(signal, turn @ moving["t1"].get_affine(), gradients)
    with Cache(tmp_path):
        transform = register_dwi_to_structural(scan, moving["t1"])
    with Cache(tmp_path) as cache:
        again = register_dwi_to_structural(scan, moving["t1"])
        assert "register_dwi_to_structural" in str(cache.status([register_dwi_to_structural]))
    points = deformed.grid_points(deformed.SHAPE, moving["t1"].get_affine())[moving["mask"].array.ravel() > 0]
    expected = points @ turn[:3, :3].T + turn[:3, 3]
    for found in (transform, again):
        assert np.median(np.linalg.norm(found.map_points(points) - expected, axis=1)) < 1.0
    with pytest.raises(InputError, match="found the phase-encoding direction 'y'; expected i, j or k"):
        register_dwi_to_structural(scan, moving["t1"], phase_encoding="y")


# --- fibres along a known field


def test_tensors_fods_and_peaks_follow_a_known_deformation() -> None:
    """Fibres along a smooth field, bent by another: warped, they point as the truth does, and as fits in place do."""
    from arcuate.csd import estimate_fods, estimate_response_function, find_fod_peaks

    shape, affine = (12, 12, 12), np.diag([-3.0, 3, 3, 1])
    affine[:3, 3] = [17, -17, -17]
    gradients = three_shell_gradients(n_b0=2, bvals=(2500,), n_directions=60)
    shift = deformed.waves(2.0, 2, longest=80.0)
    transform = TransformResource.of(deformed.field_of(shift, shape, affine))

    def fibres(points: np.ndarray) -> np.ndarray:
        a, b = points @ [0.02, 0.015, -0.01], points @ [-0.01, 0.02, 0.015]
        return np.stack([np.cos(a) * np.cos(b), np.sin(a) * np.cos(b), np.sin(b)], axis=1)

    def scan(directions: np.ndarray) -> Dwi:
        along = np.einsum("ni,nj->nij", directions, directions)
        tensors = 0.3e-3 * np.eye(3) + 1.4e-3 * along
        flat = tensors[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]
        signals = 1000 * tensor_signals(gradients, flat)
        return Dwi.from_arrays(signals.reshape(*shape, -1).astype(np.float32), affine, gradients)

    points = deformed.grid_points(shape, affine)
    mapped = transform.map_points(points)
    step = 1e-3
    derivative = np.stack([(shift(points + step * e) - shift(points - step * e)) / (2 * step) for e in np.eye(3)], -1)
    truth = np.einsum("nij,nj->ni", np.linalg.inv(np.eye(3) + derivative), fibres(mapped))
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    inner = np.zeros(shape, bool)
    inner[3:-3, 3:-3, 3:-3] = True

    def off(directions: np.ndarray) -> float:
        cosine = np.abs(np.sum(directions.reshape(-1, 3) * truth, axis=1))[inner.ravel()]
        return float(np.median(np.degrees(np.arccos(np.clip(cosine, 0, 1)))))

    before, in_place = scan(fibres(points)), scan(truth)
    plain = before.estimate_dti(b_max=2500).volume
    tensors = Dti(transform.apply(plain, plain, kind="tensor"))
    assert off(tensors.get_eig()[1].array[..., :3]) < 0.5
    unturned = Dti(transform.apply(plain, plain))
    assert off(unturned.get_eig()[1].array[..., :3]) > 0.7

    response = estimate_response_function(before, None, "ssst")
    tissue = response.tissues[0]
    fods = [estimate_fods(s, None, response).volumes[tissue] for s in (before, in_place)]
    warped = transform.apply(fods[0], fods[0], kind="fod")
    angles = []
    for fod in (warped, fods[1]):
        directions, _ = find_fod_peaks(fod, n_peaks=1)
        angles.append(off(np.asarray(directions.get_array())[..., 0, :]))
    assert abs(angles[0] - angles[1]) < 0.5
    assert angles[0] < 0.6
    directions, _ = find_fod_peaks(fods[0], n_peaks=1)
    peaks = transform.apply(directions, fods[0], kind="peaks")
    assert off(peaks.array[..., 0, :]) < 3.0  # nearest voxel: its fibres, turned by the place's own derivative


def test_a_written_affine_is_read_back(tmp_path: Path) -> None:
    matrix = np.eye(4)
    matrix[:3, 3] = [1, 2, 3]
    found = read_transform(write_transform(Affine(matrix), tmp_path / "a.mat"))
    np.testing.assert_allclose(found.map(np.zeros((1, 3))), [[1, 2, 3]])
