"""What is known about files that were read before, so that an unchanged file is not read again to be recognised.

A file is known by its signature: device, inode, size, modification and change time in nanoseconds, and its first and
last 16 KiB (the end of a ``.nii.gz`` holds a checksum of the content). An overwrite in place changes the change time,
which no program can set back. Two writes within the clock's grain could share a signature; so what was read less than
2.1 s after the file's last change is not trusted later: the file is read once more, and trusted from then on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
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


@dataclass
class FileMemory:
    """Facts about files by signature; in ``folder`` where one is given and can be written, else for this process."""

    folder: Path | None = None
    _known: dict[str, dict[str, Any]] = field(default_factory=dict)

    def recall(self, signature: Signature, kind: str) -> dict[str, Any] | None:
        """Facts noted about the file in this state, or None if there are none that can be trusted."""
        key = _key(signature, kind)
        record = self._known.get(key)
        if record is None and self.folder is not None:
            path = self._path(key)
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
                with contextlib.suppress(OSError):
                    os.utime(path)  # gc forgets what was not asked for in a long time
            except (OSError, ValueError):
                return None
        if not isinstance(record, dict) or record.get("signature") != signature.text:
            return None
        read_at, facts = record.get("read_at"), record.get("facts")
        if not isinstance(read_at, float) or not isinstance(facts, dict) or read_at - signature.changed_at < GRAIN:
            return None
        self._known[key] = record
        return facts

    def note(self, signature: Signature, kind: str, facts: dict[str, Any], read_at: float) -> None:
        """Note facts about a file that had this signature before, at ``read_at``, and after it was read."""
        if read_at - signature.changed_at < GRAIN:
            return
        key = _key(signature, kind)
        record = {"signature": signature.text, "kind": kind, "read_at": read_at, "facts": facts}
        self._known[key] = record
        if self.folder is None:
            return
        path = self._path(key)
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(record), encoding="utf-8")
            temporary.replace(path)
        except OSError:  # it is only memory: a full disk or a read-only folder costs time later, nothing else
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def facts(self, path: Path, kind: str, read: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """Facts about a file: those noted before, else what ``read`` finds, which is noted.

        Raises
        ------
        FileChangedError
        OSError
        """
        signature = Signature.of(path)
        facts = self.recall(signature, kind)
        if facts is None:
            read_at = now()
            facts = read(path)
            if Signature.of(path) != signature:
                raise FileChangedError(f"{path} changed while it was read")
            self.note(signature, kind, facts, read_at)
        return facts

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / key[:2] / f"{key[2:]}.json"


def now() -> float:
    """Seconds since the epoch, by the clock that file times are compared with."""
    return time.time()


def _key(signature: Signature, kind: str) -> str:
    return hashlib.sha256(f"{kind}\0{signature.text}".encode()).hexdigest()
