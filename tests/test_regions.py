"""Tables of regions: right numbers, right weights, and nothing from another grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from arcuate.errors import InputError, InputWarning
from arcuate.io import NiftiVolumeResource
from arcuate.io.tables import Table
from arcuate.models.status import Status
from arcuate.phantom import Phantom, make_phantom, three_shell_gradients
from arcuate.phantom.anatomy import REGIONS
from arcuate.regions import join_tables, region_table
from arcuate.volumes.geometry import Orientation
from arcuate.volumes.resource import InMemoryVolumeResource

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2.5, 0, -12], [0, 0, 3, 4], [0, 0, 0, 1]])
SHAPE = (9, 8, 7)


def _volume(array: np.ndarray, affine: np.ndarray = AFFINE) -> InMemoryVolumeResource:
    return InMemoryVolumeResource(array, affine)


@pytest.fixture
def labels() -> InMemoryVolumeResource:
    array = np.zeros(SHAPE, np.int16)
    array[:4], array[4:6], array[6] = 3, 17, 1002
    return _volume(array)


@pytest.fixture
def fa() -> InMemoryVolumeResource:
    return _volume(np.random.default_rng(0).uniform(0, 1, SHAPE).astype(np.float32))


def _row(table: Table, **wanted: object) -> dict:
    return next(row for row in table.rows if all(row[k] == v for k, v in wanted.items()))


def test_numbers_are_those_of_numpy(fa: InMemoryVolumeResource, labels: InMemoryVolumeResource) -> None:
    table = region_table({"fa": fa, "md": _volume(fa.array * 1e-3)}, labels, {3: "left", 17: "mid", 1002: "right"})
    assert len(table) == 6
    for index, name in ((3, "left"), (17, "mid"), (1002, "right")):
        x = fa.array[labels.array == index].astype(np.float64)
        row = _row(table, index=index, map="fa")
        assert row["region"] == name
        assert (row["voxels"], row["region_voxels"]) == (len(x), len(x))
        assert row["volume"] == pytest.approx(len(x) * 15.0)
        for key, value in (("mean", x.mean()), ("sd", x.std(ddof=1)), ("median", np.median(x)),
                           ("p05", np.percentile(x, 5)), ("p95", np.percentile(x, 95))):  # fmt: skip
            assert row[key] == pytest.approx(value, rel=1e-6)
        assert _row(table, index=index, map="md")["mean"] == pytest.approx(1e-3 * row["mean"], rel=1e-5)


@pytest.mark.parametrize("flip", [False, True])
def test_storage_order_has_no_say(fa: InMemoryVolumeResource, labels: InMemoryVolumeResource, flip: bool) -> None:
    one = region_table(fa, labels)
    turn = np.array(
        [[0, 0, -1 if flip else 1, (SHAPE[0] - 1) if flip else 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    )
    turned = [
        _volume(np.transpose(v.array[::-1] if flip else v.array, (1, 2, 0)).copy(), AFFINE @ turn) for v in (fa, labels)
    ]
    other = region_table(*turned)
    np.testing.assert_allclose(one.numbers("mean"), other.numbers("mean"), rtol=1e-12)
    np.testing.assert_allclose(one.numbers("volume"), other.numbers("volume"))


def test_weights_count(fa: InMemoryVolumeResource, labels: InMemoryVolumeResource) -> None:
    w = np.random.default_rng(2).uniform(0, 1, SHAPE)
    row = _row(region_table({"fa": fa}, labels, weights=_volume(w)), index=3)
    at = labels.array == 3
    assert row["mean"] == pytest.approx(np.average(fa.array[at], weights=w[at]), rel=1e-6)
    assert row["weight"] == pytest.approx(w[at].sum())
    assert row["weighting"] == "given"


def test_ndi_and_odi_are_weighted_by_tissue_and_fa_is_not(labels: InMemoryVolumeResource) -> None:
    """Parker et al. 2021: sum of (1 - FWF) NDI over sum of (1 - FWF)."""
    rng = np.random.default_rng(3)
    fwf, ndi = rng.uniform(0, 1, SHAPE), rng.uniform(0, 1, SHAPE)
    table = region_table({"ndi": _volume(ndi), "fwf": _volume(fwf), "fa": _volume(ndi)}, labels)
    at = labels.array == 17
    tissue = 1 - fwf[at]
    assert _row(table, index=17, map="ndi")["mean"] == pytest.approx((tissue * ndi[at]).sum() / tissue.sum())
    assert _row(table, index=17, map="ndi")["weighting"] == "tissue"
    assert _row(table, index=17, map="fa")["mean"] == pytest.approx(ndi[at].mean())
    assert _row(table, index=17, map="fwf")["weighting"] == "none"
    plain = region_table({"ndi": _volume(ndi), "fwf": _volume(fwf)}, labels, tissue_weighted=())
    assert _row(plain, index=17, map="ndi")["mean"] == pytest.approx(ndi[at].mean())
    given = region_table({"ndi": _volume(ndi)}, labels, free_water=_volume(fwf))
    assert _row(given, index=17)["mean"] == pytest.approx((tissue * ndi[at]).sum() / tissue.sum())


def test_only_fitted_voxels_count_and_all_are_told(fa: InMemoryVolumeResource, labels: InMemoryVolumeResource) -> None:
    status = np.full(SHAPE, Status.FITTED, np.uint8)
    status[0], status[1], status[2, 0] = Status.NO_SIGNAL, Status.FLOORED, Status.NOT_FINITE
    row = _row(region_table({"fa": fa}, labels, status=_volume(status)), index=3)
    counts = np.isin(status, (Status.FITTED, Status.FLOORED)) & (labels.array == 3)
    assert row["mean"] == pytest.approx(fa.array[counts].mean(dtype=float), rel=1e-6)
    assert row["status_no_signal"] == SHAPE[1] * SHAPE[2]
    assert row["status_not_finite"] == SHAPE[2]
    assert row["voxels"] == counts.sum()
    assert row["region_voxels"] == 4 * SHAPE[1] * SHAPE[2]


def test_mask_and_nan_take_voxels_out(fa: InMemoryVolumeResource, labels: InMemoryVolumeResource) -> None:
    array, mask = fa.array.copy(), np.ones(SHAPE, np.uint8)
    array[0, 0, 0] = np.nan
    mask[1] = 0
    row = _row(region_table({"fa": _volume(array)}, labels, mask=_volume(mask)), index=3)
    assert row["voxels"] == 3 * SHAPE[1] * SHAPE[2] - 1


def test_tracts_of_a_4d_image_may_overlap_and_weigh(fa: InMemoryVolumeResource) -> None:
    tracts = np.random.default_rng(4).uniform(0, 1, (*SHAPE, 3)).astype(np.float32)
    tracts[tracts < 0.5] = 0
    tracts[..., 2] = 0
    table = region_table({"fa": fa}, _volume(tracts), ["AF_left", "AF_right", "none"])
    assert table["region"] == ["AF_left", "AF_right", "none"]
    w = tracts[..., 1].astype(np.float64)
    assert table["mean"][1] == pytest.approx(np.average(fa.array, weights=w), rel=1e-6)
    assert table["weighting"][1] == "region"
    assert (table["voxels"][2], table["mean"][2]) == (0, None)


def test_labels_and_maps_in_another_storage_order_give_the_same_table(
    fa: InMemoryVolumeResource, labels: InMemoryVolumeResource
) -> None:
    turn = Orientation.of((1, 2, 0), (True, False, False), fa.shape, AFFINE)
    turned = [_volume(turn.turn(volume.array), turn.affine) for volume in (fa, labels)]
    same = region_table({"fa": fa}, labels)
    assert region_table({"fa": fa}, turned[1])["mean"] == same["mean"]
    assert region_table({"fa": fa, "turned": turned[0]}, labels)["mean"][1::2] == same["mean"]


def test_labels_on_another_grid_are_refused_with_the_remedy(
    fa: InMemoryVolumeResource, labels: InMemoryVolumeResource
) -> None:
    with pytest.raises(InputError, match=r"label image of shape \(5, 8, 7\); expected \(9, 8, 7\).*--atlas-to-scan"):
        region_table(fa, _volume(labels.array[:5]))
    moved = AFFINE.copy()
    moved[0, 3] += 40
    with pytest.raises(InputError, match=r"label image lies elsewhere: its corners are up to 40 mm.*--atlas-to-scan"):
        region_table(fa, _volume(labels.array, moved))
    mirrored = AFFINE @ np.diag([-1.0, 1, 1, 1])
    with pytest.raises(InputError, match="lies elsewhere"):
        region_table(fa, _volume(labels.array, mirrored))
    with pytest.warns(InputWarning, match="the label image has no geometry of its own"):
        region_table(fa, InMemoryVolumeResource(labels.array))


def test_other_bad_input_is_one_sentence(fa: InMemoryVolumeResource, labels: InMemoryVolumeResource) -> None:
    with pytest.raises(InputError, match="found no map"):
        region_table({}, labels)
    with pytest.raises(InputError, match="no label above 0"):
        region_table(fa, _volume(np.zeros(SHAPE)))
    with pytest.raises(InputError, match="the weights hold values below 0"):
        region_table(fa, labels, weights=_volume(-np.ones(SHAPE)))
    with pytest.raises(InputError, match=r"found a status of shape .* with values 0 to 9"):
        region_table(fa, labels, status=_volume(np.full(SHAPE, 9) * (labels.array > 3)))
    with pytest.raises(InputError, match="found names by 'left'"):
        region_table(fa, labels, {"left": "3"})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="a number in each voxel"):
        region_table({"evals": _volume(np.zeros((*SHAPE, 3)))}, labels)


def test_labels_without_a_name_and_names_without_a_voxel(
    fa: InMemoryVolumeResource, labels: InMemoryVolumeResource
) -> None:
    table = region_table(fa, labels, {3: "left", 5: "absent"})
    assert table["region"] == ["left", "absent", "label 17", "label 1002"]
    assert table["mean"][1] is None
    assert region_table(fa, labels, "freesurfer")["region"] == [
        "Left-Cerebral-Cortex", "Left-Hippocampus", "ctx-lh-caudalanteriorcingulate",
    ]  # fmt: skip


def test_names_beside_the_atlas_are_found(
    fa: InMemoryVolumeResource, labels: InMemoryVolumeResource, tmp_path: Path
) -> None:
    NiftiVolumeResource.save(labels, tmp_path / "atlas.nii.gz")
    (tmp_path / "atlas.tsv").write_text("index\tname\n3\tleft\n17\tmid\n1002\tright\n")
    for source in (tmp_path / "atlas.nii.gz", NiftiVolumeResource(tmp_path / "atlas.nii.gz")):
        assert region_table(fa, source)["region"] == ["left", "mid", "right"]  # type: ignore[arg-type]


def test_tables_of_subjects_join(fa: InMemoryVolumeResource, labels: InMemoryVolumeResource, tmp_path: Path) -> None:
    table = region_table({"fa": fa}, labels)
    both = join_tables({"sub-01": table, "sub-02": table})
    assert both["participant_id"] == ["sub-01"] * 3 + ["sub-02"] * 3
    assert both["mean"] == table["mean"] * 2
    both.save(tmp_path / "both.tsv")
    assert "participant_id" in (tmp_path / "both.json").read_text()


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(three_shell_gradients(), (36, 40, 30), 4.5, snr=None, truth="noddi")


def test_regions_of_the_phantom_have_their_true_means(phantom: Phantom) -> None:
    """The truth by the phantom's own masks, the table by its label image."""
    maps = {"ndi": _volume(phantom.ndi, phantom.affine), "fwf": _volume(phantom.fwf, phantom.affine)}
    table = region_table(maps, _volume(phantom.label_image, phantom.affine), list(REGIONS))
    n_checked = 0
    for name, inside in phantom.labels.items():
        if inside.sum() < 20 or not (1 - phantom.fwf[inside]).sum() > 1:
            continue
        tissue = (1 - phantom.fwf[inside]).astype(np.float64)
        truth = (tissue * phantom.ndi[inside]).sum() / tissue.sum()
        assert _row(table, region=name, map="ndi")["mean"] == pytest.approx(truth, rel=1e-5)
        n_checked += 1
    assert n_checked >= 4


