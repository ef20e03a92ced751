"""What a run wrote: every file with its role, its step, what it was made from and its sha256.

The list is ``<prefix>_run.json``; report, viewer and freshness read nothing else. A file of a former run that this one
does not make is removed where the former list names it and its bytes are still those; nothing else is ever removed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from arcuate._version import __version__
from arcuate.cache import file_sha256
from arcuate.errors import InputError
from arcuate.nets.bundle_names import TRACTS
from arcuate.study.bids import (
    Derivatives,
    as_plain,
    input_facts,
    read_json,
    sidecar_of,
    uri_of,
    warn_of_another_image,
    write_json,
    write_map,
)
from arcuate.study.maps import FREE_WATER_MAPS, INTEGRITY_MAPS, KURTOSIS_MAPS, NODDI_MAPS, TENSOR_MAPS, Map

if TYPE_CHECKING:
    from arcuate.volumes.resource import VolumeResource

FORMAT = 1  # of the list; a reader refuses another one
REPORT = "report"  # step of the files that only the page needs


def _names(pattern: str, *words: str) -> tuple[str, ...]:
    """``pattern`` with each choice of the words in place of its ``{}``, words of one place separated by spaces."""
    names = [pattern]
    for choice in words:
        names = [name.replace("{}", word, 1) for name in names for word in choice.split()]
    return tuple(names)


# Files that each step may write, after the prefix: checked against the inputs before anything is read.
FILES: dict[str, tuple[str, ...]] = {
    "denoise": (*_names("desc-denoised_dwi{}", ".nii.gz .bval .bvec"), "desc-noise_dwimap.nii.gz"),
    "mask": ("desc-brain_mask.nii.gz",),
    "dti": _names("model-tensor_param-{}_dwimap.nii.gz", " ".join(TENSOR_MAPS)),
    "kurtosis": _names("model-kurtosis_param-{}_dwimap.nii.gz", " ".join((*KURTOSIS_MAPS, *INTEGRITY_MAPS))),
    "freewater": _names("model-fwdti_param-{}_dwimap.nii.gz", " ".join(FREE_WATER_MAPS)),
    "noddi": _names("model-noddi_param-{}_dwimap.nii.gz", " ".join(NODDI_MAPS)),
    "response": _names("model-{}_label-{}_response.{}", "csd msmtcsd", "wm gm csf", "txt json"),
    "fod": (
        *_names("model-{}_param-{}_dwimap.nii.gz", "csd msmtcsd", "fod afd"),
        *_names("model-msmtcsd_param-{}_label-{}_dwimap.nii.gz", "fod fraction", "wm gm csf"),
    ),
    "peaks": _names("model-{}_param-{}_dwimap.nii.gz", "csd msmtcsd", "peaks peakafd"),
    "tracts": tuple(f"bundles/{name}.nii.gz" for name in ("tract_segmentation", *TRACTS)),
    "regions": ("desc-atlas_dseg.nii.gz", "desc-atlas_regions.tsv", "desc-atlas_regions.json"),
    REPORT: (
        "timings.json",
        "desc-scan_facts.json",
        *_names("desc-{}_dwiref.nii.gz", "b0 lowestb"),
        *_names("desc-denoising_{}.png", "before after residuals"),
    ),
}


_NO_SOURCE = {"sidecar", "timings", "noise"}  # roles of files that no later step reads


@dataclass(frozen=True)
class OutputFile:
    """One file of a run.

    Parameters
    ----------
    path : below the output folder, with slashes
    role : what it is: "map", "mask", "denoised", "bval", "response", "tract", "sidecar" ...
    step : which step of the run made it
    made_from : steps, or inputs by their role
    sha256 : of its bytes; None where they say how long things took, and differ from run to run
    model, param, label : of a map
    """

    path: str
    role: str
    step: str
    made_from: tuple[str, ...] = ()
    sha256: str | None = None
    model: str | None = None
    param: str | None = None
    label: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the list says it."""
        keys = {"Model": self.model, "Param": self.param, "Label": self.label}
        return {
            "File": self.path,
            "Role": self.role,
            "Step": self.step,
            **{key: value for key, value in keys.items() if value is not None},
            "MadeFrom": list(self.made_from),
            "SHA256": self.sha256,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> OutputFile:
        """From :meth:`to_dict`."""
        return cls(
            str(content["File"]), str(content["Role"]), str(content["Step"]), tuple(content["MadeFrom"]),
            content["SHA256"], content.get("Model"), content.get("Param"), content.get("Label"),
        )  # fmt: skip


@dataclass(frozen=True)
class RunRecord:
    """What a run did, and every file that it wrote.

    Parameters
    ----------
    is_finished : False while the run goes on, and after it was stopped
    inputs : name and sha256 of each file that was read, by its role
    options : what the user asked for
    steps : facts of each step that was done, in order, as its sidecars say them
    left_out : one sentence for each step that was not done
    scan : how the scan was made from its files, see ``origin`` of :class:`arcuate.dwi.Dwi`
    files : in the order in which they were written
    """

    is_finished: bool = False
    inputs: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    scan: dict[str, Any] = field(default_factory=dict)
    files: tuple[OutputFile, ...] = ()

    def to_dict(self, names: Derivatives) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "Type": "arcuate run",
            "Format": FORMAT,
            "GeneratedBy": [{"Name": "arcuate", "Version": __version__}],
            "Finished": self.is_finished,
            "Prefix": names.prefix,
            "Folder": PurePosixPath(names.folder.relative_to(names.out)).as_posix(),
            "Inputs": self.inputs,
            "Options": self.options,
            "Scan": self.scan,
            "Steps": self.steps,
            "LeftOut": self.left_out,
            "Files": [file.to_dict() for file in self.files],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], path: Path) -> RunRecord:
        """From :meth:`to_dict`; ``path`` is named where it is no such list."""
        if content.get("Type") != "arcuate run" or content.get("Format") != FORMAT:
            raise InputError(
                f"{path} is no list of outputs that this version of arcuate reads; run `arcuate run` on the scan again."
            )
        try:
            files = tuple(OutputFile.from_dict(file) for file in content["Files"])
            return cls(
                content["Finished"], content["Inputs"], content["Options"], content["Steps"], content["LeftOut"],
                content["Scan"], files,
            )  # fmt: skip
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{path} is incomplete ({error!r}); expected the list of what a run wrote. Run `arcuate run` again."
            ) from error

    def without(self, step: str) -> RunRecord:
        """The record as if ``step`` had written nothing."""
        return replace(self, files=tuple(file for file in self.files if file.step != step))


