"""The folders that the system gives a user, also one without a home folder or with one that is not theirs."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import platformdirs

_ROOT = Path("/").absolute()  # of a drive, on Windows


def home_folder() -> Path:
    """The user's home folder; the root where the system knows none, as for a number in place of a user's name.

    ``docker run --user 12345`` has it so, too. Nothing can be written there, which is told where something is written.
    """
    try:
        home = Path.home()
    except RuntimeError:
        return _ROOT
    return home if home.is_absolute() else _ROOT


def as_path(path: str | os.PathLike[str]) -> Path:
    """A path that was given, ``~/`` at its beginning the home folder.

    Neither Python nor a shell after ``--out=`` says so, and results would lie in a folder called ``~`` where one is.
    """
    given = Path(path)
    return home_folder().joinpath(*given.parts[1:]) if given.parts[:1] == ("~",) else given


def cache_folder(name: str) -> Path:
    """The user's cache folder for a program's files, ``~/.cache/<name>`` on Linux; nothing is made."""
    try:
        folder = platformdirs.user_cache_path(name, appauthor=False)
    except RuntimeError:  # of platformdirs 4.4 and later; before, a folder called ~
        return home_folder() / ".cache" / name
    return folder if folder.is_absolute() else home_folder() / ".cache" / name


def is_there(path: Path, *, filled: bool = False) -> bool:
    """Whether a file or folder is there, or a file that holds something; not where it may not be looked for.

    :meth:`pathlib.Path.is_file` and its like end with a PermissionError in a folder that may not be looked into.
    """
    try:
        found = path.stat()
    except OSError:
        return False
    return not filled or (stat.S_ISREG(found.st_mode) and found.st_size > 0)
