"""Tracts: equal to TractSeg given the same weights and peaks, in any storage order, and what is said when not."""

from __future__ import annotations

import itertools
import json
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from arcuate.csd import estimate_response_function
from arcuate.dwi import Dwi
from arcuate.errors import InputError, MissingExtraError
from arcuate.io import NiftiVolumeResource
from arcuate.nets import bundles
from arcuate.nets.bundles import CroppedHead, _outputs, close_gaps, main_axes, run_network
from arcuate.nets.unet import load_unet
from arcuate.phantom import make_phantom, three_shell_gradients
from arcuate.tractseg import (
    extract_tractseg,
    find_fod_tracts,
    find_tracts,
    get_bundle_names,
    mask_orientation_maps,
    tract_names,
)
from arcuate.volumes.resource import InMemoryVolumeResource

torch = pytest.importorskip("torch", reason="torch is not installed (extra [tractseg])")
HERE = Path(__file__).parent
GOLDEN = HERE / "golden"  # tractseg_<output type>.npz, by scripts/make_tractseg_golden.py
PUBLISHED = runpy.run_path(str(HERE / "nets" / "published_weights.py"))
SEEDS = {"tract_segmentation_v3": (72, 1), "endings_segmentation_v4": (144, 2)}
SEEDS |= {f"peak_regression_part{i + 1}_v2": (54, 3 + i) for i in range(4)}
NEAR = 1e-4


def _write(folder: Path, *names: str, n_filters: int = 64) -> Path:
    for name in names:
        n_classes, seed = SEEDS[name]
        scale = PUBLISHED["VECTORS"] if "regression" in name else 1.0
        PUBLISHED["write_weights"](folder / f"pretrained_weights_{name}.npz", n_classes, seed, n_filters, scale)
    return folder


def _golden(output_type: str) -> dict[str, np.ndarray]:
    path = GOLDEN / f"tractseg_{output_type}.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} was not made yet: scripts/make_tractseg_golden.py")
    with np.load(path) as kept:
        return dict(kept)


@pytest.fixture(scope="module")
def peaks(data_dir: Path) -> InMemoryVolumeResource:
    return NiftiVolumeResource(data_dir / "tractseg_reference" / "peaks.nii.gz").load()


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Path]:
    """Folder with weights of a network of 2 filters in place of 64: quick."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so little work is slower when it is shared out
    yield _write(tmp_path / "narrow", *SEEDS, n_filters=2)
    torch.set_num_threads(threads)


def _small(seed: int = 0, shape: tuple[int, int, int] = (7, 9, 8)) -> InMemoryVolumeResource:
    """Random peaks with an empty margin, stored LAS."""
    array = np.zeros((*shape, 9), np.float32)
    array[1:-1, 1:-1, 1:] = np.random.default_rng(seed).normal(size=array[1:-1, 1:-1, 1:].shape)
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = 10, -9, -8
    return InMemoryVolumeResource(array, affine)


def _stored(volume: InMemoryVolumeResource, order: tuple, signs: tuple) -> InMemoryVolumeResource:
    """The same head in the scanner, its axes stored in another order and direction."""
    array, turn = volume.get_array(), np.zeros((4, 4))
    turn[3, 3] = 1
    for new, (old, sign) in enumerate(zip(order, signs, strict=True)):
        turn[old, new], turn[old, 3] = sign, array.shape[old] - 1 if sign < 0 else 0
    stored = np.flip(np.transpose(array, (*order, 3)), [i for i in range(3) if signs[i] < 0])
    return InMemoryVolumeResource(np.ascontiguousarray(stored), volume.get_affine() @ turn)


ORDERS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]


def _compare(found: np.ndarray, golden: dict[str, np.ndarray], probabilities: np.ndarray, kind: str) -> None:
    """Masks of the golden voxels, and the count of each tract over the whole head."""
    n_classes = found.shape[3]
    is_near = np.abs(probabilities.reshape(-1, n_classes) - 0.5) < NEAR
    ruled = [tract_names("tract_segmentation").index(n) for n in ("CA", "FX_left", "FX_right")]
    plain = [i for i in range(n_classes) if kind != "tract_segmentation" or i not in ruled]
    differ, expected = _differences(found, golden, is_near)
    assert not differ[:, plain].any()
    # where a closing follows the threshold, a voxel near it moves its neighbours
    assert differ.mean() < 1e-4
    assert 0.05 < expected.mean() < 0.95
    counts = found.reshape(-1, n_classes).sum(axis=0, dtype=np.int64)
    allowed = is_near.sum(axis=0)
    assert (np.abs(counts - golden["counts"])[plain] <= allowed[plain]).all()
    np.testing.assert_allclose(counts[ruled], golden["counts"][ruled], rtol=1e-3)


def _differences(
    found: np.ndarray, golden: dict[str, np.ndarray], is_near: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n_golden, n_classes) where masks differ though no probability is near the threshold; what TractSeg's are."""
    n_classes, index = found.shape[3], golden["index"]
    expected = np.unpackbits(golden["masks"], count=len(index) * n_classes).reshape(-1, n_classes)
    return (found.reshape(-1, n_classes)[index] != expected) & ~is_near[index], expected


