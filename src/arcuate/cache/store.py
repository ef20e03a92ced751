"""The folder of a cache: entries that are there whole or not at all, and flat files that show the latest.

::

    <folder>/estimate_dti.nii.gz             latest result of a step; a hard link to the file of its entry, or a copy
    <folder>/estimate_dti.params.json        what it was computed from
    <folder>/.arcuate/entries/<step>/<key>/  entry.json and the files of one result
    <folder>/.arcuate/files/                 digests of files that were read before, by their stat signature
    <folder>/.arcuate/locks/                 one per entry being computed
    <folder>/.arcuate/staging/               entries and flat files being written

An entry is written to the staging folder and renamed, which is one operation on local disks and on NFS. The lock on its
key makes a second process wait for the first and take its result; where a file system has no locks both compute, and
the rename still leaves one whole entry. An entry with a file cut short, by a power cut or whatever else, is computed
again. What a killed process left in the staging folder, or half-written among the digests, is removed by the next one
that opens the cache, as soon as nobody holds the lock.
"""

from __future__ import annotations

import contextlib
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

from arcuate.cache.fingerprints import digest_of
from arcuate.cache.sharing import make_folder, share
from arcuate.cache.volumes import checksum
from arcuate.io.atomic import remove_abandoned

FORMAT = 4
_ABANDONED = 86400.0  # seconds; a staging folder that cannot be locked is taken for abandoned after this


class CorruptEntryError(Exception):
    """An entry is there and damaged; the message says how."""


@dataclass(frozen=True)
class Entry:
    """One kept result."""

    folder: Path
    record: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Entry | None:
        """The entry in ``folder`` without a look at its other files; None if there is none.

        Raises
        ------
        CorruptEntryError
        """
        try:
            record = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
            is_whole = record["check"] == _check(record)
        except (FileNotFoundError, NotADirectoryError):
            if not folder.exists():
                return None
            raise CorruptEntryError("its file entry.json is missing") from None
        except PermissionError:  # of another user, who may have use for it
            return None
        except OSError as error:
            raise CorruptEntryError(f"its file entry.json cannot be read ({error.strerror})") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            is_whole = False
        if not is_whole:
            raise CorruptEntryError("its file entry.json was cut short or changed")
        return cls(folder, record) if record["format"] == FORMAT else None

    def verify(self) -> None:
        """Compare every byte of its files with what was written.

        Raises
        ------
        CorruptEntryError
        FileNotFoundError
            The whole entry went away.
        PermissionError
            It belongs to another user, who keeps it to themselves.
        """
        for file, expected in self.record["files"].items():
            try:
                found = checksum(self.folder / file)
            except FileNotFoundError:
                if not self.folder.exists():
                    raise
                raise CorruptEntryError(f"its file {file} is missing") from None
            except PermissionError:
                raise
            except OSError as error:
                raise CorruptEntryError(f"its file {file} cannot be read ({error.strerror})") from error
            if found["size"] != expected["size"]:
                raise CorruptEntryError(f"its file {file} has {found['size']} bytes instead of {expected['size']}")
            if found != expected:
                raise CorruptEntryError(f"its file {file} was changed")

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

    def is_complete(self) -> bool:
        """Whether its files are there, with the right sizes."""
        try:
            return all((self.folder / f).stat().st_size == c["size"] for f, c in self.record["files"].items())
        except OSError:
            return False


