"""What the JSON files beside images say of how they were made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from arcuate.errors import warn
from arcuate.io.mif import MifVolumeResource
from arcuate.io.names import beside_image
from arcuate.io.nifti import NiftiVolumeResource
from arcuate.volumes.resource import VolumeResource
from arcuate.volumes.series import SeriesVolume


def read_sidecar(image: Path) -> dict[str, Any]:
    """The JSON object beside an image, ``x.json`` for ``x.nii.gz``; empty where there is none.

    Warns
    -----
    InputWarning
        The file is no JSON object, such as one cut short; it is left aside.
    """
    path = beside_image(image, ".json")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        facts = error
    if not isinstance(facts, dict):
        warn(f"{path.name} beside the image cannot be read as a JSON object (was it cut short?); it is not used.")
        return {}
    return facts


def sidecars_of(volume: VolumeResource) -> list[dict[str, Any]]:
    """Sidecars of the files that an image is made of; none for an image in memory."""
    if isinstance(volume, SeriesVolume):
        return [facts for piece in volume.pieces for facts in sidecars_of(piece.source)]
    if isinstance(volume, NiftiVolumeResource | MifVolumeResource):
        return [read_sidecar(volume.path)]
    return []
