"""Harmonisation of maps and tables: what was planted goes, what is biology stays."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcuate.errors import InputError
from arcuate.harmonize import CombatEstimates, harmonize_table, harmonize_values, harmonize_volumes
from arcuate.io.tables import Table, read_table
from arcuate.phantom import make_phantom, three_shell_gradients
from arcuate.volumes.resource import InMemoryVolumeResource

SITES = ("A", "B", "C")
N = 8


@pytest.fixture(scope="module")
def cohort() -> dict[str, Any]:
    """FA of a phantom head in 24 subjects of three scanners, which shift and scale it; FA falls with age."""
    head = make_phantom(three_shell_gradients(), (20, 22, 16), 8.0, snr=None, truth="single-tensor")
    rng = np.random.default_rng(7)
    site = np.repeat(SITES, N)
    age = rng.uniform(20, 80, len(site))
    shift, scale = {"A": 0.0, "B": 0.15, "C": -0.1}, {"A": 1.0, "B": 1.4, "C": 0.7}
    clean = [head.fa - 0.002 * (a - 50) * head.brain_mask + rng.normal(0, 0.02, head.fa.shape) for a in age]
    volumes = [
        InMemoryVolumeResource((scale[s] * fa + shift[s]).astype(np.float32), head.affine)
        for s, fa in zip(site, clean, strict=True)
    ]
    mask = InMemoryVolumeResource(head.brain_mask.astype(np.uint8), head.affine)
    return {"volumes": volumes, "mask": mask, "covars": {"site": site, "age": age}, "clean": clean}


def _means(volumes: list, mask: InMemoryVolumeResource) -> np.ndarray:
    return np.array([np.asarray(v.get_array())[mask.array > 0].mean() for v in volumes])


def test_site_effects_of_maps_go_and_the_effect_of_age_stays(cohort: dict) -> None:
    done, estimates = harmonize_volumes(
        cohort["volumes"], cohort["covars"], "site", cohort["mask"], continuous_cols=["age"]
    )
    age, site = cohort["covars"]["age"], cohort["covars"]["site"]
    design = np.c_[np.ones_like(age), age]

    def site_gap(means: np.ndarray) -> float:
        left = means - design @ np.linalg.lstsq(design, means, rcond=None)[0]
        return float(np.ptp([left[site == s].mean() for s in SITES]))

    before, after = _means(cohort["volumes"], cohort["mask"]), _means(done, cohort["mask"])
    assert site_gap(before) > 0.3
    assert site_gap(after) < 0.01
    slope = np.linalg.lstsq(design, after, rcond=None)[0][1]
    truth = np.linalg.lstsq(design, _means([InMemoryVolumeResource(c) for c in cohort["clean"]], cohort["mask"]),
                            rcond=None)[0][1]  # fmt: skip
    assert slope == pytest.approx(truth, rel=0.15)
    assert np.corrcoef(age, after)[0, 1] < -0.95
    assert list(estimates.estimates["batches"]) == list(SITES)
    assert estimates.info["n_features"] == int((cohort["mask"].array > 0).sum())


def test_outside_the_mask_is_zero_or_as_it_was(cohort: dict) -> None:
    outside = cohort["mask"].array == 0
    done, _ = harmonize_volumes(cohort["volumes"], cohort["covars"], "site", cohort["mask"])
    assert not np.any(done[0].array[outside])
    kept, _ = harmonize_volumes(
        cohort["volumes"], cohort["covars"], "site", cohort["mask"], preserve_out_of_mask=True, ref_batch="B"
    )
    np.testing.assert_array_equal(kept[0].array[outside], cohort["volumes"][0].array[outside])
    np.testing.assert_allclose(kept[N].array, cohort["volumes"][N].array, atol=1e-6)  # the reference site stays
    np.testing.assert_array_equal(kept[0].get_affine(), cohort["volumes"][0].get_affine())


def test_what_was_learnt_is_saved_and_applied_to_others(cohort: dict, tmp_path: Path) -> None:
    learnt = [i for i in range(3 * N) if i % 4]
    others = [i for i in range(3 * N) if not i % 4]

    def part(rows: list[int]) -> dict:
        return {name: np.asarray(column)[rows] for name, column in cohort["covars"].items()}

    done, estimates = harmonize_volumes(
        [cohort["volumes"][i] for i in learnt], part(learnt), "site", cohort["mask"], continuous_cols=["age"]
    )
    again = CombatEstimates.load(estimates.save(tmp_path / "model.npz"))
    same = again.apply_volumes([cohort["volumes"][i] for i in learnt], part(learnt))
    np.testing.assert_array_equal(same[3].array, done[3].array)
    applied = again.apply_volumes([cohort["volumes"][i] for i in others], part(others))
    truth = _means([InMemoryVolumeResource(cohort["clean"][i]) for i in others], cohort["mask"])
    assert (
        np.ptp(_means(applied, cohort["mask"]) - truth)
        < 0.05
        < np.ptp(_means([cohort["volumes"][i] for i in others], cohort["mask"]) - truth)
    )
    with pytest.raises(InputError, match=r"found D in the column 'site'; the estimates were learnt on A, B, C"):
        again.apply_volumes([cohort["volumes"][0]], {"site": ["D"], "age": [30]})
    (tmp_path / "x.npz").write_bytes(b"no")
    with pytest.raises(InputError, match="cannot be read as estimates of ComBat"):
        CombatEstimates.load(tmp_path / "x.npz")


def test_covariates_come_as_a_frame_a_table_columns_or_a_file(cohort: dict, tmp_path: Path) -> None:
    table = Table({"site": list(cohort["covars"]["site"]), "age": list(cohort["covars"]["age"])})
    table.save(tmp_path / "covars.tsv")
    forms: list[Any] = [cohort["covars"], table, tmp_path / "covars.tsv"]
    with contextlib.suppress(ImportError):
        forms.append(table.to_pandas())
    values = np.stack([v.array.ravel()[:200] for v in cohort["volumes"]])
    done = [harmonize_values(values, form, "site", continuous_cols=["age"])[0] for form in forms]
    for other in done[1:]:
        np.testing.assert_allclose(other, done[0], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"covars": {"site": ["A"] * 24}}, "found 1 site in the column 'site'"),
        ({"covars": {"site": ["A"] * 23 + ["B"]}}, "the site B has 1 subject"),
        ({"covars": {"site": ["A"] * 5}}, "found 5 rows of covariates for 24 volumes"),
        ({"batch_col": "scanner"}, "found no column 'scanner'; expected one of site, age"),
        ({"continuous_cols": ["weight"]}, "found no column 'weight'"),
        ({"ref_batch": "Z"}, "found the reference site 'Z'; expected one of A, B, C"),
        ({"volumes": []}, "found 0 volumes to harmonise"),
    ],
)
def test_bad_input_is_one_sentence(cohort: dict, change: dict, says: str) -> None:
    given = {key: cohort[key] for key in ("volumes", "covars", "mask")} | {"batch_col": "site"} | change
    with pytest.raises(InputError, match=says):
        harmonize_volumes(**given)


def test_volumes_of_several_grids_and_bad_masks_are_refused(cohort: dict) -> None:
    other = InMemoryVolumeResource(np.zeros((5, 5, 5)), cohort["mask"].affine)
    given = (cohort["covars"], "site", cohort["mask"])
    with pytest.raises(InputError, match=r"volume 23 has the shape \(5, 5, 5\).*one grid for all"):
        harmonize_volumes([*cohort["volumes"][:-1], other], *given)
    with pytest.raises(InputError, match=r"found a mask of shape \(5, 5, 5\)"):
        harmonize_volumes(cohort["volumes"], cohort["covars"], "site", other)
    empty = cohort["mask"].with_array(np.zeros_like(cohort["mask"].array))
    with pytest.raises(InputError, match="the mask is empty"):
        harmonize_volumes(cohort["volumes"], cohort["covars"], "site", empty)
    holed = cohort["volumes"][4].with_array(np.where(cohort["mask"].array > 0, np.nan, 0))
    with pytest.raises(InputError, match=r"volume 4 has .* not finite"):
        harmonize_volumes([*cohort["volumes"][:4], holed, *cohort["volumes"][5:]], *given)
    ages = {"site": cohort["covars"]["site"], "age": [*cohort["covars"]["age"][:-1], None]}
    with pytest.raises(InputError, match="covariate 'age' is missing in 1 of 24"):
        harmonize_volumes(cohort["volumes"], ages, "site", cohort["mask"], continuous_cols=["age"])


def _tidy(rng: np.random.Generator) -> tuple[Table, Table]:
    rows, about = [], []
    for i in range(30):
        site, age = "AB"[i % 2], float(rng.uniform(20, 80))
        about.append({"participant_id": f"sub-{i:02d}", "site": site, "age": age})
        for index in range(1, 13):
            fa = 0.4 + 0.01 * index - 0.001 * age + rng.normal(0, 0.01)
            fa = fa * 1.2 + 0.05 if site == "B" else fa
            rows.append({"participant_id": f"sub-{i:02d}", "index": index, "map": "fa", "mean": fa})
            md = 1e-3 * (0.8 + rng.normal(0, 0.02)) * (0.9 if site == "B" else 1.0)
            rows.append({"participant_id": f"sub-{i:02d}", "index": index, "map": "md", "mean": md})
    return Table.of_rows(rows), Table.of_rows(about)


def test_a_table_is_harmonised_map_by_map(tmp_path: Path) -> None:
    table, about = _tidy(np.random.default_rng(0))
    table["mean"][0] = None
    done, estimates = harmonize_table(table, about, "site", continuous_cols=["age"])
    assert set(estimates) == {"fa", "md"}
    assert done["mean"][0] is None
    assert done["mean_before"] == table["mean"]
    site = dict(zip(about["participant_id"], about["site"], strict=True))
    for name, unit in (("fa", 1.0), ("md", 1e-3)):

        def gap(column: str, name: str = name) -> float:
            by_site = {"A": [], "B": []}  # type: ignore[var-annotated]
            for row in done.rows:
                if row["map"] == name and row[column] is not None:
                    by_site[site[row["participant_id"]]].append(row[column])
            return abs(np.mean(by_site["A"]) - np.mean(by_site["B"]))

        assert gap("mean_before") > 0.05 * unit
        assert gap("mean") < 0.012 * unit
    path = done.save(tmp_path / "done.tsv")
    assert read_table(path)["mean"][0] is None


def test_a_subject_without_covariates_is_named() -> None:
    table, about = _tidy(np.random.default_rng(0))
    short = Table({name: values[:-1] for name, values in about.columns.items()})
    with pytest.raises(InputError, match=r"no row for sub-29 among the covariates \(1 of 30 subjects\)"):
        harmonize_table(table, short, "site")


def test_a_region_that_a_site_lacks_stays_missing() -> None:
    table, about = _tidy(np.random.default_rng(0))
    site = dict(zip(about["participant_id"], about["site"], strict=True))
    for k, row in enumerate(table.rows):
        if row["index"] == 5 and row["map"] == "fa" and site[row["participant_id"]] == "B":
            table["mean"][k] = None
    done, _ = harmonize_table(table, about, "site")
    missing = [row for row in done.rows if row["mean"] is None]
    assert len(missing) == 30
    assert {(row["index"], row["map"]) for row in missing} == {(5, "fa")}
