"""The page that ends a run: whole, offline, readable without eyes, and made again from the folder alone."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from arcuate.plotting import _figure_class

for package in ("matplotlib", "jinja2"):
    pytest.importorskip(package, reason=f"{package} is not installed (extra report)")

STEPS = ("--steps", "denoise,mask,dti,response,fod,peaks", "--algorithm", "ssst")


class _Page(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run of a small scan, its report in it."""
    from arcuate.dwi import Dwi
    from arcuate.models.phantom import make_phantom, three_shell_gradients

    folder = tmp_path_factory.mktemp("run")
    gradients = three_shell_gradients(n_b0=2, n_directions=20, seed=0)
    keep = gradients.bvals < 2500
    phantom = make_phantom(gradients.subset(keep.nonzero()[0]), shape=(32, 32, 20), voxel_size=6.0, snr=40, seed=0)
    Dwi.from_arrays(phantom.signal, phantom.affine, phantom.gradients).save(folder, basename="sub-small_dwi")
    scan, out = folder / "sub-small_dwi.nii.gz", folder / "out"
    command = [sys.executable, "-m", "arcuate", "run", str(scan), "--out", str(out), *STEPS]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "report" in done.stderr
    return out


def test_a_run_ends_in_one_page_with_every_section(finished: Path) -> None:
    page = _Page((finished / "sub-small.html").read_text(encoding="utf-8"))
    anchors = {attributes.get("id") for attributes in page.of("section")}
    expected = {"summary", "directions", "denoising", "mask", "tensor", "parameters", "methods"}
    assert expected <= anchors
    assert {"response", "fods"} <= anchors
    assert "32 x 32 x 20" in page.text
    assert re.search(r"fitted\s*\d{3,}", page.text)
    assert "Patch2Self" in page.text
    assert "Fadnavis S" in page.text
    links = {str(a["href"]) for a in page.of("a")}
    assert links == {f"#{a}" for a in anchors} & links, "every link leads to a section of the page"


def test_the_page_loads_nothing_and_is_small(finished: Path) -> None:
    path = finished / "sub-small.html"
    text = path.read_text(encoding="utf-8")
    page = _Page(text)
    assert path.stat().st_size < 15e6
    assert not page.of("script")
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:")), f"<{tag} {name}={address[:60]}>"
    assert "url(" not in text
    assert "@import" not in text
    policy = next(m for m in page.of("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in str(policy["content"])


def test_pictures_have_texts_and_headings_come_in_order(finished: Path) -> None:
    text = (finished / "sub-small.html").read_text(encoding="utf-8")
    page = _Page(text)
    assert len(page.of("img")) >= 8
    assert all(len(str(image.get("alt") or "")) > 20 for image in page.of("img"))
    assert [tag for tag, _ in page.tags if tag in {"h1", "h2"}][:2] == ["h1", "h2"]
    assert page.of("html")[0]["lang"] == "en"
    assert "prefers-color-scheme: dark" in text
    assert page.of("a")[0]["class"] == "skip"


def test_the_browser_shows_it_without_complaint(finished: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    picture = tmp_path / "page.png"
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1200,3000", f"--screenshot={picture}",
        (finished / "sub-small.html").resolve().as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert picture.is_file(), done.stderr
    assert "CONSOLE" not in done.stderr
    import numpy as np
    from PIL import Image

    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 200, "pictures are drawn, not only text"


def test_the_report_is_made_again_from_the_folder_alone(
    arcuate: Callable, finished: Path, tmp_path: Path
) -> None:  # fmt: skip
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    before = (copy / "sub-small.html").read_bytes()
    (copy / "sub-small.html").unlink()
    for folder in (copy, copy / "sub-small", copy / "sub-small" / "dwi"):
        outcome = arcuate("report", folder)
        assert outcome.code == 0, outcome.err
        assert outcome.out.strip() == str(copy / "sub-small.html")
    assert (copy / "sub-small.html").read_bytes() == before
    (copy / "sub-small" / "dwi" / "sub-small_desc-scan_facts.json").unlink()
    assert arcuate("report", copy).code == 0
    assert "the denoised scan" in (copy / "sub-small.html").read_text(encoding="utf-8")


def test_a_folder_without_a_run_is_the_users_mistake(arcuate: Callable, tmp_path: Path) -> None:
    outcome = arcuate("report", tmp_path)
    assert outcome.code == 2
    assert "found no finished run" in outcome.err


def test_without_pyvista_the_page_says_which_pictures_are_missing(
    arcuate: Callable, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    monkeypatch.setitem(sys.modules, "pyvista", None)
    assert arcuate("report", copy).code == 0
    text = (copy / "sub-small.html").read_text(encoding="utf-8")
    assert text.count("arcuate[viz]") == 2
    assert "Axial slices of FA" in text


def test_without_matplotlib_a_run_goes_on_and_says_so(
    arcuate: Callable, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _figure_class.cache_clear()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    outcome = arcuate("run", scan, "--out", tmp_path / "out", "--steps", "mask,dti")
    assert outcome.code == 0, outcome.err
    assert re.search(r"report\s+left out: .*arcuate\[report\]", " ".join(outcome.err.split()))
    assert not (tmp_path / "out" / "sub-ball.html").exists()
    outcome = arcuate("report", tmp_path / "out")
    assert outcome.code == 2
    assert "arcuate[report]" in outcome.err
