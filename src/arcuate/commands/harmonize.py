"""``arcuate harmonize``: site effects out of tables and maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arcuate.commands.options import PATH, check_images, step_option, threads_option
from arcuate.commands.shell import ArcuateCommand, tell
from arcuate.commands.written import begin_work, check_outputs, own_facts
from arcuate.errors import InputError
from arcuate.harmonize import CombatEstimates, harmonize_table, harmonize_volumes

if TYPE_CHECKING:
    from arcuate.io.tables import Table

OF_VOLUMES = "image"  # column of the covariates that names the maps


@click.command(cls=ArcuateCommand)
@click.argument("table", type=PATH, required=False, metavar="[TABLE]")
@click.option("--covars", type=PATH, required=True, help="TSV or CSV: a row per subject, with site and covariates.")
@click.option("--batch", required=True, help="Column of the site or scanner.")
@click.option("--continuous", multiple=True, help="Column of numbers whose effect is kept, as age; may be repeated.")
@click.option("--categorical", multiple=True, help="Column of kinds whose effect is kept, as sex; may be repeated.")
@click.option("--reference", help="Site to whose level the others are brought. Default: the mean of all.")
@step_option(harmonize_table, "--value", "Column of TABLE that is harmonised.")
@step_option(harmonize_table, "--subject", "Column that names the subject, in TABLE and in the covariates.")
@click.option("--mask", type=PATH, help="For maps: voxels to harmonise, on their grid.")
@click.option("--mean-only", is_flag=True, help="Shifts alone, scales stay.")
@click.option("--no-eb", is_flag=True, help="Every region or voxel by itself, not shrunk by empirical Bayes.")
@click.option("--non-parametric", is_flag=True, help="Empirical priors in place of normal and inverse gamma ones.")
@click.option("--save-model", type=PATH, help="For maps: keep what was learnt, .npz.")
@click.option("--model", type=PATH, help="For maps: apply what was learnt before, of the same sites.")
@click.option(
    "-o", "--out", "--output", "out", type=PATH, required=True, help="Table to write (.tsv), or folder for maps."
)
@threads_option
def harmonize(
    table: Path | None,
    covars: Path,
    batch: str,
    continuous: tuple[str, ...],
    categorical: tuple[str, ...],
    reference: str | None,
    value: str,
    subject: str,
    mask: Path | None,
    mean_only: bool,
    no_eb: bool,
    non_parametric: bool,
    save_model: Path | None,
    model: Path | None,
    out: Path,
) -> None:
    """Take site effects out (ComBat), and keep those of covariates.

    TABLE is a tidy table of regions of many subjects, as the group level of a cohort writes it. Without TABLE maps are
    harmonised voxel by voxel: the covariates then name them in a column "image", below the folder of the table.
    """
    from arcuate.io.tables import read_table

    options: dict[str, Any] = {
        "categorical_cols": categorical, "continuous_cols": continuous, "eb": not no_eb,
        "parametric": not non_parametric, "mean_only": mean_only, "ref_batch": reference,
    }  # fmt: skip
    about = read_table(covars)
    if table is None:
        _harmonize_maps(about, covars.parent, batch, (mask, save_model, model, out), options)
        return
    if model or save_model or mask:
        raise InputError("found --mask, --model or --save-model together with a table; they are for maps. Leave them.")
    outputs = [out, out.with_suffix(".json")]
    check_outputs(outputs, {"table": table, "covars": covars})
    given = read_table(table)
    begin_work(outputs)
    done, estimates = harmonize_table(given, about, batch, value=value, subject=subject, **options)
    replace(done, dictionary={**done.dictionary, **own_facts()}).save(out)
    sites = next(iter(estimates.values())).covariates.sites if estimates else ()
    tell(f"{out}: {value} of {len(estimates)} maps harmonised over {', '.join(sites) or 'no site'}")


def _harmonize_maps(
    about: Table,
    folder: Path,
    batch: str,
    paths: tuple[Path | None, Path | None, Path | None, Path],
    options: dict[str, Any],
) -> None:
    from arcuate.io.images import open_volume
    from arcuate.io.names import image_stem
    from arcuate.study.bids import input_facts, write_map

    mask, save_model, model, out = paths
    if OF_VOLUMES not in about.columns:
        raise InputError(
            f"found no table to harmonise, and no column {OF_VOLUMES!r} among the covariates "
            f"({', '.join(about.columns)}); expected a TABLE, or the paths of the maps in that column."
        )
    images = [folder / str(name) for name in about[OF_VOLUMES]]
    targets = [out / f"{image_stem(image)}.nii.gz" for image in images]
    if len(set(targets)) < len(targets):
        raise InputError("two maps have one file name; expected different names, as sub-01_fa.nii.gz.")
    inputs = {f"image {i}": image for i, image in enumerate(images)} | ({"mask": mask} if mask else {})
    check_images(targets, inputs)
    check_outputs([save_model] if save_model else [], inputs, belonging={save_model or out: targets[0]})
    volumes = [open_volume(image) for image in images]
    learnt = None if model is None else CombatEstimates.load(model)
    inside = None if mask is None else open_volume(mask)
    if learnt is None and inside is None:
        raise InputError("found no --mask; expected one: the voxels to harmonise, on the grid of the maps.")
    begin_work(targets)
    if learnt is not None:
        estimates = learnt
        done = estimates.apply_volumes(volumes, about)
    else:
        assert inside is not None
        done, estimates = harmonize_volumes(volumes, about, batch, inside, **options)
    sites = list(estimates.covariates.sites)
    facts = {"Method": "ComBat", "Sites": sites, **own_facts(), "Inputs": input_facts(inputs)}
    for volume, target in zip(done, targets, strict=True):
        write_map(volume, target, facts)
    if save_model is not None:
        estimates.save(save_model)
    tell(f"{out}: {len(done)} maps harmonised over {', '.join(sites)}")
