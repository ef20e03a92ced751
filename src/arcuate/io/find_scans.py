"""Diffusion images of a folder: the parts of one session's scan."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from arcuate.errors import InputError, warn
from arcuate.io.find_gradients import find_gradients
from arcuate.io.images import open_volume
from arcuate.io.names import bids_entities, image_stem, image_suffix

# entities that tell versions of one scan apart, not its parts; echoes have another echo time each
VERSIONS = ("space", "desc", "res", "cohort", "rec", "echo", "part")


def find_images(paths: Iterable[str | os.PathLike[str]]) -> tuple[Path, ...]:
    """Images in the order given, folders replaced by the diffusion images in them (or in their folder ``dwi``).

    Of a folder the images named ``..._dwi`` are taken, as in BIDS, else every image with gradient files of its own,
    else the one that the folder's ``bvals`` and ``bvecs`` fit; phase images and single volumes, such as maps of the
    scanner, are left out.

    Raises
    ------
    InputError
        A folder holds none, those of several sessions, or versions of one scan; images of several subjects or a phase
        image were named.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        found += _images_of(path) if path.is_dir() else [path]
    if (version := versions_among(found)) and not any(path.is_dir() for path in map(Path, paths)):
        named = ", ".join(version[1])
        warn(f"the images are versions of one scan ({named}), joined as its parts; if they are none, give one alone.")
    if len(subjects := _labels(found, "sub-")) > 1:
        raise InputError(
            f"found images of several subjects ({', '.join(subjects)}); expected the parts of one scan. Give those of "
            "one subject; all subjects of a data set: arcuate cohort BIDS_DIR OUT participant."
        )
    if len(sessions := _labels(found, "ses-")) > 1:
        warn(f"the images are of several sessions ({', '.join(sessions)}), joined as the parts of one scan.")
    for path in found:
        if part := _part_of_complex(path):
            raise InputError(
                f"{path} is the {part} part of a complex image; expected magnitudes. Give the image of part-mag."
            )
    twice = {path for path in found if found.count(path) > 1}
    if twice:
        raise InputError(f"{sorted(map(str, twice))[0]} was given twice; expected each part once.")
    return tuple(found)


def _images_of(folder: Path) -> list[Path]:
    for place in (folder, folder / "dwi"):
        images = sorted(p for p in place.iterdir() if p.is_file() and image_suffix(p)) if place.is_dir() else []
        images = [p for p in images if not _part_of_complex(p)]
        named = [p for p in images if bids_entities(image_stem(p))[1] == "dwi"]
        named = [p for p in named if _is_series(p)] or named
        taken = named or [p for p in images if _has_gradients(p)] or _of_shared_gradients(images)
        if taken:
            _check_one_session(folder, taken)
            _check_one_version(folder, taken)
            return taken
    inside = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name.startswith(("sub-", "ses-")))
    hint = f" Give one of its folders, such as {folder / inside[0]}." if inside else ""
    if inside and inside[0].startswith("sub-"):
        hint += f" All of its scans: arcuate cohort {folder} OUT participant."
    raise InputError(
        f"found no diffusion image in the folder {folder}; expected images named ..._dwi.nii.gz, or images with .bval "
        f"and .bvec beside them.{hint}"
    )


def _part_of_complex(path: Path) -> str:
    """Which part of a complex image its BIDS name says it is, as ``phase``; empty for magnitudes."""
    entities = bids_entities(image_stem(path))[0]
    return next((part for part in ("phase", "real", "imag") if f"part-{part}" in entities), "")


def _is_series(path: Path) -> bool:
    """Whether an image has volumes: a single one is a map made from the scan. What cannot be read is refused later."""
    try:
        return len(open_volume(path).shape) > 3
    except InputError:
        return True


def _has_gradients(path: Path) -> bool:
    try:
        _, bval, _ = find_gradients(path)
    except InputError:
        return False
    return Path(getattr(bval, "path", None) or "").name.startswith(image_stem(path))


def _check_one_version(folder: Path, images: list[Path]) -> None:
    if twice := formats_of_one(images):
        found = f"one scan in two formats ({' and '.join(twice)})"
    elif version := versions_among(images):
        found = f"versions of one scan ({', '.join(version[1])})"
    else:
        return
    raise InputError(f"the folder {folder} holds {found}; expected one, or the parts of one scan. Name the images.")


def versions_among(images: Sequence[Path]) -> tuple[str, list[str]] | None:
    """The first entity in which images differ that parts of one scan share, and its values as in names; else None."""
    labels = [dict(e.split("-", 1) for e in bids_entities(image_stem(image))[0]) for image in images]
    for key in VERSIONS:
        values = sorted({label.get(key, "") for label in labels})
        if len(values) > 1:
            return key, [f"{key}-{v}" if v else f"no {key}" for v in values]
    return None


def formats_of_one(images: Sequence[Path]) -> list[str]:
    """Names of the images that hold one scan in two formats, ``x.nii`` beside ``x.nii.gz``; empty where none do."""
    stems = [image_stem(image) for image in images]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    return [image.name for image, stem in zip(images, stems, strict=True) if stem == twice]


def _of_shared_gradients(images: list[Path]) -> list[Path]:
    """The one image with as many volumes as the folder's ``bvals``, as the HCP lays a scan out; else none."""
    found = []
    for path in images:
        try:
            volume, bval, _ = find_gradients(path)
            n_meas = np.size(bval.get())
        except InputError:
            continue
        if len(volume.shape) > 3 and volume.shape[3] == n_meas:
            found.append(path)
    return found if len(found) == 1 else []


def _check_one_session(folder: Path, images: list[Path]) -> None:
    for kind in ("sub-", "ses-"):
        if len(labels := _labels(images, kind)) > 1:
            raise InputError(
                f"the folder {folder} holds images of {', '.join(labels)}; expected the parts of one scan. Name the "
                "images."
            )


def _labels(images: Sequence[Path], kind: str) -> list[str]:
    """The labels of one kind, as ``sub-``, that BIDS names have among them."""
    return sorted({e for image in images for e in bids_entities(image_stem(image))[0] if e.startswith(kind)})
