"""Sections of a page that are drawn on a thread of their own while later steps of the run compute.

Kernels let other threads run, and a section of maps needs nothing but the files of its step and the mask: what is drawn
while FODs are computed is not waited for after them.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from arcuate.numerics.threads import n_threads
from arcuate.report.subject import SubjectFiles

if TYPE_CHECKING:
    from arcuate.report.section import Section
    from arcuate.study.outputs import Outputs, RunRecord

SECTION_OF = {"dti": "tensor", "kurtosis": "kurtosis", "freewater": "freewater", "noddi": "noddi"}  # by step
_STEP_OF = {anchor: step for step, anchor in SECTION_OF.items()}

_Basis = tuple[tuple[str, str | None], ...]  # path and sha256 of each file that a section is drawn from


class EarlySections:
    """Sections that were begun before the page was asked for; a context, left without waiting for those not begun.

    Parameters
    ----------
    prepare : called on the thread that draws, after the first section: what the page needs besides
    """

    def __init__(self, prepare: Callable[[], None] | None = None) -> None:
        self._prepare = prepare
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="arcuate-drawing")
        self._begun: dict[str, tuple[_Basis, Future[Section]]] = {}

    def __enter__(self) -> EarlySections:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def draw(self, outputs: Outputs, step: str) -> None:
        """Begin with the section of a step whose files were written just now.

        Nothing where one thread may work, for a step that has no section of its own, and where the run repeats a
        finished one: then most is kept, and the page too.
        """
        if step not in SECTION_OF or n_threads() == 1 or outputs.repeats:
            return
        is_first = not self._begun
        subject = SubjectFiles(outputs.names, outputs.record)
        anchor = SECTION_OF[step]
        self._begun[anchor] = (_basis_of(subject.record, step), self._pool.submit(_draw, anchor, subject))
        if is_first:
            self._pool.submit(_prepare_page)
            if self._prepare is not None:
                self._pool.submit(self._prepare)

    def of(self, anchor: str, subject: SubjectFiles) -> Section | None:
        """The section as it was drawn; None where it was not, failed, or its files are others now."""
        basis, drawn = self._begun.get(anchor, ((), None))
        if drawn is None or basis != _basis_of(subject.record, _STEP_OF[anchor]):
            return None
        try:
            return drawn.result()
        except Exception:  # drawn again, it says what is wrong where the page is made
            return None


def _basis_of(record: RunRecord, step: str) -> _Basis:
    """What the section of a step is drawn from: its files, and the mask, for which the tensor may stand."""
    return tuple((file.path, file.sha256) for file in record.files if file.step in {"mask", "dti", step})


def _draw(anchor: str, subject: SubjectFiles) -> Section:
    from arcuate.report.arrays import Arrays
    from arcuate.report.pictures import draw_section

    return draw_section(anchor, Arrays(subject))


def _prepare_page() -> None:
    """What every page needs: its modules, and its template."""
    import arcuate.figures  # what draws FODs
    import arcuate.report.page
    from arcuate.report.template import load_template

    load_template(arcuate.report.page.TEMPLATE)
