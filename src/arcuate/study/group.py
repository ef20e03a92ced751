"""What a cohort's subjects say together: the mean response, and a table of key numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.errors import InputError
from arcuate.io import NiftiVolumeResource
from arcuate.io.responses import write_response
from arcuate.io.tables import MISSING, Table
from arcuate.models.response import Response
from arcuate.models.response_mean import are_alike, mean_response
from arcuate.study.bids import Derivatives, read_json, write_json
from arcuate.study.bids_index import facts_of_file
from arcuate.study.cohort import WORK
from arcuate.study.outputs import RunRecord, read_record, record_path

GROUP = "group"  # folder of the group's results, below the derivatives
WHITE_FA, WHITE_MD = 0.25, 1.1e-3  # a voxel of white matter has at least this FA, and at most this MD (mm²/s)
FAR = 3.5  # robust z from which a subject is an outlier
LEAST = 5  # subjects that a spread rests on


@dataclass(frozen=True)
class Measure:
    """A column of the group's table."""

    name: str
    title: str
    description: str
    unit: str = ""


_WHITE = f"in white matter: voxels of the mask with FA >= {WHITE_FA} and MD <= {WHITE_MD} mm²/s"
MEASURES = (
    Measure("snr_b0", "SNR at b=0", "Median signal over noise of one b=0 volume"),
    Measure("neighbour_correlation", "Neighbouring directions", "Mean correlation over the brain of each weighted "
            "volume with that of the nearest direction: noise, motion and dropout lower it"),
    Measure("outlier_volumes", "Outlier volumes", "Volumes far from the others of their shell, whole or in a "
            "slice: motion, dropout"),
    Measure("brain_ml", "Brain mask", "Volume of the brain mask", "mL"),
    Measure("white_voxels", "White-matter voxels", f"Voxels {_WHITE}"),
    Measure("fa", "FA", f"Mean fractional anisotropy {_WHITE}"),
    Measure("md", "MD", f"Mean of mean diffusivity {_WHITE}", "mm²/s"),
    Measure("ndi", "NDI", f"Mean neurite density index {_WHITE}"),
    Measure("odi", "ODI", f"Mean orientation dispersion index {_WHITE}"),
    Measure("fwf", "FWF", f"Mean free water fraction {_WHITE}"),
    Measure("peaks", "Peaks per voxel", f"Mean number of peaks of the fibre orientations {_WHITE}"),
    Measure("dti_not_fitted", "Tensor: not fitted", "Share of voxels whose tensor has another status than fitted", "%"),
    Measure("noddi_not_fitted", "NODDI: not fitted", "Share of voxels whose NODDI has another status than fitted", "%"),
    Measure("fod_not_fitted", "FOD: not fitted", "Share of voxels whose FOD has another status than fitted", "%"),
)  # fmt: skip
_MAPS = {"fa": ("tensor", "fa"), "md": ("tensor", "md"), "ndi": ("noddi", "icvf"), "odi": ("noddi", "odi"),
         "fwf": ("noddi", "isovf")}  # fmt: skip


@dataclass(frozen=True)
class SubjectRow:
    """Key numbers of one scan; None where its run did not make what they come from."""

    subject: str
    session: str
    prefix: str
    values: dict[str, float | None]

    @property
    def name(self) -> str:
        """``sub-01 ses-02``."""
        return f"{self.subject} {self.session}".strip()


def find_runs(out: Path) -> list[Derivatives]:
    """Every scan whose run to ``out`` has ended, by name.

    Raises
    ------
    InputError
        The folder holds none.
    """
    found = sorted(_runs_in(out), key=lambda names: names.prefix) if out.is_dir() else []
    if not found:
        raise InputError(
            f"found no finished run in {out}; expected derivatives of `arcuate cohort BIDS_DIR {out} participant`."
        )
    return found


