"""Run every benchmark, each in a process of its own: ``python -m benchmarks [--write] [NAME ...]``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.side_by_side import arguments


def main() -> None:
    """Run those named (``io tensor``), or all; options are passed on."""
    parser = arguments(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    given = parser.parse_args()
    named = given.names
    options = [f"--repeats={given.repeats}", *(f"--{o}" for o in ("write", "small") if getattr(given, o))]
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
