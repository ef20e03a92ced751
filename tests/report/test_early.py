"""Sections that are drawn while a run goes on are those of the page, or are drawn again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from arcuate.report import EarlySections, SubjectFiles
from arcuate.report.pictures import sections_of
from arcuate.report.section import Section
from arcuate.study.bids import Derivatives
from arcuate.study.maps import Map
from arcuate.study.outputs import Outputs
from arcuate.volumes.resource import InMemoryVolumeResource


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine has, and a test before has asked for: nothing is drawn early on one."""
    monkeypatch.setattr("arcuate.report.early.n_threads", lambda: 2)


def ball() -> np.ndarray:
    """(x, y, z) 1 inside."""
    x, y, z = np.indices((12, 13, 9))
    return (x - 6) ** 2 + (y - 6) ** 2 + (z - 4) ** 2 < 16


def write_tensor(outputs: Outputs, level: float) -> None:
    def image(array: np.ndarray) -> InMemoryVolumeResource:
        return InMemoryVolumeResource(np.asarray(array, np.float32), np.eye(4))

    rng = np.random.default_rng(0)
    outputs.image("desc-brain_mask.nii.gz", image(ball()), {}, role="mask", step="mask", made_from=())
    maps = [Map("fa", image(level * rng.random(ball().shape) * ball())), Map("md", image(8e-4 * ball()))]
    outputs.maps("tensor", maps, {}, step="dti", made_from=())
    outputs.note("dti", {})


def tensor_of(sections: list[Section]) -> Section:
    return next(section for section in sections if section.anchor == "tensor")


def test_a_section_that_was_drawn_early_is_the_page_s_own(tmp_path: Path) -> None:
    outputs = Outputs(Derivatives(tmp_path, "sub-1"), {})
    write_tensor(outputs, 0.8)
    with EarlySections() as early:
        early.draw(outputs, "mask")  # has no section
        early.draw(outputs, "dti")
        outputs.finish()
        subject = SubjectFiles(outputs.names)
        drawn = early.of("tensor", subject)
        assert early.of("mask", subject) is None
        with_early, without = sections_of(subject, early=early), sections_of(subject)
    assert drawn is not None
    assert drawn.pictures
    assert tensor_of(with_early) is drawn
    assert with_early == without


def test_a_section_whose_files_changed_since_is_drawn_again(tmp_path: Path) -> None:
    outputs = Outputs(Derivatives(tmp_path, "sub-1"), {})
    write_tensor(outputs, 0.8)
    with EarlySections() as early:
        early.draw(outputs, "dti")
        write_tensor(outputs, 0.4)
        outputs.finish()
        subject = SubjectFiles(outputs.names)
        assert early.of("tensor", subject) is None
        assert sections_of(subject, early=early) == sections_of(subject)


def test_what_fails_early_is_drawn_again_at_the_end(tmp_path: Path) -> None:
    outputs = Outputs(Derivatives(tmp_path, "sub-1"), {})
    write_tensor(outputs, 0.8)
    fa = outputs.names.dwimap("tensor", "fa")
    content = fa.read_bytes()
    fa.write_bytes(b"no image")
    with EarlySections() as early:
        early.draw(outputs, "dti")
        early._pool.submit(int).result()  # after it
        fa.write_bytes(content)
        outputs.finish()
        assert early.of("tensor", SubjectFiles(outputs.names)) is None
        assert tensor_of(sections_of(SubjectFiles(outputs.names), early=early)).pictures


def test_a_run_that_repeats_a_finished_one_draws_nothing_early(tmp_path: Path) -> None:
    for n_begun in (1, 0):
        outputs = Outputs(Derivatives(tmp_path, "sub-1"), {})
        write_tensor(outputs, 0.8)
        with EarlySections() as early:
            early.draw(outputs, "dti")
            assert len(early._begun) == n_begun
        outputs.finish()


def test_nothing_is_drawn_early_on_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arcuate.report.early.n_threads", lambda: 1)
    outputs = Outputs(Derivatives(tmp_path, "sub-1"), {})
    write_tensor(outputs, 0.8)
    with EarlySections() as early:
        early.draw(outputs, "dti")
    assert not early._begun


def test_the_end_of_a_run_does_not_wait_for_what_was_not_begun(tmp_path: Path) -> None:
    outputs = Outputs(Derivatives(tmp_path, "sub-1"), {})
    write_tensor(outputs, 0.8)
    with EarlySections() as early:
        early.draw(outputs, "dti")
        waiting = early._pool.submit(int)
    assert waiting.cancelled()
