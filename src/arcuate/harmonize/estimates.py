"""What ComBat learnt of sites: how samples are coded, the numbers, and their use on other samples."""

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
from arcuate.models.combat import CombatFit
from arcuate.volumes.as_volume import as_volume
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource
from arcuate.volumes.voxels import check_same_place, stored_like

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
        table = as_covariates(covars, len(loaded), "volumes")
        values = rows_of(loaded, self.mask)
        site, coded = self.covariates.encode(table)
        return as_volumes(self.fit.apply(values, site, coded), loaded, self.mask, preserve_out_of_mask)

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


def levels_of(covars: Table, name: str) -> tuple[str, ...]:
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


def as_covariates(covars: Any, n_rows: int | None, what: str) -> Table:
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


def rows_of(volumes: Sequence[VolumeResource], inside: np.ndarray) -> np.ndarray:
    """(n_volumes, n_vox) float64, the voxels of the mask; volumes are checked to lie on one grid."""
    rows = np.empty((len(volumes), int(inside.sum())))
    for i, volume in enumerate(stored_like(volumes[0], other) for other in volumes):
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


def as_volumes(
    rows: np.ndarray, volumes: Sequence[VolumeResource], inside: np.ndarray, keep_outside: bool
) -> list[InMemoryVolumeResource]:
    done = []
    for row, volume in zip(rows, volumes, strict=True):
        array = np.array(volume.get_array(), np.float32) if keep_outside else np.zeros(inside.shape, np.float32)
        array[inside] = row
        done.append(volume.with_array(array))
    return done
