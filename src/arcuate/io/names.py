"""Names of image files: stems, entities as in BIDS, and the files that belong to an image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

SUFFIXES = (".nii.gz", ".nii", ".mif.gz", ".mif", ".mih", ".hdr.gz", ".hdr", ".img.gz", ".img", ".mgz", ".mgh")


def image_suffix(path: str | os.PathLike[str]) -> str:
    """Suffix of an image's name as it is spelled (``.nii.gz``, ``.NII.GZ``), empty where it has none of an image."""
    name = Path(path).name
    return next((name[-len(s) :] for s in SUFFIXES if name.lower().endswith(s)), "")


def image_stem(path: str | os.PathLike[str]) -> str:
    """Name of an image without folder and suffix: ``sub-01_dwi`` of ``a/sub-01_dwi.nii.gz``, upper case as well."""
    name = Path(path).name
    return name[: len(name) - len(image_suffix(name))] or name


def beside_image(path: str | os.PathLike[str], ending: str) -> Path:
    """The file beside an image whose name is its stem and ``ending``: ``x.json`` for ``x.nii.gz`` and ``.json``."""
    return Path(path).with_name(image_stem(path) + ending)


def companion(path: str | os.PathLike[str], name: str) -> Path:
    """The image beside another one that belongs to it: ``dki_tensors.nii.gz`` of ``dki.nii.gz`` and ``tensors``."""
    return beside_image(path, f"_{name}{image_suffix(path) or '.nii.gz'}")


def bids_entities(stem: str) -> tuple[frozenset[str], str]:
    """Entities of a BIDS name and its suffix: ({"sub-01", "run-2"}, "dwi"); no entities where it is none."""
    *entities, suffix = stem.split("_")
    is_bids = all(0 < part.find("-") < len(part) - 1 for part in entities) and "-" not in suffix
    return (frozenset(entities), suffix) if is_bids else (frozenset(), stem)


def why_absent(path: str | os.PathLike[str], expected: str = "") -> str:
    """What is wrong with a path at which there is nothing, as the end of a sentence, and what to do."""
    path = Path(path)
    if path.is_symlink():
        return (
            f"is a link to {path.readlink()}, where there is nothing. Fetch it (datalad get, git annex get), or "
            "mend the link."
        )
    if path.exists():
        return f"is no file{f'; expected {expected}' if expected else ''}. Write what it gives to a file first."
    return f"does not exist{f'; expected {expected}' if expected else ''}. Check the path."


def common_name(paths: Sequence[Path]) -> Path:
    """Name for what several images of one scan are parts of: the entities that all share, or the first one's name."""
    stems = [image_stem(path) for path in paths]
    shared = frozenset.intersection(*(bids_entities(stem)[0] for stem in stems))
    if len(paths) == 1 or not shared:
        return paths[0]
    parts = [part for part in stems[0].split("_")[:-1] if part in shared]
    return paths[0].with_name("_".join([*parts, stems[0].split("_")[-1]]) + image_suffix(paths[0]))
