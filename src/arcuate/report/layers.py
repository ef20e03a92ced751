"""Every map as the viewer takes it: one byte per voxel, a NIfTI image each, packed into the page."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from isal import igzip

from arcuate.figures.panels import robust_limits
from arcuate.report.arrays import Arrays
from arcuate.report.styles import NOT_PLAIN, rank_of, style_of
from arcuate.report.subject import SubjectFiles
from arcuate.report.viewer_grid import ViewerGrid

BUDGET = 4_000_000  # bytes of all maps inside the brain, before they are packed


@dataclass(frozen=True, eq=False)
class Layer:
    """One map on the viewer's grid.

    Parameters
    ----------
    values : (nx, ny, nz) float, or (nx, ny, nz, 3) of colours in 0..1
    limits : values of the darkest and the brightest colour; None for what the map holds
    """

    name: str
    group: str
    values: np.ndarray
    colormap: str = "gray"
    limits: tuple[float, float] | None = None

    @property
    def is_color(self) -> bool:
        return self.values.ndim == 4

    @property
    def is_mask(self) -> bool:
        """Whether it is nothing where it is 0."""
        return self.group == "Tracts" or self.name == "Brain mask"

    @property
    def weight(self) -> float:
        """Bytes that a voxel takes, about; masks are packed into nearly nothing."""
        return 3.0 if self.is_color else 0.05 if self.is_mask else 1.0


def viewer_maps(subject: SubjectFiles, grid: ViewerGrid, arrays: Arrays | None = None) -> dict[str, Any]:
    """What ``js/src/slices.js`` reads: the grid, and every map in it."""
    layers = list(layers_of(grid, arrays or Arrays(subject)))
    factor = 1
    while grid.mask.sum() / factor**3 * sum(layer.weight for layer in layers) > BUDGET:
        factor += 1
    mask = reduce_grid(grid.mask.astype(np.float32), grid.mask, factor) > 0
    affine = reduced_affine(grid.box_affine, factor)
    return {
        "shape": list(mask.shape),
        "start": grid.start,
        "factor": factor,
        "middle": [min(at // factor, n - 1) for at, n in zip(grid.middle, mask.shape, strict=True)],
        "layers": [_packed(layer, grid.mask, mask, affine, factor) for layer in layers],
    }


def layers_of(grid: ViewerGrid, arrays: Arrays) -> Iterator[Layer]:
    """Every map of a run that is one value, or one colour, per voxel."""
    subject = arrays.subject
    fa, evecs = subject.get_map("tensor", "fa"), subject.get_map("tensor", "evecs")
    if fa is not None and evecs is not None:
        color = color_fa(grid.take(arrays.of(fa)), grid.take(arrays.of(evecs)))
        yield Layer("Colour FA", "Tensor", color**0.8)  # as screens need it
    for found in sorted(subject.maps, key=rank_of):
        if found.param in NOT_PLAIN:
            continue
        style, array = style_of(found), arrays.plain(found)
        if array.shape[:3] == grid.inside.shape:
            yield Layer(style.label, style.group, style.factor * grid.take(array), style.colormap, style.limits)
    yield from _signal_layers(grid, arrays)
    for name, volume in subject.bundle_volumes.items():
        array = np.asarray(volume.get_array())
        if array.shape[:3] == grid.inside.shape:
            yield Layer(name, "Tracts", grid.take(array > 0.5).astype(np.float32), "warm", (0, 1))


def _signal_layers(grid: ViewerGrid, arrays: Arrays) -> Iterator[Layer]:
    subject = arrays.subject
    if arrays.anatomy_name != "FA" and arrays.anatomy is not None:
        yield Layer(arrays.anatomy_name, "Signal", grid.take(arrays.anatomy))
    if subject.noise is not None:
        noise = np.asarray(subject.noise.get_array(), dtype=np.float32)
        yield Layer("Noise σ", "Signal", grid.take(noise if noise.ndim == 3 else noise[..., 0]), "inferno")
    if subject.mask is not None:
        yield Layer("Brain mask", "Signal", grid.mask.astype(np.float32), "viridis", (0, 1))


def color_fa(fa: np.ndarray, evecs: np.ndarray) -> np.ndarray:
    """(x, y, z, 3) in 0..1: FA times the magnitudes of the first eigenvector."""
    return np.asarray(np.clip(np.nan_to_num(fa), 0, 1)[..., None] * np.abs(evecs[..., :3]))


def reduce_grid(values: np.ndarray, mask: np.ndarray, factor: int) -> np.ndarray:
    """Means of blocks of ``factor``³ voxels over what is in the mask; 0 where nothing is."""
    if factor == 1:
        return values
    margins = [(0, -n % factor) for n in mask.shape]
    inside = np.pad(mask, margins).astype(np.float32)
    padded = np.pad(np.nan_to_num(values), margins + [(0, 0)] * (values.ndim - 3))
    weight = inside if values.ndim == 3 else inside[..., None]
    shape = [part for n in inside.shape for part in (n // factor, factor)]
    counts = inside.reshape(shape).sum(axis=(1, 3, 5))
    sums = (padded * weight).reshape(shape + list(values.shape[3:])).sum(axis=(1, 3, 5))
    return np.asarray(sums / np.maximum(counts if values.ndim == 3 else counts[..., None], 1))


def reduced_affine(affine: np.ndarray, factor: int) -> np.ndarray:
    """(4, 4) of a grid whose voxels are blocks of ``factor``³."""
    scale = np.diag([factor, factor, factor, 1.0])
    scale[:3, 3] = (factor - 1) / 2
    return np.asarray(affine @ scale)


def nifti_bytes(codes: np.ndarray, affine: np.ndarray, slope: float = 1.0, intercept: float = 0.0) -> bytes:
    """A NIfTI-1 image of bytes: (x, y, z) uint8, or (x, y, z, 3) for colours."""
    from nibabel.nifti1 import Nifti1Header

    header = Nifti1Header()
    is_color = codes.ndim == 4
    header.set_data_dtype(np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]) if is_color else np.uint8)
    header.set_data_shape(codes.shape[:3])
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    header["vox_offset"] = 352
    header["scl_slope"], header["scl_inter"] = slope, intercept
    pixels = np.ascontiguousarray(codes.transpose((2, 1, 0, 3) if is_color else (2, 1, 0)))
    return bytes(header.binaryblock) + bytes(4) + pixels.tobytes()


def quantised(values: np.ndarray, mask: np.ndarray, limits: tuple[float, float]) -> tuple[np.ndarray, float, float]:
    """Values as 1 to 255 between the limits and 0 outside the mask; and what turns them back: slope, intercept."""
    low, high = limits
    slope = (high - low) / 254
    known = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    codes = np.clip(np.rint((known - low) / slope), 0, 254).astype(np.uint8) + np.uint8(1)
    return np.where(mask, codes, 0).astype(np.uint8), slope, low - slope


def pack(content: bytes) -> str:
    """gzip in base64; the same bytes for the same content."""
    # measured on a page's 59 pieces: zlib at level 7 takes 9 times as long and saves 2 % of the bytes
    return base64.b64encode(igzip.compress(content, compresslevel=1, mtime=0)).decode("ascii")


def _packed(layer: Layer, inside: np.ndarray, mask: np.ndarray, affine: np.ndarray, factor: int) -> dict[str, Any]:
    values = reduce_grid(layer.values, inside, factor)
    if layer.is_color:
        codes = np.where(mask[..., None], np.rint(255 * np.clip(values, 0, 1)), 0).astype(np.uint8)
        content, limits = nifti_bytes(codes, affine), (0.0, 1.0)
    else:
        limits = layer.limits or robust_limits(np.where(mask, values, 0))
        shown = mask & (values > 0) if layer.is_mask else mask
        codes, slope, intercept = quantised(values, shown, limits)
        content = nifti_bytes(codes, affine, slope, intercept)
    return {
        "name": layer.name,
        "group": layer.group,
        "colormap": layer.colormap,
        "limits": [float(limit) for limit in limits],
        "isColor": layer.is_color,
        "bytes": pack(content),
    }