def record_path(names: Derivatives) -> Path:
    """``<prefix>_run.json``."""
    return names.path("run.json")


def read_record(names: Derivatives) -> RunRecord | None:
    """What the run that wrote to ``names`` says of itself; None where there is no list of outputs.

    Raises
    ------
    InputError
        The list was cut short, or another version wrote it.
    """
    path = record_path(names)
    return RunRecord.from_dict(read_json(path), path) if path.is_file() else None


class Outputs:
    """Writes every file of a run, and keeps the list of them."""

    def __init__(self, names: Derivatives, inputs: Mapping[str, Path], origin: Mapping[str, Any] | None = None) -> None:
        self.names = names
        self._inputs = dict(inputs)
        try:
            self._former = read_record(names)
        except InputError:  # of a list that cannot be read nothing is known, and nothing is removed
            self._former = None
        self._common = {"Inputs": input_facts(self._inputs), **as_plain(dict(origin or {}))}
        warn_of_another_image(names.folder, self._former.inputs if self._former else {}, self._common["Inputs"])
        self.links: dict[str, str] = {}  # address of each data set that inputs lie in, by its name in Sources
        self._uris = {role: uri for role, path in self._inputs.items() if (uri := uri_of(path, names.out, self.links))}
        self._files: dict[str, OutputFile] = {}
        self._record = RunRecord(inputs=self._common["Inputs"], scan=as_plain(dict(origin or {})))

    def _sources(self, made_from: Iterable[str]) -> list[str]:
        """BIDS URIs of the files that a result comes from: inputs by their role, files of steps by the step."""
        found: list[str] = []
        for origin in made_from:
            roles = ("dwi", "bval", "bvec", "grad") if origin == "dwi" else (origin,)
            found += [uri for role, uri in self._uris.items() if role.startswith(roles)]
            found += [f"bids::{f.path}" for f in self._files.values() if f.step == origin and f.role not in _NO_SOURCE]
        return list(dict.fromkeys(found))

    def image(
        self,
        name: str,
        volume: VolumeResource,
        facts: Mapping[str, Any],
        *,
        role: str,
        step: str,
        made_from: tuple[str, ...],
    ) -> VolumeResource:
        """Write an image and its sidecar under the prefix; the image backed by its file."""
        return self._image(OutputFile(self._relative(self.names.path(name)), role, step, made_from), volume, facts)

    def maps(
        self, model: str, maps: Iterable[Map], facts: Mapping[str, Any], *, step: str, made_from: tuple[str, ...]
    ) -> None:
        """Write maps of a model under their BIDS names."""
        for image in maps:
            path = self._relative(self.names.dwimap(model, image.param, image.label))
            file = OutputFile(path, "map", step, made_from, None, model, image.param, image.label)
            self._image(file, image.volume, {**image.facts, **facts})

    def tract(self, image: Map, facts: Mapping[str, Any], *, role: str, made_from: tuple[str, ...]) -> None:
        """Write the mask of a tract, or the image of all of them, to ``<prefix>_bundles/``."""
        path = self._relative(self.names.path("bundles") / f"{image.param}.nii.gz")
        self._image(OutputFile(path, role, "tracts", made_from, label=image.param), image.volume, facts)

    def add(
        self, path: Path, *, role: str, step: str, made_from: tuple[str, ...] = (), label: str | None = None
    ) -> None:
        """List a file that was written just now."""
        relative = self._relative(path)
        self._files[relative] = OutputFile(relative, role, step, made_from, file_sha256(path), label=label)

    def add_unhashed(self, path: Path, *, role: str, step: str) -> None:
        """List a file whose bytes differ from run to run."""
        relative = self._relative(path)
        self._files[relative] = OutputFile(relative, role, step)

    def check(self, path: Path) -> Path:
        """``path``, if it is none of the files that the run reads."""
        refuse_overwriting([path], self._inputs)
        return path

    def note(self, step: str, facts: Mapping[str, Any], warned: Sequence[str] = ()) -> None:
        """Take down the facts of a finished step and what it warned of, and save the list as far as it goes."""
        facts = {**facts, "Warnings": [*warned]} if warned else facts
        self._record = replace(self._record, steps={**self._record.steps, step: as_plain(facts)})
        self.save()

    def describe(self, **facts: Any) -> None:
        """Fill other fields of the record: ``options``, ``left_out``."""
        self._record = replace(self._record, **{name: as_plain(value) for name, value in facts.items()})

    @property
    def record(self) -> RunRecord:
        """The record as it stands."""
        return replace(self._record, files=tuple(self._files.values()))

    @property
    def repeats(self) -> bool:
        """Whether a run of the same inputs and options ended here before."""
        was, now = self._former or RunRecord(), self._record
        return was.is_finished and (was.inputs, was.options) == (now.inputs, now.options)

    def save(self) -> None:
        """Write the list of a run that goes on: what is written, and what a former run left."""
        left = [file for file in (self._former.files if self._former else ()) if file.path not in self._files]
        unfinished = replace(self.record, files=(*self._files.values(), *left))
        write_json(record_path(self.names), unfinished.to_dict(self.names))

    def finish(self) -> list[str]:
        """Remove what a former run left and this one does not make, and write the list; a sentence for each doubt."""
        self._record = replace(self._record, is_finished=True)
        if self._former and _is_same_run(self._former, self.record):
            for file in self._former.files:  # the page's own files hold as long as the run is the same
                if file.step == REPORT and file.sha256 and self._is_untouched(file):
                    self._files.setdefault(file.path, file)
        sentences = self._remove_leftovers()
        write_json(record_path(self.names), self.record.to_dict(self.names))
        return sentences

    def _remove_leftovers(self) -> list[str]:
        if self._former is None:
            return self._unlisted()
        kept, gone = [], []
        for file in self._former.files:
            path = self.names.out / file.path
            if file.path in self._files or file.sha256 is None or not path.is_file():
                continue
            if self._is_untouched(file):
                path.unlink()
                gone += [file.step] * (file.step != REPORT)  # what only the page needs comes and goes with it
                with contextlib.suppress(OSError):  # a folder that is not empty stays
                    if path.parent != self.names.folder:
                        path.parent.rmdir()
            else:
                kept.append(path.name)
        steps = ", ".join(dict.fromkeys(gone))
        told = [f"removed what a former run made and this one does not: {len(gone)} files of {steps}."] if gone else []
        if kept:
            told.append(f"{', '.join(kept)} of a former run changed since then; left as it is, no part of this run.")
        return told

    def _unlisted(self) -> list[str]:
        """What lies there under the prefix although no list names it."""
        known = {self.names.out / path for path in self._files} | {record_path(self.names)}
        n_unknown = len(self.names.files() - known)
        if not n_unknown:
            return []
        files = "1 file" if n_unknown == 1 else f"{n_unknown} files"
        return [
            f"{files} of {self.names.prefix} in {self.names.folder} stand in no list of outputs (an earlier version of "
            "arcuate kept none); left as they are, and no part of this run."
        ]

    def _image(self, file: OutputFile, volume: VolumeResource, facts: Mapping[str, Any]) -> VolumeResource:
        path = self.check(self.names.out / file.path)
        sources = self._sources(file.made_from)
        saved = write_map(volume, path, {**facts, **self._common, **({"Sources": sources} if sources else {})})
        self._files[file.path] = replace(file, sha256=file_sha256(path))
        self.add(sidecar_of(path), role="sidecar", step=file.step, made_from=file.made_from)
        return saved

    def _is_untouched(self, file: OutputFile) -> bool:
        path = self.names.out / file.path
        is_inside = self.names.out.resolve() in path.resolve().parents
        return is_inside and path.is_file() and not path.is_symlink() and file_sha256(path) == file.sha256

    def _relative(self, path: Path) -> str:
        return PurePosixPath(path.relative_to(self.names.out)).as_posix()


