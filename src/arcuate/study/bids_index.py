"""Scans of a BIDS data set, raw or derivatives: one per subject and session, its parts together.

Folders are walked with one look at each, and no file is opened; bids2table takes five times as long (LOG.md).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arcuate.errors import InputError, MissingExtraError, did_you_mean, warn
from arcuate.io.find_scans import formats_of_one, versions_among
from arcuate.io.names import bids_entities, common_name, image_stem, image_suffix
from arcuate.study.bids import read_json, scan_prefix

_LABEL = re.compile(r"[a-zA-Z0-9+]+")
_SHORT = {  # how pybids and its filter files name entities
    "subject": "sub",
    "session": "ses",
    "acquisition": "acq",
    "direction": "dir",
    "reconstruction": "rec",
    "resolution": "res",
    "description": "desc",
}
_NUMBERED = {"run", "echo"}  # whose labels are numbers: 1 is 01
_NONE, _ANY = ("Query.NONE", "<Query.NONE: 1>"), ("Query.ANY", "<Query.ANY: 2>")  # as pybids' apps write them


@dataclass(frozen=True)
class SessionScan:
    """The diffusion scan of one subject in one session.

    Parameters
    ----------
    subject, session : labels without their key; an empty session where there is none
    images : parts of the scan, by name
    mask : the brain mask that lies beside the image in derivatives
    problem : why its images are no scan, in one sentence
    """

    subject: str
    session: str
    images: tuple[Path, ...]
    mask: Path | None = None
    problem: str = ""

    @property
    def prefix(self) -> str:
        """What the results are named after."""
        return scan_prefix(common_name(self.images))

    @property
    def name(self) -> str:
        """``sub-01`` or ``sub-01 ses-02``, for people."""
        return f"sub-{self.subject}" + (f" ses-{self.session}" if self.session else "")


@dataclass(frozen=True)
class Wanted:
    """Which scans of a data set are wanted; empty is all.

    Parameters
    ----------
    participants, sessions : labels, with or without ``sub-`` and ``ses-``
    filters : values by entity that an image must have, None for one that it must not have
    """

    participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    filters: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, key in (("participants", "sub-"), ("sessions", "ses-")):
            labels = tuple(dict.fromkeys(label.removeprefix(key) for label in getattr(self, name)))
            bad = [label for label in labels if not _LABEL.fullmatch(label)]
            if bad:
                raise InputError(f"found the label {bad[0]!r}; expected letters and digits, as in {key}01.")
            object.__setattr__(self, name, labels)


def read_filters(path: Path) -> dict[str, tuple[str | None, ...]]:
    """Filters of a file as pybids' apps take it: ``{"dwi": {"acquisition": "b3000", "session": ["01", "02"]}}``.

    Raises
    ------
    InputError
        The file is no JSON object, or its values are neither strings, numbers nor null.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or f"it is no JSON ({error})"
        raise InputError(f"the filter file {path} cannot be read: {reason}.") from error
    chosen = content.get("dwi", {}) if isinstance(content, dict) else None
    if not isinstance(chosen, dict):
        raise InputError(f'found no object in {path}; expected {{"dwi": {{"acquisition": "b3000"}}}}.')
    filters: dict[str, tuple[str | None, ...]] = {}
    for name, value in dict[str, Any](chosen).items():
        values = value if isinstance(value, list) else [value]
        if not values or not all(v is None or (isinstance(v, str | int) and not isinstance(v, bool)) for v in values):
            raise InputError(f"found {name} = {value!r} in {path}; expected a label, a list of labels, or null.")
        filters[_SHORT.get(str(name), str(name))] = tuple(_as_label(v) for v in values)
    return filters


def _as_label(value: Any) -> str | None:
    if value is None or value in _NONE:
        return None
    return "*" if value in _ANY else str(value)


