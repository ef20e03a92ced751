"""Still pictures of FODs and peaks, for readers without the viewer and for slides."""

from __future__ import annotations

from concurrent.futures import Executor, Future

import numpy as np

from arcuate.figures.views import Canonical, View
from arcuate.report.arrays import Arrays
from arcuate.report.section import Picture, png_bytes
from arcuate.report.subject import MapFile

_WIDTH = 44  # voxels across: more are too small to be seen as shapes
_SIZE = (900, 900)


def begin_fod_pictures(arrays: Arrays, pool: Executor) -> list[Future[Picture]]:
    """Begin with slices of FODs, and of their peaks; none if the run made no FODs."""
    subject = arrays.subject
    fods = subject.get_map(subject.csd_model, "fod") if subject.csd_model else None
    if fods is None or arrays.affine is None or arrays.inside is None:
        return []
    peaks = subject.get_map(subject.csd_model, "peaks") if subject.csd_model else None
    begun = [pool.submit(_draw_fods, arrays, fods, plane) for plane in arrays.planes if plane != "sagittal"]
    if peaks is not None:
        begun.append(pool.submit(_draw_peaks, arrays, peaks))
    return begun


def _draw_fods(arrays: Arrays, fods: MapFile, plane: str) -> Picture:
    """The middle slice of a plane, on FA."""
    from arcuate.figures import render_fods
    from arcuate.volumes.resource import InMemoryVolumeResource

    affine, coefs, fa = arrays.affine, arrays.of(fods), arrays.subject.get_map("tensor", "fa")
    assert affine is not None
    box = middle_box(coefs[..., 0] != 0, affine, plane)
    part = InMemoryVolumeResource(coefs[box], affine)  # only its axes matter to the picture
    below = None if fa is None else arrays.of(fa)[box]
    image = render_fods(part, view=View(plane), background=below, size=_SIZE)
    return Picture(
        f"FOD glyphs of the middle {plane} slice, coloured by direction.",
        f"FODs on FA, {plane}: red left-right, green front-back, blue up-down.",
        f"fods_{plane}",
        png_bytes(image),
    )


def _draw_peaks(arrays: Arrays, peaks: MapFile) -> Picture:
    """The middle axial slice of peaks, on the anatomy."""
    from arcuate.figures import render_peaks

    affine, flat = arrays.affine, arrays.of(peaks)
    assert affine is not None
    box = middle_box(np.any(np.nan_to_num(flat[..., :3]) != 0, axis=-1), affine, "axial")
    vectors = np.nan_to_num(flat[box])
    vectors = vectors.reshape(*vectors.shape[:3], -1, 3)
    below = None if arrays.anatomy is None else arrays.anatomy[box]
    lengths = np.linalg.norm(vectors, axis=-1)
    image = render_peaks(vectors, lengths, affine=affine, background=below, size=_SIZE, norm=True)
    return Picture(
        "Peaks of the FODs in the middle axial slice, on the anatomy.",
        "Peaks on the anatomy, axial, the longest of each voxel alike.",
        "peaks_axial",
        png_bytes(image),
    )


def middle_box(filled: np.ndarray, affine: np.ndarray, plane: str) -> tuple[slice, ...]:
    """A box, one slice thick, around the middle of what is filled (x, y, z); in the order of storage."""
    frame = Canonical(affine)
    if not filled.any():
        filled = np.ones_like(filled)
    axis = frame.stored_axis(View(plane).axis)
    counts = filled.sum(axis=tuple(a for a in range(3) if a != axis))
    at = int(np.flatnonzero(np.cumsum(counts) >= counts.sum() / 2)[0])
    thin = np.take(filled, at, axis=axis)
    if not thin.any():
        thin = np.ones_like(thin)
    box = [slice(at, at + 1)] * 3
    for other, line in zip([a for a in range(3) if a != axis], (thin.any(axis=1), thin.any(axis=0)), strict=True):
        inside = np.flatnonzero(line)
        middle, half = (inside[0] + inside[-1] + 1) // 2, min(inside[-1] + 1 - inside[0], _WIDTH) // 2 + 1
        box[other] = slice(max(middle - half, 0), min(middle + half, len(line)))
    return tuple(box)
