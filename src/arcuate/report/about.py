"""What a page says of the run itself: when it ended, what was asked for, and with what it was drawn."""

from __future__ import annotations

import platform
import sys
from datetime import datetime
from importlib import metadata

from arcuate._version import __version__
from arcuate.report.subject import SubjectFiles
from arcuate.study.outputs import record_path

_PACKAGES = ("numpy", "scipy", "numba", "nibabel")


def about_rows(subject: SubjectFiles) -> list[tuple[str, str]]:
    """Rows of a table, from the list of the run's outputs and this machine."""
    ended = datetime.fromtimestamp(record_path(subject.names).stat().st_mtime).astimezone()
    asked = "; ".join(
        f"{name.replace('_', ' ')} {', '.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for name, value in subject.record.options.items()
        if value not in ([], None, False, "")
    )
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    return [
        ("Run ended", ended.strftime("%Y-%m-%d %H:%M %Z")),
        ("Asked for", asked or "nothing beyond the defaults"),
        ("Page drawn by", f"arcuate {__version__}, Python {platform.python_version()}, {packages}"),
        ("System", f"{platform.system()} {platform.machine()}, {sys.byteorder}-endian"),
    ]
