"""The page of a cohort in a browser: points, named outliers, a table that finds; thousands of subjects, no network."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcuate.report.cohort import write_cohort_page
from arcuate.study.group import SubjectRow


def _rows(n: int, far: int) -> list[SubjectRow]:
    """Made-up numbers of ``n`` scans, that with index ``far`` off in FA."""
    rng = np.random.default_rng(2)
    rows = []
    for i in range(n):
        values: dict[str, float | None] = {
            "snr_b0": float(rng.normal(25, 1)),
            "fa": 0.2 if i == far else float(np.clip(rng.normal(0.45, 0.01), 0.42, 0.48)),
            "md": float(rng.normal(7.5e-4, 1e-5)),
            "ndi": None if i % 2 else float(rng.normal(0.5, 0.01)),
        }
        rows.append(SubjectRow(f"sub-{i:05d}", "ses-1", f"sub-{i:05d}_ses-1", values))
    return rows


def _check(open_page: Callable[..., Any], folder: Path, n: int) -> float:
    """Open the page of ``n`` scans and use it; seconds until it was there."""
    far = n // 3
    name = f"sub-{far:05d} ses-1"
    (folder / f"sub-{far:05d}_ses-1.html").write_text("<title>its report</title>")
    page = write_cohort_page(folder, _rows(n, far))
    start = time.perf_counter()
    opened = open_page(page)
    tab = opened.tab
    tab.wait_for_function("document.querySelectorAll('#scans tbody tr').length > 0")
    seconds = time.perf_counter() - start
    assert not opened.foreign
    charts = tab.locator("figure.strip")
    assert charts.count() == 4  # of the measures that any scan has
    fa = charts.nth(1)
    drawn = fa.locator("path").get_attribute("d").count("M") + fa.locator("circle").count()
    assert drawn == n
    assert name in fa.locator(".named").inner_text()
    assert fa.locator(".named a").first.get_attribute("href") == f"sub-{far:05d}_ses-1.html"
    tab.fill("#find", f"{far:05d}")
    assert tab.locator("#scans tbody tr").count() == 1
    assert "0.2" in tab.locator("#scans tbody td.far").all_inner_texts()
    tab.fill("#find", "")
    tab.locator("#scans th button", has_text="FA").first.click()
    assert tab.locator("#scans tbody tr").first.locator("a").inner_text() == name
    return seconds


def test_the_page_shows_every_scan_names_the_outlier_and_finds_it(
    open_page: Callable[..., Any], tmp_path: Path
) -> None:
    _check(open_page, tmp_path, 60)


@pytest.mark.long
def test_the_page_of_five_thousand_subjects_opens_in_seconds(open_page: Callable[..., Any], tmp_path: Path) -> None:
    assert _check(open_page, tmp_path, 5000) < 5


def test_names_from_files_are_no_markup(tmp_path: Path) -> None:
    values: dict[str, float | None] = {"fa": 0.4}
    row = SubjectRow("</script><b>x", "", "</script><b>x", values)
    page = write_cohort_page(tmp_path, [row]).read_text()
    assert "</script><b>" not in page
