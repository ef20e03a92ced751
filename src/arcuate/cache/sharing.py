"""Folders and files of a cache in a folder that a group shares: whoever may write to the folder may use all of it."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path

_SHARED = stat.S_ISGID | stat.S_IWGRP  # as `chmod g+ws` leaves a folder that a group is to share


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; what lies below a shared one is shared, whatever the umask.

    Raises
    ------
    OSError
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    share(folder)


def share(path: Path) -> None:
    """Give the group of a shared folder the same rights to what was written into it; elsewhere the umask decides."""
    with contextlib.suppress(OSError):  # of somebody else, or on a file system without rights
        above, found = path.parent.stat().st_mode, path.stat().st_mode
        if above & _SHARED != _SHARED:
            return
        rights = stat.S_ISGID | stat.S_IRWXG if stat.S_ISDIR(found) else stat.S_IRGRP | stat.S_IWGRP
        if found & rights != above & rights:
            path.chmod(stat.S_IMODE(found) | above & rights)
