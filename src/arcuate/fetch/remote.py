"""Files from public addresses: resumed where a download broke off, verified, in place whole or not at all."""

from __future__ import annotations

import os
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from arcuate.errors import InputError, warn
from arcuate.fetch.checksums import checksum_of
from arcuate.numerics.user_folders import cache_folder, home_folder, is_there

CHUNK = 1 << 20
ATTEMPTS = 4  # a connection that breaks off is taken up again this often
Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all where the server says so


@dataclass(frozen=True)
class RemoteFile:
    """One file at a public address.

    Parameters
    ----------
    name : name on disk
    url : where it is
    digest : ``"sha256:..."`` or ``"md5:..."`` as its owner publishes it, None where nothing is published
    """

    name: str
    url: str
    digest: str | None = None


@dataclass(frozen=True)
class RemoteSet:
    """Files that belong together.

    Parameters
    ----------
    name : what ``arcuate fetch`` calls it
    files : what is fetched
    summary, licence, citation : one line each, shown before the download
    megabytes : about how much is fetched
    """

    name: str
    files: tuple[RemoteFile, ...]
    summary: str
    licence: str
    citation: str
    megabytes: int


def cache_home() -> Path:
    """Folder for what was fetched: the user's cache folder as the system names it, ``~/.cache/arcuate`` on Linux.

    On macOS and Windows ``~/.cache/arcuate`` is used as long as it is there: versions before 0.2 wrote to it.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    former = (Path(base) if base else home_folder() / ".cache") / "arcuate"
    return former if is_there(former) else cache_folder("arcuate")


def download(file: RemoteFile, folder: Path, progress: Progress | None = None) -> Path:
    """Path of ``file`` in ``folder``, fetched if it is not there, or is there with another checksum.

    What has arrived stays in ``<name>.part`` when the connection breaks, and the next call goes on from there; only a
    complete file with the right checksum takes the final name.

    Raises
    ------
    InputError
        The address cannot be reached and nothing is there, or what arrived is not the file that was published. A file
        with another checksum that cannot be fetched again is taken with a warning.
    """
    folder = Path(folder)
    path = folder / file.name
    if is_intact(file, path):
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{file.name}.lock", timeout=3600):
            if is_intact(file, path):  # another process was faster
                return path
            part = folder / f"{file.name}.part"
            _fetch(file, part, progress)
            _verify(file, part)
            part.replace(path)
    except Timeout as error:
        raise InputError(f"another process has been fetching {path} for an hour; stop it, or wait for it.") from error
    except urllib.error.URLError as error:
        if is_there(path, filled=True):
            warn(
                f"{path} is not the file that was published (its checksum differs), and {file.url} cannot be reached; "
                "taken as it is."
            )
            return path
        raise InputError(
            f"could not fetch {file.url}: {getattr(error, 'reason', error)}. Without internet here, fetch it on "
            f"another machine and copy it to {path}."
        ) from error
    except OSError as error:
        raise InputError(f"could not write {path}: {error.strerror or error}. Choose another folder.") from error
    return path


def is_intact(file: RemoteFile, path: Path) -> bool:
    """Whether the file at ``path`` is there and has the published checksum, where one is published."""
    if not is_there(path, filled=True):
        return False
    return file.digest is None or _digest_of(path, file.digest) == file.digest


def _fetch(file: RemoteFile, part: Path, progress: Progress | None) -> None:
    """Bring ``part`` to the full length, taking a broken connection up again where it broke."""
    import http.client

    for attempt in range(1, ATTEMPTS + 1):
        before = part.stat().st_size if part.exists() else 0
        try:
            if _fetch_rest(file.url, part, progress):
                return
            problem: Exception | None = None
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            problem = error
        after = part.stat().st_size if part.exists() else 0
        if attempt == ATTEMPTS or (after == before and attempt > 1):
            raise InputError(
                f"{file.url} broke off after {after / 1e6:.1f} MB{f' ({problem})' if problem else ''}. What arrived is "
                "kept; start the same command again to go on from there."
            )


def _fetch_rest(url: str, part: Path, progress: Progress | None) -> bool:
    """Append what is missing to ``part``; True if it is complete as far as the server tells."""
    import urllib.request  # every run knows where weights come from, and few fetch them

    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "arcuate", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing beyond what is there: complete, or another file; the checksum tells
            total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
            if total.isdigit() and int(total) == have:
                return True
            part.unlink()
            return _fetch_rest(url, part, progress)
        raise
    with response:
        is_rest = response.status == 206 and (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-")
        have = have if is_rest else 0
        length = response.headers.get("Content-Length")
        expected = have + int(length) if length is not None else None
        with part.open("ab" if is_rest else "wb") as out:
            while chunk := response.read(CHUNK):
                out.write(chunk)
                have += len(chunk)
                if progress is not None:
                    progress(have, expected)
    return expected is None or have == expected


def _verify(file: RemoteFile, part: Path) -> None:
    if part.stat().st_size == 0:
        part.unlink()
        raise InputError(f"{file.url} gave an empty file; expected {file.name}. Try again later.")
    if file.digest is None:
        return
    found = _digest_of(part, file.digest)
    if found != file.digest:
        part.unlink()
        raise InputError(
            f"{file.url} gave a file with {found}; expected {file.digest}. It was removed: try again, and if this "
            "happens twice, the address holds another file now."
        )


def _digest_of(path: Path, published: str) -> str:
    """Checksum of a file, of the kind and in the form of the published one."""
    kind = published.partition(":")[0]
    return f"{kind}:{checksum_of(path, kind)}"