class Store:
    """Entries below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / ".arcuate"

    def find(self, name: str, key: str) -> Entry | None:
        """The entry of a step's name under a key, every byte checked; None if there is none.

        Raises
        ------
        CorruptEntryError
        """
        entry = Entry.read(self._entry_folder(name, key))
        if entry is None:
            return None
        if entry.record["key"] != key:
            raise CorruptEntryError("it belongs to another call")
        try:
            entry.verify()
        except (FileNotFoundError, PermissionError):
            return None  # gc took it away just now, or another user keeps it to themselves
        with contextlib.suppress(OSError):
            os.utime(entry.folder / "entry.json")
        return entry

    def entries(self) -> Iterator[Entry]:
        """All entries that can be read."""
        for found in self.sound_and_damaged():
            if isinstance(found, Entry):
                yield found

    def sound_and_damaged(self) -> Iterator[Entry | Path]:
        """Every entry that can be read, and the folder of every one that is damaged."""
        for folder in self._found("entries", "*/*"):
            try:
                entry = Entry.read(folder)
            except CorruptEntryError:
                yield folder
            else:
                if entry is not None:
                    yield entry

    @contextlib.contextmanager
    def staging(self, key: str) -> Iterator[Path]:
        """An empty folder to write into while the lock on ``key`` is held; what is left in it at the end is removed."""
        folder = self.root / "staging" / f"{key[:40]}.{secrets.token_hex(6)}"
        make_folder(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, staging: Path, record: dict[str, Any]) -> Entry:
        """Turn a staging folder into the entry of ``record["key"]``, in the place of one that is there."""
        record = record | {"format": FORMAT, "files": {p.name: checksum(p) for p in sorted(staging.iterdir())}}
        record["check"] = _check(record)
        (staging / "entry.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        target = self._entry_folder(record["name"], record["key"])
        make_folder(target.parent)
        for path in staging.iterdir():
            share(path)
        self.remove(target)
        staging.rename(target)
        return Entry(target, record)

    def remove(self, folder: Path) -> None:
        """Remove an entry at once: it is renamed before its files are deleted."""
        if folder.exists():
            with self.staging(folder.name) as aside, contextlib.suppress(FileNotFoundError):
                folder.rename(aside / "entry")

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
            make_folder(path.parent)
            lock.acquire(poll_interval=0.05)
            share(path)
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
        """Remove what killed processes left behind; the number of folders and files removed."""
        removed = 0
        for folder in self._found("staging", "*"):
            with contextlib.suppress(Timeout, OSError), self.lock(folder.name.split(".")[0], timeout=0) as is_locked:
                if is_locked or time.time() - folder.stat().st_mtime > _ABANDONED:
                    shutil.rmtree(folder, ignore_errors=True)
                    removed += 1
        return removed + sum(map(remove_abandoned, self._found("files", "*")))

    def show(self, entry: Entry, sidecar: dict[str, Any]) -> None:
        """Let the flat files of a step show ``entry``; does nothing where they do already."""
        name, flat, files = (entry.record[part] for part in ("name", "flat", "files"))
        text = json.dumps(sidecar, indent=2, sort_keys=True, default=str) + "\n"
        with contextlib.suppress(OSError, UnicodeDecodeError):  # a sidecar that was damaged is written anew
            are_there = all((self.folder / shown).stat().st_size == files[file]["size"] for shown, file in flat.items())
            if are_there and self.sidecar_path(name).read_text(encoding="utf-8") == text:
                return
        key = digest_of(["flat", name])
        with self.lock(key), self.staging(key) as staging:
            for shown, file in flat.items():
                try:
                    (staging / shown).hardlink_to(entry.folder / file)
                except OSError:
                    shutil.copyfile(entry.folder / file, staging / shown)
                    share(staging / shown)
                (staging / shown).replace(self.folder / shown)
            (staging / "sidecar").write_text(text, encoding="utf-8")
            share(staging / "sidecar")
            (staging / "sidecar").replace(self.sidecar_path(name))

    def _found(self, place: str, pattern: str) -> list[Path]:
        """What lies in a part of the store; nothing where it may not be looked into."""
        try:
            return sorted((self.root / place).glob(pattern))
        except OSError:
            return []

    def sidecar_path(self, name: str) -> Path:
        """The file that says what the flat files of a step show."""
        return self.folder / f"{name}.params.json"

    def _entry_folder(self, name: str, key: str) -> Path:
        return self.root / "entries" / name.strip("<>") / key[:40]


def _check(record: dict[str, Any]) -> str:
    return digest_of({name: value for name, value in record.items() if name != "check"})
