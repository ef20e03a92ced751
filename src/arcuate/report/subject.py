"""What a run left in its folder, found again by names."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arcuate.errors import InputError
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource
from arcuate.io.responses import read_response
from arcuate.models.multitissue import tissue_fractions
from arcuate.study.bids import Derivatives, sidecar_of

if TYPE_CHECKING:
    from arcuate.dwi import Dwi
    from arcuate.models.response import Response

TISSUES = ("wm", "gm", "csf")
_MAP = re.compile(r"model-(?P<model>\w+?)_param-(?P<param>\w+?)(_label-(?P<label>\w+?))?_dwimap\.nii\.gz$")


@dataclass(frozen=True)
class MapFile:
    """One parameter map on disk."""

    model: str
    param: str
    label: str | None
    path: Path

    @property
    def volume(self) -> NiftiVolumeResource:
        return NiftiVolumeResource(self.path)

    @property
    def facts(self) -> dict[str, Any]:
        """Its sidecar; empty if there is none."""
        return read_facts(sidecar_of(self.path))


@dataclass(frozen=True)
class SubjectFiles:
    """The derivatives of one scan."""

    names: Derivatives

    @cached_property
    def maps(self) -> list[MapFile]:
        """Every parameter map, by name."""
        found = []
        for path in sorted(self.names.folder.glob(f"{self.names.prefix}_model-*_dwimap.nii.gz")):
            match = _MAP.search(path.name)
            if match:
                found.append(MapFile(match["model"], match["param"], match["label"], path))
        return found

    def get_map(self, model: str, param: str) -> MapFile | None:
        """One map; that of white matter where there is one per tissue."""
        of_name = [m for m in self.maps if m.model == model and m.param == param and m.label in {None, "wm"}]
        return of_name[0] if of_name else None

    @cached_property
    def mask(self) -> NiftiVolumeResource | None:
        path = self.names.path("desc-brain_mask.nii.gz")
        return NiftiVolumeResource(path) if path.is_file() else None

    @cached_property
    def denoised(self) -> Dwi | None:
        from arcuate.dwi import Dwi

        path = self.names.path("desc-denoised_dwi.nii.gz")
        gradients = [self.names.path(f"desc-denoised_dwi{suffix}") for suffix in (".bval", ".bvec")]
        if not all(p.is_file() for p in (path, *gradients)):
            return None
        return Dwi(NiftiVolumeResource(path), FslBvalResource(gradients[0]), FslBvecResource(gradients[1]))

    @cached_property
    def noise(self) -> NiftiVolumeResource | None:
        path = self.names.path("desc-noise_dwimap.nii.gz")
        return NiftiVolumeResource(path) if path.is_file() else None

    @cached_property
    def csd_model(self) -> str | None:
        """BIDS label of the model of the FODs."""
        return next((m.model for m in self.maps if m.param == "fod"), None)

    @cached_property
    def response(self) -> Response | None:
        found = sorted(self.names.folder.glob(f"{self.names.prefix}_model-*_response.json"))
        of = {path: re.search(r"label-(\w+?)_response", path.name) for path in found}
        order = list(TISSUES)
        found.sort(key=lambda p: order.index(m[1]) if (m := of[p]) and m[1] in order else len(order))
        if not found:
            return None
        response = read_response(found)
        labels = [m[1] if (m := re.search(r"label-(\w+?)_response", name)) else name for name in response.tissues]
        return replace(response, tissues=tuple(labels))

    @cached_property
    def tissue_fractions(self) -> dict[str, np.ndarray]:
        """Share of each tissue (x, y, z) in the FODs of a multi-tissue model, white matter first; empty otherwise."""
        found = {m.label: m.volume for m in self.maps if m.param == "fod" and m.label is not None}
        tissues = sorted(found, key=lambda name: TISSUES.index(name) if name in TISSUES else len(TISSUES))
        if len(tissues) < 2:
            return {}
        fods = [np.asarray(found[name].get_array(), dtype=np.float32) for name in tissues]
        fods = [array if array.ndim == 4 else array[..., None] for array in fods]
        fractions = tissue_fractions([array[..., :1] for array in fods])
        return {name: np.asarray(fractions[..., k], dtype=np.float32) for k, name in enumerate(tissues)}

    @property
    def affine(self) -> np.ndarray | None:
        """(4, 4) of the maps; None if there are none."""
        found = self.mask or next((m.volume for m in self.maps), None)
        return None if found is None else np.asarray(found.get_affine())

    @cached_property
    def bundles(self) -> dict[str, Path]:
        """Mask of each tract by its name."""
        folder = self.names.path("bundles")
        return {p.name.removesuffix(".nii.gz"): p for p in sorted(folder.glob("*.nii.gz"))}

    @property
    def bundle_volumes(self) -> dict[str, NiftiVolumeResource]:
        """Image of each tract by its name; nothing is read yet."""
        return {name: NiftiVolumeResource(path) for name, path in self.bundles.items()}

    @cached_property
    def timings(self) -> dict[str, float]:
        return read_facts(self.names.path("timings.json"))

    @cached_property
    def scan_facts(self) -> dict[str, Any]:
        """What was noted of the scan when it was at hand; see :func:`arcuate.report.scan.keep_scan_facts`."""
        return read_facts(self.names.path("desc-scan_facts.json"))

    @cached_property
    def sidecars(self) -> dict[str, dict[str, Any]]:
        """One sidecar per step that left one."""
        first = {
            "denoise": self.names.path("desc-denoised_dwi.json"),
            "mask": self.names.path("desc-brain_mask.json"),
        }
        for step, model, param in (("dti", "tensor", "fa"), ("noddi", "noddi", "icvf")):
            if found := self.get_map(model, param):
                first[step] = sidecar_of(found.path)
        for param in ("fod", "peaks"):
            if self.csd_model and (found := self.get_map(self.csd_model, param)):
                first[param] = sidecar_of(found.path)
        facts = {step: read_facts(path) for step, path in first.items()}
        return {step: content for step, content in facts.items() if content}


def read_facts(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if the file is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def find_subjects(folder: Path) -> list[SubjectFiles]:
    """Every scan with derivatives in or below ``folder``: that of the whole data set, a subject's, or its ``dwi``.

    Raises
    ------
    InputError
        There are none.
    """
    folder = Path(folder)
    found: dict[tuple[Path, str], SubjectFiles] = {}
    for path in sorted(folder.rglob("*_timings.json")):
        out = next((p for p in path.parents if (p / "dataset_description.json").is_file()), None)
        if out is None:
            continue
        names = Derivatives(out, path.name.removesuffix("_timings.json"))
        if names.folder == path.parent:
            found[out, names.prefix] = SubjectFiles(names)
    if not found:
        raise InputError(
            f"found no finished run in {folder}; expected a folder that `arcuate run --out` wrote (with "
            "dataset_description.json in it, or above it). Run it first."
        )
    return list(found.values())