def _find(
    peaks: InMemoryVolumeResource, output_type: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[np.ndarray, np.ndarray]:
    """Masks and probabilities (x, y, z, n_classes) from one pass of the network at its published width."""
    from arcuate import tractseg

    kept = []

    def remember(*args: object, **options: object) -> tuple[np.ndarray, np.ndarray]:
        kept.append(run_network(*args, **options))
        return kept[-1]

    monkeypatch.setattr(tractseg, "run_network", remember)
    weights = _write(folder, next(name for name in SEEDS if name.startswith(output_type)))
    found = find_tracts(peaks, output_type, weights=weights, device="cpu").get_array()
    assert found.shape == (73, 87, 73, len(tract_names(output_type)))
    assert found.dtype == np.uint8
    probabilities = np.zeros(found.shape, np.float32)
    probabilities[_head_of(peaks).box] = np.moveaxis(kept[0][0], 0, -1)
    return found, probabilities


@pytest.mark.long
@pytest.mark.parametrize("output_type", ["tract_segmentation", "endings_segmentation"])
def test_masks_and_probabilities_of_a_head_equal_those_of_tractseg(
    peaks: InMemoryVolumeResource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output_type: str
) -> None:
    golden = _golden(output_type)
    found, probabilities = _find(peaks, output_type, tmp_path, monkeypatch)
    few = probabilities.reshape(-1, found.shape[3])[golden["few"]]
    np.testing.assert_allclose(few, golden["probabilities"], atol=1e-4)
    _compare(found, golden, probabilities, output_type)


def _crossings(head: CroppedHead, places: np.ndarray, n_slices: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Slices (n_slices,) of each direction that many of the voxels ``places`` (n, 3) of the head lie on, and which do.

    From all slices the one that holds the fewest of the voxels still held is left out, until few enough are left.
    """
    seen = np.stack([axis.source[axis.back][at] for axis, at in zip(head.axes, places.T, strict=True)], axis=1)
    held = np.ones(len(seen), bool)
    chosen = [np.unique(column) for column in seen.T]
    while True:
        open_axes = [axis for axis in range(3) if len(chosen[axis]) > n_slices]
        if not open_axes:
            return chosen, held
        counts = {axis: [np.sum(held & (seen[:, axis] == p)) for p in chosen[axis]] for axis in open_axes}
        axis = min(open_axes, key=lambda a: min(counts[a]))
        worst = chosen[axis][np.argmin(counts[axis])]
        chosen[axis] = chosen[axis][chosen[axis] != worst]
        held &= seen[:, axis] != worst


def test_where_slices_cross_probabilities_and_masks_equal_those_of_tractseg(
    peaks: InMemoryVolumeResource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step as it is, but that 24 of its 190 slices go through the network; compared is where three of them meet.

    Closed tracts need the whole head: they are in the full count.
    """
    golden, head = _golden("tract_segmentation"), _head_of(peaks)
    corner = [part.start for part in head.box]

    def places(index: np.ndarray) -> np.ndarray:
        return np.stack(np.unravel_index(index, peaks.shape[:3]), axis=1) - corner

    chosen, is_few = _crossings(head, places(golden["few"]), 8)
    monkeypatch.setattr(bundles, "_outputs", lambda head, unet, axis, positions, batch: _outputs(
        head, unet, axis, positions[np.isin(positions, chosen[axis])], batch))  # fmt: skip
    found, probabilities = _find(peaks, "tract_segmentation", tmp_path, monkeypatch)
    few = probabilities.reshape(-1, found.shape[3])[golden["few"][is_few]]
    np.testing.assert_allclose(few, golden["probabilities"][is_few], atol=1e-4)
    assert len(few) >= 20
    on = [np.isin(axis.source[axis.back][at], some) for axis, at, some in
          zip(head.axes, places(golden["index"]).T, chosen, strict=True)]  # fmt: skip
    both = np.logical_and.reduce(on)
    closed = [tract_names("tract_segmentation").index(name) for name in bundles.INCOMPLETE]
    is_near = np.abs(probabilities.reshape(-1, found.shape[3]) - 0.5) < NEAR
    differ, expected = _differences(found, golden, is_near)
    assert not np.delete(differ[both], closed, axis=1).any()
    assert both.sum() >= 5
    assert 0.05 < expected[both].mean() < 0.95


def _head_of(peaks: InMemoryVolumeResource) -> CroppedHead:
    head = CroppedHead.of(np.nan_to_num(peaks.get_array()), (2.5, 2.5, 2.5))
    assert head is not None
    return head


@pytest.mark.long
@pytest.mark.parametrize("kind", ["maps", "fused"])
def test_orientation_maps_of_a_head_equal_those_of_tractseg(
    peaks: InMemoryVolumeResource, tmp_path: Path, kind: str
) -> None:
    """Of the first of the four networks, before they are masked and normalised: one direction, and three fused."""
    from arcuate.tractseg import _orientation_maps

    golden = _golden("TOM")
    head = _head_of(peaks)
    path = _write(tmp_path, "peak_regression_part1_v2") / "pretrained_weights_peak_regression_part1_v2.npz"
    unet = load_unet(path, 54, upsampling="nearest", has_sigmoid=False)
    directions = (1,) if kind == "maps" else (0, 1, 2)
    options = {"directions": directions, "batch": 2, "progress": None}
    maps = np.zeros((*peaks.shape[:3], 54), np.float32)
    maps[head.box] = np.moveaxis(_orientation_maps(head, iter([unet]), options), 0, -1)
    rows, expected = maps.reshape(-1, 54)[golden["index"]], golden[kind]
    if kind == "maps":
        np.testing.assert_allclose(rows[:, ::2], expected, atol=1e-4)
        assert np.abs(expected).max() > 0.5
        return
    rows = rows.reshape(len(rows), -1, 3)[:, golden["tracts"]]
    expected = expected.reshape(rows.shape)
    sign = np.sign((rows * expected).sum(axis=2, keepdims=True))  # an axis: which of its two ends is not defined
    np.testing.assert_allclose(rows * sign, expected, atol=1e-4)
    assert np.abs(expected).max() > 0.5


def test_orientation_maps_of_three_directions_are_the_main_axes_of_their_mean_tensor() -> None:
    rng = np.random.default_rng(5)
    v = rng.normal(size=(2, 3, 50, 3))  # tracts, components, voxels, directions
    v[:, :, :5] *= 1e-3
    tensors = np.einsum("kivd,kjvd->kijv", v, v) / 3
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    six = np.stack([tensors[:, i, j] for i, j in pairs], axis=1).reshape(12, 50).astype(np.float32)
    fused = main_axes(six).reshape(2, 3, 50)
    for k in range(2):
        for voxel in range(50):
            evals, evecs = np.linalg.eigh(tensors[k, :, :, voxel])
            expected = evals[2] * evecs[:, 2] if evals[2] >= 1e-3 else np.zeros(3)
            found = fused[k, :, voxel]
            np.testing.assert_allclose(found * (np.sign(found @ expected) or 1), expected, atol=1e-4)


def test_the_same_head_in_all_48_storage_orders_has_the_same_probabilities(narrow: Path) -> None:
    _same_in_orders(ORDERS, weights=narrow, probabilities=True, single_orientation=True)


@pytest.mark.parametrize("output_type", ["tract_segmentation", "TOM"])
def test_the_same_head_in_other_storage_orders_has_the_same_tracts(narrow: Path, output_type: str) -> None:
    _same_in_orders(ORDERS[5:48:14], output_type=output_type, weights=narrow)


def _same_in_orders(orders: list, **options: object) -> None:
    volume = _small(shape=(5, 6, 5))
    expected = find_tracts(volume, device="cpu", batch=8, **options)
    assert 0.02 < np.mean(expected.get_array() != 0) < 0.9
    for order, signs in orders:
        stored = _stored(volume, order, signs)
        found = find_tracts(stored, device="cpu", batch=8, **options)
        again = _stored(InMemoryVolumeResource(expected.get_array(), volume.get_affine()), order, signs)
        np.testing.assert_array_equal(found.get_array(), again.get_array())
        np.testing.assert_array_equal(found.get_affine(), stored.get_affine())


@pytest.mark.parametrize("output_type", ["tract_segmentation", "TOM"])
def test_an_oblique_scan_of_a_turned_head_has_the_same_tracts(narrow: Path, output_type: str) -> None:
    volume = _small()
    c, s = np.cos(0.35), np.sin(0.35)
    rotation = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    turn = np.eye(4)
    turn[:3, :3] = rotation
    array = (volume.get_array().reshape(-1, 3) @ rotation.T).astype(np.float32).reshape(volume.shape)
    oblique = InMemoryVolumeResource(array, turn @ volume.get_affine())
    straight, tilted = (
        find_tracts(v, output_type, weights=narrow, device="cpu").get_array() for v in (volume, oblique)
    )
    if output_type == "TOM":
        back = (tilted.reshape(-1, 3) @ rotation).reshape(tilted.shape)
        np.testing.assert_allclose(back, straight, atol=1e-4)
    else:
        assert np.mean(straight != tilted) < 1e-3


def test_padding_nan_order_of_peaks_and_mask(narrow: Path) -> None:
    volume = _small()
    options = {"weights": narrow, "device": "cpu", "probabilities": True}
    expected = find_tracts(volume, **options).get_array()
    array = volume.get_array()
    with_nan = np.where(array == 0, np.nan, array)
    np.testing.assert_array_equal(
        find_tracts(InMemoryVolumeResource(with_nan, volume.get_affine()), **options).get_array(), expected
    )
    more = np.concatenate([array, np.ones_like(array[..., :6])], axis=3)
    np.testing.assert_array_equal(
        find_tracts(InMemoryVolumeResource(more, volume.get_affine()), **options).get_array(), expected
    )
    inside = np.zeros(array.shape[:3], np.uint8)
    inside[2:5, 2:6, 3:7] = 1
    masked = np.where(inside[..., None] > 0, array, 0)
    np.testing.assert_array_equal(
        find_tracts(volume, mask=InMemoryVolumeResource(inside, volume.get_affine()), **options).get_array(),
        find_tracts(InMemoryVolumeResource(masked, volume.get_affine()), **options).get_array(),
    )


def test_what_repeats_a_slice_is_not_run_again(narrow: Path) -> None:
    """Every slice of the cube run one by one gives what the distinct ones give."""
    head = CroppedHead.of(_small().get_array(), (2.0, 2.0, 2.0))
    assert head is not None
    unet = load_unet(PUBLISHED["write_weights"](narrow / "seven.npz", 7, 1, 2), 7)
    here, cube = run_network(head, unet, whole=[4, 6], batch=3)
    every = np.zeros((7, 144, 144, 144), np.float32)
    for axis in range(3):
        rows = np.moveaxis(every, 1 + axis, 1)
        for i, position in enumerate(head.axes[axis].source):
            rows[:, i] += unet(head.slice_of_cube(axis, int(position))[None]).numpy()[0]
    every /= 3
    np.testing.assert_allclose(cube, every[[4, 6]], atol=1e-6)
    looked_up = every[:, head.axes[0].back][:, :, head.axes[1].back][:, :, :, head.axes[2].back]
    np.testing.assert_allclose(here, looked_up, atol=1e-6)


def test_a_thin_tract_in_two_parts_is_joined_and_one_in_one_part_is_not_widened() -> None:
    probability = np.zeros((60, 60, 60), np.float32)
    probability[10:20, 10:20, 10:20] = probability[10:20, 10:20, 34:44] = 0.7
    probability[14:17, 14:17, 20:34] = 0.35
    joined = close_gaps(probability, 200, 0.3)
    assert joined[15, 15, 25]
    probability[10:20, 10:20, 34:44] = 0
    assert not close_gaps(probability, 200, 0.3)[15, 15, 25]


def test_closing_equals_that_with_a_whole_box() -> None:
    from scipy import ndimage

    probability = ndimage.gaussian_filter(np.random.default_rng(1).random((40, 41, 42)), 2).astype(np.float32)
    probability = (probability - probability.min()) / np.ptp(probability)
    inside = probability > 0.5
    expected = ndimage.binary_closing(inside, structure=np.ones((6, 6, 6)))
    np.testing.assert_array_equal(close_gaps(probability, 10**9, 0.3), expected)


def test_orientation_maps_inside_tracts_are_unit_vectors() -> None:
    rng = np.random.default_rng(0)
    maps = InMemoryVolumeResource(rng.normal(size=(5, 5, 5, 216)).astype(np.float32))
    inside = np.zeros((5, 5, 5, 72), np.uint8)
    inside[2, 2, 2] = 1
    masked = mask_orientation_maps(maps, InMemoryVolumeResource(inside)).get_array().reshape(5, 5, 5, 72, 3)
    lengths = np.linalg.norm(masked, axis=-1)
    assert np.count_nonzero(lengths[..., 0]) == 7
    np.testing.assert_allclose(lengths[lengths > 0], 1, rtol=1e-6)
    with pytest.raises(InputError, match=r"\(x, y, z, 216\)"):
        mask_orientation_maps(maps, InMemoryVolumeResource(inside[:4]))


def test_names_are_tractsegs() -> None:
    names = get_bundle_names("All")
    assert names[0] == "BG"
    assert len(names) == 73
    assert names[1:6] == ["AF_left", "AF_right", "ATR_left", "ATR_right", "CA"]
    assert [names.index(n) for n in ("CC_7", "CST_right", "MCP", "UF_left", "CC", "ST_OCC_right")] == [
        12, 16, 29, 44, 46, 72,
    ]  # fmt: skip
    assert get_bundle_names("All_endpoints")[1:4] == ["AF_left_b", "AF_left_e", "AF_right_b"]
    assert len(get_bundle_names("All_endpoints")) == 145
    parts = [name for i in range(1, 5) for name in get_bundle_names(f"All_Part{i}")[1:]]
    assert parts == names[1:]
    with pytest.raises(InputError, match="'20'"):
        get_bundle_names("20")


def test_peaks_that_are_none_are_refused(narrow: Path) -> None:
    empty = InMemoryVolumeResource(np.zeros((5, 5, 5, 9), np.float32))
    with pytest.raises(InputError, match="no peak"):
        find_tracts(empty, weights=narrow)
    with pytest.raises(InputError, match=r"\(5, 5, 5, 8\).*expected peaks"):
        find_tracts(InMemoryVolumeResource(np.ones((5, 5, 5, 8))), weights=narrow)
    with pytest.raises(InputError, match="no probabilities"):
        find_tracts(_small(), "TOM", probabilities=True, weights=narrow)
    with pytest.raises(InputError, match=r"'tracts'.*tract_segmentation"):
        find_tracts(_small(), "tracts", weights=narrow)


@pytest.fixture(scope="module")
def phantom() -> tuple[Dwi, InMemoryVolumeResource]:
    """The phantom, stored PSR and oblique, voxels of 4 mm, and the mask of its brain."""
    gradients = three_shell_gradients(n_b0=3, n_directions=(12, 16, 20))
    head = make_phantom(gradients, (48, 48, 36), voxel_size=4.0, orientation="PSR", oblique_degrees=12)
    inside = InMemoryVolumeResource(head.brain_mask.astype(np.uint8), head.affine)
    return Dwi.from_arrays(head.signal, head.affine, head.gradients), inside


def test_the_phantom_gives_72_masks_on_its_own_grid(narrow: Path, phantom) -> None:
    dwi, inside = phantom
    response = estimate_response_function(dwi, inside)
    tracts = extract_tractseg(dwi, inside, response, weights=narrow)
    assert tracts.shape == (*dwi.volume.shape[:3], 72)
    assert set(np.unique(tracts.get_array())) == {0, 1}
    np.testing.assert_array_equal(tracts.get_affine(), dwi.volume.get_affine())


def test_a_run_ends_in_one_mask_per_tract(
    narrow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phantom
) -> None:
    from arcuate.study.bids import Derivatives
    from arcuate.study.pipeline import Settings, run_subject

    monkeypatch.setenv("ARCUATE_WEIGHTS", str(narrow))
    dwi, inside = phantom
    names = Derivatives(tmp_path, "sub-head")
    settings = Settings(steps=("response", "fod", "peaks", "tracts"), denoise_method="none")
    run = run_subject(dwi, names, inputs={}, mask=inside, settings=settings)
    assert run.tracts is not None
    assert run.tracts.shape == (*dwi.volume.shape[:3], 72)
    for i in (0, 14, 71):
        written = NiftiVolumeResource(names.path("bundles") / f"{tract_names('tract_segmentation')[i]}.nii.gz")
        np.testing.assert_array_equal(written.get_array(), run.tracts.get_array()[..., i])
        np.testing.assert_allclose(written.get_affine(), dwi.volume.get_affine(), atol=1e-4)


def test_missing_weights_name_the_command_and_the_folder_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phantom
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ARCUATE_WEIGHTS", str(tmp_path / "offline"))
    monkeypatch.delenv("TRACTSEG_WEIGHTS_DIR", raising=False)
    monkeypatch.setattr("arcuate.csd.compute_csd_peaks", lambda *_, **__: pytest.fail("the peaks were computed"))
    monkeypatch.setattr("arcuate.csd.find_fod_peaks", lambda *_, **__: pytest.fail("the peaks were computed"))
    said = r"arcuate fetch tractseg-tract-segmentation.*copy them to .*offline"
    with pytest.raises(InputError, match=said):
        extract_tractseg(phantom[0], None, None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=said):
        find_fod_tracts(_small())
    with pytest.raises(InputError, match="tractseg-tom"):
        find_tracts(_small(), "TOM")


def test_without_torch_the_extra_is_named_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phantom) -> None:
    monkeypatch.setenv("ARCUATE_WEIGHTS", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[tractseg\]"):
        extract_tractseg(phantom[0], None, None)  # type: ignore[arg-type]


def test_other_weights_are_another_result_in_the_cache(narrow: Path, tmp_path: Path) -> None:
    from arcuate.cache import Cache

    runs = []
    volume = _small()
    with Cache(tmp_path / "cache"):
        first = find_tracts(volume, weights=narrow, progress=lambda *_: runs.append(0)).get_array()
        n = len(runs)
        assert n > 0
        np.testing.assert_array_equal(
            find_tracts(volume, weights=narrow, progress=lambda *_: runs.append(0)).get_array(), first
        )
        assert len(runs) == n
        PUBLISHED["write_weights"](narrow / "pretrained_weights_tract_segmentation_v3.npz", 72, 99, 2)
        assert (find_tracts(volume, weights=narrow, device="cpu").get_array() != first).any()


@pytest.fixture
def arcuate(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run ``arcuate ARGS`` in this process: exit code, stdout, stderr."""
    from arcuate.cli import main

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return call


def test_the_command_writes_each_tract_and_all_of_them(narrow: Path, tmp_path: Path, arcuate: Callable) -> None:
    saved = NiftiVolumeResource.save(_small(), tmp_path / "peaks.nii.gz")
    out = tmp_path / "out"
    code, printed, err = arcuate("tracts", saved.path, "--out", out, "--weights", narrow)
    assert code == 0, err
    assert "72 images" in printed
    together = NiftiVolumeResource(out / "tract_segmentation.nii.gz").get_array()
    np.testing.assert_array_equal(NiftiVolumeResource(out / "CST_left.nii.gz").get_array(), together[..., 14])
    facts = json.loads((out / "tract_segmentation.json").read_text())
    assert facts["Tracts"] == list(tract_names("tract_segmentation"))
    assert facts["Orientations"] == 3
    assert len(facts["Weights"]["pretrained_weights_tract_segmentation_v3.npz"]) == 64
    code, _, err = arcuate(
        "tracts", saved.path, "--out", out, "--weights", narrow, "--output-type", "TOM",
        "--tracts", out / "tract_segmentation.nii.gz",
    )  # fmt: skip
    assert code == 0, err
    assert NiftiVolumeResource(out / "AF_left_tom.nii.gz").shape == (7, 9, 8, 3)
    code, _, err = arcuate("tracts", saved.path, "--out", out, "--weights", tmp_path / "nowhere")
    assert code == 2
    assert "arcuate fetch tractseg-tract-segmentation" in err
