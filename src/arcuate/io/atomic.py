"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from arcuate.errors import InputError
from arcuate.io import locks

_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{12}\.tmp")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Path of an empty temporary file beside ``path`` that takes its place when the block ends well.

    The folder is made if it is absent. Whatever ends the block early (an error, Ctrl-C) removes the temporary
    file and leaves an older file at ``path`` as it was.

    Raises
    ------
    InputError
        The folder or the file cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; expected the name of a file.")
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}.tmp")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # not tempfile.mkstemp: its files are private to the user, whatever the umask says
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            held = locks.hold(temporary)
            try:
                yield temporary
                temporary.replace(path)
            finally:
                if held is not None:
                    os.close(held)
        except OSError as error:
            if error.filename is not None and Path(str(error.filename)) not in (temporary, path, *path.parents):
                raise  # of another file: not what is written here
            reason = error.strerror or str(error)
            raise InputError(
                f"cannot write {path}: {reason}. Choose a folder that you may write to, on a disk with room."
            ) from error
    finally:
        if os.path.lexists(temporary):
            temporary.unlink()


def write_text_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 with Unix line ends, completely or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def remove_abandoned(folder: Path) -> int:
    """Remove temporary files of :func:`atomic_path` in ``folder`` whose process was killed; how many there were."""
    removed = 0
    for path in folder.glob(".*.tmp"):
        if not _TEMPORARY.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError), locks.exclusive(path) as is_free:
            if is_free:
                path.unlink()
                removed += 1
    return removed
