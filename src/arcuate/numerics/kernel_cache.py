"""Where compiled kernels are kept."""

from __future__ import annotations

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
    compile`` leaves them in an image of a container, are copied there (16 MB) and used, without a word.

    Raises
    ------
    InputError
        The temporary folder cannot be written either.
    """
    named = os.environ.get(VARIABLE)
    beside_source = Path(__file__).parent / "__pycache__"
    of_user = cache_folder("numba")
    places = [*([Path(named)] if named else []), beside_source, of_user]
    prepared = bool(named) and not _can_be_written(places[0]) and any(places[0].rglob("*.nbi"))
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


def _copy_kernels(source: Path, folder: Path) -> None:
    """Files of ``source`` that are not in ``folder`` yet; other processes may be doing the same."""
    for path in source.rglob("*.nb[ic]"):
        target = folder / path.relative_to(source)
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as copy:
            copy.write(path.read_bytes())
        Path(copy.name).replace(target)


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
