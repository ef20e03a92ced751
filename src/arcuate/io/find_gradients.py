"""Gradient files of an image: those given, else those beside it, or in the folders above as BIDS lets them apply."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from arcuate.errors import InputError, warn
from arcuate.io.gradient_files import FslBvalResource, FslBvecResource, MrtrixBvalResource, MrtrixBvecResource
from arcuate.io.images import open_volume
from arcuate.io.mif import MifVolumeResource
from arcuate.io.names import bids_entities, image_stem, why_absent
from arcuate.numerics.user_folders import as_path
from arcuate.volumes.resource import VectorResource, VolumeResource

Paths = str | Path | Sequence[str | Path]

_ROTATED = ".eddy_rotated_bvecs"
_ENDINGS = {
    "bval": (".bval", ".bvals", "_bval", "_bvals", "_bval.txt", "_bvals.txt", ".bval.txt"),
    "bvec": (".bvec", ".bvecs", "_bvec", "_bvecs", "_bvec.txt", "_bvecs.txt", ".bvec.txt"),
}
_GENERIC = {"bval": ("bvals", "bval"), "bvec": ("bvecs", "bvec")}
_LEVELS = 5  # data set, subject, session, dwi: no file applies from further above


def find_gradients(
    path: str | os.PathLike[str],
    bval: str | os.PathLike[str] | None = None,
    bvec: str | os.PathLike[str] | None = None,
    grad: str | os.PathLike[str] | None = None,
) -> tuple[VolumeResource, VectorResource, VectorResource]:
    """Volume, b-values and b-vectors of the image at ``path``: the files given, else those that belong to it.

    The three are what ``Dwi(volume, bval, bvec)`` takes; nothing is read yet but the header of an image of MRtrix3,
    whose ``dw_scheme`` holds where no file is given.

    Looked for, in this order: ``<stem>.eddy_rotated_bvecs``; ``<stem>.bval`` and ``.bvec`` (``.bvals``, ``.bvecs``,
    ``_bval``, ``_bvec``); ``<stem>.b`` (MRtrix3); files that apply to the image by BIDS' inheritance, whose entities
    are all among those of the image, in its folder and those above, the nearest folder first and the file with most
    entities; ``bvals`` and ``bvecs`` in the same folder.

    Raises
    ------
    InputError
        Files are missing, and the message names what was looked for; or two apply alike.
    """
    path = as_path(path)
    volume = open_volume(path)
    if not path.exists():
        raise InputError(f"{path} {why_absent(path)}")
    given = {"bval": bval, "bvec": bvec, "grad": grad}
    for name, value in given.items():
        if value is not None and not Path(value).is_file():
            raise InputError(f"{value} (--{name}) {why_absent(value)}")
    if grad is not None:
        if bval is not None or bvec is not None:
            raise InputError("found both --grad and --bval or --bvec; expected one kind. Leave the other out.")
        return volume, MrtrixBvalResource(Path(grad)), MrtrixBvecResource(Path(grad), volume)
    has_none_given = bval is None and bvec is None
    if has_none_given and isinstance(volume, MifVolumeResource) and volume.gradient_rows is not None:
        return volume, MrtrixBvalResource(volume), MrtrixBvecResource(volume, volume)
    table = path.with_name(f"{image_stem(path)}.b")
    found_bval = Path(bval) if bval is not None else _own(path, "bval")
    found_bvec = Path(bvec) if bvec is not None else _own(path, "bvec")
    if bval is None and bvec is None and table.is_file() and (found_bval is None or found_bvec is None):
        return volume, MrtrixBvalResource(table), MrtrixBvecResource(table, volume)
    found_bval = found_bval or _inherited(path, "bval") or _generic(path, "bval")
    found_bvec = found_bvec or _inherited(path, "bvec") or _generic(path, "bvec")
    if found_bval is not None and found_bvec is not None:
        return volume, FslBvalResource(found_bval), FslBvecResource(found_bvec)
    _ = volume.shape  # what is no image at all is refused as such
    kind, missing = ("bval", "b-values") if found_bval is None else ("bvec", "b-vectors")
    names = [image_stem(path) + ending for ending in _ENDINGS[kind][:2]] + [*_GENERIC[kind], table.name]
    above = " and, by BIDS' inheritance, in the folders above" if bids_entities(image_stem(path))[0] else ""
    inside = " in its header and" if isinstance(volume, MifVolumeResource) else ""
    raise InputError(
        f"found no {missing} for {path}; looked{inside} in {path.parent} for {', '.join(names)}{above}. "
        f"Give the file with --{kind}, or an MRtrix3 table with --grad."
    )


def find_gradients_of_parts(
    images: Paths, **files: Paths | None
) -> list[tuple[VolumeResource, VectorResource, VectorResource]]:
    """What :func:`find_gradients` gives, for one image (x, y, z, n_meas) or each of several.

    Parameters
    ----------
    images : one path, or several
    files : ``bval``, ``bvec`` and ``grad``; none, or one for each image

    Raises
    ------
    InputError
        Another number of files than of images; see also :func:`find_gradients`.
    """
    paths = _listed(images)
    given = {name: _listed(value) for name, value in files.items() if value}
    for name, one_each in given.items():
        if len(one_each) != len(paths):
            raise InputError(f"found {len(one_each)} {name} files for {len(paths)} images; expected one for each.")
    return [find_gradients(path, **{name: given[name][i] for name in given}) for i, path in enumerate(paths)]


def _listed(paths: Paths) -> list[str | Path]:
    return [paths] if isinstance(paths, str | Path) else list(paths)


def _own(path: Path, kind: str) -> Path | None:
    """The file that carries the image's own stem."""
    stem = image_stem(path)
    found = _first_of(path, [stem + end for end in _ENDINGS[kind]])
    rotated = path.with_name(stem + _ROTATED)
    if kind == "bval" or not rotated.is_file():
        return found
    if found is not None:
        warn(
            f"{rotated.name} and {found.name} lie beside {path.name}: took eddy's rotated b-vectors. Name the other "
            "with --bvec if the image is not eddy's."
        )
    return rotated