def test_zeros_outside_the_mask_of_a_fit_are_told_and_results_of_zero_are_not(
    fa: InMemoryVolumeResource, labels: InMemoryVolumeResource
) -> None:
    cut = fa.with_array(np.where(np.arange(SHAPE[1])[:, None] < 4, fa.array, 0).astype(np.float32))
    mask = fa.with_array(cut.array > 0)
    with pytest.warns(InputWarning, match=r"50 % of the voxels of the regions are exactly 0 in fa.*--mask"):
        diluted = region_table({"fa": cut}, labels)
    told = region_table({"fa": cut}, labels, mask=mask)
    assert told.numbers("mean")[0] == pytest.approx(2 * diluted.numbers("mean")[0])
    region_table({"fwf": cut}, labels)
    region_table({"fa": fa, "md": cut}, labels)
    region_table({"lesion": mask.with_array(mask.array.astype(np.uint8))}, labels)


def test_labels_below_0_are_told(fa: InMemoryVolumeResource, labels: InMemoryVolumeResource) -> None:
    with pytest.warns(InputWarning, match=r"1 labels below 0 \(-997 \.\.\.\): they count as outside"):
        table = region_table(fa, labels.with_array(np.where(labels.array == 1002, -997, labels.array)))
    assert len(table) == 2
