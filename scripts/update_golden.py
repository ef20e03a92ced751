"""Keep the present numbers of the steps for ``tests/golden``; refused where numbers moved and the version did not.

usage: update_golden.py [--only STEP] [--file FILE]
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", help="a step, as named in tests/golden/steps.py; all by default")
    parser.add_argument("--file", type=Path, help="another file than tests/golden/steps.npz")
    options = parser.parse_args()
    golden = load_golden()
    if options.file is not None:
        golden.KEPT = options.file
    kept = golden.load_kept()
    wanted = options.only or list(golden.STEPS)
    context = golden.Context()
    results, refused = dict(kept), []
    for name in wanted:
        version = golden.all_steps()[name].version
        found = dict(golden.arrays_of(golden.STEPS[name](context)))
        old_version, arrays = kept.get(name, (None, {}))
        moved = golden.differences(found, arrays)
        if old_version == version and moved:
            refused.append(f"{name}: numbers moved, its version is still {version}: {'; '.join(moved)}")
        elif old_version != version:
            print(f"{name}: version {old_version} -> {version}; {'; '.join(moved) or 'the numbers are the same'}")
            results[name] = (version, found)
    if refused:
        print("\n".join(refused), file=sys.stderr)
        print("Raise the version beside the step (@cacheable(version=...)), then run this again.", file=sys.stderr)
        return 2
    if options.only is None:
        results = {name: results[name] for name in golden.STEPS}
    golden.save_kept(results)
    return 0


def load_golden() -> ModuleType:
    """``tests/golden/steps.py`` as a module."""
    path = Path(__file__).resolve().parents[1] / "tests" / "golden" / "steps.py"
    spec = importlib.util.spec_from_file_location("golden_steps", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["golden_steps"] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    raise SystemExit(main())
