"""``arcuate regions``: a table of maps in the regions of an atlas."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from arcuate.commands.options import PATH, TEMPLATE, threads_option
from arcuate.commands.shell import ArcuateCommand, tell
from arcuate.commands.written import begin_work, check_outputs, own_facts
from arcuate.errors import InputError

if TYPE_CHECKING:
    from arcuate.volumes.resource import VolumeResource


@click.command(cls=ArcuateCommand)
@click.argument("maps", nargs=-1, required=True, metavar="MAP...")
@click.option(
    "--labels",
    type=TEMPLATE,
    required=True,
    help="Atlas: an image of labels, 0 outside (.nii.gz, .mgz), or 4-D weights, a volume per region.",
)
@click.option(
    "--names",
    help="Names of the labels: colour table of FreeSurfer, BIDS dseg.tsv, FSL XML, ITK-SNAP; or freesurfer. Default: "
    "the table beside the atlas.",
)
@click.option("--atlas-to-scan", type=PATH, help="Transform that brings the labels to the grid of the maps.")
@click.option("--scan-to-atlas", type=PATH, help="Transform whose way back does; see `arcuate register`.")
@click.option("--mask", type=PATH, help="Voxels that may count. Default: every voxel.")
@click.option("--weights", type=PATH, help="Weight of each voxel, 0 or more: probability of a tract or tissue.")
@click.option("--free-water", type=PATH, help="Weight NDI and ODI by 1 - this map. Default: the map fwf or isovf.")
@click.option("--status", type=PATH, help="Fit status of each voxel; only fitted voxels count.")
@click.option(
    "-o",
    "--out",
    "--output",
    "out",
    type=PATH,
    required=True,
    help="Table to write, .tsv; its dictionary is the .json beside it.",
)
@threads_option
def regions(
    maps: tuple[str, ...],
    labels: Path,
    names: str | None,
    atlas_to_scan: Path | None,
    scan_to_atlas: Path | None,
    mask: Path | None,
    weights: Path | None,
    free_water: Path | None,
    status: Path | None,
    out: Path,
) -> None:
    """Values of maps in the regions of an atlas, as a table: a row for each region and map.

    A MAP is an image, or NAME=image; without a name it is called after its file (param-fa: fa). Labels, maps and mask
    lie on one grid.
    """
    from arcuate.io.images import open_volume
    from arcuate.regions import region_table
    from arcuate.study.regions import Atlas

    found = read_maps(maps)
    others = {"labels": labels, "mask": mask, "weights": weights, "free water": free_water, "status": status}
    inputs = {role: path for role, path in others.items() if path is not None}
    inputs |= {name: Path(path) for name, path in named_maps(maps).items()}
    outputs = [out, out.with_suffix(".json")]
    check_outputs(outputs, inputs)

    def read(path: Path | None) -> VolumeResource | None:
        return None if path is None else open_volume(path)

    atlas = Atlas.of_files(labels, names, atlas_to_scan, scan_to_atlas)
    grid = atlas.on_grid_of(next(iter(found.values())))
    inside, weight, fits, water = map(read, (mask, weights, status, free_water))
    begin_work(outputs)
    table = region_table(found, grid, atlas.names, mask=inside, weights=weight, status=fits, free_water=water)
    replace(table, dictionary={**table.dictionary, **own_facts()}).save(out)
    n_regions, n_empty = len(set(table["index"])), sum(not n for n in table["voxels"])
    tell(f"{out}: {n_regions} regions, {len(found)} maps" + (f"; {n_empty} rows without a voxel" if n_empty else ""))


def named_maps(maps: tuple[str, ...]) -> dict[str, str]:
    """Path by name: from NAME=path, or the label ``param-`` of the file, with that of the model where two are alike."""
    from arcuate.io.names import image_stem

    pairs = []
    for word in maps:
        name, is_named, path = word.partition("=")
        if is_named and not Path(word).exists():
            pairs.append((name, "", path))
            continue
        parts = dict(part.split("-", 1) for part in image_stem(word).split("_") if "-" in part)
        param = parts.get("param", image_stem(word))
        param += f"_{parts['label']}" if "label" in parts else ""
        pairs.append((param, parts.get("model", ""), word))
    counts = Counter(name for name, _, _ in pairs)
    found: dict[str, str] = {}
    for name, model, path in pairs:
        full = f"{model}_{name}" if counts[name] > 1 and model else name
        if full in found:
            raise InputError(f"found two maps called {full!r} ({found[full]}, {path}); expected names: NAME=image.")
        found[full] = path
    return found


def read_maps(maps: tuple[str, ...]) -> dict[str, VolumeResource]:
    """The maps of a command by name, read when asked for."""
    from arcuate.io.labels import read_image

    return {name: read_image(path) for name, path in named_maps(maps).items()}
