"""What the files of a run hold, to compare two runs."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

TIMED = ("timings.json", ".html")  # the two files that say how long things took: the table, and the report of it


def contents(out: Path) -> dict[str, bytes]:
    """Every file of a run, hidden ones too, but for the cache and what shows timings.

    Images count by header and voxels, and checksums of image files are left out of the record of the run: ISA-L, which
    compresses, wrote one of some ten thousand files with another distance to the same zeros (LOG.md).
    """
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and not path.name.endswith(TIMED)]
    return {str(path.relative_to(out)): _content(path) for path in files if ".arcuate-cache" not in path.parts}


def _content(path: Path) -> bytes:
    if path.name.endswith(".nii.gz"):
        return gzip.decompress(path.read_bytes())
    if path.name.endswith("_run.json"):
        record = json.loads(path.read_text())
        for file in record["Files"]:
            if file["File"].endswith(".nii.gz"):
                del file["SHA256"]
        return json.dumps(record).encode()
    return path.read_bytes()
