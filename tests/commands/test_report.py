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

from arcuate.io import NiftiVolumeResource
from arcuate.report import find_subjects, is_current
from arcuate.volumes.resource import InMemoryVolumeResource


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


def test_a_run_ends_in_one_page_with_every_section(finished: Path) -> None:
    page = _Page((finished / "sub-small.html").read_text(encoding="utf-8"))
    anchors = {attributes.get("id") for attributes in page.of("section")}
    expected = {"summary", "directions", "denoising", "mask", "tensor", "parameters", "methods", "about"}
    assert expected <= anchors
    assert {"response", "fods"} <= anchors
    assert "32 x 32 x 20" in page.text
    assert re.search(r"fitted\s*\d{3,}", page.text)
    assert "Patch2Self" in page.text
    assert "Fadnavis S" in page.text
    assert re.search(r"Run ended\s*20\d\d-\d\d-\d\d", page.text)
    assert re.search(r"Page drawn by\s*arcuate \d.*numba \d", page.text)
    links = {str(a["href"]) for a in page.of("a")}
    assert links == {f"#{a}" for a in anchors} & links, "every link leads to a section of the page"


def test_the_page_loads_nothing_and_is_small(finished: Path) -> None:
    path = finished / "sub-small.html"
    text = path.read_text(encoding="utf-8")
    page = _Page(text)
    assert path.stat().st_size < 15e6
    assert all(script.get("src") is None for script in page.of("script"))
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:")), f"<{tag} {name}={address[:60]}>"
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
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


def test_the_report_is_made_again_from_the_folder_alone(arcuate: Callable, finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    before = (copy / "sub-small.html").read_bytes()
    (copy / "sub-small.html").unlink()
    for folder in (copy, copy / "sub-small", copy / "sub-small" / "dwi"):
        command = [sys.executable, "-m", "arcuate", "report", str(folder)]  # a process of its own, as the run had
        outcome = subprocess.run(command, capture_output=True, text=True)
        assert outcome.returncode == 0, outcome.stderr
        assert outcome.stdout.strip() == str(copy / "sub-small.html")
    assert (copy / "sub-small.html").read_bytes() == before
    (copy / "sub-small" / "dwi" / "sub-small_desc-scan_facts.json").unlink()
    assert arcuate("report", copy).code == 0
    assert "the denoised scan" in (copy / "sub-small.html").read_text(encoding="utf-8")


def test_what_the_run_wrote_and_is_missing_is_named(arcuate: Callable, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")
    (tmp_path / "out/sub-small/dwi/sub-small_model-tensor_param-fa_dwimap.nii.gz").unlink()
    outcome = arcuate("report", tmp_path / "out")
    assert outcome.code == 0
    sentence = (
        "1 file that the run wrote is missing (sub-small_model-tensor_param-fa_dwimap.nii.gz): the page shows nothing"
    )
    assert f"sub-small: {sentence}" in outcome.err
    assert sentence in (tmp_path / "out/sub-small.html").read_text(encoding="utf-8")


def test_a_page_is_current_until_a_derivative_changes_or_goes(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")
    folder = tmp_path / "out" / "sub-small" / "dwi"

    def current() -> bool:
        (subject,) = find_subjects(tmp_path / "out")
        return is_current(subject)

    assert current()
    for path in folder.glob("*"):
        path.touch()  # dates say nothing
    (folder / "sub-small_timings.json").write_text("{}")
    assert current()
    map_, sidecar = (folder / f"sub-small_model-tensor_param-fa_dwimap.{end}" for end in ("nii.gz", "json"))
    for path, change in (
        (sidecar, lambda: sidecar.write_text(sidecar.read_text() + " ")),
        (map_, lambda: NiftiVolumeResource.save(_moved(map_), map_)),
        (map_, map_.unlink),
        (tmp_path / "out" / "sub-small.html", (tmp_path / "out" / "sub-small.html").unlink),
    ):
        kept = path.read_bytes()
        change()
        assert not current(), path.name
        path.write_bytes(kept)
        assert current()


def _moved(path: Path) -> InMemoryVolumeResource:
    volume = NiftiVolumeResource(path).load()
    return InMemoryVolumeResource(volume.get_array()[::-1], volume.get_affine(), volume.get_metadata())


def test_a_folder_without_a_run_is_the_users_mistake(arcuate: Callable, tmp_path: Path) -> None:
    outcome = arcuate("report", tmp_path)
    assert outcome.code == 2
    assert "found no finished run" in outcome.err


def test_without_pyvista_the_page_has_its_glyphs_all_the_same(
    arcuate: Callable, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    monkeypatch.setitem(sys.modules, "pyvista", None)
    assert arcuate("report", copy).code == 0
    text = (copy / "sub-small.html").read_text(encoding="utf-8")
    assert "arcuate[viz]" not in text, "glyphs need no PyVista"
    assert "FOD glyphs of the middle axial slice" in text
    assert "Axial slices of FA" in text
