"""The page: facts, pictures, viewer and methods in one file that needs no network."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from arcuate._version import __version__
from arcuate.errors import MissingExtraError
from arcuate.io import write_text_atomically
from arcuate.report.freshness import state_of
from arcuate.report.methods import methods_paragraph
from arcuate.report.pictures import brain_of, sections_of, thick_planes
from arcuate.report.scan import scan_facts
from arcuate.report.subject import SubjectFiles
from arcuate.report.viewer import viewer_of


def write_report(subject: SubjectFiles) -> Path:
    """Write ``<out>/<prefix>.html`` from the derivatives on disk; its path.

    Raises
    ------
    MissingExtraError
        matplotlib or jinja2 is not installed. Without PyVista the page says which pictures are missing.
    """
    for package in ("jinja2", "matplotlib"):
        try:
            importlib.import_module(package)
        except ImportError:
            raise MissingExtraError(package, "report", "the report") from None
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("arcuate.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("page.html.j2").render(page_facts(subject))
    write_text_atomically(subject.names.report, html)
    return subject.names.report


def page_facts(subject: SubjectFiles) -> dict[str, Any]:
    """Everything that the template shows."""
    facts, is_denoised = subject.scan_facts, False
    if not facts and subject.denoised is not None:
        facts, is_denoised = scan_facts(subject.denoised, subject.mask), True
    paragraph, references = methods_paragraph(subject.record)
    sections = sections_of(subject)
    inside = brain_of(subject)
    planes = [] if inside is None or subject.affine is None else thick_planes(inside.shape, subject.affine)
    return {
        "title": subject.names.prefix,
        "state": state_of(subject),
        "version": __version__,
        "scan": _scan_rows(facts, is_denoised),
        "shells": facts.get("shells", []),
        "outliers": facts.get("outliers", []),
        "doubts": facts.get("doubts", []),
        "checked": bool(facts),
        "statuses": _status_rows(subject),
        "sections": sections,
        "timings": subject.timings,
        "left_out": subject.left_out,
        "parameters": {
            "inputs": _input_rows(subject.record.inputs),
            **{step: _parameter_rows(content) for step, content in subject.steps.items()},
        },
        "methods": paragraph,
        "references": references,
        "viewer": viewer_of(subject, inside, planes),
    }


def _scan_rows(facts: dict[str, Any], is_denoised: bool) -> list[tuple[str, str]]:
    if not facts:
        return []
    snr = facts.get("snr_b0")
    rows = [
        ("Image", " x ".join(map(str, facts["shape"]))),
        ("Voxels", " x ".join(f"{s:g}" for s in facts["voxel_size"]) + " mm"),
        ("Storage", f"{facts['orientation']}, {facts['obliquity']:.1f} degrees from the scanner's axes"),
        ("b = 0", f"{facts['n_b0']} volumes"),
        ("Brain", f"{facts['n_masked']} voxels"),
        ("SNR at b = 0", "unknown" if snr is None else f"{snr:.1f}, from {facts['snr_from']}"),
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


def _status_rows(subject: SubjectFiles) -> list[tuple[str, str, int, float]]:
    rows = []
    for step, content in subject.steps.items():
        counts = content.get("VoxelsByStatus") or {}
        total = sum(counts.values())
        rows += [(step, name, count, 100 * count / max(total, 1)) for name, count in counts.items() if count]
    return rows


def _parameter_rows(content: dict[str, Any]) -> list[tuple[str, str]]:
    left_out = {"VoxelsByStatus", "OrientationEncoding"}
    rows = [(name, _in_words(value)) for name, value in content.items() if name not in left_out]
    return [(name, text if len(text) <= 160 else text[:157] + "...") for name, text in rows]


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name} {_in_words(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_in_words, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)


def _input_rows(inputs: dict[str, Any]) -> list[tuple[str, str]]:
    return [(role, f"{file['File']}, sha256 {file['SHA256'][:16]}") for role, file in inputs.items()]
