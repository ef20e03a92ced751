"""``arcuate cache``: what is kept, why a step was computed, and cleaning up."""

from __future__ import annotations

import re
from pathlib import Path

import click

from arcuate.commands.options import PATH
from arcuate.commands.shell import ArcuateCommand
from arcuate.errors import InputError

_UNITS = {"": 1, "B": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


class Size(click.ParamType):
    """A number of bytes: 500MB, 2.5GB, 10GiB."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?I?)B?\s*", str(value).upper())
        if match is None or match[2] not in _UNITS:
            self.fail(f"found {value!r}; expected a size such as 500MB, 2.5GB or 10GiB.", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


_folder = click.option(
    "--cache",
    "folder",
    type=PATH,
    default=Path(),
    help="Folder of the cache, or the output folder of `arcuate run`; the current folder by default.",
)


_given = click.argument("given", metavar="[FOLDER]", type=PATH, required=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cache() -> None:
    """Look into a cache, and clean it up."""


@cache.command(cls=ArcuateCommand)
@_given
@_folder
def ls(folder: Path, given: Path | None) -> None:
    """List the kept results: step, version, dates, size, time they took, and parameters."""
    from arcuate.cache.upkeep import list_entries, open_store

    store = open_store(given or folder)
    entries = list_entries(store)
    rows = [("step", "version", "computed (UTC)", "last used", "size", "seconds", "key", "parameters")]
    for entry in entries:
        record = entry.record
        rows.append(
            (
                record["label"],
                str(record["step_version"])[:12],
                record["computed"][:19].replace("T", " "),
                _ago(entry.used_at),
                _bytes(entry.size),
                f"{record['seconds']:g}",
                record["key"][:12],
                " ".join(f"{name}={value!r}" for name, value in record["scalars"].items() if value is not None),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(7)]
    for row in rows:
        click.echo("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[7]]).rstrip())
    click.echo(f"{len(entries)} results, {_bytes(sum(entry.size for entry in entries))}, in {store.folder}")


@cache.command(cls=ArcuateCommand)
@click.argument("step")
@_given
@_folder
def why(step: str, folder: Path, given: Path | None) -> None:
    """Say why STEP was computed the last time: which argument changed.

    STEP is a name that `arcuate cache ls` shows.
    """
    from arcuate.cache.upkeep import explain, open_store

    for line in explain(open_store(given or folder), step):
        click.echo(line)


@cache.command(cls=ArcuateCommand)
@_given
@_folder
@click.option("--keep-days", type=click.FloatRange(min=0), help="Remove results that were not used for so many days.")
@click.option("--max-size", type=Size(), help="Remove the longest unused results until so much is left (500MB, 10GB).")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def gc(folder: Path, given: Path | None, keep_days: float | None, max_size: float | None, dry_run: bool) -> None:
    """Remove old results, and whatever killed processes left behind.

    A result that another process is using stays. Without a limit only damaged results and leftovers are removed.
    """
    from arcuate.cache.upkeep import clean_up, open_store

    removal = clean_up(open_store(given or folder), keep_days=keep_days, max_size=max_size, is_dry=dry_run)
    for entry in removal.entries:
        click.echo(f"{entry.record['label']}  {entry.record['key'][:12]}  {_bytes(entry.size)}")
    click.echo(
        f"{'would remove' if dry_run else 'removed'} {len(removal.entries)} results ({_bytes(removal.freed)}), "
        f"{removal.n_damaged} damaged ones and {removal.n_leftovers} leftovers; {_bytes(removal.kept)} kept"
    )
    if removal.n_in_use:
        click.echo(f"{removal.n_in_use} results are in use and stay")
    if removal.n_refused:
        click.echo(
            f"{removal.n_refused} results stay: you may not remove them; ask their owner, or whoever keeps the folder"
        )
    if max_size is not None and removal.kept > max_size and not dry_run:
        why = "you may not remove them" if removal.n_refused else "those results are in use now"
        raise InputError(f"{_bytes(removal.kept)} are still kept, more than asked for: {why}.")


def _ago(then: float) -> str:
    import time

    seconds = max(0.0, time.time() - then)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
