"""Checksums of files, as their owners publish them."""

from __future__ import annotations

import hashlib
from pathlib import Path


def checksum_of(path: Path, kind: str = "sha256") -> str:
    """Hexadecimal digest of a file's bytes: ``sha256``, ``md5`` ..."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, kind).hexdigest()
