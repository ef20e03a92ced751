"""The folder of a cache: entries that are there whole or not at all, and flat files that show the latest.

::

    <folder>/estimate_dti.nii.gz             latest result of a step; a hard link to the file of its entry, or a copy
    <folder>/estimate_dti.params.json        what it was computed from
    <folder>/.arcuate/entries/<step>/<key>/  entry.json and the files of one result
    <folder>/.arcuate/files/                 digests of files that were read before, by their stat signature
    <folder>/.arcuate/locks/                 one per entry being computed
    <folder>/.arcuate/staging/               entries being written

An entry is written to the staging folder and renamed, which is one operation on local disks and on NFS. The lock on its
key makes a second process wait for the first and take its result; where a file system has no locks both compute, and
the rename still leaves one whole entry. What a killed process left in the staging folder is removed by the next one
that opens the cache, as soon as nobody holds the lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from arcuate.cache.volumes import checksum

FORMAT = 3
_ABANDONED = 86400.0  # seconds; a staging folder that cannot be locked is taken for abandoned after this


class CorruptEntryError(Exception):
    """An entry is there and damaged; the message says how."""


@dataclass(frozen=True)
class Entry:
    """One kept result."""

    folder: Path
    record: dict[str, Any]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(int(check["size"]) for check in self.record["files"].values())

    @property
    def used_at(self) -> float:
        """When it was written or last asked for, seconds since the epoch."""
        try:
            return (self.folder / "entry.json").stat().st_mtime
        except OSError:
            return 0.0


class Store:
    """Entries below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / ".arcuate"

    def find(self, step: str, name: str, key: str) -> Entry | None:
        """The entry of a step under a key, every byte checked; None if there is none.

        Raises
        ------
        CorruptEntryError
        """
        folder = self._entry_folder(step, name, key)
        entry = read_entry(folder)
        if entry is None:
            return None
        if entry.record["key"] != key or entry.record["step"] != step:
            raise CorruptEntryError("it belongs to another call")
        for file, expected in entry.record["files"].items():
            try:
                found = checksum(folder / file)
            except FileNotFoundError:
                if not folder.exists():
                    return None  # gc took it away just now
                raise CorruptEntryError(f"its file {file} is missing") from None
            except OSError as error:
                raise CorruptEntryError(f"its file {file} cannot be read ({error.strerror})") from error
            if found["size"] != expected["size"]:
                raise CorruptEntryError(f"its file {file} has {found['size']} bytes instead of {expected['size']}")
            if found != expected:
                raise CorruptEntryError(f"its file {file} was changed")
        with contextlib.suppress(OSError):
            os.utime(folder / "entry.json")
        return entry

    def peek(self, step: str, name: str, key: str) -> bool:
        """Whether there is an entry whose files have the right sizes."""
        try:
            entry = read_entry(self._entry_folder(step, name, key))
            return entry is not None and all(
                (entry.folder / file).stat().st_size == check["size"] for file, check in entry.record["files"].items()
            )
        except (CorruptEntryError, OSError):
            return False

    def entries(self, step: str | None = None) -> Iterator[Entry]:
        """All entries that can be read, of one step (its full name) or of all."""
        for folder in sorted((self.root / "entries").glob("*/*")):
            with contextlib.suppress(CorruptEntryError):
                entry = read_entry(folder)
                if entry is not None and step in (None, entry.record["step"]):
                    yield entry

    @contextlib.contextmanager
    def staging(self, key: str) -> Iterator[Path]:
        """An empty folder to write an entry into; what is left in it at the end is removed."""
        folder = self.root / "staging" / f"{key[:40]}.{secrets.token_hex(6)}"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, staging: Path, record: dict[str, Any]) -> Entry:
        """Turn a staging folder into the entry of ``record["key"]``, in the place of one that is there."""
        record = record | {"format": FORMAT, "files": {p.name: checksum(p) for p in sorted(staging.iterdir())}}
        record["check"] = _check(record)
        (staging / "entry.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        for path in staging.iterdir():
            _flush(path)
        target = self._entry_folder(record["step"], record["name"], record["key"])
        target.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(5):
            self.remove(target)
            with contextlib.suppress(OSError):  # another process, without a lock, was quicker: take its place again
                staging.rename(target)
                break
        else:
            staging.rename(target)
        _flush(target.parent)
        return Entry(target, record)

    def remove(self, folder: Path) -> None:
        """Remove an entry at once: it is renamed before its files are deleted."""
        if not folder.exists():
            return
        aside = self.root / "staging" / f"{folder.name}.{secrets.token_hex(6)}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self, key: str, timeout: float = -1) -> Iterator[bool]:
        """Hold the lock on a key, waiting for it; gives False where the folder allows no locks.

        Raises
        ------
        Timeout
        """
        path = self.root / "locks" / f"{key[:40]}.lock"
        lock = FileLock(path, timeout=timeout, thread_local=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(poll_interval=0.05)
        except Timeout:
            raise
        except (OSError, NotImplementedError):
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def clean_staging(self) -> int:
        """Remove what killed processes left behind; the number of folders removed."""
        removed = 0
        for folder in list((self.root / "staging").glob("*")):
            key = folder.name.split(".")[0]
            try:
                with self.lock(key, timeout=0) as is_locked:
                    if is_locked or time.time() - folder.stat().st_mtime > _ABANDONED:
                        shutil.rmtree(folder, ignore_errors=True)
                        removed += 1
            except (Timeout, OSError):
                continue
        for flat in self.folder.glob(".flat-*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - flat.stat().st_mtime > 60:
                    flat.unlink()
        return removed

    def show(self, entry: Entry, sidecar: dict[str, Any]) -> None:
        """Let the flat files of a step show ``entry``; does nothing where they do already."""
        name = entry.record["name"]
        path = self.folder / f"{name}.params.json"
        text = json.dumps(sidecar, indent=2, sort_keys=True, default=str) + "\n"
        flat: dict[str, str] = entry.record["flat"]
        with contextlib.suppress(OSError):
            is_there = all(
                (self.folder / shown).stat().st_size == entry.record["files"][file]["size"]
                for shown, file in flat.items()
            )
            if is_there and path.read_text(encoding="utf-8") == text:
                return
        with self.lock(hashlib.sha256(f"flat {name}".encode()).hexdigest()):
            for shown, file in flat.items():
                self._replace(self.folder / shown, entry.folder / file)
            self._replace(path, text)

    def _replace(self, path: Path, content: Path | str) -> None:
        temporary = self.folder / f".flat-{secrets.token_hex(6)}.tmp"
        try:
            if isinstance(content, str):
                temporary.write_text(content, encoding="utf-8")
            else:
                try:
                    temporary.hardlink_to(content)
                except OSError:
                    shutil.copyfile(content, temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _entry_folder(self, step: str, name: str, key: str) -> Path:
        code = hashlib.sha256(step.encode()).hexdigest()[:8]
        return self.root / "entries" / f"{name.strip('<>')}-{code}" / key[:40]


def read_entry(folder: Path) -> Entry | None:
    """The entry in ``folder`` without a look at its other files; None if there is none.

    Raises
    ------
    CorruptEntryError
    """
    try:
        text = (folder / "entry.json").read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        if not folder.exists():
            return None
        raise CorruptEntryError("its file entry.json is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptEntryError(f"its file entry.json cannot be read ({error})") from error
    try:
        record = json.loads(text)
        is_whole = record["check"] == _check(record)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        is_whole = False
    if not is_whole:
        raise CorruptEntryError("its file entry.json was cut short or changed")
    if record["format"] != FORMAT:
        return None
    return Entry(folder, record)


def _check(record: dict[str, Any]) -> str:
    body = {name: value for name, value in record.items() if name != "check"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _flush(path: Path) -> None:
    """Bring a file or folder to the disk, so that a power cut cannot leave an entry with empty files."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
