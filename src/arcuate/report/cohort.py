"""The page of a cohort: every scan a point in each measure, outliers by name, links to the reports; no network."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.io import write_text_atomically
from arcuate.report.template import render, shared_facts
from arcuate.study.bids import Derivatives
from arcuate.study.cohort_status import STATUS_TABLE, read_status
from arcuate.study.group import FAR, MEASURES, Measure, SubjectRow, robust_z

PAGE = "cohort.html"
WIDTH, HEIGHT, MARGIN = 560.0, 120.0, 12.0  # of a chart, in its own unit
MOST_NAMED = 50  # outliers that are named below a chart


@dataclass(frozen=True)
class Strip:
    """One measure as a chart: all points as one path, outliers as points of their own."""

    measure: Measure
    path: str
    outliers: list[dict[str, Any]]
    n: int
    low: str
    high: str
    median: str
    median_x: float


def write_cohort_page(out: Path, rows: Sequence[SubjectRow]) -> Path:
    """Write ``<out>/cohort.html``; its path."""
    write_text_atomically(out / PAGE, render("cohort.html.j2", cohort_facts(out, rows)))
    return out / PAGE


def write_cohort_methods(out: Path) -> Path:
    """Write ``<out>/methods.md``: the methods of the study as a paragraph to paste, with references; its path.

    Where scans were processed in several ways, there is a paragraph for each, that of most scans first.
    """
    from arcuate.report.methods import methods_paragraph
    from arcuate.study.group import find_runs, finished_record

    ways: dict[str, list[str]] = {}
    references: dict[str, list[str]] = {}
    for names in find_runs(out):
        record = finished_record(names)
        if record is not None:
            paragraph, cited = methods_paragraph(record)
            ways.setdefault(paragraph, []).append(names.prefix)
            references[paragraph] = cited
    parts = ["# Methods\n"]
    for paragraph, scans in sorted(ways.items(), key=lambda way: -len(way[1])):
        listed = ", ".join(scans[:MOST_NAMED]) + (" ..." if len(scans) > MOST_NAMED else "")
        title = f"## {len(scans)} scans" if len(scans) > 1 else "## 1 scan"
        cited = [f"{i}. {reference}" for i, reference in enumerate(references[paragraph], 1)]
        parts.append("\n".join([f"{title}\n", paragraph, "", *cited, "", f"Scans: {listed}", ""]))
    write_text_atomically(out / "methods.md", "\n".join(parts))
    return out / "methods.md"


def cohort_facts(out: Path, rows: Sequence[SubjectRow]) -> dict[str, Any]:
    """Everything that the template shows."""
    links = [_link(out, row) for row in rows]
    z = {m.name: robust_z([row.values.get(m.name) for row in rows]) for m in MEASURES}
    strips = [strip for m in MEASURES if (strip := _strip(m, rows, links, z[m.name])) is not None]
    status = read_status(out / STATUS_TABLE)
    table = {
        "columns": ["scan", *(m.title + (f" ({m.unit})" if m.unit else "") for m in MEASURES)],
        "rows": [
            [row.name, link, *(_rounded(row.values.get(m.name)) for m in MEASURES)]
            for row, link in zip(rows, links, strict=True)
        ],
        "far": [[k for k, m in enumerate(MEASURES) if abs(z[m.name][i]) > FAR] for i in range(len(rows))],
    }
    return {
        "title": f"Cohort of {len(rows)} scans",
        "n_scans": len(rows),
        "n_subjects": len({row.subject for row in rows}),
        "states": dict(Counter(row[2] for row in status)),
        "failed": [row for row in status if row[2] not in {"complete", "pending"}],
        "strips": strips,
        "width": WIDTH,
        "height": HEIGHT,
        "far": FAR,
        "data": json.dumps(table, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c"),
        **shared_facts("cohort.js"),
    }


def _link(out: Path, row: SubjectRow) -> str:
    """Address of the scan's report, seen from the page; empty where there is none."""
    page = Derivatives(out, row.prefix).report
    return page.name if page.is_file() else ""


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def _strip(measure: Measure, rows: Sequence[SubjectRow], links: Sequence[str], z: np.ndarray) -> Strip | None:
    """The chart of a measure; None where no scan has it."""
    values = np.array([_nan(row.values.get(measure.name)) for row in rows])
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return None
    low, high = float(values[known].min()), float(values[known].max())
    span = high - low or 1.0
    x = MARGIN + (values - low) / span * (WIDTH - 2 * MARGIN) if high > low else np.full(len(values), WIDTH / 2)
    y = _heights(x, known)
    is_far = np.abs(np.nan_to_num(z)) > FAR
    path = "".join(f"M{x[i]:.1f} {y[i]:.1f}h0" for i in known if not is_far[i])
    far = sorted((i for i in known if is_far[i]), key=lambda i: -abs(z[i]))
    outliers = [
        {
            "x": f"{x[i]:.1f}",
            "y": f"{y[i]:.1f}",
            "name": rows[i].name,
            "link": links[i],
            "value": _in_words(float(values[i])),
            "z": f"{z[i]:+.1f}",
            "is_named": rank < MOST_NAMED,
        }
        for rank, i in enumerate(map(int, far))
    ]
    middle = float(np.median(values[known]))
    place = MARGIN + (middle - low) / span * (WIDTH - 2 * MARGIN) if high > low else WIDTH / 2
    return Strip(
        measure, path, outliers, len(known), _in_words(low), _in_words(high), _in_words(middle), round(place, 1)
    )


def _in_words(value: float) -> str:
    """Four digits; whole numbers from ten thousand on."""
    return f"{value:.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _heights(x: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Heights (n,) that pile points of one place up around the middle line, closer where they are many."""
    heights = np.full(len(x), HEIGHT / 2)
    bins = np.floor(x[known] / 4).astype(int)
    most = max(Counter(bins.tolist()).values())
    step = min(5.0, (HEIGHT - 2 * MARGIN) / most)
    seen: Counter[int] = Counter()
    for i, place in zip(known, bins.tolist(), strict=True):
        k = seen[place]
        seen[place] += 1
        heights[i] = HEIGHT / 2 + (-1) ** k * ((k + 1) // 2) * step
    return heights
