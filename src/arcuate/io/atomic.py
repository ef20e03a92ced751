"""Files that appear complete or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from arcuate.errors import InputError


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
            yield temporary
            temporary.replace(path)
        except OSError as error:
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
