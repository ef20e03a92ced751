"""Pictures and reports: seconds of a picture of glyphs and of a page, its megabytes, and when its viewer is ready.

The browser draws without a graphics card. ``--report PAGE`` measures a page that is there already.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.side_by_side import arguments, show, table

DATA = Path(os.environ.get("ARCUATE_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SOFTWARE = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
GLYPHS = """
import numpy as np
from arcuate.figures import render_fods
from arcuate.volumes.resource import InMemoryVolumeResource
coefs = np.random.default_rng(0).normal(size=(30, 30, 1, 45)).astype(np.float32)
coefs[..., 0] = 4
render_fods(InMemoryVolumeResource(coefs, np.eye(4)), size=(1000, 1000))
"""


def time_glyphs(repeats: int) -> float:
    """Median seconds of a process that draws 30 x 30 FODs of degree 8, its imports included."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", GLYPHS], check=True)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def time_report(folder: Path, repeats: int) -> tuple[float, float]:
    """Median seconds of a process that draws the pages of a run again, imports included; and those of the processor."""
    code = (
        "import sys, time; from pathlib import Path; start = time.perf_counter(); "
        "from arcuate.report import find_subjects, write_report; "
        "[write_report(subject) for subject in find_subjects(Path(sys.argv[1]))]; "
        "print(time.perf_counter() - start, time.process_time())"
    )
    found = []
    for _ in range(repeats):
        done = subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True, text=True)
        found.append([float(part) for part in done.stdout.split()])
    return statistics.median(f[0] for f in found), statistics.median(f[1] for f in found)


def make_full(folder: Path) -> Path:
    """The maps of a whole head, three tissues, FODs of degree 8: what a report reads, without the run."""
    import numpy as np

    from arcuate.study.bids import Derivatives, write_json
    from arcuate.study.maps import Map
    from arcuate.study.outputs import Outputs
    from arcuate.volumes.resource import InMemoryVolumeResource

    names = Derivatives(folder, "sub-full")
    names.write_dataset_description()
    outputs = Outputs(names, {})
    rng = np.random.default_rng(0)
    shape, affine = (128, 128, 60), np.diag([-2.0, 2, 2, 1])
    place = np.stack(np.meshgrid(*(np.linspace(-1.15, 1.15, n) for n in shape), indexing="ij"))
    inside = (place**2).sum(axis=0) < 1

    def smooth(*extra: int) -> np.ndarray:
        waves = rng.normal(size=(3, *extra)) * 4
        phase = np.tensordot(place, waves, axes=(0, 0)) + rng.normal(size=extra)
        noisy = 0.5 + 0.3 * np.sin(phase) + 0.05 * rng.normal(size=(*shape, *extra))
        return np.where(inside[(...,) + (None,) * len(extra)], np.clip(noisy, 0.01, 1), 0).astype(np.float32)

    def write(model: str, param: str, array: np.ndarray, label: str | None = None) -> None:
        image = Map(param, InMemoryVolumeResource(array, affine), {}, label)
        outputs.maps(model, [image], {}, step=model, made_from=())

    for param in ("fa", "md", "ad", "rd"):
        write("tensor", param, smooth() * (1.0 if param == "fa" else 2e-3))
    write("tensor", "evecs", smooth(9))
    for param in ("icvf", "odi", "isovf", "rmse", "s0"):
        write("noddi", param, smooth())
    for label in ("wm", "gm", "csf"):
        write("msmtcsd", "fraction", smooth() / 3, label)
    write("msmtcsd", "fod", smooth(45) - np.float32(0.4), "wm")
    write("msmtcsd", "peaks", smooth(9))
    write("msmtcsd", "afd", smooth())
    mask = InMemoryVolumeResource(inside.astype(np.uint8), affine)
    outputs.image("desc-brain_mask.nii.gz", mask, {}, role="mask", step="mask", made_from=())
    outputs.image(
        "desc-b0_dwiref.nii.gz",
        InMemoryVolumeResource(smooth(), affine),
        {},
        role="reference",
        step="report",
        made_from=(),
    )
    write_json(names.path("timings.json"), {})
    outputs.add_unhashed(names.path("timings.json"), role="timings", step="report")
    outputs.finish()
    return folder


