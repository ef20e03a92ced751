"""Build the report's viewer from npm before the wheel, or an editable installation, is made.

Its sources are in ``js/``, what is built goes to ``src/arcuate/report/static/`` and is never committed. The sdist holds
it, so that an installation from there needs no npm. Without npm the wheel is built all the same: its reports then show
still pictures and say what is missing. ``ARCUATE_REQUIRE_VIEWER=1`` makes that an error.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

STATIC = Path("src", "arcuate", "report", "static")
PRODUCTS = ("viewer.js", "THIRD_PARTY_NOTICES.txt")
STAMP = "sources.sha256"
REASON = "MISSING"  # why the viewer is not there; the report shows it


class ViewerHook(BuildHookInterface):
    """Runs npm if the viewer is not there or its sources have changed."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        trouble = build_viewer(root)
        if trouble is not None:
            message = f"The report's interactive viewer was not built: {trouble}"
            if os.environ.get("ARCUATE_REQUIRE_VIEWER") == "1":
                raise RuntimeError(message)
            self.app.display_warning(f"{message} Reports will show still pictures only.")
            (root / STATIC).mkdir(exist_ok=True)
            (root / STATIC / REASON).write_text(trouble, encoding="utf-8")
            build_data["artifacts"].append(f"/{(STATIC / REASON).as_posix()}")
            return
        build_data["artifacts"] += [f"/{(STATIC / name).as_posix()}" for name in (*PRODUCTS, STAMP)]


def build_viewer(root: Path) -> str | None:
    """Bring the viewer up to date; None, or what stood in its way."""
    static, js = root / STATIC, root / "js"
    state = source_state(js)
    stamp = static / STAMP
    if all((static / name).is_file() for name in PRODUCTS) and stamp.is_file() and stamp.read_text() == state:
        return None
    shutil.rmtree(static, ignore_errors=True)  # what other sources made would not fit the pages
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not installed (https://nodejs.org; Debian: apt-get install nodejs npm)."
    for command in (["ci", "--ignore-scripts", "--no-audit", "--no-fund"], ["run", "build"]):
        done = subprocess.run([npm, *command], cwd=js, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"`npm {' '.join(command)}` failed: {(done.stderr or done.stdout).strip()[-600:]}"
    stamp.write_text(state)
    return None


def source_state(js: Path) -> str:
    """Digest of everything that the viewer is made from."""
    files = [js / "package.json", js / "package-lock.json", js / "build.mjs"]
    files += sorted([*js.glob("src/*.js"), *js.glob("licenses/*")])
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(js).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
