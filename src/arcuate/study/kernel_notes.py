"""Notes of which kernels are compiled: a run that ended leaves one, so that a cohort knows whether one must go ahead.

They lie in the folder of the kernels if it is named by ``NUMBA_CACHE_DIR``, else in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from arcuate._version import __version__
from arcuate.numerics.user_folders import cache_folder, is_there

if TYPE_CHECKING:  # a worker that only looks for a note spares itself the import of the models
    from arcuate.study.plan import Settings


def kind_of_processor() -> str:
    """Name of the processor that kernels are compiled for."""
    import llvmlite.binding as llvm

    return os.environ.get("NUMBA_CPU_NAME") or str(llvm.get_host_cpu_name())


def note_name(settings: Settings, *, with_report: bool) -> str:
    """Name of the note of runs with these settings."""
    about = repr((__version__, sorted(vars(settings).items()), with_report))
    return hashlib.sha256(about.encode()).hexdigest()[:32]


def note_kernels(name: str) -> None:
    """Leave the note that runs of this name find their kernels; none where it cannot be written."""
    path = _note(name)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def are_noted(name: str) -> tuple[str, bool]:
    """Kind of this machine's processor, and whether a run of this name has ended on one."""
    return kind_of_processor(), is_there(_note(name))


def _note(name: str) -> Path:
    named = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(named) if named else cache_folder("arcuate")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    about = repr((name, python, str(Path(__file__).parent), kind_of_processor()))
    return folder / "arcuate-notes" / hashlib.sha256(about.encode()).hexdigest()[:32]