def make_reports(folder: Path) -> Iterator[tuple[str, Path]]:
    """Reports of the small phantom and, where it is at hand, of two slices of a human scan."""
    run = [sys.executable, "-m", "arcuate"]
    subprocess.run([*run, "demo", "--size", "small", "--out", str(folder / "demo")], check=True, capture_output=True)
    yield "phantom, 48 x 48 x 30", folder / "demo" / "sub-phantom.html"
    scan, mask = (DATA / "mdt_b1k_b2k" / f"sub-mdt_{name}.nii.gz" for name in ("dwi", "mask"))
    if scan.is_file():
        options = ["--mask", str(mask), "--out", str(folder / "human")]
        subprocess.run([*run, "run", str(scan), *options], check=True, capture_output=True)
        yield "human, 104 x 104 x 2", folder / "human" / "sub-mdt.html"


@contextmanager
def browser() -> Iterator[Any | None]:
    """A headless Chromium; None where there is none."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        yield None
        return
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=SOFTWARE)
        yield started
        started.close()


def time_page(chromium: Any, page: Path, repeats: int) -> tuple[float, float, float, float]:
    """Median seconds until the viewer is ready; of the first, the next coarse and the next fine picture of glyphs."""
    found = []
    for _ in range(repeats):
        tab = chromium.new_page(viewport={"width": 1300, "height": 900})
        tab.goto(page.resolve().as_uri())
        while not tab.evaluate("window.arcuateViewer?.isReady"):
            tab.wait_for_timeout(50)
        ready, first = tab.evaluate("[arcuateViewer.readyMs, arcuateViewer.glyphs.firstDraw]")
        tab.wait_for_timeout(1500)  # until nothing is left to draw
        coarse = tab.evaluate("arcuateViewer.glyphs.camera.rotate(0.1, 0), arcuateViewer.glyphs.settle(true)")
        fine = tab.evaluate("arcuateViewer.glyphs.settle()")
        found.append([value / 1000 for value in (ready, first, coarse, fine)])
        tab.close()
    ready, first, coarse, fine = (statistics.median(column) for column in zip(*found, strict=True))
    return ready, first, coarse, fine


def main() -> None:
    """Print the table; with ``--write`` keep it."""
    parser = arguments(__doc__)
    parser.add_argument("--report", type=Path, action="append", default=[], help="a page that is there already")
    options = parser.parse_args()
    rows = [["30 x 30 FOD glyphs as PNG, a new process", f"{time_glyphs(options.repeats):.2f} s"]]
    with tempfile.TemporaryDirectory() as folder:
        wall, processor = time_report(make_full(Path(folder)), options.repeats)
        rows.append(["page of a whole head, 128 x 128 x 60, a new process", f"{wall:.2f} s ({processor:.2f} s of CPU)"])
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        pages = [(path.stem, path) for path in options.report] or make_reports(Path(folder))
        for name, page in pages:
            rows.append([f"report of the {name}", f"{page.stat().st_size / 1e6:.2f} MB"])
            if chromium is None:
                continue
            ready, first, coarse, fine = time_page(chromium, page, options.repeats)
            rows.append(["- viewer ready after", f"{ready:.2f} s"])
            rows.append(
                ["- glyphs: first picture / while turning / at rest", f"{first:.2f} / {coarse:.2f} / {fine:.2f} s"]
            )
    note = "Browser: headless Chromium, software rendering, window of 1300 x 900; medians."
    show("pictures", table("Pictures and reports", ("what", "arcuate"), rows, note), write=options.write)


if __name__ == "__main__":
    main()