def _is_same_run(former: RunRecord, now: RunRecord) -> bool:
    """Whether two records differ in nothing but the files that only the page needs."""
    ours, theirs = (replace(record.without(REPORT), is_finished=True) for record in (now, former))
    return ours == theirs


def refuse_overwriting(outputs: Iterable[Path], inputs: Mapping[str, Path]) -> None:
    """Refuse outputs that are inputs: the same file under whatever name, through links as well.

    Raises
    ------
    InputError
        The first such file; its role among the inputs is named.
    """
    places = {role: _identities(path) for role, path in inputs.items()}
    for output in outputs:
        ours = _identities(output)
        for role, identities in places.items():
            if ours & identities:
                raise InputError(
                    f"{output} is to be written, and it is an input ({role}: {inputs[role]}); expected another file. "
                    "Give another --out, or copy the input to another place."
                )


def _identities(path: Path) -> set[Any]:
    """What two names of one file share: the place behind links, and the file's number."""
    found: set[Any] = {os.path.realpath(path)}  # unlike resolve() no error where links lead in a circle
    with contextlib.suppress(OSError):
        status = path.stat()
        found.add((status.st_dev, status.st_ino))
    return found


def possible_files(names: Derivatives) -> list[Path]:
    """Every file that a run may write under ``names``."""
    found = [names.report, record_path(names)]
    for name in (name for files in FILES.values() for name in files):
        path = names.folder / f"{names.prefix}_{name}"
        found += [path, sidecar_of(path)] if name.endswith(".nii.gz") else [path]
    return found
