"""From maps to numbers: the values of maps in the regions of an atlas, as a table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.errors import InputError, warn
from arcuate.io.labels import as_labels, find_label_names, read_image, read_label_names
from arcuate.io.tables import Table
from arcuate.models.region_statistics import region_statistics
from arcuate.models.status import Status
from arcuate.volumes.as_volume import as_volume
from arcuate.volumes.geometry import voxel_size
from arcuate.volumes.resource import VolumeResource
from arcuate.volumes.voxels import check_same_place, stored_like

TISSUE_WEIGHTED = ("ndi", "icvf", "odi")  # maps of what is not free water, and mean nothing where all is
FREE_WATER = ("fwf", "isovf")
_UNFITTED = 0.05  # share of voxels of 0 above which a user is asked for the mask
ENDED = (Status.FITTED, Status.FLOORED, Status.NOT_CONVERGED)  # of these there is a number
REMEDY = (
    "bring the labels to the scan with the transform that registration gave (--atlas-to-scan, or `arcuate apply "
    "--interpolation label`)"
)
NAMES_WANTED = 'a dictionary, a file of names, "freesurfer", or a list with a name for each label from 1'

DICTIONARY: dict[str, dict[str, str]] = {
    "index": {"Description": "label of the region in the atlas; number of the volume, from 1, in a 4-D atlas"},
    "region": {"Description": "name of the region"},
    "map": {"Description": "which map the numbers are of"},
    "voxels": {"Description": "voxels of the region that count: in the mask, finite, fitted, of a weight above 0"},
    "volume": {"Description": "volume of these voxels", "Units": "mm^3"},
    "weight": {"Description": "sum of the weights of these voxels: their number where weighting is none"},
    "weighting": {"Description": "what the voxels are weighted by: none, tissue (1 - free water), given, region"},
    "mean": {"Description": "weighted mean, in the unit of the map"},
    "sd": {"Description": "weighted standard deviation, in the unit of the map"},
    "median": {"Description": "weighted median, in the unit of the map"},
    "robust_mean": {
        "Description": "weighted mean of the voxels within 3 x 1.4826 median absolute deviations of the median"
    },
    "p05": {"Description": "5th percentile, in the unit of the map"},
    "p95": {"Description": "95th percentile, in the unit of the map"},
    "region_voxels": {"Description": "voxels of the region on the grid of the scan, whether they count or not"},
    **{
        f"status_{s.name.lower()}": {"Description": f"voxels of the region with the fit status {s.name.lower()}"}
        for s in Status
    },
}


@dataclass(frozen=True)
class _Atlas:
    """Regions: the positions of their voxels, and their own weights where they have some."""

    names: dict[int, str]
    voxels: dict[int, np.ndarray]  # (n,) positions in a flattened image (C order)
    weights: dict[int, np.ndarray] | None  # (n,) 0..1, of a 4-D atlas


def region_table(
    maps: Mapping[str, VolumeResource] | VolumeResource,
    labels: VolumeResource,
    names: Mapping[int, str] | Sequence[str] | str | os.PathLike[str] | None = None,
    *,
    mask: VolumeResource | None = None,
    weights: VolumeResource | None = None,
    status: VolumeResource | Mapping[str, VolumeResource] | None = None,
    tissue_weighted: Sequence[str] = TISSUE_WEIGHTED,
    free_water: VolumeResource | None = None,
) -> Table:
    """Values of maps in regions: a row for each region and map.

    Parameters
    ----------
    maps : {name: (x, y, z)}, or one map
        All on one grid; NaN does not count.
    labels : (x, y, z) whole numbers, 0 outside; or (x, y, z, n) of 0..1
        On the grid of the maps. Of a 4-D image each volume is a region, and its values are weights: tracts,
        probabilities of tissues. NIfTI, or FreeSurfer's ``.mgz``.
    names : {label: name}, list of names for the labels 1, 2, ..., the path of a table, or "freesurfer"
        FreeSurfer's colour table, BIDS' ``dseg.tsv``, FSL's XML, ITK-SNAP's descriptions; without it the table that
        lies beside the image of labels, or "label 17". Labels that are named and have no voxel get a row of zeros.
    mask : (x, y, z), voxels that may count: those at least 0.5; all without it
    weights : (x, y, z), 0 or more, as the probability of a tract or a tissue; every voxel counts 1 without it
    status : (x, y, z), what became of each voxel, see :class:`~arcuate.models.status.Status`; by map where they differ
        Only voxels with a number count, and the table tells how many had which status.
    tissue_weighted : names of maps whose voxels are weighted by their tissue, 1 - free water
    free_water : (x, y, z), fraction of free water; without it the map called fwf or isovf, if there is one

    Returns
    -------
    Table
        index, region, map, voxels, volume (mm³), weight, weighting, mean, sd, median, robust_mean, p05, p95,
        region_voxels, and with ``status`` the voxels by status.

    Raises
    ------
    InputError
        Labels, mask, weights or a map on another grid, labels that are not whole, or no map.

    Notes
    -----
    NDI and ODI say nothing of free water, and are noise where it fills a voxel: their plain mean over a region leans to
    what stands at its rim. Weighted by 1 - FWF the mean is that of the tissue (Parker et al.).

    References
    ----------
    Parker et al., Not all voxels are created equal: reducing estimation bias in regional NODDI metrics using
    tissue-weighted means. NeuroImage 245, 2021.
    """
    given = {name: as_volume(v) for name, v in (maps if isinstance(maps, Mapping) else {"map": maps}).items()}
    if not given:
        raise InputError("found no map; expected at least one, as {'fa': fa}.")
    like = next(iter(given.values()))
    arrays = {name: _on_grid(volume, like, f"the map {name}") for name, volume in given.items()}
    atlas = _read_atlas(labels, like, names)
    kept = np.ones(like.shape[:3], dtype=bool)
    if mask is not None:
        kept = _on_grid(as_volume(mask, like=like), like, "the mask") >= 0.5
    if mask is None and status is None:
        _warn_of_unfitted(arrays, atlas)
    own = None if weights is None else _weights(as_volume(weights, like=like), like)
    water = _free_water(arrays, free_water, like)
    rows = []
    for name, array in arrays.items():
        fates = _status_of(name, status, like)
        counts = kept if fates is None else kept & np.isin(fates, ENDED)
        is_tissue = water is not None and name in tissue_weighted
        weighting: np.ndarray = np.ones(array.shape) if own is None else own
        if water is not None and is_tissue:
            weighting = weighting * water
        said = _said(own is not None, is_tissue, atlas.weights is not None)
        measure = _Measure(array.ravel(), np.where(counts, weighting, 0.0).ravel(), fates, said)
        rows += [_row(atlas, index, name, measure, like) for index in atlas.names]
    order = {index: i for i, index in enumerate(atlas.names)}
    return Table.of_rows(sorted(rows, key=lambda row: order[row["index"]]), DICTIONARY)


def join_tables(tables: Mapping[str, Table], subject: str = "participant_id") -> Table:
    """Tables of many subjects as one, the subject in the first column ``subject``; keys of ``tables`` are its names."""
    rows = [{subject: name, **row} for name, table in tables.items() for row in table.rows]
    said: dict[str, Any] = {subject: {"Description": "subject or scan"}}
    for table in tables.values():
        said |= table.dictionary
    return Table.of_rows(rows, said)


@dataclass(frozen=True)
class _Measure:
    """One map, flattened: values (n,), weights (n,) with 0 where a voxel does not count, statuses, what weights are."""

    values: np.ndarray
    weights: np.ndarray
    fates: np.ndarray | None
    weighting: str


def _row(atlas: _Atlas, index: int, name: str, measure: _Measure, like: VolumeResource) -> dict[str, Any]:
    voxels = atlas.voxels.get(index, np.empty(0, dtype=np.int64))
    weights = measure.weights[voxels]
    if atlas.weights is not None:
        weights = weights * atlas.weights[index]
    found = region_statistics(measure.values[voxels], weights)
    row: dict[str, Any] = {
        "index": index,
        "region": atlas.names[index],
        "map": name,
        "voxels": found.n_voxels,
        "volume": found.n_voxels * float(np.prod(voxel_size(like.get_affine()))),
        "weight": found.weight,
        "weighting": measure.weighting,
    }
    for key in ("mean", "sd", "median", "robust_mean", "p05", "p95"):
        value = getattr(found, key)
        row[key] = value if np.isfinite(value) else None
    row["region_voxels"] = len(voxels)
    if measure.fates is not None:
        counts = np.bincount(measure.fates.ravel()[voxels], minlength=len(Status))
        row |= {f"status_{s.name.lower()}": int(counts[s]) for s in Status}
    return row


def _warn_of_unfitted(arrays: Mapping[str, np.ndarray], atlas: _Atlas) -> None:
    """Warn where regions reach beyond the mask of the fit, whose zeros would draw every mean down."""
    # free water of 0 is a result, and so is a count of 0
    told = [a.ravel() for name, a in arrays.items() if name not in FREE_WATER and a.dtype.kind == "f"]
    voxels = np.concatenate([np.empty(0, np.int64), *atlas.voxels.values()])
    if not told or not len(voxels):
        return
    share = float(np.mean(np.all([values[voxels] == 0 for values in told], axis=0)))
    if share > _UNFITTED:
        warn(
            f"{100 * share:.0f} % of the voxels of the regions are exactly 0 in {', '.join(arrays)}, as maps are "
            "outside the mask of their fit, and draw means down. Give that mask (--mask), or the status (--status)."
        )


def _said(is_given: bool, is_tissue: bool, is_region: bool) -> str:
    words = [word for word, holds in (("region", is_region), ("given", is_given), ("tissue", is_tissue)) if holds]
    return " x ".join(words) or "none"


def _on_grid(volume: VolumeResource, like: VolumeResource, what: str, remedy: str | None = None) -> np.ndarray:
    """(x, y, z) values of an image that has to lie on the grid of the maps; refused otherwise."""
    volume = stored_like(like, volume)
    shape, grid = tuple(volume.shape), tuple(like.shape[:3])
    remedy = remedy or "bring it to the grid of the maps first"
    if shape[:3] != grid:
        raise InputError(f"found {what} of shape {shape}; expected {grid}, the grid of the maps: {remedy}.")
    if shape[3:] not in {(), (1,)}:
        raise InputError(f"found {what} of shape {shape}; expected {grid}, a number in each voxel. Take one volume.")
    check_same_place(like, volume, what, remedy=remedy)
    return np.asarray(volume.get_array()).reshape(grid)


def _weights(volume: VolumeResource, like: VolumeResource) -> np.ndarray:
    array = _on_grid(volume, like, "the weights").astype(np.float64)
    if not np.isfinite(array).all() or array.min() < 0:
        raise InputError("the weights hold values below 0 or not finite; expected 0 or more, as probabilities.")
    return array


def _free_water(
    arrays: Mapping[str, np.ndarray], free_water: VolumeResource | None, like: VolumeResource
) -> np.ndarray | None:
    """(x, y, z) share of tissue, 0..1, or None where nothing tells it."""
    if free_water is not None:
        water = _on_grid(as_volume(free_water, like=like), like, "the free water")
    else:
        found = next((arrays[name] for name in FREE_WATER if name in arrays), None)
        if found is None:
            return None
        water = found
    return np.clip(1.0 - np.where(np.isfinite(water), water, 1.0).astype(np.float64), 0.0, 1.0)


def _status_of(
    name: str, status: VolumeResource | Mapping[str, VolumeResource] | None, like: VolumeResource
) -> np.ndarray | None:
    own = status.get(name) if isinstance(status, Mapping) else status
    if own is None:
        return None
    array = as_labels(stored_like(like, as_volume(own, like=like)), "the status")
    if array.shape != tuple(like.shape[:3]) or array.min() < 0 or array.max() >= len(Status):
        raise InputError(
            f"found a status of shape {array.shape} with values {array.min()} to {array.max()}; expected the grid of "
            f"the maps, {tuple(like.shape[:3])}, and 0 to {len(Status) - 1}, as a fit gives it."
        )
    return array


def _read_atlas(
    labels: VolumeResource,
    like: VolumeResource,
    names: Mapping[int, str] | Sequence[str] | str | os.PathLike[str] | None,
) -> _Atlas:
    path: Any = labels if isinstance(labels, str | os.PathLike) else getattr(labels, "path", None)
    volume = read_image(labels) if isinstance(labels, str | os.PathLike) else as_volume(labels, like=like)
    volume = stored_like(like, volume)
    if names is None and path is not None:
        names = find_label_names(Path(path))
    named = _names_of(names)
    if len(volume.shape) == 4 and volume.shape[3] > 1:
        return _probabilities(volume, like, named)
    array = as_labels(volume)
    _on_grid(volume, like, "the label image", REMEDY)
    flat = array.ravel()
    order = np.argsort(flat, kind="stable")
    found, first = np.unique(flat[order], return_index=True)
    pieces = np.split(order, first[1:])
    voxels = {int(index): piece for index, piece in zip(found, pieces, strict=True) if index > 0}
    if not voxels:
        raise InputError("the label image holds no label above 0; expected regions. Check that it is the right image.")
    below = [int(index) for index in found if index < 0]
    if below:
        warn(f"the label image holds {len(below)} labels below 0 ({below[0]} ...): they count as outside, like 0.")
    listed = {index: name for index, name in (named or {}).items() if index > 0}
    every = sorted({*voxels, *listed}) if listed and len(listed) <= 4 * len(voxels) else sorted(voxels)
    return _Atlas({index: listed.get(index, f"label {index}") for index in every}, voxels, None)


def _probabilities(volume: VolumeResource, like: VolumeResource, named: dict[int, str] | None) -> _Atlas:
    """Regions from the volumes of a 4-D image of 0..1."""
    check = volume.with_array(np.empty(volume.shape[:3], dtype=np.uint8))
    _on_grid(check, like, "the atlas", REMEDY)
    array = np.asarray(volume.get_array())
    if not np.isfinite(array).all() or array.min() < 0:
        raise InputError("the 4-D atlas holds values below 0 or not finite; expected weights of 0 or more.")
    n = array.shape[3]
    voxels = {k + 1: np.flatnonzero(array[..., k].ravel() > 0) for k in range(n)}
    weights = {k + 1: array[..., k].ravel()[voxels[k + 1]].astype(np.float64) for k in range(n)}
    return _Atlas({k: (named or {}).get(k, f"volume {k}") for k in voxels}, voxels, weights)


def _names_of(names: Any) -> dict[int, str] | None:
    if names is None:
        return None
    if isinstance(names, str | os.PathLike):
        return read_label_names(names)
    if isinstance(names, Mapping):
        try:
            return {int(index): str(name) for index, name in names.items()}
        except (TypeError, ValueError) as error:
            raise InputError(f"found names by {next(iter(names))!r}; expected {NAMES_WANTED}.") from error
    if isinstance(names, Sequence):
        return {i: str(name) for i, name in enumerate(names, start=1)}
    raise InputError(f"found {type(names).__name__} in place of names; expected {NAMES_WANTED}.")
