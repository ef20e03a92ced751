"""The page: facts, pictures, viewer and methods in one file that needs no network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arcuate.errors import of_one_cause
from arcuate.io import write_text_atomically
from arcuate.models.status import advice_of
from arcuate.report.about import about_rows
from arcuate.report.arrays import Arrays
from arcuate.report.citations import bibtex_of, with_doi
from arcuate.report.freshness import state_of
from arcuate.report.methods import methods_paragraph
from arcuate.report.pictures import sections_of
from arcuate.report.scan_facts import scan_facts
from arcuate.report.styles import step_name
from arcuate.report.subject import SubjectFiles
from arcuate.report.template import render, shared_facts
from arcuate.report.viewer import viewer_of

if TYPE_CHECKING:
    from arcuate.report.early import EarlySections

TEMPLATE = "page.html.j2"
FOLLOWS = 0.2  # correlation of the residual with the anatomy above which denoising is doubted
SMOOTH = 0.5  # and between neighbours


def write_report(subject: SubjectFiles, early: EarlySections | None = None) -> Path:
    """Write ``<out>/<prefix>.html`` from the derivatives on disk; its path.

    Without PyVista the page says that the surfaces of tracts are missing.
    """
    write_text_atomically(subject.names.report, render(TEMPLATE, page_facts(subject, early)))
    return subject.names.report


def page_facts(subject: SubjectFiles, early: EarlySections | None = None) -> dict[str, Any]:
    """Everything that the template shows."""
    facts, is_denoised = subject.scan_facts, False
    if not facts and subject.denoised is not None:
        facts, is_denoised = scan_facts(subject.denoised, subject.mask), True
    paragraph, references = methods_paragraph(subject.record)
    arrays = Arrays(subject)
    inside, planes = arrays.inside, arrays.planes
    with ThreadPoolExecutor(1) as helper:
        viewer = helper.submit(viewer_of, subject, inside, planes, arrays)
        sections = sections_of(subject, arrays, early)
    return {
        "title": subject.names.prefix,
        "state": state_of(subject),
        "scan": _scan_rows(facts, is_denoised),
        "tilt": facts.get("obliquity", 0.0),
        "shells": facts.get("shells", []),
        "outliers": facts.get("outliers", []),
        "doubts": doubts_of(subject, facts),
        "checked": bool(facts),
        "statuses": _status_rows(subject),
        "sections": sections,
        "timings": {step_name(step): seconds for step, seconds in subject.timings.items() if seconds >= 0.005},
        "left_out": {step_name(step): reason for step, reason in subject.left_out.items()},
        "parameters": {
            "Inputs": _input_rows(subject.record.inputs),
            **{step_name(step): _parameter_rows(content) for step, content in subject.steps.items()},
        },
        "about": about_rows(subject),
        "methods": paragraph,
        "references": list(map(with_doi, references)),
        "viewer": viewer.result(),
        "stem": subject.names.prefix,
        "bibtex": bibtex_of(references),
        **shared_facts("page.js"),
    }


def doubts_of(subject: SubjectFiles, facts: Mapping[str, Any]) -> list[str]:
    """What the page asks to check: missing files, the scan as ``facts`` say, what steps warned of, and denoising."""
    warned = [text for step in subject.steps.values() for text in step.get("Warnings", [])]
    missing = [subject.missing_in_words] if subject.missing_in_words else []
    return of_one_cause([*missing, *facts.get("doubts", []), *warned, *_denoising_doubts(subject)])


def _denoising_doubts(subject: SubjectFiles) -> list[str]:
    """What denoising took away that does not look like noise."""
    doubts = []
    for shell in subject.steps.get("denoise", {}).get("Residual") or []:
        name = f"b = {shell['B']:.0f}"
        if shell["anatomy"] > FOLLOWS:
            doubts.append(
                f"what denoising took away at {name} follows the anatomy (correlation {shell['anatomy']:.2f}): look at "
                "the difference below, and compare with --denoise none"
            )
        elif shell["neighbours"] > SMOOTH:
            doubts.append(
                f"what denoising took away at {name} is alike in neighbouring voxels (correlation "
                f"{shell['neighbours']:.2f}): the scan was interpolated before, or signal went with the noise"
            )
    return doubts


def _scan_rows(facts: dict[str, Any], is_denoised: bool) -> list[tuple[str, str]]:
    if not facts:
        return []
    snr = facts.get("snr_b0")
    rows = [
        ("Image", " x ".join(map(str, facts["shape"]))),
        ("Voxels", " x ".join(f"{s:g}" for s in facts["voxel_size"]) + " mm"),
        ("Storage", f"{facts['orientation']}, {facts['obliquity']:.1f} degrees from the scanner's axes"),
        ("b = 0", "1 volume" if facts["n_b0"] == 1 else f"{facts['n_b0']} volumes"),
    ]
    if facts.get("n_masked") is not None:
        rows += [
            ("Brain", f"{facts['n_masked']} voxels"),
            ("SNR at b = 0", "unknown" if snr is None else f"{snr:.1f}, from {facts['snr_from']}"),
            *_neighbour_row(facts.get("neighbour_correlation")),
            ("Not finite / negative", f"{facts['n_not_finite']} / {facts['n_negative']} values"),
        ]
    coherence = facts.get("coherence")
    if coherence is not None:
        best = coherence["best"]
        verdict = "as written" if best == "x y z" else f"more coherent as '{best}'"
        rows.append(("b-vectors against fibres", verdict if coherence["is_decided"] else "too little white matter"))
    if is_denoised:
        rows.append(("Taken from", "the denoised scan; the SNR is that after denoising"))
    return rows


def _neighbour_row(correlation: float | None) -> list[tuple[str, str]]:
    return [] if correlation is None else [("Neighbouring directions", f"correlation {correlation:.3f}")]


def _status_rows(subject: SubjectFiles) -> list[tuple[str, str, int, float, str]]:
    rows = []
    for step, content in subject.steps.items():
        counts = content.get("VoxelsByStatus") or {}
        total = sum(counts.values())
        rows += [
            (step_name(step), name.replace("_", " "), count, 100 * count / max(total, 1), advice_of(name))
            for name, count in counts.items()
            if count
        ]
    return rows


def _parameter_rows(content: dict[str, Any]) -> list[tuple[str, str]]:
    left_out = {"VoxelsByStatus", "OrientationEncoding", "Residual"}
    rows = []
    for name, value in content.items():
        if name not in left_out:
            text = _in_words(value)
            rows.append((_spaced(name), text if len(text) <= 160 else text[:157] + "..."))
    return rows


def _in_words(value: Any) -> str:
    """A fact without brackets and quotes."""
    if isinstance(value, dict):
        return "; ".join(f"{_spaced(str(key))} {_in_words(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_in_words, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def _spaced(name: str) -> str:
    """``MedianNoise`` as median noise; abbreviations stay."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_", " ", name).split()
    text = " ".join(word if len(word) > 1 and word.isupper() else word.lower() for word in words)
    return text[:1].upper() + text[1:]


def _input_rows(inputs: dict[str, Any]) -> list[tuple[str, str]]:
    return [(role, f"{file['File']}, sha256 {file['SHA256'][:16]}") for role, file in inputs.items()]
