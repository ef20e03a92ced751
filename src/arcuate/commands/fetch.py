"""``arcuate fetch``: public scans and network weights, when asked for and never otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from arcuate.commands.options import PATH, command
from arcuate.commands.shell import tell
from arcuate.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from arcuate.fetch.remote import RemoteSet


@command()
@click.argument("name", required=False)
@click.option("--to", "to", type=PATH, help="Folder; default: ARCUATE_WEIGHTS or ARCUATE_DATA, else ~/.cache/arcuate.")
def fetch(name: str | None, to: Path | None) -> None:
    """Fetch the scan or the weights called NAME; without NAME, list what there is.

    Templates and atlases of standard spaces have TemplateFlow's names, which begin with tpl-; other commands then take
    the name in place of a path.
    """
    from arcuate.fetch.public_scans import SCANS, scans_folder
    from arcuate.fetch.templateflow import BROWSE
    from arcuate.fetch.weights import HD_BET_SET, unpack_brain_weights, weight_sets, weights_folder

    weights = weight_sets()
    if name is None:
        for known in (*SCANS.values(), *weights.values()):
            tell(f"{known.name:32} {known.megabytes:5d} MB  {known.summary} [{known.licence}]")
        tell(f"{'tpl-...':32}           a template or atlas of TemplateFlow by its file's name, see {BROWSE}")
        return
    if name.startswith("tpl-"):
        _fetch_template(name, to)
        return
    if name in SCANS:
        _fetch(SCANS[name], scans_folder(name, to))
    elif name in weights:
        paths = _fetch(weights[name], weights_folder(to))
        if name == HD_BET_SET.name:
            tell(f"{unpack_brain_weights(paths[0])}  unpacked; the method hdbet uses them with the package hd-bet")
    else:
        raise InputError(
            f"found the name {name!r}; expected one of {', '.join([*SCANS, *weights])}."
            + did_you_mean(name, [*SCANS, *weights])
        )


def _fetch_template(name: str, folder: Path | None) -> None:
    from arcuate.fetch.templateflow import fetch_template

    path = fetch_template(name, folder)
    tell(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    tell("cite Ciric et al. 2022, Nature Methods 19:1568 (TemplateFlow), and the paper of the template or atlas")


def _fetch(wanted: RemoteSet, folder: Path) -> list[Path]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from arcuate.fetch.remote import download

    tell(f"{wanted.summary}; licence {wanted.licence}; cite {wanted.citation}")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    paths = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        for file in wanted.files:
            task = progress.add_task(file.name, total=None)

            def show(done: int, total: int | None, task: int = task) -> None:
                progress.update(task, completed=done, total=total)  # type: ignore[arg-type]

            path = download(file, folder, show)
            tell(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
            paths.append(path)
    return paths