def index_dataset(folder: Path, wanted: Wanted | None = None, *, is_checked: bool = True) -> list[SessionScan]:
    """Every wanted scan of the data set, by subject and session, but for what its ``.bidsignore`` leaves out.

    Parameters
    ----------
    is_checked : whether the folder must have a ``dataset_description.json``

    Raises
    ------
    InputError
        The folder is no data set, holds no diffusion scan that is wanted, or a named subject is not there.
    MissingExtraError
        There is a ``.bidsignore``, and pathspec, which reads it, is not installed.
    """
    wanted = wanted or Wanted()
    is_derivative = _check_dataset(folder, is_checked)
    subjects = _labels(folder, "sub-")
    missing = [label for label in wanted.participants if label not in set(subjects)]
    if missing:
        raise InputError(
            f"{folder} has no {', '.join('sub-' + label for label in missing[:5])}"
            f"{' ...' if len(missing) > 5 else ''}; {_there(subjects)}.{_meant(missing[0], subjects)}"
        )
    chosen = set(wanted.participants)
    ignored = _Ignored(folder)
    found: list[SessionScan] = []
    for subject in subjects:
        if not chosen or subject in chosen:
            found += _scans_of(folder / f"sub-{subject}", subject, wanted, is_derivative, ignored)
    unseen = [label for label in wanted.sessions if label not in {scan.session for scan in found}]
    if found and unseen:
        raise InputError(
            f"no subject that is wanted has a diffusion scan in ses-{unseen[0]}; check --session-label "
            f"{' '.join(wanted.sessions)}."
        )
    if not found:
        raise InputError(
            f"found no diffusion scan in {folder} that is wanted ({_there(subjects)}); expected images such as "
            "sub-01/dwi/sub-01_dwi.nii.gz. Check the folder, the labels and the filter file"
            + (", and its .bidsignore." if ignored.images else ".")
        )
    if ignored.images:
        n, first = len(ignored.images), ignored.images[0]
        warn(
            f"{n} diffusion image{'' if n == 1 else 's'} of {folder} "
            f"{'is' if n == 1 else 'are'} left out, as its .bidsignore says: {first}{' ...' if n > 1 else ''}."
        )
    return found


def without_scan(folder: Path, wanted: Wanted, scans: Sequence[SessionScan]) -> list[str]:
    """Wanted subjects of the data set that have no scan among those found, as ``sub-01``."""
    found = {scan.subject for scan in scans}
    return [f"sub-{label}" for label in wanted.participants or _labels(folder, "sub-") if label not in found]


def _meant(label: str, subjects: Sequence[str]) -> str:
    """A hint at the label that has other zeros in front."""
    alike = next((s for s in subjects if s.lstrip("0").lower() == label.lstrip("0").lower()), None)
    return f" Did you mean {alike}?" if alike else did_you_mean(label, subjects)


def _there(subjects: Sequence[str]) -> str:
    if not subjects:
        return "it holds no folder sub-..."
    return f"it holds {len(subjects)} subjects, sub-{subjects[0]}" + (f" to sub-{subjects[-1]}" if subjects[1:] else "")


