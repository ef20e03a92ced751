"""Templates and atlases of standard spaces, by the names that TemplateFlow gives its files.

TemplateFlow keeps ``tpl-<space>/<name>`` on Amazon's S3, and the MD5 of each file in the repository of its space on
GitHub, where the file itself is a pointer of git-annex.
"""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from pathlib import Path

from arcuate.errors import InputError
from arcuate.fetch.remote import Progress, RemoteFile, cache_home, download
from arcuate.numerics.user_folders import cache_folder, is_there

ENVIRONMENT = "TEMPLATEFLOW_HOME"  # as TemplateFlow's own client has it
FILES = "https://templateflow.s3.amazonaws.com"
POINTERS = "https://raw.githubusercontent.com/templateflow"
BROWSE = "https://www.templateflow.org/browse"
EXAMPLE = "tpl-MNI152NLin2009cAsym_res-01_atlas-Schaefer2018_desc-400Parcels7Networks_dseg.nii.gz"
_NAME = re.compile(r"(tpl-[A-Za-z0-9+]+)(?:_[a-z]+-[A-Za-z0-9+]+)*_[A-Za-z0-9]+(?:\.[a-z0-9]+)+")
_KEY = re.compile(r"MD5E?-s\d+--([0-9a-f]{32})")


def is_template_name(name: str | os.PathLike[str]) -> bool:
    """Whether this is how TemplateFlow names a file: ``tpl-<space>_..._<suffix>.<ending>``, without a folder."""
    return _NAME.fullmatch(os.fspath(name)) is not None


def template_folders() -> list[Path]:
    """Where files of TemplateFlow are looked for: its client's folder, then ours."""
    named = os.environ.get(ENVIRONMENT)
    clients = Path(named) if named else cache_folder("templateflow")
    return [clients, cache_home() / "templateflow"]


def template_path(name: str | os.PathLike[str]) -> Path:
    """The file of TemplateFlow's of that name on this machine; nothing is fetched.

    Raises
    ------
    InputError
        It is not here; the message names the command that fetches it.
    """
    found = _on_disk(os.fspath(name), template_folders())
    if found is None:
        raise InputError(
            f"{name} is not here, and TemplateFlow's file of that name was not fetched yet. Fetch it with: arcuate "
            f"fetch {name}; or give the path of an image."
        )
    return found


def fetch_template(name: str, folder: str | os.PathLike[str] | None = None, progress: Progress | None = None) -> Path:
    """Fetch a file of TemplateFlow's, and the table of names of an atlas; the path of the file.

    Parameters
    ----------
    name : as TemplateFlow names it, ``tpl-<space>_..._dseg.nii.gz``
    folder : its own place in ``$TEMPLATEFLOW_HOME``, else in the user's cache folder, if None
    progress : told of bytes so far and in all

    Raises
    ------
    InputError
        The name is none of TemplateFlow's, or the file cannot be fetched.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(f"found the name {name!r}; expected one of TemplateFlow, such as {EXAMPLE} (see {BROWSE}).")
    space = match[1]
    target = _target(folder) / space
    path = _fetched(space, name, target, progress)
    table = table_name(name)
    if table is not None:
        try:
            _fetched(space, table, target, None)
        except InputError as error:
            if not _is_absent(error):
                raise
    return path


def table_name(name: str) -> str | None:
    """Name of the table of an atlas' labels, which is one for all resolutions; None where the file is no atlas."""
    stem, _, ending = name.partition(".")
    if not stem.endswith(("_dseg", "_probseg")) or ending not in {"nii.gz", "nii"}:
        return None
    return re.sub(r"_res-[A-Za-z0-9]+", "", stem) + ".tsv"


def _target(folder: str | os.PathLike[str] | None) -> Path:
    if folder is not None:
        return Path(folder)
    return template_folders()[0 if os.environ.get(ENVIRONMENT) else 1]


def _on_disk(name: str, folders: list[Path]) -> Path | None:
    space = name.partition("_")[0]
    paths = [folder / space / name for folder in folders]
    # TemplateFlow's client leaves empty files for what it has not fetched
    return next((path for path in paths if is_there(path, filled=True)), None)


def _fetched(space: str, name: str, target: Path, progress: Progress | None) -> Path:
    path = target / name
    if is_there(path, filled=True):
        return path
    try:
        return download(RemoteFile(name, f"{FILES}/{space}/{name}", _published_digest(space, name)), target, progress)
    except InputError as error:
        if not _is_absent(error):
            raise
        raise InputError(
            f"TemplateFlow has no file {name}. Its files are listed on {BROWSE}; a name is such as {EXAMPLE}."
        ) from error.__cause__


def _published_digest(space: str, name: str) -> str | None:
    """MD5 of a file, from its git-annex pointer; None where GitHub cannot be reached, or keeps the file itself."""
    request = urllib.request.Request(f"{POINTERS}/{space}/master/{name}", headers={"User-Agent": "arcuate"})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            text = response.read(1000).decode("utf-8", "replace")
    except OSError:
        return None
    key = _KEY.search(text) if "annex/objects" in text else None
    return f"md5:{key[1]}" if key else None


def _is_absent(error: InputError) -> bool:
    """Whether the server answered that it has no such file; S3 says 403 where it does not list its files."""
    cause = error.__cause__
    return isinstance(cause, urllib.error.HTTPError) and cause.code in {403, 404}
