"""Run every benchmark, each in a process of its own: ``python -m benchmarks [--write] [NAME ...]``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Run those named (``io tensor``), or all; options are passed on."""
    options = [a for a in sys.argv[1:] if a.startswith("-")]
    named = [a for a in sys.argv[1:] if not a.startswith("-")]
    found = sorted(p.stem for p in Path(__file__).parent.glob("bench_*.py"))
    chosen = [f"bench_{name}" for name in named] or found
    unknown = sorted(set(chosen) - set(found))
    if unknown:
        raise SystemExit(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(found)}")
    failed = [n for n in chosen if subprocess.call([sys.executable, "-m", f"benchmarks.{n}", *options])]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
