"""What is known about files that were read before, so that an unchanged file is not read again to be recognised.

A file is known by its signature: device, inode, size, modification and change time in nanoseconds, and its first and
last 16 KiB (the end of a ``.nii.gz`` holds a checksum of the content). An overwrite in place changes the change time,
which no program can set back. Two writes within the clock's grain could share a signature; so what was read less than
2.1 s after the file's last change is not noted: the file is read once more, and trusted from then on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GRAIN = 2.1  # seconds; the coarsest clock of a file system in use (FAT) ticks every 2 s
_SAMPLE = 16 << 10


class FileChangedError(Exception):
    """A file was written to while it was read; the message names it."""


@dataclass(frozen=True)
class Signature:
    """What tells one state of a file from another without reading all of it."""

    text: str
    changed_at: float  # seconds since the epoch: the later of modification and change time

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Signature:
        with Path(path).open("rb") as file:
            stat = os.fstat(file.fileno())
            sample = hashlib.sha256(file.read(_SAMPLE))
            if stat.st_size > _SAMPLE:
                file.seek(max(_SAMPLE, stat.st_size - _SAMPLE))
                sample.update(file.read(_SAMPLE))
        numbers = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        text = "-".join(map(str, numbers)) + "-" + sample.hexdigest()
        return cls(text, max(stat.st_mtime_ns, stat.st_ctime_ns) / 1e9)


class FileMemory:
    """Facts about files by signature: in this process, and in ``folder`` where one is given and can be written."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._known: dict[str, dict[str, Any]] = {}

    def facts(self, path: Path, kind: str, read: Callable[[Path], dict[str, Any]]) -> tuple[dict[str, Any], Signature]:
        """Facts about a file, those noted before or else what ``read`` finds, and the signature they belong to.

        Raises
        ------
        FileChangedError
        OSError
        """
        signature = Signature.of(path)
        name = hashlib.sha256(f"{kind}\0{signature.text}".encode()).hexdigest()
        facts = self._known.get(name) or self._recall(name)
        if facts is None:
            read_at = now()
            facts = read(path)
            if Signature.of(path) != signature:
                raise FileChangedError(f"{path} changed while it was read")
            if read_at - signature.changed_at < GRAIN:
                return facts, signature
            self._keep(name, facts)
        self._known[name] = facts
        return facts, signature

    def _recall(self, name: str) -> dict[str, Any] | None:
        if self._folder is None:
            return None
        path = self._folder / name[:2] / f"{name[2:]}.json"
        try:
            facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # gc forgets what was not asked for in a long time
        return facts

    def _keep(self, name: str, facts: dict[str, Any]) -> None:
        if self._folder is None:
            return
        path = self._folder / name[:2] / f"{name[2:]}.json"
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(facts), encoding="utf-8")
            temporary.replace(path)
        except OSError:  # it is only memory: a full disk or a read-only folder costs time later, nothing else
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def now() -> float:
    """Seconds since the epoch, by the clock that file times are compared with."""
    return time.time()
