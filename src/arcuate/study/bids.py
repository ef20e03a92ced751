"""Names, sidecars and folders of the output: BIDS derivatives, after draft BEP016."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from arcuate._version import __version__
from arcuate.cache import file_sha256
from arcuate.errors import InputError, warn
from arcuate.gradients import GradientTable
from arcuate.io import beside_image, image_stem, locks, save_volume, write_text_atomically, written_together
from arcuate.io.names import bids_entities
from arcuate.volumes.resource import VolumeResource

BIDS_VERSION = "1.10.0"
_ENTITY = re.compile(r"^[a-zA-Z0-9]+-[a-zA-Z0-9+]+$")
IGNORED = """# Names that the standard has not merged (draft BEP016), and what only arcuate reads.
.arcuate-cohort/
.arcuate-cache/
logs/
group/
participants_status.*
methods.md
*.html
*_run.json
*_timings.json
*_facts.json
*_dwimap.*
*_dwiref.*
*_response.*
*_desc-denoising_*
*_desc-denoised_dwi.bv*
*_bundles/
"""  # read by the official validator
SCANNER_FRAME = "scanner (RAS+): x to the right, y to the front, z up, as the affine maps voxels"


@dataclass(frozen=True)
class Derivatives:
    """Where the results of one scan go, and what they are called.

    Parameters
    ----------
    out : folder of the whole data set
    prefix : what every file name begins with, as ``sub-01_ses-02_acq-b3000``
    """

    out: Path
    prefix: str

    @classmethod
    def of_scan(cls, out: Path, scan: Path) -> Derivatives:
        """Names for the results of the scan at ``scan``; a name that is not BIDS keeps its stem as prefix."""
        return cls(Path(out), scan_prefix(scan))

    def named(self, subject: str | None, session: str | None) -> Derivatives:
        """The same folder, the scan named after a subject, and a session, in place of its file's own name.

        Other entities of a BIDS name (``acq-b3000``) stay.

        Raises
        ------
        InputError
            A label that BIDS does not take, or a session of a scan without a subject.
        """
        entities = self.entities
        for key, given in (("sub", subject), ("ses", session)):
            if given is None:
                continue
            label = given.removeprefix(f"{key}-")
            if not (label.isalnum() and label.isascii()):
                option = "--subject" if key == "sub" else "--session"
                raise InputError(f"found {option} {given}; expected letters and digits, as 01 or {key}-01.")
            entities[key] = f"{key}-{label}"
        if session is not None and "sub" not in entities:
            raise InputError(f"found --session {session} for a scan whose name has no subject; give --subject as well.")
        if subject is None and session is None:
            return self
        first = [entities.pop(key) for key in ("sub", "ses") if key in entities]
        return Derivatives(self.out, "_".join([*first, *entities.values()]))

    @property
    def subject(self) -> str:
        """First part of the prefix, as ``sub-01``, or the whole of it where the input is not BIDS."""
        return self.entities.get("sub", self.prefix)

    @property
    def entities(self) -> dict[str, str]:
        """Label by key, the key kept in front: ``{"sub": "sub-01", "ses": "ses-02"}``; empty where not BIDS."""
        parts = self.prefix.split("_")
        if not (parts[0].startswith("sub-") and all(_ENTITY.match(p) for p in parts)):
            return {}
        return {p.split("-", 1)[0]: p for p in parts}

    @property
    def folder(self) -> Path:
        """``<out>/sub-01[/ses-02]/dwi``."""
        session = self.entities.get("ses")
        base = self.out / self.subject
        return (base / session if session else base) / "dwi"

    @contextlib.contextmanager
    def written_alone(self) -> Iterator[None]:
        """A block in which no other process, nor another thread, writes these results.

        Raises
        ------
        InputError
            Another one does at this moment.
        """
        with locks.alone(self.folder / f".{self.prefix}_run.lock") as is_alone:
            if not is_alone:
                raise InputError(
                    f"another run writes {self.prefix} into {self.folder} at this moment; expected one at a time. "
                    "Start again when it has ended, or give another --out."
                )
            yield

    @property
    def report(self) -> Path:
        """``<out>/sub-01.html``, with the prefix where one subject has several scans."""
        return self.out / f"{self.prefix}.html"

    def path(self, name: str) -> Path:
        """Path of one result, ``name`` such as ``desc-brain_mask.nii.gz``."""
        return self.folder / f"{self.prefix}_{name}"

    def files(self) -> set[Path]:
        """The results that lie in the folder, whatever wrote them."""
        paths = self.folder.iterdir() if self.folder.is_dir() else ()
        return {path for path in paths if path.name.startswith(f"{self.prefix}_") and path.is_file()}

    def dwimap(self, model: str, param: str, label: str | None = None) -> Path:
        """Path of a parameter map, as ``..._model-tensor_param-fa_dwimap.nii.gz``."""
        middle = f"model-{model}_param-{param}" + (f"_label-{label}" if label else "")
        return self.path(f"{middle}_dwimap.nii.gz")

    def write_dataset_description(self, links: Mapping[str, str] | None = None) -> Path:
        """``<out>/dataset_description.json``, and ``.bidsignore``; what is there already stays.

        Parameters
        ----------
        links : address of each data set that files come from, by the name that ``Sources`` in sidecars call it
        """
        path = self.out / "dataset_description.json"
        if not (self.out / ".bidsignore").exists():
            write_text_atomically(self.out / ".bidsignore", IGNORED)
        content: dict[str, Any] = {
            "Name": "arcuate derivatives",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "arcuate", "Version": __version__}],
        }
        if path.exists():
            if not links or not is_own_dataset(self.out):  # a description of somebody else's is left alone
                return path
            content = read_json(path)
        if links:
            content["DatasetLinks"] = {**content.get("DatasetLinks", {}), **links}
        write_json(path, content)
        return path


def is_own_dataset(out: Path) -> bool:
    """Whether arcuate made the data set in ``out``, as its description says."""
    try:
        makers = read_json(out / "dataset_description.json").get("GeneratedBy")
    except InputError:
        return False
    return isinstance(makers, list) and any(isinstance(m, dict) and m.get("Name") == "arcuate" for m in makers)


def dataset_of(path: Path) -> Path | None:
    """Folder of the BIDS data set that a file lies in; None where it lies in none."""
    return next((folder for folder in path.absolute().parents if (folder / "dataset_description.json").is_file()), None)


def link_to(root: Path, out: Path, links: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Name by which files in ``out`` call the data set in ``root``, and its address: ("input", "file:///data/bids").

    Names in ``links``, and those that the description in ``out`` has, are taken.
    """
    address = root.resolve().as_uri()
    try:
        known = read_json(out / "dataset_description.json").get("DatasetLinks") or {}
    except InputError:
        known = {}
    known = {**known, **(links or {})}
    names = ("input", *(f"input{i}" for i in range(2, len(known) + 3)))
    return next(name for name in names if known.get(name, address) == address), address


