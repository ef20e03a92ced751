"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path

from arcuate.errors import InputError
from arcuate.io import locks
from arcuate.numerics.user_folders import as_path

# what a block of files written together holds back: temporary file, its place, what is held until it is there
_LATER: ContextVar[list[tuple[Path, Path, ExitStack]] | None] = ContextVar("arcuate_written_together", default=None)
_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{12}\.tmp")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Path of an empty temporary file beside ``path`` that takes its place when the block ends well.

    The folder is made if it is absent. Whatever ends the block early (an error, Ctrl-C) removes the temporary
    file and leaves an older file at ``path`` as it was. Within :func:`written_together` it takes its place when that
    block ends.

    Raises
    ------
    InputError
        The folder or the file cannot be written.
    """
    path = as_path(path)
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}.tmp")
    later = _LATER.get()
    with ExitStack() as held, _told(path, temporary):
        if path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder; expected the name of a file.")
        path.parent.mkdir(parents=True, exist_ok=True)
        held.callback(_remove, temporary)
        # not tempfile.mkstemp: its files are private to the user, whatever the umask says
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        lock = locks.hold(temporary)
        if lock is not None:
            held.callback(os.close, lock)
        yield temporary
        if later is None:
            temporary.replace(path)
        else:
            later.append((temporary, path, held.pop_all()))


@contextmanager
def written_together() -> Iterator[None]:
    """All files that the block writes take their places when it ends well, or none does.

    For files that belong together, such as an image and its sidecar: an image whose sidecar found no room on the disk
    would be nobody's, and the same command, started again, would refuse to replace it.

    Raises
    ------
    InputError
        A file cannot be put in its place.
    """
    if _LATER.get() is not None:
        yield
        return
    later: list[tuple[Path, Path, ExitStack]] = []
    token = _LATER.set(later)
    try:
        yield
        for temporary, path, _ in later:
            with _told(path, temporary):
                temporary.replace(path)
    finally:
        _LATER.reset(token)
        for *_, held in later:
            held.close()


@contextmanager
def _told(path: Path, temporary: Path) -> Iterator[None]:
    """Within the block what the system says of a file that is written is an InputError that names it."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and Path(str(error.filename)) not in (temporary, path, *path.parents):
            raise  # of another file: not what is written here
        reason = error.strerror or str(error)
        raise InputError(
            f"cannot write {path}: {reason}. Choose a folder that you may write to, on a disk with room."
        ) from error


def _remove(temporary: Path) -> None:
    if os.path.lexists(temporary):
        temporary.unlink()


def write_text_atomically(path: str | os.PathLike[str], text: str, *, if_other: bool = False) -> None:
    """Write ``text`` as UTF-8 with Unix line ends, completely or not at all; ``if_other`` leaves an equal file alone.

    Bytes of a file's name that are no UTF-8 are written as ``\\udcff``, which JSON reads as the same name.
    """
    content = text.encode("utf-8", "backslashreplace")
    path = as_path(path)
    if if_other and path.is_file() and path.read_bytes() == content:
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


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