def _inherited(path: Path, kind: str) -> Path | None:
    """The file that applies to the image by BIDS' rule of inheritance."""
    nearest = next(applying_files(path, kind), [])
    if len(nearest) > 1:
        raise InputError(
            f"{', '.join(p.name for p in nearest)} in {nearest[0].parent} apply alike to {path.name}; expected one. "
            f"Name it with --{kind}."
        )
    return nearest[0] if nearest else None


def applying_files(path: Path, kind: str) -> Iterator[list[Path]]:
    """Files ``.<kind>`` that apply to an image by BIDS' rule of inheritance, those of the nearest folder first.

    Of each folder those with most entities; none where the image has no name of BIDS.
    """
    entities, suffix = bids_entities(image_stem(path))
    if not any(entity.startswith("sub-") for entity in entities):
        return
    for folder in _folders_up(path):
        applying: dict[int, list[Path]] = {}
        for candidate in sorted(folder.glob(f"*{suffix}.{kind}")):
            theirs, its_suffix = bids_entities(candidate.name.removesuffix(f".{kind}"))
            if its_suffix == suffix and theirs <= entities and candidate.is_file():
                applying.setdefault(len(theirs), []).append(candidate)
        if applying:
            yield applying[max(applying)]


def _folders_up(path: Path) -> Iterator[Path]:
    """Folder of the image and those above it, up to the data set's; only its own where no data set is seen."""
    folders = [path.absolute().parent]
    while len(folders) < _LEVELS and folders[-1] != folders[-1].parent:
        if (folders[-1] / "dataset_description.json").is_file():
            yield from folders
            return
        if folders[-1].name.startswith("sub-"):
            yield from [*folders, folders[-1].parent]
            return
        folders.append(folders[-1].parent)
    yield folders[0]


def _generic(path: Path, kind: str) -> Path | None:
    return _first_of(path, _GENERIC[kind])


def _first_of(path: Path, names: Sequence[str]) -> Path | None:
    """The first of these files beside the image; in whatever case (X.BVAL) where none is spelled so."""
    exact = next((p for name in names if (p := path.with_name(name)).is_file()), None)
    if exact is not None or not path.parent.is_dir():
        return exact
    by_name = {p.name.lower(): p for p in sorted(path.parent.iterdir(), reverse=True)}
    return next((p for name in names if (p := by_name.get(name.lower(), path)) != path and p.is_file()), None)