def _runs_in(out: Path) -> Iterator[Derivatives]:
    for subject in _folders(out, "sub-"):
        for place in (subject, *_folders(subject, "ses-")):
            dwi = place / "dwi"
            if dwi.is_dir():
                yield from (Derivatives(out, p.name.removesuffix("_run.json")) for p in dwi.glob("*_run.json"))


def _folders(folder: Path, key: str) -> list[Path]:
    with os.scandir(folder) as entries:
        return [folder / e.name for e in entries if e.name.startswith(key) and e.is_dir()]


def average_responses(out: Path) -> tuple[Response, list[str], list[str]]:
    """Mean of the responses of all finished runs, the scans that it is of, and sentences on those left out.

    Where responses differ in tissues or shells, those that agree with most are averaged.

    Raises
    ------
    InputError
        No run estimated a response.
    """
    kinds: list[list[tuple[str, Response]]] = []
    left_out: list[str] = []
    for names in find_runs(out):
        record = finished_record(names)
        facts = record.steps.get("response") if record is not None else None
        if facts is None:
            left_out.append(f"{names.prefix} has no response")
            continue
        response = Response.from_dict(facts)
        if response.algorithm in {"mean", "file"}:
            left_out.append(f"{names.prefix} was run with a given response")
            continue
        kind = next((kind for kind in kinds if are_alike(kind[0][1], response)), None)
        if kind is None:
            kinds.append([(names.prefix, response)])
        else:
            kind.append((names.prefix, response))
    if not kinds:
        raise InputError(
            f"found no estimated response in {out}; expected those of `arcuate cohort ... participant`, in which the "
            "step response is done."
        )
    most = max(kinds, key=len)
    for kind in kinds:
        if kind is not most:
            shells = ", ".join(f"{b:.0f}" for b in kind[0][1].shells)
            left_out += [f"{name} has another response ({' '.join(kind[0][1].tissues)} at b = {shells} s/mm²)"
                         for name, _ in kind]  # fmt: skip
    mean = mean_response([response for _, response in most])
    return mean, [name for name, _ in most], left_out


def write_group_response(out: Path) -> tuple[list[Path], list[str], list[str]]:
    """Write the mean response to ``<out>/group/response/<tissue>.txt`` and ``.json``.

    Returns
    -------
    paths, names of the scans that it is of, sentences on those left out
    """
    mean, names, left_out = average_responses(out)
    return write_response(mean.with_origin(scans=names), out / GROUP / "response"), names, left_out


def response_files(group: Path) -> list[Path]:
    """Files of a group's response, white matter first.

    Parameters
    ----------
    group : the folder of the response, of the group, or of the derivatives

    Raises
    ------
    InputError
        There are none.
    """
    for place in (group, group / "response", group / GROUP / "response"):
        found = [path for tissue in ("wm", "gm", "csf") if (path := place / f"{tissue}.json").is_file()]
        if found:
            return found
    raise InputError(
        f"found no response in {group}; expected wm.json there or in response/. Make it with `arcuate cohort BIDS_DIR "
        "OUT group --response`."
    )


def finished_record(names: Derivatives) -> RunRecord | None:
    """What a run says of itself; None where it has not ended or cannot be read."""
    try:
        record = read_record(names)
    except InputError:
        return None
    return record if record is not None and record.is_finished else None


def collect_rows(out: Path) -> list[SubjectRow]:
    """Key numbers of every finished run; those of runs that did not change since the last time are not read again."""
    rows = []
    for names in find_runs(out):
        state = facts_of_file(record_path(names))[1:]
        kept = out / WORK / "rows" / f"{names.prefix}.json"
        values: dict[str, float | None] | None = None
        if kept.is_file():
            content = read_json(kept)
            if content.get("State") == state and set(content["Values"]) == {m.name for m in MEASURES}:
                values = content["Values"]
        if values is None:
            record = finished_record(names)
            if record is None:
                continue
            values = numbers_of(names, record)
            write_json(kept, {"State": state, "Values": values})
        session = names.entities.get("ses", "")
        rows.append(SubjectRow(names.subject, session, names.prefix, values))
    return rows