def scan_prefix(scan: Path) -> str:
    """Stem of a scan's file name without the suffixes of images (in whatever case) and ``_dwi``.

    In derivatives ``desc-preproc`` is left out: each result has a ``desc-`` of its own, and BIDS allows one.
    """
    stem = image_stem(scan)
    prefix = stem.removesuffix("_dwi") or stem
    if not prefix.startswith("sub-") or not bids_entities(stem)[0]:
        return prefix
    return "_".join(part for part in prefix.split("_") if not part.startswith("desc-"))


def sidecar_of(image: Path) -> Path:
    """``x.json`` for ``x.nii.gz``."""
    return beside_image(image, ".json")


def write_map(
    volume: VolumeResource, path: Path, facts: dict[str, Any], gradients: GradientTable | None = None
) -> VolumeResource:
    """Write an image and its JSON sidecar, each whole or not at all; the volume backed by the file.

    The name tells the format; ``gradients`` go into the header of a ``.mif``.

    What is there already with the same bytes is left as it is, so that a run that only confirms its results does not
    touch them.
    """
    with written_together():
        saved = save_volume(volume, path, gradients)
        write_json(sidecar_of(path), {**facts, "GeneratedBy": [{"Name": "arcuate", "Version": __version__}]})
    return saved


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` as JSON, whole or not at all."""
    text = json.dumps(content, indent=2, default=_as_json, ensure_ascii=False) + "\n"
    write_text_atomically(path, text, if_other=True)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises
    ------
    InputError
        The file cannot be read, was cut short, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or f"it is no whole JSON ({error})"
        raise InputError(
            f"{path} cannot be read: {reason}. Restore it, or run `arcuate run` on the scan again."
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"found a {type(content).__name__} in {path}; expected a JSON object, as arcuate writes it.")
    return content


def as_plain(content: Any) -> Any:
    """``content`` as JSON gives it back: numbers, strings, lists and dicts alone."""
    return json.loads(json.dumps(content, default=_as_json))


def input_facts(paths: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """Name and sha256 of each input file, for a sidecar."""
    return {role: {"File": path.name, "SHA256": file_sha256(path)} for role, path in paths.items()}


def warn_of_another_image(folder: Path, former: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Warn where the results in ``folder``, made from the inputs ``former``, are of another image than ``present``."""
    before, now = (inputs.get("dwi") or {} for inputs in (former, present))
    if before and now and before.get("SHA256") != now["SHA256"]:
        warn(
            f"{folder} holds the results of another image ({before.get('File')}, of other content): this run replaces "
            "them. If that was another subject, name this one (--subject), or give another --out."
        )


def uri_of(path: Path, out: Path, links: dict[str, str]) -> str:
    """BIDS URI of an input of the data set ``out``; empty where it lies in none; ``links`` gets its address."""
    root = dataset_of(path)
    if root is None:
        return ""
    name, address = link_to(root, out, links)
    links[name] = address
    return f"bids:{name}:{PurePosixPath(path.absolute().relative_to(root)).as_posix()}"


def _as_json(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
