"""Kernels compiled before they are needed: on request, or beside the first steps of a run."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from arcuate.gradients import GradientTable
from arcuate.volumes.resource import InMemoryVolumeResource

if TYPE_CHECKING:
    from arcuate.dwi import Dwi
    from arcuate.models.response import Response
    from arcuate.study.stages import Listener, Stage
    from arcuate.volumes.resource import VolumeResource

SHAPE = (12, 12, 9)
SHELLS = (700.0, 1500.0, 2500.0)  # s/mm²
N_DIRECTIONS = 45  # per shell: enough for degree 8


def compile_kernels(task: str) -> None:
    """Compile what one of :data:`TASKS` calls, and keep it where numba keeps kernels; nothing where it is there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a head of a thousand voxels
        TASKS[task](*_make_scan())


def are_compiled(task: str) -> bool:
    """Whether the kernels of "fod" or "peaks" are kept on disk for the present source, judged by the largest."""
    from arcuate.models.peak_kernels import find_peaks_of_voxels
    from arcuate.numerics.qp_kernel import solve_problems

    last = {"fod": solve_problems, "peaks": find_peaks_of_voxels}
    try:  # numba has no public question for this; without an answer nothing is done ahead
        return bool(last[task]._cache._cache_file._load_index())
    except Exception:
        return True


class Ahead:
    """Tasks that another process compiles while this one does the first steps of a run; nothing without tasks."""

    def __init__(self, tasks: tuple[str, ...]) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if tasks:
            command = [sys.executable, "-m", "arcuate", "compile", "--jobs", "1", *tasks]
            nowhere = subprocess.DEVNULL
            self._process = subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere)

    @classmethod
    def of_steps(cls, steps: Collection[str]) -> Ahead:
        """What the later of these steps need and is not there; nothing where only one thread may work."""
        from arcuate.numerics.threads import n_threads

        needed = () if n_threads() < 2 else tuple(task for task in ("fod", "peaks") if task in steps)
        return cls(tuple(task for task in needed if not are_compiled(task)))

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        """The process ends, also where it still compiles."""
        if self._process is not None:
            self._process.terminate()
            self.wait()

    def wait(self) -> None:
        """Until the tasks are compiled; what failed is compiled by who needs it."""
        if self._process is not None:
            self._process.wait()
            self._process = None

    def listener(self, inner: Listener) -> Listener:
        """Tells ``inner`` all it is told; a stage whose kernels are being compiled begins when they are there."""
        return _Waiting(self, inner)


class _Waiting:
    def __init__(self, ahead: Ahead, inner: Listener) -> None:
        self._ahead, self._inner = ahead, inner
        self.end, self.stop = inner.end, inner.stop

    def begin(self, stage: Stage) -> None:
        self._inner.begin(stage)
        if stage.name in ("response", "fod"):  # they share kernels
            with stage.compiling_elsewhere():
                self._ahead.wait()


def _tensor(dwi: Dwi, mask: VolumeResource) -> None:
    dwi.estimate_dti(mask=mask)
    dwi.estimate_dki(mask=mask)


def _noddi(dwi: Dwi, mask: VolumeResource) -> None:
    dwi.estimate_noddi(mask=mask)


def _denoise(dwi: Dwi, mask: VolumeResource) -> None:
    from arcuate.denoise import shell_residuals

    shell_residuals(dwi, dwi.denoise(method="mppca"), mask)


def _mask(dwi: Dwi, _: VolumeResource) -> None:
    dwi.extract_brain(method="otsu")


def _report(_: Dwi, __: VolumeResource) -> None:
    from arcuate.figures.glyphs import render_glyphs
    from arcuate.numerics.sphere import get_sphere

    sphere = get_sphere("symmetric362")
    odf = np.ones((2, 2, 1, len(sphere.vertices)), np.float32)
    render_glyphs(odf, sphere=sphere, size=(64, 64), background=odf[..., 0])


@lru_cache(maxsize=1)
def _three_tissues(dwi: Dwi, mask: VolumeResource) -> Response:
    from arcuate.csd import estimate_response_function

    return estimate_response_function(dwi, mask, algorithm="dhollander")


def _response(dwi: Dwi, mask: VolumeResource) -> None:
    from arcuate.csd import compute_csd_fods, estimate_response_function

    _three_tissues(dwi, mask)
    response = estimate_response_function(dwi, mask, algorithm="tournier", shell=SHELLS[-1])
    compute_csd_fods(dwi, mask, response)


def _fod(dwi: Dwi, mask: VolumeResource) -> None:
    from arcuate.csd import estimate_fods
    from arcuate.mtnormalise import mtnormalise

    mtnormalise(estimate_fods(dwi, mask, _three_tissues(dwi, mask)).volumes, mask)


def _peaks(dwi: Dwi, mask: VolumeResource) -> None:
    from arcuate.csd import compute_csd_peaks

    compute_csd_peaks(dwi, mask, _three_tissues(dwi, mask))


TASKS: dict[str, Callable[[Dwi, VolumeResource], None]] = {
    "fod": _fod,
    "tensor": _tensor,
    "noddi": _noddi,
    "response": _response,
    "peaks": _peaks,
    "denoise": _denoise,
    "mask": _mask,
    "report": _report,
}


@lru_cache(maxsize=1)
def _make_scan() -> tuple[Dwi, VolumeResource]:
    """A block of white matter with fibres of all directions, one of grey matter and one of fluid, with noise."""
    from arcuate.dwi import Dwi

    rng = np.random.default_rng(0)
    directions = rng.normal(size=(len(SHELLS) * N_DIRECTIONS + 3, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    bvals = np.r_[np.zeros(3), np.repeat(SHELLS, N_DIRECTIONS)]
    directions[:3] = 0.0
    n_vox = int(np.prod(SHAPE))
    fibres = rng.normal(size=(n_vox, 3))
    fibres /= np.linalg.norm(fibres, axis=1, keepdims=True)
    tissue = np.repeat([0, 1, 2], [n_vox // 2, n_vox // 4, n_vox - n_vox // 2 - n_vox // 4])
    along, across = np.array([1.8e-3, 0.8e-3, 3e-3])[tissue, None], np.array([0.3e-3, 0.8e-3, 3e-3])[tissue, None]
    diffusivity = across + (along - across) * (fibres @ directions.T) ** 2  # mm²/s
    signal = np.array([1000.0, 1200.0, 2500.0])[tissue, None] * np.exp(-bvals * diffusivity)
    signal = np.abs(signal + rng.normal(scale=20.0, size=signal.shape)).astype(np.float32)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    dwi = Dwi.from_arrays(signal.reshape(*SHAPE, -1), affine, GradientTable(bvals, directions))
    return dwi, InMemoryVolumeResource(np.ones(SHAPE, np.uint8), affine)
