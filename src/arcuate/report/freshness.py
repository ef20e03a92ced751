"""Whether a page is still that of the derivatives beside it, so that a run that repeats nothing need not draw it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from dataclasses import replace
from pathlib import Path

from arcuate._version import __version__
from arcuate.fetch.checksums import checksum_of
from arcuate.report.subject import SubjectFiles
from arcuate.study.outputs import REPORT

HEAD = 4096  # bytes of a page within which its state stands


def state_of(subject: SubjectFiles) -> str:
    """Digest of all that a page is made from: the run's record, its files, the code of the report, what it can draw.

    Of a gzip file the length and the checksum at its end stand for its content.
    """
    digest = hashlib.sha256(__version__.encode())
    digest.update(str(importlib.util.find_spec("pyvista") is not None).encode())
    code = [path for path in sorted(Path(__file__).parent.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    for path in code:
        digest.update(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}\0".encode())
    record = subject.record.without(REPORT)  # what only the page needs is made with it
    described = replace(record, files=()).to_dict(subject.names)
    digest.update(json.dumps(described, sort_keys=True).encode())
    for file in record.files:
        digest.update(os.fsencode(file.path) + b"\0")
        digest.update(_content_of(subject.path_of(file)))
    return digest.hexdigest()


def is_current(subject: SubjectFiles) -> bool:
    """Whether the page on disk was made from the derivatives as they are now."""
    page = subject.names.report
    if not page.is_file() or not subject.scan_facts:
        return False
    with page.open("rb") as file:
        return state_of(subject).encode() in file.read(HEAD)


def _content_of(path: Path) -> bytes:
    if not path.is_file():
        return b"missing"
    if not path.name.endswith(".gz"):
        return checksum_of(path).encode()
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        return size.to_bytes(8, "little") + file.read()
