"""Harmonisation: site effects taken out of maps and tables, effects of covariates kept (ComBat)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.errors import InputError
from arcuate.io.atomic import atomic_path
from arcuate.io.tables import Table, read_table
from arcuate.models.combat import CombatFit, CombatOptions, fit_combat
from arcuate.volumes.as_volume import as_volume
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource
from arcuate.volumes.voxels import check_same_place

_FIT_FIELDS = ("coefs", "grand_mean", "variance", "gamma", "delta", "gamma_hat", "delta_hat", "is_constant")


@dataclass(frozen=True)
class Covariates:
    """How sites and covariates of samples are coded as numbers; learnt with the site effects.

    Parameters
    ----------
    batch_col : column of the sites
    sites : names of the sites, sorted
    categorical : {column: its levels, sorted}
    continuous : columns taken as numbers
    """

    batch_col: str
    sites: tuple[str, ...]
    categorical: dict[str, tuple[str, ...]] = field(default_factory=dict)
    continuous: tuple[str, ...] = ()

    def encode(self, covars: Table) -> tuple[np.ndarray, np.ndarray]:
        """Number of each sample's site (n_samples,) int, and covariates (n_samples, n_covariates) float.

        Raises
        ------
        InputError
            A column is missing, or it holds a site or level that was not learnt, or a missing value.
        """
        site = _coded(covars, self.batch_col, self.sites)
        columns = []
        for name, levels in self.categorical.items():
            coded = _coded(covars, name, levels)
            columns += [(coded == k).astype(np.float64) for k in range(1, len(levels))]
        for name in self.continuous:
            numbers = covars.numbers(name)
            if not np.isfinite(numbers).all():
                raise InputError(
                    f"the covariate {name!r} is missing in {int((~np.isfinite(numbers)).sum())} of {len(numbers)} "
                    "samples; expected a number for each. Leave those samples out, or the covariate."
                )
            columns.append(numbers)
        return site, np.stack(columns, axis=1) if columns else np.empty((len(site), 0))


@dataclass(frozen=True, eq=False)
class CombatEstimates:
    """What ComBat learnt, to be looked at, saved, and applied to other samples of the same sites.

    Parameters
    ----------
    fit : the numbers, over features or the voxels of the mask
    covariates : how samples are coded
    reference : the reference site, None for the mean of all
    mask : (x, y, z) bool, voxels that the features are; None for tables
    features : names of the features of a table
    """

    fit: CombatFit
    covariates: Covariates
    reference: str | None = None
    mask: np.ndarray | None = None
    features: tuple[str, ...] = ()

    @property
    def estimates(self) -> dict[str, Any]:
        """The numbers under the names of neuroCombat: batches, gamma.star, delta.star, gamma_hat, var.pooled ..."""
        fit = self.fit
        return {
            "batches": np.array(self.covariates.sites), "var.pooled": fit.variance[:, None],
            "stand.mean": fit.grand_mean, "gamma.star": fit.gamma, "delta.star": fit.delta,
            "gamma_hat": fit.gamma_hat, "delta_hat": fit.delta_hat, "beta": fit.coefs,
        }  # fmt: skip

    @property
    def info(self) -> dict[str, Any]:
        """What was given: sites, covariates, reference, number of features."""
        return {
            "batch_levels": list(self.covariates.sites), "n_batch": len(self.covariates.sites),
            "categorical": {name: list(levels) for name, levels in self.covariates.categorical.items()},
            "continuous": list(self.covariates.continuous), "ref_level": self.reference,
            "n_features": int(self.fit.variance.size), "n_constant": int(self.fit.is_constant.sum()),
        }  # fmt: skip

    def apply_volumes(
        self, volumes: Sequence[VolumeResource], covars: Any, *, preserve_out_of_mask: bool = False
    ) -> list[InMemoryVolumeResource]:
        """Other maps (x, y, z) of the sites that were learnt, freed of the effects of their sites.

        Parameters
        ----------
        volumes : on the grid of those that were learnt from
        covars : one row per volume, with the columns that were learnt; see :func:`harmonize_volumes`
        preserve_out_of_mask : keep what lies outside the mask, which else is 0
        """
        if self.mask is None:
            raise InputError("these estimates were learnt on a table; expected some learnt on volumes.")
        loaded = [as_volume(volume) for volume in volumes]
        table = _as_table(covars, len(loaded), "volumes")
        values = _rows_of(loaded, self.mask)
        site, coded = self.covariates.encode(table)
        return _as_volumes(self.fit.apply(values, site, coded), loaded, self.mask, preserve_out_of_mask)

    def apply_values(self, values: np.ndarray, covars: Any) -> np.ndarray:
        """Other samples (n_samples, n_features) of the sites that were learnt, freed of the effects of their sites."""
        values = np.asarray(values, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.fit.variance.size:
            raise InputError(
                f"found values of shape {values.shape}; expected (n_samples, {self.fit.variance.size}), the features "
                "that were learnt."
            )
        site, coded = self.covariates.encode(_as_table(covars, len(values), "samples"))
        return self.fit.apply(values, site, coded)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the estimates to one ``.npz`` file, without pickle; its path."""
        path = Path(path)
        if path.suffix != ".npz":
            raise InputError(f"cannot save estimates as {path.name!r}; expected a name that ends in .npz.")
        said = {
            "batch_col": self.covariates.batch_col, "sites": self.covariates.sites,
            "categorical": self.covariates.categorical, "continuous": self.covariates.continuous,
            "reference": self.reference, "features": self.features,
        }  # fmt: skip
        arrays = {name: getattr(self.fit, name) for name in _FIT_FIELDS}
        if self.mask is not None:
            arrays["mask"] = self.mask
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, said=np.array(json.dumps(said)), **arrays)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CombatEstimates:
        """What :meth:`save` wrote.

        Raises
        ------
        InputError
            There is no such file, or it holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as kept:
                said = json.loads(str(kept["said"]))
                fit = CombatFit(**{name: kept[name] for name in _FIT_FIELDS})
                mask = kept["mask"] if "mask" in kept.files else None
        except (OSError, KeyError, ValueError) as error:
            raise InputError(
                f"{path} cannot be read as estimates of ComBat ({error}); expected a file of `arcuate harmonize "
                "--save-model`."
            ) from error
        levels = {name: tuple(found) for name, found in said["categorical"].items()}
        covariates = Covariates(said["batch_col"], tuple(said["sites"]), levels, tuple(said["continuous"]))
        return cls(fit, covariates, said["reference"], mask, tuple(said["features"]))


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
    table = _as_table(covars, len(loaded), "volumes")
    inside = _mask_of(mask, loaded[0])
    values = _rows_of(loaded, inside)
    estimates = _learn(
        values, table, batch_col, categorical_cols, continuous_cols, ref_batch, CombatOptions(eb, parametric, mean_only)
    )
    estimates = CombatEstimates(estimates.fit, estimates.covariates, ref_batch, inside)
    site, coded = estimates.covariates.encode(table)
    freed = estimates.fit.apply(values, site, coded)
    return _as_volumes(freed, loaded, inside, preserve_out_of_mask), estimates


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
    table = _as_table(covars, len(values), "samples")
    options = CombatOptions(eb, parametric, mean_only)
    estimates = _learn(values, table, batch_col, categorical_cols, continuous_cols, ref_batch, options)
    estimates = CombatEstimates(estimates.fit, estimates.covariates, ref_batch, None, tuple(features))
    site, coded = estimates.covariates.encode(table)
    return estimates.fit.apply(values, site, coded), estimates


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
    about = _as_table(covars, None, "subjects")
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


def _learn(
    values: np.ndarray,
    covars: Table,
    batch_col: str,
    categorical: Sequence[str] | None,
    continuous: Sequence[str] | None,
    reference: str | None,
    options: CombatOptions,
) -> CombatEstimates:
    """Site effects of ``values`` (n_samples, n_features)."""
    sites = _levels(covars, batch_col)
    if len(sites) < 2:
        raise InputError(
            f"found {len(sites)} site in the column {batch_col!r} ({', '.join(sites)}); expected two or more."
        )
    if reference is not None and str(reference) not in sites:
        raise InputError(f"found the reference site {reference!r}; expected one of {', '.join(sites)}.")
    levels = {name: _levels(covars, name) for name in _names(categorical)}
    covariates = Covariates(batch_col, sites, levels, _names(continuous))
    site, coded = covariates.encode(covars)
    counts = np.bincount(site, minlength=len(sites))
    if counts.min() < 2:
        raise InputError(
            f"the site {sites[int(counts.argmin())]} has {int(counts.min())} subject; expected two or more at each "
            "site, or its spread is unknown. Leave it out."
        )
    place = None if reference is None else sites.index(str(reference))
    fit = fit_combat(values, site, coded, reference=place, options=options)
    return CombatEstimates(fit, covariates, reference)


def _names(columns: Sequence[str] | str | None) -> tuple[str, ...]:
    return () if columns is None else (columns,) if isinstance(columns, str) else tuple(columns)


def _levels(covars: Table, name: str) -> tuple[str, ...]:
    return tuple(sorted({_word(value, name) for value in covars[name]}))


def _word(value: Any, name: str) -> str:
    """A level as a word; 1 and 1.0 are the same."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        raise InputError(f"a value of the column {name!r} is missing; expected one for each sample.")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _coded(covars: Table, name: str, levels: tuple[str, ...]) -> np.ndarray:
    words = [_word(value, name) for value in covars[name]]
    unknown = sorted(set(words) - set(levels))
    if unknown:
        raise InputError(
            f"found {', '.join(unknown)} in the column {name!r}; the estimates were learnt on {', '.join(levels)}. "
            "Learn on a set that holds every site and level."
        )
    return np.array([levels.index(word) for word in words], dtype=np.int64)


