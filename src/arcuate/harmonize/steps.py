"""Harmonisation of maps, numbers and tables of regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from arcuate.errors import InputError
from arcuate.harmonize.estimates import CombatEstimates, Covariates, as_covariates, as_volumes, levels_of, rows_of
from arcuate.io.tables import Table
from arcuate.models.combat import CombatFit, CombatOptions, fit_combat
from arcuate.volumes.as_volume import as_volume
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource
from arcuate.volumes.voxels import check_same_place, stored_like


def harmonize_volumes(
    volumes: Sequence[VolumeResource],
    covars: Any,
    batch_col: str,
    mask: VolumeResource,
    *,
    categorical_cols: Sequence[str] | None = None,
    continuous_cols: Sequence[str] | None = None,
    eb: bool = True,
    parametric: bool = True,
    mean_only: bool = False,
    ref_batch: str | None = None,
    preserve_out_of_mask: bool = False,
) -> tuple[list[InMemoryVolumeResource], CombatEstimates]:
    """Maps of several sites freed of the effects of site, those of covariates kept (ComBat, voxel by voxel).

    Parameters
    ----------
    volumes : maps (x, y, z) in one space, one per subject
    covars : one row per volume, in their order
        A pandas DataFrame, a :class:`~arcuate.io.tables.Table`, columns by name, or the path of a TSV or CSV file.
    batch_col : column of the site or scanner
    mask : (x, y, z), the voxels to harmonise: those above 0
    categorical_cols, continuous_cols : columns whose effects are kept, as sex and age
    eb : shrink the site effects over voxels by empirical Bayes
    parametric : normal and inverse gamma priors; else the empirical distribution, slower with the square of voxels
    mean_only : shifts alone, scales stay
    ref_batch : site to whose level the others are brought, and which stays as it is
    preserve_out_of_mask : keep what lies outside the mask, which else is 0

    Returns
    -------
    list of (x, y, z) float32, in the order of ``volumes``
    CombatEstimates

    Raises
    ------
    InputError
        Fewer than two sites, a site of one subject, volumes or mask on other grids, values that are not finite, a
        missing covariate, or one that cannot be told from the sites.

    Notes
    -----
    See :func:`arcuate.models.combat.fit_combat` for the model. Voxels that are the same in all subjects stay as they
    are. What a site's subjects have in common beyond the covariates, disease say, is taken for an effect of the site.
    """
    loaded = [as_volume(volume) for volume in volumes]
    if len(loaded) < 2:
        raise InputError(f"found {len(loaded)} volumes to harmonise; expected at least two sites of two subjects.")
    table = as_covariates(covars, len(loaded), "volumes")
    inside = _mask_of(mask, loaded[0])
    options = CombatOptions(eb, parametric, mean_only)
    covariates, place = _coding(table, batch_col, categorical_cols, continuous_cols, ref_batch)
    freed, fit = _learnt(rows_of(loaded, inside), table, covariates, place, options)
    estimates = CombatEstimates(fit, covariates, ref_batch, inside)
    return as_volumes(freed, loaded, inside, preserve_out_of_mask), estimates


def harmonize_values(
    values: np.ndarray,
    covars: Any,
    batch_col: str,
    *,
    categorical_cols: Sequence[str] | None = None,
    continuous_cols: Sequence[str] | None = None,
    eb: bool = True,
    parametric: bool = True,
    mean_only: bool = False,
    ref_batch: str | None = None,
    features: Sequence[str] = (),
) -> tuple[np.ndarray, CombatEstimates]:
    """Numbers of several sites, one row per subject, freed of the effects of site.

    Parameters
    ----------
    values : (n_samples, n_features) float, as means over regions; NaN where missing
    features : names of the features, kept in the estimates
    covars, batch_col, categorical_cols, continuous_cols, eb, parametric, mean_only, ref_batch
        See :func:`harmonize_volumes`.

    Returns
    -------
    (n_samples, n_features) float64
    CombatEstimates
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2:
        raise InputError(f"found values of shape {values.shape}; expected (n_samples, n_features).")
    table = as_covariates(covars, len(values), "samples")
    options = CombatOptions(eb, parametric, mean_only)
    covariates, place = _coding(table, batch_col, categorical_cols, continuous_cols, ref_batch)
    freed, fit = _learnt(values, table, covariates, place, options)
    return freed, CombatEstimates(fit, covariates, ref_batch, None, tuple(features))


