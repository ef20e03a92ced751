"""One self-contained page per subject, made from the derivatives on disk (extra ``[report]``)."""

from arcuate.report.freshness import is_current
from arcuate.report.page import write_report
from arcuate.report.scan import keep_scan_facts
from arcuate.report.subject import SubjectFiles, find_subjects

__all__ = ["SubjectFiles", "find_subjects", "is_current", "keep_scan_facts", "write_report"]
