"""What a command may write: never an input, and nothing of other people's without ``--force``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from arcuate.commands.shell import is_asked_for
from arcuate.commands.working import show_work
from arcuate.errors import InputError
from arcuate.volumes.resource import VolumeResource
from arcuate.volumes.series import VolumeMadeLater

if TYPE_CHECKING:
    from arcuate.dwi import Dwi
    from arcuate.study.bids import Derivatives

I = TypeVar("I", "Dwi", VolumeResource)


def check_outputs(
    outputs: Iterable[Path], inputs: Mapping[str, Path], *, belonging: Mapping[Path, Path] | None = None
) -> None:
    """Refuse files to be written that are inputs, or that exist and are no earlier result of the same command.

    Parameters
    ----------
    outputs : what will be written
    inputs : what will be read, by its role
    belonging : outputs without a sidecar of their own, each with the file that tells where it came from

    Raises
    ------
    InputError
        The first such file, with what to do.
    """
    from arcuate.study.outputs import refuse_overwriting

    outputs = list(outputs)
    refuse_overwriting(outputs, inputs)
    if is_asked_for("force"):
        return
    for path in outputs:
        told_by = (belonging or {}).get(path, path)
        if path.is_file() and not _is_own(told_by):
            raise InputError(
                f"{path} exists, and nothing says that an earlier `{command_name()}` wrote it. Give another --out, or "
                "--force to replace it."
            )


def begin_work(outputs: Iterable[Path]) -> None:
    """Everything was checked: show from here on how far the command is.

    With ``--dry-run`` say what would be written instead, and end the command.
    """
    if not is_asked_for("dry_run"):
        show_work()
        return
    for path in outputs:
        click.echo(f"would write {path}" + (" (replacing an earlier result)" if path.exists() else ""))
    raise click.exceptions.Exit(0)


class _VoxelsAskedForError(Exception):
    """A step has come to where it reads voxels."""


@contextmanager
def until_voxels(outputs: Iterable[Path]) -> Iterator[Callable[[I], I]]:
    """Around the call of a step: with ``--dry-run`` it goes as far as it comes without voxels, and the command ends.

    So a dry run refuses whatever the step itself refuses before it reads voxels, in the same words.

    Parameters
    ----------
    outputs : what would be written

    Yields
    ------
    What each image, or scan, passes on its way to the step.
    """
    if not is_asked_for("dry_run"):
        show_work()
        yield lambda image: image
        return
    with suppress(_VoxelsAskedForError):
        yield _unread
    begin_work(outputs)


def _unread(image: I) -> I:
    """The same image or scan; who asks for its voxels is stopped."""

    def stop() -> VolumeResource:
        raise _VoxelsAskedForError

    if isinstance(image, VolumeResource):
        return VolumeMadeLater(image, stop)
    return image.with_volume(VolumeMadeLater(image.volume, stop))


def command_name() -> str:
    """The command that runs, as it is typed: ``arcuate dti``."""
    context = click.get_current_context(silent=True)
    return context.command_path if context else "arcuate"


def own_facts() -> dict[str, Any]:
    """What a sidecar says of the command, so that a later call knows its own results."""
    return {"Command": command_name()}


def check_run_outputs(names: Derivatives, inputs: Mapping[str, Path]) -> None:
    """Refuse to write over an input, or over what no run of arcuate wrote.

    Where the list of outputs of a run lies, or a sidecar of arcuate, everything under the prefix is a run's.

    Raises
    ------
    InputError
        The first such file, with what to do.
    """
    from arcuate.study.outputs import possible_files, record_path, refuse_overwriting

    files = possible_files(names)
    refuse_overwriting(files, inputs)
    if is_asked_for("force") or record_path(names).is_file():
        return
    found = [path for path in files if path.is_file()]
    if found and not any(_maker(path) is not None for path in found):
        raise InputError(
            f"{found[0]} exists, and nothing says that `arcuate run` wrote it. Give another --out, or --force to "
            "replace what a run makes."
        )


def _is_own(path: Path) -> bool:
    """Whether the sidecar of an image, or the JSON of another result, names the command that runs."""
    maker = _maker(path)
    return maker in {command_name(), ""}


def _maker(path: Path) -> str | None:
    """The command that the JSON of a result names; empty where it names arcuate alone, None where not even that."""
    from arcuate.io.names import image_suffix
    from arcuate.study.bids import sidecar_of

    try:
        text = (sidecar_of(path) if image_suffix(path) else path.with_suffix(".json")).read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        return None
    command = re.search(r'"Command": "(arcuate [^"]*)"', text)
    if command:
        return command[1]
    return "" if re.search(r'"GeneratedBy": \[\s*\{\s*"Name": "arcuate"', text) else None