def _check_dataset(folder: Path, is_checked: bool) -> bool:
    """Whether the data set is one of derivatives."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; expected a BIDS data set. Check the path.")
    description = folder / "dataset_description.json"
    if not description.is_file():
        if is_checked:
            raise InputError(
                f"found no dataset_description.json in {folder}; a BIDS data set has one at its top. Give the top "
                "folder, or --skip-bids-validation."
            )
        return True  # nobody knows: masks that lie there are taken
    kind = read_json(description).get("DatasetType", "raw")
    return kind == "derivative"


def _labels(folder: Path, key: str) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name.removeprefix(key) for e in entries if e.name.startswith(key) and e.is_dir())


class _Ignored:
    """What the ``.bidsignore`` of a data set leaves out: patterns as of a ``.gitignore``, paths from the top."""

    def __init__(self, folder: Path) -> None:
        self.images: list[str] = []  # diffusion images left out so far
        self._folder, path = folder, folder / ".bidsignore"
        self._matches: Callable[[str], bool] | None = None
        if not path.is_file():
            return
        try:
            from pathspec import GitIgnoreSpec
        except ImportError as error:
            raise MissingExtraError("pathspec", "cohort", f"reading {path}") from error
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        try:
            self._matches = GitIgnoreSpec.from_lines(lines).match_file
        except ValueError as error:
            raise InputError(f"{path} cannot be read: {error}; expected patterns as in a .gitignore.") from error

    def without(self, place: Path, names: Sequence[str]) -> list[str]:
        """Those of the names in a folder that are not left out."""
        if self._matches is None:
            return list(names)
        below = place.relative_to(self._folder).as_posix()
        out = {name for name in names if self._matches(f"{below}/{name}")}
        self.images += [f"{below}/{name}" for name in names if name in out and _is_wanted(name, {})]
        return [name for name in names if name not in out]


def _scans_of(folder: Path, subject: str, wanted: Wanted, is_derivative: bool, ignored: _Ignored) -> list[SessionScan]:
    sessions = _labels(folder, "ses-")
    places = [("", folder / "dwi"), *((label, folder / f"ses-{label}" / "dwi") for label in sessions)]
    found = []
    for session, place in places:
        if wanted.sessions and session not in wanted.sessions:
            continue
        try:
            with os.scandir(place) as entries:
                names = sorted(e.name for e in entries if e.name.startswith("sub-"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        names = _named_as_folder(place, ignored.without(place, names), subject, session)
        images = [place / name for name in names if _is_wanted(name, wanted.filters)]
        if images:
            mask = _mask_beside(images, names) if is_derivative else None
            found.append(SessionScan(subject, session, tuple(images), mask, _problem_of(images)))
    return found


def _named_as_folder(place: Path, names: Sequence[str], subject: str, session: str) -> list[str]:
    """Names whose labels are those of their folders; a diffusion image with others is warned of: moved or mistyped."""
    kept = []
    for name in names:
        found = _labels_of(name)
        if found.get("sub") == subject and (not session or found.get("ses", session) == session):
            kept.append(name)
        elif _is_wanted(name, {}):
            folder = f"sub-{subject}" + (f"/ses-{session}" if session else "")
            warn(f"{place / name} is left out: its name is not that of {folder}, where it lies. Move or rename it.")
    return kept


def _is_wanted(name: str, filters: Mapping[str, tuple[str | None, ...]]) -> bool:
    """Whether a file is a diffusion image of magnitudes that passes the filters."""
    if not image_suffix(name):
        return False
    labels = _labels_of(name)
    if bids_entities(image_stem(name))[1] != "dwi" or labels.get("part", "mag") != "mag":
        return False
    labels["extension"] = image_suffix(name)
    return all(
        _passes(key, labels.get(key), values) for key, values in filters.items() if key not in {"suffix", "datatype"}
    )


def _passes(key: str, label: str | None, values: Sequence[str | None]) -> bool:
    if key in _NUMBERED and label is not None and label.isdigit():
        return any(v == "*" or (v is not None and v.isdigit() and int(v) == int(label)) for v in values)
    if key == "extension":
        return any(v is not None and (v == "*" or f".{v.lstrip('.')}" == label) for v in values)
    return label in values or (label is not None and "*" in values)


def _labels_of(name: str) -> dict[str, str]:
    """Label by key of a file's name: ``{"sub": "01", "run": "2"}``."""
    return dict(entity.split("-", 1) for entity in bids_entities(image_stem(name))[0])


def _problem_of(images: Sequence[Path]) -> str:
    """Why the images are not the parts of one scan; empty where they are."""
    for image in images:
        if image.is_symlink() and not image.exists():
            return (
                f"{image} is a link to a file that is not there; expected the image. Fetch its content (in a DataLad "
                "data set: datalad get), or mend the link."
            )
    if twice := formats_of_one(images):
        return (
            f"found one scan in two formats ({' and '.join(twice)}) in {images[0].parent}; expected one. Remove one, "
            f'or choose with a filter file: {{"dwi": {{"extension": "{image_suffix(twice[0])}"}}}}.'
        )
    if version := versions_among(images):
        key, named = version
        chosen = named[-1].removeprefix(f"{key}-")
        return (
            f"found versions of one scan ({', '.join(named)}) in {images[0].parent}; expected one. Choose it with a "
            f'filter file: {{"dwi": {{"{key}": "{chosen}"}}}}.'
        )
    return ""


def _mask_beside(images: Sequence[Path], names: Iterable[str]) -> Path | None:
    """``..._desc-brain_mask`` with the entities that all images share."""
    shared = frozenset.intersection(*(bids_entities(image_stem(image))[0] for image in images))
    own = frozenset(entity for entity in shared if not entity.startswith("desc-"))
    for name in names:
        entities, suffix = bids_entities(image_stem(name))
        if suffix == "mask" and image_suffix(name) and entities == own | {"desc-brain"}:
            return images[0].with_name(name)
    return None


def facts_of_file(path: Path) -> list[Any]:
    """Path, size and time of change of a file, by which a change of it is seen without reading it."""
    status = path.stat()
    return [str(path), status.st_size, status.st_mtime_ns]
