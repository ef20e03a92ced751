"""Where results go: a folder or an image, checked before any work."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from arcuate.commands.shell import long_name
from arcuate.errors import InputError
from arcuate.io.names import image_stem, image_suffix
from arcuate.numerics.user_folders import as_path

F = TypeVar("F", bound=Callable[..., Any])


class _OutPath(click.ParamType):
    """Something to write, which shells complete as a path."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


class OutFolder(_OutPath):
    """A folder to write to; made where it is absent. A run goes on without a cache that cannot be written."""

    name = "folder"

    def __init__(self, *, must_be_writable: bool = True) -> None:
        self.must_be_writable = must_be_writable

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not str(value).strip():
            raise InputError(f"found an empty {_name_of(param)}; expected a folder for the results ('.' is this one).")
        path = as_path(value)
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; expected a folder for the results. Give another {_name_of(param)}.")
        if not path.exists() and image_suffix(path):
            stem = path.with_name(image_stem(path))
            raise InputError(
                f"found {_name_of(param)} {path}, the name of an image; expected a folder, because several files come "
                f"out. Give a folder, such as {stem}."
            )
        if self.must_be_writable:
            _check_parents(path, param)
        return path


class OutImage(_OutPath):
    """An image to write: .nii.gz or .nii, or MRtrix3's .mif or .mif.gz."""

    name = "image"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = as_path(value)
        if path.is_dir():
            raise InputError(f"{path} is a folder; expected the name of an image, such as {path / 'image.nii.gz'}.")
        if not path.name.lower().endswith((".nii", ".nii.gz", ".mif", ".mif.gz")):
            raise InputError(
                f"found {_name_of(param)} {path}; expected the name of an image, ending in .nii.gz, .nii, .mif or "
                ".mif.gz."
            )
        _check_parents(path, param)
        return path


def out_folder_option(what: str) -> Callable[[F], F]:
    """``--out``, a folder; required."""
    return click.option("-o", "--out", "--output", "out", type=OutFolder(), required=True, help=what)


def out_image_option(what: str) -> Callable[[F], F]:
    """``--out``, an image; required."""
    return click.option(
        "-o",
        "--out",
        "--output",
        "out",
        type=OutImage(),
        required=True,
        help=f"{what} May also come last, without --out.",
    )


def _name_of(param: click.Parameter | None) -> str:
    return long_name(param) if param is not None and param.opts else "--out"


def _check_parents(path: Path, param: click.Parameter | None) -> None:
    """Refuse a path below something that is no folder, behind a link to nothing, or where nothing may be written."""
    broken = next((p for p in (path, *path.absolute().parents) if p.is_symlink() and not p.exists()), None)
    if broken is not None:
        raise InputError(
            f"{path} cannot be written: {broken} is a link to {broken.readlink()}, where there is nothing. Make that "
            f"folder, mend the link, or give another {_name_of(param)}."
        )
    nearest = next((parent for parent in path.absolute().parents if parent.exists()), None)
    if nearest is not None and not nearest.is_dir():
        raise InputError(f"{path} cannot be made: {nearest} is a file. Give another {_name_of(param)}.")
    target = path if path.is_dir() else nearest
    if target is not None and not os.access(target, os.W_OK | os.X_OK):
        raise InputError(f"{path} cannot be written: you may not write to {target}. Give another {_name_of(param)}.")
