"""Kernels compiled before they are needed, task by task."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from arcuate.gradients import GradientTable
from arcuate.numerics.compiled import collecting_rarely
from arcuate.volumes.resource import InMemoryVolumeResource

if TYPE_CHECKING:
    from arcuate.dwi import Dwi
    from arcuate.models.response import Response
    from arcuate.volumes.resource import VolumeResource

SHAPE = (12, 12, 9)
SHELLS = (700.0, 1500.0, 2500.0)  # s/mm²
N_DIRECTIONS = 45  # per shell: enough for degree 8


def compile_kernels(task: str) -> None:
    """Compile what one of :data:`TASKS` calls, and keep it where numba keeps kernels; nothing where it is there."""
    with warnings.catch_warnings(), collecting_rarely():
        warnings.simplefilter("ignore")  # about a head of a thousand voxels
        TASKS[task]()


def _tensor() -> None:
    dwi, mask = _make_scan()
    dwi.estimate_dti(mask=mask)
    dwi.estimate_dki(mask=mask)


def _noddi() -> None:
    from arcuate.models.noddi import prepare_noddi
    from arcuate.numerics.nnls import solve_nonnegative

    dwi, _ = _make_scan()
    prepare_noddi(dwi.gradients).fit(dwi.volume.get_array().reshape(-1, len(dwi.gradients))[:8])
    solve_nonnegative(np.eye(2), np.eye(2), np.ones(2))  # of responses: the same solver in the same size


def _refine() -> None:
    from arcuate.models.noddi import compile_refinement

    compile_refinement(_make_scan()[0].gradients)


def _denoise() -> None:
    from arcuate.denoise import shell_residuals

    dwi, mask = _make_scan()
    shell_residuals(dwi, dwi.denoise(method="mppca"), mask)


def _mask() -> None:
    _make_scan()[0].extract_brain(method="otsu")


def _report() -> None:
    from arcuate.figures.glyphs import render_glyphs
    from arcuate.numerics.sphere import get_sphere

    sphere = get_sphere("symmetric362")
    odf = np.ones((2, 2, 1, len(sphere.vertices)), np.float32)
    render_glyphs(odf, sphere=sphere, size=(64, 64), background=odf[..., 0])


@lru_cache(maxsize=1)
def _three_tissues() -> Response:
    from arcuate.csd import estimate_response_function

    return estimate_response_function(*_make_scan(), algorithm="dhollander")


def _response() -> None:
    from arcuate.csd import compute_csd_fods, estimate_response_function

    dwi, mask = _make_scan()
    _three_tissues()
    response = estimate_response_function(dwi, mask, algorithm="tournier", shell=SHELLS[-1])
    compute_csd_fods(dwi, mask, response)


def _fod() -> None:
    from arcuate.csd import estimate_fods
    from arcuate.mtnormalise import mtnormalise

    dwi, mask = _make_scan()
    mtnormalise(estimate_fods(dwi, mask, _three_tissues()).volumes, mask)


def _cone() -> None:
    from arcuate.numerics.qp import compile_solver

    compile_solver()


def _peaks() -> None:
    from arcuate.models.peaks import find_peaks
    from arcuate.numerics.panel_product import evaluate_rows

    find_peaks(np.eye(45), n_peaks=3)
    evaluate_rows(np.eye(2), np.eye(2))


TASKS: dict[str, Callable[[], None]] = {
    "cone": _cone,
    "fod": _fod,
    "tensor": _tensor,
    "noddi": _noddi,
    "refine": _refine,
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
