"""Every step on one small scan, and how its numbers are compared with the ones kept in ``steps.npz``.

Shared by ``test_golden.py`` and ``scripts/update_golden.py``. The scan is made here, from tensors and a fixed seed, so
that nothing else in arcuate can move it.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import arcuate
from arcuate.cache.step import Step
from arcuate.dwi import Dwi
from arcuate.gradients import GradientTable
from arcuate.volumes.resource import InMemoryVolumeResource, VectorResource, VolumeResource

KEPT = Path(__file__).with_name("steps.npz")
TOLERANCE = 1e-5  # of the largest magnitude in an array: what another processor may change
MAY_DIFFER = 2e-3  # share of the values beyond it: an active set that flips on a tie

# Steps that cannot run here, and why.
LEFT_OUT: dict[str, str] = {
    "_find_tracts": "weights of 148 MB; compared with TractSeg in tests/test_tractseg.py",
    "correct_bias": "ANTs' N4; compared with it in tests/test_structural.py",
    "estimate_tissues": "ANTs' Atropos; compared with it in tests/test_structural.py",
    "register_dwi_to_structural": "ANTs' registration; compared with it in tests/test_registration.py",
    "structural_mask": "the mask of masks.py on another image; see tests/test_structural.py",
    "network_mask": "a network of 65 MB; compared with HD-BET in tests/test_masks_network.py",
}

Run = Callable[["Context"], Any]


class Context:
    """The scan, and results that later steps start from."""

    def __init__(self) -> None:
        self.scan = make_scan()
        shape = self.scan.volume.shape[:3]
        inside = np.zeros(shape, np.uint8, order="F")
        inside[1:-1, 1:-1, 1:-1] = 1
        self.mask = InMemoryVolumeResource(inside, self.scan.volume.get_affine())


def make_scan(n: int = 8) -> Dwi:
    """(n, n, n - 2, 69) float32: fibres in one and two directions, water, and noise of SNR 30."""
    rng = np.random.default_rng(20_240_501)
    bvals = np.repeat([0.0, 1000.0, 2500.0], [5, 32, 32])
    directions = np.concatenate([np.zeros((5, 3)), _spiral(32), _spiral(32)[:, [1, 2, 0]]])
    shape = (n, n, n - 2)
    affine = np.array([[-1.9, 0.3, 0, 8], [0.3, 1.9, 0.2, -7], [0, -0.2, 2.0, -5], [0, 0, 0, 1.0]])
    first, second = _unit(rng.normal(size=(*shape, 3))), _unit(rng.normal(size=(*shape, 3)))
    share = np.where(rng.random(shape) < 0.5, 0.0, 0.5)[..., None]
    water = np.clip(rng.normal(0.1, 0.2, size=shape), 0, 1)[..., None]

    def fibre(axis: np.ndarray) -> np.ndarray:
        along = (axis @ directions.T) ** 2
        return np.exp(-bvals * (0.3e-3 + 1.4e-3 * along))

    signal = (1 - share) * fibre(first) + share * fibre(second)
    signal = 1000 * ((1 - water) * signal + water * np.exp(-bvals * 3e-3))
    noise = rng.normal(scale=1000 / 30, size=(2, *signal.shape))
    signal = np.sqrt((signal + noise[0]) ** 2 + noise[1] ** 2)
    array = np.asfortranarray(signal.astype(np.float32))
    return Dwi.from_arrays(array, affine, GradientTable(bvals, directions))


def run_all() -> dict[str, tuple[int, dict[str, np.ndarray]]]:
    """{step: (version, {part: array})} of every step in :data:`STEPS`."""
    context = Context()
    return {name: (_version(name), dict(arrays_of(run(context)))) for name, run in STEPS.items()}


def arrays_of(value: Any, part: str = "result") -> Iterator[tuple[str, np.ndarray]]:
    """Every array in a result, with its place."""
    if isinstance(value, VolumeResource):
        yield part, np.asarray(value.get_array())
    elif isinstance(value, VectorResource):
        yield part, np.asarray(value.get())
    elif isinstance(value, np.ndarray):
        yield part, value
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from arrays_of(item, f"{part}.{i}")
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, VolumeResource | np.ndarray) or dataclasses.is_dataclass(item):
                yield from arrays_of(item, f"{part}.{key}")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from arrays_of(getattr(value, field.name), f"{part}.{field.name}")
    elif isinstance(value, float):
        yield part, np.array(value)


def thinned(array: np.ndarray) -> np.ndarray:
    """At most about 3000 values of an array, spread over all of it, float32."""
    flat = array.reshape(-1, order="F")
    return flat[:: max(1, len(flat) // 3000)].astype(np.float32)


def differences(found: dict[str, np.ndarray], kept: dict[str, np.ndarray]) -> list[str]:
    """What moved, one line per array; empty if nothing did. ``kept`` holds thinned arrays."""
    if not found:
        return ["there are no numbers in the result"]
    lines = [f"{part} is gone" for part in kept.keys() - found.keys()]
    lines += [f"{part} is new" for part in found.keys() - kept.keys()]
    for part in sorted(found.keys() & kept.keys()):
        new, old = thinned(found[part]).astype(float), kept[part].astype(float)
        if new.shape != old.shape:
            lines.append(f"{part} has another size")
            continue
        scale = max(1e-30, float(np.abs(old[np.isfinite(old)]).max(initial=0.0)))
        is_same = np.isclose(new, old, rtol=0, atol=TOLERANCE * scale, equal_nan=True)
        share = 1 - is_same.mean() if len(new) else 0.0
        if share > MAY_DIFFER or (share > 0 and len(new) < 100):
            moves = np.abs(new - old)
            worst = moves[np.isfinite(moves)].max(initial=0.0) / scale
            lines.append(f"{part}: {share:.1%} of the values moved, by up to {worst:.2g} of the largest")
    return lines


def load_kept() -> dict[str, tuple[int, dict[str, np.ndarray]]]:
    """{step: (version, {part: thinned array})} as kept; empty where nothing is."""
    if not KEPT.exists():
        return {}
    with np.load(KEPT) as file:
        versions = json.loads(str(file["versions"]))
        kept: dict[str, tuple[int, dict[str, np.ndarray]]] = {name: (version, {}) for name, version in versions.items()}
        for key in file.files:
            if key != "versions":
                name, part = key.split("|")
                kept[name][1][part] = file[key]
    return kept


def save_kept(results: dict[str, tuple[int, dict[str, np.ndarray]]]) -> None:
    """Keep the numbers of these results; ``results`` may hold thinned arrays already."""
    arrays = {f"{name}|{part}": thinned(array) for name, (_, parts) in results.items() for part, array in parts.items()}
    versions = json.dumps({name: version for name, (version, _) in results.items()})
    np.savez_compressed(KEPT, versions=np.array(versions), **arrays)


def all_steps() -> dict[str, Step]:
    """Every step of arcuate by its label, found by looking through all modules."""
    found: dict[str, Step] = {}
    for module in pkgutil.iter_modules(arcuate.__path__):
        if module.name.startswith("_") or module.name == "resource":  # the old name of another module
            continue
        contents = vars(importlib.import_module(f"arcuate.{module.name}"))
        classes = [value for value in contents.values() if isinstance(value, type)]
        for value in [*contents.values(), *(v for cls in classes for v in vars(cls).values())]:
            step = getattr(getattr(value, "__func__", value), "step", None)
            if isinstance(step, Step):
                found[step.label] = step
    return found


def _version(name: str) -> int:
    version = all_steps()[name].version
    assert isinstance(version, int), f"{name} has no version of its own: write @cacheable(version=1)"
    return version


def _spiral(n: int) -> np.ndarray:
    """n directions on a hemisphere, evenly spread."""
    k = np.arange(n) + 0.5
    z, phi = 1 - k / n, np.pi * (1 + 5**0.5) * k
    r = np.sqrt(1 - z**2)
    return np.column_stack([r * np.cos(phi), r * np.sin(phi), z])


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _dti(context: Context) -> Any:
    from arcuate.dti import Dti

    return Dti.estimate_dti(context.scan, context.mask)


def _free_water(context: Context) -> Any:
    from arcuate.freewater import FreeWater

    return FreeWater.estimate_free_water(context.scan, context.mask)


def _dki(context: Context) -> Any:
    from arcuate.kurtosis import Dki

    return Dki.estimate_dki(context.scan, context.mask)


def _brain(context: Context) -> Any:
    from arcuate.masks import brain_mask

    shape = (32, 36, 28)
    x, y, z = (((np.arange(n) + 0.5) / n - 0.5) / 0.36 for n in shape)
    away = x[:, None, None] ** 2 + y[:, None] ** 2 + z**2
    rng = np.random.default_rng(7)
    head = np.where(away < 1, 800 + 300 * away, 0.0) + np.abs(rng.normal(scale=20, size=shape))
    affine = np.diag([5.0, 5.0, 5.0, 1.0])
    scan = Dwi.from_arrays(head[..., None].astype(np.float32), affine, GradientTable(np.zeros(1), np.zeros((1, 3))))
    return brain_mask(scan, method="otsu")


def _denoising(context: Context) -> Any:
    from arcuate.denoise import run_denoising

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a small scan
        return [
            run_denoising(context.scan, clip=False),
            run_denoising(context.scan, method="mppca", extent=3, rician=True),
        ]


def _noddi(context: Context) -> Any:
    from arcuate.noddi import Noddi

    return [Noddi.estimate_noddi(context.scan, context.mask, refine=refine) for refine in (False, True)]


def _response(context: Context) -> Any:
    from arcuate.csd import estimate_response_function

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a small scan: few directions, few voxels
        return [
            estimate_response_function(context.scan, context.mask, "ssst", shell=2500, fa_threshold=0.5),
            estimate_response_function(context.scan, context.mask, "tournier"),
            estimate_response_function(_tissue_blocks(context.scan), None, "dhollander"),
        ]


def _tissue_blocks(scan: Dwi) -> Dwi:
    """The scan between blocks of grey matter and of water: something for each tissue of dhollander's algorithm."""
    rng = np.random.default_rng(11)
    bvals = scan.bval.get()
    blocks = [np.asarray(scan.volume.get_array())]
    for s0, diffusivity in ((1100, 0.85e-3), (2500, 3e-3)):
        signal = s0 * np.exp(-bvals * diffusivity) * rng.uniform(0.9, 1.1, size=(*scan.volume.shape[:3], 1))
        noise = rng.normal(scale=1000 / 30, size=(2, *signal.shape))
        blocks.append(np.sqrt((signal + noise[0]) ** 2 + noise[1] ** 2))
    array = np.asfortranarray(np.concatenate(blocks).astype(np.float32))
    return Dwi(InMemoryVolumeResource(array, scan.volume.get_affine()), scan.bval, scan.bvec)


