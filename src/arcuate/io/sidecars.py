"""What the JSON files beside images say of how they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arcuate.errors import warn
from arcuate.io.find_gradients import applying_files
from arcuate.io.mif import MifVolumeResource
from arcuate.io.names import beside_image, bids_entities, image_stem
from arcuate.io.nifti import NiftiVolumeResource
from arcuate.volumes.resource import VolumeResource
from arcuate.volumes.series import SeriesVolume, TurnedVolume


def read_sidecar(image: Path) -> dict[str, Any]:
    """What the JSON file beside an image says, ``x.json`` for ``x.nii.gz``, and those above that apply to it by BIDS'
    inheritance, the nearest before others; empty where there is none.

    Warns
    -----
    InputWarning
        A file is no JSON object, such as one cut short; it is left aside.
    """
    own = beside_image(image, ".json")
    above = [files[0] for files in applying_files(image, "json") if files[0] != own]
    facts: dict[str, Any] = {}
    for path in [*reversed(above), own]:
        facts |= _read_object(path)
    return facts


def _read_object(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        warn(f"{path.name} beside the image cannot be read ({error.strerror}); it is not used.")
        return {}
    except (ValueError, RecursionError) as error:
        facts = error
    if not isinstance(facts, dict):
        warn(f"{path.name} beside the image cannot be read as a JSON object (was it cut short?); it is not used.")
        return {}
    return facts


def sidecars_of(volume: VolumeResource) -> list[dict[str, Any]]:
    """Sidecars of the files that an image is made of; none for an image in memory."""
    if isinstance(volume, SeriesVolume):
        return [facts for piece in volume.pieces for facts in sidecars_of(piece.source)]
    if isinstance(volume, TurnedVolume):
        return sidecars_of(volume.source)
    if isinstance(volume, NiftiVolumeResource | MifVolumeResource):
        return [read_sidecar(volume.path)]
    return []


def warn_of_unlike_parts(images: Sequence[Path]) -> None:
    """Warn where sidecars of parts say that they were acquired in different ways.

    Phase encodings (``PhaseEncodingDirection``, or ``dir-AP`` in the names where some sidecars do not say it) distort
    parts in different ways; echo and repetition times give each tissue another scale.
    """
    if not images[1:]:
        return
    sidecars = {image.name: read_sidecar(image) for image in images}
    _warn_of_phase_encodings(images, sidecars)
    for field, name, most in (("EchoTime", "echo time", 0.01), ("RepetitionTime", "repetition time", 0.1)):
        times = {part: facts[field] for part, facts in sidecars.items() if isinstance(facts.get(field), int | float)}
        if times and max(times.values()) > (1 + most) * min(times.values()):
            listed = ", ".join(f"{part}: {time:g} s" for part, time in times.items())
            warn(
                f"the parts differ in their {name} ({listed}): joined as they are the signal of each tissue steps "
                "between them, which --scale-parts mends on the average only. Fit them alone, or parts alike."
            )


def _warn_of_phase_encodings(images: Sequence[Path], sidecars: Mapping[str, Mapping[str, Any]]) -> None:
    told = {name: str(facts.get("PhaseEncodingDirection") or "") for name, facts in sidecars.items()}
    if not all(told.values()):
        told = {name: found for name, found in told.items() if found}
        named = {image.name: label for image in images if (label := _label_of_direction(image))}
        told = named if len(named) == len(images) else told
    if len(set(told.values())) > 1:
        listed = ", ".join(f"{name}: {value}" for name, value in told.items())
        warn(
            f"the parts differ in their phase encoding ({listed}), which distorts a scan: joined as they are they do "
            "not lie on each other, unless topup and eddy made them so. Correct them first, or give one alone."
        )


def _label_of_direction(image: Path) -> str:
    """The label ``dir-`` of a BIDS name; empty where there is none."""
    entities = bids_entities(image_stem(image))[0]
    return next((e for e in entities if e.startswith("dir-")), "")
