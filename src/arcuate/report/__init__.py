"""One self-contained page per subject, made from the derivatives on disk.

The names below are imported from their modules when they are first asked for: a run that repeats nothing only asks
whether its page is current.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arcuate.report.early import EarlySections
    from arcuate.report.freshness import is_current
    from arcuate.report.page import doubts_of, write_report
    from arcuate.report.scan_facts import examine_scan, keep_scan_facts
    from arcuate.report.subject import SubjectFiles, find_subjects

__all__ = [
    "EarlySections",
    "SubjectFiles",
    "doubts_of",
    "examine_scan",
    "find_subjects",
    "is_current",
    "keep_scan_facts",
    "write_report",
]

_HOME_OF = {
    "EarlySections": "early",
    "SubjectFiles": "subject",
    "doubts_of": "page",
    "examine_scan": "scan_facts",
    "find_subjects": "subject",
    "is_current": "freshness",
    "keep_scan_facts": "scan_facts",
    "write_report": "page",
}


def __getattr__(name: str) -> object:
    """A public name, from the module that it lives in."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