def _fods(context: Context) -> Any:
    from arcuate.csd import estimate_fods

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fods = [estimate_fods(context.scan, context.mask, r) for r in (_fibre_response(), _tissue_response())]
    return [dataclasses.replace(f, kkt_residual=None) for f in fods]  # the residual is rounding


def _peaks(context: Context) -> Any:
    from arcuate.csd import compute_csd_peaks

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compute_csd_peaks(context.scan, context.mask, _fibre_response())


def _fibre_response() -> Any:
    from arcuate.models.response import tensor_response

    return tensor_response(np.array([1.7e-3, 0.3e-3, 0.3e-3]), 1000.0, 2500.0, lmax=6)


def _tissue_response() -> Any:
    """White matter and water on all shells: the response that asks for multi-tissue CSD."""
    from arcuate.models.response import Response
    from arcuate.models.response_zonal import tensor_zonal

    bvals = np.array([0.0, 1000.0, 2500.0])
    fibre = np.stack([tensor_zonal(np.array([1.7e-3, 0.3e-3, 0.3e-3]), 1000.0, b, 6) for b in bvals])
    water = np.stack([tensor_zonal(np.full(3, 3e-3), 1000.0, b, 0) for b in bvals])
    return Response(("wm", "csf"), bvals, (fibre, water))


