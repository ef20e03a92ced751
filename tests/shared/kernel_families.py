"""Each family of kernels on a small scan, as a program: ``python kernel_families.py RESULTS.npz FAMILY ...``.

It writes what the families gave, in the order in which they were named, and prints the processor seconds of each: the
compiling and loading of kernels and then, in a second call that only computes, their own.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from arcuate.commands.compilation import _make_scan, _three_tissues
from arcuate.gradients import GradientTable

Family = Callable[[], object]


def _rows() -> tuple[np.ndarray, GradientTable]:
    dwi, _ = _make_scan()
    return dwi.volume.get_array().reshape(-1, len(dwi.gradients)).astype(np.float64), dwi.gradients


def _eigen() -> object:
    from arcuate.numerics.eigen import eigh_3x3

    return eigh_3x3(np.random.default_rng(0).normal(size=(4000, 6)))


def _tensor() -> object:
    from arcuate.models.tensor import fit_tensor

    return fit_tensor(*_rows())


def _robust() -> object:
    from arcuate.models.robust_tensor import fit_robust_tensor

    rows, gradients = _rows()
    rows = rows.copy()
    rows[::3, 20] *= 0.3
    return fit_robust_tensor(rows, gradients)


def _rician() -> object:
    from arcuate.models.rician_tensor import fit_rician_tensor

    rows, gradients = _rows()
    return fit_rician_tensor(rows[:200], gradients, np.full(200, 20.0))


def _free_water() -> object:
    from arcuate.models.free_water import fit_free_water_tensor

    rows, gradients = _rows()
    return fit_free_water_tensor(rows[:200], gradients)


def _kurtosis() -> object:
    from arcuate.models.kurtosis import fit_kurtosis

    return fit_kurtosis(*_rows(), constrained=True)


def _kurtosis_measures() -> object:
    from arcuate.models.kurtosis_measures import kurtosis_measures

    rng = np.random.default_rng(1)
    evals = np.sort(rng.uniform(0.2e-3, 2e-3, (400, 3)))[:, ::-1].copy()
    turns = np.linalg.qr(rng.normal(size=(400, 3, 3)))[0]
    return kurtosis_measures(evals, turns, rng.uniform(0, 1, (400, 15)))


def _noddi() -> object:
    from arcuate.models.noddi import fit_noddi

    return fit_noddi(*_rows())


def _refine() -> object:
    from arcuate.models.noddi import fit_noddi

    rows, gradients = _rows()
    return fit_noddi(rows[:200], gradients, refine=True)


def _fods() -> np.ndarray:
    """FODs of two fibres and noise, (300, 45)."""
    from arcuate.numerics.sh import sh_matrix

    rng = np.random.default_rng(2)
    ends = rng.normal(size=(2, 300, 3))
    ends /= np.linalg.norm(ends, axis=-1, keepdims=True)
    smooth = np.exp(-0.02 * np.concatenate([[n * (n + 1)] * (2 * n + 1) for n in range(0, 9, 2)]))
    return np.asarray(
        (sh_matrix(ends[0], 8) + 0.6 * sh_matrix(ends[1], 8)) * smooth + 0.01 * rng.normal(size=(300, 45))
    )


def _peaks() -> object:
    from arcuate.models.peaks import find_peaks

    return find_peaks(_fods())


def _fixels() -> object:
    from arcuate.models.fixels import segment_lobes

    return segment_lobes(_fods())


def _cone() -> object:
    from arcuate.numerics.qp import ConeProblem

    rng = np.random.default_rng(3)
    design, constraints = rng.normal(size=(60, 45)), rng.normal(size=(150, 45))
    constraints[:, 0] = 4.0
    signals = rng.normal(size=(500, 60)) + 0.2 * design[:, 0]
    return ConeProblem(design, constraints).solve(signals)


def _multi_tissue() -> object:
    from arcuate.models.multitissue import fit_multi_tissue

    return fit_multi_tissue(*_rows(), _three_tissues())


def _csd() -> object:
    from arcuate.models.csd import fit_csd
    from arcuate.models.response import tensor_response

    response = tensor_response(np.array([1.7e-3, 0.3e-3, 0.3e-3]), 1000.0, 2500.0)
    return fit_csd(*_rows(), response)


def _mppca() -> object:
    from arcuate.models.mppca import fit_mppca

    dwi, _ = _make_scan()
    return fit_mppca(dwi.volume.get_array())


def _turned() -> object:
    from arcuate.models.reorient import reorient_fods, reorient_tensors

    rng = np.random.default_rng(5)
    forward = np.eye(3) + 0.1 * rng.normal(size=(300, 3, 3))
    return reorient_fods(_fods(), forward), reorient_tensors(rng.normal(size=(300, 6)), forward)


def _places() -> object:
    from arcuate.numerics.filters import median_filter
    from arcuate.numerics.interpolation import interpolate_linearly

    rng = np.random.default_rng(6)
    grid = rng.normal(size=(9, 8, 7, 3))
    return interpolate_linearly(grid, rng.uniform(-1, 9, (500, 3))), median_filter(grid[..., 0].astype(np.float32), 2)


FAMILIES: dict[str, Family] = {
    "eigen": _eigen,
    "places": _places,
    "peaks": _peaks,
    "fixels": _fixels,
    "tensor": _tensor,
    "robust": _robust,
    "rician": _rician,
    "free_water": _free_water,
    "kurtosis": _kurtosis,
    "kurtosis_measures": _kurtosis_measures,
    "noddi": _noddi,
    "refine": _refine,
    "mppca": _mppca,
    "turned": _turned,
    "csd": _csd,
    "cone": _cone,
    "multi_tissue": _multi_tissue,
}


def arrays_of(result: object, name: str) -> dict[str, np.ndarray]:
    """All arrays within a result, by where they are."""
    if isinstance(result, np.ndarray):
        return {name: result}
    if is_dataclass(result):
        parts: Mapping[Any, Any] = {field.name: getattr(result, field.name) for field in fields(result)}
    elif isinstance(result, tuple | list):
        parts = dict(enumerate(result))
    else:
        return {}
    return {k: v for part, value in parts.items() for k, v in arrays_of(value, f"{name}.{part}").items()}


def main() -> None:
    """Run the families that are named."""
    arrays, seconds = {}, {}
    for name in sys.argv[2:]:
        begin = time.process_time()
        result = FAMILIES[name]()
        middle = time.process_time()
        FAMILIES[name]()
        seconds[name] = [middle - begin, time.process_time() - middle]
        arrays |= arrays_of(result, name)
    np.savez(sys.argv[1], **arrays)
    print(json.dumps(seconds))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
