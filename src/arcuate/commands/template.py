"""``arcuate template``: the mean head of a group."""

from __future__ import annotations

from pathlib import Path

import click

from arcuate.commands.options import PATH, check_images, step_option, threads_option
from arcuate.commands.paths import out_folder_option
from arcuate.commands.shell import ArcuateCommand, tell
from arcuate.commands.written import begin_work, check_outputs, own_facts
from arcuate.errors import InputError
from arcuate.templates import build_template


@click.command(cls=ArcuateCommand)
@click.argument("maps", nargs=-1, required=True, type=PATH, metavar="MAP...")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help="NAME of a further map that is registered along: for each MAP the file with NAME in place of the first one's.",
)
@click.option("--name", default="fa", show_default=True, help="Name of the maps given, as it stands in their files.")
@click.option("--initial", type=PATH, help="Where to start. Default: the mean of all.")
@step_option(build_template, "--iterations", "Rounds of registration and averaging.", type=click.IntRange(1))
@out_folder_option("Folder for <name>_template.nii.gz and a folder with the transform of each subject.")
@threads_option
def template(
    maps: tuple[Path, ...], metrics: tuple[str, ...], name: str, initial: Path | None, iterations: int, out: Path
) -> None:
    """The mean head of a group in shape and intensity, from one MAP of each subject, with ANTs (extra ants).

    OUT/template.html shows it beside the mean without registration.
    """
    from arcuate.io.images import open_volume
    from arcuate.io.names import image_stem
    from arcuate.report.alignment import TEMPLATE_PAGE, write_template_page
    from arcuate.study.bids import write_map
    from arcuate.templates import average_volumes, template_and_transforms
    from arcuate.volumes.ants_images import require_ants

    if initial is not None and metrics:
        raise InputError("found --initial together with --metric; expected one map for a given start. Leave one out.")
    names = [name, *metrics]
    subjects = [{key: open_volume(_beside(path, name, key)) for key in names} for path in maps]
    targets = [out / f"{key}_template.nii.gz" for key in names]
    page = out / TEMPLATE_PAGE
    inputs = {f"map {i}": path for i, path in enumerate(maps)}
    check_images(targets, inputs)
    check_outputs([page], inputs, belonging={page: targets[0]})
    stems = [image_stem(path) for path in maps]
    if len(set(stems)) < len(stems):
        raise InputError("two maps have one file name; expected different names, as sub-01_fa.nii.gz.")
    require_ants("a template")
    start = None if initial is None else {name: open_volume(initial)}
    begin_work([*targets, page])
    found, transforms = template_and_transforms(subjects, start, iterations=iterations)
    for key, target in zip(names, targets, strict=True):
        write_map(found[key], target, {"Subjects": len(maps), "Iterations": iterations, **own_facts()})
    for stem, transform in zip(stems, transforms, strict=True):
        transform.save(out / "transforms" / stem)
    before = {key: average_volumes([subject[key] for subject in subjects]) for key in names}
    write_template_page(page, found, before, dict(zip(stems, transforms, strict=True)))
    tell(f"{out}: template of {len(maps)} subjects, {', '.join(names)}; look at {page}")


def _beside(path: Path, name: str, other: str) -> Path:
    """The file of another map of the same subject."""
    if other == name:
        return path
    if name not in path.name:
        raise InputError(f"found no {name!r} in {path.name}; expected the name of the map in its file. See --name.")
    head, _, tail = path.name.rpartition(name)
    return path.with_name(f"{head}{other}{tail}")
