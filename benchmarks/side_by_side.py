"""What every benchmark shares: runs in turns, medians, and a table that says on what it was measured."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("arcuate", "numpy", "numba", "nibabel", "isal", "dipy", "dmri-amico", "scikit-learn")


@dataclass(frozen=True)
class Pair:
    """Seconds of ours and theirs, and the ratio theirs / ours: medians of runs that took turns."""

    ours: float
    theirs: float
    ratio: float

    def row(self, what: str) -> list[str]:
        """Cells of a table: what, ours, theirs, ratio."""
        if self.ours < 0.1:
            return [what, f"{self.ours * 1e3:.1f} ms", f"{self.theirs * 1e3:.1f} ms", f"{self.ratio:.1f} x faster"]
        return [what, f"{self.ours:.2f} s", f"{self.theirs:.2f} s", f"{self.ratio:.1f} x faster"]


def alternate(ours: Callable[[], object], theirs: Callable[[], object], repeats: int = 5) -> Pair:
    """Time both in turns, A B A B, so that other load on the machine hits both; ``ours`` once before, to compile."""
    ours()
    times = []
    for _ in range(repeats):
        pair = []
        for run in (ours, theirs):
            start = time.perf_counter()
            run()
            pair.append(time.perf_counter() - start)
        times.append(pair)
    return Pair(
        statistics.median(t[0] for t in times),
        statistics.median(t[1] for t in times),
        statistics.median(t[1] / t[0] for t in times),
    )


def machine() -> str:
    """Processor, cores and versions, for under a table."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"model name\s*:\s*(.+)", info.read_text())):
        cpu = found[1]
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    if shutil.which("mrinfo"):
        printed = subprocess.run(["mrinfo", "--version"], capture_output=True, text=True, check=False).stdout
        if found := re.search(r"mrinfo (\S+)", printed):
            versions.append(f"MRtrix3 {found[1]}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cpu}, {cores} cores; Python {platform.python_version()}; {', '.join(versions)}"


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]], note: str = "") -> str:
    """A Markdown table with a title, a note and the machine under it."""
    lines = [f"## {title}", "", f"| {' | '.join(header)} |", f"|{'|'.join(['---'] * len(header))}|"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    if note:
        lines += ["", note]
    return "\n".join([*lines, "", f"Measured on {machine()}.", ""])


def show(area: str, text: str, *, write: bool) -> None:
    """Print ``text``, and keep it as ``benchmarks/results/<area>.md`` where asked."""
    print(text)
    if write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{area}.md").write_text(text, encoding="utf-8")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has: ``--write``, ``--small``, ``--repeats``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--write", action="store_true", help="keep the table in benchmarks/results")
    parser.add_argument("--small", action="store_true", help="a small image, to see that it runs")
    parser.add_argument("--repeats", type=int, default=5)
    return parser