def _normalised_tissues(context: Context) -> Any:
    from arcuate.mtnormalise import mtnormalise

    rng = np.random.default_rng(4)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in (14, 12, 10)], indexing="ij")
    shading = np.exp(0.3 * x - 0.2 * y * z)
    shares = rng.dirichlet([2, 1, 1], size=x.shape) * 0.28 * shading[..., None]
    white = np.concatenate([shares[..., :1], rng.normal(0, 0.05, (*x.shape, 5))], axis=-1)
    images = {"wm": white, "gm": shares[..., 1], "csf": shares[..., 2]}
    tissues = {name: InMemoryVolumeResource(image.astype(np.float32)) for name, image in images.items()}
    inside = (x**2 + y**2 + z**2 < 1.5).astype(np.uint8)
    return mtnormalise(tissues, InMemoryVolumeResource(inside))


def _peaks_of_fods(context: Context) -> Any:
    from arcuate.csd import find_fod_peaks

    rng = np.random.default_rng(3)
    coefs = rng.normal(size=(6, 6, 6, 28)) * np.repeat([0.3, 0.15, 0.1, 0.05], [1, 5, 9, 13])
    coefs[..., 0] = 0.4
    volume = InMemoryVolumeResource(np.asfortranarray(coefs.astype(np.float32)))
    return find_fod_peaks(volume, n_peaks=3)


def _residuals(context: Context) -> Any:
    from arcuate.denoise import shell_residuals

    scan = context.scan
    smooth = np.asarray(scan.volume.get_array()).copy(order="F")
    smooth[1:] = 0.5 * (smooth[1:] + smooth[:-1])
    after = Dwi(InMemoryVolumeResource(smooth, scan.volume.get_affine()), scan.bval, scan.bvec)
    return shell_residuals(scan, after, context.mask)


STEPS: dict[str, Run] = {
    "brain_mask": _brain,
    "Dti.estimate_dti": _dti,
    "run_denoising": _denoising,
    "shell_residuals": _residuals,
    "Dki.estimate_dki": _dki,
    "FreeWater.estimate_free_water": _free_water,
    "Noddi.estimate_noddi": _noddi,
    "estimate_response_function": _response,
    "estimate_fods": _fods,
    "compute_csd_peaks": _peaks,
    "find_fod_peaks": _peaks_of_fods,
    "mtnormalise": _normalised_tissues,
}
