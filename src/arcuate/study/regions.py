"""The regions of a run: an atlas brought to the scan, and the table of the run's maps in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arcuate.errors import InputError, NotApplicable
from arcuate.io.labels import find_label_names, read_image, read_label_names
from arcuate.io.tables import Table
from arcuate.regions import REMEDY, region_table
from arcuate.registration import TransformResource
from arcuate.volumes.resource import VolumeResource
from arcuate.volumes.voxels import stored_like

if TYPE_CHECKING:
    from arcuate.dti import Dti
    from arcuate.dwi import Dwi
    from arcuate.kurtosis import Dki
    from arcuate.noddi import Noddi


@dataclass(frozen=True, eq=False)
class Atlas:
    """Regions for the table of a run.

    Parameters
    ----------
    labels : (x, y, z) whole numbers, or (x, y, z, n) weights; on the grid of the scan, or to be brought there
    names : {label: name}; None for what the labels say themselves
    transform : from the atlas to the scan, or None where the labels lie on its grid
    inverted : whether it is the way back of that transform that leads to the scan
    """

    labels: VolumeResource
    names: dict[int, str] | None = None
    transform: TransformResource | None = None
    inverted: bool = False

    @classmethod
    def of_files(
        cls, labels: Path, names: str | None = None, to_scan: Path | None = None, from_scan: Path | None = None
    ) -> Atlas:
        """From the files of a command.

        Raises
        ------
        InputError
            A file cannot be read, or both transforms were given.
        """
        if to_scan is not None and from_scan is not None:
            raise InputError("found --atlas-to-scan and --scan-to-atlas; expected one of them. Leave one out.")
        found = names or find_label_names(labels)
        path = to_scan or from_scan
        transform = None if path is None else TransformResource.load(path)
        return cls(
            read_image(labels), None if found is None else read_label_names(found), transform, from_scan is not None
        )

    def check(self, scan: VolumeResource) -> None:
        """Refuse labels (x, y, z) of another grid than the scan's (x, y, z, n_meas) that come without a transform."""
        if self.transform is not None:
            return
        grid, shape = tuple(scan.shape[:3]), tuple(stored_like(scan, self.labels).shape)
        if shape[:3] != grid:
            raise InputError(f"found an atlas of shape {shape}; expected {grid}, the grid of the scan: {REMEDY}.")

    def on_grid_of(self, scan: VolumeResource) -> VolumeResource:
        """The atlas (x, y, z[, n]) on the grid of the scan (x, y, z, n_meas)."""
        if self.transform is None:
            return stored_like(scan, self.labels)
        is_weighted = len(self.labels.shape) == 4 and self.labels.shape[3] > 1
        return self.transform.apply(self.labels, scan, "linear" if is_weighted else "label", invert=self.inverted)


def run_table(
    atlas: VolumeResource,
    names: Mapping[int, str] | None,
    mask: VolumeResource | None,
    dti: Dti | None,
    kurtosis: Dki | None,
    noddi: Noddi | None,
) -> Table:
    """Maps of a run in the regions of an atlas (x, y, z) on its grid; NDI and ODI weighted by tissue."""
    maps: dict[str, VolumeResource] = {}
    status: dict[str, VolumeResource] = {}
    results: list[tuple[Any, tuple[str, ...]]] = [
        (dti, ("fa", "md", "ad", "rd")), (kurtosis, ("mk", "ak", "rk", "kfa")), (noddi, ("icvf", "odi", "isovf")),
    ]  # fmt: skip
    for result, wanted in results:
        if result is None:
            continue
        found = result.get_maps()
        maps |= {name: found[name] for name in wanted}
        if result.status is not None:
            status |= dict.fromkeys(wanted, result.status)
    return region_table(maps, atlas, names, mask=mask, status=status)


def write_regions(
    atlas: Atlas, scan: Dwi, inside: VolumeResource | None, results: tuple[Dti | None, Dki | None, Noddi | None],
    to: Any,
) -> Table:  # fmt: skip
    """The step of a run: the atlas on its grid (x, y, z[, n]) and the table, written; ``to`` is the run's context."""
    if not any(results):
        raise NotApplicable("no map was made that a table of regions could be of.")
    labels = atlas.on_grid_of(scan.volume)
    table = run_table(labels, atlas.names, inside, *results)
    regions = dict.fromkeys(zip(table["index"], table["region"], strict=True))
    maps = list(dict.fromkeys(table["map"]))
    facts = {"Regions": len(regions), "Maps": maps, "Resampled": atlas.transform is not None}
    to.image("desc-atlas_dseg.nii.gz", labels, {**facts, "Labels": {str(k): v for k, v in regions}}, "atlas")
    path = to.outputs.check(to.outputs.names.path("desc-atlas_regions.tsv"))
    table.save(path)
    for file, role in ((path, "table"), (path.with_suffix(".json"), "sidecar")):
        to.outputs.add(file, role=role, step="regions", made_from=to.made_from)
    n_empty = sum(1 for n in table["region_voxels"] if not n) // len(maps)
    words = f"{len(regions)} regions, {len(maps)} maps"
    to.end(facts, words + (f"; {n_empty} regions without a voxel" if n_empty else ""))
    return table
