"""Pages in a headless Chromium, and runs that are made in a moment from images whose truth is plain."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arcuate.numerics.sh import n_coefs, sh_matrix
from arcuate.numerics.sphere import get_sphere
from arcuate.report import SubjectFiles
from arcuate.report.viewer import viewer_script
from arcuate.study.bids import Derivatives, write_json
from arcuate.study.maps import Map
from arcuate.study.outputs import Outputs
from arcuate.volumes.resource import InMemoryVolumeResource

# pictures without a graphics card
_ARGUMENTS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


class ReportPage:
    """One page in the browser, and everything that the browser complained of or asked for."""

    def __init__(self, context: Any, path: Path) -> None:
        self.complaints: list[str] = []
        self.addresses: list[str] = []
        self.tab = context.new_page()
        network = context.new_cdp_session(self.tab)
        network.send("Network.enable")
        network.on("Network.requestWillBeSent", lambda event: self.addresses.append(event["request"]["url"]))
        self.tab.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.address = path.resolve().as_uri()
        self.tab.goto(self.address)

    def wait(self) -> float:
        """Until the viewer is ready; milliseconds since the page was opened, by its own clock."""
        self.until("window.arcuateViewer?.isReady")
        return float(self.run("arcuateViewer.readyMs"))

    def until(self, condition: str) -> None:
        """Wait for a condition; the page's policy forbids the browser driver's own way of doing so."""
        while not self.run(condition):
            if self.complaints:
                pytest.fail(f"the page complains: {self.complaints}")
            self.tab.wait_for_timeout(20)

    def run(self, script: str, argument: Any = None) -> Any:
        return self.tab.evaluate(script, argument)

    def pixels(self, panel: str) -> np.ndarray:
        """(height, width, 3) float32 of a view, ``maps`` or ``glyphs``, when it rests; its letters left out."""
        if panel == "glyphs":
            self.run("arcuateViewer.glyphs.settle()")
        else:
            self.run("arcuateViewer.maps.niivue.drawScene()")
        hidden = ".sides { visibility: hidden } .stage { border-radius: 0 } *:focus { outline: none }"
        picture = self.tab.locator(f"#{panel}-canvas").screenshot(style=hidden)
        # the edges may be shared with the page around it
        return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), dtype=np.float32)[2:-2, 2:-2]

    def wait_for_change(self, panel: str, before: np.ndarray) -> np.ndarray:
        """The view's pixels once they differ from ``before``."""
        for _ in range(100):
            after = self.pixels(panel)
            if after.shape != before.shape or np.abs(after - before).max() > 8:
                return after
            self.tab.wait_for_timeout(50)
        pytest.fail(f"no pixel of the {panel} changed")

    @property
    def foreign(self) -> list[str]:
        """Addresses that the browser asked for beyond the file itself."""
        return [a[:80] for a in self.addresses if a != self.address and not a.startswith("data:")]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A running headless Chromium; skips where there is none, or where the viewer was not built.

    It ends with its module: while it runs, so does its event loop, and other tests have loops of their own.
    """
    if viewer_script() is None:
        pytest.skip("the viewer was not built: npm was missing when arcuate was installed (`pip install -e .`)")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., ReportPage]]:
    """Open a report: ``open_page(path, **options of the browser's context)``."""
    contexts = []

    def call(path: Path, script: str | None = None, **options: Any) -> ReportPage:
        contexts.append(chromium.new_context(viewport={"width": 1300, "height": 900}, **options))
        contexts[-1].set_default_timeout(240_000)  # a guard against hanging, no measure of speed
        if script is not None:
            contexts[-1].add_init_script(script)
        return ReportPage(contexts[-1], path)

    yield call
    for context in contexts:
        context.close()


def lobe_coefs(direction: tuple[float, float, float], lmax: int = 8, sharpness: int = 12) -> np.ndarray:
    """(n_coef,) of a lobe along a direction in the scanner."""
    vertices = get_sphere("repulsion724").vertices
    unit = np.asarray(direction) / np.linalg.norm(direction)
    return np.linalg.lstsq(sh_matrix(vertices, lmax), (vertices @ unit) ** sharpness, rcond=None)[0]


def write_run(
    folder: Path,
    affine: np.ndarray,
    fa: np.ndarray,
    fods: np.ndarray,
    tissues: dict[str, np.ndarray] | None = None,
    tracts: dict[str, np.ndarray] | None = None,
) -> SubjectFiles:
    """The derivatives of a run that made FA and FODs; of a multi-tissue model where other tissues are given."""
    names = Derivatives(folder, "sub-made")
    names.write_dataset_description()
    outputs = Outputs(names, {})

    def write(model: str, param: str, array: np.ndarray, label: str | None = None) -> None:
        volume = InMemoryVolumeResource(np.asarray(array, dtype=np.float32), affine)
        outputs.maps(model, [Map(param, volume, {"Type": param}, label)], {}, step="made", made_from=())

    write("tensor", "fa", fa)
    write("tensor", "md", np.where(fa > 0, 8e-4, 0))
    if tissues is None:
        write("csd", "fod", fods)
    else:
        every = {"wm": fods, **tissues}
        total = sum(array[..., 0] for array in every.values())
        for label, array in every.items():
            write("msmtcsd", "fod", array, label)
            write("msmtcsd", "fraction", array[..., 0] / np.where(total > 0, total, 1), label)
    for name, array in (tracts or {}).items():
        outputs.tract(Map(name, InMemoryVolumeResource(array, affine)), {}, role="tract", made_from=())
    write_json(names.path("timings.json"), {"dti": 0.1})
    outputs.add_unhashed(names.path("timings.json"), role="timings", step="report")
    outputs.finish()
    return SubjectFiles(names)


@pytest.fixture(scope="session")
def lobe_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., SubjectFiles]:
    """A run whose only FODs lie to the right, in front and on top, along the image's own (1, 1, 0), with high FA."""
    import nibabel as nib

    def make(code: str = "RAS", degrees: float = 0.0) -> SubjectFiles:
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])  # of the image in the scanner
        affine = np.eye(4)
        affine[:3, :3] = turn @ np.diag([2.0, 2.0, 2.5])
        fa = np.full((20, 22, 18), 0.2)
        fa[13:17, 15:19, 11:15] = 0.9
        fods = np.zeros((*fa.shape, n_coefs(8)))
        fods[13:17, 15:19, 11:15] = lobe_coefs(tuple(turn @ (1, 1, 0)))
        orders = nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(code))
        to_code = nib.orientations.ornt_transform(*orders)
        stored = [nib.Nifti1Image(a, affine).as_reoriented(to_code) for a in (fa, fods)]
        folder = tmp_path_factory.mktemp("made")
        return write_run(folder, stored[0].affine, *(np.asarray(image.dataobj) for image in stored))

    return make


@pytest.fixture
def made_run() -> Callable[..., SubjectFiles]:
    """:func:`write_run`."""
    return write_run