def numbers_of(names: Derivatives, record: RunRecord) -> dict[str, float | None]:
    """Key numbers of one run, by the name of their measure."""
    values: dict[str, float | None] = dict.fromkeys(m.name for m in MEASURES)
    facts = next((read_json(names.out / f.path) for f in record.files if f.role == "scan facts"), {})
    values["snr_b0"] = facts.get("snr_b0")
    values["neighbour_correlation"] = facts.get("neighbour_correlation")
    if "outliers" in facts:
        values["outlier_volumes"] = float(len({o["volume"] for o in facts["outliers"]}))
    values["brain_ml"] = record.steps.get("mask", {}).get("VolumeMl")
    for step in ("dti", "noddi", "fod"):
        counts = record.steps.get(step, {}).get("VoxelsByStatus") or {}
        if total := sum(counts.values()):
            values[f"{step}_not_fitted"] = 100.0 * (total - counts.get("fitted", 0)) / total
    maps = {(f.model, f.param): names.out / f.path for f in record.files if f.role == "map" and f.label in {None, "wm"}}
    return values | _means_in_white_matter(maps)


def _means_in_white_matter(maps: dict[tuple[str | None, str | None], Path]) -> dict[str, float | None]:
    if not {("tensor", "fa"), ("tensor", "md")} <= set(maps):
        return {}
    fa, md = (np.asarray(NiftiVolumeResource(maps["tensor", p]).get_array()) for p in ("fa", "md"))
    white = (fa >= WHITE_FA) & (md <= WHITE_MD) & (md > 0)
    values: dict[str, float | None] = {"white_voxels": float(white.sum())}
    if not white.any():
        return values
    for name, key in _MAPS.items():
        if key in maps:
            values[name] = float(np.mean(np.asarray(NiftiVolumeResource(maps[key]).get_array())[white], dtype=float))
    peaks = next((path for (model, param), path in maps.items() if param == "peakafd"), None)
    if peaks is not None:
        heights = np.asarray(NiftiVolumeResource(peaks).get_array())[white]
        values["peaks"] = float(np.mean(np.sum(heights.reshape(len(heights), -1) > 0, axis=1)))
    return values


def robust_z(values: Sequence[float | None]) -> np.ndarray:
    """(n,) distance of each value from the median over the spread, 1.4826 times the median distance; NaN for None.

    0 for all where fewer than five values are there, or where more than half are alike.
    """
    numbers = np.array([np.nan if v is None else v for v in values], dtype=float)
    known = numbers[np.isfinite(numbers)]
    if len(known) < LEAST:
        return np.where(np.isfinite(numbers), 0.0, np.nan)
    middle = np.median(known)
    spread = 1.4826 * np.median(np.abs(known - middle))
    return np.where(np.isfinite(numbers), 0.0, np.nan) if spread == 0 else (numbers - middle) / spread


def write_group_table(out: Path, rows: Sequence[SubjectRow]) -> Path:
    """Write ``<out>/group/participants_measures.tsv`` and its data dictionary; path of the table."""
    path = out / GROUP / "participants_measures.tsv"
    about: dict[str, Any] = {
        "participant_id": {"Description": "Subject"},
        "session_id": {"Description": "Session; n/a where the data set has none"},
    }
    for measure in MEASURES:
        unit = {"Units": measure.unit} if measure.unit else {}
        about[measure.name] = {"LongName": measure.title, "Description": measure.description, **unit}
    columns: dict[str, list[Any]] = {
        "participant_id": [row.subject for row in rows], "session_id": [row.session or MISSING for row in rows]
    } | {m.name: [_cell(row.values.get(m.name)) for row in rows] for m in MEASURES}  # fmt: skip
    return Table(columns, about).save(path)


def _cell(value: float | None) -> str:
    return MISSING if value is None else f"{value:.6g}"
