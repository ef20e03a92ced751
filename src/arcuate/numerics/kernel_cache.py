"""Where compiled kernels are kept."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from pathlib import Path

from arcuate.errors import InputError, warn
from arcuate.numerics.user_folders import cache_folder

VARIABLE = "NUMBA_CACHE_DIR"


def settle_kernel_cache() -> None:
    """Give numba a temporary folder where neither the package nor the home folder can be written.

    numba keeps kernels in ``$NUMBA_CACHE_DIR``, beside their source, or in the user's cache folder, and refuses to
    decorate a function when it can write to none of these: in a container that is mounted read-only, for example.
    Then ``$NUMBA_CACHE_DIR`` becomes a folder of this user below the temporary one, with a warning that says so;
    programs started from here inherit it. Kernels in a folder that was named and cannot be written, as ``arcuate
    compile`` leaves them in an image of a container, or another user in a folder for several, are copied there (16 MB)
    and used, without a word.

    Raises
    ------
    InputError
        The temporary folder cannot be written either.
    """
    named = os.environ.get(VARIABLE)
    beside_source = Path(__file__).parent / "__pycache__"
    of_user = cache_folder("numba")
    places = [*([Path(named)] if named else []), beside_source, of_user]
    prepared = bool(named) and not _is_all_ours(places[0]) and _has_kernels(places[0])
    if not prepared and any(_can_be_written(place) for place in places):
        return
    folder = _temporary_folder()
    os.environ[VARIABLE] = str(folder)
    if "numba" in sys.modules:  # imported before arcuate: it has read the environment already
        sys.modules["numba"].config.CACHE_DIR = str(folder)
    if prepared:
        _copy_kernels(places[0], folder)
        return
    refused = ", ".join(map(str, places))
    warn(
        f"compiled kernels are kept in {folder}, because none of {refused} can be written; "
        f"set {VARIABLE} to a folder that stays, and they are compiled only once."
    )


def _can_be_written(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _is_all_ours(folder: Path) -> bool:
    """Whether a folder can be written, and all in it, where numba has a folder for each of ours."""
    return _can_be_written(folder) and all(
        os.access(path, os.W_OK | os.X_OK) for path in folder.iterdir() if path.is_dir()
    )


def _has_kernels(folder: Path) -> bool:
    try:
        return any(folder.rglob("*.nbi"))
    except OSError:  # it may not be looked for
        return False


def _copy_kernels(source: Path, folder: Path) -> None:
    """Files of ``source`` that are not in ``folder`` yet; other processes may be doing the same."""
    for path in source.rglob("*.nb[ic]"):
        target = folder / path.relative_to(source)
        if target.exists():
            continue
        with contextlib.suppress(OSError):  # it may not be read, or there is no room: it is compiled
            content = path.read_bytes()
            target.parent.mkdir(parents=True, exist_ok=True)
            copy = target.with_name(f"{target.name}.{os.getpid()}.tmp")
            try:
                copy.write_bytes(content)
                copy.replace(target)
            finally:
                copy.unlink(missing_ok=True)


def _temporary_folder() -> Path:
    """A folder that nobody else can write to: numba runs what it finds there."""
    try:
        if not hasattr(os, "getuid"):  # Windows gives each user a temporary folder
            folder = Path(tempfile.gettempdir()) / "arcuate-kernels"
            folder.mkdir(exist_ok=True)
            return folder
        folder = Path(tempfile.gettempdir()) / f"arcuate-kernels-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
        if is_ours and _can_be_written(folder):
            return folder
        return Path(tempfile.mkdtemp(prefix="arcuate-kernels-"))
    except OSError as error:
        raise InputError(
            f"no folder was found in which compiled kernels could be kept ({error}); set {VARIABLE} or TMPDIR to one "
            "that can be written."
        ) from error