def _as_table(covars: Any, n_rows: int | None, what: str) -> Table:
    """Covariates from a DataFrame, a table, columns by name, or a file; ``n_rows`` of them."""
    if isinstance(covars, str | os.PathLike):
        table = read_table(covars)
    elif isinstance(covars, Table):
        table = covars
    elif hasattr(covars, "columns") or isinstance(covars, Mapping):
        names = [str(name) for name in getattr(covars, "columns", covars)]
        table = Table({name: list(np.asarray(covars[name]).tolist()) for name in names})
    else:
        raise InputError(
            f"found {type(covars).__name__} in place of covariates; expected a DataFrame, columns by name, or a file."
        )
    if n_rows is not None and len(table) != n_rows:
        raise InputError(f"found {len(table)} rows of covariates for {n_rows} {what}; expected one for each.")
    return table


def _mask_of(mask: VolumeResource, like: VolumeResource) -> np.ndarray:
    volume = as_volume(mask, like=like)
    if tuple(volume.shape[:3]) != tuple(like.shape):
        raise InputError(f"found a mask of shape {tuple(volume.shape)}; expected that of the volumes, {like.shape}.")
    check_same_place(like, volume, "the mask")
    inside = np.asarray(volume.get_array()).reshape(like.shape) > 0
    if not inside.any():
        raise InputError("the mask is empty: no voxel is above 0. Check that it belongs to these volumes.")
    return inside