def harmonize_table(
    table: Table,
    covars: Any,
    batch_col: str,
    *,
    value: str = "mean",
    subject: str = "participant_id",
    **options: Any,
) -> tuple[Table, dict[str, CombatEstimates]]:
    """A tidy table of regions of many subjects with one column harmonised, measure by measure.

    Parameters
    ----------
    table : one row per subject, region and map, as `arcuate cohort` and :func:`arcuate.regions.join_tables` make it
    covars : one row per subject, with a column ``subject``; see :func:`harmonize_volumes`
    batch_col : column of the site or scanner
    value : column that is harmonised
    subject : column that names the subject, in both tables
    options : see :func:`harmonize_values`

    Returns
    -------
    Table
        The same rows; ``value`` harmonised, and the numbers of before as ``<value>_before``.
    estimates by map

    Notes
    -----
    Each map is a model of its own, whose features are the regions: shifts of FA say nothing of those of MD. Numbers
    that are missing stay missing; a region in which a site has fewer than two subjects is left out of the model and
    stays missing.
    """
    about = as_covariates(covars, None, "subjects")
    place = {str(name): i for i, name in enumerate(about[subject])}
    found, maps = [str(name) for name in table[subject]], [str(name) for name in table["map"]]
    unknown = sorted(set(found) - set(place))
    if unknown:
        raise InputError(
            f"found no row for {', '.join(unknown[:5])} among the covariates ({len(unknown)} of {len(set(found))} "
            f"subjects); expected one for each, named in the column {subject!r}."
        )
    rows = sorted({place[name] for name in found})
    used = Table({name: [values[i] for i in rows] for name, values in about.columns.items()})
    row_of = {i: r for r, i in enumerate(rows)}
    before, after = table.numbers(value), np.full(len(table), np.nan)
    regions = [str(index) for index in table["index"]]
    estimates = {}
    for name in dict.fromkeys(maps):
        own = [k for k, found_map in enumerate(maps) if found_map == name]
        features = list(dict.fromkeys(regions[k] for k in own))
        at = {feature: f for f, feature in enumerate(features)}
        values = np.full((len(rows), len(features)), np.nan)
        for k in own:
            values[row_of[place[found[k]]], at[regions[k]]] = before[k]
        kept = _enough(values, used, batch_col)
        freed = np.full_like(values, np.nan)
        if kept.any():
            names = [feature for feature, is_kept in zip(features, kept, strict=True) if is_kept]
            freed[:, kept], estimates[name] = harmonize_values(
                values[:, kept], used, batch_col, features=names, **options
            )
        for k in own:
            after[k] = freed[row_of[place[found[k]]], at[regions[k]]]
    done = table.with_column(f"{value}_before", table[value]).with_column(value, [_or_none(x) for x in after])
    said = {
        value: {**table.dictionary.get(value, {}), "Harmonisation": f"ComBat over {batch_col}, each map by itself"},
        f"{value}_before": {"Description": f"{value} before harmonisation"},
    }
    return Table(done.columns, {**table.dictionary, **said}), estimates


def _enough(values: np.ndarray, covars: Table, batch_col: str) -> np.ndarray:
    """(n_features,) bool, whether each site has two subjects or more with a number."""
    sites = np.array([str(site) for site in covars[batch_col]])
    counts = np.stack([np.isfinite(values[sites == site]).sum(axis=0) for site in np.unique(sites)])
    return np.asarray(counts.min(axis=0) >= 2)


def _coding(
    covars: Table,
    batch_col: str,
    categorical: Sequence[str] | None,
    continuous: Sequence[str] | None,
    reference: str | None,
) -> tuple[Covariates, int | None]:
    """How samples are coded, and the number of the reference site."""
    sites = levels_of(covars, batch_col)
    if len(sites) < 2:
        raise InputError(
            f"found {len(sites)} site in the column {batch_col!r} ({', '.join(sites)}); expected two or more."
        )
    if reference is not None and str(reference) not in sites:
        raise InputError(f"found the reference site {reference!r}; expected one of {', '.join(sites)}.")
    levels = {name: levels_of(covars, name) for name in _names(categorical)}
    place = None if reference is None else sites.index(str(reference))
    return Covariates(batch_col, sites, levels, _names(continuous)), place


def _learnt(
    values: np.ndarray, covars: Table, covariates: Covariates, reference: int | None, options: CombatOptions
) -> tuple[np.ndarray, CombatFit]:
    """``values`` (n_samples, n_features) freed of the effects of their sites, and these."""
    site, coded = covariates.encode(covars)
    counts = np.bincount(site, minlength=len(covariates.sites))
    if counts.min() < 2:
        raise InputError(
            f"the site {covariates.sites[int(counts.argmin())]} has {int(counts.min())} subject; expected two or more "
            "at each site, or its spread is unknown. Leave it out."
        )
    fit = fit_combat(values, site, coded, reference=reference, options=options)
    return fit.apply(values, site, coded), fit


def _names(columns: Sequence[str] | str | None) -> tuple[str, ...]:
    return () if columns is None else (columns,) if isinstance(columns, str) else tuple(columns)


def _mask_of(mask: VolumeResource, like: VolumeResource) -> np.ndarray:
    volume = stored_like(like, as_volume(mask, like=like))
    if tuple(volume.shape[:3]) != tuple(like.shape):
        raise InputError(f"found a mask of shape {tuple(volume.shape)}; expected that of the volumes, {like.shape}.")
    check_same_place(like, volume, "the mask")
    inside = np.asarray(volume.get_array()).reshape(like.shape) > 0
    if not inside.any():
        raise InputError("the mask is empty: no voxel is above 0. Check that it belongs to these volumes.")
    return inside


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
