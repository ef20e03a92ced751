"""What a cache holds, why a step was computed, and what may go."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from arcuate.cache.store import Entry, Store
from arcuate.errors import InputError
from arcuate.io.locks import exclusive

_FORGET_DAYS = 90.0  # memory of files that nobody asked for in so long is dropped, whatever else is kept
_DAY = 86400.0


@dataclass(frozen=True)
class Removal:
    """What a clean-up removed, or would remove."""

    entries: tuple[Entry, ...]
    n_damaged: int
    n_in_use: int  # entries that should have gone and are being used
    n_refused: int  # entries that should have gone, in folders that you may not write to
    n_leftovers: int  # of killed processes
    freed: int  # bytes
    kept: int  # bytes


def open_store(folder: Path) -> Store:
    """The store in ``folder``, which may also be the output folder of ``arcuate run``.

    Raises
    ------
    InputError
        There is none.
    """
    for place in (folder, folder / ".arcuate-cache", folder / "cache"):
        if (place / ".arcuate").is_dir():
            return Store(place)
    raise InputError(
        f"found no cache in {folder}; expected the folder given to Cache() or to --cache, or the output folder "
        "of `arcuate run`. Name it with --cache."
    )


def list_entries(store: Store) -> list[Entry]:
    """All entries, by step, the latest computed first."""
    entries = sorted(store.entries(), key=lambda entry: entry.record["computed"], reverse=True)
    return sorted(entries, key=lambda entry: entry.record["label"])


def explain(store: Store, step: str) -> list[str]:
    """Lines that say why a step was computed the last time: what was new against the most similar earlier result.

    Raises
    ------
    InputError
        The cache holds no result of the step.
    """
    every = list_entries(store)
    entries = [e for e in every if step in (e.record["label"], e.record["name"], e.record["step"])]
    if not entries:
        known = ", ".join(dict.fromkeys(entry.record["label"] for entry in every)) or "none"
        raise InputError(f"found no result of the step {step!r} in {store.folder}; it holds results of: {known}.")
    latest, *earlier = sorted((entry.record for entry in entries), key=lambda record: record["computed"], reverse=True)
    said = f"{latest['label']} was last computed {_when(latest)}, in {latest['seconds']:g} s (key {latest['key'][:12]})"
    if latest["cause"] == "forced":
        return [said, "because it was forced"]
    if latest["cause"] != "no entry":
        return [said, f"because {latest['cause']}"]
    if not earlier:
        return [said, "because there was no result of it before"]
    nearest = min(earlier, key=lambda record: len(list(differences(record, latest))))
    compared = f"because, compared with the result of {_when(nearest)} (key {nearest['key'][:12]}):"
    return [said, compared, *(f"  {line}" for line in differences(nearest, latest))]


def differences(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """One line for everything in which two calls of a step differ."""
    if before["step"] != after["step"]:
        yield f"the step was {before['step']} and is {after['step']}"
    if before["step_version"] != after["step_version"]:
        yield f"step version: {before['step_version']} -> {after['step_version']}"
    for name, version in after["versions"].items():
        if name != after["step"] and (former := before["versions"].get(name)) != version:
            yield f"the step {name}, which it calls, had version {former} and has version {version} now"
    old, new = before["arguments"], after["arguments"]
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield f"{name}: was not given, now {_shown(after, name)}"
        elif name not in new:
            yield f"{name}: was {_shown(before, name)}, now not given"
        elif old[name] == new[name]:
            continue
        elif name in before["scalars"] or name in after["scalars"]:
            yield f"{name}: {_shown(before, name)} -> {_shown(after, name)}"
        elif old[name].keys() != new[name].keys():
            yield f"{name} changed"
        else:
            yield from (f"{name}{part} changed" for part, text in new[name].items() if old[name][part] != text)


def clean_up(
    store: Store, *, keep_days: float | None = None, max_size: float | None = None, is_dry: bool = False
) -> Removal:
    """Remove entries not used for ``keep_days``, then the longest unused until ``max_size`` bytes are left.

    Damaged entries and what killed processes left go in any case; entries in use stay, and so does what belongs to
    others and may not be removed.
    """
    now = time.time()
    leftovers = 0 if is_dry else store.clean_staging()
    found = list(store.sound_and_damaged())
    damaged = [folder for folder in found if isinstance(folder, Path)]
    sound = sorted((e for e in found if isinstance(e, Entry)), key=lambda entry: entry.used_at)
    total = sum(entry.size for entry in sound)
    removed: list[Entry] = []
    kept_why = {"in use": 0, "refused": 0}
    for entry in sound:
        is_old = keep_days is not None and entry.used_at < now - keep_days * _DAY
        is_too_much = max_size is not None and total > max_size
        if not is_old and not is_too_much:
            continue
        if not is_dry and (why := _why_it_stays(store, entry)):
            kept_why[why] += 1
            continue
        removed.append(entry)
        total -= entry.size
    if not is_dry:
        for folder in list(damaged):
            try:
                store.remove(folder)
            except OSError:
                damaged.remove(folder)
                kept_why["refused"] += 1
        _forget(store, now - _DAY * (_FORGET_DAYS if keep_days is None else keep_days))
    freed = sum(entry.size for entry in removed)
    return Removal(tuple(removed), len(damaged), kept_why["in use"], kept_why["refused"], leftovers, freed, total)


def _why_it_stays(store: Store, entry: Entry) -> str:
    """Remove an entry and the flat files that show it: "", or "in use" or "refused" where it stays."""
    key = entry.record["key"]
    try:
        with store.lock(key, timeout=0), exclusive(entry.folder / "entry.json") as is_ours:
            if not is_ours:
                return "in use"
            store.remove(entry.folder)
    except Timeout:
        return "in use"
    except OSError:
        return "refused"
    sidecar = store.sidecar_path(entry.record["name"])
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        if json.loads(sidecar.read_text(encoding="utf-8"))["key"] == key:
            for shown in entry.record["flat"]:  # a hard link would keep the space
                (store.folder / shown).unlink(missing_ok=True)
            sidecar.unlink()
    return ""


def _forget(store: Store, before: float) -> None:
    """Drop the memory of files, and locks, that nobody used since ``before``."""
    for path in [*(store.root / "files").glob("*/*"), *(store.root / "locks").glob("*.lock")]:
        with contextlib.suppress(OSError, Timeout):
            if path.stat().st_mtime < before:
                with store.lock(path.stem, timeout=0) if path.suffix == ".lock" else contextlib.nullcontext():
                    path.unlink(missing_ok=True)


def _when(record: dict[str, Any]) -> str:
    return f"{record['computed'][:19].replace('T', ' ')} UTC"


def _shown(record: dict[str, Any], name: str) -> str:
    return repr(record["scalars"][name]) if name in record["scalars"] else f"content {record['hashes'][name][:12]}"