def _rows_of(volumes: Sequence[VolumeResource], inside: np.ndarray) -> np.ndarray:
    """(n_volumes, n_vox) float64, the voxels of the mask; volumes are checked to lie on one grid."""
    rows = np.empty((len(volumes), int(inside.sum())))
    for i, volume in enumerate(volumes):
        if tuple(volume.shape) != inside.shape:
            raise InputError(
                f"volume {i} has the shape {tuple(volume.shape)}; expected {inside.shape}, one grid for all. Bring "
                "the maps to a template first: `arcuate apply`."
            )
        check_same_place(volumes[0], volume, f"volume {i}")
        rows[i] = np.asarray(volume.get_array())[inside]
        n_bad = int((~np.isfinite(rows[i])).sum())
        if n_bad:
            raise InputError(
                f"volume {i} has {n_bad} voxels in the mask that are not finite; expected numbers. Take a smaller mask."
            )
    return rows


def _as_volumes(
    rows: np.ndarray, volumes: Sequence[VolumeResource], inside: np.ndarray, keep_outside: bool
) -> list[InMemoryVolumeResource]:
    done = []
    for row, volume in zip(rows, volumes, strict=True):
        array = np.array(volume.get_array(), np.float32) if keep_outside else np.zeros(inside.shape, np.float32)
        array[inside] = row
        done.append(volume.with_array(array))
    return done


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
