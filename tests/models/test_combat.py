"""ComBat: equal to the published programs, planted site effects gone, biology kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcuate.errors import InputError
from arcuate.models.combat import CombatOptions, fit_combat

REFERENCE = Path(__file__).resolve().parents[1] / "golden" / "combat.npz"  # scripts/make_combat_reference.py


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(REFERENCE) as kept:
        return dict(kept)


def _coded(reference: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    site = np.unique(reference["site"], return_inverse=True)[1]
    return site, np.c_[(reference["sex"] == 1).astype(float), reference["age"]]


@pytest.mark.parametrize(
    ("name", "options", "site_of_reference"),
    [
        ("neurocombat_default", {}, None),
        ("neurocombat_no_eb", {"eb": False}, None),
        ("neurocombat_non_parametric", {"parametric": False}, None),
        ("neurocombat_mean_only", {"mean_only": True}, None),
        ("neurocombat_reference_b", {}, 1),
        ("neuroharmonize_reference_b", {}, 1),
    ],
)
def test_equals_the_published_programs(
    reference: dict[str, np.ndarray], name: str, options: dict[str, Any], site_of_reference: int | None
) -> None:
    site, covariates = _coded(reference)
    fit = fit_combat(
        reference["values"], site, covariates, reference=site_of_reference, options=CombatOptions(**options)
    )
    np.testing.assert_allclose(fit.apply(reference["values"], site, covariates), reference[name], atol=1e-6)


def test_equals_neurocombat_without_covariates_to_rounding(reference: dict[str, np.ndarray]) -> None:
    site, covariates = _coded(reference)
    fit = fit_combat(reference["values"], site, covariates[:, :0])
    done = fit.apply(reference["values"], site, covariates[:, :0])
    np.testing.assert_allclose(done, reference["neurocombat_no_covariates"], atol=1e-12)


def test_what_one_set_taught_applied_to_another_equals_neuroharmonize(reference: dict[str, np.ndarray]) -> None:
    site, covariates = _coded(reference)
    learnt, values = reference["is_learnt"], reference["values"]
    fit = fit_combat(values[learnt], site[learnt], covariates[learnt])
    ours = fit.apply(values[~learnt], site[~learnt], covariates[~learnt])
    np.testing.assert_allclose(ours, reference["neuroharmonize_applied"], atol=1e-6)
    ours = fit.apply(values[learnt], site[learnt], covariates[learnt])
    np.testing.assert_allclose(ours, reference["neuroharmonize_learnt"], atol=1e-6)


def _cohort(n_features: int = 200, n_per_site: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    site = np.repeat([0, 1, 2], n_per_site)
    age = rng.uniform(20, 80, len(site))
    slope = rng.normal(0.02, 0.005, n_features)
    clean = 3 + age[:, None] * slope + rng.normal(0, 0.3, (len(site), n_features))
    shift, scale = np.array([0.0, 0.8, -0.5]), np.array([1.0, 1.5, 0.7])
    centre = clean.mean(axis=0)
    return shift[site, None] + scale[site, None] * (clean - centre) + centre, site, age[:, None], slope


def test_planted_site_effects_go_and_the_effect_of_age_stays() -> None:
    values, site, age, slope = _cohort()
    done = fit_combat(values, site, age).apply(values, site, age)

    def left(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        residual = rows - age @ np.linalg.lstsq(np.c_[age, np.eye(3)[site]], rows, rcond=None)[0][:1]
        means = np.stack([residual[site == i].mean(axis=0) for i in range(3)])
        spreads = np.stack([residual[site == i].std(axis=0) for i in range(3)])
        return np.ptp(means, axis=0), spreads.max(axis=0) / spreads.min(axis=0)

    before, after = left(values), left(done)
    assert np.median(before[0]) > 1.0
    assert np.median(after[0]) < 0.05
    assert np.median(before[1]) > 1.9
    assert np.median(after[1]) < 1.2  # as of three draws of 40 from one distribution
    found = np.linalg.lstsq(np.c_[age, np.eye(3)[site]], done, rcond=None)[0][0]
    assert np.corrcoef(found, slope)[0, 1] > 0.8
    assert found.mean() == pytest.approx(slope.mean(), rel=0.1)


def test_the_reference_site_keeps_its_numbers() -> None:
    values, site, age, _ = _cohort()
    done = fit_combat(values, site, age, reference=1).apply(values, site, age)
    np.testing.assert_allclose(done[site == 1], values[site == 1], rtol=1e-12)
    assert np.abs(done[site == 0] - values[site == 0]).mean() > 0.3


def test_features_without_variance_stay_and_change_no_other() -> None:
    values, site, age, _ = _cohort(60)
    alone = fit_combat(values, site, age).apply(values, site, age)
    padded = np.hstack([np.zeros((len(site), 30)), values, np.full((len(site), 5), 7.5)])
    done = fit_combat(padded, site, age).apply(padded, site, age)
    np.testing.assert_allclose(done[:, 30:-5], alone, rtol=1e-10)
    np.testing.assert_array_equal(done[:, -5:], 7.5)
    np.testing.assert_array_equal(done[:, :30], 0)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_unit_of_the_values_has_no_say(factor: float) -> None:
    values, site, age, _ = _cohort(30)
    done = fit_combat(values, site, age).apply(values, site, age)
    scaled = fit_combat(values * factor, site, age).apply(values * factor, site, age)
    np.testing.assert_allclose(scaled / factor, done, rtol=1e-8)


def test_a_missing_number_stays_missing_and_disturbs_no_other_feature() -> None:
    values, site, age, _ = _cohort(50)
    whole = fit_combat(values, site, age).apply(values, site, age)
    holed = values.copy()
    holed[[3, 50], 10] = np.nan
    done = fit_combat(holed, site, age).apply(holed, site, age)
    assert np.isnan(done[[3, 50], 10]).all()
    assert np.isfinite(done).sum() == done.size - 2
    others = np.delete(np.arange(50), 10)
    np.testing.assert_allclose(done[:, others], whole[:, others], atol=5e-3)
    known = np.isfinite(done[:, 10])
    np.testing.assert_allclose(done[known, 10], whole[known, 10], atol=0.1)


def test_a_covariate_that_is_the_site_is_refused() -> None:
    values, site, _, _ = _cohort(10)
    with pytest.raises(InputError, match=r"cannot be told from the sites.*Leave such a covariate out"):
        fit_combat(values, site, (site == 1).astype(float)[:, None])


def test_a_site_of_one_sample_is_refused() -> None:
    values, site, age, _ = _cohort(10, 3)
    with pytest.raises(InputError, match="site number 2 has 1 sample; a spread needs 2"):
        fit_combat(values[:-2], site[:-2], age[:-2])
