"""What is known about files that were read before, so that an unchanged file is not read again to be recognised.

A file is known by its signature: device, inode, size, modification and change time in nanoseconds. An overwrite in
place changes the change time, which no program can set back. Two writes within the clock's grain could share a
signature; so what was read less than 2.1 s after the file's last change is not noted: the file is read once more, and
trusted from then on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from arcuate.cache.sharing import make_folder, share
from arcuate.errors import InputError
from arcuate.fetch.checksums import checksum_of
from arcuate.io.atomic import write_text_atomically

GRAIN = 2.1  # seconds; the coarsest clock of a file system in use (FAT) ticks every 2 s


class FileChangedError(Exception):
    """A file was written to while it was read; the message names it."""


class FileMemory:
    """Facts about files by signature: in this process, and in ``folder`` where one is given and can be written."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._known: dict[str, dict[str, str]] = {}

    def facts(self, path: Path, kind: str, read: Callable[[Path], dict[str, str]]) -> dict[str, str]:
        """Facts about a file: those noted before, or else what ``read`` finds.

        Raises
        ------
        FileChangedError
        OSError
        """
        signature, changed_at = _signature(path)
        name = hashlib.sha256(f"{kind}\0{signature}".encode()).hexdigest()
        facts = self._known.get(name) or self._recall(name)
        if facts is None:
            read_at = now()
            facts = read(path)
            if _signature(path) != (signature, changed_at):
                raise FileChangedError(f"{path} changed while it was read")
            if read_at - changed_at < GRAIN:
                return facts
            self._keep(name, facts)
        self._known[name] = facts
        return facts

    def sha256(self, path: Path) -> str:
        """sha256 of a file's bytes, in hexadecimal; raises as :meth:`facts`."""
        return self.facts(path, "sha256", lambda p: {"sha256": checksum_of(p)})["sha256"]

    def _recall(self, name: str) -> dict[str, str] | None:
        if self._folder is None:
            return None
        path = self._folder / name[:2] / f"{name[2:]}.json"
        try:
            facts: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(facts, dict) or not facts or not all(isinstance(fact, str) for fact in facts.values()):
            return None  # damaged, though still JSON
        with contextlib.suppress(OSError):
            os.utime(path)  # gc forgets what was not asked for in a long time
        return facts

    def _keep(self, name: str, facts: dict[str, str]) -> None:
        if self._folder is not None:
            path = self._folder / name[:2] / f"{name[2:]}.json"
            with contextlib.suppress(InputError, OSError):  # a full or read-only disk costs time later, nothing else
                make_folder(path.parent)
                write_text_atomically(path, json.dumps(facts))
                share(path)


def now() -> float:
    """Seconds since the epoch, by the clock that file times are compared with."""
    return time.time()


def _signature(path: Path) -> tuple[str, float]:
    """What tells one state of a file from another without reading it, and when it last changed (s since the epoch)."""
    with path.open("rb") as file:
        stat = os.fstat(file.fileno())
    numbers = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return "-".join(map(str, numbers)), max(stat.st_mtime_ns, stat.st_ctime_ns) / 1e9
