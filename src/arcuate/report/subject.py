"""What a run left in its folder, as its list of outputs says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arcuate.errors import InputError
from arcuate.io import FslBvalResource, FslBvecResource, NiftiVolumeResource
from arcuate.models.multitissue import tissue_fractions
from arcuate.models.response import Response
from arcuate.study.bids import Derivatives, read_json, sidecar_of
from arcuate.study.outputs import OutputFile, RunRecord, read_record, record_path

if TYPE_CHECKING:
    from arcuate.dwi import Dwi

TISSUES = ("wm", "gm", "csf")
MOST_NAMED = 5  # missing files in one sentence


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
    """The derivatives of one scan: those that the list of its run names, and that are there.

    Parameters
    ----------
    names : where they lie
    so_far : the list of a run that goes on; read from disk, where it must be finished, if None
    """

    names: Derivatives
    so_far: RunRecord | None = None

    @cached_property
    def record(self) -> RunRecord:
        """What the run says of itself.

        Raises
        ------
        InputError
            There is no list of outputs, it cannot be read, or the run was stopped before its end.
        """
        if self.so_far is not None:
            return self.so_far
        record = read_record(self.names)
        if record is None:
            raise InputError(
                f"found no {record_path(self.names).name} in {self.names.folder}: the list of what a run wrote, which "
                "versions before it did not keep. Run `arcuate run` on the scan again; the report is drawn from it."
            )
        if not record.is_finished:
            raise InputError(
                f"the run that wrote to {self.names.folder} was stopped before its end; start the same `arcuate run` "
                "again to go on."
            )
        return record

    def files(self, role: str, step: str | None = None) -> list[OutputFile]:
        """Files of a role, of one step if it is given, in the order in which they were written."""
        return [
            file
            for file in self.record.files
            if file.role == role and step in {None, file.step} and self.path_of(file).is_file()
        ]

    @property
    def missing_in_words(self) -> str:
        """What the run wrote and is no longer there, in one sentence; empty where all is."""
        names = [Path(f.path).name for f in self.record.files if f.role != "page" and not self.path_of(f).is_file()]
        if not names:
            return ""
        n = len(names)
        listed = ", ".join(names[:MOST_NAMED]) + (" ..." if n > MOST_NAMED else "")
        found = f"{n} file{'' if n == 1 else 's'} that the run wrote {'is' if n == 1 else 'are'} missing ({listed})"
        return f"{found}: the page shows nothing of them; start the same `arcuate run` again to make them"

    def path_of(self, file: OutputFile) -> Path:
        """Where a file of the list lies."""
        return self.names.out / file.path

    def _first(self, role: str) -> Path | None:
        return next((self.path_of(file) for file in self.files(role)), None)

    @cached_property
    def maps(self) -> list[MapFile]:
        """Every parameter map, by name."""
        found = [
            MapFile(file.model or "", file.param or "", file.label, self.path_of(file)) for file in self.files("map")
        ]
        return sorted(found, key=lambda m: m.path.name)

    def get_map(self, model: str, param: str) -> MapFile | None:
        """One map; that of white matter where there is one per tissue."""
        of_name = [m for m in self.maps if m.model == model and m.param == param and m.label in {None, "wm"}]
        return of_name[0] if of_name else None

    @cached_property
    def mask(self) -> NiftiVolumeResource | None:
        path = self._first("mask")
        return None if path is None else NiftiVolumeResource(path)

    @cached_property
    def denoised(self) -> Dwi | None:
        from arcuate.dwi import Dwi

        image, bval, bvec = (self._first(role) for role in ("denoised", "bval", "bvec"))
        if image is None or bval is None or bvec is None:
            return None
        scan = Dwi(NiftiVolumeResource(image), FslBvalResource(bval), FslBvecResource(bvec))
        threshold = self.steps.get("denoise", {}).get("B0Threshold", scan.b0_threshold)
        return Dwi(scan.volume, scan.bval, scan.bvec, threshold)

    @cached_property
    def noise(self) -> NiftiVolumeResource | None:
        path = self._first("noise")
        return None if path is None else NiftiVolumeResource(path)

    @cached_property
    def csd_model(self) -> str | None:
        """BIDS label of the model of the FODs."""
        return next((m.model for m in self.maps if m.param == "fod"), None)

    @cached_property
    def response(self) -> Response | None:
        facts = self.steps.get("response")
        return None if facts is None else Response.from_dict(facts)

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
        return {file.label or "": self.path_of(file) for file in self.files("tract")}

    @property
    def bundle_volumes(self) -> dict[str, NiftiVolumeResource]:
        """Image of each tract by its name; nothing is read yet."""
        return {name: NiftiVolumeResource(path) for name, path in self.bundles.items()}

    @cached_property
    def timings(self) -> dict[str, float]:
        """Seconds by stage."""
        path = self._first("timings")
        return {} if path is None else read_json(path)

    @cached_property
    def scan_facts(self) -> dict[str, Any]:
        """What was noted of the scan when it was at hand; see :func:`arcuate.report.scan_facts.keep_scan_facts`."""
        path = self._first("scan facts")
        return {} if path is None else read_json(path)

    @property
    def steps(self) -> dict[str, dict[str, Any]]:
        """Facts of each step that was done, in the order of the run."""
        return self.record.steps

    @property
    def left_out(self) -> dict[str, str]:
        """Why each step that was not done was left out."""
        return self.record.left_out


def read_facts(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if the file is not there."""
    return read_json(path) if path.is_file() else {}


def find_subjects(folder: Path) -> list[SubjectFiles]:
    """Every scan with derivatives in or below ``folder``: that of the whole data set, a subject's, or its ``dwi``.

    Raises
    ------
    InputError
        There are none, or a list of outputs that cannot be read.
    """
    folder = Path(folder)
    found = [subject for path in sorted(folder.rglob("*_run.json")) if (subject := _subject_of(path)) is not None]
    if found:
        return found
    old = next(folder.rglob("*_timings.json"), None)
    if old is not None:
        raise InputError(
            f"found derivatives in {old.parent} without a list of outputs (..._run.json): a version of arcuate that "
            "kept none wrote them. Run `arcuate run` on the scan again; the report is drawn from that list."
        )
    raise InputError(
        f"found no finished run in {folder}; expected a folder that `arcuate run --out` wrote, or one above or below "
        "it. Run it first."
    )


def _subject_of(path: Path) -> SubjectFiles | None:
    """The scan whose list of outputs lies at ``path``; None where another program wrote it."""
    content = read_json(path)
    if content.get("Type") != "arcuate run":
        return None
    prefix, inner = str(content.get("Prefix", "")), Path(str(content.get("Folder", "")))
    folder = path.resolve().parent if path.parent == Path() else path.parent
    out = folder if folder.parts[-len(inner.parts) :] != inner.parts else Path(*folder.parts[: -len(inner.parts)])
    names = Derivatives(out, prefix)
    return SubjectFiles(names) if names.folder == folder else None
